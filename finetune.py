"""The other repair: train the network on the images that the values are measured on.

    python finetune.py

Reads squeezenet.pth and FairFace's images for the values. Writes RECORDS_DIR/finetune.pth, the
weights after each epoch of training all layers, and of training the head alone. eval.py compares
both with the removal of filters, and its choosing set chooses the epoch.
"""

import copy
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
from filters.repairs import Training, finetune, last_layer

# -----------------------------------------------------------------------------
EPOCHS = 10
BATCH_SIZE = 64  # images a step
LEARNING_RATE = 1e-4  # AdamW's highest, after a warm-up over the first tenth of the steps
HEAD_LEARNING_RATE = 1e-3  # the same, of the head alone
# -----------------------------------------------------------------------------


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


if __name__ == "__main__":
    settings.run(main, globals(), earlier=("train_squeeze.py", "mab.py"))
