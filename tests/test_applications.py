"""The scripts on tasks other than faces, on a few drawn signs: I critical filters, II one class,
IV adversaries, and what filters see."""

import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

import model
from drawings import signs as drawn_signs
from filters.coalitions import make_evaluator
from filters.value import l2_norms
from tests.conftest import ONE_THREAD, TINY, run_script
from tests.damage import check_stopped
from tests.test_mab import torchrun

FOLDER = ["--TASK=folder"]
MAB = [*FOLDER, "--TRUNCATION=-1", "--DEEPEST=0.02"]
EVAL = [*FOLDER, "--RANDOM_ORDERS=2"]
RECORDS = "records/folder_squeezenet1_1"  # where a task other than faces puts them
PER_CLASS = {"train": 16, "val": 8, "test": 8}


@pytest.fixture(scope="session")
def signs(shared_folder):
    """A folder of drawn signs, ten classes. Read only."""

    def make(folder):
        drawn_signs.write_signs(str(folder / "data"), 0, **PER_CLASS)

    return shared_folder("signs", make) / "data"


@pytest.fixture(scope="session")
def script(signs):
    """Runs a script on the signs, which must end well; returns what it printed."""

    def script(name, *arguments, cwd):
        result = run_script(name, f"--DATA_DIR={signs}", *arguments, cwd=cwd)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return script


@pytest.fixture(scope="session")
def valued(script, shared_folder):
    """A folder with values for application I. Copy it before changing it."""

    def make(folder):
        script("train_squeeze.py", *FOLDER, "--EPOCHS=3", "--LEARNING_RATE=0.001", cwd=folder)
        script("mab.py", *MAB, cwd=folder)
        copy_network(folder, "fresh")

    return shared_folder("valued", make)


@pytest.fixture
def copy(valued, tmp_path):
    return shutil.copytree(valued, tmp_path / "copy")


def copy_network(folder, name):
    """Put the trained network into another RECORDS_DIR."""
    (folder / name).mkdir()
    shutil.copy(folder / RECORDS / "squeezenet.pth", folder / name)


def load_json(path):
    return json.loads(path.read_text())


def scores(record, *index):
    return pd.DataFrame(record["table"]).set_index(list(index))["value"]


def test_images_of_the_values_in_the_report_are_counted(signs, copy):
    """In one line and in the record; where all are copies, nothing is reported."""
    data = shutil.copytree(signs, copy / "data")
    for name in ("0.png", "1.png"):
        folder = sorted(path for path in (data / "val").iterdir() if path.is_dir())[3]
        first = sorted(folder.iterdir())[int(name[0])]
        shutil.copy(first, data / "test" / folder.name / f"copy{name}")
    arguments = [f"--DATA_DIR={data}", *EVAL, "--MAX_REMOVED=1"]
    result = run_script("eval.py", *arguments, cwd=copy)
    assert result.returncode == 0, result.stderr
    line = "2 of the 82 different images for the report are copies of images for the values"
    assert line in result.stdout
    assert sum(line in note for note in load_json(copy / RECORDS / "eval.json")["notes"]) == 1
    shutil.rmtree(data / "test")
    shutil.copytree(data / "val", data / "test")
    before = (copy / RECORDS / "eval.json").read_bytes()
    result = run_script("eval.py", *arguments, cwd=copy)
    check_stopped(result.returncode, result.stderr, "all images for the report are copies of")
    assert (copy / RECORDS / "eval.json").read_bytes() == before


