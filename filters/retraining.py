"""Repairs that change weights, step by step, for eval.py to compare with the removal of filters.

A repair is a function (network, Images, torch.device, Effort) -> Retrained, the networks that it
passes through. A new one is one more function and one more entry of TRAINERS.

The new heads are fitted to the features, what the last layer takes in, averaged over positions.
"""

import copy
import warnings
from dataclasses import dataclass

from common.settings import InputError

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from datasets import GROUPS
from filters.repairs import Training, finetune, head_inputs, last_layer

PENALTIES = (0.01, 0.03, 0.07, 0.1, 0.3, 0.7, 1.0)  # C tried by DFR's authors, the strongest first
DRAWS = 20  # balanced draws that DFR's authors average over
RACES = list(dict.fromkeys(race for race, _ in GROUPS))
# By how much more than for the images at hand a head's outputs are kept above 0.
SLACK = 2


@dataclass(frozen=True)
class Effort:
    """What training may cost, and its seed.

    Attributes:
        epochs: int.
        batch_size: int, images a step.
        rates, head_rates: tuples of float, learning rates tried of all layers, and of the head.
        seed: int.
    """

    epochs: int
    batch_size: int
    rates: tuple
    head_rates: tuple
    seed: int


@dataclass(frozen=True)
class Retrained:
    """The networks that a repair passes through, behind the one that it starts from.

    Attributes:
        steps: list of str, what each network is, such as "3 epochs at 0.0001".
        states: list of state dicts on the CPU.
    """

    steps: list
    states: list


def fine_tuned(network, faces, device, effort):
    """All layers trained, at each rate."""
    return _fine_tuned(network, faces, device, effort, effort.rates, head=False)


def head_fine_tuned(network, faces, device, effort):
    """The last layer alone trained, at each rate."""
    return _fine_tuned(network, faces, device, effort, effort.head_rates, head=True)


def _fine_tuned(network, faces, device, effort, rates, head):
    by_rate = []
    for rate in rates:
        trained = copy.deepcopy(network)
        part = last_layer(trained) if head else trained
        training = Training(effort.epochs, effort.batch_size, rate, effort.seed)
        by_rate.append(finetune(trained, part, faces, device, training))
    # Of two equally good networks the first is chosen, so few epochs come first, whatever the rate.
    steps = [f"{epoch + 1} epochs at {rate:g}" for epoch in range(effort.epochs) for rate in rates]
    return Retrained(steps, [state for epoch in zip(*by_rate) for state in epoch])


# ----------------------------------------------------------------------------- new heads


def head_retrained(network, faces, device, effort):
    """Deep feature reweighting (Kirichenko et al. 2023): a new head of balanced data.

    An l1 logistic regression on the standardised features, its weights averaged over draws that
    have as many images of each group as the smallest group has. A step is one penalty.
    """
    features = head_inputs(network, faces.images, device).astype(np.float64)
    return _retrained_heads(network, faces, device, effort, features)


def race_erased(network, faces, device, effort):
    """Least-squares concept erasure (LEACE, Belrose et al. 2023) of race, in front of the head.

    No linear function of the features can then tell the races apart on these images. The eraser is
    affine, so it goes into the weights of the head. A ReLU behind the head would not be: its
    outputs are kept above 0.
    """
    features = head_inputs(network, faces.images, device).astype(np.float64)
    matrix, offset = _race_eraser(features, faces.group)
    weight, bias = (tensor.double().cpu() for tensor in _head_parameters(network))
    weight = weight.flatten(1)
    weight, bias = weight @ matrix, weight @ offset + bias
    highest = head_inputs(network, faces.images, device, torch.amax).max(0)
    state = _state_with_head(network, weight, bias + _lift(network, weight, bias, highest))
    return Retrained(["race erased"], [state])


def race_erased_head_retrained(network, faces, device, effort):
    """LEACE of race, and behind it a new head as by deep feature reweighting."""
    features = head_inputs(network, faces.images, device).astype(np.float64)
    matrix, offset = _race_eraser(features, faces.group)
    erased = features @ matrix.numpy().T + offset.numpy()
    return _retrained_heads(network, faces, device, effort, erased, matrix, offset)


