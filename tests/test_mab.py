"""The estimator on games with known Shapley values. No network, no data."""

import copy
import itertools
import math
import re
import subprocess
import sys

import numpy as np
import pytest

import mab
from conftest import REPOSITORY


def exact_shapley(value, n):
    """Shapley values by the definition: the mean marginal over all n! orders, (n,)."""
    total = np.zeros(n)
    for order in itertools.permutations(range(n)):
        keep = np.ones(n, dtype=bool)
        before = value(keep[None], 0)[0]
        for player in order:
            keep[player] = False
            after = value(keep[None], 0)[0]
            total[player] += before - after
            before = after
    return total / math.factorial(n)


def additive(weights):
    return lambda keep, seed: keep @ weights


def glove(left, right):
    """Worth the number of pairs: the first `left` players own left gloves, the others right ones."""
    return lambda keep, seed: np.minimum(keep[:, :left].sum(1), keep[:, left:].sum(1)).astype(float)


def airport(costs):
    return lambda keep, seed: (keep * costs).max(1)


def airport_shapley(costs):
    """Littlechild & Owen 1973: each step of cost is shared by those who need it. costs ascending."""
    steps = np.diff(np.concatenate([[0], costs]))
    return np.cumsum(steps / np.arange(len(costs), 0, -1))


def majority(weights, quota):
    return lambda keep, seed: (keep @ weights > quota).astype(float)


def estimate(value, n, rounds=400, **options):
    """Nobody is decided and sampled no more, unless intervals are made narrower by options."""
    return mab.tmab_shapley(value, n, **{"k": 1, "max_rounds": rounds, "value_range": (-1000, 1000), **options})


@pytest.mark.parametrize("sampler", ["paper", "shared"])
@pytest.mark.parametrize("value, n", [
    (additive(np.array([-2.0, 0.5, 1.0, 3.0])), 4),
    (glove(2, 3), 5),
    (airport(np.array([1.0, 2.0, 5.0, 9.0])), 4),
    (majority(np.array([4, 3, 2, 1]), 5), 4),
    (lambda keep, seed: np.sin(keep @ np.array([1, 2, 4, 8, 16.0])), 5),
])
def test_small_games_by_brute_force(value, n, sampler):
    found = estimate(value, n, rounds=3000, sampler=sampler)
    standard_error = np.sqrt(mab.squared_errors(found).sum(0))
    assert np.all(abs(found.values - exact_shapley(value, n)) <= 5 * standard_error + 1e-12)


