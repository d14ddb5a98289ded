"""Choosers: all of them on a small network, and against brute force on a game of pairs."""

import numpy as np
import pytest
import torch

from datasets import Images, normalise
from filters import choosers
from filters.coalitions import make_evaluator
from filters.measures import class_margins
from filters.value import fill_values

N = 8
ALONE = np.array([3, -2, -1.5, 1, -0.5, -1, 2, -0.2])
PAIRS = np.random.default_rng(0).normal(0, 1, (N, N))
EVERYONE = np.ones(N, dtype=bool)

# ----------------------------------------------------------------------------- on a network


class Small(torch.nn.Module):
    """Two convs, one behind the other, and a head: nine filters, three classes."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 5, 3)
        self.head = torch.nn.Conv2d(5, 3, 1)

    def forward(self, images):
        outputs = torch.relu(self.second(torch.relu(self.first(images))))
        return self.head(outputs).mean((2, 3))


@pytest.fixture(scope="module")
def subject():
    """A Subject of Small, on 24 images of noise; filters 2 and 6 may not go."""
    torch.manual_seed(0)
    network, rng = Small().eval(), np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (24, 3, 16, 16), dtype=np.uint8))
    labels = torch.from_numpy(rng.integers(0, 3, 24))
    data = Images(images, labels, torch.tensor([0, 1, 1] * 8))
    evaluator = make_evaluator(network, 16)
    players = np.array([0, 1, 3, 4, 5, 7, 8])
    fills = fill_values(evaluator, data, "mean")
    return choosers.Subject(network, evaluator, fills, data, data, "soft_accuracy", players)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", choosers.CHOOSERS)
def test_every_rival_conforms(subject, name, sign):
    """An order without repeats, players only, as many as asked for, the same once more."""
    subject.sign = sign
    for number in (1, 4):
        order = choosers.CHOOSERS[name](subject, number)
        assert isinstance(order, np.ndarray) and order.dtype.kind == "i"
        assert len(order) == len(set(order.tolist())) == number
        assert set(order.tolist()) <= set(subject.players.tolist())
        again = choosers.CHOOSERS[name](subject, number)
        assert order.tobytes() == again.tobytes()


def test_batches(subject):
    """Every image once, about as many of each group in each batch, seen by the evaluator."""
    batches = list(subject.batches(per_group=3))
    assert [len(batch.label) for batch in batches] == [12, 12]  # 8 of the small group, 3 at least
    assert [batch.group.bincount().tolist() for batch in batches] == [[4, 8]] * 2
    images = torch.cat([batch.images for batch in batches])
    seen = {image.numpy().tobytes() for image in images}
    assert seen == {image.numpy().tobytes() for image in subject.data.images}
    assert len(list(subject.batches())) == 1  # fewer than 50 of a group


def test_value_and_guess_are_means_over_batches(subject, monkeypatch):
    """V of unlike batches, weighted by their sizes."""
    monkeypatch.setattr(choosers.Subject, "COALITIONS_A_CALL", 2)
    keep = np.ones((5, 9), dtype=bool)
    keep[np.arange(4), [0, 3, 5, 8]] = False
    whole = subject.value(keep)
    assert whole.shape == (5,) and len(set(whole)) == 5
    subject.evaluator.see(normalise(subject.data.images, torch.device("cpu")), subject.fills)
    margins = class_margins(subject.evaluator.logits(keep), subject.data.label)
    assert whole == pytest.approx((margins / 0.5).sigmoid().mean(-1).numpy(), abs=1e-6)
    guess = subject.guess(keep[-1])
    data, rows = subject.data, torch.arange(24)
    unlike = [data.take(rows[:18]), data.take(rows[18:])]

    def batches(self):
        for batch in unlike:
            subject.evaluator.see(normalise(batch.images, "cpu"), subject.fills)
            yield batch

    monkeypatch.setattr(choosers.Subject, "batches", batches)
    assert subject.value(keep) == pytest.approx(whole, abs=1e-6)
    assert subject.guess(keep[-1]) == pytest.approx(guess, abs=1e-6)


@pytest.mark.parametrize("sign, expected", [(1, [5, 0, 7]), (-1, [8, 4, 1])])
def test_lowest(subject, sign, expected):
    """Players alone; of equal scores the lower number."""
    subject.sign = sign
    scores = np.array([1, 3, -9, 2, 4, 0, 99, 1, 5.0])
    assert subject.lowest(scores, 3).tolist() == expected


def test_l2_norm_and_mean_activation(subject):
    """By the weights, and by what the filters give on average."""
    subject.sign = 1
    convs = (subject.network.first, subject.network.second)
    norms = [weight.norm().item() for conv in convs for weight in conv.weight.detach()]
    order = sorted(subject.players.tolist(), key=lambda number: norms[number])
    assert choosers.l2_norm(subject, 7).tolist() == order
    with torch.no_grad():
        inputs = normalise(subject.data.images, "cpu")
        first = torch.relu(subject.network.first(inputs))
        second = torch.relu(subject.network.second(first))
    means = torch.cat([first.mean((0, 2, 3)), second.mean((0, 2, 3))]).tolist()
    order = sorted(subject.players.tolist(), key=lambda number: means[number])
    assert choosers.mean_activation(subject, 7).tolist() == order


# ----------------------------------------------------------------------------- on a game


class Game(choosers.Subject):
    """A Subject whose V is known, and whose guesses are off by as much as asked."""

    def __init__(self, error=0.0, sign=1, candidates=N):
        self.error, self.sign, self.candidates = error, sign, candidates
        self.players, self.fills = np.arange(N), np.zeros(N)
        self.begun, self.on_filter = (), None

    def value(self, keep):
        keep = keep.astype(float)
        return keep @ ALONE + np.einsum("ti,ij,tj->t", keep, PAIRS, keep)

    def guess(self, keep):
        marginals = self.value(keep[None]) - self.value(choosers.without_each(keep, np.arange(N)))
        return np.where(keep, marginals, 0) + self.error * np.random.default_rng(1).normal(size=N)


def brute_force(number, sign=1):
    """Greedy removal by the definition: what raises V most goes (or lowers it: sign -1)."""
    keep, order, game = EVERYONE.copy(), [], Game()
    for _ in range(number):
        remaining = np.flatnonzero(keep).tolist()
        values = {}
        for player in remaining:
            values[player] = game.value(choosers.without_each(keep, [player]))[0]
        order.append(max(remaining, key=lambda player: sign * values[player]))
        keep[order[-1]] = False
    return order


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("error", [0.0, 5.0])
def test_greedy(error, sign):
    """With all filters as candidates guesses do not matter."""
    order = choosers.greedy(Game(error, sign), 6)
    assert order.tolist() == brute_force(6, sign)
    assert order.tolist() != choosers.leave_one_out(Game(sign=sign), 6).tolist()


def test_greedy_measures_the_candidates_only():
    """Those with the best guesses: with two, the better of the two best guesses goes."""
    game = Game(error=20.0, candidates=2)
    first = choosers.greedy(game, 1)[0]
    best = np.argsort(game.guess(EVERYONE))[:2]
    values = game.value(choosers.without_each(EVERYONE, best))
    assert first == best[np.argmax(values)]
    assert first != choosers.greedy(Game(error=20.0), 1)[0]


def test_greedy_goes_on_where_it_was_interrupted():
    """With the same filters as in one go, and the order so far is told after each filter."""
    orders, game = [], Game()
    whole = choosers.greedy(game, 5).tolist()
    game.begun, game.on_filter = tuple(whole[:2]), lambda order: orders.append(list(order))
    assert choosers.greedy(game, 5).tolist() == whole
    assert orders == [whole[:3], whole[:4], whole]


def test_greedy_guess_goes_by_the_guesses():
    assert choosers.greedy_guess(Game(), 6).tolist() == brute_force(6)
    assert choosers.greedy_guess(Game(50.0), 6).tolist() != brute_force(6)
    assert choosers.greedy_guess(Game(sign=-1), 6).tolist() == brute_force(6, sign=-1)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_stages(size):
    """Filters of a stage go by the guesses at its beginning; the last stage may be cut short."""
    expected, keep, game = [], EVERYONE.copy(), Game()
    while len(expected) < 5:
        guesses = np.where(keep, game.guess(keep), np.inf)
        expected += np.argsort(guesses)[:size].tolist()
        keep[expected] = False
    assert choosers.guessed_in_stages(size)(game, 5).tolist() == expected[:5]


@pytest.mark.parametrize("sign", [1, -1])
def test_leave_one_out(sign):
    game = Game(5.0, sign)
    values = game.value(choosers.without_each(EVERYONE, np.arange(N)))
    expected = np.argsort(-sign * values)[:5]
    assert choosers.leave_one_out(game, 5).tolist() == expected.tolist()


def test_leave_one_out_measures_ten_times_as_many():
    game, asked = Game(), []
    value = game.value
    game.lowest = lambda scores, number: asked.append(number) or np.arange(N)
    game.value = lambda keep: value(keep)
    choosers.leave_one_out(game, 2)
    assert asked == [20]


@pytest.mark.parametrize("sign", [1, -1])
def test_first_order(sign):
    game = Game(sign=sign)
    expected = np.argsort(sign * game.guess(EVERYONE))[:3]
    assert choosers.first_order(game, 3).tolist() == expected.tolist()


def test_without_each():
    keep = np.array([True, True, False])
    assert choosers.without_each(keep, [0, 1]).tolist() == [
        [False, True, False],
        [True, False, False],
    ]
    assert keep.tolist() == [True, True, False]
