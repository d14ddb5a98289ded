"""Tables on the repair of faces."""

import os

from common.records import load_json

import numpy as np
import pandas as pd

from datasets import GROUP_NAMES
from report import metrics
from report.labels import celeba_label, group_label, rule_label
from tools.recorded import (
    change_text,
    evaluation,
    markdown_table,
    percent,
    repair_changes,
    repair_label,
    rows_of,
    score_path,
    set_names,
    steps_text,
    trainings,
    valuation,
)

EXTREMES = ["worst", "gap", "equalised odds"]
AUCS = ["AUC white", "AUC black"]
# Rows of the headline: name of the repair in the records, and what it is.
HEADLINE = {
    "values of accuracy": "here: paper's recipe",
    "values of accuracy+threshold": "here: paper's recipe, threshold shifted",
    "shapley": "here: re-estimated values",
    "shapley+threshold": "here: re-estimated values, threshold shifted",
    "threshold": "here: threshold shifted, no filter removed",
}


def headline_table(folder):
    """The paper's claim, the earlier reimplementation's and ours, before -> after, in %."""
    rows = [
        [
            "paper: filters removed, PPB faces",
            "54.7 -> 81.9",
            "84.9 -> 91.7",
            "not studied",
            "falls a little",
        ],
        [
            "earlier PyTorch reimplementation: filters removed, measured on the FairFace images "
            "that gave the values",
            "54 -> 80",
            "72 -> 76",
            "not studied",
            "not reported",
        ],
    ]
    for row, name in HEADLINE.items():
        removed = "" if row == "threshold" else f", {steps_text(folder, row)} filters"
        paths = [score_path(folder, row, group) for group in ("black women", "balanced")]
        paths.append(score_path(folder, row, "AUC black"))
        paths.append(score_path(folder, row, "all", "celeba"))
        rows.append([name + removed, *paths])
    header = [
        "in %, before -> after",
        "accuracy, Black women",
        "mean of the four groups",
        "AUC, Black faces",
        "accuracy, CelebA test",
    ]
    return markdown_table(header, rows)


def repair_table(folder):
    """Scores in % on the report set and CelebA's test set, a row a repair.

    Of one training, accuracies have 95 % intervals; of several, their mean and range. Records since
    there are several rules also have what each row was chosen by, the labels that the repair
    needs, and calibration errors.
    """
    tables = [_repair_values(name) for name in trainings(folder)]
    values = 100 * pd.DataFrame([table["value"] for table in tables])
    means = values.mean().map("{:.1f}".format)
    if len(tables) == 1:
        table = tables[0]  # earlier records have limits beyond 0 and 1
        table[["ci_low", "ci_high"]] = table[["ci_low", "ci_high"]].clip(0, 1)
        with_range = pd.Series(metrics.format_percent(table), table.index)
    else:
        lows, highs = values.min().map(" ({:.1f} to ".format), values.max().map("{:.1f})".format)
        with_range = means + lows + highs
    record, rows = evaluation(folder), []
    has_rules = "rules" in record
    scores = [*EXTREMES, *AUCS] + ["ECE"] * has_rules
    celeba = ["CelebA test"] + ["ECE CelebA test"] * has_rules
    for row in rows_of(folder):
        cells = [with_range[row, name] for name in (*GROUP_NAMES, "balanced")]
        cells += [_present(means.get((row, name), "")) for name in (*scores, *celeba)]
        facts = [rule_label(row, set_names(folder)), record["labels"][row]] if has_rules else []
        rows.append([repair_label(folder, row), *facts, steps_text(folder, row), *cells])
    facts = ["chosen by", "labels"] if has_rules else []
    column, columns = _celeba_column(folder), [*GROUP_NAMES, "balanced", *scores]
    shown = [*map(group_label, columns), column] + [f"ECE {column}"] * has_rules
    return markdown_table(["", *facts, "filters (epochs)", *shown], rows)


def _present(text):
    """A formatted number, "" in place of "nan"."""
    return "" if text == "nan" else text


def _repair_values(folder):
    """The table of an eval.json, indexed by repair and group."""
    return pd.DataFrame(evaluation(folder)["table"]).set_index(["row", "group"])


