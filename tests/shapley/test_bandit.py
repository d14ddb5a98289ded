"""The bandit: what it finds, when it stops, what it draws, and what it refuses."""

import copy
import math
import subprocess
import sys

import numpy as np
import pytest

from shapley import tmab_shapley
from shapley.bandit import RoundSamples, add_round
from shapley.estimate import new_estimate, truncated_share
from shapley.intervals import BOUNDS
from shapley.processes import OneProcess
from shapley.samplers import SAMPLERS
from tests.conftest import REPOSITORY
from tests.games import additive, assert_same_state, noisy, random_guess, run_team

SPREAD = np.array([-0.5, -0.4, -0.3, 0, 0, 0, 0.1, 0.3, 0.4, 0.5])
UNGUIDED = pytest.mark.parametrize("sampler", ["paper", "shared"])

# ----------------------------------------------------------------------------- what it finds


@pytest.mark.parametrize("which, expected", [("lowest", [0, 1, 2]), ("highest", [7, 8, 9])])
@pytest.mark.parametrize("bound", BOUNDS)
@UNGUIDED
def test_finds_the_set_and_stops(which, expected, bound, sampler):
    options = {"which": which, "bound": bound, "sampler": sampler, "eps": 1e-4}
    state = tmab_shapley(noisy(SPREAD, 0.05, 0.4), 10, k=3, max_rounds=5000, **options)
    assert state.decided and not state.active.any() and state.rounds < 5000
    assert np.flatnonzero(state.status == "top").tolist() == expected
    assert (state.status != "undecided").all()
    assert (
        not BOUNDS[bound].proves or state.samples.min() < state.samples.max()
    )  # decided: sampled no more
    assert np.all((state.ci_low <= SPREAD) & (state.ci_high >= SPREAD))


def test_not_decided_when_the_budget_ends():
    state = tmab_shapley(additive(np.linspace(-0.01, 0.01, 20)), 20, k=5, max_rounds=3)
    assert not state.decided and state.rounds == 3
    assert (state.status == "undecided").all()


def test_shared_coalitions_prefer_close_filters_and_skip_decided_ones():
    weights = np.concatenate([[-0.3, -0.29, -0.28], np.linspace(0, 0.3, 57)])
    value, options = noisy(weights, 0.02, 0.1), {"k": 2, "value_range": (-0.5, 0.5), "singles": 20}
    options["bound"] = "sequence"
    state = tmab_shapley(value, 60, max_rounds=600, **options)
    assert set(np.flatnonzero(state.close)) >= {0, 1, 2}
    assert state.samples[:3].min() > 3 * np.median(state.samples)
    decided = state.status == "rest"
    assert decided.any() and not state.active[decided].any()
    later = tmab_shapley(value, 60, max_rounds=612, state=copy.deepcopy(state), **options)
    assert np.array_equal(later.samples > state.samples, state.active)


@UNGUIDED
def test_additive_game_is_exact_after_one_round(sampler):
    weights = np.linspace(-1, 1, 3000)
    state = tmab_shapley(
        additive(weights),
        3000,
        k=1,
        max_rounds=1,
        sampler=sampler,
        singles=3000,
        value_range=(-9, 9),
    )
    np.testing.assert_allclose(state.values, weights, atol=1e-9)
    assert (state.samples == 1).all() and not state.truncated.any()


@UNGUIDED
@pytest.mark.parametrize(
    "n, options",
    [
        (2, {"k": 1}),
        (3, {"k": 2}),
        (40, {"k": 39}),
        (40, {"deepest": 1e-9}),
        (40, {"singles": 1000}),
        (40, {"singles": 2}),
        (5, {"window": 100, "chunk": 1}),
        (40, {"value_range": (0.01, 2.0)}),
    ],
)
def test_small_and_odd(sampler, n, options):
    weights = np.linspace(0.5, 1.5, n)
    defaults = {"k": 1, "value_range": (-2, 2), "max_rounds": 50, "sampler": sampler}
    state = tmab_shapley(additive(weights), n, **{**defaults, **options})
    if "deepest" in options:
        assert 0.5 < state.values.sum() < 1.5  # one place counts
    else:
        sampled = state.samples > 0
        np.testing.assert_allclose(state.values[sampled], weights[sampled])


