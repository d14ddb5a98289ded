"""The protocol for faces: what a repair of the network is worth.

Every repair is followed step by step, in report/following.py. How far it goes, and how far the
decision threshold is shifted, are chosen by the rules in report/selection.py, on images of their
own. The scores are those on other images. Margins are the logit of "male" less that of "female".
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from datasets import GENDERS, GROUP_NAMES
from report import metrics
from report.labels import CELEBA_SPLITS
from report.selection import DEFAULT_RULE, choose_steps, race_thresholds, row_name

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
        name: str, such as "shapley+threshold", or "shapley@worst", chosen by another rule.
        steps: list of int, for each network the step that was chosen.
        margins: {split: list of (N,) float64}, for each network its margins at that step. Where
            the repair needs a group that is not known, the split is missing.
    """

    name: str
    steps: list = field(default_factory=list)
    margins: dict = field(default_factory=dict)

    def add(self, path, step):
        """Add the network that a path reaches after `step`."""
        self.steps.append(step)
        for split in path.margins:
            self.margins.setdefault(split, []).append(path.margins_after(step, split))

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
        """A table of scores over the splits that all rows have.

        Args:
            function: metrics.score_table, or metrics.score_changes for two rows.
            rows: RepairRow.
        """
        tables = []
        for split in self.splits:
            if not all(split in row.margins for row in rows):
                continue
            male, group = self.faces[split].label.numpy(), self.faces[split].group.numpy()
            margins = [[row.stacked(split)] for row in rows]  # of one training
            tables.append(function(*margins, male, group, self.seed))
        table = pd.concat(tables, ignore_index=True)
        celeba = f"CelebA {CELEBA_SPLITS[self.split]}"
        return table.replace({"group": {"all": celeba, "ECE all": f"ECE {celeba}"}})


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
                if split in row.margins:
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


def evaluate_repairs(margins, order, reported):
    """Choose how far each repair goes, and score all.

    Args:
        margins: {name: {split: (steps + 1, N) float32}}, as from following.follow_repairs.
        order: (n,) int, the filters that go along the path "shapley", the first to go first.
        reported: Reported, with the images that the rules choose by among its faces.

    Returns:
        RepairResult.
    """
    paths = choose_steps(margins, reported.faces)
    rows = table_rows(paths)
    whole = {split: steps[0] for split, steps in margins["shapley"].items()}
    decisions = race_thresholds(whole, reported.faces, reported.seed)
    steps = [0] * len(decisions[reported.split])
    rows.insert(2, RepairRow("race_thresholds", steps, decisions))  # behind the plain threshold
    chosen = next(row.steps[0] for row in rows if row.name == "shapley")
    return RepairResult(
        order[:chosen],
        rows,
        score_rows(rows, reported),
        compare_rows(rows, reported),
        curve_table([path for path in paths if path.rule == DEFAULT_RULE], reported.faces),
        reported,
    )


# ----------------------------------------------------------------------------- choosing, reporting


def table_rows(paths):
    """The rows of the table, a list of RepairRow, from paths; two of each rule are "shapley".

    The first rows of a rule are the network as it is: "nothing", which all rules share, and
    "threshold", a mere shift.
    """
    rows = {name: RepairRow(name) for name in ("nothing", "threshold")}
    for path in paths:
        if path.name == "shapley" and (path.threshold or path.rule == DEFAULT_RULE):
            name = row_name("threshold" if path.threshold else "nothing", path.rule)
            rows.setdefault(name, RepairRow(name)).add(path, 0)
        rows.setdefault(path.row, RepairRow(path.row)).add(path, path.chosen_step)
    return list(rows.values())


def curve_table(paths, faces):
    """Accuracies by group along all paths, as in eval.csv.

    Args:
        paths: list of RepairPath, of one rule.
        faces: {split: Images}.

    Returns:
        A DataFrame with CURVE_COLUMNS; n_removed counts steps of training, too.
    """
    curves = []
    for path in paths:
        for split, margins in path.margins.items():
            male, group = faces[split].label.numpy() == 1, faces[split].group.numpy()
            for step in range(len(margins)):
                correct = (path.margins_after(step, split) > 0) == male
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

    Those of other rules than the first are left out: eval.npz has what it takes to compare them.

    Args:
        names: list of str, of all rows.

    Returns:
        A list of (after, before).
    """
    names = [name for name in names if "@" not in name]
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
