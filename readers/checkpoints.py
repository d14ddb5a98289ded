"""Checkpoints of any origin: a network's weights in them, by the network's own names.

The weights may be the file itself (a plain state dict, or safetensors) or lie anywhere in a dict of
other things (`state_dict`, `model`, `net`, `ema`, ...), under any prefix (`module.`, `model.`,
`_orig_mod.`, `backbone.`, ...). Nothing is unpickled beyond what torch.load(weights_only=True)
takes: tensors and plain values.
"""

import os
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping

from common.records import note
from common.settings import InputError, list_names

import torch

DEEPEST_WRAPPER = 4  # dicts and lists inside each other that are searched for weights
# Entries that a network of ours does without: auxiliary heads of inception_v3 and googlenet, and
# what counters of operations leave behind.
LEFT_OUT = re.compile(r"(AuxLogits|aux1|aux2)\.|(.*\.)?(total_ops|total_params)$")
AVERAGED = re.compile(r"ema|swa|average", re.IGNORECASE)  # names of averaged weights
ANEW = "give another file, or make it anew"
# Keys under which a checkpoint may name its classes, as a list, or as names or places in a dict.
NAMING = ("classes", "class_names", "class_to_idx", "label2id", "idx_to_class", "id2label")
OTHER_FILES = {  # what a file is that begins so
    "an HDF5 file, as of Keras": b"\x89HDF",
    "an ONNX file, it seems": tuple(bytes([8, version, 18]) for version in range(3, 14)),
    "a compressed archive": (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!"),
    "GGUF": b"GGUF",
    "an image": (b"\x89PNG", b"\xff\xd8\xff"),
}
NAMED = 3  # names that a message gives of a longer list
# How the parts of one weight are named where it is computed from them, and by what.
COMPUTED = {
    r"\.parametrizations\.\w+\.": "torch.nn.utils.parametrize",
    r"_(orig|u)$": "torch.nn.utils.spectral_norm",
    r"_[gv]$": "torch.nn.utils.weight_norm",
}
QUANTISED = re.compile(r"(.*\.)?(zero_point|_packed_params|SCB|qweight|weight_packed)$")

# ----------------------------------------------------------------------------- opening


def read_checkpoint(path):
    """What torch.save wrote, if it is a dict of tensors and plain values; nothing is unpickled.

    Raises:
        InputError: it is not.
    """
    content = open_checkpoint(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no weights (a {type(content).__name__}, no dict); {ANEW}")
    return content


def open_checkpoint(path):
    """What a file holds: tensors and plain values. Raises InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on foreign files
            if _is_safetensors(path):
                from safetensors.torch import load_file

                return load_file(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds
        raise InputError(f"{path} {_explain(path, error)}") from None


def _is_safetensors(path):
    """Whether a file begins as safetensors do, whatever its name: 8 bytes of length, then JSON."""
    with open(path, "rb") as file:
        return file.read(10)[8:] == b'{"'


def _explain(path, error):
    """What is wrong with a file that cannot be opened, and what to do."""
    if os.path.isdir(path):
        holds = list_names(sorted(os.listdir(path)), NAMED)
        return f"cannot be read (it is a folder, which holds {holds}); give another file"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error}); give another file"
    with open(path, "rb") as file:
        start = file.read(60)
    if not start:
        return f"is empty; {ANEW}"
    for kind, starts in OTHER_FILES.items():
        if start.startswith(starts):
            return f"is {kind}, no checkpoint; give what torch.save wrote, or safetensors"
    if _is_other_archive(path):
        return "is a zip archive, not what torch.save wrote; unpack it, and give a file in it"
    if classes := _unsafe_classes(path, error):
        return (
            f"holds {list_names(classes, NAMED)} besides tensors and plain values. That is not "
            "loaded, since unpickling it could run code. Save network.state_dict() alone, where "
            "the file was made, and give that"
        )
    if _is_torchscript(path):
        return (
            "is a TorchScript archive, not weights; save network.state_dict() where it was made, "
            "and give that"
        )
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start):
        text = " ".join(start.decode().split())
        return f'is text that begins with "{text[:40]}", no weights; {ANEW}'
    return f"is cut short, damaged or holds no weights ({type(error).__name__}); {ANEW}"


def _unsafe_classes(path, error):
    """Names of what only unpickling would load, a list of str; empty where that is not why."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        return sorted(names, key=lambda name: (name.startswith("torch."), name))
    except Exception:  # an older format: the error names the first one
        return re.findall(r"GLOBAL (\w[\w.]*)", str(error))[:1]


def _is_other_archive(path):
    """Whether a file is a zip archive, but none of torch.save."""
    try:
        with zipfile.ZipFile(path) as archive:
            return not any(name.endswith("data.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _is_torchscript(path):
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def class_names(content):
    """The classes that a checkpoint names, in the order of its logits, in lower case.

    Args:
        content: what its file holds. Names are looked for under the keys NAMING, in it and in
            dicts within it.

    Returns:
        A list of str, or None.
    """
    if not isinstance(content, Mapping):
        return None
    for key in NAMING:
        names = content.get(key)
        if isinstance(names, Mapping) and all(isinstance(place, int) for place in names.values()):
            names = sorted(names, key=names.get)
        elif isinstance(names, Mapping) and all(str(place).isdigit() for place in names):
            names = [names[place] for place in sorted(names, key=int)]
        is_list = isinstance(names, (list, tuple)) and len(names) > 0
        if is_list and all(isinstance(name, str) for name in names):
            return [name.casefold() for name in names]
    nested = (class_names(value) for value in content.values())
    return next((names for names in nested if names), None)


# ----------------------------------------------------------------------------- weights


def fit_weights(content, own, head, arch, path):
    """The weights of a network in a checkpoint.

    Args:
        content: what its file holds: dicts and lists of tensors and plain values.
        own: the network's state dict, for names, shapes and dtypes.
        head: str, the name of the layer that gives the logits. It may be missing in the file, or be
            of another number of logits.
        arch: str, for messages.
        path: str, for messages.

    Returns:
        {name: tensor}, by the network's own names.

    Raises:
        InputError: the weights do not fit, are not finite, or could be one of several.
    """
    in_head = {name for name in own if name.startswith(f"{head}.")}
    best = _choose(_candidates(content, own), own, path)
    if best is None:
        raise InputError(f"{path} does not fit {arch}: {_contrast(content, own)}")
    weights, used, tensors = best.weights, best.used, best.tensors
    _check_kinds(tensors, own, path)
    missing = [name for name in own if name not in weights and name not in in_head]
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing:
        _check_computed(missing[0], tensors, path)
        raise _unfit(path, arch, f"it has no {list_names(missing, NAMED)}")
    for name, value in weights.items():
        if value.shape != own[name].shape and name not in in_head:
            shapes = f"{tuple(value.shape)} there, {tuple(own[name].shape)} needed"
            raise _unfit(path, arch, f"{name} is {shapes}")
        if value.is_floating_point() != own[name].is_floating_point():
            raise _unfit(path, arch, f"{name} holds {str(value.dtype).removeprefix('torch.')}")
    _check_extra([name for name in tensors if name not in used], best.prefix, arch, path)
    check_finite({name: value.to(own[name].dtype) for name, value in weights.items()}, path)
    if best.pruned:
        count = len(best.pruned)
        note(f"{path}: {count} pruned weights are taken as weight_orig * weight_mask")
    return weights


class _Candidate:
    """A dict of tensors that may be a network's weights, under one prefix."""

    def __init__(self, where, tensors, prefix, own):
        self.where, self.prefix, self.tensors = where, prefix, tensors
        self.weights, self.used = {}, set()  # by the network's names; and the names in the file
        self.take(prefix, own)
        self.full = len(self.weights)
        rest = own.keys() - self.weights.keys()
        places = {key[: -len(name)] for name in rest for key in tensors if _ends(key, name)}
        if len(places) == 1:  # body and head of a network under prefixes of their own
            self.take(places.pop(), {name: own[name] for name in rest})

    def take(self, prefix, own):
        for name in own:
            if prefix + name in self.tensors:
                self.weights[name] = self.tensors[prefix + name]
                self.used.add(prefix + name)

    def name(self):
        """As a message calls it: "state_dict: module."."""
        return ": ".join(part for part in (self.where, self.prefix) if part) or "the file itself"

    def equals(self, other):
        """Whether another candidate holds the same weights."""
        pairs = [(value, other.weights.get(name)) for name, value in self.weights.items()]
        return all(b is not None and a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def _ends(key, name):
    return key == name or key.endswith(f".{name}")


def _candidates(content, own):
    """Every dict of tensors in a checkpoint, under each prefix that fits any of the names."""
    candidates = []
    for where, tensors in _tensor_dicts(content):
        prefixes, pruned = Counter(), _fold_pruned(tensors)
        for name in own:
            prefixes.update(key[: -len(name)] for key in tensors if _ends(key, name))
        for prefix in prefixes:
            candidates.append(_Candidate(where, tensors, prefix, own))
            candidates[-1].pruned = pruned & candidates[-1].used
    return candidates


def _tensor_dicts(content, where="", depth=0):
    """Yield (name, {key: tensor}) of every dict with tensors in it."""
    if isinstance(content, (list, tuple)):
        content = {str(number): value for number, value in enumerate(content)}
    if not isinstance(content, Mapping) or depth > DEEPEST_WRAPPER:
        return
    tensors = {}
    for key, value in content.items():
        if isinstance(value, torch.Tensor) and isinstance(key, str):
            tensors[key] = value.to_dense() if value.layout == torch.sparse_coo else value
        else:
            yield from _tensor_dicts(value, f"{where}.{key}" if where else str(key), depth + 1)
    if tensors:
        yield where, tensors


def _fold_pruned(tensors):
    """Put NAME in the place of each pair NAME_orig, NAME_mask, and return these names, a set.

    The pairs are what torch.nn.utils.prune leaves until prune.remove is called.
    """
    names = {key.removesuffix("_orig") for key in tensors if key.endswith("_orig")}
    pruned = {name for name in names if f"{name}_mask" in tensors and name not in tensors}
    for name in pruned:
        tensors[name] = tensors.pop(f"{name}_orig") * tensors.pop(f"{name}_mask")
    return pruned


def _choose(candidates, own, path):
    """The candidate that has most of a network's weights; None if there is none.

    Raises:
        InputError: several that differ have as many.
    """
    if not candidates:
        return None
    most = max(candidate.full for candidate in candidates)
    best = [candidate for candidate in candidates if candidate.full == most]
    distinct = []
    for candidate in best:
        if not any(candidate.equals(other) for other in distinct):
            distinct.append(candidate)
    plain = [candidate for candidate in distinct if not AVERAGED.search(candidate.name())]
    if len(distinct) > 1 and len(plain) != 1:
        names = list_names([f'"{candidate.name()}"' for candidate in distinct], NAMED)
        raise InputError(
            f"{path} holds weights of several networks that fit ({names}); save those of one of "
            "them alone, and give that"
        )
    if len(distinct) > 1:
        averaged = [candidate.name() for candidate in distinct if candidate is not plain[0]]
        unused = list_names(averaged, NAMED)
        note(f"{path}: the weights of {plain[0].name()} are used, not {unused}")
        return plain[0]
    return distinct[0]


def _check_kinds(tensors, own, path):
    """Refuse quantised and complex weights by what they are. Raises InputError."""
    for key, value in tensors.items():
        dtype = str(value.dtype).removeprefix("torch.")
        if value.is_meta:
            raise InputError(
                f"{path} holds no values for {key}, only its shape (device meta); save the network "
                "where it has its weights, and give that"
            )
        fits_integer = any(_ends(key, name) and not own[name].is_floating_point() for name in own)
        integer = not value.is_floating_point() and not value.is_complex()
        is_weight = any(_ends(key, name) for name in own) and not fits_integer
        if value.is_quantized or QUANTISED.match(key) or (is_weight and integer and value.ndim > 1):
            raise InputError(
                f"{path} holds the weights of a quantised network ({key} is {dtype}), in which "
                "filters cannot be removed; give those of before it was quantised, in float32"
            )
        if value.is_complex():
            raise InputError(
                f"{path} holds complex numbers ({key} is {dtype}), which no network here has; give "
                "a checkpoint of real weights"
            )


def _check_computed(name, tensors, path):
    """Say so if a weight that is missing would have to be computed from others."""
    stem = name.rpartition(".")[0]
    for key in tensors:
        for pattern, maker in COMPUTED.items():
            if f"{stem}." in f"{key}." and re.search(pattern, key):
                raise InputError(
                    f"{path} holds {key} in place of {name}: {maker} computes that weight. Remove "
                    "it where the file was made (remove_spectral_norm, remove_weight_norm, "
                    "remove_parametrizations), save network.state_dict() again, and give that"
                )


def _check_extra(names, prefix, arch, path):
    """Refuse further entries beside a network's own; say how many lie elsewhere in the file."""
    names = [name for name in names if not LEFT_OUT.match(name.removeprefix(prefix))]
    if beside := [name for name in names if name.startswith(prefix)]:
        raise _unfit(path, arch, f"it also has {list_names(beside, NAMED)}, which {arch} has not")
    if names:
        listed = list_names(names, NAMED)
        note(f"{path}: {len(names)} entries outside {prefix} left out: {listed}")


def check_finite(weights, path):
    """Refuse weights with NaN or infinite values, or a negative variance. Raises InputError.

    Args:
        weights: {name: tensor}.
        path: str, where they are from, for the message.
    """
    fix = "give those of a training that did not diverge"
    for name, value in weights.items():
        if count := int((~torch.isfinite(value)).sum()):
            raise InputError(f"{path}: {count} values of {name} are not finite (NaN, Inf); {fix}")
        if name.endswith("running_var") and bool((value < 0).any()):
            raise InputError(f"{path}: {name} holds a variance below 0; {fix}")


def _contrast(content, own):
    """What a checkpoint holds beside what is needed, for one that has none of it."""
    held = [key for _, tensors in _tensor_dicts(content) for key in tensors]
    if not held and isinstance(content, Mapping):
        held = list(map(str, content))
    held = list_names(held, NAMED)
    return f"it has {held}, the network {list_names(list(own), NAMED)}; {_OTHER_ARCH}"


_OTHER_ARCH = "give --ARCH of the network that it was trained with, or another file"


def _unfit(path, arch, reason):
    return InputError(f"{path} does not fit {arch}: {reason}; {_OTHER_ARCH}")
