"""The README's tables and figures, from the records.

    python tables.py    writes them anew; a test fails when README.md or a figure differs from cur_records/
"""

import functools
import glob
import hashlib
import os
import re

import numpy as np
import pandas as pd

import figures
import metrics
import settings
from datasets import GROUP_NAMES
from metrics import percent
from records import load_json, replacing


# folders whose figures are drawn from their records
DRAWN = ("cur_records", "cur_records/demo", "cur_records/digits", "cur_records/digits/attack", "cur_records/celeba_attack", "cur_records/signs", "cur_records/signs_resnet18")


def trainings(folder):
    """The records of the same pipeline on several seeds: the folder's own, and those in its seed_1/, seed_2/, ..."""
    return [folder, *sorted(glob.glob(f"{folder}/seed_*"))]


@functools.cache
def told(folder, after, before=None, split="report"):
    """Scores of a row of the table over all trainings of a folder, or its change against another row; indexed by group."""
    arrays = [np.load(f"{name}/eval.npz") for name in trainings(folder)]
    sides = [[some[f"{split}/{row}"] for some in arrays] for row in (before, after) if row]
    male, group = (arrays[0][f"{name}/{split}"] for name in ("male", "group"))
    return (metrics.change if before else metrics.table)(*sides, male, group).set_index("group")


def steps(folder, row):
    """How many filters (epochs) a row has gone, on average over trainings: "12"; and their range if there are several: "12 (5 to 20)"."""
    found = [np.mean(load_json(f"{name}/eval.json", "eval.py")["steps"][row]) for name in trainings(folder)]
    text = f"{np.mean(found):.3g}"
    return text if len(found) == 1 or np.ptp(found) == 0 else f"{text} ({min(found):.3g} to {max(found):.3g})"


def rows_of(folder):
    return list(load_json(f"{folder}/eval.json", "eval.py")["steps"])


def headline_table(folder):
    """The paper's claim, the earlier reimplementation's and ours, before -> after, in %."""
    rows = [["paper: filters removed, PPB faces", "54.7 -> 81.9", "84.9 -> 91.7", "not asked", "falls a little"],
            ["earlier PyTorch reimplementation: filters removed, measured on the FairFace images that gave the values",
             "54 -> 80", "72 -> 76", "not asked", "not told"]]
    for row, name in (("values of accuracy", "here: the paper's values, negative filters removed"),
                      ("shapley", "here: values estimated anew before each removal"),
                      ("shapley+threshold", "here: the same, and the decision threshold shifted"),
                      ("threshold", "here: no filter removed, the threshold shifted")):
        def path(group, split="report"):
            return " -> ".join(f"{100 * told(folder, some, split=split).loc[group, 'value']:.1f}" for some in ("nothing", row))

        rows.append([name + ("" if row == "threshold" else f", {steps(folder, row)} filters"), path("black women"),
                     path("balanced"), path("AUC black"), path("all", "celeba")])
    return _markdown(["in %, before -> after", "accuracy, black women", "mean of the four groups", "AUC, black faces",
                      "accuracy, CelebA test"], rows)


