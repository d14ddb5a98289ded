"""Other ways to choose the filters to remove, for eval.py to set beside Shapley values.

    python rivals.py

Reads what train_squeeze.py and mab.py wrote, and the images of the values: a rival knows what mab.py knew, V included.
Writes RECORDS_DIR/rivals.npz and rivals.json: for each rival the filters to remove, the first to go first. Interrupted, the same
command goes on with the next rival. A new rival is one more function here, named in RIVALS and in main.
"""

import json
import os
import time
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

import ablation
import datasets
import game
import model
import records
import settings
from datasets import Images, normalise
from settings import (ARCH, CELEBA_FRAME, DATA_DIR, DEVICE, FAIRFACE_FRAME, IMAGE_SIZE, RECORDS_DIR, SEED, TASK, WEIGHTS,
                      Stop)

# -----------------------------------------------------------------------------
MAX_REMOVED = 60    # filters that each rival names
RIVALS = "l2_norm,mean_activation,first_order,leave_one_out,greedy_guess,greedy"
CANDIDATES = 8      # of greedy: filters tried at each step, those of the best guesses
# -----------------------------------------------------------------------------


@dataclass
class Subject:
    """What a rival may know: the network, and the images of the values."""

    network: torch.nn.Module
    evaluator: ablation.Coalitions
    fills: torch.Tensor     # (n_filters,) float32, what a removed filter gives
    data: Images            # that V is measured on
    seen: Images            # the clean ones, of all classes
    measure: str            # V, by its name in ablation.MEASURES
    players: np.ndarray     # the filters that may go
    sign: int = 1           # 1: the filters to go first are those that do V the least good; -1: the most

    def batches(self, per_group=50):
        """The images in batches of about as many from each group, seen by the evaluator: yields Images."""
        group = self.data.group.numpy()
        members = [np.flatnonzero(group == index) for index in np.unique(group)]
        parts = max(1, min(map(len, members)) // per_group)
        for part in zip(*(np.array_split(rows, parts) for rows in members)):
            batch = self.data.take(torch.from_numpy(np.concatenate(part)))
            self.evaluator.see(normalise(batch.images, self.evaluator.device), self.fills)
            yield batch._replace(label=batch.label.to(self.evaluator.device), group=batch.group.to(self.evaluator.device))

    def value(self, keep):
        """(T, n_filters) bool -> (T,) float64: V on all images, the mean of batches."""
        found, sizes = [], []
        with tqdm(total=len(keep) * len(self.data.label), desc="V", unit=" images", leave=False, dynamic_ncols=True) as bar:
            for batch in self.batches():
                parts = []
                for some in np.array_split(keep, -(-len(keep) // 64)):
                    parts.append(ablation.value(self.evaluator, some, batch, self.measure))
                    bar.update(len(some) * len(batch.label))
                found.append(np.concatenate(parts))
                sizes.append(len(batch.label))
        return np.average(found, axis=0, weights=sizes)

    def guess(self, keep):
        """(n_filters,) bool -> (n_filters,) float64: all marginals there on all images, to first order in the margins."""
        found = [(ablation.guess(self.evaluator, keep, batch, self.measure), len(batch.label)) for batch in self.batches()]
        guesses, sizes = zip(*found)
        return np.average(guesses, axis=0, weights=sizes)


    def lowest(self, scores, number):
        """The players of the lowest scores (n_filters,), or of the highest if sign is -1; the first to go first."""
        return self.players[np.argsort(self.sign * scores[self.players], kind="stable")][:number]


def without(keep, filters):
    """(n_filters,) bool, and (T,) filters -> (T, n_filters): one more of them gone in each row."""
    coalitions = np.repeat(keep[None], len(filters), 0)
    coalitions[np.arange(len(filters)), filters] = False
    return coalitions


def l2_norm(subject, number):
    """Those of the smallest weights, by their L2 norm (pruning by magnitude)."""
    return subject.lowest(ablation.l2_norms(subject.network, subject.evaluator), number)


def mean_activation(subject, number):
    """Those of the lowest mean output, which do the least."""
    fills = ablation.fill_values(subject.evaluator, subject.seen, "mean")
    return subject.lowest(fills.cpu().numpy(), number)


def first_order(subject, number):
    """Those whose removal from the whole network raises V most by its gradient (gradient x activation)."""
    return subject.lowest(subject.guess(np.ones(len(subject.fills), dtype=bool)), number)


def leave_one_out(subject, number):
    """Those whose removal from the whole network, one at a time, raises V most; measured for ten times as many, of the best guesses."""
    whole = np.ones(len(subject.fills), dtype=bool)
    tried = first_order(subject, 10 * number)
    return tried[np.argsort(-subject.sign * subject.value(without(whole, tried)), kind="stable")][:number]


def greedy(subject, number):
    """One after the other, that which raises V most when it leaves what is left; of those with the best guesses."""
    return _one_by_one(subject, number, CANDIDATES)


def greedy_guess(subject, number):
    """As greedy, by the guesses alone: gradient x activation, anew after each removal."""
    return _one_by_one(subject, number, 1)


def _one_by_one(subject, number, candidates):
    keep, order, may_go = np.ones(len(subject.fills), dtype=bool), [], np.isin(np.arange(len(subject.fills)), subject.players)
    for _ in tqdm(range(number), "one by one", unit=" filters", leave=False, dynamic_ncols=True):
        guesses = np.where(keep & may_go, subject.sign * subject.guess(keep), np.inf)
        best = np.argsort(guesses, kind="stable")[:min(candidates, (keep & may_go).sum())]
        values = subject.value(without(keep, best)) if len(best) > 1 else [0]
        order.append(int(best[np.argmax(subject.sign * np.array(values))]))
        keep[order[-1]] = False
    return np.array(order, dtype=int)


def main():
    started = time.time()
    settings.require("CANDIDATES", CANDIDATES, CANDIDATES >= 1, "at least 1")
    chosen = [name for name in RIVALS.split(",") if name]
    known = {rival.__name__: rival for rival in (l2_norm, mean_activation, first_order, leave_one_out, greedy_guess, greedy)}
    settings.require("RIVALS", RIVALS, set(chosen) <= set(known), f"of {', '.join(known)}, with commas between")
    device = model.device_of(DEVICE)
    mab = records.load_json(f"{RECORDS_DIR}/mab.json", "mab.py")["run"]
    network, classes, seen = game.load(settings.chosen(globals()), device, mab)
    data = game.measured(network, classes, seen, mab["MEASURE"], mab.get("CLASS"), SEED, device)
    if datasets.digest(data) != mab["images"]:
        raise Stop(f"{RECORDS_DIR}/mab.json is of other images; run mab.py anew, or set its constants here")
    players = records.load_csv(f"{RECORDS_DIR}/filters.csv", "mab.py", ["filter"])["filter"].to_numpy()
    evaluator = ablation.evaluator(network, IMAGE_SIZE)
    settings.require("MAX_REMOVED", MAX_REMOVED, 0 < MAX_REMOVED < len(players), f"from 1 to {len(players) - 1}")
    if not hasattr(evaluator, "first_order"):
        settings.require("RIVALS", RIVALS, set(chosen) <= {"l2_norm", "mean_activation"},
                         "l2_norm,mean_activation: the others need guesses, which a network that cannot be cut has not")
    subject = Subject(network, evaluator, ablation.fill_values(evaluator, seen, mab["REMOVAL"]), data, seen, mab["MEASURE"],
                      players, 1 if mab["WHICH"] == "lowest" else -1)
    run = {"network": mab["network"], "images": mab["images"], "MEASURE": mab["MEASURE"], "REMOVAL": mab["REMOVAL"],
           "MAX_REMOVED": MAX_REMOVED, "CANDIDATES": CANDIDATES}
    run |= {"WHICH": mab["WHICH"]} if mab["WHICH"] == "highest" else {}
    path, orders = f"{RECORDS_DIR}/rivals.npz", {}
    if os.path.exists(path):
        orders = records.load_npz(path, "rivals.py")
        if json.loads(str(orders.pop("run", "{}"))) != run:
            raise Stop(f"{path} was made with other settings; move it away, or give another --RECORDS_DIR")
    for name in chosen:
        if name not in orders:
            orders[name] = known[name](subject, MAX_REMOVED)
            records.save({path: {"run": json.dumps(run), **orders}, f"{RECORDS_DIR}/rivals.json": {
                **records.about(settings.chosen(globals()), time.time() - started, str(device)), "run": run,
                "orders": {rival: order.tolist() for rival, order in orders.items()}}})
        print(f"{name}: " + ", ".join(f"{evaluator.layers[filter]}[{evaluator.channels[filter]}]" for filter in orders[name][:5])
              + ", ..." * (len(orders[name]) > 5), flush=True)


if __name__ == "__main__":
    settings.run(main, globals())
