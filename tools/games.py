"""Games whose values are known exactly, also where marginals are clipped: for tools.coverage.

A new game of independent marginals is two functions and one entry of GAMES.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

# What chance adds to a player's worth in one round of a PairsGame: (shift, probability).
CHANCES = ((-0.2, 0.1), (0.0, 0.8), (0.2, 0.1))


@dataclass(frozen=True)
class Game:
    """A game of independent marginals in [-1, 1] that all have the same mean.

    draw: function (rng, players) -> (players,) float64, a marginal of each player.
    mean: function of clip, a positive float, inf for none: the exact mean of marginals that are
    clipped to +- clip. clip: a bound that some of the marginals exceed.
    """

    draw: Callable
    mean: Callable
    clip: float


def heavy_tailed(rng, players):
    """Most marginals are near 0, few near 1 or -1: +-U^8, more often +."""
    return np.where(rng.random(players) < 0.6, 1, -1) * rng.random(players) ** 8


def heavy_tailed_mean(clip):
    """The mean sign, 0.2, times the mean of min(U^8, clip) for U uniform on [0, 1]."""
    clip = min(clip, 1.0)
    clipped_from = clip ** (1 / 8)
    return 0.2 * (clipped_from**9 / 9 + clip * (1 - clipped_from))


def mostly_zero(rng, players):
    """As behind a truncation: 0 except for 6 %, which are a few of 128 images."""
    return (rng.random(players) < 0.06) * (rng.binomial(8, 0.4, players) - 3) / 128


def mostly_zero_mean(clip):
    """Over the numbers of images."""
    images = np.arange(9)
    marginals = np.clip((images - 3) / 128, -clip, clip)
    return float(0.06 * (stats.binom.pmf(images, 8, 0.4) @ marginals))


def accuracy_like(rng, players):
    """The difference of two accuracies on 128 images each."""
    return (rng.binomial(128, 0.66, players) - rng.binomial(128, 0.65, players)) / 128


def accuracy_like_mean(clip):
    """Over all pairs of numbers of images that are classified correctly."""
    images = np.arange(129)
    first, second = (stats.binom.pmf(images, 128, share) for share in (0.66, 0.65))
    marginals = np.clip(np.subtract.outer(images, images) / 128, -clip, clip)  # (129, 129)
    return float(first @ marginals @ second)


def rare_disaster(rng, players):
    """-1 once in 300 rounds, else 0: a normal approximation cannot foresee it."""
    return -(rng.random(players) < 1 / 300).astype(float)


def rare_disaster_mean(clip):
    """Of the one marginal that is not 0."""
    return -min(clip, 1.0) / 300


GAMES = {
    "heavy_tailed": Game(heavy_tailed, heavy_tailed_mean, clip=0.1),
    "mostly_zero": Game(mostly_zero, mostly_zero_mean, clip=0.02),
    "accuracy_like": Game(accuracy_like, accuracy_like_mean, clip=0.1),
    "rare_disaster": Game(rare_disaster, rare_disaster_mean, clip=0.1),
}


@dataclass
class PairsGame:
    """A game whose players have a worth each, of which a part is chance, and a worth in pairs.

    weights (n,) float64; pairs (n, n) float64, symmetric, 0 on the diagonal.
    """

    weights: np.ndarray
    pairs: np.ndarray

    @classmethod
    def draw(cls, rng, n):
        """A random game of n players."""
        weights = rng.uniform(-0.5, 0.5, n)
        pairs = np.triu(rng.uniform(-0.01, 0.01, (n, n)), 1)
        return cls(weights, pairs + pairs.T)

    def shapley_values(self):
        """Exact values, (n,) float64: each player gets half of a pair's worth."""
        return self.weights + self.pairs.sum(1) / 2

    def clipped_values(self, clip):
        """Exact means of marginals clipped to +- clip, (n,) float64.

        A player's marginal is its weight, its chance of the round, and its pairs with the others
        in the coalition. sample_shared, never truncated, meets coalitions of s others with
        probability 1 / n for each s, and those of one size alike. The mean adds up all 2^(n - 1)
        coalitions and all chances, so that only rounding is left, about 1e-15.
        """
        n = len(self.weights)
        sizes = subset_sums(np.ones(n - 1, dtype=int))
        likelihood = np.array([1 / n / math.comb(n - 1, size) for size in range(n)])[sizes]
        values = np.zeros(n)
        for player, weight in enumerate(self.weights):
            sums = weight + subset_sums(np.delete(self.pairs[player], player))
            for shift, probability in CHANCES:
                marginals = np.clip(sums + shift, -clip, clip)  # (2^(n - 1),)
                values[player] += probability * (likelihood @ marginals)
        return values

    def worth(self, round_seed):
        """The players' own worth in one round, (n,) float64."""
        return self.weights + draw_chances(round_seed, len(self.weights))

    def value(self, keep, round_seed):
        """V of coalitions: keep (T, n) bool -> (T,) float64."""
        return keep @ self.worth(round_seed) + ((keep @ self.pairs) * keep).sum(1) / 2

    def guess(self, keep, round_seed):
        """A guess of all marginals that knows the chance of a round but no pairs."""
        return self.worth(round_seed)


@functools.lru_cache(maxsize=1)  # V is asked several times in a round
def draw_chances(round_seed, n):
    """What chance adds to the worths of n players in one round, (n,) float64."""
    shifts, probabilities = np.transpose(CHANCES)
    uniform = np.random.default_rng(round_seed).random(n)
    return shifts[np.searchsorted(np.cumsum(probabilities)[:-1], uniform)]


def subset_sums(terms):
    """The sums of all subsets of n terms, (2^n,); subset b holds the terms of the bits of b."""
    sums = np.zeros(1, dtype=terms.dtype)
    for term in terms:
        sums = np.concatenate([sums, sums + term])
    return sums
