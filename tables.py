"""The README's tables, from the records.

    python tables.py    writes them anew; a test fails when README.md and cur_records/ differ
"""

import glob
import os
import re

import numpy as np
import pandas as pd

import settings
from datasets import GROUP_NAMES
from metrics import METHODS, percent
from records import load_json, replacing


def headline_table(folder):
    """The paper's claim, the earlier reimplementation's and ours, before -> after, in %."""
    record = load_json(f"{folder}/eval.json", "eval.py")
    accuracy = pd.DataFrame(record["table"]).set_index(["method", "group"])["accuracy"] * 100
    rows = [["paper: filters removed, PPB faces", "54.7 -> 81.9", "84.9 -> 91.7", "falls a little"],
            ["earlier PyTorch reimplementation: filters removed, measured on the FairFace images that gave the values",
             "54 -> 80", "72 -> 76", "not told"]]
    for method, name in (("shapley", "here: most negative filters removed ({}), FairFace's report set"),
                         ("threshold", "here: no filter removed, the decision threshold shifted instead")):
        rows.append([name.format(record["n_removed"]["shapley"]),
                     *(f"{accuracy['nothing', group]:.1f} -> {accuracy[method, group]:.1f}"
                       for group in ("black women", "balanced", "CelebA test"))])
    return _markdown(["accuracy in %, before -> after", "black women", "mean of the four groups", "CelebA test"], rows)


def claims_table(folder):
    """The paper's claims, the earlier reimplementation's figures, and what became of them in a record."""
    evaluation, mab = load_json(f"{folder}/eval.json", "eval.py"), load_json(f"{folder}/mab.json", "mab.py")
    changes = {name: dict(zip([*GROUP_NAMES, "balanced"], percent(pd.DataFrame(rows))))
               for name, rows in evaluation["changes"].items()}
    curve = pd.read_csv(f"{folder}/eval.csv").query("method == 'shapley' and split != 'choose'")
    curve = (100 * curve.set_index(["n_removed", "group"])["accuracy"]).map("{:.1f}".format)
    chosen = evaluation["n_removed"]["shapley"]

    def path(group, *numbers):
        return " -> ".join(curve[number, group] for number in (0, *numbers))

    return _markdown(["claim", "paper", "earlier reimplementation", "here"], [
        ["removing the most negative filters repairs the worst group", "black women 54.7 -> 81.9",
         "54 -> 80, 36 filters, on the images of the values",
         f"black women {path('black women', chosen)} with the number chosen ({chosen}); {path('black women', 10)} with 10, "
         f"while white men go {path('white men', 10)}"],
        ["the mean of the groups rises", "84.9 -> 91.7", "72 -> 76, on the images of the values",
         f"{path('balanced', chosen)}: {changes['shapley against nothing']['balanced']}; "
         f"against random filters {changes['shapley against random']['balanced']}"],
        ["more than a threshold shift does", "not asked", "not asked",
         f"balanced {changes['shapley against threshold']['balanced']}"],
        ["accuracy on CelebA falls little", "a little", "not told",
         f"{path('all', chosen)} with the number chosen, {path('all', 10)} with 10"],
        ["the k most extreme filters are found with probability 1 - delta", "k = 100",
         "nothing decided after 809 rounds, reliability 0.35",
         f"{'decided' if mab['decided'] else 'partly decided' if mab['certified'] + mab['ruled_out'] else 'nothing decided'} after "
         f"{mab['rounds']:,} rounds; reliability {mab['reliability']:.2f}, widest interval {mab['widest_interval']:.2f}"]])


def accuracy_table(folder):
    """Accuracy in % on the report set and CelebA's test set, a column a method."""
    table = pd.DataFrame(load_json(f"{folder}/eval.json", "eval.py")["table"])
    columns = {f"{METHODS[name]} ({rows['n_removed'].iloc[0]})": percent(rows)
               for name, rows in table.groupby("method", sort=False)}
    return _markdown(["", *columns], zip(table["group"].unique(), *columns.values()))


