"""Folders of images: parts, halves, and folders that do not fit."""

from common.settings import InputError

import pytest
from PIL import Image

from readers import images
from readers.folders import folder, folder_classes, folder_parts, halve


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "CACHE_DIR", str(tmp_path / "cache"))


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
        (["test", "dog"], {"values": "", "report": ""}),  # test/ is a class here
    ],
)
def test_parts(tmp_path, names, parts):
    for name in names:
        (tmp_path / name).mkdir()
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


@pytest.mark.parametrize(
    "files, words",
    [
        ([], ["folder of images for each class"]),
        (["a.png"], ["folder of images for each class"]),
        (["cat/1.png", "cat/2.png"], ["only one class, cat"]),
        (["cat/1.png", "cat/2.png", "dog/1.txt"], ["dog"]),
        (["cat/1.png", "cat/2.png", "dog/1.png"], ["dog: one image"]),
        (["val/cat/1.png", "val/dog/1.png", "test/cat/1.png", "test/cow/1.png"], ["cow"]),
        (["train/cat/1.png", "train/dog/1.png"], ["val/"]),
    ],
)
def test_bad_folders(files, words, tmp_path):
    for name in files:
        if name.endswith("png"):
            draw_plain(tmp_path / name)
        else:
            (tmp_path / name).parent.mkdir(parents=True)
    with pytest.raises(InputError) as error:
        folder(tmp_path, "report", 8)
    assert all(word in str(error.value) for word in [str(tmp_path), *words])


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(InputError, match="nowhere: No such file"):
        folder_classes(tmp_path / "nowhere")
