"""Any folder of images that has one folder for each class."""

import functools
import hashlib
import os
import unicodedata
from collections import Counter

from common.records import note
from common.settings import InputError, list_names

import numpy as np

from readers.files import describe, find_splits, list_contents, list_tree, names_split
from readers.images import decode_images, without_groups

# Side of the centred square that is used, as a share of an image's shorter side; torchvision's.
CROP = 0.875
# Names, in small letters, that say what files are, not what they show: images/ beside masks/.
NO_CLASSES = {"image", "images", "img", "imgs", "jpegimages", "data", "dataset", "datasets"}
NO_CLASSES |= {"unlabeled", "unlabelled", "unlabeled_images", "unlabelled_images"}


def folder(data_dir, purpose, image_size, crop=CROP):
    """A folder of images as Images, for "train", "values" or "report".

    folder_parts says which images are for what. Halves depend on what the files hold alone.
    crop: side of the centred square that is used, as a share of an image's shorter side.

    Raises:
        InputError: the folder has no such part, or its parts do not fit each other.
    """
    listing = functools.cache(list_contents)  # of each folder once
    parts = _find_parts(data_dir, listing)
    if purpose not in parts:
        raise InputError(
            f"{data_dir}: no folder train/ to train on; add train/CLASS/ and val/CLASS/, or leave "
            "training out: mab.py takes torchvision's weights where there is no squeezenet.pth"
        )
    source = parts[purpose]
    classes = classes_of_values = _list_classes(parts["values"], listing)
    if source != parts["values"]:
        classes = _list_classes(source, listing)
    names = tuple(classes_of_values)
    if tuple(classes) != names:
        different = ", ".join(sorted(set(classes) ^ set(names))[:3])
        values = parts["values"]
        raise InputError(
            f"{source}: not the classes of {values} ({different} differ); give both the same ones"
        )
    samples = sorted((path, names.index(name)) for name in names for path in classes[name])
    paths, labels = (np.array(column) for column in zip(*samples))
    if parts["values"] == parts["report"] and purpose != "train":
        rows = halve([_read_bytes(path) for path in paths], labels, purpose)
        missing = set(range(len(names))) - set(labels[rows].tolist())
        if missing:
            raise InputError(
                f"{source}/{names[min(missing)]}: one image, or copies of one, but each class is "
                "halved; add others, or take the folder away"
            )
        paths, labels = paths[rows], labels[rows]
    images = decode_images(f"folder-{purpose}", paths.tolist(), image_size, crop)
    return without_groups(images, labels)


def folder_parts(data_dir):
    """Where the images for each purpose are: {"train": if there is one, "values", "report"}.

    With train/, val/ and test/ (or relatives of these names, SPLITS of readers/files.py): as their
    names say. Without test/, val/ is for "values" and "report"; without val/, test/ is. With none
    of them, all of data_dir is. One folder for both purposes is halved. A note says which folders
    beside such parts are left out.

    Raises:
        InputError: there is only train/; or folders are parts of the data, but not of this layout.
    """
    return _find_parts(data_dir, functools.cache(list_contents))


def _find_parts(data_dir, listing):
    """As folder_parts. listing: a function of a folder's path that gives its Contents."""
    folders = listing(data_dir).folders
    splits = find_splits(data_dir, folders)
    if not splits:
        _refuse_unknown_parts(data_dir, folders, listing)
        return {"values": data_dir, "report": data_dir}
    beyond = sorted(set(folders) - set(splits.values()))
    present = {
        split: _unwrap(os.path.join(data_dir, name), listing) for split, name in splits.items()
    }
    for split, path in present.items():
        if not listing(path).folders:
            beside = f"beside {list_names(beyond)} " if beyond else ""
            raise InputError(
                f"{path}: {beside}this is taken for the {split} set, by its name, but it holds no "
                "folder for each class; add these, take it away, or, if it is a class itself, move "
                f"all classes into {os.path.join(data_dir, 'val')}"
            )
    if beyond:
        beside = ", ".join(splits.values())
        note(f"{data_dir}: left out the folders beside {beside}: {list_names(beyond)}")
    if present.keys() == {"train"}:
        raise InputError(f"{present['train']}: no val/ or test/ beside it; add one, to measure on")
    parts = {"train": present["train"]} if "train" in present else {}
    report = present.get("test", present.get("val"))
    return parts | {"values": present.get("val", report), "report": report}


def _unwrap(path, listing):
    """The folder of a part of the data, or the one in it that alone holds all, as train/train/."""
    contents = listing(path)
    if len(contents.folders) > 1 or contents.images:
        return path
    for name in contents.folders:
        if names_split(name):
            inner = os.path.join(path, name)
            note(f"{path}: reads what lies in {inner}")
            return inner
    return path


