"""Images as the networks of the study of fairwashing take them."""

from dataclasses import dataclass

from common.settings import CELEBA_FRAME, FAIRFACE_FRAME

import numpy as np
import torch

import datasets

OWN_SIZE = {"digits": 28, "mnist": 28, "fmnist": 28, "cifar10": 32}  # task -> pixels of an image


@dataclass
class Sets:
    """Three sets of images.

    Attributes:
        inputs: {"train", "validation", "report": (N, C, H, W) float32 tensor, channels last}, less
            the mean of the training images, divided by their standard deviation, channel by
            channel. Grey images have one channel.
        label: the same of (N,) int64 tensors.
        rows: (N,) int array, which of all report images these are.
        pixels: (N, H, W) uint8 array, the report images, grey.
        low: (C, 1, 1) float32 tensor, what black becomes.
        high: the same, what white becomes.
        classes: tuple of str, names by label.
        digest: str, of the training images.
    """

    inputs: dict
    label: dict
    rows: np.ndarray
    pixels: np.ndarray
    low: torch.Tensor
    high: torch.Tensor
    classes: tuple
    digest: str


def load_inputs(task, data_dir, image_size, at_most=None, open_report=True):
    """The Sets of a task. Raises InputError.

    Args:
        task: str, a key of datasets.LOADERS.
        data_dir: str.
        image_size: int, pixels, for tasks without an OWN_SIZE.
        at_most: int, report images, drawn at random; None: all.
        open_report: bool; False: the validation images stand for those of the report.
    """
    options = (OWN_SIZE.get(task, image_size), CELEBA_FRAME, FAIRFACE_FRAME)
    parts = {}
    for name, purpose in (("train", "train"), ("validation", "values"), ("report", "report")):
        if name != "report" or open_report:
            parts[name] = datasets.load(task, data_dir, purpose, *options)
    report = parts.setdefault("report", parts["validation"])
    rows = np.sort(np.random.default_rng(0).permutation(len(report.label))[:at_most])
    parts["report"] = report.take(torch.from_numpy(rows))
    images = parts["train"].images
    channels = 1 if (images[:, :1] == images).all() else 3
    scaled = images[:, :channels].float() / 255
    mean, sd = scaled.mean((0, 2, 3)).view(-1, 1, 1), scaled.std((0, 2, 3)).view(-1, 1, 1)
    inputs, label = {}, {name: part.label for name, part in parts.items()}
    for name, part in parts.items():
        values = (part.images[:, :channels].float() / 255 - mean) / sd
        inputs[name] = values.contiguous(memory_format=torch.channels_last)
    pixels = parts["report"].images.float().mean(1).round().byte().numpy()
    names, digest = datasets.class_names(task, data_dir), datasets.digest(parts["train"])
    return Sets(inputs, label, rows, pixels, -mean / sd, (1 - mean) / sd, names, digest)
