"""Folders that a data set must have: what lies in them, what is read, and what is left out."""

import os
import re
import zlib
from collections import Counter
from typing import NamedTuple

from common.records import note
from common.settings import InputError, list_names

import pandas as pd

from drawings.note import NOTE_FILE
from readers.pixels import IMAGE_ENDINGS

# What systems and programs put into folders, in small letters; hidden files are skipped anyway.
LITTER = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "#recycle"),
    *("#snapshot", "$recycle.bin", "recycler", "system volume information", "lost+found"),
    *("__pycache__", "_gsdata_", "network trash folder", "temporary items"),
}
# What images that lie beside x.jpg, and show no more than where things are in it, add to its name.
MASK_ENDINGS = ("mask", "masks", "seg", "segmentation", "annotation", "gt", "groundtruth", "depth")
MASK_ENDINGS += ("superpixels", "trimap", "matte")
MASKS = "masks of images beside them, by name"
HIDDEN = "hidden or system files and folders"
SPLITS = {  # the words by which a folder is known as a part of the data, in small letters
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev", "development"),
    "test": ("test", "tests", "testing", "tst", "holdout"),
    "eval": ("eval", "evaluation"),  # stands for test, or for val where there is a test too
}
SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}
FILLERS = {"set", "sets", "data", "dataset", "split", "part", "folder"}  # "train_set", "Test Data"
FILLERS |= {"image", "images", "img", "imgs", "photo", "photos", "picture", "pictures"}


class Contents(NamedTuple):
    """What lies in a folder, without what lies deeper."""

    images: list  # names of the images that are read, sorted
    folders: list  # names of the folders, sorted
    left_out: Counter  # how many others, by their ending; HIDDEN


# ----------------------------------------------------------------------------- listing


def list_contents(path):
    """The Contents of a folder. Raises InputError: no such folder, or a link that leads nowhere."""
    contents = Contents([], [], Counter())
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a folder that can be read") from None
    for entry in entries:
        name, ending = entry.name, os.path.splitext(entry.name)[1].lower()
        if name.startswith(".") or name.lower() in LITTER:
            contents.left_out[HIDDEN] += 1
        elif entry.is_symlink() and not os.path.exists(entry.path):
            raise _dangling(entry.path)
        elif entry.is_dir():
            contents.folders.append(name)
        elif ending in IMAGE_ENDINGS and entry.is_file():
            contents.images.append(name)
        elif name != NOTE_FILE:
            contents.left_out[ending or "no ending"] += 1
    return contents


def _dangling(path):
    """InputError for a link that leads nowhere, or to itself."""
    return InputError(
        f"{path} is a link to {os.readlink(path)}, which does not exist; put that file back, or "
        "take out the link"
    )


def list_images(folder):
    """Names of the images in a folder, sorted; none if there is no such folder.

    A note says what else lies there. Raises InputError on a link that leads nowhere.
    """
    if not os.path.isdir(folder):
        return []
    contents = list_contents(folder)
    if contents.left_out:
        note(f"{folder}: left out {describe(contents.left_out)}")
    return contents.images


def list_tree(path, listing=list_contents):
    """Paths of the images in a folder and its folders, sorted, and what is left out, a Counter.

    listing: a function of a folder's path that gives its Contents.

    Raises:
        InputError: a link leads nowhere or back, or one of the folders is named as a split.
    """
    paths, left_out, visited = [], Counter(), set()

    def visit(folder):
        real = os.path.realpath(folder)
        if real in visited:
            raise InputError(f"{folder} is a link to {real}, listed already; take out the link")
        visited.add(real)
        contents = listing(folder)
        masks = _masks(contents.images)
        left_out.update({MASKS: len(masks)} if masks else {})
        paths.extend(os.path.join(folder, name) for name in contents.images if name not in masks)
        left_out.update(contents.left_out)
        for name in contents.folders:
            if split_word(name) in SPLIT_OF.values():
                raise InputError(
                    f"{os.path.join(folder, name)}: a folder that is named as a part of the data, "
                    "in a folder of a class; put the parts on top, as in train/CLASS/, val/CLASS/"
                )
            visit(os.path.join(folder, name))

    visit(path)
    return sorted(paths), left_out


def _masks(names):
    """Those of a folder's images that are masks of others, as x_mask.png of x.jpg, a set."""
    stems = {os.path.splitext(name)[0] for name in names}
    masks = set()
    for name in names:
        base, _, word = re.sub(r"[-. ]", "_", os.path.splitext(name)[0]).rpartition("_")
        stem = os.path.splitext(name)[0][: len(base)]
        if word.lower() in MASK_ENDINGS and stem in stems:
            masks.add(name)
    return masks


def describe(counts):
    """Counts of what is left out, as text: "by ending: .heic 4, .txt 8; hidden ...: 2"."""
    endings = {ending: count for ending, count in counts.items() if ending != HIDDEN}
    listed = ", ".join(f"{ending} {count}" for ending, count in sorted(endings.items()))
    parts = [f"{sum(endings.values())} of other kinds ({listed})"] if endings else []
    parts += [f"{counts[HIDDEN]} {HIDDEN}"] if counts[HIDDEN] else []
    return " and ".join(parts) or "nothing"


# ----------------------------------------------------------------------------- parts of the data


