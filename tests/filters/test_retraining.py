"""Repairs that change weights: all of them, and new heads against the libraries behind them."""

import copy
import dataclasses

from common.settings import InputError

import numpy as np
import pytest
import torch
from concept_erasure import LeaceEraser
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from datasets import GROUPS, Images, normalise
from filters import retraining
from filters.retraining import PENALTIES, TRAINERS, Effort
from model import male_margins
from report.labels import METHODS, NEEDS

CPU = torch.device("cpu")
EFFORT = Effort(epochs=2, batch_size=8, rates=(1e-3, 1e-2), head_rates=(1e-2, 1e-1), seed=0)
RACE = np.array([race == "Black" for race, _ in GROUPS])


class Network(torch.nn.Module):
    """Six filters, and a head of 1 x 1 pixels; behind it a ReLU, as in SqueezeNet, or none."""

    def __init__(self, rectified=True):
        super().__init__()
        self.conv, self.head = torch.nn.Conv2d(3, 6, 3), torch.nn.Conv2d(6, 2, 1)
        self.logits_layer, self.rectified = "head", rectified

    def features(self, images):
        return (
            torch.relu(self.conv(normalise(images, "cpu"))).mean((2, 3)).detach().double().numpy()
        )

    def forward(self, images):
        logits = self.head(torch.relu(self.conv(images)))
        return (torch.relu(logits) if self.rectified else logits).mean((2, 3))


def draw(counts):
    """Faces of noise, so many of each group; men are brighter, and so are faces of one race."""
    rng, group = np.random.default_rng(0), np.repeat(np.arange(4), counts)
    male = np.array([gender == "Male" for _, gender in GROUPS])[group].astype(int)
    images = rng.normal(110, 40, (len(group), 3, 8, 8))
    images[:, 0] += (20 * male)[:, None, None]
    images[:, 1] += (25 * RACE[group])[:, None, None]
    images = torch.from_numpy(images.clip(0, 255).astype(np.uint8))
    return Images(images, torch.from_numpy(male), torch.from_numpy(group))


@pytest.fixture(params=[True, False])
def network(request):
    torch.manual_seed(0)
    return Network(request.param).eval()


EQUAL = draw([20] * 4)


def margins_of(network, states, faces):
    """Margins of the network in each state: (states, N)."""
    network, margins = copy.deepcopy(network), []
    for state in states:
        network.load_state_dict(state)
        with torch.no_grad():
            margins.append(male_margins(network, faces, CPU))
    return np.stack(margins)


@pytest.mark.parametrize("name", TRAINERS)
def test_every_repair_has_its_texts(name):
    assert name in METHODS and name in NEEDS


@pytest.mark.parametrize("name", TRAINERS)
def test_every_repair_conforms(network, name):
    """A name for each network; the one that it starts from stays; the same once more."""
    before = copy.deepcopy(network.state_dict())
    result = TRAINERS[name](network, EQUAL, CPU, EFFORT)
    assert len(result.steps) == len(set(result.steps)) == len(result.states)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    own = np.stack([male_margins(network, EQUAL, CPU)])
    margins = margins_of(network, result.states, EQUAL)
    assert np.isfinite(margins).all() and (margins != own).any(1).all()
    again = TRAINERS[name](network, EQUAL, CPU, EFFORT)
    np.testing.assert_array_equal(margins_of(network, again.states, EQUAL), margins)
    for state in result.states:
        changed = {key for key in before if not torch.equal(state[key], before[key])}
        assert (
            changed == set(before)
            if name == "finetune"
            else changed <= {"head.weight", "head.bias"}
        )


@pytest.mark.parametrize("name, rates", [("finetune", "0.001 0.01"), ("finetune_head", "0.01 0.1")])
def test_each_rate_is_tried(network, name, rates):
    steps = [f"{epoch} epochs at {rate}" for epoch in (1, 2) for rate in rates.split()]
    result = TRAINERS[name](network, EQUAL, CPU, EFFORT)
    assert result.steps == steps
    for number, rate in enumerate(map(float, rates.split())):  # each is that of its rate alone
        alone = dataclasses.replace(EFFORT, rates=(rate,), head_rates=(rate,))
        states = TRAINERS[name](network, EQUAL, CPU, alone).states
        expected = margins_of(network, states, EQUAL)
        np.testing.assert_array_equal(
            margins_of(network, result.states[number::2], EQUAL), expected
        )


