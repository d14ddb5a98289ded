"""The selection rules: how far each repair goes, and how far the threshold is shifted.

Both are chosen by one score, that of a rule in RULES, on images that give no results: FairFace's
choosing set, or CelebA's val. The margins of other sets are only shifted along.

A face is called male if its margin, the logit of "male" less that of "female", is above 0. A shift
of the threshold is added to the margin.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from datasets import GROUPS
from report import metrics
from tabular.rivals import fit_thresholds

CHOOSING = "choose"  # FairFace's split by which steps and thresholds are chosen
CELEBA_CHOOSING = "celeba val"  # CelebA's; where the report set stays closed it is "celeba" itself
DRAWS = 10  # of thresholds that are random


@dataclass(frozen=True)
class Rule:
    """What a step and a threshold are chosen by.

    Attributes:
        split: str, the images.
        combine: function ((groups, ...) float accuracies, axis=0) -> (...), the score.
        choose_step: function ((steps, N) bool, right or not, (N,) int group) -> int.
    """

    split: str
    combine: Callable
    choose_step: Callable

    def faces_of(self, splits):
        """What is of the rule's images in a dict by split."""
        return splits[self.split] if self.split in splits else splits["celeba"]


@dataclass
class RepairPath:
    """A repair, step by step, from the network as it is.

    Attributes:
        name: str, the way to repair: "shapley", "random 0", a rival's name, "finetune", ...
        threshold: bool, whether the decision threshold is shifted too, at each step anew.
        margins: {split: (steps + 1, N) float}, before the shift.
        shifts: (steps + 1,) float64, of the threshold.
        chosen_step: int, filters removed (or steps of training), chosen by the rule.
        rule: str, one of RULES.
    """

    name: str
    threshold: bool
    margins: dict
    shifts: np.ndarray
    chosen_step: int
    rule: str = "balanced"

    @property
    def method(self):
        """The path's name in eval.csv."""
        return self.name + "+threshold" * self.threshold

    @property
    def row(self):
        """The row of the table that it belongs to. All random orders share one."""
        name = "random" if self.name.startswith("random ") else self.name
        return row_name(name + "+threshold" * self.threshold, self.rule)

    def margins_after(self, step, split):
        """Margins after a step, the shift added: (N,) float64."""
        return self.margins[split][step] + self.shifts[step]


def row_name(method, rule):
    """A row's name: that of the method, and unless it is the first the rule: "greedy@worst"."""
    return method if rule == DEFAULT_RULE else f"{method}@{rule}"


def choose_steps(margins, faces):
    """Choose how far each repair goes: with the threshold as it is, and with the best one.

    Args:
        margins: {name: {split: (steps + 1, N) float}}, as from `follow_repairs`.
        faces: {split: Images}, with those that the rules choose by.

    Returns:
        A list of RepairPath, two for each rule and name.
    """
    paths = []
    for rule_name, rule in RULES.items():
        for name, by_split in margins.items():
            for threshold in (False, True):
                path = _choose_path(name, threshold, by_split, faces, rule_name, rule)
                paths.append(path)
    return paths


def _choose_path(name, threshold, by_split, faces, rule_name, rule):
    steps, seen = rule.faces_of(by_split), rule.faces_of(faces)
    shifts = np.zeros(len(steps))
    if threshold:
        shifts = np.array([best_shift(step, seen, rule.combine) for step in steps])
    chosen = choose_step(steps + shifts[:, None], seen, rule)
    return RepairPath(name, threshold, by_split, shifts, chosen, rule_name)


def choose_step(margins, faces, rule=None):
    """How far a repair goes: the fewest steps within one standard error of the best.

    Args:
        margins: (steps + 1, N) float, of the faces after each step.
        faces: Images, those of the rule.
        rule: Rule; None: the first of RULES.

    Returns:
        int, the first step whose score is within one standard error of the best.
    """
    rule = rule or RULES[DEFAULT_RULE]
    correct = (margins > 0) == (faces.label.numpy() == 1)
    return rule.choose_step(correct, faces.group.numpy())


