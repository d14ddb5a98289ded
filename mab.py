"""Step 2: the Shapley value of every filter, by a truncated multi-armed bandit (TMAB-Shapley).

    python mab.py

Reads squeezenet.pth and FairFace's set for the values. Writes under RECORDS_DIR: filters.csv,
shapley_values.pkl, mab.json, and mab.npz, the state from which the same command goes on.

A filter's value is its mean marginal V(S + filter) - V(S) over random orders of all filters, S being
those that follow it (Ghorbani & Zou 2020). Positive: the filter helps. Negative: it harms.

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
from settings import ARCH, DATA_DIR, DEVICE, FAIRFACE_FRAME, IMAGE_SIZE, RECORDS_DIR, SEED, Stop

# -----------------------------------------------------------------------------
# the set that is sought
TOP_K = 100             # its size
WHICH = "lowest"        # lowest: the filters that harm most; highest: those that help most
# the game
REMOVAL = "mean"        # what a removed filter gives: its mean output ("mean", the paper's), or 0 ("zero")
IMAGES_PER_ROUND = 128  # the images that V(S) is the accuracy on, new ones in each round
SAMPLER = "paper"       # paper: marginals along orders; gradient: guesses for all filters, corrected by true marginals
TRUNCATION = 0.53       # V under which the rest of an order counts as 0; chance is 0.5
# the intervals
BOUND = "bernstein"     # bernstein (the paper's), sequence (anytime-valid) or clt (approximate)
DELTA = 0.05            # chance that any interval ever misses
EPS = 1e-4              # tolerance around the k-th value; the paper's
# the budget
MAX_ROUNDS = 1000       # random orders, if the set is not decided before; a higher number goes on
LOOK_EVERY = 12         # rounds between looks at the intervals; torchrun's processes share out what lies between
# -----------------------------------------------------------------------------


@dataclass
class Estimate:
    """All that a run knows: what tmab_shapley returns and what it goes on from. Arrays are (n_filters,)."""

    values: np.ndarray     # float64, mean marginals: the Shapley values
    ci_low: np.ndarray     # float64, confidence limits, which hold for all filters at once
    ci_high: np.ndarray
    samples: np.ndarray    # int64, marginals seen
    truncated: np.ndarray  # int64, how many of those were truncated, that is, counted as 0
    m2: np.ndarray         # float64, sum of squared deviations from the mean
    sequence: np.ndarray   # (4, n_filters) float64, the running sums behind BOUND = "sequence"
    active: np.ndarray     # bool, the paper's U: not told apart from the k-th value yet
    close: np.ndarray      # bool, at the last look among the 4 k nearest to the set of interest
    status: np.ndarray     # "top" or "rest": certified by the intervals; else "undecided"
    rounds: int = 0
    evaluations: int = 0   # of V

    @property
    def decided(self):
        """Whether the set of interest is: then it is the filters with status "top"."""
        return not self.active.any()


# ----------------------------------------------------------------------------- the algorithm


def tmab_shapley(value, n_filters, *, k, which="lowest", eps=0.0, delta=0.05, truncation=None, value_range=(-1.0, 1.0),
                 bound="bernstein", max_rounds=1000, seed=0, predict=None, window=16, chunk=16, look_every=12, singles=64,
                 team=None, state=None, on_round=None):
    """Shapley values of a game and its k lowest or highest players (Algorithm 1 of the paper).

    value(keep, round_seed) -> (T,) float: V of T coalitions; keep (T, n_filters) bool, True = in S;
        V's chance, if it has any, is fixed by round_seed (one round_seed = one image batch).
    predict(keep, round_seed) -> (n_filters,) float: a guess at the marginals of all filters of one coalition,
        in value_range. If it is given, a round removes some filters singly from some coalitions of an order, and guesses
        the rest (_sample_bases); else it removes one filter after the other (_sample_order, the paper's way).
        Guesses cost no truth: the values' expectation is the same for any, their variance lower for a good one.
    truncation: once V, averaged over the last `window` places of an order, is below it, the marginals
        that remain count as 0; None for none. The paper's rule is window=1. Values and intervals then
        are those of the marginals so truncated, which are nearer to 0 than the Shapley values.
    value_range: (low, high) of one marginal; an upper bound on high - low is what the intervals need.
    chunk: coalitions per call of value; those past truncation are in vain, and change nothing.
    look_every: rounds between looks at the intervals, which decide what is sampled on.
    singles: with predict, filters removed singly from each coalition.
    team: processes that share the rounds, as Alone; the result is the same however many they are.
    state: an Estimate to go on from; on_round(state): called after every round.
    Returns the Estimate. Round t draws from (seed, t) alone, so going on equals never having stopped.
    Raises ValueError for arguments out of range, a V that is not finite, a marginal outside value_range.
    """
    if which not in ("lowest", "highest"):
        raise ValueError(f"which={which!r} must be lowest or highest")
    if bound not in BOUNDS:
        raise ValueError(f"bound={bound!r} must be one of {', '.join(BOUNDS)}")
    if not 0 < k < n_filters:
        raise ValueError(f"k={k} must be from 1 to {n_filters - 1}, the number of filters less one")
    if not (0 < delta < 1 and eps >= 0 and value_range[0] < value_range[1] and min(window, chunk, look_every, singles) > 0):
        raise ValueError("needs 0 < delta < 1, eps >= 0, a value_range (low, high) and positive window, chunk, look_every, singles")
    state, team = state or nothing_known(n_filters, value_range), team or Alone()
    sample_range = value_range
    if predict:  # the most that the weighted guesses and corrections of a round can add up to
        most = (1 + 2 * n_filters / max(1, singles // 2)) * sum(window / (n_filters - p) for p in range(0, n_filters, window))
        sample_range = (-most * max(map(abs, value_range)), most * max(map(abs, value_range)))
    while not state.decided and state.rounds < max_rounds:
        # Rounds up to the next look do not depend on each other. So each process does one, and all take in all, in order.
        wave = min(team.size, look_every - state.rounds % look_every, max_rounds - state.rounds)
        done = None
        if team.rank < wave:
            rng = np.random.default_rng([seed, state.rounds + team.rank])
            order, round_seed = rng.permutation(n_filters), int(rng.integers(2 ** 32))
            if predict:
                done = _sample_bases(value, predict, state, order, round_seed, rng, truncation, window, singles)
            else:
                done = _sample_order(value, state, order, round_seed, truncation, window, chunk)
                if np.nanmin(done[0]) < value_range[0] - 1e-9 or np.nanmax(done[0]) > value_range[1] + 1e-9:
                    raise ValueError(f"a marginal of round {state.rounds} is outside value_range={value_range}")
        for samples, cut, evaluations in team.gather(done)[:wave]:
            update(state, samples, cut, sample_range, delta)
            state.evaluations += evaluations
            state.rounds += 1
            if state.rounds == max_rounds or state.rounds % look_every == 0:
                state.ci_low, state.ci_high = BOUNDS[bound](state, sample_range, delta)
                _decide(state, k, which, eps, draws=state.rounds % look_every == 0)
            if on_round:
                on_round(state)
    return state


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

    def part(self):
        """There is nothing more to hand in."""


def nothing_known(n, value_range):
    """The Estimate of n filters before the first round."""
    low, high = value_range
    return Estimate(values=np.zeros(n), ci_low=np.full(n, float(low - high)), ci_high=np.full(n, float(high - low)),
                    samples=np.zeros(n, dtype=np.int64), truncated=np.zeros(n, dtype=np.int64), m2=np.zeros(n),
                    sequence=np.zeros((4, n)), active=np.ones(n, dtype=bool), close=np.zeros(n, dtype=bool), status=np.full(n, "undecided"))


def _sample_order(value, state, order, round_seed, truncation, window, chunk):
    """Remove all filters one after the other: order[p] as the p-th.

    Returns marginals (n,), NaN for a filter that is not active; cut (n,) bool, the truncated ones; and evaluations of V.
    """
    n = len(order)
    place = np.argsort(order)                            # place[order[p]] = p
    active = np.flatnonzero(state.active[order])         # places of active filters
    points = np.union1d(active, active + 1)              # V is needed before and after each of them goes
    v = np.full(n + 1, np.nan)                           # v[p]: V with the first p of the order removed
    end = n                                              # the place from which on the order is truncated
    for start in range(0, len(points), chunk):
        now = points[start:start + chunk]
        v[now] = _finite(value(place >= now[:, None], round_seed), state)
        if truncation is not None:
            low = [np.nanmean(v[max(0, p - window + 1):p + 1]) < truncation for p in now]
            if any(low):
                end = now[np.argmax(low)]
                break
    marginals, cut = np.full(n, np.nan), np.zeros(n, dtype=bool)
    sampled = active[active < end]
    marginals[order[sampled]] = v[sampled] - v[sampled + 1]
    cut[order[active[active >= end]]] = True
    marginals[cut] = 0.0
    return marginals, cut, int((points <= end).sum())    # not counting what chunks computed in vain


def _sample_bases(value, predict, state, order, round_seed, rng, truncation, window, singles):
    """Guess all marginals of every window-th coalition of an order, and correct the guesses by some true ones.

    The Shapley value is the mean over places p of the order of E[V(S) - V(S without i) | i in S], S being
    what is left when p filters are gone. In each window one place, at a random offset, stands for all;
    i is in its S with chance (n - p) / n, so that a marginal there weighs window / (n - p). Every active
    i has a guess; those drawn to be removed, with chance q, add (marginal - guess) / q (a difference
    estimator: unbiased for any guess). Half of the draws are from state.close, where precision is needed.

    Returns as _sample_order; none is cut.
    """
    n, place, evaluations = len(order), np.argsort(order), 0
    sample = np.where(state.active, 0.0, np.nan)
    for p in range(int(rng.integers(window)), n, window):
        keep = place >= p
        before = _finite(value(keep[None], round_seed), state)[0]
        evaluations += 1
        if truncation is not None and before < truncation:
            break
        marginals = predict(keep, round_seed)
        players = keep & state.active
        near, far = np.flatnonzero(players & state.close), np.flatnonzero(players & ~state.close)
        n_near = min(len(near), max(singles // 2, singles - len(far)))
        for some, number in ((near, n_near), (far, min(len(far), singles - n_near))):
            if number:
                drawn = rng.choice(some, number, replace=False)
                without = np.repeat(keep[None], number, 0)
                without[np.arange(number), drawn] = False
                true = before - _finite(value(without, round_seed), state)
                marginals[drawn] += (true - marginals[drawn]) * len(some) / number
                evaluations += number
        sample[players] += window / (n - p) * marginals[players]
    return sample, np.zeros(n, dtype=bool), evaluations


def _finite(v, state):
    if not np.isfinite(v).all():
        raise ValueError(f"V is {v} in round {state.rounds}; it must be finite")
    return v


def update(state, marginals, cut, value_range, delta):
    """Take a round's marginals (n,), NaN for none, into means, variances (Welford) and the sums of the confidence sequence."""
    seen = ~np.isnan(marginals)
    x = marginals[seen]
    _update_sequence(state, seen, x, value_range, delta)
    state.samples[seen] += 1
    deviation = x - state.values[seen]
    state.values[seen] += deviation / state.samples[seen]
    state.m2[seen] += deviation * (x - state.values[seen])
    state.truncated[cut] += 1


def _decide(state, k, which, eps, draws):
    """Which filters are certified; if it `draws` the next samples, also which are still active and which are close.

    Active is the paper's U, {i: ci_low + eps < threshold < ci_high - eps}. There the threshold is the
    k-th value; here it is halfway to the next, or the k-th filter could not leave before its interval
    is as narrow as eps. A filter is certified before the end only if the intervals alone prove that it
    is, up to 2 eps, among the k, or that it is not: the threshold is an estimate.
    """
    sign = 1 if which == "highest" else -1
    values = sign * state.values
    low, high = (state.ci_low, state.ci_high) if sign == 1 else (-state.ci_high, -state.ci_low)
    following, kth = np.partition(values, [-k - 1, -k])[[-k - 1, -k]]
    threshold = (kth + following) / 2
    active = (low + eps < threshold) & (threshold < high - eps)
    if draws:
        state.active, state.close = active, np.zeros(len(values), dtype=bool)
        state.close[np.argsort(-values, kind="stable")[:4 * k]] = True
    if not active.any():
        top = np.zeros(len(values), dtype=bool)
        top[np.argsort(-values, kind="stable")[:k]] = True
        rest = ~top
    else:
        n, narrow = len(values), high <= low + 2 * eps
        may_exceed = n - np.searchsorted(np.sort(high), low + 2 * eps, side="right") - ~narrow
        surely_exceed = n - np.searchsorted(np.sort(low), high - 2 * eps, side="left") - narrow
        top, rest = may_exceed < k, surely_exceed >= k
    state.status = np.select([top & ~rest, rest & ~top], ["top", "rest"], "undecided")


# ----------------------------------------------------------------------------- the intervals


def bernstein(state, value_range, delta):
    """Empirical Bernstein (Maurer & Pontil 2009, Theorem 4), as in the paper, but valid at every look.

    The m-th look at one of n filters may miss, at either side, with chance delta / (2 n m (m + 1)):
    over all filters, looks and sides that adds up to delta.
    """
    n, m = len(state.samples), np.maximum(state.samples, 2)
    log = np.log(4 * n * m * (m + 1) / delta)
    half = np.sqrt(2 * state.m2 / (m - 1) * log / m) + 7 / 3 * (value_range[1] - value_range[0]) * log / (m - 1)
    return _limits(state, state.values, half, value_range)


def sequence(state, value_range, delta):
    """Predictable plug-in empirical Bernstein sequence (Waudby-Smith & Ramdas 2023, Theorem 2)."""
    low, high = value_range
    weight, weighted, spread, _ = state.sequence
    weight = np.maximum(weight, 1e-12)
    half = (np.log(2 * len(state.samples) / delta) + spread) / weight
    return _limits(state, low + (high - low) * weighted / weight, (high - low) * half, value_range)


def _update_sequence(state, seen, x, value_range, delta):
    """Before the other statistics take x in: the bet on it may depend on earlier samples only."""
    low, high = value_range
    x = (x - low) / (high - low)                                        # now in [0, 1]
    weight, weighted, spread, squares = state.sequence[:, seen]
    t = state.samples[seen]
    mean = (0.5 + t * (state.values[seen] - low) / (high - low)) / (t + 1)
    variance = (0.25 + squares) / (t + 1)
    log = np.log(2 * len(state.samples) / delta)
    bet = np.minimum(np.sqrt(2 * log / (variance * (t + 1) * np.log(t + 2))), 0.75)
    spread = spread + (x - mean) ** 2 * (-np.log1p(-bet) - bet)
    mean = (mean * (t + 1) + x) / (t + 2)
    state.sequence[:, seen] = weight + bet, weighted + bet * x, spread, squares + (x - mean) ** 2


def clt(state, value_range, delta):
    """Normal approximation for n filters at one look fixed beforehand, of 30 samples at least: approximate."""
    m = np.maximum(state.samples, 2)
    z = NormalDist().inv_cdf(1 - delta / (2 * len(m)))
    half = np.where(m < 30, np.inf, z * np.sqrt(state.m2 / (m - 1) / m))
    return _limits(state, state.values, half, value_range)


def _limits(state, centre, half, value_range):
    """centre -+ half; no mean is farther than value_range from its estimate, all that is known before the 2nd sample."""
    width = value_range[1] - value_range[0]
    half = np.where(state.samples < 2, width, np.minimum(half, width))
    return centre - half, centre + half


BOUNDS = {"bernstein": bernstein, "sequence": sequence, "clt": clt}


# ----------------------------------------------------------------------------- the network's filters


def reliability(state):
    """1 - mean squared standard error / variance of the values: near 1 = precise, near 0 = only noise."""
    m, variance = state.samples, state.values.var()
    if m.min() < 2 or variance == 0:
        return 0.0
    return float(1 - (state.m2 / (m - 1) / m).mean() / variance)


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


def load_state(run):
    """The saved Estimate, the seconds it took and the rounds that the tables are of, or (None, 0.0, 0).

    Raises Stop if its run had other settings.
    """
    path, json_path = f"{RECORDS_DIR}/mab.npz", f"{RECORDS_DIR}/mab.json"
    if not os.path.exists(path):
        return None, 0.0, 0
    arrays = records.load_npz(path, "mab.py")
    try:
        before = json.loads(str(arrays.pop("run")))
        state = Estimate(**arrays)
        state.rounds, state.evaluations = int(state.rounds), int(state.evaluations)
        tables = records.load_json(json_path, "mab.py") if os.path.exists(json_path) else {"seconds": 0, "rounds": 0}
        seconds, tabled = float(tables["seconds"]), int(tables["rounds"])
        changed = [f"{name}={before.get(name)} there, {run[name]} now" for name in run if before.get(name) != run[name]]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Stop(f"{path} or {json_path} is not a record of mab.py; move both away "
                   "or give another --RECORDS_DIR") from None
    if changed:
        raise Stop(f"{path} is of another run ({'; '.join(changed)}); set them back to go on with it, "
                   "or give another --RECORDS_DIR to start anew")
    return state, seconds, tabled


def save_state(state, run):
    """Write mab.npz, from which a run goes on."""
    records.save({f"{RECORDS_DIR}/mab.npz": {
        "run": json.dumps(run), **{field.name: getattr(state, field.name) for field in fields(state)}}})


def save_tables(state, run, layers, channels, seconds, device):
    """Write what is read of a run."""
    import pandas as pd

    records.save({
        f"{RECORDS_DIR}/filters.csv": pd.DataFrame({
            "filter": np.arange(len(layers)), "layer": layers, "channel": channels, "shapley": state.values,
            "ci_low": state.ci_low, "ci_high": state.ci_high, "samples": state.samples, "truncated": state.truncated,
            "status": state.status}),
        f"{RECORDS_DIR}/shapley_values.pkl": state.values,
        f"{RECORDS_DIR}/mab.json": {
            **records.about(settings.chosen(globals()), seconds, device), "run": run,
            "rounds": state.rounds, "evaluations": state.evaluations, "decided": bool(state.decided),
            "certified": int((state.status == "top").sum()), "active": int(state.active.sum()),
            "negative": int((state.values < 0).sum()), "reliability": reliability(state),
            "intervals_below_0": int((state.ci_high < 0).sum()), "intervals_above_0": int((state.ci_low > 0).sum()),
            "widest_interval": float((state.ci_high - state.ci_low).max()),
            "truncated_share": float(state.truncated.sum() / state.samples.sum())}})


def check_constants():
    for name, value, holds, rule in (
            ("WHICH", WHICH, WHICH in ("lowest", "highest"), "lowest or highest"),
            ("BOUND", BOUND, BOUND in BOUNDS, " or ".join(BOUNDS)),
            ("SAMPLER", SAMPLER, SAMPLER in ("gradient", "paper"), "gradient or paper"),
            ("DELTA", DELTA, 0 < DELTA < 1, "between 0 and 1"), ("EPS", EPS, EPS >= 0, "0 or more"),
            ("MAX_ROUNDS", MAX_ROUNDS, MAX_ROUNDS >= 1, "at least 1"),
            ("LOOK_EVERY", LOOK_EVERY, LOOK_EVERY >= 1, "at least 1")):
        settings.require(name, value, holds, rule)


def main():
    import ablation  # these need torch; the estimator does not
    import datasets
    import model

    check_constants()
    records.commit()  # now: it may be another one when the record is written
    device = model.device_of(DEVICE)
    team = Processes(device) if int(os.environ.get("WORLD_SIZE", 1)) > 1 else Alone()
    network = model.load(settings.weights_path(RECORDS_DIR), ARCH=ARCH, IMAGE_SIZE=IMAGE_SIZE).to(device)
    evaluator = ablation.evaluator(network, IMAGE_SIZE)
    layers, channels = evaluator.layers, evaluator.channels
    settings.require("TOP_K", TOP_K, 0 < TOP_K < len(layers), f"from 1 to {len(layers) - 1}, the filters less one")
    settings.require("SAMPLER", SAMPLER, SAMPLER == "paper" or hasattr(evaluator, "predictions"), "paper for this network")
    faces = datasets.fairface(DATA_DIR, "values", IMAGE_SIZE, FAIRFACE_FRAME)

    # What a saved state must share with this run to be gone on from.
    run = {name: constant for name, constant in settings.chosen(globals()).items() if name in (
        "ARCH", "IMAGE_SIZE", "FAIRFACE_FRAME", "SEED", "TOP_K", "WHICH", "REMOVAL", "IMAGES_PER_ROUND", "TRUNCATION",
        "SAMPLER", "BOUND", "DELTA", "EPS", "LOOK_EVERY")} | {"network": model.digest(network), "images": datasets.digest(faces)}
    state, seconds, tabled = team.share(load_state(json.loads(json.dumps(run))) if team.rank == 0 else None)
    fills = ablation.fill_values(evaluator, faces, REMOVAL)
    value = ablation.BatchAccuracy(evaluator, fills, faces, IMAGES_PER_ROUND)
    started, rounds, evaluations = time.time(), state.rounds if state else 0, state.evaluations if state else 0

    def interrupt(number, _):  # heeded between rounds, when the state is whole
        team.interrupted = True
        signal.signal(number, signal.SIG_DFL)
        if team.rank == 0:
            tqdm.write("Stopping after this round; again to stop at once.", file=sys.stderr)

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, interrupt)

    def on_round(state):
        stopping = team.stopping and state.rounds < MAX_ROUNDS and not state.decided
        if team.rank == 0:
            save_state(state, run)
            if stopping or state.rounds % LOOK_EVERY == 0:
                save_tables(state, run, layers, channels, seconds + time.time() - started, str(device))
            bar.set_postfix_str(f"{state.active.sum()} undecided, widest interval {(state.ci_high - state.ci_low).max():.3f}, "
                                f"reliability {reliability(state):.2f}, {state.truncated.sum() / state.samples.sum():.0%} "
                                f"truncated, {(state.evaluations - evaluations) / (time.time() - started):.0f} V/s")
            bar.update()
        if stopping:
            raise KeyboardInterrupt

    with tqdm(total=MAX_ROUNDS, initial=rounds, desc="mab.py", unit=" rounds", dynamic_ncols=True, disable=team.rank > 0) as bar:
        state = tmab_shapley(value, len(layers), k=TOP_K, which=WHICH, eps=EPS, delta=DELTA, truncation=TRUNCATION,
                             bound=BOUND, max_rounds=MAX_ROUNDS, seed=SEED, chunk=evaluator.chunk, look_every=LOOK_EVERY,
                             predict=value.predict if SAMPLER == "gradient" else None, team=team, state=state,
                             on_round=on_round)
    team.part()
    if team.rank > 0:
        return
    if state.rounds != tabled:
        save_tables(state, run, layers, channels, seconds + time.time() - started, str(device))
    if state.rounds == rounds:
        print(f"Nothing was computed: {RECORDS_DIR}/mab.npz is of an earlier run that is complete. Raise MAX_ROUNDS to go "
              "on with it, or give another --RECORDS_DIR to start anew. It holds:")
    print(f"{state.rounds} rounds, {state.evaluations} evaluations of V, reliability {reliability(state):.2f}, "
          f"{state.truncated.sum() / state.samples.sum():.0%} of samples truncated. "
          f"{(state.values < 0).sum()} of {len(layers)} values are negative; the intervals prove it of "
          f"{(state.ci_high < 0).sum()}.")
    if state.truncated.sum() == state.samples.sum():
        print(f"All samples were truncated: the intact network's V is below TRUNCATION={TRUNCATION}. Give a lower one.")
    print(f"The {TOP_K} {WHICH} are decided." if state.decided else
          f"The {TOP_K} {WHICH} are not decided: {(state.status == 'top').sum()} are certified. "
          "Until then the values are a best guess; filters.csv has their intervals.")


if __name__ == "__main__":
    settings.run(main, globals())
