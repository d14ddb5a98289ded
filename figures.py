"""The figures of eval.py and of the README, from records; legible in grey."""

import numpy as np

from datasets import GROUP_NAMES

# What is compared; "... and threshold" besides.
METHODS = {"nothing": "nothing removed", "shapley": "lowest values removed", "random": "random filters removed",
           "l2_norm": "smallest weights removed", "mean_activation": "least active removed",
           "first_order": "gradient x activation", "leave_one_out": "leave-one-out", "greedy_guess": "greedy by gradient",
           "greedy": "greedy removal", "finetune_head": "head fine-tuned", "finetune": "all fine-tuned"}
LINES = ("-", "--", "-.", ":")
MARKERS = "osv^D<>Pd*X"


def label(method, which="lowest"):
    """A method's name in tables and figures. which: the values that go first."""
    name, plus, _ = method.partition("+")
    if name == "threshold":
        return "threshold shifted"
    if which == "highest" and name in ("shapley", "l2_norm", "mean_activation"):
        return {"shapley": "highest values removed", "l2_norm": "largest weights removed", "mean_activation": "most active removed"}[name]
    return METHODS.get(name, name) + (" and threshold" if plus else "")


def score(split, group):
    """What is told of an evaluation other than of faces: its name in tables and figures."""
    if split != "report":
        return {"attack": "success of the attack", "black box": "success of the black-box attack", "fresh attack": "success of a fresh attack",
                "no attack": "unattacked, taken for the target"}[split]
    return {"all": "accuracy", "others": "accuracy on the other classes"}.get(group, f"recall of {group.removeprefix('class ')}")


def curves(runs, chosen, split):
    """Accuracy of each group as filters go by value: as they are, and with the threshold that the choosing set then wants.

    runs: an eval.csv for each training; chosen: {method: the mean number of filters removed}. Lines are means over runs, bands their range; of one run, Wilson intervals.
    """
    figure, axes = _panels(2)
    for axis, method in zip(axes, ("shapley", "shapley+threshold")):
        for line, name in zip(LINES, GROUP_NAMES):
            steps, accuracy, low, high = _curve(runs, method, split, name)
            axis.plot(steps, accuracy, line, label=name)
            axis.fill_between(steps, low, high, alpha=0.15)
        steps, accuracy, *_ = _curve(runs, method, "celeba", "all")
        axis.plot(steps, accuracy, color="black", linewidth=0.8, marker=".", markersize=3, label="CelebA test")
        axis.axvline(chosen[method], color="black", linewidth=0.8)
        axis.annotate(" chosen", (chosen[method], 0.96), xycoords=("data", "axes fraction"))
        axis.set(title=label(method), xlabel="filters removed, most negative first")
    axes[0].set(ylabel=_ylabel(split))
    return _finished(figure, axes)


