"""Orders of filters, and the coalitions along them; rivals.npz of this game and of others."""

import json

from common.settings import InputError

import numpy as np
import pytest

from report import removals
from tests.damage import check_message

RUN = {"network": "n", "images": "i", "MEASURE": "accuracy", "REMOVAL": "mean", "WHICH": "lowest"}
RIVALS_RUN = {"network": "n", "images": "i", "MEASURE": "accuracy", "REMOVAL": "mean"}


def test_coalitions_along():
    keep = removals.coalitions_along(np.array([2, 0]), 4)
    assert keep.dtype == bool
    assert keep.astype(int).tolist() == [[1, 1, 1, 1], [1, 1, 0, 1], [0, 1, 0, 1]]
    assert removals.coalitions_along(np.array([], dtype=int), 3).tolist() == [[True] * 3]


def test_random_orders():
    """Orders of the players alone; the seed and the number decide each."""
    players = np.array([3, 5, 7, 11, 13])
    orders = removals.random_orders(players, 4, seed=2)
    assert list(orders) == ["random 0", "random 1", "random 2", "random 3"]
    for index, order in enumerate(orders.values()):
        expected = np.random.default_rng([2, index, 1]).permutation(5)
        assert order.tolist() == players[expected].tolist()
    assert len({tuple(order) for order in orders.values()}) > 1
    assert removals.random_orders(players, 0, seed=2) == {}


def write(path, run, **orders):
    np.savez(path, run=json.dumps(run), **orders)


def test_rivals_of_this_game(tmp_path):
    path = tmp_path / "rivals.npz"
    assert removals.load_rivals(str(path), RUN, 10, 3) == {}
    write(path, RIVALS_RUN | {"MAX_REMOVED": 3}, greedy=[9, 0, 4], l2_norm=[1, 2, 3])
    orders = removals.load_rivals(str(path), RUN, 10, 3)
    assert list(orders) == ["greedy", "l2_norm"]
    assert orders["greedy"].tolist() == [9, 0, 4]
    highest = RIVALS_RUN | {"MAX_REMOVED": 3, "WHICH": "highest"}
    write(path, highest, greedy=[9, 0, 4])
    assert removals.load_rivals(str(path), RUN | {"WHICH": "highest"}, 10, 2)


@pytest.mark.parametrize("name", [*RIVALS_RUN, "MAX_REMOVED", "WHICH"])
def test_rivals_of_another_game(name, tmp_path):
    path = tmp_path / "rivals.npz"
    other = {"MAX_REMOVED": 2, "WHICH": "highest"}.get(name, "x")
    write(path, RIVALS_RUN | {"MAX_REMOVED": 3} | {name: other}, greedy=[1])
    with pytest.raises(InputError) as stop:
        removals.load_rivals(str(path), RUN, 10, 3)
    message = str(stop.value)
    check_message(message, str(path), f"made with another {name}; move it away")


def test_all_that_differs_is_named(tmp_path):
    path = tmp_path / "rivals.npz"
    run = {"network": "x", "images": "x", "MEASURE": "x", "REMOVAL": "x", "WHICH": "highest"}
    write(path, run | {"MAX_REMOVED": 2}, greedy=[1])
    names = "network, images, MEASURE, REMOVAL, WHICH, MAX_REMOVED;"
    with pytest.raises(InputError, match=f"another {names}"):
        removals.load_rivals(str(path), RUN, 10, 3)


@pytest.mark.parametrize(
    "run, order",
    [
        (RIVALS_RUN, [1]),  # no MAX_REMOVED
        ({"MAX_REMOVED": 3}, [1]),
        (RIVALS_RUN | {"MAX_REMOVED": 3}, [10]),  # there are filters 0 to 9
        (RIVALS_RUN | {"MAX_REMOVED": 3}, [-1]),
        (RIVALS_RUN | {"MAX_REMOVED": 3}, [0.5]),
        (RIVALS_RUN | {"MAX_REMOVED": 3}, [[1, 2]]),
        (RIVALS_RUN | {"MAX_REMOVED": "x"}, [1]),
        ([], [1]),
    ],
)
def test_what_is_no_record_of_rivals(run, order, tmp_path):
    path = tmp_path / "rivals.npz"
    write(path, run, greedy=order)
    with pytest.raises(InputError) as stop:
        removals.load_rivals(str(path), RUN, 10, 3)
    check_message(str(stop.value), str(path), "is not a record of rivals.py")


def test_a_damaged_file(tmp_path):
    path = tmp_path / "rivals.npz"
    path.write_bytes(b"no record")
    with pytest.raises(InputError) as stop:
        removals.load_rivals(str(path), RUN, 10, 3)
    check_message(str(stop.value), str(path), "is damaged", "run rivals.py again")


def test_the_last_filter_may_be_named(tmp_path):
    path = tmp_path / "rivals.npz"
    write(path, RIVALS_RUN | {"MAX_REMOVED": 3}, greedy=[9])
    assert removals.load_rivals(str(path), RUN, 10, 3)["greedy"].tolist() == [9]
