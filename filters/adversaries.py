"""Adversarial images: iterative PGD within an l_inf ball (application IV).

The Adversarial Robustness Toolbox (ART) makes them: it is maintained, takes any PyTorch module, and
gives what a loop of our own gives (a test compares them).
"""

import hashlib
import os

from common import settings
from common.records import replace_file
from common.settings import InputError

import numpy as np
import torch
from tqdm import tqdm

import datasets
from datasets import MEAN, STD, Images
from filters.measures import ADVERSARY, CLEAN

EPSILON = 16  # grey levels of 255 that a pixel moves at most; the paper's
STEP = 16 / 20  # grey levels of a step; the authors' code's
STEPS = 30  # the paper's
ATTACKED = 1000  # images of a set at most, drawn at random


def draw_targets(labels, n_classes, seed):
    """A random wrong class for each label: (N,) int64 -> (N,) int64."""
    # The bandit's round 4 has the same stream. The two are never used together; records rest on it.
    shift = np.random.default_rng([seed, 4]).integers(1, n_classes, len(labels))
    return (labels + torch.from_numpy(shift)) % n_classes


def perturb(network, images, target, n_classes, device, name="", batch_size=100):
    """Adversarial images that a network should classify as the target.

    PGD starts at the image itself. Results are rounded to grey levels, as a file would be.

    Args:
        network: any module of normalised images (B, 3, S, S) -> (B, n_classes).
        images: (N, 3, S, S) uint8.
        target: (N,) int64.
        n_classes: int.
        device: torch.device of the network.
        name: str, of the progress bar.
        batch_size: int.

    Returns:
        (N, 3, S, S) uint8, channels last.
    """
    from art.attacks.evasion import ProjectedGradientDescentPyTorch  # here: it takes seconds
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        network,
        torch.nn.CrossEntropyLoss(),
        tuple(images.shape[1:]),
        n_classes,
        clip_values=(0, 1),
        preprocessing=(np.float32(MEAN), np.float32(STD)),
        device_type="gpu" if device.type == "cuda" else "cpu",
    )
    pgd = ProjectedGradientDescentPyTorch(
        classifier,
        eps=EPSILON / 255,
        eps_step=STEP / 255,
        max_iter=STEPS,
        targeted=True,
        batch_size=batch_size,
        verbose=False,
    )
    one_hot = np.eye(n_classes, dtype=np.float32)
    parts = []
    with tqdm(
        total=len(images), desc=name or "attack", unit=" images", leave=False, dynamic_ncols=True
    ) as bar:
        for clean, labels in zip(images.split(batch_size), target.split(batch_size)):
            pixels = clean.contiguous().numpy().astype(np.float32) / 255
            adversaries = pgd.generate(pixels, one_hot[labels.numpy()])
            parts.append(torch.from_numpy((255 * adversaries).round().astype(np.uint8)))
            bar.update(len(clean))
    return torch.cat(parts).contiguous(memory_format=torch.channels_last)


def adversarial_pairs(network, digest, data, n_classes, seed, device, name=""):
    """Clean images and, behind them, their adversaries.

    Args:
        network: any module of normalised images.
        digest: str that identifies it. Adversaries are cached by it and by the images.
        data: Images; at most ATTACKED of them are taken.
        n_classes: int.
        seed: int, for the targets.
        device: torch.device of the network.
        name: str, of the progress bar.

    Returns:
        Images of groups CLEAN, with their labels, and ADVERSARY, labelled with the targets.
    """
    rows = np.random.default_rng(0).permutation(len(data.label))[:ATTACKED]
    data = data.take(np.sort(rows))
    target = draw_targets(data.label, n_classes, seed)
    key = f"{digest} {datasets.digest(data)} {seed} {EPSILON} {STEP} {STEPS}"
    key = hashlib.sha256(key.encode()).hexdigest()[:16]
    path = os.path.join(settings.CACHE_DIR, f"adversaries-{key}.npy")
    if not os.path.exists(path):
        adversaries = perturb(network, data.images, target, n_classes, device, name)
        with replace_file(path) as temporary:
            np.save(temporary, adversaries.permute(0, 2, 3, 1).numpy())
    try:
        images = torch.from_numpy(np.load(path)).permute(0, 3, 1, 2)
    except (ValueError, EOFError):
        raise InputError(f"{path} is damaged; delete it and run again") from None
    group = torch.tensor([CLEAN, ADVERSARY]).repeat_interleave(len(data.label))
    return Images(torch.cat([data.images, images]), torch.cat([data.label, target]), group)
