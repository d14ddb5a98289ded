"""Step 2: the Shapley value of every filter, by a truncated multi-armed bandit (TMAB-Shapley).

    python mab.py

Reads squeezenet.pth and FairFace's set for the values, or those of another TASK. Writes under RECORDS_DIR: filters.csv,
shapley_values.pkl, mab.json, and mab.npz, the state from which the same command goes on.

A filter's value is its mean marginal V(S + filter) - V(S) over random orders of all filters, S being
those that follow it (Ghorbani & Zou 2020); where an order is truncated, it counts as 0. Positive: the
filter helps. Negative: it harms.

The estimator, tmab_shapley, needs neither torch nor data and takes any game as a function.
"""

import json
import os
import signal
import sys
import time
from dataclasses import dataclass, fields
from statistics import NormalDist

import numpy as np
from tqdm import tqdm

import records
import settings
from settings import (ARCH, CELEBA_FRAME, DATA_DIR, DEVICE, FAIRFACE_FRAME, IMAGE_SIZE, RECORDS_DIR, SEED, TASK, WEIGHTS,
                      Stop)

# -----------------------------------------------------------------------------
# the set that is sought
TOP_K = 100             # its size
WHICH = "auto"          # lowest: the filters that harm most; highest: those that help most; auto: lowest of faces, to repair, else highest
# the game
MEASURE = "accuracy"    # V (MEASURES in ablation.py): accuracy (the paper's), soft_accuracy, likelihood; of faces also worst_group,
                        # auc, smooth_auc, smooth_auc_all; attack: an attack's success less the accuracy on clean images
CLASS = ""              # a class by name: V is measured on its images alone, so that accuracy is its recall
SPARE = ""              # RECORDS_DIR of an earlier run on this network, of whose filters some are left in place, and are no players
SPARED = 0.2            # the share of them, those of the highest values
REMOVAL = "mean"        # what a removed filter gives: its mean output ("mean", the paper's), or 0 ("zero")
IMAGES_PER_ROUND = 128  # the images that V(S) is measured on, new ones in each round; few are too coarse to truncate by
TRUNCATION = 0.53       # V under which the rest of an order counts as 0; chance is 0.5. Lower for worst_group and likelihood
DEEPEST = 0.25          # share of the filters after whose removal the rest counts as 0 whatever V is
# the estimator
SAMPLER = "guided"      # guided: as shared, with guesses of all marginals from a gradient; shared: filters removed singly
                        # from a coalition they share; paper: one filter after the other
SINGLES = 96            # of guided and shared: filters sampled in a round
BOUND = "sequence"      # sequence (anytime-valid), bernstein (the paper's) or clt (approximate)
DELTA = 0.05            # chance that any interval ever misses
EPS = 1e-4              # tolerance around the k-th value; the paper's
# the budget
MAX_ROUNDS = 1000       # random orders (in each stage), if the set is not decided before; a higher number goes on
STAGES = 1              # times that the values are estimated; 1: the paper's. Before each further one, the filter of
                        # the lowest value is removed for good, and the values are those of what is left
LOOK_EVERY = 12         # rounds between looks at the intervals; torchrun's processes share out what lies between
# -----------------------------------------------------------------------------


@dataclass
class Estimate:
    """All that a run knows: what tmab_shapley returns and what it goes on from. Arrays are (n_filters,) if not said otherwise.

    A value is the sum of its parts' means: one part, the marginals; or with guesses two, the marginals less their
    guesses, and the guesses, of which there are many more.
    """

    values: np.ndarray     # float64: the Shapley values
    ci_low: np.ndarray     # float64, confidence limits, which hold for all filters at once
    ci_high: np.ndarray
    truncated: np.ndarray  # float64, sum over marginals seen: 1 if truncated (paper), the share of the order that was (others)
    limits: np.ndarray     # (2, parts, 1) float64: the lowest and the highest that a sample can be
    counts: np.ndarray     # (parts, n_filters) int64, samples seen
    means: np.ndarray      # (parts, n_filters) float64
    m2: np.ndarray         # (parts, n_filters) float64, sums of squared deviations from the mean
    sequence: np.ndarray   # (4, parts, n_filters), the sums behind BOUND = "sequence": bets, bets x samples, losses, squares
    active: np.ndarray     # bool, the paper's U: not told apart from the k-th value yet
    close: np.ndarray      # bool, at the last look among the 2 k lowest (or highest): sampled more often, but by "paper"
    status: np.ndarray     # "top" or "rest": certified by the intervals; else "undecided"
    rounds: int = 0
    evaluations: int = 0   # of V
    guesses: int = 0       # of all marginals at a coalition

    @property
    def samples(self):
        """Marginals seen, (n_filters,) int64."""
        return self.counts[0]

    @property
    def decided(self):
        """Whether the set of interest is: then it is the filters with status "top"."""
        return bool((self.status != "undecided").all())


# ----------------------------------------------------------------------------- the algorithm


