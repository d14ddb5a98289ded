"""Checkpoints and records that are damaged, hostile, of another run, or cannot be written."""

import io
import json
import pickle
import resource
import shutil

from common import records

import numpy as np
import pytest
import torch

import model
from tests.damage import JUNK, cut, remove, write


class Hostile:
    """Unpickled, it creates a file."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def dump(kind, value):
    file = io.BytesIO()
    if kind == "pickle":
        pickle.dump(value, file)
    elif kind == "torch":
        torch.save(value, file)
    elif kind == "npz":
        np.savez(file, run=value, values=value)
    else:
        np.save(file, np.array(value))
    return file.getvalue()


def flip(path):
    """Flip the bits of one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def folder(path):
    """Put a folder in the place of a file."""
    remove(path)
    path.mkdir()


DAMAGE = {
    "cut": cut,
    "flipped": flip,
    "junk": JUNK,
    "empty": write(b""),
    "text": write(b"not a record\n"),
    "{}": write(b"{}"),
    "[]": write(b"[]"),
    "npy": write(dump("npy", 0)),
    "other npz": write(dump("npz", 0)),
    "tensor": write(dump("torch", torch.zeros(3))),
    "other dict": write(dump("torch", {1: "a"})),
    "folder": folder,
}
DAMAGED = {  # script, file -> damages
    ("mab.py", "squeezenet.pth"): "cut,junk,empty,text,tensor,other dict,folder",
    ("mab.py", "cur_records/mab.npz"): "cut,flipped,junk,empty,text,npy,other npz,folder",
    ("eval.py", "cur_records/mab.npz"): "cut,flipped,junk,empty,text,npy,other npz,folder",
    ("mab.py", "cur_records/mab.json"): "cut,junk,empty,{},[]",
    ("eval.py", "cur_records/rivals.npz"): "cut,npy,other npz",
    ("eval.py", "cur_records/finetune.pth"): "cut,tensor,other dict",
    ("rivals.py", "cur_records/mab.json"): "cut",
    ("rivals.py", "squeezenet.pth"): "cut",
    ("finetune.py", "squeezenet.pth"): "cut",
    ("eval.py", "squeezenet.pth"): "cut",
}
DAMAGED_CASES = [(*where, kind) for where, kinds in DAMAGED.items() for kind in kinds.split(",")]


@pytest.mark.parametrize("name, path, damage", DAMAGED_CASES)
def test_damaged_file(done, stops, name, path, damage):
    DAMAGE[damage](done / path)
    stops(name, cwd=done, words=[path])


@pytest.mark.parametrize(
    "name, path, kinds",
    [
        ("mab.py", "squeezenet.pth", ["pickle", "torch"]),
        ("train_squeeze.py", "weights.pth", ["pickle", "torch"]),
        ("train_squeeze.py", "cur_records/train_state.pth", ["pickle", "torch"]),
        ("mab.py", "cur_records/mab.npz", ["pickle", "npy", "npz"]),
        ("eval.py", "cur_records/mab.npz", ["npz"]),
    ],
)
def test_hostile_pickle_is_not_run(done, stops, tmp_path, name, path, kinds):
    weights = ["--WEIGHTS=weights.pth"] * (path == "weights.pth")
    for kind in kinds:
        (done / path).write_bytes(dump(kind, Hostile(tmp_path / "marker")))
        stops(name, *weights, cwd=done, words=[path])
        assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["mab.py", "eval.py"])
@pytest.mark.parametrize(
    "now, there",
    [("ARCH=squeezenet1_0", "ARCH=squeezenet1_1"), ("IMAGE_SIZE=48", "IMAGE_SIZE=32")],
)
def test_checkpoint_of_another_run(done, stops, name, now, there):
    stops(name, f"--{now}", cwd=done, words=["squeezenet.pth", there, f"--{there}"])


TENSOR = {"weight": torch.zeros(3)}


@pytest.mark.parametrize("state", [TENSOR, {"state_dict": TENSOR}, {"a": [1]}])
def test_weights_of_another_network(ready, stops, state):
    torch.save(state, ready / "other.pth")
    words = ["other.pth", "squeezenet1_1"]
    stops("train_squeeze.py", "--WEIGHTS=other.pth", cwd=ready, words=words)


@pytest.mark.parametrize(
    "now, there",
    [
        ("SEED=1", 0),
        ("TOP_K=7", 100),
        ("WHICH=highest", "lowest"),
        ("REMOVAL=zero", "mean"),
        ("IMAGES_PER_ROUND=8", 16),
        ("TRUNCATION=0.6", 0.0),
        ("BOUND=clt", "asymptotic"),
        ("CLIP=0.25", 0.0),
        ("BY_MARGIN=True", False),
        ("SAMPLER=paper", "guided"),
        ("SINGLES=7", 96),
        ("MEASURE=auc", "soft_accuracy"),
        ("DEEPEST=0.5", 0.25),
        ("DELTA=0.1", 0.05),
        ("EPS=0.01", 0.0001),
        ("LOOK_EVERY=3", 12),
        ("FAIRFACE_FRAME=0.0,0.0,0.5,0.5", [0.0, 0.0, 1.0, 1.0]),
    ],
)
def test_values_go_on_with_another_constant(done, stops, now, there):
    name, _, value = now.partition("=")
    words = ["mab.npz", f"{name}={there}", value.replace(",", ", "), "--RECORDS_DIR"]
    stops("mab.py", f"--{now}", "--MAX_ROUNDS=4", cwd=done, words=words)


