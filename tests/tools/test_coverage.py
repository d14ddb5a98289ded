"""tools.coverage: a tiny run, and the games behind it."""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest

from shapley.intervals import BOUNDS
from tools import coverage


def test_a_tiny_run(run, tmp_path):
    result = run("tools.coverage", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "cur_records/coverage.json").read_text())
    table = pd.DataFrame(record["table"])
    assert len(table) == (len(coverage.GAMES) + 2) * len(BOUNDS)
    assert table["missed"].between(0, 1).all() and (table["width"] <= table["width_early"]).all()
    bandits = table[table["game"].str.contains("bandit")]
    assert len(bandits) == 2 * len(BOUNDS) and (bandits["wrong"] == 0).all()
    assert bandits["certified"].notna().all()


def test_constants_out_of_range(run, tmp_path):
    result = run("tools.coverage", "--ROUNDS=5", cwd=tmp_path)
    assert result.returncode == 2 and "LOOK_EVERY=12" in result.stderr


@pytest.mark.parametrize("draw", coverage.GAMES, ids=lambda draw: draw.__name__)
def test_values_of_the_games(draw):
    samples = draw(np.random.default_rng(0), 400_000)
    error = samples.std() / math.sqrt(len(samples))
    assert abs(samples.mean() - coverage.GAMES[draw]) < 4 * error
    assert np.abs(samples).max() <= 1


def test_values_of_the_game_of_pairs():
    """Against the mean marginal over all orders; chance is 0 on average."""
    game = coverage.PairsGame.draw(np.random.default_rng(1), 4)

    def value(players):
        keep = np.isin(np.arange(4), players)
        return keep @ game.weights + keep @ game.pairs @ keep / 2

    values = np.zeros(4)
    for order in itertools.permutations(range(4)):
        for place, player in enumerate(order):
            values[player] += value(order[: place + 1]) - value(order[:place])
    np.testing.assert_allclose(game.shapley_values(), values / math.factorial(4))


def test_chance_of_a_round_is_shared_by_its_coalitions():
    game = coverage.PairsGame.draw(np.random.default_rng(1), 4)
    keep = np.ones((2, 4), dtype=bool)
    first, second = game.value(keep, 7)
    assert first == second != game.value(keep, 8)[0]
    np.testing.assert_array_equal(game.guess(keep[0], 7), game.worth(7))


def test_a_wrong_value_is_a_miss(monkeypatch):
    monkeypatch.setattr(coverage, "ROUNDS", 240)
    rng = np.random.default_rng(0)
    right = coverage.one_run(coverage.accuracy_like, 0.01, rng)
    wrong = coverage.one_run(coverage.accuracy_like, 0.9, rng)
    assert not right["sequence"].missed and wrong["sequence"].missed
    assert len(right["sequence"].widths) == 20
    assert right["sequence"].widths[-1] < right["bernstein"].widths[-1]
