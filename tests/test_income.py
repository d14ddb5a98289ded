"""income.py on a small drawn table: its records, resumption, and bad input."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from drawings.note import write_note
from drawings.salaries import write_salaries
from explain.relevance import RULES
from tests.conftest import run_script
from tests.readers.test_people import COMPAS_HEADER

TABLES = ("accuracy", "curves", "layers", "attributes", "rates", "repairs")


@pytest.fixture(scope="module")
def data_dir(shared_folder):
    def make(folder):
        write_salaries(folder, 0, train=600, test=300)
        write_note(folder, "A drawn table.")

    return shared_folder("salaries", make)


@pytest.fixture(scope="module")
def studied(shared_folder, data_dir):
    """A folder in which income.py has run. Copy it before changing it."""

    def make(folder):
        result = run_script("income.py", f"--DATA_DIR={data_dir}", cwd=folder)
        assert result.returncode == 0, result.stderr
        assert "Warning" not in result.stderr
        (folder / "stdout.txt").write_text(result.stdout)

    return shared_folder("studied", make)


@pytest.fixture
def study(studied, tmp_path):
    return shutil.copytree(studied, tmp_path / "study")


def tables_of(folder):
    return {name: pd.read_csv(folder / f"records/income/{name}.csv") for name in TABLES}


def test_tables_of_the_record(studied):
    tables = tables_of(studied)
    kinds = tables["accuracy"].groupby(["model", "kind"]).size()
    assert kinds["D6-RELU-D4-BN-RELU-D2", "early stopping"] == 2
    assert kinds["D4-SELU-D2", "early stopping"] == kinds["D4-SELU-D2", "last epoch"] == 1
    assert kinds["majority", "rival"] == 1
    long = tables["curves"][tables["curves"]["is_long"]]
    assert long.groupby("architecture")["epoch"].max().tolist() == [3, 3]
    layers = tables["layers"]
    assert set(layers["rule"]) == set(RULES) and len(layers) == 4 * 3 * 14
    grouped = layers.groupby(["rule", "layer"])
    np.testing.assert_allclose(grouped["relevance"].sum(), grouped["ratio"].first(), rtol=1e-3)
    assert grouped["ratio"].first()["z spread", 1] == pytest.approx(1, abs=1e-6)
    measures = tables["attributes"].groupby("measure")["training"].unique()
    assert sorted(measures["swap"]) == [0, 1] and list(measures["truth"]) == [-1]
    repairs = list(dict.fromkeys(tables["repairs"]["repair"]))
    assert repairs[0] == "as trained" and "trained without sex" in repairs
    assert "trained without marital-status, relationship, sex" in repairs
    assert "post-processed: equalised odds by race" in repairs and len(repairs) == 9
    swaps = tables["repairs"].drop_duplicates(["repair", "attribute"])
    swaps = swaps.set_index(["repair", "attribute"])["swap"]
    assert swaps["trained without sex", "sex"] == 0 <= swaps["as trained", "sex"]
    strengths = tables["repairs"].groupby("repair")["strength"].first()
    assert strengths["CDEP on sex"] in (1, 10, 100) and strengths["as trained"] == 0


def test_record_and_figures(studied):
    record = json.loads((studied / "records/income/income.json").read_text())
    assert record["rows"] == {
        "training": 540,
        "validation": 60,
        "reported": 300,
        "explained": 50,
    }
    assert record["is_drawn"] and record["reported"] == "test"
    for name in ("layers", "attributes", "repairs", "curves"):
        assert (studied / f"records/income/{name}.png").stat().st_size > 10_000


def test_what_is_printed(studied):
    text = (studied / "stdout.txt").read_text()
    for words in ("a drawn table", "swap", "by relevance", "never looks at", "tables and figures"):
        assert words in text
    assert max(map(len, text.splitlines())) < 180


def test_a_network_that_is_missing_is_trained_again_the_same(study, data_dir):
    before = tables_of(study)
    networks = sorted((study / "records/income/networks").iterdir())
    assert len(networks) == 2 + 3 + 1 + 2 + 3
    networks[1].unlink()
    result = run_script("income.py", f"--DATA_DIR={data_dir}", cwd=study)
    assert result.returncode == 0, result.stderr
    after = tables_of(study)
    for name in TABLES:
        pd.testing.assert_frame_equal(before[name], after[name])


def test_the_test_rows_can_stay_closed(study, data_dir, script):
    (study / "closed/adult").mkdir(parents=True)
    shutil.copy(data_dir / "adult/adult.data", study / "closed/adult")
    arguments = [f"--DATA_DIR={study / 'closed'}", "--COMPARED=", "--LONG_EPOCHS=0"]
    status, error = script("income.py", *arguments, "--OPEN_TEST=False", cwd=study)
    assert status == 0, error
    record = json.loads((study / "records/income/income.json").read_text())
    assert record["reported"] == "validation" and record["rows"]["reported"] == 60


WRONG = "TASK=mnist ARCH=11 ARCH=D6-RELU COMPARED=D3 SEEDS=0 OTHER_SEEDS=0 DROPPED_SEEDS=0 "
WRONG += "LONG_SEEDS=0 EPOCHS=0 PATIENCE=0 BATCH_SIZE=1 LEARNING_RATE=0 VALIDATION_SHARE=1 "
WRONG += "RULE=x PERMUTATIONS=0 EXPLAINED_ROWS=0 LONG_EPOCHS=-1 DROPPED=gender SEED=-1 NO_SUCH=1 "
WRONG += "PENALISED=gender PENALISED_SEEDS=0 LAMBDAS=0,1,2"


@pytest.mark.parametrize("case", WRONG.split())
def test_constants_that_cannot_be(study, stops, data_dir, case):
    words = ["ARCH" if case == "COMPARED=D3" else case.partition("=")[0]]
    stops("income.py", f"--DATA_DIR={data_dir}", f"--{case}", cwd=study, words=words)


@pytest.mark.parametrize("case", ["BATCH_SIZE=32", "LEARNING_RATE=0.1", "PATIENCE=1"])
def test_a_record_with_other_settings(study, stops, data_dir, case):
    words = [case.partition("=")[0].lower(), "RECORDS_DIR"]
    stops("income.py", f"--DATA_DIR={data_dir}", f"--{case}", cwd=study, words=words)


def test_no_data(study, stops):
    stops("income.py", "--DATA_DIR=nowhere", cwd=study, words=["nowhere/adult", "--TASK=adult"])


def test_other_rows_than_those_of_the_record(study, stops, data_dir):
    shutil.copytree(data_dir, study / "other")
    path = study / "other/adult/adult.data"
    path.write_text("\n".join(path.read_text().splitlines()[1:]) + "\n")
    stops("income.py", "--DATA_DIR=other", cwd=study, words=["data", "RECORDS_DIR"])


def test_compas(tmp_path, script):
    rng, lines = np.random.default_rng(0), [COMPAS_HEADER]
    for _ in range(300):
        race = rng.choice(["African-American", "Caucasian"])
        sex, priors = rng.choice(["Male", "Female"]), rng.integers(0, 9)
        label = int(priors + rng.normal(0, 2) > 4)
        lines.append(f"{rng.integers(18, 70)},0,0,0,{priors},F,{race},{sex},0,0,Low,{label}")
    (tmp_path / "data/compas").mkdir(parents=True)
    path = tmp_path / "data/compas/compas-scores-two-years.csv"
    path.write_text("\n".join(lines) + "\n")
    arguments = [f"--DATA_DIR={tmp_path / 'data'}", "--TASK=compas"]
    status, error = script("income.py", *arguments, cwd=tmp_path)
    assert status == 0, error
    repairs = set(tables_of(tmp_path)["repairs"]["repair"])
    assert "trained without race" in repairs and "trained without sex" in repairs


@pytest.mark.parametrize("name", ["train_squeeze.py", "mab.py"])
def test_scripts_for_images_refuse_tables(tmp_path, stops, name):
    stops(name, "--TASK=adult", cwd=tmp_path, words=["TASK=adult is a table", "income.py"])
