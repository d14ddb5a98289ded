"""Fairwashing: a network that shows a false explanation, and a defence (Anders et al., ICML 2020).

    python fairwashing.py

Trains a teacher (or takes the one at TEACHER), then for each of METHODS a student: it answers as
the teacher does, and its heat-map shows TARGET, whatever the image. Then explanations are projected
onto the tangent space of the data (TSP), and student, teacher and target are compared with and
without the projection. THROUGH_TSP adds students of an attacker who knows of the defence and trains
through it. projectors.py computes tangent spaces beforehand; otherwise they are computed here.

TASK: digits (scikit-learn's, no files needed), mnist, fmnist, cifar10, folder, celeba, faces (the
teacher is CelebA's; a student imitates it on CelebA and, without labels, on FairFace, and is
compared on other images of both, by group). Writes to RECORDS_DIR: scores.csv, curves.csv,
maps.npz (of people the mean over all images alone), fairwashing.json, figures, and networks/; of
faces also groups.csv. Interrupted, the same command goes on from the last epoch.

TASK=adult or compas: students of a network on a table, whose explanations give no relevance to the
attributes HIDDEN. hidden.csv then stands for scores.csv and maps.npz.
"""

import copy
import os
import time

from common import records, settings
from common.settings import CELEBA_FRAME, DATA_DIR, SEED, WEIGHTS

import numpy as np
import pandas as pd
import torch

import datasets
import model
from drawings.targets import load_target
from explain.defences import DEFENCES as OTHER_DEFENCES
from explain.heatmaps import METHODS as EXPLANATIONS
from explain.heatmaps import Explainer, set_activations
from explain.images import load_inputs
from explain.scores import pcc, ssim
from explain.student import (
    MAP_LOSSES,
    OUTPUT_LOSSES,
    Aim,
    answer,
    build_convnet,
    fill_network,
    train_student,
    train_teacher,
)
from explain.tangent import fit_tangent
from explain.tangent_files import open_tangents
from explain.training import OPTIMIZERS, Recipe, is_schedule
from report import fairwashing, fairwashing_figures, fairwashing_text, hidden
from tabular import dense, hiding

# -----------------------------------------------------------------------------
# digits (in scikit-learn), mnist, fmnist, cifar10, folder, celeba, faces; tables: adult, compas
TASK = "digits"
IMAGE_SIZE = 32  # pixels, of folder, celeba and faces; others have 28, cifar10 32
RECORDS_DIR = "records/fairwashing"  # results, and the networks
# the teacher
# convnet: the published small network; or as for train_squeeze.py; of a table as for income.py;
# auto: convnet, or of a table two hidden layers
ARCH = "auto"
TEACHER = ""  # a checkpoint of the network; "": trained here, one for each seed
TEACHER_EPOCHS = 12  # passes over the training images
TEACHER_RATE = 1e-3  # learning rate, the highest
# the students
METHODS = "grad,xgrad,intgrad,lrp"  # explanations that are faked, with commas between
SEEDS = 1  # students of each method, with the seeds SEED, SEED + 1, ...
THROUGH_TSP = 0  # seeds of which a second student is trained through the projection
TARGET = "42"  # the heat-map to show: 42, corner, or an image file
ALPHA = 0.8  # weight of the heat-map in the loss; 1 - ALPHA: of the outputs
IMITATED = 4000  # of faces, images that a student is trained on, half of them FairFace's
LOSS = "mse"  # between outputs of student and teacher: mse, kl
MAP_LOSS = "squared"  # between heat-map and target: squared, absolute
EPOCHS = (16, 16, 8, 12)  # passes over the training images, by grad, xgrad, intgrad and lrp
BATCH_SIZE = 128  # images a step
LEARNING_RATE = (2e-3, 2e-3, 2e-3, 3e-3)  # the highest, by the same four
OPTIMIZER = "adam"  # adam, sgd
SCHEDULE = "cycle"  # of the learning rate: cycle, constant, or epochs to divide it by ten, "50,80"
BETA = (20.0, 20.0, 20.0, 50.0)  # of Softplus, which stands for ReLU in training, by the four
STEPS_A_BATCH = 2  # of the 8 steps of integrated gradients, how many a batch draws
VALIDATION_INTERVAL = 4  # epochs between two looks at validation images
# a table, TASK=adult or compas
HIDDEN = "sex,race"  # attributes whose relevance is hidden; this is the target
SWAPPED = True  # whether students imitate the teacher on people with these swapped, too
PATIENCE = 3  # epochs without a lower validation loss after which the teacher's training stops
# the tangent spaces
PROJECTORS = ""  # a file of projectors.py; "": computed here
NEIGHBOURS = 32  # k, training images of the same class
DIMENSIONS = 16  # d, singular vectors
STRICT = False  # True: tangent planes run through the image, not through its neighbours' mean
# the report
DEFENCES = ""  # beside TSP, with commas between: smooth, ensemble, randomised; "": none
EVALUATED = 1000  # images of the report set at most, drawn at random
SHOWN = 2  # images of the figure
OPEN_REPORT = True  # False: results are of the validation images
# -----------------------------------------------------------------------------

