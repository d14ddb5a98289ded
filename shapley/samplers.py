"""Samplers: how the marginals of a round are sampled along one random order of the filters.

A sampler is a function (value, players, order, rng) -> Marginals. A new one is one more function
and one more line in SAMPLERS.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass
class Order:
    """A random order in which the filters are removed, and where it is truncated.

    Once V falls below `truncation`, looked at every `window` places, the remaining marginals of
    the order count as 0. So do those behind the first `n_places` of its n + 1 places
    (place p: the first p filters are removed).
    """

    filters: np.ndarray  # (n,) int, filters[p] is the p-th to go
    truncation: float  # in units of V
    n_places: int
    window: int
    chunk: int  # coalitions per call of V while the end is sought; those past it are not counted


@dataclass
class Marginals:
    """What a sampler returns: a filter's sample is marginals x weights."""

    marginals: np.ndarray  # (n,) float64, NaN for filters that were not sampled
    # (n,) float64: 1 minus the share of the order that is truncated; sample_order: 1 for a sampled
    # filter that goes before the end, else 0
    weights: np.ndarray
    evaluations: int  # of V
    coalition: np.ndarray | None = None  # (n,) bool, the one that all samples share, if any


def sample_order(value, players, order, rng):
    """The paper's sampler: remove all filters one after the other.

    The order ends at the first of every `window` places with V below the truncation, whoever is
    sampled. A filter has one marginal in an order, 0 if it comes behind the end.

    Args:
        value: (T, n) bool -> (T,) float64, V of T coalitions.
        players: (P,) int, the filters to sample.
        order: Order.
        rng: not used.

    Returns:
        Marginals.
    """
    n = len(order.filters)
    place = np.argsort(order.filters)  # place[filters[p]] = p
    sampled = np.sort(place[players])  # places of the players
    points = np.union1d(sampled, sampled + 1)  # V is needed before and after each of them goes,
    points = np.union1d(points, np.arange(0, n, order.window))  # and where it is looked at
    points, end = points[points <= order.n_places], min(n, order.n_places)
    values = np.full(n + 1, np.nan)  # values[p]: V with the first p filters removed
    for start in range(0, len(points), order.chunk):
        part = points[start : start + order.chunk]
        values[part] = value(place >= part[:, None])
        low = part[(part % order.window == 0) & (values[part] < order.truncation)]
        if len(low):
            end = low[0]
            break
    marginals, weights = np.full(n, np.nan), np.zeros(n)
    marginals[players] = 0.0
    sampled = sampled[sampled < end]
    marginals[order.filters[sampled]] = values[sampled] - values[sampled + 1]
    weights[order.filters[sampled]] = 1.0
    return Marginals(marginals, weights, int((points <= end).sum()))


def sample_shared(value, players, order, rng):
    """Remove each player singly from one coalition of the order, which all of them share.

    In each `window` of places 0, 1, ..., n one place, drawn at random, stands for all: its
    coalition is what remains when so many filters are gone. The order ends at the first such
    coalition with V below the truncation. One place before the end is drawn. A player's marginal
    there is V(S) - V(S without it), or V(S with it) - V(S) if it is gone already. So it meets
    coalitions of s others with the same probability for each s: with n - s - 1 filters gone, of
    which it is none with probability (s + 1) / n, or with n - s gone, of which it is one with
    probability (n - s) / n; together (n + 1) / n.

    Where V cannot truncate the order, only the drawn coalition is evaluated.

    The sample is that marginal times the share of the order before the end. Without truncation its
    mean is the Shapley value, but for one place in n + 1, without the variance of the filter's
    place. With truncation the order ends at the start of the window whose coalition is below it,
    half a window earlier on average than in sample_order: near the end that the paper's rule finds,
    which looks at every place. Players are compared on the same S and the same images.

    Args:
        value: (T, n) bool -> (T,) float64, V of T coalitions.
        players: (P,) int, the filters to sample.
        order: Order.
        rng: numpy Generator.

    Returns:
        Marginals; all weights are the same. The coalition is None if the whole order is truncated.
    """
    n = len(order.filters)
    coalition, before, end, evaluations = _draw_coalition(value, order, rng)
    marginals = np.full(n, np.nan)
    marginals[players] = 0.0
    if coalition is not None:
        flipped = np.repeat(coalition[None], len(players), 0)  # (P, n)
        flipped[np.arange(len(players)), players] ^= True
        sign = np.where(coalition[players], 1, -1)
        marginals[players] = sign * (before - value(flipped))
        evaluations += len(players)
    return Marginals(marginals, np.full(n, end / (n + 1)), evaluations, coalition)


def _draw_coalition(value, order, rng):
    """A coalition of the order before its end, its V, the end's place, and evaluations so far.

    The coalition is None if the whole order is truncated.
    """
    if order.truncation == -np.inf:
        coalition = np.argsort(order.filters) >= rng.integers(order.n_places)
        return coalition, float(value(coalition[None])[0]), order.n_places, 1
    coalitions = _one_in_each_window(order, rng)
    values, end = _values_up_to_the_end(value, coalitions, order)
    if not end:
        return None, None, end, len(values)
    drawn = rng.integers(end) // order.window
    return coalitions[drawn], values[drawn], end, len(values)


def _one_in_each_window(order, rng):
    """One coalition for each window of places, (W, n) bool."""
    starts = np.arange(0, order.n_places, order.window)
    places = rng.integers(starts, np.minimum(starts + order.window, order.n_places))
    return np.argsort(order.filters) >= places[:, None]


def _values_up_to_the_end(value, coalitions, order):
    """V of the windows' coalitions up to the first below the truncation, and the end's place."""
    values = []
    for start in range(0, len(coalitions), order.chunk):
        part = value(coalitions[start : start + order.chunk])
        values.extend(np.asarray(part, dtype=float))
        low = np.flatnonzero(np.array(values[start:]) < order.truncation)
        if len(low):
            window = start + int(low[0])
            return values[: window + 1], window * order.window
    return values, order.n_places


def take_turns(active, close, singles, seed, number):
    """The filters to sample in a round, (P,) int: active ones in turn, close ones more often.

    Half of the `singles` places go to active filters that are close to the set of interest, as
    long as there are enough of them.

    Args:
        active: (n,) bool.
        close: (n,) bool.
        singles: int, filters to sample.
        seed: int, fixes the order of turns.
        number: int, the round.
    """
    # [seed, 0] is the stream of round 0
    turns = np.random.default_rng([seed, 0, 2]).permutation(len(active))
    near, far = turns[(active & close)[turns]], turns[(active & ~close)[turns]]
    n_near = min(len(near), max(singles // 2, singles - len(far)))
    n_far = min(len(far), singles - n_near)
    players = []
    for filters, size in ((near, n_near), (far, n_far)):
        if size:
            turn = np.arange(number * size, (number + 1) * size)
            players.append(np.take(filters, turn, mode="wrap"))
    return np.concatenate(players)


@dataclass(frozen=True)
class Sampler:
    """A sampler, and what it is given."""

    sample: Callable
    takes_turns: bool  # it samples `singles` filters a round; else all active ones
    guesses: bool = False  # a guess of all marginals serves as control variate
    weighs: bool = False  # weights are at most the share of places, which narrows the range


SAMPLERS = {
    "paper": Sampler(sample_order, takes_turns=False),
    "shared": Sampler(sample_shared, takes_turns=True, weighs=True),
    "guided": Sampler(sample_shared, takes_turns=True, weighs=True, guesses=True),
}