def change_table(folder):
    """Changes in points on the report set with 95 % intervals, a row a comparison."""
    record = load_json(f"{folder}/eval.json", "eval.py")
    rows = []
    for name, change in record["changes"].items():
        after, before = name.split(" against ")
        rows.append([f"{METHODS[after]}, against {METHODS[before]}", *percent(pd.DataFrame(change))])
    return _markdown(["", *GROUP_NAMES, "balanced"], rows)


def run_table(folder):
    """What the three steps did and how long they took."""
    train, mab, evaluation = (load_json(f"{folder}/{name}.json", f"{name}.py")
                              for name in ("train_squeeze", "mab", "eval"))
    rows = [
        ["fine-tuning", f"{train['constants']['EPOCHS']} epochs at {train['constants']['IMAGE_SIZE']} px, "
                        f"{train['seconds'] / 60:.1f} minutes"],
        ["values", f"{mab['rounds']:,} rounds, {mab['evaluations']:,} evaluations of V, {mab['seconds'] / 60:.0f} minutes "
                   f"({mab['evaluations'] / mab['seconds']:.0f} a second), device {mab['device']}"],
        ["reliability of the values", f"{mab['reliability']:.2f}"],
        ["truncated share of an order", f"{mab['truncated_share']:.0%}"],
        ["negative values", f"{mab['negative']}; the intervals prove it of {mab['intervals_below_0']}"],
        [f"the {mab['run']['TOP_K']} {mab['run']['WHICH']}",
         "decided" if mab["decided"] else
         f"not decided: {mab['certified']} certified, {mab['ruled_out']} of {mab['filters']:,} ruled out"],
        *[[f"AUC among {row['group']} faces, by removal", f"{100 * row['before']:.1f} -> {100 * row['after']:.1f}, "
           f"change {percent(pd.DataFrame([row]))[0]}"] for row in evaluation["auc_within_race"]],
        ["evaluation", f"{evaluation['seconds'] / 60:.1f} minutes"]]
    return _markdown(["", f"{folder}/"], rows)


def framing_table(folder):
    """Accuracy in % on the choosing set, a row a framing of CelebA."""
    rows = []
    for name in sorted(os.listdir(folder)):
        record = load_json(f"{folder}/{name}/train_squeeze.json", "train_squeeze.py")
        accuracy = pd.DataFrame(record["accuracy"]).query("set == 'FairFace choose'").set_index("group", drop=False)
        frame = ", ".join(f"{side:.3f}" for side in record["constants"]["CELEBA_FRAME"])
        rows.append([f"({frame})", *(f"{100 * accuracy.loc[group, 'accuracy']:.1f}" for group in GROUP_NAMES),
                     *percent(accuracy.loc[["balanced"]])])
    return _markdown(["CELEBA_FRAME", *GROUP_NAMES, "balanced"], rows)


