"""cdep.py for seconds on scikit-learn's digits: its record, resumption, and bad input."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from penalties.losses import METHODS
from tests.conftest import REPOSITORY, run_script
from tests.penalties.test_problems import data_dir  # noqa: F401 (a fixture)

PAGE = (REPOSITORY / "docs/cdep.md").read_text()


@pytest.fixture(scope="module")
def penalised(shared_folder):
    """A folder in which cdep.py has run. Copy it before changing it."""

    def make(folder):
        result = run_script("cdep.py", "--METHODS=all", cwd=folder)
        assert result.returncode == 0, result.stderr
        assert "Warning" not in result.stderr
        (folder / "stdout.txt").write_text(result.stdout)

    return shared_folder("penalised", make)


@pytest.fixture
def study(penalised, tmp_path):
    return shutil.copytree(penalised, tmp_path / "study")


def record_of(folder):
    return json.loads((folder / "records/cdep/cdep.json").read_text())


def test_the_record(penalised):
    record = record_of(penalised)
    assert record["rows"] == {"training": 100, "validation": 400, "reported": 500}
    assert list(record["chosen"]) == list(METHODS) and record["reported"] == "test"
    rows = pd.DataFrame(record["trainings"])
    assert rows.duplicated(["method", "strength", "seed"]).sum() == 0
    searched = rows[rows["method"] == "rrr"].groupby("seed")["strength"].nunique()
    assert searched[0] == 2 and searched[1] == 1  # SEARCH_SEEDS=1: the others have the chosen one
    results = pd.DataFrame(record["results"])
    assert len(results) == 2 * len(METHODS)
    for name, part in results.groupby("method"):
        assert part["strength"].unique().tolist() == [record["chosen"][name]]
    table = pd.read_csv(penalised / "records/cdep/cdep.csv")
    row = table[(table["method"] == "cdep") & (table["measure"] == "inverted")].iloc[0]
    assert row["mean"] == pytest.approx(results[results["method"] == "cdep"]["inverted"].mean())
    for name in ("lambdas", "heatmaps"):
        assert (penalised / f"records/cdep/{name}.png").stat().st_size > 10_000
    maps = np.load(penalised / "records/cdep/maps.npz")
    assert maps["images"].shape == (2, 8, 8, 3) and len(maps["maps"]) == len(METHODS)


def test_what_is_printed(penalised):
    text = (penalised / "stdout.txt").read_text()
    for words in ("500 test rows", "CDEP as published", "the ceiling", "reliance", "written"):
        assert words in text
    assert max(map(len, text.splitlines())) < 180


def test_a_network_that_is_missing_is_trained_again_the_same(study, script):
    before = record_of(study)
    path = study / "records/cdep/networks/cdep_last_3_seed_0.pth"
    saved = path.read_bytes()
    path.unlink()
    status, error = script("cdep.py", "--METHODS=all", cwd=study)
    assert status == 0, error
    assert record_of(study)["results"] == before["results"] and path.read_bytes() == saved


def test_it_goes_on_with_the_next_training(study, script):
    before = record_of(study)
    partial = before | {"trainings": before["trainings"][:4], "results": [], "chosen": {}}
    (study / "records/cdep/cdep.json").write_text(json.dumps(partial))
    (study / "records/cdep/networks/rrr_30_seed_0.pth").unlink()
    status, error = script("cdep.py", "--METHODS=all", cwd=study)
    assert status == 0, error
    after = record_of(study)
    assert after["results"] == before["results"] and after["chosen"] == before["chosen"]


def test_the_test_rows_can_stay_closed(tmp_path, script):
    status, error = script("cdep.py", "--OPEN_TEST=False", cwd=tmp_path)
    assert status == 0, error
    record = record_of(tmp_path)
    assert record["reported"] == "validation" and record["rows"]["reported"] == 400
    chosen = {(row["method"], row["strength"], row["seed"]): row for row in record["trainings"]}
    for row in record["results"]:
        assert chosen[row["method"], row["strength"], row["seed"]]["same"] == row["same"]


@pytest.mark.parametrize(
    "name", ["compas", "decoy_mnist", "faces", "isic", "sentiment", "sentiment_biased"]
)
def test_other_experiments(name, data_dir, tmp_path, script):  # noqa: F811
    arguments = (
        f"--EXPERIMENT={name}",
        f"--DATA_DIR={data_dir}",
        "--METHODS=cdep,erased",
        "--WEIGHTS=none",
    )
    status, error = script("cdep.py", *arguments, "--EPOCHS=1", cwd=tmp_path)
    assert status == 0, error
    assert (tmp_path / "records/cdep/heatmaps.png").exists() == (name == "decoy_mnist")  # no faces


WRONG = "EXPERIMENT=mnist ARCH=vgg METHODS=lrp LAMBDAS=0 LAMBDAS=a SEEDS=0 SEARCH_SEEDS=3 "
WRONG += "TRAIN_ROWS=-1 TRAIN_ROWS=9999 EPOCHS=-1 BATCH_SIZE=-1 LEARNING_RATE=-1 SHOWN=0 NO_SUCH=1"


@pytest.mark.parametrize("case", WRONG.split())
def test_constants_that_cannot_be(study, stops, case):
    stops("cdep.py", f"--{case}", cwd=study, words=[case.partition("=")[0]])


@pytest.mark.parametrize("case", ["EPOCHS=2", "ARCH=convnet", "TRAIN_ROWS=90", "SEED=3"])
def test_a_record_with_other_settings(study, stops, case):
    stops("cdep.py", f"--{case}", cwd=study, words=["another run", "RECORDS_DIR"])


@pytest.mark.parametrize("case", ["LAMBDAS=5", "SEEDS=3", "METHODS=cdep"])
def test_an_opened_test_chooses_nothing_more(study, stops, case):
    name = case.partition("=")[0]
    stops("cdep.py", f"--{case}", cwd=study, words=["another run", name])


def test_a_damaged_network(study, stops):
    path = study / "records/cdep/networks/cdep_last_3_seed_0.pth"
    path.write_bytes(b"no network")
    stops("cdep.py", "--METHODS=all", cwd=study, words=["cdep_last_3_seed_0.pth", "damaged"])


@pytest.mark.parametrize("name", ["compas", "isic"])
def test_no_data(name, tmp_path, stops):
    arguments = (f"--EXPERIMENT={name}", "--DATA_DIR=nowhere")
    stops("cdep.py", *arguments, cwd=tmp_path, words=[f"nowhere/{name}"])


def test_the_example_of_the_page():
    """With its penalty the corner, which follows the label, matters less than without."""
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    torch.manual_seed(0)
    images, labels = torch.randn(32, 3, 16, 16), torch.arange(32) % 2
    images[:, :, :4, :4] = 3.0 * labels[:, None, None, None]
    masks = torch.zeros(32, 1, 16, 16)
    masks[:, :, :4, :4] = 1
    effects = {}
    for strength in ("1.0", "0.0"):
        torch.manual_seed(1)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 49, 2)
        )
        names = {"network": network, "batches": [(images, labels, masks)] * 60}
        exec(example.replace("1.0 * penalty", f"{strength} * penalty"), names)
        margins = [network(part).diff() for part in (images, images * (1 - masks))]
        effects[strength] = (margins[0] - margins[1]).abs().mean().item()
    assert effects["1.0"] < effects["0.0"] / 5
