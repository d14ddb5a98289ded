"""One epoch of a network: exact losses, training that learns, and training that diverges."""

from common.settings import InputError

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import model
from datasets import Images, normalise
from tests.damage import check_message
from tests.networks import random_network

CPU = torch.device("cpu")
ARCH = "squeezenet1_1"


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_the_learning_rate_warms_up_and_falls(steps):
    optimizer, schedule = model.make_optimizer(nn.Linear(2, 2), 0.1, steps)
    rates = []
    for _ in range(max(3, steps)):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < max(3, steps):
            schedule.step()
    assert max(rates) <= 0.1 and rates[0] < 0.01 and rates[-1] < 0.001
    assert np.argmax(rates) == max(1, round(0.1 * steps) - 1)


def test_an_epoch_is_exact_for_unequal_batches(squeezenet, faces):
    loss, correct = model.run_epoch(squeezenet, faces, "cpu", 24)
    parts = model.run_epoch(squeezenet, faces, "cpu", 7)
    assert loss == pytest.approx(parts[0], rel=1e-5) and torch.equal(correct, parts[1])
    with torch.no_grad():
        logits = squeezenet(normalise(faces.images, "cpu"))
    assert loss == pytest.approx(cross_entropy(logits, faces.label).item(), rel=1e-5)
    assert torch.equal(correct, logits.argmax(1) == faces.label)


class Recorder(nn.Module):
    """A network that keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.head, self.batches, self.modes = nn.Linear(3, 2), [], []

    def forward(self, images):
        self.batches.append(images)
        self.modes.append(self.training)
        return self.head(images.mean((2, 3)))


@pytest.fixture
def sides():
    """10 images whose left half differs from the right, told apart by their level."""
    images = torch.zeros((10, 3, 4, 4), dtype=torch.uint8)
    images[..., :2] = torch.arange(10, 20, dtype=torch.uint8).view(-1, 1, 1, 1)
    return Images(images, torch.arange(10) % 2, torch.full((10,), -1))


def train_epoch(data, **options):
    """A Recorder after an epoch of training."""
    network = Recorder()
    optimizer, schedule = model.make_optimizer(network, 0.01, 10)
    result = model.run_epoch(
        network, data, "cpu", 4, optimizer, schedule, np.random.default_rng(0), **options
    )
    return network, schedule, result


@pytest.mark.parametrize("mirror", [True, False])
def test_training_sees_every_image_once_and_mirrors_half(sides, mirror):
    network, schedule, _ = train_epoch(sides, mirror=mirror)
    assert [len(batch) for batch in network.batches] == [4, 4, 2] and all(network.modes)
    assert schedule.last_epoch == 3
    originals, n_mirrored = normalise(sides.images, "cpu"), 0
    rows = []
    for image in torch.cat(network.batches):
        for row, original in enumerate(originals):
            if torch.equal(image, original) or torch.equal(image, original.flip(2)):
                rows.append(row)
                n_mirrored += torch.equal(image, original.flip(2))
    assert sorted(rows) == list(range(10)) and rows != list(range(10))
    assert (2 <= n_mirrored <= 8) if mirror else n_mirrored == 0


class Diverging(nn.Module):
    """A network whose loss is not finite from the third batch on."""

    def __init__(self, value):
        super().__init__()
        self.head, self.value, self.calls = nn.Linear(3, 2), value, 0

    def forward(self, images):
        self.calls += 1
        logits = self.head(images.mean((2, 3)))
        return logits if self.calls < 3 else logits * self.value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_training_stops_at_the_first_loss_that_is_not_finite(sides, value):
    network = Diverging(value)
    optimizer, schedule = model.make_optimizer(network, 0.01, 10)
    rng = np.random.default_rng(0)
    with pytest.raises(InputError) as refusal:
        model.run_epoch(network, sides, "cpu", 2, optimizer, schedule, rng)
    words = ["the loss of batch 3 is not finite (nan)", "give a lower --LEARNING_RATE"]
    check_message(str(refusal.value), *words)
    assert network.calls == 3 and torch.isfinite(network.head.weight).all()


def test_an_evaluation_whose_loss_is_not_finite(sides):
    with pytest.raises(InputError, match="the loss is not finite .nan."):
        model.run_epoch(Diverging(float("nan")), sides, "cpu", 2)


def test_training_learns_and_tells_what_was_right_in_the_order_of_the_data(sides):
    network, _, (loss, correct) = train_epoch(sides, mirror=False)
    start = Recorder()
    assert correct.shape == (10,) and correct.dtype == torch.bool and loss > 0
    assert not torch.equal(network.head.weight, start.head.weight)
    evaluated = Recorder().eval()
    with torch.no_grad():
        expected = evaluated(normalise(sides.images, "cpu")).argmax(1) == sides.label
    evaluated.batches.clear()
    assert torch.equal(model.run_epoch(evaluated, sides, "cpu", 3)[1], expected)
    assert torch.equal(torch.cat(evaluated.batches), normalise(sides.images, "cpu"))
    assert not any(evaluated.modes[1:]) and evaluated.head.weight.grad is None


def test_the_bar_has_a_name_or_is_not_there(sides, capsys):
    model.run_epoch(Recorder(), sides, "cpu", 4)
    assert capsys.readouterr().err == ""
    model.run_epoch(Recorder(), sides, "cpu", 4, bar="testing")
    assert "testing" in capsys.readouterr().err


def test_male_margins(squeezenet, faces):
    margins = model.male_margins(squeezenet, faces, CPU, batch_size=7)
    with torch.no_grad():
        logits = squeezenet(normalise(faces.images, "cpu"))
    np.testing.assert_allclose(margins, (logits[:, 1] - logits[:, 0]).numpy(), atol=1e-5)
    assert margins.dtype == np.float32 and margins.shape == (24,)
    training = random_network(ARCH).train()
    model.male_margins(training, faces, CPU)
    assert not training.training