def _refuse_unknown_parts(data_dir, folders, listing):
    """Raise InputError if folders look like parts of the data: two or more hold the same classes.

    This is how parts are known whose names say nothing: fold1/ and fold2/, or other languages.
    """
    holders = {}  # names of the folders within -> folders
    for name in folders:
        contents = listing(os.path.join(data_dir, name))
        if len(contents.folders) > 1 and not contents.images:
            holders.setdefault(tuple(contents.folders), []).append(name)
    for classes, alike in holders.items():
        if len(alike) > 1:
            raise InputError(
                f"{data_dir}: {list_names(alike)} all hold the folders {list_names(classes)}, so "
                "they look like parts of the data, not like classes; name them train/, val/ and "
                "test/, or give one of them as --DATA_DIR. If they are classes, put their images "
                "into them without folders"
            )


def folder_classes(data_dir):
    """Names of a folder's classes, in alphabetical order: a class's index is its label."""
    listing = functools.cache(list_contents)
    return tuple(_list_classes(_find_parts(data_dir, listing)["values"], listing))


def halve(contents, labels, purpose):
    """The rows of one half of each class: "report" or, for any other purpose, the other half.

    Halves are made by hashes of what the images hold, so that copies lie in the same half.

    Args:
        contents: N bytes objects, in the order of the labels.
        labels: (N,) int.
        purpose: "report" or "values".
    """
    hashes = np.array([hashlib.sha256(content).hexdigest() for content in contents])
    rows = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank = np.unique(hashes[members], return_inverse=True)[1]
        upper = rank > rank.max() // 2
        rows.append(members[upper == (purpose == "report")])
    return np.sort(np.concatenate(rows))


def _read_bytes(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        fix = "give a file that can be read, or take it out"
        raise InputError(f"{path}: {error.strerror}; {fix}") from None


def _list_classes(path, listing):
    """{class: paths of its images}, in alphabetical order, of a folder with one folder a class.

    A note says what is left out, and how many images lie in folders within classes.

    Raises:
        InputError: fewer than two classes, a class without images, or two that are one.
    """
    contents = listing(path)
    left_out = Counter(contents.left_out)
    left_out.update({"images beside the classes": len(contents.images)} if contents.images else {})
    classes, deeper = {}, Counter()
    for name in contents.folders:
        folder = os.path.join(path, name)
        classes[name], ignored = list_tree(folder, listing)
        left_out.update(ignored)
        deeper[name] = sum(os.path.dirname(image) != folder for image in classes[name])
        if not classes[name]:
            holding = f"but {describe(ignored)}" if ignored else "the folder is empty"
            raise InputError(
                f"{folder}: no images for this class, {holding}; add images (of "
                "the formats in docs/records.md), or take the folder away"
            )
    _require_classes(path, classes, deeper)
    if left_out:
        note(f"{path}: left out {describe(left_out)}")
    stems = Counter(os.path.splitext(path)[0] for paths in classes.values() for path in paths)
    if twins := [stem for stem, count in stems.items() if count > 1]:
        note(
            f"{path}: {len(twins)} images have others of their name beside them, in another format "
            f"({list_names((f'{os.path.basename(stem)}.*' for stem in twins), 2)}): all are taken"
        )
    if deeper := +deeper:
        listed = list_names(f"{name} {count}" for name, count in deeper.items())
        note(f"{path}: some images are taken from folders within classes: {listed}")
    return classes


def _require_classes(path, classes, deeper):
    """Raise InputError unless there are two classes at least, all different.

    deeper: {class: number of its images that lie in folders within it}.
    """
    if not classes:
        raise InputError(
            f"{path}: no classes in it. It must hold a folder of images for each class, or train/ "
            "and val/ which do"
        )
    if len(classes) < 2:
        (name,) = classes
        inside = f"; is --DATA_DIR={os.path.join(path, name)} meant?" if deeper[name] else ""
        raise InputError(
            f"{path}: only one class, {name}; to tell classes apart takes two, each in a folder of "
            f"its own: add one{inside}"
        )
    for name in classes:
        if name.lower() in NO_CLASSES:
            beside = list_names(sorted(set(classes) - {name}))
            raise InputError(
                f"{path}: {name}/ beside {beside} cannot be a class, by its name; put a "
                "folder for each class there, or give another --DATA_DIR"
            )
    spellings, targets = {}, {}
    for name in classes:
        spelling = unicodedata.normalize("NFC", name).casefold().strip()
        target = os.path.realpath(os.path.join(path, name))
        for known, key in ((spellings, spelling), (targets, target)):
            if key in known:
                raise InputError(
                    f"{path}: {known[key]!r} and {name!r} are one class by their names or as "
                    "links; keep one of these folders"
                )
            known[key] = name
