"""Scores by group, and their 95 % intervals."""

import functools

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from datasets import GROUP_NAMES, GROUPS
from report.calibration import calibration_error

ALPHA = 0.05  # all intervals miss with this probability
Z = stats.norm.ppf(1 - ALPHA / 2)  # standard normal quantile of a two-sided interval
RESAMPLES = 2000  # of the bootstrap over images
# Extremes of several groups, and sums of absolute differences. Resampled, they come out more
# extreme, so they get no interval.
NO_INTERVAL = ("worst", "gap", "equalised odds", "ECE", "ECE all")
SHARES = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2)  # of the filters, in `concentration`

# ----------------------------------------------------------------------------- one set of images


def wilson(hits, n):
    """Wilson's 95 % interval of the proportion hits / n: (low, high), numbers or arrays."""
    return proportion_confint(hits, n, alpha=ALPHA, method="wilson")


def accuracy_by_group(correct, group):
    """Accuracy of each group, of "balanced" (their unweighted mean) and "worst" (the lowest).

    The interval of a group is Wilson's, that of "balanced" the normal one of independent groups.

    Args:
        correct: (N,) bool, whether each image is classified correctly.
        group: (N,) int, index into GROUPS; or -1 everywhere for a set without groups, which gives
            one row, "all".

    Returns:
        A DataFrame: group, accuracy, ci_low, ci_high (in [0, 1]), n_images.
    """
    indices = np.unique(group)
    n = np.array([(group == index).sum() for index in indices])
    hits = np.array([correct[group == index].sum() for index in indices])
    accuracy, (low, high) = hits / n, wilson(hits, n)
    names = ["all" if index < 0 else GROUP_NAMES[index] for index in indices]
    rows = list(zip(names, accuracy, low, high, n.tolist()))
    if len(rows) > 1:
        mean, worst = accuracy.mean(), rows[accuracy.argmin()]
        half = Z * np.sqrt((accuracy * (1 - accuracy) / n).sum()) / len(rows)
        rows.append(("balanced", mean, mean - half, mean + half, int(n.sum())))
        rows.append(("worst", *worst[1:]))
    return pd.DataFrame(rows, columns=["group", "accuracy", "ci_low", "ci_high", "n_images"])


def balanced_accuracy(correct, group):
    """The unweighted mean of the groups' accuracies: correct (N,) bool, group (N,) int -> float."""
    return np.mean([correct[group == index].mean() for index in np.unique(group)])


def fewest_within_one_se(correct, group):
    """The first of several steps whose balanced accuracy is about as good as the best.

    About as good: below the best by at most one standard error of the difference, paired over
    images. So what is chosen changes little more than it must. After the one-standard-error rule
    of Breiman et al. (1984), which takes the standard error of the best itself.

    Args:
        correct: (steps, N) bool, whether each image is classified correctly after each step.
        group: (N,) int.

    Returns:
        int, the index of the step.
    """
    accuracies = [balanced_accuracy(step, group) for step in correct]
    best = correct[int(np.argmax(accuracies))].astype(int)
    return next(
        number for number, step in enumerate(correct) if _is_within_one_se(step, best, group)
    )


def _is_within_one_se(step, best, group):
    """Whether a step loses at most one standard error of the loss. step, best: (N,) 0 or 1."""
    members = [group == index for index in np.unique(group)]
    losses = [best[rows] - step[rows] for rows in members]  # of each group: -1, 0 or 1 an image
    variance = sum(loss.var() / len(loss) for loss in losses)
    standard_error = np.sqrt(variance) / len(losses)
    return np.mean([loss.mean() for loss in losses]) <= standard_error


# ----------------------------------------------------------------------------- scores of faces


