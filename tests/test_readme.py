"""The README says what the records say."""

import glob
import re
import subprocess

import pytest
from PIL import Image

import tables
from conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def test_tables_are_those_of_the_records(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert len(re.findall(r"<!-- \w+_table\(", README)) == README.count("<!-- end -->") > 3
    assert tables.with_tables(README) == README, "run python tables.py"


def test_a_changed_table_is_noticed(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    number = re.search(r"\d\d\.\d \(", README)[0]
    changed = README.replace(number, "99.9 (", 1)
    assert changed != README and tables.with_tables(changed) == README


def test_files_that_are_named_exist():
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (REPOSITORY / path).exists(), path
    for path in REPOSITORY.glob("*.py"):
        assert f"[{path.name}]" in README, f"{path.name} is not in the table of files"


def test_records_hold_no_weights_or_images():
    names = subprocess.run(["git", "ls-files", "cur_records"], cwd=REPOSITORY, capture_output=True, text=True).stdout.split()
    assert names
    assert {name.rpartition(".")[2] for name in names} == {"json", "csv", "npz", "pkl", "png", "pdf"}
    assert {name.rpartition("/")[2] for name in names if name.endswith((".png", ".pdf"))} == {
        f"{figure}.{kind}" for figure in ("eval", "rivals", "values", "layers", "faces", "classes", "features") for kind in ("png", "pdf")}
    shown = {name.rpartition("/")[0] for name in names if name.endswith((".png", ".pdf", ".npz")) and ("faces" in name or "features" in name)}
    assert shown == {"cur_records/demo", "cur_records/signs"}  # drawings


@pytest.mark.parametrize("folder", tables.DRAWN)
def test_figures_are_those_of_the_records(folder, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    for name in tables.draw(folder):
        with Image.open(f"{folder}/{name}.png") as image:
            assert image.info["Source"] == tables.source(folder), "run python tables.py"
        assert (REPOSITORY / folder / f"{name}.pdf").exists()


def test_report_set_was_opened_once(monkeypatch):
    """For each network of the record; and later than its values."""
    monkeypatch.chdir(REPOSITORY)
    for folder in tables.trainings("cur_records"):
        record = tables.load_json(f"{folder}/eval.json", "eval.py")
        assert len(record["report_opened"]) == 1 and record["constants"]["OPEN_REPORT"]
    for folder in [*glob.glob("cur_records/digits/*/"), "cur_records/digits", "cur_records/celeba_attack", "cur_records/signs",
                   "cur_records/signs_resnet18"]:
        assert len(tables.load_json(f"{folder}/eval.json", "eval.py")["report_opened"]) == 1


@pytest.mark.parametrize("folder", ["cur_records/digits", "cur_records/signs", "cur_records/signs_resnet18"])
def test_other_records_are_of_one_run(folder, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    network = tables.load_json(f"{folder}/train_squeeze.json", "train_squeeze.py")["network"]
    for name in [folder, *glob.glob(f"{folder}/*/")]:
        mab, evaluation = (tables.load_json(f"{name}/{script}.json", script) for script in ("mab", "eval"))
        assert mab["run"] == evaluation["run"] and mab["run"]["network"] == network


@pytest.mark.parametrize("folder", ["cur_records", "cur_records/seed_1", "cur_records/seed_2", "cur_records/demo"])
def test_records_are_of_one_run(folder, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    train, mab, evaluation = (tables.load_json(f"{folder}/{name}.json", name)
                              for name in ("train_squeeze", "mab", "eval"))
    assert train["network"] == mab["run"]["network"] == evaluation["run"]["network"]
    assert mab["run"] == evaluation["run"]