def tmab_shapley(value, n_filters, *, k, which="lowest", eps=0.0, delta=0.05, truncation=None, value_range=(-1.0, 1.0),
                 bound="sequence", max_rounds=1000, seed=0, sampler="shared", singles=96, guess=None, farthest_guess=0.05,
                 deepest=1.0, window=16, chunk=16, look_every=12, team=None, state=None, on_round=None):
    """Shapley values of a game and its k lowest or highest players (Algorithm 1 of the paper).

    value(keep, round_seed) -> (T,) float: V of T coalitions; keep (T, n_filters) bool, True = in S;
        V's chance, if it has any, is fixed by round_seed (one round_seed = one image batch).
    truncation: once V is below it, looked at every `window` places of an order, the marginals that remain count
        as 0; None for none. Values and intervals then are those of the marginals so truncated.
    value_range: (low, high) that no marginal leaves; the intervals rest on it.
    sampler: "paper" removes one filter after the other (_sample_order); "shared" removes `singles` filters
        singly from a coalition that they share (_sample_shared), most often those that may be among the k.
    guess(keep, round_seed) -> (n_filters,) float, of "shared": a cheap guess of all marginals at one coalition (n_filters,),
        taken as control variate: its mean over many coalitions, and what it misses by on the few that were sampled.
        Whatever it is, values are unbiased and intervals hold; a good one makes both more precise.
    farthest_guess: guesses are clipped to +- this share of value_range's width, since intervals rest on their range.
    deepest: share of an order after which it is truncated whatever V is; it narrows the range of shared samples.
    window: places of an order between those where V is looked at; the paper's rule looks at each.
    chunk: coalitions per call of value while the truncation is sought; those past it are in vain, and change nothing.
    look_every: rounds between looks at the intervals, which decide what is sampled on.
    team: processes that share the rounds, as Alone; the result is the same however many they are.
    state: an Estimate to go on from; on_round(state): called after every round.
    Returns the Estimate. Round t draws from (seed, t) alone, so going on equals never having stopped.
    Raises ValueError for arguments out of range, a V that is not finite, a marginal outside value_range.
    """
    if which not in ("lowest", "highest"):
        raise ValueError(f"which={which!r} must be lowest or highest")
    if bound not in BOUNDS:
        raise ValueError(f"bound={bound!r} must be one of {', '.join(BOUNDS)}")
    if sampler not in ("paper", "shared") or (guess and sampler == "paper"):
        raise ValueError(f"sampler={sampler!r} must be paper or shared, and shared if there is a guess")
    if not 0 < k < n_filters:
        raise ValueError(f"k={k} must be from 1 to {n_filters - 1}: none or all of {n_filters} filters need no deciding")
    if not (0 < delta < 1 and eps >= 0 and 0 < deepest <= 1 and value_range[0] < value_range[1]
            and singles > 1 and min(window, chunk, look_every, farthest_guess) > 0):
        raise ValueError("needs 0 < delta < 1, eps >= 0, 0 < deepest <= 1, a value_range (low, high), "
                         "two singles or more, and positive window, chunk, look_every, farthest_guess")
    places = int(np.ceil(deepest * (n_filters + 1)))  # of the n + 1 places of an order: 0, 1, ... n filters removed
    truncation = -np.inf if truncation is None else truncation
    share = places / (n_filters + 1) if sampler == "shared" else 1.0
    limits, farthest = np.clip(value_range, (-np.inf, 0), (0, np.inf)), farthest_guess * (value_range[1] - value_range[0])
    limits = np.transpose([limits + [-farthest, farthest], [-farthest, farthest]] if guess else [limits])
    state, team = state or nothing_known(n_filters, share * limits), team or Alone()
    while state.active.any() and state.rounds < max_rounds:
        # Rounds up to the next look do not depend on each other. So each process does one, and all take in all, in order.
        wave = min(team.size, look_every - state.rounds % look_every, max_rounds - state.rounds)
        done = None
        if team.rank < wave:
            number = state.rounds + team.rank
            rng = np.random.default_rng([seed, number])
            order, round_seed = rng.permutation(n_filters), int(rng.integers(2 ** 32))

            def v(keep):
                found = value(keep, round_seed)
                if not np.isfinite(found).all():
                    raise ValueError(f"V is {found} in round {number}; it must be finite")
                return found

            if sampler == "paper":
                marginals, alive, evaluations, _ = _sample_order(v, state.active, order, truncation, places, window, chunk)
            else:
                players = _turns(state, singles, seed, number)
                marginals, alive, evaluations, base = _sample_shared(v, players, order, rng, truncation, places, window, chunk)
            if np.nanmin(marginals) < value_range[0] - 1e-9 or np.nanmax(marginals) > value_range[1] + 1e-9:
                raise ValueError(f"a marginal of round {number} is outside value_range={value_range}")
            samples = marginals[None]
            if guess:
                guesses = np.zeros(n_filters) if base is None else np.clip(guess(base, round_seed), -farthest, farthest)
                if not np.isfinite(guesses).all():
                    raise ValueError(f"a guess of round {number} is not finite")
                samples = np.stack([marginals - guesses, guesses])
            done = samples * alive, 1 - alive, evaluations, bool(guess) and base is not None
        for samples, truncated, evaluations, guessed in team.gather(done)[:wave]:
            update(state, samples, truncated, delta)
            state.evaluations += evaluations
            state.guesses += guessed
            state.rounds += 1
            if state.rounds == max_rounds or state.rounds % look_every == 0:
                state.ci_low, state.ci_high = BOUNDS[bound](state, delta)
                state.status, active, close = decide(state, k, which, eps)
                if state.rounds % look_every == 0:  # only then, lest what is sampled depend on max_rounds
                    state.active, state.close = active, close
            if on_round:
                on_round(state)
    return state


