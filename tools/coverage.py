"""Do the intervals keep their promise? A simulation on games whose values are known.

    python -m tools.coverage

In each of RUNS runs, ROUNDS rounds of independent marginals are drawn for PLAYERS players, and all
BOUNDs look at the same samples every LOOK_EVERY rounds, as they are and clipped. A run misses if
at any look the interval of any player does not hold its value: the mean of all marginals, or of
clipped ones. Bernstein and sequence promise that at most a share DELTA of runs does. Asymptotic
promises so approximately, and clt for one look at many samples; this shows what that is worth.
Then the same for BANDIT_RUNS whole runs of the bandit, without and with guesses: it chooses whom to
sample by what it saw, and ends when its set is decided. Prints the shares, the widths, what the
bandit certified and what that took, and writes RECORDS_DIR/coverage.json.
"""

import itertools
import time
from dataclasses import dataclass

from common import records, settings
from common.settings import RECORDS_DIR, SEED

import numpy as np
from tqdm import tqdm

from shapley import tmab_shapley
from shapley.estimate import new_estimate
from shapley.intervals import BOUNDS, update
from tools.games import GAMES, PairsGame

# -----------------------------------------------------------------------------
RUNS = 1000
ROUNDS = 1000
PLAYERS = 50
BANDIT_RUNS = 1000  # whole runs of the bandit
BANDIT_ROUNDS = 600  # of a whole run at most
BANDIT_PLAYERS = 20
BANDIT_CLIP = 0.5  # of marginals in [-0.9, 0.9]
TOP_K = 5  # the lowest players, which the bandit seeks
EPS = 0.025  # its tolerance around the k-th value; half the mean gap between values
LOOK_EVERY = 12
DELTA = 0.05
# -----------------------------------------------------------------------------

RANGE = (-1.0, 1.0)  # of a marginal
PAIRS_RANGE = (-0.9, 0.9)  # of a marginal of a PairsGame
MOST_PLAYERS = 22  # of a PairsGame, whose clipped values are sums over 2^(n - 1) coalitions
BATCH = 50  # runs of a game that are simulated at once; changes speed, and which samples are drawn
BANDITS = ("bandit", "guided bandit")


@dataclass
class Looks:
    """What the looks at some runs showed, under one clip and bound.

    missed: (runs,) bool, whether any interval of a run missed at any look. widths: the mean width
    of the intervals at each look.
    """

    missed: np.ndarray
    widths: list

    def add(self, states, interval, value):
        """Look at the runs' Estimates with an interval that should hold a value, a float."""
        limits = [interval(state, DELTA) for state in states]
        low, high = np.swapaxes(limits, 0, 1)  # (runs, PLAYERS) each
        self.missed |= ((low > value) | (high < value)).any(1)
        self.widths.append(float((high - low).mean()))


@dataclass
class Trial:
    """A game for whole runs of the bandit: a PairsGame, its values by clip, and a seed."""

    game: PairsGame
    values: dict
    seed: int


@dataclass
class BanditRun:
    """What one whole run of the bandit came to.

    missed: an interval missed its value at any look. wrong: a player was certified wrongly at any
    look. early, late: mean width of the intervals at an early look and at the end. certified:
    number of players certified at the end. decided: whether that is all of them. rounds,
    evaluations: what it took.
    """

    missed: bool
    wrong: bool
    early: float
    late: float
    certified: int
    decided: bool
    rounds: int
    evaluations: int


def simulate_runs(draw, values, n_runs, rng):
    """Runs of ROUNDS rounds of a game, under every clip and bound: {(clip, bound): Looks}.

    Args:
        draw: as in tools.games.Game.
        values: the players' value for each clip, a positive float or None: {clip: float}.
        n_runs: int.
        rng: numpy Generator.
    """
    n = n_runs * PLAYERS
    states = {clip: new_estimate(n, clipped_range(RANGE, clip)) for clip in values}
    keys = itertools.product(values, BOUNDS)
    results = {key: Looks(np.zeros(n_runs, dtype=bool), []) for key in keys}
    for number in range(1, ROUNDS + 1):
        marginals = draw(rng, n)
        for clip, value in values.items():
            state, clipped = states[clip], np.clip(marginals, *clipped_range(RANGE, clip))
            # All runs at once: n_runs times the players share n_runs times DELTA, so that each
            # player has the share that it has in a run of its own.
            update(state, clipped[None], np.zeros(n), n_runs * DELTA)
            if number % LOOK_EVERY == 0:
                runs = split_runs(state, n_runs)
                for bound, interval in BOUNDS.items():
                    results[clip, bound].add(runs, interval, value)
    return results


