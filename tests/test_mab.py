"""The estimator on games with known Shapley values. No network, no data."""

import itertools
import math
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
    return mab.tmab_shapley(value, n, **{"k": 1, "max_rounds": rounds, "delta": 1e-6, **options})


@pytest.mark.parametrize("value, n, value_range", [
    (additive(np.array([-2.0, 0.5, 1.0, 3.0])), 4, (-3, 3)),
    (glove(2, 3), 5, (0, 1)),
    (airport(np.array([1.0, 2.0, 5.0, 9.0])), 4, (0, 9)),
    (majority(np.array([4, 3, 2, 1]), 5), 4, (0, 1)),
    (lambda keep, seed: np.sin(keep @ np.array([1, 2, 4, 8, 16.0])), 5, (-2, 2)),
])
def test_small_games_by_brute_force(value, n, value_range):
    found = estimate(value, n, rounds=3000, value_range=value_range)
    standard_error = np.sqrt(found.m2) / np.maximum(found.samples, 1)
    assert np.all(abs(found.values - exact_shapley(value, n)) <= 5 * standard_error + 1e-12)


def test_additive_game_is_exact_after_one_round():
    weights = np.linspace(-1, 1, 3000)
    found = estimate(additive(weights), 3000, rounds=1, value_range=(-1, 1))
    np.testing.assert_allclose(found.values, weights, atol=1e-9)


@pytest.mark.parametrize("value, expected, value_range", [
    (airport(np.arange(1.0, 61)), airport_shapley(np.arange(1.0, 61)), (0, 60)),
    (majority(np.ones(61), 30), np.full(61, 1 / 61), (0, 1)),
    (glove(20, 20), np.full(40, 0.5), (0, 1)),
])
def test_closed_forms_at_larger_n(value, expected, value_range):
    found = estimate(value, len(expected), rounds=1500, which="highest", value_range=value_range)
    standard_error = np.sqrt(found.m2) / np.maximum(found.samples, 1)
    assert np.all(abs(found.values - expected) <= 5 * standard_error + 1e-12)
    everyone = np.ones((1, len(expected)), dtype=bool)
    if (found.samples == found.rounds).all():  # nobody was dropped, so each order's marginals add up to V(all)
        assert found.values.sum() == pytest.approx(value(everyone, 0)[0] - value(~everyone, 0)[0])


@pytest.mark.parametrize("which, expected", [("lowest", [0, 1, 2]), ("highest", [7, 8, 9])])
@pytest.mark.parametrize("bound", ["bernstein", "sequence", "clt"])
def test_finds_the_set_and_stops(which, expected, bound):
    weights = np.array([-0.5, -0.4, -0.3, 0, 0, 0, 0.1, 0.3, 0.4, 0.5])

    def value(keep, round_seed):  # the noise of a round is the same for all its coalitions, as an image batch's is
        return keep @ (weights + np.random.default_rng(round_seed).normal(0, 0.05, 10).clip(-0.4, 0.4))

    found = mab.tmab_shapley(value, 10, k=3, which=which, bound=bound, max_rounds=5000, eps=1e-4)
    assert found.decided and found.rounds < 5000
    assert np.flatnonzero(found.status == "top").tolist() == expected
    assert (found.status != "undecided").all()
    assert bound == "clt" or found.samples.min() < found.samples.max()  # what is decided is sampled no more
    assert np.all((found.ci_low <= weights) & (weights <= found.ci_high))


def test_not_decided_when_the_budget_ends():
    found = mab.tmab_shapley(additive(np.linspace(-0.01, 0.01, 20)), 20, k=5, max_rounds=3)
    assert not found.decided and found.rounds == 3
    assert (found.status == "undecided").all()


@pytest.mark.parametrize("bound", ["bernstein", "sequence"])
def test_intervals_hold_for_all_players_at_every_look(bound):
    """In 100 runs of 300 looks at 8 players, at most delta = 0.1 of the runs may have any miss."""
    rng = np.random.default_rng(1)
    jumps = np.array([0.01, 0.05, 0.2, 0.5, 0.01, 0.05, 0.2, 0.5])  # chance of a marginal of +-1: mostly zero, heavy tails
    mean = jumps * np.array([1, 1, 1, 1, -1, -1, -1, -1]) * 0.6
    misses = 0
    for _ in range(100):
        state, missed = mab.nothing_known(8, (-1, 1)), False
        sign = np.where(rng.random((300, 8)) < 0.8, 1, -1) * np.sign(mean)
        draws = sign * (rng.random((300, 8)) < jumps)
        for marginals in draws:
            mab.update(state, marginals, np.zeros(8, dtype=bool), (-1, 1), 0.1)
            low, high = mab.BOUNDS[bound](state, (-1, 1), 0.1)
            missed |= bool(((low > mean) | (high < mean)).any())
        misses += missed
        assert (high - low).max() < 1.2  # they say something, too
    assert misses <= 10


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
    """Waudby-Smith & Ramdas 2023, Theorem 2, sample by sample for one of 3 players."""
    state, alpha, c = mab.nothing_known(3, (-1, 1)), 0.05 / 3, 0.75
    samples = np.random.default_rng(0).choice([-1, 0, 0.5, 1], (40, 3))
    sums = np.zeros(4)  # of the bets, bets times x, the variances, the losses
    past = []
    for row in samples:
        mab.update(state, row, np.zeros(3, dtype=bool), (-1, 1), 0.05)
        x, t = (row[1] + 1) / 2, len(past) + 1
        mean = (0.5 + sum(past)) / t  # of the first t - 1
        means = [(0.5 + sum(past[:i + 1])) / (i + 2) for i in range(t - 1)]
        variance = (0.25 + sum((past[i] - means[i]) ** 2 for i in range(t - 1))) / t
        bet = min(c, math.sqrt(2 * math.log(2 / alpha) / (variance * t * math.log(1 + t))))
        sums += [bet, bet * x, 0, 4 * (x - mean) ** 2 * (-math.log(1 - bet) - bet) / 4]
        past.append(x)
    centre, half = sums[1] / sums[0], (math.log(2 / alpha) + sums[3]) / sums[0]
    low, high = mab.sequence(state, (-1, 1), 0.05)
    assert (low[1], high[1]) == pytest.approx((2 * centre - 1 - 2 * half, 2 * centre - 1 + 2 * half))


