"""Step 1: fine-tune a SqueezeNet on CelebA's gender labels, and measure it on FairFace by group.

    python train_squeeze.py

Writes squeezenet.pth and RECORDS_DIR/train_squeeze.json. FairFace accuracy is measured on the
choosing set: the report set stays closed until eval.py. Interrupted, the same command goes on from
the last epoch. For another TASK it trains on its training images, and measures on those for the
values.
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
    TASK,
    WEIGHTS,
    InputError,
)

import numpy as np
import pandas as pd
import torch

import datasets
import model
from report import metrics

# -----------------------------------------------------------------------------
EPOCHS = 6  # passes over the training images; the original had 2
BATCH_SIZE = 64  # images a step
LEARNING_RATE = 3e-4  # AdamW's highest, after a warm-up over the first tenth of the steps
# -----------------------------------------------------------------------------


def main():
    """Load, train, evaluate, save, print."""
    started = time.time()
    check_constants()
    device = model.find_device(DEVICE)
    os.makedirs(RECORDS_DIR, exist_ok=True)  # better now than after the first epoch
    classes, data, evaluated = load()
    torch.manual_seed(SEED)
    network = model.build(ARCH, WEIGHTS, IMAGE_SIZE, classes, NORMALISATION).to(device)
    state_path = f"{RECORDS_DIR}/train_state.pth"
    run = run_settings(data, network.source)
    train(network, data, evaluated, device, run, state_path)
    table = evaluate(network, evaluated, device)
    path = settings.weights_path(RECORDS_DIR)
    seconds = time.time() - started
    constants = settings.constants_of(globals())
    records.save(
        {
            f"{RECORDS_DIR}/train_squeeze.json": {
                **records.provenance(constants, seconds, str(device)),
                "network": model.digest(network),
                "source": network.source,
                "accuracy": table.to_dict("records"),
            },
            path: model.pack_checkpoint(
                network,
                ARCH=ARCH,
                IMAGE_SIZE=IMAGE_SIZE,
                CELEBA_FRAME=CELEBA_FRAME,
                NORMALISATION=NORMALISATION,
                CLASSES=classes,
            ),
        }
    )
    os.remove(state_path)
    table["accuracy in %, 95 % interval"] = metrics.format_percent(table)
    print(table[["set", "group", "accuracy in %, 95 % interval"]].to_string(index=False))
    print(f"{path} written. Next: mab.py, with the same constants.")


def check_constants():
    """Raise InputError for constants that cannot be."""
    for name, value in (("EPOCHS", EPOCHS), ("BATCH_SIZE", BATCH_SIZE)):
        settings.require(name, value, value >= 1, "at least 1")
    settings.require("LEARNING_RATE", LEARNING_RATE, LEARNING_RATE > 0, "above 0")


def load():
    """The classes' names, the training Images, and {name: Images} to evaluate on."""
    classes = datasets.class_names(TASK, DATA_DIR)
    frames = (CELEBA_FRAME, FAIRFACE_FRAME)
    data = datasets.load(TASK, DATA_DIR, "train", IMAGE_SIZE, *frames)
    if TASK != "faces":
        values = datasets.load(TASK, DATA_DIR, "values", IMAGE_SIZE, *frames)
        datasets.note_copies(datasets.purpose_names({"train": data, "values": values}))
        return classes, data, {"values": values}
    names = datasets.set_names(DATA_DIR)
    evaluated = {}
    for split in ("val", "test"):
        images = datasets.celeba(DATA_DIR, split, IMAGE_SIZE, CELEBA_FRAME)
        evaluated[f"{names['celeba']} {split}"] = images
    of_splits = {f"of {name}": images for name, images in evaluated.items()}
    datasets.note_copies({"for training": data, **of_splits})
    choose = datasets.load(TASK, DATA_DIR, "choose", IMAGE_SIZE, *frames)
    evaluated[f"{names['fairface']} choose"] = choose
    return classes, data, evaluated


def run_settings(data, source):
    """What an interrupted training must share to be gone on with, a dict.

    data: Images. source: str, of a network of one's own.
    """
    shared = ("ARCH", "WEIGHTS", "IMAGE_SIZE", "CELEBA_FRAME", "SEED")
    names = (*shared, "EPOCHS", "BATCH_SIZE", "LEARNING_RATE")
    constants = settings.constants_of(globals()).items()
    run = {name: value for name, value in constants if name in names}
    run["images"] = datasets.digest(data)
    if NORMALISATION != "auto":
        run["NORMALISATION"] = NORMALISATION
    if source:
        run["source"] = source
    return run if TASK == "faces" else run | {"TASK": TASK}


def train(network, data, evaluated, device, run, state_path):
    """Fine-tune a network. After each epoch all is saved that it takes to go on exactly.

    Args:
        network: nn.Module on the device.
        data: Images to train on.
        evaluated: {name: Images}; accuracy on the first is printed after each epoch.
        device: torch.device.
        run: dict, as from run_settings.
        state_path: str, of the saved state.
    """
    epochs, batch_size, seed = run["EPOCHS"], run["BATCH_SIZE"], run["SEED"]
    steps = epochs * -(-len(data.label) // batch_size)
    optimizer, schedule = model.make_optimizer(network, run["LEARNING_RATE"], steps)
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    val_name, val = next(iter(evaluated.items()))
    for epoch in range(load_state(state_path, run, parts), epochs):
        torch.manual_seed(seed * 1000 + epoch)  # dropout knows no other generator
        rng, name = np.random.default_rng([seed, epoch]), f"epoch {epoch + 1} of {epochs}"
        loss, correct = model.run_epoch(
            network,
            data,
            device,
            batch_size,
            optimizer,
            schedule,
            rng,
            bar=name,
            mirror=datasets.may_mirror(run.get("TASK", "faces")),
        )
        val_loss, val_correct = model.run_epoch(network, val, device, batch_size)
        print(
            f"{name}: loss {loss:.3f}, accuracy {correct.float().mean():.1%}; "
            f"{val_name}: loss {val_loss:.3f}, accuracy {val_correct.float().mean():.1%}",
            flush=True,
        )
        states = {name: part.state_dict() for name, part in parts.items()}
        records.save({state_path: {"run": run, "epoch": epoch + 1, **states}})


def load_state(path, run, parts):
    """Load an interrupted training into its parts.

    Args:
        path: str.
        run: dict, this training's settings.
        parts: {name: network, optimizer or schedule}.

    Returns:
        Number of epochs that are done; 0 where there is no such file.

    Raises:
        InputError: the training had other settings.
    """
    if not os.path.exists(path):
        return 0
    state = model.read_checkpoint(path)
    before = state.get("run", {})
    changed = []
    for name, value in run.items():
        if before.get(name) != value:
            changed.append(f"{name}={before.get(name)} there, {value} now")
    if changed:
        raise InputError(
            f"{path} is an interrupted training with other settings ({'; '.join(changed)}); "
            "set them back, or give another --RECORDS_DIR"
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["epoch"]


def evaluate(network, evaluated, device):
    """Accuracy on each set by group, a DataFrame: columns of accuracy_by_group, and set."""
    tables = []
    for name, data in evaluated.items():
        _, correct = model.run_epoch(network, data, device, BATCH_SIZE)
        accuracy = metrics.accuracy_by_group(correct.numpy(), data.group.numpy())
        tables.append(accuracy.assign(set=name))
    return pd.concat(tables, ignore_index=True)


if __name__ == "__main__":
    settings.run(main, globals(), resumes="train_state.pth")
