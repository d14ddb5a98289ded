"""features.py: which filters and images it shows, and the script on a few drawn signs."""

import json
import shutil

from common.settings import InputError

import numpy as np
import pandas as pd
import pytest

import features
from drawings.signs import write_signs
from tests.conftest import run_script

SIGNS = ["--TASK=folder", "--RECORDS_DIR=records"]


@pytest.fixture(scope="module")
def valued(shared_folder):
    """A folder of drawn signs, a network trained on them and its values. Copy it to change it."""

    def make(folder):
        write_signs(folder / "signs", 0, train=8, val=4, test=4)
        mab = ["--MAX_ROUNDS=2", "--TRUNCATION=-1", "--DEEPEST=0.02"]
        for script, more_arguments in (("train_squeeze.py", ["--EPOCHS=1"]), ("mab.py", mab)):
            arguments = [f"--DATA_DIR={folder / 'signs'}", *SIGNS, *more_arguments]
            result = run_script(script, *arguments, cwd=folder)
            assert result.returncode == 0, result.stderr

    return shared_folder("valued signs", make)


def show(folder, *arguments):
    data = f"--DATA_DIR={folder / 'signs'}"
    return run_script("features.py", data, *SIGNS, *arguments, cwd=folder)


@pytest.fixture
def table():
    return pd.DataFrame({"filter": [3, 5, 8, 9], "shapley": [0.1, -0.2, 0.3, 0.1]})


def test_the_filters_that_were_sought_are_shown(table):
    assert features.choose_filters(table, "", 3, "highest") == [8, 3, 9]
    assert features.choose_filters(table, "", 2, "lowest") == [5, 3]
    assert features.choose_filters(table, "9,5", 3, "lowest") == [9, 5]


@pytest.mark.parametrize("given", ["4", "3,x", "3.0", "-1"])
def test_filters_must_be_in_the_table(table, given):
    with pytest.raises(InputError, match=f"FILTERS={given}: must be numbers .* filters.csv"):
        features.choose_filters(table, given, 3, "lowest")


def test_images_go_by_activation():
    active = np.array([[0.0, 5], [2, 1], [1, 5], [2, 7]])
    assert features.most_active(active, 3).tolist() == [[1, 3, 2], [3, 0, 2]]


def test_the_script_shows_the_first_filters(valued, tmp_path):
    folder = shutil.copytree(valued, tmp_path / "copy")
    result = show(folder, "--SHOWN=2", "--IMAGES=3", "--STEPS=5")
    assert result.returncode == 0, result.stderr
    best = pd.read_csv(folder / "records/filters.csv").nlargest(1, "shapley").iloc[0]
    title = f"{best['layer']}[{best['channel']}], value {best['shapley']:+.4f}"
    lines = [text for text in result.stdout.splitlines() if "at chance" not in text]
    assert title in lines[0]
    record = json.loads((folder / "records/features.json").read_text())
    assert record["filters"][0] == best["filter"] and len(record["filters"]) == 2
    assert np.shape(record["most_active"]) == np.shape(record["labels"]) == (2, 3)
    for rows, labels in zip(record["most_active"], record["labels"]):
        names = sorted(path.name for path in (folder / "signs/val").iterdir())
        assert labels == [names[row // 4] for row in rows]  # four of each class, in order
    for ending in ("png", "pdf"):
        assert (folder / f"records/features.{ending}").stat().st_size > 1000


def test_the_script_shows_the_filters_that_are_asked_for(valued, tmp_path):
    folder = shutil.copytree(valued, tmp_path / "copy")
    result = show(folder, "--FILTERS=7,100", "--IMAGES=1", "--STEPS=2")
    assert result.returncode == 0, result.stderr
    record = json.loads((folder / "records/features.json").read_text())
    assert record["filters"] == [7, 100] and record["constants"]["STEPS"] == 2


@pytest.mark.parametrize("argument", ["--STEPS=0", "--FILTERS=99999"])
def test_constants_that_cannot_be(valued, argument):
    result = show(valued, argument)
    assert result.returncode == 2 and argument in result.stderr.splitlines()[-1]
    assert not (valued / "records/features.json").exists()
