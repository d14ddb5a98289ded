"""projectors.py and fairwashing.py on scikit-learn's digits: records, resumption, bad input."""

import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

import datasets
import model
from drawings.note import write_note
from drawings.salaries import write_salaries
from explain.scores import SCORES
from report import hidden
from report.fairwashing import COLUMNS, GROUP_COLUMNS, KNOWING, PLAIN, PROJECTED, over_seeds
from tests.conftest import run_script
from tests.damage import check_stopped

RECORDS = "records/fairwashing"
FILES = ("scores.csv", "curves.csv")


@pytest.fixture(scope="module")
def studied(shared_folder):
    """A folder in which both scripts have run. Copy it before changing it."""

    def make(folder):
        for name in ("projectors.py", "fairwashing.py"):
            result = run_script(name, cwd=folder)
            assert result.returncode == 0, result.stderr
            assert "Warning" not in result.stderr
            (folder / f"{name}.txt").write_text(result.stdout)

    return shared_folder("fairwashed", make)


@pytest.fixture
def study(studied, tmp_path):
    return shutil.copytree(studied, tmp_path / "study")


def tables_of(folder):
    return [pd.read_csv(folder / RECORDS / name) for name in FILES]


def test_scores_of_the_record(studied):
    scores, curves = tables_of(studied)
    assert list(scores) == COLUMNS and not scores.isna().any().any()
    students = scores[["method", "attacker"]].drop_duplicates().to_numpy().tolist()
    assert students == [[m, a] for m in ("grad", "lrp") for a in (PLAIN, KNOWING)]
    assert len(scores) == 4 * (4 + 2 * (2 * len(SCORES) + len(SCORES) - 1) + len(SCORES))
    assert (scores["ci_low"] <= scores["mean"]).all() and (
        scores["mean"] <= scores["ci_high"]
    ).all()
    assert curves.groupby(["method", "attacker"])["epoch"].max().tolist() == [2] * 4
    assert curves["pcc"].notna().sum() == 4  # a look every second epoch
    table = over_seeds(scores)["mean"]
    for method in ("grad", "lrp"):
        honest = table[method, PLAIN, "teacher", "raw", "target", "pcc"]
        assert table[method, PLAIN, "student", "raw", "target", "pcc"] > honest


def test_record_maps_and_figures(studied):
    record = json.loads((studied / RECORDS / "fairwashing.json").read_text())
    assert record["images"]["report"] == 40 and record["reported"] == "test"
    maps = np.load(studied / RECORDS / "maps.npz")
    assert maps["images"].shape == (2, 28, 28) and len(maps) == 2 + 4 * 4
    for key in set(maps) - {"images", "target"}:
        np.testing.assert_allclose(np.float64(maps[key]).sum((1, 2)), 1, atol=0.01)
    for name in ("heatmaps", "scores"):
        assert (studied / RECORDS / f"{name}.png").stat().st_size > 10_000


def test_what_is_printed(studied):
    text = (studied / "fairwashing.py.txt").read_text()
    for words in ("agreement", "with TSP", "teacher's map", "trained through TSP", "written"):
        assert words in text
    assert max(map(len, text.splitlines())) < 180


def test_a_student_that_is_missing_is_trained_again_the_same(study, script):
    before = tables_of(study)
    (study / RECORDS / "networks/grad_through_tsp_seed_0.pth").unlink()
    status, error = script("fairwashing.py", cwd=study)
    assert status == 0, error
    for first, second in zip(before, tables_of(study)):
        pd.testing.assert_frame_equal(first, second)


def test_training_goes_on_from_the_last_epoch(study, script):
    """One epoch, then a second: as two at once, with a learning rate that stays the same."""
    options = ["--METHODS=grad", "--SCHEDULE=constant", "--THROUGH_TSP=0"]
    losses = []
    for folder, epochs in (("once", [2]), ("parts", [1, 2])):
        for number in epochs:
            own = [f"--RECORDS_DIR={folder}", f"--EPOCHS={number},2,2,2"]
            status, error = script("fairwashing.py", *options, *own, cwd=study)
            assert status == 0, error
        losses.append(pd.read_csv(study / folder / "curves.csv")["loss"].tolist())
    assert losses[0] == losses[1] and len(losses[0]) == 2


def test_projectors_of_a_file_give_the_same(study, script):
    """The compact file holds report images only; the students are there already."""
    before = tables_of(study)[0]
    options = ["--PROJECTORS=records/projectors/digits.h5", "--THROUGH_TSP=0"]
    status, error = script("fairwashing.py", *options, cwd=study)
    assert status == 0, error
    kept = before[before["attacker"] == PLAIN].reset_index(drop=True)
    pd.testing.assert_frame_equal(tables_of(study)[0], kept)


