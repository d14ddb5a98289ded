"""mab.py on a few drawn portraits: its record, stages, resumption, several processes."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

from common import records, settings
from common.settings import InputError

import numpy as np
import pandas as pd
import pytest

import mab
from tests.conftest import ONE_THREAD, REPOSITORY, TINY
from tests.damage import check_message

# bytes that only the settings decide
RECORDS = ("mab.npz", "filters.csv", "race.csv", "shapley_values.pkl")
# short rounds near the whole network, so that stages take seconds
STAGES = ["--MAX_ROUNDS=1", "--DEEPEST=0.001", "--SINGLES=8", "--TRUNCATION=0", "--TOP_K=8"]
STAGES += ["--MEASURE=smooth_auc_all"]


def bytes_of_record(folder):
    return [(folder / "cur_records" / name).read_bytes() for name in RECORDS]


def copy_network(trained, folder):
    folder.mkdir(exist_ok=True)
    shutil.copy(trained / "squeezenet.pth", folder)


def start(folder, toy, *arguments, program=None, **options):
    """Start mab.py in the background."""
    program = program or [sys.executable, str(REPOSITORY / "mab.py")]
    command = [*program, f"--DATA_DIR={toy}", *TINY["mab.py"], *arguments]
    return subprocess.Popen(command, cwd=folder, env=ONE_THREAD, **options)


def torchrun(processes):
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*run, f"--nproc-per-node={processes}", str(REPOSITORY / "mab.py")]


def rounds_of(state):
    return int(np.load(state)["rounds"])


def wait_for(process, condition):
    while not condition():
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.01)


def test_record(trained):
    records = trained / "cur_records"
    state = np.load(records / "mab.npz", allow_pickle=False)
    table = pd.read_csv(records / "filters.csv")
    columns = "filter layer channel shapley ci_low ci_high samples truncated status standard_error"
    assert table.columns.tolist() == [*columns.split(), "sign", "clipped"]
    assert len(table) == 2944 and not table["layer"].str.startswith("classifier").any()
    assert table.iloc[64][["layer", "channel"]].tolist() == ["features.3.squeeze", 0]
    np.testing.assert_allclose(table["shapley"], state["values"], rtol=1e-6)
    values = pickle.loads((records / "shapley_values.pkl").read_bytes())
    assert values.dtype == np.float64 and np.array_equal(values, state["values"])
    record = json.loads((records / "mab.json").read_text())
    assert set(record["constants"]) >= {"SEED", "TOP_K"} and record["constants"]["IMAGE_SIZE"] == 32
    assert {"seconds", "device", "commit", "versions", "run", "reliability"} <= set(record)
    assert record["rounds"] == 3 and record["filters"] == 2944
    assert (values != 0).sum() > 100 and 10 < record["negative"] < 2000
    seen_twice = (state["counts"][:2] > 1).all(0)  # less their guesses, and the guesses
    assert table["standard_error"].notna().tolist() == seen_twice.tolist()


@pytest.mark.parametrize("truncation", [0, -0.5])
def test_a_truncation_that_v_cannot_fall_below_costs_nothing(script, trained, tmp_path, truncation):
    """Then a round asks for one coalition and 8 removals, and only DEEPEST ends orders."""
    copy_network(trained, tmp_path)
    arguments = [f"--TRUNCATION={truncation}", "--SINGLES=8", "--SAMPLER=shared"]
    status, errors = script("mab.py", *arguments, cwd=tmp_path)
    assert status == 0, errors
    record = json.loads((tmp_path / "cur_records/mab.json").read_text())
    assert record["evaluations"] == record["rounds"] * 9 == 27
    assert record["truncated_share"] == pytest.approx(1 - 737 / 2945)  # a quarter, rounded up


def test_stages_remove_the_lowest_and_estimate_anew(run, trained, tmp_path):
    """Stages in one go equal interrupted ones; each removes the filter of its lowest value."""
    whole, parts, first = (tmp_path / name for name in ("whole", "parts", "first"))
    for folder, stages in ((whole, (4,)), (parts, (2, 4)), (first, (1,))):
        copy_network(trained, folder)
        for number in stages:
            result = run("mab.py", *STAGES, f"--STAGES={number}", cwd=folder)
            assert result.returncode == 0, result.stderr
    assert bytes_of_record(whole) == bytes_of_record(parts)
    record = json.loads((whole / "cur_records/mab.json").read_text())
    removed = record["removed"]
    table = pd.read_csv(whole / "cur_records/filters.csv")
    state = np.load(whole / "cur_records/mab.npz")
    assert len(set(removed)) == 3
    assert (record["stages"], record["rounds"], record["guesses"]) == (4, 4, 4)
    assert table["shapley"][removed].tolist() == pytest.approx(state["lowest"].tolist(), rel=1e-5)
    assert table["ci_low"][removed].isna().all() and table["standard_error"][removed].isna().all()
    assert (state["values"][removed] == 0).all()  # they are out of the game
    assert removed[0] == np.load(first / "cur_records/mab.npz")["values"].argmin()


def test_another_network(run, tmp_path):
    for script, options in (
        ("train_squeeze.py", ["--EPOCHS=1"]),
        ("mab.py", ["--MAX_ROUNDS=1", "--TRUNCATION=0.9"]),
        ("eval.py", []),
    ):
        result = run(script, "--ARCH=resnet18", *options, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / "cur_records/filters.csv")
    assert len(table) == 4800
    assert set(table["layer"]) >= {"conv1", "layer2.0.downsample.0", "layer4.1.conv2"}


def test_progress_line_fits_in_100_columns(run, trained, tmp_path):
    copy_network(trained, tmp_path)
    result = run("mab.py", "--MAX_ROUNDS=2", cwd=tmp_path)
    lines = [line for line in result.stderr.replace("\n", "\r").split("\r") if "mab.py" in line]
    assert lines and max(map(len, lines)) <= 100
    assert "undecided, reliability" in lines[-1] and "V/s" in lines[-1]


def test_rounds_in_parts_equal_rounds_at_once(run, trained, tmp_path):
    for name, rounds in (("parts", (2, 3, 5)), ("once", (5,))):
        copy_network(trained, tmp_path / name)
        for number in rounds:
            result = run("mab.py", f"--MAX_ROUNDS={number}", cwd=tmp_path / name)
            assert result.returncode == 0, result.stderr
    assert bytes_of_record(tmp_path / "parts") == bytes_of_record(tmp_path / "once")
    assert rounds_of(tmp_path / "once/cur_records/mab.npz") == 5


def test_complete_run_says_that_no_round_was_computed(run, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    before = bytes_of_record(folder)
    result = run("mab.py", "--MAX_ROUNDS=2", cwd=folder)
    assert result.returncode == 0 and "No round was computed" in result.stdout, result.stderr
    assert bytes_of_record(folder) == before
    assert "No round was computed" not in run("mab.py", "--MAX_ROUNDS=4", cwd=folder).stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_run_goes_on(run, trained, toy, tmp_path, number):
    copy_network(trained, tmp_path)
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = start(tmp_path, toy, "--MAX_ROUNDS=100000", **pipes)
    state = tmp_path / "cur_records/mab.npz"
    wait_for(process, state.exists)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert b"goes on" in stderr or number == signal.SIGKILL
    rounds = rounds_of(state)
    result = run("mab.py", f"--MAX_ROUNDS={rounds + 1}", cwd=tmp_path)
    assert result.returncode == 0 and f"{rounds + 1} rounds" in result.stdout, result.stderr


@pytest.fixture(scope="module")
def whole(run, trained, tmp_path_factory):
    """A folder with an uninterrupted run of 40 rounds on one process."""
    folder = tmp_path_factory.mktemp("whole")
    copy_network(trained, folder)
    result = run("mab.py", "--MAX_ROUNDS=40", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_killed_again_and_again(run, trained, toy, whole, tmp_path):
    """Killed at random moments, a run loses no complete round, and ends in the same bytes."""
    rng = np.random.default_rng()
    copy_network(trained, tmp_path)
    state, rounds = tmp_path / "cur_records/mab.npz", [0]
    quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    for _ in range(5):
        process = start(tmp_path, toy, "--MAX_ROUNDS=40", **quiet)
        while process.poll() is None and (not state.exists() or rounds_of(state) == rounds[-1]):
            time.sleep(0.01)  # until there is progress
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.wait()
        rounds.append(rounds_of(state))
    assert rounds == sorted(set(rounds)) or rounds[-1] == 40, rounds
    assert run("mab.py", "--MAX_ROUNDS=40", cwd=tmp_path).returncode == 0
    assert bytes_of_record(tmp_path) == bytes_of_record(whole)


def test_killed_run_that_clips_and_draws_by_margin(script, trained, toy, tmp_path):
    """It goes on with the same batches, and keeps what was clipped and the race."""
    constants = ["--BY_MARGIN=True", "--CLIP=1e-4", "--SINGLES=32", "--LOOK_EVERY=4"]
    constants += ["--MAX_ROUNDS=14", "--BOUND=sequence"]
    folders = [tmp_path / name for name in ("killed", "whole")]
    for folder in folders:
        copy_network(trained, folder)
    quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    process = start(folders[0], toy, *constants, **quiet)
    state = folders[0] / "cur_records/mab.npz"
    while process.poll() is None and (not state.exists() or rounds_of(state) < 5):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert 5 <= rounds_of(state) < 14
    for folder in folders:
        status, errors = script("mab.py", *constants, cwd=folder)
        assert status == 0, errors
    assert bytes_of_record(folders[0]) == bytes_of_record(folders[1])
    race = pd.read_csv(folders[1] / "cur_records/race.csv")
    assert race["rounds"].tolist() == [4, 8, 12]
    record = json.loads((folders[1] / "cur_records/mab.json").read_text())
    assert record["clipped_share"] > 0 and record["run"]["BY_MARGIN"] is True


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_any_number_of_processes_writes_the_same(toy, trained, whole, tmp_path, processes):
    copy_network(trained, tmp_path)
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = start(tmp_path, toy, "--MAX_ROUNDS=40", program=torchrun(processes), **pipes)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0 and stdout.count("40 rounds") == 1, stdout + stderr
    assert bytes_of_record(tmp_path) == bytes_of_record(whole)


def test_a_process_that_dies_ends_the_run_and_it_goes_on(run, toy, trained, whole, tmp_path):
    copy_network(trained, tmp_path)
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    process = start(tmp_path, toy, "--MAX_ROUNDS=40", program=torchrun(2), **pipes)
    state = tmp_path / "cur_records/mab.npz"
    wait_for(process, state.exists)
    children = ["pgrep", "-P", str(process.pid)]
    workers = subprocess.run(children, capture_output=True, text=True).stdout.split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode != 0 and "SIGKILL" in stderr
    assert 0 < rounds_of(state) < 40
    assert run("mab.py", "--MAX_ROUNDS=40", cwd=tmp_path).returncode == 0
    assert bytes_of_record(tmp_path) == bytes_of_record(whole)


# ----------------------------------------------------------------------------- few filters


@pytest.mark.parametrize(
    "n_players, given, top_k",
    [(2, (), 1), (3, (), 1), (9, (), 2), (100, (), 25), (101, (), 100), (9, ("TOP_K",), None)],
)
def test_the_default_set_of_interest_is_lowered_for_few_filters(
    monkeypatch, capsys, n_players, given, top_k
):
    monkeypatch.setattr(records, "NOTES", [])
    monkeypatch.setattr(settings, "GIVEN", set(given))
    for name, value in (("TOP_K", 100), ("DEEPEST", 1.0)):
        monkeypatch.setattr(mab, name, value)
    if top_k is None:
        with pytest.raises(InputError, match="--TOP_K=100: must be from 1 to 8, the number of"):
            mab.fit_to_players(n_players)
        return
    mab.fit_to_players(n_players)
    line = f"TOP_K=100, the default, is lowered to {top_k}, a quarter of the {n_players} filters;"
    assert top_k == mab.TOP_K and capsys.readouterr().out.startswith(line) == (top_k < 100)


@pytest.mark.parametrize(
    "n_players, deepest, words",
    [
        (1, 1.0, "1 filters to value, but to compare takes two at least; give"),
        (9, 0.1, "--DEEPEST=0.1: must be at least 0.112, so that an order removes one of the 9"),
        (2944, 0.0003, "--DEEPEST=0.0003: must be at least 0.001, so that"),
    ],
)
def test_too_few_filters_to_remove_any(monkeypatch, n_players, deepest, words):
    for name, value in (("TOP_K", 1), ("DEEPEST", deepest)):
        monkeypatch.setattr(mab, name, value)
    with pytest.raises(InputError) as refusal:
        mab.fit_to_players(n_players)
    check_message(str(refusal.value), words)