def _sample_order(v, active, order, truncation, places, window, chunk):
    """The paper's sampler: remove all filters one after the other, order[p] as the p-th.

    The order is truncated at the first of every `window` places whose V is below truncation, whoever is active.
    Returns marginals (n,), NaN for a filter that is not active; alive (n,), 0.0 for those that are truncated, else 1.0;
    evaluations of V; and None.
    """
    n = len(order)
    place = np.argsort(order)                            # place[order[p]] = p
    sampled = np.flatnonzero(active[order])              # places of active filters
    points = np.union1d(sampled, sampled + 1)            # V is needed before and after each of them goes,
    points = np.union1d(points, np.arange(0, n, window))  # and where it is looked at
    points, end = points[points <= places], min(n, places)
    values = np.full(n + 1, np.nan)                      # values[p]: V with the first p of the order removed
    for start in range(0, len(points), chunk):
        now = points[start:start + chunk]
        values[now] = v(place >= now[:, None])
        low = now[(now % window == 0) & (values[now] < truncation)]
        if len(low):
            end = low[0]
            break
    marginals, alive = np.where(active, 0.0, np.nan), np.zeros(n)
    sampled = sampled[sampled < end]
    marginals[order[sampled]] = values[sampled] - values[sampled + 1]
    alive[order[sampled]] = 1.0
    return marginals, alive, int((points <= end).sum()), None  # not counting what chunks computed in vain


def _sample_shared(v, players, order, rng, truncation, places, window, chunk):
    """Remove each of `players` singly from one coalition of an order, which all of them share.

    In each `window` of places 0, 1, ... n one, drawn at random, stands for all: its coalition is what is left when so
    many filters are gone. The order is truncated at the first whose V is below truncation. One of the places in front of
    that is drawn; a player's marginal there is V(S) - V(S without it), or V(S with it) - V(S) if it is gone
    already. So it meets coalitions of s others with the same chance for each s: with n - s - 1 filters gone, of
    which it is none with chance (s + 1) / n, or n - s gone, of which it is one with chance (n - s) / n; together (n + 1) / n.

    _sample_order gives a filter one marginal in an order, 0 where it is truncated. This gives a marginal from in front
    of the truncation, and how much of the order that is: the same mean, but for one place in n + 1, without the
    chance of the filter's place. Images are shared, too, so that players are compared on the same S and the same images.

    Returns as _sample_order, alive being the same for all, and last the coalition (n,), None if the whole order is truncated.
    """
    n, place = len(order), np.argsort(order)
    starts = np.arange(0, places, window)
    coalitions = place >= rng.integers(starts, np.minimum(starts + window, places))[:, None]
    values, end = np.empty(len(coalitions)), places     # end: the place at which the order is truncated
    for start in range(0, len(coalitions), chunk):
        values[start:start + chunk] = v(coalitions[start:start + chunk])
        low = np.flatnonzero(values[start:start + chunk] < truncation)
        if len(low):
            end = starts[start + low[0]]
            break
    evaluations = len(starts) if end == places else int(end) // window + 1
    marginals, alive, base = np.full(n, np.nan), np.full(n, end / (n + 1)), None
    marginals[players] = 0.0
    if end:
        drawn = rng.integers(end) // window
        base = coalitions[drawn]
        flipped = np.repeat(base[None], len(players), 0)
        flipped[np.arange(len(players)), players] ^= True
        marginals[players] = np.where(base[players], 1, -1) * (values[drawn] - v(flipped))
        evaluations += len(players)
    return marginals, alive, evaluations, base


