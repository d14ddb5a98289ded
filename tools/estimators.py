"""Estimators of Shapley values: ours, the literature's, and those of the library shapiq.

An estimator is a function (game, task) -> iterator of estimates, each (n,) float64. It takes
evaluations of V from the game until the budget is spent. A new one is one more function and one
more entry of ESTIMATORS.
"""

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from shapley import tmab_shapley

ROWS_AT_ONCE = 256  # coalitions that a game hands on at once, so that memory stays small
PART = 96  # players sampled between two estimates of CMCS
FIRST_ROUNDS = 3  # of all players, before CMCS chooses whom to sample; the paper's M_min
NEVER = 10**9  # rounds between looks of a bandit that does not look


class BudgetSpent(Exception):
    """The next evaluations would exceed the budget."""


class MeteredGame:
    """A game that counts evaluations of V, and refuses those beyond a budget.

    Attributes:
        budget: float, evaluations.
        spent: float, evaluations so far; a guess counts as guess_cost of them.
    """

    def __init__(self, value, n_players, budget, guess=None, guess_cost=1.0):
        """Args as attributes; value: (T, n) bool -> (T,); guess: (n,) bool -> (n,), or None."""
        self._value, self._guess, self.n_players = value, guess, n_players
        self.budget, self.spent, self.guess_cost = budget, 0, guess_cost

    def value(self, keep):
        """V of coalitions: (T, n) or (n,) bool -> (T,) float64. Raises BudgetSpent."""
        keep = np.atleast_2d(np.asarray(keep, dtype=bool))
        self._spend(len(keep))
        parts = range(0, len(keep), ROWS_AT_ONCE)
        return np.concatenate([self._value(keep[start : start + ROWS_AT_ONCE]) for start in parts])

    def guess(self, keep):
        """A guess of all marginals at a coalition: (n,) bool -> (n,). Raises BudgetSpent."""
        self._spend(self.guess_cost)
        return self._guess(keep)

    def _spend(self, evaluations):
        if self.spent + evaluations > self.budget:
            raise BudgetSpent
        self.spent += evaluations


@dataclass(frozen=True)
class Task:
    """What an estimator is asked for.

    Attributes:
        n_players: int.
        k: int, size of the set of interest, for estimators that look for it.
        which: "lowest" or "highest".
        value_range: (low, high) that no marginal leaves.
        deepest: share of an order of removals behind which marginals count as 0.
        seed: int.
    """

    n_players: int
    k: int
    which: str
    value_range: tuple
    deepest: float
    seed: int

    @property
    def n_places(self):
        """Places of an order, of n + 1, before the rest counts as 0; as in tmab_shapley."""
        return int(np.ceil(self.deepest * (self.n_players + 1)))

    @property
    def sign(self):
        """1 if the highest values are sought, -1 if the lowest."""
        return 1 if self.which == "highest" else -1


# ----------------------------------------------------------------------------- ours


def bandit(sampler, look_every=12):
    """tmab_shapley with one of its samplers; no player is dropped, however sure it is.

    The bound is one whose intervals stay wide at budgets like these: else guesses would end where
    most players are decided. With look_every=NEVER no player is sampled more often than another.
    """

    def estimate(game, task):
        state, guess = None, None
        if sampler == "guided":
            guess = _without_seed(game.guess)
        for rounds in itertools.count(1):
            state = tmab_shapley(
                _without_seed(game.value),
                task.n_players,
                k=task.k,
                which=task.which,
                value_range=task.value_range,
                bound="bernstein",
                max_rounds=rounds,
                seed=task.seed,
                sampler=sampler,
                guess=guess,
                deepest=task.deepest,
                window=task.n_players + 1,  # nothing is truncated by V, so it is not looked at
                look_every=look_every,
                state=state,
            )
            state.active = np.ones(task.n_players, dtype=bool)
            yield state.values

    return estimate


def _without_seed(function):
    """A function of coalitions alone as tmab_shapley takes it: all rounds play the same game."""
    return lambda keep, round_seed: function(keep)


def one_backward_pass(game, task):
    """The guess of all marginals at the whole network: gradient x activation. One estimate."""
    yield game.guess(np.ones(task.n_players, dtype=bool))


