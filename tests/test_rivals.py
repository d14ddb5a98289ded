"""Rivals against brute force, on a game of eight filters that act in pairs."""

import numpy as np
import pytest

import rivals

N = 8
ALONE = np.array([3, -2, -1.5, 1, -0.5, -1, 2, -0.2])
PAIRS = np.random.default_rng(0).normal(0, 1, (N, N))


class Game(rivals.Subject):
    """A subject whose V is known, and whose guesses are off by what one likes."""

    def __init__(self, off=0.0):
        self.off, self.asked, self.players = off, 0, np.arange(N)

    def value(self, keep):
        self.asked += len(keep)
        keep = keep.astype(float)
        return keep @ ALONE + np.einsum("ti,ij,tj->t", keep, PAIRS, keep)

    def guess(self, keep):
        marginals = self.value(keep[None]) - self.value(rivals.without(keep, np.arange(N)))
        return np.where(keep, marginals, 0) + self.off * np.random.default_rng(1).normal(size=N)

    @property
    def fills(self):
        return np.zeros(N)


def brute_force(number):
    keep, order, game = np.ones(N, dtype=bool), [], Game()
    for _ in range(number):
        left = np.flatnonzero(keep)
        order.append(
            left[np.argmax([game.value(rivals.without(keep, [player]))[0] for player in left])]
        )
        keep[order[-1]] = False
    return order


@pytest.mark.parametrize("off", [0.0, 5.0])
def test_greedy(off, monkeypatch):
    monkeypatch.setattr(rivals, "CANDIDATES", N)  # then guesses do not matter
    order = rivals.greedy(Game(off), 6)
    assert (
        order.tolist() == brute_force(6)
        and order.tolist() != rivals.leave_one_out(Game(), 6).tolist()
    )


def test_greedy_guess_goes_by_the_guesses():
    assert rivals.greedy_guess(Game(), 6).tolist() == brute_force(6)
    assert rivals.greedy_guess(Game(50.0), 6).tolist() != brute_force(6)


def test_leave_one_out():
    game = Game(off=5.0)
    left = [game.value(rivals.without(np.ones(N, dtype=bool), [player]))[0] for player in range(N)]
    assert (
        rivals.leave_one_out(Game(off=5.0), 5).tolist() == np.argsort(-np.array(left))[:5].tolist()
    )


def test_first_order():
    game = Game()
    guesses = game.guess(np.ones(N, dtype=bool))
    assert rivals.first_order(game, 3).tolist() == np.argsort(guesses)[:3].tolist()


def test_without():
    keep = np.array([True, True, False])
    assert rivals.without(keep, [0, 1]).tolist() == [[False, True, False], [True, False, False]]
    assert keep.tolist() == [True, True, False]
