"""Loading network and images, and the checks that they are those of an earlier run."""

from common import settings
from common.settings import InputError, constants_of, list_names

import numpy as np
import pytest
import torch
from PIL import Image

import datasets
import model
from filters.game import _doubt, _suspicion, check_outputs, load_game
from filters.measures import MEASURES
from tests.damage import check_message

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
    with pytest.raises(InputError, match="another network than .*squeezenet.pth; set back its"):
        load_game(constants, CPU, run)


def test_values_from_other_images(constants):
    run = run_of(load_game(constants, CPU)) | {"FAIRFACE_FRAME": [0.0, 0.0, 1.0, 0.5]}
    with pytest.raises(InputError, match=r"of other images than \S+ has now; set them back"):
        load_game(constants, CPU, run | {"seen": "x"})
    with pytest.raises(InputError, match="images of 64 pixels; give --IMAGE_SIZE=64, or another"):
        load_game(constants, CPU, run | {"IMAGE_SIZE": 64})
    digest = run.pop("seen")  # records of faces: all images that V saw are those for the values
    load_game(constants, CPU, run | {"images": digest})
    with pytest.raises(InputError, match="values of other images"):
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


# ----------------------------------------------------------------------------- sanity

TWO, FOUR = ("female", "male"), ("a", "b", "c", "d")


def draw_confusion(recalls, n=100):
    """Confusion of classes of n images whose right shares are given; the rest goes to the next."""
    confusion = np.zeros((len(recalls), len(recalls)), dtype=int)
    for row, share in enumerate(recalls):
        confusion[row, row] += round(share * n)
        confusion[row, (row + 1) % len(recalls)] += n - round(share * n)
    return confusion


@pytest.mark.parametrize(
    "confusion, classes, words",
    [
        # two logits exchanged
        (draw_confusion([0.05, 0.1]), TWO, ["worse than chance", "order male, female", "92.5%"]),
        # upside down for one class only
        (draw_confusion([0.0, 0.6]), TWO, ["worse than chance", "accuracy 30.0% on 200 images"]),
        # all four shifted by one
        (draw_confusion([0.02] * 4), FOUR, ["worse than chance", "order d, a, b"]),
        # two of four exchanged, two at random: at chance, but right in another order
        (
            np.array([[0, 90, 5, 5], [90, 5, 5, 0], [0, 5, 5, 90], [0, 5, 90, 5]]),
            FOUR,
            ["worse than chance", "order b, a, d"],
        ),
        (
            np.array([[90, 5, 0, 5], [5, 0, 90, 5], [5, 5, 0, 90], [5, 90, 5, 0]]),
            FOUR,
            ["no better than chance", "chance 25.0%", "order a, d, b"],
        ),
    ],
)
def test_a_network_worse_than_chance_is_called_that(confusion, classes, words):
    message = _suspicion(confusion, classes, "x.pth")
    causes = ["x.pth", f"order than {list_names(classes)}", "normalisation", "other classes"]
    check_message(message, *causes, *words)


@pytest.mark.parametrize(
    "confusion",
    [
        draw_confusion([0.9, 0.8]),
        draw_confusion([1.0, 0.0]),  # all are called the same: at chance
        draw_confusion([0.0, 0.0], 2),  # too few to tell
        draw_confusion([0.45, 0.5]),
        np.array([[30, 30, 20, 20], [20, 30, 30, 20], [20, 20, 20, 40], [30, 20, 30, 20]]),
        np.array([[60, 40], [0, 0]]),  # a class without images
        np.full((4, 4), 25),
    ],
)
def test_a_network_no_worse_than_chance_is_taken(confusion, capsys):
    assert _suspicion(confusion, FOUR[: len(confusion)], "x.pth") == ""
    assert capsys.readouterr().out == ""


def test_two_classes_of_four_exchanged_are_mentioned(capsys):
    confusion = np.diag([95, 95, 0, 0]) + 5 * (
        np.eye(4, k=1, dtype=int) + np.eye(4, k=-3, dtype=int)
    )
    confusion[2, 3] = confusion[3, 2] = 95
    assert _suspicion(confusion, FOUR, "x.pth") == ""
    assert "in the order a, b, d, c of the logits it would be" in capsys.readouterr().out


