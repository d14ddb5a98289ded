"""A data set in which a part of the input must not be used, though it follows the label.

Inputs of a set come once for each condition of the decoy:

    same      the decoy of the label, as in training
    inverted  the decoy of the opposite label: number n - 1 - y of n, as in the original's test set
    random    a decoy drawn at random
    absent    no decoy
    swapped   of tables: the penalised attribute takes the value of the other group
    untouched of skin images: all as they are; the other conditions have those without a patch
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from common import settings

import torch

CONDITIONS = ("same", "inverted", "random", "absent")


class Examples(NamedTuple):
    """Inputs with labels."""

    inputs: torch.Tensor  # (N, ...)
    label: torch.Tensor  # (N,) int64
    group: torch.Tensor | None = None  # (N,) int64: which of two groups of people; -1: neither

    def take(self, rows):
        """Some of the rows."""
        return Examples(*(None if part is None else part[rows] for part in self))


@dataclass
class Problem:
    """A data set with a decoy, and what is known of it.

    Attributes:
        classes: tuple of str.
        train: Examples.
        val: {condition: Examples}, which choose lambda.
        open_test: function () -> {condition: Examples}, the same of the test set.
        draw_masks: function (rows (B,) int, numpy Generator) -> (M, B or 1, ...) bool: what must
            not be used in these rows of the training set.
        masks: the masks that measures look at: (M, 1, ...) bool, or a function from inputs
            (B, ...) to (M, B, ...) bool.
        erase: function, inputs (N, ...) -> the same without the decoy, whatever it was.
        networks: {name: function () -> nn.Module}; the first is the default.
        recipes: {name: Recipe} of these networks.
        strengths: {method: tuple of lambdas}.
        prepare: function, inputs (B, ...) -> what the network takes.
        show: function, inputs (N, ...) -> (N, S, S, 3) uint8, for figures; None: not shown.
        n_penalised: rows of a batch that a penalty is a mean over, to save time; 0: all.
    """

    classes: tuple
    train: Examples
    val: dict
    open_test: Callable
    draw_masks: Callable
    masks: torch.Tensor | Callable
    erase: Callable
    networks: dict
    recipes: dict
    strengths: dict
    prepare: Callable = torch.Tensor.contiguous
    show: Callable | None = None
    n_penalised: int = 0

    def masks_for(self, inputs):
        """The masks that measures look at, of these inputs: (M, B or 1, ...) bool."""
        return self.masks(inputs) if callable(self.masks) else self.masks


def fixed_masks(masks):
    """draw_masks of a problem whose masks are the same for all rows."""
    return lambda rows, rng: masks


def require_rows(n_train, most):
    """Raise InputError unless TRAIN_ROWS can be had."""
    settings.require("TRAIN_ROWS", n_train, 0 <= n_train <= most, f"from 0 (all) to {most}")
