"""Other ways to choose the filters to remove, for eval.py to compare with Shapley values.

    python rivals.py

Reads what train_squeeze.py and mab.py wrote, and the images of the values: a rival knows what
mab.py knew, V included. Writes RECORDS_DIR/rivals.npz and rivals.json: for each rival the filters
to remove, the first to go first. Interrupted, the same command goes on with the next rival. A new
rival is one more function here, one line in CHOOSERS, and its name in the constant RIVALS.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

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
import torch
from tqdm import tqdm

import datasets
import model
from datasets import Images, normalise
from filters.coalitions import Coalitions
from filters.game import load_game
from filters.value import evaluate_measure, fill_values, guess_marginals, l2_norms

# -----------------------------------------------------------------------------
MAX_REMOVED = 60  # filters that each rival names
RIVALS = "l2_norm,mean_activation,first_order,leave_one_out,greedy_guess,greedy"
CANDIDATES = 8  # filters that greedy tries at each step: those with the best guesses
# -----------------------------------------------------------------------------


@dataclass
class Subject:
    """What a rival may know: the network, and the images of the values.

    Attributes:
        network: nn.Module.
        evaluator: of the network, as from filters.coalitions.make_evaluator.
        fills: (n_filters,) float32, the output of a removed filter.
        data: Images that V is measured on.
        seen: Images, the clean ones, of all classes.
        measure: str, V, a name in filters.measures.MEASURES.
        players: (n_players,) int, the filters that may go.
        sign: 1: the filters to go first are those that do V the least good; -1: the most.
        candidates: int, filters that greedy tries at each step.
    """

    network: torch.nn.Module
    evaluator: Coalitions
    fills: torch.Tensor
    data: Images
    seen: Images
    measure: str
    players: np.ndarray
    sign: int = 1
    candidates: int = 8

    COALITIONS_A_CALL = 64  # that V is asked for at once

    def batches(self, per_group=50):
        """The images in batches of about as many from each group, seen by the evaluator.

        Yields Images, label and group on the evaluator's device.
        """
        group, device = self.data.group.numpy(), self.evaluator.device
        members = [np.flatnonzero(group == index) for index in np.unique(group)]
        n_batches = max(1, min(map(len, members)) // per_group)
        for parts in zip(*(np.array_split(rows, n_batches) for rows in members)):
            batch = self.data.take(torch.from_numpy(np.concatenate(parts)))
            self.evaluator.see(normalise(batch.images, device), self.fills)
            yield batch._replace(label=batch.label.to(device), group=batch.group.to(device))

    def value(self, keep):
        """V on all images, the mean of batches: (T, n_filters) bool -> (T,) float64."""
        values, sizes = [], []
        total = len(keep) * len(self.data.label)
        with tqdm(total=total, desc="V", unit=" images", leave=False, dynamic_ncols=True) as bar:
            for batch in self.batches():
                parts = []
                for rows in np.array_split(keep, -(-len(keep) // self.COALITIONS_A_CALL)):
                    parts.append(evaluate_measure(self.evaluator, rows, batch, self.measure))
                    bar.update(len(rows) * len(batch.label))
                values.append(np.concatenate(parts))
                sizes.append(len(batch.label))
        return np.average(values, axis=0, weights=sizes)

    def guess(self, keep):
        """All marginals at a coalition on all images, to first order in the margins.

        keep: (n_filters,) bool -> (n_filters,) float64.
        """
        guesses, sizes = [], []
        for batch in self.batches():
            guesses.append(guess_marginals(self.evaluator, keep, batch, self.measure))
            sizes.append(len(batch.label))
        return np.average(guesses, axis=0, weights=sizes)

    def lowest(self, scores, number):
        """The players of the lowest scores (n_filters,), or of the highest if sign is -1.

        Returns (number,) int, the first to go first.
        """
        order = np.argsort(self.sign * scores[self.players], kind="stable")
        return self.players[order][:number]


def without_each(keep, filters):
    """Coalitions with one more filter gone: (n_filters,) bool and (T,) int -> (T, n_filters)."""
    coalitions = np.repeat(keep[None], len(filters), 0)
    coalitions[np.arange(len(filters)), filters] = False
    return coalitions


# ----------------------------------------------------------------------------- rivals


def l2_norm(subject, number):
    """The filters of the smallest weights, by their L2 norm (pruning by magnitude)."""
    return subject.lowest(l2_norms(subject.network, subject.evaluator), number)


def mean_activation(subject, number):
    """The filters of the lowest mean output, which do the least."""
    outputs = fill_values(subject.evaluator, subject.seen, "mean")
    return subject.lowest(outputs.cpu().numpy(), number)


def first_order(subject, number):
    """The filters whose removal raises V most by its gradient (gradient x activation)."""
    return subject.lowest(subject.guess(np.ones(len(subject.fills), dtype=bool)), number)


def leave_one_out(subject, number):
    """The filters whose removal, one at a time from the whole network, raises V most.

    Measured for ten times as many as are asked for, those with the best guesses.
    """
    everyone = np.ones(len(subject.fills), dtype=bool)
    tried = first_order(subject, 10 * number)
    values = subject.value(without_each(everyone, tried))
    return tried[np.argsort(-subject.sign * values, kind="stable")][:number]


def greedy(subject, number):
    """One after the other, the filter whose removal from what remains raises V most.

    Measured for the candidates, those with the best guesses.
    """
    return _remove_one_by_one(subject, number, subject.candidates)


def greedy_guess(subject, number):
    """As greedy, by the guesses alone: gradient x activation, anew after each removal."""
    return _remove_one_by_one(subject, number, 1)


def _remove_one_by_one(subject, number, candidates):
    n_filters, order = len(subject.fills), []
    keep, may_go = np.ones(n_filters, dtype=bool), np.isin(np.arange(n_filters), subject.players)
    for _ in tqdm(range(number), "one by one", unit=" filters", leave=False, dynamic_ncols=True):
        remaining = keep & may_go
        guesses = np.where(remaining, subject.sign * subject.guess(keep), np.inf)
        best = np.argsort(guesses, kind="stable")[: min(candidates, remaining.sum())]
        chosen = 0
        if len(best) > 1:
            chosen = np.argmax(subject.sign * subject.value(without_each(keep, best)))
        order.append(int(best[chosen]))
        keep[order[-1]] = False
    return np.array(order, dtype=int)


@dataclass(frozen=True)
class Rival:
    """A way to choose filters, and whether it needs a network that can be cut."""

    choose: Callable
    needs_guesses: bool = True

    def __call__(self, subject, number):
        """Filters to remove, the first to go first: (number,) int."""
        return self.choose(subject, number)


CHOOSERS = {
    "l2_norm": Rival(l2_norm, needs_guesses=False),
    "mean_activation": Rival(mean_activation, needs_guesses=False),
    "first_order": Rival(first_order),
    "leave_one_out": Rival(leave_one_out),
    "greedy_guess": Rival(greedy_guess),
    "greedy": Rival(greedy),
}

# ----------------------------------------------------------------------------- script


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
            orders[name] = CHOOSERS[name](subject, MAX_REMOVED)
            save(orders, run, time.time() - started, device)
        print(order_text(name, orders[name], subject.evaluator), flush=True)


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
    settings.run(main, globals(), earlier=("mab.py", "train_squeeze.py"), resumes=True)
