"""Guesses as control variates, and arguments that the bandit refuses."""

import numpy as np
import pytest

from shapley import tmab_shapley
from tests.games import additive, pairs_game, standard_errors

# ----------------------------------------------------------------------------- guesses

GUESSES = {
    "constant": lambda keep, round_seed: np.full(12, 0.3),
    "noise": lambda keep, round_seed: np.random.default_rng(round_seed).normal(0, 5, 12),
    "of who is gone": lambda keep, round_seed: np.where(keep, -0.2, 0.4),
    "good": pairs_game(12)[2],
}


@pytest.mark.parametrize("guess", GUESSES)
def test_values_are_unbiased_and_intervals_hold_whatever_the_guess(guess):
    value, values, _ = pairs_game(12)
    state = tmab_shapley(
        value,
        12,
        k=3,
        guess=GUESSES[guess],
        singles=5,
        value_range=(-0.6, 0.6),
        farthest_guess=0.2,
        max_rounds=1500,
        window=2,
        bound="bernstein",
    )
    errors = standard_errors(state)
    assert np.all(abs(state.values - values) <= 4.5 * errors) and errors.max() < 0.04
    assert np.all((state.ci_low <= values) & (values <= state.ci_high))
    assert state.rounds >= state.guesses > 100
    np.testing.assert_allclose(
        state.values, np.where(state.plain, state.means[2], state.means[:2].sum(0))
    )


def test_guesses_end_when_every_active_filter_is_sampled_in_each_round():
    """From that look on nobody is guessed, and active filters have values of marginals alone."""
    value, values, guess = pairs_game(60)
    guessed, states = [], []

    def counted(keep, round_seed):
        guessed.append(round_seed)
        return guess(keep, round_seed)

    def on_round(state):
        states.append((state.active.sum(), state.plain.copy(), len(guessed)))

    options = {"k": 3, "singles": 20, "value_range": (-0.6, 0.6), "farthest_guess": 0.2}
    state = tmab_shapley(
        value, 60, guess=counted, eps=0.002, max_rounds=3000, on_round=on_round, **options
    )
    ended = next(number for number, (_, plain, _) in enumerate(states) if plain.any())
    active, plain, n_guessed = states[ended]
    assert 0 < active <= 20 < states[ended - 1][0] and plain.sum() == active
    assert state.guesses == len(guessed) == n_guessed == ended + 1 < state.rounds
    assert (abs(state.values - values) < 0.1).all()
    assert (state.counts[2] >= state.counts[0]).all() and (state.counts[1] == ended + 1).all()
    np.testing.assert_allclose(state.values[state.plain], state.means[2, state.plain])
    np.testing.assert_allclose(state.values[~state.plain], state.means[:2, ~state.plain].sum(0))


def test_a_good_guess_makes_values_more_precise():
    value, values, guess = pairs_game(60)
    options = {"k": 3, "singles": 6, "value_range": (-0.6, 0.6), "farthest_guess": 0.5}
    plain = tmab_shapley(value, 60, max_rounds=400, **options)
    guided = tmab_shapley(value, 60, max_rounds=400, guess=guess, **options)
    assert ((guided.values - values) ** 2).mean() < 0.4 * ((plain.values - values) ** 2).mean()
    assert (standard_errors(guided) ** 2).sum() < 0.4 * (standard_errors(plain) ** 2).sum()


def count_errors(seed):
    """A run of the bandit with guesses: (missed, wrong, certified).

    Whether any interval missed its value at any look, whether a filter was certified wrongly, and
    how many filters were certified at the end.
    """
    value, values, guess = pairs_game(10, seed)
    ranked, misses, errors = np.sort(values), [], []

    def on_round(state):
        if state.rounds % 12 == 0:
            misses.append(((state.ci_low > values) | (state.ci_high < values)).any())
            wrong_top = (values[state.status == "top"] > ranked[2] + 0.02).any()
            wrong_rest = (values[state.status == "rest"] < ranked[3] - 0.02).any()
            errors.append(wrong_top or wrong_rest)

    options = {"singles": 5, "value_range": (-0.6, 0.6), "farthest_guess": 0.2, "eps": 0.01}
    state = tmab_shapley(
        value, 10, k=3, guess=guess, max_rounds=600, seed=seed, on_round=on_round, **options
    )
    return any(misses), any(errors), (state.status != "undecided").sum()


def test_guesses_cover_whole_runs():
    """Of 25 runs with delta = 0.05, about 1 may miss at any look, or certify wrongly."""
    missed, wrong, certified = np.sum([count_errors(seed) for seed in range(25)], 0)
    assert missed <= 2 and wrong <= 2 and certified > 40


def test_guesses_are_clipped_to_a_share_of_the_range():
    """A share of 0.05 of the range's width of 2: a guess moves a sample by 0.1 at most."""
    wild = np.array([9.0, -9.0, 0.05, 0.0])
    state = tmab_shapley(
        additive(np.full(4, 0.2)),
        4,
        k=1,
        guess=lambda keep, round_seed: wild,
        value_range=(-0.5, 1.5),
        max_rounds=2,
        singles=4,
    )
    clipped = np.array([0.1, -0.1, 0.05, 0.0])
    np.testing.assert_allclose(state.means[0], 0.2 - clipped)
    np.testing.assert_allclose(state.means[1], clipped)
    assert state.counts.tolist() == [[2] * 4] * 3


