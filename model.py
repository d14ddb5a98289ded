"""torchvision's SqueezeNet with a two-class head, its table of filters, and one epoch of it.

A filter is an output channel of a conv layer. The channels of the classifier's conv are the class
logits: outputs of the network, not filters. squeezenet1_1 has 2,944 filters, squeezenet1_0 2,976.
"""

import hashlib
import os
import warnings
from typing import Callable, NamedTuple

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.models.squeezenet import Fire
from tqdm import tqdm

import records
from datasets import normalise
from settings import Stop

ARCHS = ("squeezenet1_1", "squeezenet1_0")
CLASSES = ("female", "male")


class Stage(NamedTuple):
    """A step of the network that ends in a ReLU, behind which its filters can be removed."""

    forward: Callable       # (B, C_in, H_in, W_in) -> (B, C, H, W)
    names: list[str]        # (C,) name of the conv layer of each channel
    channels: list[int]     # (C,) channel within that layer


def squeezenet(arch, weights):
    """SqueezeNet with a head of len(CLASSES) logits, float32 on the CPU, channels last. Raises Stop.

    weights: "imagenet" (downloaded by torchvision), "none", or the path of a state dict; a head of
    another number of classes in it is left out.
    """
    if arch not in ARCHS:
        raise Stop(f"ARCH={arch}: must be {' or '.join(ARCHS)}")
    network = getattr(torchvision.models, arch)(num_classes=len(CLASSES))
    # The head ends in ReLU: from scratch its logits soon are negative for every image, then 0 for
    # good (the loss stays at ln 2). A positive bias keeps them alive.
    nn.init.constant_(network.classifier[1].bias, 1.0)
    if weights != "none":
        state = _imagenet(arch) if weights == "imagenet" else _state_dict(weights)
        head = network.classifier.state_dict(prefix="classifier.")
        if isinstance(state, dict) and any(getattr(state.get(name), "shape", None) != value.shape for name, value in head.items()):
            state = {**state, **head}
        _load(network, state, arch, weights)
    return network.to(memory_format=torch.channels_last)


def checkpoint(network, **constants):
    """What squeezenet.pth holds; torch.load(path, weights_only=True) reads it. constants: those to be kept, by name."""
    return {**{name.lower(): value for name, value in constants.items()}, "state_dict": network.state_dict()}


def load(path, **constants):
    """The network of a checkpoint, or of a plain state dict with two classes. Raises Stop.

    constants: ARCH and others that must be as they were in training, if the checkpoint has them.
    """
    if not os.path.exists(path):
        raise Stop(f"{path} is missing; run train_squeeze.py first, with the same RECORDS_DIR")
    checkpoint = read(path)
    for name, given in constants.items():
        made = checkpoint.get(name.lower(), given)
        if made != given:
            made, given = (",".join(map(str, value)) if isinstance(value, tuple) else value for value in (made, given))
            raise Stop(f"{path} was trained with {name}={made}, not {given}; "
                       f"give --{name}={made}, or train anew under another RECORDS_DIR")
    network = squeezenet(constants["ARCH"], "none")
    _load(network, checkpoint.get("state_dict", checkpoint), constants["ARCH"], path)
    return network.eval()


def digest(network):
    """Short hash of a network's weights, which ties records to it."""
    state = hashlib.sha256()
    for name, value in network.state_dict().items():
        state.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return state.hexdigest()[:16]


def chain(network):
    """Cut a SqueezeNet into stages and head: network(x) = head(stage_L(... stage_1(x))).

    Returns (list of Stage, head), to be called without gradients. The filters of all stages, in
    order, are the players.
    """
    names = {module: name for name, module in network.named_modules()}
    stages, before = [], []  # `before`: the pooling in front of the next stage

    def add(*convs):
        stages.append(Stage(_Convs(nn.Sequential(*before), convs),
                            [names[conv] for conv in convs for _ in range(conv.out_channels)],
                            [channel for conv in convs for channel in range(conv.out_channels)]))
        before.clear()

    for module in network.features:
        if isinstance(module, nn.Conv2d):
            add(module)
        elif isinstance(module, Fire):
            add(module.squeeze)
            add(module.expand1x1, module.expand3x3)
        elif not isinstance(module, nn.ReLU):  # each stage has its own
            before.append(module)
    return stages, lambda x: network.classifier(x).flatten(1)


