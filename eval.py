"""Step 3: remove the filters with negative values, and measure what that repairs.

    python eval.py

Filters go one by one, the most negative first, never a positive one. How many go is chosen on
FairFace's choosing set: the fewest whose balanced accuracy is within one standard error of the best.
The result is told on the report set, beside others, each chosen in the same way: a mere shift of the decision
threshold, random filters, what rivals.py names, fine-tuning by finetune.py, and each of them with a shift.
A repair counts only beyond those. The record counts how often the report set was opened, and when.
Reads what mab.py wrote, and rivals.py and finetune.py if they have run. Writes under RECORDS_DIR: eval.csv,
eval.json, eval.npz, figures, and faces.npz, those that a figure shows.

Of another TASK than faces, nothing is chosen: filters go in the order of the set that mab.py sought, the highest values first or the
lowest, and the report set tells what is lost, overall, of each class and to an attack, beside random filters, those of
the largest weights, and what rivals.py names. Writes eval.csv, eval.json and a figure.
"""

import copy
import json
import os
import time

import numpy as np
import pandas as pd
from tqdm import tqdm

import ablation
import adversaries
import datasets
import figures
import game
import metrics
import model
import records
import settings
from settings import ARCH, CELEBA_FRAME, DATA_DIR, DEVICE, FAIRFACE_FRAME, IMAGE_SIZE, RECORDS_DIR, SEED, TASK, WEIGHTS, Stop

# -----------------------------------------------------------------------------
MAX_REMOVED = 60    # filters removed at most
RANDOM_ORDERS = 10  # random removals to compare with
OTHERS = ""         # with commas between, RECORDS_DIRs of further runs of mab.py on this network: their values are rivals
OPEN_REPORT = True  # False: tell the choosing set, and CelebA's val, in place of the report set and CelebA's test (of another
                    # TASK the images of the values), as long as anything is still to be settled
BLACK_BOX = ""      # of an attack: RECORDS_DIR of another network for the same task, whose adversaries are shown to this one
EVERY = 10          # of another TASK than faces: filters removed between lines of the printed table
# -----------------------------------------------------------------------------


def best_shift(margin, faces):
    """The shift of the decision threshold that serves `faces` best: highest balanced accuracy, least of equals.

    margin (N,): the logit of "male" less that of "female"; a face is called male if margin + shift > 0.
    """
    order = np.argsort(margin)
    margin, male, group = (np.asarray(array)[order] for array in (margin.astype(np.float64), faces.label, faces.group))
    weight = 1 / np.bincount(group)[group]
    # A cut behind the i-th smallest margin has the women up to it right, and the men behind it.
    right = (np.append(0, np.cumsum(weight * (male == 0)))
             + np.append(np.cumsum((weight * (male == 1))[::-1])[::-1], 0))
    right[1:-1][margin[1:] == margin[:-1]] = -1  # equal margins cannot be told apart
    cuts = np.concatenate([[margin[0] - 1], (margin[1:] + margin[:-1]) / 2, [margin[-1] + 1]])
    best = cuts[right > right.max() - 1e-9]
    return -best[np.argmin(np.abs(best))]


def coalitions(order, n_filters):
    """What is left as filters go one by one: (len(order) + 1, n_filters) bool."""
    keep = np.ones((len(order) + 1, n_filters), dtype=bool)
    for step, removed in enumerate(order):
        keep[step + 1:, removed] = False
    return keep


def removal_margins(evaluator, fills, order, faces, bar):
    """Margins of each set's faces as filters go in `order`: {split: (len(order) + 1, N) float32}."""
    keep = coalitions(order, len(fills))
    return {split: ablation.outputs(evaluator, fills, some.images, keep, ablation.male_margin, bar) for split, some in faces.items()}


