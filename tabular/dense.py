"""Dense networks by name, in the notation of the architectures that are compared, and training."""

import copy
import re
from dataclasses import dataclass, field

from common import records
from common.settings import InputError

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

import model
from explain.decomposition import Decomposer
from explain.parts import centred_square
from tabular.encoding import Encoding


def _chain(widths, activation, dropouts=()):
    """An architecture as a string; only the first hidden layer has no batch norm."""
    parts = [f"D{widths[0]}", activation]
    for number, width in enumerate(widths[1:]):
        parts += [f"D{width}", "BN", activation]
        if dropouts:
            parts.append(f"DR({dropouts[number]})")
    return "-".join([*parts, "D2", "SIGMOID"])


# The ten rows of the original's table. D: dense layer and its width, BN: batch norm, DR: dropout.
# Rows 6 and 7 are one network; there, they differ in the epochs.
ARCHITECTURES = {
    "1": _chain((512, 256, 128, 64, 64, 32, 16, 8), "SELU"),
    "2": _chain((512, 512, 128, 64, 64, 32, 16, 8), "SELU"),
    "3": _chain((512, 512, 128, 128, 64, 32, 16, 8), "SELU"),
    "4": _chain((512, 512, 512, 128, 64, 32, 16, 8), "SELU"),
    "5": _chain((256, 256, 128, 64, 64, 32, 16, 8), "RELU"),
    "6": _chain((512, 512, 256, 64, 64, 32, 16, 8), "RELU"),
    "7": _chain((512, 512, 256, 64, 64, 32, 16, 8), "RELU"),
    "8": _chain((256, 256, 128, 128, 64, 64, 32, 16, 8), "RELU"),
    "9": _chain((512, 512, 256, 256, 128, 128, 64, 64, 64, 64, 8), "RELU", (0.4,) * 3 + (0.3,) * 7),
    "10": _chain((512, 256, 256, 256, 128, 64, 64, 16, 8), "RELU"),
}
PIECE = re.compile(r"D(\d+)|BN|RELU|SELU|DR\((0?\.\d+)\)|SIGMOID")


def build_dense(architecture, inputs):
    """A network of dense layers with two logits, float32.

    A last SIGMOID is left out: the cross-entropy takes logits, and a sigmoid does not change which
    of two outputs is larger.

    Args:
        architecture: str, a key of ARCHITECTURES or a string like theirs.
        inputs: int, D.

    Returns:
        nn.Sequential, (N, D) -> (N, 2).

    Raises:
        InputError: the string cannot be read, or does not end in two outputs.
    """
    pieces, width = [], inputs
    text = ARCHITECTURES.get(architecture, architecture)
    for piece in text.removesuffix("-SIGMOID").split("-"):
        match = PIECE.fullmatch(piece)
        if match is None or piece == "SIGMOID":
            rows = f"1 to {len(ARCHITECTURES)}"
            raise InputError(
                f"ARCH={architecture}: {piece} is none of D64, BN, RELU, SELU, DR(0.3); give a row "
                f"of the table ({rows}), or layers like {ARCHITECTURES['5']}"
            )
        if match[1]:
            pieces.append(nn.Linear(width, int(match[1])))
            width = int(match[1])
        elif match[2]:
            pieces.append(nn.Dropout(float(match[2])))
        elif piece == "BN":
            pieces.append(nn.BatchNorm1d(width))
        else:
            pieces.append({"RELU": nn.ReLU, "SELU": nn.SELU}[piece]())
    if width != 2 or not isinstance(pieces[-1], nn.Linear):
        raise InputError(
            f"ARCH={architecture}: the last layer must be D2, a logit for each label; give layers "
            f"like {ARCHITECTURES['5']}"
        )
    return nn.Sequential(*pieces)


# ----------------------------------------------------------------------------- training


@dataclass
class Training:
    """The state of a training.

    Attributes:
        network: nn.Module in eval mode, as after the last epoch.
        best: its state dict after the epoch at which early stopping stops.
        curve: for each epoch a dict: train_loss and train_accuracy (means over the epoch, dropout
            on), val_loss, val_accuracy.
    """

    network: nn.Module
    best: dict = field(default_factory=dict)
    curve: list[dict] = field(default_factory=list)

    def stopped(self):
        """A copy of the network as early stopping leaves it, in eval mode."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(self.best)
        return network.eval()


def stopping_epoch(losses, patience):
    """Where early stopping stops: (the epoch whose network it takes, whether it has stopped).

    It takes the epoch of the lowest validation loss so far, and stops when `patience` epochs in a
    row are no better. losses: list of float, one for each epoch.
    """
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        elif epoch - best >= patience:
            return best, True
    return best, False


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        architecture: str, as for build_dense.
        seed: int, of the first weights, the order of the rows, and dropout.
        epochs: int, passes over the training rows at most.
        batch_size: int, rows a step.
        learning_rate: float, Adam's.
        patience: int, epochs, as in stopping_epoch.
        penalised: places of inputs that must not be used, int.
        strength: float, lambda of the penalty on them: contextual decomposition, the square of what
            they contribute to the logits (explain.parts.centred_square, rule shapley).
        to_the_end: bool, whether training goes on after early stopping has stopped.
    """

    architecture: str
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    patience: int
    penalised: tuple[int, ...] = ()
    strength: float = 0.0
    to_the_end: bool = False

    def identity(self):
        """What a saved training must share to be gone on with, a dict."""
        shared = ("seed", "batch_size", "learning_rate", "patience")
        if self.penalised:
            shared += ("penalised", "strength")
        text = ARCHITECTURES.get(self.architecture, self.architecture)
        return {"architecture": text, **{name: getattr(self, name) for name in shared}}


