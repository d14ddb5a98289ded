"""Tables and the figure of the planted shortcut, from the records of shortcut.py."""

import functools
import glob
import os

from common.records import load_json

import numpy as np
import pandas as pd

from report import metrics
from report.shortcut import CONDITIONS, trainings_figure, unpack_bits
from tools.recorded import markdown_table

NO_REPAIR, CEILING = "no repair", "trained without marks (the ceiling)"
# Repairs in the order of the tables: whether one trains weights.
TRAINS = {
    NO_REPAIR: "-",
    "random filters": "no",
    "smallest weights": "no",
    "threshold shift": "no",
    "gradient once": "no",
    "gradient in stages of 10": "no",
    "gradient in stages of 5": "no",
    "leave-one-out": "no",
    "values once": "no",
    "values once, the paper's V": "no",
    "greedy": "no",
    "values anew": "no",
    "gradient anew": "no",
    "last-layer retraining": "last layer",
    "fine-tuning the head": "last layer",
    "fine-tuning all layers": "all layers",
    CEILING: "-",
}
HEAD_ROWS = [NO_REPAIR, "random filters", "threshold shift", "gradient once", "gradient anew"]
HEAD_ROWS += ["last-layer retraining", "fine-tuning all layers", CEILING]
OURS = "gradient anew"  # that others are compared with
# The records of the main tables; others differ in one of these.
MAIN = {"task": "celeba", "mark": "patch", "images": 1000, "agreement": -1.0}
NONE = "-"


def shortcut_sources(folder):
    """Paths of all records below a folder."""
    return sorted(glob.glob(f"{folder}/**/shortcut.json", recursive=True))


@functools.cache
def shortcut_frame(folder):
    """All records below a folder, a DataFrame: one row a network and repair.

    Columns: task, mark, strength, images, agreement, draw and seed of the run; repair; chosen, how
    many steps it goes; steps, their names; removed, the filters; curve, accuracies of all steps for
    each condition; right, (N,) bool for each condition; response_of_removed, response_and_value,
    seconds as in shortcut.json.
    """
    rows = []
    for path in shortcut_sources(folder):
        record = load_json(path, "shortcut.py")
        run = record["run"]
        names = ("task", "mark", "strength", "images", "agreement", "draw", "seed")
        shared = {name: run[name.upper()] for name in names}
        shared["task"] = shared["task"].replace("faces", "celeba")
        name = CEILING if run["ERASED"] else NO_REPAIR
        right = _unpack(record["right"], record)
        nothing = {"response_of_removed": {}, "response_and_value": {}}
        rows.append({**shared, **nothing, "repair": name, "right": right})
        if run["ERASED"]:  # repairs of the ceiling are none of the spoiled network
            continue
        for repair, result in record["repairs"].items():
            taken = ("chosen", "steps", "removed", "response_of_removed", "response_and_value")
            row = {key: result[key] for key in taken}
            row |= {"repair": repair, "right": _unpack(result["right"], record)}
            row |= {"curve": result["accuracy"], "seconds": result["seconds"]["repair"]}
            rows.append(shared | row)
    frame = pd.DataFrame(rows)
    ceiling = frame["repair"] == CEILING  # of any strength: its training has no marks
    return pd.concat([frame[~ceiling], frame[ceiling].drop_duplicates(["task", "seed"])])


def _unpack(answers, record):
    return {name: unpack_bits(text, record["images"]) for name, text in answers.items()}


def select(frame, **values):
    """The rows with these values in these columns; those of the ceiling whatever their strength."""
    chosen = np.ones(len(frame), dtype=bool)
    for name, value in values.items():
        same = frame[name] == value
        if name in ("strength", "mark", "images", "agreement"):
            same |= frame["repair"] == CEILING
        chosen &= same.to_numpy()
    return frame[chosen]


def shares_right(rows, condition):
    """How often each image is right, (trainings, N) float: of a training, the mean over draws."""
    by_training = rows.groupby("seed")["right"]
    return np.stack([np.mean([right[condition] for right in part], 0) for _, part in by_training])


def score_text(rows, condition):
    """Accuracy in % with its interval over trainings and images: "84.9 (83.1 to 86.5)"."""
    if not len(rows):
        return NONE
    value, low, high = np.clip(metrics.mean_share(shares_right(rows, condition)), 0, 1)
    return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def change_text(after, before, condition):
    """A paired difference in points with its interval: "+2.1 (+0.4 to +3.8)"."""
    shared = sorted(set(after["seed"]) & set(before["seed"]))
    if not shared:
        return NONE
    sides = (shares_right(rows[rows["seed"].isin(shared)], condition) for rows in (after, before))
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * x for x in metrics.paired_change(*sides)))


def _strengths(frame, **values):
    return sorted(select(frame, **values)["strength"].unique(), reverse=True)


def shortcut_head_table(folder):
    """Accuracy with the mark inverted and absent, for the repairs that one asks for first."""
    frame = shortcut_frame(folder)
    header = ["repair", "trains"]
    header += [f"P = {p:g}: {name}, %" for p in (1.0, 0.95) for name in ("inverted", "absent")]
    rows = []
    for repair in HEAD_ROWS:
        cells = []
        for strength in (1.0, 0.95):
            chosen = select(frame, **MAIN, strength=strength, repair=repair)
            cells += [score_text(chosen, condition) for condition in ("inverted", "absent")]
        rows.append([repair, TRAINS[repair], *cells])
    return markdown_table(header, rows)


def shortcut_table(folder):
    """Every repair at every strength: accuracy under each condition, steps and seconds."""
    return _repairs_table(folder, MAIN)


def shortcut_other_table(folder):
    """The same of a folder of records of one other kind, such as drawn portraits."""
    return _repairs_table(folder, {})


