"""The figure at the head of README.md: what each repair does to the four groups."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from datasets import GROUP_NAMES
from report.labels import group_label
from tools.recorded import evaluation, trainings

# Rows of the figure, the first on top: a repair of the records, and its label.
ROWS = {
    "nothing": "no repair",
    "threshold": "threshold shifted, no filter removed",
    "values of accuracy": "paper's recipe",
    "values of accuracy+threshold": "paper's recipe,\nthreshold shifted",
    "shapley+threshold": "values re-estimated before\neach removal, threshold shifted",
    "finetune+threshold": "fine-tuned on the same images,\nthreshold shifted",
}
# Marker, its inside and outline, and offset from the row's centre, of each group in GROUP_NAMES.
MARKERS = ("s", "D", "^", "o")
INSIDES = ("white", "white", "#222222", "#b3261e")
OUTLINES = ("#777777", "#2f78bd", "#222222", "#b3261e")
OFFSETS = (-0.27, -0.09, 0.09, 0.27)


def draw_overview(folder):
    """Accuracy of the four groups, and their mean, before and after each repair.

    Args:
        folder: str, records of faces over several trainings.

    Returns:
        a matplotlib Figure. Markers are means over trainings, bars the range.
    """
    scores = _scores(folder)  # (trainings, rows, groups + 1), in %
    figure = Figure(figsize=(9, 4), layout="constrained")
    groups_axis, mean_axis = figure.subplots(1, 2, sharey=True, width_ratios=[1.7, 1])
    centres = np.arange(len(ROWS))
    for index, name in enumerate(GROUP_NAMES):
        style = {
            "marker": MARKERS[index],
            "markerfacecolor": INSIDES[index],
            "color": OUTLINES[index],
            "label": group_label(name),
        }
        _draw_ranges(groups_axis, scores[:, :, index], centres + OFFSETS[index], style)
    style = {"marker": "o", "color": "black", "label": "mean over trainings"}
    _draw_ranges(mean_axis, scores[:, :, -1], centres, style)
    _name_means(mean_axis, scores[:, :, -1].mean(0), centres)
    groups_axis.set(yticks=centres, yticklabels=ROWS.values(), xlabel="accuracy of each group, %")
    mean_axis.set(xlabel="mean of the four groups, %")
    mean_axis.margins(x=0.2)
    _finish(figure, (groups_axis, mean_axis), centres)
    return figure


def _finish(figure, axes, centres):
    """Lines between rows, the first row on top, and one legend above."""
    for axis in axes:
        axis.grid(axis="x", alpha=0.3)
        axis.tick_params(axis="y", length=0)
        axis.spines[["top", "right", "left"]].set_visible(False)
        for boundary in centres[1:] - 0.5:
            axis.axhline(boundary, color="0.9", linewidth=0.8)
    axes[0].invert_yaxis()
    entries = axes[0].get_legend_handles_labels()
    figure.legend(*entries, loc="outside upper center", ncols=4, frameon=False)


def _scores(folder):
    """Accuracies in %, (trainings, len(ROWS), 5): of the four groups, and their mean."""
    columns = [*GROUP_NAMES, "balanced"]
    scores = []
    for name in trainings(folder):
        table = pd.DataFrame(evaluation(name)["table"]).pivot(
            index="row", columns="group", values="value"
        )
        scores.append(100 * table.loc[list(ROWS), columns].to_numpy())
    return np.array(scores)


def _draw_ranges(axis, scores, heights, style):
    """Means over trainings, and bars from the lowest to the highest. scores: (trainings, rows)."""
    mean = scores.mean(0)
    spread = [mean - scores.min(0), scores.max(0) - mean]
    axis.errorbar(mean, heights, xerr=spread, linestyle="none", markersize=6, capsize=2, **style)


def _name_means(axis, means, heights):
    """Print each mean above its marker."""
    for mean, height in zip(means, heights):
        axis.annotate(f"{mean:.1f}", (mean, height - 0.16), ha="center", va="bottom", fontsize=9)
