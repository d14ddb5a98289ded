"""Defences by slow loops and by what must hold."""

import numpy as np
import pytest
import torch
from torch import nn

from explain.defences import COPIES, DEFENCES, NOISE, randomise_last
from explain.heatmaps import METHODS, Explainer, set_activations
from explain.student import build_convnet

SIZE = 16
LOW, HIGH = torch.tensor([[[-1.0]]]), torch.tensor([[[2.0]]])


@pytest.fixture
def problem():
    """A network of random weights and images."""
    torch.manual_seed(0)
    network = set_activations(build_convnet(1, SIZE, 3)).eval()
    return network, torch.rand(5, 1, SIZE, SIZE) * 3 - 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DEFENCES)
def test_maps_are_maps_of_each_image(problem, name, method):
    """Of sum 1, the same again, and an image's map does not depend on those beside it."""
    network, inputs = problem
    explainer = Explainer(method, LOW, HIGH)
    maps = DEFENCES[name](explainer, network, inputs, 0)
    assert maps.shape == (5, SIZE, SIZE) and (maps >= 0).all()
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(5))
    alone = DEFENCES[name](explainer, network, inputs[3:4], 0)
    torch.testing.assert_close(alone, maps[3:4], rtol=1e-3, atol=1e-6)


def test_smoothgrad_is_the_mean_of_gradients(problem):
    network, inputs = problem
    maps = DEFENCES["smooth"](Explainer("grad", LOW, HIGH), network, inputs, 7)
    generator, total = torch.Generator().manual_seed(7), np.zeros((5, SIZE, SIZE))
    for _ in range(COPIES):
        noise = torch.randn(1, SIZE, SIZE, generator=generator)
        for number, image in enumerate(inputs):
            label = network(image[None]).argmax().item()
            noisy = (image + 3 * NOISE * noise)[None].requires_grad_()
            network(noisy)[0, label].backward()
            total[number] += noisy.grad[0, 0].numpy()
    expected = np.abs(total) / np.abs(total).sum((1, 2), keepdims=True)
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-6)


def test_smoothing_a_linear_network_changes_no_gradient():
    torch.manual_seed(0)
    network, inputs = nn.Sequential(nn.Flatten(), nn.Linear(SIZE**2, 3)), torch.rand(4, 1, 16, 16)
    explainer = Explainer("grad")
    maps = DEFENCES["smooth"](explainer, network, inputs, 0)
    torch.testing.assert_close(maps, explainer.heatmap(network, inputs)[0])


def test_the_ensemble_is_the_mean_of_four(problem):
    network, inputs = problem
    maps = [Explainer(name, LOW, HIGH).heatmap(network, inputs)[0] for name in METHODS]
    expected = torch.stack(maps).mean(0)
    given = DEFENCES["ensemble"](Explainer("grad", LOW, HIGH), network, inputs, 0)
    torch.testing.assert_close(given, expected)


def test_the_last_layer_is_drawn_anew_and_no_other(problem):
    network, inputs = problem
    drawn = randomise_last(network, 0)
    before, after = dict(network.named_parameters()), dict(drawn.named_parameters())
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["9.weight"]
    assert after["9.weight"].std().item() == pytest.approx(before["9.weight"].std().item(), rel=0.1)


def test_a_randomised_map_is_of_the_class_that_it_was(problem):
    network, inputs = problem
    drawn, label = randomise_last(network, 3), network(inputs).argmax(1)
    assert (drawn(inputs).argmax(1) != label).any()
    image = inputs.clone().requires_grad_()
    drawn(image).gather(1, label[:, None]).sum().backward()
    expected = image.grad[:, 0].abs()
    expected /= expected.sum((1, 2), keepdim=True)
    maps = DEFENCES["randomised"](Explainer("grad"), network, inputs, 3)
    torch.testing.assert_close(maps, expected)
