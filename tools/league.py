"""A league of estimators of Shapley values, on a real game: filters of a trained network.

    python -m tools.league

All estimators play the same game: V is measured on one fixed batch of images. It has two variants:
the whole one, and a truncated one, in which marginals deep in an order count as 0, for estimators
that can be truncated. At several numbers of evaluations of V this records the squared error against
a long reference run with seeds of its own, over all players and over the most extreme ones of the
reference, how many of these an estimator finds, and the time. The reference's own squared error is
estimated and subtracted. An estimator that does not run, or not within TIME_LIMIT and MEMORY_GIB,
gets a record that says why.

Reads the network and images as mab.py does. Writes under RECORDS_DIR/league/ one file for the game,
and in a folder for each variant one for each part of the reference and for each estimator and seed.
An interrupted run goes on after the last of them; processes with different METHODS can share a
folder once the reference is there.
"""

import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

from common import records, settings
from common.settings import (
    ARCH,
    CELEBA_FRAME,
    DATA_DIR,
    DEVICE,
    FAIRFACE_FRAME,
    IMAGE_SIZE,
    RECORDS_DIR,
    SEED,
    TASK,
    WEIGHTS,
    InputError,
)

import numpy as np
import torch
from tqdm import tqdm

import datasets
import model
from filters.game import load_game
from filters.measures import MEASURES
from filters.value import BatchValue, fill_values
from tools.estimators import ESTIMATORS, MeteredGame, Task
from tools.trace import Reference, limit_run, peak_memory_gib, restart_peak_memory, trace

# -----------------------------------------------------------------------------
# the game
MEASURE = "accuracy"  # V, one of MEASURES in filters/measures.py
REMOVAL = "mean"  # what a removed filter gives: mean or zero
IMAGES = 64  # of V, the same in every evaluation
DEEPEST = 0.02  # share of an order behind which marginals count as 0 in the truncated variant
# what is sought
TOP_K = 100  # players of interest; also the extreme ones of the reference, whose error is recorded
WHICH = "auto"  # lowest, highest, or auto: lowest for faces, else highest
# the runs
METHODS = ""  # names in ESTIMATORS with commas between; empty: all
VARIANTS = "whole,truncated"  # of the game, with a comma between
SEEDS = 3  # runs of each, from SEED on
CHECKPOINTS = (3000, 6000, 12000, 24000, 48000)  # evaluations of V
REFERENCE_PARTS = 10  # runs of the last checkpoint's length; the reference is their mean
# limits of a run
TIME_LIMIT = 600  # seconds without an evaluation of V
MEMORY_GIB = 8.0  # beyond what the program has at the start; on a CPU only
# -----------------------------------------------------------------------------

# Constants that all records of a folder share
IDENTITY = ["TASK", "MEASURE", "REMOVAL", "IMAGES", "DEEPEST", "TOP_K", "CHECKPOINTS"]
IDENTITY += ["REFERENCE_PARTS", "SEED", "IMAGE_SIZE"]


def main():
    """Load the game, make the reference, run every estimator that has no record, print."""
    names = check_constants()
    records.commit()  # now: it may be another one when a record is written
    device = model.find_device(DEVICE)
    league = load_league(device)
    for variant in (Variant("whole", 1.0), Variant("truncated", DEEPEST)):
        if variant.name not in VARIANTS.split(","):
            continue
        variant.reference = make_reference(league, variant)
        for seed in range(SEED, SEED + SEEDS):
            for name in names:
                estimator = ESTIMATORS[name]
                fits_variant = estimator.truncates or variant.name == "whole"
                if fits_variant and (league.guess or not estimator.guesses):
                    run_method(league, variant, name, seed)


def check_constants():
    """The names of the estimators to run, a list. Raises InputError."""
    names = [name for name in METHODS.split(",") if name] or list(ESTIMATORS)
    kinds = "whole, truncated, or both with a comma between"
    increasing = all(np.diff((0, *CHECKPOINTS)) > 0)
    for name, value, condition, rule in (
        ("MEASURE", MEASURE, MEASURE in MEASURES, " or ".join(MEASURES)),
        ("IMAGES", IMAGES, IMAGES >= 1, "at least 1"),
        ("DEEPEST", DEEPEST, 0 < DEEPEST < 1, "between 0 and 1"),
        ("TOP_K", TOP_K, TOP_K >= 1, "at least 1"),
        ("WHICH", WHICH, WHICH in ("lowest", "highest", "auto"), "lowest, highest or auto"),
        ("METHODS", METHODS, set(names) <= set(ESTIMATORS), f"of {', '.join(ESTIMATORS)}"),
        ("VARIANTS", VARIANTS, set(VARIANTS.split(",")) <= {"whole", "truncated"}, kinds),
        ("SEEDS", SEEDS, SEEDS >= 1, "at least 1"),
        ("CHECKPOINTS", CHECKPOINTS, increasing, "increasing numbers above 0"),
        ("REFERENCE_PARTS", REFERENCE_PARTS, REFERENCE_PARTS >= 2, "at least 2"),
        ("TIME_LIMIT", TIME_LIMIT, TIME_LIMIT >= 1, "at least 1"),
        ("MEMORY_GIB", MEMORY_GIB, MEMORY_GIB > 0, "more than 0"),
    ):
        settings.require(name, value, condition, rule)
    return names


