"""The order in which filters go: never one of the wrong sign. By load_values, from mab.npz."""

import json

from common.settings import InputError

import numpy as np
import pytest

from report.values import load_values
from tests.damage import check_message

RUN = {
    "network": "n",
    "images": "i",
    "REMOVAL": "mean",
    "FAIRFACE_FRAME": [0, 0, 1, 1],
    "TOP_K": 2,
    "WHICH": "lowest",
    "BOUND": "sequence",
    "MEASURE": "accuracy",
}


def write(path, values, run=RUN, **arrays):
    """A record as mab.py writes it, with what load_values reads."""
    n = len(values)
    defaults = {
        "values": np.array(values, dtype=float),
        "ci_low": np.array(values) - 1.0,
        "ci_high": np.array(values) + 1.0,
        "status": np.array(["top"] + ["undecided"] * (n - 1)),
        "players": np.arange(n),
        "removed": np.array([], dtype=int),
        "lowest": np.array([], dtype=float),
        "counts": np.full((1, n), 4),
        "m2": np.full((1, n), 12.0),
    }
    np.savez(path, run=json.dumps(run), **defaults | arrays)
    return str(path)


def slow_order(values, which, removed=(), lowest=()):
    """By the definition: stages' filters first, then the extreme ones, until the sign changes."""
    values = dict(enumerate(values)) | dict(zip(removed, lowest))
    rest = [number for number in values if number not in removed]
    rest.sort(key=lambda number: values[number] if which == "lowest" else -values[number])
    order = []
    for number in [*removed, *rest]:
        harms = values[number] < 0 if which == "lowest" else values[number] > 0
        if not harms:
            break
        order.append(number)
    return order


@pytest.mark.parametrize("which", ["lowest", "highest"])
@pytest.mark.parametrize("seed", range(5))
def test_order_is_that_of_the_definition(which, seed, tmp_path):
    values = np.random.default_rng(seed).normal(0, 1, 12).round(1)  # with ties, and zeros
    values[seed] = 0
    loaded = load_values(write(tmp_path / "mab.npz", values, RUN | {"WHICH": which}))
    assert loaded.order.tolist() == slow_order(values, which)
    removed = values[loaded.order]
    assert 0 < len(removed) < 12
    assert (removed < 0).all() if which == "lowest" else (removed > 0).all()
    assert loaded.run["WHICH"] == which and loaded.order.dtype == int


def test_what_stages_removed_goes_first(tmp_path):
    """In their order, whatever the values that they had then."""
    values = [-5.0, 0.0, -2.0, -1.0, 0.0, 2.0]  # of the last stage; those of removed ones are 0
    stages = {"removed": np.array([4, 1]), "lowest": np.array([-0.5, -3.0])}
    loaded = load_values(write(tmp_path / "mab.npz", values, **stages))
    assert loaded.order.tolist() == [4, 1, 0, 2, 3]
    assert loaded.order.tolist() == slow_order(values, "lowest", [4, 1], [-0.5, -3.0])
    filters = loaded.filters
    assert filters["shapley"].tolist() == [-5, -3, -2, -1, -0.5, 2]
    known = filters[["ci_low", "ci_high", "standard_error"]].notna()
    assert known.all(axis=1).tolist() == [True, False, True, True, False, True]


def test_a_stage_that_removed_a_helpful_filter_ends_the_order(tmp_path):
    stages = {"removed": np.array([2, 1]), "lowest": np.array([-3.0, 0.5])}
    loaded = load_values(write(tmp_path / "mab.npz", [-5.0, 0.0, 0.0], **stages))
    assert loaded.order.tolist() == [2]


def test_players_alone_can_go(tmp_path):
    players = np.array([3, 7, 9])
    loaded = load_values(write(tmp_path / "mab.npz", [-1.0, 2.0, -3.0], players=players))
    assert loaded.order.tolist() == [9, 3] and loaded.filters.index.tolist() == [3, 7, 9]


def test_certified_filters(tmp_path):
    status = np.array(["top", "rest", "undecided", "top"])
    arrays = {"status": status, "removed": np.array([3]), "lowest": np.array([-9.0])}
    loaded = load_values(write(tmp_path / "mab.npz", [-1.0, 1.0, 2.0, 0.0], **arrays))
    assert loaded.filters["certified"].tolist() == [True, False, False, False]
    for bound, certified in (("asymptotic", True), ("bernstein", True), ("clt", False)):
        path = write(tmp_path / "mab.npz", [-1.0, 1.0, 2.0, 0.0], RUN | {"BOUND": bound})
        assert load_values(path).filters["certified"].tolist() == [certified, False, False, False]


def test_standard_errors(tmp_path):
    loaded = load_values(write(tmp_path / "mab.npz", [-1.0, 1.0]))
    errors = loaded.filters["standard_error"].tolist()
    assert errors == [1.0, 1.0]  # the root of 12 / (4 - 1) / 4


@pytest.mark.parametrize("name", [*RUN, "values", "removed"])
def test_what_is_no_record(name, tmp_path):
    path = write(tmp_path / "mab.npz", [-1.0, 1.0], {key: RUN[key] for key in RUN if key != name})
    if name not in RUN:
        arrays = dict(np.load(path))
        del arrays[name]
        np.savez(path, **arrays)
    with pytest.raises(InputError) as stop:
        load_values(path)
    check_message(str(stop.value), path, "is not a record of mab.py")
