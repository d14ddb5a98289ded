"""TMAB-Shapley (Ghorbani & Zou 2020, Algorithm 1): a truncated multi-armed bandit.

The value of filter i is its mean marginal V(S + i) - V(S) over random orders of all filters, S
being the filters that follow it. Positive: the filter helps. Negative: it harms. Where an order is
truncated, the marginal counts as 0. The bandit finds the k lowest or highest values: filters that
the intervals separate from the k-th value are sampled no more.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shapley.estimate import new_estimate, update_values
from shapley.intervals import BOUNDS, decide, update
from shapley.processes import OneProcess
from shapley.samplers import SAMPLERS, Order, Sampler, take_turns


def tmab_shapley(
    value,
    n_filters,
    *,
    k,
    which="lowest",
    eps=0.0,
    delta=0.05,
    truncation=None,
    value_range=(-1.0, 1.0),
    bound="asymptotic",
    clip=None,
    max_rounds=1000,
    seed=0,
    sampler=None,
    singles=96,
    guess=None,
    farthest_guess=0.05,
    deepest=1.0,
    window=16,
    chunk=16,
    look_every=12,
    team=None,
    state=None,
    on_round=None,
):
    """Shapley values of a game, and its k lowest or highest players.

    Round t draws from (seed, t) alone, so a resumed run equals one that never stopped, and the
    result is the same for any number of processes.

    Args:
        value: function (keep, round_seed) -> (T,) float, V of T coalitions. keep (T, n_filters)
            bool, True: the filter works. round_seed fixes all chance in V (one batch of images).
        n_filters: number of players.
        k: size of the set of interest.
        which: "lowest" or "highest".
        eps: tolerance around the k-th value, in units of V.
        delta: probability that any interval ever misses its value.
        truncation: once V is below it, the remaining marginals of an order count as 0; None: never.
        value_range: (low, high) that no marginal leaves. The intervals rest on it.
        bound: one of BOUNDS.
        clip: marginals are clipped to +- clip; None: not. Intervals that rest on the range become
            narrower, and values are means of clipped marginals.
        max_rounds: rounds at most, if the set is not decided before.
        seed: int.
        sampler: one of SAMPLERS; None: "guided" if there is a guess, else "shared".
        singles: filters that "shared" and "guided" sample in a round, at least 2.
        guess: function (keep (n_filters,) bool, round_seed) -> (n_filters,) float, a cheap guess
            of all marginals at one coalition. It serves as control variate: values stay unbiased
            and intervals valid whatever it is, and a good one makes both more precise. Once every
            active filter is sampled in every round, guesses would only cost: they end, and the
            values of active filters are the means of their marginals alone.
        farthest_guess: guesses are clipped to +- this share of the width of value_range.
        deepest: share of an order after which it is truncated whatever V is.
        window: places of an order between looks at the truncation; the paper looks at each.
        chunk: coalitions per call of value while the truncation is sought; changes no result.
        look_every: rounds between looks at the intervals.
        team: OneProcess, or processes that share the rounds.
        state: an Estimate to go on from; it is changed in place, and returned.
        on_round: function of the Estimate, called after every round.

    Returns:
        The Estimate.

    Raises:
        ValueError: an argument is out of range, V is not finite, a marginal leaves value_range.
    """
    sampler = sampler or ("guided" if guess else "shared")
    sampling = Sampling(
        value=value,
        guess=guess,
        sampler=SAMPLERS.get(sampler),
        value_range=value_range,
        clip=np.inf if clip is None else clip,
        farthest=farthest_guess * (value_range[1] - value_range[0]),
        truncation=-np.inf if truncation is None else truncation,
        n_places=int(np.ceil(deepest * (n_filters + 1))),
        window=window,
        chunk=chunk,
        singles=singles,
        seed=seed,
    )
    _check(sampling, sampler, n_filters, k, which, bound)
    if not (0 < delta < 1 and eps >= 0 and 0 < deepest <= 1 and look_every > 0):
        raise ValueError("needs 0 < delta < 1, eps >= 0, 0 < deepest <= 1, a positive look_every")
    limits = sampling.sample_limits(n_filters)
    if state and not np.array_equal(state.limits[..., 0], limits):
        raise ValueError("state is of another value_range, clip, guess or deepest")
    state, team = state or new_estimate(n_filters, limits), team or OneProcess()
    while state.active.any() and state.rounds < max_rounds:  # until the paper's U is empty
        # Rounds up to the next look do not depend on each other: each process samples one.
        n_rounds = min(team.size, look_every - state.rounds % look_every, max_rounds - state.rounds)
        own = sample_round(sampling, state, team.rank) if team.rank < n_rounds else None
        for samples in team.gather(own)[:n_rounds]:
            add_round(state, samples, delta)  # running means and variances
            regular_look = state.rounds % look_every == 0
            if regular_look or state.rounds == max_rounds:
                state.ci_low, state.ci_high = BOUNDS[bound](state, delta)
                state.status, active, close = decide(state, k, which, eps)
            if regular_look:  # only then, or what is sampled would depend on max_rounds
                state.active, state.close = active, close
                if guess and (state.plain.any() or active.sum() <= singles):
                    # From now on active filters have values of marginals alone.
                    state.plain |= state.active
                    update_values(state)
                state.race = np.vstack([state.race, _look(state)])
            if on_round:
                on_round(state)
    return state


def _look(state):
    """A row of Estimate.race."""
    certified = [(state.status == status).sum() for status in ("top", "rest")]
    return [state.rounds, state.evaluations, state.active.sum(), *certified]


@dataclass
class Sampling:
    """How rounds are sampled: the game, the sampler, and where orders are truncated."""

    value: Callable
    guess: Callable | None
    sampler: Sampler
    value_range: tuple
    clip: float  # of a marginal from 0, in units of V
    farthest: float  # of a guess from 0, in units of V
    truncation: float
    n_places: int  # of an order's n + 1, before it is truncated whatever V is
    window: int
    chunk: int
    singles: int
    seed: int

    def sample_limits(self, n_filters):
        """Lowest and highest possible sample of each part, (2, parts) float64."""
        share = self.n_places / (n_filters + 1) if self.sampler.weighs else 1.0
        marginal = np.clip(self.value_range, (-self.clip, 0), (0, self.clip))
        if not self.guess:
            return share * np.transpose([marginal])
        guess = np.array([-self.farthest, self.farthest])
        return share * np.transpose([marginal + guess, guess, marginal])


@dataclass
class RoundSamples:
    """What one round adds to the estimate."""

    samples: np.ndarray  # (parts, n_filters) float64, NaN where there is none
    truncated: np.ndarray  # (n_filters,) float64, as in Estimate, of this round
    excess: np.ndarray  # (n_filters,) float64, what clipping took from the marginals' samples
    evaluations: int
    guessed: bool


def sample_round(sampling, state, offset):
    """Sample the round `offset` rounds ahead of the state. Returns RoundSamples."""
    number, n_filters = state.rounds + offset, len(state.values)
    rng = np.random.default_rng([sampling.seed, number])
    filters, round_seed = rng.permutation(n_filters), int(rng.integers(2**32))

    def checked_value(keep):
        values = sampling.value(keep, round_seed)
        if not np.isfinite(values).all():
            raise ValueError(f"V is {values} in round {number}; it must be finite")
        return values

    if sampling.sampler.takes_turns:
        turns = (state.active, state.close, sampling.singles, sampling.seed, number)
        players = take_turns(*turns)
    else:
        players = np.flatnonzero(state.active)
    order = Order(filters, sampling.truncation, sampling.n_places, sampling.window, sampling.chunk)
    sampled = sampling.sampler.sample(checked_value, players, order, rng)
    low, high = sampling.value_range
    if np.nanmin(sampled.marginals) < low - 1e-9 or np.nanmax(sampled.marginals) > high + 1e-9:
        raise ValueError(f"a marginal of round {number} is outside value_range=({low}, {high})")
    marginals = np.clip(sampled.marginals, -sampling.clip, sampling.clip)
    parts = marginals[None]
    guessed = False
    if sampling.guess:
        guesses = np.full(n_filters, np.nan)
        if not state.plain.any():
            guessed = sampled.coalition is not None
            guesses = _clipped_guesses(sampling, sampled.coalition, n_filters, round_seed, number)
        parts = np.stack([marginals - guesses, guesses, marginals])
    weights = sampled.weights
    excess = np.nan_to_num((sampled.marginals - marginals) * weights)
    return RoundSamples(parts * weights, 1 - weights, excess, sampled.evaluations, guessed)


def _clipped_guesses(sampling, coalition, n_filters, round_seed, number):
    if coalition is None:  # the whole order is truncated
        return np.zeros(n_filters)
    guesses = np.clip(sampling.guess(coalition, round_seed), -sampling.farthest, sampling.farthest)
    if not np.isfinite(guesses).all():
        raise ValueError(f"a guess of round {number} is not finite")
    return guesses


def add_round(state, samples, delta):
    """Add a round's samples to running means and variances, and count them."""
    update(state, samples.samples, samples.truncated, delta)
    state.clipped += samples.excess != 0
    state.excess += samples.excess
    state.evaluations += samples.evaluations
    state.guesses += samples.guessed
    state.rounds += 1