def fewest_of_worst_group(correct, group):
    """As metrics.fewest_within_one_se, by the accuracy of the worst group.

    The standard error is that of the difference of the worst groups' accuracies: paired if both
    steps have the same worst group, else of two independent groups.

    Args:
        correct: (steps, N) bool, whether each image is classified correctly after each step.
        group: (N,) int.

    Returns:
        int, the index of the step.
    """
    members = [group == index for index in np.unique(group)]
    accuracy = np.array([[step[rows].mean() for rows in members] for step in correct])
    worst, lowest = accuracy.argmin(1), accuracy.min(1)  # (steps,)
    best = int(lowest.argmax())
    for number, step in enumerate(correct):
        rows, best_rows = members[worst[number]], members[worst[best]]
        if worst[number] == worst[best]:
            losses = correct[best][rows].astype(int) - step[rows]
            variance = losses.var() / len(losses)
        else:
            variance = correct[best][best_rows].var() / best_rows.sum()
            variance += step[rows].var() / rows.sum()
        if lowest[best] - lowest[number] <= np.sqrt(variance):
            return number
    return best


def best_shift(margins, faces, combine=np.mean):
    """The shift of the decision threshold with the highest score.

    Of several shifts that are as good, the one nearest 0.

    Args:
        margins: (N,) float.
        faces: Images, those of the rule.
        combine: of the rule; the mean is balanced accuracy.

    Returns:
        float: a face is called male if its margin + shift is above 0.
    """
    order = np.argsort(margins)
    margins = margins.astype(np.float64)[order]
    male, group = np.asarray(faces.label)[order], np.asarray(faces.group)[order]
    accuracies = []
    for index in np.unique(group):
        member = group == index
        # A cut behind the i lowest margins has these women right, and the men behind it.
        women = np.append(0, np.cumsum(member & (male == 0)))
        men = np.append(np.cumsum((member & (male == 1))[::-1])[::-1], 0)
        accuracies.append((women + men) / member.sum())
    score = combine(np.array(accuracies), axis=0)  # (N + 1,)
    score[1:-1][margins[1:] == margins[:-1]] = -1  # there is no cut between equal margins
    between = (margins[1:] + margins[:-1]) / 2
    cuts = np.concatenate([[margins[0] - 1], between, [margins[-1] + 1]])
    best = cuts[score > score.max() - 1e-9]
    return -best[np.argmin(np.abs(best))]


def race_thresholds(margins, faces, seed):
    """Decisions by a threshold of its own for each race, by fairlearn's ThresholdOptimizer.

    They give the races equal odds on the choosing set, at the highest balanced accuracy, and may be
    random. They need the race of every face that is to be classified: CelebA's is not known.

    Args:
        margins: {split: (N,) float}, of the network as it is.
        faces: {split: Images}.
        seed: int.

    Returns:
        {split: list of DRAWS (N,) float64}, +inf for "male" and -inf for "female", of the splits
        with groups.
    """
    chosen = faces[CHOOSING]
    optimizer = fit_thresholds(
        margins[CHOOSING].astype(np.float64),
        chosen.label.numpy(),
        _races(chosen),
        "equalised odds",
        "balanced_accuracy_score",
    )
    decisions = {}
    for split, images in faces.items():
        if images.group[0] < 0:
            continue
        decisions[split] = []
        for draw in range(DRAWS):
            random_state = np.random.RandomState([seed % 2**32, draw])
            male = optimizer.predict(
                margins[split].astype(np.float64)[:, None],
                sensitive_features=_races(images),
                random_state=random_state,
            )
            decisions[split].append(np.where(male == 1, np.inf, -np.inf))
    return decisions


def _races(faces):
    """The race of each face: (N,) str."""
    return np.array([GROUPS[index][0] for index in faces.group.tolist()])


RULES = {  # what is chosen by, the first by default. A new one is one more line
    "balanced": Rule(CHOOSING, np.mean, metrics.fewest_within_one_se),
    "worst": Rule(CHOOSING, np.min, fewest_of_worst_group),
    "celeba": Rule(CELEBA_CHOOSING, np.mean, metrics.fewest_within_one_se),
}
DEFAULT_RULE = next(iter(RULES))
