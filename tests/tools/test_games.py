"""tools.games: values, clipped or not, against simulation and against all orders."""

import itertools
import math

import numpy as np
import pytest

from shapley.samplers import Order, sample_shared
from tools.games import CHANCES, GAMES, PairsGame, draw_chances, subset_sums

N = 4  # players of a PairsGame, with 24 orders and 3 chances of each player


@pytest.fixture
def game():
    """Pairs matter here as much as chance does."""
    game = PairsGame.draw(np.random.default_rng(1), N)
    return PairsGame(game.weights, 20 * game.pairs)


@pytest.fixture(params=GAMES)
def samples(request):
    """A game of independent marginals, and many of them."""
    return GAMES[request.param], GAMES[request.param].draw(np.random.default_rng(0), 400_000)


def test_means_of_the_games(samples):
    game, marginals = samples
    assert np.abs(marginals).max() <= 1
    for clip in (game.clip, np.inf):
        clipped = np.clip(marginals, -clip, clip)
        error = clipped.std() / math.sqrt(len(clipped))
        assert abs(clipped.mean() - game.mean(clip)) < 4 * error


def test_means_by_hand():
    """Without clipping; and clipped so far that only signs are left."""
    expected = {
        "heavy_tailed": (0.2 / 9, 0.2),
        "mostly_zero": (0.06 * 0.2 / 128, None),
        "accuracy_like": (0.01, None),
        "rare_disaster": (-1 / 300, -1 / 300),
    }
    for name, (mean, mean_sign) in expected.items():
        assert GAMES[name].mean(np.inf) == pytest.approx(mean)
        assert GAMES[name].mean(1.0) == pytest.approx(mean)
        if mean_sign is not None:
            assert GAMES[name].mean(1e-30) * 1e30 == pytest.approx(mean_sign, rel=1e-2)


def test_clipping_clips_some_marginals_and_changes_the_mean(samples):
    game, marginals = samples
    assert 0.001 < (abs(marginals) > game.clip).mean() < 0.3
    assert abs(game.mean(game.clip) - game.mean(np.inf)) > 0.05 * abs(game.mean(np.inf))


# ----------------------------------------------------------------------------- games of pairs


def worth_of(game, players, chances):
    """V of a set of players, written slowly."""
    worth = sum(game.weights[player] + chances[player] for player in players)
    return worth + sum(game.pairs[pair] for pair in itertools.combinations(players, 2))


def mean_over_orders(game, clip):
    """Mean marginal of each player, clipped, over all orders and all chances."""
    values = np.zeros(N)
    for order in itertools.permutations(range(N)):
        for place, player in enumerate(order):
            for shift, probability in CHANCES:
                chances = np.where(np.arange(N) == player, shift, 0)
                before = worth_of(game, order[:place], chances)
                marginal = worth_of(game, order[: place + 1], chances) - before
                values[player] += probability * np.clip(marginal, -clip, clip)
    return values / math.factorial(N)


def test_values_over_all_orders(game):
    np.testing.assert_allclose(game.shapley_values(), mean_over_orders(game, np.inf))


@pytest.mark.parametrize("clip", [0.1, 0.3, 0.5, np.inf])
def test_clipped_values_over_all_orders(game, clip):
    expected = mean_over_orders(game, clip)
    np.testing.assert_allclose(game.clipped_values(clip), expected, atol=1e-15)
    assert np.isinf(clip) or abs(expected - game.shapley_values()).max() > 0.01


def test_clipped_values_are_means_of_what_the_sampler_draws(game):
    """Of 20,000 rounds of sample_shared, as the bandit uses it."""
    rng = np.random.default_rng(0)
    marginals = []
    for round_seed in range(20_000):
        order = Order(rng.permutation(N), -np.inf, N + 1, 16, 16)
        drawn = sample_shared(
            lambda keep, seed=round_seed: game.value(keep, seed), np.arange(N), order, rng
        )
        assert (drawn.weights == 1).all()
        marginals.append(np.clip(drawn.marginals, -0.3, 0.3))
    error = np.std(marginals, axis=0) / math.sqrt(len(marginals))
    assert (abs(np.mean(marginals, axis=0) - game.clipped_values(0.3)) < 4 * error).all()


def test_without_clipping_both_formulas_agree():
    game = PairsGame.draw(np.random.default_rng(2), 12)
    np.testing.assert_allclose(game.clipped_values(np.inf), game.shapley_values(), atol=1e-14)


def test_subset_sums():
    assert subset_sums(np.array([1, 2, 4])).tolist() == list(range(8))
    assert subset_sums(np.array([])).tolist() == [0]


def test_chances_come_as_often_as_they_say():
    drawn = np.concatenate([draw_chances(seed, 50) for seed in range(1000)])
    for shift, probability in CHANCES:
        assert (drawn == shift).mean() == pytest.approx(probability, abs=0.01)
    assert set(drawn) == {shift for shift, _ in CHANCES}


def test_chance_of_a_round_is_shared_by_its_coalitions():
    game = PairsGame.draw(np.random.default_rng(1), 4)
    keep = np.ones((2, 4), dtype=bool)
    first, second = game.value(keep, 7)
    assert first == second == game.weights.sum() + draw_chances(7, 4).sum() + game.pairs.sum() / 2
    assert len({float(game.value(keep, seed)[0]) for seed in range(20)}) > 1
    np.testing.assert_array_equal(game.guess(keep[0], 7), game.worth(7))
