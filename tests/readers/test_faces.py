"""CelebA and FairFace: layouts, splits, and label files that do not fit."""

import os
import shutil

from common import records, settings
from common.settings import InputError

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from readers import faces
from readers.faces import GROUPS, celeba, celeba_table, fairface, fairface_table
from tests.conftest import REPOSITORY
from tests.damage import JUNK, check_message, cut, edit, empty, remove, write

WHOLE = (0.0, 0.0, 1.0, 1.0)
ATTRIBUTES, LABELS = "celeba/list_attr_celeba.csv", "fairface/fairface_label_val.csv"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "CACHE_DIR", str(tmp_path / "cache"))


# ----------------------------------------------------------------------------- layouts and splits


def copy_images(split_table, folder):
    folder.mkdir(parents=True)
    for path in split_table["path"]:
        shutil.copy(path, folder)


def write_kaggle(split_table, names, partition, folder):
    copy_images(split_table, folder / "img_align_celeba" / "img_align_celeba")
    attributes = pd.DataFrame({"image_id": names, "Male": 2 * split_table["male"] - 1})
    attributes.to_csv(folder / "list_attr_celeba.csv", index=False)
    partitions = pd.DataFrame({"image_id": names, "partition": partition})
    partitions.to_csv(folder / "list_eval_partition.csv", index=False)


def write_torchvision(split_table, names, partition, folder):
    copy_images(split_table, folder / "img_align_celeba")
    male = 2 * split_table["male"] - 1
    rows = [f"{name} {-1:2d} {value:2d}" for name, value in zip(names, male)]
    header = [str(len(rows)), "Young Male "]
    (folder / "list_attr_celeba.txt").write_text("\n".join([*header, *rows]) + "\n")
    rows = [f"{name} {part}\n" for name, part in zip(names, partition)]
    (folder / "list_eval_partition.txt").write_text("".join(rows))


@pytest.mark.parametrize("write_layout", [write_kaggle, write_torchvision])
def test_the_three_celeba_layouts_read_alike(toy, tmp_path, write_layout):
    split_table = celeba_table(toy)
    names = split_table["path"].map(os.path.basename)
    partition = split_table["split"].map(["train", "val", "test"].index)
    write_layout(split_table, names, partition, tmp_path / "celeba")
    table = celeba_table(tmp_path)
    table = table.assign(name=table["path"].map(os.path.basename))
    expected = split_table.assign(name=names).sort_values("name", ignore_index=True)
    columns = ["name", "split", "male"]
    pd.testing.assert_frame_equal(table[columns], expected[columns])
    assert table["path"].map(os.path.exists).all()


def test_celeba_labels_follow_the_attribute_file(toy):
    table = celeba_table(toy)
    labels = pd.read_csv(toy / ATTRIBUTES).set_index("image_id")["Male"]
    names = table["path"].map(os.path.basename)
    assert (table["male"].to_numpy() == (labels[names].to_numpy() == 1)).all()
    assert table["path"].str.split("/").str[-2].tolist() == table["split"].tolist()


def test_real_subset():
    """The real files, where the developers have them beside the repository."""
    real = REPOSITORY.parent / "shared" / "data"
    if not (real / "celeba").is_dir():
        pytest.skip("no real CelebA and FairFace at ../shared/data")
    sizes = celeba_table(real).groupby("split").size()
    assert sizes.to_dict() == {"test": 1000, "train": 8000, "val": 1000}
    sizes = fairface_table(real).groupby(["purpose", "group"]).size().unstack()
    assert sizes.loc[["values", "choose"]].to_numpy().tolist() == [[500] * 4] * 2
    assert sizes.loc["report"].tolist() == [390, 345, 252, 216]


def test_fairface_sets_are_disjoint_and_of_the_right_people(toy):
    table = fairface_table(toy)
    used = table[table["purpose"] != ""]
    assert used["path"].is_unique
    assert set(used["purpose"]) == {"values", "choose", "report"}
    assert (used.groupby(["purpose", "group"]).size() == 12).all()
    sources = used["path"].str.contains("/train/").groupby(used["purpose"]).mean()
    assert sources.to_dict() == {"values": 1, "choose": 1, "report": 0}
    parts = [toy / "fairface" / f"fairface_label_{part}.csv" for part in ("train", "val")]
    labels = pd.concat([pd.read_csv(path) for path in parts])
    ages = {"20-29", "30-39", "40-49", "50-59"}
    assert not labels["age"].isin(ages).all()  # there is something to drop
    files = [os.path.relpath(path, toy / "fairface") for path in table["path"]]
    labels = labels.set_index("file").loc[files]
    assert set(labels["age"]) == ages
    groups = [GROUPS[group] for group in table["group"]]
    assert groups == list(zip(labels["race"], labels["gender"]))
    assert ((labels["gender"] == "Male").to_numpy() == (table["male"] == 1)).all()


