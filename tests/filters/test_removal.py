"""Networks without filters as modules, and first-order changes."""

import copy

import numpy as np
import pytest
import torch
from zennit.rules import Epsilon, ZPlus

from datasets import normalise
from filters.coalitions import Coalitions
from filters.graph import cut
from filters.measures import class_margins
from filters.removal import first_order_changes, relevance_rule
from tests.networks import IMAGE_SIZE, Odd, naive_logits, seeded

# ----------------------------------------------------------------------------- without


def test_what_remains_as_a_module(small, classes):
    evaluator, fills = Coalitions(small, 16), torch.arange(9) / 10
    images, keep = normalise(classes.images, "cpu"), np.ones((1, 9), dtype=bool)
    keep[0, [1, 6]] = False
    evaluator.see(images, fills)
    remaining = evaluator.without([1, 6], fills)
    torch.testing.assert_close(remaining(images), evaluator.logits(keep)[0])
    torch.testing.assert_close(evaluator.without([], fills)(images), small(images))
    same = evaluator.without(np.array([6, 1]), fills)
    assert torch.equal(same(images), remaining(images))


def test_an_odd_network_without_filters(faces):
    network, fills = seeded(Odd), torch.rand(17, generator=torch.Generator().manual_seed(0))
    evaluator, images = Coalitions(network, IMAGE_SIZE), normalise(faces.images[:3], "cpu")
    for removed in ([0, 9], [5], list(range(17))):
        keep = ~np.isin(np.arange(17), removed)
        expected = naive_logits(network, evaluator, fills, images, keep)
        logits = evaluator.without(removed, fills)(images)
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_gradients_pass_through_what_remains(small, classes):
    images = normalise(classes.images, "cpu").requires_grad_()
    evaluator = Coalitions(small, 16)
    whole, remaining = evaluator.without([], torch.zeros(9)), evaluator.without([0], torch.zeros(9))
    (gradient,) = torch.autograd.grad(whole(images).sum(), images)
    (expected,) = torch.autograd.grad(small(images).sum(), images)
    torch.testing.assert_close(gradient, expected)
    (other,) = torch.autograd.grad(remaining(images).sum(), images)
    assert other.abs().sum() > 0 and not torch.allclose(other, expected)
    (none,) = torch.autograd.grad(
        evaluator.without(range(4), torch.zeros(9))(images).sum(), images, allow_unused=True
    )
    assert none is None or not none.any()


# ----------------------------------------------------------------------------- first order


def margins_between(steps, fills, keep, images, labels, player, share):
    """Margins with a filter's output brought from its fill to itself by `share`."""
    values = [images]
    for step in steps[1:]:
        inputs = [values[source] for source in step.inputs]
        if step.run:
            values.append(step.run(*inputs))
            continue
        outputs = []
        for conv, value in zip(step.filters, inputs):
            if conv:
                value = value.clamp_min(conv.low)
                fill = fills[conv.players][:, None, None]
                working = torch.from_numpy(keep[conv.players])[:, None, None]
                closed = torch.where(working, value, fill)
                channel = player - conv.players.start
                if player in range(conv.players.start, conv.players.stop):
                    rise = value[:, channel] - fill[channel]
                    closed[:, channel] = fill[channel] + share * rise
                value = closed
            outputs.append(value)
        values.append(torch.cat(outputs, 1))
    return class_margins(values[-1], labels)


def in_double_precision(network, evaluator):
    """A copy of the evaluator whose steps are those of the network in float64."""
    evaluator = copy.copy(evaluator)
    evaluator.steps = cut(copy.deepcopy(network), IMAGE_SIZE)
    for step in evaluator.steps:
        if step.run:
            step.run.double()
    evaluator.low = evaluator.low.double()
    return evaluator


def test_first_order_changes_are_those_of_small_removals(network, evaluator, faces):
    """A filter's fill brought near to its output, or the reverse: there first order is exact."""
    images, labels = normalise(faces.images[:2], "cpu").double(), faces.label[:2]
    evaluator, rng = in_double_precision(network, evaluator), np.random.default_rng(0)
    n_filters = len(evaluator.layers)
    keep = rng.random(n_filters) < 0.98
    players = [rng.choice(np.flatnonzero(rows), 3, replace=False) for rows in (keep, ~keep)]
    random = torch.Generator().manual_seed(0)
    fills = torch.rand(n_filters, dtype=torch.float64, generator=random) / 10
    evaluator.see(images, fills)
    evaluator.images_at_once = 4  # parts of one image
    margins, changes = evaluator.first_order(keep, labels)
    n_smooth, small = 0, 1e-6
    game = (evaluator.steps, fills, keep, images, labels)
    for player in np.concatenate(players):
        present = float(keep[player])
        with torch.no_grad():
            up = (margins_between(*game, player, present + small) - margins) / small
            down = (margins - margins_between(*game, player, present - small)) / small
        # else there is a kink, as where a pooling sees a constant fill
        if torch.allclose(up, down, rtol=1e-3, atol=1e-5):
            n_smooth += 1
            torch.testing.assert_close(changes[:, player], up, rtol=1e-3, atol=1e-4)
    assert n_smooth >= 3


