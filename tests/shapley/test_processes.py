"""Teams: one process, threads in place of several, and two that talk by torch.distributed."""

import os
import subprocess
import sys

import pytest

from shapley.processes import OneProcess
from tests.conftest import REPOSITORY
from tests.games import run_team


def test_one_process_is_a_team():
    team = OneProcess()
    assert (team.rank, team.size, team.interrupted, team.stopping) == (0, 1, False, False)
    result = object()
    assert team.gather(result) == [result] and team.share(result) is result
    assert team.stopping is False and team.close() is None


def test_one_process_stops_when_it_was_interrupted():
    team = OneProcess()
    team.interrupted = True
    assert not team.stopping  # not before they gather
    team.gather(None)
    assert team.stopping


def test_run_first_in_one_process_runs_once():
    calls = []
    assert OneProcess().run_first(lambda: calls.append(1) or "result") == "result"
    assert calls == [1]
    with pytest.raises(KeyError, match="reason"):
        OneProcess().run_first(lambda: {}["reason"])


def test_run_first_lets_rank_0_go_before_the_rest():
    """Rank 0 makes a cache, which all others then find."""
    calls = []

    def act(team):
        return team.run_first(lambda: calls.append(team.rank) or team.rank)

    assert run_team(3, act) == [0, 1, 2]
    assert calls[0] == 0 and sorted(calls) == [0, 1, 2]


def test_an_error_of_rank_0_is_raised_in_all():
    calls = []

    def make(team):
        calls.append(team.rank)
        raise ValueError(f"raised in rank {team.rank}")

    outcomes = run_team(3, lambda team: team.run_first(lambda: make(team)))
    assert [type(outcome) for outcome in outcomes] == [ValueError] * 3
    assert {str(outcome) for outcome in outcomes} == {"raised in rank 0"}
    assert calls == [0]  # nobody else tries


def test_all_stop_when_one_was_interrupted():
    def act(team):
        team.interrupted = team.rank == 1
        return team.gather(team.rank), team.stopping

    assert run_team(3, act) == [([0, 1, 2], True)] * 3


TWO_PROCESSES = """
import sys, torch
from shapley.processes import TorchProcesses

team = TorchProcesses(torch.device("cpu"))
assert team.size == 2
assert team.gather(("result", team.rank)) == [("result", 0), ("result", 1)] and not team.stopping
assert team.share(team.rank) == 0
team.interrupted = team.rank == 1
team.gather(None)
assert team.stopping
assert team.run_first(lambda: team.rank) == team.rank
try:
    team.run_first(lambda: {}["missing"])
except KeyError:
    raised = True
assert team.gather(raised) == [True, True]
team.close()
"""


def test_two_processes_by_torch_distributed(tmp_path):
    script = tmp_path / "team.py"
    script.write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    result = subprocess.run(
        [*command, str(script)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