# ----------------------------------------------------------------------------- the game


@dataclass
class League:
    """The game that all estimators play, and the end of the values that is sought."""

    value: Callable  # (T, n) bool -> (T,) float64
    guess: Callable | None  # (n,) bool -> (n,) float64; None: the network has no guesses
    n_players: int
    which: str  # lowest or highest
    device: torch.device
    guess_cost: float = 1.0  # evaluations of V that take as long as a guess
    on_evaluation: Callable | None = None  # called before every call of V

    def clock(self):
        """Seconds: on a CPU of this program alone, whatever else runs there."""
        return time.process_time() if self.device.type == "cpu" else time.perf_counter()

    def open_game(self, budget):
        """The game with nothing spent: a MeteredGame."""
        return MeteredGame(self.watched_value, self.n_players, budget, self.guess, self.guess_cost)

    def watched_value(self, keep):
        """As value, after on_evaluation."""
        if self.on_evaluation:
            self.on_evaluation()
        return self.value(keep)

    @contextmanager
    def limits(self):
        """End what runs inside when it exceeds TIME_LIMIT or, on a CPU, MEMORY_GIB."""
        memory = MEMORY_GIB if self.device.type == "cpu" else None
        try:
            with limit_run(TIME_LIMIT, memory) as self.on_evaluation:
                yield
        finally:
            self.on_evaluation = None

    def task(self, deepest, seed):
        """What an estimator is asked for: a Task."""
        low, high = MEASURES[MEASURE].value_range  # of V; a marginal is a difference of two
        return Task(self.n_players, TOP_K, self.which, (low - high, high - low), deepest, seed)


def load_league(device):
    """The League of this network and one batch of its images. Raises InputError."""
    constants = settings.constants_of(globals())
    game = load_game(constants, device)
    n_players, evaluator = len(game.evaluator.layers), game.evaluator
    settings.require("TOP_K", TOP_K, n_players > TOP_K, f"less than {n_players}, the players")
    fills = fill_values(evaluator, game.seen, REMOVAL)
    try:
        batch = BatchValue(evaluator, fills, game.seen, IMAGES, MEASURE)
    except InputError as error:
        raise InputError(str(error).replace("IMAGES_PER_ROUND", "--IMAGES")) from None
    which = WHICH
    if WHICH == "auto":
        which = "lowest" if TASK == "faces" else "highest"
    guess = (lambda keep: batch.guess(keep, SEED)) if evaluator.is_cut else None
    league = League(lambda keep: batch(keep, SEED), guess, n_players, which, device)
    identity = {name: constants[name] for name in IDENTITY}
    identity |= {"WHICH": which, "network": game.digest, "images": datasets.digest(game.seen)}
    league.guess_cost = describe_game(league, identity, device)["evaluations_a_guess"]
    return league


def describe_game(league, identity, device):
    """The record of the game, a dict; measured and written if there is none. Raises InputError."""
    path = f"{RECORDS_DIR}/league/game.json"
    identity = identity | {"CHECKPOINTS": list(CHECKPOINTS)}  # as JSON gives it back
    if os.path.exists(path):
        record = records.load_json(path, "tools.league")
        if record.get("identity") != identity:
            raise InputError(
                f"{path} is of other settings, or of another network or other images; move "
                f"{RECORDS_DIR}/league away, or give another --RECORDS_DIR"
            )
        return record
    started = time.time()
    evaluation, guess = time_evaluation(league)
    ends = np.array([np.ones(league.n_players), np.zeros(league.n_players)], dtype=bool)
    whole, empty = league.value(ends)
    record = {
        **records.provenance(settings.constants_of(globals()), time.time() - started, str(device)),
        "identity": identity,
        "players": league.n_players,
        "value_of_all": float(whole),
        "value_of_none": float(empty),
        "evaluation_ms": 1000 * evaluation,
        "evaluations_a_guess": guess / evaluation if league.guess else 1.0,
        "clock": "CPU time" if device.type == "cpu" else "wall time",
    }
    records.save({path: record})
    return record


