"""The figures of eval.py, features.py and the documentation, from records; readable in grey."""

import numpy as np
from matplotlib.figure import Figure

from datasets import GROUP_NAMES
from filters.retraining import TRAINERS
from report import panels
from report.labels import celeba_label, fairface_label, method_label

FEATURE_TEXT = 9  # points

# ----------------------------------------------------------------------------- faces


def repair_curves(runs, chosen, split, set_names=None, labels=None):
    """Accuracy of each group as filters go by value, without and with a shift of the threshold.

    Lines are means over runs, bands their range; of one run, Wilson intervals.

    Args:
        runs: list of DataFrames, an eval.csv for each training.
        chosen: {method: filters removed}, means over runs.
        split: str, of FairFace: "report" or "choose".
        set_names: what to call the sets of faces, as "data_names" in eval.json; None: FairFace
            and CelebA.
        labels: {method: str}, where it is not what method_label calls it.

    Returns:
        matplotlib Figure.
    """
    figure, axes = panels.make_panels(2)
    for axis, method in zip(axes, ("shapley", "shapley+threshold")):
        panels.draw_groups(axis, runs, method, split, GROUP_NAMES, set_names)
        panels.mark_chosen(axis, chosen[method])
        axis.set_title(method_label(method, names=labels), pad=18)
        panels.finish_axis(axis)
    axes[0].set(ylabel=f"accuracy, %\n({fairface_label(split, set_names)})")
    panels.add_legend_below(figure, axes, 5)
    return figure


def rival_curves(runs, split, set_names=None, labels=None):
    """Balanced accuracy as filters go, by value and by rivals: means over runs.

    Arguments and result as in `repair_curves`.
    """
    figure, axes = panels.make_panels(2)
    methods = list(runs[0]["method"].unique())
    titles = ("filters removed", "filters removed and threshold shifted")
    for axis, ending, title in zip(axes, ("", "+threshold"), titles):
        drawn = []
        for method in methods:
            name, plus, _ = method.partition("+")
            if bool(plus) == bool(ending) and name not in TRAINERS:
                drawn.append(method)
        panels.draw_rivals(axis, runs, drawn, split, labels)
        axis.set(title=title)
        panels.finish_axis(axis)
    label = fairface_label(split, set_names)
    axes[0].set(ylabel=f"balanced accuracy, %\n({label})")
    panels.add_legend_below(figure, axes, 5)
    return figure


def frontier_curves(runs, chosen, split, set_names=None, labels=None):
    """What each repair gives the worst group, against what it costs on CelebA, step by step.

    Arguments and result as in `repair_curves`, but chosen: list of {method: step}, for each run.
    """
    figure, axes = panels.make_panels(2)
    methods = list(runs[0]["method"].unique())
    for axis, ending in zip(axes, ("", "+threshold")):
        drawn = [name for name in methods if name.endswith("+threshold") == bool(ending)]
        panels.draw_frontier(axis, runs, chosen, drawn, split, labels, TRAINERS)
        title = "threshold as it is" if not ending else "threshold shifted"
        axis.set(title=title, xlabel=f"accuracy, % ({celeba_label(split, set_names)})")
    axes[0].set(ylabel=f"worst group's accuracy, %\n({fairface_label(split, set_names)})")
    panels.add_legend_below(figure, axes, 4)
    return figure


def face_grid(images, captions):
    """Faces, each under its caption. images: (K, S, S, 3) uint8; captions: K str."""
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.85 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, image, caption in zip(axes, images, captions):
        axis.imshow(image)
        axis.set_title(caption, fontsize=9)
    for axis in figure.axes:
        axis.axis("off")
    return figure


# ----------------------------------------------------------------------------- other tasks


def responsible_curves(curves, table, run, values, shares):
    """Scores as filters go; and for accuracy, how the sum of the values is shared among filters.

    Args:
        curves: DataFrame, an eval.csv.
        table: DataFrame, the table of its eval.json.
        run: dict, mab.py's settings there.
        values: (n_filters,) float.
        shares: dict, "concentration" in eval.json; empty: no second panel.

    Returns:
        matplotlib Figure.
    """
    figure, axes = panels.make_panels(1 + bool(shares), sharey=False)
    panels.draw_removals(axes[0], curves, table, run)
    if shares:
        panels.draw_shares(axes[1], values)
    panels.add_legend_below(figure, axes[:1], 2 + bool(shares))
    return figure


