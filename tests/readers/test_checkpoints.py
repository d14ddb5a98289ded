"""Checkpoints in the forms that other tools save: the right weights, or a line that says why."""

import argparse
import json
import pathlib

from common import records
from common.settings import InputError

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

from readers.checkpoints import class_names, fit_weights, open_checkpoint, read_checkpoint
from tests.damage import JUNK, check_message, cut


class Net(nn.Module):
    """A body with a batch norm, and a head of two logits named fc."""

    def __init__(self, classes=2):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, classes)


def state(seed=0, classes=2):
    torch.manual_seed(seed)
    return Net(classes).state_dict()


STATE, OTHER = state(), state(1)


def prefixed(prefix, weights=STATE):
    return {prefix + name: value for name, value in weights.items()}


def read(content, own=STATE):
    return fit_weights(content, own, "fc", "net", "x.pth")


def assert_same(weights, expected=STATE):
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(weights[name], value), name


# ----------------------------------------------------------------------------- forms

FORMS = {
    "plain": STATE,
    "state_dict": {"state_dict": STATE, "epoch": 3},
    "model": {"model": STATE, "optimizer": {"state": {0: {"exp_avg": torch.zeros(4)}}}},
    "model_state_dict": {"model_state_dict": STATE, "loss": 0.5},
    "net": {"net": STATE, "acc": 91.2},
    "ema": {"ema": {"module": STATE}},
    "params_ema": {"params_ema": STATE},
    "unknown wrapper": {"my weights": {"inner": STATE}},
    "list": [STATE, {"lr": 0.1}],
    "module.": prefixed("module."),
    "model.": prefixed("model."),
    "_orig_mod.": prefixed("_orig_mod."),
    "backbone.": prefixed("backbone."),
    "module.model.": {"state_dict": prefixed("module.model.")},
    "model._orig_mod.": {"model": prefixed("model._orig_mod.")},
    "encoder.trunk.": {"state_dict": prefixed("encoder.trunk.")},
    "body and head apart": {
        "backbone." + name if name[:2] != "fc" else "head." + name: value
        for name, value in STATE.items()
    },
    "counters of operations": prefixed("module.") | {"total_ops": torch.zeros(1)},
    "auxiliary head": STATE | {"AuxLogits.conv0.conv.weight": torch.zeros(3)},
    "a number beside": prefixed("module.") | {"step": 3},
    "older torch": {name: value for name, value in STATE.items() if "num_batches" not in name},
    "sparse": {"state_dict": STATE | {"fc.weight": STATE["fc.weight"].to_sparse()}},
    "the same twice": {"model": STATE, "best": prefixed("module.")},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_weights(form, tmp_path, capsys):
    torch.save(FORMS[form], tmp_path / "x.pth")
    weights = read(open_checkpoint(str(tmp_path / "x.pth")))
    expected = dict(STATE)
    if form == "older torch":
        del expected["bn.num_batches_tracked"]
    assert_same(weights, expected)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "pytorch_model.bin"])
def test_safetensors_under_any_name(tmp_path, prefix, name):
    save_file(prefixed(prefix), tmp_path / name)
    assert_same(read(open_checkpoint(str(tmp_path / name))))