# The values of a run as the first version of this code gave them.
FIRST_VERSION = {
    "paper": ([-0.0508114959426, -0.0402856505259, 0.171728939883], 66, [20, 20, 20], 74),
    "shared": ([-0.0610939528580, -0.0203899136936, 0.0868526003909], 95, [12, 12, 16], 56),
    "guided": ([-0.0615321978772, -0.0252056323841, 0.0899445222765], 95, [12, 12, 16], 56),
}
FIRST_CI_LOW = {
    "paper": [-0.375128017462, -0.356362441802, -0.215811429247],
    "shared": [-0.521488380128, -0.463461970602, -0.276113468988],
    "guided": [-0.723176132718, -0.653658169518, -0.438954202787],  # three parts, not two
}


@pytest.mark.parametrize("sampler", FIRST_VERSION)
def test_numbers_are_those_of_the_first_version(sampler):
    """Records hold values of it, and a resumed run must go on from them with the same draws."""
    guess = random_guess(6) if SAMPLERS[sampler].guesses else None
    state = tmab_shapley(
        noisy(np.linspace(-0.2, 0.3, 6), 0.05, 0.2),
        6,
        k=2,
        truncation=0.25,
        max_rounds=20,
        seed=3,
        sampler=sampler,
        singles=4,
        window=2,
        eps=1e-3,
        bound="sequence",
        deepest=0.8,
        guess=guess,
    )
    values, evaluations, samples, truncated = FIRST_VERSION[sampler]
    players = [0, 1, 5]
    np.testing.assert_allclose(state.values[players], values, rtol=1e-10)
    np.testing.assert_allclose(state.ci_low[players], FIRST_CI_LOW[sampler], rtol=1e-10)
    assert (state.evaluations, state.samples[players].tolist()) == (evaluations, samples)
    assert state.truncated.sum() == pytest.approx(truncated)


@pytest.mark.parametrize("guess", [None, random_guess(130)], ids=["plain", "guided"])
def test_defaults(guess):
    """Those of the docstring and of mab.py, on a game that is large enough to show each."""
    value, sizes = noisy(np.linspace(-0.3, 0.3, 130), 0.3, 0.5), []

    def seen(keep, round_seed):
        sizes.append(len(keep))
        return value(keep, round_seed)

    state = tmab_shapley(seen, 130, k=4, guess=guess, max_rounds=30)
    expected = tmab_shapley(
        value,
        130,
        k=4,
        which="lowest",
        eps=0.0,
        delta=0.05,
        truncation=-math.inf,
        value_range=(-1.0, 1.0),
        bound="asymptotic",
        clip=None,
        max_rounds=30,
        seed=0,
        sampler="guided" if guess else "shared",
        singles=96,
        guess=guess,
        farthest_guess=0.05,
        deepest=1.0,
        window=16,
        look_every=12,
    )
    assert_same_state(state, expected)
    assert set(sizes[:48]) == {1, 96}  # the coalition, and the removals from it
    large = []

    def whole(keep, round_seed):
        large.append(len(keep))
        return keep.mean(1)

    tmab_shapley(whole, 600, k=1, truncation=0.0, max_rounds=1)
    assert large == [16, 16, 6, 96]  # 601 places in windows of 16, 16 of them a call


def test_at_most_a_thousand_rounds_by_default():
    state = tmab_shapley(lambda keep, seed: keep[:, 0] * 0.0, 2, k=1, look_every=500)
    assert state.rounds == 1000


# ----------------------------------------------------------------------------- truncation


