"""Contextual decomposition: completeness on every network, and slow versions as oracles."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import model
from explain.decomposition import RULES, Decomposer
from tests.explain.decompositions import (
    Convs,
    Words,
    mlp,
    published_convs,
    published_words,
    shapley_of_part,
)
from tests.networks import Odd, Shared, Small, Untraceable, random_network, seeded

IMAGES = (2, 3, 64, 64)


def with_norms():
    """Batch norm behind a layer, and one that stands alone. No ReLU: where both parts are 0, the
    bias belongs to the rest, so the parts of two masks would not add up."""
    network = nn.Sequential(
        nn.Linear(6, 5), nn.BatchNorm1d(5), nn.SELU(), nn.BatchNorm1d(5), nn.Linear(5, 3)
    )
    for norm in (network[1], network[3]):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return network.train()


def draw(kind, *shape):
    noise = torch.Generator().manual_seed(3)
    if kind == "words":
        return torch.randint(0, 9, shape, generator=noise)
    return torch.randn(shape, generator=noise, dtype=torch.float64)


NETWORKS = {  # name -> (a function that makes it, the shape of its inputs)
    "mlp": (lambda: mlp(7, 6, 5, 3), (4, 7)),
    "selu": (lambda: mlp(7, 6, 5, 3, act=nn.SELU), (4, 7)),
    "norms": (lambda: with_norms(), (4, 6)),
    "convs": (Convs, (2, 1, 10, 10)),
    "words": (Words, (3, 5)),
    "small": (lambda: Small(), (2, 3, 9, 9)),
    "odd": (lambda: Odd(), (2, 3, 9, 9)),
    "shared": (lambda: Shared(), (2, 3, 9, 9)),
    "own mean": (
        lambda: model.build("squeezenet1_1", "none", 64, ("a", "b"), "0,0,0,1,1,1"),
        IMAGES,
    ),
    "squeezenet1_1": (lambda: random_network("squeezenet1_1"), IMAGES),
    "squeezenet1_0": (lambda: random_network("squeezenet1_0"), IMAGES),
    "resnet18": (lambda: random_network("resnet18"), IMAGES),
    "resnet50": (lambda: random_network("resnet50"), IMAGES),
    "inception_v3": (lambda: random_network("inception_v3"), (2, 3, 80, 80)),
    "vgg11": (lambda: random_network("vgg11"), (2, 3, 32, 32)),
}


@pytest.fixture(scope="module", params=NETWORKS)
def case(request):
    """A network, inputs, and one mask of each input. In float64, but for the large VGG."""
    torch.manual_seed(1)
    make, shape = NETWORKS[request.param]
    network, inputs = make(), draw(request.param, *shape)
    if request.param != "vgg11":
        network = network.double()
    elif inputs.is_floating_point():
        inputs = inputs.float()
    if request.param != "norms":
        network.eval()
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(4)) < 0.4
    return network, inputs, mask


def close(actual, expected, tolerance=1e-5):
    scale = expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * max(scale, 1e-3))


@torch.no_grad()
@pytest.mark.parametrize("rule", RULES)
def test_relevant_and_rest_are_the_logits(case, rule):
    network, inputs, mask = case
    parts = Decomposer(network)(inputs, torch.stack([mask, ~mask]), rule)
    close(parts.total, network(inputs))
    close(parts.relevant + parts.rest, parts.total.expand_as(parts.relevant))
    # Bounded: a pass that lost track of the parts would be complete as well.
    assert (parts.relevant[0] - parts.relevant[1]).abs().max() > 0
    if rule == "shapley":  # its parts are symmetric, so the rest has an oracle of its own
        close(parts.relevant.sum(0), parts.total)


@torch.no_grad()
@pytest.mark.parametrize("rule", RULES)
def test_all_of_the_input_or_none_of_it(case, rule):
    network, inputs, mask = case
    parts = Decomposer(network)(inputs, torch.stack([mask | True, mask & False]), rule)
    close(parts.relevant[0], network(inputs))
    if rule != "last":  # f(t) - f(t - 0) = 0 as well, unless an input was 0
        close(parts.relevant[1], torch.zeros_like(parts.total))


@torch.no_grad()
def test_several_masks_are_as_each_alone(case):
    network, inputs, mask = case
    if inputs.dtype == torch.float32:  # whose rounding hangs on the processor
        network, inputs = copy.deepcopy(network).double(), inputs.double()
    decompose = Decomposer(network)
    together = decompose(inputs, torch.stack([mask, ~mask]))
    for number, one in enumerate((mask, ~mask)):
        close(decompose(inputs, one).relevant[0], together.relevant[number], 1e-6)


@torch.no_grad()
def test_published_rule_of_a_convnet():
    torch.manual_seed(0)
    network, image = Convs().double(), draw("image", 1, 1, 10, 10)
    mask = np.zeros((1, 10, 10))
    mask[:, 2:6, 1:5] = 1
    parts = Decomposer(network)(image, torch.from_numpy(mask)[None], "cd")
    relevant, rest = published_convs(network, image[0].numpy(), mask)
    np.testing.assert_allclose(parts.relevant[0, 0], relevant, rtol=1e-6)
    np.testing.assert_allclose(parts.rest[0, 0], rest, rtol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("mask", [(0, 1, 0, 0, 0), (1, 0, 0, 1, 0), (0, 0, 0, 0, 1)])
def test_published_rule_of_an_lstm(mask):
    torch.manual_seed(0)
    network = Words().double()
    for weight in network.lstm.parameters():
        nn.init.normal_(weight)
    words, mask = draw("words", 1, 5), torch.tensor([mask])
    parts = Decomposer(network)(words, mask, "cd")
    relevant, rest = published_words(network, words[0].numpy(), mask[0].tolist())
    np.testing.assert_allclose(parts.relevant[0, 0], relevant, rtol=1e-6)
    np.testing.assert_allclose(parts.rest[0, 0], rest, rtol=1e-6)


@torch.no_grad()
def test_shapley_rule_is_the_shapley_value_of_one_hidden_layer():
    torch.manual_seed(2)
    network, inputs = mlp(6, 8, 3, bias=False).double(), draw("rows", 4, 6)
    mask = torch.tensor([True, False, True, False, False, True])
    parts = Decomposer(network)(inputs, mask[None])
    for row, relevant in zip(inputs, parts.relevant[0]):
        close(relevant, shapley_of_part(network, row, mask))
    assert not torch.allclose(parts.relevant, Decomposer(network)(inputs, mask[None], "cd")[0])


@torch.no_grad()
def test_last_is_what_ablation_takes_away():
    torch.manual_seed(2)
    network, inputs = mlp(6, 8, 7, 3, bias=False).double(), draw("rows", 4, 6)
    mask = torch.tensor([True, False, True, False, False, True])[None]
    parts = Decomposer(network)(inputs, mask, "last")
    close(parts.relevant[0], network(inputs) - network(inputs * ~mask))
    close(parts.rest[0], network(inputs * ~mask))


@torch.no_grad()
def test_cd_is_the_part_alone():
    torch.manual_seed(2)
    network, inputs = mlp(6, 8, 7, 3, bias=False).double(), draw("rows", 4, 6)
    mask = torch.tensor([True, False, True, False, False, True])[None]
    close(Decomposer(network)(inputs, mask, "cd").relevant[0], network(inputs * mask))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["mlp", "selu", "norms", "convs", "words"])
def test_gradients(name, rule):
    """Of the relevant parts, with respect to weights, as finite differences give them."""
    torch.manual_seed(5)
    make, shape = NETWORKS[name]
    network, inputs = make().double(), draw(name, *shape)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(4)) < 0.4
    decompose, (weight, *_) = Decomposer(network), network.parameters()

    def relevant(values):
        with torch.no_grad():
            saved = weight.detach().clone()
        weight.data = values
        try:
            return decompose(inputs, mask, rule).relevant.sum((0, 1))
        finally:
            weight.data = saved

    (gradient,) = torch.autograd.grad(relevant(weight.detach().clone())[0], weight)
    rng = np.random.default_rng(0)
    for place in rng.choice(weight.numel(), 5, replace=False):
        step = torch.zeros(weight.numel(), dtype=torch.float64)
        step[place] = 1e-6
        ends = [relevant(weight.detach() + sign * step.view_as(weight))[0] for sign in (1, -1)]
        slope = (ends[0] - ends[1]).item() / 2e-6
        assert gradient.flatten()[place].item() == pytest.approx(slope, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_gradcheck(rule):
    torch.manual_seed(5)
    network, mask = mlp(4, 5, 2, act=nn.Softplus).double(), torch.tensor([[1, 0, 1, 0]])
    decompose = Decomposer(network)
    inputs = draw("rows", 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: tuple(decompose(rows, mask, rule)), inputs)


def test_gradients_are_finite_where_a_part_is_zero():
    torch.manual_seed(0)
    network, image = Convs(), torch.zeros(2, 1, 10, 10)
    for rule in RULES:
        parts = Decomposer(network)(image, torch.ones(1, 1, 10, 10), rule)
        parts.relevant.square().sum().backward()
        assert all(weight.grad.isfinite().all() for weight in network.parameters())


def test_training_works_on_the_same_pass():
    """The total has the dropout and the batch statistics that training sees, which are updated."""
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()
    )
    network.append(nn.Linear(4 * 36, 2)).train()
    images, mask = torch.randn(6, 1, 8, 8), torch.ones(1, 1, 8, 8)
    torch.manual_seed(7)
    parts = Decomposer(network)(images, mask, "last")
    after = network[1].running_mean.clone()
    network[1].reset_running_stats()
    torch.manual_seed(7)
    close(parts.total, network(images), 1e-4)
    torch.testing.assert_close(after, network[1].running_mean)
    close(parts.relevant[0], parts.total, 1e-4)  # dropout has one mask for both
    before = network[1].running_mean.clone()
    Decomposer(network.eval())(images, mask)
    assert torch.equal(before, network[1].running_mean)


def test_functional_dropout_follows_the_mode():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(50, 2)

        def forward(self, x):
            return self.head(nn.functional.dropout(x, 0.5, self.training))

    network, inputs = Functional(), torch.randn(3, 50)
    decompose = Decomposer(network.eval())
    close(decompose(inputs, torch.ones(1, 50)).total, network(inputs))
    network.train()
    first, second = (decompose(inputs, torch.ones(1, 50)).total for _ in range(2))
    assert not torch.allclose(first, second)


class Cosine(nn.Module):
    def forward(self, x):
        return torch.cos(x)


@pytest.mark.parametrize(
    "make,reason",
    [
        (lambda: seeded(Untraceable), "torch.fx cannot trace it"),
        (Cosine, "no rule for cos"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)), "no rule for Softmax"),
        (lambda: nn.LSTM(3, 4), "batch_first"),
        (lambda: nn.LSTM(3, 4, num_layers=2, batch_first=True), "several layers"),
    ],
)
def test_networks_without_a_rule_are_refused(make, reason):
    network = make()
    inputs = torch.zeros(2, 5, 3) if isinstance(network, nn.LSTM) else torch.zeros(2, 4)
    wrapped = nn.Sequential(network)
    with pytest.raises(ValueError, match=reason):
        Decomposer(wrapped)(inputs, torch.ones_like(inputs))
