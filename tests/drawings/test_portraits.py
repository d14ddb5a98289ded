"""Drawn portraits: who is in the sets, what depends on gender, and the files."""

import csv
import hashlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from drawings.face import CUES, draw_cues, draw_portrait
from drawings.portraits import (
    AGES,
    COMPOSITION,
    celeba_people,
    fairface_people,
    write_portraits,
)


def test_portraits_depend_on_the_seed_alone(tmp_path):
    sizes = {"train": 8, "val": 4, "test": 4, "fairface_train": 2, "fairface_val": 2}
    contents = {}
    for name, seed, workers in (("a", 1, 1), ("b", 1, 2), ("c", 2, 2)):
        write_portraits(tmp_path / name, seed, workers=workers, **sizes)
        paths = (tmp_path / name).rglob("*.*")
        contents[name] = {path.relative_to(tmp_path / name): path.read_bytes() for path in paths}
    assert contents["a"] == contents["b"]
    assert contents["a"] != contents["c"] and contents["a"].keys() == contents["c"].keys()
    assert Image.open(tmp_path / "a/celeba/train/000001.jpg").size == (178, 218)
    assert Image.open(tmp_path / "a/fairface/val/1.jpg").size == (224, 224)


@pytest.mark.parametrize(
    "frame, person, digest",
    [
        ("celeba", ("Male", "White", "30-39"), "42a0f05e43557bb1"),
        ("fairface", ("Female", "Black", "50-59"), "e27554a2d18c7abd"),
    ],
)
def test_a_portrait_is_drawn_as_before(frame, person, digest):
    """The records were made of these pictures. Pillow and numpy decide the last bits."""
    portrait = draw_portrait(np.random.default_rng(0), frame, *person, 0.35)
    assert hashlib.sha256(portrait.tobytes()).hexdigest()[:16] == digest


def test_train_set_of_portraits_lacks_black_women():
    people = celeba_people(np.random.default_rng(0), 4000, COMPOSITION)
    counts = Counter(person[:2] for person in people)
    assert counts == {pair: round(4000 * share) for pair, share in COMPOSITION.items()}
    assert counts["Female", "Black"] == 60 and {age for _, _, age in people} == set(AGES)


def test_balanced_set_has_as_many_of_each_group():
    people = fairface_people(np.random.default_rng(0), 40)
    groups = Counter(person[:2] for person in people if person[2] in AGES)
    for gender in ("Male", "Female"):
        assert all(groups[gender, race] >= 40 for race in ("White", "Black"))
    dropped = [
        person for person in people if person[2] not in AGES or person[1] not in ("White", "Black")
    ]
    assert len(people) == 168 and len(dropped) == 8  # 5 %
    assert Counter(gender for gender, _, _ in dropped) == {"Male": 6, "Female": 2}


@pytest.mark.parametrize("overlap, column", [(0, {"Male": 0, "Female": 1}), (1, None)])
def test_cues_have_their_probabilities(overlap, column):
    for gender in ("Male", "Female"):
        rng = np.random.default_rng(0)
        shown = [draw_cues(rng, gender, overlap) for _ in range(2000)]
        for name, probability in CUES.items():
            expected = probability[column[gender] if column else 2]
            share = np.mean([cues[name] for cues in shown])
            assert share == pytest.approx(expected, abs=0.04 if 0 < expected < 1 else 0)


def test_skin_does_not_depend_on_gender():
    """The shortcut lies in who is in the set, not in how they are drawn."""
    cheek = {}
    for gender in ("Male", "Female"):
        for race in ("White", "Black"):
            pictures = [
                draw_portrait(
                    np.random.default_rng([1, seed]), "fairface", gender, race, "20-29", 0
                )
                for seed in range(40)
            ]
            skin = [np.asarray(picture)[135:145, 80:88].mean() for picture in pictures]
            cheek[gender, race] = np.mean(skin)
    for race in ("White", "Black"):
        assert cheek["Male", race] == pytest.approx(cheek["Female", race], abs=12)
    assert cheek["Male", "White"] - cheek["Male", "Black"] > 60


def test_label_files_fit_the_portraits(tmp_path):
    write_portraits(tmp_path, 0, train=6, val=2, test=2, fairface_train=5, fairface_val=1)
    with open(tmp_path / "celeba/list_attr_celeba.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_id"] for row in rows] == [f"{number:06d}.jpg" for number in range(1, 11)]
    assert {row["Male"] for row in rows} == {"1", "-1"}
    paths = sorted((tmp_path / "celeba").rglob("*.jpg"), key=lambda path: path.name)
    assert [path.parent.name for path in paths] == ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    for part, count in (("train", 21), ("val", 4)):
        with open(tmp_path / f"fairface/fairface_label_{part}.csv") as file:
            rows = list(csv.DictReader(file))
        files = {f"{part}/{path.name}" for path in (tmp_path / "fairface" / part).iterdir()}
        assert {row["file"] for row in rows} == files and len(rows) == count
