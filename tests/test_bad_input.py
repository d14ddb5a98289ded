"""Bad input: exit status 2, one line that names the file or constant and the remedy, and records left as they were."""

import io
import json
import pickle
import re
import resource
import runpy
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, TINY
from PIL import Image
from tqdm import tqdm

import datasets
import model
import records
import settings

REMEDY = re.compile(r"\b(add|be|choose|delete|download|draw|free|give|hold|keep|lists|look|move|needs?|put|replace|run|"
                    r"set|take|unpack)\b", re.IGNORECASE)
BAR = re.compile(r"\d+%\|.*\]\s*$|\d+ \w+ \[.*\]\s*$")  # a whole line by tqdm
HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ResourceWarning)
FULL = (0.0, 0.0, 1.0, 1.0)
ATTRIBUTES, LABELS = "celeba/list_attr_celeba.csv", "fairface/fairface_label_val.csv"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts}


def check_message(message, *words):
    assert not re.search(r"\n|\d%\||Traceback", message), message
    assert [word for word in words if word not in message] == [], message
    assert REMEDY.search(message), message


def check_stopped(status, stderr, *words):
    lines = [line for line in re.split("[\r\n]+", stderr) if line.strip() and not BAR.search(line)]
    assert status == 2 and len(lines) == 1, stderr
    check_message(lines[0], *words)


@pytest.fixture
def script(toy, monkeypatch, capsys, recwarn):
    """script("mab.py", "--SEED=1", cwd=folder) -> (status, stderr): as `run`, in this process: no 5 s to start."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def script(name, *arguments, cwd):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", [name, f"--DATA_DIR={toy}", *TINY[name], *arguments])
        capsys.readouterr(), recwarn.clear(), tqdm._instances.clear()
        status = 0
        try:
            runpy.run_path(str(REPOSITORY / name), run_name="__main__")
        except SystemExit as stop:
            status = stop.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        # Warnings would be on stderr too, did pytest not collect them.
        shown = [f"\n{warning.message}" for warning in recwarn.list if not issubclass(warning.category, HIDDEN)]
        return status, capsys.readouterr().err + "".join(shown)

    return script


@pytest.fixture
def stops(script):
    """stops("mab.py", "--SEED=x", cwd=folder, words=["SEED"]) checks all that this file promises."""
    def stops(name, *arguments, cwd, words):
        before = contents(cwd)
        check_stopped(*script(name, *arguments, cwd=cwd), *words)
        assert {str(path) for path, content in contents(cwd).items() if before.pop(path, None) != content} == set()
        assert not before

    return stops


@pytest.fixture
def done(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "done")


@pytest.fixture
def ready(done):
    """Trained, but with no values yet."""
    shutil.rmtree(done / "cur_records")
    return done


# ----------------------------------------------------------------------------- data folders


def draw(path, mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The smallest good data folder: 2 images a split of CelebA, 3 a group of FairFace."""
    monkeypatch.chdir(tmp_path)
    celeba = {f"{split}{male}.jpg": split for split in ("train", "val", "test") for male in (-1, 1)}
    for name, split in celeba.items():
        draw(tmp_path / "data/celeba" / split / name)
    rows = [f"val/{index}.jpg,20-29,{gender},{race}\n" for index, (race, gender) in enumerate(datasets.GROUPS * 3)]
    for row in rows:
        draw(tmp_path / "data/fairface" / row.split(",")[0])
    (tmp_path / "data" / ATTRIBUTES).write_text("image_id,Male\n" + "".join(
        f"{name},{name.removeprefix(split)[:-4]}\n" for name, split in celeba.items()))
    (tmp_path / "data" / LABELS).write_text("file,age,gender,race\n" + "".join(rows))
    return tmp_path / "data"


def load(data):
    for split in ("train", "val", "test"):
        datasets.celeba(data, split, 16, FULL)
    for purpose in ("values", "choose", "report"):
        datasets.fairface(data, purpose, 16, FULL)


def edit(old, new):
    return lambda path: path.write_text(re.sub(old, new, path.read_text()))


def write(content):
    return lambda path: path.write_bytes(content)


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


JUNK = write(np.random.default_rng(0).bytes(3000))


