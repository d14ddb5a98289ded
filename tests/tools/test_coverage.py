"""tools.coverage: a tiny run, and what it counts. Its games: test_games.py."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from shapley.estimate import new_estimate
from shapley.intervals import BOUNDS, update
from tools import coverage
from tools.games import GAMES


def test_a_tiny_run(run, tmp_path):
    result = run("tools.coverage", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "cur_records/coverage.json").read_text())
    table = pd.DataFrame(record["table"])
    kinds = [*GAMES, *coverage.BANDITS]
    assert len(table) == len(kinds) * 2 * len(BOUNDS)
    assert not table[["game", "clip", "bound"]].duplicated().any()
    assert table["missed"].between(0, 1).all() and (table["width"] <= table["width_early"]).all()
    clips = table.groupby("game")["clip"].max()
    assert all(clips[name] == game.clip for name, game in GAMES.items())
    bandits = table[table["game"].isin(coverage.BANDITS)]
    assert (bandits["clip"].dropna() == coverage.BANDIT_CLIP).all()
    assert (bandits["wrong"] == 0).all() and bandits["certified"].between(0, 8).all()
    assert bandits["rounds"].between(12, 40).all() and bandits["decided"].between(0, 1).all()
    assert (bandits["evaluations"] <= 5 * bandits["rounds"]).all()  # a coalition, half of 8 players
    assert len(result.stdout.splitlines()) == 1 + len(table)


@pytest.mark.parametrize(
    "constant, rule",
    [
        ("--ROUNDS=5", "LOOK_EVERY=12"),
        ("--BANDIT_ROUNDS=5", "LOOK_EVERY=12"),
        ("--BANDIT_PLAYERS=5", "more than TOP_K=5"),
        ("--BANDIT_PLAYERS=23", "at most 22"),
        ("--BANDIT_CLIP=0.0", "above 0"),
    ],
)
def test_constants_out_of_range(run, tmp_path, constant, rule):
    result = run("tools.coverage", constant, cwd=tmp_path)
    assert result.returncode == 2 and rule in result.stderr


def simulate(name, values, monkeypatch, rounds=240):
    """20 runs of a game: {(clip, bound): Looks}."""
    monkeypatch.setattr(coverage, "ROUNDS", rounds)
    return coverage.simulate_runs(GAMES[name].draw, values, 20, np.random.default_rng(0))


def test_a_wrong_value_is_a_miss(monkeypatch):
    right = simulate("accuracy_like", {None: 0.01}, monkeypatch)[None, "sequence"]
    wrong = simulate("accuracy_like", {None: 0.9}, monkeypatch)[None, "sequence"]
    assert not right.missed.any() and wrong.missed.all()
    assert right.missed.shape == (20,) and len(right.widths) == 20


def test_clipped_intervals_hold_clipped_values_and_are_narrower(monkeypatch):
    """A tight clip: 0.02 of marginals with a deviation of 0.06."""
    mean = GAMES["accuracy_like"].mean
    values = {None: mean(np.inf), 0.02: mean(0.02)}
    results = simulate("accuracy_like", values, monkeypatch)
    for bound in BOUNDS:
        assert results[0.02, bound].widths[-1] < results[None, bound].widths[-1]
    assert not results[0.02, "sequence"].missed.any()
    wrong = simulate("heavy_tailed", {0.02: GAMES["heavy_tailed"].mean(np.inf)}, monkeypatch)
    assert wrong[0.02, "sequence"].missed.all()  # a clipped marginal is smaller than that


def test_runs_at_once_are_runs_of_their_own(monkeypatch):
    """Under every bound, the limits of 3 runs of 4 players are those of each run alone."""
    monkeypatch.setattr(coverage, "PLAYERS", 4)
    samples = GAMES["accuracy_like"].draw(np.random.default_rng(0), (60, 12))
    together = new_estimate(12, coverage.RANGE)
    for marginals in samples:
        update(together, marginals[None], np.zeros(12), 3 * coverage.DELTA)
    for number, run in enumerate(coverage.split_runs(together, 3)):
        alone = new_estimate(4, coverage.RANGE)
        for marginals in samples[:, 4 * number : 4 * number + 4]:
            update(alone, marginals[None], np.zeros(4), coverage.DELTA)
        for interval in BOUNDS.values():
            limits = interval(run, coverage.DELTA)
            np.testing.assert_allclose(limits, interval(alone, coverage.DELTA), rtol=1e-12)


def test_rows_are_of_all_batches(monkeypatch):
    """Of 5 runs in batches of 2: a batch of 1 counts half as much."""
    for name, number in {"RUNS": 5, "BATCH": 2, "ROUNDS": 24, "PLAYERS": 4}.items():
        monkeypatch.setattr(coverage, name, number)
    sizes = []

    def simulate_runs(draw, values, n_runs, rng):
        sizes.append(n_runs)
        keys = itertools.product(values, BOUNDS)
        missed = np.full(n_runs, n_runs == 1)
        return {key: coverage.Looks(missed, [1.0, float(n_runs)]) for key in keys}

    monkeypatch.setattr(coverage, "simulate_runs", simulate_runs)
    rows = coverage.simulate_game(0, "heavy_tailed")
    assert sizes == [2, 2, 1] and len(rows) == 2 * len(BOUNDS)
    assert {row["missed"] for row in rows} == {0.2} and rows[0]["width_early"] == 1
    assert rows[0]["width"] == pytest.approx((4 * 2 + 1) / 5)
    assert [row["value"] for row in rows[:: len(BOUNDS)]] == pytest.approx(
        [GAMES["heavy_tailed"].mean(clip) for clip in (np.inf, 0.1)]
    )


def test_clipped_range():
    assert coverage.clipped_range((-1.0, 0.5), None) == (-1.0, 0.5)
    assert coverage.clipped_range((-1.0, 0.5), 0.7) == (-0.7, 0.5)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("clip", [None, 0.3])
def test_a_whole_run(clip, guided):
    """The bandit decides a game of 8 players, and no interval misses what the trial says."""
    trial = coverage.draw_trial([1], 8, 0.3)
    run = coverage.whole_run(trial, "asymptotic", clip, guided)
    assert not run.missed and not run.wrong
    assert run.decided and run.certified == 8 and run.rounds < coverage.BANDIT_ROUNDS
    assert run.evaluations <= 5 * run.rounds and run.late <= run.early < 0.5


def test_a_whole_run_notices_wrong_values():
    """As if the values had other signs: intervals miss them, and the lowest are the highest."""
    trial = coverage.draw_trial([1], 8, 0.3)
    trial.values[None] = -trial.values[None]
    run = coverage.whole_run(trial, "asymptotic", None, guided=False)
    assert run.missed and run.wrong


def test_trials_know_values_with_and_without_clip():
    trial = coverage.draw_trial([1], 8, 0.3)
    np.testing.assert_array_equal(trial.values[None], trial.game.shapley_values())
    assert (abs(trial.values[0.3]) <= 0.3).all()
    assert abs(trial.values[None]).max() > 0.3