def train_dense(train, val, recipe, path, data, bar=""):
    """Train a network, or go on with a saved training. All is saved after each epoch.

    Args:
        train: (inputs (N, D) float32, label (N,) int64), tensors.
        val: the same, of the rows that early stopping sees.
        recipe: Recipe.
        path: str, of the saved state.
        data: str, a hash of the rows.
        bar: str, text of the progress bar.

    Returns:
        Training.

    Raises:
        InputError: the saved training has other settings, or is damaged.
    """
    torch.manual_seed(recipe.seed)
    network = build_dense(recipe.architecture, train[0].shape[1])
    optimizer = torch.optim.Adam(network.parameters(), recipe.learning_rate, fused=True)
    training = Training(network)
    run = recipe.identity() | {"data": data}
    _load_training(path, run, training, optimizer)
    while not _is_done(training.curve, recipe):
        epoch = len(training.curve)
        torch.manual_seed(1000 * recipe.seed + epoch)  # dropout knows no other generator
        row = _train_epoch(network, train, optimizer, recipe, f"{bar}, epoch {epoch}")
        training.curve.append(row | _score(network, *val))
        best, has_stopped = stopping_epoch(_losses(training.curve), recipe.patience)
        if best == epoch and not has_stopped:
            training.best = copy.deepcopy(network.state_dict())
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
        kept = {"run": run, "best": training.best, "curve": training.curve}
        records.save({path: kept | state})
    network.eval()
    return training


def _losses(curve):
    return [row["val_loss"] for row in curve]


def _is_done(curve, recipe):
    if len(curve) >= recipe.epochs:
        return True
    return not recipe.to_the_end and stopping_epoch(_losses(curve), recipe.patience)[1]


def _load_training(path, run, training, optimizer):
    """Fill a Training and its optimizer from a saved state, if there is one."""
    state = model.load_state(path, run)
    if state is None:
        return
    training.network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    training.best, training.curve = state["best"], state["curve"]


def _train_epoch(network, train, optimizer, recipe, bar):
    """One pass over the rows. Returns train_loss (penalty included) and train_accuracy, a dict."""
    inputs, label = train
    network.train()
    masks = torch.zeros(1, 1, inputs.shape[1], dtype=torch.bool)
    masks[:, :, list(recipe.penalised)] = True
    decompose = Decomposer(network) if recipe.penalised else None
    rows = torch.randperm(len(label))
    batches = [part for part in rows.split(recipe.batch_size) if len(part) > 1]  # for batch norm
    loss_sum, hits, n = 0.0, 0, 0
    for batch in tqdm(batches, bar, unit=" batches", leave=False):
        if recipe.penalised:
            parts = decompose(inputs[batch], masks, "shapley")
            logits, penalty = parts.total, centred_square(parts)
        else:
            logits, penalty = network(inputs[batch]), 0.0
        loss = cross_entropy(logits, label[batch]) + recipe.strength * penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(batch)
        hits += int((logits.argmax(1) == label[batch]).sum())
        n += len(batch)
    return {"train_loss": loss_sum / n, "train_accuracy": hits / n}


@torch.no_grad()
def _score(network, inputs, label):
    logits = network.eval()(inputs)
    loss, accuracy = cross_entropy(logits, label), (logits.argmax(1) == label).float().mean()
    return {"val_loss": loss.item(), "val_accuracy": accuracy.item()}


@dataclass(frozen=True)
class Predictor:
    """A network on rows of a table.

    Attributes:
        network: nn.Module, (N, D) inputs -> (N, 2) logits, in eval mode.
        encoding: Encoding of the attributes that it sees.
        columns: places of these attributes in the table, int.
    """

    network: nn.Module
    encoding: Encoding
    columns: tuple[int, ...]

    def inputs(self, values):
        """Inputs of the network: (N, A) values of the whole table -> (N, D) float32 tensor."""
        return self.encoding.encode(values[:, list(self.columns)])

    @torch.no_grad()
    def scores(self, values):
        """The logit of label 1 less that of label 0: (N, A) -> (N,) float64 array."""
        logits = torch.cat([self.network(part) for part in self.inputs(values).split(4096)])
        return (logits[:, 1] - logits[:, 0]).double().numpy()

    def predict(self, values):
        """Predicted labels: (N, A) -> (N,) int array of 0 and 1."""
        return (self.scores(values) > 0).astype(int)


def split_rows(n, share, seed):
    """Rows for training and for validation: two sorted int arrays. share: of the second."""
    order = np.random.default_rng(seed).permutation(n)
    n_val = max(1, round(share * n))
    return np.sort(order[n_val:]), np.sort(order[:n_val])