@pytest.mark.parametrize("path, damage, words", [
    ("celeba", remove, ["data/celeba"]),
    ("fairface", remove, ["data/fairface"]),
    ("celeba", lambda path: (remove(path), path.mkdir()), ["data/celeba", "list_attr_celeba"]),
    ("fairface", lambda path: (remove(path), path.mkdir()), [LABELS]),
    (ATTRIBUTES, remove, ["data/celeba", "list_attr_celeba"]),
    (LABELS, remove, [LABELS]),
    *((path, damage, [path]) for path in (ATTRIBUTES, LABELS) for damage in (
        cut, JUNK, write(b""), write(b"\0" * 100), write(b'a,b\n"c'), edit(r"(\n.*)(\n)", r"\1\1\2"))),
    (ATTRIBUTES, edit("(?s)\n.*", "\n"), ["data/celeba", "train"]),
    (LABELS, edit("(?s)\n.*", "\n"), [LABELS]),
    (ATTRIBUTES, edit("image_id", "name"), [ATTRIBUTES, "image_id"]),
    (ATTRIBUTES, edit("Male", "Smiling"), [ATTRIBUTES, "Male"]),
    *((ATTRIBUTES, edit(",1", value), [ATTRIBUTES, "Male"]) for value in (",0", ",2", ",yes", ",")),
    *((LABELS, edit(name, "other"), [LABELS, name]) for name in ("file", "age", "gender", "race")),
    (LABELS, edit("val/0.jpg", ""), [LABELS]),
    ("celeba/val/val1.jpg", remove, [ATTRIBUTES, "val1.jpg"]),
    ("fairface/val/3.jpg", remove, [LABELS, "val/3.jpg"]),
    ("celeba/test", remove, [ATTRIBUTES, "test-1.jpg"]),
    ("celeba/train/train1.jpg", cut, ["train1.jpg"]),
    ("celeba/train/train1.jpg", JUNK, ["train1.jpg"]),
    ("fairface/val/5.jpg", write(b""), ["val/5.jpg"]),
    (ATTRIBUTES, edit("val-1.jpg,-1", "val-1.jpg,1"), ["celeba", "val"]),
    (ATTRIBUTES, edit("(val|test).*\n", ""), ["celeba", "val"]),
    (LABELS, edit("Female,Black", "Female,White"), [LABELS, "black women"]),
    (LABELS, edit("20-29,Male,Black", "3-9,Male,Black"), [LABELS, "black men"]),
])
def test_data_folder(data, path, damage, words):
    load(data)
    damage(data / path)
    with pytest.raises(settings.Stop) as stop:
        load(data)
    message = " ".join(str(stop.value).split())  # as settings.run shows it
    check_message(message.replace(str(data.parent), ""), *words)  # pytest names this folder after the case
    assert not list(data.parent.rglob("*.tmp*"))


@pytest.mark.parametrize("name, mode, options", [
    ("0.jpg", "L", {}), ("0.jpg", "CMYK", {}), ("0.png", "P", {}),
    ("0.png", "LA", {}), ("0.png", "1", {})])
def test_other_colour_modes_are_read_as_rgb(data, recwarn, name, mode, options):
    remove(data / "fairface/val/0.jpg")
    draw(data / "fairface/val" / name, mode, **options)
    edit("val/0.jpg", f"val/{name}")(data / LABELS)
    load(data)
    assert datasets.read_image(data / "fairface/val" / name, 16, FULL).shape == (16, 16, 3) and not recwarn.list


@pytest.mark.parametrize("name", ["train_squeeze.py", "mab.py", "eval.py"])
def test_no_data(done, stops, name):
    stops(name, "--DATA_DIR=nowhere", cwd=done, words=["nowhere"])


def test_damaged_image_for_the_real_script(run, data, tmp_path):
    cut(data / "celeba/val/val1.jpg")
    result = run("datasets.py", f"--DATA_DIR={data}", cwd=tmp_path)
    check_stopped(result.returncode, result.stderr, "val1.jpg")


# ----------------------------------------------------------------------------- constants

