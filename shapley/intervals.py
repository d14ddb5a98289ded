"""Confidence intervals of Shapley values, and what they prove about the set of interest.

A bound is a function of (Estimate, delta) that returns confidence limits (low, high), each
(n_filters,) float64. A new one is one more function and one more entry of BOUNDS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy import special

from shapley.estimate import add_moments, squared_errors

LARGEST_BET = 0.9  # the theorem's 1/2 or 3/4 pays less where samples are near 0
FEWEST_SAMPLES = 30  # of clt
START = 16  # samples of a filter before `asymptotic` says anything of it; also of its prior


def update(state, samples, truncated, delta):
    """Add one round to the estimate: means, variances, and the sums of the confidence sequence.

    Args:
        state: Estimate, changed in place.
        samples: (parts, n_filters) float64, NaN where there is no sample.
        truncated: (n_filters,) float64, the share of the order that was truncated.
        delta: error probability of all intervals together.
    """
    sampled = ~np.isnan(samples)
    place_bets(state, sampled, samples[sampled], delta)  # before the moments know the samples
    add_moments(state, sampled, samples[sampled])
    state.truncated[sampled[-1]] += truncated[sampled[-1]]


def bernstein(state, delta):
    """Empirical Bernstein bound (Maurer & Pontil 2009, Theorem 4), made valid at every look.

    Half width after m samples: sqrt(2 variance ln(2 / d) / m) + 7/3 range ln(2 / d) / (m - 1).
    The m-th look at one of n means (all parts of all filters) may fail on either side with
    probability d = delta / (2 n m (m + 1)). Over all means, looks and sides that adds up to delta.
    """
    counts = np.maximum(state.counts, 2)
    log = np.log(4 * counts.size * counts * (counts + 1) / delta)
    width = state.limits[1] - state.limits[0]
    half = np.sqrt(2 * state.m2 / (counts - 1) * log / counts) + 7 / 3 * width * log / (counts - 1)
    return _sum_parts(state, state.means, half)


def sequence(state, delta):
    """Predictable plug-in empirical Bernstein confidence sequence, valid at every look.

    Waudby-Smith & Ramdas (2023), Theorem 2. With samples X_t, bets l_t in [0, 1), the mean m_t of
    the samples before t and the middle of the range, and n means in all:
    (sum l_t X_t / b_t -+ (ln(2 n / delta) + sum psi(l_t) ((X_t - m_t) / b_t)^2)) / (sum l_t / b_t).
    The theorem has b_t = 1, the width of the range. Its proof only needs |X_t - m_t| <= b_t, so
    b_t here is the distance from m_t to the farther end of the range: about half the width.
    """
    weight, weighted, spread, _ = state.sequence
    weight = np.maximum(weight, 1e-12)
    half = (np.log(2 * weight.size / delta) + spread) / weight
    return _sum_parts(state, weighted / weight, half)


def clt(state, delta):
    """Normal approximation for n filters at one look that was fixed before: approximate.

    The parts of a value count as uncorrelated.
    """
    z = -NormalDist().inv_cdf(delta / (2 * len(state.values)))
    return _normal_limits(state, squared_errors(state.counts, state.m2), z, FEWEST_SAMPLES)


def asymptotic(state, delta):
    """Asymptotic confidence sequence with a delayed start: approximate, at every look.

    Waudby-Smith et al. (2024), started late as they propose. By Robbins (1970) a Wiener process
    leaves +- sqrt(t (a^2 + ln(t / m))) at some t >= m with probability P(chi^2 with 3 degrees >
    a^2). So from m = START samples on, a value is within sqrt(a^2 + ln(t / m)) standard errors of
    its estimate at every look, as far as a mean of m samples is normal. The union bound is over
    filters.

    A sample variance after few samples may be far too small: 0, if all of them are. So a filter's
    variance is averaged with a prior, worth START samples, that has the mean variance of all
    filters (empirical Bayes), and never falls below its own; and Student's t with the degrees of
    freedom of both stands for the normal. The variances of the parts of a value add up, as if
    uncorrelated; t counts the part with fewest samples. With guesses there are two intervals of a
    filter, of which one holds at a time, so each has half of its delta.
    """
    counts = np.maximum(state.counts, 2)
    squares = _with_prior(state.m2 / (counts - 1), state.counts) / counts
    t = np.where(state.parts, state.counts, np.iinfo(np.int64).max).min(0)
    errors = _asymptotic_errors(t, _n_intervals(state), delta)
    return _normal_limits(state, squares, errors, START)


def _n_intervals(state):
    """How many intervals `asymptotic` has, of all filters."""
    return len(state.values) * (1 if len(state.counts) == 1 else 2)


def _with_prior(variance, counts):
    """Sample variances (parts, n_filters), none of them far below the mean over the filters."""
    sampled = counts > 1
    mean = (variance * sampled).sum(1, keepdims=True) / np.maximum(sampled.sum(1), 1)[:, None]
    return np.maximum(variance, (counts * variance + START * mean) / (counts + START))


def _asymptotic_errors(t, n_intervals, delta):
    """How many standard errors wide half an interval of `asymptotic` is after t samples."""
    normal = np.sqrt(special.chdtri(3, delta / n_intervals) + np.log(np.maximum(t / START, 1)))
    return -special.stdtrit(np.maximum(t, 2) - 1 + START, special.ndtr(-normal))


def _normal_limits(state, squares, errors, fewest):
    """Limits of values from squared standard errors of their parts.

    squares: (parts, n_filters); errors: half width in standard errors of a value, (n_filters,) or
    a float; fewest: samples of a part below which nothing is known.
    """
    total = (squares * state.parts).sum(0)
    half = squares / np.sqrt(np.maximum(total, 1e-300)) * errors  # shares add up to all of it
    unknown = (state.counts < fewest) | (total == 0)  # chance has not been seen yet
    return _sum_parts(state, state.means, np.where(unknown, np.inf, half))


@dataclass(frozen=True)
class Bound:
    """A bound, and what its limits promise."""

    limits: Callable
    proves: bool = True  # for any samples in the range; else approximately, for many
    every_look: bool = True  # at all looks at once; else at one that was fixed before

    def __call__(self, state, delta):
        """The confidence limits of an Estimate: (low, high), each (n_filters,) float64."""
        return self.limits(state, delta)


BOUNDS = {
    "bernstein": Bound(bernstein),
    "sequence": Bound(sequence),
    "asymptotic": Bound(asymptotic, proves=False),
    "clt": Bound(clt, proves=False, every_look=False),
}


def place_bets(state, sampled, samples, delta):
    """Add samples to the sums behind `sequence`; the bet on a sample knows earlier ones only.

    Args:
        state: Estimate, changed in place.
        sampled: (parts, n_filters) bool.
        samples: (sampled.sum(),) float64.
        delta: error probability of all intervals together.
    """
    low, high = (np.broadcast_to(limit, sampled.shape)[sampled] for limit in state.limits)
    weight, weighted, spread, squares = state.sequence[:, sampled]
    t = state.counts[sampled] + 1
    mean = ((low + high) / 2 + (t - 1) * state.means[sampled]) / t
    variance = (((high - low) / 2) ** 2 + squares) / t
    reach = np.maximum(mean - low, high - mean)  # b_t
    bet, psi = _bet(variance / reach**2, t, sampled.size, delta)
    spread = spread + psi * ((samples - mean) / reach) ** 2
    next_mean = (mean * t + samples) / (t + 1)
    state.sequence[:, sampled] = (
        weight + bet / reach,
        weighted + bet / reach * samples,
        spread,
        squares + (samples - next_mean) ** 2,
    )


def _bet(variance, t, n, delta):
    """The t-th bet l on one of n means, and psi(l) = -ln(1 - l) - l."""
    bet = np.sqrt(2 * np.log(2 * n / delta) / (variance * t * np.log(1 + t)))
    bet = np.minimum(bet, LARGEST_BET)
    return bet, -np.log1p(-bet) - bet


def _sum_parts(state, centre, half):
    """Limits of values from the parts' centre -+ half, (parts, n_filters) each.

    No mean is farther than the width of the range from its estimate; before the second sample
    nothing else is known.
    """
    width = state.limits[1] - state.limits[0]
    half = np.where(state.counts < 2, width, np.minimum(half, width))
    centre, half = (centre * state.parts).sum(0), (half * state.parts).sum(0)
    return centre - half, centre + half


def decide(state, k, which, eps):
    """What the intervals prove: status, active and close, each (n_filters,).

    Active is the paper's U = {i: ci_low + eps < threshold < ci_high - eps}. The paper's threshold
    is the k-th value; here it is halfway to the next value, since the k-th filter could otherwise
    leave U only when its interval is as narrow as eps. When no filter is active, the k filters are
    decided: no value in the set is farther than eps on the wrong side of the threshold, and none
    outside it. Before that the threshold is an estimate, and a filter is certified if the intervals
    alone prove, up to 2 eps, that it is among the k or that it is not.

    Args:
        state: Estimate.
        k: int, size of the set.
        which: "lowest" or "highest".
        eps: tolerance, in units of V.
    """
    centre, half, threshold = _signed_intervals(state, k, which)
    ranking = np.argsort(-centre, kind="stable")
    close = np.zeros(len(centre), dtype=bool)
    close[ranking[: 2 * k]] = True
    active = ~(abs(centre - threshold) >= half - eps)
    if active.any():
        top, rest = _proven(centre - half, centre + half, k, eps)
    else:
        top = np.zeros(len(centre), dtype=bool)
        top[ranking[:k]] = True
        rest = ~top
    status = np.select([top & ~rest, rest & ~top], ["top", "rest"], "undecided")
    undecided = status == "undecided"
    if (active & undecided).any():  # else certified filters' intervals hold up the undecided ones
        active &= undecided
    return status, active & undecided.any(), close


def _proven(low, high, k, eps):
    """Which filters are proven to be among the k highest, and which not to be, up to 2 eps."""
    n = len(low)
    # A narrow filter does not count itself in the first number below, a wide one not in the second.
    narrow = high <= low + 2 * eps
    may_exceed = n - np.searchsorted(np.sort(high), low + 2 * eps, side="right") - ~narrow
    surely_exceed = n - np.searchsorted(np.sort(low), high - 2 * eps, side="left") - narrow
    return may_exceed < k, surely_exceed >= k


def _signed_intervals(state, k, which):
    """Centres and half widths, signed so that the highest are sought, and the threshold.

    The threshold lies halfway between the k-th centre and the next.
    """
    sign = 1 if which == "highest" else -1
    centre = (state.ci_low + state.ci_high) / (2 * sign)
    return centre, (state.ci_high - state.ci_low) / 2, np.sort(centre)[[-k - 1, -k]].mean()


def tied_filters(state, k, which, eps):
    """How many filters outside a decided set lie within 2 eps of its last member."""
    centre, _, _ = _signed_intervals(state, k, which)
    last = centre[state.status == "top"].min()
    return int((centre[state.status == "rest"] >= last - 2 * eps).sum())


def rounds_to_decide(state, k, which, eps, delta, bound, singles=None):
    """Rounds that the set takes in all, if means and variances stay as they are.

    Args:
        state: Estimate.
        k: int, size of the set.
        which: "lowest" or "highest".
        eps: tolerance, in units of V.
        delta: error probability of all intervals together.
        bound: one of FORECASTS.
        singles: int, samples a round; None if each active filter is sampled in every round.

    Returns:
        A float, or None if the set is decided, a filter has under ten samples, or no number of
        samples up to 1e9 would decide.
    """
    if not state.active.any() or state.samples[state.active].min() < 10:
        return None
    centre, _, threshold = _signed_intervals(state, k, which)
    active = state.active  # only these need samples
    t = np.unique(np.geomspace(1, 1e9, 400).astype(int))[:, None, None]  # (T, 1, 1)
    counts = np.maximum(state.counts, 2)
    variance = (state.m2 / (counts - 1))[:, active]
    half = FORECASTS[bound](state, t, variance, state.parts[:, active], delta)
    clear = half <= abs(centre[active] - threshold) + eps
    needed = np.where(clear.any(0), t[np.argmax(clear, axis=0), 0, 0], np.inf)
    missing = np.maximum(needed - state.samples[active], 0)
    rounds = state.rounds + max(missing.max(), missing.sum() / singles if singles else 0)
    return float(rounds) if np.isfinite(rounds) else None


def _future_sequence(state, t, variance, parts, delta):
    """Half widths of `sequence` after t samples of each part.

    t (T, 1, 1) int; variance and parts (parts, n) -> (T, n).
    """
    reach, n_means = abs(state.limits).max(0), state.m2.size
    variance = variance / reach**2
    steps = np.diff(t, axis=0, prepend=0)
    bet, psi = _bet(1 / t + variance, t, n_means, delta)
    half = np.log(2 * n_means / delta) + np.cumsum(steps * psi * variance, 0)
    return (reach * half / np.cumsum(steps * bet, 0) * parts).sum(1)


def _future_asymptotic(state, t, variance, parts, delta):
    """Half widths of `asymptotic`, as _future_sequence."""
    errors = _asymptotic_errors(t[:, :, 0], _n_intervals(state), delta)  # (T, 1)
    half = errors * np.sqrt((variance * parts).sum(0) / t[:, :, 0])
    return np.where(t[:, :, 0] < START, np.inf, half)


FORECASTS = {"sequence": _future_sequence, "asymptotic": _future_asymptotic}