# ----------------------------------------------------------------------------- orders


def antithetic(game, task):
    """Random orders of removal, each followed by its reverse (Mitchell et al. 2022)."""
    rng = np.random.default_rng(task.seed)
    total, n_orders = np.zeros(task.n_players), 0
    while True:
        order = rng.permutation(task.n_players)
        for removed in (order, order[::-1]):
            total += _marginals_along(game, removed, task.n_places)
            n_orders += 1
            yield total / n_orders


def _marginals_along(game, order, n_places):
    """Marginals of players removed one after the other, 0 behind n_places: (n,) float64."""
    n_removals = min(len(order), n_places)
    place = np.argsort(order)
    values = game.value(place >= np.arange(n_removals + 1)[:, None])
    marginals = np.zeros(len(order))
    marginals[order[:n_removals]] = values[:-1] - values[1:]
    return marginals


# ----------------------------------------------------------------------------- CMCS


class Contributions:
    """Marginals of players at common coalitions: their sums, also of differences of pairs."""

    def __init__(self, n_players):
        self.sums, self.squares, self.counts = np.zeros((3, n_players))
        self.pair_sums, self.pair_squares, self.pair_counts = None, None, None

    def add(self, players, marginals):
        """Add one marginal of each of these players, all at one coalition."""
        self.sums[players] += marginals
        self.squares[players] += marginals**2
        self.counts[players] += 1

    def add_pairs(self, players, marginals):
        """Add the differences between all of these players, (n, n) each."""
        if self.pair_counts is None:
            n_players = len(self.counts)
            self.pair_sums, self.pair_squares, self.pair_counts = (
                np.zeros((n_players, n_players), dtype=np.float32) for _ in range(3)
            )
        block, difference = np.ix_(players, players), marginals[:, None] - marginals
        self.pair_sums[block] += difference
        self.pair_squares[block] += difference**2
        self.pair_counts[block] += 1

    def means(self):
        """Mean marginals, 0 for a player without one: (n,) float64."""
        return self.sums / np.maximum(self.counts, 1)

    def split(self, task):
        """The k players of the highest (or lowest) means, and the rest: two int arrays."""
        ranking = np.argsort(-task.sign * self.means(), kind="stable")
        return ranking[: task.k], ranking[task.k :]


def cmcs(choose=None, pairs=False):
    """Comparable Marginal Contributions Sampling (Kolpaczki et al. 2025).

    Each round draws one coalition, of a size that is uniform on 0, ..., n. All players of the round
    are compared there: each is removed, or put back if it is not in it.

    Args:
        choose: function (contributions, task, rng) -> players of a round, after FIRST_ROUNDS of
            all; None: always all.
        pairs: whether the choice needs differences of pairs.
    """

    def estimate(game, task):
        rng, n_players = np.random.default_rng(task.seed), task.n_players
        contributions = Contributions(n_players)
        share = min(1.0, task.n_places / (n_players + 1))
        for number in itertools.count():
            players = np.arange(n_players)
            if choose and number >= FIRST_ROUNDS:
                players = choose(contributions, task, rng)
            n_removed = rng.integers(task.n_places)
            coalition = rng.permutation(n_players) >= n_removed
            worth, marginals = game.value(coalition)[0], np.zeros(n_players)
            for start in range(0, len(players), PART):
                part = players[start : start + PART]
                marginals[part] = _singly(game, coalition, worth, part)
                contributions.add(part, marginals[part])
                yield share * contributions.means()
            if pairs:
                contributions.add_pairs(players, marginals[players])

    return estimate


def _singly(game, coalition, worth, players):
    """Marginals of players at a coalition of known worth: (P,) float64."""
    flipped = np.repeat(coalition[None], len(players), 0)  # (P, n)
    flipped[np.arange(len(players)), players] ^= True
    return np.where(coalition[players], 1, -1) * (worth - game.value(flipped))