def test_truncation_zeroes_the_rest_of_an_order():
    """V falls by 1/10 a removal; under 0.55, that is after 5 removals, marginals count as 0."""
    sizes, options = [], {"truncation": 0.55, "chunk": 1, "sampler": "paper", "max_rounds": 1}

    def value(keep, round_seed):
        sizes.extend(keep.sum(1))
        return keep.mean(1)

    state = tmab_shapley(value, 10, k=3, window=1, **options)
    assert np.sort(state.values) == pytest.approx([0] * 5 + [0.1] * 5)
    assert state.truncated.sum() == 5 and state.evaluations == len(sizes) == 6
    state = tmab_shapley(value, 10, k=3, window=3, **options)
    assert state.truncated.sum() == 4  # looked at after 0, 3 and 6 removals


@pytest.mark.parametrize("sampler, share", [("paper", 0.25), ("shared", 3 / 11)])
def test_deepest_truncates_whatever_v_is(sampler, share):
    """Of 10 filters' 11 places, 3 count: 0.25 of them, rounded up."""
    state = tmab_shapley(
        additive(np.full(10, 0.1)), 10, k=3, deepest=0.25, max_rounds=200, sampler=sampler, window=1
    )
    counted = 0.3 if sampler == "paper" else share
    assert 1 - truncated_share(state) == pytest.approx(counted)
    assert state.values.sum() == pytest.approx(counted, rel=0.15)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_ranges_of_samples(sampler):
    """The lowest and highest sample: of what weights and guesses make of a marginal."""
    weighs, guess = SAMPLERS[sampler].weighs, SAMPLERS[sampler].guesses and random_guess(9)
    state = tmab_shapley(
        additive(np.full(9, 0.1)),
        9,
        k=1,
        value_range=(-0.5, 1.5),
        deepest=0.35,
        farthest_guess=0.1,
        guess=guess or None,
        sampler=sampler,
        max_rounds=1,
    )
    expected = np.array([[-0.5], [1.5]])
    if guess:  # marginals less guesses, guesses, marginals
        expected = np.array([[-0.7, -0.2, -0.5], [1.7, 0.2, 1.5]])
    share = 4 / 10 if weighs else 1  # 3.5 of 10 places, rounded up
    np.testing.assert_allclose(state.limits[..., 0], share * expected)


@pytest.mark.parametrize("value_range", [(0.2, 1.0), (-1.0, -0.2)])
def test_the_range_of_samples_holds_a_truncated_marginal_of_0(value_range):
    weight = np.mean(value_range)
    state = tmab_shapley(
        additive(np.full(5, weight)), 5, k=1, value_range=value_range, sampler="paper", max_rounds=1
    )
    assert state.limits.ravel().tolist() == [min(value_range[0], 0), max(value_range[1], 0)]


# ----------------------------------------------------------------------------- rounds and looks


def test_a_round_draws_from_seed_and_number_alone():
    """Its order and the seed of V come from default_rng([seed, number]), in that order."""
    calls = []

    def value(keep, round_seed):
        calls.append((keep.copy(), round_seed))
        return keep.mean(1)

    tmab_shapley(value, 6, k=1, seed=7, max_rounds=3, sampler="paper", window=1, chunk=99)
    for number, (keep, round_seed) in enumerate(calls):
        rng = np.random.default_rng([7, number])
        filters = rng.permutation(6)
        assert round_seed == int(rng.integers(2**32)) and type(round_seed) is int
        for place in range(7):
            assert set(np.flatnonzero(~keep[place])) == set(filters[:place])
    assert len(calls) == 3


def run_and_look(max_rounds, **options):
    """(rounds, width of the widest interval) after each round, and the Estimate."""
    seen = []

    def on_round(state):
        seen.append((state.rounds, (state.ci_high - state.ci_low).max()))

    options = {"k": 3, "look_every": 5, "sampler": "shared", "on_round": on_round} | options
    options.setdefault("bound", "sequence")
    state = tmab_shapley(noisy(SPREAD, 0.1, 0.4), 10, max_rounds=max_rounds, **options)
    return seen, state