def _turns(state, singles, seed, number):
    """The filters that are sampled in a round: all active ones in their turn, but half the places go to close ones."""
    turns = np.random.default_rng([seed, 0, 2]).permutation(len(state.active))  # [seed, 0] is round 0's own stream
    near, far = turns[(state.active & state.close)[turns]], turns[(state.active & ~state.close)[turns]]
    n_near = min(len(near), max(singles // 2, singles - len(far)))
    n_far = min(len(far), singles - n_near)
    return np.concatenate([np.take(some, np.arange(number * size, (number + 1) * size), mode="wrap")
                           for some, size in ((near, n_near), (far, n_far)) if size])


class Alone:
    """A team of one process; a larger one has the same attributes."""

    rank, size = 0, 1
    interrupted = False  # a signal came to this process
    stopping = False     # one had come to any of them when they last handed in: all know, and stop at the same round

    def gather(self, done):
        """What every process hands in, in the order of their ranks."""
        self.stopping = self.interrupted
        return [done]

    def share(self, thing):
        """What the process of rank 0 hands in."""
        return thing

    def together(self, make):
        """What make() gives, in each process; the first makes it before the others, who find in the cache what took time."""
        made = failure = None
        if self.rank == 0:
            try:
                made = make()
            except Stop as stop:
                failure = stop
        if failure := self.share(failure):  # all stop
            raise failure
        return made if self.rank == 0 else make()

    def part(self):
        """There is nothing more to hand in."""


def nothing_known(n, limits):
    """The Estimate of n filters before the first round. limits: as there, less the last axis: (2, parts), or (2,) for one part."""
    limits = np.reshape(limits, (2, -1, 1)).astype(float)
    width, parts = (limits[1] - limits[0]).sum(), limits.shape[1]
    return Estimate(values=np.zeros(n), ci_low=np.full(n, -width), ci_high=np.full(n, width), truncated=np.zeros(n),
                    limits=limits, counts=np.zeros((parts, n), dtype=np.int64), means=np.zeros((parts, n)),
                    m2=np.zeros((parts, n)), sequence=np.zeros((4, parts, n)), active=np.ones(n, dtype=bool),
                    close=np.zeros(n, dtype=bool), status=np.full(n, "undecided"))


def update(state, samples, truncated, delta):
    """Take a round's samples (parts, n), NaN for none, into means, variances (Welford) and the sums of the confidence sequence."""
    seen = ~np.isnan(samples)
    x = samples[seen]
    _update_sequence(state, seen, x, delta)
    state.counts[seen] += 1
    deviation = x - state.means[seen]
    state.means[seen] += deviation / state.counts[seen]
    state.m2[seen] += deviation * (x - state.means[seen])
    state.truncated[seen[0]] += truncated[seen[0]]
    state.values = state.means.sum(0)


def decide(state, k, which, eps):
    """What the intervals tell: status (n,), who is active still, and who is close to the set.

    Active is the paper's U, {i: ci_low + eps < threshold < ci_high - eps}. There the threshold is the
    k-th value; here it is halfway to the next, or the k-th filter could not leave before its interval
    is as narrow as eps. When none is active, the k are decided: no value in the set is farther than eps
    on the wrong side of the threshold, and none outside it. Before, the threshold is but an estimate, and
    a filter is certified if the intervals alone prove that it is, up to 2 eps, among the k, or that it is not.
    """
    centre, half, threshold = _centred(state, k, which)
    low, high, n = centre - half, centre + half, len(centre)
    ranking = np.argsort(-centre, kind="stable")
    top, close = np.zeros((2, n), dtype=bool)
    close[ranking[:2 * k]] = True
    active = ~(abs(centre - threshold) >= half - eps)
    if active.any():
        narrow = high <= low + 2 * eps
        may_exceed = n - np.searchsorted(np.sort(high), low + 2 * eps, side="right") - ~narrow
        surely_exceed = n - np.searchsorted(np.sort(low), high - 2 * eps, side="left") - narrow
        top, rest = may_exceed < k, surely_exceed >= k
    else:
        top[ranking[:k]] = True
        rest = ~top
    status = np.select([top & ~rest, rest & ~top], ["top", "rest"], "undecided")
    undecided = status == "undecided"
    if (active & undecided).any():  # else it is the certified ones whose intervals hold up the others
        active &= undecided
    return status, active & undecided.any(), close


def _centred(state, k, which):
    """Centres and half widths of the intervals, signed so that the highest are sought, and the threshold behind the k-th."""
    centre = (state.ci_low + state.ci_high) / (2 if which == "highest" else -2)  # the values, or weighted means of the samples
    return centre, (state.ci_high - state.ci_low) / 2, np.sort(centre)[[-k - 1, -k]].mean()


# ----------------------------------------------------------------------------- the intervals


def bernstein(state, delta):
    """Empirical Bernstein (Maurer & Pontil 2009, Theorem 4), as in the paper, but valid at every look.

    The m-th look at one of n means (of all parts of all filters) may miss, at either side, with chance
    delta / (2 n m (m + 1)): over all means, looks and sides that adds up to delta.
    """
    m = np.maximum(state.counts, 2)
    log = np.log(4 * m.size * m * (m + 1) / delta)
    half = np.sqrt(2 * state.m2 / (m - 1) * log / m) + 7 / 3 * (state.limits[1] - state.limits[0]) * log / (m - 1)
    return _added_up(state, state.means, half)


def sequence(state, delta):
    """Predictable plug-in empirical Bernstein sequence (Waudby-Smith & Ramdas 2023, Theorem 2): valid at every look.

    With sums over samples X_t of bets l_t on them, l_t in [0, 1), against means m_t of those before, n means in all:
    (sum of l_t X_t / b_t  -+  (ln(2 n / delta) + sum of psi(l_t) ((X_t - m_t) / b_t)^2)) / sum of l_t / b_t.
    The theorem has b_t = 1, the width of the range; its proof asks only that |X_t - m_t| <= b_t, so
    here b_t is the distance from m_t to the farther end: about half the width.
    """
    weight, weighted, spread, _ = state.sequence
    weight = np.maximum(weight, 1e-12)
    half = (np.log(2 * weight.size / delta) + spread) / weight
    return _added_up(state, weighted / weight, half)


def _update_sequence(state, seen, x, delta):
    """Before the other statistics take x in: the bet on it may depend on earlier samples only."""
    low, high = (np.broadcast_to(limit, seen.shape)[seen] for limit in state.limits)
    weight, weighted, spread, squares = state.sequence[:, seen]
    t = state.counts[seen] + 1
    mean = ((low + high) / 2 + (t - 1) * state.means[seen]) / t
    variance = (((high - low) / 2) ** 2 + squares) / t
    reach = np.maximum(mean - low, high - mean)                          # b_t
    bet, psi = _bet(variance / reach ** 2, t, seen.size, delta)
    spread = spread + psi * ((x - mean) / reach) ** 2
    after = (mean * t + x) / (t + 1)
    state.sequence[:, seen] = weight + bet / reach, weighted + bet / reach * x, spread, squares + (x - after) ** 2


def _bet(variance, t, n, delta, largest=0.9):
    """The t-th bet l and psi(l) = -ln(1 - l) - l. A largest bet above the theorem's 1/2 or 3/4 pays where samples are near 0."""
    bet = np.minimum(np.sqrt(2 * np.log(2 * n / delta) / (variance * t * np.log(1 + t))), largest)
    return bet, -np.log1p(-bet) - bet


def clt(state, delta):
    """Normal approximation for n filters at one look fixed beforehand, of 30 samples at least: approximate."""
    z, squares = -NormalDist().inv_cdf(delta / (2 * len(state.values))), squared_errors(state)
    share = squares / np.maximum(squares.sum(0), 1e-300)  # a part's share of the variance: halves add up to z standard errors
    return _added_up(state, state.means, np.where(state.counts < 30, np.inf, z * share * np.sqrt(squares.sum(0))))


def squared_errors(state):
    """Squared standard errors of the parts' means, (parts, n); of those seen once at most, 0."""
    m = np.maximum(state.counts, 2)
    return state.m2 / (m - 1) / m


def _added_up(state, centre, half):
    """Limits of values, from the parts' centre -+ half (parts, n).

    No mean is farther than the range's width from its estimate, which is all that is known before the 2nd sample.
    """
    width = state.limits[1] - state.limits[0]
    half = np.where(state.counts < 2, width, np.minimum(half, width)).sum(0)
    return centre.sum(0) - half, centre.sum(0) + half


BOUNDS = {"bernstein": bernstein, "sequence": sequence, "clt": clt}


# ----------------------------------------------------------------------------- the network's filters


def reliability(state):
    """1 - mean squared standard error / variance of the values, of filters seen twice: near 1 = precise, 0 = only noise."""
    seen = (state.counts > 1).all(0)
    variance = state.values[seen].var() if seen.any() else 0.0
    return float(1 - squared_errors(state)[:, seen].sum(0).mean() / variance) if variance else 0.0


def truncated_share(state):
    return float(state.truncated.sum() / state.samples.sum())


def rounds_to_decide(state, run):
    """About how many rounds the set takes in all, should means and variances stay as they are; None if that cannot be told.

    With BOUND = "sequence" and ten samples each it can: by the samples after which an interval keeps clear of the threshold.
    run: constants by name.
    """
    if run["BOUND"] != "sequence" or not state.active.any() or state.samples[state.active].min() < 10:
        return None
    centre, _, threshold = _centred(state, run["TOP_K"], run["WHICH"])
    reach = abs(state.limits).max(0)
    t = np.unique(np.geomspace(1, 1e9, 400).astype(int))[:, None, None]
    steps = np.diff(t, axis=0, prepend=0)
    variance = state.m2 / (np.maximum(state.counts, 2) - 1) / reach ** 2
    bet, psi = _bet(1 / t + variance, t, variance.size, run["DELTA"])
    half = np.log(2 * variance.size / run["DELTA"]) + np.cumsum(steps * psi * variance, 0)
    half = (reach * half / np.cumsum(steps * bet, 0)).sum(1)  # (T, n): after t samples, and, to be safe, no more guesses
    clear = half <= abs(centre - threshold) + run["EPS"]
    missing = np.where(clear.any(0), t[np.argmax(clear, axis=0), 0, 0], np.inf) - state.samples
    missing = np.where(state.active, np.maximum(missing, 0), 0)
    rounds = state.rounds + max(missing.max(), missing.sum() / run["SINGLES"] if run["SAMPLER"] != "paper" else 0)
    return float(rounds) if np.isfinite(rounds) else None


def verdict(state, run, seconds):
    """What a run with these constants and of so many seconds has found of the set that is sought, in one line."""
    k, which, eps = run["TOP_K"], run["WHICH"], run["EPS"]
    promise = "approximately (BOUND=clt promises nothing)" if run["BOUND"] == "clt" else f"with probability {1 - run['DELTA']:g}"
    if not state.values.any():
        why = ("V of the whole network is below TRUNCATION: give a lower one" if truncated_share(state) == 1
               else "no removal changed V")
        return f"All values are 0, since {why}. No set of {k} stands out."
    if state.decided:
        centre, _, _ = _centred(state, k, which)
        near = int((centre[state.status == "rest"] >= centre[state.status == "top"].min() - 2 * eps).sum())
        return f"The {k} {which} are decided, {promise}: none left out is {which.replace('est', 'er')} than one of them" + (
            f" by more than 2 EPS = {2 * eps:g}; {near} left out are that near to the last." if eps else ".")
    line = (f"The {k} {which} are not decided: {(state.status == 'top').sum()} are certified {promise}, "
            f"{(state.status == 'rest').sum()} ruled out. The rest is a best guess; filters.csv has the intervals.")
    if rounds := rounds_to_decide(state, run):
        hours = (rounds - state.rounds) * seconds / state.rounds / 3600
        line += f" To decide takes some {rounds:,.0f} rounds in all, at this pace {hours:,.1f} hours more."
    return line


class Processes(Alone):
    """The team of the processes that torchrun started, on one machine or several."""

    def __init__(self, device):
        import torch
        import torch.distributed

        if device.type == "cuda":
            torch.cuda.set_device(device)
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        self.distributed = torch.distributed
        self.rank, self.size = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def gather(self, done):
        everyone = [None] * self.size
        self.distributed.all_gather_object(everyone, (done, self.interrupted))
        self.stopping = any(interrupted for _, interrupted in everyone)
        return [done for done, _ in everyone]

    def share(self, thing):
        things = [thing]
        self.distributed.broadcast_object_list(things)
        return things[0]

    def part(self):
        self.distributed.barrier()  # or the first to end would close connections under the others
        self.distributed.destroy_process_group()


@dataclass
class Progress:
    """A run of mab.py, from which it goes on: its stages so far."""

    state: Estimate | None = None  # of the present stage
    removed: tuple = ()            # filters that earlier stages removed, in order
    lowest: tuple = ()             # their values, when they were
    rounds: int = 0                # of earlier stages, as the next two
    evaluations: int = 0
    guesses: int = 0

    @property
    def stage(self):
        return len(self.removed)

    def total(self, name):
        """Rounds, evaluations or guesses of all stages."""
        return getattr(self, name) + (getattr(self.state, name) if self.state else 0)

    def left(self, n_filters):
        """(n_filters,) bool: those that earlier stages left."""
        return ~np.isin(np.arange(n_filters), self.removed)

    def values(self):
        """(n_filters,): the latest value of each; of a removed filter, that by which it was."""
        values = self.state.values.copy()
        values[list(self.removed)] = self.lowest
        return values

    def next_stage(self):
        """Remove the filter of the lowest value, and forget the values."""
        values = self.state.values
        lowest = int(np.argmin(np.where(self.left(len(values)), values, np.inf)))
        return Progress(None, (*self.removed, lowest), (*self.lowest, float(values[lowest])),
                        *(self.total(name) for name in ("rounds", "evaluations", "guesses")))


def load_state(run, players):
    """The saved Progress, the seconds it took and the rounds that the tables are of.

    Raises Stop if its run had other settings.
    """
    path, json_path = f"{RECORDS_DIR}/mab.npz", f"{RECORDS_DIR}/mab.json"
    if not os.path.exists(path):
        return Progress(), 0.0, 0
    arrays = records.load_npz(path, "mab.py")
    try:
        before = json.loads(str(arrays.pop("run")))
        if missing := sorted(run.keys() - before.keys() - {"ROUNDS_A_STAGE"}):
            raise Stop(f"{path} is of an older mab.py (it has no {', '.join(missing)}); "
                       "give another --RECORDS_DIR to start anew")
        everyone = np.arange(len(arrays["values"]))  # of records of before SPARE
        same = np.array_equal(arrays.pop("players", everyone), players)
        progress = Progress(removed=tuple(arrays.pop("removed").tolist()), lowest=tuple(arrays.pop("lowest").tolist()),
                            **dict(zip(("rounds", "evaluations", "guesses"), arrays.pop("before").tolist(), strict=True)))
        progress.state = state = Estimate(**arrays)
        state.rounds, state.evaluations, state.guesses = map(int, (state.rounds, state.evaluations, state.guesses))
        tables = records.load_json(json_path, "mab.py") if os.path.exists(json_path) else {"seconds": 0, "rounds": 0}
        seconds, tabled = float(tables["seconds"]), int(tables["rounds"])
        changed = [f"{name}={before.get(name)} there, {run.get(name)} now" for name in sorted(before.keys() | run.keys())
                   if before.get(name) != run.get(name)]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Stop(f"{path} or {json_path} is not a record of mab.py; move both away "
                   "or give another --RECORDS_DIR") from None
    if not same:
        changed.append("other filters were spared")
    if changed:
        raise Stop(f"{path} is of another run ({'; '.join(changed)}); set them back to go on with it, "
                   "or give another --RECORDS_DIR to start anew")
    return progress, seconds, tabled


def save_state(progress, run, players):
    """Write mab.npz, from which a run goes on."""
    records.save({f"{RECORDS_DIR}/mab.npz": {
        "run": json.dumps(run), "players": players,
        "removed": np.array(progress.removed, dtype=int), "lowest": np.array(progress.lowest, dtype=float),
        "before": np.array([progress.rounds, progress.evaluations, progress.guesses]),
        **{field.name: getattr(progress.state, field.name) for field in fields(progress.state)}}})


def save_tables(progress, run, names, players, seconds, device, processes):
    """Write what is read of a run. names: (layer, channel) of every filter of the network; players: those that have a value."""
    import pandas as pd
    import torch

    state = progress.state
    layers, channels = zip(*(names[player] for player in players))
    gone = ~progress.left(len(players))  # the last stage's intervals and status are not theirs
    records.save({
        f"{RECORDS_DIR}/filters.csv": pd.DataFrame({
            "filter": players, "layer": layers, "channel": channels, "shapley": progress.values(),
            "ci_low": np.where(gone, np.nan, state.ci_low), "ci_high": np.where(gone, np.nan, state.ci_high),
            "samples": state.samples, "truncated": state.truncated, "status": np.where(gone, "undecided", state.status)}),
        f"{RECORDS_DIR}/shapley_values.pkl": pd.Series(progress.values(), players).reindex(range(len(names))).to_numpy(),
        f"{RECORDS_DIR}/mab.json": {
            **records.about(settings.chosen(globals()), seconds, device), "run": run,
            "processes": processes, "threads": torch.get_num_threads(), "stages": progress.stage + 1,
            "removed": list(progress.removed),
            **{name: progress.total(name) for name in ("rounds", "evaluations", "guesses")}, "decided": bool(state.decided),
            "filters": len(players), "certified": int((state.status == "top").sum()),
            "ruled_out": int((state.status == "rest").sum()), "active": int(state.active.sum()),
            "negative": int((state.values < 0).sum()), "reliability": reliability(state),
            "intervals_below_0": int((state.ci_high < 0).sum()), "intervals_above_0": int((state.ci_low > 0).sum()),
            "widest_interval": float((state.ci_high - state.ci_low).max()),
            "truncated_share": truncated_share(state),
            "rounds_to_decide": rounds_to_decide(state, run)}})


def sought():
    """WHICH, settled."""
    return WHICH if WHICH != "auto" else "lowest" if TASK == "faces" else "highest"


def spared(network, n_filters):
    """The filters that SPARE's values put highest, (number,) int; none if it is not given. Raises Stop."""
    if not SPARE:
        return np.array([], dtype=int)
    settings.require("SPARE", SPARE, os.path.exists(f"{SPARE}/mab.npz"), "the RECORDS_DIR of an earlier run of mab.py on this network")
    arrays = records.load_npz(f"{SPARE}/mab.npz", "mab.py")
    try:
        of, values = json.loads(str(arrays["run"]))["network"], arrays["values"]
    except (KeyError, ValueError):
        raise Stop(f"{SPARE}/mab.npz is not a record of mab.py; give the RECORDS_DIR of another run") from None
    if of != network or len(values) != n_filters:
        raise Stop(f"SPARE: {SPARE}/mab.npz is of another network, or of some of its filters only; give a run of all filters of this one")
    return np.argsort(-values, kind="stable")[:round(SPARED * n_filters)]


def check_constants():
    for name, value, holds, rule in (
            ("WHICH", WHICH, WHICH in ("lowest", "highest", "auto"), "lowest, highest or auto"),
            ("SPARED", SPARED, 0 < SPARED < 1, "between 0 and 1"),
            ("BOUND", BOUND, BOUND in BOUNDS, " or ".join(BOUNDS)),
            ("DEEPEST", DEEPEST, 0 < DEEPEST <= 1, "more than 0, at most 1"),
            ("SAMPLER", SAMPLER, SAMPLER in ("guided", "shared", "paper"), "guided, shared or paper"),
            ("SINGLES", SINGLES, SINGLES >= 2, "at least 2"),
            ("DELTA", DELTA, 0 < DELTA < 1, "between 0 and 1"), ("EPS", EPS, EPS >= 0, "0 or more"),
            ("MAX_ROUNDS", MAX_ROUNDS, MAX_ROUNDS >= 1, "at least 1"),
            ("STAGES", STAGES, STAGES == 1 or STAGES > 1 and sought() == "lowest" and not SPARE,
             "1, or more if WHICH is lowest and nothing is spared"),
            ("LOOK_EVERY", LOOK_EVERY, LOOK_EVERY >= 1, "at least 1")):
        settings.require(name, value, holds, rule)


def main():
    import ablation  # these need torch; the estimator does not
    import datasets
    import game
    import model

    check_constants()
    records.commit()  # now: it may be another one when the record is written
    device = model.device_of(DEVICE)
    team = Processes(device) if int(os.environ.get("WORLD_SIZE", 1)) > 1 else Alone()
    settings.require("MEASURE", MEASURE, MEASURE in ablation.MEASURES, " or ".join(ablation.MEASURES))
    of_faces = MEASURE in (measure.__name__ for measure in ablation.OF_FACES)
    settings.require("MEASURE", MEASURE, not (of_faces if TASK != "faces" else MEASURE == "attack"),
                     "one that compares no groups, or be given with --TASK=faces" if of_faces else
                     "given with another TASK; --TASK=celeba attacks the same network")
    for name, value in (("CLASS", CLASS), ("SPARE", SPARE)):
        settings.require(name, value, not value or TASK != "faces" and MEASURE != "attack", "left out for TASK=faces and MEASURE=attack")
    network, classes, seen = team.together(lambda: game.load(settings.chosen(globals()), device))
    settings.require("CLASS", CLASS, CLASS in ("", *classes), f"one of {', '.join(classes[:20])}{', ...' * (len(classes) > 20)}")
    evaluator = ablation.evaluator(network, IMAGE_SIZE)
    names = list(zip(evaluator.layers, evaluator.channels))
    guided = SAMPLER == "guided" and hasattr(evaluator, "first_order")  # a network that is not cut has no guesses
    players = np.setdiff1d(np.arange(len(names)), spared(model.digest(network), len(names)))
    settings.require("TOP_K", TOP_K, 0 < TOP_K < len(players), f"from 1 to {len(players) - 1}, the filters less one")
    data = team.together(lambda: game.measured(network, classes, seen, MEASURE, CLASS, SEED, device))

    # What a saved state must share with this run to be gone on from.
    run = {name: constant for name, constant in settings.chosen(globals()).items() if name in (
        "ARCH", "IMAGE_SIZE", "FAIRFACE_FRAME", "SEED", "TOP_K", "MEASURE", "REMOVAL", "IMAGES_PER_ROUND", "TRUNCATION",
        "DEEPEST", "SAMPLER", "SINGLES", "BOUND", "DELTA", "EPS", "LOOK_EVERY")}
    digest = datasets.digest(seen)
    run |= {"WHICH": sought(), "network": model.digest(network), "images": digest if data is seen else datasets.digest(data)}
    run |= {"ROUNDS_A_STAGE": MAX_ROUNDS} if STAGES > 1 else {}
    run |= {"TASK": TASK, "CLASS": CLASS, "seen": digest} if TASK != "faces" else {}
    progress, seconds, tabled = team.share(load_state(json.loads(json.dumps(run)), players) if team.rank == 0 else None)
    settings.require("STAGES", STAGES, progress.stage < STAGES, f"at least {progress.stage + 1}: so many are done")
    fills = ablation.fill_values(evaluator, seen, REMOVAL)
    value = ablation.BatchValue(evaluator, fills, data, IMAGES_PER_ROUND, MEASURE)
    if TASK != "faces" and not progress.total("rounds"):
        whole_v = value(np.ones((1, len(names)), dtype=bool), SEED)[0]
        settings.require("TRUNCATION", TRUNCATION, whole_v >= TRUNCATION,
                         f"below V of the whole network, about {whole_v:.2f}, and above chance, or all values would be 0")
    started, rounds, evaluations = time.time(), progress.total("rounds"), progress.total("evaluations")

    def interrupt(number, _):  # heeded between rounds, when the state is whole
        team.interrupted = True
        signal.signal(number, signal.SIG_DFL)
        if team.rank == 0:
            tqdm.write("Stopping after this round; again to stop at once.", file=sys.stderr)

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, interrupt)

    def on_round(state):
        progress.state = state
        complete = state.rounds == MAX_ROUNDS or state.decided
        stopping = team.stopping and not (complete and progress.stage == STAGES - 1)
        if team.rank == 0:
            save_state(progress, run, players)
            if stopping or STAGES == 1 and state.rounds % LOOK_EVERY == 0:
                save_tables(progress, run, names, players, seconds + time.time() - started, str(device), team.size)
            stage = f"stage {progress.stage + 1}, " if STAGES > 1 else ""
            pace = (progress.total("evaluations") - evaluations) / (time.time() - started)
            bar.set_postfix_str(f"{stage}{state.active.sum()} undecided, widest interval {(state.ci_high - state.ci_low).max():.3f}, "
                                f"reliability {reliability(state):.2f}, {truncated_share(state):.0%} "
                                f"of an order truncated, {pace:.0f} V/s")
            bar.update()
        if stopping:
            raise KeyboardInterrupt

    def whole(keep, left):
        """Coalitions of players, (..., n_players), as coalitions of all filters, less those that stages removed."""
        everyone = np.ones((*keep.shape[:-1], len(names)), dtype=bool)
        everyone[..., players] = keep & left
        return everyone

    with tqdm(total=MAX_ROUNDS * STAGES, initial=rounds, desc="mab.py", unit=" rounds", dynamic_ncols=True,
              disable=team.rank > 0) as bar:
        while True:
            left = progress.left(len(players))  # the others are players still, who change nothing
            progress.state = tmab_shapley(
                lambda keep, round_seed: value(whole(keep, left), round_seed), len(players), k=TOP_K, which=sought(), eps=EPS, delta=DELTA,
                truncation=TRUNCATION, value_range=(-2, 2) if MEASURE == "attack" else (-1, 1), bound=BOUND,
                max_rounds=MAX_ROUNDS, seed=SEED + progress.stage * 2**96,
                sampler="paper" if SAMPLER == "paper" else "shared", singles=SINGLES,
                guess=(lambda keep, round_seed: value.guess(whole(keep, left), round_seed)[players] * left) if guided else None, deepest=DEEPEST,
                chunk=evaluator.chunk, look_every=LOOK_EVERY, team=team, state=progress.state, on_round=on_round)
            if progress.stage >= STAGES - 1:
                break
            progress = progress.next_stage()
    team.part()
    if team.rank > 0:
        return
    state = progress.state
    if progress.total("rounds") > rounds:
        seconds += time.time() - started
    if progress.total("rounds") != tabled:
        save_tables(progress, run, names, players, seconds, str(device), team.size)
    if progress.total("rounds") == rounds:
        print(f"Nothing was computed: {RECORDS_DIR}/mab.npz is of an earlier run that is complete. Raise "
              f"{'MAX_ROUNDS' if STAGES == 1 else 'STAGES'} to go on with it, or give another --RECORDS_DIR to start anew. It holds:")
    if progress.removed:
        print(f"{progress.stage} filters removed one by one, their values estimated anew before each: "
              f"{', '.join('{}[{}]'.format(*names[i]) for i in progress.removed[:5])}{', ...' if progress.stage > 5 else ''}. Of the last stage:")
    print(f"{state.rounds} rounds, {state.evaluations} evaluations of V, reliability {reliability(state):.2f}, "
          f"{truncated_share(state):.0%} of an order truncated. {(state.values < 0).sum()} of {len(players)} values are "
          f"negative; the intervals of {(state.ci_high < 0).sum()} lie below 0, of {(state.ci_low > 0).sum()} above.")
    if not progress.removed and state.values.any():
        best = np.argsort(state.values if sought() == "lowest" else -state.values, kind="stable")[:5]
        print(f"The {sought()}, of all in {RECORDS_DIR}/filters.csv: " + ", ".join(
            "{}[{}] {:+.4f}".format(*names[players[i]], state.values[i]) for i in best))
    print(verdict(state, run, seconds * state.rounds / progress.total("rounds")))


if __name__ == "__main__":
    settings.run(main, globals())
