"""Step 1: fine-tune a SqueezeNet on CelebA's gender labels and measure it on FairFace, group by group.

    python train_squeeze.py

Writes squeezenet.pth and RECORDS_DIR/train_squeeze.json. FairFace accuracy is measured on the choosing
set: the report set stays closed until eval.py. Interrupted, the same command goes on from the last epoch.
Of another TASK, it trains on its training images and measures on those for the values.
"""

import os
import time

import numpy as np
import pandas as pd
import torch

import datasets
import metrics
import model
import records
import settings
from settings import (ARCH, CELEBA_FRAME, DATA_DIR, DEVICE, FAIRFACE_FRAME, IMAGE_SIZE, RECORDS_DIR, SEED, TASK,
                      WEIGHTS, Stop)

# -----------------------------------------------------------------------------
EPOCHS = 6            # the original had 2
BATCH_SIZE = 64       # images a step
LEARNING_RATE = 3e-4  # AdamW's highest, after a warm-up over the first tenth of the steps
# -----------------------------------------------------------------------------


def train(network, data, val, val_name, device, run, state_path):
    """Fine-tune on `data`, tell accuracy on `val`; after each epoch save what it takes to go on exactly from there.

    run: the constants, by name, that an interrupted training must share to be gone on with.
    """
    epochs, batch_size, learning_rate, seed = (run[name] for name in ("EPOCHS", "BATCH_SIZE", "LEARNING_RATE", "SEED"))
    optimizer, schedule = model.optimizer(network, learning_rate, epochs * -(-len(data.label) // batch_size))
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    done = _load_state(state_path, run, parts)
    for epoch in range(done, epochs):
        torch.manual_seed(seed * 1000 + epoch)  # dropout knows no other generator
        rng = np.random.default_rng([seed, epoch])
        name = f"epoch {epoch + 1} of {epochs}"
        loss, correct = model.epoch(network, data, device, batch_size, optimizer, schedule, rng, bar=name,
                                    mirror=run.get("TASK") != "mnist")
        val_loss, val_correct = model.epoch(network, val, device, batch_size)
        print(f"{name}: loss {loss:.3f}, accuracy {correct.float().mean():.1%}; "
              f"{val_name}: loss {val_loss:.3f}, accuracy {val_correct.float().mean():.1%}", flush=True)
        records.save({state_path: {"run": run, "epoch": epoch + 1,
                                   **{name: part.state_dict() for name, part in parts.items()}}})


def _load_state(path, run, parts):
    """Load an interrupted training into `parts`; returns the number of epochs that it had finished."""
    if not os.path.exists(path):
        return 0
    state = model.read(path)
    changed = [f"{name}={state.get('run', {}).get(name)} there, {run[name]} now"
               for name in run if state.get("run", {}).get(name) != run[name]]
    if not changed:
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return state["epoch"]
    raise Stop(f"{path} is an interrupted training with other settings ({'; '.join(changed)}); set them back, "
               "delete it, or give another --RECORDS_DIR")


def main():
    started = time.time()
    device = model.device_of(DEVICE)
    for name, value in (("EPOCHS", EPOCHS), ("BATCH_SIZE", BATCH_SIZE)):
        settings.require(name, value, value >= 1, "at least 1")
    settings.require("LEARNING_RATE", LEARNING_RATE, LEARNING_RATE > 0, "above 0")
    os.makedirs(RECORDS_DIR, exist_ok=True)  # better now than after the first epoch
    classes = datasets.classes(TASK, DATA_DIR)
    frames = {"celeba_frame": CELEBA_FRAME, "fairface_frame": FAIRFACE_FRAME}
    data = datasets.load(TASK, DATA_DIR, "train", IMAGE_SIZE, **frames)
    if TASK == "faces":
        told = {f"CelebA {split}": datasets.celeba(DATA_DIR, split, IMAGE_SIZE, CELEBA_FRAME) for split in ("val", "test")}
        told["FairFace choose"] = datasets.load(TASK, DATA_DIR, "choose", IMAGE_SIZE, **frames)
    else:
        told = {"values": datasets.load(TASK, DATA_DIR, "values", IMAGE_SIZE, **frames)}
    torch.manual_seed(SEED)
    network = model.build(ARCH, WEIGHTS, IMAGE_SIZE, classes).to(device)
    state_path = f"{RECORDS_DIR}/train_state.pth"
    run = {name: constant for name, constant in settings.chosen(globals()).items() if name in (
        "ARCH", "WEIGHTS", "IMAGE_SIZE", "CELEBA_FRAME", "SEED", "EPOCHS", "BATCH_SIZE", "LEARNING_RATE")}
    run |= {"images": datasets.digest(data)} | ({"TASK": TASK} if TASK != "faces" else {})
    val_name, val = next(iter(told.items()))
    train(network, data, val, val_name, device, run, state_path)

    tables = []
    for name, some in told.items():
        _, correct = model.epoch(network, some, device, BATCH_SIZE)
        tables.append(metrics.accuracy(correct.numpy(), some.group.numpy()).assign(set=name))
    table = pd.concat(tables, ignore_index=True)
    records.save({
        f"{RECORDS_DIR}/train_squeeze.json": {
            **records.about(settings.chosen(globals()), time.time() - started, str(device)),
            "network": model.digest(network), "accuracy": table.to_dict("records")},
        settings.weights_path(RECORDS_DIR): model.checkpoint(
            network, ARCH=ARCH, IMAGE_SIZE=IMAGE_SIZE, CELEBA_FRAME=CELEBA_FRAME, CLASSES=classes)})
    os.remove(state_path)
    table["accuracy in %, 95 % interval"] = metrics.percent(table)
    print(table[["set", "group", "accuracy in %, 95 % interval"]].to_string(index=False))
    print(f"{settings.weights_path(RECORDS_DIR)} written. Next: mab.py, with the same constants.")


if __name__ == "__main__":
    settings.run(main, globals())
