"""Accuracy by group, and its intervals (all of 95 %)."""

import numpy as np
import pandas as pd

from datasets import GROUP_NAMES, GROUPS

# What is compared, as tables and figures name it.
METHODS = {"nothing": "nothing removed", "threshold": "threshold shifted", "random": "random filters removed",
           "shapley": "negative filters removed", "random+threshold": "random filters and threshold",
           "shapley+threshold": "negative filters and threshold"}
Z = 1.959964  # standard normal quantile of a two-sided 95 % interval


def wilson(hits, n):
    """Wilson's interval of the proportion hits / n: (low, high)."""
    p, z = hits / n, Z ** 2 / n
    centre, half = p + z / 2, np.sqrt(z * (p * (1 - p) + z / 4))
    return (centre - half) / (1 + z), (centre + half) / (1 + z)


def accuracy(correct, group):
    """Accuracy of each group, then of "balanced" (their unweighted mean) and "worst" (the lowest).

    correct (N,) bool; group (N,) int: index into GROUPS, or -1 everywhere for a set without groups,
    which gives one row, "all". Columns: group, accuracy, ci_low, ci_high, n_images.
    """
    rows = []
    for index in np.unique(group):
        n, hits = int((group == index).sum()), int(correct[group == index].sum())
        rows.append(("all" if index < 0 else GROUP_NAMES[index], hits / n, *wilson(hits, n), n))
    if len(rows) > 1:
        share, n = np.array([row[1] for row in rows]), np.array([row[4] for row in rows])
        half = Z * np.sqrt((share * (1 - share) / n).sum()) / len(rows)
        worst = rows[share.argmin()]
        rows += [("balanced", share.mean(), share.mean() - half, share.mean() + half, int(n.sum())), ("worst", *worst[1:])]
    return pd.DataFrame(rows, columns=["group", "accuracy", "ci_low", "ci_high", "n_images"])


def balanced(correct, group):
    """The unweighted mean of the groups' accuracies."""
    return np.mean([correct[group == index].mean() for index in np.unique(group)])


def fewest_within_one_se(correct, group):
    """The first of several steps, correct (steps, N) bool, that is about as good in balanced accuracy as the best.

    About as good: less than the best by at most the standard error of the difference, paired over images
    (after the one-standard-error rule of Breiman et al. 1984, which takes the best's own standard error). So
    what is chosen does little more than it must.
    """
    best = correct[int(np.argmax([balanced(step, group) for step in correct]))].astype(int)
    groups = [group == index for index in np.unique(group)]
    for number, step in enumerate(correct):
        differences = [best[members] - step[members] for members in groups]
        standard_error = np.sqrt(sum(some.var() / len(some) for some in differences)) / len(groups)
        if np.mean([some.mean() for some in differences]) <= standard_error:
            return number


def change(before, after, group, seed, resamples=2000):
    """Change of accuracy, after - before, of each group and balanced, with paired bootstrap intervals.

    before, after: (N,), whether each image is right, or how often (a mean over random removals); group (N,) int.
    Columns: group, change, ci_low, ci_high. The intervals are over images, for the networks as they are.
    """
    rng = np.random.default_rng(seed)
    means, draws = [], []
    for index in np.unique(group):
        difference = after[group == index].astype(float) - before[group == index]
        n = len(difference)
        means.append(difference.mean())
        draws.append(rng.multinomial(n, np.full(n, 1 / n), size=resamples) @ difference / n)
    means.append(np.mean(means))
    draws.append(np.mean(draws, axis=0))
    low, high = np.percentile(draws, [2.5, 97.5], axis=1)
    return pd.DataFrame({"group": [GROUP_NAMES[index] for index in np.unique(group)] + ["balanced"],
                         "change": means, "ci_low": low, "ci_high": high})


def auc_within_race(before, after, group, seed, resamples=2000):
    """AUC among the faces of one race before and after, and its change with a paired bootstrap interval.

    The AUC is the chance that a man's margin is above a woman's; no threshold moves it. before, after: (N,)
    margins of the same images. Columns: group (the race), before, after, change, ci_low, ci_high.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for race in dict.fromkeys(race for race, _ in GROUPS):
        men, women = (np.flatnonzero(group == GROUPS.index((race, gender))) for gender in ("Male", "Female"))
        above = [np.sign(margin[men][:, None] - margin[women]) / 2 + 0.5 for margin in (before, after)]  # (men, women)
        draws_of_men, draws_of_women = (rng.multinomial(len(some), np.full(len(some), 1 / len(some)), size=resamples)
                                        / len(some) for some in (men, women))
        changes = ((draws_of_men @ (above[1] - above[0])) * draws_of_women).sum(1)
        rows.append((race, above[0].mean(), above[1].mean(), above[1].mean() - above[0].mean(),
                     *np.percentile(changes, [2.5, 97.5])))
    return pd.DataFrame(rows, columns=["group", "before", "after", "change", "ci_low", "ci_high"])


def percent(table):
    """Rows of accuracy or change as text: "62.4 (58.1 to 66.5)"; a change has its sign."""
    name, sign = ("change", "+") if "change" in table else ("accuracy", "")
    points = (100 * table[[name, "ci_low", "ci_high"]]).round(1) + 0.0  # + 0.0: no "-0.0"
    return [f"{mean:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})" for mean, low, high in points.to_numpy()]
