"""Repairs of faces followed step by step: the margins of all images after each step.

Filters go one by one, or a network is trained for one epoch after another. Margins are the logit
of "male" less that of "female".
"""

import copy
import json
import os
from dataclasses import dataclass

from common.records import load_npz, save
from common.settings import InputError

import numpy as np
from tqdm import tqdm

import model
from filters.measures import male_margin
from filters.retraining import Retrained
from filters.value import score_images
from report.removals import coalitions_along


def follow_removals(evaluator, fills, order, faces, bar):
    """Margins as filters go in an order.

    Args:
        evaluator: of the network, as from filters.coalitions.make_evaluator.
        fills: (n_filters,) float32, the output of a removed filter.
        order: (n,) int, filters, the first to go first.
        faces: {split: Images}.
        bar: a tqdm bar, which counts images, once for each step.

    Returns:
        {split: (n + 1, N) float32}.
    """
    keep, margins = coalitions_along(order, len(fills)), {}
    for split, images in faces.items():
        margins[split] = score_images(evaluator, fills, images.images, keep, male_margin, bar)
    return margins


def follow_training(network, states, faces, device, bar):
    """Margins after one step of training after another.

    Args:
        network: nn.Module; its weights are replaced.
        states: list of state dicts, one a step.
        faces: {split: Images}.
        device: torch.device.
        bar: a tqdm bar, as in `follow_removals`.

    Returns:
        {split: (steps, N) float32}.
    """
    margins = {split: [] for split in faces}
    for state in states:
        network.load_state_dict(state)
        for split, images in faces.items():
            margins[split].append(model.male_margins(network, images, device))
            bar.update(len(images.label))
    return {split: np.stack(epochs) for split, epochs in margins.items()}


def follow_repairs(game, fills, orders, finetuned, faces, state=None):
    """Margins along all repairs, each from the network as it is.

    Args:
        game: filters.game.Game.
        fills: (n_filters,) float32, the output of a removed filter.
        orders: {name: (n,) int, filters, the first to go first}, "shapley" among them.
        finetuned: {name: Retrained}.
        faces: {split: Images}.
        state: SavedMargins, where paths that are done are kept; None: nowhere.

    Returns:
        {name: {split: (steps + 1, N) float32}}.
    """
    n_steps = {name: len(order) + 1 for name, order in orders.items()}
    n_steps |= {name: len(repair.states) for name, repair in finetuned.items()}
    images = sum(len(images.label) for images in faces.values())
    margins = state.load() if state else {}
    total, done = (images * sum(n_steps[name] for name in names) for names in (n_steps, margins))
    bar = tqdm(total=total, initial=done, desc="eval.py", unit=" images", dynamic_ncols=True)
    with bar:
        for name in n_steps:
            if name in margins:
                continue
            if name in orders:
                margins[name] = follow_removals(game.evaluator, fills, orders[name], faces, bar)
            else:
                network, before = copy.deepcopy(game.network), margins["shapley"]
                states = finetuned[name].states
                trained = follow_training(network, states, faces, game.device, bar)
                margins[name] = {}
                for split in faces:  # the first step: no filter removed
                    steps = [before[split][:1], trained[split]]
                    margins[name][split] = np.concatenate(steps)
            if state:
                state.save(margins)
    return {name: margins[name] for name in n_steps}


@dataclass(frozen=True)
class SavedMargins:
    """The margins of the paths that are done, in a file from which an interrupted run goes on.

    Attributes:
        path: str, of an .npz.
        run: dict, what a run must share to go on, as JSON gives it back.
    """

    path: str
    run: dict

    def load(self):
        """Those saved: {name: {split: (steps + 1, N) float32}}; {} if there are none of this run.

        Raises:
            InputError: the file is damaged.
        """
        margins = {}
        if not os.path.exists(self.path):
            return margins
        arrays = load_npz(self.path, "eval.py")
        if json.loads(str(arrays.pop("run", "{}"))) != self.run:
            return margins
        for key, steps in arrays.items():
            split, name = key.split("/", 1)
            margins.setdefault(name, {})[split] = steps
        return margins

    def save(self, margins):
        """Save {name: {split: (steps + 1, N) float32}}. Raises InputError."""
        arrays = {"run": json.dumps(self.run)}
        for name, by_split in margins.items():
            arrays |= {f"{split}/{name}": steps for split, steps in by_split.items()}
        save({self.path: arrays})


def load_finetuned(path, run):
    """The weights that finetune.py recorded for the network and images of mab.py.

    Args:
        path: str, of finetune.pth.
        run: dict, the settings of mab.py's run.

    Returns:
        {name: Retrained}; empty if finetune.py did not run.

    Raises:
        InputError: the file is damaged, or is of another network or other images.
    """
    if not os.path.exists(path):
        return {}
    states = model.read_checkpoint(path)
    made_for = [states.pop(name, None) for name in ("network", "images")]
    names = states.pop("steps", {})  # older files have none: their steps are epochs
    complete = all(isinstance(epochs, list) for epochs in states.values())
    if made_for != [run["network"], run["images"]] or not complete:
        raise InputError(
            f"{path} was made for another network or other images; move it away, and run "
            "finetune.py again or do without"
        )
    retrained = {}
    for name, repair_states in states.items():
        epochs = [f"{number} epochs" for number in range(1, len(repair_states) + 1)]
        retrained[name] = Retrained(names.get(name, epochs), repair_states)
    return retrained
