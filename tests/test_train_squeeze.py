"""train_squeeze.py on a few drawn portraits: its record, and an interrupted training."""

import json
import subprocess
import sys

import torch

from tests.conftest import ONE_THREAD, REPOSITORY, TINY


def state_of(folder):
    return torch.load(folder / "squeezenet.pth", weights_only=True)["state_dict"]


def test_checkpoint_loads_without_pickle(trained):
    checkpoint = torch.load(trained / "squeezenet.pth", weights_only=True)
    assert (checkpoint["arch"], checkpoint["image_size"]) == ("squeezenet1_1", 32)
    assert len(checkpoint["celeba_frame"]) == 4 and checkpoint["classes"] == ("female", "male")
    assert checkpoint["state_dict"]["classifier.1.weight"].shape == (2, 512, 1, 1)
    assert not (trained / "cur_records/train_state.pth").exists()


def test_record(trained):
    record = json.loads((trained / "cur_records/train_squeeze.json").read_text())
    assert record["constants"]["EPOCHS"] == 2 and record["constants"]["SEED"] == 0
    sets = {row["set"] for row in record["accuracy"]}
    assert len(sets) == 3 and any("choose" in name for name in sets)
    for row in record["accuracy"]:
        assert row["ci_low"] - 1e-9 <= row["accuracy"] <= row["ci_high"] + 1e-9


def test_other_records_keep_their_own_weights(run, tmp_path):
    result = run("train_squeeze.py", "--RECORDS_DIR=other", "--EPOCHS=1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "other/squeezenet.pth").exists()
    assert not (tmp_path / "squeezenet.pth").exists()


def test_killed_training_goes_on_from_the_last_epoch(run, toy, tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    whole.mkdir()
    script = [sys.executable, str(REPOSITORY / "train_squeeze.py"), f"--DATA_DIR={toy}"]
    command = [*script, *TINY["train_squeeze.py"], "--EPOCHS=3"]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=killed, env=ONE_THREAD, **quiet)
    while not (killed / "cur_records/train_state.pth").exists():
        assert process.poll() is None
    process.kill()
    process.communicate()
    results = [run("train_squeeze.py", "--EPOCHS=3", cwd=folder) for folder in (killed, whole)]
    assert [result.returncode for result in results] == [0, 0], results[0].stderr
    assert "epoch 1 of 3" not in results[0].stdout and "epoch 3 of 3" in results[0].stdout
    states = [state_of(folder) for folder in (killed, whole)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
