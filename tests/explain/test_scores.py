"""Scores of heat-maps on maps whose scores are known, and against libraries."""

import numpy as np
import pytest
from scipy.stats import pearsonr
from skimage.metrics import structural_similarity

from explain.scores import SCORES, pcc, relevance_mass, squared_error, ssim


@pytest.fixture
def maps():
    values = np.random.default_rng(0).random((3, 9, 9)) ** 2
    return np.float32(values / values.sum((1, 2), keepdims=True))


def test_scores_of_a_map_with_itself(maps):
    np.testing.assert_allclose(ssim(maps, maps), 1)
    np.testing.assert_allclose(pcc(maps, maps), 1)
    np.testing.assert_allclose(squared_error(maps, maps), 0)
    np.testing.assert_allclose(relevance_mass(maps, maps), 1, rtol=1e-6)


def test_correlation_is_that_of_scipy(maps):
    target = maps[0]
    expected = [pearsonr(part.ravel(), target.ravel()).statistic for part in maps]
    np.testing.assert_allclose(pcc(maps, target), expected, rtol=1e-5)
    assert pcc(np.ones((1, 9, 9)), target)[0] == 0


def test_similarity_by_its_formula(maps):
    """Uniform windows of 7 x 7, range: the larger maximum, sample covariances."""
    first, second = np.float64(maps[0]), np.float64(maps[1])
    span, values = max(first.max(), second.max()), []
    for row in range(3):
        for column in range(3):
            a = first[row : row + 7, column : column + 7].ravel()
            b = second[row : row + 7, column : column + 7].ravel()
            c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
            cov = np.cov(a, b)
            top = (2 * a.mean() * b.mean() + c1) * (2 * cov[0, 1] + c2)
            values.append(top / ((a.mean() ** 2 + b.mean() ** 2 + c1) * (np.trace(cov) + c2)))
    np.testing.assert_allclose(ssim(maps[:1], maps[1]), np.mean(values))


def test_a_range_of_one_would_call_any_maps_alike():
    """Why data_range is the larger maximum: maps of sum 1 are far below 1 everywhere."""
    values = np.random.default_rng(0).random((2, 28, 28))
    maps = values / values.sum((1, 2), keepdims=True)
    assert structural_similarity(*maps, data_range=1) > 0.9 > 0.3 > ssim(maps[:1], maps[1])[0]


def test_error_and_mass_by_hand():
    maps = np.array([[[0.5, 0.5], [0, 0]], [[0, 0.25], [0.25, 0.5]]])
    target = np.array([[0, 0.3], [0.7, 0]])
    np.testing.assert_allclose(relevance_mass(maps, target), [0.5, 0.5])
    np.testing.assert_allclose(squared_error(maps, target)[0], (0.25 + 0.04 + 0.49) / 4)
    assert relevance_mass(np.zeros((1, 2, 2)), target)[0] == 0


def test_every_score_is_one_number_a_map(maps):
    for score in SCORES.values():
        for other in (maps, maps[0]):
            assert score(maps, other).shape == (3,) and np.isfinite(score(maps, other)).all()