def test_bernstein_is_the_formula():
    state = mab.nothing_known(3, (-1, 1))
    for marginals in ([0.5, 0.0, 0.1], [0.25, 0.0, -0.2], [0.0, 0.0, 0.3]):
        mab.update(state, np.array(marginals), np.zeros(3, dtype=bool), (-1, 1), 0.05)
    low, high = mab.bernstein(state, (-1, 1), 0.05)
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

    found = mab.tmab_shapley(value, 10, k=3, max_rounds=1, truncation=0.55, window=1, chunk=1)
    assert np.sort(found.values) == pytest.approx([0] * 5 + [0.1] * 5)
    assert found.truncated.sum() == 5 and found.evaluations == len(seen) == 6
    averaged = mab.tmab_shapley(value, 10, k=3, max_rounds=1, truncation=0.55, window=3, chunk=1)
    assert averaged.truncated.sum() == 4  # the mean of three lags one removal behind


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_change_nothing(chunk):
    value = airport(np.arange(1.0, 31))
    found = mab.tmab_shapley(value, 30, k=5, max_rounds=20, value_range=(0, 30), truncation=20.0, chunk=chunk)
    expected = mab.tmab_shapley(value, 30, k=5, max_rounds=20, value_range=(0, 30), truncation=20.0)
    assert np.array_equal(found.values, expected.values) and np.array_equal(found.ci_low, expected.ci_low)
    assert found.evaluations == expected.evaluations


@pytest.mark.parametrize("guess", ["true", "zero", "wrong"])
@pytest.mark.parametrize("value, n, value_range", [(glove(3, 4), 7, (0, 1)), (airport(np.arange(1.0, 8)), 7, (0, 7))])
def test_no_guess_biases_the_values(value, n, value_range, guess):
    def predict(keep, round_seed):
        if guess == "true":
            return np.array([value(keep[None], 0)[0] - value((keep & (np.arange(n) != i))[None], 0)[0] for i in range(n)])
        return np.zeros(n) if guess == "zero" else np.linspace(-1, 1, n)

    found = estimate(value, n, 3000, predict=predict, window=2, singles=3, value_range=value_range, bound="bernstein")
    errors = np.sqrt(found.m2 / (found.samples - 1) / found.samples)
    exact = exact_shapley(value, n)
    assert (np.abs(found.values - exact) < 4.5 * errors).all() and (errors < 0.2).all()
    assert ((found.ci_low <= exact) & (exact <= found.ci_high)).all()
    if guess == "true":  # what is left is the chance of the orders
        worse = estimate(value, n, 3000, predict=lambda keep, seed: np.linspace(-9, 9, n), window=2, singles=3,
                         value_range=value_range)
        assert found.m2.sum() < 0.5 * worse.m2.sum()


def test_guesses_truncate_and_focus():
    """With predict, coalitions whose V is low are not sampled, and half the true marginals go to the 4 k nearest filters."""
    asked = []

    def value(keep, round_seed):
        asked.append(keep)
        return keep.sum(1) / 40

    found = mab.tmab_shapley(value, 40, k=2, predict=lambda keep, seed: np.full(40, 1 / 40), truncation=0.5, window=4, singles=8,
                             look_every=3, max_rounds=6, value_range=(0, 1))
    assert min(keep.sum() for keeps in asked for keep in keeps) >= 16
    np.testing.assert_allclose(found.values, found.values[0], rtol=0.7)
    assert 0 < found.values.sum() < 0.6  # of 1, half is truncated
    assert found.close.sum() == 8 and found.rounds == 6


def test_same_seed_same_result_straight_or_resumed():
    def value(keep, round_seed):
        return keep @ np.random.default_rng(round_seed).normal(0, 0.1, 12)

    options = dict(k=3, bound="sequence", seed=5, value_range=(-1, 1))
    whole = mab.tmab_shapley(value, 12, max_rounds=30, **options)
    part = mab.tmab_shapley(value, 12, max_rounds=11, **options)
    resumed = mab.tmab_shapley(value, 12, max_rounds=30, state=part, **options)
    other = mab.tmab_shapley(value, 12, max_rounds=30, **{**options, "seed": 6})
    for name, array in vars(whole).items():
        assert np.array_equal(array, getattr(resumed, name)), name
    assert not np.array_equal(whole.values, other.values)


@pytest.mark.parametrize("options", [
    dict(k=0), dict(k=4), dict(which="best"), dict(bound="hoeffding"), dict(delta=0), dict(value_range=(1, 1)),
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
