"""Samplers: one conformance test for all, and each against its definition, step by step."""

import itertools
import math

import numpy as np
import pytest

from shapley import tmab_shapley
from shapley.estimate import truncated_share
from shapley.samplers import SAMPLERS, Order, sample_order, sample_shared, take_turns
from tests.games import (
    SMALL_GAMES,
    additive,
    airport,
    airport_shapley,
    assert_same_state,
    estimate,
    exact_shapley,
    glove,
    majority,
    noisy,
    random_guess,
    run_team,
    standard_errors,
)

# ----------------------------------------------------------------------------- all samplers


@pytest.fixture(params=SAMPLERS)
def sampler(request):
    """The name of each sampler of the registry."""
    return request.param


def run(sampler, n=12, **options):
    """A run that decides nobody: 30 rounds with chance in V, truncated on the way."""
    value = noisy(np.linspace(-0.1, 0.2, n), 0.05, 0.2)
    guess = random_guess(n) if SAMPLERS[sampler].guesses else None
    defaults = {"k": 3, "seed": 5, "sampler": sampler, "guess": guess, "max_rounds": 30}
    shape = {"singles": 7, "truncation": 0.3, "window": 2, "look_every": 6}
    return tmab_shapley(value, n, **{**defaults, **shape, **options})


@pytest.mark.parametrize("game", SMALL_GAMES)
def test_unbiased_on_games_with_known_values(game, sampler):
    value, n = SMALL_GAMES[game]
    state = estimate(value, n, rounds=1200, sampler=sampler, singles=5, window=3)
    errors = standard_errors(state)
    assert np.all(abs(state.values - exact_shapley(value, n)) <= 4.5 * errors + 1e-12)
    assert errors.max() < 0.2


def test_same_seed_same_bytes(sampler):
    assert_same_state(run(sampler), run(sampler))
    assert not np.array_equal(run(sampler, seed=6).values, run(sampler).values)


@pytest.mark.parametrize("rounds", [1, 6, 11])
def test_resumed_equals_straight(sampler, rounds):
    resumed = run(sampler, state=run(sampler, max_rounds=rounds))
    assert_same_state(resumed, run(sampler))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_any_number_of_processes_gives_the_same(sampler, size):
    for state in run_team(size, lambda team: run(sampler, team=team, max_rounds=14)):
        assert_same_state(state, run(sampler, max_rounds=14))


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_chunks_change_nothing(sampler, chunk):
    assert_same_state(run(sampler, chunk=chunk), run(sampler))


def test_nobody_else_is_sampled(sampler):
    state = run(sampler, max_rounds=12)
    state.active = np.arange(12) % 3 == 0
    counts = state.samples.copy()
    run(sampler, max_rounds=13, state=state)
    assert (state.samples > counts).tolist() == (np.arange(12) % 3 == 0).tolist()


def test_truncated_before_the_first_place_everything_is_0(sampler):
    state = run(sampler, truncation=9.0)
    assert not state.values.any() and truncated_share(state) == 1
    assert state.samples.sum() > 0 and state.guesses == 0
    assert state.evaluations == 30  # V of all filters, once a round


def test_evaluations_are_counted(sampler):
    """Every row that V is asked for is counted, but for those past the truncation."""
    n_rows = []

    def value(keep, round_seed):
        n_rows.append(len(keep))
        return keep @ np.linspace(-0.1, 0.2, 12)

    guess = random_guess(12) if SAMPLERS[sampler].guesses else None
    options = {"k": 3, "sampler": sampler, "guess": guess, "max_rounds": 9, "window": 3}
    state = tmab_shapley(value, 12, **options)
    assert state.evaluations == sum(n_rows)
    state = tmab_shapley(value, 12, truncation=0.35, chunk=2, **options)
    assert state.evaluations < sum(n_rows)


