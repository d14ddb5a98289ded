"""The bounds: each against its formula, written slowly, and all through one conformance test."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy import special, stats

from shapley.estimate import new_estimate
from shapley.intervals import BOUNDS, START, asymptotic, bernstein, clt, sequence, update
from tests.games import random_samples, sampled_state, standard_errors

N = 5  # filters
LIMITS = np.array([[-1.0, -1.5], [2.0, 1.0]])  # of two parts, which differ in width and middle
DELTA = 0.05

# ----------------------------------------------------------------------------- all bounds


@pytest.fixture(params=BOUNDS)
def bound(request):
    """Each bound of the registry."""
    return BOUNDS[request.param]


def coins(rounds, seed=0):
    """Samples of -1 and 1, (rounds, 1, 3), with means -0.5, 0 and 0.5."""
    chance = np.random.default_rng(seed).random((rounds, 1, 3))
    return np.where(chance < [0.25, 0.5, 0.75], 1.0, -1.0)


def test_interval_contains_the_mean(bound):
    """In 20 runs, of which 1 may miss by the promise; the normal approximation a few more."""
    n_missed = 0
    for seed in range(20):
        low, high = bound(sampled_state(coins(400, seed), (-1, 1), DELTA), DELTA)
        assert low.shape == high.shape == (3,) and low.dtype == high.dtype == float
        n_missed += bool(((low > [-0.5, 0, 0.5]) | (high < [-0.5, 0, 0.5])).any())
    assert n_missed <= (3 if not bound.proves else 0)


def test_width_falls_with_samples(bound):
    widths = []
    for rounds in (50, 200, 800, 3200):
        low, high = bound(sampled_state(coins(rounds), (-1, 1), DELTA), DELTA)
        widths.append(high - low)
    assert (np.diff(widths, axis=0) < 0).all()
    assert (widths[-1] < 0.25 * widths[0]).all() and (widths[-1] < 0.4).all()


def test_width_grows_with_confidence_and_filters(bound):
    wide = bound(sampled_state(coins(800), (-1, 1), DELTA), 0.001)
    usual = bound(sampled_state(coins(800), (-1, 1), DELTA), DELTA)
    assert (wide[0] < usual[0]).all() and (usual[1] < wide[1]).all()
    many = bound(sampled_state(np.tile(coins(800), 100), (-1, 1), DELTA), DELTA)
    assert (many[1] - many[0] > np.tile(usual[1] - usual[0], 100)).all()


def test_looking_changes_nothing(bound):
    samples = random_samples(60, 2, N)
    state = new_estimate(N, LIMITS)
    for row in samples:
        update(state, row, np.zeros(N), DELTA)
        state.ci_low, state.ci_high = bound(state, DELTA)
    expected = bound(sampled_state(samples, LIMITS, DELTA), DELTA)
    assert np.array_equal([state.ci_low, state.ci_high], expected)
    assert np.array_equal(bound(state, DELTA), expected)


@pytest.mark.parametrize("bound", [BOUNDS[name] for name in BOUNDS if name != "asymptotic"])
def test_parts_add_up(bound):
    """Limits of the sum are sums of the parts' limits, which may each miss by half of delta.

    Of the normal approximation, errors add up in squares. The asymptotic sequence, whose width in
    errors depends on the part with fewest samples, has a test of its own below.
    """
    samples = random_samples(300, 2, N)
    low, high = bound(sampled_state(samples, LIMITS, DELTA), DELTA)
    delta = DELTA if not bound.proves else DELTA / 2
    alone = []
    for part in (slice(0, 1), slice(1, 2)):
        alone.append(bound(sampled_state(samples[:, part], LIMITS[:, part], delta), delta))
    centre, half = np.mean(alone, 1), np.diff(alone, axis=1)[:, 0] / 2  # (parts, N) each
    half = np.hypot(*half) if not bound.proves else half.sum(0)
    np.testing.assert_allclose(low, centre.sum(0) - half, rtol=1e-9)
    np.testing.assert_allclose(high, centre.sum(0) + half, rtol=1e-9)


@pytest.mark.parametrize("rounds", [0, 1])
def test_without_two_samples_nothing_is_known(bound, rounds):
    low, high = bound(sampled_state(random_samples(rounds, 2, N, 0), LIMITS, DELTA), DELTA)
    assert (high - low == 2 * 5.5).all()  # the widths of the parts' ranges, on both sides


@pytest.mark.parametrize("rounds", [1, 2])
def test_one_sample_says_nothing_even_at_low_confidence(rounds):
    """Of one filter at delta = 0.9, the formula alone is narrower than the range at once."""
    low, high = sequence(sampled_state(np.zeros((rounds, 1, 1)), (-1, 1), 0.9), 0.9)
    assert (high - low == 2 * 2) if rounds == 1 else (high - low < 2)


def test_no_part_is_farther_than_its_range(bound):
    """The second part has samples enough, the first only two, so its width bounds it."""
    samples = random_samples(4000, 2, N, 0)
    samples[2:, 0] = np.nan
    low, high = bound(sampled_state(samples, LIMITS, DELTA), DELTA)
    assert (high - low > 2 * 3).all() and (high - low < 2 * 3.6).all()
    assert ((low + high) / 2 == pytest.approx(np.nanmean(samples, 0).sum(0), abs=0.1)) or (
        bound is sequence  # whose centre is weighted by bets
    )


@pytest.mark.parametrize("name", ["bernstein", "sequence"])
def test_intervals_hold_for_all_players_at_every_look(name):
    """100 runs of 300 looks at 40 players; in a share of 0.1 of them any interval may miss.

    Marginals are heavy tailed, mostly zero: a chance of 0.01 to 0.5 to be +1 or -1.
    """
    rng = np.random.default_rng(1)
    jumps = np.tile([0.01, 0.05, 0.2, 0.5], 10)
    mean = jumps * np.repeat([1, -1], 20) * 0.6
    n_missed = 0
    for _ in range(100):
        state, missed = new_estimate(40, (-1, 1)), False
        sign = np.where(rng.random((300, 40)) < 0.8, 1, -1) * np.sign(mean)
        draws = sign * (rng.random((300, 40)) < jumps)
        for marginals in draws:
            update(state, marginals[None], np.zeros(40), 0.1)
            low, high = BOUNDS[name](state, 0.1)
            missed |= bool(((low > mean) | (high < mean)).any())
        n_missed += missed
        assert (high - low).max() < 1.2  # they are narrow enough to say anything
    assert n_missed <= 5


def test_the_coverage_test_can_fail():
    """The same, of 95 % intervals that know neither of other players nor of other looks."""
    rng = np.random.default_rng(1)
    n_missed = 0
    for _ in range(20):
        draws = rng.choice([-1, 0, 1], (300, 8), p=[0.1, 0.5, 0.4])
        m = np.arange(1, 301)[:, None]
        mean, squares = np.cumsum(draws, 0) / m, np.cumsum(draws**2, 0) / m
        half = 1.96 * np.sqrt((squares - mean**2) / m)
        n_missed += bool((abs(mean - 0.3) > half)[30:].any())
    assert n_missed > 10


# ----------------------------------------------------------------------------- formulas


def bernstein_half(samples, width, n_means, delta):
    """Maurer & Pontil's Theorem 4 on one side of one mean, at a share of delta for this look."""
    m = len(samples)
    share = delta / (2 * n_means * m * (m + 1))  # of n means, m looks, and two sides
    log = math.log(2 / share)
    variance = np.var(samples, ddof=1)
    return math.sqrt(2 * variance * log / m) + 7 * width * log / (3 * (m - 1))


