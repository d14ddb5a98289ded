"""Do the intervals keep their promise? A simulation on games whose values are known.

    python -m tools.coverage

In each of RUNS runs, ROUNDS rounds of independent marginals are drawn for PLAYERS players, and all
BOUNDs look at the same samples every LOOK_EVERY rounds. A run misses if at any look the interval
of any player does not hold its value. Bernstein and sequence promise that at most a share DELTA of
runs does; clt promises it for one look at many samples, and shows what that is worth. Then the same
for whole runs of the bandit, without and with guesses: it chooses whom to sample by what it saw.
Prints the shares, the widths and how many players were certified wrongly, and writes
RECORDS_DIR/coverage.json.
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

# -----------------------------------------------------------------------------
RUNS = 1000
ROUNDS = 1000
PLAYERS = 50
BANDIT_RUNS = 200  # whole runs of the bandit, of ROUNDS at most
BANDIT_PLAYERS = 20
LOOK_EVERY = 12
DELTA = 0.05
# -----------------------------------------------------------------------------

RANGE = (-1.0, 1.0)  # of a marginal


def heavy_tailed(rng, players):
    """Most marginals are near 0, few near 1 or -1: +-U^8, more often +."""
    return np.where(rng.random(players) < 0.6, 1, -1) * rng.random(players) ** 8


def mostly_zero(rng, players):
    """As behind a truncation: 0 except for 6 %, which are a few of 128 images."""
    return (rng.random(players) < 0.06) * (rng.binomial(8, 0.4, players) - 3) / 128


def accuracy_like(rng, players):
    """The difference of two accuracies on 128 images each."""
    return (rng.binomial(128, 0.66, players) - rng.binomial(128, 0.65, players)) / 128


def rare_disaster(rng, players):
    """-1 once in 300 rounds, else 0: a normal approximation cannot foresee it."""
    return -(rng.random(players) < 1 / 300).astype(float)


# A game is a function (rng, players) -> (players,) marginals; here with the players' value.
GAMES = {
    heavy_tailed: 0.2 / 9,
    mostly_zero: 0.06 * 0.2 / 128,
    accuracy_like: 0.01,
    rare_disaster: -1 / 300,
}


@dataclass
class Misses:
    """One run under one bound: whether any interval missed, and mean widths at the looks."""

    missed: bool
    widths: list


@dataclass
class BanditRun:
    """What one whole run of the bandit came to.

    missed: an interval missed its value at any look. wrong: a player was certified wrongly at any
    look. early, late: mean width of the intervals at an early look and at the end. certified:
    number of players certified at the end.
    """

    missed: bool
    wrong: bool
    early: float
    late: float
    certified: int


def one_run(draw, value, rng):
    """ROUNDS rounds of a game, under every bound: {bound: Misses}."""
    state = new_estimate(PLAYERS, RANGE)
    runs = {bound: Misses(False, []) for bound in BOUNDS}
    for number in range(1, ROUNDS + 1):
        update(state, draw(rng, PLAYERS)[None], np.zeros(PLAYERS), DELTA)
        if number % LOOK_EVERY == 0:
            for bound, interval in BOUNDS.items():
                low, high = interval(state, DELTA)
                run = runs[bound]
                run.missed = run.missed or bool(((low > value) | (high < value)).any())
                run.widths.append(float((high - low).mean()))
    return runs


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
        weights = rng.uniform(-0.3, 0.3, n)
        pairs = np.triu(rng.uniform(-0.01, 0.01, (n, n)), 1)
        return cls(weights, pairs + pairs.T)

    def shapley_values(self):
        """Exact values, (n,) float64: each player gets half of a pair's worth."""
        return self.weights + self.pairs.sum(1) / 2

    def worth(self, round_seed):
        """The players' own worth in one round, (n,) float64."""
        rng, n = np.random.default_rng(round_seed), len(self.weights)
        return self.weights + rng.choice([-0.2, 0.0, 0.2], n, p=[0.1, 0.8, 0.1])

    def value(self, keep, round_seed):
        """V of coalitions: keep (T, n) bool -> (T,) float64."""
        return keep @ self.worth(round_seed) + ((keep @ self.pairs) * keep).sum(1) / 2

    def guess(self, keep, round_seed):
        """A guess of all marginals that knows the chance of a round but no pairs."""
        return self.worth(round_seed)


