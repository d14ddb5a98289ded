"""What lies in folders, what is taken and left out, and what a data set must have."""

import os

from common import records
from common.settings import InputError

import pandas as pd
import pytest

from readers.files import (
    HIDDEN,
    MASKS,
    describe,
    find_splits,
    list_contents,
    list_images,
    list_tree,
    require_folder,
    require_images,
)
from readers.pixels import IMAGE_ENDINGS
from tests.damage import check_message


@pytest.fixture(autouse=True)
def notes(monkeypatch):
    monkeypatch.setattr(records, "NOTES", [])
    return records.NOTES


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


# ----------------------------------------------------------------------------- listing


def test_images_of_a_folder(tmp_path, notes):
    touch(tmp_path, "a.jpg", "b.JPEG", "c.png", "d.txt", "e.jpg.part", "f.JFIF", "g.TIF", "h", "i")
    assert list_images(tmp_path) == ["a.jpg", "b.JPEG", "c.png", "f.JFIF", "g.TIF"]
    assert notes == [f"{tmp_path}: left out 4 of other kinds (.part 1, .txt 1, no ending 2)"]
    assert list_images(tmp_path / "nowhere") == []


def test_a_clean_folder_is_not_spoken_of(tmp_path, notes):
    touch(tmp_path, "a.jpg", "DRAWN.txt")
    assert list_images(tmp_path) == ["a.jpg"] and notes == []


@pytest.mark.parametrize(
    "image, mask",
    [
        ("x.jpg", "x_mask.png"),
        ("x.jpg", "x-Mask.jpg"),
        ("a_1.png", "a_1_seg.png"),
        ("ISIC_01.jpg", "ISIC_01_superpixels.png"),
        ("b (1).png", "b (1) mask.png"),
        ("x.y.jpg", "x.y.gt.png"),
    ],
)
def test_masks_beside_their_images_are_left_out(tmp_path, image, mask):
    touch(tmp_path, f"cat/{image}", f"cat/{mask}", "cat/deep/z_mask.png", "cat/other_mask_1.png")
    paths, left_out = list_tree(str(tmp_path / "cat"))
    names = sorted(["deep/z_mask.png", "other_mask_1.png", image])  # masks of no image there
    assert [os.path.relpath(path, tmp_path / "cat") for path in paths] == names
    assert left_out == {MASKS: 1} and "1 of other kinds (masks of images" in describe(left_out)


