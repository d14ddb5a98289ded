"""What cdep.py measures, as tables and text: means over trainings with 95 % intervals."""

import numpy as np
import pandas as pd
from scipy import stats

from penalties.losses import METHODS
from penalties.measures import score_validation

KEYS = ["method", "strength", "seed"]
IMAGE_COLUMNS = {  # measure -> what tables call it
    "same": "decoy as in training",
    "inverted": "decoy inverted",
    "random": "decoy random",
    "absent": "no decoy",
    "worst_group": "worst class, inverted",
}
TABLE_COLUMNS = {
    "same": "accuracy",
    "flips": "predictions that a swap changes",
    "worst_group": "worst group",
    "false_positives_0": "false positives, first group",
    "false_positives_1": "false positives, second group",
}
EXPLAINED_COLUMNS = {
    "share_cd": "CD's share, published rule",
    "share_shapley": "CD's share, rule shapley",
    "gradient": "gradient's share",
}
PATCH_COLUMNS = {  # of images that are also measured as they are
    "untouched": "accuracy, all images as they are",
    "auc_untouched": "AUC, all images",
    "f1_untouched": "F1, all images",
    "auc_absent": "AUC, without patch images",
    "f1_absent": "F1, without patch images",
    "auc_inverted": "AUC, patches on malignant images",
}
MIN_TRAININGS = 3  # that an interval needs
CONCEALED = 0.5  # an explanation conceals if it falls below this share of what it was, and
RELIED = 0.5  # reliance stays above this share


def key_of(row):
    """Method, lambda and seed of a row of the record."""
    return tuple(row[name] for name in KEYS)


def mean_measures(record, method, strength, seeds):
    """Means of a method's validation measures over seeds: {measure: float}."""
    rows = pd.DataFrame(record["trainings"])
    rows = rows[(rows["method"] == method) & (rows["strength"] == strength)]
    rows = rows[rows["seed"].isin(seeds)]
    return rows.drop(columns=[*KEYS, "seconds"]).mean().to_dict()