def load_values(path):
    """What mab.py found: the filters to remove, a DataFrame of its players, the run's settings. Raises Stop.

    Of the set sought. Lowest: those that stages of the run removed go first, in their order, then the others by value; but
    none that helps. Highest: by value, but none that harms.
    Index: the filters' numbers. Columns: shapley, ci_low, ci_high, certified (whether the intervals prove it of the set).
    """
    arrays = records.load_npz(path, "mab.py")
    try:
        run = json.loads(str(arrays["run"]))
        for name in ("network", "images", "REMOVAL", "FAIRFACE_FRAME", "TOP_K", "WHICH", "BOUND", "MEASURE"):  # what is read of it
            run[name]
        filters = pd.DataFrame({"shapley": arrays["values"], "ci_low": arrays["ci_low"], "ci_high": arrays["ci_high"],
                                "certified": (arrays["status"] == "top") & (run["BOUND"] != "clt")},
                               index=arrays.get("players", np.arange(len(arrays["values"]))))
        removed, sign = filters.index[arrays["removed"]], -1 if run["WHICH"] == "lowest" else 1
        filters.loc[removed, "shapley"] = arrays["lowest"]
        filters.loc[removed, ["ci_low", "ci_high"]], filters.loc[removed, "certified"] = np.nan, False  # those are the last stage's
        rest = filters.index[np.argsort(-sign * filters["shapley"].to_numpy(), kind="stable")]
        order = np.concatenate([removed, rest[~rest.isin(removed)]]).astype(int)
        of_the_set = np.logical_and.accumulate(sign * filters["shapley"].loc[order].to_numpy() > 0)  # up to the first of the other sign
        return order[of_the_set], filters, run
    except (KeyError, TypeError, ValueError, IndexError):
        raise Stop(f"{path} is not a record of mab.py; move it away and run mab.py again") from None


def load_rivals(path, run, n_filters):
    """What rivals.py named in this game, as mab.py's run has it: {name: filters}; nothing if it has not run. Raises Stop."""
    if not os.path.exists(path):
        return {}
    orders = records.load_npz(path, "rivals.py")
    try:
        made_for = json.loads(str(orders.pop("run")))
        if any(np.bincount(order, minlength=n_filters).shape != (n_filters,) for order in orders.values()):
            raise ValueError
        changed = [name for name in ("network", "images", "MEASURE", "REMOVAL") if made_for[name] != run[name]]
        changed += ["WHICH"] * (made_for.get("WHICH", "lowest") != run["WHICH"])
        changed += ["MAX_REMOVED"] * (made_for["MAX_REMOVED"] < MAX_REMOVED)
    except (KeyError, TypeError, ValueError):
        raise Stop(f"{path} is not a record of rivals.py; move it away, and run rivals.py again or do without") from None
    if changed:
        raise Stop(f"{path} was made with another {', '.join(changed)}; move it away, and run rivals.py again or do without")
    return orders


def load_finetuned(path, run):
    """What finetune.py made of this network: {name: [state dict after each epoch]}; nothing if it has not run. Raises Stop."""
    if not os.path.exists(path):
        return {}
    states = model.read(path)
    made_of = [states.pop(name, None) for name in ("network", "images")]
    if made_of != [run["network"], run["images"]] or not all(isinstance(some, list) for some in states.values()):
        raise Stop(f"{path} is not finetune.py's of this network and these images; move it away, and run finetune.py again or do without")
    return states


def finetuned_margins(network, states, faces, device, bar):
    """Margins as from removal_margins, of a network after one epoch after another."""
    found = {split: [] for split in faces}
    for state in states:
        network.load_state_dict(state)
        for split, some in faces.items():
            found[split].append(model.margins(network, some, device))
            bar.update(len(some.label))
    return {split: np.stack(some) for split, some in found.items()}


def follow(network, evaluator, fills, orders, finetuned, faces):
    """Margins along each repair's path, from the network as it is: {path: {split: (steps + 1, N)}}.

    orders: {path: filters that go one by one}; finetuned: {path: state dicts, one an epoch}.
    """
    margins, images = {}, sum(len(some.label) for some in faces.values())
    steps = sum(len(order) + 1 for order in orders.values()) + sum(map(len, finetuned.values()))
    with tqdm(total=images * steps, desc="eval.py", unit=" images", dynamic_ncols=True) as bar:
        for path, order in orders.items():
            margins[path] = removal_margins(evaluator, fills, order, faces, bar)
        for path, states in finetuned.items():
            after = finetuned_margins(copy.deepcopy(network), states, faces, evaluator.device, bar)
            margins[path] = {split: np.concatenate([margins["shapley"][split][:1], after[split]]) for split in faces}
    return margins


