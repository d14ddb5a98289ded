"""Whole forward passes with hooks, for networks that cannot be cut."""

from common.settings import InputError

import numpy as np
import pytest
import torch

from datasets import normalise
from filters.coalitions import make_evaluator
from filters.masked import COALITIONS_A_CALL, MaskedForwards
from filters.value import fill_values
from tests.damage import check_message
from tests.networks import (
    IMAGE_SIZE,
    CalledTwice,
    HeadAlone,
    Small,
    Untraceable,
    draw_coalitions,
    naive_rows,
    seeded,
)


def test_logits_equal_a_naive_forward(faces):
    network = seeded(Untraceable)
    evaluator = MaskedForwards(network, IMAGE_SIZE)
    fills = fill_values(evaluator, faces, "mean", batch_size=7)
    images = normalise(faces.images[:3], "cpu")
    evaluator.see(images, fills)
    keep = draw_coalitions(17, "unrelated", np.random.default_rng(0))
    expected = naive_rows(network, evaluator, fills, images, keep)
    torch.testing.assert_close(evaluator.logits(keep), expected)
    assert not torch.allclose(expected[0], expected[1])


def test_nothing_removed_is_the_network(faces):
    network = seeded(Untraceable)
    evaluator, images = MaskedForwards(network, IMAGE_SIZE), normalise(faces.images[:3], "cpu")
    evaluator.see(images, torch.zeros(17))
    logits = evaluator.logits(np.ones((1, 17), dtype=bool))
    with torch.no_grad():
        torch.testing.assert_close(logits[0], network(images))


def test_filters_are_those_in_front_of_the_head():
    """Numbered as the convs are called; the last layer, conv or linear, gives the logits."""
    evaluator = MaskedForwards(seeded(Untraceable), IMAGE_SIZE)
    assert evaluator.layers == [f"convs.{i}" for i in (0, 1, 2, 3) for _ in range(4 + (i == 3))]
    assert evaluator.channels == [0, 1, 2, 3] * 3 + [0, 1, 2, 3, 4]
    assert evaluator.chunk == COALITIONS_A_CALL
    conv_head = MaskedForwards(seeded(Small), 16)
    assert conv_head.layers == ["first"] * 4 + ["second"] * 5


def test_fills_are_means_of_what_convs_give(faces):
    network = seeded(Untraceable)
    fills = fill_values(MaskedForwards(network, IMAGE_SIZE), faces, "mean", batch_size=7)
    with torch.no_grad():
        first = network.convs[0](2 * normalise(faces.images, "cpu")).mean((0, 2, 3))
    torch.testing.assert_close(fills[:4], first)


def test_no_hook_stays_behind(faces):
    network = seeded(Untraceable)
    evaluator = MaskedForwards(network, IMAGE_SIZE)
    evaluator.see(normalise(faces.images[:2], "cpu"), torch.zeros(17))
    evaluator.logits(np.zeros((2, 17), dtype=bool))
    evaluator.mean_outputs(normalise(faces.images[:2], "cpu"))
    assert not any(module._forward_hooks for module in network.modules())


def test_a_conv_that_is_called_twice_fills_by_its_mean(faces):
    evaluator, images = MaskedForwards(seeded(CalledTwice), 80), normalise(faces.images[:3], "cpu")
    fills = evaluator.mean_outputs(images)
    assert len(evaluator.layers) == len(fills) == 17
    assert evaluator.layers[8] == "convs.3"  # as they are called
    outputs = []
    evaluator.network.convs[1].register_forward_hook(
        lambda conv, inputs, output: outputs.append(output.mean((2, 3)).sum(0))
    )
    evaluator.mean_outputs(images)
    assert len(outputs) == 2
    torch.testing.assert_close(fills[4:8].float(), (outputs[0] + outputs[1]) / 2)


def test_a_conv_that_is_called_twice_loses_its_filters_in_both(faces):
    network, images = seeded(CalledTwice), normalise(faces.images[:3], "cpu")
    evaluator, keep = MaskedForwards(network, IMAGE_SIZE), np.ones((1, 17), dtype=bool)
    keep[0, 5] = False
    fills = torch.full((17,), 0.25)
    evaluator.see(images, fills)
    expected = naive_rows(network, evaluator, fills, images, keep)
    torch.testing.assert_close(evaluator.logits(keep), expected)


def test_a_network_without_filters_is_refused():
    for make in (MaskedForwards, make_evaluator):
        with pytest.raises(InputError) as refusal:
            make(seeded(HeadAlone), IMAGE_SIZE)
        check_message(str(refusal.value), "HeadAlone has no conv filters but its head's")