def test_the_shares_of_all_looks_and_means_add_up_to_delta():
    """sum over m of 1 / (m (m + 1)) is 1; with 2 sides of n means that makes delta."""
    m = np.arange(1, 10**6)
    assert 2 * 7 * (DELTA / (2 * 7 * m * (m + 1))).sum() == pytest.approx(DELTA, rel=1e-5)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("n", [1, 5, 300])
def test_bernstein_is_the_formula(parts, n):
    """With enough samples that no half width is cut off at the width of the range."""
    samples, limits = random_samples(400, parts, n), LIMITS[:, :parts]
    low, high = bernstein(sampled_state(samples, limits, DELTA), DELTA)
    for player in range(min(n, 5)):
        centre = half = 0.0
        for part in range(parts):
            column = samples[:, part, player]
            column = column[~np.isnan(column)]
            width = limits[1, part] - limits[0, part]
            part_half = bernstein_half(column, width, n * parts, DELTA)
            assert part_half < width
            centre, half = centre + column.mean(), half + part_half
        limits_by_hand = (pytest.approx(centre - half), pytest.approx(centre + half))
        assert (low[player], high[player]) == limits_by_hand


class SlowSequence:
    """Waudby-Smith & Ramdas (2023), Theorem 2, of one mean, sample by sample.

    With b_t, the distance from the mean to the farther end of the range, in place of a width of 1.
    """

    def __init__(self, low, high, n_means, delta):
        self.low, self.high, self.alpha = low, high, delta / n_means
        self.samples, self.bets, self.losses = [], [], []

    def prior_mean(self, t):
        """Of the first t samples, with one more at the middle of the range."""
        return ((self.low + self.high) / 2 + sum(self.samples[:t])) / (t + 1)

    def add(self, x):
        t, mean = len(self.samples) + 1, self.prior_mean(len(self.samples))
        squares = ((self.high - self.low) / 2) ** 2
        for i in range(1, t):
            squares += (self.samples[i - 1] - self.prior_mean(i)) ** 2
        reach = max(mean - self.low, self.high - mean)
        variance = squares / t / reach**2
        bet = math.sqrt(2 * math.log(2 / self.alpha) / (variance * t * math.log(1 + t)))
        bet = min(bet, 0.9)
        psi = -math.log(1 - bet) - bet
        self.bets.append(bet / reach)
        self.losses.append(psi * ((x - mean) / reach) ** 2)
        self.samples.append(x)

    def interval(self):
        """(centre, half width)."""
        centre = np.dot(self.bets, self.samples) / sum(self.bets)
        return centre, (math.log(2 / self.alpha) + sum(self.losses)) / sum(self.bets)


