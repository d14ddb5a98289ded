"""Tables on speed, samplers, intervals and what it takes to decide a set."""

import glob
import os

from common.records import load_csv, load_json

import numpy as np
import pandas as pd

from shapley.intervals import BOUNDS
from tools.recorded import markdown_table, standard_errors, valuation

SAMPLER_ORDER = ["paper", "shared", "guided"]
LONG_RUN = 40_000  # evaluations; two budgets were measured, about 18,000 and 65,000


def speed_table(folder):
    """The speed of one evaluation of V in short; a row a record, as in bench_table."""
    rows = []
    for bench in _benches(folder):
        batch = f"{bench['images']} of {bench['image_size']} px"
        times = [_time("plain_ms")(bench), _time("shared_ms")(bench)]
        pace = f"{1000 / bench['shared_ms']:.1f}"
        rows.append([bench["arch"], batch, *times, pace, _speedup_on("earlier_ms")(bench)])
    header = [
        "network",
        "images",
        "plain forward, ms",
        "evaluation of V, ms",
        "evaluations a second",
    ]
    return markdown_table([*header, "times as fast as the earlier way"], rows)


def bench_table(folder):
    """Milliseconds for one evaluation of V, each way; a column a record."""
    benches = _benches(folder)
    cells = {
        "the network as it is, all images at once": _time("plain_ms"),
        "the same, as many images at once as suits ours": _time_in_parts,
        "a masked forward for each coalition": _time("naive_ms"),
        "the earlier way: a new two-worker loader decodes the images, then a masked forward": _time(
            "earlier_ms"
        ),
        "**here**": lambda bench: f"**{_time('shared_ms')(bench)}**",
        "the same, for single removals from one coalition": _time("singles_ms"),
        "a guess of all filters' marginals at a coalition": _time("guess_ms"),
        "**evaluations a second**": lambda bench: f"**{1000 / bench['shared_ms']:.1f}**",
        "times as fast as a masked forward": _speedup_on("naive_ms"),
        "times as fast as the earlier way": _speedup_on("earlier_ms"),
        "share of the network after a removed filter": lambda bench: f"{bench['suffix_share']:.2f}",
        "time / (share x plain forward)": _relative("plain_ms"),
        "time / (share x plain forward in parts)": _relative("plain_in_parts_ms"),
    }
    for kind in benches[0]["spent"]:
        cells[f"share of the time: {kind}"] = _spent(kind)
    cells["device"] = lambda bench: f"{bench['device']}, {bench['threads']} threads"
    names = [
        f"{bench['arch']}, {bench['images']} images of {bench['image_size']} px"
        for bench in benches
    ]
    rows = [[label, *map(cell, benches)] for label, cell in cells.items()]
    return markdown_table(["ms for one evaluation of V", *names], rows)


def _benches(folder):
    """The folder's own bench.json, and those in its bench/."""
    paths = [f"{folder}/bench.json", *sorted(glob.glob(f"{folder}/bench/*/bench.json"))]
    return [load_json(path, "tools.bench") for path in paths]


def _time(way):
    """A function from a bench.json to the text of a time."""

    def cell(bench):
        if way not in bench:
            return "not timed"
        return f"{bench[way]:.{0 if bench[way] > 100 else 1}f}"

    return cell


def _time_in_parts(bench):
    return f"{_time('plain_in_parts_ms')(bench)} ({bench['images_at_once']} at once)"


def _speedup_on(way):
    """A function from a bench.json to how many times as fast as another way we are."""
    return lambda bench: f"{bench[way] / bench['shared_ms']:.0f}"


def _relative(way):
    """A function from a bench.json to our time as a multiple of share x another way's."""
    return lambda bench: f"{bench['shared_ms'] / bench['suffix_share'] / bench[way]:.2f}"


def _spent(kind):
    return lambda bench: f"{bench['spent'][kind]:.0%}"