def time_evaluation(league, repeats=5, n_flips=40):
    """Seconds of an evaluation of V, and of a guess; medians over random coalitions."""
    rng, seconds = np.random.default_rng(SEED), {"value": [], "guess": []}
    for repeat in range(repeats + 1):
        removed = rng.integers(league.n_players)
        coalition = rng.permutation(league.n_players) >= removed
        flipped = np.repeat(coalition[None], n_flips, 0)
        flipped[np.arange(n_flips), rng.permutation(league.n_players)[:n_flips]] ^= True
        for name, call, n_calls in (
            ("value", lambda rows=flipped: league.value(rows), n_flips),
            ("guess", lambda rows=coalition: league.guess and league.guess(rows), 1),
        ):
            before = league.clock()
            call()
            if repeat:  # the first warms up
                seconds[name].append((league.clock() - before) / n_calls)
    return float(np.median(seconds["value"])), float(np.median(seconds["guess"]))


# ----------------------------------------------------------------------------- runs


@dataclass
class Variant:
    """The whole or the truncated game, and the values to compare with there."""

    name: str
    deepest: float  # share of an order that counts
    reference: Reference | None = None

    def path(self, file):
        """Path of a record of this variant."""
        return f"{RECORDS_DIR}/league/{self.name}/{file}"


def make_reference(league, variant):
    """The Reference of a variant; parts that have no record are run."""
    name, runs = "guided_even" if league.guess else "cmcs", []
    for number in range(REFERENCE_PARTS):
        path = variant.path(f"reference_{number}.npz")
        if not os.path.exists(path):
            seed = SEED + 2**40 + number  # far from those of the runs
            task = league.task(variant.deepest, seed)
            label = f"{variant.name} reference {number + 1}/{REFERENCE_PARTS}"
            points = list(trace_with_bar(league, name, task, CHECKPOINTS[-1:], label))
            if not points:
                raise InputError("CHECKPOINTS: the last is too small for a round of the reference")
            point = points[0]
            costs = {"evaluations": point.evaluations, "seconds": point.seconds}
            records.save({path: {"values": point.estimate, "method": name, **costs}})
        runs.append(records.load_npz(path, "tools.league")["values"])
    return Reference.from_runs(runs, league.which, TOP_K)


def trace_with_bar(league, name, task, checkpoints, label):
    """As trace, with a progress bar."""
    label, unit = f"tools.league {label}", " evaluations"
    with tqdm(total=checkpoints[-1], desc=label, unit=unit, leave=False) as bar:

        def show(spent):
            bar.update(int(spent) - bar.n)

        estimator = ESTIMATORS[name]
        yield from trace(estimator, league.open_game, task, checkpoints, league.clock, show)


def run_method(league, variant, name, seed):
    """Run an estimator within the limits and write its record, unless there is one.

    What has not run at all with the first seed is not tried with others.
    """
    path, first = (variant.path(f"{name}_{number}.json") for number in (seed, SEED))
    if os.path.exists(path):
        return
    if seed != SEED and not records.load_json(first, "tools.league")["points"]:
        return
    started, points, failure = time.time(), [], ""
    restart_peak_memory()
    try:
        with league.limits():
            task = league.task(variant.deepest, seed)
            label = f"{variant.name} {name} {seed}"
            for point in trace_with_bar(league, name, task, CHECKPOINTS, label):
                points.append(point.costs() | variant.reference.score(point.estimate))
    except InputError:
        raise
    except Exception as error:  # whatever a library raises is what its record says
        failure = " ".join(f"{type(error).__name__}: {error}".split())
    if not points and not failure:
        failure = f"no estimate within {CHECKPOINTS[-1]:,} evaluations"
    seconds, peak = time.time() - started, peak_memory_gib()
    constants = settings.constants_of(globals())
    record = records.provenance(constants, seconds, str(league.device))
    facts = {"variant": variant.name, "method": name, "label": ESTIMATORS[name].label, "seed": seed}
    record |= {**facts, "failure": failure, "run_peak_memory_gib": peak}
    record |= {"reference": variant.reference.summary(), "points": points}
    records.save({path: record})
    print(run_text(record), flush=True)


def run_text(record):
    """A line on a run: its last scores, or why there are none."""
    name = f"{record['variant']:9} {record['method']:11} seed {record['seed']}"
    if not record["points"]:
        return f"{name}  {record['failure']} ({record['seconds']:.0f} s)"
    last = record["points"][-1]
    text = f"{name}  {last['evaluations']:8,.0f} evaluations  {last['seconds']:7.1f} s"
    text += f"  squared error x 1e9: {last['error_top'] * 1e9:.0f} of the extreme,"
    text += f" {last['error_all'] * 1e9:.0f} of all"
    text += f"  found: {last['found_few']:.0%}, {last['found_top']:.0%}"
    return text + (f"  then {record['failure']}" if record["failure"] else "")


if __name__ == "__main__":
    settings.run(main, globals())