def change_table(folder):
    """Changes in points with 95 % intervals, a row a comparison."""
    names = list(evaluation(folder)["changes"])
    if "values of accuracy+threshold" in rows_of(folder):
        names.append("values of accuracy+threshold against threshold")
    rows = []
    for name in names:
        after, before = name.split(" against ")
        main_rows = ("shapley", "threshold", "values of accuracy")
        if before == "nothing" and after.partition("+")[0] not in main_rows:
            continue  # the table of scores has them
        changes = repair_changes(folder, after, before)
        cells = metrics.format_percent(changes.loc[["black women", "balanced", *AUCS]])
        unknown = "race_thresholds" in (after, before)  # CelebA's races are
        celeba = "" if unknown else change_text(folder, after, before, "all", "celeba")
        cells.append(celeba)
        labels = [repair_label(folder, row) for row in (after, before)]
        rows.append([", against ".join(labels), *cells])
    columns = map(group_label, ["black women", "balanced", *AUCS])
    return markdown_table(["", *columns, _celeba_column(folder)], rows)


def _celeba_column(folder):
    """What the column of CelebA's test set is called: of drawings it is not CelebA."""
    return celeba_label("report", set_names(folder))


def measures_table(folder):
    """Values by several V of one network: their precision, and what their removals give.

    Scores are those of the choosing set.
    """
    record = evaluation(folder)
    assert record["told"] == "choose", "measures are compared on the choosing set"
    values = 100 * _repair_values(folder)["value"]
    rows = [["nothing removed", "", "", "", *(_choosing_scores(values, "nothing", "threshold"))]]
    runs = {"shapley": valuation(folder)}
    for row in record["steps"]:
        if row.startswith("values") and "+" not in row:
            runs[row] = valuation(f"{folder}/{row.removeprefix('values of ')}")
    for row, mab in sorted(runs.items(), key=lambda item: item[1]["stages"]):
        name = mab["run"]["MEASURE"]
        if mab["stages"] > 1:
            name += ", re-estimated"
        repairs = (row, f"{row}+threshold")
        scores = _choosing_scores(values, *repairs)
        filters = [f" ({np.mean(record['steps'][repair]):g})" for repair in repairs]
        cells = [text + number for text, number in zip(scores, filters)]
        rows.append([name, *_precision(mab), *cells])
    header = [
        "V",
        "rounds",
        "reliability",
        "rounds to 0.8, about",
        "removed: balanced / Black women / AUC Black (filters)",
        "the same, and the threshold shifted",
    ]
    return markdown_table(header, rows)


def _choosing_scores(values, *repairs):
    """Balanced accuracy, accuracy of black women, AUC among black faces, of each repair: texts."""
    groups = ("balanced", "black women", "AUC black")
    return [" / ".join(f"{values[row, group]:.1f}" for group in groups) for row in repairs]


def _precision(mab):
    """Rounds, reliability, and the rounds that a reliability of 0.8 takes, of a mab.json."""
    if mab["stages"] > 1:
        return [f"{mab['stages']} stages", "", ""]
    needed, reliability = "-", mab["reliability"]
    if reliability > 0:  # squared errors fall as 1 / rounds
        needed = f"{4 * mab['rounds'] * (1 / reliability - 1):,.0f}"
    return [mab["rounds"], f"{reliability:.2f}", needed]


def framing_table(folder):
    """Accuracy in % on the choosing set, a row a framing of CelebA, a size and a length."""
    rows = []
    for name in sorted(os.listdir(folder)):
        record = load_json(f"{folder}/{name}/train_squeeze.json", "train_squeeze.py")
        accuracy = pd.DataFrame(record["accuracy"])
        accuracy = accuracy[accuracy["set"] == "FairFace choose"].set_index("group", drop=False)
        constants = record["constants"]
        frame = ", ".join(f"{side:.3f}" for side in constants["CELEBA_FRAME"])
        cells = [percent(accuracy.loc[group, "accuracy"]) for group in GROUP_NAMES]
        cells += metrics.format_percent(accuracy.loc[["balanced"]])
        rows.append([constants["IMAGE_SIZE"], constants["EPOCHS"], f"({frame})", *cells])
    rows.sort(key=lambda row: row[:2])
    groups = map(group_label, [*GROUP_NAMES, "balanced"])
    header = ["IMAGE_SIZE", "EPOCHS", "CELEBA_FRAME", *groups]
    return markdown_table(header, rows)
