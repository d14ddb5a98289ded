"""Penalties: each by hand on a tiny network, and all of them through one conformance test."""

import pytest
import torch
from torch import nn

from explain.decomposition import Decomposer
from explain.parts import centre
from penalties import losses
from penalties.losses import METHODS, Batch, input_gradient, margin
from penalties.networks import WordNet


def make_batch(network, inputs, masks, rule="shapley", label=(0, 1, 1)):
    generator = torch.Generator().manual_seed(0)
    label = torch.tensor(label)
    return Batch(network, Decomposer(network), rule, inputs, label, masks, generator)


@pytest.fixture
def linear():
    """Two inputs, two logits: 2 a - b and a + 3 b. Everything can be done by hand."""
    network = nn.Sequential(nn.Linear(2, 2, bias=False))
    network[0].weight.data = torch.tensor([[2.0, -1.0], [1.0, 3.0]])
    return network


INPUTS = torch.tensor([[1.0, 2.0], [-1.0, 0.5], [0.0, 1.0]])
FIRST = torch.tensor([[[True, False]]])


def test_published_by_hand(linear):
    logits, penalty = losses.published(make_batch(linear, INPUTS, FIRST))
    relevant = INPUTS[:, :1] * torch.tensor([[2.0, 1.0]])
    rest = INPUTS[:, 1:] * torch.tensor([[-1.0, 3.0]])
    expected = (relevant.exp() / (relevant.exp() + rest.exp())).mean()
    torch.testing.assert_close(penalty, expected)
    torch.testing.assert_close(logits, linear(INPUTS))


def test_centred_by_hand(linear):
    logits, penalty = losses.centred(make_batch(linear, INPUTS, FIRST))
    expected = (INPUTS[:, 0].square() * 2 * 0.5**2).mean()  # (2a, a) less 1.5a
    torch.testing.assert_close(penalty, expected)
    both = torch.cat([FIRST, ~FIRST])
    doubled = losses.centred(make_batch(linear, INPUTS, both))[1]
    second = losses.centred(make_batch(linear, INPUTS, ~FIRST))[1]
    torch.testing.assert_close(doubled, penalty + second)


def test_a_shift_of_all_logits_changes_the_published_penalty_only(linear):
    """The flaw: it can be lowered without a change of any answer."""
    before = [
        method(make_batch(linear, INPUTS, FIRST))[1]
        for method in (losses.published, losses.centred)
    ]
    with torch.no_grad():
        linear[0].weight[:, 0] += torch.tensor([-5.0, -5.0])
    inputs = INPUTS[:1]
    after = [
        method(make_batch(linear, inputs, FIRST, label=(0,)))[1]
        for method in (losses.published, losses.centred)
    ]
    alone = losses.centred(make_batch(linear, inputs, FIRST, label=(0,)))[1]
    assert after[0] < before[0] and after[1] == alone
    torch.testing.assert_close(alone, torch.tensor(0.5))


def test_rrr_is_the_gradient_of_the_log_likelihood(linear):
    _, penalty = losses.rrr(make_batch(linear, INPUTS, FIRST))
    chance = linear(INPUTS).softmax(1)
    target = torch.eye(2)[[0, 1, 1]]
    expected = ((target - chance) @ linear[0].weight)[:, 0].square().mean()
    torch.testing.assert_close(penalty, expected)


def test_margin_of_two_classes_is_a_difference(linear):
    logits = linear(INPUTS)
    expected = (logits[:, 0] - logits[:, 1]) * torch.tensor([1, -1, -1])
    torch.testing.assert_close(margin(logits, torch.tensor([0, 1, 1])), expected)
    _, penalty = losses.rrr_margin(make_batch(linear, INPUTS, FIRST))
    torch.testing.assert_close(penalty, torch.tensor(1.0))  # the slope 2 - 1, squared


def test_expected_gradients_of_a_line_are_differences_times_slope():
    """Where the gradient is constant, the attribution is (x - x') times it."""
    network = nn.Sequential(nn.Linear(2, 2, bias=False))
    nn.init.zeros_(network[0].weight)
    batch = make_batch(network, INPUTS, FIRST)
    assert losses.expected_gradients(batch)[1] == 0
    network[0].weight.data = torch.tensor([[1e-3, 0.0], [0.0, 0.0]])
    batch.generator.manual_seed(0)
    order = torch.randperm(3, generator=torch.Generator().manual_seed(0))
    expected = (INPUTS - INPUTS[order])[:, 0].abs().mean() * 1e-3 / 4
    torch.testing.assert_close(losses.expected_gradients(batch)[1], expected, rtol=1e-3, atol=0)


def small_convs():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4, 2))


CASES = {
    "images": (small_convs, torch.randn(3, 1, 4, 4), torch.ones(2, 1, 1, 4, 4).bool()),
    "words": (
        lambda: WordNet(7, 2, 4, 5),
        torch.arange(12).view(3, 4) % 7,
        torch.ones(1, 3, 4).bool(),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_logits_and_a_penalty(method, case):
    make, inputs, masks = CASES[case]
    torch.manual_seed(0)
    network, way = make(), METHODS[method]
    logits, penalty = way.penalty(make_batch(network, inputs, masks, way.rule))
    torch.testing.assert_close(logits, network(inputs), rtol=1e-4, atol=1e-5)
    assert penalty.dim() == 0 and penalty >= 0
    if not way.has_strength:
        assert penalty == 0
        return
    penalty.backward()
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    assert gradients and any(gradient.abs().max() > 0 for gradient in gradients)
    none = way.penalty(make_batch(network, inputs, masks & False, way.rule))[1]
    assert none == 0 or (method == "cdep" and case == "words")  # there softplus(-rest) is left


def test_images_with_an_empty_mask_count_as_nothing():
    """The published penalty of a batch is that of the masked half, over all images."""
    torch.manual_seed(0)
    network, inputs = small_convs(), torch.randn(4, 1, 4, 4)
    masks = torch.zeros(1, 4, 1, 4, 4, dtype=torch.bool)
    masks[:, :2, :, :2] = True
    whole = losses.published(make_batch(network, inputs, masks, ""))[1]
    half = losses.published(make_batch(network, inputs[:2], masks[:, :2], ""))[1]
    torch.testing.assert_close(whole, half / 2)


def test_gradients_of_words_are_of_their_vectors():
    torch.manual_seed(0)
    network, words = WordNet(7, 2, 4, 5), torch.tensor([[0, 3, 2]])
    _, gradient, values = input_gradient(network, words, torch.tensor([1]), margin)
    torch.testing.assert_close(values, network.embedding(words))
    assert gradient.shape == (1, 3, 4) and gradient.abs().max() > 0


def test_centre():
    torch.testing.assert_close(centre(torch.tensor([[1.0, 3.0]])), torch.tensor([[-1.0, 1.0]]))
