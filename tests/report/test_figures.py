"""What the figures show: their lines, names and marks; text that can be read, legends beside data.

Whether they look well a person must judge: tools/tables.py draws all of them from the records. Of
figures of values, see test_value_figures.py.
"""

import numpy as np
import pandas as pd
import pytest

from datasets import GROUP_NAMES
from report import figures, panels
from report.labels import group_label
from report.metrics import wilson
from tests.report.drawn import check_readable, line

DRAWN = {"fairface": "balanced drawings", "celeba": "unbalanced drawings"}
METHODS = ("shapley", "random 0", "random 1", "greedy", "finetune")


def run_of(methods=METHODS, steps=4, seed=0):
    """An eval.csv of faces, with random accuracies."""
    rng, rows = np.random.default_rng(seed), []
    for method in methods:
        for ending in ("", "+threshold"):
            for step in range(steps):
                for split, groups in (
                    ("report", [*GROUP_NAMES, "balanced", "worst"]),
                    ("celeba", ["all"]),
                ):
                    for group in groups:
                        accuracy = rng.random()
                        interval = (accuracy - 0.1, accuracy + 0.1)
                        rows.append((method + ending, step, split, group, accuracy, *interval))
    columns = ["method", "n_removed", "split", "group", "accuracy", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns)


# ----------------------------------------------------------------------------- curves


def test_one_curve_with_its_interval():
    run = run_of()
    steps, accuracy, low, high = panels.read_curve([run], "greedy", "report", "balanced")
    rows = run.query("method == 'greedy' and split == 'report' and group == 'balanced'")
    assert steps.tolist() == [0, 1, 2, 3]
    for values, name in ((accuracy, "accuracy"), (low, "ci_low"), (high, "ci_high")):
        assert values.tolist() == pytest.approx((100 * rows[name]).tolist())


def test_curve_of_several_runs_goes_as_far_as_the_shortest():
    runs = [run_of(seed=seed, steps=steps) for seed, steps in ((0, 4), (1, 3), (2, 6))]
    steps, mean, low, high = panels.read_curve(runs, "greedy", "celeba", "all")
    values = []
    for run in runs:
        rows = run.query("method == 'greedy' and split == 'celeba'")
        values.append(100 * rows["accuracy"].to_numpy()[:3])
    assert steps.tolist() == [0, 1, 2]
    assert mean == pytest.approx(np.mean(values, 0))
    assert (low == np.min(values, 0)).all() and (high == np.max(values, 0)).all()


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_frontier_curves(seeds):
    """Means over runs along each path, and of the chosen steps; no line where steps are apart."""
    runs = [run_of(seed=seed) for seed in seeds]
    methods = [f"{name}{end}" for name in METHODS for end in ("", "+threshold")]
    chosen = [dict.fromkeys(methods, 1 + seed) for seed in seeds]
    figure = figures.frontier_curves(runs, chosen, "report", labels={"shapley": "a name"})
    assert check_readable(figure) == [
        "a name",
        "random filters",
        "greedy removal",
        "all fine-tuned",
    ]
    for axis, end in zip(figure.axes, ("", "+threshold")):
        curves = []
        for run in runs:
            rows = run[run["method"] == f"greedy{end}"].set_index(["split", "group"])["accuracy"]
            curves.append(100 * np.stack([rows["celeba", "all"], rows["report", "worst"]]))
        drawn = line(axis, "greedy removal")
        np.testing.assert_allclose(drawn.get_data(), np.mean(curves, 0))
        assert drawn.get_linestyle() != "None"
        assert line(axis, "all fine-tuned").get_linestyle() == "None"
        point = axis.get_lines()[axis.get_lines().index(drawn) + 1]
        steps = [curve[:, 1 + seed] for curve, seed in zip(curves, seeds)]
        np.testing.assert_allclose(np.ravel(point.get_data()), np.mean(steps, 0))
    assert "worst group" in figure.axes[0].get_ylabel()
    assert figure.axes[0].get_xlabel() == "accuracy, % (CelebA test set)"