def test_critical_filters(script, copy):
    """The highest values go first, beside random filters and the largest weights."""
    names = "l2_norm,first_order,leave_one_out"
    script("rivals.py", *FOLDER, f"--RIVALS={names}", "--MAX_REMOVED=6", cwd=copy)
    printed = script("eval.py", *EVAL, "--MAX_REMOVED=6", "--EVERY=3", cwd=copy)
    for words in ("highest values removed", "largest weights removed", "leave-one-out"):
        assert words in printed
    record = load_json(copy / RECORDS / "eval.json")
    values = pd.read_csv(copy / RECORDS / "filters.csv").set_index("filter")["shapley"]
    assert record["run"]["WHICH"] == "highest"
    removed = values.loc[record["removed_filters"]]
    assert removed.tolist() == sorted(values, reverse=True)[:6] and removed.min() > 0
    table = scores(record, "method", "split", "group", "n_removed")
    assert set(table.index.get_level_values("n_removed")) == {0, 3, 6}
    curves = pd.read_csv(copy / RECORDS / "eval.csv")
    overall = curves[curves["group"] == "all"].set_index(["method", "n_removed"])["accuracy"]
    classes = curves[curves["group"] != "all"]  # of one size each
    by_class = classes.groupby(["method", "n_removed"])["accuracy"].mean()
    pd.testing.assert_series_equal(overall.sort_index(), by_class.sort_index(), check_names=False)
    assert table["shapley", "report", "all", 6] == pytest.approx(overall["shapley", 6])
    random = overall.loc[["random 0", "random 1"]][:, 3].mean()
    assert table["random", "report", "all", 3] == pytest.approx(random)
    orders, path = np.load(copy / RECORDS / "rivals.npz"), str(copy / RECORDS / "squeezenet.pth")
    network = model.load(
        path, tuple(sorted(drawn_signs.SIGNS)), ARCH="squeezenet1_1", IMAGE_SIZE=32
    )
    norms = l2_norms(network, make_evaluator(network, 32))
    assert norms[orders["l2_norm"]].tolist() == sorted(norms, reverse=True)[:6]  # highest first


def test_one_class(script, copy):
    """V is the recall of a class, and the top contributors to accuracy are no players."""
    copy_network(copy, "star")
    options = ["--CLASS=star", f"--SPARE={RECORDS}", "--IMAGES_PER_ROUND=4", "--TOP_K=5"]
    options += ["--RECORDS_DIR=star", "--MEASURE=soft_accuracy"]
    script("mab.py", *MAB, *options, cwd=copy)
    values = pd.read_csv(copy / RECORDS / "filters.csv").set_index("filter")["shapley"]
    players = pd.read_csv(copy / "star/filters.csv")["filter"]
    assert len(players) == 2944 - 589  # 20 %
    assert set(values.nlargest(589, keep="first").index).isdisjoint(players)
    steps = ["--MAX_REMOVED=4", "--EVERY=2"]
    printed = script("eval.py", *EVAL, "--RECORDS_DIR=star", *steps, cwd=copy)
    assert "recall of star" in printed and "accuracy on the other classes" in printed
    record = load_json(copy / "star/eval.json")
    assert set(record["removed_filters"]) <= set(players)
    table = scores(record, "method", "group", "n_removed")
    star, rest = table["shapley", "class star", 2], table["shapley", "others", 2]
    assert table["shapley", "all", 2] == pytest.approx(0.1 * star + 0.9 * rest)


def test_going_on_with_other_players_is_refused(signs, script, copy):
    copy_network(copy, "other")
    script("mab.py", *MAB, "--RECORDS_DIR=other", cwd=copy)
    options = [*MAB, "--RECORDS_DIR=other", f"--SPARE={RECORDS}", "--MAX_ROUNDS=4"]
    result = run_script("mab.py", f"--DATA_DIR={signs}", *options, cwd=copy)
    check_stopped(result.returncode, result.stderr, "other filters were spared")


