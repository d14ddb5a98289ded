"""Tangent spaces of the data at each image, for fairwashing.py.

    python projectors.py --TASK=mnist

For each report image the NEIGHBOURS nearest training images of its class, less their mean, and the
DIMENSIONS largest singular vectors of these differences (see explain/tangent.py). Writes
RECORDS_DIR/TASK.h5 (explain/tangent_files.py describes it). TARGETS computes some classes only; a
later run adds others to the same file. Interrupted, the same command goes on with the next class.
"""

from common import settings
from common.settings import DATA_DIR, InputError

import datasets
from explain import tangent_files
from explain.images import load_inputs
from explain.tangent import fit_tangent

# -----------------------------------------------------------------------------
TASK = "digits"  # the images: digits (in scikit-learn), mnist, fmnist, folder, celeba, faces
IMAGE_SIZE = 32  # pixels, of folder, celeba and faces; others have 28
RECORDS_DIR = "records/projectors"  # holds TASK.h5
NEIGHBOURS = 32  # k, training images of the same class
DIMENSIONS = 16  # d, singular vectors
STRICT = False  # True: tangent planes run through the image, not through its neighbours' mean
ALL_DATA = False  # True: also of the training images, to train through the projection
TARGETS = ""  # classes, numbers with commas between; "": all
LAYOUT = "compact"  # compact: 2 KB an image; original: the singular vectors, 50 KB at 28 pixels
OVERWRITE = False  # True: start the file anew
# -----------------------------------------------------------------------------


def main():
    """Check, load, compute and save class by class, print."""
    check_constants()
    sets = load_inputs(TASK, DATA_DIR, IMAGE_SIZE)
    targets = check_targets(sets)
    path = f"{RECORDS_DIR}/{TASK}.h5"
    facts = {"neighbours": NEIGHBOURS, "dimensions": DIMENSIONS, "strict": int(STRICT)}
    facts |= {"layout": LAYOUT, "data": sets.digest}
    is_new = OVERWRITE
    for part, name in [("test", "report")] + [("train", "train")] * ALL_DATA:
        done = set() if is_new else tangent_files.computed_classes(path, part, facts)
        for number in targets:
            if number not in done:
                compute(sets, part, name, number, path, facts, is_new)
                is_new = False
        print(f"{path}: {part}, classes {', '.join(sets.classes[number] for number in targets)}")


def check_constants():
    """Raise InputError for constants that cannot be."""
    for name, value, condition, rule in (
        ("TASK", TASK, TASK in datasets.LOADERS, f"one of {', '.join(datasets.LOADERS)}"),
        ("DIMENSIONS", DIMENSIONS, DIMENSIONS >= 1, "at least 1"),
        ("NEIGHBOURS", NEIGHBOURS, NEIGHBOURS > DIMENSIONS, "above DIMENSIONS"),
        ("LAYOUT", LAYOUT, LAYOUT in tangent_files.LAYOUTS, " or ".join(tangent_files.LAYOUTS)),
    ):
        settings.require(name, value, condition, rule)


def check_targets(sets):
    """The classes to compute, a list of int. Raises InputError."""
    numbers = range(len(sets.classes))
    parts = TARGETS.split(",") if TARGETS else map(str, numbers)
    rule = f"numbers of classes from 0 to {len(numbers) - 1}, with commas between"
    targets = [int(part) if part.strip().isdigit() else -1 for part in parts]
    settings.require("TARGETS", TARGETS, set(targets) <= set(numbers), rule)
    for number in targets:
        count = int((sets.label["train"] == number).sum()) - 1
        if count < NEIGHBOURS:
            raise InputError(
                f"NEIGHBOURS={NEIGHBOURS}: the class {sets.classes[number]} has {count + 1} "
                f"training images; give --NEIGHBOURS={count} or less"
            )
    return targets


def compute(sets, part, name, number, path, facts, is_new):
    """Compute the tangent spaces at the images of one class, and save them."""
    pool, label = sets.inputs["train"].flatten(1), sets.label
    options = (NEIGHBOURS, DIMENSIONS, STRICT, name == "train", [number])
    tangent = fit_tangent(sets.inputs[name].flatten(1), label[name], pool, label["train"], *options)
    rows = (label[name] == number).nonzero()[:, 0]
    tangent_files.add_class(path, part, number, rows, tangent, LAYOUT, facts, is_new)


if __name__ == "__main__":
    settings.run(main, globals(), resumes="*.h5")