def split_word(name):
    """The key of SPLITS that a folder's name stands for, in any case and with FILLERS, or None."""
    split, rest = _parse_split(name)
    return split if not rest else None


def names_split(name):
    """Whether one word of a folder's name, at least, is in SPLITS."""
    return _parse_split(name)[0] is not None


def _parse_split(name):
    """The key of SPLITS that one word of a name stands for, or None; and its other words."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    split, rest = None, []
    for word in re.findall(r"[^\W\d_]+", spaced):
        for filler in FILLERS:  # "trainset"
            if word.removesuffix(filler) in SPLIT_OF:
                word = word.removesuffix(filler)
        if word in SPLIT_OF and split is None:
            split = SPLIT_OF[word]
        elif word not in FILLERS:
            rest.append(word)
    return split, tuple(rest)


def find_splits(path, names):
    """Which of a folder's folders are parts of the data: {"train", "val", "test": name}, or {}.

    Names are taken in any case, with usual relatives (SPLITS), and with words that all of them
    share ("seg_train", "seg_test"). A note says what was taken for what.

    Raises:
        InputError: two folders stand for one part, or names hold both a class and a part.
    """
    by_rest = {}  # the other words of the name -> split -> names
    for name in names:
        split, rest = _parse_split(name)
        if split:
            by_rest.setdefault(rest, {}).setdefault(split, []).append(name)
    shared = {rest: named for rest, named in by_rest.items() if not rest or len(named) > 1}
    if len(shared) > 1 and () not in shared:
        mixed = sorted(
            name for named in shared.values() for group in named.values() for name in group
        )
        raise InputError(
            f"{path}: the names of {list_names(mixed)} hold both a class and a part of the data; "
            "put them into folders such as train/CLASS/ and val/CLASS/"
        )
    named = shared.get((), next(iter(shared.values()), {}))
    if "eval" in named:
        stands_for = "val" if "test" in named else "test"
        named.setdefault(stands_for, []).extend(named.pop("eval"))
    for split, group in named.items():
        if len(group) > 1:
            raise InputError(
                f"{path}: {' and '.join(sorted(group))} both are named as the {split} set; keep "
                "one of them there"
            )
    splits = {split: group[0] for split, group in named.items()}
    guessed = [f"{name}/ as {split}/" for split, name in splits.items() if name != split]
    if guessed:
        note(f"{path}: reads {', '.join(guessed)}")
    return splits


# ----------------------------------------------------------------------------- requirements


def require_folder(data_dir, name, holds, drawing=""):
    """The path of the folder `name` in data_dir, in any case.

    Args:
        data_dir: the folder of all data.
        name: of the folder in it.
        holds: what data_dir should hold, for the message.
        drawing: what to draw instead, for the message: "portraits: python datasets.py"; "": what
            cannot be drawn.

    Raises:
        InputError: there is no such folder.
    """
    folder = os.path.join(data_dir, name)
    if os.path.isdir(folder):
        return folder
    if os.path.islink(folder):
        raise _dangling(folder)
    present = sorted(os.listdir(data_dir)) if os.path.isdir(data_dir) else []
    for other in present:
        if other.lower() == name and os.path.isdir(os.path.join(data_dir, other)):
            return os.path.join(data_dir, other)
    holding = f"; {data_dir} holds {list_names(present)}" if os.path.isdir(data_dir) else ""
    raise InputError(
        f"{folder}: no such folder{holding}; DATA_DIR must be the folder that holds {holds}, as "
        "the README shows" + (f". Or draw {drawing} --DRAW=toy" if drawing else "")
    )


def _stem(path):
    """A file's name without folders and ending, in small letters."""
    return os.path.splitext(os.path.basename(path))[0].lower()


def read_csv(path, **options):
    """A file of one known form as a DataFrame; options as for pandas.read_csv. Raises InputError.

    Label files, whose forms differ, are read by readers/tables.py.
    """
    if not os.path.exists(path):
        raise InputError(f"{path} is missing; download it with the data set")
    try:
        return pd.read_csv(path, **options)
    except (ValueError, EOFError, OSError, zlib.error) as error:  # ValueError: of the parser too
        raise InputError(f"{path} cannot be read ({error}); download it again") from None


def require_images(path, names, present, folder):
    """Raise InputError unless every row of a label file has an image, and only one row each.

    A note says how many images have no row.

    Args:
        path: of the label file.
        names: (n,) pandas Series, the image that each row names.
        present: the names of the images that exist.
        folder: where they lie, for the message.
    """
    present = set(present)
    missing = [name for name in names if name not in present]
    if missing:
        similar = [name for name in present if _stem(name) == _stem(missing[0])]
        examples = list_names(sorted(similar or present), 2)
        raise InputError(
            f"{path}: {len(missing)} of {len(names)} rows have no image in {folder}, the first "
            f"'{missing[0]}'; there are {len(present)} images, such as {examples}; add the images "
            "or take the rows out"
        )
    duplicates = names[names.duplicated()].tolist()
    if duplicates:
        raise InputError(f"{path}: two rows for {duplicates[0]}; keep one")
    if extra := present.difference(names):
        listed = list_names(sorted(extra), 2)
        note(f"{path}: has no row for {len(extra)} images, which are left out ({listed})")
