"""Games with known Shapley values, a sampled state of the bandit, and a team of threads.

A game is a function (keep, round_seed) -> values, as tmab_shapley takes it.
"""

import threading

import numpy as np
from scipy.special import comb

from shapley import tmab_shapley
from shapley.estimate import new_estimate, squared_errors
from shapley.intervals import update
from shapley.processes import OneProcess
from shapley.samplers import SAMPLERS


def exact_shapley(value, n):
    """Shapley values by the definition: weighted marginals over all 2^n coalitions, (n,)."""
    numbers = np.arange(2**n)
    keep = (numbers[:, None] >> np.arange(n)) & 1 == 1  # (2^n, n)
    worth = value(keep, 0)
    shapley = np.zeros(n)
    for player in range(n):
        absent = numbers[~keep[:, player]]
        weights = 1 / (n * comb(n - 1, keep[absent].sum(1)))
        shapley[player] = weights @ (worth[absent + 2**player] - worth[absent])
    return shapley


def additive(weights):
    """Each player adds its weight, which is its Shapley value."""
    return lambda keep, round_seed: keep @ weights


def glove(n_left):
    """Worth the number of pairs: the first `n_left` players own left gloves, the rest right."""

    def value(keep, round_seed):
        return np.minimum(keep[:, :n_left].sum(1), keep[:, n_left:].sum(1)).astype(float)

    return value


def airport(costs):
    """Worth the longest runway that is needed."""
    return lambda keep, round_seed: (keep * costs).max(1)


def airport_shapley(costs):
    """Littlechild & Owen 1973: each step of cost is shared by those who need it.

    costs: ascending.
    """
    steps = np.diff(np.concatenate([[0], costs]))
    return np.cumsum(steps / np.arange(len(costs), 0, -1))


def majority(weights, quota):
    """Worth 1 if the votes exceed the quota."""
    return lambda keep, round_seed: (keep @ weights > quota).astype(float)


def wave(weights):
    """A game without structure: the sine of the weights' sum."""
    return lambda keep, round_seed: np.sin(keep @ weights)


def noisy(weights, noise, limit):
    """Weights that change by chance in each round, as those of an image batch do."""

    def value(keep, round_seed):
        chance = np.random.default_rng(round_seed).normal(0, noise, len(weights))
        return (keep * (weights + chance.clip(-limit, limit))).sum(1)  # the same in any chunks

    return value


def pairs_game(n, seed=0):
    """A game of weights and pairs: (value with a round's chance, Shapley values, a guess).

    The guess knows the round's chance, as a gradient knows the images, but not the pairs.
    """
    rng = np.random.default_rng(seed)
    weights, pairs = rng.uniform(-0.2, 0.2, n), np.triu(rng.uniform(-0.1, 0.1, (n, n)) / n, 1)
    pairs = pairs + pairs.T

    def worth(round_seed):
        return weights + np.random.default_rng(round_seed).choice([-0.2, 0.0, 0.2], n)

    def value(keep, round_seed):
        return keep @ worth(round_seed) + ((keep @ pairs) * keep).sum(1) / 2

    def guess(keep, round_seed):
        return 0.9 * worth(round_seed)

    return value, weights + pairs.sum(1) / 2, guess


def random_guess(n):
    """A guess that knows no more than the round: any guess must leave values unbiased."""
    return lambda keep, round_seed: np.random.default_rng(round_seed).normal(0, 0.1, n)


# Small games by name: (value, players); all marginals lie in [-4, 4].
SMALL_GAMES = {
    "additive 4": (additive(np.array([-2.0, 0.5, 1.0, 3.0])), 4),
    "glove 4": (glove(1), 4),
    "airport 4": (airport(np.array([1.0, 2.0, 3.0, 4.0])), 4),
    "majority 4": (majority(np.array([4, 3, 2, 1]), 5), 4),
    "additive 8": (additive(np.linspace(-2, 3, 8)), 8),
    "glove 8": (glove(3), 8),
    "majority 8": (majority(np.array([5, 4, 3, 3, 2, 1, 1, 1]), 10), 8),
    "wave 8": (wave(np.arange(1.0, 9)), 8),
}


def estimate(value, n, rounds=400, **options):
    """Run the bandit; the wide range decides nobody, unless options give a narrower one.

    A sampler that needs a guess gets a random one.
    """
    sampler = options.get("sampler")
    if sampler and SAMPLERS[sampler].guesses and "guess" not in options:
        options["guess"] = random_guess(n)
    defaults = {"k": 1, "max_rounds": rounds, "value_range": (-1000, 1000), "bound": "sequence"}
    return tmab_shapley(value, n, **{**defaults, **options})


def standard_errors(state):
    """Of the values of an Estimate, (n,)."""
    return np.sqrt((squared_errors(state.counts, state.m2) * state.parts).sum(0))


def sampled_state(samples, limits, delta):
    """The Estimate after rounds of samples (rounds, parts, n), NaN where there is none."""
    state = new_estimate(samples.shape[2], limits)
    for row in samples:
        update(state, row, np.zeros(samples.shape[2]), delta)
    return state


def random_samples(rounds, parts, n, missing=0.3, seed=0):
    """Samples (rounds, parts, n) in [-1, 1], a share of them missing, each player on its own."""
    rng = np.random.default_rng(seed)
    samples = rng.choice([-1, -0.25, 0, 0.5, 1], (rounds, parts, n)) * rng.uniform(0.1, 1, n)
    samples[rng.random((rounds, parts, n)) < missing] = np.nan
    return samples


def assert_same_state(state, expected):
    """Every field of two Estimates has the same type and the same bytes."""
    for name, wanted in vars(expected).items():
        value = getattr(state, name)
        assert type(value) is type(wanted), name
        if isinstance(wanted, np.ndarray):
            assert value.dtype == wanted.dtype and value.tobytes() == wanted.tobytes(), name
        else:
            assert value == wanted, name


class ThreadTeam(OneProcess):
    """A team of threads in place of processes: one that torchrun would start has the same methods.

    Args:
        rank: int.
        barrier: threading.Barrier of all, whose number of parties is the size.
        results: list of as many places, shared by all.
    """

    def __init__(self, rank, barrier, results):
        self.rank, self.size = rank, barrier.parties
        self.barrier, self.results = barrier, results

    def gather(self, result):
        """The results of all threads, in the order of their ranks."""
        self.results[self.rank] = result, self.interrupted
        self.barrier.wait(60)
        everyone = list(self.results)
        self.barrier.wait(60)  # else a fast thread could overwrite its result
        self.stopping = any(interrupted for _, interrupted in everyone)
        return [result for result, _ in everyone]

    def share(self, result):
        """The result of rank 0."""
        return self.gather(result)[0]


def run_team(size, act):
    """Run act(team) in as many threads as a team is large; what each returned or raised."""
    barrier, results, outcomes = threading.Barrier(size), [None] * size, [None] * size

    def work(rank):
        try:
            outcomes[rank] = act(ThreadTeam(rank, barrier, results))
        except Exception as error:
            outcomes[rank] = error

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
