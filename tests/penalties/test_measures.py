"""Measures of what a network does with a decoy, on networks whose answers are known."""

import numpy as np
import pytest
import torch
from torch import nn

from penalties import measures
from penalties.losses import METHODS
from penalties.measures import (
    block_map,
    choose_strength,
    explained_shares,
    group_measures,
    measure,
    score_validation,
)
from penalties.problem import Examples
from penalties.problems import load_problem


class Reads(nn.Module):
    """Looks at the brightest corner only, or at nothing but a constant."""

    def __init__(self, weight):
        super().__init__()
        self.linear = nn.Linear(64, 10)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.linear.weight.data += weight

    def forward(self, images):
        return self.linear(images.flatten(1))


@pytest.fixture(scope="module")
def problem():
    return load_problem("digits", "", 0)


def test_a_network_that_looks_at_the_decoy_only(problem):
    weight = torch.zeros(10, 8, 8)
    weight[:, problem.masks[0, 0, 0]] = torch.linspace(1, -1, 10)[:, None]
    network = Reads(weight.flatten(1)).eval()
    values = measure(network, problem, problem.val, METHODS["vanilla"])
    assert values["share_cd"] == values["share_shapley"] == pytest.approx(1)
    assert values["gradient"] == pytest.approx(1)
    erased = measure(network, problem, problem.val, METHODS["erased"])
    assert erased["same"] == erased["inverted"] == erased["random"]


def test_a_network_that_looks_elsewhere(problem):
    weight = torch.zeros(10, 8, 8)
    weight[:, 3:5, 3:5] = torch.randn(10, 2, 2, generator=torch.Generator().manual_seed(0))
    values = measure(Reads(weight.flatten(1)).eval(), problem, problem.val, METHODS["vanilla"])
    assert values["share_cd"] == values["share_shapley"] == values["gradient"] == 0
    assert values["same"] == values["inverted"] == values["absent"]


def test_shares_by_hand():
    class Masked:
        masks_for = staticmethod(lambda inputs: torch.tensor([[[True, False]]]))
        prepare = staticmethod(torch.Tensor.contiguous)

    network = nn.Sequential(nn.Linear(2, 2, bias=False))
    network[0].weight.data = torch.tensor([[3.0, 1.0], [0.0, 0.0]])
    examples = Examples(torch.tensor([[1.0, 1.0], [1.0, 3.0]]), torch.tensor([0, 1]))
    shares = explained_shares(network, Masked, examples)
    assert shares["share_cd"] == pytest.approx((3 / 4 + 3 / 6) / 2)
    assert shares["gradient"] == pytest.approx(3 / 4)


def test_worst_class_is_of_inverted_decoys():
    label = torch.tensor([0, 0, 1, 1])
    answers = {"same": label.numpy(), "inverted": np.array([0, 0, 1, 0])}
    assert group_measures(answers, Examples(None, label)) == {"worst_group": 0.5}


def test_flips_and_false_positives_by_hand():
    label, group = torch.tensor([0, 0, 1, 0, 0, 1]), torch.tensor([0, 0, 0, 1, 1, -1])
    answers = {"same": np.array([1, 0, 1, 0, 0, 1]), "swapped": np.array([0, 0, 1, 1, 0, 0])}
    values = group_measures(answers, Examples(None, label, group))
    assert values["flips"] == 2 / 5  # the last person is in neither group
    assert values["false_positives_0"] == 0.5 and values["false_positives_1"] == 0
    assert values["worst_group"] == pytest.approx(2 / 3)


def as_image(lowest, same=0.9):
    return {"same": same, "inverted": lowest, "random": 0.8, "absent": 0.8}


def test_lambda_of_images_is_that_of_the_best_worst_condition():
    means = {1.0: as_image(0.5), 10.0: as_image(0.7), 100.0: as_image(0.7, same=0.95)}
    assert score_validation(means[10.0], None) == 0.7
    assert choose_strength(means, as_image(0.1)) == 10.0  # of equal ones the smallest


def test_lambda_of_tables_must_not_cost_accuracy():
    vanilla = {"same": 0.68, "flips": 0.1}
    means = {
        1.0: {"same": 0.679, "flips": 0.05},
        10.0: {"same": 0.676, "flips": 0.03},
        100.0: {"same": 0.670, "flips": 0.0},
    }
    assert choose_strength(means, vanilla) == 10.0
    assert choose_strength({2.0: means[100.0], 1.0: {"same": 0.66, "flips": 0}}, vanilla) == 2.0
    assert measures.LOSS_ALLOWED == 0.005


def test_block_map_of_a_linear_network(problem):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(10, 64, generator=generator)
    network, part = Reads(weight).eval(), problem.val["same"].take(slice(3))
    shown = block_map(network, problem, part, 2)
    centred = weight - weight.mean(0)
    products = centred[part.label].view(3, 8, 8) * part.inputs[:, 0]
    expected = products.view(3, 4, 2, 4, 2).sum((2, 4))
    np.testing.assert_allclose(shown, expected.numpy(), rtol=1e-4, atol=1e-5)