@pytest.mark.parametrize("images_at_once", [1, 8, 100])
def test_first_order_in_parts_is_the_same(small, classes, images_at_once):
    evaluator, fills = Coalitions(small, 16), torch.arange(9) / 20
    images, keep = normalise(classes.images, "cpu"), np.arange(9) % 4 > 0
    evaluator.see(images, fills)
    evaluator.images_at_once = images_at_once
    margins, changes = evaluator.first_order(keep, classes.label)
    whole = first_order_changes(evaluator.steps, torch.tensor(keep), fills, images, classes.label)
    torch.testing.assert_close(margins, whole[0])
    torch.testing.assert_close(changes, whole[1], rtol=1e-5, atol=1e-7)
    assert margins.shape == (12,) and changes.shape == (12, 9)
    assert not margins.requires_grad and not changes.requires_grad
    expected = class_margins(evaluator.logits(keep[None])[0], classes.label)
    torch.testing.assert_close(margins, expected)


def test_first_order_works_where_no_gradients_are_wanted(small, classes):
    evaluator = Coalitions(small, 16)
    evaluator.see(normalise(classes.images, "cpu"), torch.zeros(9))
    with torch.no_grad():
        _, changes = evaluator.first_order(np.ones(9, dtype=bool), classes.label)
    assert changes.any()


def test_filters_that_nothing_follows_from_change_nothing(small, classes):
    """With the whole second layer removed, the first has no effect."""
    evaluator, keep = Coalitions(small, 16), np.arange(9) < 4
    evaluator.see(normalise(classes.images, "cpu"), torch.zeros(9))
    _, changes = evaluator.first_order(keep, classes.label)
    assert not changes[:, :4].any() and changes[:, 4:].any()


# ----------------------------------------------------------------------------- relevance


def relevance(evaluator, images, labels):
    """Relevance of all filters for the margins of images: (B, n_filters)."""
    n_filters = len(evaluator.layers)
    evaluator.see(images, torch.zeros(n_filters))
    with relevance_rule(evaluator.steps):
        return evaluator.first_order(np.ones(n_filters, dtype=bool), labels)[1]


def test_relevance_is_zennits(small, classes):
    """By ZPlus without biases, and by Epsilon with nearly no epsilon in the head."""
    images, labels = normalise(classes.images, "cpu"), classes.label
    result = relevance(Coalitions(small, 16), images, labels)
    for layer in (small.first, small.second):
        ZPlus(stabilizer=1e-12, zero_params="bias").copy().register(layer)
    Epsilon(1e-12).copy().register(small.head)
    first = torch.relu(small.first(images.requires_grad_()))
    second = torch.relu(small.second(first))
    output = small.head(second)
    logits = output.mean((2, 3)).detach()
    best_other = logits.scatter(1, labels[:, None], -torch.inf).argmax(1)
    sign = torch.nn.functional.one_hot(labels, 3) - torch.nn.functional.one_hot(best_other, 3)
    positions = output[0, 0].numel()
    start = output.detach() * sign[:, :, None, None] / positions
    gradients = torch.autograd.grad(output, (first, second), start)
    expected = torch.cat([gradient.sum((2, 3)) for gradient in gradients], 1)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-6)
    assert (result > 0).any() and (result < 0).any()


def test_layers_give_what_they_gave(faces):
    """With the rule and after it, also where nothing positive comes in; and so do the gradients."""
    network = seeded(Odd)
    network.convs[1].bias.data[0], network.convs[1].weight.data[0] = 5.0, -1.0
    evaluator, images = Coalitions(network, IMAGE_SIZE), normalise(faces.images[:3], "cpu")
    evaluator.see(images, torch.zeros(17))
    keep = np.ones(17, dtype=bool)
    before = evaluator.first_order(keep, faces.label[:3])
    with relevance_rule(evaluator.steps):
        during = evaluator.first_order(keep, faces.label[:3])
    after = evaluator.first_order(keep, faces.label[:3])
    torch.testing.assert_close(during[0], before[0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(during[1], before[1])
    assert torch.equal(after[0], before[0]) and torch.equal(after[1], before[1])


class Sum(torch.nn.Module):
    """Two filters of the first channel, 1 and 3 times it, that a third one and the head add up."""

    def __init__(self):
        super().__init__()
        self.one, self.three = (torch.nn.Conv2d(3, 1, 1, bias=False) for _ in range(2))
        self.last = torch.nn.Conv2d(1, 1, 1, bias=False)
        self.head = torch.nn.Linear(1, 2, bias=False)
        for layer, weight in ((self.one, 1.0), (self.three, 3.0), (self.last, 2.0)):
            layer.weight.data.zero_()
            layer.weight.data[0, 0] = weight
        self.head.weight.data[:, 0] = torch.tensor([0.0, 1.0])

    def forward(self, images):
        total = torch.relu(self.one(images)) + torch.relu(self.three(images))
        return self.head(torch.relu(self.last(total)).mean((2, 3)))


@pytest.mark.parametrize("label, sign", [(1, 1), (0, -1)])
def test_relevance_of_a_sum_by_hand(label, sign):
    """Of a margin of 8, all is the third filter's; the first two have 1 : 3 of it."""
    images = torch.ones(1, 3, 2, 2)
    result = relevance(Coalitions(Sum().eval(), 2), images, torch.tensor([label]))
    torch.testing.assert_close(result, sign * torch.tensor([[2.0, 6.0, 8.0]]))
