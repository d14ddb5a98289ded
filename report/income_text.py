"""What income.py prints, and texts that its figures and pages share."""

import numpy as np
import pandas as pd

from report import metrics
from report.income import RIVAL, mean_values, rank_correlations
from tabular.dense import ARCHITECTURES

RULE_LABELS = {
    "epsilon": "epsilon (0.01)",
    "z": "z, biases keep their part",
    "z spread": "z, biases spread",
    "gamma": "gamma (0.25)",
}
MEASURE_LABELS = {  # axis labels
    "permutation": "accuracy lost when\nshuffled, points",
    "swap": "predictions changed\nby a swap, %",
    "truth": "labels that the\nknown rule changes, %",
}
SHORT = {"relevance": "relevance", "permutation": "shuffle", "swap": "swap", "truth": "rule"}
EXPLAINED = """
What predictions hang on, in %, all rows; the largest swap on top
  relevance: share of |relevance|, {rule} rule
  shuffle: accuracy lost, in points, when the attribute is shuffled among people
  swap: predictions that change when it takes another value (sex, race: that of the other)"""
EXPLAINED_RULE = """
  rule: labels that the known rule of the drawn table changes by the same swap: the truth"""
TASKS = {"adult": "UCI Adult", "compas": "COMPAS"}


def measure_label(measure):
    """A measure of attributes.csv in short: "relevance", "shuffle", "swap" or "rule"."""
    return SHORT[measure.partition(":")[0]]


def data_label(facts):
    """What the rows are: "UCI Adult", or that they are drawn."""
    return "a drawn table" if facts["is_drawn"] else TASKS[facts["task"]]


def mean_text(values, factor=100, digits=1):
    """Mean and range of several trainings: "85.1 (84.9 to 85.3)", or "85.1" of one."""
    values = factor * pd.Series(values, dtype=float)
    text = f"{values.mean():.{digits}f}"
    if len(values) == 1:
        return text
    return f"{text} ({values.min():.{digits}f} to {values.max():.{digits}f})"


def summary_text(results, rule):
    """What income.py prints at its end. rule: str, the rule of relevance to compare."""
    facts, rows = results.facts, results.facts["rows"]
    explained = EXPLAINED.format(rule=rule) + EXPLAINED_RULE * facts["is_drawn"]
    parts = [
        f"{data_label(facts)}: {rows['training']:,} training and {rows['validation']:,} validation "
        f"rows; results are of {rows['reported']:,} {facts['reported']} rows.",
        "\nAccuracy in %, mean and range of trainings",
        accuracy_frame(results.accuracy, facts["reported"]).to_string(index=False),
        "\nRelevance that arrives at the inputs for an output of 1, by dense layer (1: all).\n"
        f"All layers by the {rule} rule took {facts['matrix_seconds'][rule]} s.",
        conservation_frame(results.layers).to_string(),
        explained,
        attribute_frame(results.attributes, rule).to_string(),
        "\nRank correlation over attributes (1: the same order), mean and range of trainings",
        correlation_frame(results.attributes, rule).to_string(index=False),
        f"\nShares of people predicted {facts['label']}, in %, with 95 % intervals",
        rate_frame(results.rates).to_string(index=False),
        fairlearn_text(results.rates),
        "\nAccuracy, and differences between groups, in %, with 95 % intervals",
        repair_frame(results.repairs).to_string(index=False),
        "\n" + "\n".join(disagreements(results.attributes, rule)),
    ]
    return "\n".join(parts)


def accuracy_frame(accuracy, reported):
    """Accuracy by model, mean and range over trainings. reported: "test" or "validation"."""
    lines = []
    for (model, kind), rows in accuracy.groupby(["model", "kind"], sort=False):
        scores = [mean_text(rows[f"{part}_accuracy"]) for part in ("train", "test")]
        lines.append((model_label(model, kind), len(rows), *scores))
    return pd.DataFrame(lines, columns=["model", "trainings", "training rows", f"{reported} rows"])


def model_label(model, kind):
    """A model of accuracy.csv: "row 9, early stopping", or a rival's name."""
    if kind == RIVAL:
        return model
    return f"row {model}, {kind}" if model in ARCHITECTURES else f"the network, {kind}"


def conservation_frame(layers):
    """The sum of relevance at the inputs for an output of 1: rules by layers, texts."""
    ratios = layers.groupby(["rule", "layer"], sort=False)["ratio"].first().unstack()
    ratios = ratios.rename(index=RULE_LABELS).rename_axis(index=None, columns="layer")
    return ratios.map(short_number)


