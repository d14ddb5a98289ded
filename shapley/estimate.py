"""What a run of the bandit knows: running moments of marginals, values, intervals, status."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Estimate:
    """Result of tmab_shapley, and the state from which it goes on.

    Arrays have shape (n_filters,) unless stated. A value is the sum of the means of its parts.
    Without guesses there is one part, the marginals. With guesses there are three: the marginals
    minus their guesses; the guesses, of which there are many more; and the marginals alone. The
    value is the sum of the first two, or the third.
    """

    values: np.ndarray  # float64, the Shapley values
    ci_low: np.ndarray  # float64, confidence limits that hold for all filters at once
    ci_high: np.ndarray
    # float64, sum over samples: the share of the order that was truncated; of the paper's sampler
    # 1 for a truncated sample, else 0
    truncated: np.ndarray
    limits: np.ndarray  # (2, parts, 1) float64, lowest and highest possible sample
    counts: np.ndarray  # (parts, n_filters) int64, number of samples
    means: np.ndarray  # (parts, n_filters) float64
    m2: np.ndarray  # (parts, n_filters) float64, sum of squared deviations from the mean
    # (4, parts, n_filters) float64, sums behind bound="sequence", see intervals.sequence: of l / b,
    # l X / b, psi(l) ((X - m) / b)^2, and squared deviations from the mean so far
    sequence: np.ndarray
    plain: np.ndarray  # bool, of three parts the third is the value
    active: np.ndarray  # bool, the paper's U: not yet separated from the k-th value
    close: np.ndarray  # bool, among the 2 k most extreme at the last look: sampled more often
    status: np.ndarray  # str, "top" or "rest" if certified by the intervals, else "undecided"
    clipped: np.ndarray  # int64, samples whose marginal was clipped
    excess: np.ndarray  # float64, sum over samples: what clipping took from them
    # (looks, 5) int64, at each regular look: rounds, evaluations, active filters, those certified
    # as top, and as rest
    race: np.ndarray
    rounds: int = 0
    evaluations: int = 0  # of V
    guesses: int = 0  # of all marginals at a coalition

    @property
    def samples(self):
        """Number of marginals sampled, (n_filters,) int64."""
        return self.counts[-1]

    @property
    def parts(self):
        """Which parts the values are sums of, (parts, n_filters) bool."""
        return value_parts(self.plain, len(self.counts))

    @property
    def decided(self):
        """Whether the set is decided: then it is the filters with status "top"."""
        return bool((self.status != "undecided").all())


def new_estimate(n_filters, limits):
    """The Estimate before the first round.

    Args:
        n_filters: int.
        limits: (2, parts) or, for one part, (2,) float: lowest and highest possible sample.
    """
    limits = np.reshape(limits, (2, -1, 1)).astype(float)
    parts = limits.shape[1]
    width = (limits[1] - limits[0])[:2].sum()
    return Estimate(
        values=np.zeros(n_filters),
        ci_low=np.full(n_filters, -width),
        ci_high=np.full(n_filters, width),
        truncated=np.zeros(n_filters),
        limits=limits,
        counts=np.zeros((parts, n_filters), dtype=np.int64),
        means=np.zeros((parts, n_filters)),
        m2=np.zeros((parts, n_filters)),
        sequence=np.zeros((4, parts, n_filters)),
        plain=np.zeros(n_filters, dtype=bool),
        active=np.ones(n_filters, dtype=bool),
        close=np.zeros(n_filters, dtype=bool),
        status=np.full(n_filters, "undecided"),
        clipped=np.zeros(n_filters, dtype=np.int64),
        excess=np.zeros(n_filters),
        race=np.zeros((0, 5), dtype=np.int64),
    )


def value_parts(plain, n_parts):
    """Which parts a value is the sum of: plain (n,) bool -> (n_parts, n) bool."""
    if n_parts < 3:
        return np.ones((n_parts, len(plain)), dtype=bool)
    return np.stack([~plain, ~plain, plain])


def add_moments(state, sampled, samples):
    """Add one sample to means and squared deviations where `sampled` (Welford 1962).

    Args:
        state: Estimate, changed in place.
        sampled: (parts, n_filters) bool.
        samples: (sampled.sum(),) float64, the samples in the order of `sampled`.
    """
    state.counts[sampled] += 1
    deviation = samples - state.means[sampled]
    state.means[sampled] += deviation / state.counts[sampled]
    state.m2[sampled] += deviation * (samples - state.means[sampled])
    update_values(state)


def update_values(state):
    """Set the values to what the means of their parts say."""
    state.values = (state.means * state.parts).sum(0)


def squared_errors(counts, m2):
    """Squared standard errors of the parts' means, 0 below two samples.

    counts, m2: (parts, n_filters), as in Estimate -> (parts, n_filters) float64.
    """
    counts = np.maximum(counts, 2)
    return m2 / (counts - 1) / counts


def standard_errors(counts, m2, parts=None):
    """Standard errors of the values, NaN below two samples.

    With guesses the two parts of a value count as uncorrelated, which is exact for guesses whose
    errors do not depend on what they guess.

    counts, m2, parts: (parts, n_filters), as in Estimate; None: all -> (n_filters,) float64.
    """
    parts = np.ones_like(counts, dtype=bool) if parts is None else parts
    errors = np.sqrt((squared_errors(counts, m2) * parts).sum(0))
    return np.where(((counts > 1) | ~parts).all(0), errors, np.nan)


def reliability(state):
    """Reliability of the values: 1 - mean squared standard error / variance of the values.

    Over the filters with at least two samples, with the standard errors of standard_errors. Near 1:
    precise; 0 or less: only noise.
    """
    errors = standard_errors(state.counts, state.m2, state.parts)
    sampled = ~np.isnan(errors)
    variance = state.values[sampled].var() if sampled.any() else 0.0
    if not variance:
        return 0.0
    return float(1 - (errors[sampled] ** 2).mean() / variance)


def truncated_share(state):
    """Mean share of an order that was truncated, over all samples."""
    return float(state.truncated.sum() / state.samples.sum())


def clipped_share(state):
    """Share of the marginals that were clipped."""
    return float(state.clipped.sum() / state.samples.sum())


def largest_shift(state):
    """By how much clipping has moved a value at most, in units of V."""
    return float(abs(state.excess / np.maximum(state.samples, 1)).max())
