"""Coalitions: exactness against forward hooks, in any chunks, with any memory."""

import copy

from common.settings import InputError

import numpy as np
import pytest
import torch

from datasets import normalise
from filters import coalitions
from filters.coalitions import Coalitions, free_memory, make_evaluator
from filters.masked import MaskedForwards
from filters.value import fill_values
from tests.networks import (
    IMAGE_SIZE,
    N_FILTERS,
    Odd,
    Shared,
    Untraceable,
    draw_coalitions,
    naive_logits,
    naive_rows,
    seeded,
)


def rounding(expected, exact):
    """1e-5, or what a naive float32 forward is itself off from float64 behind many batch norms."""
    return max(1e-5, 2 * (expected - exact).abs().max().item())


@pytest.mark.parametrize(
    "kind, removal", [("nested", "mean"), ("single", "zero"), ("unrelated", "mean")]
)
def test_logits_equal_a_naive_forward(network, evaluator, float64, faces, removal, kind):
    images = normalise(faces.images[:4], "cpu")
    fills = fill_values(evaluator, faces.take(slice(8)), removal)
    keep = draw_coalitions(len(fills), kind, np.random.default_rng(len(kind)))[::2]
    expected = naive_rows(network, evaluator, fills, images, keep)
    exact = naive_rows(float64, evaluator, fills.double(), images.double(), keep).float()
    assert not torch.allclose(expected[0], expected[-1])  # the removals change it
    for at_once in (1, 2, 50):
        evaluator.coalitions_at_once = at_once
        evaluator.see(images, fills)
        logits = evaluator.logits(keep)
        torch.testing.assert_close(logits, exact, rtol=1e-5, atol=rounding(expected, exact))
        assert torch.equal(logits.argmax(2), expected.argmax(2))
    evaluator.coalitions_at_once = 1


def test_all_kept_is_the_network(arch, network, evaluator, float64, faces):
    assert len(evaluator.layers) == len(evaluator.channels) == N_FILTERS[arch]
    images = normalise(faces.images[:8], "cpu")
    with torch.no_grad():
        expected, exact = network(images), float64(images.double()).float()
    evaluator.see(images, torch.zeros(len(evaluator.layers)))
    logits = evaluator.logits(np.ones((1, len(evaluator.layers)), bool))[0]
    torch.testing.assert_close(logits, exact, rtol=1e-5, atol=rounding(expected, exact))


