"""Heat-maps against captum, zennit and slow loops; second derivatives against differences."""

import copy

from common.settings import InputError

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency
from torch import nn
from zennit.attribution import Gradient
from zennit.composites import SpecialFirstLayerMapComposite
from zennit.rules import Pass, ZBox, ZPlus

from explain.heatmaps import METHODS, Explainer, normalise_map, set_activations

LOW, HIGH = torch.tensor([[[-0.5]], [[-0.8]]]), torch.tensor([[[2.0]], [[1.5]]])
RAW = {name: Explainer(name, LOW, HIGH) for name in METHODS}


def make_network(activation=nn.ReLU):
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 3, 3, padding=1), nn.MaxPool2d(2), activation()]
    layers += [nn.Conv2d(3, 4, 2, stride=2), activation(), nn.Flatten(), nn.Linear(16, 5)]
    layers += [activation(), nn.Dropout(0.5), nn.Linear(5, 3)]
    return nn.Sequential(*layers).double().eval()


def make_inputs(n=4):
    """Values between LOW and HIGH."""
    generator = torch.Generator().manual_seed(1)
    share = torch.rand(n, 2, 8, 8, generator=generator, dtype=torch.float64)
    return LOW + share * (HIGH - LOW)


def attribute(name, network, inputs, subset=None):
    explainer = RAW[name]
    attribution, _ = METHODS[name].attribute(explainer, network, inputs, False, subset)
    return attribution * inputs if METHODS[name].times_input else attribution


@pytest.mark.parametrize("activation", [nn.ReLU, lambda: nn.Softplus(20)])
def test_gradients_are_those_of_captum(activation):
    network, inputs = make_network(activation), make_inputs()
    target = network(inputs).argmax(1)
    expected = Saliency(network).attribute(inputs, target, abs=False)
    torch.testing.assert_close(attribute("grad", network, inputs), expected)
    expected = InputXGradient(network).attribute(inputs.requires_grad_(), target)
    torch.testing.assert_close(attribute("xgrad", network, inputs.detach()), expected.detach())


def test_integrated_gradients_are_those_of_captum():
    network, inputs = make_network(), make_inputs()
    target = network(inputs).argmax(1)
    options = {"n_steps": 8, "method": "riemann_right", "baselines": 0}
    expected = IntegratedGradients(network).attribute(inputs, target=target, **options)
    torch.testing.assert_close(attribute("intgrad", network, inputs), expected)


def test_steps_of_integrated_gradients_average_to_the_whole():
    network, inputs = make_network(), make_inputs()
    parts = [attribute("intgrad", network, inputs, [number]) for number in range(1, 9)]
    torch.testing.assert_close(sum(parts) / 8, attribute("intgrad", network, inputs))


# ----------------------------------------------------------------------------- relevance


def linear_of(layer, shape):
    """A layer without bias as a matrix (outputs, inputs), from its answers to unit vectors."""
    layer = copy.deepcopy(layer)
    nn.init.zeros_(layer.bias)
    units = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
    return layer(units).detach().reshape(len(units), -1).T.numpy()


def slow_relevance(network, row):
    """LRP of one input by loops over every pair of an input and an output: (D,) array."""
    activations = [row[None]]
    for layer in network:
        activations.append(layer(activations[-1]).detach())
    relevance = np.zeros(activations[-1].numel())
    relevance[activations[-1].argmax()] = 1
    for number in reversed(range(len(network))):
        layer, inputs = network[number], activations[number]
        values, passed = inputs.numpy().ravel(), np.zeros(inputs.numel())
        if isinstance(layer, nn.MaxPool2d):
            winners = nn.functional.max_pool2d(inputs, 2, return_indices=True)[1]
            plane = inputs[0, 0].numel()
            for place, winner in enumerate(winners.ravel().tolist()):
                channel = place // winners[0, 0].numel()
                passed[channel * plane + winner] += relevance[place]
        elif isinstance(layer, (nn.Conv2d, nn.Linear)):
            weights = linear_of(layer, tuple(inputs.shape[1:]))
            low, high = (part.double().expand(2, 8, 8).numpy().ravel() for part in (LOW, HIGH))
            for j, weight in enumerate(weights):
                parts = []
                for i, w in enumerate(weight):
                    part = values[i] * max(w, 0)
                    if number == 0:
                        part = values[i] * w - low[i] * max(w, 0) - high[i] * min(w, 0)
                    parts.append(part)
                if relevance[j]:
                    passed += np.array(parts) / (sum(parts) + 1e-9) * relevance[j]
        else:
            passed = relevance
        relevance = passed
    return relevance


