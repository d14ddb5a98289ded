"""torchvision's networks with a head for the classes at hand, and one epoch of them."""

import hashlib
import os
import warnings

from common.settings import InputError, format_value

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from datasets import GENDERS, normalise

ARCHS = {  # the smallest images that each takes, in pixels. A new one is one more line
    "squeezenet1_1": 32,
    "squeezenet1_0": 32,
    "resnet18": 32,
    "resnet50": 32,
    "vgg16": 32,
    "inception_v3": 75,
}
IMAGENET_CLASSES = 1000

# ----------------------------------------------------------------------------- networks


def build(arch, weights, image_size=224, classes=GENDERS):
    """A network with a head of len(classes) logits, float32 on the CPU, channels last.

    Args:
        arch: str, one of ARCHS.
        weights: "imagenet" (downloaded by torchvision), "none", or the path of a state dict. A
            head of another number of classes in it is not used.
        image_size: int, pixels.
        classes: tuple of str.

    Raises:
        InputError: unknown arch, images too small, or weights that do not fit.
    """
    if arch not in ARCHS:
        raise InputError(f"ARCH={arch}: must be {' or '.join(ARCHS)}")
    if image_size < ARCHS[arch]:
        raise InputError(f"IMAGE_SIZE={image_size}: {arch} needs at least {ARCHS[arch]} pixels")
    options = {}
    if arch == "inception_v3":  # ImageNet's weights expect other means and deviations
        options = {"aux_logits": False, "init_weights": True, "transform_input": True}
    network = getattr(torchvision.models, arch)(num_classes=len(classes), **options)
    head = _head(network)
    if arch.startswith("squeezenet"):
        # The head ends in ReLU: from scratch its logits soon are negative for every image, then 0
        # for good (the loss stays at ln 2). A positive bias keeps them alive.
        nn.init.constant_(network.get_submodule(head).bias, 1.0)
    if weights != "none":
        state = _imagenet(arch) if weights == "imagenet" else _state_dict(weights)
        if isinstance(state, dict):
            own = network.get_submodule(head).state_dict(prefix=f"{head}.")
            state = _with_own_head(_without_auxiliary(state), own)
        _load_state(network, state, arch, weights)
    return network.to(memory_format=torch.channels_last)


def pretrained(arch, weights, image_size, classes):
    """A network as its weights are, in eval mode, that tells the given classes apart.

    Of ImageNet's 1,000 logits, those with the classes' names are taken: the network then chooses
    among these only. Otherwise there must be as many logits as classes, in alphabetical order, as
    in ImageNet's folders and torchvision's ImageFolder.

    Args:
        arch: str, one of ARCHS.
        weights: as in build, but not "none".
        image_size: int, pixels.
        classes: tuple of str.

    Raises:
        InputError: no weights, or weights for other classes.
    """
    if weights == "none":
        raise InputError(
            "WEIGHTS=none: an untrained network has no filters worth finding; "
            "run train_squeeze.py first, or give --WEIGHTS=imagenet or a path"
        )
    network = build(arch, "none", image_size, classes)
    state = _imagenet(arch) if weights == "imagenet" else _state_dict(weights)
    logits = {}
    if isinstance(state, dict):
        head = f"{_head(network)}."
        logits = {name: value for name, value in state.items() if name.startswith(head)}
    counts = {len(value) for value in logits.values() if isinstance(value, torch.Tensor)}
    known = torchvision.models.get_model_weights(arch).DEFAULT.meta["categories"]
    names = [name.replace("_", " ") for name in classes]
    unknown = [name for name, spaced in zip(classes, names) if spaced not in known]
    if counts == {IMAGENET_CLASSES} and not unknown:
        rows = [known.index(name) for name in names]
        state = state | {name: value[rows] for name, value in logits.items()}
    elif counts == {IMAGENET_CLASSES} != {len(classes)}:
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
    _load_state(network, _without_auxiliary(state), arch, weights)
    return network.eval()


def _head(network):
    """The name of the layer that gives the logits."""
    kinds = (nn.Conv2d, nn.Linear)
    return [name for name, module in network.named_modules() if isinstance(module, kinds)][-1]


def _without_auxiliary(state):
    """A state dict without inception_v3's auxiliary head, which these networks do not have."""
    return {name: value for name, value in state.items() if not name.startswith("AuxLogits.")}


def _with_own_head(state, own):
    """A state dict, with the network's own head where the shapes differ."""
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
    return {**lower, "state_dict": network.state_dict()}


def load(path, classes=GENDERS, weights=None, **constants):
    """The network of a checkpoint, or of a plain state dict, in eval mode.

    Args:
        path: str, squeezenet.pth.
        classes: tuple of str.
        weights: as for pretrained, which gives the network if there is no such file; None: the
            file must exist.
        constants: ARCH and others that must be as in training, if the checkpoint has them.

    Raises:
        InputError: a file is missing, damaged, or does not fit.
    """
    image_size = constants.get("IMAGE_SIZE", 224)
    if not os.path.exists(path):
        if weights is None:
            fix = "run train_squeeze.py first, with the same RECORDS_DIR"
            raise InputError(f"{path} is missing; {fix}")
        return pretrained(constants["ARCH"], weights, image_size, classes)
    checkpoint = read_checkpoint(path)
    if (known := checkpoint.get("classes", classes)) != classes:
        different = sorted(set(known) ^ set(classes)) or known
        names = ", ".join(different[:3])
        raise InputError(
            f"{path} was trained to tell other classes apart ({names}); "
            "give its data, or another --RECORDS_DIR"
        )
    for name, value in constants.items():
        trained = checkpoint.get(name.lower(), value)
        if trained != value:
            trained, value = format_value(trained), format_value(value)
            raise InputError(
                f"{path} was trained with {name}={trained}, not {value}; "
                f"give --{name}={trained}, or train anew under another RECORDS_DIR"
            )
    network = build(constants["ARCH"], "none", image_size, classes)
    _load_state(network, checkpoint.get("state_dict", checkpoint), constants["ARCH"], path)
    return network.eval()


def read_checkpoint(path):
    """What torch.save wrote, if it is a dict of tensors and plain values; nothing is unpickled.

    Raises:
        InputError: it is not.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on foreign files; see below
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError
        return state
    except Exception as error:  # torch raises a dozen kinds
        reason = f"is damaged or holds no weights ({type(error).__name__})"
        fix = "give another file, or delete it and train again"
        raise InputError(f"{path} {reason}; {fix}") from None


def digest(network):
    """Short hash of a network's weights, which ties records to it."""
    state = hashlib.sha256()
    for name, value in network.state_dict().items():
        state.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return state.hexdigest()[:16]


def _imagenet(arch):
    try:
        weights = torchvision.models.get_model_weights(arch).DEFAULT
        return weights.get_state_dict(check_hash=True)
    except OSError as error:
        raise InputError(
            f"WEIGHTS=imagenet: the download failed ({error}); give --WEIGHTS=PATH of a state "
            "dict, or --WEIGHTS=none to train from scratch"
        ) from None


def _state_dict(path):
    if not os.path.exists(path):
        fix = "give imagenet, none, or the path of a state dict"
        raise InputError(f"WEIGHTS={path}: no such file; {fix}")
    checkpoint = read_checkpoint(path)
    return checkpoint.get("state_dict", checkpoint)


def _load_state(network, state, arch, path):
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
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            loss_sum += loss.detach() * len(batch)
            correct[batch.to(device)] = logits.detach().argmax(1) == label
    return loss_sum.item() / len(rows), correct.cpu()


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
