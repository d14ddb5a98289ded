"""The protocol for faces: what a repair of the network is worth.

Every repair is followed step by step: filters go one by one, or a network is trained for one epoch
after another. How far it goes, and how far the decision threshold is shifted, are chosen on
FairFace's choosing set alone, in report/selection.py. The scores are those on other images.
Margins are the logit of "male" less that of "female".
"""

import copy
import os
from dataclasses import dataclass, field

from common.settings import InputError

import numpy as np
import pandas as pd
from tqdm import tqdm

import model
from datasets import GENDERS, GROUP_NAMES
from filters.measures import male_margin
from filters.value import score_images
from report import metrics
from report.labels import CELEBA_SPLITS
from report.removals import coalitions_along
from report.selection import choose_steps

CURVE_COLUMNS = [
    "method",
    "n_removed",
    "split",
    "group",
    "accuracy",
    "ci_low",
    "ci_high",
    "n_images",
]


@dataclass
class RepairRow:
    """A row of the table: the networks that one repair gives, whose scores are averaged.

    Attributes:
        name: str, such as "shapley+threshold".
        steps: list of int, for each network the step that was chosen.
        margins: {split: list of (N,) float64}, for each network its margins at that step.
    """

    name: str
    steps: list = field(default_factory=list)
    margins: dict = field(default_factory=dict)

    def add(self, path, step):
        """Add the network that a path reaches after `step`."""
        self.steps.append(step)
        for split, margins in path.margins.items():
            self.margins.setdefault(split, []).append(margins[step])

    def stacked(self, split):
        """Margins on a split: (K, N) float64."""
        return np.stack(self.margins[split])


@dataclass
class Reported:
    """The images that scores are of.

    Attributes:
        split: str, of FairFace: "report"; or "choose", as long as the report set stays closed.
        faces: {split: Images}; those of CelebA under "celeba".
        seed: int, of the bootstrap.
    """

    split: str
    faces: dict
    seed: int

    @property
    def splits(self):
        """FairFace's split, and CelebA."""
        return self.split, "celeba"

    def measure(self, function, *rows):
        """A table of scores over the splits.

        Args:
            function: metrics.score_table, or metrics.score_changes for two rows.
            rows: RepairRow.
        """
        tables = []
        for split in self.splits:
            male, group = self.faces[split].label.numpy(), self.faces[split].group.numpy()
            margins = [[row.stacked(split)] for row in rows]  # of one training
            tables.append(function(*margins, male, group, self.seed))
        table = pd.concat(tables, ignore_index=True)
        return table.replace({"group": {"all": f"CelebA {CELEBA_SPLITS[self.split]}"}})


@dataclass
class RepairResult:
    """What the protocol gives.

    Attributes:
        removed: (n,) int, the filters that the values remove, as many as were chosen.
        rows: list of RepairRow.
        table: DataFrame, from `score_rows`.
        changes: {str: DataFrame}, from `compare_rows`.
        curves: DataFrame, from `curve_table`.
        reported: Reported.
    """

    removed: np.ndarray
    rows: list
    table: pd.DataFrame
    changes: dict
    curves: pd.DataFrame
    reported: Reported

    def margin_arrays(self):
        """What the scores follow from, as in eval.npz: {"report/shapley": (K, N) float32, ...}.

        With it come male/SPLIT and group/SPLIT, (N,) int.
        """
        arrays = {}
        for split in self.reported.splits:
            for row in self.rows:
                arrays[f"{split}/{row.name}"] = row.stacked(split).astype(np.float32)
        for name, field_name in (("male", "label"), ("group", "group")):
            for split in self.reported.splits:
                tensor = getattr(self.reported.faces[split], field_name)
                arrays[f"{name}/{split}"] = tensor.numpy()
        return arrays

    def examples(self):
        """Faces that the removal turns: images (K, S, S, 3) uint8, captions (K,) str."""
        split, rows = self.reported.split, {row.name: row for row in self.rows}
        before, after = (rows[name].margins[split][0] for name in ("nothing", "shapley"))
        return example_faces(self.reported.faces[split], before, after)


