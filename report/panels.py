"""Panels of figures: each draws on one axis, and can be read without colour."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from report.labels import celeba_label, group_label, method_label, score_label

LINES = ("-", "--", "-.", ":")
MARKERS = "osv^D<>Pd*X"
SIGNS = {"helpful": ("^", "C0"), "harmful": ("v", "C3")}  # marker and colour of certified signs
SMALL = 7.5  # points; the smallest text of all figures
PANEL = (5, 4.2)  # inches
ENDS = 10  # filters named at each end of the values
ENTRY = 0.17  # inches that a line of a legend or of layers' names takes

# ----------------------------------------------------------------------------- frames


def make_panels(number, sharey=True):
    """A figure with panels side by side: (Figure, list of axes)."""
    figure = Figure(figsize=(PANEL[0] * number, PANEL[1]), layout="constrained")
    return figure, list(figure.subplots(1, number, sharey=sharey, squeeze=False)[0])


def finish_axis(axis):
    """Whole numbers on the x axis, and a grid."""
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)


def add_legend_below(figure, axes, columns):
    """One legend for several panels, below them, so that it covers no data."""
    entries = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels()):
            entries.setdefault(label, handle)
    figure.set_figheight(figure.get_figheight() + ENTRY * -(-len(entries) // columns))
    handles, labels = list(entries.values()), list(entries)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8)


def read_curve(runs, method, split, group):
    """One accuracy along one path: (steps, accuracy, low, high), in %.

    Of one run with its interval; of several their mean, lowest and highest. Runs may end at
    different steps; then as far as the shortest goes.

    Args:
        runs: list of DataFrames, an eval.csv for each training.
        method: str, as the next two a value of the column of this name.
        split: str.
        group: str.
    """
    curves = []
    for run in runs:
        rows = (run["method"] == method) & (run["split"] == split) & (run["group"] == group)
        curves.append(run[rows])
    length = min(map(len, curves))
    steps = curves[0]["n_removed"].to_numpy()[:length]
    if len(curves) == 1:
        return steps, *100 * curves[0][["accuracy", "ci_low", "ci_high"]].to_numpy().T
    accuracy = 100 * np.array([curve["accuracy"].to_numpy()[:length] for curve in curves])
    return steps, accuracy.mean(0), accuracy.min(0), accuracy.max(0)


# ----------------------------------------------------------------------------- faces


def draw_groups(axis, runs, method, split, groups, set_names=None):
    """Accuracies of groups, and that on CelebA, along one path. Arguments as in read_curve."""
    for line, name in zip(LINES, groups):
        steps, accuracy, low, high = read_curve(runs, method, split, name)
        axis.plot(steps, accuracy, line, linewidth=1.8, label=group_label(name))
        axis.fill_between(steps, low, high, alpha=0.15)
    steps, accuracy, *_ = read_curve(runs, method, "celeba", "all")
    label = celeba_label(split, set_names)
    axis.plot(steps, accuracy, "k.-", linewidth=0.8, markersize=4, label=label)
    axis.set(xlabel="filters removed, most negative first")


def mark_chosen(axis, step):
    """A vertical line at the chosen number of filters, named above the axis."""
    axis.axvline(step, color="black", linewidth=0.8)
    place = {"xy": (step, 1.01), "xycoords": ("data", "axes fraction"), "ha": "center"}
    axis.annotate(f"chosen: {step:.3g}", **place, fontsize=8)


def draw_rivals(axis, runs, methods, split, labels=None):
    """Balanced accuracy along several paths; random orders as the range of all.

    methods: names of paths, "random 0", ... among them; labels: as "names" of method_label. The
    other arguments as in read_curve.
    """
    names = [name for name in methods if not name.startswith("random")]
    random = [name for name in methods if name.startswith("random")]
    curves = [read_curve([run], name, split, "balanced")[:2] for run in runs for name in random]
    if curves:
        length = min(len(steps) for steps, _ in curves)
        accuracy = np.array([curve[:length] for _, curve in curves])
        label, steps = f"random filters, range of {len(curves)}", curves[0][0][:length]
        axis.fill_between(steps, accuracy.min(0), accuracy.max(0), color="0.87", label=label)
    for number, name in enumerate(names):
        steps, accuracy, *_ = read_curve(runs, name, split, "balanced")
        style = {"linestyle": LINES[number % len(LINES)], "linewidth": 1}
        if name.startswith("shapley"):
            style = {"color": "black", "linestyle": "-", "linewidth": 2}
        spacing = (number % 5, max(1, len(steps) // 8))  # markers of rivals side by side
        marker = {"marker": MARKERS[number % len(MARKERS)], "markevery": spacing, "markersize": 5}
        label = method_label(name.removesuffix("+threshold"), names=labels)
        axis.plot(steps, accuracy, label=label, **style, **marker)
    axis.set(xlabel="filters removed")


def draw_frontier(axis, runs, chosen, methods, split, labels=None, trained=()):
    """Worst group against CelebA along paths, means over runs, and the chosen steps, filled.

    Args:
        axis: matplotlib Axes.
        runs: list of DataFrames, an eval.csv for each training.
        chosen: list of {method: step}, one for each training.
        methods: names of paths, "random 0", ... among them.
        split: str, of FairFace.
        labels: as "names" of method_label.
        trained: names of paths whose steps are no sequence, and get no line.
    """
    drawn = 0
    for method in methods:
        celeba = read_curve(runs, method, "celeba", "all")[1]
        worst = read_curve(runs, method, split, "worst")[1]
        name = method.removesuffix("+threshold")
        if name.startswith("random "):
            axis.plot(celeba, worst, color="0.8", linewidth=0.8, zorder=0, label="random filters")
            continue
        colour = "black" if name == "shapley" else f"C{drawn % 10}"
        marker, line = MARKERS[drawn % len(MARKERS)], LINES[drawn % len(LINES)]
        style = {"color": colour, "marker": marker, "markersize": 4, "markerfacecolor": "none"}
        if name in trained:
            style |= {"linestyle": "none"}
        else:
            style |= {"linestyle": line, "linewidth": 1, "markevery": max(1, len(celeba) // 8)}
        axis.plot(celeba, worst, label=method_label(name, names=labels), **style)
        points = [_point([run], method, split, step[method]) for run, step in zip(runs, chosen)]
        axis.plot(*np.mean(points, axis=0), color=colour, marker=marker, markersize=10)
        drawn += 1
    axis.grid(alpha=0.3)


def _point(runs, method, split, step):
    """CelebA and worst-group accuracy after a step, in %."""
    curves = (
        read_curve(runs, method, *names)[1] for names in (("celeba", "all"), (split, "worst"))
    )
    return [curve[step] for curve in curves]


# ----------------------------------------------------------------------------- other tasks


def draw_removals(axis, curves, table, run):
    """Scores of a task other than faces as filters go.

    Of one score all methods; of several, each as it goes by value and, in thin lines, by chance.

    Args:
        axis: matplotlib axis.
        curves: DataFrame, an eval.csv.
        table: DataFrame, the table of its eval.json.
        run: dict, mab.py's settings there.
    """
    rows = (table["split"] != "report") | (table["group"] != "all") | (run["CLASS"] == "")
    scores = list(dict.fromkeys(zip(table["split"][rows], table["group"][rows])))
    for number, (split, group) in enumerate(scores):
        if split == "fresh attack":
            points = table[table["split"] == split]
            marker = MARKERS[number % len(MARKERS)]
            label = score_label(split, group)
            axis.plot(points["n_removed"], 100 * points["value"], f"k{marker}", label=label)
            continue
        curve = curves[(curves["split"] == split) & (curves["group"] == group)]
        if len(scores) == 1:
            _draw_methods(axis, curve, run["WHICH"])
        else:
            _draw_score(axis, curve, score_label(split, group), number)
    goal = {"attack": "attack success - clean accuracy"}.get(run["MEASURE"])
    goal = f"recall of {run['CLASS']}" if run["CLASS"] else goal or run["MEASURE"].replace("_", " ")
    thin = " (thin: random filters)" if len(scores) > 1 else ""
    axis.set(
        title=f"V: {goal}",
        xlabel=f"filters removed, {run['WHICH']} values first{thin}",
        ylabel="share of images, %",
    )
    finish_axis(axis)


def _draw_methods(axis, curve, which):
    """One score by all methods. curve: rows of an eval.csv."""
    for number, method in enumerate(dict.fromkeys(curve["method"])):
        if method.startswith("random "):
            continue
        rows, label = curve[curve["method"] == method], method_label(method, which)
        style = {"linestyle": LINES[number % len(LINES)], "marker": MARKERS[number % len(MARKERS)]}
        style |= {"linewidth": 1, "markersize": 5}
        if method == "shapley":
            style = {"color": "black", "linewidth": 2}
            _draw_interval(axis, rows, "0.6")
        axis.plot(rows["n_removed"], 100 * rows["accuracy"], label=label, **style)
    label = "random filters: mean and range"
    _draw_random(axis, curve, {"color": "0.5", "linewidth": 0.8, "label": label})


def _draw_score(axis, curve, label, number):
    """One of several scores: by value, and by chance in a thin line."""
    colour, line = f"C{number}", LINES[number % len(LINES)]
    rows = curve[curve["method"] == "shapley"]
    style = {
        "color": colour,
        "linestyle": line,
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 4,
    }
    spacing = max(1, len(rows) // 8)
    axis.plot(
        rows["n_removed"],
        100 * rows["accuracy"],
        linewidth=2,
        label=label,
        markevery=spacing,
        **style,
    )
    _draw_interval(axis, rows, colour)
    _draw_random(axis, curve, {"color": colour, "linestyle": line, "linewidth": 0.8})


def _draw_interval(axis, rows, colour):
    low, high = 100 * rows["ci_low"], 100 * rows["ci_high"]
    axis.fill_between(rows["n_removed"], low, high, color=colour, alpha=0.2, linewidth=0)


def _draw_random(axis, curve, style):
    """Mean and range of the random orders of a curve, if there are any."""
    rows = curve[curve["method"].str.startswith("random ")]
    if len(rows):
        random = 100 * rows.groupby("n_removed")["accuracy"].agg(["mean", "min", "max"])
        axis.plot(random.index, random["mean"], **style)
        axis.fill_between(random.index, random["min"], random["max"], color="0.5", alpha=0.2)


def draw_shares(axis, values):
    """What share of the values' sum the highest filters hold. values: (n_filters,) float."""
    shares = np.cumsum(np.sort(values)[::-1]) / values.sum()
    axis.plot(100 * (1 + np.arange(len(values))) / len(values), 100 * shares, "k-")
    axis.axhline(100, color="0.6", linewidth=0.8)
    axis.set(
        title="how the values are shared",
        xlabel="filters of the highest values, % of all",
        ylabel="their share of the sum of all values, %",
        xscale="log",
    )
    axis.grid(alpha=0.3)