def test_classes_are_appended(study, script):
    path = study / "records/projectors/digits.h5"
    with h5py.File(path) as file:
        whole = {name: file["test"][name][:] for name in file["test"]}
    path.unlink()
    for targets in ("0,3", "1,2,4,5,6,7,8,9"):
        status, error = script("projectors.py", f"--TARGETS={targets}", cwd=study)
        assert status == 0, error
        with h5py.File(path) as file:
            zero = (file["test/s"][:] == 0).all(1)
            assert zero.any() == (targets == "0,3")
    with h5py.File(path) as file:
        for name, values in whole.items():
            assert np.array_equal(file["test"][name][:], values), name


def test_projectors_in_the_layout_of_the_original(study, script):
    options = ["--LAYOUT=original", "--RECORDS_DIR=original", "--ALL_DATA=True"]
    status, error = script("projectors.py", *options, cwd=study)
    assert status == 0, error
    with h5py.File(study / "original/digits.h5") as file:
        assert set(file) == {"test", "train"} and set(file["train"]) == {"s", "v"}
        n, size, d = file["test/v"].shape
        assert (size, d) == (784, 4) and file["test/s"].shape == (n, d)
        basis = torch.from_numpy(file["train/v"][:5])
    torch.testing.assert_close(basis.mT @ basis, torch.eye(4).expand(5, 4, 4), rtol=0, atol=1e-3)
    before = tables_of(study)[0]
    options = ["--PROJECTORS=original/digits.h5", "--THROUGH_TSP=0"]
    status, error = script("fairwashing.py", *options, cwd=study)
    assert status == 0, error
    kept = before[before["attacker"] == PLAIN].reset_index(drop=True)
    pd.testing.assert_frame_equal(tables_of(study)[0], kept, atol=1e-4)


def test_projectors_by_auto_encoders(study, script):
    """Of two classes, then of all; the students are there already."""
    options = ["--KIND=ae", "--EPOCHS=1", "--TARGETS=0"]
    assert script("projectors.py", *options, cwd=study)[0] == 0
    options = ["--KIND=ae", "--EPOCHS=2"]
    check_stopped(*script("projectors.py", *options, cwd=study), "EPOCHS=1", "--OVERWRITE=True")
    assert script("projectors.py", *options, "--TARGETS=0", "--OVERWRITE=True", cwd=study)[0] == 0
    for targets in ("--TARGETS=0,3", "--TARGETS="):
        status, error = script("projectors.py", *options, targets, cwd=study)
        assert status == 0, error
        path = study / "records/projectors/digits_ae.h5"
        with h5py.File(path) as file:
            zero = (file["test/s"][:] == 0).all(1)
            assert zero.any() == (targets == "--TARGETS=0,3") and not zero.all()
    with h5py.File(path) as file:
        basis = torch.from_numpy(file["test/v"][:20])
    torch.testing.assert_close(basis.mT @ basis, torch.eye(4).expand(20, 4, 4), rtol=0, atol=1e-3)
    before = tables_of(study)[0]
    options = ["--PROJECTORS=records/projectors/digits_ae.h5", "--THROUGH_TSP=0"]
    status, error = script("fairwashing.py", *options, cwd=study)
    assert status == 0, error
    kept = before[before["attacker"] == PLAIN].reset_index(drop=True)
    after = tables_of(study)[0]
    is_raw = after["maps"] != PROJECTED
    pd.testing.assert_frame_equal(after[is_raw], kept[is_raw])
    assert (after["mean"] != kept["mean"])[~is_raw & (after["measure"] == "pcc")].all()


def test_other_defences(study, script):
    """Their rows come beside the others, which stay; the students are there already."""
    before = tables_of(study)[0]
    options = ["--DEFENCES=smooth,ensemble,randomised", "--METHODS=grad"]
    status, error = script("fairwashing.py", *options, cwd=study)
    assert status == 0, error
    after = tables_of(study)[0]
    added = after["maps"].isin(["smooth", "ensemble", "randomised"])
    kept = before[before["method"] == "grad"].reset_index(drop=True)
    pd.testing.assert_frame_equal(after[~added].reset_index(drop=True), kept)
    own = after[after["reference"] == "own"]
    assert set(own["maps"]) == {"randomised"} and set(own["network"]) == {"student", "teacher"}
    keys = ["attacker", "maps", "network", "reference", "measure"]
    means = after.set_index(keys)["mean"].sort_index()
    values = [
        means[PLAIN, maps, "student", "teacher", "pcc"] for maps in after["maps"].unique()[1:]
    ]
    assert len(set(values)) == 5 and all(-1 <= value <= 1 for value in values)


