"""A planted shortcut: a network spoiled on purpose, and repaired. Here the truth is known.

    python shortcut.py

A mark follows the label in the training images. A network that is trained on them goes by the mark,
and is wrong where it points to another class. Each repair sees the same few images, with marks that
say nothing of the label or without, and chooses by cross-validation on them how far it goes. The
report is of other images, with the mark of the label (same), of another class (inverted), of any
class (random), and without (absent).

TASK names the images: faces (CelebA's, by gender), celeba, mnist, folder. Writes under RECORDS_DIR:
shortcut.json, shortcut.png and .pdf, and shortcut.pth, the network. Interrupted, the same command
goes on with the next repair.
"""

import os
import time
from dataclasses import dataclass

from common import records, settings
from common.settings import (
    ARCH,
    CELEBA_FRAME,
    DATA_DIR,
    DEVICE,
    FAIRFACE_FRAME,
    IMAGE_SIZE,
    NORMALISATION,
    RECORDS_DIR,
    SEED,
    TASK,
    WEIGHTS,
    InputError,
)

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr

import datasets
import model
from drawings.decoys import MARKS, draw_cues, plant
from filters.choosers import Subject
from filters.coalitions import make_evaluator
from filters.repairs import REPAIRS, Budget, choose_step, network_logits, removal_path
from filters.value import fill_values
from report.shortcut import CONDITIONS, pack_bits, result_text, shortcut_figure

# -----------------------------------------------------------------------------
# the shortcut
MARK = "patch"  # one of MARKS in drawings/decoys.py: patch, moving_patch, tint, stripes, ...
MARK_SIZE = 8  # pixels
STRENGTH = 1.0  # share of the training images whose mark is that of their label
ERASED = False  # train without marks: the ceiling
# the network
EPOCHS = 3  # passes over the training images
BATCH_SIZE = 64  # images a step
LEARNING_RATE = 1e-4  # AdamW's highest, after a warm-up over the first tenth of the steps
# the repairs
REPAIR_NAMES = ""  # names in REPAIRS of filters/repairs.py with semicolons between; empty: all
IMAGES = 1000  # that a repair sees, drawn from those for the values
UNMARKED = 1 / 3  # share of these without a mark
AGREEMENT = -1.0  # share of the others whose mark is that of their label; -1: the mark of any class
DRAW = 0  # which draw of them, and of their marks
MAX_REMOVED = 30  # filters
ROUNDS = 60  # of the bandit, for values estimated once
TUNING_EPOCHS = 8  # of fine-tuning, at most
TUNING_RATES = (1e-4, 3e-4, 1e-3)  # learning rates tried; the head alone has ten times as much
FOLDS = 4  # of the cross-validation
# the report
CHOOSING = 1000  # training images that nothing is trained on, to settle constants with
CURVES = True  # after every step; False: only where a repair stops, which takes less time
OPEN_REPORT = True  # False: report on these, as long as anything is still to be settled
# -----------------------------------------------------------------------------

STREAMS = ["train", "values", "choose", "report"]  # of marks; each has a generator of its own
# What a network in shortcut.pth must share. CHOOSING decides which images were trained on.
TRAINED_WITH = ["TASK", "ARCH", "WEIGHTS", "IMAGE_SIZE", "NORMALISATION", "SEED", "MARK"]
TRAINED_WITH += ["MARK_SIZE", "STRENGTH", "ERASED", "EPOCHS", "BATCH_SIZE", "LEARNING_RATE"]
TRAINED_WITH += ["CHOOSING"]
# What a record must share that another run goes on with; the network's digest says the rest.
IDENTITY = ["TASK", "ARCH", "IMAGE_SIZE", "SEED", "MARK", "MARK_SIZE", "STRENGTH", "ERASED"]
IDENTITY += ["EPOCHS", "BATCH_SIZE", "LEARNING_RATE", "IMAGES", "UNMARKED", "AGREEMENT", "DRAW"]
IDENTITY += ["FOLDS", "MAX_REMOVED", "ROUNDS", "TUNING_EPOCHS", "TUNING_RATES", "CHOOSING"]
IDENTITY += ["OPEN_REPORT"]


@dataclass
class Sets:
    """All images, marked where they must be.

    Attributes:
        classes: tuple of str.
        train: Images, with marks that follow the label.
        values: Images that the repairs see, with marks that say nothing.
        report: {condition: Images}, the same images with other marks.
    """

    classes: tuple
    train: datasets.Images
    values: datasets.Images
    report: dict


