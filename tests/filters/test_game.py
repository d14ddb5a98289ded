"""Loading network and images, and the checks that they are those of an earlier run."""

from common import settings
from common.settings import InputError, constants_of

import numpy as np
import pytest
import torch
from PIL import Image

import datasets
import model
from filters.game import load_game
from filters.measures import MEASURES

CPU = torch.device("cpu")
CLASSES = ("cat", "cow", "dog")


@pytest.fixture
def constants(tmp_path, monkeypatch):
    """The constants of a script, for a folder of three classes and a network of random weights."""
    monkeypatch.setattr(settings, "CACHE_DIR", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    constants = constants_of(vars(settings)) | {
        "TASK": "folder",
        "DATA_DIR": str(tmp_path / "data"),
        "RECORDS_DIR": str(tmp_path / "records"),
        "IMAGE_SIZE": 32,
        "WEIGHTS": "none",
    }
    (tmp_path / "records").mkdir()
    save_network(constants)
    return constants


def save_network(constants, seed=0, **trained_with):
    torch.manual_seed(seed)
    network = model.build("squeezenet1_1", "none", 32, CLASSES)
    kept = {"ARCH": "squeezenet1_1", "IMAGE_SIZE": 32, "CLASSES": CLASSES} | trained_with
    checkpoint = model.pack_checkpoint(network, **kept)
    torch.save(checkpoint, f"{constants['RECORDS_DIR']}/squeezenet.pth")


def run_of(game):
    """What mab.py records of a game."""
    return {
        "TASK": "folder",
        "network": game.digest,
        "images": "of a class",
        "seen": datasets.digest(game.seen),
    }


def test_a_game(constants):
    game = load_game(constants, CPU)
    assert game.classes == CLASSES and game.device == CPU and not game.network.training
    assert game.digest == model.digest(game.network)
    assert game.seen.images.shape == (12, 3, 32, 32)  # half of the folder
    assert game.seen.label.bincount().tolist() == [4, 4, 4]
    assert len(game.evaluator.layers) == 2944
    again = load_game(constants, CPU, run_of(game))
    assert again.digest == game.digest


def test_measured_images(constants, monkeypatch):
    game = load_game(constants, CPU)
    assert game.measured_images("accuracy", "", 0) is game.seen
    assert game.measured_images("accuracy", None, 0) is game.seen
    cows = game.measured_images("soft_accuracy", "cow", 0)
    assert cows.label.tolist() == [1] * 4
    assert torch.equal(cows.images, game.seen.images[game.seen.label == 1])
    pairs = game.measured_images("attack", "", 0)
    assert len(pairs.label) == 24 and torch.equal(pairs.label[:12], game.seen.label)
    assert "attack" in MEASURES


def test_values_of_another_task(constants):
    for run in ({"TASK": "mnist"}, {"network": "x"}):  # records of faces have no TASK
        with pytest.raises(InputError, match="records holds values of TASK=(mnist|faces); give"):
            load_game(constants, CPU, run)


def test_values_of_another_network(constants):
    run = run_of(load_game(constants, CPU))
    save_network(constants, seed=1)
    with pytest.raises(InputError, match="another network than .*squeezenet.pth; run train_sq"):
        load_game(constants, CPU, run)


def test_values_from_other_images(constants):
    run = run_of(load_game(constants, CPU)) | {"FAIRFACE_FRAME": [0.0, 0.0, 1.0, 0.5]}
    with pytest.raises(InputError, match=r"framed otherwise \(FAIRFACE_FRAME was 0.0,0.0,1.0,0.5"):
        load_game(constants, CPU, run | {"seen": "x"})
    digest = run.pop("seen")  # records of faces: all images that V saw are those for the values
    load_game(constants, CPU, run | {"images": digest})
    with pytest.raises(InputError, match="values from other images"):
        load_game(constants, CPU, run)


def test_network_of_other_classes_or_constants(constants):
    save_network(constants, IMAGE_SIZE=64)
    with pytest.raises(InputError, match="trained with IMAGE_SIZE=64, not 32"):
        load_game(constants, CPU)
    save_network(constants, CLASSES=("cat", "cow", "pig"))
    with pytest.raises(InputError, match=r"tell other classes apart \(dog, pig\)"):
        load_game(constants, CPU)


def test_a_frame_counts_only_for_celeba(constants):
    save_network(constants, CELEBA_FRAME=(0, 0, 0.5, 0.5))
    load_game(constants, CPU)


def test_missing_network(constants, tmp_path):
    constants["RECORDS_DIR"] = str(tmp_path / "empty")
    with pytest.raises(InputError, match="WEIGHTS=none: an untrained network has no filters"):
        load_game(constants, CPU)
    constants["WEIGHTS"] = str(tmp_path / "weights.pth")
    torch.save(model.build("squeezenet1_1", "none", 32, CLASSES).state_dict(), constants["WEIGHTS"])
    assert load_game(constants, CPU).classes == CLASSES
