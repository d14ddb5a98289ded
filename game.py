"""What the scripts play on: the network, its classes, and the images of the values."""

import adversaries
import datasets
import model
import settings
from settings import Stop


def load(constants, device, run=None):
    """The network on `device`, the names of its classes, and its task's images for the values. Raises Stop.

    constants: the script's, by name (TASK, DATA_DIR, RECORDS_DIR, ARCH, WEIGHTS, IMAGE_SIZE and the frames); run: what mab.py recorded, if these must be what it saw.
    """
    task, folder, image_size = (constants[name] for name in ("TASK", "DATA_DIR", "IMAGE_SIZE"))
    if run and run.get("TASK", "faces") != task:
        raise Stop(f"{constants['RECORDS_DIR']} holds values of TASK={run.get('TASK', 'faces')}; give that, or another --RECORDS_DIR")
    classes, path = datasets.classes(task, folder), settings.weights_path(constants["RECORDS_DIR"])
    shared = {name: constants[name] for name in ("ARCH", "IMAGE_SIZE", "CELEBA_FRAME") if name != "CELEBA_FRAME" or task in ("faces", "celeba")}
    network = model.load(path, classes, constants["WEIGHTS"] if task == "folder" else None, **shared).to(device)
    if run and model.digest(network) != run["network"]:
        raise Stop(f"{constants['RECORDS_DIR']} holds values of another network than {path}; run the scripts with one new --RECORDS_DIR")
    seen = datasets.load(task, folder, "values", image_size, constants["CELEBA_FRAME"], constants["FAIRFACE_FRAME"])
    if run and datasets.digest(seen) != run.get("seen", run["images"]):
        raise Stop(f"{constants['RECORDS_DIR']} holds values from other images, or framed otherwise; set them back, "
                   "or run mab.py with a new --RECORDS_DIR")
    return network, classes, seen


def measured(network, classes, seen, measure, of_class, seed, device):
    """The images that V is measured on, of those `seen`: of one class, if it is given; with their adversaries, for an attack."""
    if measure == "attack":
        return adversaries.pairs(network, model.digest(network), seen, len(classes), seed, device, "attacking the network")
    return seen.take(seen.label == classes.index(of_class)) if of_class else seen
