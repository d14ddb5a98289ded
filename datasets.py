"""CelebA, FairFace, MNIST, any folder of images, and drawn images, as uint8 tensors.

    python datasets.py               checks DATA_DIR, prints its counts, decodes every image once
    python datasets.py --DRAW=toy    draws images into toy/ first: portraits in the layout of the
                                     face sets, signs for TASK=folder, or a table for TASK=adult

Layouts by TASK (names, formats and labels that are read: docs/records.md, "Data folders"):
    faces    celeba/{train,val,test}/*.jpg with list_attr_celeba.csv
             celeba/img_align_celeba/*.jpg with list_attr_celeba and list_eval_partition, as .csv
             (Kaggle) or .txt (torchvision)
             fairface/{train,val}/*.jpg with fairface_label_train.csv, fairface_label_val.csv (the
             first may be missing)
    celeba   CelebA alone, as above
    mnist    mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte, also as .gz or in raw/; for
             training also mnist_5k.csv.gz
    fmnist   FashionMNIST in fmnist/, in files of the same names
    digits   the digits in scikit-learn; no files
    cifar10  CIFAR-10's binary files in cifar10/, or cifar10/{train,test}/CLASS/*.jpg (or .png)
    folder   {train,val,test}/CLASS/*.jpg: train/ if a network is to be trained; test/ may be
             missing, then val/ is halved; or CLASS/*.jpg, then each class is halved
    adult    adult/adult.data, adult/adult.test (UCI Adult): a table, which income.py reads
    compas   compas/compas-scores-two-years.csv (ProPublica): a table as well

What is left out, corrected or guessed is said in a line each, with counts, and is in the records.

A new data set is one function that reads it and one line in LOADERS, or in TABLES.
"""

import hashlib
import os
import shutil
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from common import settings
from common.settings import (
    CELEBA_FRAME,
    DATA_DIR,
    FAIRFACE_FRAME,
    IMAGE_SIZE,
    SEED,
    TASK,
    InputError,
)

import pandas as pd
import torch

from drawings.note import is_drawn, write_note
from drawings.portraits import write_portraits
from drawings.salaries import rule_labels, write_salaries
from drawings.signs import write_signs
from readers.cifar import cifar10, cifar10_classes
from readers.digits import clothes_classes, digit_classes, fmnist, mnist, small_digits
from readers.faces import (  # noqa: F401 (the scripts take them from here)
    GENDERS,
    GROUP_NAMES,
    GROUPS,
    celeba,
    celeba_table,
    face_classes,
    fairface,
    fairface_table,
)
from readers.folders import folder, folder_classes, folder_parts
from readers.images import (  # noqa: F401
    IMAGENET_MEAN,
    IMAGENET_STD,
    Images,
    note_copies,
    read_image,
)
from readers.people import adult, compas

# -----------------------------------------------------------------------------
DRAW = ""  # a new folder to draw images into; "" draws none
# -----------------------------------------------------------------------------

MEAN, STD = IMAGENET_MEAN, IMAGENET_STD  # of RGB in [0, 1]


def _three_purposes(data_dir):
    return ("train", "values", "report")


@dataclass(frozen=True)
class DataSet:
    """How the images of a task are read, and drawn if they can be.

    load(data_dir, purpose, image_size, **frames) -> Images
    class_names(data_dir) -> tuple of the classes' names, in the order of the labels
    purposes(data_dir) -> tuple of the purposes that load has images for
    frames: the names of the frames that load takes, celeba_frame and fairface_frame
    draw(folder, seed): writes a drawn set
    drawn_note: what the note in its folder says of it
    mirrors: whether an image and its mirror image are of the same class, so that training may
        mirror
    """

    load: Callable
    class_names: Callable
    purposes: Callable = _three_purposes
    frames: tuple[str, ...] = ()
    draw: Callable | None = None
    drawn_note: str = ""
    mirrors: bool = True


def _load_celeba(data_dir, purpose, image_size, celeba_frame):
    """CelebA's split for a purpose as Images. Raises InputError."""
    split = {"train": "train", "values": "val", "report": "test"}[purpose]
    return celeba(data_dir, split, image_size, celeba_frame)


def _load_faces(data_dir, purpose, image_size, celeba_frame, fairface_frame):
    """CelebA for "train"; FairFace for "values", "choose" and "report". Raises InputError."""
    if purpose == "train":
        return celeba(data_dir, "train", image_size, celeba_frame)
    return fairface(data_dir, purpose, image_size, fairface_frame)


def _face_purposes(data_dir):
    return ("train", "values", "choose", "report")


def _folder_purposes(data_dir):
    return tuple(folder_parts(data_dir))


