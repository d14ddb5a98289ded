"""The race: at each regular look, how many filters are still sampled, certified, ruled out."""

import copy

import numpy as np
import pytest

from shapley import tmab_shapley
from shapley.estimate import new_estimate
from shapley.samplers import SAMPLERS
from tests.games import assert_same_state, noisy, random_guess, run_team

WEIGHTS = np.array([-0.5, -0.4, -0.3, 0, 0, 0, 0.1, 0.3, 0.4, 0.5])


def run(max_rounds, sampler="shared", **options):
    """A run that decides the three lowest of 10."""
    options = {"k": 3, "look_every": 5, "eps": 0.02, "sampler": sampler, "singles": 4} | options
    if SAMPLERS[sampler].guesses:
        options["guess"] = random_guess(10)
    return tmab_shapley(noisy(WEIGHTS, 0.3, 0.5), 10, max_rounds=max_rounds, **options)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_row_for_each_regular_look(sampler):
    """It says what the Estimate holds after the look."""
    expected = []

    def on_round(state):
        if state.rounds % 5 == 0:
            active, top, rest = state.active, state.status == "top", state.status == "rest"
            counts = [active.sum(), top.sum(), rest.sum()]
            expected.append([state.rounds, state.evaluations, *counts])

    state = run(2000, sampler, on_round=on_round)
    assert state.decided and state.race.tolist() == expected and state.race.dtype == np.int64
    assert state.race[:, 0].tolist() == list(range(5, state.rounds + 1, 5))
    assert state.race[0, 2:].tolist() == [10, 0, 0] and state.race[-1, 2:].tolist() == [0, 3, 7]
    assert len(np.unique(state.race[:, 2])) > 3  # filters leave the race one by one


def test_no_row_before_the_first_look_nor_for_the_last_round():
    assert new_estimate(3, (-1, 1)).race.shape == (0, 5)
    assert run(4).race.shape == (0, 5)
    assert run(13).race[:, 0].tolist() == [5, 10]  # the look after round 13 depends on the budget
    assert run(13, look_every=1).race[:, 0].tolist() == list(range(1, 14))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_race_goes_on_after_a_resumption(sampler):
    whole = run(60, sampler)
    assert len(np.unique(whole.race[:, 2])) > 1
    for rounds in (3, 5, 12, 59):
        first = run(rounds, sampler)
        n_rows = min(rounds, whole.rounds) // 5
        resumed = run(60, sampler, state=copy.deepcopy(first))
        assert_same_state(resumed, whole)
        assert first.race.tolist() == whole.race[:n_rows].tolist()


@pytest.mark.parametrize("size", [2, 3, 7])
def test_every_process_sees_the_same_race(size):
    whole = run(60, "guided")
    for state in run_team(size, lambda team: run(60, "guided", team=team)):
        assert_same_state(state, whole)
        assert state.race.tolist() == whole.race.tolist() != []
