"""Networks with a head for the classes at hand, and one epoch of them."""

import hashlib
import math
import os

from common.settings import InputError, format_value

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from datasets import GENDERS, normalise
from readers.checkpoints import (  # noqa: F401 (the scripts take read_checkpoint from here)
    class_names,
    fit_weights,
    open_checkpoint,
    read_checkpoint,
)
from readers.networks import (
    IMAGENET_NAMES,
    expect_normalised,
    find_head,
    imagenet_weights,
    make_network,
    normalisation_of,
    takes_grey,
)

# One of these is in every checkpoint of train_squeeze.py, and hardly in others.
OWN_KEYS = {"source", "celeba_frame"}
SMALLEST = {"inception_v3": 75}  # images that it takes, in pixels; of others 32

# ----------------------------------------------------------------------------- networks


def build(arch, weights, image_size=224, classes=GENDERS, normalisation="auto"):
    """A network with a head of len(classes) logits, float32 on the CPU, channels last.

    It takes images as datasets.normalise gives them, whatever it expects itself. Its attribute
    `logits_layer` names its head.

    Args:
        arch: str, the name of a network, see readers/networks.py.
        weights: "imagenet" (downloaded by torchvision or timm), "none", or the path of a checkpoint
            in any form that readers/checkpoints.py opens. A head of another number of classes in it
            is not used.
        image_size: int, pixels.
        classes: tuple of str.
        normalisation: str, as for readers.networks.normalisation_of.

    Raises:
        InputError: unknown arch, images too small, or weights that do not fit.
    """
    network, head = _make(arch, image_size, classes, normalisation)
    if weights != "none":
        state = _read(arch, weights, network, head)
        own = network.get_submodule(head).state_dict(prefix=f"{head}.")
        fill(network, _with_own_head(state, own), arch, weights)
    return network


def _make(arch, image_size, classes, normalisation):
    """An untrained network as `build` gives it, and the name of its head."""
    if image_size < SMALLEST.get(arch, 0):
        raise InputError(f"IMAGE_SIZE={image_size}: {arch} needs at least {SMALLEST[arch]} pixels")
    network = make_network(arch, len(classes))
    grey = takes_grey(network, image_size)
    expect_normalised(network, *normalisation_of(network, normalisation, grey), grey)
    network.logits_layer = head = find_head(network, arch, image_size, len(classes))
    if arch.startswith("squeezenet"):
        # The head ends in ReLU: from scratch its logits soon are negative for every image, then 0
        # for good (the loss stays at ln 2). A positive bias keeps them alive.
        nn.init.constant_(network.get_submodule(head).bias, 1.0)
    return network.to(memory_format=torch.channels_last), head


def _read(arch, weights, network, head, classes=None):
    """A network's weights by its own names. Raises InputError.

    Args:
        arch: str, for messages.
        weights: "imagenet" or a path.
        network: nn.Module that they are for.
        head: str, the name of its last layer.
        classes: tuple of str that the file's own names of classes, if any, must be; None: any.
    """
    own = network.state_dict()
    if weights == "imagenet":
        content, path = imagenet_weights(arch)
        try:
            return fit_weights(content, own, head, arch, path)
        except InputError as error:
            fix = "if this is a broken download, delete the file and run again"
            raise InputError(f"{error}; {fix}") from None
    if not os.path.exists(weights):
        fix = "give imagenet, none, or the path of a checkpoint"
        raise InputError(f"WEIGHTS={weights}: no such file; {fix}")
    content = open_checkpoint(weights)
    _check_classes(content, weights, classes)
    return fit_weights(content, own, head, arch, weights)


def pretrained(arch, weights, image_size, classes, normalisation="auto"):
    """A network as its weights are, in eval mode, that tells the given classes apart.

    Of ImageNet's 1,000 logits, those with the classes' names are taken: the network then chooses
    among these only. Otherwise there must be as many logits as classes, in alphabetical order, as
    in ImageNet's folders and torchvision's ImageFolder.

    Args:
        arch: str, as for build.
        weights: as in build, but not "none".
        image_size: int, pixels.
        classes: tuple of str.
        normalisation: str, as for build.

    Raises:
        InputError: no weights, or weights for other classes.
    """
    if weights == "none":
        raise InputError(
            "WEIGHTS=none: an untrained network has no filters worth finding; "
            "run train_squeeze.py first, or give --WEIGHTS=imagenet or a path"
        )
    network, head = _make(arch, image_size, classes, normalisation)
    state = _read(arch, weights, network, head, classes)
    logits = {name: value for name, value in state.items() if name.startswith(f"{head}.")}
    counts = {len(value) for value in logits.values()}
    names = [name.replace("_", " ") for name in classes]
    unknown = [name for name, spaced in zip(classes, names) if spaced not in IMAGENET_NAMES]
    if counts == {len(IMAGENET_NAMES)} and not unknown:
        rows = [IMAGENET_NAMES.index(name) for name in names]
        state = state | {name: value[rows] for name, value in logits.items()}
    elif counts == {len(IMAGENET_NAMES)} != {len(classes)}:
        raise InputError(
            f"the class {unknown[0]} is none of ImageNet's by name, which torchvision's weights "
            "know; name the folders as torchvision does (tabby, tiger_cat, ...), train a network "
            "first (train_squeeze.py), or give other --WEIGHTS"
        )
    elif counts != {len(classes)}:
        number = " and ".join(map(str, sorted(counts))) or "no"
        raise InputError(
            f"WEIGHTS={weights}: a head of {number} logits, but there are {len(classes)} classes; "
            "give other --WEIGHTS, or train a network first (train_squeeze.py)"
        )
    fill(network, state, arch, weights)
    return network.eval()


