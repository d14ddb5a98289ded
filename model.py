"""torchvision's SqueezeNet with a two-class head, its table of filters, and one epoch of it.

A filter is an output channel of a conv layer. The channels of the classifier's conv are the class
logits: outputs of the network, not filters. squeezenet1_1 has 2,944 filters, squeezenet1_0 2,976.
"""

import hashlib
import os
from typing import Callable, NamedTuple

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.models.squeezenet import Fire
from tqdm import tqdm

from datasets import normalise
from records import replacing
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
        state = _imagenet(arch) if weights == "imagenet" else _read_weights(weights)["state_dict"]
        if state.get("classifier.1.bias", torch.empty(0)).shape != (len(CLASSES),):
            state = {name: value for name, value in state.items() if not name.startswith("classifier")}
            state |= network.classifier.state_dict(prefix="classifier.")
        _load(network, state, arch, weights)
    return network.to(memory_format=torch.channels_last)


def save(path, network, arch, image_size):
    """Write a checkpoint that torch.load(path, weights_only=True) reads."""
    checkpoint = {"arch": arch, "image_size": image_size, "state_dict": network.state_dict()}
    with replacing(path) as temporary:
        torch.save(checkpoint, temporary)


def load(path, arch, image_size):
    """The network of a checkpoint by `save`, or of a plain state dict with two classes. Raises Stop."""
    if not os.path.exists(path):
        raise Stop(f"{path} is missing; run train_squeeze.py first, with the same RECORDS_DIR")
    checkpoint = _read_weights(path)
    for name, given in (("arch", arch), ("image_size", image_size)):
        made = checkpoint.get(name, given)
        if made != given:
            raise Stop(f"{path} was trained with {name.upper()}={made}, not {given}; "
                       f"give --{name.upper()}={made}, or train anew under another RECORDS_DIR")
    network = squeezenet(arch, "none")
    _load(network, checkpoint["state_dict"], arch, path)
    return network.eval()


def digest(network):
    """Short hash of a network's weights, which ties records to it."""
    state = hashlib.sha256()
    for name, value in network.state_dict().items():
        state.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return state.hexdigest()[:16]


def chain(network):
    """Cut a SqueezeNet into stages and head: network(x) = head(stage_L(... stage_1(x))).

    Returns (list of Stage, head). The filters of all stages, in order, are the players.
    """
    names = {module: name for name, module in network.named_modules()}
    stages, before = [], []  # `before`: the pooling in front of the next stage

    def add(forward, convs):
        pooled = nn.Sequential(*before)
        stages.append(Stage(lambda x: torch.relu(forward(pooled(x))),
                            [names[conv] for conv in convs for _ in range(conv.out_channels)],
                            [channel for conv in convs for channel in range(conv.out_channels)]))
        before.clear()

    for module in network.features:
        if isinstance(module, nn.Conv2d):
            add(module, [module])
        elif isinstance(module, Fire):
            wide = [module.expand1x1, module.expand3x3]
            add(module.squeeze, [module.squeeze])
            add(lambda x, wide=wide: torch.cat([conv(x) for conv in wide], dim=1), wide)
        elif not isinstance(module, nn.ReLU):  # each stage has its own
            before.append(module)
    return stages, lambda x: network.classifier(x).flatten(1)


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
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        raise Stop(f"DEVICE={name}: PyTorch has no such device here; give auto, cpu or cuda") from None


def _imagenet(arch):
    try:
        return torchvision.models.get_model_weights(arch).DEFAULT.get_state_dict(check_hash=True)
    except OSError as error:
        raise Stop(f"WEIGHTS=imagenet: the download failed ({error}); give --WEIGHTS=PATH of a state dict, "
                   "or --WEIGHTS=none to train from scratch") from None


def _read_weights(path):
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise Stop(f"WEIGHTS={path}: no such file; give imagenet, none, or the path of a state dict") from None
    except Exception as error:  # torch raises a dozen kinds for truncated files and for pickles of anything else
        raise Stop(f"{path} is damaged or not a state dict ({type(error).__name__}); "
                   "replace it, or delete it and train again") from None
    if isinstance(state, dict) and "state_dict" not in state:
        state = {"state_dict": state}
    if not isinstance(state, dict) or not isinstance(state["state_dict"], dict):
        raise Stop(f"{path} holds no state dict; replace it, or delete it and train again")
    return state


def _load(network, state, arch, path):
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError):
        raise Stop(f"{path} does not fit {arch} with {len(CLASSES)} classes; give --ARCH of the network "
                   "that it was trained with, or another file") from None