def claims_table(folder):
    """The paper's claims, the earlier reimplementation's figures, and what became of them in the records."""
    def change(after, before, group, split="report"):
        return percent(told(folder, after, before, split).loc[[group]])[0]

    def path(row, group, split="report"):
        return (" -> ".join(f"{100 * told(folder, some, split=split).loc[group, 'value']:.1f}" for some in ("nothing", row))
                + f": {change(row, 'nothing', group, split)}")

    def verdict(row, before, group, split="report", least=0.0):
        mean, low, high = told(folder, row, before, split).loc[group, ["change", "ci_low", "ci_high"]]
        return "yes" if low > least else "no" if high < least else "cannot be told" if least == 0 else (
            f"on average {'yes' if mean > least else 'no'}, not for certain")

    paper, both = "values of accuracy", "shapley+threshold"
    mab = load_json(f"{folder}/samplers/reference/mab.json", "mab.py")
    record = "`eval.json` of the seeds"
    return _markdown(["claim", "paper", "earlier reimplementation", "here", "reproduced?", "record"], [
        ["removing filters of negative value (of accuracy) repairs the worst group", "black women 54.7 -> 81.9",
         "54 -> 80, 36 filters, on the images of the values", f"black women {path(paper, 'black women')}",
         verdict(paper, "nothing", "black women"), record],
        ["... and raises the mean of the groups", "84.9 -> 91.7", "72 -> 76, on the images of the values",
         path(paper, "balanced"), verdict(paper, "nothing", "balanced"), record],
        ["... more than a threshold shift does", "not asked", "not asked",
         f"balanced {change(paper, 'threshold', 'balanced')}", verdict(paper, "threshold", "balanced"), record],
        ["... and with the threshold shifted in both", "not asked", "not asked",
         f"balanced {change(f'{paper}+threshold', 'threshold', 'balanced')}", verdict(f"{paper}+threshold", "threshold", "balanced"), record],
        ["... and costs at most 2 points on CelebA", "a little", "not told", path(paper, "all", "celeba"),
         verdict(paper, "nothing", "all", "celeba", -0.02), record],
        ["with V = smooth AUC, values anew before each removal, and the threshold shifted: black women + 27.2", "+ 27.2", "-",
         path(both, "black women"), verdict(both, "nothing", "black women", least=0.272), record],
        ["... balanced + 6.8", "+ 6.8", "-", path(both, "balanced"), verdict(both, "nothing", "balanced", least=0.068), record],
        ["... more than a threshold shift does", "not asked", "not asked", f"balanced {change(both, 'threshold', 'balanced')}",
         verdict(both, "threshold", "balanced"), record],
        ["... AUC among black faces, which no threshold moves", "not asked", "not asked", path(both, "AUC black"),
         verdict(both, "nothing", "AUC black"), record],
        ["... and costs at most 2 points on CelebA", "a little", "not told", path(both, "all", "celeba"),
         verdict(both, "nothing", "all", "celeba", -0.02), record],
        ["... better than greedy removal on the same images", "not asked", "not asked",
         f"balanced, both with a threshold: {change(both, 'greedy+threshold', 'balanced')}",
         verdict(both, "greedy+threshold", "balanced"), record],
        ["... better than fine-tuning on the same images", "not asked", "not asked",
         f"balanced, both with a threshold: {change(both, 'finetune+threshold', 'balanced')}",
         verdict(both, "finetune+threshold", "balanced"), record],
        ["the k most extreme filters are found with probability 1 - delta", "k = 100",
         "nothing decided after 809 rounds, reliability 0.35",
         f"{'decided' if mab['decided'] else 'partly decided' if mab['certified'] + mab['ruled_out'] else 'nothing decided'} after "
         f"{mab['rounds']:,} rounds; reliability {mab['reliability']:.2f}, widest interval {mab['widest_interval']:.2f}",
         "yes" if mab["decided"] else "no", "`samplers/reference/`"],
        *_other_claims(folder)])


