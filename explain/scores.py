"""How alike heat-maps are. Each score is one number for each pair of maps."""

import numpy as np
from skimage.metrics import structural_similarity

WINDOW = 7  # pixels, of SSIM; scikit-image's default, with uniform weights


def ssim(maps, references):
    """Structural similarity (Wang et al. 2004) by scikit-image, (N,) float64; 1: the same.

    Its data_range is the larger maximum of the two maps. A range of 1, as of images, would call
    any two maps of sum 1 nearly the same.

    Args:
        maps: (N, H, W) float array, not negative.
        references: the same, or (H, W): what they are compared with.
    """
    scores = []
    for first, second in zip(maps, np.broadcast_to(references, maps.shape)):
        span = max(first.max(), second.max(), 1e-30)
        pair = (np.float64(first), np.float64(second))
        scores.append(structural_similarity(*pair, win_size=WINDOW, data_range=span))
    return np.array(scores)


def pcc(maps, references):
    """Pearson's correlation over pixels, (N,) float64; 0 where a map is constant."""
    first = np.float64(maps).reshape(len(maps), -1)
    second = np.float64(np.broadcast_to(references, maps.shape)).reshape(len(maps), -1)
    first, second = (part - part.mean(1, keepdims=True) for part in (first, second))
    size = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    return (first * second).sum(1) / np.maximum(size, 1e-30)


def squared_error(maps, references):
    """The mean over pixels of the squared difference, (N,) float64."""
    return ((np.float64(maps) - references) ** 2).mean((1, 2))


def relevance_mass(maps, references):
    """The share of a map that lies where the other is not 0, (N,) float64 (Arras et al. 2022)."""
    inside = np.broadcast_to(references, maps.shape) > 0
    return (np.float64(maps) * inside).sum((1, 2)) / np.maximum(maps.sum((1, 2)), 1e-30)


SCORES = {"ssim": ssim, "pcc": pcc, "mse": squared_error, "mass": relevance_mass}
