"""finetune.py: what is trained and what is not, and its record."""

import json

import numpy as np
import pytest
import torch

import finetune
import model
from datasets import Images
from filters import repairs
from filters.retraining import TRAINERS


class Small(torch.nn.Module):
    """A conv, a batch norm, a hidden layer that is called last but one, and the head."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
        self.dropout = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, images):
        outputs = torch.relu(self.norm(self.conv(images))).mean((2, 3))
        return self.head(self.dropout(outputs))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture
def faces():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (12, 3, 8, 8), dtype=np.uint8))
    return Images(images, torch.tensor([0, 1] * 6), torch.zeros(12, dtype=torch.long))


TRAINING = repairs.Training(epochs=3, batch_size=5, learning_rate=0.01, seed=0)
CPU = torch.device("cpu")


def changed(states, before):
    """Names of what differs from the network before, after each epoch."""
    names = []
    for state in states:
        names.append({name for name in before if not torch.equal(state[name], before[name])})
    return names


def copy_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_all_layers_are_trained(network, faces):
    before = copy_of(network)
    states = repairs.finetune(network, network, faces, CPU, TRAINING)
    assert len(states) == 3
    assert all(names == set(before) for names in changed(states, before))
    assert len({state["head.weight"].numpy().tobytes() for state in states}) == 3


def test_the_head_alone_is_trained(network, faces):
    """And the statistics of batch norms, which are no weights."""
    before = copy_of(network)
    states = repairs.finetune(network, network.head, faces, CPU, TRAINING)
    statistics = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert all(
        names == {"head.weight", "head.bias"} | statistics for names in changed(states, before)
    )


def test_the_same_seed_gives_the_same_bytes(network, faces):
    """Order, mirroring and dropout all follow from it."""
    before, results = copy_of(network), []
    for seed in (0, 0, 1):
        network.load_state_dict(before)
        torch.manual_seed(99)
        training = repairs.Training(2, 5, 0.01, seed)
        states = repairs.finetune(network, network, faces, CPU, training)
        results.append(states[-1]["conv.weight"].numpy().tobytes())
    assert results[0] == results[1] != results[2]


def test_steps_of_the_schedule(network, faces, monkeypatch):
    """Three epochs of three batches, the last of two images."""
    asked = []

    def make_optimizer(part, learning_rate, steps):
        asked.append((part, learning_rate, steps))
        return original(part, learning_rate, steps)

    original = model.make_optimizer
    monkeypatch.setattr(model, "make_optimizer", make_optimizer)
    repairs.finetune(network, network, faces, CPU, TRAINING)
    assert asked == [(network, 0.01, 9)]


def test_last_layer():
    squeezenet = model.build("squeezenet1_1", "none")
    assert repairs.last_layer(squeezenet) is squeezenet.classifier[1]
    resnet = model.build("resnet18", "none")
    assert repairs.last_layer(resnet) is resnet.fc


def load_states(folder):
    return torch.load(folder / "cur_records/finetune.pth", weights_only=True)


def load_record(folder):
    return json.loads((folder / "cur_records/finetune.json").read_text())


def test_record(trained):
    states, record = load_states(trained), load_record(trained)
    repairs = finetune.REPAIRS.split(",")
    assert set(states) == {"network", "images", "steps", *repairs} and repairs == list(TRAINERS)
    mab = json.loads((trained / "cur_records/mab.json").read_text())["run"]
    assert (states["network"], states["images"]) == (mab["network"], mab["images"])
    before = torch.load(trained / "squeezenet.pth", weights_only=True)["state_dict"]
    head = {"classifier.1.weight", "classifier.1.bias"}
    for name in repairs:
        assert len(states[name]) == len(states["steps"][name])
        names = set(before) if name == "finetune" else head
        assert all(epoch <= names for epoch in changed(states[name], before))
    rates = ("3e-05", "0.0001", "0.0003")
    expected = [f"{epoch} epochs at {rate}" for epoch in (1, 2) for rate in rates]
    assert states["steps"]["finetune"] == expected and len(states["leace"]) == 1
    assert record["steps"] == states["steps"]
    assert record["network"] == mab["network"] and record["constants"]["EPOCHS"] == 2


def test_interrupted_it_goes_on_with_the_next_repair(done, run):
    """What is recorded is kept, even if it was not what would be trained now; but not that of
    other settings."""
    states, path = load_states(done), done / "cur_records/finetune.pth"
    kept = {key: states[key] for key in ("network", "images", "leace")}
    kept |= {"steps": {"leace": ["kept"]}}
    torch.save(kept, path)
    result = run("finetune.py", "--REPAIRS=dfr,leace", cwd=done)
    assert result.returncode == 0, result.stderr
    assert load_states(done)["steps"] == {"leace": ["kept"], "dfr": states["steps"]["dfr"]}
    result = run("finetune.py", "--REPAIRS=leace", "--EPOCHS=1", cwd=done)
    assert load_states(done)["steps"] == {"leace": ["race erased"]}


@pytest.mark.parametrize("repairs", ["", "dfr,other"])
def test_unknown_repairs(repairs, monkeypatch):
    monkeypatch.setattr(finetune, "REPAIRS", repairs)
    with pytest.raises(
        finetune.settings.InputError, match="must be of finetune, finetune_head, df"
    ):
        finetune.check_constants()