def test_repair_curves():
    run, chosen = run_of(), {"shapley": 2.0, "shapley+threshold": 1.25}
    figure = figures.repair_curves([run], chosen, "report")
    assert check_readable(figure) == [*map(group_label, GROUP_NAMES), "CelebA test set"]
    for axis, method in zip(figure.axes, chosen):
        rows = run.query("method == @method and group == 'black men'")
        drawn = line(axis, "Black men").get_ydata()
        assert drawn.tolist() == pytest.approx((100 * rows["accuracy"]).tolist())
        assert axis.get_xlabel() == "filters removed, most negative first"
        texts = [text.get_text() for text in axis.texts]
        assert texts == [f"chosen: {chosen[method]:g}"]
    assert figure.axes[0].get_title() == "lowest values removed"
    assert figure.axes[1].get_title() == "lowest values removed and threshold"
    assert figure.axes[0].get_ylabel() == "accuracy, %\n(FairFace report set)"
    named = figures.repair_curves([run], chosen, "report", labels={"shapley": "a name"})
    assert [axis.get_title() for axis in named.axes] == ["a name", "a name and threshold"]


def test_drawings_are_called_so():
    run, chosen = run_of(), {"shapley": 2.0, "shapley+threshold": 1.0}
    figure = figures.repair_curves([run], chosen, "report", DRAWN)
    assert check_readable(figure)[-1] == "unbalanced drawings test set"
    assert "(balanced drawings report set)" in figure.axes[0].get_ylabel()
    figure = figures.rival_curves([run], "report", DRAWN)
    assert "(balanced drawings report set)" in figure.axes[0].get_ylabel()


def test_rival_curves():
    """A line a method, the range of all random orders; fine-tuning has epochs, not filters."""
    runs = [run_of(seed=seed) for seed in range(2)]
    figure = figures.rival_curves(runs, "report")
    names = ["random filters, range of 4", "lowest values removed", "greedy removal"]
    assert check_readable(figure) == names
    named = figures.rival_curves(runs, "report", labels={"shapley": "a name"})
    assert check_readable(named) == [names[0], "a name", names[2]]
    assert figure.axes[0].get_ylabel() == "balanced accuracy, %\n(FairFace report set)"
    for axis, ending in zip(figure.axes, ("", "+threshold")):
        drawn = line(axis, "greedy removal").get_ydata()
        expected = panels.read_curve(runs, f"greedy{ending}", "report", "balanced")[1]
        assert drawn.tolist() == pytest.approx(expected.tolist())
        random = [
            panels.read_curve([run], f"random {index}{ending}", "report", "balanced")[1]
            for run in runs
            for index in range(2)
        ]
        (area,) = axis.collections
        heights = area.get_paths()[0].vertices[:, 1]
        assert heights.min() == pytest.approx(np.min(random))
        assert heights.max() == pytest.approx(np.max(random))
    assert len(figures.rival_curves([run_of(("shapley",))], "report").axes[0].collections) == 0


def test_lines_differ_without_colour():
    methods = ("shapley", *(f"rival {number}" for number in range(9)))
    axis = figures.rival_curves([run_of(methods)], "report").axes[0]
    styles = {(drawn.get_linestyle(), drawn.get_marker()) for drawn in axis.get_lines()}
    assert len(styles) == 10


# ----------------------------------------------------------------------------- other tasks


def removals(scores, methods=("shapley", "l2_norm", "random 0", "random 1"), **run):
    """An eval.csv and a table of another task; and a run."""
    rng, rows = np.random.default_rng(0), []
    for split, group in scores:
        for method in methods if split != "fresh attack" else ("shapley",):
            for step in (0, 2, 4):
                share = rng.random()
                low, high = wilson(100 * share, 100)
                rows.append((method, step, split, group, share, low, high))
    columns = ["method", "n_removed", "split", "group", "accuracy", "ci_low", "ci_high"]
    curves = pd.DataFrame(rows, columns=columns)
    table = curves.rename(columns={"accuracy": "value"})
    run = {"CLASS": "", "MEASURE": "accuracy", "WHICH": "highest", **run}
    return curves[curves["split"] != "fresh attack"], table, run


VALUES = np.array([4.0, -1.0, 3.0, 2.0])


