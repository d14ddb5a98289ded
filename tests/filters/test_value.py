"""V of coalitions on batches of images, guesses of marginals, and what a removed filter gives."""

from common.settings import InputError

import numpy as np
import pytest
import torch
from tqdm import tqdm

from datasets import normalise
from filters import value as value_module
from filters.coalitions import Coalitions
from filters.masked import MaskedForwards
from filters.measures import MEASURES, class_margins, male_margin
from filters.value import (
    BatchValue,
    evaluate_measure,
    fill_values,
    guess_marginals,
    l2_norms,
    score_images,
)
from tests.networks import IMAGE_SIZE, naive_logits


def share_right(network, data):
    """Accuracy of a network the plain way."""
    with torch.no_grad():
        right = network(normalise(data.images, "cpu")).argmax(1) == data.label
    return right.float().mean().item()


# ----------------------------------------------------------------------------- fills


def test_mean_fills_are_means_over_all_images(light_network, faces):
    evaluator, network = Coalitions(light_network, IMAGE_SIZE), light_network
    fills = fill_values(evaluator, faces, "mean", batch_size=7)  # unequal batches
    layer, outputs = evaluator.layers[0], []
    norm = layer.replace("conv", "bn")
    behind = dict(network.named_modules()).get(norm) if norm != layer else None
    behind = behind or network.get_submodule(layer)
    handle = behind.register_forward_hook(
        lambda module, inputs, output: outputs.append(torch.relu(output))
    )
    with torch.no_grad():
        network(normalise(faces.images, "cpu"))
    handle.remove()
    expected = outputs[0].mean((0, 2, 3))
    torch.testing.assert_close(fills[: len(expected)], expected, rtol=1e-4, atol=1e-5)
    assert fills.dtype == torch.float32 and len(fills) == len(evaluator.layers)


def test_zero_fills_and_other_names(small, classes):
    evaluator = Coalitions(small, 16)
    fills = fill_values(evaluator, classes, "zero")
    assert fills.tolist() == [0.0] * 9 and fills.dtype == torch.float32
    assert (fill_values(evaluator, classes, "mean") > 0).any()
    with pytest.raises(InputError, match="REMOVAL=median: must be mean or zero"):
        fill_values(evaluator, classes, "median")


# ----------------------------------------------------------------------------- batches


def test_value_of_a_batch(squeezenet, faces):
    evaluator = Coalitions(squeezenet, IMAGE_SIZE)
    keep = np.ones((2, len(evaluator.layers)), dtype=bool)
    keep[1] = False
    fills = torch.zeros(len(evaluator.layers))
    value = BatchValue(evaluator, fills, faces, len(faces.label), "accuracy")  # all the faces
    values = value(keep, 3)
    assert values[0] == pytest.approx(share_right(squeezenet, faces))
    assert values[1] == 0.5  # everything removed: one answer for all
    assert values.dtype == np.float64 and values.shape == (2,)


def test_a_round_seed_is_a_batch_with_as_many_of_each_group(small, faces):
    evaluator = Coalitions(small, IMAGE_SIZE)
    value = BatchValue(evaluator, torch.zeros(9), faces, 8, "soft_accuracy")
    keep, batches = np.ones((1, 9), dtype=bool), []
    for round_seed in (0, 1, 2, 3):
        value(keep, round_seed)
        assert value.batch.group.bincount().tolist() == [2, 2, 2, 2]
        batches.append(value.batch.images)
        images = value.batch.images.flatten(1).tolist()
        assert len({tuple(pixels) for pixels in images}) == 8  # none twice
    assert not any(torch.equal(batches[0], batch) for batch in batches[1:])
    again = BatchValue(evaluator, torch.zeros(9), faces, 8, "soft_accuracy")
    assert np.array_equal(again(keep, 2), value(keep, 2))
    assert torch.equal(again.batch.images, batches[2])


def test_labels_and_groups_stay_with_their_images(small, faces):
    value = BatchValue(Coalitions(small, IMAGE_SIZE), torch.zeros(9), faces, 12, "accuracy")
    value(np.ones((1, 9), dtype=bool), 5)
    for image, label, group in zip(*value.batch[:3]):
        row = next(row for row in range(24) if torch.equal(faces.images[row], image))
        assert (label, group) == (faces.label[row], faces.group[row])


def test_a_batch_is_drawn_once(small, classes):
    """Values and guesses of one round see the same images, which are normalised once."""
    evaluator, seen = Coalitions(small, 16), []
    see = evaluator.see
    evaluator.see = lambda images, fills: seen.append(images) or see(images, fills)
    value = BatchValue(evaluator, torch.zeros(9), classes, 6, "likelihood")
    keep = np.ones((1, 9), dtype=bool)
    for round_seed in (4, 4, 5):
        value(keep, round_seed)
        value.guess(keep[0], round_seed)
    assert len(seen) == 2
    torch.testing.assert_close(seen[1], normalise(value.batch.images, "cpu"))


def test_batches_of_images_without_groups(small, classes):
    value = BatchValue(Coalitions(small, 16), torch.zeros(9), classes, 12, "accuracy")
    whole = value(np.ones((1, 9), dtype=bool), 0).item()
    assert whole == pytest.approx(share_right(small, classes))


