"""Training: the same seed gives the same network, and what cannot go on stops."""

from dataclasses import replace

from common.settings import InputError

import pytest
import torch
from torch import nn

from penalties.losses import Batch
from penalties.measures import predict
from penalties.problems import load_problem
from penalties.training import Job, Recipe, train_network

RECIPE = Recipe(2, 64, 2e-3)


@pytest.fixture(scope="module")
def problem():
    return load_problem("digits", "", 200)


def weights(network):
    return torch.cat([weight.flatten() for weight in network.parameters()])


def trained(problem, method, strength=1.0, seed=0, recipe=RECIPE):
    return train_network(problem, problem.networks["mlp"], Job(method, strength, seed), recipe)


@pytest.mark.parametrize("method", ["vanilla", "cdep_last", "expected_gradients"])
def test_the_same_seed_gives_the_same_network(problem, method):
    first, again = (weights(trained(problem, method)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, weights(trained(problem, method, seed=1)))


def test_a_penalty_of_nothing_is_no_penalty(problem):
    torch.testing.assert_close(
        weights(trained(problem, "cdep_centred", 0.0)), weights(trained(problem, "vanilla"))
    )


def test_a_large_penalty_changes_the_answers(problem):
    recipe, changes = Recipe(20, 64, 2e-3), {}
    for method in ("vanilla", "cdep_last"):
        network = trained(problem, method, 3.0, recipe=recipe)
        answers = [
            predict(network, problem, problem.val[name].inputs) for name in ("same", "inverted")
        ]
        changes[method] = (answers[0] != answers[1]).mean()
    assert changes["cdep_last"] < 0.05 < changes["vanilla"]


def test_a_penalty_over_some_rows_sees_these_only(problem):
    """It is a mean over the first rows, so what the others hold does not matter to it."""
    seen = []

    def spy(batch):
        seen.append(len(batch.label))
        return batch.network(batch.inputs), torch.zeros(())

    from penalties import losses

    way = replace(losses.METHODS["rrr"], penalty=spy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(losses.METHODS, "rrr", way)
        network = train_network(
            replace(problem, n_penalised=5), problem.networks["mlp"], Job("rrr", 1.0, 0), RECIPE
        )
    assert set(seen) == {5}
    torch.testing.assert_close(weights(network), weights(trained(problem, "vanilla")))


def test_batches_are_split_with_their_masks():
    inputs, label = torch.arange(6.0).view(3, 2), torch.arange(3)
    masks = torch.rand(2, 3, 2) < 0.5
    parts = Batch(None, None, "cd", inputs, label, masks, None).split(1)
    assert [len(part.label) for part in parts] == [1, 2]
    assert torch.equal(torch.cat([part.masks for part in parts], 1), masks)
    shared = Batch(None, None, "cd", inputs, label, masks[:, :1], None).split(1)
    assert all(torch.equal(part.masks, masks[:, :1]) for part in shared)


def test_a_loss_that_is_not_finite(problem):
    with pytest.raises(InputError, match="cdep_inf_seed_0: the loss is not finite.*LAMBDAS"):
        trained(problem, "cdep", float("inf"))


class Cosine(nn.Module):
    def forward(self, x):
        return torch.cos(x.flatten(1)[:, :10])


@pytest.mark.parametrize("make", [lambda: nn.Sequential(nn.Linear(8, 8), Cosine())])
def test_a_network_that_cannot_be_decomposed(problem, make):
    with pytest.raises(InputError, match="cannot be decomposed.*no rule for cos"):
        train_network(problem, make, Job("cdep", 1.0, 0), RECIPE)
