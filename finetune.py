"""The other repairs: weights that are trained on the images that the values are measured on.

    python finetune.py

Reads squeezenet.pth and FairFace's images for the values. Writes RECORDS_DIR/finetune.json and
finetune.pth, the weights after each step of each repair: epochs of training all layers, and of
training the head alone; new heads by last-layer retraining; and race erased in front of the head.
eval.py compares all with the removal of filters, and chooses the step. Interrupted, the same
command goes on with the next repair. A new repair is one more function and one line in
filters/retraining.py, its name in the constant REPAIRS, and its texts in report/labels.py.
"""

import os
import time

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
)

import datasets
import model
from filters.game import check_outputs
from filters.retraining import TRAINERS, Effort

# -----------------------------------------------------------------------------
REPAIRS = "finetune,finetune_head,dfr,leace,leace_dfr"  # names in TRAINERS of filters/retraining.py
EPOCHS = 10  # passes over the images, at most
BATCH_SIZE = 64  # images a step
LEARNING_RATE = 1e-4  # AdamW's highest, after a warm-up over the first tenth of the steps
HEAD_LEARNING_RATE = 1e-3  # the same, of the head alone
RATE_FACTORS = (0.3, 1.0, 3.0)  # learning rates that are tried, in units of these
# -----------------------------------------------------------------------------


def main():
    """Check, load, let each repair train and save it, print."""
    started = time.time()
    names = check_constants()
    device = model.find_device(DEVICE)
    network, faces = load(device)
    run = run_settings(network, faces)
    retrained = load_done(run)
    for name in names:
        if name not in retrained["steps"]:
            repair = TRAINERS[name](network, faces, device, effort())
            retrained["steps"][name], retrained[name] = repair.steps, repair.states
            save(retrained, run, time.time() - started, device)
    print(f"{RECORDS_DIR}/finetune.pth is written. Next: eval.py, with the same constants.")


def check_constants():
    """The names of the repairs to run, a list. Raises InputError."""
    for name, value in (("EPOCHS", EPOCHS), ("BATCH_SIZE", BATCH_SIZE)):
        settings.require(name, value, value >= 1, "at least 1")
    rates = {"LEARNING_RATE": LEARNING_RATE, "HEAD_LEARNING_RATE": HEAD_LEARNING_RATE}
    for name, value in rates.items():
        settings.require(name, value, value > 0, "above 0")
    settings.require("RATE_FACTORS", RATE_FACTORS, min(RATE_FACTORS) > 0, "above 0")
    names = [name for name in REPAIRS.split(",") if name]
    rule = f"of {', '.join(TRAINERS)}, with commas between"
    settings.require("REPAIRS", REPAIRS, names and set(names) <= set(TRAINERS), rule)
    return names


def effort():
    """The constants that training takes."""
    rates = [
        tuple(rate * factor for factor in dict.fromkeys(RATE_FACTORS))
        for rate in (LEARNING_RATE, HEAD_LEARNING_RATE)
    ]
    return Effort(EPOCHS, BATCH_SIZE, *rates, SEED)


def load(device):
    """The network on the device, and the Images for the values. Raises InputError."""
    trained_with = {"ARCH": ARCH, "IMAGE_SIZE": IMAGE_SIZE, "CELEBA_FRAME": CELEBA_FRAME}
    trained_with["NORMALISATION"] = NORMALISATION
    path = settings.weights_path(RECORDS_DIR)
    network = model.load(path, **trained_with).to(device)
    faces = datasets.fairface(DATA_DIR, "values", IMAGE_SIZE, FAIRFACE_FRAME)
    check_outputs(network, faces, datasets.GENDERS, path)
    return network, faces


def run_settings(network, faces):
    """What an interrupted run must share to be gone on with, a dict."""
    names = ("EPOCHS", "BATCH_SIZE", "LEARNING_RATE", "HEAD_LEARNING_RATE", "RATE_FACTORS", "SEED")
    constants = settings.constants_of(globals())
    run = {name: constants[name] for name in names}
    run["RATE_FACTORS"] = list(RATE_FACTORS)  # as JSON gives it back
    return run | {"network": model.digest(network), "images": datasets.digest(faces)}


def load_done(run):
    """What finetune.pth holds of this run: {"network": ..., "images": ..., "steps": ..., ...}.

    A record of other settings is replaced.
    """
    nothing = {"network": run["network"], "images": run["images"], "steps": {}}
    paths = [f"{RECORDS_DIR}/finetune.{ending}" for ending in ("json", "pth")]
    if not all(map(os.path.exists, paths)):
        return nothing
    if records.load_json(paths[0], "finetune.py").get("run") != run:
        return nothing
    return model.read_checkpoint(paths[1])


def save(retrained, run, seconds, device):
    """Write finetune.pth and finetune.json. Raises InputError."""
    facts = records.provenance(settings.constants_of(globals()), seconds, str(device))
    facts |= {"network": run["network"], "run": run, "steps": retrained["steps"]}
    records.save({f"{RECORDS_DIR}/finetune.json": facts, f"{RECORDS_DIR}/finetune.pth": retrained})


if __name__ == "__main__":
    settings.run(main, globals(), earlier=("train_squeeze.py", "mab.py"), resumes="finetune.pth")