LOADERS = {  # task -> DataSet
    "faces": DataSet(
        _load_faces,
        face_classes,
        _face_purposes,
        frames=("celeba_frame", "fairface_frame"),
        draw=write_portraits,
        drawn_note="Drawn portraits in the layouts of CelebA and FairFace: nobody in them exists.",
    ),
    "celeba": DataSet(_load_celeba, face_classes, frames=("celeba_frame",)),
    "mnist": DataSet(mnist, digit_classes, mirrors=False),
    "fmnist": DataSet(fmnist, clothes_classes),
    "digits": DataSet(small_digits, digit_classes, mirrors=False),
    "cifar10": DataSet(cifar10, cifar10_classes),
    "folder": DataSet(
        folder,
        folder_classes,
        _folder_purposes,
        draw=write_signs,
        drawn_note="Drawn signs of ten classes.",
    ),
}


@dataclass(frozen=True)
class TableSet:
    """How the table of a task is read, and drawn if it can be.

    load(data_dir, purpose) -> Table; purpose is "train" or "test"
    draw, drawn_note: as for DataSet
    rule(table) -> (N,) int, the labels by the rule of the drawn table
    """

    load: Callable
    draw: Callable | None = None
    drawn_note: str = ""
    rule: Callable | None = None


TABLES = {  # task -> TableSet
    "adult": TableSet(
        adult,
        write_salaries,
        "A drawn table in the layout of UCI Adult: nobody in it exists.",
        rule_labels,
    ),
    "compas": TableSet(compas),
}


def load_table(task, data_dir, purpose):
    """A task's Table. purpose: "train" or "test". Raises InputError."""
    return TABLES[task].load(data_dir, purpose)


def table_rule(task, data_dir):
    """The rule behind the labels of a drawn table, a function of a Table; None of a real one."""
    return TABLES[task].rule if is_drawn(data_dir) else None


def _image_set(task):
    """The DataSet of a task. Raises InputError: the task is a table."""
    if task in TABLES:
        images = ", ".join(LOADERS)
        raise InputError(f"TASK={task} is a table, which income.py reads; give one of {images}")
    return LOADERS[task]


def load(task, data_dir, purpose, image_size, celeba_frame, fairface_frame):
    """A task's set of images.

    Args:
        task: a key of LOADERS.
        data_dir: the folder of all data.
        purpose: "train", "values" (what V is measured on) or "report"; for faces also "choose".
        image_size: S, in pixels.
        celeba_frame: (left, top, right, bottom), the part of a CelebA image that is used.
        fairface_frame: the same for FairFace.

    Returns:
        Images with (N, 3, S, S) uint8.

    Raises:
        InputError: files are missing or damaged, or do not fit each other.
    """
    data_set = _image_set(task)
    frames = {"celeba_frame": celeba_frame, "fairface_frame": fairface_frame}
    wanted = {name: frames[name] for name in data_set.frames}
    return data_set.load(data_dir, purpose, image_size, **wanted)


def class_names(task, data_dir):
    """Names of a task's classes, a tuple in the order of the labels. Raises InputError."""
    return _image_set(task).class_names(data_dir)


def purposes(task, data_dir):
    """What a task has images for, a tuple of values for `load`'s purpose. Raises InputError."""
    return _image_set(task).purposes(data_dir)


def may_mirror(task):
    """Whether training may mirror the images of a task."""
    return _image_set(task).mirrors


def purpose_names(sets):
    """Sets of images by purpose as note_copies calls them: {"for the report": ...}."""
    names = {"train": "for training", "choose": "for choosing"}
    return {names.get(purpose, f"for the {purpose}"): data for purpose, data in sets.items()}


def set_names(data_dir):
    """What to call the two sets of faces in figures and tables: {"fairface": ..., "celeba": ...}.

    Drawn sets (with a note in their folder) must not be taken for the real ones.
    """
    if is_drawn(data_dir):
        return {"fairface": "balanced drawn portraits", "celeba": "unbalanced drawn portraits"}
    return {"fairface": "FairFace", "celeba": "CelebA"}


def digest(data):
    """Short hash, a str, of a set of Images with their labels and groups. It ties records to it."""
    state = hashlib.sha256()
    for tensor in (data.images, data.label, data.group):
        for rows in tensor.split(1000):  # the images may be larger than the memory
            state.update(rows.contiguous().numpy().tobytes())
    return state.hexdigest()[:16]


def normalise(images, device):
    """(B, 3, S, S) uint8 -> float32 on `device`, with ImageNet's mean 0, standard deviation 1."""
    mean, std = (torch.tensor(value, device=device).view(3, 1, 1) for value in (MEAN, STD))
    images = images.to(device).to(torch.float32, memory_format=torch.channels_last)
    return images.div_(255).sub_(mean).div_(std)