def evaluate_repairs(game, fills, orders, finetuned, reported):
    """Follow all repairs, choose how far each goes, and score them.

    Args:
        game: filters.game.Game.
        fills: (n_filters,) float32, the output of a removed filter.
        orders: {name: (n,) int, filters, the first to go first}, "shapley" among them.
        finetuned: {name: list of state dicts, one an epoch}.
        reported: Reported, with the choosing set among its faces.

    Returns:
        RepairResult.
    """
    margins = follow_repairs(game, fills, orders, finetuned, reported.faces)
    paths = choose_steps(margins, reported.faces)
    rows = table_rows(paths)
    chosen = next(row.steps[0] for row in rows if row.name == "shapley")
    return RepairResult(
        orders["shapley"][:chosen],
        rows,
        score_rows(rows, reported),
        compare_rows(rows, reported),
        curve_table(paths, reported.faces),
        reported,
    )


# ----------------------------------------------------------------------------- following repairs


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
    """Margins after one epoch of fine-tuning after another.

    Args:
        network: nn.Module; its weights are replaced.
        states: list of state dicts, one an epoch.
        faces: {split: Images}.
        device: torch.device.
        bar: a tqdm bar, as in `follow_removals`.

    Returns:
        {split: (epochs, N) float32}.
    """
    margins = {split: [] for split in faces}
    for state in states:
        network.load_state_dict(state)
        for split, images in faces.items():
            margins[split].append(model.male_margins(network, images, device))
            bar.update(len(images.label))
    return {split: np.stack(epochs) for split, epochs in margins.items()}


def follow_repairs(game, fills, orders, finetuned, faces):
    """Margins along all repairs, each from the network as it is.

    Args:
        game: filters.game.Game.
        fills: (n_filters,) float32, the output of a removed filter.
        orders: {name: (n,) int, filters, the first to go first}, "shapley" among them.
        finetuned: {name: list of state dicts, one an epoch}.
        faces: {split: Images}.

    Returns:
        {name: {split: (steps + 1, N) float32}}.
    """
    steps = sum(len(order) + 1 for order in orders.values()) + sum(map(len, finetuned.values()))
    images, margins = sum(len(images.label) for images in faces.values()), {}
    with tqdm(total=images * steps, desc="eval.py", unit=" images", dynamic_ncols=True) as bar:
        for name, order in orders.items():
            margins[name] = follow_removals(game.evaluator, fills, order, faces, bar)
        for name, states in finetuned.items():
            network = copy.deepcopy(game.network)
            trained = follow_training(network, states, faces, game.device, bar)
            margins[name] = {}
            for split in faces:
                before = margins["shapley"][split][:1]  # no filter removed
                margins[name][split] = np.concatenate([before, trained[split]])
    return margins


def load_finetuned(path, run):
    """The weights that finetune.py recorded for the network and images of mab.py.

    Args:
        path: str, of finetune.pth.
        run: dict, the settings of mab.py's run.

    Returns:
        {name: list of state dicts, one an epoch}; empty if finetune.py did not run.

    Raises:
        InputError: the file is damaged, or is of another network or other images.
    """
    if not os.path.exists(path):
        return {}
    states = model.read_checkpoint(path)
    made_for = [states.pop(name, None) for name in ("network", "images")]
    complete = all(isinstance(epochs, list) for epochs in states.values())
    if made_for != [run["network"], run["images"]] or not complete:
        raise InputError(
            f"{path} was made for another network or other images; move it away, and run "
            "finetune.py again or do without"
        )
    return states


# ----------------------------------------------------------------------------- choosing, reporting


