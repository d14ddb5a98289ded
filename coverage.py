"""Do mab.py's intervals keep their promise? A simulation on games whose values are known.

    python coverage.py

In each of RUNS runs, ROUNDS rounds of independent marginals are drawn for PLAYERS players, and all three
BOUNDs look at the same samples every LOOK_EVERY rounds. A run misses if at any look the interval of any
player is without its value. Bernstein and sequence promise that at most a share DELTA of runs does; clt
promises it for one look at many samples, and is here to show what that is worth. Then the same for whole
runs of the bandit, without and with guesses, which chooses by what it saw whom to sample on, and whether
it certifies a player wrongly. Prints the shares and the widths, and writes RECORDS_DIR/coverage.json.
"""

import itertools
import time

import numpy as np
from tqdm import tqdm

import mab
import records
import settings
from settings import RECORDS_DIR, SEED

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
    """As behind a truncation: 0 but for 6 %, which are a few of 128 images."""
    return (rng.random(players) < 0.06) * (rng.binomial(8, 0.4, players) - 3) / 128


def accuracy_like(rng, players):
    """The difference of two accuracies on 128 images each."""
    return (rng.binomial(128, 0.66, players) - rng.binomial(128, 0.65, players)) / 128


def rare_disaster(rng, players):
    """-1 once in 300 rounds, else 0: what a normal approximation cannot foresee."""
    return -(rng.random(players) < 1 / 300).astype(float)


GAMES = {heavy_tailed: 0.2 / 9, mostly_zero: 0.06 * 0.2 / 128, accuracy_like: 0.01, rare_disaster: -1 / 300}  # and their values


def one_run(draw, value, rng):
    """{bound: (whether it missed at any look, widths at the looks)}."""
    state = mab.nothing_known(PLAYERS, RANGE)
    found = {bound: (False, []) for bound in mab.BOUNDS}
    for number in range(1, ROUNDS + 1):
        mab.update(state, draw(rng, PLAYERS)[None], np.zeros(PLAYERS), DELTA)
        if number % LOOK_EVERY == 0:
            for bound, interval in mab.BOUNDS.items():
                low, high = interval(state, DELTA)
                missed, widths = found[bound]
                found[bound] = missed or bool(((low > value) | (high < value)).any()), widths + [float((high - low).mean())]
    return found


def whole_run(bound, seed, n, guided, k=5, eps=0.005):
    """tmab_shapley on a game with pairs, a new one in each run; guided: by guesses that know chance, but no pairs.

    Returns whether, at any look, an interval missed, and a player was certified wrongly; mean widths at an early
    look and in the end; and how many players were certified.
    """
    rng = np.random.default_rng(seed)
    weights, pairs = rng.uniform(-0.3, 0.3, n), np.triu(rng.uniform(-0.01, 0.01, (n, n)), 1)
    pairs = pairs + pairs.T
    values = weights + pairs.sum(1) / 2  # Shapley: of each pair's worth, half to either
    ranked, missed, wrong, widths = np.sort(values), [], [], []

    def worth(round_seed):
        return weights + np.random.default_rng(round_seed).choice([-0.2, 0.0, 0.2], n, p=[0.1, 0.8, 0.1])

    def value(keep, round_seed):
        return keep @ worth(round_seed) + ((keep @ pairs) * keep).sum(1) / 2

    def look(state):
        if state.rounds % LOOK_EVERY == 0 or state.rounds == ROUNDS:
            missed.append(((state.ci_low > values) | (state.ci_high < values)).any())
            wrong.append((values[state.status == "top"] > ranked[k - 1] + 2 * eps).any()
                         or (values[state.status == "rest"] < ranked[k] - 2 * eps).any())
            widths.append(float((state.ci_high - state.ci_low).mean()))

    state = mab.tmab_shapley(value, n, k=k, eps=eps, delta=DELTA, value_range=(-0.7, 0.7), bound=bound, max_rounds=ROUNDS,
                             seed=int(rng.integers(2 ** 32)), singles=n // 2,
                             guess=(lambda keep, round_seed: worth(round_seed)) if guided else None, look_every=LOOK_EVERY, on_round=look)
    early = widths[min(ROUNDS // LOOK_EVERY // 10, len(widths) - 1)]
    return any(missed), any(wrong), early, widths[-1], (state.status != "undecided").sum()


def main():
    started = time.time()
    for name, number in (("RUNS", RUNS), ("BANDIT_RUNS", BANDIT_RUNS), ("PLAYERS", PLAYERS), ("LOOK_EVERY", LOOK_EVERY)):
        settings.require(name, number, number >= 1, "at least 1")
    settings.require("ROUNDS", ROUNDS, ROUNDS >= LOOK_EVERY, f"at least LOOK_EVERY={LOOK_EVERY}")
    settings.require("BANDIT_PLAYERS", BANDIT_PLAYERS, BANDIT_PLAYERS > 5, "more than 5, the size of the set that is sought")
    settings.require("DELTA", DELTA, 0 < DELTA < 1, "between 0 and 1")
    table = []
    for number, (draw, value) in enumerate(GAMES.items()):
        runs = [one_run(draw, value, np.random.default_rng([SEED, number, run]))
                for run in tqdm(range(RUNS), f"coverage.py {draw.__name__}", unit=" runs", leave=False)]
        for bound in mab.BOUNDS:
            widths = np.mean([run[bound][1] for run in runs], axis=0)
            table.append({"game": draw.__name__, "bound": bound, "missed": float(np.mean([run[bound][0] for run in runs])),
                          "width_early": float(widths[len(widths) // 10]), "width": float(widths[-1])})
    for game, bound in itertools.product(("bandit", "guided bandit"), mab.BOUNDS):
        runs = [whole_run(bound, [SEED, len(GAMES), run], BANDIT_PLAYERS, game == "guided bandit")
                for run in tqdm(range(BANDIT_RUNS), f"coverage.py {game} {bound}", unit=" runs", leave=False)]
        missed, wrong, early, late, certified = np.mean(runs, axis=0)
        table.append({"game": game, "bound": bound, "missed": missed, "width_early": early, "width": late,
                      "wrong": wrong, "certified": certified})
    look_early = LOOK_EVERY * (ROUNDS // LOOK_EVERY // 10 + 1)
    records.save({f"{RECORDS_DIR}/coverage.json": {
        **records.about(settings.chosen(globals()), time.time() - started, "cpu"),
        "look_early": look_early, "table": table}})
    print(f"Of {RUNS} runs ({BANDIT_RUNS} of the bandit), the share in which an interval missed at any look (at most {DELTA} "
          f"is promised), and the mean width after {look_early} rounds and in the end:")
    for row in table:
        line = f"{row['game']:16} {row['bound']:10} {row['missed']:6.3f}   {row['width_early']:.4f}  {row['width']:.4f}"
        if "certified" in row:
            line += f"   certified {row['certified']:.1f} of {BANDIT_PLAYERS}, wrongly in a share {row['wrong']:.3f} of runs"
        print(line)


if __name__ == "__main__":
    settings.run(main, globals())
