"""Images with decoys: scikit-learn's digits, DecoyMNIST, ColorMNIST, faces with a patch."""

from typing import NamedTuple

from common.settings import CELEBA_FRAME

import numpy as np
import torch
from sklearn.datasets import load_digits

import model
from datasets import normalise
from drawings.decoys import plant
from penalties.networks import ConvNet, SmallConvNet, make_mlp
from penalties.problem import Examples, Problem, fixed_masks, require_rows
from penalties.training import Recipe
from readers.digits import mnist
from readers.faces import GENDERS, celeba

PIXELS = 1  # single pixels that are penalised in a batch of ColorMNIST; in the original's code 8
REPORTED_PIXELS = 8  # of those that measures look at
FACE_SIZE, PATCH = 64, 8  # pixels: of a face, and of the patch in its corner


class Planted(NamedTuple):
    """Images and how decoys are drawn on them."""

    mark: str  # a name in MARKS of drawings/decoys.py
    size: int  # pixels
    n_classes: int


def plant_conditions(images, label, planted, seed):
    """Images (N, 3, S, S) uint8 with decoys: {condition: (N, 3, S, S) uint8 array}."""
    label, n = np.asarray(label), planted.n_classes
    drawn = np.random.default_rng([seed, 1]).integers(0, n, len(label))
    cues = {"same": label, "inverted": n - 1 - label, "random": drawn, "absent": label * 0 - 1}
    return {
        name: plant(images, cue, n, planted.mark, planted.size, np.random.default_rng([seed, 2]))
        for name, cue in cues.items()
    }


def grey_or_colour(images, channels):
    """(N, 3, S, S) uint8 -> (N, channels, S, S) float32 in [0, 1]; grey images have 1 channel."""
    return torch.from_numpy(images[:, :channels].astype(np.float32) / 255)


def image_problem(images, open_test, planted, channels, n_val, n_train):
    """What all problems of planted images share: train, val, open_test, and the scaling.

    Args:
        images: (N, 3, S, S) uint8 array and label (N,) int array, for training and validation.
        open_test: function () -> the same of the test set.
        planted: Planted.
        channels: 1 (grey) or 3.
        n_val: int, images for validation, the last of a fixed order.
        n_train: int, of the others; 0: all.

    Returns:
        {attribute of Problem: value}, and a function from inputs to [0, 1].
    """
    pixels, label = images
    order = np.random.default_rng(0).permutation(len(label))
    require_rows(n_train, len(order) - n_val)
    train_rows, val_rows = order[: len(order) - n_val], order[len(order) - n_val :]
    train_rows = train_rows[: n_train or None]
    same = plant_conditions(pixels[train_rows], label[train_rows], planted, 0)["same"]
    scaled = grey_or_colour(same, channels)
    mean, std = (getattr(scaled, name)((0, 2, 3), keepdim=True) for name in ("mean", "std"))

    def examples(pixels, label, seed):
        target = torch.from_numpy(np.asarray(label, dtype=np.int64))
        shown = plant_conditions(pixels, label, planted, seed)
        scale = {
            name: (grey_or_colour(array, channels) - mean) / std for name, array in shown.items()
        }
        return {name: Examples(inputs, target) for name, inputs in scale.items()}

    target = torch.from_numpy(np.asarray(label[train_rows], dtype=np.int64))
    shared = {
        "classes": tuple(map(str, range(planted.n_classes))),
        "train": Examples((scaled - mean) / std, target),
        "val": examples(pixels[val_rows], label[val_rows], 1),
        "open_test": lambda: examples(*open_test(), 2),
    }
    return shared, lambda inputs: inputs * std + mean


def show_images(unscale):
    """A function from inputs of a problem to (N, S, S, 3) uint8."""

    def show(inputs):
        pixels = (unscale(inputs).clamp(0, 1) * 255).round().to(torch.uint8)
        return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()

    return show


