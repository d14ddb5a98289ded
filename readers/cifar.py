"""CIFAR-10 in its binary files, or as a folder of images."""

import os

from common.settings import InputError

import numpy as np
import torch

from readers.files import require_folder
from readers.folders import folder, folder_classes, halve
from readers.images import resize, without_groups

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32  # pixels
TRAIN, TEST = [f"data_batch_{number}.bin" for number in range(1, 6)], ["test_batch.bin"]
UNPACKED = "cifar-10-batches-bin"  # the folder in the archive
PICKLED = "cifar-10-batches-py"  # that of the version for Python


def cifar10(data_dir, purpose, image_size):
    """CIFAR-10 as Images; nothing of an image is cut off.

    Its training images are for "train". Of each class of its test images, half are for "values"
    and half for "report". Of folders of images: as readers.folders.folder. Raises InputError.
    """
    place = _binary_place(data_dir)
    if place is None:
        return folder(os.path.join(data_dir, "cifar10"), purpose, image_size, 1.0)
    parts = [_read_batch(os.path.join(place, name)) for name in _batches(place, purpose)]
    pixels, labels = (np.concatenate(part) for part in zip(*parts))
    if purpose != "train":  # halved by content, as MNIST's
        rows = halve([image.tobytes() for image in pixels], labels, purpose)
        pixels, labels = pixels[rows], labels[rows]
    if image_size != SIDE:
        pixels = np.stack([resize(image, image_size) for image in pixels])
    return without_groups(torch.from_numpy(pixels).permute(0, 3, 1, 2), labels)


def cifar10_classes(data_dir):
    """Names of CIFAR-10's classes by label. Raises InputError."""
    if _binary_place(data_dir) is not None:
        return CLASSES
    return folder_classes(os.path.join(data_dir, "cifar10"))


def _binary_place(data_dir):
    """The folder of the binary files; None if there is none. Raises InputError for pickles."""
    root = require_folder(data_dir, "cifar10", "cifar10/")
    for place in (root, os.path.join(root, UNPACKED)):
        if any(os.path.exists(os.path.join(place, name)) for name in TRAIN + TEST):
            return place
    if os.path.isdir(os.path.join(root, PICKLED)) or os.path.exists(f"{root}/data_batch_1"):
        raise InputError(
            f"{root}: the version for Python, whose files are pickles and could run any code; "
            f"download CIFAR-10's binary version and put {UNPACKED}/ there"
        )
    return None


def _batches(place, purpose):
    """Names of the files for a purpose. Raises InputError if one is missing."""
    names = TRAIN if purpose == "train" else TEST
    missing = [name for name in names if not os.path.exists(os.path.join(place, name))]
    if missing:
        raise InputError(f"{place}: no {', '.join(missing)}; put CIFAR-10's binary files there")
    return names


def _read_batch(path):
    """Pixels (N, 32, 32, 3) uint8 and labels (N,) int64 of a binary file. Raises InputError.

    A record is the label, one byte, and the image: 32 x 32 bytes of red, of green, of blue.
    """
    content, length = np.fromfile(path, np.uint8), 1 + 3 * SIDE * SIDE
    rows = content[: len(content) // length * length].reshape(-1, length)
    if not len(rows) or len(content) % length or rows[:, 0].max() >= len(CLASSES):
        raise InputError(
            f"{path}: must hold records of {length} bytes that begin with a label from 0 to 9; "
            "download it again"
        )
    pixels = rows[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return pixels, rows[:, 0].astype(np.int64)
