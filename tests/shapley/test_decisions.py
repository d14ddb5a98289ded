"""What intervals prove about the set of interest, and how long it takes (shapley/intervals.py)."""

import math

import numpy as np
import pytest

from shapley import tmab_shapley
from shapley.estimate import new_estimate
from shapley.intervals import FORECASTS, decide, rounds_to_decide, tied_filters
from tests.games import noisy, sampled_state

BOTH = pytest.mark.parametrize("which", ["lowest", "highest"])


def with_intervals(low, high):
    """An Estimate with these intervals."""
    state = new_estimate(len(low), (-1, 1))
    state.ci_low, state.ci_high = np.array(low, dtype=float), np.array(high, dtype=float)
    return state


def slow_decide(low, high, k, eps):
    """decide for the highest, straight from its docstring: lists of status, active and close."""
    n = len(low)
    centre = [(low[i] + high[i]) / 2 for i in range(n)]
    ranking = sorted(range(n), key=lambda i: -centre[i])
    threshold = (centre[ranking[k - 1]] + centre[ranking[k]]) / 2
    close = [i in ranking[: 2 * k] for i in range(n)]
    active, top, rest = [], [], []
    for i in range(n):
        clear = abs(centre[i] - threshold) >= (high[i] - low[i]) / 2 - eps
        active.append(not clear)
        rivals = [j for j in range(n) if j != i]
        n_may_exceed = sum(high[j] > low[i] + 2 * eps for j in rivals)
        n_surely_exceed = sum(low[j] >= high[i] - 2 * eps for j in rivals)
        top.append(n_may_exceed < k)
        rest.append(n_surely_exceed >= k)
    if not any(active):
        status = ["top" if i in ranking[:k] else "rest" for i in range(n)]
        return status, active, close
    status = []
    for is_top, is_rest in zip(top, rest):
        status.append("undecided" if is_top == is_rest else "top" if is_top else "rest")
    still = [active[i] and status[i] == "undecided" for i in range(n)]
    if any(still):
        return status, still, close
    if "undecided" in status:  # certified filters hold up the undecided ones
        return status, active, close
    return status, [False] * n, close


def random_intervals(rng):
    """Intervals on a coarse grid, so that ends meet: (low, high, k, eps)."""
    n = int(rng.integers(2, 7))
    k, eps = int(rng.integers(1, n)), rng.choice([0.0, 0.5, 0.75, 2.0])
    centre, half = rng.integers(-4, 5, n), rng.choice([0.0, 0.5, 1.0, 2.0], n)
    return centre - half, centre + half, k, eps


@BOTH
def test_decide_is_its_definition(which):
    rng, n_decided, n_certified = np.random.default_rng(0), 0, 0
    for _ in range(2000):
        low, high, k, eps = random_intervals(rng)
        ends = (low, high) if which == "highest" else (-high, -low)
        status, active, close = decide(with_intervals(*ends), k, which, eps)
        expected = slow_decide(low.tolist(), high.tolist(), k, eps)
        assert (status.tolist(), active.tolist(), close.tolist()) == expected
        n_decided += "undecided" not in expected[0]
        n_certified += "undecided" in expected[0] and len(set(expected[0])) > 1
    assert n_decided > 200 and n_certified > 200


@BOTH
def test_what_is_certified_follows_from_the_intervals(which):
    """Certified filters are right up to 2 eps, whatever values the intervals hold.

    And no run can get stuck: a filter is active, or all are certified.
    """
    rng, outcomes = np.random.default_rng(1), {True: 0, False: 0}
    for _ in range(1500):
        low, high, k, eps = random_intervals(rng)
        status, active, close = decide(with_intervals(low, high), k, which, eps)
        top, rest = status == "top", status == "rest"
        assert top.sum() <= k and rest.sum() <= len(low) - k
        assert close.sum() == min(2 * k, len(low))
        assert active.any() != (top | rest).all()
        outcomes[bool(active.any())] += 1
        for _ in range(5):
            shares = rng.choice([0, 0.5, 1], len(low))
            values = (low + shares * (high - low)) * (1 if which == "highest" else -1)
            for i in np.flatnonzero(top):
                assert (values > values[i] + 2 * eps).sum() < k
            for i in np.flatnonzero(rest):
                assert (values >= values[i] - 2 * eps).sum() > k
    assert min(outcomes.values()) > 100


