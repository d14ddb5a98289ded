"""The figure and the words of shortcut.py, from its record."""

import numpy as np
from matplotlib.figure import Figure

from report import panels
from report.metrics import wilson

CONDITIONS = {  # of the mark on an image: what the figure calls it
    "same": "mark of its class",
    "inverted": "mark of another class",
    "random": "mark of any class",
    "absent": "no mark",
}
ROW_HEIGHT = 1.75  # inches of a row of example images


def pack_bits(bits):
    """(N,) bool as text of N / 4 hexadecimal digits, for a record."""
    return np.packbits(bits).tobytes().hex()


def unpack_bits(text, number):
    """What `pack_bits` packed: (number,) bool."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))[:number].astype(bool)


def result_text(name, result, n_images):
    """A line on a repair: accuracy under each condition, in % with 95 % intervals.

    Args:
        name: str, of the repair.
        result: dict, as in shortcut.json.
        n_images: int, of each condition.
    """
    parts = []
    for condition in CONDITIONS:
        after = result["accuracy"][condition][result["chosen"]]
        low, high = wilson(round(after * n_images), n_images)
        parts.append(f"{condition} {100 * after:.1f} ({100 * low:.1f} to {100 * high:.1f})")
    text = f"{name}, {result['steps'][result['chosen']]}: {', '.join(parts)}"
    if result["response_of_removed"]:
        share = result["response_of_removed"]["margin"]
        text += f"; the removed follow the mark more than {share:.0%} of all filters do"
    return text


def shortcut_figure(record, examples, maps):
    """What the mark does to the network, and what a repair makes of it.

    Args:
        record: dict, shortcut.json.
        examples: list of rows, each a list of (image (S, S, 3) uint8, answer before, answer after,
            whether each is right), one for each condition shown: same, inverted, absent.
        maps: list of (name, (h, w) float array): where the outputs of the filters that go first
            change when the mark is swapped.

    Returns:
        matplotlib Figure.
    """
    height = panels.PANEL[1] + ROW_HEIGHT * len(examples)
    figure = Figure(figsize=(12, height), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(ROW_HEIGHT * len(examples), 4.2))
    _draw_examples(upper, examples, maps)
    path, repairs = lower.subplots(1, 2, width_ratios=(1, 1.3))
    _draw_path(path, record)
    _draw_repairs(repairs, record)
    return figure


def _draw_examples(figure, examples, maps):
    """Images with the network's answers before and after; beside them, where filters look."""
    columns = len(examples[0]) + 1
    grid = figure.subplots(len(examples), columns, squeeze=False)
    for row, images in zip(grid, examples):
        for axis, (condition, image, before, after) in zip(row, images):
            axis.imshow(image)
            axis.set_xlabel(f"before: {before}\nafter: {after}", fontsize=panels.SMALL)
            axis.set_title(CONDITIONS[condition], fontsize=8)
    for axis, (name, image) in zip(grid[:, -1], maps):
        axis.imshow(image, cmap="gray_r", vmin=0)
        axis.set_title(f"{name} looks here", fontsize=8)
    for axis in grid.flat:
        axis.set(xticks=[], yticks=[])
        if not axis.images:
            axis.axis("off")


def _draw_path(axis, record):
    """Accuracy under each condition as the filters go, of the first repair that removes any."""
    name, result = next(
        (name, result) for name, result in record["repairs"].items() if result["removed"]
    )
    for (condition, label), line in zip(CONDITIONS.items(), panels.LINES):
        accuracy = 100 * np.array(result["accuracy"][condition], dtype=float)
        axis.plot(accuracy, line, label=label)
    panels.mark_chosen(axis, result["chosen"])
    axis.set(xlabel=f"filters removed ({name})", ylabel="accuracy, %", ylim=(-3, 103))
    axis.legend(fontsize=8)
    panels.finish_axis(axis)


def _draw_repairs(axis, record):
    """Accuracy of all repairs with the mark inverted and absent, with 95 % intervals."""
    repairs, n_images = record["repairs"], record["images"]
    scores = []
    for answers in [record["right"], *(result["right"] for result in repairs.values())]:
        packed = (answers[condition] for condition in ("inverted", "absent"))
        hits = [unpack_bits(text, n_images).sum() for text in packed]
        scores.append([(number / n_images, *wilson(number, n_images)) for number in hits])
    _draw_intervals(axis, ["no repair", *repairs], np.array(scores))


def trainings_figure(curves, scores):
    """Curves as filters go, and all repairs, over several trainings; a row for each strength.

    Args:
        curves: {strength: {condition: (trainings, steps) accuracies}}.
        scores: {strength: {repair: [(value, low, high) with the mark inverted, and absent]}}.

    Returns:
        matplotlib Figure.
    """
    figure = Figure(figsize=(12, 4.4 * len(curves)), layout="constrained")
    grid = figure.subplots(len(curves), 2, width_ratios=(1, 1.3), squeeze=False)
    for (path, repairs), strength in zip(grid, curves):
        for (condition, label), line in zip(CONDITIONS.items(), panels.LINES):
            accuracy = 100 * curves[strength][condition]
            path.plot(accuracy.mean(0), line, label=label)
            steps, (low, high) = range(accuracy.shape[1]), (accuracy.min(0), accuracy.max(0))
            path.fill_between(steps, low, high, color="0.5", alpha=0.15, linewidth=0)
        title = f"the mark is that of the label in {100 * strength:g} % of the training images"
        path.set(xlabel="filters removed", ylabel="accuracy, %", ylim=(-3, 103))
        path.set_title(title, fontsize=9, loc="left")
        path.legend(fontsize=8)
        panels.finish_axis(path)
        _draw_intervals(repairs, list(scores[strength]), np.array(list(scores[strength].values())))
    return figure


def _draw_intervals(axis, names, scores):
    """Accuracies of repairs with the mark inverted and absent, and their 95 % intervals.

    scores: (repairs, 2, 3) float: value, low, high.
    """
    for number, (condition, marker) in enumerate((("inverted", "o"), ("absent", "s"))):
        values, low, high = 100 * scores[:, number].T
        places = np.arange(len(names)) + (0.12 if number else -0.12)
        axis.hlines(places, low, high, color="0.4", linewidth=0.8)
        fill = {"color": "black", "markerfacecolor": "black" if number else "white"}
        axis.plot(values, places, marker, label=CONDITIONS[condition], **fill)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set(xlabel="accuracy, %, with 95 % intervals", xlim=(-3, 103))
    axis.invert_yaxis()
    axis.legend(fontsize=8)
    axis.grid(axis="x", alpha=0.3)