def test_torch_s_older_file_format(tmp_path):
    torch.save(prefixed("module."), tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    assert_same(read(open_checkpoint(str(tmp_path / "x.pt"))))


@pytest.mark.parametrize("names", [("state_dict", "state_dict_ema"), ("model", "model_swa")])
def test_averaged_weights_beside_plain_ones_are_named(names, capsys):
    plain, averaged = names
    assert_same(read({averaged: OTHER, plain: STATE}))
    assert capsys.readouterr().out == f"x.pth: the weights of {plain} are used, not {averaged}\n"


def test_entries_of_other_modules_are_counted(capsys):
    assert_same(read(prefixed("model.") | {"loss.weight": torch.ones(2), "sigma": torch.ones(1)}))
    line = "x.pth: 2 entries outside model. left out: loss.weight, sigma\n"
    assert capsys.readouterr().out == line


def test_half_precision_is_taken():
    weights = read(
        {
            name: value.half() if value.is_floating_point() else value
            for name, value in STATE.items()
        }
    )
    torch.testing.assert_close(weights["fc.weight"].float(), STATE["fc.weight"], atol=1e-3, rtol=0)


def prune_half(network, names):
    for name in names:
        prune.l1_unstructured(getattr(network, name), "weight", amount=0.5)
    return network


@pytest.mark.parametrize("prefix", ["", "module.", "net.model."])
@pytest.mark.parametrize("names", [["conv"], ["fc"], ["conv", "fc"]])
def test_pruned_weights_are_folded(names, prefix, capsys, monkeypatch):
    """As torch.nn.utils.prune.remove does."""
    monkeypatch.setattr(records, "NOTES", [])
    torch.manual_seed(0)
    network = prune_half(Net(), names)
    content = {"state_dict": prefixed(prefix, network.state_dict())}
    for name in names:
        prune.remove(getattr(network, name), "weight")
    weights = read(content)
    assert_same(weights, network.state_dict())
    assert 0.4 < (weights[f"{names[0]}.weight"] == 0).float().mean() < 0.6
    line = f"x.pth: {len(names)} pruned weights are taken as weight_orig * weight_mask\n"
    assert capsys.readouterr().out == line


@pytest.mark.parametrize(
    "content", [state(0, 7), {k: v for k, v in STATE.items() if k[:2] != "fc"}]
)
def test_a_head_may_be_of_other_classes_or_missing(content):
    weights = read(content)
    assert torch.equal(weights["conv.weight"], STATE["conv.weight"])
    assert "fc.weight" not in weights or len(weights["fc.weight"]) == 7


# ----------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "content, words",
    [
        ({"a": STATE, "b": OTHER}, ["several networks that fit", '"a", "b"']),
        (prefixed("student.") | prefixed("teacher.", OTHER), ['"student.", "teacher."']),
        ([STATE, OTHER], ["several networks", '"0", "1"']),
        ({"conv.weight": STATE["conv.weight"]}, ["does not fit net", "it has no conv.bias, bn."]),
        ({"weight": torch.zeros(3)}, ["does not fit net", "it has weight", "conv.weight"]),
        ({"classifier": {"x": 3}}, ["does not fit net", "it has classifier"]),
        ({}, ["does not fit net", "it has nothing"]),
        (STATE | {"layer9.weight": torch.ones(1)}, ["also has layer9.weight, which net has not"]),
        (
            prefixed("m.") | {"m.norm.mean": torch.ones(3)},
            ["also has m.norm.mean, which net has not"],
        ),
        (STATE | {"conv.weight": torch.zeros(4, 3, 5, 5)}, ["(4, 3, 5, 5) there, (4, 3, 3, 3)"]),
        (STATE | {"conv.bias": torch.zeros(4, dtype=torch.int8)}, ["conv.bias holds int8"]),
    ],
)
def test_what_does_not_fit_says_why(content, words):
    with pytest.raises(InputError) as refusal:
        read(content)
    check_message(str(refusal.value), "x.pth", *words)


def quantise(name):
    return {name: torch.quantize_per_tensor(STATE[name], 0.1, 0, torch.qint8)}


CONV = {"conv.weight": STATE["conv.weight"]}


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: STATE | quantise("conv.weight"), "conv.weight is qint8"),
        (lambda: STATE | {"fc.weight": STATE["fc.weight"].to(torch.int8)}, "fc.weight is int8"),
        (lambda: prefixed("m.", STATE | {"conv.weight": torch.ones(4, 3).byte()}), "t is uint8"),
        (lambda: CONV | {"conv.zero_point": torch.tensor(0)}, "conv.zero_point is int64"),
        (lambda: STATE | {"fc.SCB": torch.ones(2)}, "fc.SCB is float32"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*quantize")
def test_quantised_weights_are_called_that(make, words):
    with pytest.raises(InputError) as refusal:
        read({"model": make()})
    check_message(
        str(refusal.value), "x.pth", "quantised network", words, "before it was quantised"
    )
    assert "--ARCH" not in str(refusal.value)


def test_complex_weights_are_called_that():
    with pytest.raises(InputError) as refusal:
        read(STATE | {"fc.weight": STATE["fc.weight"].to(torch.complex64)})
    check_message(str(refusal.value), "x.pth", "complex numbers", "fc.weight is complex64")
    assert "--ARCH" not in str(refusal.value)


@pytest.mark.parametrize(
    "wrap, words",
    [
        (torch.nn.utils.parametrizations.weight_norm, "torch.nn.utils.parametrize"),
        (torch.nn.utils.parametrizations.spectral_norm, "torch.nn.utils.parametrize"),
        (torch.nn.utils.spectral_norm, "torch.nn.utils.spectral_norm"),
        (torch.nn.utils.weight_norm, "torch.nn.utils.weight_norm"),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_are_computed_from_others_are_called_that(wrap, words):
    network = Net()
    wrap(network.conv)
    with pytest.raises(InputError) as refusal:
        read(prefixed("module.", network.state_dict()))
    check_message(str(refusal.value), "x.pth", "in place of conv.weight", words, "give that")


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("conv.weight", float("nan"), "1 values of conv.weight are not finite"),
        ("fc.bias", float("inf"), "1 values of fc.bias are not finite"),
        ("bn.running_mean", float("-inf"), "1 values of bn.running_mean are not finite"),
        ("bn.running_var", -1.0, "bn.running_var holds a variance below 0"),
        ("bn.running_var", float("nan"), "1 values of bn.running_var are not finite"),
        ("conv.weight", 1e300, "1 values of conv.weight are not finite"),  # in float32
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_that_are_not_finite(name, value, words, prefix):
    damaged = STATE[name].double() if value == 1e300 else STATE[name].clone()
    damaged.view(-1)[0] = value
    with pytest.raises(InputError) as refusal:
        read(prefixed(prefix, STATE | {name: damaged}))
    check_message(str(refusal.value), "x.pth", words)


def save_torchscript(path):
    module = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))
    torch.jit.save(module, str(path))


UNSAFE = {
    "numpy scalar": ({"state_dict": STATE, "best": np.float64(0.9)}, "scalar"),
    "numpy array": ({"state_dict": STATE, "mean": np.zeros(3)}, "_reconstruct"),
    "whole network": (Net(), "test_checkpoints.Net"),
    "namespace": ({"model": STATE, "args": argparse.Namespace(lr=0.1)}, "argparse.Namespace"),
    "path": ({"model": STATE, "out": pathlib.PurePosixPath("x")}, "PurePosixPath"),
}


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("kind", UNSAFE)
def test_what_only_unpickling_would_load_is_named(tmp_path, kind, older):
    content, name = UNSAFE[kind]
    path = tmp_path / "x.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not older)
    with pytest.raises(InputError) as refusal:
        open_checkpoint(str(path))
    check_message(str(refusal.value), str(path), name, "Save network.state_dict() alone")
    assert "damaged" not in str(refusal.value) and "delete" not in str(refusal.value)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>403", 'is text that begins with "<!DOCTYPE html>'),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", '"version https://git-lfs'),
        (json.dumps({"error": "quota"}).encode(), 'begins with "{"error"'),
    ],
)
def test_files_that_are_something_else(tmp_path, content, words):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        open_checkpoint(str(path))
    check_message(str(refusal.value), str(path), words, "give another file")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "is an HDF5 file, as of Keras, no checkpoint"),
        (b"\x08\x07\x12\x07pytorch" + bytes(90), "is an ONNX file, it seems"),
        (b"\x1f\x8b\x08" + bytes(90), "is a compressed archive"),
        (b"GGUF\x03" + bytes(90), "is GGUF"),
        (b"\xff\xd8\xff\xe0" + bytes(90), "is an image"),
    ],
)
def test_files_of_other_programs_are_called_that(tmp_path, content, words):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        open_checkpoint(str(path))
    check_message(str(refusal.value), f"{path} {words}", "give what torch.save wrote")


