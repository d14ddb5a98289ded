"""The figures of cdep.py: accuracy against lambda, and heat-maps before and after."""

import numpy as np
from matplotlib.figure import Figure

from penalties.losses import METHODS
from report import cdep
from report.panels import LINES, MARKERS, SMALL, add_legend_below, make_panels

SHOWN_METHODS = ("vanilla", "cdep", "cdep_centred", "cdep_last", "rrr", "erased")


def draw_all(record, maps):
    """All figures by name, {name: matplotlib Figure}. maps: as in maps.npz, or None."""
    drawn = {"lambdas": lambda_figure(record)}
    if maps is not None:
        drawn["heatmaps"] = map_figure(record, maps)
    return drawn


def lambda_figure(record):
    """The validation score that chooses lambda, against lambda; and reliance against shares.

    Left: a line a method, bars are 95 % intervals over three trainings or more, large markers the
    chosen lambda.
    Right: each reported method's reliance against CD's share by the published rule.
    """
    figure, (curve_axis, reliance_axis) = make_panels(2, sharey=False)
    curves = cdep.validation_curves(record)
    is_table = "flips" in record["results"][0]
    for number, (name, part) in enumerate(curves.groupby("method", sort=False)):
        if name not in record["chosen"]:  # of an earlier run with other METHODS
            continue
        _draw_curve(curve_axis, number, name, part.sort_values("strength"), record["chosen"][name])
    score = "predictions that a swap does not change" if is_table else "accuracy, worst condition"
    curve_axis.set(xscale="log", xlabel="lambda", ylabel=f"{score}, %\n(validation rows)")
    curve_axis.grid(alpha=0.3)
    frame = cdep.result_frame(record).set_index(["method", "measure"])["mean"]
    for number, name in enumerate(record["chosen"]):
        place = 100 * frame[name, "share_cd"], 100 * frame[name, "reliance"]
        style = {"color": f"C{number}", "markersize": 8, "linestyle": "none"}
        reliance_axis.plot(*place, MARKERS[number], label=METHODS[name].label, **style)
    reliance_axis.set(xlabel="CD's share of the decoy, published rule, %")
    reliance_axis.set(ylabel=f"{_reliance_label(is_table)}, %\n({record['reported']} rows)")
    reliance_axis.grid(alpha=0.3)
    add_legend_below(figure, [reliance_axis], 3)
    return figure


def _reliance_label(is_table):
    if is_table:
        return "predictions that a swap changes"
    return "accuracy lost when decoys are inverted"


def _draw_curve(axis, number, name, part, chosen):
    """One method's line; methods without lambda are horizontal lines."""
    style = {"color": f"C{number}", "linestyle": LINES[number % len(LINES)]}
    mean, low, high = (100 * part[column].to_numpy() for column in ("mean", "ci_low", "ci_high"))
    if not METHODS[name].has_strength:
        axis.axhline(mean[0], **style)
        return
    bars = np.nan_to_num([mean - low, high - mean])
    strengths = part["strength"].to_numpy()
    axis.errorbar(strengths, mean, bars, marker=MARKERS[number], markersize=4, capsize=2, **style)
    place = int(np.flatnonzero(strengths == chosen)[0])
    axis.plot(chosen, mean[place], MARKERS[number], color=f"C{number}", markersize=9)


def map_figure(record, maps):
    """Images with inverted decoys, and what blocks of pixels contribute to the true class.

    Rows are methods with the chosen lambda; red speaks for the true class, blue against it. Each
    method has one colour scale.
    """
    methods = list(maps["methods"])
    rows = [name for name in SHOWN_METHODS if name in methods]
    images, n_images = maps["images"], len(maps["images"])
    figure = Figure(figsize=(1.9 + 1.5 * n_images, 1.5 * (len(rows) + 1)), layout="constrained")
    axes = figure.subplots(len(rows) + 1, n_images, squeeze=False)
    for axis, image, label in zip(axes[0], images, maps["label"]):
        axis.imshow(image)
        axis.set_title(f"true: {record['classes'][label]}", fontsize=SMALL)
    for line, name in zip(axes[1:], rows):
        place = methods.index(name)
        own = maps["maps"][place]
        size = np.abs(own).max() or 1.0
        for axis, image, answer in zip(line, own, maps["answers"][place]):
            axis.imshow(image, cmap="RdBu_r", vmin=-size, vmax=size)
            axis.set_title(f"answer: {record['classes'][answer]}", fontsize=SMALL)
        label = cdep.method_text(name, record["chosen"][name]).replace(", ", ",\n")
        style = {"rotation": 0, "ha": "right", "va": "center", "fontsize": SMALL}
        line[0].set_ylabel(label, **style)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure
