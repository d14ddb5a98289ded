"""The figures of README.md and docs/, drawn from the records."""

import glob
import hashlib
import os

from common.records import load_csv, replace_file

import numpy as np
import pandas as pd

from report import figures
from tools.overview import draw_overview
from tools.recorded import evaluation, repair_names, set_names, trainings, valuation
from tools.table_cdep import cdep_sources, draw_cdep, has_cdep
from tools.table_fairwashing import SOURCES as FAIRWASHING_SOURCES
from tools.table_fairwashing import draw_fairwashing, has_fairwashing
from tools.table_hidden import draw_hidden, has_hidden
from tools.table_income import INCOME_TABLES, draw_income, has_income
from tools.table_league import draw_league, has_league
from tools.table_shortcut import draw_shortcut, has_shortcuts, shortcut_sources

# Folders whose figures are drawn from their records.
FIGURE_FOLDERS = [
    "cur_records",
    "cur_records/demo",
    "cur_records/digits",
    "cur_records/digits/attack",
    "cur_records/decided",
    "cur_records/celeba_attack",
    "cur_records/signs",
    "cur_records/signs_resnet18",
    "cur_records/income",
    "cur_records/income/compas",
    "cur_records/income/drawn",
    "cur_records/income/long",
    "cur_records/shortcut",
    "cur_records/cdep/digits",
    "cur_records/cdep/color_mnist",
    "cur_records/cdep/decoy_mlp",
    "cur_records/cdep/lesions",
    "cur_records/cdep/compas",
    "cur_records/cdep/sentiment",
    "cur_records/cdep/sentiment_biased",
    "cur_records/cdep/sentiment_gendered",
    "cur_records/fairwashing/mnist",
    "cur_records/fairwashing/digits",
    "cur_records/fairwashing/fmnist",
    "cur_records/fairwashing/cifar10",
    "cur_records/fairwashing/cifar10_ae",
    "cur_records/fairwashing/faces",
    "cur_records/fairwashing/compas",
    "cur_records/fairwashing/compas_data_only",
]
# What the figures of a folder are drawn from, in the folder of each training or class.
SOURCES = ("eval.csv", "eval.json", "filters.csv", "accuracy/filters.csv", "faces.npz", "race.csv")


def draw_figures(folder):
    """The figures of a folder, {name: matplotlib Figure}.

    Of one training they are those that eval.py draws; of several, means over the trainings.
    """
    if os.path.basename(folder) == "decided":
        return _race_figures(folder)
    if has_income(folder):
        return draw_income(folder)
    if has_cdep(folder):
        return draw_cdep(folder)
    if has_shortcuts(folder):
        return {"shortcut": draw_shortcut(folder)}
    if has_hidden(folder):
        return draw_hidden(folder)
    if has_fairwashing(folder):
        return draw_fairwashing(folder)
    is_application = "classes" in evaluation(folder)  # a task other than faces
    drawn = _application_figures(folder) if is_application else _repair_figures(folder)
    if has_league(folder):
        drawn["league"] = draw_league(folder)
    return drawn


def _application_figures(folder):
    values = _filters(folder)["shapley"].to_numpy()
    shares = evaluation(folder)["concentration"]
    curves, table, run = _application_records(folder)
    drawn = {"eval": figures.responsible_curves(curves, table, run, values, shares)}
    if valuation(folder)["decided"]:
        removed = evaluation(folder)["removed_filters"]
        drawn["values"] = figures.value_plot(_filters(folder), removed)
    classes = sorted(glob.glob(f"{folder}/class_*"))
    if classes:
        drawn["classes"] = figures.class_panels([_application_records(name) for name in classes])
    return drawn


def _race_figures(folder):
    """The race of the runs on digits, which differ in the seed of the estimator."""
    runs = sorted(glob.glob(f"{folder}/digits_seed_*"))
    races = [pd.read_csv(f"{name}/race.csv") for name in runs]
    run = valuation(runs[0])["run"]
    return {"race": figures.race_plot(races, run["TOP_K"], run["WHICH"])}


