"""Orders in which filters are removed, and the coalitions along them."""

import json
import os

from common.records import load_npz
from common.settings import InputError

import numpy as np


def coalitions_along(order, n_filters):
    """What remains as filters are removed one by one.

    Args:
        order: (n,) int, filters, the first to go first.
        n_filters: int, of the whole network.

    Returns:
        (n + 1, n_filters) bool, True: the filter works. In row i the first i have gone.
    """
    keep = np.ones((len(order) + 1, n_filters), dtype=bool)
    for step, removed in enumerate(order):
        keep[step + 1 :, removed] = False
    return keep


def random_orders(players, number, seed):
    """Random orders of the filters that may go: {"random 0": (n,) int, "random 1": ...}."""
    orders = {}
    for index in range(number):
        rng = np.random.default_rng([seed, index, 1])  # mab.py's generators have other seeds
        orders[f"random {index}"] = rng.permutation(players)
    return orders


def load_rivals(path, run, n_filters, max_removed):
    """The orders that rivals.py recorded for the game of mab.py.

    Args:
        path: str, of rivals.npz.
        run: dict, the settings of mab.py's run.
        n_filters: int, of the whole network.
        max_removed: int, filters that each rival must name at least.

    Returns:
        {rival: (n,) int, filters to remove, the first to go first}; empty if rivals.py did not run.

    Raises:
        InputError: the file is damaged, or was made for another game.
    """
    if not os.path.exists(path):
        return {}
    orders = load_npz(path, "rivals.py")
    fix = "move it away, and run rivals.py again or do without"
    try:
        made_for = json.loads(str(orders.pop("run")))
        changed = [
            name
            for name in ("network", "images", "MEASURE", "REMOVAL")
            if made_for[name] != run[name]
        ]
        if made_for.get("WHICH", "lowest") != run["WHICH"]:
            changed.append("WHICH")
        if made_for["MAX_REMOVED"] < max_removed:
            changed.append("MAX_REMOVED")
        for order in orders.values():
            _check_filters(order, n_filters)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path} is not a record of rivals.py; {fix}") from None
    if changed:
        raise InputError(f"{path} was made with another {', '.join(changed)}; {fix}")
    return orders


def _check_filters(order, n_filters):
    """Raise TypeError or ValueError unless an array holds numbers of filters."""
    if np.bincount(order, minlength=n_filters).shape != (n_filters,):
        raise ValueError