WRONG = {
    "train_squeeze.py": "IMAGE_SIZE=0 IMAGE_SIZE=-5 IMAGE_SIZE=8 EPOCHS=0 BATCH_SIZE=0 LEARNING_RATE=-1 SEED=-1 "
                        "ARCH=resnet WEIGHTS=nowhere.pth CELEBA_FRAME=1,1,0,0 FAIRFACE_FRAME=0,0,2,2 "
                        "FAIRFACE_FRAME=0,0,nan,1 DEVICE=x",
    "mab.py": "NO_SUCH=1 SEED=abc SEED=0.5 SEED=-1 DEVICE=x DEVICE=cuda:99 DEVICE=meta ARCH=resnet REMOVAL=x BOUND=x MEASURE=x "
              "WHICH=x TOP_K=0 TOP_K=99999 IMAGES_PER_ROUND=13 IMAGES_PER_ROUND=0 IMAGES_PER_ROUND=-4 "
              "IMAGES_PER_ROUND=4000 MAX_ROUNDS=0 STAGES=0 LOOK_EVERY=0 SAMPLER=x SINGLES=1 DEEPEST=0 DEEPEST=2 "
              "DELTA=2 DELTA=nan EPS=-1 TRUNCATION=nan "
              "FAIRFACE_FRAME=1,1,0,0 FAIRFACE_FRAME=0,0,2,2 FAIRFACE_FRAME=0,1 IMAGE_SIZE=0",
    "rivals.py": "MAX_REMOVED=0 MAX_REMOVED=9999 CANDIDATES=0 RIVALS=x SEED=-1 ARCH=resnet DEVICE=x",
    "finetune.py": "EPOCHS=0 BATCH_SIZE=0 LEARNING_RATE=0 HEAD_LEARNING_RATE=-1 ARCH=resnet DEVICE=x",
    "eval.py": "MAX_REMOVED=-1 RANDOM_ORDERS=-1 SEED=-1 ARCH=resnet DEVICE=x CELEBA_FRAME=0,0,0,1 OTHERS=nowhere OPEN_REPORT=x"}


@pytest.mark.parametrize("name, case", [(name, case) for name in WRONG for case in WRONG[name].split()])
def test_constant(done, stops, name, case):
    if name == "mab.py":  # else it may stop because the saved state has another value
        remove(done / "cur_records")
    stops(name, f"--{case}", cwd=done, words=[case.partition("=")[0]])


@pytest.mark.parametrize("argument", ["SEED", "SEED=1", "--SEED", "-SEED=1", "--seed=1"])
def test_argument(ready, stops, argument):
    stops("mab.py", argument, cwd=ready, words=[argument.partition("=")[0], "--help"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["train_squeeze.py", "mab.py", "eval.py"])
def test_cuda_without_gpu(done, stops, name):
    stops(name, "--DEVICE=cuda", cwd=done, words=["DEVICE=cuda", "--DEVICE=cpu"])


def test_no_random_orders(done, script):
    assert script("eval.py", "--RANDOM_ORDERS=0", cwd=done)[0] == 0
    methods = [row["row"] for row in json.loads((done / "cur_records/eval.json").read_text())["table"]]
    assert "shapley" in methods and "random" not in methods


def test_constant_for_the_real_script(run, ready):
    result = run("mab.py", "--BOUND=x", cwd=ready)
    check_stopped(result.returncode, result.stderr, "BOUND", "bernstein")


# ----------------------------------------------------------------------------- checkpoints and records


class Hostile:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def dumped(kind, thing):
    file = io.BytesIO()
    {"pickle": lambda: pickle.dump(thing, file), "torch": lambda: torch.save(thing, file),
     "npz": lambda: np.savez(file, run=thing, values=thing), "npy": lambda: np.save(file, np.array(thing))}[kind]()
    return file.getvalue()


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


DAMAGE = {"cut": cut, "flipped": flip, "junk": JUNK, "empty": write(b""), "text": write(b"not a record\n"),
          "{}": write(b"{}"), "[]": write(b"[]"), "npy": write(dumped("npy", 0)), "other npz": write(dumped("npz", 0)),
          "tensor": write(dumped("torch", torch.zeros(3))), "other dict": write(dumped("torch", {1: "a"})),
          "folder": lambda path: (remove(path), path.mkdir())}


@pytest.mark.parametrize("name, path, damage", [
    *(("mab.py", "squeezenet.pth", damage)
      for damage in ("cut", "junk", "empty", "text", "tensor", "other dict", "folder")),
    *((name, "cur_records/mab.npz", damage) for name in ("mab.py", "eval.py")
      for damage in ("cut", "flipped", "junk", "empty", "text", "npy", "other npz", "folder")),
    *(("mab.py", "cur_records/mab.json", damage) for damage in ("cut", "junk", "empty", "{}", "[]")),
    *(("eval.py", "cur_records/rivals.npz", damage) for damage in ("cut", "npy", "other npz")),
    *(("eval.py", "cur_records/finetune.pth", damage) for damage in ("cut", "tensor", "other dict")),
    ("rivals.py", "cur_records/mab.json", "cut"), ("rivals.py", "squeezenet.pth", "cut"), ("finetune.py", "squeezenet.pth", "cut"),
    ("eval.py", "squeezenet.pth", "cut")])
def test_damaged_file(done, stops, name, path, damage):
    DAMAGE[damage](done / path)
    stops(name, cwd=done, words=[path])


@pytest.mark.parametrize("name, path, kinds", [
    ("mab.py", "squeezenet.pth", ["pickle", "torch"]), ("train_squeeze.py", "weights.pth", ["pickle", "torch"]),
    ("train_squeeze.py", "cur_records/train_state.pth", ["pickle", "torch"]),
    ("mab.py", "cur_records/mab.npz", ["pickle", "npy", "npz"]), ("eval.py", "cur_records/mab.npz", ["npz"])])
def test_hostile_pickle_is_not_run(done, stops, tmp_path, name, path, kinds):
    for kind in kinds:
        (done / path).write_bytes(dumped(kind, Hostile(tmp_path / "marker")))
        stops(name, *["--WEIGHTS=weights.pth"] * (path == "weights.pth"), cwd=done, words=[path])
        assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["mab.py", "eval.py"])
