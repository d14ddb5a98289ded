"""Scores by group, and their intervals (all of 95 %)."""

import functools

import numpy as np
import pandas as pd

from datasets import GROUP_NAMES, GROUPS

Z = 1.959964  # standard normal quantile of a two-sided 95 % interval
T = dict(enumerate([12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262], 1))  # Student's, by degrees of freedom


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


def scores(margins, male, group, weights):
    """What a network is worth on a set of faces: {name: (D,)}, for D ways to weigh them.

    margins (N,): a face is called male if it is above 0; male, group (N,) int; weights (D, N), adding up to 1 in each group.
    The names: the groups' accuracies; "balanced", their mean; "worst", the lowest; "gap", the highest less the lowest;
    "equalised odds", fairlearn's equalized_odds_difference between races: the larger of the differences of their true and their
    false positive rates, positive being "male"; and of each race "AUC white", ...: the chance that a man's margin is
    above a woman's, which no threshold moves. Of a set without groups (-1) the accuracy alone, "all".
    """
    correct = (margins > 0) == (male == 1)
    if group[0] < 0:
        return {"all": weights @ correct}
    members = [np.flatnonzero(group == index) for index in range(len(GROUPS))]
    found = {name: weights[:, some] @ correct[some] for name, some in zip(GROUP_NAMES, members)}
    accuracy = np.array(list(found.values()))
    found |= {"balanced": accuracy.mean(0), "worst": accuracy.min(0), "gap": np.ptp(accuracy, axis=0)}
    found["equalised odds"] = np.max([np.ptp([rate for (_, of), rate in zip(GROUPS, accuracy) if of == gender], axis=0)
                                      for gender in ("Male", "Female")], axis=0)
    for race in dict.fromkeys(race for race, _ in GROUPS):
        men, women = (members[GROUPS.index((race, gender))] for gender in ("Male", "Female"))
        women = women[np.argsort(margins[women])]
        below = np.cumsum(np.pad(weights[:, women], ((0, 0), (1, 0))), axis=1)  # [:, i]: the weight of the i lowest women
        ends = [np.searchsorted(margins[women], margins[men], side) for side in ("left", "right")]  # a tie is half
        found[f"AUC {race.lower()}"] = (weights[:, men] * (below[:, ends[0]] + below[:, ends[1]]) / 2).sum(1)
    return found


NO_INTERVAL = ("worst", "gap", "equalised odds")  # extremes: resampled, they come out more extreme


def table(margins, male, group, seed=0):
    """All scores of a method, with 95 % intervals: margins as one side of `change`. Columns: group (the score's name), value,
    ci_low, ci_high, n_images. The interval of one group of one network is Wilson's; NaN for those of NO_INTERVAL."""
    found = _told([margins], male, group, seed)
    n = {"all": len(group)} | {name: int((group == index).sum()) for index, name in enumerate(GROUP_NAMES)}
    found["n_images"] = [n.get(name, len(group)) for name in found["group"]]
    if len(margins) == len(margins[0]) == 1:
        grouped = found["group"].isin(n)
        found.loc[grouped, "ci_low"], found.loc[grouped, "ci_high"] = wilson(
            found["value"] * found["n_images"], found["n_images"])
    return found[["group", "value", "ci_low", "ci_high", "n_images"]]


def change(before, after, male, group, seed=0):
    """Change of all scores, after - before, with paired 95 % intervals. Columns: group (the score's name), change, ci_low, ci_high.

    before, after: one array for each training: (K, N), margins on the same N faces of K networks, whose scores are
    averaged (K > 1 for random removals). Of one network, the interval is a bootstrap's over faces: it holds for the network as it is. With
    several trainings, which differ by their seed, or several random removals, two variances add up: the bootstrap's, and that
    of the mean over them (Student's t). How faces and trainings act together is in both, so it is rather too wide.
    """
    return _told([after, before], male, group, seed).rename(columns={"value": "change"})