def rivals(runs, split):
    """Balanced accuracy as filters go, by value and by its rivals; means over runs, and the range of random orders."""
    figure, axes = _panels(2)
    methods = runs[0]["method"].unique()
    for axis, ending, title in zip(axes, ("", "+threshold"), ("filters removed", "filters removed and threshold shifted")):
        drawn = [name for name in methods if name.endswith("+threshold") == bool(ending) and name.partition("+")[0] not in (
            "finetune", "finetune_head")]
        random = [_curve([run], name, split, "balanced")[:2] for run in runs for name in drawn if name.startswith("random")]
        if random:
            length = min(len(steps) for steps, _ in random)
            accuracy = np.array([some[:length] for _, some in random])
            axis.fill_between(random[0][0][:length], accuracy.min(0), accuracy.max(0), color="0.85",
                              label=f"random filters, range of {len(random)}")
        for number, name in enumerate(some for some in drawn if not some.startswith("random")):
            steps, accuracy, *_ = _curve(runs, name, split, "balanced")
            main = name.startswith("shapley")
            axis.plot(steps, accuracy, "k-" if main else LINES[number % 4], linewidth=2 if main else 1, label=label(name.removesuffix("+threshold")),
                      marker=MARKERS[number % len(MARKERS)], markersize=4, markevery=(number % 5, max(1, len(steps) // 8)))
        axis.set(title=title, xlabel="filters removed")
    axes[0].set(ylabel=f"balanced {_ylabel(split)}")
    return _finished(figure, axes)


def responsible(curves, table, run, values, shares):
    """Scores as filters go; and of accuracy, how the values' sum is shared among filters.

    curves: an eval.csv; table: of its eval.json; run: mab.py's constants; values: (n_filters,); shares: those of them that are told, if any.
    """
    figure, axes = _panels(1 + bool(shares), sharey=False)
    removals(axes[0], curves, table, run)
    if not shares:
        return figure
    shares = np.cumsum(np.sort(values)[::-1]) / values.sum()
    axes[1].plot(100 * (1 + np.arange(len(values))) / len(values), 100 * shares, "k-")
    axes[1].axhline(100, color="0.6", linewidth=0.8)
    axes[1].set(title="how the values are shared", xlabel="highest filters, % of all", ylabel="their share of the sum of all values, %", xscale="log")
    axes[1].grid(alpha=0.3)
    return figure


def several(runs):
    """One panel of removals each: runs are (curves, table, run), as there."""
    figure, axes = _panels(len(runs))
    for axis, run in zip(axes, runs):
        removals(axis, *run)
    return figure


def removals(axis, curves, table, run):
    """One panel: of one score all methods; of several, each as it goes by value and, in thin lines, by chance."""
    table = table[(table["split"] != "report") | (table["group"] != "all") | (run["CLASS"] == "")]
    scores = list(dict.fromkeys(zip(table["split"], table["group"])))
    for number, (split, group) in enumerate(scores):
        of_score = curves[(curves["split"] == split) & (curves["group"] == group)]
        random = of_score[of_score["method"].str.startswith("random ")].groupby("n_removed")["accuracy"].agg(["mean", "min", "max"]) * 100
        if split == "fresh attack":
            rows = table[table["split"] == split]
            axis.plot(rows["n_removed"], 100 * rows["value"], "k" + MARKERS[number % len(MARKERS)], label=score(split, group))
            continue
        colour = f"C{number}"
        for place, method in enumerate(dict.fromkeys(of_score["method"])):
            some = of_score[of_score["method"] == method]
            name = label(method, run["WHICH"]) if len(scores) == 1 else score(split, group)
            if method == "shapley":
                axis.plot(some["n_removed"], 100 * some["accuracy"], LINES[number % 4], linewidth=2, label=name,
                          color="k" if len(scores) == 1 else colour)
                axis.fill_between(some["n_removed"], 100 * some["ci_low"], 100 * some["ci_high"], color=colour, alpha=0.15)
            elif len(scores) == 1 and not method.startswith("random "):
                axis.plot(some["n_removed"], 100 * some["accuracy"], LINES[place % 4], linewidth=1, label=name,
                          marker=MARKERS[place % len(MARKERS)], markersize=4)
        if len(random):
            name = "random filters: mean and range" if len(scores) == 1 else None
            axis.plot(random.index, random["mean"], LINES[number % 4], color="0.5" if len(scores) == 1 else colour, linewidth=0.8, label=name)
            axis.fill_between(random.index, random["min"], random["max"], color="0.5", alpha=0.2)
    what = {"attack": "attack success - clean accuracy"}.get(run["MEASURE"], run["MEASURE"].replace("_", " "))
    axis.set(title="V: " + (f"recall of {run['CLASS']}" if run["CLASS"] else what), ylabel="%",
             xlabel=f"filters removed, {run['WHICH']} values first" + " (thin: random filters)" * (len(scores) > 1))
    _finished(axis.figure, [axis])
    if len(scores) > 3:  # it would cover what is drawn
        axis.figure.set_figwidth(1.6 * axis.figure.get_figwidth())
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def values(filters, removed):
    """The values, sorted; with their intervals; and in which layers the removed filters lie.

    filters: columns shapley, ci_low, ci_high, layer; removed: the numbers of those removed.
    """
    figure, axes = _panels(3, sharey=False)
    order = np.argsort(filters["shapley"], kind="stable").to_numpy()
    sorted_filters, rank = filters.iloc[order], np.arange(len(filters))
    gone = np.isin(order, removed)
    axes[0].plot(rank[~gone], sorted_filters["shapley"][~gone], ".", color="0.6", markersize=3, label="kept")
    axes[0].plot(rank[gone], sorted_filters["shapley"][gone], "kx", label="removed")
    axes[0].set(title=f"{(filters['shapley'] < 0).sum()} of {len(filters)} values are negative", ylabel="Shapley value")
    axes[1].fill_between(rank, sorted_filters["ci_low"], sorted_filters["ci_high"], color="0.8", label="interval, holds for all at once")
    axes[1].plot(rank, sorted_filters["shapley"], "k-", linewidth=1, label="value")
    axes[1].set(title="with intervals")
    for axis in axes[:2]:
        axis.set(xlabel="filters, sorted by value")
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    layers(axes[2], filters["layer"].tolist(), [removed])
    return figure


def removed_by_layer(layer_of, removed):
    """Where the removed filters of several trainings lie. layer_of: (n_filters,) names; removed: a list of filters for each."""
    figure, (axis,) = _panels(1)
    layers(axis, layer_of, removed)
    return figure


def layers(axis, layer_of, removed):
    """Draw how many filters of each layer were removed: the mean over trainings, and their range."""
    names = list(dict.fromkeys(layer_of))
    layer_of = np.array(layer_of)
    counts = np.array([[(layer_of[list(some)] == name).sum() for name in names] for some in removed])
    mean = counts.mean(0)
    axis.barh(range(len(names)), mean, color="0.7", edgecolor="black",
              xerr=None if len(removed) == 1 else [mean - counts.min(0), counts.max(0) - mean])
    axis.set(title="removed filters by layer", xlabel="filters removed", yticks=range(len(names)))
    axis.set_yticklabels(names, fontsize=6)
    axis.invert_yaxis()
    axis.grid(alpha=0.3)


def faces(images, captions):
    """Faces (K, S, S, 3) uint8, each under its caption."""
    from matplotlib.figure import Figure

    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2.4 * columns, 3 * rows), layout="constrained")
    for axis, image, caption in zip(figure.subplots(rows, columns, squeeze=False).flat, images, captions):
        axis.imshow(image)
        axis.set_title(caption, fontsize=8)
    for axis in figure.axes:
        axis.axis("off")
    return figure


def filter_title(row):
    """A filter's layer, value and interval: row of filters.csv."""
    interval = "" if np.isnan(row["ci_low"]) else f" ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})"
    return f"{row['layer']}[{row['channel']}], value {row['shapley']:+.4f}{interval}"


def features(pictures, images, labels, rows):
    """A row a filter: the picture that excites it most (F, S, S, 3), then the images that activate it most (F, K, S, S, 3), with their labels.

    rows: of filters.csv, in the same order.
    """
    from matplotlib.figure import Figure

    columns = 1 + images.shape[1]
    figure = Figure(figsize=(1.3 * columns, 1.6 * len(rows) + 0.3), layout="constrained")
    for part, picture, some, names, (_, row) in zip(figure.subfigures(len(rows), 1, squeeze=False)[:, 0], pictures, images, labels, rows.iterrows()):
        part.suptitle(filter_title(row), fontsize=8, x=0.02, ha="left")
        for number, (axis, image) in enumerate(zip(part.subplots(1, columns), [picture, *some])):
            axis.imshow(image)
            axis.set_xlabel("maximised" if number == 0 else names[number - 1], fontsize=7)
            axis.set(xticks=[], yticks=[])
    return figure


def _panels(number, sharey=True):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * number, 4.2), layout="constrained")
    return figure, figure.subplots(1, number, sharey=sharey, squeeze=False)[0]


def _curve(runs, method, split, group):
    """Steps, and accuracy in %: of one run with its interval, of several their mean, lowest and highest.

    Runs may end at different steps: then as far as the shortest goes.
    """
    found = [run[(run["method"] == method) & (run["split"] == split) & (run["group"] == group)] for run in runs]
    length = min(map(len, found))
    steps = found[0]["n_removed"].to_numpy()[:length]
    if len(found) == 1:
        return steps, *100 * found[0][["accuracy", "ci_low", "ci_high"]].to_numpy().T
    accuracy = 100 * np.array([some["accuracy"].to_numpy()[:length] for some in found])
    return steps, accuracy.mean(0), accuracy.min(0), accuracy.max(0)


def _ylabel(split):
    return f"accuracy in %, FairFace {'report' if split == 'report' else 'choosing'} set"


def _finished(figure, axes):
    for axis in axes:
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    return figure