def split_runs(state, n_runs):
    """The Estimates of runs that were simulated as one: a list."""
    runs = []
    for players in np.split(np.arange(len(state.values)), n_runs):
        run = new_estimate(len(players), state.limits)
        for name in ("values", "counts", "means", "m2", "sequence"):
            setattr(run, name, getattr(state, name)[..., players])
        runs.append(run)
    return runs


def clipped_range(value_range, clip):
    """The range of marginals clipped to +- clip, or of all if it is None: (low, high)."""
    clip = np.inf if clip is None else clip
    return max(value_range[0], -clip), min(value_range[1], clip)


def draw_trial(seed, n, clip):
    """A random PairsGame of n players, whose values are known with and without clip: a Trial."""
    rng = np.random.default_rng(seed)
    game = PairsGame.draw(rng, n)
    values = {None: game.shapley_values(), clip: game.clipped_values(clip)}
    return Trial(game, values, int(rng.integers(2**32)))


def whole_run(trial, bound, clip, guided):
    """tmab_shapley on a trial's game: a BanditRun.

    Args:
        trial: Trial.
        bound: one of BOUNDS.
        clip: marginals are clipped to +- this; None: not.
        guided: whether to pass guesses.
    """
    game, values = trial.game, trial.values[clip]
    ranked, missed, wrong, widths = np.sort(values), [], [], []

    def look(state):
        if state.rounds % LOOK_EVERY == 0 or state.rounds == BANDIT_ROUNDS:
            missed.append(((state.ci_low > values) | (state.ci_high < values)).any())
            top, rest = values[state.status == "top"], values[state.status == "rest"]
            too_high = (top > ranked[TOP_K - 1] + 2 * EPS).any()
            too_low = (rest < ranked[TOP_K] - 2 * EPS).any()
            wrong.append(too_high or too_low)
            widths.append(float((state.ci_high - state.ci_low).mean()))

    state = tmab_shapley(
        game.value,
        len(values),
        k=TOP_K,
        eps=EPS,
        delta=DELTA,
        value_range=PAIRS_RANGE,
        bound=bound,
        clip=clip,
        max_rounds=BANDIT_ROUNDS,
        seed=trial.seed,
        singles=len(values) // 2,
        guess=game.guess if guided else None,
        look_every=LOOK_EVERY,
        on_round=look,
    )
    return BanditRun(
        missed=any(missed),
        wrong=any(wrong),
        early=widths[min(early_look() - 1, len(widths) - 1)],
        late=widths[-1],
        certified=int((state.status != "undecided").sum()),
        decided=state.decided,
        rounds=state.rounds,
        evaluations=state.evaluations,
    )


def early_look():
    """The number of the look, counted from 1, at which early widths are taken."""
    return ROUNDS // LOOK_EVERY // 10 + 1


def simulate_game(number, name):
    """RUNS runs of a game: a row of the table for each clip and bound."""
    game = GAMES[name]
    values = {None: game.mean(np.inf), game.clip: game.mean(game.clip)}
    batches = []
    for start in tqdm(range(0, RUNS, BATCH), f"tools.coverage {name}", leave=False):
        rng = np.random.default_rng([SEED, number, start])
        batches.append(simulate_runs(game.draw, values, min(BATCH, RUNS - start), rng))
    rows = []
    for clip, bound in itertools.product(values, BOUNDS):
        missed = np.concatenate([batch[clip, bound].missed for batch in batches])
        sizes = [len(batch[clip, bound].missed) for batch in batches]
        widths = np.average([batch[clip, bound].widths for batch in batches], 0, sizes)  # (looks,)
        row = {
            "game": name,
            "bound": bound,
            "clip": clip,
            "value": values[clip],
            "missed": float(missed.mean()),
            "width_early": float(widths[early_look() - 1]),
            "width": float(widths[-1]),
        }
        rows.append(row)
    return rows