def group_scores(margins, male, group, weights):
    """All scores of a network on a set of faces, for D ways to weigh the faces.

    - the accuracy of each group; "balanced", their mean; "worst", the lowest; "gap", the highest
      less the lowest;
    - "equalised odds": fairlearn's equalized_odds_difference between races, the larger of the
      differences of their true and of their false positive rates, positive being "male";
    - "AUC white", "AUC black": the probability that a man's margin is above a woman's of his race,
      a tie being half. No threshold moves it;
    - "ECE": the expected calibration error, each group counted equally.

    Of a set without groups (-1) there are the accuracy, "all", and "ECE all" alone.

    Args:
        margins: (N,) float, a face is called male if its margin is above 0. If all are infinite
            they are decisions without scores: AUC and ECE are NaN.
        male: (N,) int, 1 or 0.
        group: (N,) int, index into GROUPS, all of them present; or -1 everywhere.
        weights: (D, N) float, adding up to 1 in each group.

    Returns:
        {name: (D,) float}.
    """
    correct = (margins > 0) == (male == 1)
    if group[0] < 0:
        return {"all": weights @ correct, "ECE all": calibration_error(margins, correct, weights)}
    rows = [np.flatnonzero(group == index) for index in range(len(GROUPS))]
    scores = {}
    for name, members in zip(GROUP_NAMES, rows):
        scores[name] = weights[:, members] @ correct[members]
    accuracy = np.array(list(scores.values()))  # (groups, D)
    scores["balanced"] = accuracy.mean(0)
    scores["worst"] = accuracy.min(0)
    scores["gap"] = np.ptp(accuracy, axis=0)
    scores["equalised odds"] = _equalised_odds(accuracy)
    for race in dict.fromkeys(race for race, _ in GROUPS):
        men, women = (rows[GROUPS.index((race, gender))] for gender in ("Male", "Female"))
        auc = _weighted_auc(margins[men], margins[women], weights[:, men], weights[:, women])
        scores[f"AUC {race.lower()}"] = auc
    scores["ECE"] = calibration_error(margins, correct, weights / len(rows))
    if np.isinf(margins).all():
        for name in scores:
            if name.startswith(("AUC", "ECE")):
                scores[name] = np.full(len(weights), np.nan)
    return scores


def _equalised_odds(accuracy):
    """The larger difference between races, of men's accuracy or of women's: (groups, D) -> (D,)."""
    differences = []
    for gender in ("Male", "Female"):
        rates = [rate for (_, name), rate in zip(GROUPS, accuracy) if name == gender]
        differences.append(np.ptp(rates, axis=0))
    return np.max(differences, axis=0)


def _weighted_auc(men, women, men_weights, women_weights):
    """The probability that a man's margin is above a woman's, a tie being half.

    Ours, since thousands of bootstrap resamples share one sort here; a test compares it with
    scikit-learn's.

    Args:
        men: (M,) margins.
        women: (W,) margins.
        men_weights: (D, M), rows adding up to 1.
        women_weights: (D, W), rows adding up to 1.

    Returns:
        (D,) float.
    """
    order = np.argsort(women)
    women, women_weights = women[order], women_weights[:, order]
    below = np.cumsum(np.pad(women_weights, ((0, 0), (1, 0))), axis=1)  # [:, i]: of the i lowest
    first, last = (np.searchsorted(women, men, side) for side in ("left", "right"))  # around ties
    return (men_weights * (below[:, first] + below[:, last]) / 2).sum(1)


def score_table(margins, male, group, seed=0):
    """All scores of a repair, with intervals.

    Args:
        margins: one (K, N) array for each training: see `score_changes`.
        male: (N,) int, 1 or 0.
        group: (N,) int, as in `group_scores`.
        seed: int, of the bootstrap.

    Returns:
        A DataFrame: group (the score's name), value, ci_low, ci_high, n_images. The interval of
        one group of one network is Wilson's; NaN for those of NO_INTERVAL.
    """
    table = _with_intervals([margins], male, group, seed)
    table[["ci_low", "ci_high"]] = table[["ci_low", "ci_high"]].clip(0, 1)
    n = {"all": len(group)}  # of scores that are shares of images
    n |= {name: int((group == index).sum()) for index, name in enumerate(GROUP_NAMES)}
    table["n_images"] = [n.get(name, len(group)) for name in table["group"]]
    if len(margins) == 1 and len(margins[0]) == 1:
        grouped = table["group"].isin(n)
        images = table.loc[grouped, "n_images"].to_numpy()
        low, high = wilson(table.loc[grouped, "value"].to_numpy() * images, images)
        table.loc[grouped, "ci_low"], table.loc[grouped, "ci_high"] = low, high
    return table