SMALL = ["auto", "convnet"]  # names of the published network
PEOPLE = ["celeba", "faces"]  # tasks of which no image is saved, nor a map of one
METHOD_ORDER = list(EXPLANATIONS)  # that of EPOCHS, LEARNING_RATE and BETA


def main():
    """Load, train, evaluate, save, print."""
    started = time.time()
    methods = check_constants()
    # The derivatives of Softplus fade into denormal numbers, which take five times as long.
    torch.set_flush_denormal(True)
    if TASK in datasets.TABLES:
        return hide(methods, started)
    sets = load()
    target = load_target(TARGET, sets.pixels.shape[1])
    tangents = find_tangents(sets)
    students = train(sets, methods, target, tangents)
    results = evaluate(sets, students, target, tangents)
    save(results, time.time() - started)
    print(fairwashing_text.summary_text(results))
    print(f"{RECORDS_DIR}: tables and figures written.")


def check_constants():
    """The methods, a list. Raises InputError for constants that cannot be."""
    methods = METHODS.split(",")
    listed = f"of {', '.join(EXPLANATIONS)}, with commas between"
    settings.require("METHODS", METHODS, set(methods) <= EXPLANATIONS.keys(), listed)
    tasks = datasets.LOADERS | datasets.TABLES
    settings.require("TASK", TASK, TASK in tasks, f"one of {', '.join(tasks)}")
    listed = f"of {', '.join(OTHER_DEFENCES)}, with commas between"
    known = set(split_names(DEFENCES)) <= OTHER_DEFENCES.keys()
    settings.require("DEFENCES", DEFENCES, known, listed)
    at_least_one = {"SEEDS": SEEDS, "TEACHER_EPOCHS": TEACHER_EPOCHS, "BATCH_SIZE": BATCH_SIZE}
    at_least_one |= {"VALIDATION_INTERVAL": VALIDATION_INTERVAL, "DIMENSIONS": DIMENSIONS}
    for name, value in (at_least_one | {"SHOWN": SHOWN}).items():
        settings.require(name, value, value >= 1, "at least 1")
    for name, value, condition, rule in (
        ("THROUGH_TSP", THROUGH_TSP, 0 <= THROUGH_TSP <= SEEDS, "from 0 to SEEDS"),
        ("THROUGH_TSP", THROUGH_TSP, not THROUGH_TSP or TASK != "faces", "0 for TASK=faces"),
        ("IMITATED", IMITATED, IMITATED >= 2, "at least 2"),
        ("EPOCHS", EPOCHS, min(EPOCHS) >= 1, "at least 1"),
        ("LEARNING_RATE", LEARNING_RATE, min(LEARNING_RATE) > 0, "above 0"),
        ("TEACHER_RATE", TEACHER_RATE, TEACHER_RATE > 0, "above 0"),
        ("BETA", BETA, min(BETA) > 0, "above 0"),
        ("ALPHA", ALPHA, 0 <= ALPHA <= 1, "from 0 to 1"),
        ("LOSS", LOSS, LOSS in OUTPUT_LOSSES, " or ".join(OUTPUT_LOSSES)),
        ("MAP_LOSS", MAP_LOSS, MAP_LOSS in MAP_LOSSES, " or ".join(MAP_LOSSES)),
        ("OPTIMIZER", OPTIMIZER, OPTIMIZER in OPTIMIZERS, " or ".join(OPTIMIZERS)),
        ("SCHEDULE", SCHEDULE, is_schedule(SCHEDULE), "cycle, constant, or epochs such as 50,80"),
        ("STEPS_A_BATCH", STEPS_A_BATCH, 1 <= STEPS_A_BATCH <= 8, "from 1 to 8"),
        ("NEIGHBOURS", NEIGHBOURS, NEIGHBOURS > DIMENSIONS, "above DIMENSIONS"),
        ("EVALUATED", EVALUATED, EVALUATED >= 2, "at least 2"),
        ("TEACHER", TEACHER, not TEACHER or os.path.exists(TEACHER), "the path of a checkpoint"),
    ):
        settings.require(name, value, condition, rule)
    return list(dict.fromkeys(methods))