def test_certified_filters_do_not_hold_a_run_up():
    state = with_intervals([-0.9, -0.85, -2.15], [1.9, -0.15, 1.15])
    status, active, _ = decide(state, 1, "highest", 1.0)
    assert status.tolist() == ["undecided", "rest", "rest"] and active.any()


def test_limits_that_are_not_numbers_certify_nobody():
    status, active, _ = decide(with_intervals([np.nan] * 3, [np.nan] * 3), 1, "lowest", 0.1)
    assert active.all() and (status == "undecided").all()


def test_of_equal_filters_the_first_are_taken():
    status, active, close = decide(with_intervals([0.0] * 6, [0.0] * 6), 2, "lowest", 0.0)
    assert status.tolist() == ["top"] * 2 + ["rest"] * 4 and not active.any()
    assert close.tolist() == [True] * 4 + [False] * 2


@BOTH
def test_ties_are_those_within_two_eps_of_the_last(which):
    sign = 1 if which == "highest" else -1
    centre = sign * np.array([9.0, 7.0, 6.5, 6.0, 5.75, 0.0])
    state = with_intervals(centre - 0.1, centre + 0.1)
    state.status = np.array(["top", "top", "rest", "rest", "rest", "rest"])
    assert tied_filters(state, 2, which, 0.5) == 2  # 6.5 and 6, which is 2 eps away
    assert tied_filters(state, 2, which, 0.625) == 3
    assert tied_filters(state, 2, which, 0.0) == 0
    assert isinstance(tied_filters(state, 2, which, 0.5), int)


# ----------------------------------------------------------------------------- rounds_to_decide

DELTA = 0.05


def noisy_state(rounds, parts=1, seed=0, spread=0.3):
    """20 filters of values 0 to 0.475 with noise; two parts add up to the same."""
    rng = np.random.default_rng(seed)
    worth = np.arange(20) / 40
    noise = rng.uniform(-spread, spread, (rounds, parts, 20))
    state = sampled_state(worth / parts + noise, [[-1.0, -0.5][:parts], [1.0, 0.5][:parts]], DELTA)
    state.ci_low, state.ci_high = state.values - 0.4, state.values + 0.4
    state.rounds = rounds
    return state


def slow_samples_needed(state, k, eps, grid):
    """Samples that each filter needs, by the formula, looked at after each t of the grid: (n,).

    The half width after t samples, if each of them had the squared deviation of the variance: of
    the parts' (ln(2 n / delta) + sum psi_s v) / sum bet_s, v in units of the farther end.
    """
    log = math.log(2 * state.counts.size / DELTA)
    order = np.sort(state.values)
    threshold = (order[k - 1] + order[k]) / 2
    needed = []
    for player in range(len(state.values)):
        distance = abs(state.values[player] - threshold) + eps
        sums, last = np.zeros((len(state.counts), 2)), 0  # each part's bets and losses
        for t in grid:
            half = 0.0
            for part in range(len(state.counts)):
                reach = abs(state.limits[:, part, 0]).max()
                count, m2 = state.counts[part, player], state.m2[part, player]
                variance = m2 / (count - 1) / reach**2
                bet = math.sqrt(2 * log / ((1 / t + variance) * t * math.log(1 + t)))
                bet = min(bet, 0.9)
                loss = (-math.log(1 - bet) - bet) * variance
                sums[part] += np.array([bet, loss]) * (t - last)  # those since the last t alike
                half += reach * (log + sums[part, 1]) / sums[part, 0]
            last = t
            if half <= distance:
                break
        needed.append(t)
    return np.array(needed)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("singles", [None, 1, 1000])
def test_rounds_to_decide_are_those_of_the_formula(parts, singles):
    state = noisy_state(30, parts)
    coarse = np.unique(np.geomspace(1, 1e9, 400).astype(int)).tolist()
    needed = slow_samples_needed(state, 5, 0.02, coarse)
    for active in (np.ones(20, dtype=bool), np.arange(20) < 8):
        state.active = active
        missing = np.maximum(needed - 30, 0)[active]
        expected = 30 + missing.max()
        if singles:
            expected = max(expected, 30 + missing.sum() / singles)
        rounds = rounds_to_decide(state, 5, "lowest", 0.02, DELTA, "sequence", singles)
        assert rounds == pytest.approx(expected, rel=1e-12) and isinstance(rounds, float)
        assert rounds > 30