def bench_table(folder):
    """Milliseconds for one evaluation of V, each way; a column a record, the folder's own and those in its bench/."""
    folders = [folder, *(os.path.dirname(path) for path in sorted(glob.glob(f"{folder}/bench/*/bench.json")))]
    benches = [load_json(f"{name}/bench.json", "bench.py") for name in folders]

    def row(text, cell):
        return [text, *map(cell, benches)]

    def time(way):
        return lambda bench: f"{bench[way]:.{0 if bench[way] > 100 else 1}f}" if way in bench else "not timed"

    def relative(way):
        return lambda bench: f"{bench['shared_ms'] / bench['suffix_share'] / bench[way]:.2f}"

    return _markdown(
        ["ms for one evaluation of V", *(f"{bench['arch']}, {bench['images']} images of {bench['image_size']} px"
                                         for bench in benches)],
        [row("the network as it is, all images at once", time("plain_ms")),
         row("the same, as many images at once as suits ours",
             lambda bench: f"{time('plain_in_parts_ms')(bench)} ({bench['images_at_once']} at once)"),
         row("a masked forward for each coalition", time("naive_ms")),
         row("the earlier way: a new two-worker loader decodes the images, then a masked forward", time("earlier_ms")),
         row("**here**", lambda bench: f"**{time('shared_ms')(bench)}**"),
         row("the same, for single removals from one coalition", time("singles_ms")),
         row("a guess of all filters' marginals at a coalition", time("guess_ms")),
         row("**evaluations a second**", lambda bench: f"**{1000 / bench['shared_ms']:.1f}**"),
         row("times as fast as the earlier way", lambda bench: f"{bench['earlier_ms'] / bench['shared_ms']:.0f}"),
         row("share of the network behind a removed filter", lambda bench: f"{bench['suffix_share']:.2f}"),
         row("time / (share x plain forward)", relative("plain_ms")),
         row("time / (share x plain forward in parts)", relative("plain_in_parts_ms")),
         *[row(f"of the time, {kind}", lambda bench: f"{bench['spent'][kind]:.0%}") for kind in benches[0]["spent"]],
         row("device", lambda bench: f"{bench['device']}, {bench['threads']} threads")])


def coverage_table(folder):
    """How often each interval missed on games with known values, and how wide it was."""
    record = load_json(f"{folder}/coverage.json", "coverage.py")
    constants, table = record["constants"], pd.DataFrame(record["table"])
    rows, names = [], table["bound"].unique()
    for game, bounds in table.groupby("game", sort=False):
        name = (f"{constants['BANDIT_RUNS']:,} whole runs of the {game}, {constants['BANDIT_PLAYERS']} players" if "bandit" in game
                else f"{game.replace('_', ' ')}, {constants['PLAYERS']} players")
        rows.append([name, *(f"{missed:.1%}" for missed in bounds["missed"]), *(f"{width:.4f}" for width in bounds["width"])])
        if "bandit" in game:
            rows += [["... players that it certified", *(f"{number:.1f}" for number in bounds["certified"]), "", "", ""],
                     ["... runs that certified a player wrongly", *(f"{wrong:.1%}" for wrong in bounds["wrong"]), "", "", ""]]
    return _markdown([f"{constants['RUNS']:,} runs of {constants['ROUNDS']:,} rounds",
                      *(f"{name}: runs with a miss" for name in names),
                      *(f"{name}: mean width in the end" for name in names)], rows)


