"""tools.uniform: every filter is sampled until the whole set is decided."""

import json

import numpy as np
import pytest

import mab
from shapley import tmab_shapley
from tools.uniform import UniformSearch

N = 30


def play(search):
    """Decide the 3 highest of an additive game with chance; on_round is the search's."""
    weights = np.linspace(-0.3, 0.3, N)

    def value(keep, round_seed):
        return keep @ (weights * np.random.default_rng(round_seed).uniform(0, 2, N)) / N

    return tmab_shapley(
        value,
        N,
        k=3,
        which="highest",
        eps=1e-3,
        singles=6,
        guess=lambda keep, round_seed: weights / N,
        max_rounds=3000,
        on_round=search and search.on_round,
    )


@pytest.fixture
def search(monkeypatch):
    """A UniformSearch that neither reads nor writes."""
    monkeypatch.setattr(mab.Search, "on_round", lambda self, state: None)
    return object.__new__(UniformSearch)


def test_all_filters_are_sampled_alike_until_the_set_is_decided(search):
    uniform, bandit = play(search), play(None)
    assert uniform.decided and bandit.decided
    assert set(np.flatnonzero(uniform.status == "top")) == set(range(N - 3, N))
    assert np.ptp(uniform.samples) <= 1 and np.ptp(bandit.samples) > 10
    assert uniform.guesses == uniform.rounds and not uniform.plain.any()
    assert uniform.evaluations > bandit.evaluations


def test_a_record_says_that_sampling_was_uniform(run, ready):
    result = run("tools.uniform", cwd=ready)
    assert result.returncode == 0 and "3 rounds" in result.stdout, result.stderr
    record = json.loads((ready / "cur_records/mab.json").read_text())
    assert record["run"]["UNIFORM"] is True and record["rounds"] == 3
    result = run("mab.py", cwd=ready)
    assert result.returncode == 2 and "UNIFORM=True there, None now" in result.stderr