def _retrained_heads(network, faces, device, effort, features, matrix=None, offset=None):
    """New heads, one for each penalty.

    features: (N, D) float64; matrix (D, D) and offset (D,) give them from what the head takes in.
    """
    highest = head_inputs(network, faces.images, device, torch.amax).max(0)
    states = []
    for penalty in PENALTIES:
        male, bias = balanced_regression(features, faces, penalty, effort.seed)
        male = torch.from_numpy(male)
        if matrix is not None:
            male, bias = male @ matrix, bias + float(male @ offset)
        weight = torch.stack([-male / 2, male / 2])  # of the logits of female and male
        biases = torch.tensor([-bias / 2, bias / 2], dtype=torch.float64)
        biases += _lift(network, weight, biases, highest)
        states.append(_state_with_head(network, weight, biases))
    return Retrained([f"C = {penalty:g}" for penalty in PENALTIES], states)


def balanced_regression(features, faces, penalty, seed):
    """An l1 logistic regression of gender, averaged over balanced draws.

    Args:
        features: (N, D) float64; they are standardised within.
        faces: Images.
        penalty: float, scikit-learn's C.
        seed: int, of the draws.

    Returns:
        weights (D,) float64 of the features as they are given, and the intercept, a float: positive
        scores are "male".
    """
    scaler, label, group = StandardScaler().fit(features), faces.label.numpy(), faces.group.numpy()
    standardised, rng = scaler.transform(features), np.random.default_rng([seed, 7])
    members = [np.flatnonzero(group == index) for index in np.unique(group)]
    smallest = min(map(len, members))
    # Of equal groups every draw is the whole set.
    draws = 1 if all(len(rows) == smallest for rows in members) else DRAWS
    coefficients, intercepts = [], []
    for _ in range(draws):
        rows = np.concatenate([rng.choice(rows, smallest, replace=False) for rows in members])
        # random_state: of the order in which liblinear visits the coordinates
        head = LogisticRegression(l1_ratio=1, C=penalty, solver="liblinear", random_state=seed)
        head.fit(standardised[rows], label[rows])
        coefficients.append(head.coef_[0])
        intercepts.append(head.intercept_[0])
    weights = np.mean(coefficients, axis=0) / scaler.scale_
    return weights, float(np.mean(intercepts) - weights @ scaler.mean_)


def _race_eraser(features, group):
    """The eraser of race: matrix (D, D) and offset (D,) float64 tensors, x -> matrix x + offset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # on torch.jit.script, at its import
        from concept_erasure import LeaceEraser
    race = torch.tensor([RACES.index(GROUPS[index][0]) for index in group.tolist()])
    eraser = LeaceEraser.fit(torch.from_numpy(features), race)
    return eraser.P, eraser.bias - eraser.P @ eraser.bias


def _lift(network, weight, biases, highest):
    """What is added to both logits so that no output of the head falls below 0, a float.

    SqueezeNet averages the outputs over positions behind a ReLU, which would cut off a head that
    was fitted without it. What both logits have more of changes no difference. A dense layer is
    the last, and needs nothing.

    weight: (2, D) and biases: (2,) float64 tensors; highest: (D,) array, of the features at any
    position, none negative.
    """
    if not isinstance(last_layer(network), nn.Conv2d):
        return 0.0
    highest = torch.from_numpy(highest).double()
    lowest = (weight.clamp_max(0) @ highest + biases).min().item()
    return SLACK * max(0.0, -lowest)


def _head_parameters(network):
    """Weight and bias of the last layer. Raises InputError if features give no logits by them."""
    layer = last_layer(network)
    pointwise = not isinstance(layer, nn.Conv2d) or layer.kernel_size == (1, 1)
    if not pointwise or layer.bias is None or getattr(layer, "groups", 1) > 1:
        raise InputError(
            f"{network.logits_layer} is no dense layer or 1 x 1 convolution with a bias, which a "
            "new head needs; leave dfr, leace and leace_dfr out of REPAIRS"
        )
    return layer.weight.detach(), layer.bias.detach()


def _state_with_head(network, weight, bias):
    """The state of a network, whose tensors it shares, with another last layer.

    weight: (2, D); bias: (2,).
    """
    before, _ = _head_parameters(network)
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    state[f"{network.logits_layer}.weight"] = weight.reshape(before.shape).to(before.dtype)
    state[f"{network.logits_layer}.bias"] = bias.to(before.dtype)
    return state


TRAINERS = {
    "finetune": fine_tuned,
    "finetune_head": head_fine_tuned,
    "dfr": head_retrained,
    "leace": race_erased,
    "leace_dfr": race_erased_head_retrained,
}
