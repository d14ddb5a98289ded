"""Tables and figures of the study of income, from the records of income.py."""

import os

from common.records import load_csv, load_json

from report import income_figures
from report.income import LAST, RIVAL, STOPPED, Results, mean_values, rank_correlations
from report.income_text import (
    RULE_LABELS,
    conservation_frame,
    mean_text,
    rate_frame,
    repair_frame,
    short_number,
)
from tabular.dense import ARCHITECTURES
from tools.recorded import markdown_table

INCOME_TABLES = ("accuracy", "curves", "layers", "attributes", "rates", "repairs")
# Accuracy on training and test rows that the original's table reports for each architecture, in %.
ORIGINAL = {
    "1": (79.64, 42),
    "2": (81.19, 78.643),
    "3": (80.37, 59.787),
    "4": (80.38, 57.14),
    "5": (80.20, 77.25),
    "6": (80.04, 61.16),
    "7": (92.477, 78.84),
    "8": (91.545, 78.68),
    "9": (88.23, 81.78),
    "10": (91.361, 77.86),
}
ORIGINAL_EPOCHS = {"7": "20,000 epochs", "9": "30,000 epochs"}  # where the original says it
NONE = "-"


def income_results(folder):
    """The Results that income.py saved in a folder. Raises InputError."""
    tables = {name: load_csv(f"{folder}/{name}.csv", "income.py", []) for name in INCOME_TABLES}
    for name in ("model", "architecture"):
        for table in tables.values():
            if name in table:
                table[name] = table[name].astype(str)
    return Results(**tables, facts=load_json(f"{folder}/income.json", "income.py"))


def has_income(folder):
    """Whether a folder of records is one of income.py."""
    return os.path.exists(f"{folder}/income.json")


def draw_income(folder):
    """The figures of a folder of income.py, {name: matplotlib Figure}."""
    results = income_results(folder)
    return income_figures.draw_all(results, results.facts["constants"]["RULE"])


def attributes_head_table(folder):
    """The attributes whose groups are compared, and those that swaps change most."""
    results = income_results(folder)
    rule = f"relevance: {results.facts['constants']['RULE']}"
    table = mean_values(results.attributes)
    ranks = table["mean"].unstack("measure").rank(ascending=False, method="min").astype(int)
    order = ranks["swap"].sort_values().index
    compared = results.facts["groups"]
    rows = []
    for name in order:
        if ranks.loc[name, "swap"] <= 5 or name in compared:
            cells = [_range(table.loc[measure, name]) for measure in (rule, "permutation", "swap")]
            places = f"{ranks.loc[name, rule]} / {ranks.loc[name, 'swap']}"
            rows.append([name, *cells, places])
    header = ["attribute", "share of \\|relevance\\|, %", "accuracy lost when shuffled, points"]
    header += ["predictions changed by a swap, %", "place by relevance / by swap"]
    row = rank_correlations(results.attributes).set_index(["first", "second"]).loc[(rule, "swap")]
    correlation = (
        f"Rank correlation of relevance with swaps, over attributes: {row['mean']:.2f} "
        f"({row['min']:.2f} to {row['max']:.2f} in {results.attributes['training'].max() + 1} "
        "trainings)."
    )
    return f"{markdown_table(header, rows)}\n\n{correlation}"


def _range(row, digits=1):
    """A mean over trainings and its range, in %: "5.7 (5.1 to 6.2)"."""
    mean, low, high = (100 * row[name] for name in ("mean", "min", "max"))
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})".replace("-0.0 ", "0.0 ")


def attributes_table(folder):
    """Every attribute by every measure; for groups the swap."""
    results = income_results(folder)
    attributes, rule = results.attributes, f"relevance: {results.facts['constants']['RULE']}"
    table = mean_values(attributes)
    measures = [rule, "permutation", "swap", "truth"]
    measures = [name for name in measures if name in set(attributes["measure"])]
    groups = [name for name in dict.fromkeys(attributes["group"]) if name != "all"]
    by_group = {name: mean_values(attributes, name)["mean"] for name in groups}
    rows = []
    for name in table.loc["swap", "mean"].sort_values(ascending=False).index:
        cells = [f"{100 * table.loc[(measure, name), 'mean']:.1f}" for measure in measures]
        for measure in (rule, "swap"):
            texts = [f"{100 * by_group[group][measure, name]:.1f}" for group in groups]
            cells.append(" / ".join(texts))
        rows.append([name, *[cell.replace("-0.0", "0.0") for cell in cells]])
    names = {rule: "relevance", "permutation": "shuffle", "swap": "swap", "truth": "known rule"}
    header = ["in %, mean of trainings", *(names[measure] for measure in measures)]
    listed = " / ".join(group.partition(": ")[2] for group in groups)
    header += [f"relevance: {listed}", f"swap: {listed}"]
    return markdown_table(header, rows)