@pytest.mark.parametrize(
    "confusion, words",
    [
        (
            draw_confusion([1.0, 0.0]),
            ["accuracy 50.0% on 200 images", "calls all of them the same"],
        ),
        (draw_confusion([0.5, 0.5]), ["accuracy 50.0% on 200 images, chance 50.0%)"]),
        (draw_confusion([0.55, 0.5]), ["accuracy 52.5%"]),
        (np.full((4, 4), 25), ["accuracy 25.0% on 400 images, chance 25.0%)"]),
        (draw_confusion([0.5, 1.0], 4), ["accuracy 75.0% on 8 images"]),  # too few to tell
        (draw_confusion([0.9, 0.8]), None),
        (draw_confusion([1.0, 1.0], 4), None),
        (draw_confusion([0.4] * 4), None),
    ],
)
def test_a_network_at_chance_is_called_that(confusion, words):
    doubt = _doubt(confusion)
    assert bool(doubt) == (words is not None)
    for word in words or ():
        assert word in doubt and "at chance on its own task" in doubt
        assert "--NORMALISATION or --IMAGE_SIZE" in doubt and "labels are wrong" in doubt


class Level(torch.nn.Module):
    """Calls an image bright or dark by its mean, or the other way round."""

    def __init__(self, sign):
        super().__init__()
        self.sign = torch.nn.Parameter(torch.tensor(float(sign)))

    def forward(self, x):
        level = self.sign * x.mean((1, 2, 3))
        return torch.stack([-level, level], 1)


@pytest.fixture
def levels():
    """60 dark images and 60 bright ones."""
    pixels = torch.tensor([20] * 60 + [230] * 60, dtype=torch.uint8)
    images = pixels.view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
    return datasets.Images(images, (pixels > 100).long(), torch.full((120,), -1))


def test_outputs_are_checked_on_images(levels):
    assert check_outputs(Level(1), levels, ("dark", "bright"), "x.pth") == ""
    doubt = check_outputs(Level(0), levels, ("dark", "bright"), "x.pth")
    assert "accuracy 50.0% on 120 images" in doubt and "calls all of them the same" in doubt
    with pytest.raises(InputError, match="accuracy 0.0% on 120 .*order bright, dark .* 100.0%"):
        check_outputs(Level(-1), levels, ("dark", "bright"), "x.pth")


@pytest.mark.parametrize("sign", [np.nan, np.inf, 1e39])
def test_outputs_that_are_not_finite(levels, sign):
    with pytest.raises(InputError) as refusal:
        check_outputs(Level(sign), levels, ("dark", "bright"), "x.pth")
    check_message(str(refusal.value), "x.pth", "outputs are not finite", "120 of 120 images")


class Unsettled(Level):
    """Compares an image with the others of its batch, or adds chance."""

    def __init__(self, kind):
        super().__init__(1)
        self.kind, self.norm = kind, torch.nn.BatchNorm1d(2, track_running_stats=False)

    def forward(self, x):
        logits = super().forward(x)
        if self.kind == "batch norm":
            return self.norm(logits)
        return torch.nn.functional.dropout(logits, 0.5)


@pytest.mark.parametrize("kind", ["batch norm", "dropout"])
def test_outputs_that_depend_on_the_batch_or_on_chance(levels, kind):
    torch.manual_seed(0)
    with pytest.raises(InputError, match="x.pth: what the network says of an image depends on"):
        check_outputs(Unsettled(kind).eval(), levels, ("dark", "bright"), "x.pth")


def test_a_game_of_a_network_at_chance(constants, capsys):
    game = load_game(constants, CPU)  # random weights
    assert "at chance" in game.doubt
    assert f"squeezenet.pth: {game.doubt}\n" in capsys.readouterr().out


def test_a_game_of_a_network_that_is_upside_down(constants, levels, monkeypatch):
    """mab.py, rivals.py, eval.py and features.py load it so."""
    monkeypatch.setattr(datasets, "load", lambda *arguments: levels)
    monkeypatch.setattr(datasets, "class_names", lambda *arguments: ("dark", "bright"))
    monkeypatch.setattr(model, "load", lambda *arguments, **options: Level(-1))
    with pytest.raises(InputError, match="squeezenet.pth: the network is worse than chance on its"):
        load_game(constants, CPU)
