"""Batches with more images near the network's decision boundary, each of which counts less."""

from common.settings import InputError

import numpy as np
import pytest
import torch

from datasets import Images, normalise
from filters.coalitions import Coalitions
from filters.measures import class_margins
from filters.value import STRATA, BatchValue, evaluate_measure
from tests.networks import Small, seeded

SIZE = 16  # pixels
SETS = {"four groups": (4, 32), "no groups": (1, 72)}  # groups, and images of each


def draw_images(n_groups, per_group, seed=0):
    """Images of three classes and of several groups, mixed."""
    rng, n = np.random.default_rng(seed), n_groups * per_group
    coarse = rng.integers(0, 256, (n, 3, 4, 4), dtype=np.uint8).repeat(4, 2).repeat(4, 3)
    label, group = rng.integers(0, 3, n), rng.permutation(np.arange(n) % n_groups)
    return Images(*map(torch.from_numpy, (coarse, label, group)))


@pytest.fixture(scope="module", params=SETS)
def data(request):
    """Images of four groups, or of one."""
    return draw_images(*SETS[request.param])


@pytest.fixture(scope="module")
def evaluator():
    return Coalitions(seeded(Small), SIZE)


FILLS = torch.linspace(0, 0.4, 9)


def batch_value(evaluator, data, images_per_round, measure="accuracy", by_margin=True):
    return BatchValue(evaluator, FILLS, data, images_per_round, measure, by_margin)


def slow_strata(data):
    """The images of each stratum of each group, nearest to the boundary first: a list of sets."""
    with torch.no_grad():
        margins = class_margins(seeded(Small)(normalise(data.images, "cpu")), data.label)
    strata = []
    for group in range(int(data.group.max()) + 1):
        rows = sorted(np.flatnonzero(data.group == group), key=lambda row: abs(margins[row]))
        n = len(rows)
        ends = [0, round(n / 16), round(n / 4), round(n / 2), n]  # 1/16, 3/16, 1/4 and 1/2 of n
        strata += [set(rows[low:high]) for low, high in zip(ends, ends[1:])]
    return strata


def test_strata_are_shares_of_each_group_by_distance_from_the_boundary(evaluator, data):
    value, n_groups = batch_value(evaluator, data, 16), int(data.group.max()) + 1
    assert [set(rows) for rows in value.rows] == slow_strata(data)
    sizes = [len(rows) for rows in value.rows]
    assert sizes == ([2, 6, 8, 16] * 4 if n_groups == 4 else [4, 14, 18, 36])
    assert sum(STRATA) == 1 and data.weight is None  # the set itself is as it was


def test_weights_undo_that_some_images_come_more_often(evaluator, data):
    """How often an image comes, times what it counts, is the same for all."""
    value, n_images = batch_value(evaluator, data, 16), len(data.label)
    for rows in value.rows:
        chance = 16 / len(value.rows) / len(rows)
        np.testing.assert_allclose(chance * value.data.weight[rows], 16 / n_images, rtol=1e-6)
    assert value.data.weight.dtype == torch.float32
    if n_images == 128:
        weights = [value.data.weight[rows].unique().tolist() for rows in value.rows]
        assert weights == [[1 / 4], [3 / 4], [1], [2]] * 4


