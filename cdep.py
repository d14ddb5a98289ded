"""CDEP: train a network not to use what it must not, and see whether it obeys.

    python cdep.py                              scikit-learn's digits with a decoy: no data needed
    python cdep.py --EXPERIMENT=color_mnist     DATA_DIR/mnist/

In the training set a decoy follows the label: a grey square, the colour of a digit, race. Each of
METHODS adds a penalty on the use of the decoy, for several LAMBDAS and SEEDS. Validation rows, with
decoys that point elsewhere, choose lambda; then the test rows are opened, once. Measured are
answers under decoys of every kind, and beside them what explanations say of the decoy.

EXPERIMENT: digits, decoy_mnist, color_mnist, faces, lesions (drawn skin images), isic, compas,
sentiment, sentiment_biased, sentiment_gendered. Writes cdep.json, cdep.csv, maps.npz and figures
under RECORDS_DIR. Interrupted, the same command goes on with the next training.
"""

import hashlib
import os
import time

from common import records, settings
from common.settings import DATA_DIR, SEED, WEIGHTS, InputError

import numpy as np
import torch

from penalties.losses import METHODS as ALL_METHODS
from penalties.measures import block_map, choose_strength, measure
from penalties.networks import require_arch
from penalties.problems import load_problem
from penalties.training import Job, Recipe, train_network
from report import cdep as report
from report import cdep_figures

# -----------------------------------------------------------------------------
EXPERIMENT = "digits"  # one of PROBLEMS in penalties/problems.py
RECORDS_DIR = "records/cdep"  # results, and the networks
ARCH = "auto"  # the network, one of the experiment's own; auto: its first
METHODS = "all"  # names in METHODS of penalties/losses.py with commas between
LAMBDAS = "auto"  # with commas between, for every method; auto: the experiment's own
SEEDS = 5  # trainings of each method, with the seeds SEED, SEED + 1, ...
SEARCH_SEEDS = 5  # of these, those that try every lambda; the chosen one trains the others
TRAIN_ROWS = 0  # images or rows trained on; 0: all that there are
EPOCHS = 0  # passes over them; 0: the experiment's own, as in the next two
BATCH_SIZE = 0  # rows a step
LEARNING_RATE = 0.0  # Adam's
SHOWN = 4  # images in the figure of heat-maps
OPEN_TEST = True  # False: the test rows stay closed; results are of the validation rows
# -----------------------------------------------------------------------------

TRAINED_WITH = ["EXPERIMENT", "SEED", "TRAIN_ROWS"]  # what a training must share
CHOSEN_WITH = ["METHODS", "LAMBDAS", "SEEDS", "SEARCH_SEEDS", "OPEN_TEST"]  # and an opened test


def main():
    """Load, train, evaluate, save, print."""
    started = time.time()
    problem, arch, recipe = load()
    record = open_record(problem, arch, recipe)
    train(problem, arch, recipe, record)
    evaluate(problem, arch, record)
    save(problem, arch, record, time.time() - started)
    print(report.summary_text(record))
    print(f"{RECORDS_DIR}: cdep.json, cdep.csv and figures written.")


def load():
    """The Problem, the name of its network, and its Recipe. Raises InputError."""
    for name, value in {"SEEDS": SEEDS, "SEARCH_SEEDS": SEARCH_SEEDS, "SHOWN": SHOWN}.items():
        settings.require(name, value, value >= 1, "at least 1")
    rule = f"at most SEEDS ({SEEDS})"
    settings.require("SEARCH_SEEDS", SEARCH_SEEDS, SEARCH_SEEDS <= SEEDS, rule)
    for name in ("EPOCHS", "BATCH_SIZE", "LEARNING_RATE"):
        settings.require(name, globals()[name], globals()[name] >= 0, "0 or more")
    problem = load_problem(EXPERIMENT, DATA_DIR, TRAIN_ROWS, WEIGHTS)
    arch = next(iter(problem.networks)) if ARCH == "auto" else ARCH
    require_arch(arch, problem.networks)
    own = problem.recipes[arch]
    recipe = Recipe(
        EPOCHS or own.epochs,
        BATCH_SIZE or own.batch_size,
        LEARNING_RATE or own.learning_rate,
        own.weight_decay,
        own.one_cycle,
    )
    for name in method_names():
        strengths_of(problem, name)
    return problem, arch, recipe


