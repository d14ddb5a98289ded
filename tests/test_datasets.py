"""Layouts, splits, framing and the cache."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import datasets
import portraits
from conftest import REPOSITORY

WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_three_celeba_layouts_read_alike(toy, tmp_path):
    split = datasets.celeba_table(toy)
    names, order = split["path"].map(os.path.basename), ["train", "val", "test"]
    partition = split["split"].map(order.index)
    for layout in ("kaggle", "torchvision"):
        images = tmp_path / layout / "celeba" / "img_align_celeba" / ("img_align_celeba" if layout == "kaggle" else "")
        images.mkdir(parents=True)
        for path in split["path"]:
            shutil.copy(path, images)
        folder = tmp_path / layout / "celeba"
        male = 2 * split["male"] - 1
        if layout == "kaggle":
            pd.DataFrame({"image_id": names, "Male": male}).to_csv(folder / "list_attr_celeba.csv", index=False)
            pd.DataFrame({"image_id": names, "partition": partition}).to_csv(
                folder / "list_eval_partition.csv", index=False)
        else:
            rows = [f"{name} {-1:2d} {sex:2d}" for name, sex in zip(names, male)]
            (folder / "list_attr_celeba.txt").write_text("\n".join([str(len(rows)), "Young Male ", *rows]) + "\n")
            (folder / "list_eval_partition.txt").write_text(
                "".join(f"{name} {part}\n" for name, part in zip(names, partition)))
        read = datasets.celeba_table(tmp_path / layout).assign(name=lambda table: table["path"].map(os.path.basename))
        expected = split.assign(name=names).sort_values("name", ignore_index=True)
        pd.testing.assert_frame_equal(read[["name", "split", "male"]], expected[["name", "split", "male"]])


def test_real_subset():
    """The real files, where the developers have them beside the repository."""
    real = REPOSITORY.parent / "shared" / "data"
    if not (real / "celeba").is_dir():
        pytest.skip("no real CelebA and FairFace at ../shared/data")
    assert datasets.celeba_table(real).groupby("split").size().to_dict() == {"test": 1000, "train": 8000, "val": 1000}
    sizes = datasets.fairface_table(real).groupby(["purpose", "group"]).size().unstack()
    assert sizes.loc[["values", "choose"]].to_numpy().tolist() == [[500] * 4] * 2
    assert sizes.loc["report"].tolist() == [390, 345, 252, 216]


def test_fairface_sets_are_disjoint_and_of_the_right_people(toy):
    table = datasets.fairface_table(toy)
    used = table[table["purpose"] != ""]
    assert used["path"].is_unique
    assert set(used["purpose"]) == {"values", "choose", "report"}
    assert (used.groupby(["purpose", "group"]).size() == 12).all()
    sources = used["path"].str.contains("/train/").groupby(used["purpose"]).mean()
    assert sources.to_dict() == {"values": 1, "choose": 1, "report": 0}
    labels = pd.concat(pd.read_csv(toy / "fairface" / f"fairface_label_{part}.csv") for part in ("train", "val"))
    assert not labels["age"].isin(datasets.AGES).all()  # there is something to leave out
    labels = labels.set_index("file").loc[[os.path.relpath(path, toy / "fairface") for path in table["path"]]]
    assert set(labels["age"]) == {"20-29", "30-39", "40-49", "50-59"}
    assert [datasets.GROUPS[group] for group in table["group"]] == list(zip(labels["race"], labels["gender"]))
    assert ((labels["gender"] == "Male").to_numpy() == (table["male"] == 1)).all()


def test_fairface_without_train_labels_is_cut_in_three(toy, tmp_path):
    shutil.copytree(toy / "fairface", tmp_path / "fairface")
    (tmp_path / "fairface" / "fairface_label_train.csv").unlink()
    table = datasets.fairface_table(tmp_path)
    used = table[table["purpose"] != ""]
    assert used["path"].is_unique and used["path"].str.contains("/val/").all()
    assert (used.groupby(["purpose", "group"]).size() == 4).all()


def test_at_most_images_per_group(toy, monkeypatch):
    monkeypatch.setattr(datasets, "IMAGES_PER_GROUP", 5)
    table = datasets.fairface_table(toy)
    assert (table[table["purpose"] != ""].groupby(["purpose", "group"]).size() == 5).all()


def test_framing(tmp_path):
    """Left half red, right half blue: the frame decides what is seen (but for the resampling at its edge)."""
    image = np.zeros((40, 80, 3), dtype=np.uint8)
    image[:, :40, 0], image[:, 40:, 2] = 255, 255
    Image.fromarray(image).save(tmp_path / "half.png")
    left = datasets.read_image(str(tmp_path / "half.png"), 16, (0, 0, 0.5, 1))
    right = datasets.read_image(str(tmp_path / "half.png"), 16, (0.5, 0, 1, 1))
    assert left.shape == (16, 16, 3) and (left[:, :-1] == [255, 0, 0]).all() and (right[:, 1:] == [0, 0, 255]).all()


def test_cache_is_reused_and_notices_changes(toy, tmp_path, cache):
    shutil.copytree(toy / "celeba", tmp_path / "celeba")
    first = datasets.celeba(tmp_path, "val", 32, WHOLE)
    assert first.images.shape == (32, 3, 32, 32) and (first.group == -1).all()
    (file,) = cache.iterdir()
    written = file.stat().st_mtime_ns
    datasets.celeba(tmp_path, "val", 32, WHOLE)
    assert [file.stat().st_mtime_ns for file in cache.iterdir()] == [written]
    datasets.celeba(tmp_path, "val", 40, WHOLE)
    datasets.celeba(tmp_path, "val", 32, (0.1, 0.1, 0.9, 0.9))
    assert len(list(cache.iterdir())) == 3
    path = datasets.celeba_table(tmp_path).query("split == 'val'")["path"].iloc[0]
    Image.new("RGB", (178, 218), "lime").save(path)
    changed = datasets.celeba(tmp_path, "val", 32, WHOLE)
    assert len(list(cache.iterdir())) == 4
    assert changed.images[0, 1].float().mean() > 250 and (changed.images[1:] == first.images[1:]).all()


def test_normalise(toy):
    faces = datasets.celeba(toy, "val", 32, WHOLE)
    found = datasets.normalise(faces.images[:2], "cpu")
    expected = (faces.images[0, 1].numpy() / 255 - 0.456) / 0.224
    np.testing.assert_allclose(found[0, 1].numpy(), expected, atol=1e-6)


def test_portraits_depend_on_the_seed_alone(toy, tmp_path):
    options = dict(train=8, val=4, test=4, fairface_train=2, fairface_val=2)
    for folder, seed, workers in (("a", 1, 1), ("b", 1, 2), ("c", 2, 2)):
        portraits.write(str(tmp_path / folder), seed, workers=workers, **options)
    read = {folder: {path.relative_to(tmp_path / folder): path.read_bytes()
                     for path in (tmp_path / folder).rglob("*.*")} for folder in "abc"}
    assert read["a"] == read["b"] and read["a"] != read["c"]
    assert Image.open(toy / "celeba/train/000001.jpg").size == (178, 218)
    assert Image.open(toy / "fairface/val/1.jpg").size == (224, 224)


def test_train_set_of_portraits_lacks_black_women():
    people = portraits.celeba_people(np.random.default_rng(0), 4000, portraits.COMPOSITION)
    share = pd.Series([person[:2] for person in people]).value_counts(normalize=True)
    assert share[("Female", "Black")] < 0.03 and share[("Male", "Black")] > 0.2


def test_command_prints_counts(run, tmp_path):
    result = run("datasets.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "black women" in result.stdout and "every label has its image" in result.stdout


def test_command_draws_into_a_new_folder_only(run, tmp_path, toy):
    result = run("datasets.py", f"--DRAW={toy}", cwd=tmp_path)
    assert result.returncode == 2 and str(toy) in result.stderr
