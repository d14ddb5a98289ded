"""eval.py on a few drawn faces: its records, its promises, and how often a set was opened.

Other tasks: test_applications.py. Bad input: test_bad_constants.py, test_bad_records.py.
"""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

import eval as script  # the file eval.py; Python's own eval is not meant
from datasets import GROUP_NAMES, Images
from drawings.portraits import write_portraits
from filters.retraining import Retrained
from tests.conftest import SMALL_PORTRAITS

RIVALS = (
    "l2_norm",
    "mean_activation",
    "first_order",
    "relevance",
    "leave_one_out",
    "greedy_guess",
    "greedy",
    "finetune",
    "finetune_head",
    "dfr",
    "leace",
    "leace_dfr",
)


def load(folder):
    return json.loads((folder / "cur_records/eval.json").read_text())


def test_records_are_complete(trained):
    names = {path.name for path in (trained / "cur_records").iterdir()}
    drawn = ("eval", "rivals", "frontier", "values")
    figures = {f"{name}.{kind}" for name in drawn for kind in ("png", "pdf")}
    assert "eval_state.npz" not in names
    assert names >= {"eval.json", "eval.csv", "eval.npz", *figures}
    record = load(trained)
    assert list(record) == [
        "constants", "seconds", "device", "commit", "notes", "peak_memory_gib", "versions", "run",
        "runs", "report_opened", "told", "rules", "labels", "steps", "trained", "removed_filters",
        "removed_certified", "table", "changes", "data_names",
    ]  # fmt: skip
    assert record["constants"]["SEED"] == 0 and record["constants"]["IMAGE_SIZE"] == 32
    assert record["run"] == record["runs"]["shapley"]
    assert len(record["removed_certified"]) == len(record["removed_filters"])
    assert list(record["table"][0]) == [
        "group", "value", "ci_low", "ci_high", "n_images", "row", "steps"
    ]  # fmt: skip


def state_of(network="n", removal="mean", order=(1, 2), weight=0.5, pixel=7):
    """What eval.py's state must share with a run to be gone on with."""
    run = {"network": network, "images": "i", "REMOVAL": removal}
    repair = Retrained(["1 epochs"], [{"weight": torch.tensor([weight])}])
    nobody = torch.zeros(1, dtype=torch.int64)
    images = Images(torch.full((1, 3, 2, 2), pixel, dtype=torch.uint8), nobody, nobody)
    orders, faces = {"shapley": np.array(order)}, {"report": images}
    return script.saved_margins(run, orders, {"dfr": repair}, faces).run


@pytest.mark.parametrize(
    "changes",
    [{"network": "m"}, {"removal": "zero"}, {"order": (2, 1)}, {"weight": 0.6}, {"pixel": 8}],
)
def test_a_state_of_another_run_is_not_gone_on_with(changes):
    """test_following has what happens then."""
    assert state_of(**changes) != state_of() == state_of()


def test_curves(trained):
    table = pd.read_csv(trained / "cur_records/eval.csv")
    assert table.columns.tolist() == [
        "method", "n_removed", "split", "group", "accuracy", "ci_low", "ci_high", "n_images"
    ]  # fmt: skip
    methods = {"shapley", "random 0", "random 1", *RIVALS}
    shifted = {f"{method}+threshold" for method in methods}
    assert set(table["method"]) == methods | shifted
    assert set(table["split"]) == {"choose", "report", "celeba", "celeba val"}
    assert (table.groupby("method")["n_removed"].max()[["shapley", "random 0"]] == 3).all()
    assert (table["ci_low"] <= table["accuracy"] + 1e-9).all()
    assert (table["accuracy"] <= table["ci_high"] + 1e-9).all()
    intact = table[(table["n_removed"] == 0) & (table["split"] == "report")]
    intact = intact[~intact["method"].str.endswith("threshold")]  # all paths begin alike
    assert (intact.groupby("group")["accuracy"].nunique() == 1).all()