def test_responsible_curves_of_one_score():
    figure = figures.responsible_curves(*removals([("report", "all")]), VALUES, {0.1: 0.5})
    assert check_readable(figure) == [
        "highest values removed", "largest weights removed", "random filters: mean and range"
    ]  # fmt: skip
    axis, shares = figure.axes
    assert axis.get_title() == "V: accuracy" and axis.get_ylabel() == "share of images, %"
    assert axis.get_xlabel() == "filters removed, highest values first"
    drawn = shares.get_lines()[0]
    assert drawn.get_xdata().tolist() == [25, 50, 75, 100]
    assert drawn.get_ydata().tolist() == pytest.approx([50, 87.5, 112.5, 100])
    one = figures.responsible_curves(*removals([("report", "all")]), VALUES, {})
    assert len(one.axes) == 1


def test_responsible_curves_of_an_attack():
    scores = [("report", "all"), ("attack", "success"), ("fresh attack", "success")]
    curves, table, run = removals(scores, MEASURE="attack")
    figure = figures.responsible_curves(curves, table, run, VALUES, {})
    assert check_readable(figure) == [
        "accuracy", "success of the attack", "success of a fresh attack"
    ]  # fmt: skip
    (axis,) = figure.axes
    assert axis.get_title() == "V: attack success - clean accuracy"
    assert axis.get_xlabel().endswith("highest values first (thin: random filters)")
    points = table.query("split == 'fresh attack'")["value"]
    drawn = line(axis, "success of a fresh attack")
    assert drawn.get_ydata().tolist() == pytest.approx((100 * points).tolist())
    assert drawn.get_linestyle() == "None"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_class_panels(number):
    """A panel for each class; the accuracy of all classes is not the subject there."""
    runs = []
    for name in range(number):
        scores = [("report", "all"), ("report", f"class {name}"), ("report", "others")]
        runs.append(removals(scores, CLASS=str(name)))
    figure = figures.class_panels(runs)
    legends = check_readable(figure)
    shown = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_title() for axis in shown] == [
        f"V: recall of {name}" for name in range(number)
    ]
    assert legends[:2] == ["recall of 0", "accuracy on the other classes"]
    assert len(legends) == 2 * number


def test_name_of_a_measure():
    _, table, run = removals([("report", "all")], MEASURE="soft_accuracy", WHICH="lowest")
    figure = figures.responsible_curves(*removals([("report", "all")])[:2], run, VALUES, {})
    assert figure.axes[0].get_title() == "V: soft accuracy"
    assert "lowest values first" in figure.axes[0].get_xlabel()


# ----------------------------------------------------------------------------- images


@pytest.mark.parametrize("number, shape", [(1, (1, 1)), (4, (1, 4)), (6, (2, 4))])
def test_face_grid(number, shape):
    images = np.zeros((number, 8, 8, 3), dtype=np.uint8)
    captions = [f"caption {index}" for index in range(number)]
    figure = figures.face_grid(images, captions)
    check_readable(figure)
    assert len(figure.axes) == shape[0] * shape[1]
    assert [axis.get_title() for axis in figure.axes if axis.images] == captions
    assert not any(axis.axison for axis in figure.axes)


ROW = {"layer": "conv", "channel": 3, "shapley": 0.01234, "ci_low": -0.5, "ci_high": 0.25}


def test_filter_title():
    assert figures.filter_title(ROW) == "conv[3], value +0.0123 (-0.500 to +0.250)"
    unknown = ROW | {"ci_low": np.nan, "ci_high": np.nan, "shapley": -1.0}
    assert figures.filter_title(unknown) == "conv[3], value -1.0000"


def test_feature_grid():
    pictures, images = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 3, 8, 8, 3), np.uint8)
    rows = pd.DataFrame([ROW, ROW | {"channel": 4}])
    figure = figures.feature_grid(pictures, images, [["a", "b", "c"]] * 2, rows)
    check_readable(figure)
    captions = [axis.get_xlabel() for axis in figure.axes]
    assert captions == ["maximised", "a", "b", "c"] * 2
    titles = [part.get_suptitle() for part in figure.subfigs]
    assert [title[:7] for title in titles] == ["conv[3]", "conv[4]"]