def _repairs_table(folder, values):
    """Every repair at every strength, in records with these values."""
    frame, rows = shortcut_frame(folder), []
    for strength in _strengths(frame, **values):
        for repair in TRAINS:
            chosen = select(frame, **values, strength=strength, repair=repair)
            if len(chosen):
                scores = [score_text(chosen, condition) for condition in CONDITIONS]
                row = [f"{strength:g}", repair, chosen["seed"].nunique(), *scores]
                rows.append([*row, _chosen_text(chosen), _seconds_text(chosen)])
    header = ["P", "repair", "trainings", *(f"{name}, %" for name in CONDITIONS)]
    return markdown_table([*header, "filters removed", "seconds"], rows)


def _chosen_text(rows):
    """How many filters go, the mean and the range over trainings; of another repair "-"."""
    if rows["removed"].isna().any() or not rows["removed"].map(len).any():
        return NONE
    low, high = rows["chosen"].min(), rows["chosen"].max()
    return f"{rows['chosen'].mean():.0f} ({low:.0f} to {high:.0f})"


def _seconds_text(rows):
    return NONE if rows["seconds"].isna().any() else f"{rows['seconds'].median():.0f}"


def shortcut_change_table(folder):
    """What removal by the gradient anew has more than every other repair, paired."""
    frame, rows = shortcut_frame(folder), []
    conditions = ("inverted", "absent", "same")
    for strength in _strengths(frame, **MAIN):
        ours = select(frame, **MAIN, strength=strength, repair=OURS)
        for repair in TRAINS:
            other = select(frame, **MAIN, strength=strength, repair=repair)
            if len(other) and repair != OURS:
                cells = [change_text(ours, other, condition) for condition in conditions]
                rows.append([f"{strength:g}", repair, *cells])
    names = [f"{name}, points" for name in conditions]
    return markdown_table(["P", f"{OURS} minus", *names], rows)


def shortcut_truth_table(folder):
    """Whether the filters that go respond to the mark, and whether values follow responses."""
    frame, rows = shortcut_frame(folder), []
    for strength in _strengths(frame, **MAIN):
        for repair in TRAINS:
            chosen = select(frame, **MAIN, strength=strength, repair=repair)
            if any(chosen["response_of_removed"]):  # those of no repair are not there
                cells = [f"{strength:g}", repair, _chosen_text(chosen)]
                for measure in ("output", "margin"):
                    cells.append(_mean_and_range(chosen["response_of_removed"], measure, 100, 0))
                    cells.append(_mean_and_range(chosen["response_and_value"], measure, 1, 2))
                rows.append(cells)
    header = ["P", "repair", "filters removed"]
    for name in ("output", "part in the margin"):
        header += [f"{name}: filters that follow the mark less, %", "rank correlation with values"]
    return markdown_table(header, rows)


def _mean_and_range(column, measure, scale, digits):
    """Mean and range over trainings of one entry of a column of dicts: "90 (88 to 93)"."""
    if not all(measure in entry for entry in column):
        return NONE
    values = [scale * entry[measure] for entry in column]
    mean, low, high = (f"{x:.{digits}f}" for x in (np.mean(values), min(values), max(values)))
    return f"{mean} ({low} to {high})"


def shortcut_few_table(folder):
    """Accuracy with the mark inverted, by how many images the repairs see."""
    frame, rows = shortcut_frame(folder), []
    main = {name: value for name, value in MAIN.items() if name != "images"}
    sizes = sorted(select(frame, **main)["images"].unique())
    few = select(frame, **main)[lambda table: table["images"] < MAIN["images"]]
    names = [name for name in TRAINS if name in set(few["repair"].dropna())]
    for strength in sorted(few["strength"].unique(), reverse=True):
        for size in sizes:
            chosen = select(frame, **(main | {"strength": strength, "images": size}))
            draws = chosen[chosen["repair"] != CEILING].groupby("seed")["draw"].nunique()
            cells = [score_text(chosen[chosen["repair"] == name], "inverted") for name in names]
            rows.append([f"{strength:g}", size, f"{len(draws)} x {draws.max()}", *cells])
    return markdown_table(["P", "images", "trainings x draws", *names], rows)


def shortcut_result(folder):
    """The row of README.md."""
    frame, texts = shortcut_frame(folder), []
    for strength in (1.0, 0.95):
        rows = select(frame, **MAIN, strength=strength)
        before, after, rival = (
            score_text(rows[rows["repair"] == name], "inverted")
            for name in (NO_REPAIR, OURS, "fine-tuning all layers")
        )
        texts.append(f"P = {strength:g}: {before.split()[0]} -> {after} % (fine-tuned: {rival})")
    return f"in part: accuracy with the mark inverted, {'; '.join(texts)}"


def has_shortcuts(folder):
    """Whether a folder of records holds folders of shortcut.py."""
    return os.path.basename(folder) == "shortcut"


def draw_shortcut(folder):
    """The figure over all trainings: curves as filters go, and all repairs."""
    frame = shortcut_frame(folder)
    curves, scores = {}, {}
    for strength in (1.0, 0.95):
        rows = select(frame, **MAIN, strength=strength)
        paths = rows[rows["repair"] == OURS]["curve"]
        curves[strength] = {
            condition: np.array([curve[condition] for curve in paths]) for condition in CONDITIONS
        }
        scores[strength] = {
            repair: [
                np.clip(metrics.mean_share(shares_right(part, condition)), 0, 1)
                for condition in ("inverted", "absent")
            ]
            for repair in TRAINS
            if len(part := rows[rows["repair"] == repair])
        }
    return trainings_figure(curves, scores)