# ----------------------------------------------------------------------------- checking


def draw_into(folder_path, task, seed):
    """Draw a task's images into a new folder, all or none, with a note. Raises InputError."""
    if os.path.exists(folder_path):
        raise InputError(f"{folder_path} exists; draw into a new folder")
    partial = f"{folder_path.rstrip('/')}.{os.getpid()}.tmp"
    try:
        drawn = (LOADERS | TABLES)[task]
        drawn.draw(partial, seed)
        note = f"{drawn.drawn_note} Made by datasets.py --DRAW --SEED={seed}."
        write_note(partial, note)
        os.rename(partial, folder_path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def count_faces(data_dir):
    """Images of the face sets: a DataFrame, a row for each set, a column for each group."""
    celeba_rows = celeba_table(data_dir)
    celeba_groups = celeba_rows["male"].map({1: "men", 0: "women"})
    celeba_counts = pd.crosstab(celeba_rows["split"], celeba_groups)
    fairface_rows = fairface_table(data_dir)
    fairface_rows = fairface_rows[fairface_rows["purpose"] != ""]
    fairface_groups = fairface_rows["group"].map(dict(enumerate(GROUP_NAMES)))
    fairface_counts = pd.crosstab(fairface_rows["purpose"], fairface_groups)
    counts = {"celeba": celeba_counts, "fairface": fairface_counts}
    table = pd.concat(counts, names=["data", "set"])
    return table.reindex(columns=["women", "men", *GROUP_NAMES]).rename_axis(columns="group")


def check_faces(data_dir, image_size, celeba_frame, fairface_frame):
    """Print the counts of both face sets, then decode all their images. Raises InputError."""
    table = count_faces(data_dir).map(lambda images: f"{images:.0f}" if images > 0 else "-")
    print(table.to_string())
    sets = {}
    for split in ("train", "val", "test"):
        sets[f"of CelebA's {split}"] = celeba(data_dir, split, image_size, celeba_frame)
    note_copies(sets)
    sets = {}
    for purpose in ("values", "choose", "report"):
        sets[purpose] = fairface(data_dir, purpose, image_size, fairface_frame)
    note_copies(purpose_names(sets))


def check_classes(task, data_dir, image_size, celeba_frame, fairface_frame):
    """Decode all images of a task and print the count of each class. Raises InputError."""
    names, sets = class_names(task, data_dir), {}
    for purpose in purposes(task, data_dir):
        data = sets[purpose] = load(
            task, data_dir, purpose, image_size, celeba_frame, fairface_frame
        )
        counts = data.label.bincount(minlength=len(names)).tolist()
        listed = [f"{name} {count}".replace(" ", "\xa0") for name, count in zip(names, counts)]
        line = f"{purpose}: {len(data.label)} images of {len(names)} classes: {', '.join(listed)}"
        line = textwrap.fill(line, 100, subsequent_indent="    ", break_long_words=False)
        print(line.replace("\xa0", " "))  # a count stays on the line of its class
    note_copies(purpose_names(sets))


def check_table(task, data_dir):
    """Print the counts of a table's training and test rows. Raises InputError."""
    for purpose in ("train", "test"):
        table = load_table(task, data_dir, purpose)
        inputs = sum(len(table.levels.get(name, "1")) for name in table.attributes)
        print(
            f"{purpose}: {len(table.label)} rows of {len(table.attributes)} attributes "
            f"({inputs} inputs), {table.label.mean():.1%} with the label {table.label_names[1]}"
        )


def main():
    """Draw if asked to, then check a data folder; decoding finds damaged files."""
    data_dir = DATA_DIR
    if DRAW:
        drawable = [name for name, data_set in (LOADERS | TABLES).items() if data_set.draw]
        rule = f"left out, or with --TASK={' or --TASK='.join(drawable)}: only these can be drawn"
        settings.require("DRAW", DRAW, TASK in drawable, rule)
        draw_into(DRAW, TASK, SEED)
        data_dir = DRAW
    if TASK in TABLES:
        check_table(TASK, data_dir)
        print(f"{data_dir}: every row could be read.")
        return
    if TASK == "faces":
        check_faces(data_dir, IMAGE_SIZE, CELEBA_FRAME, FAIRFACE_FRAME)
    else:
        check_classes(TASK, data_dir, IMAGE_SIZE, CELEBA_FRAME, FAIRFACE_FRAME)
    print(f"{data_dir}: every label has its image, and every image could be decoded.")


if __name__ == "__main__":
    settings.run(main, globals())