def draw_trials():
    """The games of all whole runs, the same for every bound and clip: a list of Trial."""
    bar = tqdm(range(BANDIT_RUNS), "tools.coverage values", unit=" games", leave=False)
    return [draw_trial([SEED, len(GAMES), run], BANDIT_PLAYERS, BANDIT_CLIP) for run in bar]


def simulate_bandit(trials, name, bound, clip):
    """A whole run of the bandit on each trial: a row of the table."""
    bar = tqdm(trials, f"tools.coverage {name} {bound} {clip}", unit=" runs", leave=False)
    runs = [whole_run(trial, bound, clip, guided=name == "guided bandit") for trial in bar]

    def mean(field):
        return float(np.mean([getattr(run, field) for run in runs]))

    return {
        "game": name,
        "bound": bound,
        "clip": clip,
        "missed": mean("missed"),
        "width_early": mean("early"),
        "width": mean("late"),
        "wrong": mean("wrong"),
        "certified": mean("certified"),
        "decided": mean("decided"),
        "rounds": mean("rounds"),
        "evaluations": mean("evaluations"),
    }


def check_constants():
    """Raise InputError if a constant is out of range."""
    counts = {"RUNS": RUNS, "BANDIT_RUNS": BANDIT_RUNS, "TOP_K": TOP_K}
    for name, number in (counts | {"PLAYERS": PLAYERS, "LOOK_EVERY": LOOK_EVERY}).items():
        settings.require(name, number, number >= 1, "at least 1")
    for name, number in {"ROUNDS": ROUNDS, "BANDIT_ROUNDS": BANDIT_ROUNDS}.items():
        settings.require(name, number, number >= LOOK_EVERY, f"at least LOOK_EVERY={LOOK_EVERY}")
    rule = f"more than TOP_K={TOP_K}, and at most {MOST_PLAYERS} to find clipped values exactly"
    in_range = TOP_K < BANDIT_PLAYERS <= MOST_PLAYERS
    settings.require("BANDIT_PLAYERS", BANDIT_PLAYERS, in_range, rule)
    settings.require("BANDIT_CLIP", BANDIT_CLIP, BANDIT_CLIP > 0, "above 0")
    settings.require("EPS", EPS, EPS >= 0, "0 or more")
    settings.require("DELTA", DELTA, 0 < DELTA < 1, "between 0 and 1")


def print_table(table, look_early):
    """Print a line for each row of the table."""
    print(
        f"Of {RUNS} runs ({BANDIT_RUNS} of the bandit): the share in which an interval missed at "
        f"any look (promised: at most {DELTA}), and the mean width after {look_early} rounds and "
        "at the end:"
    )
    for row in table:
        widths = f"{row['width_early']:.4f}  {row['width']:.4f}"
        clip = f"clip {row['clip']}" if row["clip"] else ""
        line = f"{row['game']:13} {row['bound']:10} {clip:9} {row['missed']:6.3f}   {widths}"
        if "certified" in row:
            line += f"   certified {row['certified']:.1f} of {BANDIT_PLAYERS}"
            line += f", wrongly in a share {row['wrong']:.3f} of runs; {row['decided']:.3f} decided"
            line += f"; {row['rounds']:.0f} rounds, {row['evaluations']:.0f} evaluations"
        print(line)


def main():
    """Simulate all games, save and print."""
    started = time.time()
    check_constants()
    table = []
    for number, name in enumerate(GAMES):
        table += simulate_game(number, name)
    trials = draw_trials()
    for name, clip, bound in itertools.product(BANDITS, (None, BANDIT_CLIP), BOUNDS):
        table.append(simulate_bandit(trials, name, bound, clip))
    look_early = LOOK_EVERY * early_look()
    record = {
        **records.provenance(settings.constants_of(globals()), time.time() - started, "cpu"),
        "look_early": look_early,
        "table": table,
    }
    records.save({f"{RECORDS_DIR}/coverage.json": record})
    print_table(table, look_early)


if __name__ == "__main__":
    settings.run(main, globals())