LITTER = [
    *(".DS_Store", "._a.jpg", ".a.jpg", ".git/a.jpg", ".ipynb_checkpoints/a-checkpoint.jpg"),
    *(".thumbnails/a.png", ".Trash-1000/a.jpg", "__MACOSX/._a.jpg", "__macosx/a.jpg", "Thumbs.db"),
    *("thumbs.db", "Desktop.ini", "desktop.ini", "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "Icon\r"),
    *("$RECYCLE.BIN/a.jpg", "System Volume Information/a.jpg", "lost+found/a.jpg"),
    *("__pycache__/a.png", "#recycle/a.jpg", "ehthumbs.db"),
]


@pytest.mark.parametrize("name", LITTER)
def test_litter_is_skipped_and_counted(tmp_path, name):
    touch(tmp_path, "b.jpg", "deep/c.jpg", name, f"deep/{name}")
    contents = list_contents(tmp_path)
    assert (contents.images, contents.folders) == (["b.jpg"], ["deep"])
    assert contents.left_out == {HIDDEN: 1}
    paths, left_out = list_tree(str(tmp_path))
    assert paths == [f"{tmp_path}/b.jpg", f"{tmp_path}/deep/c.jpg"] and left_out == {HIDDEN: 2}
    assert describe(left_out) == "2 hidden or system files and folders"


@pytest.mark.parametrize("ending", [*IMAGE_ENDINGS, ".JPG", ".Jfif", ".TIFF", ".WebP"])
def test_endings_that_are_read(tmp_path, ending):
    touch(tmp_path, f"a{ending}")
    assert list_images(tmp_path) == [f"a{ending}"]


@pytest.mark.parametrize("name", ["a.heic", "a.svg", "a.npy", "a.xml", "a.jpg~", "a.CR2", "a.zip"])
def test_endings_that_are_not_read_are_named(tmp_path, notes, name):
    touch(tmp_path, name)
    assert list_images(tmp_path) == []
    ending = name.lower().removeprefix("a")
    assert notes == [f"{tmp_path}: left out 1 of other kinds ({ending} 1)"]


def test_what_is_no_file_is_no_image(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    contents = list_contents(tmp_path)
    assert contents == ([], ["folder.jpg"], {".jpg": 1})


@pytest.mark.parametrize("name", ["a.jpg", "cat", "notes.txt"])
def test_links_that_lead_nowhere(tmp_path, name):
    (tmp_path / name).symlink_to("/no/where")
    with pytest.raises(InputError) as error:
        list_images(tmp_path)
    check_message(str(error.value), f"{tmp_path}/{name} is a link to /no/where, which does not")


def test_links_to_themselves_and_of_whole_data_sets(tmp_path):
    (tmp_path / "celeba").symlink_to("/no/where")
    with pytest.raises(InputError, match="celeba is a link to /no/where, which does not"):
        require_folder(tmp_path, "celeba", "", "")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.jpg").symlink_to("a.jpg")
    with pytest.raises(InputError, match="cat/a.jpg is a link to a.jpg, which does not exist; put"):
        list_images(tmp_path / "cat")


def test_links_that_lead_somewhere_are_followed(tmp_path):
    touch(tmp_path, "store/1.jpg", "store/deep/2.jpg")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.jpg").symlink_to(tmp_path / "store/1.jpg")
    (tmp_path / "cat/deep").symlink_to(tmp_path / "store/deep")
    folder = str(tmp_path / "cat")
    assert list_tree(folder)[0] == [f"{folder}/a.jpg", f"{folder}/deep/2.jpg"]
    (tmp_path / "store/deep/back").symlink_to(tmp_path / "cat")
    with pytest.raises(InputError, match="deep/back is a link to .*/cat, listed already"):
        list_tree(folder)


# ----------------------------------------------------------------------------- parts of the data


@pytest.mark.parametrize(
    "names, splits",
    [
        (["train", "val", "test"], {"train": "train", "val": "val", "test": "test"}),
        (["Training", "Testing"], {"train": "Training", "test": "Testing"}),
        (["TRAIN", "VALID", "TEST"], {"train": "TRAIN", "val": "VALID", "test": "TEST"}),
        (["training", "validation"], {"train": "training", "val": "validation"}),
        (["train_set", "dev-set", "test set"], ["train_set", "dev-set", "test set"]),
        (["TrainSet", "ValSet", "TestSet"], ["TrainSet", "ValSet", "TestSet"]),
        (["trainset", "testset"], {"train": "trainset", "test": "testset"}),
        (["Train Images", "Test Images"], {"train": "Train Images", "test": "Test Images"}),
        (["train2017", "val2017"], {"train": "train2017", "val": "val2017"}),
        (["1_train", "2_val", "3_test"], ["1_train", "2_val", "3_test"]),
        (["seg_train", "seg_test", "seg_pred"], {"train": "seg_train", "test": "seg_test"}),
        (["chest-train", "chest-val"], {"train": "chest-train", "val": "chest-val"}),
        (["training", "validation", "evaluation"], ["training", "validation", "evaluation"]),
        (["train", "eval"], {"train": "train", "test": "eval"}),
        (["train", "eval", "test"], {"train": "train", "val": "eval", "test": "test"}),
        (["train", "cat", "docs"], {"train": "train"}),
        (["cat", "dog"], {}),
        (["bullet train", "test tube"], {}),
        (["trains", "contest", "latest", "valley", "device"], {}),
        (["trainer", "training shoe", "testudo"], {}),
    ],
)
def test_names_of_parts(names, splits, notes):
    if isinstance(splits, list):
        splits = dict(zip(("train", "val", "test"), splits))
    assert find_splits("data", names) == splits
    renamed = {split: name for split, name in splits.items() if split != name}
    assert len(notes) == bool(renamed)
    assert all(f"{name}/ as {split}/" in notes[0] for split, name in renamed.items())


@pytest.mark.parametrize(
    "names, words",
    [
        (["train", "Training"], ["Training and train", "train set"]),
        (["val", "valid", "train"], ["val and valid", "val set"]),
        (["test1", "test2"], ["test1 and test2", "test set"]),
        (["val", "test", "eval"], ["eval and val", "val set"]),
        (["cat_train", "cat_test", "dog_train", "dog_test"], ["cat_train", "both a class and"]),
        (["train-cat", "val-cat", "train-dog", "val-dog"], ["train-cat", "both a class and"]),
    ],
)
def test_names_of_parts_that_are_refused(names, words):
    with pytest.raises(InputError) as error:
        find_splits("data", names)
    check_message(str(error.value), "data: ", *words)


# ----------------------------------------------------------------------------- requirements


def test_a_missing_folder_says_what_to_do(tmp_path):
    with pytest.raises(InputError) as error:
        require_folder(tmp_path, "faces", "faces/", "faces: python draw.py")
    check_message(str(error.value), str(tmp_path / "faces"), "python draw.py --DRAW=toy")
    (tmp_path / "faces").mkdir()
    assert require_folder(tmp_path, "faces", "", "") == str(tmp_path / "faces")


def test_a_missing_folder_is_told_beside_what_is_there(tmp_path):
    touch(tmp_path, "train-images-idx3-ubyte", "pictures/a.jpg")
    with pytest.raises(InputError, match="mnist: no such folder; .* holds pictures, train-images-"):
        require_folder(tmp_path, "mnist", "", "")


@pytest.mark.parametrize("name", ["CelebA", "CELEBA", "celeba"])
def test_folders_are_known_in_any_case(tmp_path, name):
    (tmp_path / name).mkdir()
    assert require_folder(tmp_path, "celeba", "", "") == str(tmp_path / name)
    with pytest.raises(InputError, match=f"fairface: no such folder; .* holds {name}; DATA_DIR"):
        require_folder(tmp_path, "fairface", "", "")


def test_every_row_needs_its_image(notes):
    names = pd.Series(["a", "b", "c"])
    require_images("labels.csv", names, {"a", "b", "c"}, "folder")
    assert notes == []
    require_images("labels.csv", names, {"a", "b", "c", "d", "e"}, "folder")
    assert notes == ["labels.csv: has no row for 2 images, which are left out (d, e)"]
    with pytest.raises(
        InputError,
        match="2 of 3 rows have no image in folder, the first 'b'; .* 1 images, such as a;",
    ):
        require_images("labels.csv", names, {"a"}, "folder")
    with pytest.raises(InputError, match="two rows for b; keep one"):
        require_images("labels.csv", pd.Series(["a", "b", "b"]), {"a", "b"}, "folder")


@pytest.mark.parametrize("name", ["val/3.jfif", "val/3.JPG", "3.jpg", "train/3.jpg"])
def test_a_missing_image_is_told_beside_one_of_a_similar_name(name):
    present = ["val/1.jpg", "val/2.jpg", name]
    with pytest.raises(InputError, match=f"the first 'val/3.jpg'; .* 3 images, such as {name};"):
        require_images("labels.csv", pd.Series(["val/1.jpg", "val/3.jpg"]), present, "folder")
