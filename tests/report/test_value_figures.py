"""Figures of values, of the bandit's race, and of the layers of removed filters."""

import numpy as np
import pandas as pd
import pytest

from report import figures, panels
from report.values import signs
from tests.report.drawn import check_readable, line, names_on


def filter_table(n=30, **columns):
    values = np.random.default_rng(0).permutation(np.linspace(-1, 2, n))
    layers = ["first"] * (n // 2) + ["second"] * (n - n // 2)
    table = {"shapley": values, "layer": layers, "channel": np.arange(n)}
    return pd.DataFrame({**table, **columns}, index=np.arange(n) + 100)


def marks(axis):
    """The points of each marker: {marker: [(x, y), ...]}."""
    points = {}
    for drawn in axis.get_lines():
        points.setdefault(drawn.get_marker(), []).extend(zip(drawn.get_xdata(), drawn.get_ydata()))
    return points


def bars(axis):
    """Both ends of each horizontal bar, (n, 2) float, from the top."""
    return np.array([segment[:, 0] for segment in axis.collections[0].get_segments()])


def test_value_plot():
    errors = np.full(30, 0.25)
    errors[3] = np.nan
    filters = filter_table(standard_error=errors)
    by_value = filters.sort_values("shapley", ascending=False)
    removed = by_value.index[[-1, -2]].to_numpy()
    figure = figures.value_plot(filters, removed)
    check_readable(figure)
    values, highest, lowest, layers = figure.axes
    assert values.get_title() == "10 of 30 values are negative"
    assert line(values, "removed").get_ydata().tolist() == sorted(by_value["shapley"])[:2]
    assert line(values, "value").get_ydata().tolist() == sorted(by_value["shapley"])
    named = [f"{row.layer}[{row.channel}]" for row in by_value.itertuples()]
    assert names_on(highest) == named[:10] and names_on(lowest) == named[-10:]
    marked = marks(lowest)
    assert marked["x"] == list(zip(by_value["shapley"][-2:], (8, 9)))  # removed
    assert marked["o"] == list(zip(by_value["shapley"][-10:-2], range(8)))
    widths = np.diff(bars(highest), axis=1)[:, 0]
    expected = 2 * by_value["standard_error"].fillna(0)[:10]
    assert widths == pytest.approx(expected.to_numpy())
    assert highest.get_title() == "the 10 highest (bars: one standard error)"
    assert names_on(layers) == ["first", "second"]
    counts = [bar.get_width() for bar in layers.patches]
    assert sum(counts) == 2 and not {"^", "v"} & marks(values).keys()
    assert counts[0] == (filters.loc[removed, "layer"] == "first").sum()


@pytest.mark.parametrize("columns", [{}, {"standard_error": np.nan}])
def test_value_plot_without_standard_errors(columns):
    figure = figures.value_plot(filter_table(n=6, **columns), [])
    assert check_readable(figure) == ["value", "removed"]
    values, highest, *_ = figure.axes
    assert not values.collections and highest.get_title() == "the 6 highest"
    assert (np.diff(bars(highest), axis=1) == 0).all()


def test_value_plot_with_intervals_and_certified_signs():
    """One filter was removed by an earlier stage, so its interval is not known."""
    filters = filter_table(standard_error=0.25).sort_values("shapley")
    filters["ci_low"] = filters["shapley"] - 0.45
    filters["ci_high"] = filters["shapley"] + 0.55
    gone = filters.index[1]
    filters.loc[gone, ["ci_low", "ci_high"]] = np.nan
    filters["sign"] = signs(filters["ci_low"], filters["ci_high"], "sequence")
    figure = figures.value_plot(filters.sort_index(), [gone])
    legend = ["confidence intervals", "value", "certified helpful", "certified harmful", "removed"]
    assert check_readable(figure) == legend
    values, highest, lowest, _ = figure.axes
    by_rank = list(enumerate(filters["shapley"]))
    marked = marks(values)
    assert marked["^"] == [(rank, value) for rank, value in by_rank if value > 0.45]
    assert marked["v"] == [(rank, value) for rank, value in by_rank if value < -0.55 and rank != 1]
    assert marked["x"] == [by_rank[1]] and len(marked["v"]) == 4 and len(marked["^"]) == 15
    assert lowest.get_title() == "the 10 lowest (bars: confidence intervals)"
    assert marks(lowest)["v"] == list(zip(filters["shapley"].iloc[[4, 3, 2, 0]], (5, 6, 7, 9)))
    assert len(marks(highest)["^"]) == 10 and not marks(highest)["v"]
    upper = filters["ci_high"].to_numpy()
    np.testing.assert_allclose(bars(highest)[:, 1], upper[:-11:-1])
    np.testing.assert_allclose(bars(lowest)[[7, 8, 9], 1], [upper[2], by_rank[1][1], upper[0]])
    segments = values.collections[0].get_segments()
    heights = [segment[:, 1].tolist() for segment in segments if len(segment)]
    known = filters[["ci_low", "ci_high"]].dropna()
    assert [ends for ends in heights if not np.isnan(ends).any()] == known.to_numpy().tolist()


def test_signs_that_are_not_certified_have_no_marks():
    filters = filter_table(ci_low=-0.5, ci_high=0.5)
    figure = figures.value_plot(filters, [])
    assert check_readable(figure) == ["confidence intervals", "value", "removed"]
    figure = figures.value_plot(filters.assign(sign="harmful"), [])
    assert "certified harmful" in check_readable(figure)
    assert "certified helpful" not in check_readable(figure)


def test_bars_without_known_intervals_are_standard_errors():
    filters = filter_table(standard_error=0.25, ci_low=np.nan, ci_high=np.nan)
    assert panels.value_bars(filters)[1] == "one standard error"


def test_bars_are_intervals_if_half_of_them_are_narrower_than_all_values_together():
    """Values from -1 to 2, so 3 is the limit."""
    width = np.where(np.arange(31) < 16, 2.9, 99.0)  # 16 of 31
    filters = filter_table(n=31, standard_error=0.25)
    filters["ci_low"], filters["ci_high"] = filters["shapley"] - width, filters["shapley"]
    ends, name = panels.value_bars(filters)
    assert name == "confidence intervals" and ends.shape == (2, 31)
    assert ends.tolist() == [filters["ci_low"].tolist(), filters["ci_high"].tolist()]
    filters.loc[100, "ci_low"] = filters.loc[100, "shapley"] - 99  # now 16 are wider
    ends, name = panels.value_bars(filters)
    assert name == "one standard error"
    assert ends.tolist() == [(filters["shapley"] + add).tolist() for add in (-0.25, 0.25)]
    filters.loc[101, ["ci_low", "ci_high"]] = np.nan  # half of those that are known
    filters.loc[120:122, ["ci_low", "ci_high"]] = np.nan
    assert panels.value_bars(filters)[1] == "confidence intervals"


def test_bars_without_intervals():
    values = filter_table()["shapley"].tolist()
    for columns in ({}, {"standard_error": np.nan}, {"ci_low": -9.0, "ci_high": 9.0}):
        ends, name = panels.value_bars(filter_table(**columns))
        assert name == "" and ends.tolist() == [values, values]
    errors = np.full(30, 0.25)
    errors[3] = np.nan
    ends, name = panels.value_bars(filter_table(standard_error=errors))
    assert name == "one standard error"
    assert np.flatnonzero(np.isnan(ends).any(0)).tolist() == [3]
    assert (ends[1] - ends[0])[4:].tolist() == pytest.approx([0.5] * 26)


def test_race_plot():
    """A step at each look; what the title and the legend say can be read."""
    race = pd.DataFrame(
        {
            "rounds": [12, 24, 36],
            "evaluations": [1000, 2000, 2500],
            "active": [17216, 900, 30],
            "certified": [0, 10, 20],
            "ruled_out": [0, 16306, 17166],
        }
    )
    figure = figures.race_plot([race], 50, "lowest")
    names = ["still sampled", "ruled out", "certified to be among the 50 lowest"]
    assert check_readable(figure) == names
    (axis,) = figure.axes
    styles = set()
    for name, column in zip(names, ("active", "ruled_out", "certified")):
        drawn = line(axis, name)
        assert drawn.get_drawstyle() == "steps-post"
        assert drawn.get_xdata().tolist() == race["evaluations"].tolist()
        assert drawn.get_ydata().tolist() == race[column].tolist()
        styles.add(drawn.get_linestyle())
    assert len(styles) == 3  # they differ without colour
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("evaluations of V", "filters")
    assert axis.get_xlim() == (0, 2500) and axis.get_ylim()[0] == 0 < 17216 < axis.get_ylim()[1]
    assert axis.get_yscale() == "symlog"  # 0 has a place, and few filters beside thousands
    figure = figures.race_plot([race, race.head(2)], 100, "highest")
    assert check_readable(figure)[2] == "certified to be among the 100 highest"
    assert len(figure.axes[0].lines) == 6


@pytest.mark.filterwarnings("error")
def test_value_plot_of_equal_values():
    """As after rounds that were all truncated; without a warning on the user's screen."""
    figure = figures.value_plot(filter_table().assign(shapley=0.0), [])
    check_readable(figure)
    low, high = figure.axes[0].get_ylim()
    assert low < 0 < high


def test_value_plot_of_many_layers():
    """Names of layers stay apart."""
    filters = filter_table(n=90, layer=[f"layer {number}" for number in range(90)])
    figure = figures.value_plot(filters, [100])
    check_readable(figure)
    assert figure.get_figheight() > 90 * 7 / 72


def test_layer_plot():
    """Means over trainings, and their range."""
    figure = figures.layer_plot(["a", "a", "b", "b", "b", "c"], [[0, 1, 2], [2, 3], [0, 2]])
    check_readable(figure)
    (axis,) = figure.axes
    assert names_on(axis) == ["a", "b", "c"]
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([1, 4 / 3, 0])
    assert axis.get_xlabel() == "filters removed, mean and range of 3 trainings"
    ends = [segment[:, 0].tolist() for segment in axis.collections[0].get_segments()]
    assert ends == [pytest.approx(pair) for pair in ([0, 2], [1, 2], [0, 0])]
    assert figures.layer_plot(["a"], [[0]]).axes[0].get_xlabel() == "filters removed"