def main():
    """Check, load, train, repair and evaluate, save, print."""
    started = time.time()
    names = check_constants()
    device = model.find_device(DEVICE)
    sets = load_sets()
    network = train_network(sets, device)
    subject = make_subject(network, sets, device)
    record = open_record(subject, sets)
    responses = mark_responses(subject, sets)
    for name in names:
        if name not in record["repairs"]:
            record["repairs"][name] = evaluate_repair(name, subject, sets, responses)
            save(record, time.time() - started, device)
        print(result_text(name, record["repairs"][name], record["images"]), flush=True)
    if any(result["removed"] for result in record["repairs"].values()):
        draw(record, subject, sets)


def check_constants():
    """The names of the repairs to run, a list. Raises InputError."""
    names = [name for name in REPAIR_NAMES.split(";") if name] or list(REPAIRS)
    for name, value, condition, rule in (
        ("MARK", MARK, MARK in MARKS, " or ".join(MARKS)),
        ("MARK_SIZE", MARK_SIZE, 1 <= MARK_SIZE <= IMAGE_SIZE, "from 1 to IMAGE_SIZE"),
        ("STRENGTH", STRENGTH, 0 <= STRENGTH <= 1, "from 0 to 1"),
        ("EPOCHS", EPOCHS, EPOCHS >= 1, "at least 1"),
        ("BATCH_SIZE", BATCH_SIZE, BATCH_SIZE >= 1, "at least 1"),
        ("LEARNING_RATE", LEARNING_RATE, LEARNING_RATE > 0, "above 0"),
        ("REPAIR_NAMES", REPAIR_NAMES, set(names) <= set(REPAIRS), f"of {'; '.join(REPAIRS)}"),
        ("UNMARKED", UNMARKED, 0 <= UNMARKED < 1, "at least 0 and below 1"),
        ("AGREEMENT", AGREEMENT, AGREEMENT == -1 or 0 <= AGREEMENT <= 1, "-1, or from 0 to 1"),
        ("IMAGES", IMAGES, IMAGES >= 2 * FOLDS, "at least two for each of the FOLDS"),
        ("MAX_REMOVED", MAX_REMOVED, MAX_REMOVED >= 1, "at least 1"),
        ("ROUNDS", ROUNDS, ROUNDS >= 1, "at least 1"),
        ("TUNING_EPOCHS", TUNING_EPOCHS, TUNING_EPOCHS >= 1, "at least 1"),
        ("TUNING_RATES", TUNING_RATES, min(TUNING_RATES) > 0, "above 0"),
        ("FOLDS", FOLDS, FOLDS >= 2, "at least 2"),
        ("CHOOSING", CHOOSING, CHOOSING >= 1, "at least 1"),
    ):
        settings.require(name, value, condition, rule)
    return names


# ----------------------------------------------------------------------------- images


def load_sets():
    """The Sets. Raises InputError."""
    task = "celeba" if TASK == "faces" else TASK
    frames = (CELEBA_FRAME, FAIRFACE_FRAME)
    classes = datasets.class_names(task, DATA_DIR)

    def load(purpose):
        return datasets.load(task, DATA_DIR, purpose, IMAGE_SIZE, *frames)

    train, values = load("train"), load("values")
    most = len(train.label) // 2
    settings.require("CHOOSING", CHOOSING, most >= CHOOSING, f"at most {most}")
    most = len(values.label)
    settings.require("IMAGES", IMAGES, most >= IMAGES, f"at most {most}, the images for the values")
    order = np.random.default_rng([SEED, 7]).permutation(len(train.label))
    choose, train = train.take(order[:CHOOSING]), train.take(order[CHOOSING:])
    drawn = np.random.default_rng([DRAW, 8]).permutation(most)[:IMAGES]
    report, stream = (load("report"), "report") if OPEN_REPORT else (choose, "choose")
    sets = {"train": train, "choose": choose, "values": values, stream: report}
    datasets.note_copies(datasets.purpose_names(sets))
    chance = 1 / len(classes)
    of_values = chance if AGREEMENT < 0 else AGREEMENT
    of_report = dict(zip(CONDITIONS, (1.0, 0.0, chance, None)))
    return Sets(
        classes,
        mark_images(train, None if ERASED else STRENGTH, "train", SEED, len(classes)),
        mark_images(values.take(drawn), of_values, "values", DRAW, len(classes), UNMARKED),
        {
            name: mark_images(report, share, stream, 0, len(classes))
            for name, share in of_report.items()
        },
    )