def _with_own_head(state, own):
    """Weights with the network's own head where those of the file have another shape."""
    fits = all(
        getattr(state.get(name), "shape", None) == value.shape for name, value in own.items()
    )
    return state if fits else state | own


# ----------------------------------------------------------------------------- checkpoints


def pack_checkpoint(network, **constants):
    """What squeezenet.pth holds: the state dict, and constants to keep, by name.

    torch.load(path, weights_only=True) reads it.
    """
    lower = {name.lower(): value for name, value in constants.items()}
    return {**lower, "source": network.source, "state_dict": network.state_dict()}


def load_state(path, run):
    """The saved state of a training, a dict; None if there is none.

    run: facts that the training must share, a dict. Raises InputError if it does not.
    """
    if not os.path.exists(path):
        return None
    state = read_checkpoint(path)
    before = state.get("run", {})
    changed = [name for name, value in run.items() if before.get(name) != value]
    if changed:
        raise InputError(
            f"{path} is a training with another {', '.join(changed)}; set it back, or give "
            "another --RECORDS_DIR"
        )
    return state


def load(path, classes=GENDERS, weights=None, **constants):
    """The network of a checkpoint of train_squeeze.py, or of another one, in eval mode.

    Args:
        path: str, squeezenet.pth.
        classes: tuple of str.
        weights: as for pretrained, which gives the network if there is no such file; None: the
            file must exist.
        constants: ARCH, and IMAGE_SIZE and others that must be as in training, if the checkpoint
            has them.

    Raises:
        InputError: a file is missing, damaged, or does not fit.
    """
    arch, image_size = constants["ARCH"], constants.get("IMAGE_SIZE", 224)
    normalisation = constants.get("NORMALISATION", "auto")
    if not os.path.exists(path):
        if weights is None:
            fix = "run train_squeeze.py first, with the same RECORDS_DIR"
            raise InputError(f"{path} is missing; {fix}")
        return pretrained(arch, weights, image_size, classes, normalisation)
    checkpoint = open_checkpoint(path)
    _check_classes(checkpoint, path, classes)
    is_own = isinstance(checkpoint, dict) and OWN_KEYS & checkpoint.keys()
    if is_own:
        _check_constants(checkpoint, path, constants)
    network, head = _make(arch, image_size, classes, normalisation)
    trained, now = (checkpoint.get("source", "") if is_own else network.source), network.source
    if trained != now:
        raise InputError(
            f"{path} was trained with the network of {trained or 'a library'}, not of "
            f"{now or 'a library'}; set its file back, or train anew under another RECORDS_DIR"
        )
    state = fit_weights(checkpoint, network.state_dict(), head, arch, path)
    fill(network, state, arch, path)
    return network.eval()


def _check_classes(checkpoint, path, classes):
    """Refuse a checkpoint that names other classes, or the same in another order."""
    known = class_names(checkpoint)
    if known is None or classes is None:
        return
    given = [name.casefold() for name in classes]
    if sorted(known) == sorted(given) and known != given:
        raise InputError(
            f"{path} has its logits in the order {', '.join(known)}, not {', '.join(given)}; "
            "put the rows of its last layer in that order, or give other weights"
        )
    if known != given:
        different = sorted(set(known) ^ set(given)) or known
        names = ", ".join(different[:3])
        raise InputError(
            f"{path} was trained to tell other classes apart ({names}); "
            "give its data, or another --RECORDS_DIR"
        )


def _check_constants(checkpoint, path, constants):
    """Refuse a checkpoint of train_squeeze.py with other constants."""
    for name, value in constants.items():
        trained = checkpoint.get(name.lower(), value)
        if trained != value:
            trained, value = format_value(trained), format_value(value)
            raise InputError(
                f"{path} was trained with {name}={trained}, not {value}; "
                f"give --{name}={trained}, or train anew under another RECORDS_DIR"
            )