def _check(sampling, sampler, n_filters, k, which, bound):
    """Raise ValueError for arguments of tmab_shapley that cannot be."""
    if which not in ("lowest", "highest"):
        raise ValueError(f"which={which!r} must be lowest or highest")
    if bound not in BOUNDS:
        raise ValueError(f"bound={bound!r} must be one of {', '.join(BOUNDS)}")
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler={sampler!r} must be one of {', '.join(SAMPLERS)}")
    if sampling.guess and not sampling.sampler.guesses:
        raise ValueError(f"sampler={sampler!r} takes no guess; give sampler='guided'")
    if sampling.sampler.guesses and not sampling.guess:
        raise ValueError(f"sampler={sampler!r} needs a guess; give sampler='shared' without one")
    if not 0 < k < n_filters:
        reason = f"none or all of {n_filters} filters need no deciding"
        raise ValueError(f"k={k} must be from 1 to {n_filters - 1}: {reason}")
    if not (
        min(sampling.window, sampling.chunk, sampling.farthest, sampling.clip) > 0
        and sampling.value_range[0] < sampling.value_range[1]
        and sampling.singles > 1
    ):
        raise ValueError(
            "needs a value_range (low, high), two singles or more, and positive window, chunk, "
            "clip and farthest_guess"
        )