def test_looks_at_the_intervals_every_few_rounds_and_at_the_end():
    seen, state = run_and_look(12)
    assert [rounds for rounds, _ in seen] == list(range(1, 13))
    widths = np.array([width for _, width in seen])
    changes = (np.flatnonzero(np.diff(widths)) + 2).tolist()  # rounds after which they change
    assert changes == [5, 10, 12]
    assert run_and_look(5)[0] == seen[:5]


def test_the_last_look_decides_nothing_for_a_run_that_goes_on():
    """A look that depends on max_rounds must not change who is sampled afterwards."""
    options = {"look_every": 100, "bound": "clt"}
    _, state = run_and_look(99, **options)
    assert state.decided and (state.status[:3] == "top").all()
    assert state.active.all() and not state.close.any()  # as at the look after 0 rounds
    _, resumed = run_and_look(110, state=state, **options)
    assert_same_state(resumed, run_and_look(110, **options)[1])
    assert resumed.rounds == 100


def test_stops_at_the_look_that_decides():
    seen, state = run_and_look(10**6, look_every=7)
    assert not state.active.any() and state.rounds % 7 == 0 and len(seen) == state.rounds


class CountingTeam(OneProcess):
    """A team of three, of which two do nothing: their results are those of rank 0."""

    size = 3

    def __init__(self):
        self.n_gathered = 0

    def gather(self, result):
        self.n_gathered += 1
        return [result] * 3


@pytest.mark.parametrize("max_rounds, waves", [(12, 4), (10, 4), (24, 8), (5, 2)])
def test_processes_share_the_rounds_up_to_a_look(max_rounds, waves):
    team = CountingTeam()
    state = tmab_shapley(additive(np.full(4, 0.1)), 4, k=1, max_rounds=max_rounds, team=team)
    assert (state.rounds, team.n_gathered) == (max_rounds, waves)


def test_a_team_larger_than_a_look_has_idle_processes():
    calls = []

    def act(team):
        def value(keep, round_seed):
            calls.append(team.rank)
            return keep.mean(1)

        return tmab_shapley(value, 4, k=1, max_rounds=4, look_every=2, team=team, eps=0.001)

    states = run_team(3, act)
    assert [state.rounds for state in states] == [4, 4, 4]
    assert set(calls) == {0, 1}


def test_add_round_adds_up():
    state = new_estimate(2, (-1, 1))
    for guessed in (True, False, True):
        samples = RoundSamples(
            np.array([[0.5, 0.25]]), np.zeros(2), np.array([0.0, -0.125]), 7, guessed
        )
        add_round(state, samples, 0.05)
    assert (state.rounds, state.evaluations, state.guesses) == (3, 21, 2)
    assert state.clipped.tolist() == [0, 3] and state.excess.tolist() == [0, -0.375]
    assert state.values.tolist() == [0.5, 0.25]


def test_a_state_of_another_range_is_refused():
    def value(keep, round_seed):
        return keep.mean(1)

    state = tmab_shapley(value, 4, k=1, max_rounds=1)
    message = "^state is of another value_range, clip, guess or deepest$"
    guess = {"guess": lambda *_: np.zeros(4)}
    for options in ({"value_range": (-3, 3)}, {"deepest": 0.5}, {"clip": 0.5}, guess):
        with pytest.raises(ValueError, match=message):
            tmab_shapley(value, 4, k=1, max_rounds=2, state=state, **options)


def test_importing_needs_no_torch():
    for module in ("shapley", "mab"):
        code = (
            "import sys; sys.modules['torch'] = sys.modules['torchvision'] = None\n"
            f"import {module}\n"
            "value = lambda keep, round_seed: keep.mean(1)\n"
            f"print({module}.tmab_shapley(value, 4, k=1, max_rounds=2).values.sum())"
        )
        command = [sys.executable, "-c", code]
        result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        assert float(result.stdout) == pytest.approx(1), result.stderr