class _Convs:
    """x -> ReLU of one or more convs of the pooled x, side by side. Without gradients."""

    def __init__(self, pool, convs):
        self.pool, self.convs = pool, convs

    def __call__(self, x):
        x = self.pool(x)
        parts = [conv(x) for conv in self.convs]
        if len(parts) == 1:
            return parts[0].relu_()
        channels = np.cumsum([0] + [part.shape[1] for part in parts])
        out = torch.empty((len(x), channels[-1], *parts[0].shape[2:]), device=x.device,
                          memory_format=torch.channels_last)
        for part, start, end in zip(parts, channels, channels[1:]):  # one pass for both torch.relu and torch.cat
            torch.clamp_min(part, 0, out=out[:, start:end])
        return out


def epoch(network, faces, device, batch_size, optimizer=None, schedule=None, rng=None, bar=""):
    """One pass over `faces`: trains if there is an optimizer, else evaluates.

    rng: numpy generator for order and mirroring, in training only.
    Returns (mean cross-entropy, correct), correct (N,) bool in the order of `faces`.
    """
    training = optimizer is not None
    network.train(training)
    rows = rng.permutation(len(faces.male)) if training else np.arange(len(faces.male))
    loss_sum = torch.zeros((), device=device)
    correct = torch.zeros(len(rows), dtype=torch.bool, device=device)
    batches = range(0, len(rows), batch_size)
    with torch.set_grad_enabled(training):
        for start in tqdm(batches, bar, unit=" batches", leave=False, disable=not bar):
            batch = torch.from_numpy(rows[start:start + batch_size])
            images, male = normalise(faces.images[batch], device), faces.male[batch].to(device)
            if training:
                mirrored = torch.from_numpy(rng.random(len(batch)) < 0.5).to(device)
                images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
            logits = network(images)
            loss = cross_entropy(logits, male)
            if training:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            loss_sum += loss.detach() * len(batch)
            correct[batch.to(device)] = logits.detach().argmax(1) == male
    return loss_sum.item() / len(rows), correct.cpu()


def device_of(name):
    """torch.device for DEVICE. Raises Stop where there is no such device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise Stop(f"DEVICE={name}: PyTorch sees no CUDA GPU here; give --DEVICE=cpu or auto")
    try:
        torch.zeros(1, device=name).cpu()  # some devices exist by name only
        return torch.device(name)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise Stop(f"DEVICE={name}: PyTorch has no such device here; give auto, cpu or cuda") from None


def _imagenet(arch):
    try:
        return torchvision.models.get_model_weights(arch).DEFAULT.get_state_dict(check_hash=True)
    except OSError as error:
        raise Stop(f"WEIGHTS=imagenet: the download failed ({error}); give --WEIGHTS=PATH of a state dict, "
                   "or --WEIGHTS=none to train from scratch") from None


def _state_dict(path):
    if not os.path.exists(path):
        raise Stop(f"WEIGHTS={path}: no such file; give imagenet, none, or the path of a state dict")
    checkpoint = read(path)
    return checkpoint.get("state_dict", checkpoint)


def read(path):
    """What torch.save wrote, if it is a dict of tensors and plain values; never unpickles. Raises Stop."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch has to say of foreign files is said below
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError
        return state
    except Exception as error:  # torch raises a dozen kinds for truncated files and for pickles of anything else
        raise Stop(f"{path} is damaged or holds no weights ({type(error).__name__}); "
                   "give another file, or delete it and train again") from None


def _load(network, state, arch, path):
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError):
        raise Stop(f"{path} does not fit {arch} with {len(CLASSES)} classes; give --ARCH of the network "
                   "that it was trained with, or another file") from None
