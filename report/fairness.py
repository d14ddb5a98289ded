"""Rates of predictions by group, and the differences between groups, with 95 % intervals."""

import numpy as np
import pandas as pd
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

from report import metrics

RATES = {  # name -> which rows of a group it is a share of: function of (N,) label -> (N,) bool
    "selection rate": lambda label: np.ones(len(label), dtype=bool),
    "true positive rate": lambda label: label == 1,
    "false positive rate": lambda label: label == 0,
}
FAIRLEARN = {  # fairlearn's summaries, the larger difference of all groups or rates
    "demographic parity difference": demographic_parity_difference,
    "equalised odds difference": equalized_odds_difference,
}


def rate_table(predicted, table):
    """Rates of predicting 1, by group, and their differences.

    Args:
        predicted: (K, N) int, labels that K networks predict.
        table: Table, the N rows.

    Returns:
        A DataFrame: attribute, group (a level, or "A - B", the difference), rate, value, ci_low,
        ci_high (in [-1, 1]; NaN for fairlearn's), n_rows. Intervals are those of
        metrics.mean_share: Wilson's, wider by what K trainings differ; of differences Newcombe's
        for independent groups.
    """
    rows = []
    for attribute, pair in table.groups.items():
        members = [table.is_level(attribute, level) for level in pair]
        for rate, eligible in RATES.items():
            shares = []
            for level, group in zip(pair, members):
                chosen = group & eligible(table.label)
                shares.append(metrics.mean_share(predicted[:, chosen] == 1))
                rows.append((attribute, level, rate, *shares[-1], int(chosen.sum())))
            difference = independent_difference(shares[1], shares[0])
            both = int((np.any(members, axis=0) & eligible(table.label)).sum())
            rows.append((attribute, f"{pair[1]} - {pair[0]}", rate, *difference, both))
        for name, function in FAIRLEARN.items():
            value = _fairlearn_mean(function, predicted, table, attribute, members)
            chosen = int(np.any(members, axis=0).sum())
            rows.append((attribute, " and ".join(pair), name, value, np.nan, np.nan, chosen))
    columns = ["attribute", "group", "rate", "value", "ci_low", "ci_high", "n_rows"]
    return pd.DataFrame(rows, columns=columns)


def independent_difference(first, second):
    """The difference of two shares of different rows, by Newcombe's square-and-add method.

    first, second: (share, low, high). Returns (difference, low, high).
    """
    (p, p_low, p_high), (q, q_low, q_high) = first, second
    low = p - q - np.hypot(p - p_low, q_high - q)
    return p - q, low, p - q + np.hypot(p_high - p, q - q_low)


def _fairlearn_mean(function, predicted, table, attribute, members):
    """The mean over K networks of one of fairlearn's differences between the two groups."""
    rows = np.any(members, axis=0)
    label, feature = table.label[rows], table.column(attribute)[rows]
    values = [function(label, part[rows], sensitive_features=feature) for part in predicted]
    return float(np.mean(values))


def accuracy(predicted, label):
    """Accuracy of K networks with its interval: (K, N) and (N,) -> (mean, low, high)."""
    return metrics.mean_share(predicted == label)
