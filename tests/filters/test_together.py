"""Many coalitions at once: each distinct output of a step is computed once."""

import numpy as np
import pytest
import torch

from datasets import normalise
from filters.coalitions import Coalitions
from filters.together import distinct, empty_output, run_together
from tests.networks import IMAGE_SIZE, Odd, Shared, draw_coalitions, naive_rows, seeded


def test_keys_are_numbered_as_they_appear():
    assert distinct("abacbd") == ([0, 1, 0, 2, 1, 3], [0, 1, 3, 5])
    assert distinct(iter([(1, b"x"), (1, b"x")])) == ([0, 0], [0])


def count_rows(evaluator):
    """Rows that each operation is given from now on: {number of the step: rows}."""
    rows = {}
    for number, step in enumerate(evaluator.steps):
        if step.run:

            def run(*inputs, run=step.run, number=number):
                rows[number] = rows.get(number, 0) + len(inputs[0])
                return run(*inputs)

            step.run = run
    return rows


def together(evaluator, keep, images, fills):
    """Logits of all coalitions in one call."""
    evaluator.see(images, fills)
    limits = evaluator._limits(keep)
    return run_together(evaluator.steps, evaluator.last_use, keep, images, limits)


@pytest.mark.parametrize("kind", [Odd, Shared])
@pytest.mark.parametrize("sets", ["nested", "single", "unrelated"])
def test_logits_equal_a_naive_forward(faces, kind, sets):
    network, fills = seeded(kind), torch.rand(17, generator=torch.Generator().manual_seed(0))
    evaluator, images = Coalitions(network, IMAGE_SIZE), normalise(faces.images[:3], "cpu")
    keep = draw_coalitions(17, sets, np.random.default_rng(3))[[0, 3, 3, 5, 0, 1]]
    logits = together(evaluator, keep, images, fills)
    expected = naive_rows(network, evaluator, fills, images, keep)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_what_is_shared_is_computed_once(small, classes):
    """Two convs behind each other, on 12 images: of four coalitions, two differ in the first."""
    evaluator, keep = Coalitions(small, 16), np.ones((4, 9), dtype=bool)
    keep[1, 0] = False  # of the first conv
    keep[2, 7] = False  # of the second
    keep[3, [0, 7]] = False
    rows = count_rows(evaluator)
    images = normalise(classes.images, "cpu")
    logits = together(evaluator, keep, images, torch.zeros(9))
    assert rows == {1: 12, 3: 2 * 12, 5: 4 * 12}
    torch.testing.assert_close(logits, naive_rows(small, evaluator, torch.zeros(9), images, keep))
    rows.clear()
    together(evaluator, keep[[2, 2, 2]], images, torch.zeros(9))
    assert rows == {1: 12, 3: 12, 5: 12}


def test_the_images_are_not_changed(small, classes):
    images = normalise(classes.images, "cpu")
    before = images.clone()
    together(Coalitions(small, 16), ~np.eye(9, dtype=bool), images, torch.ones(9))
    assert torch.equal(images, before)


def test_empty_outputs_are_channels_last():
    output = empty_output(5, (3, 4, 4), torch.zeros(1, dtype=torch.float64))
    assert output.shape == (5, 3, 4, 4) and output.dtype == torch.float64
    assert output.is_contiguous(memory_format=torch.channels_last)