def method_names():
    """The methods to train, a list of str; vanilla among them. Raises InputError."""
    names = list(ALL_METHODS) if METHODS == "all" else METHODS.split(",")
    rule = f"all, or names with commas between: {', '.join(ALL_METHODS)}"
    settings.require("METHODS", METHODS, set(names) <= set(ALL_METHODS), rule)
    return list(dict.fromkeys(["vanilla", *names]))  # what the others are compared with


def strengths_of(problem, method):
    """The lambdas of a method, a list of float. Raises InputError."""
    if not ALL_METHODS[method].has_strength:
        return [0.0]
    if LAMBDAS == "auto":
        return list(problem.strengths[method])
    try:
        strengths = [float(text) for text in LAMBDAS.split(",")]
    except ValueError:
        strengths = [0.0]
    settings.require("LAMBDAS", LAMBDAS, min(strengths) > 0, "auto, or numbers above 0: 1,10,100")
    return strengths


# ----------------------------------------------------------------------------- record


def open_record(problem, arch, recipe):
    """The record to go on with, a dict. Raises InputError if it is of another run."""
    path = f"{RECORDS_DIR}/cdep.json"
    trained = {name: globals()[name] for name in TRAINED_WITH} | {"arch": arch}
    trained |= {"recipe": vars(recipe), "data": digest(problem)}
    if arch == "squeezenet1_1":  # the others start from nothing
        trained["weights"] = WEIGHTS
    chosen = {name: globals()[name] for name in CHOSEN_WITH}
    record = {"run": trained, "chosen_with": chosen, "trainings": [], "chosen": {}, "results": []}
    if not os.path.exists(path):
        return record | {"classes": list(problem.classes), "rows": {}}
    before = records.load_json(path, "cdep.py")
    changed = [name for name in trained if before.get("run", {}).get(name) != trained[name]]
    if before.get("results"):
        with_test = before.get("chosen_with", {})
        changed += [name for name in CHOSEN_WITH if with_test.get(name) != chosen[name]]
    if changed:
        raise InputError(
            f"{path} is of another run ({', '.join(changed)} differ); set them back, or give "
            "another --RECORDS_DIR"
        )
    return before | {"chosen_with": chosen}


def digest(problem):
    """Short hash of the rows for training and validation, which ties the record to them."""
    state = hashlib.sha256()
    for part in (problem.train, *problem.val.values()):
        for tensor in part[:2]:
            state.update(tensor.contiguous().numpy().tobytes())
    return state.hexdigest()[:16]


def save_record(record, seconds):
    """Write cdep.json. seconds: since this run began."""
    facts = records.provenance(settings.constants_of(globals()), seconds, "cpu")
    records.save({f"{RECORDS_DIR}/cdep.json": record | facts})


# ----------------------------------------------------------------------------- training


def train(problem, arch, recipe, record):
    """Train all networks, choose lambda on validation rows. Fills trainings and chosen."""
    names, seeds = method_names(), [SEED + number for number in range(SEEDS)]
    for name in names:
        for strength in strengths_of(problem, name):
            for seed in seeds[:SEARCH_SEEDS]:
                train_one(problem, arch, recipe, record, Job(name, strength, seed))
    vanilla = report.mean_measures(record, "vanilla", 0.0, seeds[:SEARCH_SEEDS])
    record["chosen"] = {}  # of this run's methods; the record may hold trainings of others
    for name in names:
        means = {}
        for strength in strengths_of(problem, name):
            means[strength] = report.mean_measures(record, name, strength, seeds[:SEARCH_SEEDS])
        record["chosen"][name] = choose_strength(means, vanilla)
    for name in names:
        for seed in seeds:
            train_one(problem, arch, recipe, record, Job(name, record["chosen"][name], seed))


