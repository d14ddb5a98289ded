"""Small grey images: MNIST and FashionMNIST in their own idx files, and scikit-learn's digits."""

import gzip
import os
import re
import zlib

from common.settings import InputError, list_names

import numpy as np
import torch

from readers.files import read_csv, require_folder
from readers.folders import halve
from readers.images import resize, without_groups

SIDE = 28  # pixels of a digit
TABLE = "mnist_5k.csv.gz"  # 784 pixels and the label in each row, no header
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker")
CLOTHES += ("bag", "ankle boot")


def digit_classes(data_dir):
    """Names of the classes by label: the digits. data_dir is not looked at."""
    return tuple("0123456789")


def clothes_classes(data_dir):
    """Names of FashionMNIST's classes by label. data_dir is not looked at."""
    return CLOTHES


def mnist(data_dir, purpose, image_size, name="mnist"):
    """MNIST's digits as Images, grey in three channels.

    Its training images are for "train". Of each class of its test images, half are for "values"
    and half for "report". Raises InputError on missing or damaged files. name: of its folder.
    """
    drawing = "signs: python datasets.py --TASK=folder"
    folder = require_folder(data_dir, name, f"{name}/", drawing)
    source = "train" if purpose == "train" else "t10k"
    table = os.path.join(folder, TABLE)
    if source == "train" and not _idx_path(folder, "train-images-idx3") and os.path.exists(table):
        pixels, labels, path = *_read_digit_table(table), table
    else:
        pixels, path = _read_idx(folder, f"{source}-images-idx3", (SIDE, SIDE))
        labels, _ = _read_idx(folder, f"{source}-labels-idx1", ())
    different = np.unique(labels)
    if (
        len(pixels) != len(labels)
        or len(different) < 2
        or not 0 <= different[0] <= different[-1] <= 9
    ):
        raise InputError(
            f"{path}: {len(pixels)} images and {len(labels)} labels ({list_names(different)}), "
            "which should be from 0 to 9; download it again"
        )
    if purpose != "train":  # halved by content: in file order the halves differ
        rows = halve([image.tobytes() for image in pixels], labels, purpose)
        pixels, labels = pixels[rows], labels[rows]
    return _grey_images(pixels, labels, image_size)


def fmnist(data_dir, purpose, image_size):
    """FashionMNIST's images, in the files and for the purposes of MNIST's."""
    return mnist(data_dir, purpose, image_size, "fmnist")


def small_digits(data_dir, purpose, image_size):
    """The 1,797 digits of 8 x 8 pixels in scikit-learn as Images, grey in three channels.

    Of each class half are for "train", a quarter each for "values" and "report". data_dir is not
    looked at.
    """
    from sklearn.datasets import load_digits  # here, since it takes a second

    digits = load_digits()
    pixels, labels = np.round(digits.images * (255 / 16)).astype(np.uint8), digits.target
    rows = np.arange(len(labels))
    half = "report" if purpose == "train" else "values"
    for part in (half,) if purpose == "train" else (half, purpose):
        kept = halve([image.tobytes() for image in pixels[rows]], labels[rows], part)
        rows = rows[kept]
    return _grey_images(pixels[rows], labels[rows], image_size)


def _grey_images(pixels, labels, image_size):
    """Pixels (N, H, W) uint8 as Images with three channels."""
    resized = np.stack([resize(image, image_size) for image in pixels])  # (N, S, S)
    images = torch.from_numpy(resized[..., None].repeat(3, -1)).permute(0, 3, 1, 2)
    return without_groups(images, labels)


def _read_digit_table(path):
    """Pixels (N, 28, 28) uint8 and labels (N,) of a table of digits. Raises InputError."""
    table = read_csv(path, header=None).to_numpy()
    is_table = table.shape[1] == SIDE * SIDE + 1 and table.dtype.kind == "i"
    if not is_table or table.min() < 0 or table.max() > 255:
        raise InputError(
            f"{path}: must hold {SIDE * SIDE} pixels and a label in each row, from 0 to 255; take "
            "it away, or put MNIST's own files there"
        )
    return table[:, :-1].reshape(-1, SIDE, SIDE).astype(np.uint8), table[:, -1]


def _idx_path(folder, name):
    """The path of one of MNIST's files, compressed or not; None if there is none.

    It may lie in raw/ or MNIST/raw/, as torchvision has it, or in a folder of its own name, and
    have dots or blanks for dashes in its name.
    """
    plain = _simplify(f"{name}-ubyte")
    for below in ("", "raw", "MNIST/raw"):
        place = os.path.join(folder, below)
        names = sorted(os.listdir(place)) if os.path.isdir(place) else []
        matching = {_simplify(other): other for other in names}
        for simple in (plain, f"{plain}gz"):
            if simple in matching:
                path = os.path.join(place, matching[simple])
                nested = os.path.join(path, matching[simple])  # as Kaggle's archive unpacks
                return nested if os.path.isdir(path) else path
    return None


def _simplify(name):
    """The letters and digits of a file's name; "test" is what some call MNIST's "t10k"."""
    simple = re.sub(r"[^a-z0-9]", "", name.lower())
    return re.sub("^test", "t10k", simple)


def _read_idx(folder, name, shape):
    """An idx file of bytes, (N, *shape) uint8, and its path. Raises InputError.

    The file: a big-endian magic number (its last byte: the number of axes), the length of each
    axis, then the bytes.
    """
    path = _idx_path(folder, name)
    if path is None:
        present = list_names(sorted(os.listdir(folder)), 8)
        raise InputError(
            f"{folder}: neither {name}-ubyte nor {name}-ubyte.gz, nor in raw/; it holds {present}; "
            "download it with MNIST"
        )
    try:
        with open(path, "rb") as file:
            content = file.read()
        if content.startswith(b"\x1f\x8b"):  # gzip's mark; some browsers take ".gz" away
            content = gzip.decompress(content)
        axes = 1 + len(shape)
        magic, *lengths = np.frombuffer(content, ">i4", 1 + axes).tolist()
        if magic != 0x800 + axes or tuple(lengths[1:]) != shape:
            raise ValueError("no idx file of this shape")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(lengths), path
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}); download it again") from None
