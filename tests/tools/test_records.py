"""The records behind the pages: of one run each, opened once, without weights or photos."""

import glob
import subprocess

from common.records import load_json

import pytest

from tests.conftest import REPOSITORY
from tools.recorded import evaluation, trainings, valuation

FIGURES = {
    "eval",
    "rivals",
    "values",
    "layers",
    "faces",
    "classes",
    "features",
    "frontier",
    "overview",
    "league",
    "race",
    "attributes",
    "curves",
    "repairs",
    "lambdas",
    "heatmaps",
    "shortcut",
    "scores",
}
KINDS = {"json", "csv", "npz", "pkl", "png", "pdf"}
SHORTCUT = "cur_records/shortcut_portraits/p99/seed_0"
DRAWINGS = {"cur_records/demo", "cur_records/signs", SHORTCUT}  # whose figures may show images
REPAIRS = ["cur_records", "cur_records/seed_1", "cur_records/seed_2", "cur_records/demo"]
APPLICATIONS = ["cur_records/digits", "cur_records/signs", "cur_records/signs_resnet18"]


def runs_below(folder):
    """The folders of mab.py and eval.py below a folder: all but that of the league."""
    return sorted({*glob.glob(f"{folder}/*/")} - {f"{folder}/league/"})


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def test_records_hold_no_weights_or_images():
    command = ["git", "ls-files", "cur_records"]
    names = subprocess.run(command, capture_output=True, text=True).stdout.split()
    assert names and {name.rpartition(".")[2] for name in names} <= KINDS
    for name in names:
        folder, _, file = name.rpartition("/")
        stem, _, kind = file.partition(".")
        assert kind not in ("png", "pdf") or stem in FIGURES, name
        shows_images = kind in ("png", "pdf", "npz") and stem in ("faces", "features")
        shows_images |= name.startswith(f"{folder}/shortcut.p") and folder != "cur_records/shortcut"
        assert not shows_images or folder in DRAWINGS, name


def test_the_report_set_was_opened_once():
    """For each network of the record."""
    for folder in trainings("cur_records"):
        record = evaluation(folder)
        assert len(record["report_opened"]) == 1 and record["constants"]["OPEN_REPORT"]
    attacks_and_classes = runs_below("cur_records/digits")
    for folder in [*attacks_and_classes, *APPLICATIONS, "cur_records/celeba_attack"]:
        assert len(evaluation(folder)["report_opened"]) == 1


@pytest.mark.parametrize("folder", APPLICATIONS)
def test_applications_are_of_one_network(folder):
    network = load_json(f"{folder}/train_squeeze.json", "train_squeeze.py")["network"]
    for name in [folder, *runs_below(folder)]:
        run = valuation(name)["run"]
        assert run == evaluation(name)["run"] and run["network"] == network


@pytest.mark.parametrize("folder", REPAIRS)
def test_repairs_are_of_one_network(folder):
    train = load_json(f"{folder}/train_squeeze.json", "train_squeeze.py")
    run, evaluated = valuation(folder)["run"], evaluation(folder)["run"]
    assert train["network"] == run["network"] and run == evaluated