def score_changes(before, after, male, group, seed=0):
    """Changes of all scores, after - before, with paired intervals.

    Of one network, the interval is that of a bootstrap over faces: it holds for the network as it
    is. With several trainings, which differ by their seed, or several random removals, two
    variances add up: that of the bootstrap, and that of the mean over them (Student's t). The
    interaction of faces and trainings is in both, so the interval is rather too wide.

    Args:
        before: one array for each training: (K, N), margins on the same N faces of K networks,
            whose scores are averaged (K > 1 for random removals).
        after: the same, with as many trainings; K may differ.
        male: (N,) int, 1 or 0.
        group: (N,) int, as in `group_scores`.
        seed: int, of the bootstrap.

    Returns:
        A DataFrame: group (the score's name), change, ci_low, ci_high.
    """
    table = _with_intervals([after, before], male, group, seed)
    return table.rename(columns={"value": "change"})


def _with_intervals(sides, male, group, seed):
    """The scores of one side, or of the first less the second; as in `score_changes`."""
    weights = _bootstrap_weights(group.tobytes(), group.dtype.str, seed)
    differences = []  # of each training: {name: (1 + RESAMPLES,)}
    squares = []  # of each training: {name: squared half width, by the networks of its sides}
    for training in zip(*sides):
        summaries = [_mean_scores(networks, male, group, weights) for networks in training]
        means, half_widths = zip(*summaries)
        differences.append(_subtract(*means))
        squares.append({name: sum(side[name] ** 2 for side in half_widths) for name in means[0]})
    rows = []
    for name in differences[0]:
        values = [difference[name][0] for difference in differences]
        resampled = np.mean([difference[name][1:] for difference in differences], axis=0)
        half = _half_width(values) if len(values) > 1 else np.sqrt(squares[0][name])
        low, high = _widened_interval(np.mean(values), resampled, half)
        if name in NO_INTERVAL:
            low = high = np.nan
        rows.append((name, np.mean(values), low, high))
    return pd.DataFrame(rows, columns=["group", "value", "ci_low", "ci_high"])


def _mean_scores(networks, male, group, weights):
    """Scores averaged over networks, and the half widths of these means over the networks.

    networks: (K, N) margins. Returns {name: (1 + RESAMPLES,)} and {name: float}.
    """
    scores = [group_scores(margins, male, group, weights) for margins in networks]
    means, half_widths = {}, {}
    for name in scores[0]:
        means[name] = np.mean([network[name] for network in scores], axis=0)
        half_widths[name] = _half_width([network[name][0] for network in scores])
    return means, half_widths


def _subtract(first, second=None):
    """The difference of two dicts of arrays; the first alone if there is no second."""
    if second is None:
        return first
    return {name: first[name] - second[name] for name in first}


def _widened_interval(value, resampled, half_width):
    """The bootstrap's interval around a value, and another half width added in quadrature."""
    low, high = np.percentile(resampled, [100 * ALPHA / 2, 100 - 100 * ALPHA / 2])
    return value - np.hypot(value - low, half_width), value + np.hypot(high - value, half_width)


def _half_width(values):
    """Half the width of Student's 95 % interval of the mean of several numbers; 0 of one."""
    n = len(values)
    if n == 1:
        return 0.0
    return stats.t.ppf(1 - ALPHA / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n)


@functools.lru_cache(maxsize=2)
def _bootstrap_weights(group, dtype, seed):
    """Weights of a set of faces, (1 + RESAMPLES, N), adding up to 1 in each group.

    The first are equal. Each further row is a sample drawn from each group with replacement.
    group, dtype: the bytes and the dtype of an (N,) array, which a cache can look up.
    """
    group, rng = np.frombuffer(group, dtype), np.random.default_rng(seed)
    weights = np.empty((1 + RESAMPLES, len(group)))
    for index in np.unique(group):
        n = (group == index).sum()
        weights[0, group == index] = 1 / n
        samples = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)  # (RESAMPLES, n) counts
        weights[1:, group == index] = samples / n
    return weights


