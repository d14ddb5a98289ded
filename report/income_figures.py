"""The figures of income.py: relevance by layer, what predictions hang on, and repairs."""

import numpy as np
from matplotlib.figure import Figure

from report.income import AS_TRAINED, mean_values, rank_correlations
from report.income_text import (
    MEASURE_LABELS,
    RULE_LABELS,
    data_label,
    short_number,
)
from report.panels import MARKERS, SMALL, add_legend_below, finish_axis, make_panels


def draw_all(results, rule):
    """All figures by name, {name: matplotlib Figure}. rule: str, the rule of relevance."""
    facts = results.facts
    drawn = {
        "layers": layer_figure(results.layers, facts),
        "attributes": attribute_figure(results.attributes, rule, facts),
        "repairs": repair_figure(results.repairs, facts),
        "curves": curve_figure(results.curves, facts),
    }
    return drawn


# ----------------------------------------------------------------------------- relevance


def layer_figure(layers, facts):
    """Attributes by dense layers, a panel for each rule, with what is conserved below.

    layers: as from income.layer_table.
    """
    rules = list(dict.fromkeys(layers["rule"]))
    n_layers, attributes = layers["layer"].max(), list(dict.fromkeys(layers["attribute"]))
    columns = 2 if n_layers > 6 else len(rules)
    lines = -(-len(rules) // columns)
    size = (1.6 + columns * max(2.2, 0.34 * n_layers), 1.2 + lines * (1 + 0.25 * len(attributes)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for axis, rule in zip(axes, rules):
        rows = layers[layers["rule"] == rule]
        matrix = rows.pivot(index="attribute", columns="layer", values="relevance")
        image = _draw_matrix(
            axis, matrix.loc[attributes].to_numpy(), rows.groupby("layer")["ratio"].first()
        )
        axis.set_title(RULE_LABELS[rule], fontsize=10)
    for axis in axes[::columns]:
        axis.set_yticks(range(len(attributes)), attributes, fontsize=8)
    label = "share of |relevance| in the layer's column"
    figure.colorbar(image, ax=axes, shrink=0.8, pad=0.01).set_label(label, fontsize=8)
    figure.supxlabel(
        "dense layer, 1 next to the inputs. Below its number: relevance at the inputs / the output "
        "that it explains (1: conserved).  - in a cell: the sum is negative",
        fontsize=8,
    )
    figure.suptitle(f"Relevance of each attribute for each dense layer, {data_label(facts)}")
    return figure


def _draw_matrix(axis, matrix, ratios):
    """One rule: shares in grey, minus signs, ratios (L,) below. matrix: (A, L) relevance."""
    size = np.abs(matrix)
    shares = size / np.maximum(size.sum(0), 1e-300)
    image = axis.imshow(shares, cmap="Greys", vmin=0, vmax=0.5, aspect="auto")
    for row, column in np.argwhere(matrix < 0):
        colour = "white" if shares[row, column] > 0.25 else "black"
        style = {"ha": "center", "va": "center", "fontsize": SMALL, "color": colour}
        axis.text(column, row, "-", **style)
    texts = []
    for number, ratio in enumerate(ratios, 1):
        texts.append(f"{number}\n{short_number(ratio)}")
    axis.set_xticks(range(len(texts)), texts, fontsize=SMALL, rotation=0)
    return image


def attribute_figure(attributes, rule, facts):
    """Each attribute by relevance, permutation and swap: means and ranges, panels side by side.

    attributes: as from income.attribute_table.
    """
    measures = [f"relevance: {rule}", "permutation", "swap"]
    measures += ["truth"] * ("truth" in set(attributes["measure"]))
    means = mean_values(attributes)
    order = means.loc["swap", "mean"].sort_values(ascending=False).index
    figure = Figure(
        figsize=(1.4 + 2.5 * len(measures), 1.9 + 0.27 * len(order)), layout="constrained"
    )
    axes = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for axis, measure in zip(axes, measures):
        _draw_measure(axis, 100 * means.loc[measure].loc[order], set(facts["groups"]))
        for number, group in enumerate(_group_names(attributes)):
            values = 100 * mean_values(attributes, group).loc[measure, "mean"].loc[order]
            marker = {"marker": MARKERS[number], "markersize": 4, "markerfacecolor": "white"}
            style = {"color": f"C{number}", "linestyle": "none"} | marker
            axis.plot(values, range(len(order)), **style, label=group)
        axis.set_xlabel(
            MEASURE_LABELS.get(measure, f"share of |relevance|, %,\n{RULE_LABELS[rule]}")
        )
    axes[0].set_yticks(range(len(order)), order)
    axes[0].invert_yaxis()
    add_legend_below(figure, axes, len(_group_names(attributes)))
    for axis, measure in zip(axes[1:], measures[1:]):
        axis.set_title(_correlation_text(attributes, measures[0], measure), fontsize=9)
    axes[0].set_title("bars: all people; dark: attributes\nwhose groups are compared", fontsize=9)
    figure.suptitle(
        f"What the explanation shows, and what predictions hang on: {data_label(facts)}"
    )
    return figure


def _draw_measure(axis, values, compared):
    """Bars of one measure with their range. values: DataFrame mean, min, max by attribute."""
    colours = ["0.25" if name in compared else "0.8" for name in values.index]
    mean = values["mean"].to_numpy()
    ends = [mean - values["min"].to_numpy(), values["max"].to_numpy() - mean]
    errors = np.maximum(ends, 0)
    style = {"color": colours, "edgecolor": "black", "linewidth": 0.6}
    axis.barh(range(len(values)), mean, xerr=errors if errors.any() else None, capsize=2, **style)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.grid(axis="x", alpha=0.3)


def _group_names(attributes):
    return [name for name in dict.fromkeys(attributes["group"]) if name != "all"]


def _correlation_text(attributes, first, second):
    table = rank_correlations(attributes)
    row = table[(table["first"] == first) & (table["second"] == second)].iloc[0]
    return f"rank correlation with\nthe share of |relevance|: {row['mean']:.2f}"


# ----------------------------------------------------------------------------- repairs, curves


def repair_figure(repairs, facts):
    """Accuracy against the difference in selection rates, a panel for each attribute.

    repairs: as from income.repair_table.
    """
    attributes = list(dict.fromkeys(repairs["attribute"]))
    figure, axes = make_panels(len(attributes))
    selected = repairs[repairs["rate"] == "selection rate"]
    for axis, attribute in zip(axes, attributes):
        rows = selected[selected["attribute"] == attribute]
        for number, row in enumerate(rows.to_dict("records")):
            x = 100 * np.array([row["value"], row["ci_low"], row["ci_high"]])
            y = 100 * np.array([row["accuracy"], row["accuracy_low"], row["accuracy_high"]])
            errors = {
                "xerr": [[x[0] - x[1]], [x[2] - x[0]]],
                "yerr": [[y[0] - y[1]], [y[2] - y[0]]],
            }
            marker = {"fmt": MARKERS[number % len(MARKERS)], "elinewidth": 0.6, "markersize": 7}
            if row["repair"] == AS_TRAINED:
                marker |= {"color": "black"}
            axis.errorbar(x[0], y[0], **errors, **marker, label=row["repair"])
        axis.axvline(0, color="0.6", linewidth=0.8)
        pair = rows["group"].iloc[0]
        axis.set(
            title=attribute,
            xlabel=f"difference in the share predicted\n{facts['label']}, {pair}, points",
        )
        axis.grid(alpha=0.3)
    axes[0].set(ylabel=f"accuracy on {facts['reported']} rows, %")
    add_legend_below(figure, axes, 2)
    figure.suptitle(f"Accuracy against difference, {data_label(facts)}; bars: 95 % intervals")
    return figure


def curve_figure(curves, facts):
    """Accuracy by epoch of the trainings that went furthest, one for each architecture.

    curves: as from income.curve_table.
    """
    figure, (axis, losses) = make_panels(2, sharey=False)
    chosen = curves[curves["seed"] == curves["seed"].min()]
    if chosen["is_long"].any():
        chosen = chosen[chosen["is_long"]]
    for number, (name, rows) in enumerate(chosen.groupby("architecture", sort=False)):
        colour, marker = f"C{number % 10}", MARKERS[number % len(MARKERS)]
        label = f"row {name}" if len(name) < 3 else "the network"
        for panel, score, factor in ((axis, "accuracy", 100), (losses, "loss", 1)):
            style = {"color": colour, "marker": marker, "markersize": 3, "linewidth": 1}
            step = {"markevery": max(1, len(rows) // 10)}
            panel.plot(rows["epoch"], factor * rows[f"val_{score}"], **style, **step, label=label)
            style |= {"linestyle": ":", "alpha": 0.6}
            panel.plot(rows["epoch"], factor * rows[f"train_{score}"], **style, **step)
    axis.set(xlabel="epoch", ylabel="accuracy, %")
    losses.set(xlabel="epoch", ylabel="cross-entropy")
    for panel in (axis, losses):
        finish_axis(panel)
    add_legend_below(figure, [axis, losses], 5)
    figure.suptitle(
        f"Training, {data_label(facts)}: validation rows (lines), training rows (dotted)"
    )
    return figure