def test_a_zip_archive_and_a_folder(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(InputError, match="x.npz is a zip archive, .* unpack it"):
        open_checkpoint(str(tmp_path / "x.npz"))
    with pytest.raises(InputError, match="it is a folder, which holds x.npz.; give another file"):
        open_checkpoint(str(tmp_path))


def test_weights_without_values():
    with pytest.raises(InputError, match="x.pth holds no values for conv.weight, only its shape"):
        read({"state_dict": STATE | {"conv.weight": STATE["conv.weight"].to("meta")}})


@pytest.mark.parametrize("damage", [cut, JUNK])
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_damaged_files(tmp_path, damage, save):
    path = tmp_path / "x.pth"
    save(STATE, path)
    damage(path)
    with pytest.raises(InputError) as refusal:
        open_checkpoint(str(path))
    check_message(str(refusal.value), str(path), "is cut short, damaged or holds no weights")
    assert "delete" not in str(refusal.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_a_folder_and_a_tensor(tmp_path):
    save_torchscript(tmp_path / "x.pt")
    with pytest.raises(InputError, match="is a TorchScript archive, not weights; save network"):
        open_checkpoint(str(tmp_path / "x.pt"))
    with pytest.raises(InputError, match="cannot be read .*; give another file"):
        open_checkpoint(str(tmp_path))
    torch.save(torch.zeros(3), tmp_path / "y.pth")
    with pytest.raises(InputError, match="holds no weights .a Tensor, no dict."):
        read_checkpoint(str(tmp_path / "y.pth"))


@pytest.mark.parametrize(
    "content, names",
    [
        ({"classes": ("Cat", "dog")}, ["cat", "dog"]),
        ({"class_names": ["a", "b"]}, ["a", "b"]),
        ({"class_to_idx": {"male": 1, "female": 0}}, ["female", "male"]),
        ({"label2id": {"male": 0, "female": 1}}, ["male", "female"]),
        ({"idx_to_class": {1: "dog", 0: "Cat"}}, ["cat", "dog"]),
        ({"id2label": {"10": "c", "2": "b", "0": "a"}}, ["a", "b", "c"]),
        ({"hparams": {"lr": 0.1, "class_to_idx": {"b": 0, "a": 1}}}, ["b", "a"]),
        ({"classes": [], "hparams": {}}, None),
        ({"classes": 2}, None),
        ({"classes": [0, 1]}, None),
        ({"state_dict": STATE}, None),
        ([STATE], None),
    ],
)
def test_names_of_classes_in_the_order_of_the_logits(content, names):
    assert class_names(content) == names
