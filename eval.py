"""Step 3: remove the filters with negative values, and measure what that repairs.

    python eval.py

Filters go one by one, the most negative first, never a positive one. How many go is chosen on
FairFace's choosing set: the fewest whose balanced accuracy is within one standard error of the
best; beside it by the worst group's accuracy, and by accuracy on CelebA's val alone, which needs no
group labels. The scores are those on the report set, beside other repairs, each chosen in the same
ways: a mere shift of the decision threshold, random filters, what rivals.py names, what finetune.py
trained, and each of them with a shift; and thresholds by race. A repair counts only beyond those.
The record counts how often the report set was opened, and when. Interrupted, the same command goes
on with the next repair.

For other tasks eval.py chooses nothing: it removes filters in the order of their values, the
highest or the lowest first, as mab.py was asked to. On the report set it measures what is lost,
overall, of each class and to an attack, beside random filters, those of the largest (for the lowest
values, the smallest) weights, and what rivals.py names.

Reads what mab.py wrote, and rivals.py and finetune.py if they have run. Writes under RECORDS_DIR
eval.json, eval.csv and figures; for faces also eval.npz, and faces.npz, those that a figure shows.
"""

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass

from common import records, settings
from common.settings import (
    ARCH,
    CELEBA_FRAME,
    DATA_DIR,
    DEVICE,
    FAIRFACE_FRAME,
    IMAGE_SIZE,
    NORMALISATION,
    RECORDS_DIR,
    SEED,
    TASK,
    WEIGHTS,
    InputError,
)

import numpy as np

import datasets
import model
from filters.game import load_game
from filters.measures import MEASURES
from filters.value import fill_values, l2_norms
from report import figures, findings, repair, responsible, selection
from report.following import SavedMargins, follow_repairs, load_finetuned
from report.labels import RULE_LABELS, label_needs
from report.removals import load_rivals, random_orders
from report.values import load_values

# -----------------------------------------------------------------------------
MAX_REMOVED = 60  # filters removed at most
RANDOM_ORDERS = 10  # random removals to compare with
OTHERS = ""  # RECORDS_DIRs of further runs of mab.py on this network, with commas between: rivals
# False: measure on the choosing set, and CelebA's val, in place of the report set and CelebA's test
# (for another TASK on the images of the values), as long as anything is still to be settled
OPEN_REPORT = True
BLACK_BOX = ""  # RECORDS_DIR of another network for this task, whose adversaries are tried on this
EVERY = 10  # for another TASK than faces: filters removed between columns of the printed table
# -----------------------------------------------------------------------------


@dataclass
class Report:
    """What a protocol gives: the contents of eval.json, further files, and lines to print."""

    record: dict
    files: dict
    lines: list


def main():
    """Check, load and measure by the protocol of the task, save, print."""
    started = time.time()
    check_constants()
    device = model.find_device(DEVICE)
    report = report_repair(device) if TASK == "faces" else report_responsible(device)
    facts = records.provenance(constants(), time.time() - started, str(device))
    records.save({f"{RECORDS_DIR}/eval.json": {**facts, **report.record}, **report.files})
    with suppress(FileNotFoundError):
        os.remove(f"{RECORDS_DIR}/eval_state.npz")
    print("\n".join(report.lines))


def constants():
    """The constants of this script by name."""
    return settings.constants_of(globals())


def check_constants():
    """Check what needs no records. Raises InputError."""
    for name, value in (("MAX_REMOVED", MAX_REMOVED), ("RANDOM_ORDERS", RANDOM_ORDERS)):
        settings.require(name, value, value >= 0, "0 or more")
    if TASK == "faces":
        names = list(other_folders())
        usable = all(os.path.exists(f"{folder}/mab.npz") for folder in split_list(OTHERS))
        distinct = len(names) == len(split_list(OTHERS)) and "+" not in "".join(names)
        rule = "folders of different names, without +, each with a mab.npz, separated by commas"
        settings.require("OTHERS", OTHERS, usable and distinct, rule)
    else:
        settings.require("EVERY", EVERY, EVERY >= 1, "at least 1")
        settings.require("OTHERS", OTHERS, not OTHERS, "empty, unless TASK=faces")


