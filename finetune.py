"""The other repair: train the network on the images that the values are measured on.

    python finetune.py

Reads squeezenet.pth and FairFace's images for the values. Writes RECORDS_DIR/finetune.pth, the
weights after each epoch of training all layers, and of training the head alone. eval.py compares
both with the removal of filters, and its choosing set chooses the epoch.
"""

import copy
import time
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
)

import numpy as np
import torch

import datasets
import model
from filters.game import check_outputs

# -----------------------------------------------------------------------------
EPOCHS = 10
BATCH_SIZE = 64  # images a step
LEARNING_RATE = 1e-4  # AdamW's highest, after a warm-up over the first tenth of the steps
HEAD_LEARNING_RATE = 1e-3  # the same, of the head alone
# -----------------------------------------------------------------------------


@dataclass
class Training:
    """How long and by what steps a network is fine-tuned.

    Attributes:
        epochs: int.
        batch_size: int, images a step.
        learning_rate: float, AdamW's highest.
        seed: int.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


def main():
    """Check, load, train all layers and the head alone, save, print."""
    started = time.time()
    check_constants()
    device = model.find_device(DEVICE)
    trained_with = {"ARCH": ARCH, "IMAGE_SIZE": IMAGE_SIZE, "CELEBA_FRAME": CELEBA_FRAME}
    trained_with["NORMALISATION"] = NORMALISATION
    path = settings.weights_path(RECORDS_DIR)
    network = model.load(path, **trained_with).to(device)
    faces = datasets.fairface(DATA_DIR, "values", IMAGE_SIZE, FAIRFACE_FRAME)
    check_outputs(network, faces, datasets.GENDERS, path)
    states = {"network": model.digest(network), "images": datasets.digest(faces)}
    for name, rate in (("finetune", LEARNING_RATE), ("finetune_head", HEAD_LEARNING_RATE)):
        training = Training(EPOCHS, BATCH_SIZE, rate, SEED)
        trained = copy.deepcopy(network)
        part = last_layer(trained) if name == "finetune_head" else trained
        states[name] = finetune(trained, part, faces, device, training)
    facts = records.provenance(settings.constants_of(globals()), time.time() - started, str(device))
    records.save(
        {
            f"{RECORDS_DIR}/finetune.json": {**facts, "network": states["network"]},
            f"{RECORDS_DIR}/finetune.pth": states,
        }
    )
    print(f"{RECORDS_DIR}/finetune.pth is written. Next: eval.py, with the same constants.")


def check_constants():
    """Check what needs no data. Raises InputError."""
    for name, value in (("EPOCHS", EPOCHS), ("BATCH_SIZE", BATCH_SIZE)):
        settings.require(name, value, value >= 1, "at least 1")
    rates = {"LEARNING_RATE": LEARNING_RATE, "HEAD_LEARNING_RATE": HEAD_LEARNING_RATE}
    for name, value in rates.items():
        settings.require(name, value, value > 0, "above 0")


def last_layer(network):
    """The layer of a network of model.py that gives the logits."""
    return network.get_submodule(network.logits_layer)


def finetune(network, part, faces, device, training):
    """Train a network, or a part of it.

    The statistics of batch norms, if there are any, change in either case.

    Args:
        network: nn.Module on the device; it is changed.
        part: nn.Module, the network itself or a layer of it, whose weights are trained.
        faces: Images.
        device: torch.device.
        training: Training.

    Returns:
        A list of state dicts on the CPU, one an epoch.
    """
    network.requires_grad_(False)
    part.requires_grad_(True)
    steps = training.epochs * -(-len(faces.label) // training.batch_size)
    optimizer, schedule = model.make_optimizer(part, training.learning_rate, steps)
    name, states = "all layers" if part is network else "head", []
    for epoch in range(training.epochs):
        torch.manual_seed(training.seed * 1000 + epoch)  # dropout has no other generator
        rng = np.random.default_rng([training.seed, epoch, 3])
        bar = f"{name}, epoch {epoch + 1} of {training.epochs}"
        steppers = (optimizer, schedule, rng, bar)
        model.run_epoch(network, faces, device, training.batch_size, *steppers)
        state = network.state_dict().items()
        states.append({key: value.detach().cpu().clone() for key, value in state})
    return states


if __name__ == "__main__":
    settings.run(main, globals(), earlier=("train_squeeze.py", "mab.py"))