def interval(values):
    """Mean and 95 % t interval of trainings: (mean, low, high).

    Of fewer than MIN_TRAININGS the interval is NaN: that of two is wider than all that can be.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < MIN_TRAININGS:
        return values.mean(), np.nan, np.nan
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean(), values.mean() - half, values.mean() + half


def result_frame(record):
    """Reported measures of each method, a DataFrame.

    Its columns: method, strength, measure, mean, ci_low, ci_high, trainings. Measures are in
    [0, 1]. reliance is the accuracy lost when decoys are inverted; of tables, flips. gap is the
    false positive rate of the first group less that of the second.
    """
    rows, lines = with_reliance(pd.DataFrame(record["results"])), []
    for (method, strength), part in rows.groupby(["method", "strength"], sort=False):
        for name in part.columns.drop(KEYS):
            mean, low, high = interval(part[name])
            signed = name == "gap" or (name == "reliance" and "flips" not in part)
            low, high = np.clip((low, high), -1 if signed else 0, 1)  # of shares, or differences
            lines.append((method, strength, name, mean, low, high, len(part)))
    columns = ["method", "strength", "measure", "mean", "ci_low", "ci_high", "trainings"]
    return pd.DataFrame(lines, columns=columns)


def with_reliance(rows):
    """Rows of measures with what follows from them: reliance, and of tables gap."""
    if "flips" in rows:
        gap = rows["false_positives_0"] - rows["false_positives_1"]
        return rows.assign(reliance=rows["flips"], gap=gap)
    return rows.assign(reliance=rows["same"] - rows["inverted"])


def validation_curves(record):
    """Each method's score on validation rows against lambda, a DataFrame.

    Its columns: method, strength, mean, ci_low, ci_high.
    The score is what chooses lambda for images and words: the lowest accuracy over the conditions.
    For tables the share of predictions that a swap does not change.
    """
    rows, lines = pd.DataFrame(record["trainings"]), []
    for (method, strength), part in rows.groupby(["method", "strength"], sort=False):
        if "flips" in part:
            scores = 1 - part["flips"]
        else:
            scores = [score_validation(row, row) for row in part.to_dict("records")]
        lines.append((method, strength, *interval(scores)))
    return pd.DataFrame(lines, columns=["method", "strength", "mean", "ci_low", "ci_high"])


def columns_of(record):
    """The measures that tables of a record show, {measure: heading}."""
    is_table = "flips" in record["results"][0]
    return TABLE_COLUMNS if is_table else IMAGE_COLUMNS


def method_text(method, strength):
    """A method and its lambda: "CDEP as published, 10"."""
    label = METHODS[method].label
    return f"{label}, {strength:g}" if METHODS[method].has_strength else label


def percent_text(row, digits=1):
    """A mean with its interval in %: "93.4 (92.9 to 93.9)"."""
    mean, low, high = (100 * row[name] for name in ("mean", "ci_low", "ci_high"))
    if np.isnan(low):
        return f"{mean:.{digits}f}"
    text = f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
    return text.replace("-0.0 ", "0.0 ").replace("-0.0)", "0.0)")


def text_frame(frame, columns):
    """A DataFrame of texts: a row a method, a column a measure. frame: as from result_frame."""
    lines = []
    for (method, strength), part in frame.groupby(["method", "strength"], sort=False):
        part = part.set_index("measure")
        texts = [percent_text(part.loc[name]) for name in columns]
        lines.append([method_text(method, strength), *texts])
    return pd.DataFrame(lines, columns=["method, lambda", *columns.values()])


def concealed(frame):
    """Methods by whose training an explanation stopped showing a decoy that answers still follow.

    Compared with no penalty: the share falls below CONCEALED of what it was, but reliance stays
    above RELIED of what it was. Returns a list of (method, strength, measure, before, after,
    reliance before, reliance after).
    """
    means = frame.set_index(["method", "strength", "measure"])["mean"].sort_index()
    before, cases = means.loc["vanilla", 0.0], []
    for method, strength in dict.fromkeys(zip(frame["method"], frame["strength"])):
        after = means.loc[method, strength]
        if after["reliance"] <= RELIED * before["reliance"] or METHODS[method].erases:
            continue
        for name in EXPLAINED_COLUMNS:
            if after[name] < CONCEALED * before[name]:
                pairs = (before[name], after[name], before["reliance"], after["reliance"])
                cases.append((method, strength, name, *pairs))
    return cases


def concealed_text(frame):
    """What `concealed` finds, a list of lines; one line if it finds nothing."""
    lines = []
    for method, strength, name, before, after, relied, relies in concealed(frame):
        lines.append(
            f"{method_text(method, strength)}: {EXPLAINED_COLUMNS[name]} falls from {before:.1%} "
            f"to {after:.1%}, but reliance on the decoy only from {relied:.1%} to {relies:.1%}."
        )
    return lines or ["No method made an explanation clean while its answers followed the decoy."]


def summary_text(record):
    """What cdep.py prints at its end."""
    rows, run = record["rows"], record["run"]
    frame = result_frame(record)
    seeds = len({row["seed"] for row in record["results"]})
    patches = []
    if "untouched" in record["results"][0]:
        text = text_frame(frame, PATCH_COLUMNS).to_string(index=False)
        patches = ["\nMalignant against benign images, in %", text]
    parts = [
        f"{run['EXPERIMENT']}, {run['arch']}: {rows['training']:,} training and "
        f"{rows['validation']:,} validation rows; results are of {rows['reported']:,} "
        f"{record['reported']} rows, means of {seeds} trainings with 95 % intervals.",
        "\nAccuracy and what it hangs on, in %",
        text_frame(frame, columns_of(record)).to_string(index=False),
        *patches,
        "\nWhat explanations say of the decoy, in %, and how far answers follow it (reliance)",
        text_frame(frame, EXPLAINED_COLUMNS | {"reliance": "reliance"}).to_string(index=False),
        "\n" + "\n".join(concealed_text(frame)),
    ]
    return "\n".join(parts)
