"""Running moments, and what is computed from them, against numpy and scipy."""

import numpy as np
import pytest
from scipy.stats import sem

from shapley.estimate import (
    Estimate,
    add_moments,
    new_estimate,
    reliability,
    squared_errors,
    standard_errors,
    truncated_share,
    value_parts,
)
from tests.games import random_samples, sampled_state

LIMITS = [[-1.0, -0.5], [2.0, 0.5]]  # lowest and highest sample of two parts


def per_mean(samples, function):
    """function of the samples that there are, for each part and filter: (parts, n)."""
    _, parts, n = samples.shape
    results = np.zeros((parts, n))
    for part, player in np.ndindex(parts, n):
        column = samples[:, part, player]
        results[part, player] = function(column[~np.isnan(column)])
    return results


def test_new_estimate_knows_no_more_than_the_range():
    state = new_estimate(3, LIMITS)
    assert state.limits.shape == (2, 2, 1) and state.limits.dtype == float
    assert state.limits.ravel().tolist() == [-1, -0.5, 2, 0.5]
    assert state.ci_low.tolist() == [-4.0] * 3 and state.ci_high.tolist() == [4.0] * 3
    assert state.values.tolist() == [0, 0, 0] and state.truncated.tolist() == [0, 0, 0]
    assert state.counts.shape == (2, 3) and state.counts.dtype == np.int64
    assert state.means.shape == state.m2.shape == (2, 3) and state.sequence.shape == (4, 2, 3)
    assert not any(array.any() for array in (state.counts, state.means, state.m2, state.sequence))
    assert state.active.all() and state.active.dtype == bool
    assert not state.close.any() and state.close.dtype == bool
    assert state.status.tolist() == ["undecided"] * 3
    assert state.plain.tolist() == [False] * 3 and state.race.shape == (0, 5)
    assert state.clipped.tolist() == state.excess.tolist() == [0] * 3
    assert (state.clipped.dtype, state.excess.dtype) == (np.int64, float)
    assert (state.rounds, state.evaluations, state.guesses) == (0, 0, 0)


def test_one_part_needs_no_second_axis():
    state = new_estimate(2, (-1, 3))
    assert state.limits.shape == (2, 1, 1) and state.counts.shape == (1, 2)
    assert state.ci_high.tolist() == [4.0, 4.0]


def test_of_three_parts_two_make_a_value_before_the_first_sample():
    state = new_estimate(2, [[-1.0, -0.5, -8.0], [2.0, 0.5, 8.0]])
    assert state.ci_low.tolist() == [-4.0] * 2 and state.ci_high.tolist() == [4.0] * 2


def test_parts_of_a_value():
    """One or two parts add up; of three it is the first two, or, where it is plain, the third."""
    plain = np.array([False, True, False])
    assert value_parts(plain, 1).tolist() == [[True] * 3]
    assert value_parts(plain, 2).tolist() == [[True] * 3] * 2
    assert value_parts(plain, 3).tolist() == [[True, False, True]] * 2 + [[False, True, False]]
    state = new_estimate(3, [[-1.0] * 3, [1.0] * 3])
    state.plain = plain
    samples = np.arange(9) / 8
    add_moments(state, np.ones((3, 3), dtype=bool), samples)
    assert state.parts.tolist() == value_parts(plain, 3).tolist()
    assert state.values.tolist() == [3 / 8, 7 / 8, 7 / 8]


def test_moments_are_those_of_numpy():
    samples = random_samples(40, 2, 5)
    state = sampled_state(samples, LIMITS, 0.05)
    assert np.array_equal(state.counts, (~np.isnan(samples)).sum(0))
    assert len(np.unique(state.counts)) > 3  # each mean has samples of its own
    np.testing.assert_allclose(state.means, per_mean(samples, np.mean), atol=1e-14)
    variances = per_mean(samples, lambda column: np.var(column, ddof=1))
    np.testing.assert_allclose(state.m2 / (state.counts - 1), variances, rtol=1e-12)
    np.testing.assert_allclose(state.values, per_mean(samples, np.mean).sum(0), atol=1e-14)
    assert np.array_equal(state.samples, state.counts[-1])


def test_moments_are_right_after_each_sample():
    """A large mean beside a small spread, where sums of squares would lose all digits."""
    samples = 1e6 + np.array([1.0, 3.0, 2.0, 7.0])
    state = new_estimate(1, (0, 2e6))
    for number in range(1, 5):
        add_moments(state, np.ones((1, 1), dtype=bool), samples[number - 1 : number])
        assert state.counts.item() == number
        assert state.means.item() == pytest.approx(samples[:number].mean(), rel=1e-15)
        assert state.m2.item() == pytest.approx(number * np.var(samples[:number]), abs=1e-6)
        assert state.values.item() == state.means.item()