def _other_claims(folder):
    """Rows of claims_table for the applications I, II and IV."""
    def path(scores, *steps, split="report", group="all", method="shapley"):
        return " -> ".join(f"{100 * scores.loc[(method, split, group, step), 'value']:.1f}" for step in steps)

    def judge(mean, low, high, above=None, below=None):
        """Whether a score or a change lies above or below a limit, by its interval."""
        limit, sign = (above, 1) if above is not None else (below, -1)
        sure = sign * (low if sign > 0 else high) > sign * limit, sign * (high if sign > 0 else low) < sign * limit
        return "yes" if sure[0] else "no" if sure[1] else f"on average {'yes' if sign * mean > sign * limit else 'no'}, not for certain"

    def score(scores, step, split="report", group="all", method="shapley"):
        return scores.loc[(method, split, group, step), ["value", "ci_low", "ci_high"]]

    def loss(scores, step, **of):
        """What is lost since nothing was removed, and an interval: the two scores' square-and-add, as if they were not paired, so rather too wide."""
        (p, p_low, p_high), (q, q_low, q_high) = score(scores, 0, **of), score(scores, step, **of)
        return p - q, p - q - np.hypot(p - p_low, q_high - q), p - q + np.hypot(p_high - p, q - q_low)

    rows = []
    for name, what in CRITICAL.items():
        scores, evaluation = scores_of(f"{folder}/{name}"), load_json(f"{folder}/{name}/eval.json", "eval.py")
        shares, record = evaluation["concentration"], f"`{name}/`"
        what = f"{what}, {evaluation['run']['ARCH']}"
        rows += [[f"I, {what}: accuracy hangs on a few filters (less than half of it is left when 20 are gone)", "74 -> 38 -> 8 (0, 10, 20 filters)", "-",
                  path(scores, 0, 10, 20), judge(*score(scores, 20), below=score(scores, 0)["value"] / 2), record],
                 [f"I, {what}: random filters change nothing (20 of them, 2 points at most)", "no change", "-",
                  path(scores, 0, 20, method="random"), judge(*loss(scores, 20, method="random"), below=0.02), record],
                 [f"I, {what}: values are sparse (the highest 1 % hold half of their sum)", "very sparse", "-",
                  f"highest 1 % hold {shares['0.01']:.0%}, 10 % hold {shares['0.1']:.0%}", "yes" if shares["0.01"] > 0.5 else "less so", record]]
    for name in sorted(glob.glob(f"{folder}/digits/class_*")):
        scores = scores_of(name)
        of_class = load_json(f"{name}/eval.json", "eval.py")["run"]["CLASS"]
        mine, record = f"class {of_class}", f"`digits/{os.path.basename(name)}/`"
        rows += [[f"II, the digit {of_class}: 40 filters removed, the class is lost (recall below 10 %)", "yes", "-", path(scores, 0, 40, group=mine),
                  judge(*score(scores, 40, group=mine), below=0.1), record],
                 [f"II, the digit {of_class}: ... and the rest is intact (5 points at most)", "yes", "-", path(scores, 0, 40, group="others"),
                  judge(*loss(scores, 40, group="others"), below=0.05), record]]
    for name, what in ((f"{folder}/digits/attack", "MNIST"), (f"{folder}/celeba_attack", "CelebA gender")):
        scores = scores_of(name)
        last, record = scores.index.get_level_values("n_removed").max(), f"`{os.path.relpath(name, folder)}/`"
        nothing = score(scores, 0, "black box", "success")["value"] < 0.05
        success = {split: {"split": split, "group": "success"} for split in ("attack", "black box", "fresh attack")}
        rows += [[f"IV, {what}: {last} filters removed, the attack fails (success below 5 %)", "100 -> 0.1", "-", path(scores, 0, last, **success["attack"]),
                  judge(*score(scores, last, **success["attack"]), below=0.05), record],
                 [f"IV, {what}: ... at a small cost (clean accuracy, 7 points at most)", "74 -> 67", "-", path(scores, 0, last),
                  judge(*loss(scores, last), below=0.07), record],
                 [f"IV, {what}: ... and a black-box attack loses a third of its success", "- 37 on average", "-",
                  f"{path(scores, 0, last, **success['black box'])}; unattacked {path(scores, 0, last, split='no attack', group='success')}",
                  "cannot be told: it had none" if nothing else
                  judge(*score(scores, last, **success["black box"]), below=score(scores, 0, **success["black box"])["value"] * 2 / 3), record],
                 [f"IV, {what}: ... but a fresh attack works (success above 50 %)", "yes", "-", path(scores, 0, last, **success["fresh attack"]),
                  judge(*score(scores, last, **success["fresh attack"]), above=0.5), record]]
    return rows


def repair_table(folder):
    """Scores in % on the report set and CelebA's test set, a row a repair: of one training with intervals, of several their mean and range."""
    tables = [pd.DataFrame(load_json(f"{name}/eval.json", "eval.py")["table"]).set_index(["row", "group"]) for name in trainings(folder)]
    values = 100 * pd.DataFrame([some["value"] for some in tables])
    text = values.mean().map("{:.1f}".format)
    spread = text if len(tables) == 1 else text + values.min().map(" ({:.1f} to ".format) + values.max().map("{:.1f})".format)
    if len(tables) == 1:
        spread = pd.Series(percent(tables[0]), tables[0].index)
    return _markdown(
        ["", "filters (epochs)", *GROUP_NAMES, "balanced", "worst", "gap", "equalised odds", "AUC white", "AUC black", "CelebA test"],
        [[figures.label(row), steps(folder, row), *(spread[row, name] for name in (*GROUP_NAMES, "balanced")),
          *(text[row, name] for name in ("worst", "gap", "equalised odds", "AUC white", "AUC black", "CelebA test"))]
         for row in rows_of(folder)])