def coverage_table(folder):
    """How often each interval missed on games with known values, and how wide it was at the end.

    Shares above the promised one are bold.
    """
    constants, table = _coverage(folder)
    games = table[table["value"].notna()]
    rows = []
    for (game, clip), results in games.groupby(["game", "clip"], sort=False, dropna=False):
        name = game.replace("_", " ") if pd.isna(clip) else f"... clipped to ±{clip:g}"
        cells = [name, f"{results['value'].iloc[0]:.2g}"]
        for missed, width in zip(results["missed"], results["width"]):
            cells.append(f"{_promised(missed, constants)}, {width:.4f}")
        rows.append(cells)
    header = [f"{constants['RUNS']:,} runs of {constants['ROUNDS']:,} rounds", "a player's value"]
    header += [f"{_bound_label(bound)}: missed, width" for bound in games["bound"].unique()]
    return markdown_table(header, rows)


def bandit_coverage_table(folder):
    """What whole runs of the bandit came to under each interval. As bold as coverage_table."""
    constants, table = _coverage(folder)
    rows = []
    for run in table[table["rounds"].notna()].to_dict("records"):
        name = run["game"] if pd.isna(run["clip"]) else f"... clipped to ±{run['clip']:g}"
        rows.append(
            [
                name,
                _bound_label(run["bound"]),
                _promised(run["missed"], constants),
                _promised(run["wrong"], constants),
                f"{run['certified']:.1f}",
                f"{run['decided']:.1%}",
                f"{run['rounds']:.0f}",
                f"{run['evaluations']:,.0f}",
            ]
        )
    header = [
        f"{constants['BANDIT_RUNS']:,} whole runs of {constants['BANDIT_ROUNDS']:,} rounds at most",
        "interval",
        "missed",
        "certified a player wrongly",
        f"certified players, of {constants['BANDIT_PLAYERS']}",
        "decided the set",
        "rounds",
        "evaluations",
    ]
    return markdown_table(header, rows)


def _coverage(folder):
    """The constants and the table of tools.coverage."""
    record = load_json(f"{folder}/coverage.json", "tools.coverage")
    return record["constants"], pd.DataFrame(record["table"])


def _promised(share, constants):
    """A share of runs as text, bold if it is above the promised one."""
    return f"**{share:.1%}**" if share > constants["DELTA"] else f"{share:.1%}"


def _bound_label(name):
    """A bound's name, and what it does not promise."""
    bound = BOUNDS[name]
    limits = [] if bound.proves else ["approximate"]
    limits += [] if bound.every_look else ["one look"]
    return f"{name} ({', '.join(limits)})" if limits else name


def sampler_table(folder):
    """How close samplers come to a long run, the reference, at about equal cost, over seeds.

    Cost is in evaluations of V; a guess of all marginals counts as the evaluations that take as
    long (tools.bench).
    """
    runs = sampler_runs(folder).groupby(["long", "sampler"])
    mean, seeds = runs.mean(), runs.size()
    low, high = runs["lowest"].min(), runs["lowest"].max()
    needed = mean[["lowest", "all"]].mul(mean["cost"], axis=0)  # cost to a given error
    rows = []
    for key in sorted(mean.index, key=lambda key: (key[0], SAMPLER_ORDER.index(key[1]))):
        row, saved = mean.loc[key], needed.loc[key[0], "paper"] / needed.loc[key]
        error = f"{row['lowest'] * 1e9:.0f}"
        if seeds[key] > 1:
            error += f" ({low[key] * 1e9:.0f} to {high[key] * 1e9:.0f})"
        precision = [f"{row['all'] * 1e9:.0f}", f"{row['ranks']:.2f}"]
        ranking = [f"{row['hits 20']:.1f}", f"{row['hits 100']:.1f}"]
        savings = [f"{saved['lowest']:.1f}", f"{saved['all']:.1f}"]
        label = f"{key[1]}, {row['rounds']:.0f} rounds"
        cost = f"{row['cost']:,.0f}"
        rows.append([label, seeds[key], cost, error, *precision, *ranking, *savings])
    header = [
        "sampler",
        "seeds",
        "evaluations, or equivalent",
        "squared error x 1e9, 100 lowest (seeds)",
        "squared error x 1e9, all filters",
        "rank correlation, 100 lowest",
        "of the 20 lowest found",
        "of the 100 lowest found",
        "times cheaper than the paper's at the same error, 100 lowest",
        "times cheaper, all filters",
    ]
    return markdown_table(header, rows)


