"""Relevance through every layer of a network on a table of people, and how far to believe it.

    python income.py

Trains one network several times on UCI Adult (or COMPAS, TASK=compas), with rivals beside it and
other architectures if COMPARED names them. Then it draws layer-wise relevance propagation by each
rule for every dense layer, compares relevance with what predictions do hang on, measures rates by
group, and repeats the training with attributes dropped, and with their use penalised (CDEP). Writes
tables and figures to RECORDS_DIR. Interrupted, the same command goes on from the last epoch. The
test rows are read once all networks are trained; OPEN_TEST=False reports on the validation rows
instead.
"""

import hashlib
import os
import shutil
import time
from dataclasses import dataclass

from common import records, settings
from common.settings import DATA_DIR, SEED

import numpy as np
import torch

import datasets
from explain.relevance import RULES
from penalties.measures import choose_strength
from readers.people import Table
from report import income, income_figures, income_text
from tabular.audit import mean_swaps
from tabular.dense import (
    ARCHITECTURES,
    Predictor,
    Recipe,
    build_dense,
    split_rows,
    stopping_epoch,
    train_dense,
)
from tabular.encoding import fit_encoding

# -----------------------------------------------------------------------------
TASK = "adult"  # the table: adult or compas
RECORDS_DIR = "records/income"  # results, and the networks
ARCH = "9"  # the network that is explained: a row of the original's table, or layers like its own
COMPARED = ""  # more architectures to train and score, with commas between; all: the table's ten
SEEDS = 5  # trainings of ARCH, with the seeds SEED, SEED + 1, ...
OTHER_SEEDS = 5  # trainings of each other architecture
# Sets of attributes to train without, such as "race marital-status,sex"; "": none. auto: each whose
# groups are compared, and those that PROXIES names with it.
DROPPED = "auto"
DROPPED_SEEDS = 5  # trainings without each of these sets
PENALISED = "auto"  # sets of attributes whose use CDEP penalises in training, as in DROPPED
PENALISED_SEEDS = 5  # trainings with the use of each of these sets penalised
LAMBDAS = (1.0, 10.0, 100.0)  # strengths of the penalty, of which validation rows choose one
EPOCHS = 40  # passes over the training rows at most
PATIENCE = 3  # epochs without a lower validation loss after which one without a penalty stops
LONG_EPOCHS = 0  # epochs of trainings that do not stop early, for comparison; 0: no such trainings
LONG_SEEDS = 1  # such trainings of each network
BATCH_SIZE = 512  # rows a step
LEARNING_RATE = 0.001  # Adam's
VALIDATION_SHARE = 0.1  # of the training rows; early stopping and post-processing see them
RULE = "epsilon"  # the rule of relevance that figures compare with other measures
EXPLAINED_ROWS = 2048  # test rows, drawn at random, whose predictions are explained
PERMUTATIONS = 3  # shuffles of each attribute
OPEN_TEST = True  # False: the test rows stay closed
# -----------------------------------------------------------------------------

PROXIES = {"adult": [("marital-status", "relationship", "sex")]}  # husbands and wives


@dataclass
class Study:
    """The rows of a study.

    Attributes:
        train: Table of the training rows.
        val: Table of the validation rows.
        drawn_rule: the rule of a drawn table, a function of a Table; None of a real one.
    """

    train: Table
    val: Table
    drawn_rule: object = None


def main():
    """Load, train, evaluate, save, print."""
    started = time.time()
    check_constants()
    study = load()
    trainings = train(study)
    results = evaluate(study, trainings)
    save(results, time.time() - started)
    print(income_text.summary_text(results, RULE))
    print(f"{RECORDS_DIR}: tables and figures written.")


def check_constants():
    """Raise InputError for constants that cannot be."""
    tables = " or ".join(datasets.TABLES)
    settings.require("TASK", TASK, TASK in datasets.TABLES, tables)
    at_least_one = {"SEEDS": SEEDS, "EPOCHS": EPOCHS, "PATIENCE": PATIENCE}
    at_least_one |= {"OTHER_SEEDS": OTHER_SEEDS, "LONG_SEEDS": LONG_SEEDS}
    at_least_one |= {"DROPPED_SEEDS": DROPPED_SEEDS, "PENALISED_SEEDS": PENALISED_SEEDS}
    at_least_one |= {"PERMUTATIONS": PERMUTATIONS, "EXPLAINED_ROWS": EXPLAINED_ROWS}
    for name, value in at_least_one.items():
        settings.require(name, value, value >= 1, "at least 1")
    settings.require("BATCH_SIZE", BATCH_SIZE, BATCH_SIZE >= 2, "at least 2: batch norm needs two")
    settings.require("LEARNING_RATE", LEARNING_RATE, LEARNING_RATE > 0, "above 0")
    share = VALIDATION_SHARE
    settings.require("VALIDATION_SHARE", share, 0 < share < 1, "between 0 and 1")
    settings.require("LAMBDAS", LAMBDAS, min(LAMBDAS) > 0, "above 0")
    settings.require("LONG_EPOCHS", LONG_EPOCHS, LONG_EPOCHS >= 0, "0 or more")
    settings.require("RULE", RULE, RULE in RULES, " or ".join(RULES))
    for architecture in architectures():
        build_dense(architecture, 1)


