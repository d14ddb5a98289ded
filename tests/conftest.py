"""Shared by the tests: a small drawn data set, and the scripts as a user runs them."""

import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from tqdm import tqdm

from tests.damage import check_stopped

REPOSITORY = Path(__file__).parent.parent
# As torchrun sets it: the last bits of V depend on the number of threads.
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
os.environ.update(OMP_NUM_THREADS="1")  # pytest-xdist runs a worker on each core

CPU = ["--IMAGE_SIZE=32", "--DEVICE=cpu"]
# A network that was trained for seconds calls all images the same, whatever is removed: only smooth
# measures know of it.
SMOOTH = ["--MEASURE=soft_accuracy", "--TRUNCATION=0"]
TINY = {  # constants that make a script run for seconds
    "datasets.py": ["--IMAGE_SIZE=32"],
    "train_squeeze.py": [*CPU, "--WEIGHTS=none", "--EPOCHS=2"],
    "mab.py": [*CPU, "--IMAGES_PER_ROUND=16", "--MAX_ROUNDS=3", *SMOOTH],
    "rivals.py": [*CPU, "--MAX_REMOVED=3"],
    "finetune.py": [*CPU, "--EPOCHS=2"],
    "eval.py": [*CPU, "--MAX_REMOVED=3", "--RANDOM_ORDERS=2"],
    "features.py": CPU,
    "shortcut.py": [
        *CPU,
        "--TASK=celeba",
        "--RECORDS_DIR=cur_records",
        "--WEIGHTS=none",
        "--EPOCHS=1",
        "--IMAGES=16",
        "--CHOOSING=16",
        "--MAX_REMOVED=2",
        "--ROUNDS=2",
        "--TUNING_EPOCHS=1",
        "--TUNING_RATES=1e-4,3e-4,1e-3",
        "--FOLDS=2",
    ],
    "income.py": [
        "--ARCH=D6-RELU-D4-BN-RELU-D2",
        "--COMPARED=D4-SELU-D2",
        *("--SEEDS=2", "--OTHER_SEEDS=1", "--DROPPED_SEEDS=1", "--EPOCHS=2", "--LONG_EPOCHS=3"),
        *("--PERMUTATIONS=1", "--EXPLAINED_ROWS=50", "--BATCH_SIZE=64"),
        *("--PENALISED=sex", "--PENALISED_SEEDS=1"),
    ],
    "cdep.py": [
        *("--METHODS=cdep,rrr", "--LAMBDAS=3,30", "--SEEDS=2", "--SEARCH_SEEDS=1"),
        *("--EPOCHS=1", "--TRAIN_ROWS=100", "--SHOWN=2"),
    ],
    "projectors.py": ["--NEIGHBOURS=8", "--DIMENSIONS=4"],
    "fairwashing.py": [
        *("--METHODS=grad,lrp", "--EPOCHS=2,2,2,2", "--TEACHER_EPOCHS=2", "--EVALUATED=40"),
        *("--THROUGH_TSP=1", "--NEIGHBOURS=8", "--DIMENSIONS=4", "--VALIDATION_INTERVAL=2"),
    ],
    "tools.bench": [*CPU, "--IMAGES=8", "--REMOVALS=3", "--REPEATS=2"],
    "tools.coverage": [
        "--RUNS=3",
        "--ROUNDS=40",
        "--PLAYERS=5",
        "--BANDIT_RUNS=2",
        "--BANDIT_ROUNDS=40",
        "--BANDIT_PLAYERS=8",
    ],
    "tools.league": [
        *CPU,
        "--IMAGES=8",
        "--TOP_K=20",
        "--SEEDS=2",
        "--CHECKPOINTS=20,40,60,80,200",
        "--REFERENCE_PARTS=2",
        "--METHODS=paper,shared,guided,cmcs,gradient",
    ],
}
TINY["tools.uniform"] = TINY["mab.py"]
HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ResourceWarning)  # python hides them
SMALL_PORTRAITS = {"train": 128, "val": 32, "test": 32, "fairface_train": 24, "fairface_val": 12}