def _application_records(folder):
    """The curves, the table of scores and mab.py's constants, of a task other than faces."""
    record = evaluation(folder)
    return pd.read_csv(f"{folder}/eval.csv"), pd.DataFrame(record["table"]), record["run"]


def _repair_figures(folder):
    runs = [pd.read_csv(f"{name}/eval.csv") for name in trainings(folder)]
    evaluations = [evaluation(name) for name in trainings(folder)]
    names, labels = set_names(folder), repair_names(folder)
    filters, removed = _valued_filters(folder, evaluations[0])
    chosen = _mean_steps(evaluations)
    drawn = {
        "eval": figures.repair_curves(runs, chosen, "report", names, labels),
        "rivals": figures.rival_curves(runs, "report", names, labels),
        "values": figures.value_plot(filters, removed),
    }
    if "rules" in evaluations[0]:  # records before have no frontier.png
        steps = [_first_steps(record) for record in evaluations]
        drawn["frontier"] = figures.frontier_curves(runs, steps, "report", names, labels)
    if len(runs) > 1:
        layers = _filters(folder)["layer"].tolist()
        removed = [record["removed_filters"] for record in evaluations]
        drawn["layers"] = figures.layer_plot(layers, removed)
        drawn["overview"] = draw_overview(folder)
    if os.path.exists(f"{folder}/faces.npz"):
        faces = np.load(f"{folder}/faces.npz")
        drawn["faces"] = figures.face_grid(faces["images"], faces["captions"])
    return drawn


def _first_steps(record):
    """The chosen step of each repair, of random orders that of the first: {repair: int}."""
    return {row: steps[0] for row, steps in record["steps"].items()}


def _mean_steps(evaluations):
    """Chosen number of filters of each repair, the mean over trainings: {repair: float}."""
    means = {}
    for row in evaluations[0]["steps"]:
        means[row] = np.mean([np.mean(record["steps"][row]) for record in evaluations])
    return means


def _valued_filters(folder, record):
    """The filters whose values the figure shows, and the numbers of those removed by them.

    Values of the whole network, if there are any; filters.csv may be of values re-estimated.
    """
    if os.path.exists(f"{folder}/accuracy/filters.csv"):
        filters = _filters(f"{folder}/accuracy")
        order = np.argsort(filters["shapley"].to_numpy(), kind="stable")
        return filters, filters.index[order[: record["steps"]["values of accuracy"][0]]]
    return _filters(folder), record["removed_filters"]


def _filters(folder):
    """The filters.csv of a folder, indexed by the filters' numbers."""
    columns = ["filter", "shapley", "layer", "channel"]
    return load_csv(f"{folder}/filters.csv", "mab.py", columns).set_index("filter")


def source_hash(folder):
    """A hash of the records behind the figures of a folder, which these carry: 16 digits."""
    state, paths = hashlib.sha256(), []
    parts = [*glob.glob(f"{folder}/class_*"), *glob.glob(f"{folder}/digits_seed_*")]
    for name in [*trainings(folder), *sorted(parts)]:
        paths += [f"{name}/{source}" for source in SOURCES if os.path.exists(f"{name}/{source}")]
    paths += sorted(glob.glob(f"{folder}/league/*/*.json"))
    if has_income(folder):
        paths = [f"{folder}/income.json", *(f"{folder}/{name}.csv" for name in INCOME_TABLES)]
    if has_cdep(folder):
        paths = cdep_sources(folder)
    if has_shortcuts(folder):
        paths = shortcut_sources(folder)
    if has_fairwashing(folder):
        paths = [f"{folder}/{name}" for name in FAIRWASHING_SOURCES]
        paths = [path for path in paths if os.path.exists(path)]
    for path in paths:
        with open(path, "rb") as file:
            state.update(file.read())
    return state.hexdigest()[:16]


def write_figures(folder):
    """Draw the figures of a folder and write them into it, as PNG and PDF."""
    for name, figure in draw_figures(folder).items():
        with replace_file(f"{folder}/{name}.png") as path:
            figure.savefig(path, dpi=150, metadata={"Source": source_hash(folder)})
        with replace_file(f"{folder}/{name}.pdf") as path:
            figure.savefig(path, metadata={"CreationDate": None})  # same figure, same bytes