def choose(margins, faces):
    """How far to go along each path, by the choosing set alone: as the networks are, and with the best threshold for each.

    Returns margins so shifted, {path, path+threshold: {split: (steps + 1, N) float64}}; rows of the table, {row: [(path, step)]},
    several for random orders; and the curves, as in eval.csv.
    """
    male, group = ({split: getattr(some, name).numpy() for split, some in faces.items()} for name in ("label", "group"))
    shifted, rows, curves = {}, {"nothing": [("shapley", 0)], "threshold": [("shapley+threshold", 0)]}, []
    for path, of_split in margins.items():
        shifts = np.array([best_shift(some, faces["choose"]) for some in of_split["choose"]])
        for ending, shift in (("", 0 * shifts), ("+threshold", shifts)):
            shifted[path + ending] = {split: some + shift[:, None] for split, some in of_split.items()}
            correct = {split: (some > 0) == (male[split] == 1) for split, some in shifted[path + ending].items()}
            row = ("random" if path.startswith("random ") else path) + ending
            rows.setdefault(row, []).append((path + ending, metrics.fewest_within_one_se(correct["choose"], group["choose"])))
            curves += [metrics.accuracy(right, group[split]).assign(method=path + ending, n_removed=number, split=split)
                       for split, some in correct.items() for number, right in enumerate(some)]
    columns = ["method", "n_removed", "split", "group", "accuracy", "ci_low", "ci_high", "n_images"]
    return shifted, rows, pd.concat(curves, ignore_index=True)[columns]


def tell(at, rows, faces, celeba):
    """The scores of all rows, and the changes between those that are compared. at: {split: {row: [(K, N) margins]}}."""
    def over_splits(measure, *names):
        found = pd.concat([measure(*(at[split][name] for name in names), faces[split].label.numpy(), faces[split].group.numpy(), SEED)
                           for split in at], ignore_index=True)
        return found.replace({"group": {"all": f"CelebA {celeba}"}})

    table = pd.concat([over_splits(metrics.table, row).assign(row=row, steps=np.mean([step for _, step in some]))
                       for row, some in rows.items()], ignore_index=True)
    return table, {f"{after} against {before}": over_splits(metrics.change, before, after) for after, before in compared(rows)}


def compared(rows):
    """Which rows of the table are told as a change, (after, before): all against doing nothing, and the values against all."""
    found = [(row, "nothing") for row in rows if row != "nothing"] + [("shapley", "threshold"), ("shapley+threshold", "threshold")]
    for row in rows:
        name, plus, _ = row.partition("+")
        if name not in ("nothing", "threshold", "shapley"):
            found.append((f"shapley{plus and '+threshold'}", row))
    return found


def opened(path, network):
    """The openings of the report set that are on record here: those of before, and now's if it is opened."""
    earlier = records.load_json(path, "eval.py").get("report_opened", []) if os.path.exists(path) else []
    return earlier + OPEN_REPORT * [{"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "network": network,
                                     "commit": records.commit()}]