def _told(sides, male, group, seed):
    """The scores of one side, or of the first less the second; as in table and change."""
    weights = _weights(group.tobytes(), group.dtype.str, seed)
    each, spread = [], []  # of each training: {name: (1 + resamples,)}; {name: squared half width by the networks of a side}
    for training in zip(*sides):
        found = [[scores(some, male, group, weights) for some in margins] for margins in training]
        means = [{name: np.mean([some[name] for some in side], axis=0) for name in side[0]} for side in found]
        each.append({name: means[0][name] - (means[1][name] if len(means) > 1 else 0) for name in means[0]})
        spread.append({name: sum(_half_width([some[name][0] for some in side]) ** 2 for side in found) for name in means[0]})
    rows = []
    for name in each[0]:
        values, drawn = [some[name][0] for some in each], np.mean([some[name][1:] for some in each], axis=0)
        value, (low, high) = np.mean(values), np.percentile(drawn, [2.5, 97.5])
        more = _half_width(values) if len(each) > 1 else np.sqrt(spread[0][name])
        low, high = value - np.hypot(value - low, more), value + np.hypot(high - value, more)
        rows.append((name, value, low, high) if name not in NO_INTERVAL else (name, value, np.nan, np.nan))
    return pd.DataFrame(rows, columns=["group", "value", "ci_low", "ci_high"])


def share(right):
    """The share of images that K networks have right, (K, N) bool, on average: (share, low, high), the 95 % interval.

    Wilson's of the mean; of several networks, how their shares differ (Student's t) adds its variance.
    """
    mean, n, more = right.mean(), right.shape[1], _half_width(right.mean(1))
    low, high = wilson(mean * n, n)
    return mean, mean - np.hypot(mean - low, more), mean + np.hypot(high - mean, more)


def difference(after, before):
    """after - before in the share of images that are right, (K, N) and (L, N) bool of networks on the same N, with its 95 % interval.

    Newcombe's for paired shares (1998, method 10), from those of `share`: so it has a width where both are 0 or 1.
    """
    (p, p_low, p_high), (q, q_low, q_high) = share(after), share(before)
    deviations = [side.mean(0) - side.mean() for side in (after, before)]
    spread = np.sqrt(np.prod([(some ** 2).mean() for some in deviations]))
    correlation = (deviations[0] * deviations[1]).mean() / spread if spread else 0.0

    def half(one, other):
        return np.sqrt(max(0.0, one ** 2 + other ** 2 - 2 * correlation * one * other))

    return p - q, p - q - half(p - p_low, q_high - q), p - q + half(p_high - p, q - q_low)


def _half_width(values):
    """Of Student's 95 % interval of their mean; 0 of one value."""
    n = len(values)
    return T.get(n - 1, 2.262) * np.std(values, ddof=1) / np.sqrt(n) if n > 1 else 0.0


@functools.lru_cache(maxsize=2)
def _weights(group, dtype, seed, resamples=2000):
    """Weights (1 + resamples, N) of a set of faces: all alike, then of samples drawn from each group with replacement."""
    group, rng = np.frombuffer(group, dtype), np.random.default_rng(seed)
    weights = np.empty((1 + resamples, len(group)))
    for index in np.unique(group):
        n = (group == index).sum()
        weights[0, group == index] = 1 / n
        weights[1:, group == index] = rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n
    return weights


def concentration(values, shares=(0.001, 0.01, 0.02, 0.05, 0.1, 0.2)):
    """Share of the values' sum that the highest few of them have: {share of the filters: share of the sum}."""
    ordered = np.sort(values)[::-1]
    return {share: float(ordered[:int(np.ceil(share * len(values)))].sum() / values.sum()) for share in shares}


def percent(table):
    """Rows of value, accuracy or change as text: "62.4 (58.1 to 66.5)"; a change has its sign."""
    name = next(name for name in ("change", "value", "accuracy") if name in table)
    sign = "+" if name == "change" else ""
    points = (100 * table[[name, "ci_low", "ci_high"]].astype(float)).round(1) + 0.0  # + 0.0: no "-0.0"
    return [f"{mean:{sign}.1f}" + ("" if np.isnan(low) else f" ({low:{sign}.1f} to {high:{sign}.1f})")
            for mean, low, high in points.to_numpy()]
