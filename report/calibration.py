"""Whether a network is right as often as it says."""

import numpy as np
from scipy.special import expit

BINS = 15  # of equal width between 0 and 1, as Guo et al. (2017) take


def calibration_error(margins, correct, weights):
    """Expected calibration error (Guo et al. 2017), for D ways to weigh the faces.

    The probability that a network of two classes gives to its answer, and how often such answers
    are right, differ by so much on average: the sum over bins of probability of the absolute
    difference of their means, times the bin's share of the faces. Ours, since thousands of
    bootstrap resamples share one binning here; a test compares it with scikit-learn's.

    Args:
        margins: (N,) float, the logit of one class less that of the other.
        correct: (N,) bool, whether the class of the higher logit is right.
        weights: (D, N) float, rows adding up to 1.

    Returns:
        (D,) float.
    """
    confidence = expit(np.abs(margins))
    edges = np.linspace(0, 1, BINS + 1)
    bins = np.searchsorted(edges[1:-1], confidence)  # (N,)
    in_bin = bins[:, None] == np.arange(BINS)  # (N, BINS)
    excess = (correct - confidence)[:, None] * in_bin
    return np.abs(weights @ excess).sum(1)
