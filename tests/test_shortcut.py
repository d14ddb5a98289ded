"""shortcut.py: marks where they should be, a record of each repair, and going on."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import shortcut
from datasets import normalise
from filters.choosers import Subject
from filters.coalitions import make_evaluator
from filters.repairs import REPAIRS
from report.shortcut import CONDITIONS, unpack_bits
from tests.networks import Small, seeded

QUICK = "--REPAIR_NAMES=gradient once;last-layer retraining"


@pytest.fixture(scope="module")
def spoiled(run, shared_folder):
    """A folder in which all repairs were tried. Read only."""

    def make(folder):
        result = run("shortcut.py", cwd=folder)
        assert result.returncode == 0, result.stderr
        (folder / "stdout").write_text(result.stdout)

    return shared_folder("spoiled", make)


def test_all_repairs_are_on_record(spoiled):
    record = json.loads((spoiled / "cur_records/shortcut.json").read_text())
    assert list(record["repairs"]) == list(REPAIRS)
    for result in record["repairs"].values():
        assert list(result["accuracy"]) == list(CONDITIONS)
        for accuracy in result["accuracy"].values():
            assert len(accuracy) == len(result["steps"]) == len(result["validated"])
        for condition, text in result["right"].items():
            share = unpack_bits(text, record["images"]).mean()
            assert share == result["accuracy"][condition][result["chosen"]]
        assert result["chosen"] == np.argmax(result["validated"])
    first = [result["accuracy"]["inverted"][0] for result in record["repairs"].values()]
    assert set(first) == {unpack_bits(record["right"]["inverted"], record["images"]).mean()}
    lines = (spoiled / "stdout").read_text().splitlines()
    assert [line.partition(":")[0].rpartition(",")[0] for line in lines] == list(REPAIRS)
    assert (spoiled / "cur_records/shortcut.png").stat().st_size > 10_000


def test_it_goes_on_with_the_next_repair(run, tmp_path, toy):
    assert run("shortcut.py", QUICK, cwd=tmp_path).returncode == 0
    path = tmp_path / "cur_records/shortcut.json"
    whole = json.loads(path.read_text())
    partial = json.loads(path.read_text())
    kept = partial["repairs"].pop("last-layer retraining")
    partial["repairs"]["gradient once"]["validated"] = [0.125] * 3
    path.write_text(json.dumps(partial))
    assert run("shortcut.py", QUICK, cwd=tmp_path).returncode == 0
    again = json.loads(path.read_text())
    assert again["repairs"]["gradient once"]["validated"] == [0.125] * 3
    for key in ("accuracy", "chosen", "validated"):
        assert again["repairs"]["last-layer retraining"][key] == kept[key]
    assert whole["run"] == again["run"]
    for changed in ("LEARNING_RATE=0.001", "CHOOSING=8", "BATCH_SIZE=32"):
        result = run("shortcut.py", QUICK, f"--{changed}", cwd=tmp_path)
        name, _, value = changed.partition("=")
        assert result.returncode == 2 and f"was trained with {name}=" in result.stderr
    result = run("shortcut.py", QUICK, "--DRAW=1", cwd=tmp_path)
    assert result.returncode == 2 and "another run (DRAW, images differ)" in result.stderr
    assert json.loads(path.read_text()) == again


def test_without_curves_the_chosen_steps_are_the_same(run, spoiled, tmp_path):
    (tmp_path / "cur_records").mkdir()
    shutil.copy(spoiled / "cur_records/shortcut.pth", tmp_path / "cur_records")
    assert run("shortcut.py", QUICK, "--CURVES=False", cwd=tmp_path).returncode == 0
    record, whole = (
        json.loads((folder / "cur_records/shortcut.json").read_text())
        for folder in (tmp_path, spoiled)
    )
    assert record["repairs"]
    for name, result in record["repairs"].items():
        assert result["right"] == whole["repairs"][name]["right"]
        for condition, accuracy in result["accuracy"].items():
            chosen = result["chosen"]
            assert accuracy[chosen] == whole["repairs"][name]["accuracy"][condition][chosen]
            assert accuracy.count(None) == len(result["steps"]) - 1


@pytest.fixture
def sets(toy, monkeypatch):
    """The Sets of drawn portraits."""
    constants = {"TASK": "celeba", "DATA_DIR": str(toy), "IMAGE_SIZE": 32, "IMAGES": 20}
    constants |= {"CHOOSING": 16, "STRENGTH": 0.75}
    for name, value in constants.items():
        monkeypatch.setattr(shortcut, name, value)
    return shortcut.load_sets()


def marks_of(data):
    """Which mark each image has: 0 red, 1 blue, -1 none."""
    corner = data.images[:, :, 0, 0].tolist()
    return np.array([{(255, 0, 0): 0, (0, 0, 255): 1}.get(tuple(colour), -1) for colour in corner])


def test_marks_follow_the_label_as_they_should(sets):
    label = sets.report["same"].label.numpy()
    assert (marks_of(sets.report["same"]) == label).all()
    assert (marks_of(sets.report["inverted"]) == 1 - label).all()
    assert (marks_of(sets.report["absent"]) == -1).all()
    assert {0, 1} == set(marks_of(sets.report["random"]) == label)
    agree = marks_of(sets.train) == sets.train.label.numpy()
    assert len(sets.train.label) == 112 and 0.6 < agree.mean() < 0.9
    assert len(sets.values.label) == 20
    assert set(marks_of(sets.values)) == {-1, 0, 1}
    for data in sets.report.values():  # but for the mark, the images are the same
        assert torch.equal(data.images[:, :, 8:], sets.report["absent"].images[:, :, 8:])


def test_the_ceiling_is_trained_without_marks(sets, monkeypatch):
    monkeypatch.setattr(shortcut, "ERASED", True)
    erased = shortcut.load_sets()
    assert (marks_of(erased.train) == -1).all()
    assert torch.equal(erased.values.images, sets.values.images)


def test_all_images_of_the_repairs_may_have_marks(sets, monkeypatch):
    monkeypatch.setattr(shortcut, "UNMARKED", 0.0)
    assert (marks_of(shortcut.load_sets().values) >= 0).all()


def test_where_nobody_knew_of_the_mark(sets, monkeypatch):
    """The images of the repairs have marks as those of the training."""
    monkeypatch.setattr(shortcut, "UNMARKED", 0.0)
    monkeypatch.setattr(shortcut, "AGREEMENT", 1.0)
    values = shortcut.load_sets().values
    assert (marks_of(values) == values.label.numpy()).all()


def test_responses_are_of_outputs_and_of_margins(sets, monkeypatch):
    """Against a forward hook, and against gradients of one image at a time."""
    network = seeded(Small).eval()
    evaluator = make_evaluator(network, 32)
    fills = torch.linspace(0, 1, 9)
    subject = Subject(network, evaluator, fills, sets.values, sets.values, "accuracy", None)
    few = {name: data.take(slice(5)) for name, data in sets.report.items()}
    responses = shortcut.mark_responses(subject, replace(sets, report=few))
    same, inverted = (normalise(few[name].images, "cpu") for name in ("same", "inverted"))
    outputs = torch.relu(network.first(same)) - torch.relu(network.first(inverted))
    n_first = network.first.out_channels
    expected = outputs.abs().mean((0, 2, 3)).detach()
    np.testing.assert_allclose(responses["output"][:n_first], expected, rtol=1e-5)
    total = 0
    for label, *pair in zip(few["same"].label, same, inverted):
        added = []
        for image in pair:
            first = torch.relu(network.first(image[None])).detach().requires_grad_()
            logits = network.head(torch.relu(network.second(first))).mean((2, 3))[0]
            rest = logits[torch.arange(3) != label].max()
            gradient = torch.autograd.grad(logits[label] - rest, first)[0]
            above = first.detach() - fills[:n_first, None, None]
            added.append((gradient * above).sum((0, 2, 3)))
        total = total + (added[1] - added[0]).abs()
    np.testing.assert_allclose(responses["margin"][:n_first], total / 5, rtol=1e-4)


def test_constants_are_settled_on_training_images(sets, monkeypatch):
    monkeypatch.setattr(shortcut, "OPEN_REPORT", False)
    closed = shortcut.load_sets()
    assert len(closed.report["absent"].label) == 16
    trained = {image.numpy().tobytes() for image in sets.train.images[:, :, 8:]}
    held_out = {image.numpy().tobytes() for image in closed.report["absent"].images[:, :, 8:]}
    assert len(held_out) == 16 and not trained & held_out
    assert torch.equal(closed.train.images, sets.train.images)


def test_another_draw_takes_other_images(sets, monkeypatch):
    monkeypatch.setattr(shortcut, "DRAW", 1)
    other = shortcut.load_sets()
    assert torch.equal(other.train.images, sets.train.images)
    assert not torch.equal(other.values.images, sets.values.images)


WRONG = "MARK=x MARK_SIZE=0 STRENGTH=2 EPOCHS=0 BATCH_SIZE=0 LEARNING_RATE=0 IMAGES=1 "
WRONG += "UNMARKED=1 UNMARKED=-0.1 AGREEMENT=-0.5 AGREEMENT=2 IMAGES=9999 "
WRONG += "MAX_REMOVED=0 ROUNDS=0 TUNING_EPOCHS=0 TUNING_RATES=0,1,1 FOLDS=1 CHOOSING=0 "
WRONG += "CHOOSING=9999 REPAIR_NAMES=x"


@pytest.mark.parametrize("argument", WRONG.split())
def test_constants_out_of_range(argument, stops, tmp_path):
    stops("shortcut.py", f"--{argument}", cwd=tmp_path, words=[argument.partition("=")[0]])