@pytest.mark.parametrize("rounds", [3, 40, 300])
@pytest.mark.parametrize("parts, n", [(1, 1), (1, 3), (2, 3)])
def test_sequence_is_the_formula(parts, n, rounds):
    samples, limits = random_samples(rounds, parts, n, missing=0.2), LIMITS[:, :parts]
    low, high = sequence(sampled_state(samples, limits, DELTA), DELTA)
    for player in range(n):
        centres, halves = [], []
        for part in range(parts):
            slow = SlowSequence(*limits[:, part], n * parts, DELTA)
            for x in samples[:, part, player]:
                if not np.isnan(x):
                    slow.add(x)
            centre, half = slow.interval()
            width = limits[1, part] - limits[0, part]
            centres.append(centre)
            halves.append(min(half, width) if len(slow.samples) > 1 else width)
        assert low[player] == pytest.approx(sum(centres) - sum(halves), rel=1e-9)
        assert high[player] == pytest.approx(sum(centres) + sum(halves), rel=1e-9)
    assert rounds < 300 or (halves < np.diff(limits, axis=0)).all()  # nothing is cut off


def test_sequence_is_centred_by_bets_before_any_sample():
    low, high = sequence(new_estimate(3, LIMITS), DELTA)
    assert (low == -5.5).all() and (high == 5.5).all()


@pytest.mark.parametrize("parts", [1, 2])
def test_clt_is_the_formula(parts):
    samples, limits = random_samples(300, parts, N), LIMITS[:, :parts]
    state = sampled_state(samples, limits, DELTA)
    low, high = clt(state, DELTA)
    z = NormalDist().inv_cdf(1 - DELTA / (2 * N))
    np.testing.assert_allclose(high - low, 2 * z * standard_errors(state), rtol=1e-12)
    np.testing.assert_allclose((low + high) / 2, state.values, atol=1e-12)


def test_clt_needs_30_samples_of_each_part():
    samples = random_samples(40, 2, 3, missing=0)
    samples[29:, 0, 0] = samples[30:, 0, 1] = samples[29:, 1, 2] = np.nan  # 29, 30, 40; 40, 40, 29
    low, high = clt(sampled_state(samples, LIMITS, DELTA), DELTA)
    assert (high - low > [2 * 3, 0, 2 * 2.5]).all() and high[1] - low[1] < 2


