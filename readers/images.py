"""Sets of images as uint8 tensors, decoded once and mapped from a cache."""

import hashlib
import json
import os
import re
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from common import settings
from common.records import note, replace_file
from common.settings import InputError

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from readers.pixels import DECODING, FORMATS, read_rgb

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in [0, 1]
LFS_POINTER = b"version https://git-lfs"  # how a file begins that stands for one in Git LFS
LFS_REASON = "it is a pointer of Git LFS, not the image itself"
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


def resize(pixels, image_size):
    """An image (H, W) or (H, W, 3) uint8, enlarged or reduced to (image_size, image_size)."""
    size = (image_size, image_size)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def without_groups(images, label):
    """Images (N, 3, S, S) uint8 with labels (N,), a numpy array of class indices; no groups."""
    no_group = torch.full((len(images),), -1)
    return Images(images, torch.from_numpy(label.astype(np.int64)), no_group)


def note_copies(sets):
    """Say how many images are exact copies, pixel by pixel, of others in their set or another.

    Args:
        sets: {name: Images}, as a message calls them: "for the values".

    Raises:
        InputError: all images of a set are copies of images in one of the others.
    """
    labels = {}  # name -> hash -> label
    for name, data in sets.items():
        own, contradicted = labels.setdefault(name, {}), set()
        for image, label in zip(data.images, data.label.tolist()):
            pixels = image.permute(1, 2, 0).numpy().tobytes()
            key = hashlib.blake2b(pixels, digest_size=16).digest()
            if own.setdefault(key, label) != label:
                contradicted.add(key)
        if copies := len(data.label) - len(own):
            line = (
                f"{copies} of the {len(data.label)} images {name} are copies of others among them"
            )
            note(f"{line}; {len(contradicted)} images are in two classes" if contradicted else line)
        for earlier in list(labels)[:-1]:
            _compare_sets(name, earlier, own, labels[earlier])


def _compare_sets(name, earlier, own, known):
    """As note_copies, of two sets: {hash: label}."""
    copies = own.keys() & known.keys()
    if not copies:
        return
    if len(copies) == len(own):
        raise InputError(
            f"all images {name} are copies of images {earlier}, so they cannot show what holds on "
            "others; put other images there"
        )
    other_label = sum(own[key] != known[key] for key in copies)
    labelled = f", {other_label} of them with another label" if other_label else ""
    note(
        f"{len(copies)} of the {len(own)} different images {name} are copies of images {earlier}"
        f"{labelled}: scores on them say less about others"
    )


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
    return _frame_image(path, image_size, frame)[0]


def _frame_image(path, image_size, frame):
    """As read_image; also returns the corrections that the file took, a list of str."""
    try:
        image, corrections = read_rgb(path)
        if isinstance(frame, tuple):
            box = [fraction * side for fraction, side in zip(frame, image.size * 2)]
        else:
            reach = frame * min(image.size) / 2
            x, y = image.width / 2, image.height / 2
            box = [x - reach, y - reach, x + reach, y + reach]
        size = (image_size, image_size)
        return np.asarray(image.resize(size, Image.Resampling.BICUBIC, box)), corrections
    except Exception as error:  # Pillow raises a dozen kinds
        raise _cannot_decode(path, error) from None


def _cannot_decode(path, error):
    """InputError for an image file that raised an error when it was opened or decoded."""
    reason = getattr(error, "strerror", None) or error
    if os.path.islink(path) and not os.path.exists(path):
        reason = f"it is a link to {os.readlink(path)}, which does not exist"
    elif isinstance(error, UnidentifiedImageError):
        reason = _describe_content(path)
    fix = "replace it, or take it out (with its row, where a label file has one)"
    if reason == LFS_REASON:
        fix = "run git lfs pull where the images are from, to get them"
    return InputError(f"{path} cannot be decoded ({reason}); {fix}")


def _describe_content(path):
    """What a file holds that is none of the images that are read."""
    with open(path, "rb") as file:
        start = file.read(200)
    if not start:
        return "the file is empty"
    text, kind = start.lstrip(b"\xef\xbb\xbf \t\r\n"), ""
    if start.startswith(LFS_POINTER):
        return LFS_REASON
    if re.match(rb"<!doctype html|<html|<head|<body", text, re.IGNORECASE):
        kind = "a web page, as a download that failed leaves behind"
    elif text.startswith((b"<svg", b"<?xml")):
        kind = "XML, such as an SVG drawing"
    elif start[4:8] == b"ftyp" and start[8:11] in (b"hei", b"mif", b"hev"):
        kind = "a HEIC photo"
    elif all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start):
        kind = f'text that begins with "{" ".join(start.decode().split())[:40]}"'
    known = f"none of the formats that are read: {', '.join(FORMATS)}"
    return f"it is {kind}, {known}" if kind else known


def decode_images(name, paths, image_size, frame):
    """Image files as one tensor (N, 3, S, S) uint8, mapped from a cache file.

    The name of the cache file changes with the files (path, size, times, inode), the way that they
    are decoded, image_size and frame. It is written as a whole or not at all. A note says how many
    images took which correction; it is kept beside the cache.

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
    corrections = _corrections_path(cache)
    try:
        if os.path.exists(corrections):
            with open(corrections) as file:
                counts = [f"{count} {what}" for what, count in json.load(file).items()]
            note(f"{name}: of {len(paths)} images, {'; '.join(counts)}")
        images = np.load(cache, mmap_mode="r")
    except (ValueError, EOFError, AttributeError):
        fix = f"delete it, and {corrections} if there is one, and run again"
        raise InputError(f"{cache} is damaged; {fix}") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch wants it writable; no code here writes to it
        return torch.from_numpy(images).permute(0, 3, 1, 2)


def _cache_path(name, paths, image_size, frame):
    identities = [_identity(os.path.abspath(path)) for path in paths]
    key = json.dumps([DECODING, identities, image_size, frame])
    key = hashlib.sha256(key.encode()).hexdigest()[:16]
    return os.path.join(settings.CACHE_DIR, f"{name}-{image_size}px-{key}.npy")


def _identity(path):
    """What changes when other content comes to lie at a path, even of the same size and time."""
    try:
        stat = os.stat(path)
    except OSError as error:
        raise _cannot_decode(path, error) from None
    # st_ctime: of the last change of any kind, which no program can set; Windows: of creation.
    return (path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev)


def _corrections_path(cache):
    return cache.removesuffix(".npy") + ".json"


def _write_cache(cache, title, paths, image_size, frame):
    """Decode into the .npy file `cache`, (N, S, S, 3) uint8, with a progress bar.

    Counts of corrections, if any, go into a .json file beside it.
    """
    shape = (len(paths), image_size, image_size, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}

    def decode(path):
        return _frame_image(path, image_size, frame)

    corrections = Counter()
    with (
        warnings.catch_warnings(),
        replace_file(cache) as temporary,
        open(temporary, "wb") as file,
        ThreadPoolExecutor(os.cpu_count()) as pool,  # Pillow decodes without Python's lock
        tqdm(total=len(paths), desc=title, unit=" images") as bar,
    ):
        warnings.simplefilter("ignore")  # Pillow's remarks on large images and odd metadata
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(paths), CHUNK):
            for image, corrected in pool.map(decode, paths[start : start + CHUNK]):
                file.write(image)
                corrections.update(corrected)
                bar.update()
        if corrections:  # written first: images without it would seem to be as they were
            with replace_file(_corrections_path(cache)) as temporary, open(temporary, "w") as text:
                json.dump(dict(sorted(corrections.items())), text)