def split_list(text):
    """The parts of a constant with commas between, none of them empty."""
    return [part for part in text.split(",") if part]


def other_folders():
    """The folders of OTHERS, by the name of the repair: {"values of auc": "records/auc"}."""
    folders = split_list(OTHERS)
    return {f"values of {os.path.basename(os.path.normpath(folder))}": folder for folder in folders}


def count_openings(network):
    """The openings of the report set on record here, with this one if it is opened now.

    network: str, digest of the network. Raises InputError.
    """
    path, openings = f"{RECORDS_DIR}/eval.json", []
    if os.path.exists(path):
        openings = records.load_json(path, "eval.py").get("report_opened", [])
    if OPEN_REPORT:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        openings = [*openings, {"when": now, "network": network, "commit": records.commit()}]
    return openings


def table_rows(table):
    """A DataFrame as eval.json has it: a dict a row, None for NaN."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


# ----------------------------------------------------------------------------- faces


def report_repair(device):
    """Follow the protocol for faces, in report/repair.py. Raises InputError."""
    values = load_values(f"{RECORDS_DIR}/mab.npz")
    run = values.run
    if run["WHICH"] != "lowest":
        raise InputError(
            f"{RECORDS_DIR}/mab.npz has the highest values, but for TASK=faces eval.py repairs, by "
            "the lowest; run mab.py with --WHICH=lowest, or both with --TASK=celeba"
        )
    game = load_game(constants(), device, run)
    orders, runs = load_orders(values)
    finetuned = load_finetuned(f"{RECORDS_DIR}/finetune.pth", run)
    openings = count_openings(run["network"])
    faces = load_faces()
    own = {split: data for split, data in faces.items() if not split.startswith("celeba")}
    datasets.note_copies(datasets.purpose_names({"values": game.seen, **own}))
    reported = repair.Reported("report" if OPEN_REPORT else "choose", faces, SEED)
    fills = fill_values(game.evaluator, game.seen, run["REMOVAL"])
    state = saved_margins(run, orders, finetuned, faces)
    margins = follow_repairs(game, fills, orders, finetuned, faces, state)
    result = repair.evaluate_repairs(margins, orders["shapley"], reported)

    certified = values.filters["certified"].loc[result.removed].to_numpy()
    set_names = datasets.set_names(DATA_DIR)
    record = {
        "run": run,
        "runs": runs,
        "report_opened": openings,
        "told": reported.split,
        "rules": {rule: text.format(**set_names) for rule, text in RULE_LABELS.items()},
        "labels": needed_labels(result.rows, runs),
        "steps": {row.name: row.steps for row in result.rows},
        "trained": trained_steps(result.rows, finetuned),
        "removed_filters": result.removed.tolist(),
        "removed_certified": certified.tolist(),
        "table": table_rows(result.table),
        "changes": {name: table_rows(change) for name, change in result.changes.items()},
        "data_names": set_names,
    }
    lines = findings.repair_lines(result.table, result.changes, record, set_names)
    lines += findings.removal_lines(certified, len(orders["shapley"]), run["TOP_K"])
    lines += findings.opening_lines(openings)
    files = repair_files(result, set_names) | value_files(values, game.evaluator, result.removed)
    return Report(record, files, lines)


def load_orders(values):
    """All orders in which filters go, {name: (n,) int}, and the runs of mab.py behind the values.

    values: FilterValues. Raises InputError.
    """
    run, n_filters = values.run, len(values.filters)
    orders, runs = {"shapley": values.order}, {"shapley": run}
    for name, folder in other_folders().items():
        other = load_values(f"{folder}/mab.npz")
        if any(other.run[key] != run[key] for key in ("network", "images", "REMOVAL")):
            raise InputError(
                f"OTHERS: {folder}/mab.npz is of another network, of other images, or of another "
                "REMOVAL; leave it out, or give a run on this network"
            )
        orders[name], runs[name] = other.order, other.run
    orders |= random_orders(np.arange(n_filters), RANDOM_ORDERS, SEED)
    orders |= load_rivals(f"{RECORDS_DIR}/rivals.npz", run, n_filters, MAX_REMOVED)
    return {name: order[:MAX_REMOVED] for name, order in orders.items()}, runs


def load_faces():
    """The faces that a step is chosen by, and those of the scores: {split: Images}."""
    faces = {}
    for split in ["choose"] + ["report"] * OPEN_REPORT:
        faces[split] = datasets.fairface(DATA_DIR, split, IMAGE_SIZE, FAIRFACE_FRAME)
    celeba = (
        {"celeba": "test", selection.CELEBA_CHOOSING: "val"} if OPEN_REPORT else {"celeba": "val"}
    )
    for name, split in celeba.items():
        faces[name] = datasets.celeba(DATA_DIR, split, IMAGE_SIZE, CELEBA_FRAME)
    return faces


def saved_margins(run, orders, finetuned, faces):
    """Where the margins of the repairs that are done are kept until the record is written."""
    return SavedMargins(
        f"{RECORDS_DIR}/eval_state.npz",
        {
            "run": {name: run[name] for name in ("network", "images", "REMOVAL")},
            "orders": {name: order.tolist() for name, order in orders.items()},
            "finetuned": {name: digest_states(repair.states) for name, repair in finetuned.items()},
            "faces": {split: datasets.digest(images) for split, images in faces.items()},
        },
    )


def digest_states(states):
    """Short hash of a list of state dicts."""
    digest = hashlib.sha256()
    for state in states:
        for value in state.values():
            digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def needed_labels(rows, runs):
    """Which labels each repair needs beside those of its rule: {row: str}.

    runs: as from load_orders; rivals have the V of "shapley".
    """
    needs = {}
    for row in rows:
        run = runs.get(row.name.partition("@")[0].partition("+")[0], runs["shapley"])
        needs[row.name] = label_needs(row.name, MEASURES[run["MEASURE"]].compares_groups)
    return needs


def trained_steps(rows, finetuned):
    """What the chosen steps of training are: {row: list of str, one for each network}."""
    steps = {}
    for row in rows:
        name = row.name.partition("@")[0].partition("+")[0]
        if name in finetuned:
            names = ["as it was", *finetuned[name].steps]
            steps[row.name] = [names[step] for step in row.steps]
    return steps


def repair_files(result, set_names):
    """What is saved of repairs besides eval.json: {path: content}.

    result: RepairResult. set_names: dict.
    """
    split, steps = result.reported.split, {row.name: row.steps[0] for row in result.rows}
    drawn = {
        "eval": figures.repair_curves([result.curves], steps, split, set_names),
        "rivals": figures.rival_curves([result.curves], split, set_names),
        "frontier": figures.frontier_curves([result.curves], [steps], split, set_names),
    }
    files = {
        f"{RECORDS_DIR}/eval.csv": result.curves,
        f"{RECORDS_DIR}/eval.npz": result.margin_arrays(),
    }
    images, captions = result.examples()
    if len(images):
        drawn["faces"] = figures.face_grid(images, captions)
        files[f"{RECORDS_DIR}/faces.npz"] = {"images": images, "captions": captions}
    return files | figure_files(drawn)


def value_files(values, evaluator, removed):
    """Figures of the values and of the bandit's race: {path: Figure}.

    values: FilterValues. removed: (n,) int, the filters that were removed by them.
    """
    layers, channels = np.array(evaluator.layers), np.array(evaluator.channels)
    players, run = values.filters.index, values.run
    filters = values.filters.assign(layer=layers[players], channel=channels[players])
    drawn = {"values": figures.value_plot(filters, removed)}
    if len(values.race):
        drawn["race"] = figures.race_plot([values.race], run["TOP_K"], run["WHICH"])
    return figure_files(drawn)


def figure_files(drawn):
    """Figures as PNG and PDF: {path: Figure}. drawn: {name: Figure}."""
    kinds = ("png", "pdf")
    return {f"{RECORDS_DIR}/{name}.{kind}": drawn[name] for name in drawn for kind in kinds}


# ----------------------------------------------------------------------------- other tasks


def report_responsible(device):
    """Follow the protocol for other tasks, in report/responsible.py. Raises InputError."""
    values = load_values(f"{RECORDS_DIR}/mab.npz")
    run, players = values.run, values.filters.index
    if not len(values.order):
        sign = "above" if run["WHICH"] == "highest" else "below"
        raise InputError(
            f"{RECORDS_DIR}/mab.npz has no value {sign} 0, so there is no filter to remove; see "
            "what mab.py printed, and give another --RECORDS_DIR"
        )
    game = load_game(constants(), device, run)
    attack, path = run["MEASURE"] == "attack", f"{RECORDS_DIR}/rivals.npz"
    if attack and not game.evaluator.is_cut:
        raise InputError(
            f"{ARCH} cannot be cut into steps, which an attack on what remains of it needs; give "
            "another --ARCH"
        )
    rivals = load_rivals(path, run, len(game.evaluator.layers), MAX_REMOVED)
    openings = count_openings(run["network"])
    sets = load_sets(game, attack)
    fills = fill_values(game.evaluator, game.seen, run["REMOVAL"])
    norms = l2_norms(game.network, game.evaluator)
    limits = responsible.Limits(MAX_REMOVED, EVERY, RANDOM_ORDERS, SEED)
    result = responsible.evaluate_removals(game, fills, values, norms, rivals, sets, limits)
    record = {
        "run": run,
        "report_opened": openings,
        "told": "report" if OPEN_REPORT else "values",
        "classes": list(game.classes),
        "filters": len(players),
        "removed_filters": result.removed.tolist(),
        "removed_certified": values.filters["certified"].loc[result.removed].tolist(),
        "concentration": result.shares,
        "table": table_rows(result.table),
        "changes": table_rows(result.changes),
    }
    shapley = values.filters["shapley"].to_numpy()
    figure = figures.responsible_curves(result.curves, result.table, run, shapley, result.shares)
    files = {f"{RECORDS_DIR}/eval.csv": result.curves, **figure_files({"eval": figure})}
    files |= value_files(values, game.evaluator, result.removed)
    lines = findings.responsible_lines(
        result.table, result.changes, result.shares, record, MAX_REMOVED
    )
    return Report(record, files, lines + findings.opening_lines(openings))


def load_sets(game, attack):
    """The images to classify, {split: Images}: "report", and adversaries of them for an attack.

    game: Game. attack: bool, whether V is that of an attack. Raises InputError.
    """
    data = game.seen
    if OPEN_REPORT:
        frames = (CELEBA_FRAME, FAIRFACE_FRAME)
        data = datasets.load(TASK, DATA_DIR, "report", IMAGE_SIZE, *frames)
        datasets.note_copies(datasets.purpose_names({"values": game.seen, "report": data}))
    if not attack:
        return {"report": data}
    sets = {"report": data, **responsible.attacked_sets(game, data, SEED)}
    if BLACK_BOX:
        path, made_with = f"{BLACK_BOX}/squeezenet.pth", {"ARCH": ARCH, "IMAGE_SIZE": IMAGE_SIZE}
        if os.path.exists(path):
            checkpoint = model.read_checkpoint(path)
            made_with["ARCH"] = checkpoint.get("arch", ARCH)
            made_with["NORMALISATION"] = checkpoint.get("normalisation", "auto")
        network = model.load(path, game.classes, **made_with)
        network = network.to(game.device)
        sets["black box"] = responsible.black_box_set(game, network, made_with["ARCH"], data, SEED)
    return sets


if __name__ == "__main__":
    settings.run(main, globals(), earlier=("mab.py", "train_squeeze.py"), resumes="eval_state.npz")