def sampler_runs(folder):
    """Each run of a sampler against the reference: a DataFrame, a row a run.

    Columns: long (bool), sampler, rounds, cost, lowest and all (mean squared errors), ranks (their
    correlation), hits 20 and hits 100 (of the reference's lowest filters, those that the run puts
    lowest too).
    """
    reference = pd.Series(np.load(f"{folder}/reference/mab.npz")["values"])
    noise = standard_errors(f"{folder}/reference") ** 2
    lowest = {k: reference.nsmallest(k).index for k in (20, 100)}
    bench_path = f"{os.path.dirname(folder)}/bench/squeezenet1_1_64px/bench.json"
    guess_cost = load_json(bench_path, "tools.bench")["evaluations_a_guess"]
    runs = []
    for path in sorted(set(glob.glob(f"{folder}/*/mab.json")) - {f"{folder}/reference/mab.json"}):
        mab = load_json(path, "mab.py")
        values = pd.read_csv(f"{os.path.dirname(path)}/filters.csv")["shapley"]
        error = (values - reference) ** 2 - noise
        ranks = values[lowest[100]].rank().corr(reference[lowest[100]].rank())
        run = {
            "long": mab["evaluations"] > LONG_RUN,
            "sampler": mab["run"]["SAMPLER"],
            "rounds": mab["rounds"],
            "cost": mab["evaluations"] + guess_cost * mab.get("guesses", 0),
            "lowest": error[lowest[100]].mean(),
            "all": error.mean(),
            "ranks": ranks,
        }
        for k, filters in lowest.items():
            run[f"hits {k}"] = len(filters.intersection(values.nsmallest(k).index))
        runs.append(run)
    return pd.DataFrame(runs)


def decision_table(folder):
    """What it takes to decide a set: the samplers' reference, and each record in this folder."""
    reference = f"{os.path.dirname(folder)}/samplers/reference/mab.json"
    rows = []
    for path in [reference, *sorted(glob.glob(f"{folder}/*/mab.json"))]:
        name = os.path.dirname(path)
        mab = valuation(name)
        run, minutes = mab["run"], mab["seconds"] / 60
        settings = [run[key] for key in ("IMAGES_PER_ROUND", "TRUNCATION", "DEEPEST", "EPS")]
        bound = run["BOUND"] + (f", CLIP {run['CLIP']:g}" if run.get("CLIP") else "")
        sampling = ", uniform sampling" if run.get("UNIFORM") else ""
        cells = [
            f"{name}/",
            f"{run['TOP_K']} {run['WHICH']}{sampling}",
            bound,
            ", ".join(map(str, settings)),
            mab["processes"],
            f"{mab['rounds']:,}",
            f"{mab['evaluations']:,}",
            _uniform_evaluations(name, mab),
            f"{minutes:.0f}",
        ]
        rows.append([*cells, _decision(mab)])
    header = ["run", "set", "BOUND", "images a round, TRUNCATION, DEEPEST, EPS", "processes"]
    header += ["rounds", "evaluations", "by uniform sampling, computed", "minutes", "result"]
    return markdown_table(header, rows)


def _uniform_evaluations(folder, mab):
    """Evaluations for as many samples of every filter as of the one that was sampled most.

    What decides a set is the filter that is decided last; sampling all filters alike, all others
    get as many samples, to no effect.
    """
    if not mab["decided"] or mab["run"].get("UNIFORM"):
        return ""
    samples = load_csv(f"{folder}/filters.csv", "mab.py", ["samples"])["samples"]
    return f"{samples.max() * len(samples):,}"


def _decision(mab):
    """What a run decided, and how many rounds it would take to decide the whole set."""
    if mab["decided"]:
        return f"decided, to within {2 * mab['run']['EPS']:g}"
    text = f"{mab['certified']} certified, {mab['ruled_out']} ruled out"
    needed = mab["rounds_to_decide"]
    if needed:
        text += f"; about {needed:,.0f} rounds in all"
    return text
