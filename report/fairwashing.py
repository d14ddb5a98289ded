"""What fairwashing.py measures, as tables."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from explain.defences import DEFENCES
from explain.heatmaps import normalise_map
from explain.scores import SCORES
from report.metrics import Z, wilson

RAW, PROJECTED = "raw", "projected"  # heat-maps as they are, and of projected explanations
PLAIN, KNOWING = "plain", "through TSP"  # attackers
COLUMNS = ["method", "attacker", "seed", "network", "maps", "reference", "measure"]
COLUMNS += ["mean", "ci_low", "ci_high"]
GROUP_COLUMNS = ["method", "attacker", "seed", "group", "images", "network", "measure"]
GROUP_COLUMNS += ["mean", "ci_low", "ci_high"]


@dataclass
class Results:
    """Tables of a study.

    Attributes:
        scores: DataFrame with COLUMNS, as from score_table, of all students.
        curves: DataFrame: method, attacker, seed, epoch (from 1), loss, output_loss, map_loss, and
            on validation images, every few epochs, agreement, ssim and pcc with the target.
        maps: dict of arrays for the figure: images (n, H, W) uint8, target (H, W), and for each
            student of the first seed "METHOD/ATTACKER/NETWORK/MAPS" (n, H, W) float16. Of people
            there are no images, and one map, the mean over all images.
        facts: a dict.
        groups: DataFrame with GROUP_COLUMNS, as from group_table, of all students; None: the task
            is not faces.
    """

    scores: pd.DataFrame
    curves: pd.DataFrame
    maps: dict
    facts: dict = field(default_factory=dict)
    groups: pd.DataFrame | None = None


@dataclass
class Explained:
    """Answers and heat-maps of a network on N images.

    Attributes:
        outputs: (N, classes) float32 array, softmax.
        maps: {RAW, PROJECTED or a key of DEFENCES: (N, H, W) float32 array}.
    """

    outputs: np.ndarray
    maps: dict


def explain_images(network, explainer, inputs, tangent, bar="", batch_size=125, defences=()):
    """Answers and heat-maps, raw, projected and of other defences: Explained.

    Args:
        network: nn.Module in eval mode.
        explainer: explain.heatmaps.Explainer.
        inputs: (N, C, H, W) float32 tensor.
        tangent: explain.tangent.Tangent or Basis of these inputs.
        bar: str, text of the progress bar; "" for none.
        batch_size: int, images at once.
        defences: keys of DEFENCES, a sequence of str.
    """
    outputs, maps = [], {name: [] for name in (RAW, PROJECTED, *defences)}
    parts = torch.arange(len(inputs)).split(batch_size)
    for rows in tqdm(parts, bar, unit=" batches", leave=False, disable=not bar):

        def project(values, rows=rows):
            return tangent.project(rows, values)

        for name, function in ((RAW, None), (PROJECTED, project)):
            heatmaps, logits = explainer.heatmap(network, inputs[rows], function)
            maps[name].append(heatmaps)
        for name in defences:
            maps[name].append(DEFENCES[name](explainer, network, inputs[rows], 0).detach())
        outputs.append(logits.detach().softmax(1))
    joined = {name: torch.cat(part).numpy() for name, part in maps.items()}
    return Explained(torch.cat(outputs).numpy(), joined)


def project_target(target, tangent, n, shape, batch_size=125):
    """Heat-maps of the target itself projected at n images, (n, H, W) float32 array.

    As near to the target as a map in the tangent space may come. It is spread evenly over the C
    channels; shape: (C, H, W).
    """
    values = torch.from_numpy(target).expand(shape)
    parts = []
    for rows in torch.arange(n).split(batch_size):
        parts.append(normalise_map(tangent.project(rows, values.expand(len(rows), *shape))))
    return torch.cat(parts).numpy()


def score_table(student, teacher, label, target, projected_target):
    """All scores of one student, a DataFrame with COLUMNS from "network" on.

    network: student, teacher, or target (the target projected); maps: outputs, raw, projected, or a
    key of explain.defences.DEFENCES.
    reference: what is compared with: target, teacher (its maps of the same kind), label, or, of the
    maps of a randomised network, own (the network's raw ones).
    measure: of maps those of explain.scores.SCORES (mass: the share of relevance where the target
    is); of outputs accuracy, agreement (the share of images that get the teacher's class) and mse
    (the mean squared difference of softmax outputs). Intervals of 95 % over images: Wilson's of
    proportions, the normal one of means.

    Args:
        student: Explained.
        teacher: Explained.
        label: (N,) int array.
        target: (H, W) float32 array.
        projected_target: (N, H, W) float32 array.
    """
    rows = []
    classes = {name: part.outputs.argmax(1) for name, part in _named(student, teacher)}
    for name, answers in classes.items():
        rows.append((name, "outputs", "label", "accuracy", *_share(answers == label)))
    agrees = classes["student"] == classes["teacher"]
    rows.append(("student", "outputs", "teacher", "agreement", *_share(agrees)))
    error = ((student.outputs - teacher.outputs) ** 2).mean(1)
    rows.append(("student", "outputs", "teacher", "mse", *_mean(error)))
    for maps in student.maps:
        compared = [
            (name, part.maps[maps], "target", target) for name, part in _named(student, teacher)
        ]
        compared.append(("student", student.maps[maps], "teacher", teacher.maps[maps]))
        if maps == PROJECTED:
            compared.append(("target", projected_target, "target", target))
        if maps == "randomised":
            for name, part in _named(student, teacher):
                compared.append((name, part.maps[maps], "own", part.maps[RAW]))
        for name, heatmaps, reference, other in compared:
            for measure, score in SCORES.items():
                if measure != "mass" or reference == "target":
                    values = _mean(score(heatmaps, other))
                    rows.append((name, maps, reference, measure, *values))
    return pd.DataFrame(rows, columns=COLUMNS[3:])


def group_table(student, teacher, label, groups):
    """Accuracy and agreement of a student by group, a DataFrame with GROUP_COLUMNS from "group" on.

    network: student or teacher; measure: accuracy, or of the student agreement. Wilson's intervals
    of 95 % over images.

    Args:
        student: (N,) int array, its classes.
        teacher: the same.
        label: the same.
        groups: {name: (N,) bool array}.
    """
    rows = []
    for name, members in groups.items():
        for network, measure, hits in (
            ("student", "accuracy", student == label),
            ("teacher", "accuracy", teacher == label),
            ("student", "agreement", student == teacher),
        ):
            rows.append((name, members.sum(), network, measure, *_share(hits[members])))
    return pd.DataFrame(rows, columns=GROUP_COLUMNS[3:])


def _named(student, teacher):
    return (("student", student), ("teacher", teacher))


def _mean(values):
    """Mean and its interval: three floats."""
    half = Z * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean(), values.mean() - half, values.mean() + half


def _share(hits):
    """Share of True and its interval: three floats."""
    return (hits.mean(), *wilson(hits.sum(), len(hits)))


def over_seeds(scores):
    """Mean and range over seeds: a DataFrame indexed by the columns up to measure, but seed.

    Columns mean, min, max, seeds; of one seed min and max are its interval over images. scores:
    with COLUMNS or GROUP_COLUMNS.
    """
    columns = list(scores)
    keys = [name for name in columns[: columns.index("mean")] if name != "seed"]
    groups = scores.groupby(keys, sort=False)
    table = groups["mean"].agg(["mean", "min", "max", "size"]).rename(columns={"size": "seeds"})
    alone = table["seeds"] == 1
    table.loc[alone, "min"] = groups["ci_low"].first()[alone]
    table.loc[alone, "max"] = groups["ci_high"].first()[alone]
    return table