# ----------------------------------------------------------------------------- values


def value_bars(filters):
    """What to draw around values: (lowest and highest ends (2, n) float, what they are).

    Confidence intervals; standard errors where there are no intervals, or where half of them are
    wider than all values together; and no bars, "", where nothing is known.

    filters: DataFrame as for figures.value_plot.
    """
    values, columns = filters["shapley"].to_numpy(), filters.columns
    if {"ci_low", "ci_high"} <= set(columns):
        ends = filters[["ci_low", "ci_high"]].to_numpy().T
        widths = (ends[1] - ends[0])[~np.isnan(ends[0])]
        if len(widths) and np.median(widths) < np.ptp(values):
            return ends, "confidence intervals"
    if "standard_error" in columns and filters["standard_error"].notna().any():
        errors = filters["standard_error"].to_numpy()
        return np.stack([values - errors, values + errors]), "one standard error"
    return np.stack([values, values]), ""


def draw_values(axis, filters, removed, bar):
    """All values, sorted, with their intervals or errors, and whose sign is certified.

    Args:
        axis: matplotlib axis.
        filters: DataFrame as for figures.value_plot, sorted by value, with sign, bar_low and
            bar_high.
        removed: (n,) int, the numbers of the removed filters.
        bar: str, what the bars are; "": there are none.
    """
    rank, values = np.arange(len(filters)), filters["shapley"].to_numpy()
    if bar:
        ends = filters["bar_low"], filters["bar_high"]
        axis.vlines(rank, *ends, color="0.8", linewidth=0.4, label=bar)
    axis.plot(rank, values, ".", color="0.3", markersize=2, label="value")
    for name, (marker, color) in SIGNS.items():
        rows = filters["sign"].to_numpy() == name
        if rows.any():
            style = {"color": color, "markersize": 7, "linestyle": "none"}
            axis.plot(rank[rows], values[rows], marker, label=f"certified {name}", **style)
    gone = filters.index.isin(removed)
    axis.plot(rank[gone], values[gone], "kx", markersize=4, label="removed")
    axis.axhline(0, color="0.6", linewidth=0.8)
    margin = 0.1 * np.ptp(values) or 1.0  # they may all be 0
    axis.set(
        title=f"{(values < 0).sum():,} of {len(values):,} values are negative",
        xlabel="filters, sorted by value",
        ylabel="Shapley value (difference in V)",
        ylim=(values.min() - margin, values.max() + margin),
    )
    axis.legend(fontsize=8, loc="upper left")
    axis.grid(alpha=0.3)