def test_a_teacher_of_ones_own(study, script):
    path = study / RECORDS / "networks/teacher_seed_0.pth"
    torch.save(torch.load(path)["network"], study / "mine.pth")
    options = ["--TEACHER=mine.pth", "--RECORDS_DIR=own", "--METHODS=grad", "--THROUGH_TSP=0"]
    status, error = script("fairwashing.py", *options, cwd=study)
    assert status == 0, error
    ours, theirs = (pd.read_csv(study / name / "scores.csv") for name in (RECORDS, "own"))
    kept = ours[(ours["method"] == "grad") & (ours["attacker"] == PLAIN)]
    pd.testing.assert_frame_equal(theirs, kept.reset_index(drop=True))
    assert not (study / "own/networks/teacher_seed_0.pth").exists()


def test_other_losses_schedules_and_targets(study, script):
    options = [
        "--LOSS=kl",
        "--MAP_LOSS=absolute",
        "--OPTIMIZER=sgd",
        "--SCHEDULE=1",
        "--STRICT=True",
    ]
    options += ["--TARGET=corner", "--METHODS=xgrad,intgrad", "--RECORDS_DIR=other"]
    status, error = script("fairwashing.py", *options, "--OPEN_REPORT=False", cwd=study)
    assert status == 0, error
    record = json.loads((study / "other/fairwashing.json").read_text())
    assert record["reported"] == "validation" and record["target"] == "corner"


@pytest.mark.parametrize("task", ["celeba", "faces"])
def test_colour_images(tmp_path, script, task):
    options = [f"--TASK={task}", "--METHODS=lrp", "--EPOCHS=1,1,1,1", "--TARGET=corner"]
    options += ["--THROUGH_TSP=0"] if task == "faces" else []
    status, error = script("fairwashing.py", *options, "--EVALUATED=12", cwd=tmp_path)
    assert status == 0, error
    maps = np.load(tmp_path / RECORDS / "maps.npz")
    assert maps["lrp/plain/student/raw"].shape == (1, 32, 32)  # the mean: no map of one person
    assert "images" not in maps
    assert (tmp_path / RECORDS / "groups.csv").exists() == (task == "faces")


def test_students_of_the_gender_network(tmp_path, toy, script):
    """The teacher is a checkpoint of train_squeeze.py; imitation is without FairFace's labels."""
    network = model.build("squeezenet1_1", "none", 32)
    facts = {"ARCH": "squeezenet1_1", "IMAGE_SIZE": 32, "CLASSES": datasets.GENDERS}
    torch.save(model.pack_checkpoint(network, **facts), tmp_path / "squeezenet.pth")
    options = ["--TASK=faces", "--ARCH=squeezenet1_1", "--TEACHER=squeezenet.pth", "--SEEDS=2"]
    options += ["--METHODS=grad", "--EPOCHS=1,1,1,1", "--TARGET=corner", "--IMITATED=40"]
    options += ["--LOSS=kl", "--MAP_LOSS=absolute", "--THROUGH_TSP=0"]
    status, error = script("fairwashing.py", *options, cwd=tmp_path)
    assert status == 0, error
    record = json.loads((tmp_path / RECORDS / "fairwashing.json").read_text())
    assert record["images"]["imitated"] == 40
    groups = pd.read_csv(tmp_path / RECORDS / "groups.csv")
    assert list(groups) == GROUP_COLUMNS and set(groups["seed"]) == {0, 1}
    names = datasets.set_names(str(toy))
    assert set(groups["group"]) == {*names.values(), *datasets.GROUP_NAMES}
    report = datasets.fairface(str(toy), "report", 32, (0, 0, 1, 1))
    right = []
    with torch.no_grad():
        for part, label in zip(report.images.split(8), report.label.split(8)):
            logits = network.eval()(datasets.normalise(part, "cpu"))
            right += (logits.argmax(1) == label).tolist()
    teacher = groups[(groups["network"] == "teacher") & (groups["seed"] == 0)]
    means = teacher.set_index("group")["mean"]
    # of all report images, which are 48, EVALUATED takes 40
    rows = np.sort(np.random.default_rng(0).permutation(len(right))[:40])
    assert means[names["fairface"]] == pytest.approx(np.array(right)[rows].mean())
    assert not (tmp_path / RECORDS / "networks/teacher_seed_0.pth").exists()


def test_a_gender_network_trained_here(tmp_path, script):
    options = ["--TASK=faces", "--ARCH=squeezenet1_1", "--WEIGHTS=none", "--METHODS=grad"]
    options += ["--EPOCHS=1,1,1,1", "--TEACHER_EPOCHS=1", "--THROUGH_TSP=0", "--IMITATED=16"]
    status, error = script("fairwashing.py", *options, cwd=tmp_path)
    assert status == 0, error
    assert (tmp_path / RECORDS / "networks/teacher_seed_0.pth").exists()


