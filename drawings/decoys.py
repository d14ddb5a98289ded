"""Decoys: marks that follow the label, so that a network learns them in place of what it should.

A mark is a function (images, cue, n_cues, size, rng) that draws on images (N, 3, S, S) uint8 in
place. cue (N,) int says which of n_cues marks each image gets; size is in pixels. A new one is one
more function and one more entry of MARKS.
"""

import colorsys

import numpy as np

TINT = 0.25  # share of the colour in a tinted image
STRIPES = 20  # grey levels by which stripes rise above and fall below the image


def plant(images, cue, n_cues, mark, size, rng):
    """Images with marks.

    Args:
        images: (N, 3, S, S) uint8 array.
        cue: (N,) int, from 0 to n_cues - 1: the mark of each image; -1: none.
        n_cues: int, marks there are.
        mark: str, a name in MARKS.
        size: int, of the mark in pixels.
        rng: numpy Generator.

    Returns:
        (N, 3, S, S) uint8 array, a new one.
    """
    marked, rows = images.copy(), np.flatnonzero(cue >= 0)
    drawn = marked[rows]
    MARKS[mark](drawn, cue[rows], n_cues, size, rng)
    marked[rows] = drawn
    return marked


def draw_cues(label, n_classes, agreement, rng):
    """Which mark each image gets, (N,) int: that of its label, or else of another class.

    Args:
        label: (N,) int.
        n_classes: int.
        agreement: probability of the label's own mark: 1 "same", 0 "inverted", 1 / n_classes:
            marks that say nothing of the label.
        rng: numpy Generator.
    """
    other = (label + rng.integers(1, n_classes, len(label))) % n_classes
    return np.where(rng.random(len(label)) < agreement, label, other)


def colours(number):
    """Bright colours from red to blue, (number, 3) uint8."""
    hues = 2 / 3 * np.arange(number) / max(number - 1, 1)
    return np.round([np.multiply(255, colorsys.hsv_to_rgb(hue, 1, 1)) for hue in hues]).astype(
        np.uint8
    )


# ----------------------------------------------------------------------------- marks


def patch(images, cue, n_cues, size, rng):
    """A square in the upper left corner; its colour is the cue."""
    images[:, :, :size, :size] = colours(n_cues)[cue][:, :, None, None]


def moving_patch(images, cue, n_cues, size, rng):
    """The same square at a random place."""
    corners = rng.integers(0, images.shape[2] - size + 1, (len(images), 2))
    for image, (row, column), colour in zip(images, corners, colours(n_cues)[cue]):
        image[:, row : row + size, column : column + size] = colour[:, None, None]


def tint(images, cue, n_cues, size, rng):
    """The whole image shifted towards a colour, which is the cue. It has no size."""
    colour = colours(n_cues)[cue][:, :, None, None].astype(np.float32)
    images[:] = np.round((1 - TINT) * images + TINT * colour)


def stripes(images, cue, n_cues, size, rng):
    """Faint stripes over the whole image, 2 sizes apart; their direction is the cue."""
    side, angle = images.shape[2], np.pi * cue / n_cues
    row, column = np.mgrid[:side, :side]
    for image, direction, phase in zip(images, angle, rng.uniform(0, 2 * np.pi, len(images))):
        across = np.cos(direction) * column + np.sin(direction) * row
        wave = STRIPES * np.sin(np.pi * across / size + phase)
        image[:] = np.clip(np.round(image + wave), 0, 255)


def grey_corner(images, cue, n_cues, size, rng):
    """A square in a random corner; its grey level is the cue, the brightest first (DecoyMNIST)."""
    levels = np.round(255 - 250 * np.arange(n_cues) / n_cues).astype(np.uint8)
    corners = rng.integers(0, 2, (len(images), 2)) * (images.shape[2] - size)
    for image, (row, column), level in zip(images, corners, levels[cue]):
        image[:, row : row + size, column : column + size] = level


def ink(images, cue, n_cues, size, rng):
    """What is bright takes a colour, which is the cue (ColorMNIST). It has no size."""
    share = colours(n_cues)[cue][:, :, None, None] / np.float32(255)
    images[:] = np.round(images * share)


MARKS = {"patch": patch, "moving_patch": moving_patch, "tint": tint, "stripes": stripes}
MARKS |= {"grey_corner": grey_corner, "ink": ink}