def change_table(folder):
    """Changes in points with 95 % intervals, a row a comparison."""
    rows = []
    names = list(load_json(f"{folder}/eval.json", "eval.py")["changes"])
    if "values of accuracy+threshold" in rows_of(folder):
        names.append("values of accuracy+threshold against threshold")
    for name in names:
        after, before = name.split(" against ")
        if before == "nothing" and after.partition("+")[0] not in ("shapley", "threshold", "values of accuracy"):
            continue  # the table of scores tells them
        change = told(folder, after, before)
        rows.append([f"{figures.label(after)}, against {figures.label(before)}",
                     *percent(change.loc[["black women", "balanced", "AUC white", "AUC black"]]),
                     *percent(told(folder, after, before, "celeba"))])
    return _markdown(["", "black women", "balanced", "AUC white", "AUC black", "CelebA test"], rows)


def measures_table(folder):
    """Values by several V of one network: how precise a round makes them, and what their removals give on the choosing set."""
    evaluation = load_json(f"{folder}/eval.json", "eval.py")
    assert evaluation["told"] == "choose", "measures are compared on the choosing set"
    table = pd.DataFrame(evaluation["table"]).set_index(["row", "group"])["value"] * 100

    def given(row):
        return " / ".join(f"{table[row, group]:.1f}" for group in ("balanced", "black women", "AUC black"))

    rows, runs = [], {"shapley": load_json(f"{folder}/mab.json", "mab.py")}
    for name in [row.removeprefix("values of ") for row in evaluation["steps"] if row.startswith("values") and "+" not in row]:
        runs[f"values of {name}"] = load_json(f"{folder}/{name}/mab.json", "mab.py")
    for row, mab in sorted(runs.items(), key=lambda item: item[1]["stages"]):
        precise = [mab["rounds"], f"{mab['reliability']:.2f}", "-"] if mab["stages"] == 1 else [f"{mab['stages']} stages", "", ""]
        if mab["stages"] == 1 and mab["reliability"] > 0:
            precise[2] = f"{4 * mab['rounds'] * (1 / mab['reliability'] - 1):,.0f}"  # squared errors fall as 1 / rounds
        rows.append([mab["run"]["MEASURE"] + ", anew" * (mab["stages"] > 1), *precise,
                     *(f"{given(row + ending)} ({np.mean(evaluation['steps'][row + ending]):g})" for ending in ("", "+threshold"))])
    return _markdown(["V", "rounds", "reliability", "rounds to 0.8, about", "removed: balanced / black women / AUC black (filters)",
                      "the same, and the threshold shifted"], [["nothing removed", "", "", "", given("nothing"), given("threshold")], *rows])


CRITICAL = {"digits": "MNIST", "signs": "drawn signs", "signs_resnet18": "drawn signs"}  # records of application I


def scores_of(folder):
    """Scores in an eval.json of another task than faces, indexed by method, split, group and filters removed."""
    evaluation = load_json(f"{folder}/eval.json", "eval.py")
    assert evaluation["told"] == "report"
    return pd.DataFrame(evaluation["table"]).set_index(["method", "split", "group", "n_removed"]).sort_index()


def critical_table(folder):
    """Application I: accuracy as filters go, of the highest values and by rivals; a block of rows a record."""
    rows = [["paper: Inception-v3, ImageNet, highest values removed", "74", "38", "8", "not told"],
            ["paper: the same, random filters removed", "74", "no change", "no change", "no change"]]
    for name, what in CRITICAL.items():
        evaluation, scores = load_json(f"{folder}/{name}/eval.json", "eval.py"), scores_of(f"{folder}/{name}")
        for method in dict.fromkeys(row["method"] for row in evaluation["table"]):
            rows.append([f"{what}, {evaluation['run']['ARCH']}: {figures.label(method, 'highest')}",
                         *percent(scores.loc[[(method, "report", "all", step) for step in (0, 10, 20, 30)]])])
    return _markdown(["accuracy in %, after so many filters were removed", 0, 10, 20, 30], rows)


def concentration_table(folder):
    """Application I: the share of the values' sum that the highest few per cent of the filters hold."""
    rows = []
    for name, what in CRITICAL.items():
        evaluation, mab = (load_json(f"{folder}/{name}/{script}.json", f"{script}.py") for script in ("eval", "mab"))
        shares = evaluation["concentration"]
        rows.append([f"{what}, {mab['run']['ARCH']}", f"{mab['rounds']}", f"{mab['reliability']:.2f}", *(f"{part:.0%}" for part in shares.values()),
                     f"{mab['negative'] / mab['filters']:.0%}"])
    return _markdown(["", "rounds", "reliability", *(f"highest {float(share):.1%}" for share in shares), "filters of negative value"], rows)


