"""Projection of explanations onto the data's tangent space (TSP; Anders et al. 2020).

The tangent space at an input x is estimated from its k nearest training images of the same class:
with X (k, D) their differences to their mean (strict: to x), the d largest singular vectors V
(D, d) of X span it, and an explanation g becomes P g = V V^T g. V = X^T A with
A = U S^-1 (k, d), where X = U S V^T, comes from the k x k matrix X X^T = U S^2 U^T. So an image
needs only the numbers of its neighbours and A: k (d + 1) numbers, not D d.
"""

from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

SMALLEST = 1e-5  # singular values below this share of the largest are rounding errors: 0


class Factored:
    """Tangent spaces with V = X^T A. A subclass has `matrix`, (N, k, d), and `differences`, X."""

    def basis(self, rows):
        """V above, (B, D, d), of the inputs at `rows`."""
        return self.differences(rows).mT @ self.matrix[rows]

    def project(self, rows, values):
        """P at each row, times values of any shape (B, ...) that holds D numbers a row."""
        differences, matrix = self.differences(rows), self.matrix[rows]
        column = values.flatten(1)[:, :, None]  # (B, D, 1)
        inner = matrix @ (matrix.mT @ (differences @ column))  # (B, k, 1)
        return (differences.mT @ inner).reshape(values.shape)


@dataclass
class Tangent(Factored):
    """The tangent spaces at N inputs, from neighbours.

    Attributes:
        neighbours: (N, k) int, rows of `pool`.
        matrix: (N, k, d) float32 tensor, A above; 0 where nothing is known.
        singular: (N, d) float32 tensor, the singular values.
        pool: (M, D) float32 tensor, the training inputs.
        centres: (N, D) float32 tensor, the inputs themselves (strict); None: the neighbours' mean.
    """

    neighbours: torch.Tensor
    matrix: torch.Tensor
    singular: torch.Tensor
    pool: torch.Tensor
    centres: torch.Tensor | None = None

    def differences(self, rows):
        """X above, (B, k, D), of the inputs at `rows`."""
        near = self.pool[self.neighbours[rows].long()]
        centre = near.mean(1, keepdim=True) if self.centres is None else self.centres[rows][:, None]
        return near - centre


@dataclass
class Basis:
    """Tangent spaces at N inputs given by their singular vectors, as in the original's files.

    Attributes:
        vectors: anything that vectors[i], i an int, gives (D, d) of: an array, or an HDF5 data set.
        singular: (N, d) float32 tensor, the singular values.
    """

    vectors: object
    singular: torch.Tensor

    def basis(self, rows):
        """V, (B, D, d) float32 tensor, of the inputs at `rows`."""
        return torch.from_numpy(np.stack([self.vectors[int(row)] for row in rows]))

    def project(self, rows, values):
        """P at each row, times values of any shape (B, ...) that holds D numbers a row."""
        basis, column = self.basis(rows), values.flatten(1)[:, :, None]
        return (basis @ (basis.mT @ column)).reshape(values.shape)


def nearest(inputs, pool, k, own=None, batch_size=512):
    """The k nearest rows of a pool, the nearest first.

    Args:
        inputs: (N, D) float32 tensor.
        pool: (M, D) float32 tensor.
        k: int, at most M, or M - 1 with `own`.
        own: (N,) int tensor, the row of the pool that each input is itself and that is left out.
        batch_size: int, inputs at once.

    Returns:
        (N, k) int64 tensor.
    """
    square, chosen = (pool**2).sum(1), []
    for start in range(0, len(inputs), batch_size):
        part = inputs[start : start + batch_size]
        distance = square - 2 * part @ pool.T  # + |part|^2, which changes no order
        if own is not None:
            places = own[start : start + batch_size, None]
            distance.scatter_(1, places, torch.inf)
        chosen.append(distance.topk(k, largest=False).indices)
    return torch.cat(chosen)


def factorise(differences, d):
    """The d largest singular values and A, of each of a batch of neighbourhoods.

    Args:
        differences: (B, k, D) tensor, X above.
        d: int, at most k.

    Returns:
        matrix (B, k, d) and singular (B, d), float32. Where a neighbourhood spans less than d
        dimensions, the columns beyond are 0.
    """
    gram = differences.double() @ differences.double().mT
    squares, vectors = torch.linalg.eigh(gram)  # ascending
    singular = squares.clamp_min(0).sqrt().flip(1)[:, :d]
    vectors = vectors.flip(2)[:, :, :d]
    kept = singular > SMALLEST * singular[:, :1].clamp_min(1e-30)
    inverse = torch.where(kept, 1 / singular.clamp_min(1e-30), 0)
    return (vectors * inverse[:, None]).float(), torch.where(kept, singular, 0).float()


def fit_tangent(inputs, label, pool, pool_label, k, d, strict=False, own=False, classes=None):
    """The tangent spaces at inputs, from their k nearest rows of the pool with the same label.

    Args:
        inputs: (N, D) float32 tensor.
        label: (N,) int tensor.
        pool: (M, D) float32 tensor, at least k rows of each label (own: k + 1).
        pool_label: (M,) int tensor.
        k: int, neighbours.
        d: int, dimensions, at most k - 1 (strict: k).
        strict: bool, whether the plane runs through the input rather than the neighbours' mean.
        own: bool, whether the inputs are the rows of the pool, so that none is its own neighbour.
        classes: labels to compute, ints; None: all. P of the others is 0.

    Returns:
        Tangent.
    """
    neighbours = torch.zeros(len(inputs), k, dtype=torch.int64)
    centres = inputs if strict else None
    shape = torch.zeros(len(inputs), k, d), torch.zeros(len(inputs), d)
    tangent = Tangent(neighbours, *shape, pool, centres)
    wanted = sorted(set(label.tolist()) if classes is None else classes)
    for number in tqdm(wanted, "tangent spaces", unit=" classes", leave=False):
        rows, members = (torch.nonzero(part == number)[:, 0] for part in (label, pool_label))
        places = torch.arange(len(rows)) if own else None
        close = nearest(inputs[rows], pool[members], k, places)
        tangent.neighbours[rows] = members[close]
        for part in rows.split(256):
            tangent.matrix[part], tangent.singular[part] = factorise(tangent.differences(part), d)
    return tangent
