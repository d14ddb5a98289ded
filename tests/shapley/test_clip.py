"""Marginals that are clipped: what is counted, what means become, and which intervals gain."""

import numpy as np
import pytest

from shapley import tmab_shapley
from shapley.samplers import SAMPLERS
from tests.games import additive, assert_same_state, estimate, noisy, run_team

UNGUIDED = pytest.mark.parametrize("sampler", ["paper", "shared"])
EVERY_SAMPLER = pytest.mark.parametrize("sampler", SAMPLERS)
PLAYERS = 6
SHAPE = {"truncation": 0.3, "deepest": 0.8, "window": 2, "singles": 4, "seed": 5}
NO_LOOK = {"look_every": 1000}  # else what is sampled would depend on the intervals


def run(sampler, rounds=24, **options):
    """A game of noisy weights up to 0.9, whose long orders are truncated."""
    value = noisy(np.array([-0.3, -0.1, 0.05, 0.2, 0.4, 0.5]), 0.3, 0.4)
    return estimate(value, PLAYERS, rounds, sampler=sampler, **{**SHAPE, **options})


@UNGUIDED
def test_marginals_beyond_clip_are_clipped_and_counted(sampler):
    weights = np.array([-0.5, -0.25, 0.0, 0.25, 0.75])
    state = tmab_shapley(additive(weights), 5, k=1, clip=0.25, max_rounds=8, sampler=sampler)
    np.testing.assert_allclose(state.values, [-0.25, -0.25, 0, 0.25, 0.25], atol=1e-12)
    assert state.samples.tolist() == [8] * 5 and not state.truncated.any()
    assert (state.clipped[[0, 4]] == 8).all() and state.clipped[2] == 0
    np.testing.assert_allclose(state.excess, 8 * np.array([-0.25, 0, 0, 0, 0.5]), atol=1e-12)


def record_marginals(sampler):
    """(Estimate, (rounds, n) float): a run without clip, and each round's marginals.

    NaN where none was sampled; 0 where the order was truncated before the filter.
    """
    sums, truncated, counts = [np.zeros(PLAYERS)], [np.zeros(PLAYERS)], [np.zeros(PLAYERS)]

    def on_round(state):
        sums.append(state.means[-1] * state.counts[-1])
        truncated.append(state.truncated.copy())
        counts.append(state.counts[-1].copy())

    state = run(sampler, on_round=on_round, **NO_LOOK)
    weights = np.diff(counts, axis=0) - np.diff(truncated, axis=0)
    marginals = np.diff(sums, axis=0) / np.where(weights > 1e-9, weights, 1)
    return state, np.where(np.diff(counts, axis=0) == 1, marginals, np.nan)


@EVERY_SAMPLER
def test_values_and_excess_add_up_to_what_means_would_be(sampler):
    """A clipped run draws the same rounds, and forgets nothing that clipping took away."""
    plain, marginals = record_marginals(sampler)
    clipped = run(sampler, clip=0.3, **NO_LOOK)
    assert clipped.samples.tolist() == plain.samples.tolist() and clipped.truncated.any()
    means = clipped.values + clipped.excess / clipped.samples
    np.testing.assert_allclose(means, plain.values, atol=1e-12)
    assert clipped.clipped.tolist() == (abs(marginals) > 0.3).sum(0).tolist()
    assert clipped.clipped.max() > 3 and not plain.clipped.any() and not plain.excess.any()
    assert abs(clipped.excess / clipped.samples).max() > 0.02
    assert clipped.evaluations == plain.evaluations


@EVERY_SAMPLER
def test_clip_at_the_range_changes_nothing(sampler):
    expected = run(sampler, value_range=(-2, 2))
    assert_same_state(run(sampler, value_range=(-2, 2), clip=2.0), expected)


@EVERY_SAMPLER
def test_clipped_runs_are_resumed_and_shared(sampler):
    options = {"clip": 0.3, "look_every": 5, "value_range": (-1, 1)}
    whole = run(sampler, **options)
    assert whole.clipped.any() and len(whole.race) == 4
    assert_same_state(run(sampler, state=run(sampler, rounds=7, **options), **options), whole)
    for state in run_team(3, lambda team: run(sampler, team=team, **options)):
        assert_same_state(state, whole)


@pytest.mark.parametrize(
    "value_range, clip, marginal",
    [
        ((-1, 1), 0.25, (-0.25, 0.25)),
        ((-0.125, 1), 0.25, (-0.125, 0.25)),
        ((-1, 0.125), 0.25, (-0.25, 0.125)),
        ((0.125, 1), 0.25, (0, 0.25)),  # a truncated marginal is 0
        ((-1, 1), 9.0, (-1, 1)),
    ],
)
def test_clip_narrows_the_range_of_samples(value_range, clip, marginal):
    weight = np.mean([value_range[0], 0, 0, value_range[1]])
    options = {"k": 1, "value_range": value_range, "max_rounds": 1, "clip": clip}
    game = additive(np.full(4, weight if value_range[0] <= 0 else 0.125))
    state = tmab_shapley(game, 4, **options)
    assert state.limits.ravel().tolist() == list(marginal)
    width = marginal[1] - marginal[0]
    assert (state.ci_high - state.ci_low == 2 * width).all()  # nothing is known yet
    state = tmab_shapley(game, 4, guess=lambda *_: np.zeros(4), farthest_guess=0.0625, **options)
    farthest = 0.0625 * (value_range[1] - value_range[0])
    expected = [[marginal[0] - farthest, -farthest, marginal[0]]]
    expected += [[marginal[1] + farthest, farthest, marginal[1]]]
    assert state.limits[..., 0].tolist() == expected


@pytest.mark.parametrize("bound", ["sequence", "bernstein", "asymptotic"])
def test_intervals_that_rest_on_the_range_become_narrower(bound):
    """All marginals are smaller than clip, so values stay as they are."""
    value = noisy(np.linspace(-0.05, 0.05, 8), 0.02, 0.04)
    widths, values = [], []
    for clip in (None, 0.1):
        options = {"k": 1, "bound": bound, "clip": clip, "max_rounds": 120, **NO_LOOK}
        state = tmab_shapley(value, 8, **options)
        widths.append(state.ci_high - state.ci_low)
        values.append(state.values.tolist())
        assert not state.clipped.any() and state.samples.tolist() == [120] * 8
    assert values[0] == values[1]
    if bound == "asymptotic":
        np.testing.assert_array_equal(widths[0], widths[1])
    else:
        assert (widths[1] < 0.5 * widths[0]).all()


def test_clipping_hides_no_marginal_outside_the_range():
    with pytest.raises(ValueError, match="outside value_range"):
        tmab_shapley(additive(np.array([0.1, 0.9])), 2, k=1, clip=0.05, value_range=(-0.5, 0.5))
