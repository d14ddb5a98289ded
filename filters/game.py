"""The game that the scripts play: a network, its classes, its filters, and the images of V."""

import os
from dataclasses import dataclass

from common import settings
from common.records import note
from common.settings import InputError, list_names

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

import datasets
import model
from datasets import Images, normalise
from filters.adversaries import adversarial_pairs
from filters.coalitions import Coalitions, make_evaluator
from filters.masked import MaskedForwards

CHECKED = 512  # images that a network must classify no worse than chance, evenly spaced
STANDARD_ERRORS = 3  # by which accuracy must be off before a network is refused
DOUBTFUL_ERRORS = 2  # by which accuracy must be above chance, or it is said that it is not
DEPENDENT = 0.01  # standard deviations of logits by which an image alone may differ
EXCHANGED = 0.1  # accuracy that another order of the logits must add before it is mentioned


@dataclass
class Game:
    """What mab.py, rivals.py, eval.py and features.py load alike."""

    network: torch.nn.Module  # in eval mode, on the device
    digest: str  # of its weights
    classes: tuple[str, ...]
    seen: Images  # the images for the values, of all classes
    evaluator: Coalitions | MaskedForwards
    device: torch.device
    doubt: str = ""  # why the network may be unfit to be studied, as from check_outputs

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
            IMAGE_SIZE, CELEBA_FRAME, FAIRFACE_FRAME, and NORMALISATION unless it is "auto".
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
    trained_with = {name: constants[name] for name in trained_with}
    trained_with["NORMALISATION"] = constants.get("NORMALISATION", "auto")
    weights = constants["WEIGHTS"] if task == "folder" else None
    network = model.load(path, classes, weights, **trained_with).to(device)
    digest = model.digest(network)
    source = path if weights is None or os.path.exists(path) else f"WEIGHTS={weights}"
    if run and digest != run["network"]:
        raise InputError(
            f"{records_dir} holds values of another network than {source}; set back its weights "
            "and NORMALISATION, or run all steps with one new --RECORDS_DIR"
        )
    if run and run.get("IMAGE_SIZE", constants["IMAGE_SIZE"]) != constants["IMAGE_SIZE"]:
        given = run["IMAGE_SIZE"]
        raise InputError(
            f"{records_dir} holds values of images of {given} pixels; give --IMAGE_SIZE={given}, "
            "or another --RECORDS_DIR"
        )
    frames = (constants["CELEBA_FRAME"], constants["FAIRFACE_FRAME"])
    seen = datasets.load(task, constants["DATA_DIR"], "values", constants["IMAGE_SIZE"], *frames)
    if run and datasets.digest(seen) != run.get("seen", run["images"]):
        frame = settings.format_value(tuple(run["FAIRFACE_FRAME"]))
        framed = f", or framed otherwise (FAIRFACE_FRAME was {frame})" if task == "faces" else ""
        raise InputError(
            f"{records_dir} holds values of other images than {constants['DATA_DIR']} has now"
            f"{framed}; set them back, or run mab.py with a new --RECORDS_DIR"
        )
    doubt = check_outputs(network, seen, classes, source)
    if doubt:
        note(f"{source}: {doubt}")
    evaluator = make_evaluator(network, constants["IMAGE_SIZE"])
    return Game(network, digest, classes, seen, evaluator, device, doubt)


# ----------------------------------------------------------------------------- sanity


def check_outputs(network, data, classes, path):
    """Refuse a network whose outputs are not finite, or that is worse than chance on its own task.

    Accuracy is the mean over the classes of the share of their images that are right: chance is
    1 / number of classes, whatever their sizes. Worse than it by three standard errors is no bad
    luck. A network at chance is refused if in another order its logits would be right mostly.

    Args:
        network: nn.Module in eval mode.
        data: Images, of which CHECKED are classified.
        classes: tuple of str.
        path: str, where the weights are from.

    Returns:
        A str: that the network is at chance, with likely causes; "" if it is better.

    Raises:
        InputError: as above. The message names the likely causes.
    """
    rows = np.unique(np.linspace(0, len(data.label) - 1, CHECKED).astype(int))
    logits, device = [], next(network.parameters()).device
    with torch.no_grad():
        for part in torch.from_numpy(rows).split(64):
            logits.append(network(normalise(data.images[part], device)).cpu())
    logits = torch.cat(logits)
    if broken := int((~torch.isfinite(logits)).any(1).sum()):
        raise InputError(
            f"{path}: the outputs are not finite (NaN, Inf) for {broken} of {len(rows)} images; "
            "give weights of a training that did not diverge"
        )
    if _depends_on_batch(network, data.images[rows[:4]], logits, device):
        raise InputError(
            f"{path}: what the network says of an image depends on the other images of its batch, "
            "or on chance: batch norm without running statistics, or dropout that is always on. "
            "Give a network whose eval mode is fixed"
        )
    confusion = _confusion(logits.argmax(1).numpy(), data.label[rows].numpy(), len(classes))
    if message := _suspicion(confusion, classes, path):
        raise InputError(message)
    return _doubt(confusion)


