"""A small run of mab.py: its settings, an Estimate, and records of it."""

from common import records

import numpy as np

from report.values import Stages
from tests.games import estimate, noisy

N = 6  # players
PLAYERS = np.array([0, 1, 2, 4, 5, 7])  # of 8 filters, two are spared
NAMES = [("conv1", 0), ("conv1", 1), ("conv1", 2), *(("conv2", channel) for channel in range(5))]
RUN = {
    "network": "abc",
    "images": "def",
    "REMOVAL": "mean",
    "FAIRFACE_FRAME": [0.0, 0.0, 1.0, 1.0],
    "TOP_K": 2,
    "WHICH": "lowest",
    "BOUND": "sequence",
    "MEASURE": "accuracy",
    "SAMPLER": "shared",
    "SINGLES": 5,
    "EPS": 0.001,
    "DELTA": 0.05,
}


def play(rounds=13, n=N, seed=0):
    """The Estimate of a small game."""
    value = noisy(np.linspace(-0.2, 0.3, n), 0.1, 0.2)
    options = {"k": 2, "value_range": (-1, 1), "sampler": "shared", "singles": 5}
    return estimate(value, n, rounds, seed=seed, truncation=0.0, window=2, **options)


def staged(state):
    """Stages in which two filters were removed."""
    return Stages(state, (3, 0), (-0.5, -0.4), rounds=20, evaluations=300, guesses=7)


def edit_npz(folder, drop=(), **changes):
    """Change arrays of mab.npz."""
    path = f"{folder}/mab.npz"
    arrays = records.load_npz(path, "mab.py") | changes
    kept = {name: array for name, array in arrays.items() if name not in drop}
    records.save({path: kept})
    return path