def sampler_table(folder):
    """How near samplers come to a long run, that of the folder above, at about equal cost; a row a sampler, over seeds.

    Cost is in evaluations of V; a guess of all marginals is counted as the evaluations that take as long (bench.py).
    """
    state = np.load(f"{os.path.dirname(folder)}/mab.npz")
    reference = pd.Series(state["values"])
    counts = np.atleast_2d(state["counts"] if "counts" in state else state["samples"])  # (parts, n); or of before guesses, (n,)
    own = pd.Series((np.atleast_2d(state["m2"]) / (counts - 1) / counts).sum(0))  # squared standard errors of the reference
    lowest = {k: reference.nsmallest(k).index for k in (20, 100)}
    a_guess = load_json(f"{os.path.dirname(folder)}/bench/squeezenet1_1_64px/bench.json", "bench.py")["evaluations_a_guess"]
    found = []
    for path in sorted(glob.glob(f"{folder}/*/mab.json")):
        mab, values = load_json(path, "mab.py"), pd.read_csv(f"{os.path.dirname(path)}/filters.csv")["shapley"]
        error = (values - reference) ** 2 - own
        found.append({
            "long": mab["evaluations"] > 40_000,  # two budgets were measured: about 18,000 and 65,000
            "sampler": mab["run"]["SAMPLER"], "rounds": mab["rounds"],
            "cost": mab["evaluations"] + a_guess * mab.get("guesses", 0),
            "lowest": error[lowest[100]].mean(), "all": error.mean(),
            "ranks": values[lowest[100]].rank().corr(reference[lowest[100]].rank()),
            **{f"found {k}": len(lowest[k].intersection(values.nsmallest(k).index)) for k in lowest}})
    runs = pd.DataFrame(found).groupby(["long", "sampler"])
    mean, low, high, seeds = runs.mean(), runs["lowest"].min(), runs["lowest"].max(), runs.size()
    needed = mean[["lowest", "all"]].mul(mean["cost"], axis=0)
    rows = []
    for (long, sampler) in sorted(mean.index, key=lambda at: (at[0], ["paper", "shared", "guided"].index(at[1]))):
        at = long, sampler
        row, saved = mean.loc[at], needed.loc[long, "paper"] / needed.loc[at]
        rows.append([f"{sampler}, {row['rounds']:.0f} rounds", seeds[at], f"{row['cost']:,.0f}",
                     f"{row['lowest'] * 1e9:.0f}" + (f" ({low[at] * 1e9:.0f} to {high[at] * 1e9:.0f})" if seeds[at] > 1 else ""),
                     f"{row['all'] * 1e9:.0f}", f"{row['ranks']:.2f}", f"{row['found 20']:.1f}", f"{row['found 100']:.1f}",
                     f"{saved['lowest']:.1f}", f"{saved['all']:.1f}"])
    return _markdown(["sampler", "seeds", "evaluations, or as long as", "squared error x 1e9, 100 lowest (seeds)", "all filters",
                      "rank correlation, 100 lowest", "of the 20 lowest found", "of the 100",
                      "times less than the paper's to the same error, 100 lowest", "all filters"], rows)


def decision_table(folder):
    """What it takes to decide a set: a row for the record of the folder above, and one for each in this."""
    rows = []
    for path in [f"{os.path.dirname(folder)}/mab.json", *sorted(glob.glob(f"{folder}/*/mab.json"))]:
        mab = load_json(path, "mab.py")
        run, minutes, more = mab["run"], mab["seconds"] / 60, mab["rounds_to_decide"]
        state = f"decided, to within {2 * run['EPS']:g}" if mab["decided"] else f"{mab['certified']} certified, {mab['ruled_out']} ruled out"
        if more and not mab["decided"]:
            state += f"; some {more:,.0f} rounds in all, {more / mab['rounds'] * minutes / 60:,.1f} hours"
        rows.append([f"{os.path.dirname(path)}/", f"{run['TOP_K']} {run['WHICH']}",
                     f"{run['IMAGES_PER_ROUND']}, {run['TRUNCATION']}, {run['DEEPEST']}, {run['EPS']}",
                     mab["processes"], f"{mab['rounds']:,}", f"{mab['evaluations']:,}", f"{minutes:.0f}", state])
    return _markdown(["run", "set", "images a round, TRUNCATION, DEEPEST, EPS", "processes", "rounds", "evaluations", "minutes",
                      "ends"], rows)


def with_tables(text):
    """The README's text with every table between its marks made anew: <!-- accuracy_table(cur_records) -->."""
    def table(match):
        make = {make.__name__: make for make in (headline_table, claims_table, accuracy_table, change_table, run_table,
                                                 framing_table, bench_table, coverage_table, sampler_table,
                                                 decision_table)}[match[1]]
        return f"<!-- {match[1]}({match[2]}) -->\n{make(match[2])}\n<!-- end -->"

    return re.sub(r"<!-- (\w+)\(([\w/]+)\) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def _markdown(header, rows):
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [header, ["---"] * len(header), *rows])


def main():
    with open("README.md") as file:
        text = file.read()
    with replacing("README.md") as temporary, open(temporary, "w") as file:
        file.write(with_tables(text))


if __name__ == "__main__":
    settings.run(main, globals())