def test_table_and_changes_follow_from_the_margins(trained):
    """eval.npz holds what eval.json's numbers are made of, for tables of several trainings."""
    record, arrays = load(trained), np.load(trained / "cur_records/eval.npz")
    table = pd.DataFrame(record["table"]).set_index(["row", "group"])["value"]
    names = [*("shapley", "random"), *RIVALS]
    rows = {"threshold", *names, *(f"{name}+threshold" for name in names)}
    rows |= {f"{row}@{rule}" for row in rows for rule in ("worst", "celeba")}
    rows |= {"nothing", "race_thresholds"}
    assert set(record["steps"]) == {row for row, _ in table.index} == rows == set(record["labels"])
    for row in rows:
        right = (arrays[f"report/{row}"] > 0) == (arrays["male/report"] == 1)  # (K, N)
        for index, group in enumerate(GROUP_NAMES):
            share = right[:, arrays["group/report"] == index].mean()
            assert table[row, group] == pytest.approx(share)
    for name, change in record["changes"].items():
        after, before = name.split(" against ")
        changes = pd.DataFrame(change).set_index("group")["change"]
        expected = table[after, "balanced"] - table[before, "balanced"]
        assert changes["balanced"] == pytest.approx(expected)


def test_a_step_is_chosen_by_the_choosing_set(trained):
    """Its accuracy there is within one standard error of the best's, or of what that can be."""
    record, curves = load(trained), pd.read_csv(trained / "cur_records/eval.csv")
    curves = curves[(curves["split"] == "choose") & (curves["group"] == "balanced")]
    for row, steps in record["steps"].items():
        if row in curves["method"].values:
            curve = curves[curves["method"] == row].set_index("n_removed")["accuracy"]
            errors = np.sqrt(2 * 0.25 / 48)  # of a difference of two shares of 48 images, at most
            assert curve.max() - curve[steps[0]] <= errors


def test_what_was_trained_is_named(trained):
    """Each chosen step of training, as finetune.json names the steps."""
    record = load(trained)
    steps = json.loads((trained / "cur_records/finetune.json").read_text())["steps"]
    method_of = {row: row.split("@")[0].split("+")[0] for row in record["steps"]}
    assert set(record["trained"]) == {row for row, name in method_of.items() if name in steps}
    for row, names in record["trained"].items():
        all_steps = ["as it was", *steps[method_of[row]]]
        assert names == [all_steps[step] for step in record["steps"][row]]


def test_celeba_alone_chooses_by_celebas_val(trained):
    record, curves = load(trained), pd.read_csv(trained / "cur_records/eval.csv")
    curves = curves[(curves["split"] == "celeba val") & (curves["group"] == "all")]
    for name in ("shapley", "greedy", "finetune"):
        curve = curves[curves["method"] == name].set_index("n_removed")["accuracy"]
        (step,) = record["steps"][f"{name}@celeba"]
        assert curve.max() - curve[step] <= np.sqrt(2 * 0.25 / 32)


def test_only_negative_filters_are_removed(trained):
    """The lowest, in their order, and as many as were chosen."""
    record = load(trained)
    values = np.load(trained / "cur_records/mab.npz")["values"]
    removed = record["removed_filters"]
    assert [len(removed)] == record["steps"]["shapley"] and len(removed) <= 3
    assert (values[removed] < 0).all()
    assert removed == np.argsort(values, kind="stable")[: len(removed)].tolist()


def test_no_filter_of_positive_value_goes(done, run):
    """Two are negative: then the path ends after two, although MAX_REMOVED allows for more."""
    path = done / "cur_records/mab.npz"
    arrays = dict(np.load(path))
    arrays["values"] = np.linspace(0.0, 1.0, len(arrays["values"]))
    arrays["values"][[7, 300]] = [-0.5, -0.25]
    np.savez(path, **arrays)
    result = run("eval.py", "--MAX_REMOVED=6", "--RANDOM_ORDERS=1", cwd=without_rivals(done))
    assert result.returncode == 0, result.stderr
    steps = pd.read_csv(done / "cur_records/eval.csv").groupby("method")["n_removed"].max()
    assert steps.to_dict() == {
        "shapley": 2, "shapley+threshold": 2, "random 0": 6, "random 0+threshold": 6
    }  # fmt: skip
    assert load(done)["removed_filters"] in ([], [7], [7, 300])


def without_rivals(folder):
    for name in ("rivals.npz", "finetune.pth"):
        (folder / "cur_records" / name).unlink()
    return folder