def test_relevance_follows_its_formulas():
    network, inputs = make_network(), make_inputs(2)
    expected = [slow_relevance(network, row) for row in inputs]
    relevance = attribute("lrp", network, inputs)
    np.testing.assert_allclose(relevance.flatten(1), expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("activation", [nn.ReLU, lambda: nn.Softplus(50)])
def test_relevance_is_that_of_zennit(activation):
    network, inputs = make_network(activation), make_inputs()
    plus = ZPlus(stabilizer=1e-9, zero_params="bias")
    box = ZBox(LOW.double()[None], HIGH.double()[None], stabilizer=1e-9, zero_params="bias")
    kinds = (nn.Conv2d, nn.Linear)
    composite = SpecialFirstLayerMapComposite(
        [(kinds, plus), ((nn.ReLU, nn.Softplus), Pass())], [(kinds, box)]
    )
    start = nn.functional.one_hot(network(inputs).argmax(1), 3).double()
    with Gradient(model=network, composite=composite) as attributor:
        _, expected = attributor(inputs, start)
    torch.testing.assert_close(attribute("lrp", network, inputs), expected, rtol=1e-6, atol=1e-9)


def test_relevance_is_conserved():
    """What does not arrive is lost at outputs without any positive contribution only."""
    network, inputs = make_network(lambda: nn.Softplus(5)), make_inputs()
    sums = attribute("lrp", network, inputs).sum((1, 2, 3))
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=1e-6, atol=0)


def test_relevance_passes_concatenation_and_average():
    class Fire(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(2, 3, 3, padding=1)
            self.one, self.three = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 3, padding=1)
            self.act, self.pool = nn.Softplus(5), nn.AdaptiveAvgPool2d(1)
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            x = self.act(self.first(x))
            x = torch.cat([self.act(self.one(x)), self.act(self.three(x))], 1)
            return self.head(self.pool(x).flatten(1))

    torch.manual_seed(1)  # each output has a positive weight
    network = Fire().double()
    sums = attribute("lrp", network, make_inputs()).sum((1, 2, 3))
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=1e-6, atol=0)
    assert all("forward" not in module.__dict__ for module in network.modules())


def test_layers_without_a_rule_are_refused():
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 3))
    with pytest.raises(InputError, match="BatchNorm2d"):
        attribute("lrp", network.double().eval(), make_inputs())
    assert all("forward" not in module.__dict__ for module in network.modules())


# ----------------------------------------------------------------------------- maps


@pytest.mark.parametrize("name", METHODS)
def test_maps_are_not_negative_and_of_sum_one(name):
    network, inputs = make_network(lambda: nn.Softplus(5)), make_inputs()
    maps, logits = RAW[name].heatmap(network, inputs)
    assert maps.shape == (4, 8, 8) and (maps >= 0).all()
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(logits, network(inputs).detach())
    assert not maps.requires_grad and not logits.requires_grad
    expected = attribute(name, network, inputs).abs().sum(1)
    torch.testing.assert_close(maps, expected / expected.sum((1, 2), keepdim=True))


@pytest.mark.parametrize("name", METHODS)
def test_projection_comes_before_the_product_with_the_input(name):
    network, inputs = make_network(), make_inputs()

    def project(values):  # onto the left half
        return torch.cat([values[..., :4], torch.zeros_like(values[..., 4:])], -1)

    maps, _ = RAW[name].heatmap(network, inputs, project)
    expected = normalise_map(project(attribute(name, network, inputs)))
    torch.testing.assert_close(maps, expected)
    shifted = RAW["xgrad"].heatmap(network, inputs, lambda values: values.roll(1, 3))[0]
    gradient = attribute("grad", network, inputs)
    torch.testing.assert_close(shifted, normalise_map(gradient.roll(1, 3) * inputs))


def test_a_map_of_zero_stays_zero():
    assert (normalise_map(torch.zeros(2, 1, 3, 3)) == 0).all()


@pytest.mark.parametrize("name", METHODS)
def test_second_derivatives_by_the_weights(name):
    """d (a loss of the heat-maps) / d weights against central differences."""
    network, inputs = make_network(lambda: nn.Softplus(5)), make_inputs(2)
    generator = torch.Generator().manual_seed(2)
    target = torch.rand(8, 8, generator=generator, dtype=torch.float64) / 32
    names = [key for key, _ in network.named_parameters()]
    values = [part.detach().requires_grad_() for part in network.parameters()]

    def loss(*weights):
        for key, weight in zip(names, weights):
            module, _, last = key.rpartition(".")
            layer = network.get_submodule(module)
            layer._parameters.pop(last, None)
            object.__setattr__(layer, last, weight)
        maps, _ = RAW[name].heatmap(network, inputs, differentiable=True)
        return 100 * ((maps - target) ** 2).sum()

    assert torch.autograd.gradcheck(loss, values, eps=1e-6, atol=1e-5, rtol=1e-3)


def test_relu_has_no_second_derivative_to_train_by():
    network, inputs = make_network(), make_inputs()
    maps, _ = RAW["grad"].heatmap(network, inputs, differentiable=True)
    maps.square().sum().backward()
    assert network[0].bias.grad is None or not network[0].bias.grad.any()


def test_activations_are_replaced_in_place():
    network = make_network()
    weights = copy.deepcopy(network.state_dict())
    set_activations(network, 7.0)
    kinds = [type(layer) for layer in network]
    assert nn.ReLU not in kinds and kinds.count(nn.Softplus) == 3 and network[2].beta == 7.0
    set_activations(network)
    assert [type(layer) for layer in network].count(nn.ReLU) == 3
    for key, value in network.state_dict().items():
        assert torch.equal(value, weights[key])
