"""Adversarial images: the library's PGD against a loop of our own; targets and the cache."""

from common import settings
from common.settings import InputError

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from datasets import MEAN, STD, normalise
from filters import adversaries
from filters.adversaries import (
    ADVERSARY,
    CLEAN,
    EPSILON,
    STEP,
    STEPS,
    adversarial_pairs,
    draw_targets,
    perturb,
)
from tests.damage import cut

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_targets_are_wrong_classes_drawn_alike():
    labels = torch.arange(5000) % 5
    targets = draw_targets(labels, 5, 0)
    assert targets.dtype == torch.int64 and targets.min() == 0 and targets.max() == 4
    assert (targets != labels).all()
    shifts = ((targets - labels) % 5).bincount(minlength=5)
    assert shifts[0] == 0 and (shifts[1:] > 1100).all()
    assert torch.equal(draw_targets(labels, 5, 0), targets)
    assert not torch.equal(draw_targets(labels, 5, 1), targets)


def own_loop(network, images, target):
    """PGD: steps of the gradient's sign towards the target, within the ball and [0, 1]."""
    clean = images.float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    x = clean.clone()
    for _ in range(STEPS):
        x.requires_grad_()
        loss = cross_entropy(network((x - mean) / std), target)
        (gradient,) = torch.autograd.grad(loss, x)
        x = x.detach() - STEP / 255 * gradient.sign()
        x = torch.clamp(x, clean - EPSILON / 255, clean + EPSILON / 255).clamp(0, 1)
    return (255 * x).round()


def test_attack_is_what_our_own_loop_makes(small, classes):
    target = draw_targets(classes.label, 3, 0)
    attacked = perturb(small, classes.images, target, 3, CPU, batch_size=5)
    assert attacked.dtype == torch.uint8 and attacked.shape == classes.images.shape
    assert attacked.is_contiguous(memory_format=torch.channels_last)
    difference = own_loop(small, classes.images, target) - attacked.float()
    assert (difference.abs() <= 1).float().mean() > 0.99  # a gradient of about 0 has either sign
    assert (attacked.int() - classes.images.int()).abs().max() <= EPSILON
    losses = []
    with torch.no_grad():
        for images in (classes.images, attacked):
            losses.append(cross_entropy(small(normalise(images, "cpu")), target))
    assert losses[1] < losses[0] - 0.01


def test_pairs_are_cached_by_network_and_images(small, classes, monkeypatch):
    pairs = adversarial_pairs(small, "one", classes, 3, 0, CPU)
    assert pairs.group.tolist() == [CLEAN] * 12 + [ADVERSARY] * 12
    assert torch.equal(pairs.images[:12], classes.images)
    assert not torch.equal(pairs.images[12:], classes.images)
    assert torch.equal(pairs.label[:12], classes.label)
    assert torch.equal(pairs.label[12:], draw_targets(classes.label, 3, 0))
    monkeypatch.setattr(adversaries, "perturb", None)  # it is not made again
    again = adversarial_pairs(small, "one", classes, 3, 0, CPU)
    assert torch.equal(again.images, pairs.images)
    fewer = classes.take(slice(11))
    for arguments in (("another", classes, 3, 0), ("one", fewer, 3, 0), ("one", classes, 3, 1)):
        with pytest.raises(TypeError):
            adversarial_pairs(small, *arguments, CPU)


def test_at_most_so_many_images_are_attacked(small, classes, monkeypatch):
    monkeypatch.setattr(adversaries, "ATTACKED", 5)
    pairs = adversarial_pairs(small, "one", classes, 3, 0, CPU)
    rows = np.sort(np.random.default_rng(0).permutation(12)[:5])
    assert torch.equal(pairs.images[:5], classes.images[rows])
    assert torch.equal(pairs.label[:5], classes.label[rows])
    assert len(pairs.label) == len(pairs.images) == len(pairs.group) == 10


def test_a_damaged_cache_is_named(small, classes, cache):
    adversarial_pairs(small, "one", classes, 3, 0, CPU)
    (path,) = cache.iterdir()
    cut(path)
    with pytest.raises(InputError, match=f"{path} is damaged; delete it and run again"):
        adversarial_pairs(small, "one", classes, 3, 0, CPU)
