"""Repairs followed step by step, on a network of which every margin is known."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tqdm import tqdm

from filters.retraining import Retrained
from report import following
from tests.report.toy_faces import NUMBERED, SIGN, KnownEvaluator, known_margins


class Scale(torch.nn.Module):
    """A network whose one weight is what it adds to the margins, for fine-tuning."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.0))


@pytest.fixture
def male_margins(monkeypatch):
    """model.male_margins of a Scale: its weight for men, less for women."""

    def margins(network, faces, device):
        assert device == KnownEvaluator.device
        return network.weight.item() * (2 * faces.label.numpy() - 1).astype(np.float32)

    monkeypatch.setattr(following.model, "male_margins", margins)


def test_follow_removals():
    order = np.array([3, 0])
    with tqdm(file=io.StringIO()) as bar:
        evaluator, fills = KnownEvaluator(), torch.arange(5.0)
        by_split = following.follow_removals(evaluator, fills, order, NUMBERED, bar)
        assert evaluator.fills is fills
        assert bar.n == 3 * 3 * 200  # three sets, three steps
    assert list(by_split) == ["choose", "report", "celeba"]
    for margins in by_split.values():
        np.testing.assert_allclose(margins, known_margins(order), atol=1e-6)


ORDERS = {"shapley": np.array([1, 2]), "greedy": np.array([4])}
STATES = [{"weight": torch.tensor(float(epoch))} for epoch in (1, 2)]
RETRAINED = {"finetune": Retrained(["1 epochs", "2 epochs"], STATES)}


def follow(state=None, evaluator=None):
    """The game, and the margins along ORDERS and RETRAINED."""
    network, device = Scale(), torch.device("cpu")
    evaluator = evaluator or KnownEvaluator()
    game = SimpleNamespace(evaluator=evaluator, network=network, device=device)
    arguments = (game, torch.zeros(5), ORDERS, RETRAINED, NUMBERED, state)
    return game, following.follow_repairs(*arguments)


def test_follow_repairs(male_margins, capsys):
    """Filters go along every order; an epoch follows another from the network as it is."""
    game, by_path = follow()
    assert list(by_path) == ["shapley", "greedy", "finetune"]
    for name, order in ORDERS.items():
        np.testing.assert_allclose(by_path[name]["report"], known_margins(order), atol=1e-6)
    for margins in by_path["finetune"].values():
        expected = [known_margins([])[0], SIGN, 2 * SIGN]
        np.testing.assert_allclose(margins, np.stack(expected), atol=1e-6)
    assert game.network.weight == 0  # a copy was trained
    bar = capsys.readouterr().err  # three steps, two steps, two epochs; 600 images each
    assert "\reval.py: 100%|" in bar and " 4200/4200 [" in bar and " images/s]" in bar


class Failing(KnownEvaluator):
    """Fails at the second order."""

    calls = 0

    def logits(self, keep):
        if not keep[-1, 4]:
            raise KeyboardInterrupt
        Failing.calls += 1
        return super().logits(keep)


def test_an_interrupted_run_goes_on(male_margins, tmp_path, capsys):
    """What was followed is kept, and not followed again; the result is that of one run."""
    state = following.SavedMargins(str(tmp_path / "state.npz"), {"seed": 0})
    with pytest.raises(KeyboardInterrupt):
        follow(state, Failing())
    assert Failing.calls == 3 and list(state.load()) == ["shapley"]
    Failing.calls = 0
    with pytest.raises(KeyboardInterrupt):
        follow(state, Failing())
    assert Failing.calls == 0
    capsys.readouterr()
    _, resumed = follow(state)
    bar = capsys.readouterr().err
    assert " 1800/4200 [" in bar and " 4200/4200 [" in bar
    _, expected = follow()
    assert list(resumed) == list(expected)
    for name, by_split in expected.items():
        for split, margins in by_split.items():
            np.testing.assert_array_equal(resumed[name][split], margins)
    other = following.SavedMargins(state.path, {"seed": 1})
    assert list(state.load()) == list(expected) and other.load() == {}


RUN = {"network": "n", "images": "i"}


def test_load_finetuned(tmp_path):
    path = str(tmp_path / "finetune.pth")
    assert following.load_finetuned(path, RUN) == {}
    states = [{"weight": torch.tensor(1.0)}]
    torch.save({**RUN, "finetune": states}, path)  # as before steps had names
    assert following.load_finetuned(path, RUN) == {"finetune": Retrained(["1 epochs"], states)}
    torch.save({**RUN, "steps": {"dfr": ["C = 1"]}, "dfr": states}, path)
    assert following.load_finetuned(path, RUN) == {"dfr": Retrained(["C = 1"], states)}
    for content in (
        {"network": "x", "images": "i", "finetune": states},
        {"network": "n", "images": "x", "finetune": states},
        {"network": "n", "finetune": states},
        {**RUN, "finetune": states, "finetune_head": {}},
    ):
        torch.save(content, path)
        with pytest.raises(following.InputError) as refusal:
            following.load_finetuned(path, RUN)
        assert str(refusal.value) == (
            f"{path} was made for another network or other images; move it away, and run "
            "finetune.py again or do without"
        )