def test_values_of_an_older_version(done, stops):
    path = done / "cur_records/mab.npz"
    arrays = dict(np.load(path))
    run = json.loads(str(arrays["run"]))
    del run["DEEPEST"]
    np.savez(path, **arrays | {"run": json.dumps(run)})
    words = ["mab.npz", "older", "DEEPEST", "--RECORDS_DIR"]
    stops("mab.py", "--MAX_ROUNDS=4", cwd=done, words=words)


def test_training_goes_on_with_another_constant(ready, script, stops, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model, "pack_checkpoint", interrupt)
        assert script("train_squeeze.py", "--EPOCHS=1", cwd=ready)[0] == 130
    frame = "CELEBA_FRAME=0.0,0.0,1.0,1.0"
    for now in ("SEED=1", "EPOCHS=3", "BATCH_SIZE=32", "LEARNING_RATE=0.1", frame):
        name, _, value = now.partition("=")
        words = ["train_state.pth", f"{name}=", value.replace(",", ", "), "--RECORDS_DIR"]
        stops("train_squeeze.py", "--EPOCHS=1", f"--{now}", cwd=ready, words=words)


def test_network_retrained_after_the_values(done, stops):
    network = model.load(done / "squeezenet.pth", ARCH="squeezenet1_1")
    network.classifier[1].bias.data += 1e-3
    checkpoint = model.pack_checkpoint(network, ARCH="squeezenet1_1", IMAGE_SIZE=32)
    torch.save(checkpoint, done / "squeezenet.pth")
    stops("mab.py", cwd=done, words=["mab.npz", "network", "--RECORDS_DIR"])
    for name in ("rivals.py", "eval.py"):
        stops(name, cwd=done, words=["cur_records", "network", "--RECORDS_DIR"])


def test_rivals_and_fine_tuning_of_another_network(done, stops):
    path = done / "cur_records/rivals.npz"
    arrays = dict(np.load(path))
    run = json.loads(str(arrays.pop("run")))
    changes = {"network": "x", "images": "x", "MEASURE": "auc", "REMOVAL": "zero", "MAX_REMOVED": 1}
    for name, value in changes.items():
        records.save({str(path): {"run": json.dumps(run | {name: value}), **arrays}})
        stops("eval.py", cwd=done, words=["rivals.npz", name])
    remove(path)
    other = {"network": run["network"], "images": "x"}
    records.save({str(done / "cur_records/finetune.pth"): other})
    stops("eval.py", cwd=done, words=["finetune.pth", "images"])


def test_stages_of_another_run(done, stops, script):
    """Stages go on as more stages of the same kind only, and nothing else goes on with them."""
    stops("mab.py", "--STAGES=2", cwd=done, words=["ROUNDS_A_STAGE"])
    remove(done / "cur_records")
    assert script("mab.py", "--STAGES=2", "--MAX_ROUNDS=1", cwd=done)[0] == 0
    stops("mab.py", "--MAX_ROUNDS=1", cwd=done, words=["ROUNDS_A_STAGE"])
    stops("mab.py", "--STAGES=3", "--MAX_ROUNDS=2", cwd=done, words=["ROUNDS_A_STAGE"])
    assert script("mab.py", "--STAGES=3", "--MAX_ROUNDS=1", cwd=done)[0] == 0
    stops("mab.py", "--STAGES=2", "--MAX_ROUNDS=1", cwd=done, words=["STAGES=2", "3"])


def test_others_of_the_same_name(done, stops):
    for name in ("a/x", "b/x"):
        (done / name).mkdir(parents=True)
        shutil.copy(done / "cur_records/mab.npz", done / name)
    stops("eval.py", "--OTHERS=a/x,b/x", cwd=done, words=["OTHERS", "different"])


@pytest.mark.parametrize(
    "name, argument, size",  # bytes a file may have
    [
        ("train_squeeze.py", "--EPOCHS=1", 1_000),
        ("mab.py", "--MAX_ROUNDS=4", 1_000),
        ("eval.py", "--MAX_REMOVED=2", 1_000),
        ("mab.py", "--MAX_ROUNDS=4", 300_000),  # here and below: some records fit, not all
        ("eval.py", "--MAX_REMOVED=2", 20_000),
    ],
)
def test_full_disk(done, stops, name, argument, size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # writes beyond the limit fail, which needs no root
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        stops(name, argument, cwd=done, words=["cur_records"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("path", ["squeezenet.pth/x", "/proc/x"])
def test_records_folder_that_cannot_be_written(ready, stops, path):
    words = [path, "RECORDS_DIR"]
    stops("train_squeeze.py", "--EPOCHS=1", f"--RECORDS_DIR={path}", cwd=ready, words=words)