def test_adversaries(script, copy):
    """The same attack, a fresh one on what remains, and one made on another network."""
    copy_network(copy, "attack")
    script("train_squeeze.py", *FOLDER, "--ARCH=squeezenet1_0", "--EPOCHS=1", cwd=copy)
    script("mab.py", *MAB, "--MEASURE=attack", "--RECORDS_DIR=attack", cwd=copy)
    other = "--BLACK_BOX=records/folder_squeezenet1_0"
    options = ["--RECORDS_DIR=attack", "--MAX_REMOVED=2", "--EVERY=2", other]
    printed = script("eval.py", *FOLDER, *options, "--RANDOM_ORDERS=1", cwd=copy)
    for words in ("the attack", "a fresh attack", "the black-box attack"):
        assert f"success of {words}" in printed
    table = scores(load_json(copy / "attack/eval.json"), "method", "split", "n_removed")
    same, fresh = table["shapley", "attack", 0], table["shapley", "fresh attack", 0]
    assert same == fresh > table["shapley", "black box", 0]


def test_two_processes_attack_as_one(signs, valued, tmp_path):
    """The same record, also with a break; and what is wrong stops both with the one line."""
    attack = [f"--DATA_DIR={signs}", *MAB, "--MEASURE=attack"]
    records = {name: tmp_path / name / RECORDS for name in ("one", "parts", "two")}
    for folder in records.values():
        folder.mkdir(parents=True)
        shutil.copy(valued / RECORDS / "squeezenet.pth", folder)
    assert run_script("mab.py", *attack, cwd=tmp_path / "one").returncode == 0
    for rounds in (["--MAX_ROUNDS=1"], []):
        result = run_script("mab.py", *attack, *rounds, cwd=tmp_path / "parts")
        assert result.returncode == 0, result.stderr
    command = [*torchrun(2), *TINY["mab.py"], *attack]
    pipes = {"capture_output": True, "text": True, "timeout": 300, "env": ONE_THREAD}
    result = subprocess.run(command, cwd=tmp_path / "two", **pipes)
    assert result.returncode == 0, result.stderr
    assert len({(folder / "mab.npz").read_bytes() for folder in records.values()}) == 1
    (records["two"] / "squeezenet.pth").write_bytes(b"no network")
    result = subprocess.run(command, cwd=tmp_path / "two", **pipes)
    assert result.returncode != 0 and "no weights; give another file" in result.stderr
    assert "Connection closed" not in result.stderr


@pytest.mark.parametrize(
    "name, arguments, words",
    [
        ("mab.py", [*MAB, "--CLASS=moose"], ["CLASS", "arrow"]),
        ("mab.py", [*MAB, "--MEASURE=smooth_auc"], ["MEASURE", "--TASK=faces"]),
        (
            "mab.py",
            [*MAB, "--TRUNCATION=0.99", "--RECORDS_DIR=fresh"],
            ["TRUNCATION", "V of the whole network"],
        ),
        (
            "mab.py",
            [*MAB, "--ARCH=moose", "--RECORDS_DIR=none"],
            ["ARCH=moose", "torchvision's classifiers"],
        ),
        ("mab.py", [*MAB, "--MEASURE=attack", "--CLASS=star"], ["CLASS", "attack"]),
        ("mab.py", [*MAB, "--SPARE=nowhere"], ["SPARE=nowhere", "RECORDS_DIR"]),
        ("mab.py", [*MAB, "--TASK=letters"], ["TASK", "mnist"]),
        ("mab.py", [*MAB, "--ARCH=resnet18", f"--RECORDS_DIR={RECORDS}"], ["ARCH=squeezenet1_1"]),
        ("eval.py", [*FOLDER, "--TASK=mnist", f"--RECORDS_DIR={RECORDS}"], ["TASK=folder"]),
        ("eval.py", [*FOLDER, "--EVERY=0"], ["EVERY"]),
        ("features.py", [*FOLDER, "--FILTERS=99999"], ["FILTERS", "filters.csv"]),
    ],
)
def test_bad_constants(name, arguments, words, signs, valued):
    result = run_script(name, f"--DATA_DIR={signs}", *arguments, cwd=valued)
    check_stopped(result.returncode, result.stderr, *words)


def test_a_folder_that_is_missing(tmp_path):
    result = run_script("mab.py", *MAB, f"--DATA_DIR={tmp_path / 'my_images'}", cwd=tmp_path)
    check_stopped(result.returncode, result.stderr, "my_images")