def digest(network):
    """Short hash of a network's weights, which ties records to it.

    It covers the source of a network of one's own, and a normalisation that is not ImageNet's.
    """
    state = hashlib.sha256()
    for name, value in network.state_dict().items():
        state.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    for fact in (getattr(network, "source", ""), getattr(network, "rescaling", "")):
        state.update(str(fact).encode())
    return state.hexdigest()[:16]


def fill(network, state, arch, path):
    """Load a state dict. Raises InputError, with these names, if it does not fit."""
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError):
        raise InputError(
            f"{path} does not fit {arch} for these classes; give --ARCH of the network "
            "that it was trained with, or another file"
        ) from None


# ----------------------------------------------------------------------------- training


def make_optimizer(module, learning_rate, steps):
    """AdamW for a module's parameters, and its schedule.

    OneCycleLR warms up over a tenth of the `steps`.
    """
    adam, steps = torch.optim.AdamW(module.parameters(), learning_rate), max(3, steps)
    # OneCycleLR divides by the length of its warm-up minus one step, which must not be 0.
    warm_up = max(0.1, 1.5 / steps)
    schedule = torch.optim.lr_scheduler.OneCycleLR
    return adam, schedule(adam, learning_rate, total_steps=steps, pct_start=warm_up)


def run_epoch(
    network,
    data,
    device,
    batch_size,
    optimizer=None,
    schedule=None,
    rng=None,
    bar="",
    mirror=True,
):
    """One pass over the images: trains if there is an optimizer, else evaluates.

    Args:
        network: nn.Module on the device.
        data: Images.
        device: torch.device.
        batch_size: int.
        optimizer: torch optimizer, or None.
        schedule: of the learning rate; takes a step after each batch.
        rng: numpy Generator for order and mirroring, in training only.
        bar: str, text of the progress bar; "" for none.
        mirror: bool, whether half of the training images are mirrored.

    Returns:
        Mean cross-entropy (float), and (N,) bool in the order of `data`: which images are right.

    Raises:
        InputError: a loss is not finite. In training that is the first one, before its step.
    """
    training = optimizer is not None
    network.train(training)
    rows = rng.permutation(len(data.label)) if training else np.arange(len(data.label))
    loss_sum = torch.zeros((), device=device)
    correct = torch.zeros(len(rows), dtype=torch.bool, device=device)
    starts = range(0, len(rows), batch_size)
    with torch.set_grad_enabled(training):
        for start in tqdm(starts, bar, unit=" batches", leave=False, disable=not bar):
            batch = torch.from_numpy(rows[start : start + batch_size])
            images, label = normalise(data.images[batch], device), data.label[batch].to(device)
            if training and mirror:
                images = _mirror_half(images, rng)
            logits = network(images)
            loss = cross_entropy(logits, label)
            if training:
                _check_loss(loss.item(), f"the loss of batch {start // batch_size + 1}")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            loss_sum += loss.detach() * len(batch)
            correct[batch.to(device)] = logits.detach().argmax(1) == label
    _check_loss(loss_sum.item(), "the loss")
    return loss_sum.item() / len(rows), correct.cpu()


def _check_loss(loss, name):
    if not math.isfinite(loss):
        raise InputError(
            f"{name} is not finite ({loss}): the network diverges or its weights are damaged. "
            "Nothing is written of this epoch; give a lower --LEARNING_RATE, or other --WEIGHTS"
        )


def _mirror_half(images, rng):
    mirrored = torch.from_numpy(rng.random(len(images)) < 0.5).to(images.device)
    return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)


@torch.no_grad()
def male_margins(network, faces, device, batch_size=250):
    """The logit of "male" minus that of "female" for all faces: (N,) float32."""
    network.eval()
    logits = [network(normalise(images, device)) for images in faces.images.split(batch_size)]
    return torch.cat([part[:, 1] - part[:, 0] for part in logits]).cpu().numpy()


def find_device(name):
    """The torch.device for DEVICE: "auto", "cpu", "cuda", "cuda:1", ...

    Turns off TF32 in cuDNN, so that V does not depend on how coalitions are batched.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:  # torchrun's processes take a GPU each
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    if name.startswith("cuda") and not torch.cuda.is_available():
        reason = "PyTorch sees no CUDA GPU here"
        raise InputError(f"DEVICE={name}: {reason}; give --DEVICE=cpu or auto")
    torch.backends.cudnn.allow_tf32 = False
    try:
        torch.zeros(1, device=name).cpu()  # some devices exist by name only
        return torch.device(name)
    except (RuntimeError, AssertionError, NotImplementedError):
        reason = "PyTorch has no such device here"
        raise InputError(f"DEVICE={name}: {reason}; give auto, cpu or cuda") from None
