"""Other ways to choose the filters to remove, for eval.py to compare with Shapley values.

    python rivals.py

Reads what train_squeeze.py and mab.py wrote, and the images of the values: a rival knows what
mab.py knew, V included. Writes RECORDS_DIR/rivals.npz and rivals.json: for each rival the filters
to remove, the first to go first. Interrupted, the same command goes on with the next rival, or with
the next filter of one that chooses them one after the other. A new rival is one more function and
one line in filters/choosers.py, and its name in the constant RIVALS.
"""

import json
import os
import time
from contextlib import suppress
from dataclasses import replace

from common import records, settings
from common.settings import (
    ARCH,
    CELEBA_FRAME,
    DATA_DIR,
    DEVICE,
    FAIRFACE_FRAME,
    IMAGE_SIZE,
    NORMALISATION,
    RECORDS_DIR,
    SEED,
    TASK,
    WEIGHTS,
    InputError,
)

import numpy as np

import datasets
import model
from filters.choosers import CHOOSERS, Subject
from filters.game import load_game
from filters.value import fill_values

# -----------------------------------------------------------------------------
MAX_REMOVED = 60  # filters that each rival names
# names in CHOOSERS of filters/choosers.py with commas between
RIVALS = "l2_norm,mean_activation,first_order,relevance,leave_one_out,greedy_guess,greedy"
CANDIDATES = 8  # filters that greedy tries at each step: those with the best guesses
# -----------------------------------------------------------------------------


def main():
    """Check, load, let each rival choose and save it, print."""
    started = time.time()
    names = check_constants()
    device = model.find_device(DEVICE)
    subject, run = load_subject(device)
    check_limits(subject, names)
    orders = load_orders(run)
    for name in names:
        if name not in orders:
            orders[name] = choose(name, subject, run)
            save(orders, run, time.time() - started, device)
        print(order_text(name, orders[name], subject.evaluator), flush=True)


def choose(name, subject, run):
    """The order of a rival, (MAX_REMOVED,) int; one that was interrupted goes on.

    name: str; run: dict, settings that both runs share. Raises InputError.
    """
    path, settled = f"{RECORDS_DIR}/rivals_state.npz", json.dumps(run | {"rival": name})
    begun = []
    if os.path.exists(path):
        state = records.load_npz(path, "rivals.py")
        begun = state["order"] if str(state["run"]) == settled else []

    def save_begun(order):
        records.save({path: {"run": settled, "order": np.array(order)}})

    subject = replace(subject, begun=tuple(map(int, begun)), on_filter=save_begun)
    order = CHOOSERS[name](subject, MAX_REMOVED)
    with suppress(FileNotFoundError):
        os.remove(path)
    return order


def check_constants():
    """The names of the rivals to run, a list. Raises InputError."""
    settings.require("CANDIDATES", CANDIDATES, CANDIDATES >= 1, "at least 1")
    names = [name for name in RIVALS.split(",") if name]
    rule = f"of {', '.join(CHOOSERS)}, with commas between"
    settings.require("RIVALS", RIVALS, set(names) <= set(CHOOSERS), rule)
    return names


def load_subject(device):
    """The Subject of mab.py's run, and what a record of rivals must share with it, a dict."""
    mab = records.load_json(f"{RECORDS_DIR}/mab.json", "mab.py")["run"]
    game = load_game(settings.constants_of(globals()), device, mab)
    data = game.measured_images(mab["MEASURE"], mab.get("CLASS"), SEED)
    if datasets.digest(data) != mab["images"]:
        path, fix = f"{RECORDS_DIR}/mab.json", "run mab.py again, or set its constants here"
        raise InputError(f"{path} is of other images; {fix}")
    table = records.load_csv(f"{RECORDS_DIR}/filters.csv", "mab.py", ["filter"])
    subject = Subject(
        game.network,
        game.evaluator,
        fill_values(game.evaluator, game.seen, mab["REMOVAL"]),
        data,
        game.seen,
        mab["MEASURE"],
        table["filter"].to_numpy(),
        1 if mab["WHICH"] == "lowest" else -1,
        CANDIDATES,
    )
    run = {name: mab[name] for name in ("network", "images", "MEASURE", "REMOVAL")}
    run |= {"MAX_REMOVED": MAX_REMOVED, "CANDIDATES": CANDIDATES}
    if mab["WHICH"] == "highest":
        run["WHICH"] = "highest"
    return subject, run


def check_limits(subject, names):
    """Check what depends on the network. Raises InputError."""
    most = len(subject.players) - 1
    settings.require("MAX_REMOVED", MAX_REMOVED, 0 < MAX_REMOVED <= most, f"from 1 to {most}")
    if not subject.evaluator.is_cut:
        usable = [name for name, rival in CHOOSERS.items() if not rival.needs_guesses]
        rule = (
            f"{','.join(usable)}: the others need guesses, which a network that cannot be cut "
            "does not give"
        )
        settings.require("RIVALS", RIVALS, set(names) <= set(usable), rule)


def load_orders(run):
    """The orders recorded for this run, {rival: (n,) int}. Raises InputError."""
    path = f"{RECORDS_DIR}/rivals.npz"
    if not os.path.exists(path):
        return {}
    orders = records.load_npz(path, "rivals.py")
    if json.loads(str(orders.pop("run", "{}"))) != run:
        raise InputError(
            f"{path} was made with other settings; move it away, or give another --RECORDS_DIR"
        )
    return orders


def save(orders, run, seconds, device):
    """Write rivals.npz and rivals.json. Raises InputError."""
    facts = records.provenance(settings.constants_of(globals()), seconds, str(device))
    lists = {name: order.tolist() for name, order in orders.items()}
    records.save(
        {
            f"{RECORDS_DIR}/rivals.npz": {"run": json.dumps(run), **orders},
            f"{RECORDS_DIR}/rivals.json": {**facts, "run": run, "orders": lists},
        }
    )


def order_text(name, order, evaluator, most=5):
    """The first filters of a rival's order: "greedy: features.0[3], features.0[7], ..."."""
    texts = [f"{evaluator.layers[number]}[{evaluator.channels[number]}]" for number in order[:most]]
    return f"{name}: " + ", ".join(texts) + ", ..." * (len(order) > most)


if __name__ == "__main__":
    settings.run(main, globals(), earlier=("mab.py", "train_squeeze.py"), resumes="rivals*.npz")