@pytest.mark.parametrize("images_per_round", [16, 32])
def test_a_batch_takes_as_many_from_each_stratum(evaluator, images_per_round):
    data = draw_images(4, 32)
    value, drawn = batch_value(evaluator, data, images_per_round), set()
    number = {tuple(image.flatten().tolist()): row for row, image in enumerate(data.images)}
    for round_seed in range(20):
        value(np.ones((1, 9), dtype=bool), round_seed)
        rows = [number[tuple(image.flatten().tolist())] for image in value.batch.images]
        drawn.update(rows)
        assert len(set(rows)) == images_per_round  # none twice
        taken = [len(stratum.intersection(rows)) for stratum in slow_strata(data)]
        assert taken == [images_per_round // 16] * 16
        assert value.batch.weight.mean() == 1
        for name in ("label", "group"):
            assert torch.equal(getattr(value.batch, name), getattr(data, name)[rows])
        assert torch.equal(value.batch.weight, value.data.weight[rows])
    assert len(drawn) > 100  # of 128


KEEP = np.array([[True] * 9, [False, True, True] * 3, [True] * 8 + [False]])


def scores_of(evaluator, data, keep, measure):
    """What each image scores alone, (T, N) float64."""
    scores = []
    for image in range(len(data.label)):
        alone = data.take(torch.tensor([image]))
        evaluator.see(normalise(alone.images, "cpu"), FILLS)
        scores.append(evaluate_measure(evaluator, keep, alone, measure))
    return np.transpose(scores)


@pytest.mark.parametrize("measure", ["accuracy", "soft_accuracy"])
def test_values_are_unbiased(evaluator, data, measure):
    """The mean over batches is V on all images; without the weights it would be another."""
    value = batch_value(evaluator, data, 16, measure)
    values = np.array([value(KEEP, round_seed) for round_seed in range(200)])
    errors = np.std(values, 0, ddof=1) / np.sqrt(200)
    scores = scores_of(evaluator, data, KEEP, measure)
    distance = abs(values.mean(0) - scores.mean(1)) / errors
    assert (errors < 0.01).all() and (distance < 4).all()
    unweighted = np.mean([scores[:, rows].mean(1) for rows in value.rows], 0)
    assert (abs(values.mean(0) - unweighted) > 4 * errors).any()


def variance_of_mean(value, scores):
    """Of the weighted mean of a batch, by the formula for draws without repetition."""
    variance = 0.0
    for rows in value.rows:
        n_drawn, weight = value.per_cell, 1.0
        if value.data.weight is not None:
            weight = value.data.weight[rows].numpy()
        spread = np.var(weight * scores[rows], ddof=1)
        variance += n_drawn * spread * (1 - n_drawn / len(rows))
    return variance / (value.per_cell * len(value.rows)) ** 2


def test_marginals_vary_less(evaluator):
    """One filter turns right into wrong, if at all, for images near the boundary."""
    data = draw_images(4, 64)
    keep = np.ones((10, 9), dtype=bool)
    keep[1:][np.eye(9, dtype=bool)] = False
    scores = scores_of(evaluator, data, keep, "accuracy")
    marginals = scores[:1] - scores[1:]  # (9, N), of each image
    variances = []
    for by_margin in (False, True):
        value = batch_value(evaluator, data, 16, by_margin=by_margin)
        variances.append(sum(variance_of_mean(value, row) for row in marginals))
    assert 0 < variances[1] < 0.7 * variances[0]


def test_guesses_are_weighted_as_values_are(evaluator, data):
    value, keep = batch_value(evaluator, data, 16, "soft_accuracy"), np.arange(9) % 3 > 0
    guesses = value.guess(keep, 7)
    margins, changes = evaluator.first_order(keep, value.batch.label)
    weight = value.batch.weight.numpy()

    def mean(margins):
        return np.average(torch.sigmoid(margins / 0.5).numpy(), weights=weight)

    for player in range(9):
        sign = 1 if keep[player] else -1
        expected = sign * (mean(margins) - mean(margins - sign * changes[:, player]))
        assert guesses[player] == pytest.approx(expected, abs=1e-6)
    assert np.ptp(weight) > 1 and np.count_nonzero(guesses) > 5


# ----------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "n_groups, images_per_round, multiple",
    [(4, 24, 16), (4, 0, 16), (4, 4, 16), (4, -16, 16), (1, 6, 4), (2, 12, 8)],
)
def test_batches_that_do_not_divide(evaluator, n_groups, images_per_round, multiple):
    with pytest.raises(InputError) as refusal:
        batch_value(evaluator, draw_images(n_groups, 64), images_per_round)
    assert str(refusal.value) == (
        f"IMAGES_PER_ROUND={images_per_round}: must be a multiple of {multiple}, the number of "
        "groups times the 4 strata of BY_MARGIN"
    )


@pytest.mark.parametrize(
    "n_groups, per_group, images_per_round, taken, available",
    [(4, 32, 48, 3, 2), (1, 50, 16, 4, 3), (4, 6, 16, 1, 0)],
)
def test_strata_with_too_few_images(
    evaluator, n_groups, per_group, images_per_round, taken, available
):
    with pytest.raises(InputError) as refusal:
        batch_value(evaluator, draw_images(n_groups, per_group), images_per_round)
    assert str(refusal.value) == (
        f"IMAGES_PER_ROUND={images_per_round} takes {taken} images from each stratum, and there "
        f"are only {available} for the values; give a smaller one"
    )
    if available:
        fewer = images_per_round * available // taken
        batch_value(evaluator, draw_images(n_groups, per_group), fewer)


@pytest.mark.parametrize("measure", ["auc", "likelihood", "worst_group"])
def test_a_measure_that_does_not_average_is_refused(evaluator, measure):
    with pytest.raises(ValueError, match="no average over images"):
        batch_value(evaluator, draw_images(1, 64), 16, measure)