@pytest.mark.parametrize("bound", [clt, asymptotic])
def test_constant_samples_say_nothing(bound):
    """Without any chance seen, a normal approximation would be a point."""
    low, high = bound(sampled_state(np.full((50, 1, 2), 0.5), (-1, 1), DELTA), DELTA)
    assert low.tolist() == [-1.5, -1.5] and high.tolist() == [2.5, 2.5]


def slow_asymptotic(samples, width, n_intervals, delta):
    """Half width of one part's interval for each filter, straight from the docstring.

    samples: for each filter a list of floats; width: of the range.
    """
    variances = [np.var(column, ddof=1) for column in samples]
    prior, halves = np.mean(variances), []
    for column, variance in zip(samples, variances):
        t = len(column)
        edge = np.sqrt(stats.chi2.isf(delta / n_intervals, 3) + math.log(max(t / START, 1)))
        factor = stats.t.isf(stats.norm.sf(edge), t - 1 + START)
        variance = max(variance, (t * variance + START * prior) / (t + START))
        halves.append(factor * math.sqrt(variance / t) if t >= START else width)
    return np.array(halves)


@pytest.mark.parametrize("rounds", [START + 2, 300])
def test_asymptotic_is_the_formula(rounds):
    samples = random_samples(rounds, 1, N, missing=0.1)
    state = sampled_state(samples, LIMITS[:, :1], DELTA)
    low, high = asymptotic(state, DELTA)
    columns = [column[~np.isnan(column)] for column in samples[:, 0].T]
    half = slow_asymptotic(columns, 3.0, N, DELTA)
    np.testing.assert_allclose((low + high) / 2, state.values, atol=1e-12)
    np.testing.assert_allclose((high - low) / 2, np.minimum(half, 3.0), rtol=1e-9)
    assert len(set(np.sign(state.counts[0] - START))) > 1 or rounds == 300


def test_asymptotic_interval_of_a_filter_that_was_guessed():
    """Of three parts, the variances of the first two add up, or the third has the value alone."""
    samples = np.concatenate([random_samples(200, 2, N, 0), random_samples(200, 1, N, 0, 1)], 1)
    limits = np.column_stack([LIMITS, LIMITS[:, 0]])
    state = sampled_state(samples, limits, DELTA)
    state.plain = np.arange(N) > 2
    state.values = (state.means * state.parts).sum(0)
    low, high = asymptotic(state, DELTA)
    halves = [slow_asymptotic(part.T, 3.0, 2 * N, DELTA) for part in samples.swapaxes(0, 1)]
    expected = np.where(state.plain, halves[2], np.hypot(halves[0], halves[1]))
    np.testing.assert_allclose((high - low) / 2, expected, rtol=1e-9)
    np.testing.assert_allclose((low + high) / 2, state.values, atol=1e-12)
    assert np.allclose(state.values[3:], state.means[2, 3:])


def test_a_wiener_process_leaves_the_asymptotic_edge_with_its_probability():
    """Robbins (1970), by simulation: 2,000 random walks from step 16 to step 4,000."""
    rng, probability = np.random.default_rng(0), 0.2
    walks = rng.standard_normal((2000, 4000)).cumsum(1)[:, START - 1 :]
    t = np.arange(START, 4001)
    edge = np.sqrt(t * (special.chdtri(3, probability) + np.log(t / START)))
    share_outside = (abs(walks) >= edge).any(1).mean()
    assert 0.1 < share_outside < 0.2  # walks that stop leave it less often, those in steps too


# ----------------------------------------------------------------------------- update


def test_update_adds_what_was_truncated_of_those_sampled():
    state = new_estimate(3, LIMITS)
    samples = np.array([[0.1, np.nan, 0.3], [0.2, 0.4, np.nan]])
    update(state, samples, np.array([0.25, 0.5, 1.0]), DELTA)
    update(state, samples, np.array([0.5, 0.5, 0.0]), DELTA)
    assert state.truncated.tolist() == [0.75, 1.0, 0.0]  # by the last part, the marginals
    assert state.counts.tolist() == [[2, 0, 2], [2, 2, 0]]
    assert state.values == pytest.approx([0.3, 0.4, 0.3])