@pytest.mark.parametrize(
    "value, expected",
    [
        (airport(np.arange(1.0, 61)), airport_shapley(np.arange(1.0, 61))),
        (majority(np.ones(21), 10), np.full(21, 1 / 21)),
        (glove(20), np.full(40, 0.5)),
        (additive(np.linspace(-1, 1, 50)), np.linspace(-1, 1, 50)),
    ],
    ids=["airport", "majority", "glove", "additive"],
)
def test_closed_forms_at_larger_n(value, expected, sampler):
    state = estimate(value, len(expected), rounds=500, sampler=sampler)
    errors = standard_errors(state)
    assert np.all(abs(state.values - expected) <= 5 * errors + 1e-12)


def test_values_may_be_whether_a_vote_is_won(sampler):
    """V as bool, which numpy does not subtract."""
    weights = np.array([4, 3, 2, 1])
    state = estimate(lambda keep, seed: keep @ weights > 5, 4, rounds=20, sampler=sampler)
    expected = estimate(majority(weights, 5), 4, rounds=20, sampler=sampler)
    assert_same_state(state, expected)
    assert state.values.any()


def test_marginals_of_the_papers_orders_add_up():
    """Those of one order add up to V of all players, less V of none."""
    value, everyone = airport(np.arange(1.0, 61)), np.ones((1, 60), dtype=bool)
    state = estimate(value, 60, rounds=20, sampler="paper")
    whole = value(everyone, 0)[0] - value(~everyone, 0)[0]
    assert state.values.sum() == pytest.approx(whole)


def test_brute_force_is_the_mean_over_all_orders():
    """The oracle itself, against the definition by orders and a closed form."""
    value, marginals = majority(np.array([4, 3, 2, 1]), 5), np.zeros(4)
    for order in itertools.permutations(range(4)):
        keep = np.ones(4, dtype=bool)
        for player in order:
            before = value(keep[None], 0)[0]
            keep[player] = False
            marginals[player] += before - value(keep[None], 0)[0]
    np.testing.assert_allclose(exact_shapley(value, 4), marginals / math.factorial(4))
    costs = np.array([1.0, 2.0, 5.0, 9.0])
    np.testing.assert_allclose(exact_shapley(airport(costs), 4), airport_shapley(costs))


# ----------------------------------------------------------------------------- step by step


def along(value, filters):
    """V with the first p filters of an order removed, for p = 0, ..., n."""
    keep = np.ones((len(filters) + 1, len(filters)), dtype=bool)
    for place, player in enumerate(filters):
        keep[place + 1 :, player] = False
    return value(keep)


def slow_sample_order(value, players, order):
    """sample_order place by place: (marginals, weights, evaluations)."""
    n = len(order.filters)
    values = along(value, order.filters)
    end = min(n, order.n_places)
    evaluated = set()
    for place in range(0, min(n, order.n_places + 1), order.window):
        evaluated.add(place)
        if values[place] < order.truncation:
            end = place
            break
    marginals, weights = np.full(n, np.nan), np.zeros(n)
    for player in players:
        place = list(order.filters).index(player)
        marginals[player] = 0.0
        if place < end:
            marginals[player], weights[player] = values[place] - values[place + 1], 1.0
        evaluated |= {place, place + 1}
    return marginals, weights, sum(place <= end for place in evaluated)


class Draws:
    """A generator with given draws.

    Args:
        offsets: list of int, the places that stand for windows, from the windows' first places.
        share: float in [0, 1), where before the end the coalition that all share is drawn.
    """

    def __init__(self, offsets, share):
        self.offsets, self.share = np.array(offsets), share

    def integers(self, low, high=None):
        """One place below `low`, or one from `low` up to `high` for each window."""
        if high is None:
            return int(self.share * low)
        assert (low + self.offsets < high).all()
        return low + self.offsets