def architectures():
    """The architectures to train, the explained one first: a list of str."""
    compared = COMPARED.split(",") if COMPARED else []
    if COMPARED == "all":
        compared = list(ARCHITECTURES)
    return list(dict.fromkeys([ARCH, *compared]))


def attribute_sets(constant, text, table):
    """The sets of attributes that DROPPED or PENALISED names: a list of tuples. Raises InputError.

    constant: its name; text: its value.
    """
    if text == "auto":
        return [*((name,) for name in table.groups), *PROXIES.get(TASK, [])]
    sets = [tuple(names.split(",")) for names in text.split()]
    unknown = {name for names in sets for name in names} - set(table.attributes)
    rule = f"names of attributes ({', '.join(table.attributes)}), with commas and spaces between"
    settings.require(constant, text, not unknown, rule)
    return sets


def load():
    """The rows for training and validation, a Study. Raises InputError."""
    table = datasets.load_table(TASK, DATA_DIR, "train")
    rows, val_rows = split_rows(len(table.label), VALIDATION_SHARE, seed=0)
    drawn_rule = datasets.table_rule(TASK, DATA_DIR)
    study = Study(table.take(rows), table.take(val_rows), drawn_rule)
    for constant, text in (("DROPPED", DROPPED), ("PENALISED", PENALISED)):
        attribute_sets(constant, text, table)
    return study


# ----------------------------------------------------------------------------- training


def train(study):
    """Train all networks: a list of income.Trained. Raises InputError."""
    jobs = [income.Job(ARCH, SEED + number) for number in range(SEEDS)]
    for number in range(DROPPED_SEEDS):
        for names in attribute_sets("DROPPED", DROPPED, study.train):
            jobs.append(income.Job(ARCH, SEED + number, dropped=names))
    for number in range(OTHER_SEEDS):
        jobs += [income.Job(other, SEED + number) for other in architectures()[1:]]
    if LONG_EPOCHS:
        for number in range(LONG_SEEDS):
            jobs += [income.Job(name, SEED + number, is_long=True) for name in architectures()]
    prepared = {dropped: prepare(study, dropped) for dropped in {job.dropped for job in jobs}}
    trained = [train_one(prepared[job.dropped], job) for job in jobs]
    for names in attribute_sets("PENALISED", PENALISED, study.train):
        trained += train_penalised(study, prepared[()], names)
    return trained


def train_penalised(study, prepared, names):
    """Train against the use of a set of attributes: a list of income.Trained.

    The first seed is trained with each lambda and with none. Of those that cost little accuracy on
    the validation rows, that with the fewest predictions changed by swaps there trains all seeds.
    """
    by_strength = {}
    for strength in (0.0, *LAMBDAS):
        job = income.Job(ARCH, SEED, (), names if strength else (), strength)
        by_strength[strength] = train_one(prepared, job)
    scores = {}
    for strength, training in by_strength.items():
        swaps = mean_swaps([training.stopped], study.val, names, SEED)
        right = income.share_right(training.stopped.predict(study.val.values), study.val)
        scores[strength] = {"same": right, "flips": float(np.mean(list(swaps.values())))}
    vanilla = scores.pop(0.0)
    strength = choose_strength(scores, vanilla)
    seeds = range(SEED, SEED + PENALISED_SEEDS)
    jobs = [income.Job(ARCH, seed, (), names, strength) for seed in seeds]
    return [train_one(prepared, job) for job in jobs]