@pytest.mark.parametrize("seed", range(8))
def test_any_sets_in_any_chunks(squeezenet, faces, seed, monkeypatch):
    """Call after call on random sets, with any number of coalitions and of images at once."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(coalitions, "CACHE", int(rng.integers(1, 4 * 10**6)))
    evaluator = Coalitions(squeezenet, IMAGE_SIZE, int(rng.integers(1, 9)))
    fills = fill_values(evaluator, faces, "mean")
    images = normalise(faces.images[: int(rng.integers(1, 9))], "cpu")
    evaluator.see(images, fills)
    evaluator.keeps_outputs = bool(rng.integers(2))
    for _ in range(4):
        kind = ["nested", "single", "unrelated"][rng.integers(3)]
        keep = draw_coalitions(len(fills), kind, rng)[: rng.integers(1, 7)]
        expected = naive_rows(squeezenet, evaluator, fills, images, keep)
        torch.testing.assert_close(evaluator.logits(keep), expected, rtol=1e-5, atol=1e-5)


def test_new_images_and_fills_are_seen(squeezenet, faces):
    evaluator = Coalitions(squeezenet, IMAGE_SIZE)
    keep = draw_coalitions(len(evaluator.layers), "nested", np.random.default_rng(0))
    for start, fill in ((0, 0.0), (4, 0.0), (4, 0.5)):
        images, fills = normalise(faces.images[start : start + 4], "cpu"), torch.full((2944,), fill)
        evaluator.see(images, fills)
        expected = naive_rows(squeezenet, evaluator, fills, images, keep)
        torch.testing.assert_close(evaluator.logits(keep), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("at_once", [1, 7])
def test_long_order_does_not_drift(squeezenet, faces, at_once):
    evaluator = Coalitions(squeezenet, IMAGE_SIZE, at_once)
    fresh = Coalitions(squeezenet, IMAGE_SIZE, at_once)
    fills = fill_values(evaluator, faces, "mean")
    images = normalise(faces.images[:2], "cpu")
    keep = np.ones((400, len(fills)), dtype=bool)
    for step, removed in enumerate(np.random.default_rng(0).permutation(len(fills))[:399]):
        keep[step + 1 :, removed] = False
    evaluator.see(images, fills)
    fresh.see(images, fills)
    logits = evaluator.logits(keep)
    assert torch.equal(logits[-1:], fresh.logits(keep[-1:]))
    expected = naive_logits(squeezenet, evaluator, fills, images, keep[-1])
    torch.testing.assert_close(logits[-1], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [Odd, Shared])
@pytest.mark.parametrize("at_once", [1, 3])
def test_odd_networks(faces, at_once, kind):
    network = seeded(kind)
    evaluator = Coalitions(network, IMAGE_SIZE, at_once)
    assert len(evaluator.layers) == 17
    fills, images = torch.rand(17), normalise(faces.images[:3], "cpu")
    evaluator.see(images, fills)
    for sets in ("nested", "alone", "unrelated", "nested"):
        keep = ~np.eye(17, dtype=bool)
        if sets != "alone":
            keep = draw_coalitions(17, sets, np.random.default_rng(2))
        expected = naive_rows(network, evaluator, fills, images, keep)
        torch.testing.assert_close(evaluator.logits(keep), expected, rtol=1e-5, atol=1e-5)


def test_layers_and_channels_name_the_filters(small):
    evaluator = Coalitions(small, 16)
    assert evaluator.layers == ["first"] * 4 + ["second"] * 5
    assert evaluator.channels == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert evaluator.low.tolist() == [0.0] * 9 and evaluator.chunk == 8
    assert evaluator.raw.tolist() == [1] * 4 + [3] * 5
    assert evaluator.gate.tolist() == [2] * 4 + [4] * 5


def test_mean_outputs_are_sums_over_images(small, classes):
    evaluator, images = Coalitions(small, 16), normalise(classes.images, "cpu")
    sums = evaluator.mean_outputs(images)
    with torch.no_grad():
        first = small.first(images).relu()
        second = small.second(first).relu()
    expected = torch.cat([first.mean((2, 3)).sum(0), second.mean((2, 3)).sum(0)])
    assert sums.dtype == torch.float64
    torch.testing.assert_close(sums.float(), expected)


def test_changes_between_two_sets_of_images(small, classes):
    evaluator = Coalitions(small, 16)
    images = normalise(classes.images[:6], "cpu")
    changed = normalise(classes.images[6:], "cpu")
    with torch.no_grad():
        outputs = [small.first(batch).relu() for batch in (images, changed)]
        first = (outputs[0] - outputs[1]).abs()
        second = (small.second(outputs[0]).relu() - small.second(outputs[1]).relu()).abs()
    expected = torch.cat([first.mean((2, 3)).sum(0), second.mean((2, 3)).sum(0)])
    torch.testing.assert_close(evaluator.mean_changes(images, changed).float(), expected)
    for number, layer, channel in ((2, first, 2), (4, second, 0), (8, second, 4)):
        place = evaluator.change_map(number, images, changed)
        np.testing.assert_allclose(place, layer[:, channel].mean(0).numpy(), rtol=1e-5)


def test_network_that_cannot_be_cut_takes_masked_forwards(capsys):
    masked = make_evaluator(seeded(Untraceable), IMAGE_SIZE)
    assert isinstance(masked, MaskedForwards) and not masked.is_cut
    line = capsys.readouterr().err
    assert "Untraceable takes a whole forward pass for each coalition" in line
    assert "torch.fx cannot trace it" in line and line.count("\n") == 1
    evaluator = make_evaluator(seeded(Odd), IMAGE_SIZE)
    assert isinstance(evaluator, Coalitions) and evaluator.is_cut
    assert capsys.readouterr().err == ""


# ----------------------------------------------------------------------------- memory


@pytest.mark.parametrize("free", [10**12, 10**10, 4 * 10**8, 10**8, 1])
def test_memory_decides_how_much_goes_at_once_on_a_gpu(squeezenet, free):
    evaluator = Coalitions(squeezenet, IMAGE_SIZE)
    evaluator.device = torch.device("cuda")
    evaluator._fit(128, free)
    sizes = [4 * np.prod(step.shape) for step in evaluator.steps]
    if free > 10**9:  # many coalitions on all images
        assert 8 <= evaluator.coalitions_at_once <= coalitions.AT_ONCE
        assert evaluator.images_at_once == 128
        assert evaluator.coalitions_at_once * 128 * 2 * max(sizes) <= free
    else:  # one coalition, on as many images as leave room for all outputs
        assert evaluator.coalitions_at_once == 1
        assert evaluator.images_at_once == max(1, min(128, free // sum(sizes)))
    assert evaluator.keeps_outputs == (128 * sum(sizes) < free)


def test_a_cpu_takes_images_that_stay_in_its_cache(squeezenet):
    evaluator = Coalitions(squeezenet, IMAGE_SIZE)
    evaluator._fit(10**6, 10**12)
    largest = max(4 * np.prod(step.shape) for step in evaluator.steps)
    assert evaluator.coalitions_at_once == 1
    assert evaluator.images_at_once == coalitions.CACHE // largest
    evaluator._fit(3, 10**12)
    assert evaluator.images_at_once == 3 and evaluator.keeps_outputs
    evaluator._fit(3, 10**3)
    assert not evaluator.keeps_outputs


def limit_memory(evaluator, most):
    """Let the steps run out of memory on more than `most[0]` rows at once."""
    for step in evaluator.steps[1:]:
        if step.run:

            def run(*inputs, run=step.run):
                if len(inputs[0]) > most[0]:
                    raise torch.OutOfMemoryError("none is free")
                return run(*inputs)

            step.run = run


@pytest.mark.parametrize("rows, at_once, images_at_once", [(6, 2, 3), (2, 1, 1)])
def test_out_of_memory_halves_and_goes_on(squeezenet, faces, capsys, rows, at_once, images_at_once):
    evaluator, most = Coalitions(squeezenet, IMAGE_SIZE, 5), [rows]
    fills = torch.zeros(len(evaluator.layers))
    keep = draw_coalitions(len(fills), "nested", np.random.default_rng(0))
    evaluator.see(normalise(faces.images[:3], "cpu"), fills)
    expected = evaluator.logits(keep)
    limit_memory(evaluator, most)
    torch.testing.assert_close(evaluator.logits(keep), expected)
    assert (evaluator.coalitions_at_once, evaluator.images_at_once) == (at_once, images_at_once)
    assert "Out of memory: going on with" in capsys.readouterr().err
    most[0] = 0
    with pytest.raises(InputError, match="memory does not suffice"):
        evaluator.logits(keep)


def test_out_of_memory_halves_for_guesses_too(squeezenet, faces, capsys, monkeypatch):
    evaluator = Coalitions(squeezenet, IMAGE_SIZE)
    fills = torch.zeros(len(evaluator.layers))
    evaluator.see(normalise(faces.images[:8], "cpu"), fills)
    keep, labels = np.ones(len(fills), dtype=bool), torch.zeros(8, dtype=torch.long)
    expected = evaluator.first_order(keep, labels)
    compute = coalitions.first_order_changes

    def limited(steps, keep, fills, images, labels):
        if len(images) > 1:
            raise torch.OutOfMemoryError
        return compute(steps, keep, fills, images, labels)

    monkeypatch.setattr(coalitions, "first_order_changes", limited)
    for values, exact in zip(evaluator.first_order(keep, labels), expected):
        torch.testing.assert_close(values, exact, rtol=1e-4, atol=1e-5)
    assert evaluator.images_at_once == 4 and "Out of memory" in capsys.readouterr().err


@pytest.mark.parametrize("message, shrinks", [("can't allocate memory", True), ("x", False)])
def test_only_errors_of_memory_are_mended(small, classes, message, shrinks):
    evaluator = Coalitions(small, 16, 2)
    evaluator.see(normalise(classes.images, "cpu"), torch.zeros(9))
    step, failures = evaluator.steps[1], []

    def run(*inputs, run=step.run):
        if not failures:
            failures.append(message)
            raise RuntimeError(f"DefaultCPUAllocator: {message}")
        return run(*inputs)

    step.run = run
    if shrinks:
        evaluator.logits(np.ones((2, 9), dtype=bool))
        assert evaluator.coalitions_at_once == 1
    else:
        with pytest.raises(RuntimeError, match=message):
            evaluator.logits(np.ones((2, 9), dtype=bool))


def test_free_memory_is_that_of_the_machine():
    assert 2**20 < free_memory(torch.device("cpu")) < 2**50


def test_copies_of_an_evaluator_do_not_share_what_they_see(small, classes):
    first = Coalitions(small, 16)
    second, images = copy.copy(first), normalise(classes.images, "cpu")
    first.see(images[:4], torch.zeros(9))
    second.see(images[4:6], torch.zeros(9))
    keep = np.ones((1, 9), dtype=bool)
    assert first.logits(keep).shape == (1, 4, 3) and second.logits(keep).shape == (1, 2, 3)