def slow_sample_shared(value, players, order, draws):
    """sample_shared coalition by coalition: (marginals, weight, evaluations, coalition)."""
    n = len(order.filters)
    starts = range(0, order.n_places, order.window)
    places = [start + offset for start, offset in zip(starts, draws.offsets)]
    n_looks, end = 0, order.n_places
    for start, place in zip(starts, places):
        keep = np.isin(np.arange(n), order.filters[place:])
        n_looks += 1
        if value(keep[None])[0] < order.truncation:
            end = start
            break
    marginals = np.full(n, np.nan)
    marginals[players] = 0.0
    if not end:
        return marginals, 0.0, n_looks, None
    drawn = places[draws.integers(end) // order.window]
    keep = np.isin(np.arange(n), order.filters[drawn:])
    for player in players:
        with_player, without_player = keep.copy(), keep.copy()
        with_player[player], without_player[player] = True, False
        marginals[player] = value(with_player[None])[0] - value(without_player[None])[0]
    return marginals, end / (n + 1), n_looks + len(players), keep


def random_order(rng, truncation):
    """An Order of 7 filters and players of it."""
    order = Order(
        filters=rng.permutation(7),
        truncation=truncation,
        n_places=int(rng.integers(1, 9)),
        window=int(rng.integers(1, 10)),
        chunk=int(rng.integers(1, 9)),
    )
    return order, rng.permutation(7)[: rng.integers(1, 8)]


@pytest.mark.parametrize("truncation", [-np.inf, 1.0, 3.0])
def test_an_order_place_by_place(truncation):
    rng, weights = np.random.default_rng(0), np.arange(1.0, 8) / 7
    for _ in range(200):
        order, players = random_order(rng, truncation)
        sampled = sample_order(lambda keep: keep @ weights, players, order, None)
        marginals, steps, evaluations = slow_sample_order(
            lambda keep: keep @ weights, players, order
        )
        np.testing.assert_allclose(sampled.marginals, marginals)
        assert sampled.weights.tolist() == steps.tolist()
        assert sampled.evaluations == evaluations and sampled.coalition is None


@pytest.mark.parametrize("truncation", [-np.inf, 1.0, 3.0])
def test_a_shared_coalition_step_by_step(truncation):
    rng, weights = np.random.default_rng(0), np.arange(1.0, 8)

    def value(keep):
        return np.sqrt(keep @ weights)

    for _ in range(200):
        order, players = random_order(rng, truncation)
        if truncation == -np.inf:  # one coalition is drawn, not one in each window
            order.window = order.n_places
        starts = np.arange(0, order.n_places, order.window)
        sizes = np.minimum(order.window, order.n_places - starts)
        draws = Draws(rng.integers(0, sizes), rng.random())
        if truncation == -np.inf:
            draws.offsets = np.array([int(draws.share * order.n_places)])
        sampled = sample_shared(value, players, order, draws)
        marginals, weight, evaluations, coalition = slow_sample_shared(value, players, order, draws)
        np.testing.assert_allclose(sampled.marginals, marginals)
        np.testing.assert_allclose(sampled.weights, np.full(7, weight))
        assert sampled.evaluations == evaluations
        if coalition is None:
            assert sampled.coalition is None
        else:
            assert sampled.coalition.tolist() == coalition.tolist()


def shared_mean(value, n, players, truncation, n_places, window):
    """The mean of what sample_shared can give over all draws: (n,), NaN where not sampled."""
    sizes = [min(window, n_places - start) for start in range(0, n_places, window)]
    n_steps = math.lcm(*range(1, n_places + 1))  # hits each place alike, wherever the order ends
    total, count = 0.0, 0
    for filters in itertools.permutations(range(n)):
        order = Order(np.array(filters), truncation, n_places, window, chunk=2)
        for offsets in itertools.product(*map(range, sizes)):
            for step in range(n_steps):
                draws = Draws(offsets, (step + 0.5) / n_steps)
                sampled = sample_shared(
                    lambda keep: value(keep, 0), np.array(players), order, draws
                )
                total, count = total + sampled.marginals * sampled.weights, count + 1
    return total / count


@pytest.mark.parametrize("window", [1, 2, 4])
def test_shared_samples_have_the_shapley_value_as_mean(window):
    value = majority(np.array([3, 2, 2]), 3)
    for players in ([2], [0, 1, 2]):
        mean = shared_mean(value, 3, players, -np.inf, 4, window)
        np.testing.assert_allclose(mean[players], exact_shapley(value, 3)[players])
    assert np.isnan(shared_mean(value, 3, [2], -np.inf, 4, window)[[0, 1]]).all()


def test_truncated_shared_samples_mean_the_same_whoever_is_sampled():
    value = airport(np.array([1.0, 2.0, 5.0]))
    everyone = shared_mean(value, 3, [0, 1, 2], 3.0, 4, 3)
    assert (everyone < 0.95 * exact_shapley(value, 3)).all()
    for players in ([2], [2, 0]):
        mean = shared_mean(value, 3, players, 3.0, 4, 3)
        np.testing.assert_allclose(mean[players], everyone[players])


def test_both_samplers_mean_the_same_by_truncation():
    """V falls with every removal and ends an order at a place that depends on it."""
    weights = np.linspace(0.5, 1.5, 30) / 30
    options = {"rounds": 2500, "truncation": 0.7, "window": 1}
    paper = estimate(additive(weights), 30, sampler="paper", **options)
    shared = estimate(additive(weights), 30, sampler="shared", **options)
    np.testing.assert_allclose(shared.values, paper.values, rtol=0.2)
    one_place = 30 / 31  # that sample_shared leaves out
    assert shared.values.mean() == pytest.approx(one_place * paper.values.mean(), rel=0.01)
    assert shared.m2.sum() < 0.1 * paper.m2.sum()  # it leaves out the chance of the place
    assert 0.6 < truncated_share(shared) < 0.8
    assert abs(truncated_share(shared) - truncated_share(paper)) < 0.02
    capped = estimate(
        additive(weights), 30, rounds=50, sampler="shared", deepest=0.1, truncation=0.7
    )
    np.testing.assert_allclose(capped.values, weights * 4 / 31, rtol=1e-9)  # 3.1 places, rounded up


# ----------------------------------------------------------------------------- turns


def test_nobody_has_two_turns_in_a_round():
    active, close = ~np.isin(np.arange(30), range(3, 9)), np.arange(30) < 7
    for singles in (2, 5, 20, 100):
        for number in range(20):
            players = take_turns(active, close, singles, 0, number)
            assert len(set(players)) == len(players) <= singles
            assert active[players].all()
    turns = np.concatenate([take_turns(active, close, 8, 0, number) for number in range(100)])
    counts = np.bincount(turns, minlength=30)
    assert np.ptp(counts[9:]) <= 1 and (counts[:3] == 100).all()


@pytest.mark.parametrize(
    "n_near, n_far, singles, expected",
    [
        (10, 20, 6, (3, 3)),  # half of the places for those that are close
        (10, 20, 7, (3, 4)),
        (2, 20, 6, (2, 4)),  # not enough that are close
        (10, 1, 6, (5, 1)),  # not enough that are far
        (10, 0, 6, (6, 0)),
        (0, 20, 6, (0, 6)),
        (2, 1, 6, (2, 1)),  # not enough at all
    ],
)
def test_close_filters_have_half_of_the_turns(n_near, n_far, singles, expected):
    close = np.arange(40) < n_near
    active = close | (np.arange(40) >= 40 - n_far)
    for number in range(5):
        players = take_turns(active, close, singles, 3, number)
        assert (close[players].sum(), (~close)[players].sum()) == expected


def test_turns_go_round_in_one_order():
    """The rounds' players one after the other repeat an order that the seed fixes."""
    active, close = np.ones(10, dtype=bool), np.zeros(10, dtype=bool)
    turns = np.concatenate([take_turns(active, close, 4, 1, number) for number in range(10)])
    assert turns[:10].tolist() == np.random.default_rng([1, 0, 2]).permutation(10).tolist()
    assert (turns.reshape(4, 10) == turns[:10]).all()
    assert take_turns(active, close, 4, 2, 0).tolist() != turns[:4].tolist()
