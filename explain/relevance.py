"""Layer-wise relevance propagation (LRP) through dense networks, by zennit.

A layer z_j = sum_i x_i w_ij + b_j passes the relevance R_j of its outputs on to its inputs. With
sign(0) = 1:

    epsilon   R_i = sum_j x_i w_ij R_j / (z_j + EPSILON sign(z_j)); a small z_j cannot blow R_i up
    z         the same with EPSILON near 0 (Bach et al. 2015). The bias keeps its part b_j / z_j
    z spread  z without biases: R_i = sum_j x_i w_ij R_j / (z_j - b_j), so that the part of the bias
              is spread over the inputs, in proportion to what they contribute
    gamma     contributions of the sign of z_j count 1 + GAMMA times (Montavon et al. 2019)

Activations pass relevance on as it is.
"""

import copy

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_linear_bn_eval
from zennit.attribution import Gradient
from zennit.composites import LayerMapComposite
from zennit.rules import Epsilon, Gamma, Pass

EPSILON = 0.01  # in units of a layer's outputs
GAMMA = 0.25
TINY = 1e-30  # instead of 0, against divisions by 0; 1e-9 would already lose relevance

RULES = {  # name -> a function that makes zennit's rule. A new one is one more line
    "epsilon": lambda: Epsilon(EPSILON),
    "z": lambda: Epsilon(TINY),
    "z spread": lambda: Epsilon(TINY, zero_params="bias"),
    "gamma": lambda: Gamma(GAMMA, stabilizer=TINY),
}


def fold_layers(network):
    """The dense layers and activations of a network, batch norm folded in and no dropout.

    LRP depends on how a function is written; with batch norm as a layer of its own it would not
    conserve relevance. In float64, since outputs near 0 make relevance large, and it then cancels.

    Args:
        network: nn.Sequential of Linear, BatchNorm1d (behind a Linear), Dropout and activations.

    Returns:
        nn.Sequential in float64, which gives the same logits in eval mode. A copy.
    """
    network, pieces = network.eval(), []
    for layer in network:
        if isinstance(layer, nn.BatchNorm1d):
            pieces[-1] = fuse_linear_bn_eval(pieces[-1], layer)
        elif not isinstance(layer, nn.Dropout):
            pieces.append(layer)
    return nn.Sequential(*copy.deepcopy(pieces)).double().requires_grad_(False)


def propagate(layers, inputs, rule, batch_size=2048):
    """Relevance of the inputs for the most active output of each row.

    Args:
        layers: nn.Sequential as from fold_layers, or its beginning.
        inputs: (N, D) floating point.
        rule: str, one of RULES.
        batch_size: int, rows at once.

    Returns:
        relevance (N, D) float64, and output (N,) float64, the value of the output that it explains.
    """
    rule_of = {nn.Linear: RULES[rule]()}
    activations = {type(layer) for layer in layers} - {nn.Linear}
    rule_of |= {kind: Pass() for kind in activations}
    composite = LayerMapComposite(list(rule_of.items()))
    relevance, output = [], []

    def most_active(values):  # (B, outputs): the value of the largest, 0 elsewhere
        largest = values.argmax(1, keepdim=True)
        return torch.zeros_like(values).scatter(1, largest, values.gather(1, largest))

    with Gradient(model=layers, composite=composite, attr_output=most_active) as attributor:
        for part in inputs.double().split(batch_size):
            values, part_relevance = attributor(part)
            relevance.append(part_relevance.detach())
            output.append(values.detach().amax(1))
    return torch.cat(relevance).numpy(), torch.cat(output).numpy()


def layer_matrix(network, inputs, rule):
    """Relevance of the inputs for every dense layer, cut off at its pre-activation.

    Args:
        network: as for fold_layers.
        inputs: (N, D) floating point.
        rule: str, one of RULES.

    Returns:
        relevance (L, D) float64, summed over rows, a row for each dense layer, the first first; and
        output (L,) float64, the sum of the explained outputs. Where the rule conserves relevance,
        a row of the first adds up to the second.
    """
    layers = fold_layers(network)
    relevance, output = [], []
    for place, layer in enumerate(layers):
        if isinstance(layer, nn.Linear):
            rows, values = propagate(layers[: place + 1], inputs, rule)
            relevance.append(rows.sum(0, dtype=np.float64))
            output.append(values.sum(dtype=np.float64))
    return np.stack(relevance), np.array(output)
