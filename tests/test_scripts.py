"""The real scripts on a few drawn portraits: records, repeatability, interruption."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

import model
from conftest import ONE_THREAD, REPOSITORY, TINY
from datasets import GROUP_NAMES

RIVALS = ("l2_norm", "mean_activation", "first_order", "leave_one_out", "greedy_guess", "greedy", "finetune", "finetune_head")


def records_of(folder):
    return folder / "cur_records"


def test_records_are_complete(trained):
    records = records_of(trained)
    assert {path.name for path in records.iterdir()} - {"faces.npz", "faces.png", "faces.pdf"} == {  # these if any call changed
        "train_squeeze.json", "mab.npz", "mab.json", "filters.csv", "shapley_values.pkl", "rivals.npz", "rivals.json", "finetune.json",
        "finetune.pth", "eval.csv", "eval.json", "eval.npz",
        *(f"{figure}.{kind}" for figure in ("eval", "rivals", "values") for kind in ("png", "pdf"))}
    for script in ("train_squeeze", "mab", "rivals", "finetune", "eval"):
        record = json.loads((records / f"{script}.json").read_text())
        assert {"constants", "seconds", "device", "commit", "versions"} <= set(record)
        assert record["constants"]["SEED"] == 0 and record["constants"]["IMAGE_SIZE"] == 32


def test_filters_csv_and_pickle_agree_with_the_state(trained):
    records = records_of(trained)
    state = np.load(records / "mab.npz", allow_pickle=False)
    table = pd.read_csv(records / "filters.csv")
    assert table.columns.tolist() == [
        "filter", "layer", "channel", "shapley", "ci_low", "ci_high", "samples", "truncated", "status"]
    assert len(table) == 2944 and not table["layer"].str.startswith("classifier").any()
    assert table.iloc[64][["layer", "channel"]].tolist() == ["features.3.squeeze", 0]
    np.testing.assert_allclose(table["shapley"], state["values"], rtol=1e-6)
    values = pickle.loads((records / "shapley_values.pkl").read_bytes())
    assert values.dtype == np.float64 and np.array_equal(values, state["values"])


def test_eval_csv(trained):
    table = pd.read_csv(records_of(trained) / "eval.csv")
    assert table.columns.tolist() == [
        "method", "n_removed", "split", "group", "accuracy", "ci_low", "ci_high", "n_images"]
    assert set(table["method"]) == {method + ending for method in ("shapley", "random 0", "random 1", *RIVALS) for ending in (
        "", "+threshold")}
    assert set(table["split"]) == {"choose", "report", "celeba"}
    assert ((table["ci_low"] <= table["accuracy"] + 1e-9) & (table["accuracy"] <= table["ci_high"] + 1e-9)).all()
    intact = table[(table["n_removed"] == 0) & (table["split"] == "report") & ~table["method"].str.endswith("threshold")]
    assert (intact.groupby("group")["accuracy"].nunique() == 1).all()  # nothing removed: all paths begin alike


def test_table_and_changes_follow_from_the_margins(trained):
    """eval.npz holds what eval.json's numbers are made of, so that others can make their own of several trainings."""
    record, arrays = json.loads((records_of(trained) / "eval.json").read_text()), np.load(records_of(trained) / "eval.npz")
    table = pd.DataFrame(record["table"]).set_index(["row", "group"])["value"]
    rows = {name + ending for name in ("shapley", "random", *RIVALS) for ending in ("", "+threshold")} | {"nothing", "threshold"}
    assert set(record["steps"]) == {row for row, _ in table.index} == rows
    for row in rows:
        right = (arrays[f"report/{row}"] > 0) == (arrays["male/report"] == 1)  # (K, N)
        for index, group in enumerate(GROUP_NAMES):
            assert table[row, group] == pytest.approx(right[:, arrays["group/report"] == index].mean())
    for name, change in record["changes"].items():
        after, before = name.split(" against ")
        found = pd.DataFrame(change).set_index("group")["change"]
        assert found["balanced"] == pytest.approx(table[after, "balanced"] - table[before, "balanced"])
    assert {"shapley against threshold", "shapley against nothing", "shapley+threshold against threshold",
            *(f"shapley{ending} against {name}{ending}" for name in RIVALS for ending in ("", "+threshold"))} <= set(record["changes"])