def test_add_moments_leaves_all_others_alone():
    state = sampled_state(random_samples(10, 2, 3), LIMITS, 0.05)
    before = {name: getattr(state, name).copy() for name in ("counts", "means", "m2")}
    sampled = np.array([[True, False, False], [False, False, True]])
    add_moments(state, sampled, np.array([0.5, -0.5]))
    for name, array in before.items():
        assert np.array_equal(getattr(state, name)[~sampled], array[~sampled])
        assert (getattr(state, name)[sampled] != array[sampled]).all()


def test_standard_errors_are_those_of_scipy():
    samples = random_samples(30, 2, 4)
    state = sampled_state(samples, LIMITS, 0.05)
    errors = per_mean(samples, sem)
    np.testing.assert_allclose(squared_errors(state.counts, state.m2), errors**2, rtol=1e-12)
    expected = np.hypot(errors[0], errors[1])
    np.testing.assert_allclose(standard_errors(state.counts, state.m2), expected, rtol=1e-12)


def test_standard_errors_need_two_samples_of_each_part():
    counts, m2 = np.array([[0, 1, 2, 2, 3], [2, 5, 2, 1, 2]]), np.ones((2, 5))
    errors = standard_errors(counts, m2)
    assert np.isnan(errors).tolist() == [True, True, False, True, False]
    assert errors[[2, 4]] == pytest.approx([1.0, np.sqrt(1 / 6 + 1 / 2)])
    squares = squared_errors(counts, np.where(counts < 2, 0.0, m2))  # m2 is 0 up to one sample
    assert squares[0].tolist() == pytest.approx([0, 0, 1 / 2, 1 / 2, 1 / 6])


def test_standard_errors_of_chosen_parts():
    """Each value has the errors of its own parts, and needs two samples of these alone."""
    counts = np.array([[4, 4, 1, 4, 1], [4, 1, 4, 4, 4], [9, 9, 9, 1, 1]])
    m2 = (counts - 1) * counts * np.array([[9.0], [16.0], [36.0]])  # errors of 3, 4 and 6
    parts = value_parts(np.array([False, False, True, False, True]), 3)
    errors = standard_errors(counts, m2, parts)
    assert np.isnan(errors).tolist() == [False, True, False, False, True]
    assert errors[[0, 2, 3]] == pytest.approx([5, 6, 5])
    whole = standard_errors(counts, m2, np.ones((3, 5), dtype=bool))
    np.testing.assert_array_equal(standard_errors(counts, m2), whole)
    assert whole[0] == pytest.approx(np.sqrt(61)) and np.isnan(whole[1:]).all()


def test_reliability_of_values_without_guesses():
    """Of plain values the third part alone counts."""
    state = sampled_state(random_samples(25, 3, 6, 0), [[-1.0] * 3, [1.0] * 3], 0.05)
    state.plain = np.arange(6) > 2
    state.values = np.where(state.plain, state.means[2], state.means[:2].sum(0))
    squares = squared_errors(state.counts, state.m2)
    squares = np.where(state.plain, squares[2], squares[:2].sum(0))
    assert reliability(state) == pytest.approx(1 - squares.mean() / np.var(state.values))


def test_reliability_compares_noise_with_values():
    samples = random_samples(25, 2, 6)
    samples[1:, 0, 2] = np.nan  # of two filters there are too few samples
    samples[:, 1, 4] = np.nan
    samples[:, 0, 5] = np.nan
    samples[:2, 0, 5] = 0.1, 0.9  # two are enough
    state = sampled_state(samples, LIMITS, 0.05)
    enough = [0, 1, 3, 5]
    means, squares = per_mean(samples[..., enough], np.mean), per_mean(samples[..., enough], sem)
    expected = 1 - (squares**2).sum(0).mean() / np.var(means.sum(0))
    assert reliability(state) == pytest.approx(expected, rel=1e-12)
    assert isinstance(reliability(state), float)


def test_reliability_without_any_difference_is_0():
    assert reliability(new_estimate(3, (-1, 1))) == 0
    assert reliability(sampled_state(np.full((5, 1, 3), 0.5), (-1, 1), 0.05)) == 0


def test_reliability_is_about_1_when_precise_and_0_when_noise():
    rng = np.random.default_rng(0)
    worth, noise = np.linspace(-0.5, 0.5, 200), rng.uniform(-0.4, 0.4, (100, 1, 200))
    assert reliability(sampled_state(worth + noise, (-1, 1), 0.05)) > 0.99
    assert abs(reliability(sampled_state(noise, (-1, 1), 0.05))) < 0.3


def test_truncated_share_is_a_mean_over_samples():
    state = new_estimate(3, (-1, 1))
    state.counts[0], state.truncated[:] = [4, 0, 6], [1.0, 0.0, 1.5]
    assert truncated_share(state) == pytest.approx(0.25)
    assert isinstance(truncated_share(state), float)


def test_decided_when_nobody_is_undecided():
    state = new_estimate(2, (-1, 1))
    assert state.decided is False
    state.status = np.array(["top", "undecided"])
    assert state.decided is False
    state.status = np.array(["top", "rest"])
    assert state.decided is True
    assert isinstance(state, Estimate)