@pytest.mark.parametrize("now, there", [("ARCH=squeezenet1_0", "ARCH=squeezenet1_1"),
                                        ("IMAGE_SIZE=48", "IMAGE_SIZE=32")])
def test_checkpoint_of_another_run(done, stops, name, now, there):
    stops(name, f"--{now}", cwd=done, words=["squeezenet.pth", there, f"--{there}"])


@pytest.mark.parametrize("state", [{"weight": torch.zeros(3)}, {"state_dict": {"weight": torch.zeros(3)}}, {"a": [1]}])
def test_weights_of_another_network(ready, stops, state):
    torch.save(state, ready / "other.pth")
    stops("train_squeeze.py", "--WEIGHTS=other.pth", cwd=ready, words=["other.pth", "squeezenet1_1"])


@pytest.mark.parametrize("now, there", [
    ("SEED=1", 0), ("TOP_K=7", 100), ("WHICH=highest", "lowest"), ("REMOVAL=zero", "mean"), ("IMAGES_PER_ROUND=8", 16),
    ("TRUNCATION=0.6", 0.53), ("BOUND=clt", "sequence"), ("SAMPLER=paper", "guided"), ("SINGLES=7", 96), ("MEASURE=auc", "accuracy"),
    ("DEEPEST=0.5", 0.25), ("DELTA=0.1", 0.05), ("EPS=0.01", 0.0001),
    ("FAIRFACE_FRAME=0.0,0.0,0.5,0.5", [0.0, 0.0, 1.0, 1.0])])
def test_values_go_on_with_another_constant(done, stops, now, there):
    name, _, value = now.partition("=")
    stops("mab.py", f"--{now}", "--MAX_ROUNDS=4", cwd=done,
          words=["mab.npz", f"{name}={there}", value.replace(",", ", "), "--RECORDS_DIR"])


def test_values_of_an_older_version(done, stops):
    path = done / "cur_records" / "mab.npz"
    arrays = dict(np.load(path))
    run = json.loads(str(arrays["run"]))
    del run["DEEPEST"]
    np.savez(path, **arrays | {"run": json.dumps(run)})
    stops("mab.py", "--MAX_ROUNDS=4", cwd=done, words=["mab.npz", "older", "DEEPEST", "--RECORDS_DIR"])


def test_training_goes_on_with_another_constant(ready, script, stops, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model, "checkpoint", interrupt)
        assert script("train_squeeze.py", "--EPOCHS=1", cwd=ready)[0] == 130
    for now in ("SEED=1", "EPOCHS=3", "BATCH_SIZE=32", "LEARNING_RATE=0.1", "CELEBA_FRAME=0.0,0.0,1.0,1.0"):
        stops("train_squeeze.py", "--EPOCHS=1", f"--{now}", cwd=ready, words=[
            "train_state.pth", now.partition("=")[0] + "=", now.partition("=")[2].replace(",", ", "), "--RECORDS_DIR"])


