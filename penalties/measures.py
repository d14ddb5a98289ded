"""What a network does with a decoy: measures of its answers, and what explanations say of it."""

import numpy as np
import torch
from sklearn.metrics import f1_score, roc_auc_score

from explain.decomposition import Decomposer
from explain.parts import centre
from penalties.losses import input_gradient, margin, masked_sum

EXPLAINED = 200  # rows at most whose explanations are averaged
ROWS = 250  # at once
MAP_RULE = "shapley"  # of heat-maps


@torch.no_grad()
def compute_logits(network, problem, inputs, erases=False):
    """Logits: inputs (N, ...) -> (N, classes) float32 array."""
    answers = []
    for part in inputs.split(1000):
        seen = problem.erase(part) if erases else part
        answers.append(network(problem.prepare(seen)))
    return torch.cat(answers).numpy()


def predict(network, problem, inputs, erases=False):
    """Predicted classes: inputs (N, ...) -> (N,) int array."""
    return compute_logits(network, problem, inputs, erases).argmax(1)


def measure(network, problem, examples, method):
    """All measures of a network on a set.

    Args:
        network: nn.Module in eval mode.
        problem: Problem.
        examples: {condition: Examples}, as Problem.val.
        method: Method, that it was trained with.

    Returns:
        {measure: float}: the accuracy in each condition, by its name; worst_group; explanations as
        from `explained_shares`; of tables also flips and false positive rates; of images that are
        measured untouched also AUC and F1 of the second class. All in [0, 1].
    """
    answers, measures = {}, {}
    for name, part in examples.items():
        logits = compute_logits(network, problem, part.inputs, method.erases)
        answers[name], label = logits.argmax(1), part.label.numpy()
        measures[name] = float((answers[name] == label).mean())
        if "untouched" in examples:
            measures[f"auc_{name}"] = float(roc_auc_score(label, logits[:, 1] - logits[:, 0]))
            measures[f"f1_{name}"] = float(f1_score(label, answers[name]))
    measures |= group_measures(answers, examples["same"])
    same = take_masked(problem, examples["same"], EXPLAINED)
    if method.erases:
        same = same._replace(inputs=problem.erase(same.inputs))
    return measures | explained_shares(network, problem, same)


def take_masked(problem, examples, n):
    """The first n rows with a decoy: those whose mask is not empty."""
    masked = problem.masks_for(examples.inputs).flatten(2).any(2).any(0)
    rows = torch.arange(len(examples.label))
    return examples.take(rows[masked.expand(len(rows))][:n])


def group_measures(answers, same):
    """worst_group, and of tables flips and false positive rates.

    The worst group: of images the class with the lowest accuracy, decoys inverted; of tables the
    group of people with the lowest accuracy.

    Args:
        answers: {condition: (N,) int}.
        same: Examples.
    """
    label = same.label.numpy()
    if same.group is None:
        right = answers["inverted"] == label
        return {"worst_group": float(min(right[label == one].mean() for one in np.unique(label)))}
    group, right = same.group.numpy(), answers["same"] == label
    flipped = answers["same"] != answers["swapped"]
    measures = {"flips": float(flipped[group >= 0].mean())}
    measures["worst_group"] = float(min(right[group == one].mean() for one in (0, 1)))
    for one in (0, 1):
        innocent = (group == one) & (label == 0)
        measures[f"false_positives_{one}"] = float((answers["same"][innocent] == 1).mean())
    return measures


def explained_shares(network, problem, examples):
    """What explanations say of the decoy, means over rows, and sums over masks where there are any.

    Returns:
        share_cd, share_shapley: |r| / (|r| + |rest|) of logits less their mean, by these rules;
        mean over masks. gradient: the share of |gradient of the margin| on the masked inputs.
    """
    decompose = Decomposer(network)
    sums = {"share_cd": 0.0, "share_shapley": 0.0, "gradient": 0.0}
    for start in range(0, len(examples.label), ROWS):
        part = examples.take(slice(start, start + ROWS))
        inputs, masks = problem.prepare(part.inputs), problem.masks_for(part.inputs)
        with torch.no_grad():
            for rule in ("cd", "shapley"):
                parts = decompose(inputs, masks, rule)
                size, rest = (centre(values).abs().sum(-1) for values in (parts[0], parts.rest))
                sums[f"share_{rule}"] += (size / (size + rest)).mean(0).sum().item()
        gradient = input_gradient(network, inputs, part.label, margin, create_graph=False)[1].abs()
        masked = masked_sum(gradient, masks, inputs).sum(0)
        sums["gradient"] += (masked / gradient.flatten(1).sum(1)).nan_to_num().sum().item()
    return {name: value / len(examples.label) for name, value in sums.items()}


# ----------------------------------------------------------------------------- choice of lambda

LOSS_ALLOWED = 0.005  # of accuracy: what a table's lambda may cost on the validation rows


def score_validation(measures, vanilla):
    """How good a training is on validation rows; the lambda of the highest mean is taken.

    Of images and words, the lowest accuracy over the conditions of the decoy. Of tables the share
    of predictions that a swap does not change, if the accuracy is within LOSS_ALLOWED of that
    without a penalty; else less than 0, the accuracy lost.

    Args:
        measures: {measure: mean over seeds}, of validation rows.
        vanilla: the same of the networks without a penalty.
    """
    if "flips" not in measures:
        return min(measures[name] for name in ("same", "inverted", "random", "absent"))
    lost = vanilla["same"] - measures["same"]
    return 1 - measures["flips"] if lost <= LOSS_ALLOWED else -lost


def choose_strength(means, vanilla):
    """The lambda of the highest score; of equal ones the smallest.

    means: {lambda: {measure: mean over seeds}}; vanilla: as above.
    """
    return max(sorted(means), key=lambda strength: score_validation(means[strength], vanilla))


# ----------------------------------------------------------------------------- heat-maps


@torch.no_grad()
def block_map(network, problem, examples, block):
    """What blocks of pixels contribute to the margin of the true class over the mean logit.

    Args:
        network: nn.Module in eval mode.
        problem: Problem.
        examples: Examples of images (N, C, S, S).
        block: int, side of a block in pixels; it divides S.

    Returns:
        (N, S / block, S / block) float32 array.
    """
    inputs = problem.prepare(examples.inputs)
    side = inputs.shape[-1] // block
    masks = torch.eye(side * side, dtype=torch.bool).view(-1, 1, 1, side, side)
    masks = masks.repeat_interleave(block, -1).repeat_interleave(block, -2)
    relevant = centre(Decomposer(network)(inputs, masks, MAP_RULE).relevant)
    own = relevant[:, torch.arange(len(examples.label)), examples.label]  # (blocks, N)
    return own.T.reshape(-1, side, side).numpy()