def whole_run(bound, seed, n, guided, k=5, eps=0.005):
    """tmab_shapley on a PairsGame, a new one for each run: a BanditRun.

    Args:
        bound: one of BOUNDS.
        seed: list of int.
        n: number of players.
        guided: whether to pass guesses.
        k: size of the set that the bandit seeks.
        eps: its tolerance around the k-th value.
    """
    rng = np.random.default_rng(seed)
    game = PairsGame.draw(rng, n)
    values = game.shapley_values()
    ranked, missed, wrong, widths = np.sort(values), [], [], []

    def look(state):
        if state.rounds % LOOK_EVERY == 0 or state.rounds == ROUNDS:
            missed.append(((state.ci_low > values) | (state.ci_high < values)).any())
            top, rest = values[state.status == "top"], values[state.status == "rest"]
            too_high = (top > ranked[k - 1] + 2 * eps).any()
            too_low = (rest < ranked[k] - 2 * eps).any()
            wrong.append(too_high or too_low)
            widths.append(float((state.ci_high - state.ci_low).mean()))

    state = tmab_shapley(
        game.value,
        n,
        k=k,
        eps=eps,
        delta=DELTA,
        value_range=(-0.7, 0.7),
        bound=bound,
        max_rounds=ROUNDS,
        seed=int(rng.integers(2**32)),
        singles=n // 2,
        guess=game.guess if guided else None,
        look_every=LOOK_EVERY,
        on_round=look,
    )
    early = widths[min(ROUNDS // LOOK_EVERY // 10, len(widths) - 1)]
    certified = int((state.status != "undecided").sum())
    return BanditRun(any(missed), any(wrong), early, widths[-1], certified)


def simulate_game(number, draw, value):
    """RUNS runs of a game: a row of the table for each bound."""
    bar = tqdm(range(RUNS), f"tools.coverage {draw.__name__}", unit=" runs", leave=False)
    runs = [one_run(draw, value, np.random.default_rng([SEED, number, run])) for run in bar]
    rows = []
    for bound in BOUNDS:
        widths = np.mean([run[bound].widths for run in runs], axis=0)
        rows.append(
            {
                "game": draw.__name__,
                "bound": bound,
                "missed": float(np.mean([run[bound].missed for run in runs])),
                "width_early": float(widths[len(widths) // 10]),
                "width": float(widths[-1]),
            }
        )
    return rows


def simulate_bandit(game, bound):
    """BANDIT_RUNS whole runs of the bandit: a row of the table."""
    bar = tqdm(range(BANDIT_RUNS), f"tools.coverage {game} {bound}", unit=" runs", leave=False)
    guided = game == "guided bandit"
    runs = [whole_run(bound, [SEED, len(GAMES), run], BANDIT_PLAYERS, guided) for run in bar]

    def mean(name):
        return np.mean([float(getattr(run, name)) for run in runs])

    return {
        "game": game,
        "bound": bound,
        "missed": mean("missed"),
        "width_early": mean("early"),
        "width": mean("late"),
        "wrong": mean("wrong"),
        "certified": mean("certified"),
    }


def check_constants():
    """Raise InputError if a constant is out of range."""
    counts = {"RUNS": RUNS, "BANDIT_RUNS": BANDIT_RUNS}
    for name, number in (counts | {"PLAYERS": PLAYERS, "LOOK_EVERY": LOOK_EVERY}).items():
        settings.require(name, number, number >= 1, "at least 1")
    settings.require("ROUNDS", ROUNDS, ROUNDS >= LOOK_EVERY, f"at least LOOK_EVERY={LOOK_EVERY}")
    rule = "more than 5, the size of the set that is sought"
    settings.require("BANDIT_PLAYERS", BANDIT_PLAYERS, BANDIT_PLAYERS > 5, rule)
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
        line = f"{row['game']:16} {row['bound']:10} {row['missed']:6.3f}   {widths}"
        if "certified" in row:
            line += f"   certified {row['certified']:.1f} of {BANDIT_PLAYERS}"
            line += f", wrongly in a share {row['wrong']:.3f} of runs"
        print(line)


def main():
    """Simulate all games, save and print."""
    started = time.time()
    check_constants()
    table = []
    for number, (draw, value) in enumerate(GAMES.items()):
        table += simulate_game(number, draw, value)
    for game, bound in itertools.product(("bandit", "guided bandit"), BOUNDS):
        table.append(simulate_bandit(game, bound))
    look_early = LOOK_EVERY * (ROUNDS // LOOK_EVERY // 10 + 1)
    record = {
        **records.provenance(settings.constants_of(globals()), time.time() - started, "cpu"),
        "look_early": look_early,
        "table": table,
    }
    records.save({f"{RECORDS_DIR}/coverage.json": record})
    print_table(table, look_early)


if __name__ == "__main__":
    settings.run(main, globals())
