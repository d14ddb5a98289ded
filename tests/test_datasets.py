"""The registry of data sets, by one conformance test that every member passes; and the script."""

import dataclasses
import gzip
import hashlib
import os
import struct
import subprocess

from common import records, settings
from common.settings import InputError

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import datasets
from readers.faces import GROUPS
from tests.damage import check_message, check_stopped, cut

WHOLE = (0.0, 0.0, 1.0, 1.0)
SIZE = 32


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


# ----------------------------------------------------------------------------- conformance
# Every image of these sets has one colour, and its first channel tells its label: CODE * label,
# plus a number below CODE. Colours survive decoding, so labels can be checked against images.

CODE = 20


def draw_plain(path, label, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (CODE * label + number % CODE, number // CODE, 100)
    Image.new("RGB", (10, 12), colour).save(path)


def write_celeba(root):
    rows = []
    for number in range(36):
        split, male = ("train", "val", "test")[number % 3], number // 3 % 2
        draw_plain(root / "celeba" / split / f"{number}.png", male, number)
        rows.append((f"{number}.png", 2 * male - 1))
    table = pd.DataFrame(rows, columns=["image_id", "Male"])
    table.to_csv(root / "celeba" / "list_attr_celeba.csv", index=False)


def write_faces(root):
    write_celeba(root)
    for part, first in (("train", 100), ("val", 200)):
        rows = []
        for number in range(first, first + 24):
            race, gender = GROUPS[number % 4]
            draw_plain(root / "fairface" / part / f"{number}.png", int(gender == "Male"), number)
            rows.append((f"{part}/{number}.png", "30-39", gender, race))
        table = pd.DataFrame(rows, columns=["file", "age", "gender", "race"])
        table.to_csv(root / "fairface" / f"fairface_label_{part}.csv", index=False)


def write_mnist(root, name="mnist"):
    """In each part 30 digits of one grey each; number 9 copies number 0, 19 copies 10, ..."""
    (root / name).mkdir()
    for part, first in (("train", 10), ("t10k", 0)):
        labels = np.arange(30, dtype=np.uint8) // 10
        greys = CODE * labels + first + np.arange(30, dtype=np.uint8) % 9
        pixels = np.broadcast_to(greys[:, None, None], (30, 28, 28))
        with gzip.open(root / name / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(struct.pack(">4i", 0x803, *pixels.shape) + pixels.tobytes())
        with open(root / name / f"{part}-labels-idx1-ubyte", "wb") as file:
            file.write(struct.pack(">2i", 0x801, len(labels)) + labels.tobytes())


def write_folder(root):
    """Two parts, so that val/ is halved; its number 9 copies number 0."""
    for label, name in enumerate(("ant", "bee", "cat")):
        for number in range(10):
            draw_plain(root / "train" / name / f"{number}.png", label, 200 + number)
            draw_plain(root / "val" / name / f"{number}.png", label, number % 9)


WRITERS = {  # task -> function(folder) that writes the smallest such data set
    "faces": write_faces,
    "celeba": write_celeba,
    "mnist": write_mnist,
    "fmnist": lambda root: write_mnist(root, "fmnist"),
    "cifar10": lambda root: write_folder(root / "cifar10"),
    "folder": write_folder,
}


def load(task, root, purpose):
    return datasets.load(task, root, purpose, SIZE, WHOLE, WHOLE)


def contents(data):
    return {hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in data.images}


def interrupt_at(monkeypatch, count):
    """Make the `count`-th image that is resized raise KeyboardInterrupt."""
    resize, calls = Image.Image.resize, []

    def interrupted(image, *arguments):
        calls.append(image)
        if len(calls) >= count:
            raise KeyboardInterrupt
        return resize(image, *arguments)

    monkeypatch.setattr(Image.Image, "resize", interrupted)


@pytest.mark.parametrize("task", WRITERS)
def test_every_data_set_keeps_the_promises(task, tmp_path, cache, monkeypatch):
    root = tmp_path / "data"
    root.mkdir()
    WRITERS[task](root)
    names = datasets.class_names(task, root)
    purposes = datasets.purposes(task, root)
    assert {"train", "values", "report"} <= set(purposes)
    sets = {purpose: load(task, root, purpose) for purpose in purposes}
    for data in sets.values():
        n = len(data.label)
        assert data.images.dtype == torch.uint8 and data.images.shape == (n, 3, SIZE, SIZE)
        assert data.label.dtype == data.group.dtype == torch.int64
        assert data.label.shape == data.group.shape == (n,)
        assert (data.images[..., :1, :1] == data.images).all()
        assert torch.equal(data.images[:, 0, 0, 0].long() // CODE, data.label)
        assert 2 <= len(data.label.unique()) <= len(names)
    for first in purposes:
        for second in purposes:
            assert first == second or contents(sets[first]).isdisjoint(contents(sets[second]))
    for purpose, data in sets.items():
        assert datasets.digest(load(task, root, purpose)) == datasets.digest(data)

    whole_cache = {file.name: file.read_bytes() for file in cache.glob("*")}
    monkeypatch.setattr(settings, "CACHE_DIR", str(tmp_path / "other cache"))
    for purpose, data in sets.items():
        present = set((tmp_path / "other cache").glob("*"))
        with monkeypatch.context() as patch:
            interrupt_at(patch, len(data.label) // 2)
            with pytest.raises(KeyboardInterrupt):
                load(task, root, purpose)
        assert set((tmp_path / "other cache").glob("*")) == present  # no half of a cache
        assert datasets.digest(load(task, root, purpose)) == datasets.digest(data)
    again = {file.name: file.read_bytes() for file in (tmp_path / "other cache").glob("*")}
    assert again == whole_cache


def test_every_data_set_is_tested():
    assert WRITERS.keys() | {"digits"} == datasets.LOADERS.keys()  # which are in no files
    assert datasets.LOADERS.keys() | datasets.TABLES.keys() == set(datasets.settings.TASKS)


# ----------------------------------------------------------------------------- functions


def test_purposes_of_a_folder_without_training_images(tmp_path):
    for name in ("ant", "bee"):
        for number in range(2):
            draw_plain(tmp_path / name / f"{number}.png", 0, number)
    assert datasets.purposes("folder", tmp_path) == ("values", "report")


def test_faces_are_trained_on_celeba_and_measured_on_fairface(tmp_path):
    write_faces(tmp_path)
    assert (load("faces", tmp_path, "train").group == -1).all()
    for purpose in ("values", "choose", "report"):
        data = load("faces", tmp_path, purpose)
        assert data.group.unique().tolist() == [0, 1, 2, 3]
        assert torch.equal(data.label, 1 - data.group % 2)
    split = {"train": 0, "values": 1, "report": 2}
    for purpose, remainder in split.items():
        data = load("celeba", tmp_path, purpose)
        numbers = data.images[:, 0, 0, 0] % CODE + CODE * data.images[:, 1, 0, 0]
        assert (numbers % 3 == remainder).all()


@pytest.mark.parametrize("frame", ["celeba_frame", "fairface_frame"])
def test_each_set_of_faces_has_its_own_frame(toy, frame):
    frames = {"celeba_frame": WHOLE, "fairface_frame": WHOLE, frame: (0.2, 0.2, 0.8, 0.8)}
    for purpose in ("train", "values"):
        framed = datasets.load("faces", toy, purpose, SIZE, **frames)
        whole = load("faces", toy, purpose)
        other = purpose == "train" if frame == "celeba_frame" else purpose == "values"
        assert torch.equal(framed.images, whole.images) != other


def test_digest_depends_on_all_that_a_set_holds(tmp_path):
    """But not on weights, which follow from a network: records are of the images alone."""
    write_faces(tmp_path)
    data = load("faces", tmp_path, "values")
    tensors = (data.images.contiguous(), data.label, data.group)
    whole = b"".join(tensor.numpy().tobytes() for tensor in tensors)
    assert datasets.digest(data) == hashlib.sha256(whole).hexdigest()[:16]
    weighted = data._replace(weight=torch.arange(len(data.label)).float())
    assert datasets.digest(weighted) == datasets.digest(data)
    digests = {datasets.digest(data)}
    for name in ("images", "label", "group"):
        changed = getattr(data, name).clone()
        changed[-1] += 1
        digests.add(datasets.digest(data._replace(**{name: changed})))
    assert len(digests) == 4


def test_normalise():
    pixels = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    normalised = datasets.normalise(pixels, "cpu")
    means, deviations = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for channel, (mean, deviation) in enumerate(zip(means, deviations)):
        expected = (pixels[:, channel].numpy() / 255 - mean) / deviation
        np.testing.assert_allclose(normalised[:, channel].numpy(), expected, atol=1e-6)
    assert normalised.dtype == torch.float32
    assert normalised.is_contiguous(memory_format=torch.channels_last)


# ----------------------------------------------------------------------------- drawing


def draw_few(root, seed):
    root = os.path.join(root, "celeba")
    os.makedirs(root)
    with open(os.path.join(root, "seed"), "w") as file:
        file.write(str(seed))


def patch_drawing(monkeypatch, draw):
    data_set = dataclasses.replace(datasets.LOADERS["faces"], draw=draw)
    monkeypatch.setitem(datasets.LOADERS, "faces", data_set)


def test_drawn_sets_are_named_as_such(tmp_path, monkeypatch):
    patch_drawing(monkeypatch, draw_few)
    datasets.draw_into(str(tmp_path / "toy") + "/", "faces", 3)
    assert (tmp_path / "toy/celeba/seed").read_text() == "3"
    note = (tmp_path / "toy/DRAWN.txt").read_text()
    assert note.count("\n") == 1 and "rawn portraits" in note and "SEED=3" in note
    names = datasets.set_names(tmp_path / "toy")
    assert names["fairface"] == "balanced drawn portraits"
    assert names["celeba"] == "unbalanced drawn portraits"
    assert datasets.set_names(tmp_path) == {"fairface": "FairFace", "celeba": "CelebA"}


def test_interrupted_drawing_leaves_no_folder(tmp_path, monkeypatch):
    def draw_half(root, seed):
        draw_few(root, seed)
        raise KeyboardInterrupt

    patch_drawing(monkeypatch, draw_half)
    with pytest.raises(KeyboardInterrupt):
        datasets.draw_into(str(tmp_path / "toy"), "faces", 0)
    assert not list(tmp_path.iterdir())


def test_drawn_signs_can_be_read(tmp_path, monkeypatch):
    """The note beside the images is no class and no part."""

    def draw(root, seed):
        datasets.write_signs(root, seed, train=2, val=1, test=1)

    data_set = dataclasses.replace(datasets.LOADERS["folder"], draw=draw)
    monkeypatch.setitem(datasets.LOADERS, "folder", data_set)
    datasets.draw_into(str(tmp_path / "signs"), "folder", 0)
    assert len(datasets.class_names("folder", tmp_path / "signs")) == 10
    assert load("folder", tmp_path / "signs", "train").label.bincount().tolist() == [2] * 10


# ----------------------------------------------------------------------------- script


def test_command_prints_counts(run, tmp_path):
    result = run("datasets.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "black women" in result.stdout and "every label has its image" in result.stdout
    rows = {tuple(line.split()[:2]): line.split() for line in result.stdout.splitlines()}
    assert rows["fairface", "choose"][2:] == ["-", "-", "12", "12", "12", "12"]
    assert len(list((tmp_path / ".cache").iterdir())) == 6  # all is decoded


def test_command_names_the_classes_of_a_folder(run, tmp_path):
    for label, name in enumerate(("hot dog", "cat")):
        for number in range(4):
            draw_plain(tmp_path / "data/train" / name / f"{number}.png", label, 200 + number)
            draw_plain(tmp_path / "data/val" / name / f"{number}.png", label, number)
    draw_plain(tmp_path / "data/train/cat/5.png", 0, 300)
    result = run("datasets.py", "--TASK=folder", f"--DATA_DIR={tmp_path / 'data'}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "train: 9 images of 2 classes: cat 5, hot dog 4" in result.stdout
    assert "report: 4 images of 2 classes: cat 2, hot dog 2" in result.stdout


def test_command_says_what_it_took_and_what_not(run, tmp_path):
    for label, name in enumerate(("cat", "dog")):
        for number in range(4):
            draw_plain(tmp_path / "data/Testing" / name / f"{number}.png", label, number)
            draw_plain(tmp_path / "data/Training" / name / f"{number}.png", label, 200 + number)
    (tmp_path / "data/Testing/cat/0.png").rename(tmp_path / "data/Testing/cat/0.JFIF")
    (tmp_path / "data/Testing/cat/1.png").rename(tmp_path / "data/Testing/cat/1.heic")
    draw_plain(tmp_path / "data/Training/.ipynb_checkpoints/0-checkpoint.png", 0, 0)
    Image.new("LA", (8, 8), (100, 50)).save(tmp_path / "data/Training/dog/9.png")
    arguments = ("--TASK=folder", f"--DATA_DIR={tmp_path / 'data'}", "--CACHE_DIR=decoded")
    for _ in range(2):  # the second reads the cache
        result = run("datasets.py", *arguments, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        lines = result.stdout.splitlines()
        assert "data: reads Testing/ as test/, Training/ as train/" in result.stdout
        assert "Testing: left out 1 of other kinds (.heic 1)" in result.stdout
        assert "Training: left out 1 hidden or system files and folders" in result.stdout
        assert "folder-train: of 9 images, 1 partly transparent, laid on white" in lines
        assert "train: 9 images of 2 classes: cat 4, dog 5" in lines
        halves = [line for line in lines if line.startswith(("values: ", "report: "))]
        assert sum(int(line.split()[1]) for line in halves) == 7 and len(lines) == 8
    assert not (tmp_path / ".cache").exists()
    assert len(list((tmp_path / "decoded").iterdir())) == 4  # three sets, and corrections of one


@pytest.mark.parametrize("copies", [0, 1, 3, 4])
def test_copies_in_two_parts_are_counted_or_refused(tmp_path, capsys, monkeypatch, copies):
    """Byte by byte they differ: one is a BMP."""
    monkeypatch.setattr(records, "NOTES", [])
    for label, name in enumerate(("cat", "dog")):
        for number in range(4):
            draw_plain(tmp_path / f"data/val/{name}/{number}.png", label, number)
            shift = 0 if number < copies else 100
            draw_plain(tmp_path / f"data/test/{name}/{number}.bmp", label, number + shift)
    arguments = ("folder", tmp_path / "data", SIZE, WHOLE, WHOLE)
    if copies == 4:
        with pytest.raises(InputError, match="all images for the report are copies of images for"):
            datasets.check_classes(*arguments)
        return
    datasets.check_classes(*arguments)
    line = f"{2 * copies} of the 8 different images for the report are copies of images for the va"
    assert (line in capsys.readouterr().out) == (copies > 0) == (len(records.NOTES) == 1)


def test_digits_for_training_that_are_those_of_the_test(tmp_path):
    """MNIST's train files made of the t10k files."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    labels = np.tile(np.arange(10, dtype=np.uint8), 4)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            header = np.array([0x800 + array.ndim, *array.shape], ">i4").tobytes()
            (folder / f"{part}-{name}-ubyte").write_bytes(header + array.tobytes())
    with pytest.raises(InputError) as refusal:
        datasets.check_classes("mnist", tmp_path, 32, WHOLE, WHOLE)
    check_message(str(refusal.value), "all images for the values are copies of images for training")


def test_lines_about_many_classes_are_wrapped(tmp_path, capsys):
    for number in range(2):
        for name in "abcdefghijklmnopqrst":
            draw_plain(tmp_path / f"data/class {name}" / f"{number}.png", 0, number)
    datasets.check_classes("folder", tmp_path / "data", SIZE, WHOLE, WHOLE)
    lines = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if "copies" not in line]  # of an image in another class
    assert len(lines) > 2 and max(map(len, lines)) <= 100
    assert sum(line.count(" 1") for line in lines) == 40
    assert all(line.endswith((" 1", " 1,")) for line in lines)


def test_command_draws_into_a_new_folder_only(run, tmp_path, toy):
    result = run("datasets.py", f"--DRAW={toy}", cwd=tmp_path)
    assert result.returncode == 2 and str(toy) in result.stderr


def test_command_draws_what_it_can(run, tmp_path):
    result = run("datasets.py", "--TASK=mnist", "--DRAW=toy", cwd=tmp_path)
    check_stopped(result.returncode, result.stderr, "--DRAW=toy", "--TASK=faces", "--TASK=folder")
    assert not (tmp_path / "toy").exists()


def test_damaged_image_for_the_real_script(run, tmp_path):
    write_faces(tmp_path / "data")
    cut(tmp_path / "data/celeba/val/1.png")
    result = run("datasets.py", f"--DATA_DIR={tmp_path / 'data'}", cwd=tmp_path)
    check_stopped(result.returncode, result.stderr, "1.png")


def test_full_disk_for_decoded_images(run, toy, tmp_path):
    (tmp_path / ".cache").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", ".cache"]
    if subprocess.run(mount, capture_output=True, cwd=tmp_path).returncode:
        pytest.skip("needs root, to mount a tiny disk")
    try:
        result = run("datasets.py", "--IMAGE_SIZE=100", cwd=tmp_path)
    finally:
        subprocess.run(["umount", ".cache"], check=True, cwd=tmp_path)
    check_stopped(result.returncode, result.stderr, ".cache")
    check_message(result.stderr.splitlines()[-1], "free some space")