def test_guesses_are_of_the_coalition_that_all_share():
    """Every filter is guessed in every round, at the rounds' own coalition and seed."""
    asked, guessed = [], []

    def value(keep, round_seed):
        asked.append((keep, round_seed))
        return keep.mean(1)

    def guess(keep, round_seed):
        guessed.append((keep, round_seed))
        return np.zeros(20)

    state = tmab_shapley(value, 20, k=1, guess=guess, singles=4, max_rounds=5, window=99)
    assert state.counts[0].sum() == 20 and (state.counts[1] == 5).all()
    assert len(guessed) == 5 == state.guesses
    for number, (keep, round_seed) in enumerate(guessed):
        (coalition, first_seed), (flipped, second_seed) = asked[2 * number : 2 * number + 2]
        assert np.array_equal(coalition[0], keep) and keep.shape == (20,)
        assert (flipped != keep).sum(1).tolist() == [1] * 4
        assert round_seed == first_seed == second_seed


def test_a_round_that_is_truncated_at_once_guesses_0():
    guess = GUESSES["constant"]
    state = tmab_shapley(
        additive(np.full(12, 0.01)), 12, k=1, guess=guess, truncation=0.5, max_rounds=3
    )
    assert state.guesses == 0 and not state.values.any() and not state.means.any()
    assert (state.counts[1] == 3).all()


# ----------------------------------------------------------------------------- what is refused

RANGES = {
    "needs 0 < delta < 1, eps >= 0, 0 < deepest <= 1, a positive look_every",
    "needs a value_range (low, high), two singles or more, and positive window, chunk, "
    "clip and farthest_guess",
}
OUT_OF_RANGE = [
    {"delta": 0},
    {"delta": 1},
    {"delta": 2},
    {"eps": -1e-9},
    {"deepest": 0},
    {"deepest": 1.01},
    {"singles": 1},
    {"value_range": (3, 0)},
    {"value_range": (1, 1)},
    {"window": 0},
    {"chunk": 0},
    {"look_every": 0},
    {"farthest_guess": 0},
    {"clip": 0},
]


def run(**options):
    """A game of four players whose marginals are 0 to 3."""
    defaults = {"k": 1, "value_range": (0, 3), "max_rounds": 2}
    return tmab_shapley(additive(np.arange(4.0)), 4, **{**defaults, **options})


@pytest.mark.parametrize("options", OUT_OF_RANGE, ids=str)
def test_arguments_out_of_range(options):
    with pytest.raises(ValueError) as refusal:
        run(**options)
    assert str(refusal.value) in RANGES


@pytest.mark.parametrize(
    "options",
    [
        {"eps": 0},
        {"deepest": 1},
        {"singles": 2},
        {"window": 1, "chunk": 1, "look_every": 1},
        {"delta": 0.999, "farthest_guess": 0.5},
        {"k": 1},
        {"k": 3},
    ],
    ids=str,
)
def test_arguments_at_the_ends_of_their_ranges(options):
    assert run(**options).rounds <= 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"which": "best"}, "which='best' must be lowest or highest"),
        (
            {"bound": "hoeffding"},
            "bound='hoeffding' must be one of bernstein, sequence, asymptotic, clt",
        ),
        ({"sampler": "x"}, "sampler='x' must be one of paper, shared, guided"),
        ({"k": 0}, "k=0 must be from 1 to 3: none or all of 4 filters need no deciding"),
        ({"k": 4}, "k=4 must be from 1 to 3: none or all of 4 filters need no deciding"),
        (
            {"sampler": "guided"},
            "sampler='guided' needs a guess; give sampler='shared' without one",
        ),
        (
            {"sampler": "paper", "guess": lambda keep, round_seed: np.zeros(4)},
            "sampler='paper' takes no guess; give sampler='guided'",
        ),
    ],
)
def test_arguments_of_other_kinds(options, message):
    with pytest.raises(ValueError) as refusal:
        run(**options)
    assert str(refusal.value) == message


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_and_guesses_must_be_finite(wrong):
    def value(keep, round_seed):
        return np.full(len(keep), wrong)

    with pytest.raises(ValueError, match=r"^V is \[.*\] in round 0; it must be finite$"):
        tmab_shapley(value, 4, k=1)
    if np.isnan(wrong):  # an infinite guess is clipped as all large ones
        with pytest.raises(ValueError, match="^a guess of round 0 is not finite$"):
            run(guess=lambda keep, round_seed: np.full(4, wrong))


@pytest.mark.parametrize("value_range", [(0, 2.5), (0.5, 3)])
@pytest.mark.parametrize("sampler", ["paper", "shared"])
def test_marginals_must_stay_in_the_range(value_range, sampler):
    low, high = value_range
    message = f"a marginal of round 0 is outside value_range=({low}, {high})"
    with pytest.raises(ValueError) as refusal:
        run(value_range=value_range, sampler=sampler, singles=4)
    assert str(refusal.value) == message
    run(value_range=(low - 0.5, high + 0.5), sampler=sampler)


def test_rounding_may_leave_the_range_by_a_billionth():
    run(value_range=(0.5e-9, 3 - 0.5e-9), sampler="paper")
    for value_range in ((2e-9, 3), (0, 3 - 2e-9)):
        with pytest.raises(ValueError, match="outside value_range"):
            run(value_range=value_range, sampler="paper")
