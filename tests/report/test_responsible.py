"""The protocol for other tasks, on a network of which every logit is known."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from datasets import Images
from report import metrics, responsible
from report.responsible import Limits, Removal, Score
from report.values import FilterValues

CLASSES = ("cat", "cow", "dog")
LABELS = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
PIXELS = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 3, 2, 2)
DATA = Images(PIXELS, LABELS, torch.full((10,), -1))


class KnownEvaluator:
    """Image i has the pixels i. It is called its class if filter i % 4 works, else a cat."""

    device = torch.device("cpu")
    layers = ["conv"] * 5

    def see(self, images, fills):
        # undoes datasets.normalise for the first channel
        self.numbers = (images[:, 0, 0, 0] * 0.229 + 0.485).mul(255).round().long()
        self.fills = fills

    def logits(self, keep):
        works = torch.from_numpy(keep[:, self.numbers % 4].astype(np.float32))  # (T, B)
        logits = torch.zeros(*works.shape, 3)
        logits[..., 0] = 0.5
        labels = LABELS[self.numbers].expand(works.shape)[..., None]
        return logits.scatter_add(-1, labels, works[..., None])

    def without(self, removed, fills):
        return ("without", removed.tolist(), fills.tolist())


def called_right(gone):
    """(10,) bool: which images are called their class without some filters."""
    numbers = np.arange(10)
    return ~np.isin(numbers % 4, gone) | (LABELS.numpy() == 0)


def values_of(order, shapley=(3.0, 2.0, -1.0, 1.0, 0.0), **run):
    filters = pd.DataFrame({"shapley": shapley}, index=range(len(shapley)))
    run = {"network": "n", "MEASURE": "accuracy", "CLASS": "", "WHICH": "highest", **run}
    return FilterValues(np.array(order), filters, run, race=None)


@pytest.fixture
def pairs(monkeypatch):
    """adversarial_pairs that attack no network: the images themselves, targets one class on."""
    asked = []

    def adversarial_pairs(network, digest, data, n_classes, seed, device, name=""):
        asked.append((network, digest, n_classes, seed, device.type, name))
        group = torch.tensor([0] * len(data.label) + [1] * len(data.label))
        label = torch.cat([data.label, (data.label + 1) % n_classes])
        return Images(torch.cat([data.images, data.images.flip(0)]), label, group)

    monkeypatch.setattr(responsible, "adversarial_pairs", adversarial_pairs)
    return asked


GAME = SimpleNamespace(
    evaluator=KnownEvaluator(),
    network="network",
    digest="d",
    classes=CLASSES,
    device=torch.device("cpu"),
)

# ----------------------------------------------------------------------------- what is measured


@pytest.mark.parametrize(
    "n_removed, every, steps",
    [(10, 5, [0, 5, 10]), (12, 5, [0, 5, 10, 12]), (3, 10, [0, 3]), (0, 1, [0]), (2, 1, [0, 1, 2])],
)
def test_reported_steps(n_removed, every, steps):
    assert responsible.reported_steps(n_removed, every) == steps


def test_plan_removals():
    """The values go filter by filter, others as the table has it; players alone are removed."""
    players = np.array([1, 2, 4, 5, 8])
    filters = pd.DataFrame({"shapley": [0.1, 0.5, 0.2, -1, 0.3]}, index=players)
    values = FilterValues(np.array([2, 8, 4, 1]), filters, {"WHICH": "highest"}, race=None)
    norms = np.array([9, 1, 3, 9, 2, 3, 9, 9, 5.0])
    rivals = {"greedy": np.array([8, 2, 4, 5]), "short": np.array([5, 1])}
    removals = responsible.plan_removals(values, norms, rivals, Limits(3, 2, 2, 7))
    assert [(r.name, r.method, r.steps) for r in removals] == [
        ("shapley", "shapley", [0, 1, 2, 3]),
        ("l2_norm", "l2_norm", [0, 2, 3]),
        ("random 0", "random", [0, 2, 3]),
        ("random 1", "random", [0, 2, 3]),
        ("greedy", "greedy", [0, 2, 3]),
        ("short", "short", [0, 2]),
    ]
    orders = {removal.name: removal.order.tolist() for removal in removals}
    assert orders["shapley"] == [2, 8, 4] and orders["greedy"] == [8, 2, 4]
    assert orders["l2_norm"] == [8, 2, 5]  # the largest first; of equals the lower number
    for index in range(2):
        drawn = np.random.default_rng([7, index, 1]).permutation(players)
        assert orders[f"random {index}"] == drawn[:3].tolist()
    lowest = FilterValues(values.order, filters, {"WHICH": "lowest"}, race=None)
    removals = responsible.plan_removals(lowest, norms, {}, Limits(3, 2, 0, 7))
    assert removals[1].order.tolist() == [1, 4, 2]  # the smallest first, as its label says
    few = responsible.plan_removals(values, norms, {}, Limits(60, 10, 0, 7))
    assert [(len(r.order), r.steps) for r in few] == [(4, [0, 1, 2, 3, 4]), (4, [0, 4])]


def test_equal_norms_go_in_the_order_of_their_numbers():
    values = values_of(range(200), shapley=np.ones(200))
    norms = np.arange(200) % 2
    removals = responsible.plan_removals(values, norms, {}, Limits(150, 50, 0, 0))
    assert removals[1].order.tolist() == [*range(1, 200, 2), *range(0, 100, 2)]


def members(scores):
    return {(score.split, score.group): np.flatnonzero(score.members).tolist() for score in scores}


def test_reported_scores():
    scores, recalls = responsible.reported_scores({"report": DATA}, CLASSES, "")
    assert members(scores) == {("report", "all"): list(range(10))}
    assert members(recalls) == {
        ("report", "class cat"): [0, 1],
        ("report", "class cow"): [2, 3, 4],
        ("report", "class dog"): [5, 6, 7, 8, 9],
    }
    scores, _ = responsible.reported_scores({"report": DATA}, CLASSES, "cow")
    assert members(scores) == {
        ("report", "all"): list(range(10)),
        ("report", "class cow"): [2, 3, 4],
        ("report", "others"): [0, 1, 5, 6, 7, 8, 9],
    }
    sets = {"report": DATA, "attack": DATA.take(torch.arange(4)), "no attack": DATA}
    scores, _ = responsible.reported_scores(sets, CLASSES, "")
    assert list(members(scores)) == [
        ("report", "all"), ("attack", "success"), ("no attack", "success")
    ]  # fmt: skip
    assert members(scores)["attack", "success"] == [0, 1, 2, 3]


def test_recalls_of_few_classes_only():
    names = tuple(f"c{number}" for number in range(20))
    assert len(responsible.reported_scores({"report": DATA}, names, "")[1]) == 20
    names += ("c20",)
    assert responsible.reported_scores({"report": DATA}, names, "")[1] == []
    _, recalls = responsible.reported_scores({"report": DATA}, names, "c2")
    assert members(recalls) == {("report", "class c2"): [5, 6, 7, 8, 9]}


# ----------------------------------------------------------------------------- images


def test_attacked_sets(pairs):
    sets = responsible.attacked_sets(GAME, DATA, 5)
    assert pairs == [("network", "d", 3, 5, "cpu", "attacking the network")]
    assert list(sets) == ["attack", "no attack"]
    targets = ((LABELS + 1) % 3).tolist()
    for split, images in (("attack", DATA.images.flip(0)), ("no attack", DATA.images)):
        assert sets[split].label.tolist() == targets
        assert torch.equal(sets[split].images, images)


def test_black_box_set(pairs, monkeypatch):
    monkeypatch.setattr(responsible.model, "digest", lambda network: f"digest of {network}")
    result = responsible.black_box_set(GAME, "other", "vgg16", DATA, 5)
    assert pairs == [("other", "digest of other", 3, 5, "cpu", "attacking vgg16")]
    assert torch.equal(result.images, DATA.images.flip(0))
    assert result.label.tolist() == ((LABELS + 1) % 3).tolist()


def test_classify(capsys):
    """Each set after each step of each removal; the class with the largest logit counts."""
    removals = [Removal("shapley", np.array([1, 2]), [0, 1, 2]), Removal("l2", np.array([3]), [1])]
    part = DATA.take(torch.tensor([5, 2]))
    evaluator, fills = KnownEvaluator(), torch.zeros(5)
    responsible.classify(evaluator, fills, removals, {"report": DATA, "x": part})
    assert evaluator.fills is fills
    expected = np.stack([called_right(gone) for gone in ([], [1], [1, 2])])
    assert np.array_equal(removals[0].right["report"], expected)
    assert np.array_equal(removals[0].right["x"], expected[:, [5, 2]])
    assert np.array_equal(removals[1].right["report"], called_right([3])[None])
    assert not expected[1].all() and expected[0].all()
    bar = capsys.readouterr().err  # four steps of 12 images
    assert "\reval.py: 100%|" in bar and " 48/48 [" in bar and " images/s]" in bar


def test_attack_anew(pairs):
    """Adversaries are made on what remains, and kept by the network and what was removed."""
    fills = torch.tensor([0.5, 1.5, 2.5, 3.5, 4.5])
    removal = Removal("shapley", np.array([2, 1, 0]), [0, 1, 2, 3])
    row = responsible.attack_anew(GAME, fills, removal, 2, DATA, {"network": "n"}, 5)
    digest = json.dumps(["n", [2, 1], [2.5, 1.5]])
    name = "attacking anew, 2 filters removed"
    assert pairs == [(("without", [2, 1], fills.tolist()), digest, 3, 5, "cpu", name)]
    numbers, targets = np.arange(10)[::-1], ((LABELS + 1) % 3).numpy()
    works = ~np.isin(numbers % 4, [2, 1])
    called = np.where(works, LABELS.numpy()[numbers], 0)
    expected = metrics.mean_share((called == targets)[None])
    assert row == ("shapley", 2, "fresh attack", "success", *expected)
    assert 0 < expected[0] < 1 and removal.right == {}


# ----------------------------------------------------------------------------- tables


def random_right(*shape, seed=0):
    return np.random.default_rng(seed).random(shape) < 0.6


ALL = Score("report", "all", np.full(10, True))
CATS = Score("report", "class cat", np.arange(10) < 2)
ATTACK = Score("attack", "success", np.full(6, True))


def removals_of_two_sets():
    orders, removals = np.arange(4), []
    for seed, (name, steps) in enumerate(
        [("shapley", [0, 1, 2]), ("random 0", [0, 2]), ("random 1", [0, 2]), ("short", [0])]
    ):
        right = {
            "report": random_right(len(steps), 10, seed=seed),
            "attack": random_right(len(steps), 6, seed=seed + 9),
        }
        removals.append(Removal(name, orders, steps, right))
    return removals


def test_curve_table():
    removals = removals_of_two_sets()
    nobody = Score("report", "class ox", np.full(10, False))
    other_cats = Score("report", "class cat", np.arange(10) < 3)  # the last of a name counts
    table = responsible.curve_table(removals, [ALL, CATS, ATTACK, nobody, other_cats])
    assert table.columns.tolist() == [
        "method", "n_removed", "split", "group", "accuracy", "ci_low", "ci_high", "n_images"
    ]  # fmt: skip
    assert len(table) == 3 * (3 + 2 + 2 + 1) and table.index.tolist() == list(range(len(table)))
    first = table.iloc[:9]
    assert first["n_removed"].tolist() == [0, 1, 2] * 3
    assert first["group"].tolist() == ["all"] * 3 + ["class cat"] * 3 + ["success"] * 3
    assert first["n_images"].tolist() == [10] * 3 + [3] * 3 + [6] * 3
    for row in table.itertuples():
        removal = next(removal for removal in removals if removal.name == row.method)
        right = removal.right[row.split][removal.steps.index(row.n_removed)]
        right = right[:3] if row.group == "class cat" else right
        assert row.accuracy == right.mean()
        assert (row.ci_low, row.ci_high) == pytest.approx(metrics.wilson(right.sum(), len(right)))


def test_score_tables():
    removals = removals_of_two_sets()
    table, changes = responsible.score_tables(removals, [ALL, CATS, ATTACK], [0, 2])
    assert table.columns.tolist() == responsible.TABLE_COLUMNS
    assert changes.columns.tolist() == responsible.CHANGE_COLUMNS
    keys = ["method", "n_removed", "split", "group"]
    rows = [
        (method, step, score.split, score.group)
        for score in (ALL, CATS, ATTACK)
        for step, methods in ((0, ["shapley", "random", "short"]), (2, ["shapley", "random"]))
        for method in methods
    ]
    assert list(table[keys].itertuples(index=False, name=None)) == rows
    keys = ["after", "before", "n_removed", "split", "group"]
    rows = [("shapley", *row) for row in rows if row[0] != "shapley"]
    assert list(changes[keys].itertuples(index=False, name=None)) == rows
    right = {removal.name: removal.right["report"][-1, :2] for removal in removals}
    random = np.stack([right["random 0"], right["random 1"]])
    share = table.query("method == 'random' and n_removed == 2 and group == 'class cat'").iloc[0]
    assert share["value":"ci_high"].tolist() == pytest.approx(metrics.mean_share(random))
    change = changes.query("before == 'random' and n_removed == 2 and group == 'class cat'")
    expected = metrics.paired_difference(right["shapley"][None], random)
    assert change.iloc[0]["change":"ci_high"].tolist() == pytest.approx(expected)


def test_sets_that_were_not_classified_are_left_out():
    removals = [Removal("shapley", np.arange(2), [0], {"report": random_right(1, 10)})]
    table, changes = responsible.score_tables(removals, [ALL, ATTACK], [0])
    assert table["split"].tolist() == ["report"] and len(changes) == 0


def test_add_fresh_attacks():
    """Where no filter has gone the fresh attack is the first one."""
    rows = [
        ("shapley", 0, "report", "all", 0.9, 0.8, 0.95),
        ("random", 0, "attack", "success", 0.7, 0.6, 0.8),
        ("shapley", 0, "attack", "success", 0.75, 0.7, 0.8),
        ("shapley", 2, "attack", "success", 0.1, 0.05, 0.2),
    ]
    table = pd.DataFrame(rows, columns=responsible.TABLE_COLUMNS)
    fresh = ("shapley", 2, "fresh attack", "success", 0.6, 0.5, 0.7)
    longer = responsible.add_fresh_attacks(table, [fresh])
    assert longer.iloc[:4].equals(table)
    assert longer.values.tolist()[4:] == [
        ["shapley", 0, "fresh attack", "success", 0.75, 0.7, 0.8], list(fresh)
    ]  # fmt: skip
    assert longer.index.tolist() == list(range(6)) and table["split"].tolist()[2] == "attack"


# ----------------------------------------------------------------------------- the whole protocol


def evaluate(values, sets, limits):
    norms = np.array([1, 2, 3, 4, 5.0])
    return responsible.evaluate_removals(GAME, torch.zeros(5), values, norms, {}, sets, limits)


def test_evaluate_removals():
    result = evaluate(values_of([0, 1, 3]), {"report": DATA}, Limits(60, 2, 1, 0))
    assert result.removed.tolist() == [0, 1, 3]
    shares = [called_right(gone).mean() for gone in ([], [0, 1], [0, 1, 3])]
    table = result.table.query("method == 'shapley'")
    assert table["n_removed"].tolist() == [0, 2, 3]
    assert table["value"].tolist() == pytest.approx(shares)
    assert set(result.changes["before"]) == {"l2_norm", "random"}
    assert set(result.curves["group"]) == {"all", "class cat", "class cow", "class dog"}
    assert result.shares == metrics.concentration(np.array([3, 2, -1, 1, 0.0]))


def test_the_limit_is_kept():
    result = evaluate(values_of([0, 1, 3]), {"report": DATA}, Limits(2, 1, 0, 0))
    assert result.removed.tolist() == [0, 1]
    assert result.table["n_removed"].max() == result.curves["n_removed"].max() == 2


@pytest.mark.parametrize(
    "options, shared",
    [
        ({}, True),
        ({"CLASS": "cow"}, False),
        ({"shapley": (3.0, 2.0, -5.0, 0.0, 0.0)}, False),  # the sum is 0
        ({"shapley": (3.0, 2.0, -6.0, 0.0, 0.0)}, False),
        ({"shapley": (0.5, 0.0, 0.0, 0.0, 0.0)}, True),
        ({"MEASURE": "soft_accuracy"}, True),
    ],
)
def test_shares_of_the_sum(options, shared):
    """Only of the accuracy of all classes, and of a positive sum."""
    result = evaluate(values_of([0], **options), {"report": DATA}, Limits(1, 1, 0, 0))
    assert bool(result.shares) == shared
    groups = {"all", "class cow", "others"} if "CLASS" in options else {"all"}
    assert set(result.table["group"]) == groups


def test_evaluate_an_attack(pairs):
    """A fresh attack at every step of the table but the first, whose row is the old attack's."""
    sets = {"report": DATA, **responsible.attacked_sets(GAME, DATA, 3)}
    values = values_of([0, 1, 3], MEASURE="attack")
    result = evaluate(values, sets, Limits(3, 2, 1, 3))
    assert result.shares == {}
    names = [name for *_, name in pairs]
    expected = [f"attacking anew, {step} filters removed" for step in (2, 3)]
    assert names == ["attacking the network", *expected] and {ask[3] for ask in pairs} == {3}
    table = result.table.set_index(["method", "split", "n_removed"])["value"].sort_index()
    assert table["shapley", "fresh attack", 0] == table["shapley", "attack", 0]
    assert result.table["split"].tolist()[-3:] == ["fresh attack"] * 3
    assert table["shapley", "fresh attack"].index.tolist() == [0, 2, 3]
