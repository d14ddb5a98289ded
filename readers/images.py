"""Sets of images as uint8 tensors, decoded once and mapped from a cache."""

import hashlib
import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from common.records import replace_file
from common.settings import InputError

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

CACHE_DIR = ".cache"  # decoded images; safe to delete
CHUNK = 1024  # images in memory at once while decoding, should the disk be slow


class Images(NamedTuple):
    """A set of images with their labels."""

    images: torch.Tensor  # (N, 3, S, S) uint8, channels last in memory
    label: torch.Tensor  # (N,) int64, the class index; for faces 1 is male, 0 female
    # (N,) int64: index into GROUPS; CLEAN or ADVERSARY of filters/measures.py; -1: none
    group: torch.Tensor
    # (N,) float32, how much each counts in a mean over the images, 1 on average; None: all the same
    weight: torch.Tensor | None = None

    def apply(self, function):
        """The Images of function(tensor) for each of the tensors."""
        return Images(*(None if tensor is None else function(tensor) for tensor in self))

    def take(self, rows):
        """The images at `rows`, an index or mask over the N."""
        return self.apply(lambda tensor: tensor[rows])


def without_groups(images, label):
    """Images (N, 3, S, S) uint8 with labels (N,), a numpy array of class indices; no groups."""
    no_group = torch.full((len(images),), -1)
    return Images(images, torch.from_numpy(label.astype(np.int64)), no_group)


def read_image(path, image_size, frame):
    """The part of an image file inside `frame`, (S, S, 3) uint8.

    Args:
        path: of the file.
        image_size: S, in pixels.
        frame: (left, top, right, bottom) as fractions of the image; or one number: the side of a
            centred square, as a share of the image's shorter side.

    Raises:
        InputError: the file cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            if isinstance(frame, tuple):
                box = [fraction * side for fraction, side in zip(frame, image.size * 2)]
            else:
                reach = frame * min(image.size) / 2
                x, y = image.width / 2, image.height / 2
                box = [x - reach, y - reach, x + reach, y + reach]
            size = (image_size, image_size)
            return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC, box))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        fix = "replace it, or take out the file and its row"
        raise InputError(f"{path} cannot be decoded ({error}); {fix}") from None


def decode_images(name, paths, image_size, frame):
    """Image files as one tensor (N, 3, S, S) uint8, mapped from a cache file.

    The name of the cache file changes with the files (path, size, time), image_size and frame.
    It is written as a whole or not at all.

    Args:
        name: of the set; the cache file's name starts with it.
        paths: a list of N paths.
        image_size: S, in pixels.
        frame: as for read_image.

    Raises:
        InputError: a file cannot be decoded, or the cache cannot be written or read.
    """
    cache = _cache_path(name, paths, image_size, frame)
    if not os.path.exists(cache):
        _write_cache(cache, f"decoding {name}", paths, image_size, frame)
    try:
        images = np.load(cache, mmap_mode="r")
    except (ValueError, EOFError):
        raise InputError(f"{cache} is damaged; delete it and run again") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch wants it writable; no code here writes to it
        return torch.from_numpy(images).permute(0, 3, 1, 2)


def _cache_path(name, paths, image_size, frame):
    absolute = [os.path.abspath(path) for path in paths]
    stats = [(path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in absolute]
    key = hashlib.sha256(json.dumps([stats, image_size, frame]).encode()).hexdigest()[:16]
    return os.path.join(CACHE_DIR, f"{name}-{image_size}px-{key}.npy")


def _write_cache(cache, title, paths, image_size, frame):
    """Decode into the .npy file `cache`, (N, S, S, 3) uint8, with a progress bar."""
    shape = (len(paths), image_size, image_size, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}

    def decode(path):
        return read_image(path, image_size, frame)

    with (
        replace_file(cache) as temporary,
        open(temporary, "wb") as file,
        ThreadPoolExecutor(os.cpu_count()) as pool,  # Pillow decodes without Python's lock
        tqdm(total=len(paths), desc=title, unit=" images") as bar,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(paths), CHUNK):
            for image in pool.map(decode, paths[start : start + CHUNK]):
                file.write(image)
                bar.update()