def test_fairface_is_cut_in_a_random_order_that_stays_the_same(toy):
    """The cut is a seeded shuffle: a cut in file order would follow how the files were numbered."""
    table = fairface_table(toy)
    table = table[table["path"].str.contains("/train/") & (table["group"] == 0)]
    purposes = table["purpose"].tolist()
    assert purposes != sorted(purposes) and purposes != sorted(purposes, reverse=True)
    rows = np.random.default_rng(0).permutation(24)
    expected = np.full(24, "values", dtype=object)
    expected[rows[12:]] = "choose"
    assert purposes == expected.tolist()


def test_fairface_without_train_labels_is_cut_in_three(toy, tmp_path, notes):
    shutil.copytree(toy / "fairface", tmp_path / "fairface")
    (tmp_path / "fairface" / "fairface_label_train.csv").unlink()
    table = fairface_table(tmp_path)
    used = table[table["purpose"] != ""]
    assert used["path"].is_unique and used["path"].str.contains("/val/").all()
    assert (used.groupby(["purpose", "group"]).size() == 4).all()
    assert set(used["purpose"]) == {"values", "choose", "report"}
    assert len(notes) == 1 and "no fairface_label_train.csv, so train/ is left out" in notes[0]


def test_at_most_images_per_group(toy, monkeypatch):
    monkeypatch.setattr(faces, "IMAGES_PER_GROUP", 5)
    table = fairface_table(toy)
    used = table[table["purpose"] != ""]
    assert (used.groupby(["purpose", "group"]).size() == 5).all()


def test_images_come_with_their_labels_and_groups(toy):
    data = fairface(toy, "report", 32, WHOLE)
    table = fairface_table(toy).query("purpose == 'report'")
    assert data.group.tolist() == table["group"].tolist()
    assert data.label.tolist() == table["male"].tolist() == [1 - g % 2 for g in table["group"]]
    data = celeba(toy, "val", 32, WHOLE)
    assert data.images.shape == (32, 3, 32, 32) and (data.group == -1).all()
    assert data.label.tolist() == celeba_table(toy).query("split == 'val'")["male"].tolist()


# ----------------------------------------------------------------------------- bad input