@pytest.mark.parametrize("window", [1, 2, 4, 100])
@pytest.mark.parametrize("singles", [2, 3, 5])
def test_shared_coalitions_of_any_number_are_unbiased(window, singles):
    value = majority(np.array([4, 3, 2, 1, 1]), 5)
    found = estimate(value, 5, rounds=12000 // singles, sampler="shared", window=window, singles=singles)
    standard_error = np.sqrt(mab.squared_errors(found).sum(0))
    assert np.all(abs(found.values - exact_shapley(value, 5)) <= 4 * standard_error) and standard_error.max() < 0.02


class Drawn:
    """A generator whose next draws are given: the places that stand for windows, and the one whose coalition is shared."""

    def __init__(self, offsets, shared):
        self.offsets, self.shared = np.array(offsets), shared

    def integers(self, low, high=None):
        return int(self.shared * low) if high is None else low + self.offsets


def shared_mean(value, n, players, truncation, places, window):
    """What _sample_shared is expected to give, over all that it can draw: (n,), NaN for filters that are not sampled."""
    sizes = [min(window, places - start) for start in range(0, places, window)]
    steps = math.lcm(*range(1, places + 1))  # fine enough to hit each place alike, wherever the order is truncated
    total, count = 0.0, 0
    for order in itertools.permutations(range(n)):
        for offsets in itertools.product(*map(range, sizes)):
            for step in range(steps):
                marginals, alive, _, _ = mab._sample_shared(
                    lambda keep: value(keep, 0), np.array(players), np.array(order), Drawn(offsets, (step + 0.5) / steps),
                    truncation, places, window, 2)
                total, count = total + marginals * alive, count + 1
    return total / count


@pytest.mark.parametrize("window", [1, 2, 3, 5])
def test_shared_samples_have_the_shapley_value_as_mean(window):
    value = majority(np.array([3, 2, 2, 1]), 4)
    for players in ([2], [3, 0], [0, 1, 2, 3]):
        mean = shared_mean(value, 4, players, -np.inf, 5, window)
        np.testing.assert_allclose(mean[players], exact_shapley(value, 4)[players])
    assert np.isnan(shared_mean(value, 4, [2], -np.inf, 5, window)[[0, 1, 3]]).all()


def test_truncated_shared_samples_mean_the_same_whoever_is_sampled():
    value = airport(np.array([1.0, 2.0, 5.0, 9.0]))
    everyone = shared_mean(value, 4, [0, 1, 2, 3], 4.0, 4, 3)
    assert (everyone < 0.95 * exact_shapley(value, 4)).all()
    for players in ([2], [3, 0]):
        np.testing.assert_allclose(shared_mean(value, 4, players, 4.0, 4, 3)[players], everyone[players])


def test_both_samplers_mean_the_same_by_truncation():
    """V falls with every removal and ends an order at a place that depends on it; so do the values that are left."""
    weights = np.linspace(0.5, 1.5, 30) / 30
    options = dict(rounds=8000, truncation=0.7, window=1)
    paper, shared = (estimate(additive(weights), 30, sampler=sampler, **options) for sampler in ("paper", "shared"))
    np.testing.assert_allclose(shared.values, paper.values, rtol=0.12)
    assert shared.m2.sum() < 0.1 * paper.m2.sum()  # it leaves out the chance of the place
    assert 0.6 < mab.truncated_share(shared) < 0.8 and abs(mab.truncated_share(shared) - mab.truncated_share(paper)) < 0.02
    capped = estimate(additive(weights), 30, sampler="shared", deepest=0.1, **options)
    np.testing.assert_allclose(capped.values, weights * 4 / 31, rtol=1e-9)  # 0.1 x 31 places, rounded up


# ----------------------------------------------------------------------------- guesses


def pairs_game(n, seed=0):
    """(value with a round's chance, Shapley values, first-order guess) of a game of weights and pairs."""
    rng = np.random.default_rng(seed)
    weights, pairs = rng.uniform(-0.2, 0.2, n), np.triu(rng.uniform(-0.1, 0.1, (n, n)) / n, 1)
    pairs = pairs + pairs.T

    def worth(round_seed):
        return weights + np.random.default_rng(round_seed).choice([-0.2, 0.0, 0.2], n)

    def value(keep, round_seed):
        return keep @ worth(round_seed) + ((keep @ pairs) * keep).sum(1) / 2

    def guess(keep, round_seed):  # knows the round's chance, as a gradient knows the images, but not the pairs
        return 0.9 * worth(round_seed)

    return value, weights + pairs.sum(1) / 2, guess


@pytest.mark.parametrize("guess", [
    lambda keep, seed: np.full(12, 0.3), lambda keep, seed: np.random.default_rng(seed).normal(0, 5, 12),
    lambda keep, seed: np.where(keep, -0.2, 0.4), pairs_game(12)[2]], ids=["constant", "noise", "of who is gone", "good"])
def test_values_are_unbiased_and_intervals_hold_whatever_the_guess(guess):
    value, values, _ = pairs_game(12)
    found = mab.tmab_shapley(value, 12, k=3, guess=guess, singles=5, value_range=(-0.6, 0.6), farthest_guess=0.2, max_rounds=4000,
                             window=2)
    error = np.sqrt(mab.squared_errors(found).sum(0))
    assert np.all(abs(found.values - values) <= 4.5 * error) and error.max() < 0.03
    assert np.all((found.ci_low <= values) & (values <= found.ci_high)) and found.guesses == found.rounds > 100
    np.testing.assert_allclose(found.values, found.means.sum(0))


def test_a_good_guess_makes_values_more_precise():
    value, values, guess = pairs_game(60)
    options = dict(k=3, singles=6, value_range=(-0.6, 0.6), farthest_guess=0.5, max_rounds=400)
    plain, guided = (mab.tmab_shapley(value, 60, guess=some, **options) for some in (None, guess))
    assert ((guided.values - values) ** 2).mean() < 0.4 * ((plain.values - values) ** 2).mean()
    assert mab.squared_errors(guided).sum() < 0.4 * mab.squared_errors(plain).sum()


def test_guesses_cover_whole_runs():
    """The bandit with guesses, 60 runs: at most delta = 0.05 of them may miss at any look or certify wrongly."""
    missed = wrong = certified = 0
    for seed in range(60):
        value, values, guess = pairs_game(10, seed)
        ranked, misses, errors = np.sort(values), [], []

        def look(state):
            if state.rounds % 12 == 0:
                misses.append(((state.ci_low > values) | (state.ci_high < values)).any())
                errors.append((values[state.status == "top"] > ranked[2] + 0.02).any()
                              or (values[state.status == "rest"] < ranked[3] - 0.02).any())

        found = mab.tmab_shapley(value, 10, k=3, eps=0.01, guess=guess, singles=5, value_range=(-0.6, 0.6), farthest_guess=0.2,
                                 max_rounds=600, seed=seed, on_round=look)
        missed, wrong, certified = missed + any(misses), wrong + any(errors), certified + (found.status != "undecided").sum()
    assert missed <= 3 and wrong <= 3 and certified > 100


def test_bad_guesses():
    value, _, guess = pairs_game(12)
    for options in (dict(guess=lambda keep, seed: np.full(12, np.nan)), dict(guess=guess, sampler="paper"),
                    dict(guess=guess, farthest_guess=0)):
        with pytest.raises(ValueError, match="guess"):
            mab.tmab_shapley(value, 12, k=3, value_range=(-1, 1), **options)


# ----------------------------------------------------------------------------- who is sampled


def test_shared_coalitions_prefer_close_filters_and_skip_decided_ones():
    weights = np.concatenate([[-0.3, -0.29, -0.28], np.linspace(0, 0.3, 57)])

    def value(keep, round_seed):
        return keep @ (weights + np.random.default_rng(round_seed).normal(0, 0.02, 60).clip(-0.1, 0.1))

    found = mab.tmab_shapley(value, 60, k=2, value_range=(-0.5, 0.5), singles=20, max_rounds=600)
    close = np.flatnonzero(found.close)
    assert set(close) >= {0, 1, 2} and found.samples[:3].min() > 3 * np.median(found.samples)
    decided = found.status == "rest"
    assert decided.any() and not found.active[decided].any()
    on = mab.tmab_shapley(value, 60, k=2, value_range=(-0.5, 0.5), singles=20, max_rounds=612, state=copy.deepcopy(found))
    assert np.array_equal(on.samples > found.samples, found.active)


@pytest.mark.parametrize("sampler", ["paper", "shared"])
def test_additive_game_is_exact_after_one_round(sampler):
    weights = np.linspace(-1, 1, 3000)
    found = estimate(additive(weights), 3000, rounds=1, sampler=sampler, singles=3000)
    np.testing.assert_allclose(found.values, weights, atol=1e-9)


@pytest.mark.parametrize("value, expected", [
    (airport(np.arange(1.0, 61)), airport_shapley(np.arange(1.0, 61))),
    (majority(np.ones(61), 30), np.full(61, 1 / 61)),
    (glove(20, 20), np.full(40, 0.5)),
])
@pytest.mark.parametrize("sampler", ["paper", "shared"])
def test_closed_forms_at_larger_n(value, expected, sampler):
    found = estimate(value, len(expected), rounds=1500, sampler=sampler)
    standard_error = np.sqrt(mab.squared_errors(found).sum(0))
    assert np.all(abs(found.values - expected) <= 5 * standard_error + 1e-12)
    everyone = np.ones((1, len(expected)), dtype=bool)
    if sampler == "paper":  # each order's marginals add up to V(all)
        assert found.values.sum() == pytest.approx(value(everyone, 0)[0] - value(~everyone, 0)[0])


@pytest.mark.parametrize("which, expected", [("lowest", [0, 1, 2]), ("highest", [7, 8, 9])])
@pytest.mark.parametrize("bound", ["bernstein", "sequence", "clt"])
@pytest.mark.parametrize("sampler", ["paper", "shared"])
def test_finds_the_set_and_stops(which, expected, bound, sampler):
    weights = np.array([-0.5, -0.4, -0.3, 0, 0, 0, 0.1, 0.3, 0.4, 0.5])

    def value(keep, round_seed):  # the noise of a round is the same for all its coalitions, as an image batch's is
        return keep @ (weights + np.random.default_rng(round_seed).normal(0, 0.05, 10).clip(-0.4, 0.4))

    found = mab.tmab_shapley(value, 10, k=3, which=which, bound=bound, max_rounds=5000, eps=1e-4, sampler=sampler)
    assert found.decided and not found.active.any() and found.rounds < 5000
    assert np.flatnonzero(found.status == "top").tolist() == expected
    assert (found.status != "undecided").all()
    assert bound == "clt" or found.samples.min() < found.samples.max()  # what is decided is sampled no more
    assert np.all((found.ci_low <= weights) & (weights <= found.ci_high))


def test_not_decided_when_the_budget_ends():
    found = mab.tmab_shapley(additive(np.linspace(-0.01, 0.01, 20)), 20, k=5, max_rounds=3)
    assert not found.decided and found.rounds == 3
    assert (found.status == "undecided").all()


# ----------------------------------------------------------------------------- how a run ends


def state_of(low, high):
    state = mab.nothing_known(len(low), (-1, 1))
    state.ci_low, state.ci_high = np.array(low, dtype=float), np.array(high, dtype=float)
    return state


@pytest.mark.parametrize("which", ["lowest", "highest"])
def test_what_is_certified_follows_from_the_intervals(which):
    """Whatever values the intervals hold, those certified are right up to 2 eps; and no run can get stuck."""
    rng, ends = np.random.default_rng(0), {True: 0, False: 0}
    for _ in range(4000):
        n = int(rng.integers(2, 7))
        k, eps = int(rng.integers(1, n)), rng.choice([0.0, 0.5, 2.0])
        centre, half = rng.integers(-4, 5, n), rng.choice([0.0, 0.5, 1.0, 2.0], n)
        status, active, close = mab.decide(state_of(centre - half, centre + half), k, which, eps)
        top, rest = status == "top", status == "rest"
        assert top.sum() <= k and rest.sum() <= n - k and close.sum() == min(2 * k, n)
        assert active.any() != (top | rest).all()
        ends[bool(active.any())] += 1
        for _ in range(5):
            values = (centre + rng.choice([-1, 0, 1], n) * half) * (1 if which == "highest" else -1)
            assert all((values > values[i] + 2 * eps).sum() < k for i in np.flatnonzero(top))
            assert all((values >= values[i] - 2 * eps).sum() > k for i in np.flatnonzero(rest))
    assert min(ends.values()) > 300


def test_certified_filters_do_not_hold_a_run_up():
    status, active, _ = mab.decide(state_of([-0.9, -0.85, -2.15], [1.9, -0.15, 1.15]), 1, "highest", 1.0)
    assert status.tolist() == ["undecided", "rest", "rest"] and active.any()


def test_limits_that_are_not_numbers_certify_nobody():
    status, active, _ = mab.decide(state_of([np.nan] * 3, [np.nan] * 3), 1, "lowest", 0.1)
    assert active.all() and (status == "undecided").all()


def ending(weights, **options):
    """(Estimate, mab.verdict of it): an additive game with some chance, run as mab.py would."""
    weights = np.array(weights)
    options = {"k": 2, "eps": 0.0, "bound": "sequence", "max_rounds": 3000, "sampler": "shared", "delta": 0.05} | options
    state = mab.tmab_shapley(lambda keep, seed: keep @ (weights * np.random.default_rng(seed).choice([0, 2], len(weights))),
                             len(weights), **options)
    run = {"TOP_K": options["k"], "WHICH": "lowest", "DEEPEST": 1.0, "SINGLES": 160}
    return state, mab.verdict(state, run | {name.upper(): option for name, option in options.items()}, 60.0)


@pytest.mark.parametrize("bound, promise", [
    ("sequence", "with probability 0.95"), ("bernstein", "with probability 0.95"),
    ("clt", "approximately (BOUND=clt promises nothing)")])
def test_ends_decided(bound, promise):
    state, line = ending([-0.4, -0.3, 0.1, 0.2, 0.3], bound=bound)
    assert state.decided and state.rounds < 3000 and state.status.tolist() == ["top", "top", "rest", "rest", "rest"]
    assert line == f"The 2 lowest are decided, {promise}: none left out is lower than one of them."


def test_ends_with_ties():
    state, line = ending([-0.4, -0.3, -0.3, 0.2, 0.3], eps=0.05)
    assert state.decided and state.rounds < 3000 and state.status[0] == "top" and (state.status[3:] == "rest").all()
    assert line == ("The 2 lowest are decided, with probability 0.95: none left out is lower than one of them by more than "
                    "2 EPS = 0.1; 1 left out are that near to the last.")
    state, line = ending([-0.5, -0.1, -0.1, 0.4, 0.5], eps=0.0)  # never decided, but what is clear is
    assert not state.decided and state.status.tolist() == ["top", "undecided", "undecided", "rest", "rest"]
    assert state.active.tolist() == [False, True, True, False, False]
    assert line.startswith("The 2 lowest are not decided: 1 are certified with probability 0.95, 2 ruled out.")


@pytest.mark.parametrize("sampler", ["shared", "paper"])
def test_ends_with_the_budget(sampler):
    state, line = ending([-0.4, -0.3, 0.1, 0.2, 0.3], max_rounds=10, sampler=sampler)
    assert not state.decided and state.rounds == 10
    assert "not decided: 0 are certified with probability 0.95, 0 ruled out." in line and "best guess" in line
    some = float(re.search(r"To decide takes some (\d+) rounds", line)[1])
    assert 0.2 < some / ending([-0.4, -0.3, 0.1, 0.2, 0.3], sampler=sampler)[0].rounds < 5
    assert "To decide" not in ending([-0.4, -0.3, 0.1, 0.2, 0.3], max_rounds=10, bound="clt")[1]


def test_ends_with_nothing_but_zeros():
    for eps in (0.0, 0.5):
        _, line = ending([0, 0, 0, 0, 0], max_rounds=500, eps=eps)
        assert line == "All values are 0, since no removal changed V. No set of 2 stands out."
    _, line = ending([0.1, 0.1, 0.1, 0.1], truncation=0.9, max_rounds=5)
    assert line.startswith("All values are 0, since V of the whole network is below TRUNCATION")


def test_decided_at_the_end_of_the_budget():
    """The last round looks at the intervals though it is no multiple of look_every; going on does not depend on that."""
    rounds = ending([-0.4, -0.3, 0.1, 0.2, 0.3])[0].rounds
    state, line = ending([-0.4, -0.3, 0.1, 0.2, 0.3], max_rounds=rounds - 1)
    assert "are decided" in line and state.active.any() and state.rounds % 12 == 11


@pytest.mark.parametrize("k", [0, 5])
def test_none_or_all_need_no_deciding(k):
    with pytest.raises(ValueError, match=f"k={k} must be from 1 to 4: none or all of 5"):
        ending([-0.4, -0.3, 0.1, 0.2, 0.3], k=k)


@pytest.mark.parametrize("bound", ["bernstein", "sequence"])
def test_intervals_hold_for_all_players_at_every_look(bound):
    """In 100 runs of 300 looks at 40 players, at most delta = 0.1 of the runs may have any miss; they are far below."""
    rng = np.random.default_rng(1)
    jumps = np.tile([0.01, 0.05, 0.2, 0.5], 10)  # chance of a marginal of +-1: mostly zero, heavy tails
    mean = jumps * np.repeat([1, -1], 20) * 0.6
    misses = 0
    for _ in range(100):
        state, missed = mab.nothing_known(40, (-1, 1)), False
        sign = np.where(rng.random((300, 40)) < 0.8, 1, -1) * np.sign(mean)
        draws = sign * (rng.random((300, 40)) < jumps)
        for marginals in draws:
            mab.update(state, marginals[None], np.zeros(40), 0.1)
            low, high = mab.BOUNDS[bound](state, 0.1)
            missed |= bool(((low > mean) | (high < mean)).any())
        misses += missed
        assert (high - low).max() < 1.2  # they say something, too
    assert misses <= 5


def test_the_coverage_test_can_fail():
    """The same game, with 95 % intervals that know neither of the other players nor of the other looks."""
    rng = np.random.default_rng(1)
    misses = 0
    for _ in range(20):
        draws = rng.choice([-1, 0, 1], (300, 8), p=[0.1, 0.5, 0.4])
        m = np.arange(1, 301)[:, None]
        mean, squares = np.cumsum(draws, 0) / m, np.cumsum(draws ** 2, 0) / m
        half = 1.96 * np.sqrt((squares - mean ** 2) / m)
        misses += bool((abs(mean - 0.3) > half)[30:].any())
    assert misses > 10


def test_sequence_is_the_formula():
    """mab.sequence's docstring, sample by sample for one of 3 players."""
    state, alpha = mab.nothing_known(3, (-1, 1)), 0.05 / 3
    samples = np.random.default_rng(0).choice([-1, 0, 0.5, 1], (40, 3))
    sums = np.zeros(3)  # of the bets, bets times x, the losses
    past = []
    for row in samples:
        mab.update(state, row[None], np.zeros(3), 0.05)
        x, t = row[1], len(past) + 1
        means = [sum(past[:i]) / (i + 1) for i in range(t + 1)]  # with one sample of 0, the middle, before the first
        variance = (1 + sum((past[i] - means[i + 1]) ** 2 for i in range(t - 1))) / t
        reach = 1 + abs(means[t - 1])
        bet = min(0.9, reach * math.sqrt(2 * math.log(2 / alpha) / (variance * t * math.log(1 + t))))
        sums += [bet / reach, bet / reach * x, (-math.log(1 - bet) - bet) * ((x - means[t - 1]) / reach) ** 2]
        past.append(x)
    centre, half = sums[1] / sums[0], (math.log(2 / alpha) + sums[2]) / sums[0]
    low, high = mab.sequence(state, 0.05)
    assert (low[1], high[1]) == pytest.approx((centre - half, centre + half))


def test_bernstein_is_the_formula():
    state = mab.nothing_known(3, (-1, 1))
    for marginals in ([0.5, 0.0, 0.1], [0.25, 0.0, -0.2], [0.0, 0.0, 0.3]):
        mab.update(state, np.array([marginals]), np.zeros(3), 0.05)
    low, high = mab.bernstein(state, 0.05)
    m, log = 3, math.log(2 / (0.05 / (2 * 3 * 3 * 4)))  # Maurer & Pontil's ln(2 / delta), delta of one side at this look
    half = math.sqrt(2 * np.var([0.1, -0.2, 0.3], ddof=1) * log / m) + 7 * 2 * log / (3 * (m - 1))
    assert (low[2], high[2]) == pytest.approx((0.2 / 3 - min(half, 2), 0.2 / 3 + min(half, 2)))
    assert state.values == pytest.approx([0.25, 0, 0.2 / 3])


def test_truncation_zeroes_the_rest_of_an_order():
    """V falls by 1/10 a removal; under 0.55, that is after 5 removals, marginals count as 0."""
    seen = []

    def value(keep, round_seed):
        seen.extend(keep.sum(1))
        return keep.mean(1)

    found = mab.tmab_shapley(value, 10, k=3, max_rounds=1, truncation=0.55, window=1, chunk=1, sampler="paper")
    assert np.sort(found.values) == pytest.approx([0] * 5 + [0.1] * 5)
    assert found.truncated.sum() == 5 and found.evaluations == len(seen) == 6
    sparse = mab.tmab_shapley(value, 10, k=3, max_rounds=1, truncation=0.55, window=3, chunk=1, sampler="paper")
    assert sparse.truncated.sum() == 4  # looked at after 0, 3 and 6 removals
    for active in np.eye(10, dtype=bool):  # the same place whoever is sampled
        _, alive, _, _ = mab._sample_order(lambda keep: keep.mean(1), active, np.arange(10), 0.55, 11, 3, 4)
        assert alive[active] == (active.argmax() < 6)


@pytest.mark.parametrize("sampler", ["paper", "shared"])
@pytest.mark.parametrize("n, options", [
    (2, dict(k=1)), (3, dict(k=2)), (40, dict(k=39)), (40, dict(deepest=1e-9)), (40, dict(singles=1000)), (40, dict(singles=2)),
    (5, dict(window=100, chunk=1)), (40, dict(value_range=(0.01, 2.0)))])
def test_small_and_odd(sampler, n, options):
    weights = np.linspace(0.5, 1.5, n)
    found = mab.tmab_shapley(additive(weights), n, **{"k": 1, "value_range": (-2, 2), "max_rounds": 50, "sampler": sampler} | options)
    if "deepest" in options:
        assert 0.5 < found.values.sum() < 1.5  # one place counts
    else:
        np.testing.assert_allclose(found.values[found.samples > 0], weights[found.samples > 0])


def test_nobody_has_two_turns_in_a_round():
    state = mab.nothing_known(30, (-1, 1))
    state.close[:7], state.active[3:9] = True, False
    for singles in (2, 5, 20, 100):
        for number in range(20):
            players = mab._turns(state, singles, 0, number)
            assert len(set(players)) == len(players) <= singles and state.active[players].all()
    seen = np.concatenate([mab._turns(state, 8, 0, number) for number in range(100)])
    assert np.ptp(np.bincount(seen, minlength=30)[9:]) <= 1 and (np.bincount(seen)[:3] == 100).all()


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("sampler", ["paper", "shared"])
def test_chunks_change_nothing(chunk, sampler):
    value = airport(np.arange(1.0, 31))
    options = dict(k=5, max_rounds=20, value_range=(0, 30), truncation=20.0, sampler=sampler, window=2)
    found = mab.tmab_shapley(value, 30, chunk=chunk, **options)
    expected = mab.tmab_shapley(value, 30, **options)
    assert np.array_equal(found.values, expected.values) and np.array_equal(found.ci_low, expected.ci_low)
    assert found.evaluations == expected.evaluations


@pytest.mark.parametrize("sampler", ["paper", "shared", "guided"])
def test_same_seed_same_result_straight_or_resumed(sampler):
    guess = (lambda keep, seed: np.random.default_rng(seed).normal(0, 0.1, 12)) if sampler == "guided" else None

    def value(keep, round_seed):
        return keep @ np.random.default_rng(round_seed).normal(0, 0.1, 12)

    options = dict(k=3, seed=5, value_range=(-1, 1), sampler="paper" if sampler == "paper" else "shared", guess=guess, singles=7)
    whole = mab.tmab_shapley(value, 12, max_rounds=30, **options)
    part = mab.tmab_shapley(value, 12, max_rounds=11, **options)
    resumed = mab.tmab_shapley(value, 12, max_rounds=30, state=part, **options)
    other = mab.tmab_shapley(value, 12, max_rounds=30, **{**options, "seed": 6})
    for name, array in vars(whole).items():
        assert np.array_equal(array, getattr(resumed, name)), name
    assert not np.array_equal(whole.values, other.values)


@pytest.mark.parametrize("options", [
    dict(k=0), dict(k=4), dict(which="best"), dict(bound="hoeffding"), dict(delta=0), dict(sampler="x"), dict(deepest=0), dict(singles=1),
    dict(value_range=(1, 1)),
    dict(value_range=(0, 2.5))])  # a marginal is 3
def test_bad_arguments(options):
    with pytest.raises(ValueError):
        mab.tmab_shapley(additive(np.arange(4.0)), 4, **{"k": 1, "value_range": (0, 3), **options})


def test_value_that_is_not_finite():
    with pytest.raises(ValueError, match="finite"):
        mab.tmab_shapley(lambda keep, seed: np.full(len(keep), np.nan), 4, k=1)


def test_imports_without_torch_and_runs():
    code = ("import sys; sys.modules['torch'] = sys.modules['torchvision'] = None; import mab\n"
            "print(mab.tmab_shapley(lambda keep, seed: keep.mean(1), 4, k=1, max_rounds=2).values.sum())")
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert float(result.stdout) == pytest.approx(1), result.stderr
