"""Skin images of the ISIC archive, with masks of the coloured patches on benign ones."""

import os
from collections import Counter

from common.settings import InputError, list_names

import numpy as np
import torch
from torch.nn.functional import max_pool2d

from readers.files import list_images, require_folder
from readers.images import decode_images

CLASSES = ("no_cancer", "cancer")  # folders by label
MASKED = 100  # a mask's red above this is patch, as in the original's code
WHOLE = (0.0, 0.0, 1.0, 1.0)  # patches lie at the border, so nothing is cut off


def isic(data_dir, image_size):
    """Images squeezed to a square, where their patches are, and labels.

    Masks may have other sizes than their images, and are widened by a pixel. They come from
    isic/segmentation/, and bear the names of images in isic/processed/no_cancer/.

    Returns:
        images (N, 3, S, S) uint8, patches (N, S, S) bool: none where an image has no mask, and
        label (N,) int64, 1 for cancer; all tensors.

    Raises:
        InputError: a folder is missing or empty, a mask has no image, or a file is damaged.
    """
    folder = require_folder(data_dir, "isic", "isic/{processed,segmentation}/")
    places = [os.path.join(folder, "processed", name) for name in CLASSES]
    place_of_masks = os.path.join(folder, "segmentation")
    names = [_require_images(place, "add images") for place in places]
    masks = _require_images(place_of_masks, "add the masks of the patches")
    rows = _match_masks(names[0], masks, places[0], place_of_masks)
    paths = [os.path.join(place, name) for place, part in zip(places, names) for name in part]
    images = decode_images("isic", paths, image_size, WHOLE).contiguous()
    paths = [os.path.join(place_of_masks, name) for name in masks]
    red = decode_images("isic-masks", paths, image_size, WHOLE)[:, 0]
    patches = torch.zeros(len(images), image_size, image_size, dtype=torch.bool)
    patches[rows] = max_pool2d((red > MASKED).float()[:, None], 3, 1, 1)[:, 0] > 0
    return images, patches, torch.from_numpy(np.repeat([0, 1], list(map(len, names))))


def _require_images(place, fix):
    """Names of the images in a folder, sorted. Raises InputError if there are none."""
    names = list_images(place)
    if not names:
        missing = "no images in it" if os.path.isdir(place) else "no such folder"
        raise InputError(f"{place}: {missing}; {fix}, as docs/records.md shows")
    return names


def _match_masks(names, masks, place, place_of_masks):
    """For each mask the number of its image, a list of int. Raises InputError."""
    stems = [os.path.splitext(name)[0] for name in names]
    masked = Counter(os.path.splitext(name)[0] for name in masks)
    for known, where in ((Counter(stems), place), (masked, place_of_masks)):
        if twins := [stem for stem, count in known.items() if count > 1]:
            raise InputError(f"{where}: two files are called {twins[0]}.*; keep one of them")
    if strays := sorted(set(masked) - set(stems)):
        raise InputError(
            f"{place_of_masks}: {list_names(strays)}: masks of no image in {place}; take them "
            "out, or put the images there"
        )
    rows = {stem: row for row, stem in enumerate(stems)}
    return [rows[os.path.splitext(name)[0]] for name in masks]
