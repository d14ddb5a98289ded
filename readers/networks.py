"""Networks by name: torchvision's classifiers, timm's models, and those in a file of one's own.

resnet18                torchvision.models.resnet18
timm:resnet18           timm.create_model("resnet18"), where timm is installed
my_model.py:build       build(num_classes=...) of my_model.py
"""

import difflib
import hashlib
import importlib.util
import io
import os
import sys
from contextlib import contextmanager, redirect_stderr

from common.records import note
from common.settings import InputError, list_names

import torch
import torchvision
from torch import nn

from readers.images import IMAGENET_MEAN, IMAGENET_STD

# Shared by all of torchvision's classifiers that know ImageNet's 1,000 classes, and by timm's.
IMAGENET_NAMES = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]
KINDS = "one of torchvision's classifiers, timm:NAME, or FILE.py:FUNCTION"
LUMINANCE = (0.299, 0.587, 0.114)  # of R, G and B (ITU-R 601), as Pillow's and torchvision's grey
OPTIONS = {  # of torchvision's functions. ImageNet's weights expect other means and deviations
    "inception_v3": {"aux_logits": False, "init_weights": True, "transform_input": True},
    "googlenet": {"aux_logits": False, "init_weights": True, "transform_input": True},
}


def make_network(arch, n_classes):
    """A network of random weights, float32 on the CPU.

    Args:
        arch: str, as above.
        n_classes: int, logits.

    Returns:
        An nn.Module. Its attribute `source` says which file it is from, by path and hash; "" if it
        is a library's.

    Raises:
        InputError: there is no such network, or its file fails.
    """
    if arch.startswith("timm:"):
        network, source = _from_timm(arch, n_classes), ""
    elif ".py:" in arch:
        network, source = _from_file(arch, n_classes)
    else:
        require_torchvision(arch)
        options = {"num_classes": n_classes, **OPTIONS.get(arch, {})}
        network, source = torchvision.models.get_model(arch, weights=None, **options), ""
    network.source = source
    return network


def require_torchvision(arch):
    """Raise InputError unless torchvision has a classifier of this name."""
    names = torchvision.models.list_models(module=torchvision.models)
    if arch not in names:
        near = difflib.get_close_matches(arch, names)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise InputError(f"ARCH={arch}: must be {KINDS}{hint}")


def _timm(arch):
    try:
        import timm
    except ImportError:
        raise InputError(f"ARCH={arch}: timm is missing; run pip install timm") from None
    return timm


def _from_timm(arch, n_classes):
    timm, name = _timm(arch), arch.removeprefix("timm:")
    if not timm.is_model(name.partition(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models())
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise InputError(f"ARCH={arch}: timm has no such model{hint}; give another --ARCH")
    try:
        return timm.create_model(name, num_classes=n_classes)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"ARCH={arch}: timm fails ({reason}); give another --ARCH") from None


def _from_file(arch, n_classes):
    path, _, name = arch.rpartition(":")
    if not os.path.isfile(path):
        raise InputError(f"ARCH={arch}: there is no file {path}; must be {KINDS}")
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()[:16]
    try:
        with _without_arguments(path):
            module = _load_module(path, f"network_{digest}")
            network = _function_of(module, arch, path, name)(num_classes=n_classes)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # whatever that code raises
        reason = f"{type(error).__name__}: {error}".replace(f"network_{digest}", path)
        fix = f"give a file with a function {name} that takes num_classes"
        if isinstance(error, SystemExit):
            reason = f"it ends the program, with {error.code!r}"
            fix = "put what the file does when it is run behind if __name__ == '__main__'"
        elif isinstance(error, OSError):
            fix = f"put what it reads where it looks, from {os.getcwd()}"
        elif isinstance(error, ModuleNotFoundError):
            fix = "install that module, or put it beside the file"
        raise InputError(
            f"ARCH={arch}: {name}(num_classes={n_classes}) fails ({reason}); {fix}"
        ) from None
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise InputError(
            f"ARCH={arch}: {name} returns a {kind}; give one that returns an nn.Module"
        )
    # torch.compile and DataParallel change how a network runs, not what it gives.
    while hasattr(network, "_orig_mod") or isinstance(network, nn.DataParallel):
        network = next(network.children())
    if any(parameter.dim() > 4 for parameter in network.parameters()):
        raise InputError(
            f"ARCH={arch}: the network has weights of more than four axes, as of 3d convolutions; "
            "give one for images"
        )
    return network.float(), f"{arch} sha256 {digest}"


