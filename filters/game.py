"""The game that the scripts play: a network, its classes, its filters, and the images of V."""

from dataclasses import dataclass

from common import settings
from common.settings import InputError

import torch

import datasets
import model
from datasets import Images
from filters.adversaries import adversarial_pairs
from filters.coalitions import Coalitions, make_evaluator
from filters.masked import MaskedForwards


@dataclass
class Game:
    """What mab.py, rivals.py, eval.py and features.py load alike."""

    network: torch.nn.Module  # in eval mode, on the device
    digest: str  # of its weights
    classes: tuple[str, ...]
    seen: Images  # the images for the values, of all classes
    evaluator: Coalitions | MaskedForwards
    device: torch.device

    def measured_images(self, measure, class_name, seed):
        """The images that V is measured on.

        Args:
            measure: str, a name in MEASURES; "attack": the images and their adversaries.
            class_name: str, the only class to take; "" or None: all.
            seed: int, for the attack's targets.
        """
        if measure == "attack":
            return adversarial_pairs(
                self.network,
                self.digest,
                self.seen,
                len(self.classes),
                seed,
                self.device,
                "attacking the network",
            )
        if class_name:
            return self.seen.take(self.seen.label == self.classes.index(class_name))
        return self.seen


def load_game(constants, device, run=None):
    """Load network and images, and check that they are those of an earlier run.

    Args:
        constants: dict, the script's by name: TASK, DATA_DIR, RECORDS_DIR, ARCH, WEIGHTS,
            IMAGE_SIZE, CELEBA_FRAME, FAIRFACE_FRAME.
        device: torch.device.
        run: dict, what mab.py recorded; None: nothing to be checked.

    Returns:
        The Game.

    Raises:
        InputError: a file is missing or damaged, or is not the one of the run.
    """
    task, records_dir = constants["TASK"], constants["RECORDS_DIR"]
    if run and run.get("TASK", "faces") != task:
        earlier = run.get("TASK", "faces")
        raise InputError(
            f"{records_dir} holds values of TASK={earlier}; give that, or another --RECORDS_DIR"
        )
    classes = datasets.class_names(task, constants["DATA_DIR"])
    path = settings.weights_path(records_dir)
    trained_with = ["ARCH", "IMAGE_SIZE"] + ["CELEBA_FRAME"] * (task in ("faces", "celeba"))
    network = model.load(
        path,
        classes,
        constants["WEIGHTS"] if task == "folder" else None,
        **{name: constants[name] for name in trained_with},
    ).to(device)
    digest = model.digest(network)
    if run and digest != run["network"]:
        raise InputError(
            f"{records_dir} holds values of another network than {path}; run train_squeeze.py, "
            "mab.py and eval.py with one new --RECORDS_DIR"
        )
    frames = (constants["CELEBA_FRAME"], constants["FAIRFACE_FRAME"])
    seen = datasets.load(task, constants["DATA_DIR"], "values", constants["IMAGE_SIZE"], *frames)
    if run and datasets.digest(seen) != run.get("seen", run["images"]):
        raise InputError(
            f"{records_dir} holds values from other images, or framed otherwise (FAIRFACE_FRAME "
            f"was {settings.format_value(tuple(run['FAIRFACE_FRAME']))}); set them back, or run "
            "mab.py with a new --RECORDS_DIR"
        )
    evaluator = make_evaluator(network, constants["IMAGE_SIZE"])
    return Game(network, digest, classes, seen, evaluator, device)
