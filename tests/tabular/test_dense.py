"""Architectures by name, early stopping, and trainings that go on exactly."""

from common.settings import InputError

import numpy as np
import pytest
import torch
from torch import nn

from tabular.dense import (
    ARCHITECTURES,
    Recipe,
    build_dense,
    split_rows,
    stopping_epoch,
    train_dense,
)

SMALL = "D8-RELU-D4-BN-RELU-DR(0.3)-D2-SIGMOID"


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, 3, generator=generator)
    label = (inputs.sum(1) > 0).long()
    return (inputs[:200], label[:200]), (inputs[200:], label[200:])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures_have_the_layers_of_their_names(architecture):
    network, text = build_dense(architecture, 108), ARCHITECTURES[architecture]
    pieces = text.removesuffix("-SIGMOID").split("-")
    assert len(network) == len(pieces)
    for piece, layer in zip(pieces, network):
        if piece.startswith("D") and not piece.startswith("DR"):
            assert layer.out_features == int(piece[1:])
        elif piece.startswith("DR"):
            assert f"DR({layer.p})" == piece
        else:
            kinds = {"BN": nn.BatchNorm1d, "RELU": nn.ReLU, "SELU": nn.SELU}
            assert isinstance(layer, kinds[piece])
    assert network.eval()(torch.zeros(2, 108)).shape == (2, 2)


def test_the_tables_rows_in_full():
    assert ARCHITECTURES["5"] == (
        "D256-RELU-D256-BN-RELU-D128-BN-RELU-D64-BN-RELU-D64-BN-RELU-D32-BN-RELU-D16-BN-RELU-"
        "D8-BN-RELU-D2-SIGMOID"
    )
    assert ARCHITECTURES["9"] == (
        "D512-RELU-D512-BN-RELU-DR(0.4)-D256-BN-RELU-DR(0.4)-D256-BN-RELU-DR(0.4)-D128-BN-RELU-"
        "DR(0.3)-D128-BN-RELU-DR(0.3)-D64-BN-RELU-DR(0.3)-D64-BN-RELU-DR(0.3)-D64-BN-RELU-DR(0.3)-"
        "D64-BN-RELU-DR(0.3)-D8-BN-RELU-DR(0.3)-D2-SIGMOID"
    )


@pytest.mark.parametrize("text", ["11", "D8-RELU", "D8-TANH-D2", "D8-RELU-D3", "", "D2-RELU"])
def test_architectures_that_cannot_be(text):
    with pytest.raises(InputError, match="ARCH"):
        build_dense(text, 5)


@pytest.mark.parametrize(
    "losses, patience, expected",
    [
        ([3, 2, 1], 2, (2, False)),
        ([3, 1, 2], 2, (1, False)),
        ([3, 1, 2, 2], 2, (1, True)),
        ([3, 1, 2, 2, 0], 2, (1, True)),  # what comes after the stop does not count
        ([3, 1, 2, 0.5, 2, 2], 2, (3, True)),
        ([1, 1], 1, (0, True)),
    ],
)
def test_early_stopping(losses, patience, expected):
    assert stopping_epoch(losses, patience) == expected


def recipe(**changes):
    options = {"epochs": 6, "batch_size": 64, "learning_rate": 0.05, "patience": 9}
    return Recipe(**({"architecture": SMALL, "seed": 0} | options | changes))


def test_a_training_goes_on_exactly(rows, tmp_path):
    paths = [str(tmp_path / f"{name}.pth") for name in ("whole", "parts")]
    whole = train_dense(*rows, recipe(), paths[0], "data")
    train_dense(*rows, recipe(epochs=2), paths[1], "data")
    parts = train_dense(*rows, recipe(), paths[1], "data")
    assert whole.curve == parts.curve and len(whole.curve) == 6
    for kind in ("best", "network"):
        states = [getattr(part, kind) for part in (whole, parts)]
        states = [state if kind == "best" else state.state_dict() for state in states]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert whole.curve[-1]["val_accuracy"] > 0.8
    other = train_dense(*rows, recipe(seed=1), str(tmp_path / "other.pth"), "data")
    assert other.curve != whole.curve


def test_early_stopping_keeps_the_best_network(rows, tmp_path):
    training = train_dense(*rows, recipe(epochs=30, patience=2), str(tmp_path / "a.pth"), "data")
    losses = [row["val_loss"] for row in training.curve]
    best, has_stopped = stopping_epoch(losses, 2)
    assert has_stopped and len(losses) == best + 3
    logits = training.stopped()(rows[1][0])
    loss = nn.functional.cross_entropy(logits, rows[1][1]).item()
    assert loss == pytest.approx(losses[best]) != pytest.approx(losses[-1])


def test_training_to_the_end_changes_nothing_before(rows, tmp_path):
    options = {"epochs": 30, "patience": 2}
    stopped = train_dense(*rows, recipe(**options), str(tmp_path / "a.pth"), "data")
    end = recipe(**options, to_the_end=True)
    longer = train_dense(*rows, end, str(tmp_path / "b.pth"), "data")
    assert longer.curve[: len(stopped.curve)] == stopped.curve and len(longer.curve) == 30
    assert all(torch.equal(longer.best[name], stopped.best[name]) for name in stopped.best)


def test_a_penalised_input_is_used_less(tmp_path):
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(size=(600, 3)).astype(np.float32))
    values[:, 0] += 2 * values[:, 2]  # the label hangs on it, and on the third in its place
    label = (values[:, 0] > 0).long()
    swapped, changed = values.clone(), {}
    swapped[:, 0] *= -1
    data, shared = ((values, label), (values, label)), {"architecture": "D8-RELU-D2", "epochs": 30}
    for name, options in (("plain", {}), ("cdep", {"penalised": (0,), "strength": 10.0})):
        path = str(tmp_path / f"{name}.pth")
        network = train_dense(*data, recipe(**shared, **options), path, "data").stopped()
        answers, changes = (network(part).argmax(1) for part in (values, swapped))
        changed[name] = (answers != changes).float().mean().item()
        assert (answers == label).float().mean() > 0.8
    assert changed["cdep"] < 0.1 < 0.8 < changed["plain"]
    with pytest.raises(InputError, match="strength"):
        train_dense(*data, recipe(**shared, penalised=(0,), strength=1.0), path, "data")


@pytest.mark.parametrize("changes", [{"seed": 1}, {"learning_rate": 0.1}, {"patience": 1}])
def test_a_training_with_other_settings_is_refused(rows, tmp_path, changes):
    path = str(tmp_path / "a.pth")
    train_dense(*rows, recipe(epochs=1), path, "data")
    with pytest.raises(InputError, match=next(iter(changes))):
        train_dense(*rows, recipe(**changes), path, "data")


def test_rows_are_split_once_each():
    train, val = split_rows(50, 0.1, 0)
    assert len(val) == 5 and sorted([*train, *val]) == list(range(50))
    assert (split_rows(50, 0.1, 0)[1] == val).all() and (split_rows(50, 0.1, 1)[1] != val).any()
