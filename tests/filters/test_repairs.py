"""Repairs: all of them on a small network, each against what it should be."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from datasets import Images, normalise
from filters import repairs
from filters.choosers import CHOOSERS, Subject
from filters.coalitions import make_evaluator
from filters.repairs import REPAIRS, Budget, choose_step, removal_path
from filters.value import fill_values
from tests.games import exact_shapley
from tests.networks import Small, naive_logits, seeded

BUDGET = Budget(4, 3, 2, (1e-3, 1e-2), seed=0, images_per_round=16, singles=4, deepest=0.5)


@pytest.fixture(scope="module")
def subject():
    """A Subject of Small, on 24 images of three classes."""
    network, rng = seeded(Small), np.random.default_rng(0)
    network.logits_layer = "head"
    images = torch.from_numpy(rng.integers(0, 256, (24, 3, 16, 16), dtype=np.uint8))
    labels = torch.from_numpy(np.arange(24) % 3)
    data = Images(images, labels, torch.full((24,), -1))
    evaluator = make_evaluator(network, 16)
    fills, players = fill_values(evaluator, data, "mean"), np.arange(9)
    return Subject(network, evaluator, fills, data, data, "soft_accuracy", players)


def whole_logits(subject, images):
    with torch.no_grad():
        return subject.network(normalise(images, "cpu")).numpy()


@pytest.mark.parametrize("name", REPAIRS)
def test_every_repair_conforms(subject, name):
    """It starts from the network as it was, has a name for each step, and leaves it as it was."""
    before = copy.deepcopy(subject.network.state_dict())
    images = subject.data.images[:7]
    path = REPAIRS[name](subject, BUDGET)
    logits = path.logits(images)
    assert logits.shape == (len(path.steps), 7, 3) and logits.dtype == np.float32
    np.testing.assert_allclose(logits[0], whole_logits(subject, images), atol=1e-5)
    numbers = [len(path.steps) - 1, 1]
    np.testing.assert_array_equal(path.logits(images, numbers), logits[numbers])
    assert len(set(path.removed)) == len(path.removed) <= BUDGET.max_removed
    for key, value in subject.network.state_dict().items():
        assert torch.equal(value, before[key])
    again = REPAIRS[name](subject, BUDGET)
    assert again.removed == path.removed
    np.testing.assert_array_equal(again.logits(images), logits)


def test_a_removal_path(subject):
    images, order = subject.data.images[:5], [7, 2]
    path = removal_path(subject, np.array(order), 4)
    assert path.steps == [f"{number} filters removed" for number in (0, 1, 2, 2, 2)]
    logits = path.logits(images)
    for step in range(5):
        keep = ~np.isin(np.arange(9), order[:step])
        seen = normalise(images, "cpu")
        expected = naive_logits(subject.network, subject.evaluator, subject.fills, seen, keep)
        np.testing.assert_allclose(logits[step], expected, atol=1e-5)


def test_a_long_order_is_cut(subject):
    path = removal_path(subject, np.arange(9), 3)
    assert path.removed == [0, 1, 2] and len(path.steps) == 4


def test_values_once_removes_none_that_helps(subject, monkeypatch):
    values = np.array([0.2, -0.1, 0.0, -0.4, 0.1, 0.3, 0.1, 0.2, -0.2])
    budgets = []

    def shapley_values(subject, budget, measure):
        budgets.append((budget, measure))
        return values

    monkeypatch.setattr(repairs, "shapley_values", shapley_values)
    assert REPAIRS["values once"](subject, BUDGET).removed == [3, 8, 1]
    path = REPAIRS["values once, the paper's V"](subject, replace(BUDGET, max_removed=2))
    assert path.removed == [3, 8]
    assert budgets[0] == (BUDGET, "soft_accuracy")
    expected = replace(BUDGET, max_removed=2, truncation=0.53, deepest=0.25)
    assert budgets[1] == (expected, "accuracy")


def test_values_anew_with_exact_values(subject, monkeypatch):
    """Before each removal, of what remains; so it is greedy removal with every candidate."""

    def shapley_values(subject, budget, measure, remaining):
        assert (budget.rounds, budget.images_per_round) == (1, 24)
        seeds.append(budget.seed)
        return exact_marginals(subject, remaining)

    seeds = []
    monkeypatch.setattr(repairs, "shapley_values", shapley_values)
    path = REPAIRS["values anew"](subject, replace(BUDGET, max_removed=5))
    assert path.removed == CHOOSERS["greedy"](replace(subject, candidates=9), 5).tolist()
    assert len(set(seeds)) == 5


def test_values_of_what_remains(subject):
    """Over many rounds, the exact values of the game without the filters that are gone."""
    remaining = np.ones(9, dtype=bool)
    remaining[[1, 3, 4, 5, 7]] = False
    budget = replace(BUDGET, rounds=400, images_per_round=24, deepest=1.0)
    values = repairs.shapley_values(subject, budget, "soft_accuracy", remaining)
    players = np.flatnonzero(remaining)

    def value(keep, round_seed):
        coalitions = np.zeros((len(keep), 9), dtype=bool)
        coalitions[:, players] = keep
        return subject.value(coalitions)

    np.testing.assert_allclose(values[players], exact_shapley(value, 4), atol=2e-4)
    assert abs(values[~remaining]).max() < 1e-8  # float32 rounds


def exact_marginals(subject, remaining):
    """V with each filter less V without it, at a coalition: (9,) float64."""
    without = np.repeat(remaining[None], 9, 0)
    without[np.arange(9), np.arange(9)] = False
    values = subject.value(np.concatenate([remaining[None], without]))
    return values[0] - values[1:]


def test_shifted_thresholds_predict_each_class_as_often_as_it_is(subject):
    """The condition that the likelihood of the labels is highest."""
    data = subject.data.take(torch.arange(24) % 4 > 0)  # classes 1, 2, 0 in turn
    data = data._replace(label=data.label.clamp(max=1))  # 6 of class 0, 12 of class 1, 0 of 2
    data = data._replace(label=torch.where(torch.arange(18) < 3, 2, data.label))
    path = REPAIRS["threshold shift"](replace(subject, data=data), BUDGET)
    logits = torch.from_numpy(path.logits(data.images))
    shifts = logits[1] - logits[0]
    assert (abs(shifts - shifts[0]) < 1e-5).all()
    expected = torch.bincount(data.label) / 18
    np.testing.assert_allclose(logits[1].softmax(-1).mean(0), expected, atol=1e-3)


def test_last_layer_retraining_is_logistic_regression_on_the_features(subject):
    path = REPAIRS["last-layer retraining"](subject, BUDGET)
    network, images = subject.network, subject.data.images
    with torch.no_grad():
        features = torch.relu(network.second(torch.relu(network.first(normalise(images, "cpu")))))
    features = features.mean((2, 3)).numpy()
    features = (features - features.mean(0)) / (features.std(0) + 1e-6)
    logits, label = path.logits(images), subject.data.label.numpy()
    for step, penalty in enumerate(repairs.PENALTIES, 1):
        head = LogisticRegression(C=penalty, max_iter=2000).fit(features, label)
        shares = np.exp(logits[step] - logits[step].max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        np.testing.assert_allclose(shares, head.predict_proba(features), atol=1e-4)


def test_a_class_that_is_not_among_the_images_is_never_chosen(subject):
    data = subject.data.take(subject.data.label != 1)
    path = REPAIRS["last-layer retraining"](replace(subject, data=data, seen=data), BUDGET)
    logits = path.logits(subject.data.images)[1:]
    assert (logits[..., 1] == -np.inf).all() and np.isfinite(logits[..., [0, 2]]).all()


@pytest.mark.parametrize("name", ["fine-tuning all layers", "fine-tuning the head"])
def test_fine_tuning(subject, name, monkeypatch):
    """Two epochs at each rate; of the head, at ten times the rate, with the rest as it was."""
    finetune, networks = repairs.finetune, []

    def keep(network, *arguments, **options):
        networks.append(network)
        return finetune(network, *arguments, **options)

    monkeypatch.setattr(repairs, "finetune", keep)
    path = REPAIRS[name](subject, BUDGET)
    before = dict(subject.network.named_parameters())
    for network in networks:
        changed = {key for key, value in network.named_parameters() if (value != before[key]).any()}
        heads = {"head.weight", "head.bias"}
        assert changed == (set(before) if "all" in name else heads)
    rates = ("0.001", "0.01") if "all" in name else ("0.01", "0.1")
    epochs = [f"{epoch} epochs at {rate}" for rate in rates for epoch in (1, 2)]
    assert path.steps == ["as it was", *epochs]
    logits = path.logits(subject.data.images)
    assert all((logits[step] != logits[0]).any() for step in range(1, 5))


def test_the_step_that_is_best_on_unseen_images_is_chosen(subject):
    """A repair whose step 2 is right on all images but the ones that it was given."""
    label = subject.data.label.numpy()
    key = {image.numpy().tobytes(): number for number, image in enumerate(subject.data.images)}
    sizes = []

    def repair(subject, budget):
        seen = {image.numpy().tobytes() for image in subject.data.images}
        sizes.append(len(seen))

        def logits(images):
            scores = np.zeros((4, len(images), 3), dtype=np.float32)
            for row, image in enumerate(images):
                number = key[image.numpy().tobytes()]
                right = [0, 1, image.numpy().tobytes() not in seen, number % 2]
                for step, is_right in enumerate(right):
                    scores[step, row, (label[number] + 1 - int(is_right)) % 3] = 1
            return scores

        return repairs.RepairPath(list("abcd"), logits, [])

    chosen, accuracy = choose_step(repair, subject, BUDGET, folds=5)
    assert accuracy.tolist() == [0, 1, 1, 0.5] and chosen == 1
    assert sorted(sizes) == [19, 19, 19, 19, 20]