def test_steps_in_the_wrong_order(ready, stops, tmp_path):
    stops("mab.py", cwd=tmp_path, words=["squeezenet.pth", "train_squeeze.py"])
    stops("eval.py", cwd=ready, words=["mab.npz", "mab.py"])


def test_network_retrained_after_the_values(done, stops):
    network = model.load(done / "squeezenet.pth", ARCH="squeezenet1_1")
    network.classifier[1].bias.data += 1e-3
    torch.save(model.checkpoint(network, ARCH="squeezenet1_1", IMAGE_SIZE=32), done / "squeezenet.pth")
    for name in ("mab.py", "eval.py"):
        stops(name, cwd=done, words=["mab.npz", "network", "--RECORDS_DIR"])
    stops("rivals.py", cwd=done, words=["cur_records", "network", "--RECORDS_DIR"])


def test_rivals_and_fine_tuning_of_another_network(done, stops):
    path = done / "cur_records" / "rivals.npz"
    arrays = dict(np.load(path))
    run = json.loads(str(arrays.pop("run")))
    for name, other in (("network", "x"), ("images", "x"), ("MEASURE", "auc"), ("REMOVAL", "zero"), ("MAX_REMOVED", 1)):
        records.save({str(path): {"run": json.dumps(run | {name: other}), **arrays}})
        stops("eval.py", cwd=done, words=["rivals.npz", name])
    remove(path)
    records.save({str(done / "cur_records/finetune.pth"): {"network": run["network"], "images": "x"}})
    stops("eval.py", cwd=done, words=["finetune.pth", "images"])


def test_stages_of_another_run(done, stops, script):
    """Stages go on as more stages of the same kind only, and nothing that is not a stage goes on with them."""
    stops("mab.py", "--STAGES=2", cwd=done, words=["ROUNDS_A_STAGE"])
    remove(done / "cur_records")
    assert script("mab.py", "--STAGES=2", "--MAX_ROUNDS=1", cwd=done)[0] == 0
    stops("mab.py", "--MAX_ROUNDS=1", cwd=done, words=["ROUNDS_A_STAGE"])
    stops("mab.py", "--STAGES=3", "--MAX_ROUNDS=2", cwd=done, words=["ROUNDS_A_STAGE"])
    assert script("mab.py", "--STAGES=3", "--MAX_ROUNDS=1", cwd=done)[0] == 0
    stops("mab.py", "--STAGES=2", "--MAX_ROUNDS=1", cwd=done, words=["STAGES=2", "3"])


def test_others_of_the_same_name(done, stops):
    for folder in ("a/x", "b/x"):
        (done / folder).mkdir(parents=True)
        shutil.copy(done / "cur_records/mab.npz", done / folder)
    stops("eval.py", "--OTHERS=a/x,b/x", cwd=done, words=["OTHERS", "different"])


# ----------------------------------------------------------------------------- disks


@pytest.mark.parametrize("name, argument, size", [
    ("train_squeeze.py", "--EPOCHS=1", 1_000), ("mab.py", "--MAX_ROUNDS=4", 1_000),
    ("eval.py", "--MAX_REMOVED=2", 1_000),
    ("mab.py", "--MAX_ROUNDS=4", 300_000), ("eval.py", "--MAX_REMOVED=2", 20_000)])  # these: some records fit, not all
def test_full_disk(done, stops, name, argument, size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))  # writes beyond it fail; needs no root
    try:
        stops(name, argument, cwd=done, words=["cur_records"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk_for_decoded_images(run, data, tmp_path):
    (tmp_path / ".cache").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", ".cache"], capture_output=True).returncode:
        pytest.skip("needs root, to mount a tiny disk")  # a file size limit does not show it: the file is mapped
    try:
        result = run("datasets.py", f"--DATA_DIR={data}", "--IMAGE_SIZE=100", cwd=tmp_path)
    finally:
        subprocess.run(["umount", ".cache"], check=True, cwd=tmp_path)
    check_stopped(result.returncode, result.stderr, ".cache")


@pytest.mark.parametrize("folder", ["squeezenet.pth/x", "/proc/x"])
def test_records_folder_that_cannot_be_written(ready, stops, folder):
    stops("train_squeeze.py", "--EPOCHS=1", f"--RECORDS_DIR={folder}", cwd=ready, words=[folder, "RECORDS_DIR"])