def draw_named_values(axis, filters, removed, title):
    """A few filters by name, with values and bars; the first row on top.

    Arguments as in draw_values; removed filters are crosses, certified signs triangles.
    """
    heights, values = np.arange(len(filters)), filters["shapley"].to_numpy()
    gone, sign = filters.index.isin(removed), filters["sign"].to_numpy()
    ends = [filters[name].fillna(filters["shapley"]) for name in ("bar_low", "bar_high")]
    axis.hlines(heights, *ends, color="0.4", linewidth=0.8)
    axis.plot(values[~gone], heights[~gone], "o", color="black", markerfacecolor="white")
    for name, (marker, color) in SIGNS.items():
        axis.plot(values[sign == name], heights[sign == name], marker, color=color, markersize=9)
    axis.plot(values[gone], heights[gone], "x", color="black", markersize=5)
    names = [f"{layer}[{channel}]" for layer, channel in zip(filters["layer"], filters["channel"])]
    axis.set_yticks(heights, names, fontsize=SMALL)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("Shapley value", fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.invert_yaxis()
    axis.axvline(0, color="0.6", linewidth=0.8)
    axis.grid(axis="x", alpha=0.3)


def draw_race(axis, races, k, which):
    """Filters in each state of the bandit, against evaluations. Arguments as in race_plot."""
    lines = {
        "active": ("still sampled", "-", "black"),
        "ruled_out": ("ruled out", "--", "0.5"),
        "certified": (f"certified to be among the {k} {which}", ":", "C0"),
    }
    for column, (label, style, color) in lines.items():
        for race in races:
            drawn = (race["evaluations"], race[column], style)
            look = {"marker": ".", "markersize": 3}  # one look alone would be no line
            axis.step(*drawn, where="post", label=label, color=color, **look)
    axis.set(
        xlabel="evaluations of V",
        ylabel="filters",
        yscale="symlog",
        xlim=(0, max(race["evaluations"].max() for race in races)),
        ylim=(0, None),
        title="the race: decided filters are sampled no more",
    )
    axis.grid(alpha=0.3)


def draw_layers(axis, layers, removed):
    """How many filters of each layer were removed: the mean over trainings, and their range.

    Args:
        axis: matplotlib axis.
        layers: list of n_filters str.
        removed: for each training a list of filters, int.
    """
    names, layers = list(dict.fromkeys(layers)), np.array(layers)
    counts = []
    for filters in removed:
        gone = layers[list(filters)]
        counts.append([(gone == name).sum() for name in names])
    counts = np.array(counts)
    mean = counts.mean(0)
    errors = None if len(removed) == 1 else [mean - counts.min(0), counts.max(0) - mean]
    axis.barh(range(len(names)), mean, color="0.75", edgecolor="black", xerr=errors, capsize=2)
    trainings = f", mean and range of {len(removed)} trainings" if len(removed) > 1 else ""
    axis.set(title="removed filters by layer", xlabel=f"filters removed{trainings}")
    axis.set_yticks(range(len(names)), names, fontsize=SMALL)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlim(left=0)
    finish_axis(axis)