def class_panels(runs):
    """A panel of removals for each class. runs: list of (curves, table, run), as above."""
    columns = min(2, len(runs))
    rows = -(-len(runs) // columns)
    size = (panels.PANEL[0] * columns, panels.PANEL[1] * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for axis, (curves, table, run) in zip(axes, runs):
        panels.draw_removals(axis, curves, table, run)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8)
    for axis in axes[len(runs) :]:
        axis.axis("off")
    return figure


# ----------------------------------------------------------------------------- filters


def race_plot(races, k, which):
    """How many filters the bandit still samples, against evaluations of V: the race.

    Args:
        races: list of DataFrames, a race.csv for each run.
        k: int, size of the set.
        which: "lowest" or "highest".

    Returns:
        matplotlib Figure.
    """
    figure, (axis,) = panels.make_panels(1)
    panels.draw_race(axis, races, k, which)
    panels.add_legend_below(figure, [axis], 3)
    return figure


def value_plot(filters, removed):
    """All values, sorted; the filters at both ends by name; and the layers of the removed ones.

    Args:
        filters: DataFrame, index: the filters' numbers; columns shapley, layer, channel and, if
            they are known, standard_error, ci_low, ci_high and sign (see values.signs).
        removed: (n,) int, the numbers of the removed filters.

    Returns:
        matplotlib Figure.
    """
    n_layers = filters["layer"].nunique()
    height = max(panels.PANEL[1], 1 + panels.ENTRY * max(n_layers, 2 * panels.ENDS))
    figure = Figure(figsize=(14, height), layout="constrained")
    grid = figure.add_gridspec(2, 3, width_ratios=(1.1, 0.9, 1))
    (low, high), bar = panels.value_bars(filters)
    filters = filters.assign(bar_low=low, bar_high=high)
    if "sign" not in filters:
        filters = filters.assign(sign="unknown")
    by_value = filters.iloc[np.argsort(filters["shapley"].to_numpy(), kind="stable")]
    panels.draw_values(figure.add_subplot(grid[:, 0]), by_value, removed, bar)
    bars = f" (bars: {bar})" if bar else ""
    ends = {"highest": by_value[-panels.ENDS :], "lowest": by_value[: panels.ENDS]}
    for row, (name, rows) in enumerate(ends.items()):
        title = f"the {len(rows)} {name}{bars}"
        panels.draw_named_values(figure.add_subplot(grid[row, 1]), rows[::-1], removed, title)
    places = np.flatnonzero(filters.index.isin(removed))
    panels.draw_layers(figure.add_subplot(grid[:, 2]), filters["layer"].tolist(), [places])
    return figure


def layer_plot(layers, removed):
    """Where the removed filters of several trainings lie.

    Args:
        layers: list of n_filters str.
        removed: for each training a list of filters, int.

    Returns:
        matplotlib Figure.
    """
    figure, (axis,) = panels.make_panels(1)
    figure.set_size_inches(6, 1 + panels.ENTRY * len(set(layers)))
    panels.draw_layers(axis, layers, removed)
    return figure


def filter_title(row):
    """A filter's layer, value and interval as text. row: of filters.csv."""
    interval = ""
    if not np.isnan(row["ci_low"]):
        interval = f" ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})"
    return f"{row['layer']}[{row['channel']}], value {row['shapley']:+.4f}{interval}"


def feature_grid(pictures, images, labels, rows):
    """A row a filter: the picture that excites it most, and the images that activate it most.

    Args:
        pictures: (F, S, S, 3) uint8.
        images: (F, K, S, S, 3) uint8.
        labels: F lists of K str, of the images.
        rows: DataFrame, the filters' rows of filters.csv.

    Returns:
        matplotlib Figure.
    """
    columns = 1 + images.shape[1]
    figure = Figure(figsize=(1.9 * columns, 2.3 * len(rows)), layout="constrained")
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for number, part in enumerate(parts):
        part.suptitle(filter_title(rows.iloc[number]), fontsize=FEATURE_TEXT, x=0.02, ha="left")
        shown = [pictures[number], *images[number]]
        captions = ["maximised", *labels[number]]
        for axis, image, caption in zip(part.subplots(1, columns), shown, captions):
            axis.imshow(image, interpolation="bicubic")
            axis.set_xlabel(caption, fontsize=FEATURE_TEXT)
            axis.set(xticks=[], yticks=[])
    return figure
