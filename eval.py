"""Step 3: remove the filters with negative values, and measure what that repairs.

    python eval.py

Filters go one by one, the most negative first, never a positive one. How many go is chosen on
FairFace's choosing set: the fewest whose balanced accuracy is within one standard error of the best.
The result is told on the report set, beside two controls: as many random filters, and a mere shift
of the decision threshold, itself chosen on the choosing set. A repair counts only beyond both.
Reads what mab.py wrote. Writes under RECORDS_DIR: eval.csv, eval.json, eval.png, values.png.
"""

import json
import time

import numpy as np
import pandas as pd
from tqdm import tqdm

import ablation
import datasets
import metrics
import model
import records
import settings
from settings import ARCH, CELEBA_FRAME, DATA_DIR, DEVICE, FAIRFACE_FRAME, IMAGE_SIZE, RECORDS_DIR, SEED, Stop

# -----------------------------------------------------------------------------
MAX_REMOVED = 50    # filters removed at most
RANDOM_ORDERS = 10  # random removals to compare with
# -----------------------------------------------------------------------------

# Each is told as a change: (after, before).
COMPARISONS = [("threshold", "nothing"), ("shapley", "nothing"), ("shapley", "random"), ("shapley", "threshold"),
               ("shapley+threshold", "threshold"), ("shapley+threshold", "random+threshold")]


def best_shift(margin, faces):
    """The shift of the decision threshold that serves `faces` best: highest balanced accuracy, least of equals.

    margin (N,): the logit of "male" less that of "female"; a face is called male if margin + shift > 0.
    """
    order = np.argsort(margin)
    margin, male, group = (np.asarray(array)[order] for array in (margin.astype(np.float64), faces.male, faces.group))
    weight = 1 / np.bincount(group)[group]
    # A cut behind the i-th smallest margin has the women up to it right, and the men behind it.
    right = (np.append(0, np.cumsum(weight * (male == 0)))
             + np.append(np.cumsum((weight * (male == 1))[::-1])[::-1], 0))
    right[1:-1][margin[1:] == margin[:-1]] = -1  # equal margins cannot be told apart
    cuts = np.concatenate([[margin[0] - 1], (margin[1:] + margin[:-1]) / 2, [margin[-1] + 1]])
    best = cuts[right > right.max() - 1e-9]
    return -best[np.argmin(np.abs(best))]


def removal_margins(evaluator, fills, order, faces, bar):
    """Margins of each set's faces as filters go in `order`: {split: (len(order) + 1, N) float32}."""
    keep = np.ones((len(order) + 1, len(fills)), dtype=bool)
    for step, removed in enumerate(order):
        keep[step + 1:, removed] = False
    return {split: ablation.margins(evaluator, fills, some, keep, bar) for split, some in faces.items()}


def correct_calls(margins, faces, shifts=0.0):
    """{split: (steps, N) margins} -> {split: (steps, N) bool}. shifts: one for all steps, or (steps,)."""
    return {split: (some + np.reshape(shifts, (-1, 1)) > 0) == faces[split].male.numpy().astype(bool)
            for split, some in margins.items()}


def load_values(path):
    """What mab.py found: values (n_filters,), which are certified to be among the k lowest, the run's settings. Raises Stop."""
    arrays = records.load_npz(path, "mab.py")
    try:
        values, certified, run = arrays["values"], arrays["status"] == "top", json.loads(str(arrays["run"]))
        for name in ("network", "images", "REMOVAL", "FAIRFACE_FRAME", "TOP_K", "WHICH", "BOUND"):  # what is read of it here
            run[name]
        return values, certified & (run["WHICH"] == "lowest") & (run["BOUND"] != "clt"), run
    except (KeyError, TypeError, ValueError):
        raise Stop(f"{path} is not a record of mab.py; move it away and run mab.py again") from None


def summary(curves, places):
    """The curves on report and CelebA test images at `places`: a row for each name and group. Columns as in eval.csv.

    A name with several places (random orders) has their mean, and the lowest and highest in place of an interval.
    """
    curves = curves[curves["split"] != "choose"].replace({"group": {"all": "CelebA test"}})
    at = {place: rows for place, rows in curves.groupby(["method", "n_removed"])}
    found = []
    for name, some in places.items():
        if some:
            found.append(at[some[0]].assign(method=name))
        if len(some) > 1:
            accuracy = np.array([at[place]["accuracy"] for place in some])  # (orders, groups)
            found[-1] = found[-1].assign(accuracy=accuracy.mean(0), ci_low=accuracy.min(0), ci_high=accuracy.max(0))
    return pd.concat(found, ignore_index=True)


