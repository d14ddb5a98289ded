"""The other repair: train the network on the images that the values are measured on, for eval.py to compare with.

    python finetune.py

Reads squeezenet.pth and FairFace's set for the values. Writes RECORDS_DIR/finetune.pth, the weights after each epoch of
training all layers, and of training the head alone; eval.py's choosing set chooses among them.
"""

import copy
import time

import numpy as np
import torch

import datasets
import model
import records
import settings
from settings import ARCH, CELEBA_FRAME, DATA_DIR, DEVICE, FAIRFACE_FRAME, IMAGE_SIZE, RECORDS_DIR, SEED

# -----------------------------------------------------------------------------
EPOCHS = 10
BATCH_SIZE = 64        # images a step
LEARNING_RATE = 1e-4   # AdamW's highest, after a warm-up over the first tenth of the steps
HEAD_LEARNING_RATE = 1e-3  # the same, of the head alone
# -----------------------------------------------------------------------------


def finetune(network, layer, faces, device, learning_rate, name):
    """Train a network, or one layer of it (and the statistics of batch norms, if there are any); the state dict after each epoch."""
    network.requires_grad_(layer is None)
    trained = network if layer is None else layer.requires_grad_()
    optimizer, schedule = model.optimizer(trained, learning_rate, EPOCHS * -(-len(faces.label) // BATCH_SIZE))
    states = []
    for epoch in range(EPOCHS):
        torch.manual_seed(SEED * 1000 + epoch)  # dropout knows no other generator
        model.epoch(network, faces, device, BATCH_SIZE, optimizer, schedule, np.random.default_rng([SEED, epoch, 3]),
                    bar=f"{name}, epoch {epoch + 1} of {EPOCHS}")
        states.append({key: value.detach().cpu().clone() for key, value in network.state_dict().items()})
    return states


def main():
    started = time.time()
    for name, value in (("EPOCHS", EPOCHS), ("BATCH_SIZE", BATCH_SIZE)):
        settings.require(name, value, value >= 1, "at least 1")
    for name, value in (("LEARNING_RATE", LEARNING_RATE), ("HEAD_LEARNING_RATE", HEAD_LEARNING_RATE)):
        settings.require(name, value, value > 0, "above 0")
    device = model.device_of(DEVICE)
    network = model.load(settings.weights_path(RECORDS_DIR), ARCH=ARCH, IMAGE_SIZE=IMAGE_SIZE, CELEBA_FRAME=CELEBA_FRAME).to(device)
    faces = datasets.fairface(DATA_DIR, "values", IMAGE_SIZE, FAIRFACE_FRAME)
    with_head = copy.deepcopy(network)
    head = [module for module in with_head.modules() if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear))][-1]
    made = {"network": model.digest(network), "images": datasets.digest(faces)}
    made["finetune"] = finetune(copy.deepcopy(network), None, faces, device, LEARNING_RATE, "all layers")
    made["finetune_head"] = finetune(with_head, head, faces, device, HEAD_LEARNING_RATE, "head")
    records.save({f"{RECORDS_DIR}/finetune.json": {**records.about(settings.chosen(globals()), time.time() - started, str(device)),
                                                   "network": made["network"]},
                  f"{RECORDS_DIR}/finetune.pth": made})
    print(f"{RECORDS_DIR}/finetune.pth written. Next: eval.py, with the same constants.")


if __name__ == "__main__":
    settings.run(main, globals())