@pytest.fixture
def table(tmp_path):
    """Arguments for a small drawn table."""
    write_salaries(tmp_path / "table", 0, train=300, test=100)
    write_note(tmp_path / "table", "A drawn table.")
    arguments = ["--TASK=adult", f"--DATA_DIR={tmp_path / 'table'}", "--THROUGH_TSP=0"]
    return [*arguments, "--ARCH=D6-RELU-D4-BN-RELU-D2", "--SEEDS=2"]


def test_attributes_of_a_table(tmp_path, script, table):
    """A record, and a student that is missing is trained again the same."""
    columns, scores = hidden.COLUMNS, []
    for _ in range(2):
        status, error = script("fairwashing.py", *table, "--DEFENCES=smooth,ensemble", cwd=tmp_path)
        assert status == 0, error
        scores.append(pd.read_csv(tmp_path / RECORDS / "hidden.csv"))
        (tmp_path / RECORDS / "networks/lrp_seed_1.pth").unlink()
    pd.testing.assert_frame_equal(*scores)
    assert list(scores[0]) == columns and not scores[0].isna().any().any()
    keys = scores[0].groupby(["method", "seed", "network"]).size()
    shares = 2 * (len(hidden.EXPLANATIONS) + 3)  # raw, and three kinds of the faked one
    assert set(keys[:, :, "teacher"]) == {1 + 4 + shares}
    assert set(keys[:, :, "student"]) == {1 + 1 + 2 + 4 + shares} and len(keys) == 2 * 2 * 2
    record = json.loads((tmp_path / RECORDS / "fairwashing.json").read_text())
    assert record["rows"] == {"train": 270, "validation": 30, "report": 40}
    assert record["is_drawn"] and record["hidden"] == ["sex", "race"]
    assert (tmp_path / RECORDS / "scores.png").stat().st_size > 10_000


CASES = "HIDDEN=gender HIDDEN= ARCH=D6 PATIENCE=0 TEACHER=fairwashing.txt THROUGH_TSP=1 "
CASES += "NEIGHBOURS=1000 PROJECTORS=x.h5"


@pytest.mark.parametrize("case", CASES.split())
def test_constants_of_a_table_that_cannot_be(tmp_path, stops, table, case):
    (tmp_path / "fairwashing.txt").write_text("")
    words = [case.partition("=")[0]]
    stops("fairwashing.py", *table, f"--{case}", cwd=tmp_path, words=words)


WRONG = "TASK=x METHODS=gradcam SEEDS=0 THROUGH_TSP=2 TARGET=none.png ALPHA=2 LOSS=ce "
WRONG += "BETA=0,1,1,1 MAP_LOSS=x EPOCHS=0,1,1,1 BATCH_SIZE=0 LEARNING_RATE=0,1,1,1 OPTIMIZER=x "
WRONG += "SCHEDULE=x STEPS_A_BATCH=9 VALIDATION_INTERVAL=0 NEIGHBOURS=4 NEIGHBOURS=1000 SHOWN=41 "
WRONG += "DIMENSIONS=0 EVALUATED=1 TEACHER_EPOCHS=0 TEACHER_RATE=0 TEACHER=none.pth "
WRONG += "PROJECTORS=none.h5 DEFENCES=x ARCH=x IMITATED=1"


@pytest.mark.parametrize("case", WRONG.split())
def test_constants_that_cannot_be(tmp_path, stops, case):
    stops("fairwashing.py", f"--{case}", cwd=tmp_path, words=[case.partition("=")[0]])


@pytest.mark.parametrize("case", ["ALPHA=0.5", "LEARNING_RATE=1,1,1,1", "TEACHER_RATE=0.1"])
def test_a_record_with_other_settings(study, stops, case):
    words = [case.partition("=")[0].lower().removeprefix("teacher_"), "RECORDS_DIR"]
    words = ["learning_rate" if word == "rate" else word for word in words]
    stops("fairwashing.py", f"--{case}", cwd=study, words=words)


WRONG_PROJECTORS = "TASK=adult DIMENSIONS=0 NEIGHBOURS=4 NEIGHBOURS=99 LAYOUT=x TARGETS=10 KIND=x "
WRONG_PROJECTORS += "EPOCHS=0 BATCH_SIZE=0 LEARNING_RATE=0"


@pytest.mark.parametrize("case", WRONG_PROJECTORS.split())
def test_constants_of_projectors_that_cannot_be(study, stops, case):
    stops("projectors.py", f"--{case}", cwd=study, words=[case.partition("=")[0]])
