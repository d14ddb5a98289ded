"""The selection rule: how far each repair goes, and how far the threshold is shifted.

Both are chosen on FairFace's choosing set alone. The margins of other sets are only shifted along.

A face is called male if its margin, the logit of "male" less that of "female", is above 0. A shift
of the threshold is added to the margin.
"""

from dataclasses import dataclass

import numpy as np

from report import metrics

CHOOSING = "choose"  # the split by which steps and thresholds are chosen


@dataclass
class RepairPath:
    """A repair, step by step, from the network as it is.

    Attributes:
        name: str, the way to repair: "shapley", "random 0", a rival's name, "finetune", ...
        threshold: bool, whether the decision threshold is shifted too, at each step anew.
        margins: {split: (steps + 1, N) float64}, the shift added.
        chosen_step: int, filters removed (or epochs), chosen by the choosing set.
    """

    name: str
    threshold: bool
    margins: dict
    chosen_step: int

    @property
    def method(self):
        """The path's name in eval.csv."""
        return self.name + "+threshold" * self.threshold

    @property
    def row(self):
        """The row of the table that it belongs to. All random orders share one."""
        name = "random" if self.name.startswith("random ") else self.name
        return name + "+threshold" * self.threshold


def choose_steps(margins, faces):
    """Choose how far each repair goes: with the threshold as it is, and with the best one.

    Args:
        margins: {name: {split: (steps + 1, N) float}}, as from `follow_repairs`.
        faces: {split: Images}, with the choosing set.

    Returns:
        A list of RepairPath, two for each name.
    """
    paths = []
    for name, by_split in margins.items():
        best = np.array([best_shift(step, faces[CHOOSING]) for step in by_split[CHOOSING]])
        for threshold, shift in ((False, 0 * best), (True, best)):
            shifted = {split: steps + shift[:, None] for split, steps in by_split.items()}
            chosen = choose_step(shifted[CHOOSING], faces[CHOOSING])
            paths.append(RepairPath(name, threshold, shifted, chosen))
    return paths


def choose_step(margins, faces):
    """How far a repair goes, by the choosing set: the fewest steps within one standard error.

    Args:
        margins: (steps + 1, N) float, of the faces after each step.
        faces: Images, the choosing set.

    Returns:
        int, the first step whose balanced accuracy is within one standard error of the best.
    """
    correct = (margins > 0) == (faces.label.numpy() == 1)
    return metrics.fewest_within_one_se(correct, faces.group.numpy())


def best_shift(margins, faces):
    """The shift of the decision threshold with the highest balanced accuracy.

    Of several shifts that are as good, the one nearest 0.

    Args:
        margins: (N,) float.
        faces: Images, the choosing set.

    Returns:
        float: a face is called male if its margin + shift is above 0.
    """
    order = np.argsort(margins)
    margins = margins.astype(np.float64)[order]
    male, group = np.asarray(faces.label)[order], np.asarray(faces.group)[order]
    weight = 1 / np.bincount(group)[group]
    # A cut behind the i lowest margins has these women right, and the men behind it.
    women = np.append(0, np.cumsum(weight * (male == 0)))
    men = np.append(np.cumsum((weight * (male == 1))[::-1])[::-1], 0)
    right = women + men  # (N + 1,)
    right[1:-1][margins[1:] == margins[:-1]] = -1  # there is no cut between equal margins
    between = (margins[1:] + margins[:-1]) / 2
    cuts = np.concatenate([[margins[0] - 1], between, [margins[-1] + 1]])
    best = cuts[right > right.max() - 1e-9]
    return -best[np.argmin(np.abs(best))]