def _depends_on_batch(network, images, logits, device):
    """Whether images one by one give other logits than in a batch.

    images: (n, 3, S, S) uint8; logits: (N, classes), theirs first.
    """
    try:
        with torch.no_grad():
            alone = [network(normalise(image[None], device)).cpu() for image in images]
    except ValueError:  # of a batch norm that needs more than one value
        return True
    difference = (torch.cat(alone) - logits[: len(alone)]).abs().max()
    return bool(difference > DEPENDENT * logits.std() + 1e-5)


def _confusion(called, label, n_classes):
    """Images by class and by what they are called: (n_classes, n_classes) int."""
    return np.bincount(label * n_classes + called, minlength=n_classes**2).reshape(n_classes, -1)


def _accuracy(confusion):
    """Accuracy as a mean over classes, its standard error at chance, chance, and all as text."""
    sizes = confusion.sum(1)
    present = np.flatnonzero(sizes)
    accuracy = (np.diag(confusion)[present] / sizes[present]).mean()
    chance = 1 / len(confusion)
    error = np.sqrt((chance * (1 - chance) / sizes[present]).sum()) / len(present)
    numbers = f"accuracy {accuracy:.1%} on {sizes.sum()} images, chance {chance:.1%}"
    return accuracy, error, chance, numbers


def _doubt(confusion):
    """That a network is at chance, with likely causes, a str; "" if it is better."""
    accuracy, error, chance, numbers = _accuracy(confusion)
    if accuracy > chance + DOUBTFUL_ERRORS * error:
        return ""
    called = np.count_nonzero(confusion.sum(0))
    alike = ", and it calls all of them the same" if called == 1 else ""
    return (
        f"the network is at chance on its own task ({numbers}{alike}), so removing filters can "
        "show little. Likely causes: it was not trained, or for other classes; it expects another "
        "--NORMALISATION or --IMAGE_SIZE; the labels are wrong"
    )


def _suspicion(confusion, classes, path):
    """What makes a network unfit to be studied, a str; "" if nothing does.

    confusion: (classes, classes) int, images by class and by what they are called. A doubt that is
    no reason to stop is printed.
    """
    present, n_classes = confusion.sum(1) > 0, len(classes)
    accuracy, error, chance, numbers = _accuracy(confusion)
    shares = confusion[present] / confusion.sum(1)[present][:, None]
    rows, columns = linear_sum_assignment(-shares)
    best = shares[rows, columns].mean()
    below = accuracy < chance - STANDARD_ERRORS * error
    no_better = accuracy < chance + STANDARD_ERRORS * error
    other_order = best - accuracy > max(EXCHANGED, 2 * STANDARD_ERRORS * error)
    order = ""
    if other_order and present.all():
        names = [""] * n_classes
        for row, column in zip(rows, columns):
            names[column] = classes[row]
        order = f"in the order {list_names(names)} of the logits it would be {best:.1%}"
    mostly_right = best > max((1 + chance) / 2, chance + STANDARD_ERRORS * error)
    if below or (no_better and order and mostly_right):
        worse = "worse than chance" if below else "no better than chance"
        hint = f" ({order})" if order else ""
        return (
            f"{path}: the network is {worse} on its own task: {numbers}{hint}. Likely causes: its "
            f"logits are in another order than {list_names(classes)}; the folders or labels name "
            "other classes; it expects another normalisation (--NORMALISATION). Put its last layer "
            "into this order, or give other --WEIGHTS; nothing is repaired or reported on it"
        )
    if order:
        note(f"{path}: {numbers}, but {order}: is their order right?")
    return ""