def corner_masks(side, size):
    """All four corners, (1, 1, 1, S, S) bool."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    for rows in (slice(size), slice(-size, None)):
        for columns in (slice(size), slice(-size, None)):
            mask[rows, columns] = True
    return mask[None, None, None]


def blank(mask, unscale_zero):
    """A function that sets masked inputs to black. unscale_zero: broadcasts, what black is."""
    return lambda inputs: torch.where(mask[0], unscale_zero, inputs)


def with_corners(shared, unscale, side, size):
    """What problems with a grey square in a corner share: masks, erase, draw_masks, show."""
    masks = corner_masks(side, size)
    zero, one = unscale(torch.zeros(1)), unscale(torch.ones(1))
    black = -zero / (one - zero)  # the input whose pixel is 0
    parts = {"masks": masks, "draw_masks": fixed_masks(masks), "erase": blank(masks, black)}
    return shared | parts | {"show": show_images(unscale)}


def digits(data_dir, n_train, weights):
    """scikit-learn's digits, 8 x 8 pixels, with a grey square of 2 x 2 in a corner. No data needed.

    1,797 digits: 400 for validation, 500 for the test.
    """
    loaded = load_digits()
    pixels = np.round(loaded.images * (255 / 16)).astype(np.uint8)[:, None].repeat(3, 1)
    order = np.random.default_rng(0).permutation(len(pixels))
    test, rest = order[:500], order[500:]
    planted = Planted("grey_corner", 2, 10)
    shared, unscale = image_problem(
        (pixels[rest], loaded.target[rest]),
        lambda: (pixels[test], loaded.target[test]),
        *(planted, 1, 400, n_train),
    )
    return Problem(
        **with_corners(shared, unscale, 8, 2),
        networks={
            "mlp": lambda: make_mlp(64, 10, (64,)),
            "convnet": lambda: SmallConvNet(1, 8, 10),
        },
        recipes={"mlp": Recipe(30, 64, 2e-3), "convnet": Recipe(20, 64, 2e-3)},
        strengths=DECOY_STRENGTHS,
    )


DECOY_STRENGTHS = {
    "cdep": (1.0, 10.0, 100.0),
    "cdep_centred": (1.0, 10.0, 30.0, 100.0),
    "cdep_last": (0.03, 0.3, 3.0),
    "rrr": (1.0, 30.0, 300.0),
    "rrr_margin": (0.1, 1.0, 10.0),
    "expected_gradients": (1.0, 10.0, 100.0),
}


def _mnist_images(data_dir, purpose):
    data = mnist(data_dir, purpose, 28)
    return data.images.numpy(), data.label.numpy()


def decoy_mnist(data_dir, n_train, weights):
    """DecoyMNIST: a grey square of 5 x 5 in a random corner. All four corners are penalised."""
    planted = Planted("grey_corner", 5, 10)
    shared, unscale = image_problem(
        _mnist_images(data_dir, "train"),
        lambda: _mnist_images(data_dir, "report"),
        *(planted, 1, 500, n_train),
    )
    return Problem(
        **with_corners(shared, unscale, 28, 5),
        networks={"mlp": lambda: make_mlp(784, 10), "convnet": lambda: ConvNet(1, 28, 10)},
        recipes={"mlp": Recipe(10, 128), "convnet": Recipe(4, 128)},
        strengths=DECOY_STRENGTHS,
    )


def color_mnist(data_dir, n_train, weights):
    """ColorMNIST: the digit's colour follows the label. Single pixels are penalised.

    The pixels of a batch are drawn with the probability that they are not black in training.
    """
    planted = Planted("ink", 0, 10)
    shared, unscale = image_problem(
        _mnist_images(data_dir, "train"),
        lambda: _mnist_images(data_dir, "report"),
        *(planted, 3, 500, n_train),
    )
    inked = (unscale(shared["train"].inputs).amax(1) > 0).float().mean(0).flatten().double().numpy()
    chance, places = inked / inked.sum(), torch.eye(784, dtype=torch.bool)

    def draw_pixels(rng, number):
        drawn = rng.choice(784, number, p=chance)
        return places[drawn].view(number, 1, 1, 28, 28)

    def grey(inputs):
        pixels = unscale(inputs)
        zero, one = (unscale(torch.full((1, 3, 1, 1), value)) for value in (0.0, 1.0))
        return (pixels.amax(1, keepdim=True) - zero) / (one - zero)

    return Problem(
        **shared,
        masks=draw_pixels(np.random.default_rng(0), REPORTED_PIXELS),
        draw_masks=lambda rows, rng: draw_pixels(rng, PIXELS),
        erase=grey,
        networks={"convnet": lambda: ConvNet(3, 28, 10)},
        recipes={"convnet": Recipe(7, 256, 1e-3, 1e-3)},
        strengths={
            "cdep": (300.0, 1000.0),
            "cdep_centred": (100.0,),
            "cdep_last": (100.0,),
            "rrr": (100.0,),
            "rrr_margin": (10.0,),
            "expected_gradients": (100.0,),
        },
        show=show_images(unscale),
        n_penalised=64,
    )


# ----------------------------------------------------------------------------- faces


def faces(data_dir, n_train, weights):
    """CelebA by gender, with a patch in the corner whose colour follows the label.

    The planted shortcut of shortcut.py, with its recipe: a network with weights for ImageNet (or
    what `weights` names) is fine-tuned. Photos are not shown in figures.
    """
    planted = Planted("patch", PATCH, 2)
    mask = torch.zeros(1, 1, 1, FACE_SIZE, FACE_SIZE, dtype=torch.bool)
    mask[..., :PATCH, :PATCH] = True

    def examples(split, seed, n=0):
        data = celeba(data_dir, split, FACE_SIZE, CELEBA_FRAME)
        require_rows(n, len(data.label))
        data = data.take(np.random.default_rng(0).permutation(len(data.label))[: n or None])
        shown = plant_conditions(data.images.numpy(), data.label, planted, seed)
        return {
            name: Examples(torch.from_numpy(array), data.label) for name, array in shown.items()
        }

    return Problem(
        classes=GENDERS,
        train=examples("train", 0, n_train)["same"],
        val=examples("val", 1),
        open_test=lambda: examples("test", 2),
        draw_masks=fixed_masks(mask),
        masks=mask,
        erase=lambda images: torch.where(mask[0], torch.tensor(128, dtype=torch.uint8), images),
        networks={
            "squeezenet1_1": lambda: model.build("squeezenet1_1", weights, FACE_SIZE, GENDERS)
        },
        recipes={"squeezenet1_1": Recipe(3, 64, 1e-4, one_cycle=True)},
        strengths=FACE_STRENGTHS,
        prepare=lambda images: normalise(images, "cpu"),
        n_penalised=16,
    )


FACE_STRENGTHS = {
    "cdep": (10.0, 100.0),
    "cdep_centred": (0.3, 3.0),
    "cdep_last": (0.3, 3.0),
    "rrr": (10.0, 100.0),
    "rrr_margin": (1.0, 10.0),
    "expected_gradients": (10.0, 100.0),
}