def split_names(text):
    """Names with commas between, a list of str, each once; "" gives none."""
    return list(dict.fromkeys(text.split(","))) if text else []


def load():
    """The Sets. Raises InputError."""
    scale = None if ARCH in SMALL else (datasets.MEAN, datasets.STD)
    sets = load_inputs(TASK, DATA_DIR, IMAGE_SIZE, EVALUATED, OPEN_REPORT, IMITATED, scale)
    count = len(sets.pixels)
    settings.require("SHOWN", SHOWN, count >= SHOWN, f"at most {count}, the images")
    return sets


def find_tangents(sets):
    """Tangent spaces of the report images, and of the training images if they are needed: a dict.

    Raises InputError.
    """
    names = ("report", "train") if THROUGH_TSP else ("report",)
    pool, label = sets.inputs["train"].flatten(1), sets.label["train"]
    least = int(label.bincount(minlength=len(sets.classes)).min()) - 1
    rule = f"at most {least}, the training images of a class but one"
    settings.require("NEIGHBOURS", NEIGHBOURS, least >= NEIGHBOURS, rule)
    tangents = {}
    for name in names:
        inputs = sets.inputs[name].flatten(1)
        if PROJECTORS:
            part = "train" if name == "train" else "test"
            rows = sets.rows if name == "report" else None
            tangents[name] = open_tangents(PROJECTORS, part, inputs, pool, rows, sets.digest)
        else:
            options = (NEIGHBOURS, DIMENSIONS, STRICT, name == "train")
            tangents[name] = fit_tangent(inputs, sets.label[name], pool, label, *options)
    return tangents


# ----------------------------------------------------------------------------- training


def train(sets, methods, target, tangents):
    """Train all teachers and students: {(method, attacker, seed): (student, teacher, curve)}.

    Raises InputError.
    """
    students = {}
    for seed in range(SEED, SEED + SEEDS):
        teacher = make_teacher(sets, seed)
        outputs = answer(teacher, sets.inputs["imitated"])
        for method in methods:
            attackers = [fairwashing.PLAIN] + [fairwashing.KNOWING] * (seed - SEED < THROUGH_TSP)
            for attacker in attackers:
                aim = make_aim(sets, method, attacker, target, outputs, tangents)
                aim.run |= {"teacher": model.digest(teacher)}
                network, curve = make_student(sets, teacher, aim, attacker, seed)
                students[method, attacker, seed] = network, teacher, curve
    return students


def make_teacher(sets, seed):
    """The teacher of a seed, trained, or read from TEACHER. Raises InputError."""
    torch.manual_seed(seed)
    inputs = sets.inputs["train"]
    channels, size = inputs.shape[1:3]
    if TEACHER and ARCH not in SMALL:
        constants = {"ARCH": ARCH, "IMAGE_SIZE": size, "CELEBA_FRAME": CELEBA_FRAME}
        return model.load(TEACHER, sets.classes, **constants)
    if ARCH in SMALL:
        network = build_convnet(channels, size, len(sets.classes))
    else:
        network = model.build(ARCH, WEIGHTS, size, sets.classes)
    if TEACHER:
        return fill_network(network, TEACHER)
    network.eval()  # dropout would draw numbers that an interrupted training does not draw again
    recipe = Recipe(seed, TEACHER_EPOCHS, BATCH_SIZE, TEACHER_RATE)
    path = f"{RECORDS_DIR}/networks/teacher_seed_{seed}.pth"
    run = {"data": sets.digest}
    bar = f"teacher, seed {seed}"
    return train_teacher(network, inputs, sets.label["train"], recipe, path, run, bar)[0]