def test_openings_of_the_report_set_are_counted(run, done):
    without_rivals(done)
    closed = run("eval.py", "--OPEN_REPORT=False", "--RANDOM_ORDERS=0", cwd=done)
    assert closed.returncode == 0 and "choosing set" in closed.stdout, closed.stderr
    assert "CelebA val" in closed.stdout
    record = load(done)
    assert record["told"] == "choose" and len(record["report_opened"]) == 1  # the fixture's
    assert set(pd.read_csv(done / "cur_records/eval.csv")["split"]) == {"choose", "celeba"}
    again = run("eval.py", "--RANDOM_ORDERS=0", cwd=done)
    assert "opened 2 times" in again.stdout
    assert len(load(done)["report_opened"]) == 2


def test_values_of_another_run_are_a_rival(run, done):
    (done / "auc").mkdir()
    shutil.copy(done / "squeezenet.pth", done / "auc")
    options = ["--RECORDS_DIR=auc", "--MEASURE=auc", "--TRUNCATION=0"]
    assert run("mab.py", *options, cwd=done).returncode == 0
    result = run("eval.py", "--OTHERS=auc", "--RANDOM_ORDERS=0", cwd=without_rivals(done))
    assert result.returncode == 0 and "values of auc and threshold" in result.stdout, result.stderr
    record = load(done)
    assert record["runs"]["values of auc"]["MEASURE"] == "auc"
    assert {"values of auc", "values of auc+threshold"} <= set(record["steps"])


def test_nothing_to_remove(run, done):
    result = run("eval.py", "--MAX_REMOVED=0", cwd=without_rivals(done))
    assert result.returncode == 0 and "No removal is made" in result.stdout, result.stderr


def test_drawings_are_called_so(run, done, tmp_path):
    """The names of the sets are in the record, and on the screen."""
    assert load(done)["data_names"] == {"fairface": "FairFace", "celeba": "CelebA"}
    drawn = tmp_path / "drawn"
    write_portraits(str(drawn), 0, **SMALL_PORTRAITS)
    (drawn / "DRAWN.txt").write_text("Drawn.\n")
    result = run("eval.py", f"--DATA_DIR={drawn}", "--RANDOM_ORDERS=0", cwd=without_rivals(done))
    assert result.returncode == 0, result.stderr
    assert "FairFace" not in result.stdout and "CelebA" not in result.stdout
    names = load(done)["data_names"]
    assert all(name in result.stdout for name in names.values()) and "drawn" in names["celeba"]


# ----------------------------------------------------------------------------- small functions


def test_table_rows():
    table = pd.DataFrame({"group": ["a", "b"], "value": [0.5, 1.0], "ci_low": [np.nan, 0.25]})
    assert script.table_rows(table) == [
        {"group": "a", "value": 0.5, "ci_low": None},
        {"group": "b", "value": 1.0, "ci_low": 0.25},
    ]


def test_other_folders(monkeypatch):
    monkeypatch.setattr(script, "OTHERS", "a/auc/,b/worst,,")
    assert script.split_list(script.OTHERS) == ["a/auc/", "b/worst"]
    assert script.other_folders() == {"values of auc": "a/auc/", "values of worst": "b/worst"}


@pytest.mark.parametrize(
    "constants, words",
    [
        ({"MAX_REMOVED": -1}, "MAX_REMOVED=-1: must be 0 or more"),
        ({"RANDOM_ORDERS": -1}, "RANDOM_ORDERS=-1: must be 0 or more"),
        ({"OTHERS": "nowhere"}, "OTHERS=nowhere: must be folders of different names"),
        ({"OTHERS": "a/x,b/x"}, "different names"),
        ({"OTHERS": "a/x+y"}, "without +"),
        ({"TASK": "mnist", "OTHERS": "a/x"}, "OTHERS=a/x: must be empty"),
        ({"TASK": "mnist", "EVERY": 0}, "EVERY=0: must be at least 1"),
    ],
)
def test_constants(constants, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for folder in ("a/x", "b/x", "a/x+y", "b/y"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "mab.npz").touch()
    for name, value in {"OTHERS": "a/x,b/y"}.items():
        monkeypatch.setattr(script, name, value)
    script.check_constants()
    for name, value in ({"OTHERS": ""} | constants).items():
        monkeypatch.setattr(script, name, value)
    with pytest.raises(script.InputError) as stop:
        script.check_constants()
    assert words in str(stop.value)