def short_number(value):
    """A number in at most five characters: 0.98, 13, -3e4."""
    if abs(value) >= 1000:
        return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    digits = 0 if abs(value) >= 10 else 1 if abs(value) >= 1.95 else 2
    return f"{value:.{digits}f}".replace("-0.00", "0.00")


def attribute_frame(attributes, rule, group="all"):
    """Each attribute by each measure, as texts, sorted by the swap."""
    means = mean_values(attributes, group)["mean"].unstack("measure")
    order = means.sort_values("swap", ascending=False).index
    columns = [f"relevance: {rule}", "permutation", "swap"]
    columns += ["truth"] * ("truth" in means)
    table = (100 * means.loc[order, columns]).map("{:.1f}".format).replace("-0.0", "0.0")
    return table.rename(columns=measure_label).rename_axis(index=None, columns=None)


def correlation_frame(attributes, rule):
    """Rank correlations of the measures, with one rule of relevance."""
    table = rank_correlations(attributes)
    kept = [f"relevance: {rule}", "permutation", "swap", "truth"]
    table = table[table["first"].isin(kept) & table["second"].isin(kept)]
    texts = []
    for row in table.itertuples():
        span = f" ({row.min:.2f} to {row.max:.2f})" if row.min < row.max else ""
        value = f"{row.mean:.2f}{span}"
        texts.append((measure_label(row.first), measure_label(row.second), value))
    return pd.DataFrame(texts, columns=["of", "and", "correlation"])


def rate_frame(table):
    """Rates by group and their differences, a column a rate, as texts."""
    table = table[table["ci_low"].notna()]
    table = table.assign(text=metrics.format_percent(table))
    wide = table.pivot(index=["attribute", "group"], columns="rate", values="text")
    order = list(dict.fromkeys(zip(table["attribute"], table["group"])))
    wide = wide.loc[order, list(dict.fromkeys(table["rate"]))]
    return wide.reset_index().rename_axis(columns=None)


def fairlearn_text(table):
    """Differences by fairlearn's functions, in two lines."""
    lines = []
    for rate, rows in table[table["ci_low"].isna()].groupby("rate", sort=False):
        texts = [f"{100 * row.value:.1f} by {row.attribute}" for row in rows.itertuples()]
        lines.append(f"fairlearn's {rate}: {', '.join(texts)}")
    return "\n".join(lines)


def repair_frame(repairs):
    """Accuracy and the differences in selection rates of each repair, as texts."""
    lines = []
    for name, rows in repairs.groupby("repair", sort=False):
        accuracy = rows.iloc[:1][["accuracy", "accuracy_low", "accuracy_high"]]
        accuracy = accuracy.set_axis(["accuracy", "ci_low", "ci_high"], axis=1)
        strength = rows["strength"].iloc[0]
        label = f"{name}, lambda {strength:g}" if strength else name
        line = {"": label, "accuracy": metrics.format_percent(accuracy)[0]}
        for attribute, part in rows.groupby("attribute", sort=False):
            selection = part[part["rate"] == "selection rate"]
            odds = part[part["rate"] == "equalised odds difference"]
            line[f"selection, {selection['group'].iloc[0]}"] = metrics.format_percent(selection)[0]
            line[f"odds, {attribute}"] = metrics.format_percent(odds)[0]
            swap = part["swap"].iloc[0]
            line[f"swap of {attribute}"] = "-" if np.isnan(swap) else f"{100 * swap:.1f}"
        lines.append(line)
    return pd.DataFrame(lines)


def disagreements(attributes, rule, groups=("sex", "race")):
    """Sentences on where relevance and swaps part: a list of str."""
    means = mean_values(attributes)["mean"].unstack("measure")
    relevance = f"relevance: {rule}"
    ranks = means.rank(ascending=False, method="min")
    lines = []
    for name in groups:
        lines.append(
            f"{name}: number {ranks.loc[name, 'swap']:.0f} of {len(means)} by swaps "
            f"({means.loc[name, 'swap']:.1%} of predictions change), number "
            f"{ranks.loc[name, relevance]:.0f} by relevance ({means.loc[name, relevance]:.1%})."
        )
    if "truth" in means:
        unused = means["truth"] == 0
        lines.append(
            f"The {unused.sum()} attributes that the known rule never looks at hold "
            f"{means.loc[unused, relevance].sum():.0%} of |relevance|."
        )
    return lines