def prepare(study, dropped):
    """Inputs and labels for networks without some attributes.

    Returns (train, val), each (inputs (N, D) float32, label (N,) int64), the Encoding, the names of
    the attributes, their places in the table, and a hash of the rows.
    """
    tables = [part.without(dropped) for part in (study.train, study.val)]
    encoding, state = fit_encoding(tables[0]), hashlib.sha256()
    pairs = [(encoding.encode(part.values), torch.from_numpy(part.label)) for part in tables]
    for pair in pairs:
        for tensor in pair:
            state.update(tensor.numpy().tobytes())
    names = tables[0].attributes
    columns = tuple(study.train.attributes.index(name) for name in names)
    return *pairs, encoding, names, columns, state.hexdigest()[:16]


def train_one(prepared, job):
    """Train one network, or load it: income.Trained. Raises InputError."""
    train_rows, val_rows, encoding, names, columns, data = prepared
    name = network_name(job)
    path = f"{RECORDS_DIR}/networks/{name}_seed_{job.seed}.pth"
    epochs = EPOCHS
    if job.is_long:
        stopped, path = path, f"{RECORDS_DIR}/networks/{name}_seed_{job.seed}_long.pth"
        epochs = LONG_EPOCHS
        if os.path.exists(stopped) and not os.path.exists(path):
            with records.replace_file(path) as temporary:
                shutil.copy(stopped, temporary)  # the first epochs are the same
    places = encoding.places(names.index(name) for name in job.penalised)
    # With a penalty the loss falls late, after more than PATIENCE epochs without a lower one.
    patience = 10**9 if job.penalised else PATIENCE
    options = (epochs, BATCH_SIZE, LEARNING_RATE, patience, places, job.strength, job.is_long)
    recipe = Recipe(job.architecture, job.seed, *options)
    bar = f"{name.replace('_', ' ')}, seed {job.seed}"
    training = train_dense(train_rows, val_rows, recipe, path, data, bar)
    last = Predictor(training.network, encoding, columns)
    stopped = Predictor(training.stopped(), encoding, columns)
    best, _ = stopping_epoch([row["val_loss"] for row in training.curve], patience)
    return income.Trained(job, stopped, last, training.curve, best)


def network_name(job):
    """A network's name in file names: "row_9_without_sex". Rows that are the same share one."""
    kind = job.architecture
    if kind in ARCHITECTURES:
        texts = list(ARCHITECTURES.values())
        kind = f"row_{list(ARCHITECTURES)[texts.index(ARCHITECTURES[kind])]}"
    if job.penalised:
        return f"{kind}_cdep_{'_'.join(job.penalised)}_{job.strength:g}"
    return "_without_".join([kind, *job.dropped])


# ----------------------------------------------------------------------------- results


def evaluate(study, trained):
    """All that is measured: income.Results."""
    table = datasets.load_table(TASK, DATA_DIR, "test") if OPEN_TEST else study.val
    rng = np.random.default_rng(0)
    explained = np.sort(rng.permutation(len(table.label))[:EXPLAINED_ROWS])
    main_networks = []
    for training in trained:
        job = training.job
        if job.architecture == ARCH and not job.is_repair and not job.is_long:
            main_networks.append(training.stopped)
    layers, seconds = income.layer_table(main_networks[0], table.take(explained))
    return income.Results(
        accuracy=income.accuracy_table(trained, study.train, study.val, table, SEED),
        curves=income.curve_table(trained),
        layers=layers,
        attributes=income.attribute_table(
            main_networks, table, explained, study.drawn_rule, PERMUTATIONS, SEED
        ),
        rates=income.rates(main_networks, table),
        repairs=income.repair_table(trained, ARCH, study.val, table, SEED),
        facts={
            "task": TASK,
            "is_drawn": study.drawn_rule is not None,
            "architecture": ARCHITECTURES.get(ARCH, ARCH),
            "rows": {
                "training": len(study.train.label),
                "validation": len(study.val.label),
                "reported": len(table.label),
                "explained": len(explained),
            },
            "reported": "test" if OPEN_TEST else "validation",
            "label": table.label_names[1],
            "groups": table.groups,
            "matrix_seconds": seconds,
        },
    )


def save(results, seconds):
    """Write tables, figures and income.json, all or none. Raises InputError."""
    facts = records.provenance(settings.constants_of(globals()), seconds, "cpu")
    files = {f"{RECORDS_DIR}/income.json": {**facts, **results.facts}}
    for name, table in results.tables().items():
        files[f"{RECORDS_DIR}/{name}.csv"] = table
    for name, figure in income_figures.draw_all(results, RULE).items():
        files[f"{RECORDS_DIR}/{name}.png"] = figure
        files[f"{RECORDS_DIR}/{name}.pdf"] = figure
    records.save(files)


if __name__ == "__main__":
    settings.run(main, globals(), resumes="networks/*.pth")