def rows_of(table):
    """A DataFrame for a JSON file: a dict a row, None for NaN."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def shown(faces, before, after, repaired=5, broken=3):
    """A handful of faces whose call the repair changes, the most changed first: those repaired, and those it breaks.

    before, after: (N,) margins. Returns images (K, S, S, 3) uint8 and captions (K,).
    """
    male = faces.label.numpy() == 1
    turned = [((before > 0) != male) & ((after > 0) == male), ((before > 0) == male) & ((after > 0) != male)]
    most = np.argsort(-abs(after - before), kind="stable")
    rows = np.concatenate([most[some[most]][:number] for some, number in zip(turned, (repaired, broken))])
    captions = [f"one of the {datasets.GROUP_NAMES[faces.group[row]]}\n" + " -> ".join(
        datasets.GENDERS[int(some[row] > 0)] for some in (before, after)) for row in rows]
    return faces.images[rows].permute(0, 2, 3, 1).numpy(), np.array(captions, dtype=str)


def report(table, changes, n_negative, certified, k, openings):
    """Print what was found. n_negative: filters that could go; certified: (removed,) bool, which are among the k lowest for certain."""
    where, celeba = ("report set", "test") if OPEN_REPORT else ("choosing set", "val")
    print(f"Scores in % on FairFace's {where}, and accuracy on CelebA's {celeba} set. In brackets, filters removed (epochs, of "
          "fine-tuning).\nHow many, and the shift of '... and threshold', were chosen on the choosing set.\n")
    wide = table.pivot_table(index="row", columns="group", values="value", sort=False) * 100
    wide.index = [f"{figures.label(row)} ({table.loc[table['row'] == row, 'steps'].iloc[0]:g})" for row in wide.index]
    print(wide.rename_axis(columns=None).to_string(float_format="{:.1f}".format))
    print("\nChanges in points, with 95 % intervals over the images:\n")
    for name in ("threshold against nothing", "shapley against nothing", "shapley against random", "shapley against threshold",
                 "shapley+threshold against nothing", "shapley+threshold against threshold"):
        if name in changes:
            told = changes[name].set_index("group").loc[["black women", "balanced", "AUC black", f"CelebA {celeba}"]]
            after, before = name.split(" against ")
            print(f"{figures.label(after)}, against {figures.label(before)}: "
                  + "; ".join(f"{group} {text}" for group, text in zip(told.index, metrics.percent(told))))
    if len(certified):
        print(f"\nOf the negative filters removed ({len(certified)}), {certified.sum()} are certified by mab.py's intervals to be among "
              f"the {k} lowest; the others are a best guess.")
    elif n_negative:
        print("\nNo removal improves balanced accuracy on the choosing set by more than a standard error: none is made.")
    else:
        print("\nThere is nothing to remove: MAX_REMOVED is 0, or no value is negative. No removal is made.")
    if len(openings) > 1:
        print(f"The report set has been opened {len(openings)} times here, first {openings[0]['when']}: "
              "what was settled in between knew it.")


def repair():
    """What removal repairs, of faces."""
    started = time.time()
    others = [folder for folder in OTHERS.split(",") if folder]
    names = [f"values of {os.path.basename(os.path.normpath(folder))}" for folder in others]
    settings.require("OTHERS", OTHERS, len(set(names)) == len(names) and not any("+" in name for name in names)
                     and all(os.path.exists(f"{folder}/mab.npz") for folder in others),
                     "folders of different names, without +, that hold a mab.npz; with commas between")
    device = model.device_of(DEVICE)
    order, filters, run = load_values(f"{RECORDS_DIR}/mab.npz")
    if run["WHICH"] != "lowest":
        raise Stop(f"{RECORDS_DIR}/mab.npz sought the highest values, but of TASK=faces eval.py repairs, by the lowest; "
                   "run mab.py with --WHICH=lowest, or both with --TASK=celeba")
    weights = settings.weights_path(RECORDS_DIR)
    network = model.load(weights, ARCH=ARCH, IMAGE_SIZE=IMAGE_SIZE, CELEBA_FRAME=CELEBA_FRAME).to(device)
    if model.digest(network) != run["network"]:
        raise Stop(f"{RECORDS_DIR}/mab.npz holds values of another network than {weights}; "
                   "run train_squeeze.py, mab.py and eval.py with one new --RECORDS_DIR")
    rivals = load_rivals(f"{RECORDS_DIR}/rivals.npz", run, len(filters))
    finetuned = load_finetuned(f"{RECORDS_DIR}/finetune.pth", run)
    openings = opened(f"{RECORDS_DIR}/eval.json", run["network"])
    purposes = ("values", "choose", "report") if OPEN_REPORT else ("values", "choose")
    faces = {purpose: datasets.fairface(DATA_DIR, purpose, IMAGE_SIZE, FAIRFACE_FRAME) for purpose in purposes}
    celeba = "test" if OPEN_REPORT else "val"
    faces["celeba"] = datasets.celeba(DATA_DIR, celeba, IMAGE_SIZE, CELEBA_FRAME)
    if datasets.digest(faces["values"]) != run["images"]:
        raise Stop(f"{RECORDS_DIR}/mab.npz holds values from other images, or framed otherwise (FAIRFACE_FRAME was "
                   f"{','.join(map(str, run['FAIRFACE_FRAME']))}); set them back, or run mab.py with a new --RECORDS_DIR")
    evaluator = ablation.evaluator(network, IMAGE_SIZE)
    fills = ablation.fill_values(evaluator, faces.pop("values"), run["REMOVAL"])

    orders, runs = {"shapley": order}, {"shapley": run}
    for name, folder in zip(names, others):
        orders[name], _, runs[name] = load_values(f"{folder}/mab.npz")
        if any(runs[name][of] != run[of] for of in ("network", "images", "REMOVAL")):
            raise Stop(f"OTHERS: {folder}/mab.npz is of another network, of other images, or of another REMOVAL")
    random = {f"random {index}": np.random.default_rng([SEED, index, 1]).permutation(len(fills))  # mab.py draws otherwise
              for index in range(RANDOM_ORDERS)}
    orders = {name: order[:MAX_REMOVED] for name, order in {**orders, **random, **rivals}.items()}
    margins = follow(network, evaluator, fills, orders, finetuned, faces)
    shifted, rows, curves = choose(margins, faces)
    told = "report" if OPEN_REPORT else "choose"
    at = {split: {row: [np.stack([shifted[path][split][step] for path, step in some])] for row, some in rows.items()}
          for split in (told, "celeba")}
    table, changes = tell(at, rows, faces, celeba)
    removed = orders["shapley"][:rows["shapley"][0][1]]
    certified = filters["certified"].loc[removed].to_numpy()
    drawn = {"eval": figures.curves([curves], {row: some[0][1] for row, some in rows.items()}, told),
             "rivals": figures.rivals([curves], told), "values": figures.values(filters.assign(layer=evaluator.layers), removed)}
    files = {}
    examples = shown(faces[told], *(at[told][row][0][0] for row in ("nothing", "shapley")))
    if len(examples[0]):
        drawn["faces"], files[f"{RECORDS_DIR}/faces.npz"] = figures.faces(*examples), dict(zip(("images", "captions"), examples))
    records.save({
        f"{RECORDS_DIR}/eval.json": {
            **records.about(settings.chosen(globals()), time.time() - started, str(device)), "run": run, "runs": runs,
            "report_opened": openings, "told": told,
            "steps": {row: [step for _, step in some] for row, some in rows.items()},
            "removed_filters": removed.tolist(), "removed_certified": certified.tolist(),
            "table": rows_of(table), "changes": {name: rows_of(change) for name, change in changes.items()}},
        f"{RECORDS_DIR}/eval.csv": curves,
        f"{RECORDS_DIR}/eval.npz": {
            **{f"{split}/{row}": some[0].astype(np.float32) for split in at for row, some in at[split].items()},
            **{f"{name}/{split}": getattr(faces[split], field).numpy() for name, field in (("male", "label"), ("group", "group"))
               for split in at}},
        **files,  # git ignores what shows faces
        **{f"{RECORDS_DIR}/{name}.{kind}": figure for name, figure in drawn.items() for kind in ("png", "pdf")}})
    report(table, changes, len(orders["shapley"]), certified, run["TOP_K"], openings)


# ----------------------------------------------------------------------------- what the filters of a set are responsible for


def attacks_on(network, data, classes, device, other):
    """Adversaries of `data` as Images, labelled with the targets: made on the network, and on the one of `other`, a RECORDS_DIR, if it is given.

    Beside them the images themselves, labelled so, too: how many are taken for the target without any attack.
    """
    pairs = adversaries.pairs(network, model.digest(network), data, len(classes), SEED, device, "attacking the network")
    found = {"attack": pairs.take(pairs.group == adversaries.ADVERSARY)}
    found["no attack"] = pairs.take(pairs.group == adversaries.CLEAN)._replace(label=found["attack"].label)
    if other:
        path = f"{other}/squeezenet.pth"
        arch = model.read(path).get("arch", ARCH) if os.path.exists(path) else ARCH
        another = model.load(path, classes, ARCH=arch, IMAGE_SIZE=IMAGE_SIZE).to(device)
        pairs = adversaries.pairs(another, model.digest(another), data, len(classes), SEED, device, f"attacking {arch}")
        found["black box"] = pairs.take(pairs.group == adversaries.ADVERSARY)
    return found


def attacked_anew(evaluator, fills, order, steps, data, classes, run):
    """Rows of the table for attacks on what is left after so many filters have gone."""
    rows = []
    for step in steps:
        made = json.dumps([run["network"], order[:step].tolist(), fills[order[:step]].tolist()])  # what adversaries are kept by
        pairs = adversaries.pairs(evaluator.without(order[:step], fills), made, data, len(classes), SEED, evaluator.device,
                                  f"attacking anew, {step} filters removed")
        some = {"fresh attack": pairs.take(pairs.group == adversaries.ADVERSARY)}
        right = called_right(evaluator, fills, {"shapley": order}, {"shapley": [step]}, some)["shapley", "fresh attack"]
        rows.append(("shapley", step, "fresh attack", "success", *metrics.share(right)))
    return rows


def called_right(evaluator, fills, orders, steps, sets):
    """Whether each image is called its label after so many filters have gone: {(method, split): (len(steps[method]), N) bool}."""
    images = sum(len(data.label) for data in sets.values()) * sum(map(len, steps.values()))
    found = {}
    with tqdm(total=images, desc="eval.py", unit=" images", dynamic_ncols=True) as bar:
        for method, order in orders.items():
            keep = coalitions(order, len(fills))[steps[method]]
            for split, data in sets.items():
                called = ablation.outputs(evaluator, fills, data.images, keep, lambda logits: logits.argmax(-1), bar)
                found[method, split] = called == data.label.numpy()
    return found


def scored(right, steps, rows):
    """All scores, a row each, as eval.csv has them. steps: of each method; rows: {(split, group): the images that the score is of}."""
    found = []
    for (method, split), some in right.items():
        for group, members in ((group, members) for (of, group), members in rows.items() if of == split and members.any()):
            hits, n = some[:, members].sum(1), int(members.sum())
            low, high = metrics.wilson(hits, n)
            found.append(pd.DataFrame({"method": method, "n_removed": steps[method], "split": split, "group": group,
                                       "accuracy": hits / n, "ci_low": low, "ci_high": high, "n_images": n}))
    return pd.concat(found, ignore_index=True)


def told_at(told, right, steps, rows):
    """Scores at some steps, of all random orders as one method; and by how much the values' differs from each other's, paired."""
    table, changes = [], []
    for split, group in rows:
        for step in told:
            at = {}  # {method: [(N,) bool of each order]}
            for (name, of), some in right.items():
                if of == split and step in steps[name]:
                    at.setdefault(name.partition(" ")[0], []).append(some[steps[name].index(step), rows[split, group]])
            at = {method: np.stack(some) for method, some in at.items()}
            table += [(method, step, split, group, *metrics.share(some)) for method, some in at.items()]
            changes += [("shapley", method, step, split, group, *metrics.difference(at["shapley"], some))
                        for method, some in at.items() if method != "shapley"]
    return (pd.DataFrame(table, columns=["method", "n_removed", "split", "group", "value", "ci_low", "ci_high"]),
            pd.DataFrame(changes, columns=["after", "before", "n_removed", "split", "group", "change", "ci_low", "ci_high"]))


def groups_of(data, classes, of_class, sets):
    """What scores are of, {(split, group): (N,) bool}: those of the table, and for eval.csv the classes, if they are not many."""
    label = data.label.numpy()
    by_class = {("report", f"class {name}"): label == number for number, name in enumerate(classes) if len(classes) <= 20 or name == of_class}
    rows = {("report", "all"): label >= 0}
    if of_class:
        mine = ("report", f"class {of_class}")
        rows |= {mine: by_class[mine], ("report", "others"): ~by_class[mine]}
    rows |= {(split, "success"): some.label.numpy() >= 0 for split, some in sets.items() if split != "report"}
    return rows, by_class


def responsible():
    """What goes with the filters of the set that mab.py sought, of any task but faces."""
    started = time.time()
    settings.require("EVERY", EVERY, EVERY >= 1, "at least 1")
    settings.require("OTHERS", OTHERS, not OTHERS, "left out, but for TASK=faces")
    device = model.device_of(DEVICE)
    order, filters, run = load_values(f"{RECORDS_DIR}/mab.npz")
    if not len(order):
        raise Stop(f"{RECORDS_DIR}/mab.npz has no value {'above' if run['WHICH'] == 'highest' else 'below'} 0, so nothing is removed; "
                   "see what mab.py said of it, and give another --RECORDS_DIR")
    network, classes, seen = game.load(settings.chosen(globals()), device, run)
    evaluator = ablation.evaluator(network, IMAGE_SIZE)
    attack, n_filters = run["MEASURE"] == "attack", len(evaluator.layers)
    if attack and not hasattr(evaluator, "without"):
        raise Stop(f"{ARCH} cannot be cut into steps, which attacking what is left of it needs; give another --ARCH")
    rivals = load_rivals(f"{RECORDS_DIR}/rivals.npz", run, n_filters)
    openings = opened(f"{RECORDS_DIR}/eval.json", run["network"])
    data = datasets.load(TASK, DATA_DIR, "report", IMAGE_SIZE, CELEBA_FRAME, FAIRFACE_FRAME) if OPEN_REPORT else seen
    sets = {"report": data, **(attacks_on(network, data, classes, device, BLACK_BOX) if attack else {})}
    fills = ablation.fill_values(evaluator, seen, run["REMOVAL"])

    players = filters.index.to_numpy()
    orders = {"shapley": order, "l2_norm": players[np.argsort(-ablation.l2_norms(network, evaluator)[players], kind="stable")], **{
        f"random {index}": np.random.default_rng([SEED, index, 1]).permutation(players) for index in range(RANDOM_ORDERS)}, **rivals}
    number = min(MAX_REMOVED, len(order))
    orders, told = {name: some[:number] for name, some in orders.items()}, sorted({*range(0, number + 1, EVERY), number})
    steps = {name: list(range(number + 1)) if name == "shapley" else [step for step in told if step <= len(some)] for name, some in orders.items()}
    rows, by_class = groups_of(data, classes, run["CLASS"], sets)
    right = called_right(evaluator, fills, orders, steps, sets)
    table, changes = told_at(told, right, steps, rows)
    if attack:
        before = table[(table["method"] == "shapley") & (table["split"] == "attack") & (table["n_removed"] == 0)].iloc[0].tolist()
        anew = [(*before[:2], "fresh attack", *before[3:]), *attacked_anew(evaluator, fills, orders["shapley"], told[1:], data, classes, run)]
        table = pd.concat([table, pd.DataFrame(anew, columns=table.columns)], ignore_index=True)
    values = filters["shapley"].to_numpy()
    shares = metrics.concentration(values) if not (attack or run["CLASS"]) and values.sum() > 0 else {}  # of a sum of either sign there are none
    curves = scored(right, steps, rows | by_class)
    record = {**records.about(settings.chosen(globals()), time.time() - started, str(device)), "run": run, "report_opened": openings,
              "told": "report" if OPEN_REPORT else "values", "classes": list(classes), "filters": len(filters),
              "removed_filters": orders["shapley"].tolist(), "removed_certified": filters["certified"].loc[orders["shapley"]].tolist(),
              "concentration": shares, "table": rows_of(table), "changes": rows_of(changes)}
    figure = figures.responsible(curves, table, run, values, shares)
    records.save({f"{RECORDS_DIR}/eval.json": record, f"{RECORDS_DIR}/eval.csv": curves,
                  **{f"{RECORDS_DIR}/eval.{kind}": figure for kind in ("png", "pdf")}})
    report_responsible(table, changes, shares, record)


def report_responsible(table, changes, shares, record):
    """Print what was found. The arguments are as in eval.json."""
    which, where = record["run"]["WHICH"], "of the report set" if record["told"] == "report" else "of the values, rather too good"
    print(f"In %, on the images {where}, after so many filters were removed:\n")
    table = table.assign(what=[f"{figures.score(split, group)}: {figures.label(method, which)}" for method, split, group in zip(
        table["method"], table["split"], table["group"])], value=100 * table["value"])
    print(table.pivot_table(index="what", columns="n_removed", values="value", sort=False).rename_axis(index=None, columns=None)
          .map(lambda value: "" if np.isnan(value) else f"{value:.1f}").to_string())
    if table["n_removed"].max() < MAX_REMOVED:
        print(f"\nNo more are removed, of MAX_REMOVED={MAX_REMOVED}: no other value is of the sign that was sought.")
    last = changes[(changes["n_removed"] == changes["n_removed"].max()) & changes["before"].isin(["random", "l2_norm"])]
    print(f"\n{last['n_removed'].max()} filters removed, in points, with 95 % intervals:\n")
    for (_, row), text in zip(last.iterrows(), metrics.percent(last)):
        print(f"{figures.score(row['split'], row['group'])}: {figures.label('shapley', which)}, "
              f"against {figures.label(row['before'], which)}: {text}")
    if shares:
        print("\nOf the sum of all values, the highest " + ", ".join(
            f"{share:.1%} of the filters have {part:.0%}" for share, part in shares.items()) + ".")
    if len(record["report_opened"]) > 1:
        print(f"The report set has been opened {len(record['report_opened'])} times here, first {record['report_opened'][0]['when']}: "
              "what was settled in between knew it.")


def main():
    for name, value in (("MAX_REMOVED", MAX_REMOVED), ("RANDOM_ORDERS", RANDOM_ORDERS)):
        settings.require(name, value, value >= 0, "0 or more")
    repair() if TASK == "faces" else responsible()


if __name__ == "__main__":
    settings.run(main, globals())