def rules_table(folder):
    """For each rule what is conserved, how large relevance is, and how its ranks agree."""
    results = income_results(folder)
    ratios = conservation_frame(results.layers)
    sizes = results.layers.assign(size=results.layers["relevance"].abs())
    sizes = sizes.groupby(["rule", "layer"], sort=False)["size"].sum().unstack()
    correlations = rank_correlations(results.attributes).set_index(["first", "second"])
    rows = []
    for rule, label in RULE_LABELS.items():
        cells = [" ".join(ratios.loc[label]), short_number(sizes.loc[rule].max())]
        cells.append(f"{results.facts['matrix_seconds'][rule]:.1f}")
        for other in ("permutation", "swap"):
            row = correlations.loc[(f"relevance: {rule}", other)]
            cells.append(f"{row['mean']:.2f} ({row['min']:.2f} to {row['max']:.2f})")
        rows.append([label, *cells])
    header = ["rule", "relevance at the inputs / output, first to last layer"]
    header += ["largest sum of \\|relevance\\| / output", "seconds, all layers"]
    header += ["rank correlation of \\|relevance\\| with shuffling", "with swaps"]
    return markdown_table(header, rows)


def architectures_table(folder):
    """The original's table beside ours: accuracy on training and test rows."""
    results = income_results(folder)
    rows = []
    for number, text in ARCHITECTURES.items():
        chosen = results.accuracy[results.accuracy["model"] == number]
        if not len(chosen):
            continue
        stopped, last = (chosen[chosen["kind"] == kind] for kind in (STOPPED, LAST))
        original = " / ".join(f"{value:.1f}" for value in ORIGINAL[number])
        if number in ORIGINAL_EPOCHS:
            original += f" ({ORIGINAL_EPOCHS[number]})"
        rows.append([number, _short_name(text), original, *_scores(stopped), *_scores(last)])
    for name in results.accuracy.loc[results.accuracy["kind"] == RIVAL, "model"]:
        chosen = results.accuracy[results.accuracy["model"] == name]
        rows.append([NONE, name, NONE, *_scores(chosen)[:3], *[NONE] * 3])
    header = ["row", "network", "original: training / test", "trainings"]
    header += ["training rows", "test rows", "without early stopping: trainings"]
    header += ["training rows", "test rows"]
    return markdown_table(header, rows)


def _scores(rows):
    """Number of trainings, and accuracy on training and test rows with the range: texts."""
    if not len(rows):
        return [NONE] * 3
    return [len(rows), *(mean_text(rows[f"{part}_accuracy"]) for part in ("train", "test"))]


def _short_name(text):
    """The widths and the activation of an architecture: "512-256-...-2, SELU"."""
    widths = [piece[1:] for piece in text.split("-") if piece[0] == "D" and piece[1] != "R"]
    kind = "SELU" if "SELU" in text else "RELU"
    return "-".join(widths) + f", {kind}" + ", dropout" * ("DR(" in text)


def rates_table(folder):
    """Rates by group with intervals, and fairlearn's differences."""
    results = income_results(folder)
    frame = rate_frame(results.rates)
    rows = frame.to_numpy().tolist()
    table = results.rates[results.rates["ci_low"].isna()]
    for attribute, part in table.groupby("attribute", sort=False):
        values = part.set_index("rate")["value"]
        parity, odds = (f"{100 * value:.1f}" for value in values)
        rows.append([attribute, "fairlearn's differences", f"{parity} (demographic parity)"])
        rows[-1] += [f"{odds} (equalised odds)", ""]
    label = results.facts["label"].replace("|", "\\|")
    header = ["attribute", "group", f"predicted {label}, %", "true positive rate, %"]
    return markdown_table([*header, "false positive rate, %"], rows)


def repairs_table(folder):
    """Accuracy against differences, for each way to make them smaller."""
    results = income_results(folder)
    frame = repair_frame(results.repairs)
    trainings = results.repairs.groupby("repair", sort=False)["trainings"].first()
    frame.insert(1, "trainings", trainings.to_numpy())
    names = {"": "in %, 95 % intervals"}
    return markdown_table([names.get(name, name) for name in frame], frame.to_numpy().tolist())


def income_result(folder):
    """The row of README.md: accuracy, and where relevance and swaps part."""
    results = income_results(folder)
    rule = f"relevance: {results.facts['constants']['RULE']}"
    means = mean_values(results.attributes)["mean"].unstack("measure")
    ranks = means.rank(ascending=False, method="min")
    table = rank_correlations(results.attributes).set_index(["first", "second"])
    row, first = table.loc[(rule, "swap")], means["swap"].idxmax()
    return (
        f"in part: rank correlation with swaps {row['mean']:.2f} ({row['min']:.2f} to "
        f"{row['max']:.2f} by training); {first} is first by swaps, number "
        f"{ranks.loc[first, rule]:.0f} of {len(means)} by relevance"
    )