def draw_noise(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The smallest good data folder: 2 images a split of CelebA, 3 a group of FairFace."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    attributes = ["image_id,Male\n"]
    for split in ("train", "val", "test"):
        for male in (-1, 1):
            draw_noise(folder / "celeba" / split / f"{split}{male}.jpg")
            attributes.append(f"{split}{male}.jpg,{male}\n")
    labels = ["file,age,gender,race\n"]
    for index, (race, gender) in enumerate(GROUPS * 3):
        draw_noise(folder / f"fairface/val/{index}.jpg")
        labels.append(f"val/{index}.jpg,20-29,{gender},{race}\n")
    (folder / ATTRIBUTES).write_text("".join(attributes))
    (folder / LABELS).write_text("".join(labels))
    return folder


def read_all(data):
    for split in ("train", "val", "test"):
        celeba(data, split, 16, WHOLE)
    for purpose in ("values", "choose", "report"):
        fairface(data, purpose, 16, WHOLE)


UNREADABLE = {
    "cut": cut,
    "junk": JUNK,
    "empty": write(b""),
    "zeros": write(b"\0" * 100),
    "open quote": write(b'a,b\n"c'),
    "ragged": edit(r"(\n.*)(\n)", r"\1\1\2"),
}
CASES = [
    ("celeba", remove, ["data/celeba"]),
    ("celeba", empty, ["data/celeba", "list_attr_celeba"]),
    ("fairface", empty, [LABELS]),
    (ATTRIBUTES, remove, ["data/celeba", "list_attr_celeba"]),
    (LABELS, remove, [LABELS]),
    *((path, damage, [path]) for path in (ATTRIBUTES, LABELS) for damage in UNREADABLE.values()),
    (ATTRIBUTES, edit("(?s)\n.*", "\n"), [ATTRIBUTES, "no rows"]),
    (LABELS, edit("(?s)\n.*", "\n"), [LABELS]),
    (ATTRIBUTES, edit("image_id", "name"), [ATTRIBUTES, "image_id"]),
    (ATTRIBUTES, edit("Male", "Smiling"), [ATTRIBUTES, "Male"]),
    *((ATTRIBUTES, edit(",1", value), [ATTRIBUTES, "Male"]) for value in (",0", ",2", ",yes", ",")),
    *((LABELS, edit(name, "x"), [LABELS, name]) for name in ("file", "age", "gender", "race")),
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
]


@pytest.mark.parametrize("path, damage, words", CASES)
def test_data_folder(data, path, damage, words):
    read_all(data)
    damage(data / path)
    with pytest.raises(InputError) as error:
        read_all(data)
    message = " ".join(str(error.value).split())  # as settings.run shows it
    message = message.replace(str(data.parent), "")  # pytest names this folder after the case
    check_message(message, *words)
    assert not list(data.parent.rglob("*.tmp*"))


def test_partition_file_that_is_wrong(toy, tmp_path):
    split_table = celeba_table(toy)
    names = split_table["path"].map(os.path.basename)
    write_kaggle(split_table, names, 3, tmp_path / "celeba")
    words = "partition.csv: the column partition holds '3' 192 times; .* 0, 1, 2"
    with pytest.raises(InputError, match=words):
        celeba_table(tmp_path)
    remove(tmp_path / "celeba/list_eval_partition.csv")
    with pytest.raises(InputError, match="neither list_eval_partition.csv nor"):
        celeba_table(tmp_path)


def test_image_folder_that_is_empty(data):
    for split in ("train", "val", "test"):
        empty(data / "celeba" / split)
    with pytest.raises(InputError, match="no images in train/.* unpack CelebA there"):
        celeba_table(data)


# ----------------------------------------------------------------------------- forms of labels


@pytest.fixture
def notes(monkeypatch):
    monkeypatch.setattr(records, "NOTES", [])
    return records.NOTES


def encode(encoding):
    return lambda path: path.write_text(path.read_text(), encoding=encoding)


@pytest.mark.parametrize(
    "path, change, corrected",
    [
        (LABELS, edit(",Female", ",Female "), ["gender", "'Female ' 6 times"]),
        (LABELS, edit(",Male", ",male"), ["gender", "'male' 6 times"]),
        (LABELS, edit("White", "WHITE"), ["race", "'WHITE' 6 times"]),
        (LABELS, edit("20-29", "20 \u2013 29"), ["age", "12 times"]),
        (LABELS, edit(",", ";"), []),
        (LABELS, edit(",", "\t"), []),
        (LABELS, edit("gender", " Gender"), []),
        (LABELS, edit("val/", r"val\\"), []),
        (LABELS, encode("utf-8-sig"), []),
        (LABELS, encode("utf-16"), []),
        (ATTRIBUTES, edit(",", ";"), []),
        (ATTRIBUTES, edit("image_id", "Image_ID"), []),
        (ATTRIBUTES, edit(",1", ", 1.0"), []),
        (ATTRIBUTES, encode("utf-16"), []),
    ],
)
def test_other_forms_give_the_same_tables(data, notes, path, change, corrected):
    tables = celeba_table(data), fairface_table(data)
    assert notes == []
    change(data / path)
    pd.testing.assert_frame_equal(celeba_table(data), tables[0])
    pd.testing.assert_frame_equal(fairface_table(data), tables[1])
    assert len(notes) == bool(corrected)
    assert all(word in notes[0] for word in corrected)


@pytest.mark.parametrize(
    "path, change, words",
    [
        (LABELS, edit("Female", "F"), ["'F' 6 times", "Female, Male"]),
        (LABELS, edit("White", "Caucasian"), ["'Caucasian' 6 times", "Latino_Hispanic"]),
        (LABELS, edit("(/0.jpg),20-29", r"\1,03-Sep"), ["'03-Sep' once", "more than 70"]),
        (LABELS, edit("(/0.jpg),20-29", r"\1,"), ["'' once"]),
        (ATTRIBUTES, edit(",-1", ",0"), ["'0' 3 times", "-1, 1"]),
        (ATTRIBUTES, edit(",-1", ",female"), ["'female' 3 times", "-1, 1"]),
        (
            LABELS,
            edit("Female,Black", "Female,Indian"),
            ["0 images of black women", "White Male 3"],
        ),
        (LABELS, edit("gender", "sex"), ["no column gender", "'sex'", "file, age, gender, race"]),
    ],
)
def test_labels_that_are_not_known_are_named(data, path, change, words):
    change(data / path)
    with pytest.raises(InputError) as error:
        read_all(data)
    check_message(str(error.value), path, *words)


def test_images_without_a_row_are_said(data, notes):
    draw_noise(data / "celeba/train/extra.jpg")
    draw_noise(data / "fairface/val/90.jpg")
    draw_noise(data / "fairface/val/91.jpg")
    (data / "fairface/val/92.heic").touch()
    celeba_table(data)
    fairface_table(data)
    assert len(notes) == 3
    assert (
        "list_attr_celeba.csv: has no row for 1 images, which are left out (extra.jpg)" in notes[0]
    )
    assert "val: left out 1 of other kinds (.heic 1)" in notes[1]
    assert "label_val.csv: has no row for 2 images" in notes[2] and "val/90.jpg" in notes[2]


@pytest.mark.parametrize("names", [("Train", "Val", "Test"), ("training", "valid", "testing")])
def test_celeba_in_folders_of_other_names(data, notes, names):
    before = celeba_table(data)
    for old, new in zip(("train", "val", "test"), names):
        (data / "celeba" / old).rename(data / "celeba" / new)
    after = celeba_table(data)
    assert sorted(after["split"]) == sorted(before["split"])
    assert after["male"].groupby(after["split"]).sum().eq(1).all() and len(notes) == 1
    assert after["path"].map(os.path.exists).all()


def test_rows_of_other_people_are_not_used(data, notes):
    for path in ("70.jpg", "71.jpg", "72.jpg"):
        draw_noise(data / "fairface/val" / path)
    rows = "val/70.jpg,20-29,Male,Indian\nval/71.jpg,3-9,Male,White\nval/72.jpg,30-39,Male,Black\n"
    (data / LABELS).write_text((data / LABELS).read_text() + rows)
    assert (fairface_table(data)["purpose"] != "").sum() == 12
    assert not notes  # the documentation says which ages and races are used


def test_an_image_in_two_parts(data):
    shutil.copy(data / "celeba/train/train1.jpg", data / "celeba/val")
    with pytest.raises(InputError, match="1 images lie in two of .*, the first train1.jpg; keep"):
        celeba_table(data)


def test_a_partition_file_that_lacks_rows(toy, tmp_path):
    split_table = celeba_table(toy)
    names = split_table["path"].map(os.path.basename)
    partition = split_table["split"].map(["train", "val", "test"].index)
    write_kaggle(split_table, names, partition, tmp_path / "celeba")
    edit("\n.*\n.*\n$", "\n")(tmp_path / "celeba/list_eval_partition.csv")
    words = "list_eval_partition.csv: no row for 2 of the 192 images of .*list_attr_celeba.csv"
    with pytest.raises(InputError, match=words):
        celeba_table(tmp_path)


def test_a_face_that_is_a_link_to_nowhere(data):
    (data / "fairface/val/3.jpg").unlink()
    (data / "fairface/val/3.jpg").symlink_to("/no/where.jpg")
    with pytest.raises(InputError, match="val/3.jpg is a link to /no/where.jpg, .* put that file"):
        fairface_table(data)


# ----------------------------------------------------------------------------- two forms at once


def add_text_form(data, change=None):
    """Write torchvision's list_attr_celeba.txt beside Kaggle's .csv, in another order of rows."""
    table = pd.read_csv(data / ATTRIBUTES)[["image_id", "Male"]]
    male = dict(zip(table["image_id"][::-1], table["Male"][::-1])) | (change or {})
    rows = [f"{name}  1 {value:2d}" for name, value in male.items()]
    (data / "celeba/list_attr_celeba.txt").write_text("\n".join(["6", "Young Male", *rows, ""]))


def test_labels_in_two_forms_that_say_the_same(data, notes):
    plain = celeba_table(str(data))
    assert notes == []
    add_text_form(data)
    pd.testing.assert_frame_equal(celeba_table(str(data)), plain)
    says = "list_attr_celeba.csv is read; list_attr_celeba.txt beside it says the same"
    assert len(notes) == 1 and notes[0].endswith(says)


def test_labels_in_two_forms_that_differ(data):
    add_text_form(data, {"val1.jpg": -1, "more.jpg": 1})
    with pytest.raises(InputError) as error:
        celeba_table(str(data))
    words = "list_attr_celeba.csv and list_attr_celeba.txt differ for 2 images, such as more.jpg, v"
    check_message(str(error.value), words, "keep the one that is right")