def train_one(problem, arch, recipe, record, job):
    """Train one network and measure it on validation rows, unless the record has it."""
    kept = [row for row in record["trainings"] if Job(*report.key_of(row)) == job]
    path = network_path(job)
    if kept and os.path.exists(path):
        return
    started = time.process_time()
    network = train_network(problem, problem.networks[arch], job, recipe)
    seconds = time.process_time() - started
    row = vars(job) | {"seconds": round(seconds, 2)}
    row |= measure(network, problem, problem.val, ALL_METHODS[job.method])
    records.save({path: network.state_dict()})
    if not kept:
        record["trainings"].append(row)
        save_record(record, seconds)


def network_path(job):
    """Where a network's weights are kept."""
    return f"{RECORDS_DIR}/networks/{job.name()}.pth"


def load_network(problem, arch, job):
    """A trained network in eval mode. Raises InputError: its file is damaged."""
    network, path = problem.networks[arch](), network_path(job)
    try:
        network.load_state_dict(torch.load(path, weights_only=True))
    except Exception as error:  # whatever a damaged file raises
        reason = str(error).partition("\n")[0][:100]
        raise InputError(f"{path} is damaged ({reason}); move it away and run again") from None
    return network.eval()


# ----------------------------------------------------------------------------- results


def evaluate(problem, arch, record):
    """Measure all networks of the chosen lambdas on the test rows, which are opened here."""
    examples = problem.open_test() if OPEN_TEST else problem.val
    record["rows"] = {
        "training": len(problem.train.label),
        "validation": len(problem.val["same"].label),
        "reported": len(examples["same"].label),
    }
    record["reported"] = "test" if OPEN_TEST else "validation"
    record["results"] = []
    for name, strength in record["chosen"].items():
        for number in range(SEEDS):
            job = Job(name, strength, SEED + number)
            network = load_network(problem, arch, job)
            measures = measure(network, problem, examples, ALL_METHODS[name])
            record["results"].append(vars(job) | measures)


def save(problem, arch, record, seconds):
    """Write the record, its table, heat-maps and figures, all or none."""
    record |= records.provenance(settings.constants_of(globals()), seconds, "cpu")
    files = {f"{RECORDS_DIR}/cdep.json": record}
    files[f"{RECORDS_DIR}/cdep.csv"] = report.result_frame(record)
    maps = draw_maps(problem, arch, record) if problem.show else None
    if maps:
        files[f"{RECORDS_DIR}/maps.npz"] = maps
    for name, figure in cdep_figures.draw_all(record, maps).items():
        files[f"{RECORDS_DIR}/{name}.png"] = figure
        files[f"{RECORDS_DIR}/{name}.pdf"] = figure
    records.save(files)


def draw_maps(problem, arch, record):
    """What blocks of pixels contribute before and after: arrays for maps.npz.

    Of validation images with inverted decoys: images (K, S, S, 3) uint8, maps (methods, K, s, s),
    label (K,), answers (methods, K).
    """
    examples = problem.val["inverted"].take(slice(SHOWN))
    block = max(1, examples.inputs.shape[-1] // 14)
    maps, answers = [], []
    for name, strength in record["chosen"].items():
        network = load_network(problem, arch, Job(name, strength, SEED))
        shown = examples
        if ALL_METHODS[name].erases:
            shown = examples._replace(inputs=problem.erase(examples.inputs))
        maps.append(block_map(network, problem, shown, block))
        with torch.no_grad():
            answers.append(network(problem.prepare(shown.inputs)).argmax(1).numpy())
    return {
        "images": problem.show(examples.inputs),
        "maps": np.stack(maps),
        "label": examples.label.numpy(),
        "answers": np.stack(answers),
        "methods": np.array(list(record["chosen"])),
    }


if __name__ == "__main__":
    settings.run(main, globals(), resumes="networks/*.pth")