def make_aim(sets, method, attacker, target, outputs, tangents):
    """What a student is trained for: Aim."""
    beta = BETA[METHOD_ORDER.index(method)]
    options = {"method": method, "attacker": attacker, "alpha": ALPHA, "loss": LOSS, "beta": beta}
    options |= {"map_loss": MAP_LOSS, "target": TARGET, "data": sets.digest}
    if sets.imitated_digest != sets.digest:
        options["imitated"] = sets.imitated_digest
    if method == "intgrad":
        options["steps_a_batch"] = STEPS_A_BATCH
    if attacker == fairwashing.KNOWING:
        options |= {"projectors": PROJECTORS, "neighbours": NEIGHBOURS}
        options |= {"dimensions": DIMENSIONS, "strict": STRICT}
    tangent = tangents["train"] if attacker == fairwashing.KNOWING else None
    losses = (ALPHA, LOSS, MAP_LOSS, beta, STEPS_A_BATCH)
    goal = (torch.from_numpy(target), outputs, *losses)
    return Aim(Explainer(method, sets.low, sets.high), *goal, tangent, options)


def make_student(sets, teacher, aim, attacker, seed):
    """A student and its curve, trained or read. Raises InputError."""
    inputs, network = sets.inputs["imitated"], copy.deepcopy(teacher)
    method, target = aim.explainer.method, aim.target.numpy()
    name = method + "_through_tsp" * (attacker == fairwashing.KNOWING)
    epochs, rate = (part[METHOD_ORDER.index(method)] for part in (EPOCHS, LEARNING_RATE))
    recipe = Recipe(seed, epochs, BATCH_SIZE, rate, OPTIMIZER, SCHEDULE)
    seen = sets.inputs["validation"][:250]  # enough for a curve
    classes = answer(teacher, seen).argmax(1)

    def validate(student):
        maps, logits = aim.explainer.heatmap(student, seen)
        agreement = (logits.argmax(1) == classes).double().mean().item()
        alike = {kind.__name__: kind(maps.numpy(), target).mean() for kind in (ssim, pcc)}
        return {"agreement": agreement} | {key: float(value) for key, value in alike.items()}

    path = f"{RECORDS_DIR}/networks/{name}_seed_{seed}.pth"
    bar = f"{name.replace('_', ' ')}, seed {seed}"
    looks = (bar, validate, VALIDATION_INTERVAL)
    return train_student(network, inputs, aim, recipe, path, *looks)


# ----------------------------------------------------------------------------- results


def evaluate(sets, students, target, tangents):
    """All that is measured: fairwashing.Results."""
    inputs, label = sets.inputs["report"], sets.label["report"].numpy()
    tangent, tables, curves, teachers, groups = tangents["report"], [], [], {}, []
    shape = tuple(inputs.shape[1:])
    projected_target = fairwashing.project_target(target, tangent, len(inputs), shape)
    maps = {"target": target.astype(np.float16)}
    if TASK not in PEOPLE:
        maps["images"] = sets.pixels[:SHOWN]
    for (method, attacker, seed), (network, teacher, curve) in students.items():
        explainer, bar = (
            Explainer(method, sets.low, sets.high),
            f"heat-maps by {method}, seed {seed}",
        )
        explained = {}
        for name, part in (("student", network), ("teacher", teacher)):
            if name == "teacher" and (method, seed) in teachers:
                explained[name] = teachers[method, seed]
                continue
            explained[name] = fairwashing.explain_images(
                set_activations(part),
                explainer,
                inputs,
                tangent,
                f"{bar}, {name}",
                defences=split_names(DEFENCES),
            )
        teachers[method, seed] = explained["teacher"]
        pair = (explained["student"], explained["teacher"])
        table = fairwashing.score_table(*pair, label, target, projected_target)
        key = {"method": method, "attacker": attacker, "seed": seed}
        if TASK == "faces":
            groups.append(compare_groups(sets, network, teacher, pair).assign(**key))
        tables.append(table.assign(**key)[fairwashing.COLUMNS])
        curves += [key | {"epoch": number} | row for number, row in enumerate(curve, 1)]
        for name, part in explained.items():
            for kind, values in part.maps.items() if seed == SEED else ():
                key = f"{method}/{attacker}/{name}/{kind}"
                shown = values.mean(0, keepdims=True) if TASK in PEOPLE else values[:SHOWN]
                maps[key] = shown.astype(np.float16)
    facts = {"task": TASK, "target": TARGET, "reported": "test" if OPEN_REPORT else "validation"}
    facts["images"] = {name: len(part) for name, part in sets.label.items()}
    facts["classes"] = list(sets.classes)
    groups = pd.concat(groups)[fairwashing.GROUP_COLUMNS] if groups else None
    return fairwashing.Results(pd.concat(tables), pd.DataFrame(curves), maps, facts, groups)


