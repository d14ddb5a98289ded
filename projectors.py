"""Tangent spaces of the data at each image, for fairwashing.py.

    python projectors.py --TASK=mnist
    python projectors.py --TASK=cifar10 --KIND=ae

KIND=linear: for each report image the NEIGHBOURS nearest training images of its class, less their
mean, and the DIMENSIONS largest singular vectors of these differences (see explain/tangent.py).
KIND=ae: an auto-encoder of each class with codes of DIMENSIONS numbers, and the Jacobian of its
decoder at the code of each image (see explain/autoencoder.py).

Writes RECORDS_DIR/TASK.h5 or TASK_ae.h5 (explain/tangent_files.py describes them). TARGETS computes
some classes only; a later run adds others to the same file. Interrupted, the same command goes on
with the next class, or with the next epoch of an auto-encoder.
"""

import pathlib

from common import settings
from common.settings import DATA_DIR, SEED, InputError

import torch

import datasets
from explain import tangent_files
from explain.autoencoder import Autoencoder, fit_decoded, train_autoencoder
from explain.images import load_inputs
from explain.tangent import fit_tangent
from explain.training import Recipe

# -----------------------------------------------------------------------------
TASK = "digits"  # digits (in scikit-learn), mnist, fmnist, cifar10, folder, celeba, faces
IMAGE_SIZE = 32  # pixels, of folder, celeba and faces; others have 28, cifar10 32
RECORDS_DIR = "records/projectors"  # holds TASK.h5
KIND = "linear"  # linear: from neighbours; ae: by auto-encoders, one a class
DIMENSIONS = 16  # d, singular vectors; ae: numbers of a code
ALL_DATA = False  # True: also of the training images, to train through the projection
TARGETS = ""  # classes, numbers with commas between; "": all
# compact: 2 KB an image; original: the singular vectors, 50 KB at 28 pixels; auto: compact where
# KIND has it
LAYOUT = "auto"
OVERWRITE = False  # True: start the file anew, and the auto-encoders
# KIND=linear
NEIGHBOURS = 32  # k, training images of the same class
STRICT = False  # True: tangent planes run through the image, not through its neighbours' mean
# KIND=ae
EPOCHS = 40  # passes over the training images of a class; 100 overfit CIFAR-10
BATCH_SIZE = 50  # images a step
LEARNING_RATE = 3e-3  # the highest
# -----------------------------------------------------------------------------


def main():
    """Check, load, compute and save class by class, print."""
    layout = check_constants()
    sets = load_inputs(TASK, DATA_DIR, IMAGE_SIZE)
    targets = check_targets(sets)
    path = f"{RECORDS_DIR}/{TASK}{'' if KIND == 'linear' else '_' + KIND}.h5"
    facts = {"dimensions": DIMENSIONS, "layout": layout, "data": sets.digest}
    if KIND == "linear":
        facts |= {"neighbours": NEIGHBOURS, "strict": int(STRICT)}
    else:
        facts |= {"seed": SEED, "epochs": EPOCHS}
        facts |= {"batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE}
    is_new = OVERWRITE
    for number in targets if OVERWRITE else ():
        pathlib.Path(autoencoder_path(number)).unlink(missing_ok=True)
    for part, name in [("test", "report")] + [("train", "train")] * ALL_DATA:
        done = set() if is_new else tangent_files.computed_classes(path, part, facts)
        for number in targets:
            if number not in done:
                rows = (sets.label[name] == number).nonzero()[:, 0]
                tangent = KINDS[KIND](sets, name, number, rows)
                tangent_files.add_class(path, part, number, rows, tangent, layout, facts, is_new)
                is_new = False
        print(f"{path}: {part}, classes {', '.join(sets.classes[number] for number in targets)}")


def check_constants():
    """The layout of the file, a str. Raises InputError for constants that cannot be."""
    layouts = tangent_files.LAYOUTS if KIND == "linear" else ("original",)
    least = DIMENSIONS if KIND == "linear" else 0
    layout = layouts[0] if LAYOUT == "auto" else LAYOUT
    for name, value, condition, rule in (
        ("TASK", TASK, TASK in datasets.LOADERS, f"one of {', '.join(datasets.LOADERS)}"),
        ("KIND", KIND, KIND in KINDS, " or ".join(KINDS)),
        ("DIMENSIONS", DIMENSIONS, DIMENSIONS >= 1, "at least 1"),
        ("NEIGHBOURS", NEIGHBOURS, least < NEIGHBOURS, "above DIMENSIONS"),
        ("LAYOUT", LAYOUT, layout in layouts, f"auto or {' or '.join(layouts)} with KIND={KIND}"),
        ("EPOCHS", EPOCHS, EPOCHS >= 1, "at least 1"),
        ("BATCH_SIZE", BATCH_SIZE, BATCH_SIZE >= 1, "at least 1"),
        ("LEARNING_RATE", LEARNING_RATE, LEARNING_RATE > 0, "above 0"),
    ):
        settings.require(name, value, condition, rule)
    return layout


def check_targets(sets):
    """The classes to compute, a list of int. Raises InputError."""
    numbers = range(len(sets.classes))
    parts = TARGETS.split(",") if TARGETS else map(str, numbers)
    rule = f"numbers of classes from 0 to {len(numbers) - 1}, with commas between"
    targets = [int(part) if part.strip().isdigit() else -1 for part in parts]
    settings.require("TARGETS", TARGETS, set(targets) <= set(numbers), rule)
    for number in targets:
        count = int((sets.label["train"] == number).sum()) - 1
        if KIND == "linear" and count < NEIGHBOURS:
            raise InputError(
                f"NEIGHBOURS={NEIGHBOURS}: the class {sets.classes[number]} has {count + 1} "
                f"training images; give --NEIGHBOURS={count} or less"
            )
    return targets


def fit_linear(sets, name, number, rows):
    """Tangent spaces of one class, from neighbours: Tangent."""
    pool, label = sets.inputs["train"].flatten(1), sets.label
    options = (NEIGHBOURS, DIMENSIONS, STRICT, name == "train", [number])
    return fit_tangent(sets.inputs[name].flatten(1), label[name], pool, label["train"], *options)


def fit_autoencoder(sets, name, number, rows):
    """Tangent spaces of one class, by its auto-encoder, trained or read: Decoded.

    Raises InputError.
    """
    inputs = sets.inputs["train"][sets.label["train"] == number]
    torch.manual_seed(SEED)
    network = Autoencoder(inputs.shape[1], inputs.shape[2], DIMENSIONS)
    recipe = Recipe(SEED, EPOCHS, BATCH_SIZE, LEARNING_RATE)
    path = autoencoder_path(number)
    run = {"data": sets.digest, "class": number, "dimensions": DIMENSIONS}
    bar = f"auto-encoder of {sets.classes[number]}"
    network = train_autoencoder(network, inputs, recipe, path, run, bar)[0]
    return fit_decoded(network, sets.inputs[name], rows, DIMENSIONS)


def autoencoder_path(number):
    """Path of the auto-encoder of a class."""
    return f"{RECORDS_DIR}/{TASK}_ae_{number}.pth"


KINDS = {"linear": fit_linear, "ae": fit_autoencoder}  # name -> how a class is computed

if __name__ == "__main__":
    settings.run(main, globals(), resumes="*.[hp]*")
