"""Folders of images: parts, halves, and folders that do not fit."""

import os
from pathlib import Path

from common import records, settings
from common.settings import InputError

import pytest
from PIL import Image

from readers.folders import folder, folder_classes, folder_parts, halve
from tests.damage import check_message


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(settings, "CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def notes(monkeypatch):
    monkeypatch.setattr(records, "NOTES", [])
    return records.NOTES


def draw_plain(path, colour=None):
    """An image of one colour; without one, of a colour that no image beside it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour or (len(list(path.parent.iterdir())), 0, 0)).save(path)


@pytest.mark.parametrize(
    "names, parts",
    [
        (["train", "val", "test"], {"train": "train", "values": "val", "report": "test"}),
        (["train", "val"], {"train": "train", "values": "val", "report": "val"}),
        (["train", "test"], {"train": "train", "values": "test", "report": "test"}),
        (["val", "test"], {"values": "val", "report": "test"}),
        (["val"], {"values": "val", "report": "val"}),
        (["cat", "dog"], {"values": "", "report": ""}),
    ],
)
def test_parts(tmp_path, names, parts):
    for name in names:
        (tmp_path / name / "cat").mkdir(parents=True)
    expected = {purpose: str(tmp_path / name) for purpose, name in parts.items()}
    assert folder_parts(str(tmp_path)) == expected


def test_parts_are_read_for_their_purpose(tmp_path):
    colours = {"train": 1, "val": 2, "test": 3}
    for part, red in colours.items():
        for green, name in enumerate(("cat", "dog")):
            draw_plain(tmp_path / part / name / "1.png", (red, green, 0))
    assert folder_classes(tmp_path) == ("cat", "dog")
    for purpose, red in (("train", 1), ("values", 2), ("report", 3)):
        data = folder(tmp_path, purpose, 8)
        assert data.images[:, 0, 0, 0].tolist() == [red, red]
        assert data.images[:, 1, 0, 0].tolist() == data.label.tolist() == [0, 1]


def test_a_folder_is_halved_by_what_its_files_hold(tmp_path):
    for index in range(7):  # of the cats, 0 and 6 are copies
        draw_plain(tmp_path / "data" / "cat" / f"{index}.png", (index % 6, 0, 0))
        draw_plain(tmp_path / "data" / "dog" / f"{index}.png", (index, 1, 0))
    halves = [folder(tmp_path / "data", purpose, 8) for purpose in ("values", "report")]
    colours = [{tuple(colour) for colour in half.images[:, :2, 0, 0].tolist()} for half in halves]
    assert colours[0].isdisjoint(colours[1]) and len(colours[0] | colours[1]) == 13
    counts = sorted(half.label.bincount().tolist() for half in halves)
    assert counts in ([[3, 3], [4, 4]], [[3, 4], [4, 3]])
    with pytest.raises(InputError, match="no folder train/"):
        folder(tmp_path / "data", "train", 8)


def test_halves_do_not_depend_on_names(tmp_path):
    for index in range(10):
        for name in ("cat", "dog"):
            draw_plain(tmp_path / "a" / name / f"{index}.png", (index, 0, name == "cat"))
            draw_plain(tmp_path / "b" / name / f"{9 - index}.png", (index, 0, name == "cat"))
    colours = []
    for name in "ab":
        half = folder(tmp_path / name, "report", 8)
        colours.append({tuple(colour) for colour in half.images[:, :, 0, 0].tolist()})
    assert colours[0] == colours[1]


def test_halves_of_a_class_differ_by_one_at_most():
    contents = [bytes([index]) for index in range(25)]
    labels = [0] * 10 + [1] * 15
    values, report = (halve(contents, labels, purpose) for purpose in ("values", "report"))
    assert sorted([*values, *report]) == list(range(25))
    assert (values < 10).sum() == 5 and (values >= 10).sum() == 8


def make(root, files):
    """Write images, and empty files of other endings; "cat -> dog" is a link."""
    for name in files:
        path, _, target = str(root / name).partition(" -> ")
        if target:
            os.symlink(target, path)
        elif path.endswith(".png"):
            draw_plain(Path(path))
        else:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).touch()


@pytest.mark.parametrize(
    "files, words",
    [
        ([], ["folder of images for each class"]),
        (["a.png"], ["folder of images for each class"]),
        (["cat/1.png", "cat/2.png"], ["only one class, cat"]),
        (["photos/cat/1.png", "photos/dog/2.png"], ["only one class", "is --DATA_DIR=", "/photos"]),
        (["cat/1.png", "cat/2.png", "dog/1.txt"], ["dog: no images", ".txt 1"]),
        (["cat/1.png", "dog/1.heic", "dog/2.heic"], ["dog: no images", ".heic 2"]),
        (["cat/1.png", "dog/.1.png"], ["dog: no images", "1 hidden"]),
        (["cat/1.png", "cat/2.png", "dog/1.png"], ["dog: one image"]),
        (["val/cat/1.png", "val/dog/1.png", "test/cat/1.png", "test/cow/1.png"], ["cow"]),
        (["train/cat/1.png", "train/dog/1.png"], ["val/"]),
        (["Training/cat/1.png", "Training/dog/1.png"], ["Training: no val/"]),
        (["cat/1.png", "dog/1.png", "test/1.png"], ["test: beside cat, dog", "test set", "/val"]),
        (["cat/1.png", "dog/1.png", "Train/1.png"], ["Train: beside cat, dog", "train set"]),
        (["bus/1.png", "Validation/1.png"], ["Validation: beside bus", "val set"]),
        (["train/1.png", "test/2.png"], ["no folder for each class"]),
        (["val/cat/1.png", "val/dog/1.png", "test/1.png"], ["test: ", "no folder for each class"]),
        (["cat/train/1.png", "dog/Test/1.png"], ["cat/train: ", "in a folder of a class"]),
        (["val/cat/1.png", "val/dog/deep/Testing/1.png"], ["dog/deep/Testing: "]),
        (
            ["a/cat/1.png", "a/dog/1.png", "b/cat/1.png", "b/dog/1.png"],
            ["a, b all hold", "cat, dog"],
        ),
        (
            ["fold1/x/1.png", "fold1/y/1.png", "fold2/x/1.png", "fold2/y/1.png", "z/1.png"],
            ["fold1, fold2 all hold the folders x, y"],
        ),
        (["cat_train/1.png", "cat_test/1.png", "dog_train/1.png", "dog_test/1.png"], ["cat_test"]),
        (["Cat/1.png", "cat/1.png", "dog/1.png"], ["'Cat' and 'cat' are one class"]),
        (["cat/1.png", "cat /1.png"], ["'cat' and 'cat ' are one class"]),
        (["caf\u00e9/1.png", "cafe\u0301/1.png"], ["are one class"]),
        (["images/1.png", "masks/1.png"], ["images/ beside masks cannot be a class"]),
        (["val/IMG/1.png", "val/labels/1.png"], ["IMG/ beside labels cannot be a class"]),
        (["cat/1.png", "Unlabeled/1.png"], ["Unlabeled/ beside cat cannot be a class"]),
        (["cat/1.png", "dog -> cat"], ["'cat' and 'dog' are one class"]),
        (["cat/1.png", "cat/loop -> .", "dog/1.png"], ["cat/loop is a link to"]),
        (
            ["cat/1.png", "cat/2.png -> /no/where.png", "dog/1.png"],
            ["2.png is a link to /no/where"],
        ),
    ],
)
def test_bad_folders(files, words, tmp_path):
    make(tmp_path, files)
    with pytest.raises(InputError) as error:
        folder(str(tmp_path), "report", 8)
    check_message(str(error.value), str(tmp_path), *words)


@pytest.mark.parametrize(
    "extra, words",
    [
        (["val/.ipynb_checkpoints/1.png", "val/cat/Thumbs.db"], "2 hidden or system"),
        (["__MACOSX/cat/1.png", "val/__MACOSX/._1.png"], "1 hidden or system"),
        (["val/cat/9.heic", "val/dog/9.heic", "val/dog/9.txt"], "3 of other kinds (.heic 2, .txt"),
        (["val/loose.png"], "1 of other kinds (images beside the classes 1)"),
        (["val/cat/thumbs/.1.png", "val/labels.csv"], "1 of other kinds (.csv 1) and 1 hidden"),
        (["unlabeled/1.png", "docs/a.txt"], "left out the folders beside val: docs, unlabeled"),
    ],
)
def test_what_is_left_out_is_said(tmp_path, notes, extra, words):
    files = [f"val/{name}/{number}.png" for name in ("cat", "dog") for number in range(4)]
    make(tmp_path, files)
    plain = folder(str(tmp_path), "values", 8)
    assert notes == []
    make(tmp_path, extra)
    assert folder_classes(str(tmp_path)) == ("cat", "dog")
    assert (folder(str(tmp_path), "values", 8).images == plain.images).all()
    assert len(notes) == 1 and words in notes[0] and notes[0].startswith(str(tmp_path))


def test_images_in_folders_within_classes_are_taken_and_said(tmp_path, notes):
    make(tmp_path, [f"{name}/{n}.png" for name in ("cat", "dog") for n in range(2)])
    make(tmp_path, ["cat/more/7.png", "cat/more/deep/8.png"])
    data = [folder(str(tmp_path), purpose, 8) for purpose in ("values", "report")]
    assert sum(half.label.bincount() for half in data).tolist() == [4, 2]
    assert notes == [f"{tmp_path}: some images are taken from folders within classes: cat 2"]


@pytest.mark.parametrize("ending", [".jfif", ".bmp", ".gif", ".webp", ".tif", ".PNG", ".avif"])
def test_classes_may_hold_images_of_several_formats(tmp_path, notes, ending):
    make(tmp_path, [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(6)])
    before = [folder(str(tmp_path), purpose, 8) for purpose in ("values", "report")]
    for number in range(3):
        path = tmp_path / "cat" / f"{number}.png"
        path.rename(path.with_suffix(ending))
    after = [folder(str(tmp_path), purpose, 8) for purpose in ("values", "report")]
    for old, new in zip(before, after):
        assert sorted(old.images.flatten(1).tolist()) == sorted(new.images.flatten(1).tolist())
    assert notes == []


def test_images_of_one_name_in_two_formats_are_said(tmp_path, notes):
    """Copies, or masks: nobody can tell."""
    make(tmp_path, [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(3)])
    for name in ("0.bmp", "2.bmp"):
        draw_plain(tmp_path / "cat" / name)
    data = [folder(str(tmp_path), purpose, 8) for purpose in ("values", "report")]
    assert sum(half.label.bincount() for half in data).tolist() == [5, 3]
    line = "2 images have others of their name beside them, in another format (0.*, 2.*): all are"
    assert notes == [f"{tmp_path}: {line} taken"]


@pytest.mark.parametrize(
    "parts",
    [[""], ["val/"], ["train/", "val/", "test/"], ["seg_train/seg_train/", "seg_val/seg_val/"]],
)
def test_each_folder_is_listed_once(tmp_path, monkeypatch, parts):
    files = [f"{part}{name}/{i}.png" for part in parts for name in ("cat", "dog") for i in "1234"]
    make(tmp_path, [*files, *(f"{part}cat/deep/1.png" for part in parts)])
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    for read in (lambda path: folder(path, "report", 8), folder_classes, folder_parts):
        listed.clear()
        read(str(tmp_path))
        assert len(listed) == len(set(listed)) > 0


@pytest.mark.parametrize(
    "names", [("Training", "Testing"), ("TRAIN", "VALID"), ("seg_train", "seg_test")]
)
def test_relatives_of_the_parts_names_are_no_classes(tmp_path, notes, names):
    for part, red in zip(names, (1, 2)):
        for green, name in enumerate(("cat", "dog")):
            for blue in range(2):
                draw_plain(tmp_path / part / name / f"{blue}.png", (red, green, blue))
    assert folder_classes(str(tmp_path)) == ("cat", "dog")
    for purpose, red in (("train", 1), ("values", 2), ("report", 2)):
        data = folder(str(tmp_path), purpose, 8)
        assert (data.images[:, 0] == red).all()
        assert (data.images[:, 1, 0, 0] == data.label).all()
    assert len(notes) == 1 and f"{names[0]}/ as train/" in notes[0]


def test_parts_within_folders_of_their_name(tmp_path, notes):
    """As the archive of Intel's scenes unpacks."""
    files = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(4)]
    make(tmp_path, [f"seg_train/seg_train/{file}" for file in files])
    make(tmp_path, [f"seg_test/seg_test/{file}" for file in files] + ["seg_pred/seg_pred/1.png"])
    assert folder_classes(str(tmp_path)) == ("cat", "dog")
    assert folder(str(tmp_path), "train", 8).label.bincount().tolist() == [4, 4]
    assert folder(str(tmp_path), "report", 8).label.bincount().tolist() == [2, 2]
    assert len(notes) == 4 and "left out the folders beside" in notes[3] and "seg_pred" in notes[3]


def test_a_class_may_be_named_as_a_part_within_a_part(tmp_path):
    make(tmp_path, [f"val/{name}/{number}.png" for name in ("bus", "train") for number in "12"])
    assert folder_classes(str(tmp_path)) == ("bus", "train")


def test_a_class_that_is_an_empty_folder(tmp_path):
    make(tmp_path, ["cat/1.png", "cat/2.png"])
    (tmp_path / "dog").mkdir()
    with pytest.raises(InputError, match="dog: no images for this class, the folder is empty; add"):
        folder_classes(str(tmp_path))


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(InputError, match="nowhere: No such file"):
        folder_classes(tmp_path / "nowhere")
