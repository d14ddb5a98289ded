"""Adversarial examples: iterative PGD within an l_inf ball, by the Adversarial Robustness Toolbox (ART).

ART, since it is kept up (Linux Foundation), takes any PyTorch module and gave what our own loop gave (a test compares them).
"""

import hashlib
import os

import numpy as np
import torch
from tqdm import tqdm

import datasets
from datasets import MEAN, STD, Images
from records import replacing
from settings import Stop

EPSILON = 16   # farthest that a pixel goes, in grey levels of 255; the paper's
STEP = 16 / 20  # grey levels of a step; the authors' code's
STEPS = 30     # the paper's
ATTACKED = 1000  # images of a set at most, drawn at random
CLEAN, ADVERSARY = 0, 1  # groups of `pairs`


def targets(labels, n_classes, seed):
    """A random wrong class for each label, (N,) int64: what an attack is to have the network say."""
    shift = np.random.default_rng([seed, 4]).integers(1, n_classes, len(labels))
    return (labels + torch.from_numpy(shift)) % n_classes


def attack(network, images, target, n_classes, device, name="", batch_size=100):
    """Adversarial images, (N, 3, S, S) uint8, that a network should take for class target (N,).

    network: any module of normalised images; name: of the bar. They start at the image itself, and are rounded to grey levels, as a file would be.
    """
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    size = images.shape[-1]
    classifier = PyTorchClassifier(network, torch.nn.CrossEntropyLoss(), (3, size, size), n_classes, clip_values=(0, 1),
                                   preprocessing=(np.float32(MEAN), np.float32(STD)), device_type="gpu" if device.type == "cuda" else "cpu")
    pgd = ProjectedGradientDescentPyTorch(classifier, eps=EPSILON / 255, eps_step=STEP / 255, max_iter=STEPS, targeted=True,
                                          batch_size=batch_size, verbose=False)
    found = []
    with tqdm(total=len(images), desc=name or "attack", unit=" images", leave=False, dynamic_ncols=True) as bar:
        for some, aim in zip(images.split(batch_size), target.split(batch_size)):
            adversaries = pgd.generate(some.contiguous().numpy().astype(np.float32) / 255, np.eye(n_classes, dtype=np.float32)[aim.numpy()])
            found.append(torch.from_numpy((255 * adversaries).round().astype(np.uint8)))
            bar.update(len(some))
    return torch.cat(found).contiguous(memory_format=torch.channels_last)


def pairs(network, digest, data, n_classes, seed, device, name=""):
    """At most ATTACKED images and, behind them, their adversaries, labelled with the targets; groups CLEAN and ADVERSARY.

    digest: the network's, by which, and by the images', the adversaries are kept in CACHE_DIR.
    """
    data = data.take(np.sort(np.random.default_rng(0).permutation(len(data.label))[:ATTACKED]))
    target = targets(data.label, n_classes, seed)
    key = hashlib.sha256(f"{digest} {datasets.digest(data)} {seed} {EPSILON} {STEP} {STEPS}".encode()).hexdigest()[:16]
    path = os.path.join(datasets.CACHE_DIR, f"adversaries-{key}.npy")
    if not os.path.exists(path):
        made = attack(network, data.images, target, n_classes, device, name)
        with replacing(path) as temporary:
            np.save(temporary, made.permute(0, 2, 3, 1).numpy())
    try:
        images = torch.from_numpy(np.load(path)).permute(0, 3, 1, 2)
    except (ValueError, EOFError):
        raise Stop(f"{path} is damaged; delete it and run again") from None
    group = torch.tensor([CLEAN, ADVERSARY]).repeat_interleave(len(data.label))
    return Images(torch.cat([data.images, images]), torch.cat([data.label, target]), group)