# ----------------------------------------------------------------------------- shares of images


def mean_share(right):
    """The share of images that K networks classify correctly, on average, with its interval.

    Wilson's interval of the mean share. Of several networks, the variance of their mean share
    (Student's t) is added.

    Args:
        right: (K, N) bool.

    Returns:
        (share, low, high).
    """
    share, n, half = right.mean(), right.shape[1], _half_width(right.mean(1))
    low, high = wilson(share * n, n)
    return share, share - np.hypot(share - low, half), share + np.hypot(high - share, half)


def paired_difference(after, before):
    """The change, after - before, in the share of images classified correctly, with an interval.

    Newcombe's square-and-add interval for paired shares (1998, Statistics in Medicine 17:2635-2650,
    method 8) from the intervals of `mean_share`. It has a width even where both shares are 0 or 1.
    His method 10 also shrinks a positive correlation by a continuity correction, which is defined
    for one network only. Neither scipy nor statsmodels has either for paired shares.

    Args:
        after: (K, N) bool, of K networks.
        before: (L, N) bool, of L networks on the same images.

    Returns:
        (difference, low, high).
    """
    (p, p_low, p_high), (q, q_low, q_high) = mean_share(after), mean_share(before)
    correlation = _correlation(after.mean(0) - after.mean(), before.mean(0) - before.mean())
    low = p - q - _newcombe_half(p - p_low, q_high - q, correlation)
    return p - q, low, p - q + _newcombe_half(p_high - p, q - q_low, correlation)


def paired_change(after, before):
    """The change, after - before, in the share of images classified correctly, over trainings.

    Two variances add up, as in `score_changes`: of the mean over trainings (Student's t of the
    differences of each) and of the mean over images (normal).

    Args:
        after: (K, N) bool or float, of K trainings: how often each image is right.
        before: (K, N), of the same trainings on the same images.

    Returns:
        (change, low, high).
    """
    difference = np.asarray(after, dtype=float) - before
    change, over_images = difference.mean(), difference.mean(0).std(ddof=1)
    half = Z * over_images / np.sqrt(difference.shape[1])
    half = np.hypot(half, _half_width(difference.mean(1)))
    return change, change - half, change + half


def _correlation(first, second):
    """Pearson's correlation, of (N,) deviations from two means; 0 if either are all 0."""
    scale = np.sqrt((first**2).mean() * (second**2).mean())
    return (first * second).mean() / scale if scale else 0.0


def _newcombe_half(first, second, correlation):
    """One half of the width of a difference, from those of its two correlated terms."""
    return np.sqrt(max(0.0, first**2 + second**2 - 2 * correlation * first * second))


def concentration(values, shares=SHARES):
    """What share of the sum of all values the highest few hold.

    Args:
        values: (n_filters,) float.
        shares: of the filters, in [0, 1]; rounded up to whole filters.

    Returns:
        {share of the filters: share of the sum}, floats.
    """
    ordered, n = np.sort(values)[::-1], len(values)
    return {
        share: float(ordered[: int(np.ceil(share * n))].sum() / values.sum()) for share in shares
    }


def format_percent(table):
    """Rows of a table as text in %: "62.4 (58.1 to 66.5)"; a change has its sign: "+2.0".

    table: a DataFrame with a column change, value or accuracy, and ci_low, ci_high, in [0, 1]; NaN
    gives "".
    """
    name = next(name for name in ("change", "value", "accuracy") if name in table)
    sign = "+" if name == "change" else ""
    percent = 100 * table[[name, "ci_low", "ci_high"]].astype(float)
    percent = percent.round(1) + 0.0  # + 0.0: no "-0.0"
    texts = []
    for mean, low, high in percent.to_numpy():
        if np.isnan(mean):
            texts.append("")
            continue
        interval = "" if np.isnan(low) else f" ({low:{sign}.1f} to {high:{sign}.1f})"
        texts.append(f"{mean:{sign}.1f}{interval}")
    return texts
