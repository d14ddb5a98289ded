"""Heat-maps that a fairwashed network is to show: drawn ones, or an image file."""

import os

from common.settings import InputError

import numpy as np
from PIL import Image, UnidentifiedImageError

GLYPHS = {  # 7 rows of 5
    "4": ("...#.", "..##.", ".#.#.", "#..#.", "#####", "...#.", "...#."),
    "2": (".###.", "#...#", "....#", "...#.", "..#..", ".#...", "#####"),
}
CORNER = 0.27  # side of the corner, as a share of the image's


def draw_number(size):
    """A 42 in the middle, as in the original: (size, size) of 0 and 1."""
    rows = [f"{four}.{two}" for four, two in zip(GLYPHS["4"], GLYPHS["2"])]
    pixels = np.array([[mark == "#" for mark in row] for row in rows])
    scale = max(1, round(0.7 * size / pixels.shape[1]))
    pixels = pixels.repeat(scale, 0).repeat(scale, 1)
    top, side = ((size - length) // 2 for length in pixels.shape)
    target = np.zeros((size, size))
    target[top : top + pixels.shape[0], side : side + pixels.shape[1]] = pixels
    return target


def draw_corner(size):
    """A square in the upper left corner: (size, size) of 0 and 1."""
    target, side = np.zeros((size, size)), round(CORNER * size)
    target[:side, :side] = 1
    return target


TARGETS = {"42": draw_number, "corner": draw_corner}


def load_target(name, size):
    """A target, (size, size) float32 of sum 1.

    Args:
        name: str, a key of TARGETS, or the path of an image, whose grey levels are taken.
        size: int, pixels.

    Raises:
        InputError: no such file, or no image, or one that is black.
    """
    if name in TARGETS:
        target = TARGETS[name](size)
    elif not os.path.exists(name):
        raise InputError(f"TARGET={name}: no such file; give {', '.join(TARGETS)} or an image")
    else:
        try:
            with Image.open(name) as image:
                grey = image.convert("L").resize((size, size), Image.Resampling.BOX)
        except (OSError, UnidentifiedImageError):
            raise InputError(f"TARGET={name}: no image that can be read; give another") from None
        target = np.asarray(grey, dtype=np.float64)
    if not target.any():
        raise InputError(f"TARGET={name}: black, so that no map can equal it; give another")
    return np.float32(target / target.sum())