def run_script(script, *arguments, cwd):
    """Run a script ("mab.py") or a tool ("tools.bench") with its TINY constants in a folder."""
    target = [str(REPOSITORY / script)] if script.endswith(".py") else ["-m", script]
    command = [sys.executable, *target, *TINY[script], *arguments]
    environment = ONE_THREAD | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, env=environment
    )


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory, worker_id):
    """A function (name, make) -> a folder that one of pytest-xdist's workers makes for all.

    make(folder) fills it. Read only.
    """
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent

    def shared_folder(name, make):
        folder, done = base / name, base / f"{name}.done"
        with FileLock(str(base / f"{name}.lock")):
            if not done.exists():
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return shared_folder


@pytest.fixture(scope="session")
def toy(shared_folder):
    """A folder of drawn portraits: 128 for training, 12 a group in each FairFace set. Read only."""
    from drawings import portraits

    def make(folder):
        portraits.write_portraits(str(folder / "data"), 0, **SMALL_PORTRAITS)

    return shared_folder("toy", make) / "data"


@pytest.fixture(scope="session")
def run(toy):
    """Runs a script: run("mab.py", "--SEED=1", cwd=folder) -> CompletedProcess with text.

    Paths that a script writes by default (cur_records/, squeezenet.pth, .cache/) lie in cwd.
    """

    def run(script, *arguments, cwd):
        data = [] if script == "tools.coverage" else [f"--DATA_DIR={toy}"]
        return run_script(script, *data, *arguments, cwd=cwd)

    return run


@pytest.fixture(scope="session")
def trained(run, shared_folder):
    """A folder in which all steps have run. Copy it before changing it."""

    def make(folder):
        for script in ("train_squeeze.py", "mab.py", "rivals.py", "finetune.py", "eval.py"):
            result = run(script, cwd=folder)
            assert result.returncode == 0, result.stderr

    return shared_folder("trained", make)


@pytest.fixture(scope="session")
def squeezenet():
    """A network of random weights in eval mode. Not to be changed."""
    from tests.networks import random_network

    return random_network("squeezenet1_1")


@pytest.fixture(scope="session")
def faces():
    """24 faces, 6 of each group."""
    from tests.networks import draw_faces

    return draw_faces()


@pytest.fixture
def done(trained, tmp_path):
    """A copy of `trained`, free to change."""
    return shutil.copytree(trained, tmp_path / "done")


@pytest.fixture
def ready(done):
    """A copy of `trained` without values."""
    shutil.rmtree(done / "cur_records")
    return done


@pytest.fixture
def script(toy, monkeypatch, capsys, recwarn):
    """As `run` in this process, which saves 5 s; returns the exit status and stderr."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def script(name, *arguments, cwd):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", [name, f"--DATA_DIR={toy}", *TINY[name], *arguments])
        capsys.readouterr()
        recwarn.clear()
        tqdm._instances.clear()
        status = 0
        try:
            runpy.run_path(str(REPOSITORY / name), run_name="__main__")
        except SystemExit as stop:
            status = stop.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        # Warnings would be on stderr too, did pytest not collect them.
        warnings = [w.message for w in recwarn.list if not issubclass(w.category, HIDDEN)]
        return status, capsys.readouterr().err + "".join(f"\n{message}" for message in warnings)

    return script


def contents(folder):
    """Bytes of all files below a folder but caches, and states that interrupted runs go on from."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {path: path.read_bytes() for path in files if not path.name.endswith("_state.npz")}


@pytest.fixture
def stops(script):
    """stops(name, *arguments, cwd, words): bad input ends as promised, and changes no file."""

    def stops(name, *arguments, cwd, words):
        before = contents(cwd)
        check_stopped(*script(name, *arguments, cwd=cwd), *words)
        assert contents(cwd) == before

    return stops
