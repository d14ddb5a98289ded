"""Layer-wise relevance propagation against slow loops that follow the formulas."""

import numpy as np
import pytest
import torch
from torch import nn

from explain.relevance import EPSILON, GAMMA, RULES, fold_layers, layer_matrix, propagate
from tabular.dense import build_dense


def network_of(architecture, inputs=5, seed=0):
    """A network whose batch norms have statistics of their own, in float64."""
    torch.manual_seed(seed)
    network = build_dense(architecture, inputs).double().eval()
    for layer in network:
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    return network


def pass_back(rule, inputs, weight, bias, relevance):
    """One layer, one row: inputs (I,), weight (J, I), bias (J,), relevance (J,) -> (I,)."""
    result = np.zeros(len(inputs))
    for j in range(len(bias)):
        parts = [inputs[i] * weight[j, i] for i in range(len(inputs))]
        z = sum(parts) + bias[j]
        if rule == "gamma":
            sign = 1 if z > 0 else -1
            favoured = [part if part * sign > 0 else 0 for part in parts]
            parts = [part + GAMMA * extra for part, extra in zip(parts, favoured)]
            extra = GAMMA * bias[j] if bias[j] * sign > 0 else 0
            divisor = sum(parts) + bias[j] + extra
        elif rule == "z spread":
            divisor = z - bias[j]
        elif rule == "epsilon":
            divisor = z + (EPSILON if z >= 0 else -EPSILON)
        else:
            divisor = z
        for i in range(len(inputs)):
            result[i] += parts[i] * relevance[j] / divisor
    return result


def slow_relevance(layers, row, rule):
    """Relevance of one row for the most active output of the last layer: (D,)."""
    activations = [row]
    for layer in layers:
        activations.append(layer(torch.from_numpy(activations[-1])).detach().numpy())
    relevance = np.zeros(len(activations[-1]))
    relevance[activations[-1].argmax()] = activations[-1].max()
    for layer, inputs in zip(reversed(layers), reversed(activations[:-1])):
        if isinstance(layer, nn.Linear):
            parameters = [part.detach().numpy() for part in (layer.weight, layer.bias)]
            relevance = pass_back(rule, inputs, *parameters, relevance)
    return relevance


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("architecture", ["D6-RELU-D4-BN-RELU-D2", "D6-SELU-D4-BN-SELU-DR(.5)-D2"])
def test_rule_follows_its_formula(rule, architecture):
    layers = fold_layers(network_of(architecture))
    inputs = torch.randn(7, 5, dtype=torch.float64)
    relevance, output = propagate(layers, inputs, rule, batch_size=3)
    expected = [slow_relevance(list(layers), row.numpy(), rule) for row in inputs]
    np.testing.assert_allclose(relevance, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(output, layers(inputs).amax(1))


def test_rules_differ():
    layers, inputs = fold_layers(network_of("D6-RELU-D4-BN-RELU-D2")), torch.randn(9, 5).double()
    results = [propagate(layers, inputs, rule)[0] for rule in RULES]
    for number, first in enumerate(results):
        for second in results[number + 1 :]:
            assert np.abs(first - second).max() > 1e-4


def test_folded_network_gives_the_same_logits():
    network = network_of("D6-RELU-D4-BN-RELU-DR(0.4)-D3-BN-RELU-D2")
    folded, inputs = fold_layers(network), torch.randn(20, 5).double()
    assert not any(isinstance(layer, nn.BatchNorm1d | nn.Dropout) for layer in folded)
    torch.testing.assert_close(folded(inputs), network(inputs))


@pytest.mark.parametrize("rule", RULES)
def test_matrix_is_the_sum_over_rows_of_networks_cut_off(rule):
    network, inputs = network_of("D6-RELU-D4-BN-RELU-D2"), torch.randn(8, 5).double()
    matrix, output = layer_matrix(network, inputs, rule)
    layers = list(fold_layers(network))
    assert matrix.shape == (3, 5)
    for row, end in zip(range(3), (1, 3, 5)):
        slow = [slow_relevance(layers[:end], part.numpy(), rule) for part in inputs]
        np.testing.assert_allclose(matrix[row], np.sum(slow, axis=0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(output[0], layers[0](inputs).amax(1).sum().item())


def test_spread_biases_conserve_and_kept_biases_do_not():
    network, inputs = network_of("D6-RELU-D4-BN-RELU-D2"), torch.randn(8, 5).double()
    ratios = {}
    for rule in RULES:
        matrix, output = layer_matrix(network, inputs, rule)
        ratios[rule] = matrix.sum(1) / output
    np.testing.assert_allclose(ratios["z spread"], 1, rtol=1e-9)
    assert np.abs(ratios["z"] - 1).max() > 0.05


def test_without_biases_z_conserves():
    network = network_of("D6-RELU-D4-RELU-D2")
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
    matrix, output = layer_matrix(network, torch.randn(8, 5).double(), "z")
    np.testing.assert_allclose(matrix.sum(1), output, rtol=1e-5)