def unsure_pairs(contributions, task, rng):
    """Greedy CMCS: players in pairs whose order across the border is the least sure.

    A pair is taken if the probability that it stands in the wrong order exceeds a limit, drawn
    uniformly between the lowest and the highest such probability.
    """
    inside, outside = contributions.split(task)
    block = np.ix_(inside, outside)
    counts = np.maximum(contributions.pair_counts[block], 1)
    lead = task.sign * contributions.pair_sums[block] / counts
    variance = np.maximum(contributions.pair_squares[block] / counts - lead**2, 1e-12)
    wrong = norm.sf(lead * np.sqrt(counts / variance))  # (k, n - k)
    unsure = wrong >= rng.uniform(wrong.min(), wrong.max())
    return np.concatenate([inside[unsure.any(1)], outside[unsure.any(0)]])


def border_players(contributions, task, rng):
    """CMCS@K: the two players whose intervals reach farthest across the border."""
    inside, outside = contributions.split(task)
    counts, means = contributions.counts, contributions.means()
    variance = np.maximum(contributions.squares / counts - means**2, 1e-12)
    half = np.sqrt(variance / counts)
    weakest = inside[np.argmin(task.sign * means[inside] - half[inside])]
    strongest = outside[np.argmax(task.sign * means[outside] + half[outside])]
    return np.array([weakest, strongest])


# ----------------------------------------------------------------------------- shapiq


def library(name, **options):
    """An approximator of shapiq by its class's name: one estimate, with the game's budget.

    options: the approximator's arguments, each as a function of the number of players.
    """

    def estimate(game, task):
        import shapiq.approximator as approximators  # here: only the league needs it

        given = {key: make(task.n_players) for key, make in options.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whether an estimate is finite is checked instead
            approximator = getattr(approximators, name)(
                task.n_players, random_state=task.seed, **given
            )
            values = approximator.approximate(int(game.budget), game.value)
        yield np.array([values[(player,)] for player in range(task.n_players)])

    return estimate


# ----------------------------------------------------------------------------- registry


@dataclass(frozen=True)
class Estimator:
    """An estimator, and what the league must know.

    Attributes:
        run: the function.
        label: its name in tables.
        promise: "values": it comes to all values with a growing budget; "set": to the k players
            of interest; "nothing".
        anytime: it gives ever new estimates; else one, and is run anew for each budget.
        guesses: it needs guesses of the marginals.
        truncates: it can count marginals deep in an order as 0.
    """

    run: Callable
    label: str
    promise: str = "values"
    anytime: bool = True
    guesses: bool = False
    truncates: bool = True


def _shapiq(label, name, promise="values", **options):
    run = library(name, **options)
    return Estimator(run, f"{label} (shapiq)", promise, anytime=False, truncates=False)


def _paired(n_players):
    """Each coalition is followed by its complement."""
    return True


def _equal_sizes(n_players):
    """All sizes of coalitions alike: leverage scores (Musco & Witter 2025)."""
    return np.ones(n_players + 1)


ESTIMATORS = {
    "paper": Estimator(bandit("paper"), "one order after the other (the paper's)"),
    "shared": Estimator(bandit("shared"), "shared coalitions in turns (ours)"),
    "guided": Estimator(bandit("guided"), "guided by gradients, in turns (ours)", guesses=True),
    "guided_even": Estimator(
        bandit("guided", NEVER), "guided, all players equally often (ours)", guesses=True
    ),
    "antithetic": Estimator(antithetic, "orders and their reverses"),
    "cmcs": Estimator(cmcs(), "CMCS"),
    "cmcs_greedy": Estimator(cmcs(unsure_pairs, pairs=True), "greedy CMCS", promise="set"),
    "cmcs_at_k": Estimator(cmcs(border_players), "CMCS@K", promise="set"),
    "gradient": Estimator(
        one_backward_pass, "one backward pass", promise="nothing", guesses=True, truncates=False
    ),
    "permutation": _shapiq("orders", "PermutationSamplingSV"),
    "stratified": _shapiq("stratified by size", "StratifiedSamplingSV"),
    "owen": _shapiq("Owen sampling", "OwenSamplingSV", promise="nothing"),  # biased by its anchors
    "svarm": _shapiq("stratified SVARM", "SVARM"),
    "kernelshap": _shapiq("KernelSHAP, paired", "KernelSHAP", pairing_trick=_paired),
    "leverage": _shapiq(
        "Leverage SHAP", "KernelSHAP", pairing_trick=_paired, sampling_weights=_equal_sizes
    ),
}
