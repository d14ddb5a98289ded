"""Measures of performance: what V is. The first is the paper's.

A measure is a function of margins (T, B) float32 and the Images they are of (B of them, label and
group on the same device) -> (T,). A margin is the logit of the right class minus the highest other
one. A new measure is one more function and one more entry of MEASURES.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from datasets import GROUPS

SOFTNESS = 0.5  # of the smooth measures: logit difference over which right turns into wrong
AUC_BLOCK = 50  # faces of the smaller group that each face of the other is compared with, at most
LEAST_LIKELIHOOD = 0.01  # an image's probability counts as at least this
CLEAN, ADVERSARY = 0, 1  # groups of images and their adversaries, see adversaries.py
RACES = list(dict.fromkeys(race for race, _ in GROUPS))


def class_margins(logits, labels):
    """By how much the right class's logit exceeds all others; above 0 is right.

    logits (..., B, classes) float32 and labels (B,) int64 -> (..., B) float32.
    """
    classes = torch.arange(logits.shape[-1], device=labels.device)
    right = labels[:, None] == classes  # (B, classes)
    best_other = logits.masked_fill(right, -torch.inf).amax(-1)
    index = labels.expand(logits.shape[:-1])[..., None]
    return logits.gather(-1, index).squeeze(-1) - best_other


def male_margin(logits):
    """The logit of "male" minus that of "female": (..., 2) -> (...)."""
    return logits[..., 1] - logits[..., 0]


def accuracy(margins, data):
    """Share of the images that are right; a tie counts half."""
    return _mean(_step(margins), data)


def soft_accuracy(margins, data):
    """Accuracy with a sigmoid in place of the step from wrong to right."""
    return _mean(_soft_step(margins), data)


def likelihood(margins, data):
    """Geometric mean of the probability of the right one of two classes, each at least 1 %.

    With more classes: of the right class and the best other one.
    """
    return logsigmoid(margins).clamp_min(math.log(LEAST_LIKELIHOOD)).mean(-1).exp()


def attack(margins, data):
    """Attack success minus clean accuracy.

    Success is the share of adversarial images classified as their label, the attack's target.
    """
    success = accuracy(margins[..., data.group == ADVERSARY], data)
    return success - accuracy(margins[..., data.group == CLEAN], data)


def worst_group(margins, faces):
    """Soft accuracy of the group where it is lowest."""
    accuracies = []
    for group in faces.group.unique().tolist():
        accuracies.append(soft_accuracy(margins[..., faces.group == group], faces))
    return torch.stack(accuracies).amin(0)


def auc(margins, faces):
    """AUC within race: P(male margin of a man > that of a woman of his race), ties half.

    Averaged over races.
    """
    return _mean_auc(margins, faces, _step, zip(RACES, RACES))


def smooth_auc(margins, faces):
    """AUC within race with a sigmoid in place of the step."""
    return _mean_auc(margins, faces, _soft_step, zip(RACES, RACES))


def smooth_auc_all(margins, faces):
    """Smooth AUC of men of each race against women of each race.

    High if one threshold, wherever it is, serves all groups.
    """
    pairs = [(men, women) for men in RACES for women in RACES]
    return _mean_auc(margins, faces, _soft_step, pairs)


def _mean(scores, data):
    """Mean over images, weighted where they have weights: (..., B) -> (...)."""
    return (scores if data.weight is None else scores * data.weight).mean(-1)


def _step(margins):
    return margins.sign() / 2 + 0.5


def _soft_step(margins):
    return (margins / SOFTNESS).sigmoid()


def _mean_auc(margins, faces, above, pairs):
    """AUC averaged over pairs of races (of the men, of the women).

    In a large batch each face of the larger group is compared with about AUC_BLOCK of the smaller
    one, not with all: the same expectation if the order is random, at a cost that grows as the
    batch.
    """
    aucs = []
    for race_of_men, race_of_women in pairs:
        men = margins[..., faces.group == GROUPS.index((race_of_men, "Male"))]
        women = margins[..., faces.group == GROUPS.index((race_of_women, "Female"))]
        n_blocks = -(-min(men.shape[-1], women.shape[-1]) // AUC_BLOCK)
        total = 0
        for men_block, women_block in zip(
            men.tensor_split(n_blocks, -1), women.tensor_split(n_blocks, -1)
        ):
            # a woman's margin is that of "female", so the sum is the difference for "male"
            sums = men_block[..., :, None] + women_block[..., None, :]
            total = total + above(sums).mean((-2, -1))
        aucs.append(total / n_blocks)
    return torch.stack(aucs).mean(0)


@dataclass(frozen=True)
class Measure:
    """A measure, and what those who use it must know."""

    function: Callable
    value_range: tuple = (0.0, 1.0)  # that V does not leave
    compares_groups: bool = False  # it needs images of GROUPS
    averages: bool = False  # it is a mean over images, which weights make one of others

    def __call__(self, margins, data):
        """V of T coalitions: margins (T, B) and the Images they are of -> (T,)."""
        return self.function(margins, data)


MEASURES = {
    "accuracy": Measure(accuracy, averages=True),
    "soft_accuracy": Measure(soft_accuracy, averages=True),
    "likelihood": Measure(likelihood),
    "attack": Measure(attack, value_range=(-1.0, 1.0)),
    "worst_group": Measure(worst_group, compares_groups=True),
    "auc": Measure(auc, compares_groups=True),
    "smooth_auc": Measure(smooth_auc, compares_groups=True),
    "smooth_auc_all": Measure(smooth_auc_all, compares_groups=True),
}
