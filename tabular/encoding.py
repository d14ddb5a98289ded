"""How rows of a table become the inputs of a network, and inputs become attributes again."""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Encoding:
    """Numbers are standardised, the other attributes one-hot.

    Attributes:
        sizes: for each attribute its number of inputs: 1, or its number of levels.
        is_number: for each attribute whether it is a number.
        mean: (A,) float64, of the training rows; 0 for attributes that are no numbers.
        std: (A,) float64, the same; 1 for attributes that are no numbers.
    """

    sizes: tuple[int, ...]
    is_number: tuple[bool, ...]
    mean: np.ndarray
    std: np.ndarray

    def encode(self, values):
        """Inputs of a network: (N, A) values of a Table -> (N, D) float32 tensor."""
        parts = []
        for column, number, size, mean, std in zip(
            np.asarray(values).T, self.is_number, self.sizes, self.mean, self.std
        ):
            if number:
                parts.append((column[:, None] - mean) / std)
            else:
                parts.append(column[:, None] == np.arange(size))
        return torch.from_numpy(np.concatenate(parts, 1).astype(np.float32))

    def places(self, attributes):
        """The inputs that belong to attributes, given by their numbers: a tuple of int."""
        ends = np.cumsum(self.sizes)
        return tuple(
            int(place)
            for number in attributes
            for place in range(ends[number] - self.sizes[number], ends[number])
        )

    def sum_inputs(self, relevance):
        """Sum what belongs to one attribute: (..., D) array -> (..., A)."""
        starts = np.cumsum((0, *self.sizes[:-1]))
        return np.add.reduceat(relevance, starts, axis=-1)


def fit_encoding(table):
    """The Encoding of a Table of training rows."""
    is_number = tuple(name not in table.levels for name in table.attributes)
    sizes = tuple(len(table.levels.get(name, "1")) for name in table.attributes)
    mean = np.where(is_number, table.values.mean(0), 0.0)
    std = np.where(is_number, table.values.std(0), 1.0)
    return Encoding(sizes, is_number, mean, np.where(std > 0, std, 1.0))
