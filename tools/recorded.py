"""Numbers read from the records, as the tables and figures of README.md and docs/ need them."""

import functools
import glob

from common.records import load_json

import numpy as np
import pandas as pd

from report import metrics
from report.labels import method_label

# What the pages call repairs in records whose main values are re-estimated before each removal.
RE_ESTIMATED_NAMES = {
    "shapley": "re-estimated values",
    "values of accuracy": "paper's recipe",
    "values of smooth_auc_all": "Shapley values of smooth AUC",
}


def trainings(folder):
    """Folders of one pipeline with several seeds: `folder` itself, its seed_1/, seed_2/, ..."""
    return [folder, *sorted(glob.glob(f"{folder}/seed_*"))]


def evaluation(folder):
    """The eval.json of a folder, a dict. Raises InputError."""
    return load_json(f"{folder}/eval.json", "eval.py")


def valuation(folder):
    """The mab.json of a folder, a dict. Raises InputError."""
    return load_json(f"{folder}/mab.json", "mab.py")


def rows_of(folder):
    """Names of the repairs that a folder's evaluation compares, in its order."""
    return list(evaluation(folder)["steps"])


def repair_names(folder):
    """Names of repairs for `method_label`, where they are not those that eval.py prints."""
    run = evaluation(folder).get("run", {})
    return RE_ESTIMATED_NAMES if "ROUNDS_A_STAGE" in run else {}


def repair_label(folder, row):
    """A repair as the pages show it: "paper's recipe and threshold"."""
    return method_label(row, names=repair_names(folder))


def set_names(folder):
    """What to call the two sets of faces, as from datasets.set_names; None: FairFace and CelebA."""
    return evaluation(folder).get("data_names")


def standard_errors(folder):
    """Standard errors of the values, from a folder's mab.npz: (n_filters,) float64."""
    state = np.load(f"{folder}/mab.npz")
    # (parts, n); records made before guesses have (n,) under another name
    counts = np.atleast_2d(state["counts"] if "counts" in state else state["samples"])
    variance = np.atleast_2d(state["m2"]) / (counts - 1)
    return np.sqrt((variance / counts).sum(0))


@functools.cache
def repair_scores(folder, row, split="report"):
    """Scores of one repair over all trainings of a folder, a DataFrame indexed by group.

    Args:
        folder: str, a folder of records of faces.
        row: str, a repair, one of `rows_of(folder)`.
        split: "report" (FairFace) or "celeba" (CelebA's test set).

    Returns:
        columns value, ci_low, ci_high, n_images; all but the last in [0, 1].
    """
    arrays, male, group = _margins(folder, split)
    margins = [training[f"{split}/{row}"] for training in arrays]
    return metrics.score_table(margins, male, group).set_index("group")


@functools.cache
def repair_changes(folder, after, before, split="report"):
    """Scores of the repair `after` less those of `before`, with paired intervals.

    Arguments as in `repair_scores`. Returns a DataFrame indexed by group: change, ci_low, ci_high.
    """
    arrays, male, group = _margins(folder, split)
    margins_before = [training[f"{split}/{before}"] for training in arrays]
    margins_after = [training[f"{split}/{after}"] for training in arrays]
    changes = metrics.score_changes(margins_before, margins_after, male, group)
    return changes.set_index("group")


def _margins(folder, split):
    """The eval.npz of every training, and (N,) gender and group of the images of a split."""
    arrays = [np.load(f"{name}/eval.npz") for name in trainings(folder)]
    return arrays, arrays[0][f"male/{split}"], arrays[0][f"group/{split}"]


@functools.cache
def application_scores(folder):
    """Scores of a task other than faces, a DataFrame: value, ci_low, ci_high in [0, 1].

    Its index: method, split, group, n_removed (filters removed).
    """
    record = evaluation(folder)
    assert record["told"] == "report"
    index = ["method", "split", "group", "n_removed"]
    return pd.DataFrame(record["table"]).set_index(index).sort_index()


def steps_text(folder, row):
    """How many filters (or epochs) a repair takes: "12", or of several trainings "12 (5 to 20)".

    The mean over trainings, and their range. Of what was trained, the step of each training by
    name, where the records have it: "3 epochs at 0.0001 / 2 epochs at 0.0003".
    """
    if row in evaluation(folder).get("trained", {}):
        return " / ".join(evaluation(name)["trained"][row][0] for name in trainings(folder))
    steps = [np.mean(evaluation(name)["steps"][row]) for name in trainings(folder)]
    text = f"{np.mean(steps):.3g}"
    if len(steps) == 1 or np.ptp(steps) == 0:
        return text
    return f"{text} ({min(steps):.3g} to {max(steps):.3g})"


def percent(value):
    """A share as text, in % with one decimal and no sign, rounded as format_percent: "62.4"."""
    return f"{np.round(100 * value, 1):.1f}"


def arrows(values):
    """Shares as text, in %: "62.4 -> 70.1"."""
    return " -> ".join(percent(value) for value in values)


def score_path(folder, row, group, split="report"):
    """A score before and after a repair, in %: "45.2 -> 58.8"."""
    tables = [repair_scores(folder, name, split) for name in ("nothing", row)]
    return arrows(table.loc[group, "value"] for table in tables)


def change_text(folder, after, before, group, split="report"):
    """The change of one score, in points with its interval: "+2.6 (-1.5 to +6.7)"."""
    return metrics.format_percent(repair_changes(folder, after, before, split).loc[[group]])[0]


def markdown_table(header, rows):
    """A Markdown table. Cells are anything that str() takes; rows is a list of lists."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