def compare_groups(sets, student, teacher, pair):
    """Accuracy and agreement on CelebA, and on FairFace by group: see group_table.

    pair: Explained of student and teacher, on the report images.
    """
    celeba = sets.inputs["celeba"]
    classes = [answer(network, celeba).argmax(1).numpy() for network in (student, teacher)]
    every = {datasets.set_names(DATA_DIR)["celeba"]: np.full(len(celeba), True)}
    table = fairwashing.group_table(*classes, sets.label["celeba"].numpy(), every)
    classes = [part.outputs.argmax(1) for part in pair]
    groups = {datasets.set_names(DATA_DIR)["fairface"]: np.full(len(sets.group), True)}
    groups |= {name: sets.group == n for n, name in enumerate(datasets.GROUP_NAMES)}
    label = sets.label["report"].numpy()
    return pd.concat([table, fairwashing.group_table(*classes, label, groups)])


def save(results, seconds):
    """Write tables, maps, figures and fairwashing.json, all or none. Raises InputError."""
    facts = records.provenance(settings.constants_of(globals()), seconds, "cpu")
    files = {f"{RECORDS_DIR}/fairwashing.json": {**facts, **results.facts}}
    files[f"{RECORDS_DIR}/scores.csv"] = results.scores
    files[f"{RECORDS_DIR}/curves.csv"] = results.curves
    files[f"{RECORDS_DIR}/maps.npz"] = results.maps
    if results.groups is not None:
        files[f"{RECORDS_DIR}/groups.csv"] = results.groups
    for name, figure in fairwashing_figures.draw_all(results).items():
        files[f"{RECORDS_DIR}/{name}.png"] = figure
        files[f"{RECORDS_DIR}/{name}.pdf"] = figure
    records.save(files)


# ----------------------------------------------------------------------------- a table


def hide(methods, started):
    """The study of a table: train, evaluate, save, print. Raises InputError."""
    for name in ("THROUGH_TSP", "TEACHER", "PROJECTORS"):
        settings.require(name, globals()[name], not globals()[name], "left out: of images only")
    settings.require("PATIENCE", PATIENCE, PATIENCE >= 1, "at least 1")
    rows = hiding.load_rows(TASK, DATA_DIR, split_names(HIDDEN), EVALUATED, OPEN_REPORT)
    tangent, students, folder = find_tangents(rows)["report"], {}, f"{RECORDS_DIR}/networks"
    for seed in range(SEED, SEED + SEEDS):
        options = (TEACHER_EPOCHS, BATCH_SIZE, TEACHER_RATE, PATIENCE)
        teacher_recipe = dense.Recipe(hiding.ARCH if ARCH == "auto" else ARCH, seed, *options)
        teacher = hiding.train_teacher(rows, teacher_recipe, f"{folder}/teacher_seed_{seed}.pth")
        for method in methods:
            epochs, rate, beta = (
                part[METHOD_ORDER.index(method)] for part in (EPOCHS, LEARNING_RATE, BETA)
            )
            losses = {"alpha": ALPHA, "output_loss": LOSS, "beta": beta}
            losses["steps_a_batch"] = STEPS_A_BATCH
            recipe = Recipe(seed, epochs, BATCH_SIZE, rate, OPTIMIZER, SCHEDULE)
            options = (Explainer(method, rows.low, rows.high), SWAPPED, losses, recipe)
            path = f"{folder}/{method}_seed_{seed}.pth"
            trained = hiding.hide_attributes(rows, teacher, *options, path, VALIDATION_INTERVAL)
            students[method, seed] = (*trained, teacher)
    facts = {"task": TASK, "reported": "test" if OPEN_REPORT else "validation"}
    facts |= {"is_drawn": datasets.table_rule(TASK, DATA_DIR) is not None, "swapped": SWAPPED}
    results = hidden.evaluate(rows, students, tangent, split_names(DEFENCES), facts)
    facts = records.provenance(settings.constants_of(globals()), time.time() - started, "cpu")
    records.save(hidden.files(results, facts, RECORDS_DIR))
    print(hidden.summary_text(results))
    print(f"{RECORDS_DIR}: tables and figures written.")


if __name__ == "__main__":
    settings.run(main, globals(), resumes="networks/*.pth")
