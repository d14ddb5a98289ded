"""Images as the networks of the study of fairwashing take them."""

from dataclasses import dataclass

from common.settings import CELEBA_FRAME, FAIRFACE_FRAME

import numpy as np
import torch

import datasets

# Purpose of each set of images; of faces a student imitates on CelebA's and on FairFace's.
PURPOSES = {"train": "train", "validation": "values", "report": "report"}
FACES = {"validation": "choose", "imitated": "values"}  # where those of TASK=faces differ
OWN_SIZE = {"digits": 28, "mnist": 28, "fmnist": 28, "cifar10": 32}  # task -> pixels of an image


@dataclass
class Sets:
    """Sets of images.

    Attributes:
        inputs: {"train", "imitated", "validation", "report": (N, C, H, W) float32 tensor, channels
            last}, less the mean of the training images, divided by their standard deviation,
            channel by channel. Grey images have one channel. imitated: what students are trained
            on, the training images themselves unless the task is faces. Of faces also "celeba".
        label: {name: (N,) int64 tensor}; a teacher's answers stand for those of "imitated".
        group: (N,) int array, of the report images, as in datasets.GROUPS; -1: none.
        rows: (N,) int array, which of all report images these are.
        pixels: (N, H, W) uint8 array, the report images, grey.
        low: (C, 1, 1) float32 tensor, what black becomes.
        high: the same, what white becomes.
        classes: tuple of str, names by label.
        digest: str, of the training images.
        imitated_digest: str, of those that students are trained on.
    """

    inputs: dict
    label: dict
    group: np.ndarray
    rows: np.ndarray
    pixels: np.ndarray
    low: torch.Tensor
    high: torch.Tensor
    classes: tuple
    digest: str
    imitated_digest: str


def load_inputs(
    task, data_dir, image_size, at_most=None, open_report=True, imitated=None, scale=None
):
    """The Sets of a task. Raises InputError.

    Args:
        task: str, a key of datasets.LOADERS.
        data_dir: str.
        image_size: int, pixels, for tasks without an OWN_SIZE.
        at_most: int, report images, drawn at random; None: all.
        open_report: bool; False: the validation images stand for those of the report.
        imitated: int, of faces, images that students are trained on, half of them FairFace's.
        scale: (mean, sd) of RGB in [0, 1], three numbers each; None: of the training images.
    """
    parts = _load_parts(task, data_dir, image_size, open_report, imitated)
    report = parts["report"]
    rows = np.sort(np.random.default_rng(0).permutation(len(report.label))[:at_most])
    parts["report"] = report = report.take(torch.from_numpy(rows))
    images = parts["train"].images
    channels = 1 if scale is None and (images[:, :1] == images).all() else 3
    mean, sd = _statistics(images[:, :channels]) if scale is None else map(torch.tensor, scale)
    mean, sd = mean.view(-1, 1, 1), sd.view(-1, 1, 1)
    inputs, label = {}, {name: part.label for name, part in parts.items()}
    for name, part in parts.items():
        values = (part.images[:, :channels].float() / 255 - mean) / sd
        inputs[name] = values.contiguous(memory_format=torch.channels_last)
    inputs.setdefault("imitated", inputs["train"])
    pixels = report.images.float().mean(1).round().byte().numpy()
    limits = -mean / sd, (1 - mean) / sd
    names = datasets.class_names(task, data_dir)
    digests = [datasets.digest(parts.get(name, parts["train"])) for name in ("train", "imitated")]
    return Sets(inputs, label, report.group.numpy(), rows, pixels, *limits, names, *digests)


def _load_parts(task, data_dir, image_size, open_report, imitated):
    """Images of a task by name, a dict; "imitated" and "celeba" of faces alone."""
    options = (OWN_SIZE.get(task, image_size), CELEBA_FRAME, FAIRFACE_FRAME)
    purposes, parts = PURPOSES | (FACES if task == "faces" else {}), {}
    for name, purpose in purposes.items():
        if name != "report" or open_report:
            parts[name] = datasets.load(task, data_dir, purpose, *options)
    parts.setdefault("report", parts["validation"])
    if task == "faces":
        purpose = "report" if open_report else "values"
        parts["celeba"] = datasets.load("celeba", data_dir, purpose, *options)
        parts["imitated"] = _join_halves(parts["train"], parts["imitated"], imitated)
    return parts


def _join_halves(first, second, n):
    """At most n Images, half of each, drawn at random. n: int; None: all."""
    rng, halves = np.random.default_rng(0), []
    for part in (first, second):
        drawn = rng.permutation(len(part.label))[: None if n is None else n // 2]
        halves.append(part.take(torch.from_numpy(drawn)))
    return datasets.Images(*(torch.cat(pair) for pair in zip(*(half[:3] for half in halves))))


def _statistics(images):
    """Mean and standard deviation of each channel in [0, 1]. images: (N, C, H, W) uint8."""
    scaled = images.float() / 255
    return scaled.mean((0, 2, 3)), scaled.std((0, 2, 3))
