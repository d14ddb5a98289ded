"""Tangent spaces by auto-encoders, one a class (Anders et al. 2020, for CIFAR-10).

An auto-encoder of a class maps its images x to codes of d numbers and back. Its decoder is a map of
the class's manifold, so the columns of the decoder's Jacobian J (D, d) at the code of x span the
tangent space there. As for neighbours (explain/tangent.py), with X = J^T: V = J A, P = V V^T.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import mse_loss

from explain.tangent import Factored, factorise
from explain.training import minimise

WIDTHS = 16, 32  # channels of the two convolutions


class Autoencoder(nn.Module):
    """Two convolutions and a dense layer to a code, and back. ELU, which has a derivative, between.

    Args:
        channels: int, of an input (B, channels, size, size).
        size: int, pixels.
        d: int, numbers of a code.
    """

    def __init__(self, channels, size, d):
        super().__init__()
        half = (size + 1) // 2
        quarter, (few, many) = (half + 1) // 2, WIDTHS
        layers = [nn.Conv2d(channels, few, 3, 2, 1), nn.ELU(), nn.Conv2d(few, many, 3, 2, 1)]
        layers += [nn.ELU(), nn.Flatten(), nn.Linear(many * quarter * quarter, d)]
        self.encoder = nn.Sequential(*layers)
        layers = [nn.Linear(d, many * quarter * quarter), nn.ELU()]
        layers += [nn.Unflatten(1, (many, quarter, quarter)), nn.Upsample(half, mode="bilinear")]
        layers += [nn.Conv2d(many, few, 3, 1, 1), nn.ELU(), nn.Upsample(size, mode="bilinear")]
        self.decoder = nn.Sequential(*layers, nn.Conv2d(few, channels, 3, 1, 1))

    def forward(self, inputs):
        """The inputs, coded and decoded."""
        return self.decoder(self.encoder(inputs))


def train_autoencoder(network, inputs, recipe, path, run, bar=""):
    """Train an auto-encoder by the squared error, or go on with a saved training.

    Args:
        network: nn.Module.
        inputs: (N, C, H, W) float32 tensor, the training images of a class.
        recipe: explain.training.Recipe.
        path: str, of the saved state.
        run: facts that a saved training must share, a dict of what JSON holds.
        bar: str, text of the progress bar.

    Returns:
        (network in eval mode, the curve: for each epoch a dict with loss). Raises InputError.
    """

    def loss_of(batch, generator):
        return (mse_loss(network(inputs[batch]), inputs[batch]),)

    curve = minimise(network, len(inputs), loss_of, recipe, path, run, bar, ("loss",))
    return network, curve


@dataclass
class Decoded(Factored):
    """The tangent spaces at those of N inputs that an auto-encoder is for.

    Attributes:
        decoder: nn.Module, (B, d) -> (B, ...) of D numbers each.
        codes: (N, d) float32 tensor.
        matrix: (N, d, d) float32 tensor, A above; 0 where nothing is known.
        singular: (N, d) float32 tensor, the singular values of J.
    """

    decoder: nn.Module
    codes: torch.Tensor
    matrix: torch.Tensor
    singular: torch.Tensor

    def differences(self, rows):
        """J^T above, (B, d, D), at the inputs at `rows`."""
        codes, columns = self.codes[rows].clone().requires_grad_(), []
        with torch.enable_grad():
            outputs = self.decoder(codes).flatten(1)
            weights = torch.zeros_like(outputs).requires_grad_()
            # u^T J, (B, d), whose derivative by u is J: d backward passes in place of D
            (product,) = torch.autograd.grad(outputs, codes, weights, create_graph=True)
            for column in product.sum(0):
                columns += torch.autograd.grad(column, weights, retain_graph=True)
        return torch.stack(columns, 1)


@torch.no_grad()
def fit_decoded(network, inputs, rows, d, batch_size=128):
    """The tangent spaces at the inputs (N, ...) at `rows`, which are of the network's class.

    Args:
        network: nn.Module with `encoder` and `decoder`.
        inputs: (N, C, H, W) float32 tensor.
        rows: (n,) int64 tensor.
        d: int, numbers of a code.
        batch_size: int, inputs at once.

    Returns:
        Decoded.
    """
    n = len(inputs)
    shapes = torch.zeros(n, d), torch.zeros(n, d, d), torch.zeros(n, d)
    tangent = Decoded(network.decoder, *shapes)
    for part in rows.split(batch_size):
        tangent.codes[part] = network.encoder(inputs[part])
        tangent.matrix[part], tangent.singular[part] = factorise(tangent.differences(part), d)
    return tangent