def report(table, changes, auc, n_certified, k):
    """Print what was found. n_certified: how many of the filters removed by value are among the k lowest for certain."""
    print("Accuracy in % on FairFace's report set and CelebA's test set, with 95 % intervals.\n"
          "In brackets, filters removed. shapley: those of lowest value; random: any, mean of all orders (lowest to highest);\n"
          "threshold: decision threshold shifted; +threshold: both, chosen together. All chosen on the choosing set.\n")
    print(pd.DataFrame({f"{name} ({rows['n_removed'].iloc[0]})": metrics.percent(rows)
                        for name, rows in table.groupby("method", sort=False)}, index=table["group"].unique()).to_string())
    print("\nChanges in points on the report set, with 95 % intervals:\n")
    print(pd.DataFrame({name: metrics.percent(change) for name, change in changes.items()},
                       index=changes["shapley against nothing"]["group"]).rename_axis(None).T.to_string())
    print("\nAUC within race (no threshold moves it), change by removing the negative filters: "
          + "; ".join(f"{race} faces {text}" for race, text in zip(auc["group"], metrics.percent(auc))))
    n_removed = int(table.loc[table["method"] == "shapley", "n_removed"].iloc[0])
    if n_removed:
        print(f"\nOf the negative filters removed ({n_removed}), {n_certified} are certified by mab.py's intervals to be among "
              f"the {k} lowest; the others are a best guess.")
    else:
        print("\nNo removal improves balanced accuracy on the choosing set by more than a standard error: none is made.")


def draw_curves(curves, n_removed):
    """Accuracy on the report set against the number of filters removed; a line at the chosen number."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)

    def curve(method, split, group):
        rows = curves[(curves["method"] == method) & (curves["split"] == split) & (curves["group"] == group)]
        return rows["n_removed"].to_numpy(), *100 * rows[["accuracy", "ci_low", "ci_high"]].to_numpy().T

    for name, line in zip(datasets.GROUP_NAMES, ("-", "--", "-.", ":")):
        steps, accuracy, low, high = curve("shapley", "report", name)
        left.plot(steps, accuracy, line, label=name)
        left.fill_between(steps, low, high, alpha=0.15)
    left.set(title="each group, negative filters removed", ylabel="accuracy in %, FairFace report set")
    for method, line in (("shapley", "-"), ("shapley+threshold", "--")):
        right.plot(*curve(method, "report", "balanced")[:2], line, label=metrics.METHODS[method])
    for ending, colour in (("", "grey"), ("+threshold", "tan")):
        random = [curve(f"random {index}{ending}", "report", "balanced")[1] for index in range(RANDOM_ORDERS)]
        if random:
            right.fill_between(steps, np.min(random, 0), np.max(random, 0), color=colour, alpha=0.3,
                               label=f"{metrics.METHODS['random' + ending]}, range of {RANDOM_ORDERS}")
    right.plot(*curve("shapley", "celeba", "all")[:2], "-.", color="black", linewidth=1, label="CelebA test, negative filters")
    right.set(title="mean of the groups (balanced)")
    for axis in (left, right):
        axis.axvline(n_removed, color="black", linewidth=0.8)
        axis.annotate(" chosen", (n_removed, 0.02), xycoords=("data", "axes fraction"))
        axis.set(xlabel="filters removed, most negative first")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    return figure


def draw_values(values, removed, certified, layers):
    """The distribution of values, and in which layers the removed filters lie. certified: (n_filters,) bool."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    rank = np.argsort(np.argsort(values))
    names = list(dict.fromkeys(layers))
    depth = np.array([names.index(layer) for layer in layers])
    is_removed = np.isin(np.arange(len(values)), removed)
    for mask, style in ((~is_removed, dict(color="grey", s=4, label="kept")),
                        (is_removed & ~certified, dict(color="crimson", marker="x", s=24, label="removed, a best guess")),
                        (is_removed & certified, dict(color="black", marker="P", s=30, label="removed, certified"))):
        if not mask.any():
            continue
        left.scatter(rank[mask], values[mask], **style)
        right.scatter(values[mask], depth[mask], **style)
    left.set(title=f"{(values < 0).sum()} of {len(values)} values are negative", xlabel="filters, sorted by value",
             ylabel="Shapley value")
    right.set(title="by layer", xlabel="Shapley value", yticks=range(len(names)))
    right.set_yticklabels(names, fontsize=6)
    right.xaxis.get_major_locator().set_params(nbins=5)  # more labels would run into each other
    right.invert_yaxis()
    for axis in (left, right):
        axis.grid(alpha=0.3)
    left.legend(fontsize=8)
    return figure