def test_a_coarse_grid_gives_about_what_every_t_gives():
    state = noisy_state(30)
    needed = slow_samples_needed(state, 5, 0.02, range(1, 20000))
    expected = needed.max()
    rounds = rounds_to_decide(state, 5, "lowest", 0.02, DELTA, "sequence")
    assert expected < 20000 and expected <= rounds < 1.1 * expected


@BOTH
def test_both_ends_are_mirror_images(which):
    state = noisy_state(30)
    rounds = rounds_to_decide(state, 5, which, 0.02, DELTA, "sequence", 3)
    state.ci_low, state.ci_high = -state.ci_high, -state.ci_low
    mirrored = "lowest" if which == "highest" else "highest"
    assert rounds == rounds_to_decide(state, 5, mirrored, 0.02, DELTA, "sequence", 3)


def test_rounds_that_are_done_already_are_not_missing():
    """With intervals wider than they need be, nothing is missing: the rounds so far suffice."""
    state = noisy_state(3000)
    state.active[:] = np.arange(20) > 15
    state.rounds = 4000
    assert rounds_to_decide(state, 5, "lowest", 0.02, DELTA, "sequence") == 4000


def test_a_decided_set_takes_no_rounds():
    state = noisy_state(30)
    state.active[:] = False
    assert rounds_to_decide(state, 5, "lowest", 0.02, DELTA, "sequence") is None


def test_ten_samples_are_needed_to_foresee_anything():
    assert rounds_to_decide(noisy_state(9), 5, "lowest", 0.02, DELTA, "sequence") is None
    assert rounds_to_decide(noisy_state(10), 5, "lowest", 0.02, DELTA, "sequence") > 10
    state = noisy_state(30)
    state.counts[0, 3] = 9
    assert rounds_to_decide(state, 5, "lowest", 0.02, DELTA, "sequence") is None
    state.active[3] = False  # it is of no interest any more
    assert rounds_to_decide(state, 5, "lowest", 0.02, DELTA, "sequence") > 30


def test_equal_filters_are_never_decided_without_a_tolerance():
    state = sampled_state(np.full((20, 1, 4), 0.5), (-1, 1), DELTA)
    state.ci_low, state.ci_high = state.values - 0.1, state.values + 0.1
    state.rounds = 20
    assert rounds_to_decide(state, 2, "lowest", 0.0, DELTA, "sequence") is None
    assert rounds_to_decide(state, 2, "lowest", 0.1, DELTA, "sequence") > 20
    state = noisy_state(30)  # two filters at the threshold are equal, all others are not
    middle = state.values[[4, 5]].mean()
    state.ci_low[[4, 5]], state.ci_high[[4, 5]] = middle - 0.4, middle + 0.4
    ranking = np.argsort(state.ci_low)
    k = int(np.flatnonzero(np.isin(ranking, [4, 5]))[0]) + 1
    assert rounds_to_decide(state, k, "lowest", 0.0, DELTA, "sequence") is None
    assert rounds_to_decide(state, k, "lowest", 0.01, DELTA, "sequence") > 30


@pytest.mark.parametrize("bound", FORECASTS)
@pytest.mark.parametrize("sampler", ["paper", "shared"])
def test_the_forecast_comes_true(sampler, bound):
    """After 48 rounds, what is foreseen of the whole run."""
    value = noisy(np.array([-0.5, -0.4, -0.3, -0.2, 0.05, 0.1, 0.15, 0.3, 0.4, 0.5]), 0.1, 0.4)
    options = {"k": 3, "value_range": (-1, 1), "sampler": sampler, "singles": 10, "eps": 0.01}
    options["bound"] = bound
    early = tmab_shapley(value, 10, max_rounds=48, **options)
    forecast = rounds_to_decide(early, 3, "lowest", 0.01, DELTA, bound)
    last = tmab_shapley(value, 10, max_rounds=5000, **options)
    assert last.decided and 0.5 < forecast / last.rounds < 2
