"""The table and the figure of the league of estimators, from the records of tools.league."""

import glob
import os

from common.records import load_json

import numpy as np
import pandas as pd

from report import panels
from tools.recorded import markdown_table

VARIANTS = {"whole": "the whole game", "truncated": "truncated orders"}
NO_ESTIMATE = "-"


def league_runs(folder):
    """The records of all runs of a league, a list of dicts; empty if there is no league."""
    runs = []
    for variant in VARIANTS:
        for path in sorted(glob.glob(f"{folder}/league/{variant}/*.json")):
            runs.append(load_json(path, "tools.league"))
    return runs


def league_table(folder):
    """Estimators at the last number of evaluations, and after the same time; the best first."""
    runs = league_runs(folder)
    if not runs:
        return f"No record in {folder}/league/ yet; `python -m tools.league` makes one."
    rows = []
    for variant, name in VARIANTS.items():
        by_method = {}
        for run in runs:
            if run["variant"] == variant:
                by_method.setdefault(run["method"], []).append(run)
        if by_method:
            rows += [[name, *cells] for cells in _variant_rows(list(by_method.values()))]
    header = [
        "game",
        "estimator",
        "seeds",
        "evaluations, or equivalent",
        "squared error x 1e9, most extreme (seeds)",
        "squared error x 1e9, all",
        "found of the 20 most extreme",
        "found of the most extreme",
        "squared error x 1e9, most extreme, after the same time",
        "seconds for 1,000 evaluations",
    ]
    return markdown_table(header, rows)


def _variant_rows(methods):
    """Rows of one variant. methods: for each estimator its runs, a list of lists of records."""
    with_points = [[run for run in runs if run["points"]] for runs in methods]
    played = [runs for runs in with_points if runs]
    time_limit = common_time(played)
    played.sort(key=lambda runs: np.mean([run["points"][-1]["error_top"] for run in runs]))
    rows = [_played_row(runs, time_limit) for runs in played]
    for runs in methods:
        if not any(run["points"] for run in runs):
            run = runs[0]
            memory = f", {run['run_peak_memory_gib']} GiB" if run["run_peak_memory_gib"] else ""
            reason = f"{run['failure']} ({run['seconds']:,.0f} s{memory})"
            rows.append([run["label"], len(runs), NO_ESTIMATE, reason, *[NO_ESTIMATE] * 5])
    facts = methods[0][0]["reference"]
    for name, key in (("0 for all players", "square"), ("the reference itself", "error")):
        cells = [
            NO_ESTIMATE,
            NO_ESTIMATE,
            *(_nano(facts[f"{key}_{end}"]) for end in ("top", "all")),
        ]
        rows.append([name, *cells, *[NO_ESTIMATE] * 4])
    return rows


def common_time(played):
    """The seconds after which estimators are compared: those of the first that is through.

    Estimates that are one point do not count.
    """
    ends = []
    for runs in played:
        if all(len(run["points"]) > 1 for run in runs):
            ends.append(np.mean([run["points"][-1]["seconds"] for run in runs]))
    return min(ends, default=np.inf)


def error_after(points, seconds):
    """Squared error of the most extreme after so many seconds, interpolated; NaN before a point."""
    times = np.array([point["seconds"] for point in points])
    if seconds < times[0]:
        return np.nan
    errors = [point["error_top"] for point in points]
    return float(np.interp(np.log(seconds), np.log(times), errors))


def _played_row(runs, time_limit):
    last = pd.DataFrame([run["points"][-1] for run in runs])
    means, error = last.mean(), _nano(last["error_top"].mean())
    if len(runs) > 1:
        error += f" ({_nano(last['error_top'].min())} to {_nano(last['error_top'].max())})"
    in_time = np.mean([error_after(run["points"], time_limit) for run in runs])
    return [
        runs[0]["label"],
        len(runs),
        f"{means['evaluations']:,.0f}",
        error,
        _nano(means["error_all"]),
        f"{means['found_few']:.0%}",
        f"{means['found_top']:.0%}",
        NO_ESTIMATE if np.isnan(in_time) else _nano(in_time),
        f"{1000 * means['seconds'] / means['evaluations']:.1f}",
    ]


def _nano(error):
    """A squared error x 1e9 as text."""
    return f"{error * 1e9:,.0f}"


# ----------------------------------------------------------------------------- figure


def has_league(folder):
    """Whether a folder of records has a league."""
    return os.path.exists(f"{folder}/league/game.json")


def draw_league(folder):
    """Squared error of the most extreme players by evaluations: a panel for each variant.

    Lines are means over seeds, bands their range. Errors below the reference's own are not shown.
    """
    runs = league_runs(folder)
    variants = [name for name in VARIANTS if any(run["variant"] == name for run in runs)]
    figure, axes = panels.make_panels(len(variants))
    methods = list(dict.fromkeys(run["method"] for run in runs if run["points"]))
    for axis, variant in zip(axes, variants):
        for number, method in enumerate(methods):
            chosen = [run for run in runs if (run["variant"], run["method"]) == (variant, method)]
            _draw_curve(axis, [run for run in chosen if run["points"]], number)
        axis.set(title=VARIANTS[variant], xlabel="evaluations of V, or equivalent")
        axis.set(xscale="log", yscale="log")
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="mean squared error of\nthe most extreme values")
    panels.add_legend_below(figure, axes, 2)
    return figure


def _draw_curve(axis, runs, number):
    """One estimator: its mean over seeds, and the range. number: int, its style."""
    if not runs:
        return
    table = pd.DataFrame([point for run in runs for point in run["points"]])
    by_checkpoint = table.groupby("checkpoint")
    evaluations = by_checkpoint["evaluations"].mean()
    errors = by_checkpoint["error_top"].agg(["mean", "min", "max"]).where(lambda error: error > 0)
    style = {
        "linestyle": panels.LINES[number % len(panels.LINES)],
        "marker": panels.MARKERS[number % len(panels.MARKERS)],
        "markersize": 4,
        "color": f"C{number % 10}",
    }
    axis.plot(evaluations, errors["mean"], label=runs[0]["label"], **style)
    axis.fill_between(evaluations, errors["min"], errors["max"], alpha=0.15, color=style["color"])