def main():
    started = time.time()
    for name, value in (("MAX_REMOVED", MAX_REMOVED), ("RANDOM_ORDERS", RANDOM_ORDERS)):
        settings.require(name, value, value >= 0, "0 or more")
    device = model.device_of(DEVICE)
    values, certified, run = load_values(f"{RECORDS_DIR}/mab.npz")
    weights = settings.weights_path(RECORDS_DIR)
    network = model.load(weights, ARCH=ARCH, IMAGE_SIZE=IMAGE_SIZE, CELEBA_FRAME=CELEBA_FRAME).to(device)
    if model.digest(network) != run["network"]:
        raise Stop(f"{RECORDS_DIR}/mab.npz holds values of another network than {weights}; "
                   "run train_squeeze.py, mab.py and eval.py with one new --RECORDS_DIR")
    faces = {purpose: datasets.fairface(DATA_DIR, purpose, IMAGE_SIZE, FAIRFACE_FRAME)
             for purpose in ("values", "choose", "report")}
    faces["celeba"] = datasets.celeba(DATA_DIR, "test", IMAGE_SIZE, CELEBA_FRAME)
    if datasets.digest(faces["values"]) != run["images"]:
        raise Stop(f"{RECORDS_DIR}/mab.npz holds values from other images, or framed otherwise (FAIRFACE_FRAME was "
                   f"{','.join(map(str, run['FAIRFACE_FRAME']))}); set them back, or run mab.py with a new --RECORDS_DIR")
    evaluator = ablation.evaluator(network, IMAGE_SIZE)
    fills = ablation.fill_values(evaluator, faces.pop("values"), run["REMOVAL"])

    # What each method calls right as filters go: correct[method][split] is (steps + 1, N) bool.
    order = np.argsort(values, kind="stable")[:MAX_REMOVED]
    order = order[values[order] < 0]
    orders = {"shapley": order} | {  # mab.py's rounds draw from [SEED, round]: these are others
        f"random {index}": np.random.default_rng([SEED, index, 1]).permutation(len(values))[:len(order)]
        for index in range(RANDOM_ORDERS)}
    margins, shifts, correct = {}, {}, {}
    images = sum(len(some.male) for some in faces.values())
    with tqdm(total=images * len(orders), desc="eval.py", unit=" images", dynamic_ncols=True) as bar:
        for method, removed in orders.items():
            margins[method] = removal_margins(evaluator, fills, removed, faces, bar)
            shifts[method] = np.array([best_shift(margin, faces["choose"]) for margin in margins[method]["choose"]])
            correct[method] = correct_calls(margins[method], faces)
            correct[f"{method}+threshold"] = correct_calls(margins[method], faces, shifts[method])

    # The choosing set chooses; the report set only tells. places: {row of the table: [(method, number removed)]}.
    group = {split: some.group.numpy() for split, some in faces.items()}
    alone, shifted = (metrics.fewest_within_one_se(correct[method]["choose"], group["choose"])
                      for method in ("shapley", "shapley+threshold"))
    places = {"nothing": [("shapley", 0)], "threshold": [("shapley+threshold", 0)],
              "random": [(f"random {index}", alone) for index in range(RANDOM_ORDERS)],
              "shapley": [("shapley", alone)],
              "random+threshold": [(f"random {index}+threshold", shifted) for index in range(RANDOM_ORDERS)],
              "shapley+threshold": [("shapley+threshold", shifted)]}
    right = {name: np.mean([correct[method]["report"][number] for method, number in some], axis=0)
             for name, some in places.items() if some}
    changes = {f"{after} against {before}": metrics.change(right[before], right[after], group["report"], SEED)
               for after, before in COMPARISONS if after in right and before in right}
    auc = metrics.auc_within_race(*(margins["shapley"]["report"][number] for number in (0, alone)),
                                  group["report"], SEED)

    curves = pd.concat([
        metrics.accuracy(right, group[split]).assign(method=method, n_removed=n, split=split)
        for method, splits in correct.items() for split, steps in splits.items() for n, right in enumerate(steps)])
    curves = curves[["method", "n_removed", "split", "group", "accuracy", "ci_low", "ci_high", "n_images"]]
    table = summary(curves, places)
    removed = order[:alone]
    records.save({
        f"{RECORDS_DIR}/eval.json": {
            **records.about(settings.chosen(globals()), time.time() - started, str(device)), "run": run,
            "n_removed": {name: some[0][1] for name, some in places.items() if some},
            "shift": {"threshold": shifts["shapley"][0], "shapley+threshold": shifts["shapley"][shifted]},
            "removed_filters": removed.tolist(), "removed_certified": certified[removed].tolist(),
            "auc_within_race": auc.to_dict("records"),
            "table": table.to_dict("records"),
            "changes": {name: change.to_dict("records") for name, change in changes.items()}},
        f"{RECORDS_DIR}/eval.csv": curves,
        f"{RECORDS_DIR}/eval.png": draw_curves(curves, alone),
        f"{RECORDS_DIR}/values.png": draw_values(values, removed, certified, evaluator.layers)})
    report(table, changes, auc, int(certified[removed].sum()), run["TOP_K"])


if __name__ == "__main__":
    settings.run(main, globals())
