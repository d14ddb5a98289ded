"""Shared by the tests: a small drawn data set, and the scripts as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}  # as torchrun sets it: the last bits of V depend on the number of threads
sys.path.insert(0, str(REPOSITORY))

TINY = {  # constants that make a script run for seconds
    "datasets.py": ["--IMAGE_SIZE=32"],
    "train_squeeze.py": ["--IMAGE_SIZE=32", "--WEIGHTS=none", "--EPOCHS=2", "--DEVICE=cpu"],
    "mab.py": ["--IMAGE_SIZE=32", "--IMAGES_PER_ROUND=16", "--MAX_ROUNDS=3", "--DEVICE=cpu"],
    "rivals.py": ["--IMAGE_SIZE=32", "--MAX_REMOVED=3", "--DEVICE=cpu"],
    "finetune.py": ["--IMAGE_SIZE=32", "--EPOCHS=2", "--DEVICE=cpu"],
    "bench.py": ["--IMAGE_SIZE=32", "--IMAGES=8", "--REMOVALS=3", "--REPEATS=2", "--DEVICE=cpu"],
    "coverage.py": ["--RUNS=3", "--BANDIT_RUNS=2", "--ROUNDS=40", "--PLAYERS=5"],
    "eval.py": ["--IMAGE_SIZE=32", "--MAX_REMOVED=3", "--RANDOM_ORDERS=2", "--DEVICE=cpu"],
    "features.py": ["--IMAGE_SIZE=32", "--DEVICE=cpu"],
}


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A folder of drawn portraits: 128 for training, 12 a group in each FairFace set. Read only."""
    import portraits

    folder = tmp_path_factory.mktemp("toy") / "data"
    portraits.write(str(folder), 0, train=128, val=32, test=32, fairface_train=24, fairface_val=12)
    return folder


@pytest.fixture(scope="session")
def run(toy):
    """run("mab.py", "--SEED=1", cwd=folder) -> CompletedProcess with stdout and stderr as text.

    Paths that a script writes by default (cur_records/, squeezenet.pth, .cache/) lie in cwd.
    """

    def run(script, *arguments, cwd):
        data = [] if script == "coverage.py" else [f"--DATA_DIR={toy}"]
        command = [sys.executable, str(REPOSITORY / script), *data, *TINY[script], *arguments]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=ONE_THREAD)

    return run


@pytest.fixture(scope="session")
def trained(run, tmp_path_factory):
    """A folder in which all steps have run. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("trained")
    for script in ("train_squeeze.py", "mab.py", "rivals.py", "finetune.py", "eval.py"):
        result = run(script, cwd=folder)
        assert result.returncode == 0, result.stderr
    return folder
