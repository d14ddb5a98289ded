"""Skin images: benign ones often have a coloured patch, malignant ones never do.

An input has four channels: red, green and blue, and where a patch is (SHOWN) or would be (PLACE).
An image without a patch borrows the place, and where a condition asks for it the patch itself, of
another image of the same set. So erasing can blank a place in every image: a blank that only
benign images had would give the label away.
"""

from common.settings import InputError

import numpy as np
import torch

import model
from datasets import normalise
from drawings.lesions import draw_lesions
from penalties.networks import ConvNet
from penalties.problem import Examples, Problem, require_rows
from penalties.training import Recipe
from readers.isic import isic as read_isic

PLACE, SHOWN = 1, 2  # in an input's fourth channel
DRAWN, DRAWN_SIZE, ISIC_SIZE = 3000, 32, 64  # images that are drawn; pixels a side
BLANK = 128  # grey


def lesions(data_dir, n_train, weights):
    """Drawn lesions. No data needed."""
    arrays = draw_lesions(DRAWN, DRAWN_SIZE, 0)
    problem = skin_problem(*map(torch.from_numpy, arrays), n_train, weights)
    problem.show = lambda inputs: inputs[:, :3].permute(0, 2, 3, 1).numpy()
    return problem


def isic(data_dir, n_train, weights):
    """Images of the ISIC archive. They are not shown in figures."""
    return skin_problem(*read_isic(data_dir, ISIC_SIZE), n_train, weights)


def skin_problem(images, patches, label, n_train, weights):
    """The Problem of skin images.

    A fixed order cuts a quarter of the images for the test, a sixth for validation.

    Args:
        images: (N, 3, S, S) uint8 tensor.
        patches: (N, S, S) bool tensor.
        label: (N,) int64 tensor, 1: malignant; these have no patches.
        n_train: int, rows to train on; 0: all.
        weights: str, what SqueezeNet starts from.
    """
    size, order = images.shape[-1], np.random.default_rng(0).permutation(len(label))
    cuts = [len(order) // 4, len(order) // 4 + len(order) // 6]
    test_rows, val_rows, train_rows = np.split(order, cuts)
    require_rows(n_train, len(train_rows))
    rows = {"test": test_rows, "validation": val_rows, "training": train_rows[: n_train or None]}
    parts = {name: (images[part], patches[part], label[part]) for name, part in rows.items()}
    for name, (_, marked, labels) in parts.items():
        _require_kinds(name, marked.flatten(1).any(1), labels == 1)
    train = untouched(*parts["training"], np.random.default_rng(0))
    return Problem(
        classes=("benign", "malignant"),
        train=train,
        val=conditions(*parts["validation"], np.random.default_rng(1)),
        open_test=lambda: conditions(*parts["test"], np.random.default_rng(2)),
        draw_masks=lambda rows, rng: shown_patches(train.inputs[torch.from_numpy(rows)]),
        masks=shown_patches,
        erase=erase,
        networks={
            "convnet": lambda: ConvNet(3, size, 2),
            "squeezenet1_1": lambda: model.build("squeezenet1_1", weights, size, ("0", "1")),
        },
        recipes={
            "convnet": Recipe(6, 64),
            "squeezenet1_1": Recipe(3, 64, 1e-4, one_cycle=True),
        },
        strengths=SKIN_STRENGTHS,
        prepare=lambda inputs: normalise(inputs[:, :3], "cpu"),
        n_penalised=32,
    )


SKIN_STRENGTHS = {
    "cdep": (1.0, 10.0, 100.0),
    "cdep_centred": (0.3, 3.0, 30.0),
    "cdep_last": (0.03, 0.3, 3.0),
    "rrr": (1.0, 30.0, 300.0),
    "rrr_margin": (0.1, 1.0, 10.0),
    "expected_gradients": (1.0, 10.0, 100.0),
}


def _require_kinds(name, patched, malignant):
    """Raise InputError unless there are images with and without patch, and malignant ones."""
    counts = {
        "malignant": malignant,
        "benign with a patch": patched,
        "benign without one": ~(patched | malignant),
    }
    for kind, rows in counts.items():
        if not rows.any():
            raise InputError(f"isic: none of the {len(rows)} images for {name} is {kind}; add some")


def paste(images, patches, donors, shown):
    """Inputs (N, 4, S, S) uint8: each image with the place of its donor's patch, or the patch.

    Args:
        images: (N, 3, S, S) uint8 tensor.
        patches: (N, S, S) bool tensor.
        donors: (N,) int64 tensor, images with a patch.
        shown: (N,) bool tensor, whether the patch is put there.
    """
    place, shown = patches[donors][:, None], shown.view(-1, 1, 1, 1)
    pasted = torch.where(place & shown, images[donors], images)
    return torch.cat([pasted, place * torch.where(shown, SHOWN, PLACE).to(torch.uint8)], 1)


def draw_donors(patched, rng):
    """(N,) int64: images with a patch for themselves, for each other one any of these."""
    drawn = torch.from_numpy(rng.choice(np.flatnonzero(patched.numpy()), len(patched)))
    return torch.where(patched, torch.arange(len(patched)), drawn)


def untouched(images, patches, label, rng):
    """Examples of the images as they are."""
    patched = patches.flatten(1).any(1)
    return Examples(paste(images, patches, draw_donors(patched, rng), patched), label)


def conditions(images, patches, label, rng):
    """Images without a patch in each condition, and all images untouched: {name: Examples}.

    same: patches on as many of these benign images as of all benign ones; inverted: on every
    malignant one; random: on half of all; absent: on none.
    """
    patched = patches.flatten(1).any(1)
    donors, bare = draw_donors(patched, rng), ~patched
    benign = (label == 0) & bare
    n_same = torch.ceil(benign.sum() * patched.sum() / (label == 0).sum())
    shown = {
        "same": benign & (benign.cumsum(0) <= n_same),
        "inverted": label == 1,
        "random": torch.from_numpy(rng.random(len(label)) < 0.5),
        "absent": torch.zeros_like(bare),
    }
    examples = {}
    for name, rows in shown.items():
        inputs = paste(images, patches, donors, rows)
        examples[name] = Examples(inputs[bare], label[bare])
    return examples | {"untouched": Examples(paste(images, patches, donors, patched), label)}


def shown_patches(inputs):
    """Masks of the patches in inputs (B, 4, S, S): (1, B, 1, S, S) bool."""
    return (inputs[:, 3:] == SHOWN)[None]


def erase(inputs):
    """Inputs with a grey blank where a patch is or would be."""
    place = inputs[:, 3:] >= PLACE
    pixels = torch.where(place, torch.tensor(BLANK, dtype=torch.uint8), inputs[:, :3])
    return torch.cat([pixels, place * torch.tensor(PLACE, dtype=torch.uint8)], 1)
