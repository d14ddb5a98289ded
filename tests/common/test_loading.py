"""What happens while a script loads: interruption, and how OpenMP's threads wait."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

# ----------------------------------------------------------------------------- interruption

SCRIPTS = ["datasets", "train_squeeze", "mab", "rivals", "finetune", "eval", "features"]


@pytest.mark.parametrize("script", [*SCRIPTS, "tools.bench", "tools.tables"])
def test_an_interruption_while_modules_load(tmp_path, script):
    """The first library that a script loads, in place of numpy, interrupts it."""
    (tmp_path / "numpy.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    target = ["-m", script] if "." in script else [str(REPOSITORY / f"{script}.py")]
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    (tmp_path / "sitecustomize.py").write_text(code)  # where tests run with SIGINT ignored
    result = subprocess.run(
        [sys.executable, *target],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 130, result.stderr
    assert result.stderr == "\nInterrupted while loading. Nothing was changed.\n"


def test_whoever_imports_a_module_keeps_the_handler():
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import mab; "
    code += "print(signal.getsignal(signal.SIGINT).__name__)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.stdout == "default_int_handler\n", result.stderr


# ----------------------------------------------------------------------------- OpenMP


@pytest.mark.parametrize(
    "outside, spin_count",
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_spin_for_a_short_time(outside, spin_count):
    """Unless it is set outside."""
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    code = "import os, common; print(os.environ.get('GOMP_SPINCOUNT'))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=environment | outside,
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() == spin_count, result.stderr