def test_openings_of_the_report_set_are_counted(run, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    closed = run("eval.py", "--OPEN_REPORT=False", "--RANDOM_ORDERS=0", "--RECORDS_DIR=cur_records", cwd=folder)
    assert closed.returncode == 0 and "choosing set" in closed.stdout, closed.stderr
    record = json.loads((records_of(folder) / "eval.json").read_text())
    assert len(record["report_opened"]) == 1  # the first, of the fixture's run
    assert set(pd.read_csv(records_of(folder) / "eval.csv")["split"]) == {"choose", "celeba"} and "CelebA val" in closed.stdout
    again = run("eval.py", "--RANDOM_ORDERS=0", cwd=folder)
    assert "opened 2 times" in again.stdout
    assert len(json.loads((records_of(folder) / "eval.json").read_text())["report_opened"]) == 2


def test_values_of_another_run_are_a_rival(run, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    (folder / "auc").mkdir()
    shutil.copy(folder / "squeezenet.pth", folder / "auc")
    assert run("mab.py", "--RECORDS_DIR=auc", "--MEASURE=auc", "--TRUNCATION=0", cwd=folder).returncode == 0
    result = run("eval.py", "--OTHERS=auc", "--RANDOM_ORDERS=0", cwd=folder)
    assert result.returncode == 0 and "values of auc and threshold" in result.stdout, result.stderr


def test_rivals(trained, toy):
    """Each names as many filters as were asked for, once, and those that its definition says."""
    orders = dict(np.load(records_of(trained) / "rivals.npz"))
    orders.pop("run")
    assert set(orders) == {"l2_norm", "mean_activation", "first_order", "leave_one_out", "greedy_guess", "greedy"}
    assert all(len(set(order.tolist())) == len(order) == 3 for order in orders.values())
    network = model.load(str(trained / "squeezenet.pth"), ARCH="squeezenet1_1", IMAGE_SIZE=32)
    norms = np.concatenate([conv.weight.detach().flatten(1).norm(dim=1).numpy() for name, conv in network.named_modules()
                            if isinstance(conv, torch.nn.Conv2d) and not name.startswith("classifier")])
    assert sorted(norms[orders["l2_norm"]]) == pytest.approx(sorted(norms)[:3])


def test_stages_remove_the_lowest_and_estimate_anew(run, trained, tmp_path):
    """Stages in one go equal stages that were interrupted; each removes the filter that its own values put lowest."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    more = ["--MAX_ROUNDS=1", "--DEEPEST=0.001", "--SINGLES=8", "--MEASURE=smooth_auc_all", "--TRUNCATION=0", "--TOP_K=8"]
    for folder, stages in ((whole, (4,)), (parts, (2, 4))):
        folder.mkdir()
        shutil.copy(trained / "squeezenet.pth", folder)
        for number in stages:
            result = run("mab.py", *more, f"--STAGES={number}", cwd=folder)
            assert result.returncode == 0, result.stderr
    assert files_of(whole) == files_of(parts)
    record = json.loads((records_of(whole) / "mab.json").read_text())
    values, state = pd.read_csv(records_of(whole) / "filters.csv")["shapley"], np.load(records_of(whole) / "mab.npz")
    assert len(set(record["removed"])) == 3 and (record["stages"], record["rounds"], record["guesses"]) == (4, 4, 4)
    assert values[record["removed"]].tolist() == pytest.approx(state["lowest"].tolist(), rel=1e-5)
    assert (state["values"][record["removed"]] == 0).all()  # they are out of the game
    (tmp_path / "first").mkdir()
    shutil.copy(trained / "squeezenet.pth", tmp_path / "first")
    assert run("mab.py", *more, cwd=tmp_path / "first").returncode == 0
    assert record["removed"][0] == np.load(records_of(tmp_path / "first") / "mab.npz")["values"].argmin()


def test_eval_removes_only_negative_filters(trained):
    record = json.loads((records_of(trained) / "eval.json").read_text())
    values = np.load(records_of(trained) / "mab.npz")["values"]
    removed = record["removed_filters"]
    assert [len(removed)] == record["steps"]["shapley"] and len(removed) <= 3
    assert (values[removed] < 0).all()
    assert len(removed) == 0 or values[removed].max() <= np.delete(values, removed).min()


def test_eval_with_nothing_to_remove(run, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    result = run("eval.py", "--MAX_REMOVED=0", cwd=folder)
    assert result.returncode == 0 and "No removal is made" in result.stdout, result.stderr


def test_another_network(run, tmp_path):
    for script, more in (("train_squeeze.py", ["--EPOCHS=1"]), ("mab.py", ["--MAX_ROUNDS=1", "--TRUNCATION=0.9"]), ("eval.py", [])):
        result = run(script, "--ARCH=resnet18", *more, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    table = pd.read_csv(records_of(tmp_path) / "filters.csv")
    assert len(table) == 4800 and set(table["layer"]) >= {"conv1", "layer2.0.downsample.0", "layer4.1.conv2"}


def test_coverage(run, tmp_path):
    result = run("coverage.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    table = pd.DataFrame(json.loads((records_of(tmp_path) / "coverage.json").read_text())["table"])
    assert len(table) == 18 and table["missed"].between(0, 1).all() and (table["width"] <= table["width_early"]).all()
    assert table["certified"].notna().sum() == 6 and (table["wrong"].dropna() == 0).all()
    assert run("coverage.py", "--ROUNDS=5", cwd=tmp_path).returncode == 2


def test_bench(run, tmp_path):
    result = run("bench.py", cwd=tmp_path)  # needs no trained network
    assert result.returncode == 0, result.stderr
    record = json.loads((records_of(tmp_path) / "bench.json").read_text())
    assert min(record[f"{way}_ms"] for way in ("plain", "plain_in_parts", "naive", "earlier", "shared", "singles", "guess")) > 0
    assert sum(record["spent"].values()) == pytest.approx(1) and record["peak_memory_gib"] > 0
    assert 0.1 < record["suffix_share"] < 0.4 and record["images"] == 8 and record["device"] == "cpu"


def test_checkpoint_loads_without_pickle(trained):
    checkpoint = torch.load(trained / "squeezenet.pth", weights_only=True)
    assert (checkpoint["arch"], checkpoint["image_size"], len(checkpoint["celeba_frame"])) == ("squeezenet1_1", 32, 4)
    assert checkpoint["state_dict"]["classifier.1.weight"].shape == (2, 512, 1, 1)
    assert not (records_of(trained) / "train_state.pth").exists()


def test_other_records_keep_their_own_weights(run, tmp_path):
    result = run("train_squeeze.py", "--RECORDS_DIR=other", "--EPOCHS=1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "other" / "squeezenet.pth").exists() and not (tmp_path / "squeezenet.pth").exists()


def test_rounds_in_parts_equal_rounds_at_once(run, trained, tmp_path):
    for name, rounds in (("parts", (2, 3, 5)), ("once", (5,))):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(trained / "squeezenet.pth", folder)
        for number in rounds:
            result = run("mab.py", f"--MAX_ROUNDS={number}", cwd=folder)
            assert result.returncode == 0, result.stderr
    for file in ("mab.npz", "filters.csv", "shapley_values.pkl"):
        assert (tmp_path / "parts/cur_records" / file).read_bytes() == (tmp_path / "once/cur_records" / file).read_bytes()
    assert np.load(tmp_path / "once/cur_records/mab.npz")["rounds"] == 5


def test_complete_run_says_that_nothing_was_computed(run, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    before = (folder / "cur_records" / "mab.npz").read_bytes()
    result = run("mab.py", "--MAX_ROUNDS=2", cwd=folder)
    assert result.returncode == 0 and "Nothing was computed" in result.stdout, result.stderr
    assert (folder / "cur_records" / "mab.npz").read_bytes() == before
    assert "Nothing was computed" not in run("mab.py", "--MAX_ROUNDS=4", cwd=folder).stdout


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_mab_goes_on(run, trained, toy, tmp_path, name):
    shutil.copy(trained / "squeezenet.pth", tmp_path)
    command = [sys.executable, str(REPOSITORY / "mab.py"), f"--DATA_DIR={toy}", *TINY["mab.py"], "--MAX_ROUNDS=100000"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=ONE_THREAD)
    state = tmp_path / "cur_records" / "mab.npz"
    while not state.exists():
        assert process.poll() is None, process.stderr.read()
    process.send_signal(name)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == (130 if name == signal.SIGINT else -signal.SIGKILL)
    assert b"goes on" in stderr or name == signal.SIGKILL
    rounds = int(np.load(state)["rounds"])
    result = run("mab.py", f"--MAX_ROUNDS={rounds + 1}", cwd=tmp_path)
    assert result.returncode == 0 and f"{rounds + 1} rounds" in result.stdout, result.stderr


def files_of(folder):
    """The bytes of what must not depend on how a run came about."""
    return [(folder / "cur_records" / file).read_bytes() for file in ("mab.npz", "filters.csv", "shapley_values.pkl")]


@pytest.fixture(scope="session")
def whole(run, trained, tmp_path_factory):
    """A folder with an uninterrupted run of 40 rounds of mab.py on one process."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copy(trained / "squeezenet.pth", folder)
    result = run("mab.py", "--MAX_ROUNDS=40", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_killed_again_and_again(run, trained, toy, whole, tmp_path):
    """Killed at random moments, a run loses no round that was complete, and ends in the same bytes."""
    rng = np.random.default_rng()
    shutil.copy(trained / "squeezenet.pth", tmp_path)
    command = [sys.executable, str(REPOSITORY / "mab.py"), f"--DATA_DIR={toy}", *TINY["mab.py"], "--MAX_ROUNDS=40"]
    state, done = tmp_path / "cur_records" / "mab.npz", [0]
    for _ in range(5):
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=ONE_THREAD)
        while process.poll() is None and (not state.exists() or int(np.load(state)["rounds"]) == done[-1]):
            time.sleep(0.01)  # until there is progress
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.wait()
        done.append(int(np.load(state)["rounds"]))
    assert done == sorted(set(done)) or done[-1] == 40, done  # each went on from where the one before was killed
    assert run("mab.py", "--MAX_ROUNDS=40", cwd=tmp_path).returncode == 0
    assert files_of(tmp_path) == files_of(whole)


def torchrun(processes, *arguments):
    return [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone",
            str(REPOSITORY / "mab.py"), *TINY["mab.py"], *arguments]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_any_number_of_processes_writes_the_same(toy, trained, whole, tmp_path, processes):
    shutil.copy(trained / "squeezenet.pth", tmp_path)
    result = subprocess.run(torchrun(processes, f"--DATA_DIR={toy}", "--MAX_ROUNDS=40"), cwd=tmp_path, capture_output=True,
                            text=True, timeout=300)
    assert result.returncode == 0 and result.stdout.count("40 rounds") == 1, result.stdout + result.stderr
    assert files_of(tmp_path) == files_of(whole)


def test_a_process_that_dies_ends_the_run_and_it_goes_on(run, toy, trained, whole, tmp_path):
    shutil.copy(trained / "squeezenet.pth", tmp_path)
    process = subprocess.Popen(torchrun(2, f"--DATA_DIR={toy}", "--MAX_ROUNDS=40"), cwd=tmp_path, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    state = tmp_path / "cur_records" / "mab.npz"
    while not state.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode != 0 and "SIGKILL" in stderr
    assert 0 < int(np.load(state)["rounds"]) < 40
    assert run("mab.py", "--MAX_ROUNDS=40", cwd=tmp_path).returncode == 0
    assert files_of(tmp_path) == files_of(whole)


def test_killed_training_goes_on_from_the_last_epoch(run, toy, tmp_path):
    arguments = ["--EPOCHS=3"]
    command = [sys.executable, str(REPOSITORY / "train_squeeze.py"), f"--DATA_DIR={toy}", *TINY["train_squeeze.py"],
               *arguments]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir(), whole.mkdir()
    process = subprocess.Popen(command, cwd=killed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               env=ONE_THREAD)
    while not (killed / "cur_records" / "train_state.pth").exists():
        assert process.poll() is None
    process.kill()
    process.communicate()
    results = [run("train_squeeze.py", *arguments, cwd=folder) for folder in (killed, whole)]
    assert [result.returncode for result in results] == [0, 0], results[0].stderr
    assert "epoch 1 of 3" not in results[0].stdout and "epoch 3 of 3" in results[0].stdout
    states = [torch.load(folder / "squeezenet.pth", weights_only=True)["state_dict"] for folder in (killed, whole)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


@pytest.mark.parametrize("script", ["train_squeeze.py", "mab.py", "rivals.py", "finetune.py", "eval.py"])
def test_shared_constants_are_known_to_all(run, tmp_path, script):
    shared = ("DATA_DIR", "RECORDS_DIR", "IMAGE_SIZE", "ARCH", "SEED", "DEVICE")
    listed = run(script, "--help", cwd=tmp_path).stdout
    assert [name for name in shared if f"--{name}=" not in listed] == []


def test_help_lists_the_constants(run, tmp_path):
    result = run("mab.py", "--help", cwd=tmp_path)
    assert result.returncode == 0 and "--TOP_K=100" in result.stdout and "TMAB-Shapley" in result.stdout


def test_importing_does_nothing(tmp_path):
    names = sorted(path.stem for path in REPOSITORY.glob("*.py"))
    code = f"import sys, random; sys.path.insert(0, {str(REPOSITORY)!r}); before = random.getstate()\n" + "\n".join(
        f"import {name}" for name in names) + "\nassert random.getstate() == before"
    result = subprocess.run([sys.executable, "-c", code, "--NO_SUCH=1"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0 and not result.stdout + result.stderr, result.stderr
    assert not list(tmp_path.iterdir())
