"""Any folder of images that has one folder for each class."""

import hashlib
import os

from common.settings import InputError

import numpy as np
from torchvision.datasets import ImageFolder

from readers.images import decode_images, without_groups

# Side of the centred square that is used, as a share of an image's shorter side; torchvision's.
CROP = 0.875


def folder(data_dir, purpose, image_size):
    """A folder of images as Images, for "train", "values" or "report".

    folder_parts says which images are for what. Halves depend on what the files hold alone.

    Raises:
        InputError: the folder has no such part, or its parts do not fit each other.
    """
    parts, names = folder_parts(data_dir), folder_classes(data_dir)
    if purpose not in parts:
        raise InputError(
            f"{data_dir}: no folder train/ to train on; add train/CLASS/ and val/CLASS/, or leave "
            "training out: mab.py takes torchvision's weights where there is no squeezenet.pth"
        )
    source = parts[purpose]
    listing = _list_classes(source)
    if tuple(listing.classes) != names:
        different = ", ".join(sorted(set(listing.classes) ^ set(names))[:3])
        values = parts["values"]
        raise InputError(
            f"{source}: not the classes of {values} ({different} differ); make them the same"
        )
    samples = sorted(listing.samples)
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
    images = decode_images(f"folder-{purpose}", paths.tolist(), image_size, CROP)
    return without_groups(images, labels)


def folder_parts(data_dir):
    """Where the images for each purpose are: {"train": if there is one, "values", "report"}.

    With train/, val/ and test/: as their names say. Without test/, val/ is for "values" and
    "report"; without val/, test/ is. With none of them, all of data_dir is. One folder for both
    purposes is halved.

    Raises:
        InputError: there is only train/.
    """
    present = {}
    for name in ("train", "val", "test"):
        if os.path.isdir(os.path.join(data_dir, name)):
            present[name] = os.path.join(data_dir, name)
    if list(present) == ["train"]:
        raise InputError(f"{data_dir}: train/, but no val/ or test/; add one, to measure on")
    if "val" not in present and not {"train", "test"} <= present.keys():
        return {"values": data_dir, "report": data_dir}  # these names, if any, are classes
    parts = {"train": present["train"]} if "train" in present else {}
    report = present.get("test", present.get("val"))
    return parts | {"values": present.get("val", report), "report": report}


def folder_classes(data_dir):
    """Names of a folder's classes, in alphabetical order: a class's index is its label."""
    return tuple(_list_classes(folder_parts(data_dir)["values"]).classes)


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
    with open(path, "rb") as file:
        return file.read()


def _list_classes(path):
    """A folder that has one folder for each class, as torchvision lists it. Raises InputError."""
    try:
        listing = ImageFolder(path)
    except (OSError, ValueError) as error:  # no folder, no classes, or a class without images
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise InputError(
            f"{path}: {reason}. It must hold a folder of images for each class, or train/ and val/ "
            "which do"
        ) from None
    if len(listing.classes) < 2:
        raise InputError(
            f"{path}: only one class, {listing.classes[0]}; to tell classes apart takes two, each "
            "in a folder of its own"
        )
    return listing