def mark_images(data, agreement, stream, seed, n_classes, unmarked=0):
    """Images with marks that agree with the label with this probability; None: without marks.

    unmarked: share of the images without one.
    """
    if agreement is None:
        return data
    rng = np.random.default_rng([seed, STREAMS.index(stream), 9])
    cue = draw_cues(data.label.numpy(), n_classes, agreement, rng)
    cue[rng.random(len(cue)) < unmarked] = -1
    marked = plant(data.images.numpy(), cue, n_classes, MARK, MARK_SIZE, rng)
    images = torch.from_numpy(marked).contiguous(memory_format=torch.channels_last)
    return data._replace(images=images, group=torch.full_like(data.label, -1))


# ----------------------------------------------------------------------------- network


def train_network(sets, device):
    """The network that goes by the mark: trained, or read from shortcut.pth."""
    path = f"{RECORDS_DIR}/shortcut.pth"
    trained_with = {name: globals()[name] for name in TRAINED_WITH}
    if os.path.exists(path):
        return model.load(path, sets.classes, **trained_with).to(device)
    torch.manual_seed(SEED)
    network = model.build(ARCH, WEIGHTS, IMAGE_SIZE, sets.classes, NORMALISATION).to(device)
    steps = EPOCHS * -(-len(sets.train.label) // BATCH_SIZE)
    optimizer, schedule = model.make_optimizer(network, LEARNING_RATE, steps)
    for epoch in range(EPOCHS):
        torch.manual_seed(SEED * 1000 + epoch)  # dropout has no other generator
        rng, bar = np.random.default_rng([SEED, epoch]), f"epoch {epoch + 1} of {EPOCHS}"
        steppers = (optimizer, schedule, rng, bar, datasets.may_mirror(TASK))
        model.run_epoch(network, sets.train, device, BATCH_SIZE, *steppers)
    checkpoint = model.pack_checkpoint(network, CLASSES=sets.classes, **trained_with)
    records.save({path: checkpoint})
    return network.eval()


def make_subject(network, sets, device):
    """The Subject of all repairs."""
    evaluator = make_evaluator(network, IMAGE_SIZE)
    if not evaluator.is_cut:
        raise InputError(f"ARCH={ARCH}: this network gives no guesses, which the repairs need")
    fills = fill_values(evaluator, sets.values, "mean")
    players, data = np.arange(len(fills)), sets.values
    return Subject(network, evaluator, fills, data, data, "soft_accuracy", players)


# ----------------------------------------------------------------------------- repairs


def mark_responses(subject, sets):
    """How much the mark moves each filter: {measure: (n_filters,) float64}. No estimate enters.

    Marks of images of the report are swapped. "output" is the mean absolute change of a filter's
    output, "margin" that of what it adds to the margin of the right class, to first order.
    """
    evaluator, device = subject.evaluator, subject.evaluator.device
    everyone = np.ones(len(subject.fills), dtype=bool)
    output, margin = np.zeros(len(everyone)), np.zeros(len(everyone))
    same, inverted = sets.report["same"], sets.report["inverted"]
    parts = (data.split(BATCH_SIZE) for data in (same.images, inverted.images, same.label))
    for before, after, label in zip(*parts):
        pair = [datasets.normalise(images, device) for images in (before, after)]
        output += evaluator.mean_changes(*pair).cpu().numpy()
        added = []
        for images in pair:
            evaluator.see(images, subject.fills)
            added.append(evaluator.first_order(everyone, label.to(device))[1])
        margin += (added[1] - added[0]).abs().sum(0).double().cpu().numpy()
    return {"output": output / len(same.label), "margin": margin / len(same.label)}


def evaluate_repair(name, subject, sets, responses):
    """What a repair comes to, a dict: its steps, the chosen one, accuracies of each condition.

    Accuracies are of all steps, or with CURVES=False of the chosen one, None for the others. And
    which images are right at the chosen step, packed by `pack_bits`; and whether the filters
    that it removes respond to the mark, by each measure of `mark_responses`: the share of all
    filters that respond less, on average over those removed at the chosen step (0.5: no better
    than chance), and the rank correlation of responses with values, -1 if the lowest respond most.
    """
    started = time.time()
    mirror = datasets.may_mirror(TASK)
    budget = Budget(MAX_REMOVED, ROUNDS, TUNING_EPOCHS, TUNING_RATES, SEED, mirror)
    chosen, validated = choose_step(REPAIRS[name], subject, budget, FOLDS)
    tuned = time.time()
    path = REPAIRS[name](subject, budget)
    seconds = {"cross-validation": tuned - started, "repair": time.time() - tuned}
    numbers = list(range(len(path.steps))) if CURVES else [chosen]
    accuracy, answers = {}, {}
    for condition, data in sets.report.items():
        right = path.logits(data.images, numbers).argmax(-1) == data.label.numpy()
        shares = dict(zip(numbers, right.mean(-1).tolist()))
        accuracy[condition] = [shares.get(number) for number in range(len(path.steps))]
        answers[condition] = pack_bits(right[numbers.index(chosen)])
    removed, response_of_removed, correlation = path.removed[:chosen], {}, {}
    for measure, response in responses.items():
        if removed:
            shares = rankdata(response) / len(response)
            response_of_removed[measure] = float(shares[removed].mean())
        if path.values is not None:
            correlation[measure] = float(spearmanr(response, path.values).statistic)
    return {
        "response_of_removed": response_of_removed,
        "response_and_value": correlation,
        "steps": path.steps,
        "chosen": chosen,
        "validated": validated.tolist(),
        "removed": path.removed,
        "accuracy": accuracy,
        "right": answers,
        "seconds": seconds,
    }


# ----------------------------------------------------------------------------- record


def open_record(subject, sets):
    """The record to go on with, a dict. Raises InputError if it is of another run."""
    network, device = subject.network, subject.evaluator.device
    path, constants = f"{RECORDS_DIR}/shortcut.json", settings.constants_of(globals())
    run = {name: constants[name] for name in IDENTITY}
    run["TUNING_RATES"] = list(TUNING_RATES)  # as JSON gives it back
    run["network"] = model.digest(network)
    run["images"] = datasets.digest(sets.values)
    if os.path.exists(path):
        record = records.load_json(path, "shortcut.py")
        before = record.get("run", {})
        changed = [name for name in run if before.get(name) != run[name]]
        if changed:
            raise InputError(
                f"{path} is of another run ({', '.join(changed)} differ); set them back, or give "
                "another --RECORDS_DIR"
            )
        return record
    answers = {}
    for condition, data in sets.report.items():
        logits = network_logits(network, data.images, device)
        answers[condition] = pack_bits(logits.argmax(-1) == data.label.numpy())
    record = {"run": run, "classes": list(sets.classes), "images": len(data.label)}
    return {**record, "right": answers, "repairs": {}}


def save(record, seconds, device):
    """Write shortcut.json."""
    facts = records.provenance(settings.constants_of(globals()), seconds, str(device))
    records.save({f"{RECORDS_DIR}/shortcut.json": {**record, **facts}})


# ----------------------------------------------------------------------------- figure


def draw(record, subject, sets):
    """Write shortcut.png and .pdf: answers and filters of the first repair that removes any."""
    result = next(result for result in record["repairs"].values() if result["removed"])
    removed = result["removed"][: result["chosen"]]
    path = removal_path(subject, removed, len(removed))
    label = sets.report["same"].label.numpy()
    rows = [int(np.argmax(label == number)) for number in range(2)]  # of two classes
    examples = [[] for _ in rows]
    for condition in ("same", "inverted", "absent"):
        images = sets.report[condition].images[rows]
        answers = path.logits(images).argmax(-1)
        for number, example in enumerate(examples):
            before, after = (sets.classes[answers[step][number]] for step in (0, -1))
            image = images[number].permute(1, 2, 0).numpy()
            example.append((condition, image, before, after))
    seen = slice(100)  # enough for a mean
    pair = [
        datasets.normalise(sets.report[name].images[seen], subject.evaluator.device)
        for name in ("same", "inverted")
    ]
    maps = []
    for number in removed[: len(rows)]:
        evaluator = subject.evaluator
        title = f"{evaluator.layers[number]}[{evaluator.channels[number]}]"
        maps.append((title, evaluator.change_map(number, *pair)))
    figure = shortcut_figure(record, examples, maps)
    records.save({f"{RECORDS_DIR}/shortcut.{kind}": figure for kind in ("png", "pdf")})


if __name__ == "__main__":
    settings.run(main, globals(), resumes="shortcut.pth")
