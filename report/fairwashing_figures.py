"""The figures of fairwashing.py: heat-maps side by side, and what TSP restores."""

import numpy as np
from matplotlib.figure import Figure

from report.fairwashing import KNOWING, PROJECTED, RAW, over_seeds
from report.fairwashing_text import METHOD_LABELS, TASKS, method_name, students_of
from report.panels import SMALL, add_legend_below

COLUMNS = [  # title, network and maps of a column of heat-maps
    ("teacher", "teacher", RAW),
    ("student", "student", RAW),
    ("teacher,\nTSP", "teacher", PROJECTED),
    ("student,\nTSP", "student", PROJECTED),
]
RANGE = ("mean", "min", "max")
BRIGHTEST = 99.5  # percentile of a heat-map that is black


def draw_all(results):
    """All figures by name, {name: matplotlib Figure}."""
    return {"heatmaps": heatmap_figure(results), "scores": score_figure(results)}


def heatmap_figure(results):
    """The target, then for each image its heat-maps, raw and projected: a row for each student.

    Of people, whose images are not shown, means over all images.
    """
    maps, images = results.maps, results.maps.get("images")
    titles = ["image"] * (images is not None) + [title for title, _, _ in COLUMNS]
    students = [key.split("/")[:2] for key in maps if key.endswith(f"student/{RAW}")]
    count, width = len(maps["/".join([*students[0], "student", RAW])]), len(titles)
    students.sort(key=lambda student: student[1] == KNOWING)
    columns = 1 + count * width
    figure = Figure(figsize=(0.78 * columns + 1.1, 0.86 * len(students) + 0.5))
    figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    axes = figure.subplots(len(students), columns, squeeze=False)
    for line, (method, attacker) in zip(axes, students):
        _show(line[0], maps["target"], "gray_r")
        label = METHOD_LABELS[method].replace(" gradients", "\ngradients")
        label += "\ntrained\nthrough TSP" * (attacker == KNOWING)
        style = {"fontsize": SMALL, "rotation": 0, "ha": "right", "va": "center", "labelpad": 4}
        line[0].set_ylabel(label, **style)
        for number in range(count):
            shown = line[1 + width * number : 1 + width * (number + 1)]
            if images is not None:
                _show(shown[0], images[number], "gray", 255)
            for axis, (_, network, kind) in zip(shown[-len(COLUMNS) :], COLUMNS):
                _show(axis, maps[f"{method}/{attacker}/{network}/{kind}"][number], "gray_r")
    for axis, title in zip(axes[0], ["target", *titles * count]):
        axis.set_title(title, fontsize=SMALL)
    return figure


def _show(axis, values, colours, highest=None):
    """One image or heat-map, dark where it is large."""
    values = np.float32(values)
    if highest is None:
        highest = max(np.percentile(values, BRIGHTEST), 1e-9)
    axis.imshow(values, cmap=colours, vmin=0, vmax=highest, interpolation="nearest")
    axis.set(xticks=[], yticks=[])


def score_figure(results):
    """For each student the correlation with the target and with the teacher's map, by bars."""
    table = over_seeds(results.scores)
    students = students_of(table)
    figure = Figure(figsize=(9, 1.6 + 0.55 * len(students)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    titles = {"target": "likeness of the map with the target", "teacher": "... with the teacher's"}
    for axis, (reference, title) in zip(axes, titles.items()):
        for offset, maps, colour, label in (
            (-0.2, RAW, "0.75", "as it is"),
            (0.2, PROJECTED, "0.35", "projected (TSP)"),
        ):
            rows = [table.loc[(*pair, "student", maps, reference, "pcc")] for pair in students]
            mean, low, high = (np.array([row[name] for row in rows]) for name in RANGE)
            errors = np.maximum([mean - low, high - mean], 0)
            style = {"height": 0.36, "color": colour, "edgecolor": "black", "linewidth": 0.6}
            places = np.arange(len(students)) + offset
            axis.barh(places, mean, xerr=errors, capsize=2, label=label, **style)
            if reference == "target":
                honest = [table.loc[(*pair, "teacher", maps, "target", "pcc")] for pair in students]
                marker = {"linestyle": "none", "marker": "D", "color": "white", "markersize": 5}
                values = [row["mean"] for row in honest]
                style = marker | {"markeredgecolor": "black"}
                axis.plot(values, places, **style, label="the teacher's map")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("Pearson's correlation over pixels")
        axis.grid(axis="x", alpha=0.3)
    names = [method_name(*pair).replace(", trained", ",\ntrained") for pair in students]
    axes[0].set_yticks(range(len(students)), names, fontsize=SMALL + 1)
    axes[0].invert_yaxis()
    add_legend_below(figure, axes, 3)
    figure.suptitle(f"What projection exposes and restores, {TASKS[results.facts['task']]}")
    return figure