@contextmanager
def _without_arguments(path):
    """Run code of a file as if the program had no arguments, which the file may parse.

    What argparse prints before it ends the program is not shown.
    """
    arguments, errors = sys.argv, io.StringIO()
    sys.argv = [path]
    try:
        with redirect_stderr(errors):
            yield
    except SystemExit:
        errors = io.StringIO()
        raise
    finally:
        sys.argv = arguments
        sys.stderr.write(errors.getvalue())


def _load_module(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    folder = os.path.dirname(os.path.abspath(path))
    if folder not in sys.path:
        sys.path.append(folder)  # the file may import its neighbours
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _function_of(module, arch, path, name):
    """A function or class of a file. Raises InputError: there is none of this name."""
    if callable(function := getattr(module, name, None)):
        return function
    own = [
        key
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__
    ]
    raise InputError(
        f"ARCH={arch}: {path} has no function {name}, but {list_names(own)}; give a file with a "
        f"function {name} that takes num_classes, or the name of another"
    )


# ----------------------------------------------------------------------------- head and input


@torch.no_grad()
def takes_grey(network, image_size):
    """Whether a network takes images of one channel, and none of three."""
    convs = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    if next((conv.in_channels for conv in convs), 3) != 1:
        return False
    training = network.training
    try:
        network.eval()(torch.zeros(1, 3, image_size, image_size))
        return False  # it makes them grey itself
    except Exception:  # whatever its code raises; find_head says so if it takes none at all
        return True
    finally:
        network.train(training)


@torch.no_grad()
def find_head(network, arch, image_size, n_classes):
    """The name of the layer that gives the logits: the last conv or linear layer that is called.

    Raises:
        InputError: the network takes no images of image_size pixels, or gives no n_classes logits.
    """
    names, called, training = {}, [], network.training
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            names[module] = name
    handles = [
        module.register_forward_hook(lambda module, *_: called.append(module)) for module in names
    ]
    try:
        logits = network.eval()(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:  # whatever its code raises
        reason = str(error).partition("\n")[0]
        size = _config(network).get("input_size")
        own = f"; its own size is {size[-1]}" if size else ""
        raise InputError(
            f"IMAGE_SIZE={image_size}: {arch} takes no such images ({reason}){own}; give another "
            "--IMAGE_SIZE"
        ) from None
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape != (1, n_classes):
        needed = f"(1, {n_classes}), a logit for each class"
        raise InputError(f"ARCH={arch} gives {shape} for an image, but must give {needed}")
    if not called:
        raise InputError(f"ARCH={arch} has no conv or linear layer; give another --ARCH")
    head = called[-1]
    outputs = head.out_channels if isinstance(head, nn.Conv2d) else head.out_features
    if outputs != n_classes:
        raise InputError(
            f"ARCH={arch}: its last layer, {names[head]}, gives {outputs} outputs, but must give "
            f"the {n_classes} logits"
        )
    return names[head]


def _config(network):
    """A network's own description of its input, a dict as timm's models have it."""
    for name in ("pretrained_cfg", "default_cfg"):
        config = getattr(network, name, None)
        if isinstance(config, dict):
            return config
    return {}


def normalisation_of(network, given, grey=False):
    """Mean and standard deviation of RGB in [0, 1] that a network expects, three numbers each.

    Args:
        network: nn.Module.
        given: str, the constant NORMALISATION: "auto", the network's own where it has one, else
            ImageNet's; or six numbers with commas between, the means first.
        grey: bool, whether the network takes images of one channel.

    Raises:
        InputError: `given` is neither, or "auto" for a network of one channel without its own.
    """
    if given != "auto":
        try:
            numbers = tuple(float(part) for part in given.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != 6 or min(numbers[3:], default=0) <= 0 or not all(map(_finite, numbers)):
            rule = "auto, or six numbers: mean and standard deviation (above 0) of R, G and B"
            raise InputError(f"--NORMALISATION={given}: must be {rule}")
        return numbers[:3], numbers[3:]
    config = _config(network)
    if grey and not config.get("mean"):
        raise InputError(
            "--NORMALISATION=auto: the network takes images of one channel, whose mean and "
            "standard deviation are not known; give them three times each, for example "
            "--NORMALISATION=0.5,0.5,0.5,0.5,0.5,0.5"
        )
    mean, std = config.get("mean") or IMAGENET_MEAN, config.get("std") or IMAGENET_STD
    mean, std = (tuple(map(float, part)) for part in (mean, std))
    return (mean * 3, std * 3) if grey and len(mean) == len(std) == 1 else (mean, std)


def _finite(number):
    return abs(number) < float("inf")


def expect_normalised(network, mean, std, grey=False):
    """Make a network take images that are normalised as ImageNet's, whatever it expects itself.

    All images are normalised with ImageNet's mean and standard deviation, here as in attacks and
    pictures. The network's class becomes a subclass that rescales them first, so that names of
    layers stay as they are, and torch.fx follows it.

    Args:
        network: nn.Module; it is changed. Its attribute `rescaling` says from what to what.
        mean: three numbers, of RGB in [0, 1], that the network expects to be subtracted.
        std: three numbers by which it expects the difference to be divided.
        grey: bool, whether it takes one channel: the luminance of the three.
    """
    network.rescaling = ""
    if (mean, std) == (IMAGENET_MEAN, IMAGENET_STD) and not grey:
        return
    network.rescaling = f"mean {mean}, standard deviation {std}"
    if grey:
        network.rescaling += ", grey"
        note("The network takes images of one channel: it gets the luminance of R, G and B.")
    scale = [usual / own for usual, own in zip(IMAGENET_STD, std)]
    shift = [(usual - own) / sd for usual, own, sd in zip(IMAGENET_MEAN, mean, std)]
    kind = type(network)

    def forward(self, images):
        channels = [images[:, i : i + 1] * scale[i] + shift[i] for i in range(3)]
        if grey:
            red, green, blue = channels
            r, g, b = LUMINANCE
            return kind.forward(self, r * red + g * green + b * blue)
        return kind.forward(self, torch.cat(channels, 1))

    network.__class__ = type(kind.__name__, (kind,), {"forward": forward})


# ----------------------------------------------------------------------------- ImageNet's weights


def imagenet_weights(arch):
    """The weights that a library has for ImageNet, and the file that they are cached in.

    Returns:
        A state dict, and a path (str).

    Raises:
        InputError: there are none, the download fails, or what it left is damaged.
    """
    if ".py:" in arch:
        raise InputError(f"WEIGHTS=imagenet: there are none of {arch}; give a path, or none")
    path = ""
    try:
        if arch.startswith("timm:"):
            path = _timm_cache(arch)
            return _timm_weights(arch), path or arch
        weights = torchvision.models.get_model_weights(arch).DEFAULT
        name = os.path.basename(weights.url)
        path = os.path.join(torch.hub.get_dir(), "checkpoints", name)
        return weights.get_state_dict(check_hash=True), path
    except InputError:
        raise
    except Exception as error:  # of the network, of the disk, or of what torch.load finds
        if os.path.exists(path) and not isinstance(error, OSError):
            reason = str(error).partition("\n")[0][:100] or type(error).__name__
            raise InputError(
                f"{path} is a broken download of ImageNet's weights ({reason}); delete it and "
                "run again"
            ) from None
        raise InputError(
            f"WEIGHTS=imagenet: the download failed ({str(error)[:200]}); give --WEIGHTS=PATH of a "
            "state dict, or --WEIGHTS=none to train from scratch"
        ) from None


def _timm_weights(arch):
    timm = _timm(arch)
    return timm.create_model(arch.removeprefix("timm:"), pretrained=True).state_dict()


def _timm_cache(arch):
    """The file that timm's weights are cached in; "" if there is none."""
    from huggingface_hub import try_to_load_from_cache

    config = _timm(arch).get_pretrained_cfg(arch.removeprefix("timm:"))
    if not config or not config.hf_hub_id:
        return ""
    for name in ("model.safetensors", "pytorch_model.bin"):
        path = try_to_load_from_cache(config.hf_hub_id, name)
        if isinstance(path, str):
            return path
    return ""