def test_what_stays_is_held_once(network):
    states = TRAINERS["finetune_head"](network, EQUAL, CPU, EFFORT).states
    states += TRAINERS["dfr"](network, EQUAL, CPU, EFFORT).states
    assert len({state["conv.weight"].data_ptr() for state in states}) <= 3
    assert len({state["head.weight"].data_ptr() for state in states}) == len(states)


# ----------------------------------------------------------------------------- new heads


def regression(features, faces, penalty):
    """scikit-learn's own scores of "male": (N,)."""
    standardised = StandardScaler().fit_transform(features)
    head = LogisticRegression(l1_ratio=1, C=penalty, solver="liblinear", random_state=0)
    return head.fit(standardised, faces.label.numpy()).decision_function(standardised)


def test_a_new_head_is_scikit_learns(network):
    """Of equal groups: its scores are the margins, also behind a ReLU that would cut them off."""
    result = TRAINERS["dfr"](network, EQUAL, CPU, EFFORT)
    assert result.steps == [f"C = {penalty:g}" for penalty in PENALTIES]
    features = network.features(EQUAL.images)
    margins = margins_of(network, result.states, EQUAL)
    for row, penalty in zip(margins, PENALTIES):
        np.testing.assert_allclose(row, regression(features, EQUAL, penalty), atol=2e-4)
    assert margins.min() < 0 < margins.max()


def test_draws_are_balanced_and_averaged(monkeypatch):
    """Of unequal groups: twenty regressions on as many images of each as the smallest has."""
    faces, heads = draw([5, 9, 9, 30]), []
    features = np.random.default_rng(1).normal(size=(53, 4)) + faces.label.numpy()[:, None]

    class Regression(LogisticRegression):
        def fit(self, inputs, label):
            heads.append(super().fit(inputs, label))
            rows = [np.flatnonzero((standardised == row).all(1))[0] for row in inputs]
            assert len(set(rows)) == 20
            assert np.bincount(faces.group.numpy()[rows]).tolist() == [5] * 4
            return self

    standardised = StandardScaler().fit_transform(features)
    monkeypatch.setattr(retraining, "LogisticRegression", Regression)
    weights, intercept = retraining.balanced_regression(features, faces, 0.3, seed=0)
    assert len(heads) == 20 and len({head.coef_.tobytes() for head in heads}) > 1
    scores = [head.decision_function(standardised) for head in heads]
    np.testing.assert_allclose(features @ weights + intercept, np.mean(scores, 0), atol=1e-10)


# ----------------------------------------------------------------------------- concept erasure


def erased_features(network, faces):
    """By the library itself."""
    features = torch.from_numpy(network.features(faces.images))
    race = torch.from_numpy(RACE[faces.group.numpy()].astype(int))
    return LeaceEraser.fit(features, race)(features).numpy()


def test_erasing_race_is_concept_erasures(network):
    """The head as it was, on the features that the library gives; no ReLU behind it cuts off."""
    (state,) = TRAINERS["leace"](network, EQUAL, CPU, EFFORT).states
    weight, bias = (tensor.detach().numpy() for tensor in network.head.parameters())
    logits = erased_features(network, EQUAL) @ weight[:, :, 0, 0].T + bias
    margins = margins_of(network, [state], EQUAL)[0]
    np.testing.assert_allclose(margins, logits[:, 1] - logits[:, 0], atol=5e-5)
    own = network.features(EQUAL.images) @ (weight[1] - weight[0])[:, 0, 0]
    gap, before = (
        np.ptp([scores[RACE[EQUAL.group.numpy()] == race].mean() for race in (0, 1)])
        for scores in (margins, own)
    )
    assert gap < 1e-4 < 1e-2 < before  # a linear function of them cannot tell the races apart


def test_a_new_head_on_erased_features(network):
    result = TRAINERS["leace_dfr"](network, EQUAL, CPU, EFFORT)
    margins, features = margins_of(network, result.states, EQUAL), erased_features(network, EQUAL)
    for row, penalty in zip(margins, PENALTIES):
        np.testing.assert_allclose(row, regression(features, EQUAL, penalty), atol=5e-4)
        assert np.ptp([row[RACE[EQUAL.group.numpy()] == race].mean() for race in (0, 1)]) < 5e-4


def test_a_head_of_larger_pixels_is_refused(network):
    network.head = torch.nn.Conv2d(6, 2, 3)
    for name in ("dfr", "leace", "leace_dfr"):
        with pytest.raises(InputError, match="head is no dense layer or 1 x 1 convolution"):
            TRAINERS[name](network, EQUAL, CPU, EFFORT)
