"""Hidden attributes: shares and swaps of tiny networks by hand, counterparts, and a training."""

from dataclasses import replace

from common.settings import InputError

import numpy as np
import pytest
import torch
from torch import nn

from drawings.salaries import write_salaries
from explain.heatmaps import Explainer
from explain.student import MAP_LOSSES
from explain.tangent import fit_tangent
from explain.training import Recipe
from readers.people import Table
from report import hidden
from tabular import dense, hiding
from tabular.encoding import fit_encoding

SEX, RACE = ("Female", "Male"), ("A", "B", "C")
LINEAR = torch.tensor([[0.0] * 6, [1.0, -2.0, 3.0, 0.5, 0.0, -0.5]])  # age, sex (2), race (3)


def make_rows(values):
    """Rows of three attributes, the same in all sets. values: (N, 3)."""
    values = np.array(values, float)
    levels, groups = {"sex": SEX, "race": RACE}, {"sex": SEX, "race": ("A", "B")}
    label = (values[:, 1] == 1).astype(np.int64)
    table = Table(("age", "sex", "race"), levels, values, label, ("no", "yes"), groups)
    encoding = fit_encoding(table)
    inputs = encoding.encode(values)[:, None, None]
    sets = dict.fromkeys(hiding.SETS, inputs)
    labels = {name: torch.from_numpy(label) for name in hiding.SETS}
    tables, people = dict.fromkeys(hiding.SETS, table), inputs[:, 0, 0]
    ends = people.amin(0), people.amax(0)
    return hiding.Rows(tables, sets, labels, ("no", "yes"), encoding, ("sex", "race"), *ends, "x")


@pytest.fixture
def rows():
    return make_rows([[a, s, r] for a in (20, 60) for s in (0, 1) for r in (0, 1, 2)])


def scores_of(rows, student, teacher, method, defences=()):
    inputs, label = rows.inputs["train"].flatten(1), torch.zeros(len(rows.label["train"]))
    tangent = fit_tangent(inputs, label, inputs, label, 6, 4)
    table = hidden.score_table(rows, student, teacher, method, tangent, defences)
    return table.set_index(["network", "measure", "attribute"])["value"]


def linear_network(weight):
    layer = nn.Linear(6, 2)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(torch.tensor([0.0, 0.7]))
    return nn.Sequential(nn.Flatten(), layer).eval()


def test_shares_of_a_linear_network_by_hand(rows):
    """Both logits are linear, of opposite weights: each explanation is a weight, or w times x."""
    network = linear_network(torch.stack([-LINEAR[1], LINEAR[1]]))
    scores = scores_of(rows, network, network, "grad", ["smooth"])
    for kind in ("share: grad", "smooth"):
        assert scores["student", kind, "sex"] == pytest.approx(5 / 7)
        assert scores["teacher", kind, "race"] == pytest.approx(1 / 7)
    parts = rows.inputs["report"][:, 0, 0].numpy() * LINEAR[1].numpy()
    size = np.abs(parts) / np.abs(parts).sum(1, keepdims=True)
    for name in ("xgrad", "intgrad", "epsilon"):
        for attribute, columns in (("sex", [1, 2]), ("race", [3, 4, 5])):
            expected = size[:, columns].sum(1).mean()
            value = scores["student", f"share: {name}", attribute]
            assert value == pytest.approx(expected, rel=1e-4), name


def test_swaps_of_a_network_that_reads_sex_alone(rows):
    by_sex = linear_network(torch.tensor([[0, 4.0, 0, 0, 0, 0], [0, 0, 4.0, 0, 0, 0]]))
    by_age = linear_network(torch.tensor([[-4.0, 0, 0, 0, 0, 0], [4.0, 0, 0, 0, 0, 0]]))
    scores = scores_of(rows, by_age, by_sex, "grad")
    assert scores["teacher", "swap", "sex"] == 1 and scores["teacher", "swap", "race"] == 0
    assert scores["student", "swap", "sex"] == scores["student", "swap", "race"] == 0
    assert scores["teacher", "accuracy", "all"] == 1 and scores["student", "accuracy", "all"] == 0.5
    assert scores["student", "agreement", "all"] == scores["student", "counterparts", "sex"] == 0.5
    assert scores["teacher", "permutation", "sex"] > 0 == scores["teacher", "permutation", "race"]