def test_values_are_those_of_the_coalitions(small, classes):
    """Against the network without the filters, as a module."""
    evaluator, fills = Coalitions(small, 16), torch.arange(9) / 20
    value = BatchValue(evaluator, fills, classes, 12, "likelihood")
    keep = np.array([[True] * 9, [False, True, True] * 3])
    values = value(keep, 0)
    for row, kept in enumerate(keep):
        remaining = evaluator.without(np.flatnonzero(~kept), fills)
        with torch.no_grad():
            margins = class_margins(
                remaining(normalise(value.batch.images, "cpu")), value.batch.label
            )
        expected = MEASURES["likelihood"](margins[None], value.batch).item()
        assert values[row] == pytest.approx(expected, rel=1e-5)
    assert evaluate_measure(evaluator, keep, value.batch, "likelihood").tolist() == values.tolist()


@pytest.mark.parametrize("images_per_round", [0, -4, 13])
def test_batches_that_cannot_be_split(small, faces, images_per_round):
    message = f"IMAGES_PER_ROUND={images_per_round}: must be a multiple of 4, the number of groups"
    with pytest.raises(InputError, match=message):
        BatchValue(Coalitions(small, IMAGE_SIZE), torch.zeros(9), faces, images_per_round, "auc")


def test_more_images_than_there_are(small, faces, classes):
    message = "IMAGES_PER_ROUND=28 takes 7 images from each group, and there are only 6"
    with pytest.raises(InputError, match=message):
        BatchValue(Coalitions(small, IMAGE_SIZE), torch.zeros(9), faces, 28, "accuracy")
    with pytest.raises(InputError, match="takes 13 images, and there are only 12 .*smaller one"):
        BatchValue(Coalitions(small, 16), torch.zeros(9), classes, 13, "accuracy")


# ----------------------------------------------------------------------------- guesses


@pytest.mark.parametrize("measure", ["soft_accuracy", "smooth_auc"])
def test_guesses_go_with_the_marginals(squeezenet, faces, measure):
    evaluator = Coalitions(squeezenet, IMAGE_SIZE)
    value = BatchValue(evaluator, fill_values(evaluator, faces, "mean"), faces, 16, measure)
    rng = np.random.default_rng(0)
    keep = rng.random(len(evaluator.layers)) < 0.97
    chosen = [rng.choice(np.flatnonzero(rows), 40, replace=False) for rows in (keep, ~keep)]
    players = np.concatenate(chosen)
    flipped = np.repeat(keep[None], 80, 0)
    flipped[np.arange(80), players] ^= True
    sign = np.where(keep[players], 1, -1)
    marginals = sign * (value(keep[None], 5)[0] - value(flipped, 5))
    guesses = value.guess(keep, 5)
    assert guesses.shape == (len(evaluator.layers),) and guesses.dtype == np.float64
    assert np.corrcoef(guesses[players], marginals)[0, 1] > 0.8
    assert np.corrcoef(guesses[players[40:]], marginals[40:])[0, 1] > 0.5  # those put back


def test_guesses_are_measures_of_flipped_margins(small, classes, monkeypatch):
    """Filter by filter: V of the margins, less V of the margins without what it adds."""
    monkeypatch.setattr(value_module, "FLIPS_AT_ONCE", 4)  # in parts, the last not full
    evaluator, keep = Coalitions(small, 16), np.array([True, False, True] * 3)
    evaluator.see(normalise(classes.images, "cpu"), torch.zeros(9))
    margins, changes = evaluator.first_order(keep, classes.label)
    guesses = guess_marginals(evaluator, keep, classes, "likelihood")
    whole = MEASURES["likelihood"](margins[None], classes).item()
    for player in range(9):
        sign = 1 if keep[player] else -1
        flipped = margins - sign * changes[:, player]
        expected = sign * (whole - MEASURES["likelihood"](flipped[None], classes).item())
        assert guesses[player] == pytest.approx(expected, abs=1e-6)
    assert np.count_nonzero(guesses) > 5


# ----------------------------------------------------------------------------- scores and norms


def test_margins_equal_the_network(squeezenet, faces):
    evaluator = Coalitions(squeezenet, IMAGE_SIZE)
    fills = fill_values(evaluator, faces, "mean")
    keep = np.ones((2, len(fills)), dtype=bool)
    keep[1, ::9] = False
    with tqdm(total=48, disable=True) as bar:
        margins = score_images(evaluator, fills, faces.images, keep, male_margin, bar, batch_size=7)
    assert margins.shape == (2, 24)
    images = normalise(faces.images, "cpu")
    for row, margin in zip(keep, margins):
        logits = naive_logits(squeezenet, evaluator, fills, images, row)
        np.testing.assert_allclose(margin, (logits[:, 1] - logits[:, 0]).numpy(), atol=1e-5)


def test_the_bar_counts_images_of_each_coalition(small, classes):
    class Bar:
        n = 0

        def update(self, n):
            self.n += n

    bar = Bar()
    keep = np.ones((3, 9), dtype=bool)
    score_images(Coalitions(small, 16), torch.zeros(9), classes.images, keep, male_margin, bar)
    assert bar.n == 3 * 12


@pytest.mark.parametrize("kind", [Coalitions, MaskedForwards])
def test_l2_norms_are_those_of_the_convs_weights(small, kind):
    norms = l2_norms(small, kind(small, 16))
    weights = [*small.first.weight.detach(), *small.second.weight.detach()]
    expected = [np.sqrt((weight.double().numpy() ** 2).sum()) for weight in weights]
    np.testing.assert_allclose(norms, expected, rtol=1e-6)
    assert norms.dtype == np.float64