def class_table(folder):
    """Application II: recall of a class, and accuracy on the others, as the filters of the highest values for its recall go."""
    rows = []
    for name in sorted(glob.glob(f"{folder}/class_*")):
        scores = scores_of(name)
        of_class, mab = load_json(f"{name}/eval.json", "eval.py")["run"]["CLASS"], load_json(f"{name}/mab.json", "mab.py")
        for method in ("shapley", "l2_norm", "random"):
            rows.append([f"{of_class}, {figures.label(method, 'highest')}", f"{mab['reliability']:.2f}" * (method == "shapley"), *(
                " / ".join(percent(scores.loc[[(method, "report", group, step)]])[0] for group in (f"class {of_class}", "others")) for step in (0, 20, 40))])
    return _markdown(["class: its recall / accuracy on the other classes, in %, after so many filters were removed", "reliability of the values",
                      0, 20, 40], rows)


def attack_table(folder):
    """Application IV: clean accuracy and success of attacks, before and after the filters of the highest values went."""
    rows = [["paper: Inception-v3, ImageNet, 16 filters", "", "26 -> - 67", "74 -> 67", "100 -> 0.1", "still works", "- 37 on average", "not told"]]
    columns = [("report", "all"), ("attack", "success"), ("fresh attack", "success"), ("black box", "success"), ("no attack", "success")]
    for name, what in ((f"{folder}/digits/attack", "MNIST, squeezenet1_1"), (f"{folder}/celeba_attack", "CelebA gender, squeezenet1_1")):
        scores = scores_of(name)
        reliability = load_json(f"{name}/mab.json", "mab.py")["reliability"]
        for method, steps in (("shapley", (0, 4, 16)), ("l2_norm", (0, 16)), ("random", (0, 16))):
            found = [[scores.loc[(method, *of, step), "value"] for step in steps if (method, *of, step) in scores.index] for of in columns]
            found.insert(0, [success - clean for success, clean in zip(found[1], found[0])])
            rows.append([f"{what}: {figures.label(method, 'highest')}, {' -> '.join(map(str, steps))}", f"{reliability:.2f}" * (method == "shapley"),
                         *(" -> ".join(f"{100 * value:.1f}" for value in some) or "not made" for some in found)])
    return _markdown(["in %, as so many filters go", "reliability of the values", "V", "clean accuracy", "success of the same attack",
                      "of a fresh attack on what is left", "of a black-box attack", "unattacked, but taken for the target"], rows)


def framing_table(folder):
    """Accuracy in % on the choosing set, a row a framing of CelebA, a size of images and a length of training."""
    rows = []
    for name in sorted(os.listdir(folder)):
        record = load_json(f"{folder}/{name}/train_squeeze.json", "train_squeeze.py")
        accuracy = pd.DataFrame(record["accuracy"]).query("set == 'FairFace choose'").set_index("group", drop=False)
        constants = record["constants"]
        frame = ", ".join(f"{side:.3f}" for side in constants["CELEBA_FRAME"])
        rows.append([constants["IMAGE_SIZE"], constants["EPOCHS"], f"({frame})",
                     *(f"{100 * accuracy.loc[group, 'accuracy']:.1f}" for group in GROUP_NAMES),
                     *percent(accuracy.loc[["balanced"]])])
    return _markdown(["IMAGE_SIZE", "EPOCHS", "CELEBA_FRAME", *GROUP_NAMES, "balanced"], sorted(rows, key=lambda row: row[:2]))


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
    """How near samplers come to a long run, the reference, at about equal cost; a row a sampler, over seeds.

    Cost is in evaluations of V; a guess of all marginals is counted as the evaluations that take as long (bench.py).
    """
    state = np.load(f"{folder}/reference/mab.npz")
    reference = pd.Series(state["values"])
    counts = np.atleast_2d(state["counts"] if "counts" in state else state["samples"])  # (parts, n); or of before guesses, (n,)
    own = pd.Series((np.atleast_2d(state["m2"]) / (counts - 1) / counts).sum(0))  # squared standard errors of the reference
    lowest = {k: reference.nsmallest(k).index for k in (20, 100)}
    a_guess = load_json(f"{os.path.dirname(folder)}/bench/squeezenet1_1_64px/bench.json", "bench.py")["evaluations_a_guess"]
    found = []
    for path in sorted(set(glob.glob(f"{folder}/*/mab.json")) - {f"{folder}/reference/mab.json"}):
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
    """What it takes to decide a set: a row for the samplers' reference, and one for each record in this folder."""
    rows = []
    for path in [f"{os.path.dirname(folder)}/samplers/reference/mab.json", *sorted(glob.glob(f"{folder}/*/mab.json"))]:
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
    """The README's text with every table between its marks made anew: <!-- repair_table(cur_records) -->."""
    def table(match):
        make = {make.__name__: make for make in (headline_table, claims_table, repair_table, change_table, measures_table,
                                                 critical_table, concentration_table, class_table, attack_table,
                                                 framing_table, bench_table, coverage_table, sampler_table,
                                                 decision_table)}[match[1]]
        return f"<!-- {match[1]}({match[2]}) -->\n{make(match[2])}\n<!-- end -->"

    return re.sub(r"<!-- (\w+)\(([\w/]+)\) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def _markdown(header, rows):
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [header, ["---"] * len(header), *rows])