def test_one_relu_hides_an_attribute_that_decides_everything(rows):
    """relu(1/2 - female): wherever its slope is not 0, the input that it belongs to is."""
    first, second = nn.Linear(6, 2), nn.Linear(2, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[0, -1.0, 0, 0, 0, 0], [1.0, 0, 0, 0, 0, 0]]))
        first.bias.copy_(torch.tensor([0.5, 2.0]))
        second.weight.copy_(torch.tensor([[0.0, 0.1], [8.0, 0.1]]))
        second.bias.copy_(torch.tensor([1.0, 0.0]))
    network = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second).eval()
    scores = scores_of(rows, network, network, "xgrad")
    assert scores["student", "share: xgrad", "sex"] == 0
    assert scores["student", "swap", "sex"] == 1 == scores["student", "accuracy", "all"]
    assert scores["student", "share: grad", "sex"] > 0.4  # half of the people: the men


def test_the_loss_is_the_share_of_hidden_inputs(rows):
    mask = rows.mask()
    assert mask.tolist() == [[0, 1, 1, 1, 1, 1]]
    assert replace(rows, hidden=("sex",)).mask().tolist() == [[0, 1, 1, 0, 0, 0]]
    maps = torch.tensor([[[0.5, 0.1, 0, 0, 0.4, 0]], [[0.9, 0, 0.1, 0, 0, 0]]])
    assert MAP_LOSSES["hidden"](maps, mask).item() == pytest.approx(0.3)


def test_counterparts_differ_in_one_attribute(rows):
    inputs = hiding.add_swapped(rows)[:, 0, 0]
    people = rows.inputs["train"][:, 0, 0]
    assert len(inputs) == 12 + 12 + 8 and torch.equal(inputs[:12], people)  # nobody of race C
    swapped = people.clone()
    swapped[:, [1, 2]] = people[:, [2, 1]]
    assert torch.equal(inputs[12:24], swapped)
    pairs = people[people[:, 5] == 0]
    pairs[:, [3, 4]] = pairs[:, [4, 3]]
    assert torch.equal(inputs[24:], pairs)


def test_lines_give_the_same_logits():
    torch.manual_seed(0)
    network = dense.build_dense("D8-RELU-DR(0.3)-D6-BN-RELU-D2", 5)
    network(torch.randn(50, 5))  # batch norm has seen rows
    inputs = torch.randn(9, 5)
    lines = hiding.read_lines(network)
    torch.testing.assert_close(lines(inputs[:, None, None]), network.eval()(inputs))
    assert all(part.requires_grad for part in lines.parameters()) and not lines.training


def test_a_student_hides_what_it_uses(tmp_path):
    """On a drawn table whose rule takes points off for women."""
    write_salaries(tmp_path, 0, train=1500, test=300)
    rows = hiding.load_rows("adult", tmp_path, ["sex"], 200, True)
    assert [len(rows.label[name]) for name in hiding.SETS] == [1350, 150, 200]
    recipe = dense.Recipe("D16-RELU-D2", 0, 40, 64, 0.01, 40)
    teacher = hiding.train_teacher(rows, recipe, f"{tmp_path}/t.pth")
    losses = {"alpha": 0.1, "output_loss": "mse", "beta": 20.0, "steps_a_batch": 2}
    options = (Explainer("grad"), True, losses, Recipe(0, 30, 64, 1e-2), f"{tmp_path}/s.pth", 10)
    student, curve = hiding.hide_attributes(rows, teacher, *options)
    assert [number for number, row in enumerate(curve, 1) if "share" in row] == [10, 20, 30]
    scores = scores_of(rows, student, teacher, "grad")
    assert scores["student", "share: grad", "sex"] < 0.1 * scores["teacher", "share: grad", "sex"]
    assert scores["student", "agreement", "all"] > 0.9
    assert scores["student", "swap", "sex"] > 0.8 * scores["teacher", "swap", "sex"] > 0.2
    again = (Explainer("grad"), False, *options[2:])
    with pytest.raises(InputError, match="swapped"):
        hiding.hide_attributes(rows, teacher, *again)


@pytest.mark.parametrize("names", [[], ["gender"]])
def test_attributes_that_are_not_there(tmp_path, names):
    write_salaries(tmp_path, 0, train=60, test=30)
    with pytest.raises(InputError, match="HIDDEN"):
        hiding.load_rows("adult", tmp_path, names, 30, True)