def table_rows(paths):
    """The rows of the table, a list of RepairRow, from paths of which two are named "shapley".

    The first two rows are the network as it is: "nothing", and "threshold", a mere shift.
    """
    rows = {name: RepairRow(name) for name in ("nothing", "threshold")}
    for path in paths:
        if path.name == "shapley":
            rows["threshold" if path.threshold else "nothing"].add(path, 0)
        rows.setdefault(path.row, RepairRow(path.row)).add(path, path.chosen_step)
    return list(rows.values())


def curve_table(paths, faces):
    """Accuracies by group along all paths, as in eval.csv.

    Args:
        paths: list of RepairPath.
        faces: {split: Images}.

    Returns:
        A DataFrame with CURVE_COLUMNS; n_removed counts epochs of fine-tuning.
    """
    curves = []
    for path in paths:
        for split, margins in path.margins.items():
            male, group = faces[split].label.numpy() == 1, faces[split].group.numpy()
            for step, correct in enumerate((margins > 0) == male):
                accuracy = metrics.accuracy_by_group(correct, group)
                curves.append(accuracy.assign(method=path.method, n_removed=step, split=split))
    return pd.concat(curves, ignore_index=True)[CURVE_COLUMNS]


def score_rows(rows, reported):
    """Scores of all rows.

    Args:
        rows: list of RepairRow.
        reported: Reported.

    Returns:
        A DataFrame: group (the score's name), value, ci_low, ci_high, n_images, row, steps (the
        mean over its networks).
    """
    tables = []
    for row in rows:
        table = reported.measure(metrics.score_table, row)
        tables.append(table.assign(row=row.name, steps=np.mean(row.steps)))
    return pd.concat(tables, ignore_index=True)


def compare_rows(rows, reported):
    """Changes of all scores between the rows that are compared.

    Args:
        rows: list of RepairRow.
        reported: Reported.

    Returns:
        {"shapley against nothing": a DataFrame with group, change, ci_low, ci_high}.
    """
    rows_by_name, changes = {row.name: row for row in rows}, {}
    for after, before in compared_rows(list(rows_by_name)):
        pair = rows_by_name[before], rows_by_name[after]
        changes[f"{after} against {before}"] = reported.measure(metrics.score_changes, *pair)
    return changes


def compared_rows(names):
    """Which rows are compared: every row with "nothing", and the values with every other row.

    Args:
        names: list of str, of all rows.

    Returns:
        A list of (after, before).
    """
    pairs = [(name, "nothing") for name in names if name != "nothing"]
    pairs += [("shapley", "threshold"), ("shapley+threshold", "threshold")]
    for name in names:
        method, plus, _ = name.partition("+")
        if method not in ("nothing", "threshold", "shapley"):
            pairs.append(("shapley+threshold" if plus else "shapley", name))
    return pairs


def example_faces(faces, before, after, repaired=5, broken=3):
    """A few faces whose classification a repair changes, those that it changes most first.

    Args:
        faces: Images.
        before: (N,) margins.
        after: (N,) margins.
        repaired: int, faces at most that turn right, which come first.
        broken: int, faces at most that turn wrong.

    Returns:
        (K, S, S, 3) uint8 images, and (K,) str captions.
    """
    male = faces.label.numpy() == 1
    was_right, is_right = (before > 0) == male, (after > 0) == male
    by_change = np.argsort(-abs(after - before), kind="stable")
    turned_right = by_change[(~was_right & is_right)[by_change]][:repaired]
    turned_wrong = by_change[(was_right & ~is_right)[by_change]][:broken]
    rows, captions = np.concatenate([turned_right, turned_wrong]), []
    for row in rows:
        called = [GENDERS[int(margins[row] > 0)] for margins in (before, after)]
        captions.append(f"one of the {GROUP_NAMES[faces.group[row]]}\n{' -> '.join(called)}")
    return faces.images[rows].permute(0, 2, 3, 1).numpy(), np.array(captions, dtype=str)