def draw(folder):
    """The figures of a folder's trainings, {name: Figure}: as eval.py draws them for one; of several, over seeds."""
    if "classes" in load_json(f"{folder}/eval.json", "eval.py"):  # another task than faces
        found = {"eval": figures.responsible(*_responsible(folder), pd.read_csv(f"{folder}/filters.csv")["shapley"].to_numpy(),
                                             load_json(f"{folder}/eval.json", "eval.py")["concentration"])}
        classes = sorted(glob.glob(f"{folder}/class_*"))
        return found | ({"classes": figures.several([_responsible(name) for name in classes])} if classes else {})
    runs = [pd.read_csv(f"{name}/eval.csv") for name in trainings(folder)]
    evaluations = [load_json(f"{name}/eval.json", "eval.py") for name in trainings(folder)]
    filters, removed = pd.read_csv(f"{folder}/filters.csv"), [some["removed_filters"] for some in evaluations]
    chosen = {row: np.mean([np.mean(some["steps"][row]) for some in evaluations]) for row in evaluations[0]["steps"]}
    with_intervals, marked = filters, removed[0]
    if os.path.exists(f"{folder}/accuracy/filters.csv"):  # values of the whole network, where filters.csv is of stages
        with_intervals = pd.read_csv(f"{folder}/accuracy/filters.csv")
        marked = np.argsort(with_intervals["shapley"], kind="stable")[:evaluations[0]["steps"]["values of accuracy"][0]]
    found = {"eval": figures.curves(runs, chosen, "report"), "rivals": figures.rivals(runs, "report"),
             "values": figures.values(with_intervals, marked)}
    if len(runs) > 1:
        found["layers"] = figures.removed_by_layer(filters["layer"].tolist(), removed)
    if os.path.exists(f"{folder}/faces.npz"):
        faces = np.load(f"{folder}/faces.npz")
        found["faces"] = figures.faces(faces["images"], faces["captions"])
    return found


def _responsible(folder):
    """What figures.removals draws of a folder: curves, table and run."""
    evaluation = load_json(f"{folder}/eval.json", "eval.py")
    return pd.read_csv(f"{folder}/eval.csv"), pd.DataFrame(evaluation["table"]), evaluation["run"]


def source(folder):
    """A hash of what draw draws, which its figures carry."""
    state = hashlib.sha256()
    for name in [*trainings(folder), *sorted(glob.glob(f"{folder}/class_*"))]:
        for file in ("eval.csv", "eval.json", "filters.csv", "accuracy/filters.csv", "faces.npz"):
            if os.path.exists(f"{name}/{file}"):
                with open(f"{name}/{file}", "rb") as opened:
                    state.update(opened.read())
    return state.hexdigest()[:16]


def main():
    with open("README.md") as file:
        text = file.read()
    with replacing("README.md") as temporary, open(temporary, "w") as file:
        file.write(with_tables(text))
    for folder in DRAWN:
        for name, figure in draw(folder).items():
            with replacing(f"{folder}/{name}.png") as temporary:
                figure.savefig(temporary, dpi=150, metadata={"Source": source(folder)})
            with replacing(f"{folder}/{name}.pdf") as temporary:
                figure.savefig(temporary, metadata={"CreationDate": None})


if __name__ == "__main__":
    settings.run(main, globals())
