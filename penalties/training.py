"""Training with a penalty."""

from dataclasses import dataclass

from common.settings import InputError

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

import model
from explain.decomposition import Decomposer
from penalties.losses import METHODS, Batch
from penalties.networks import seeded_network


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: int.
        batch_size: int.
        learning_rate: float, Adam's.
        weight_decay: float, Adam's.
        one_cycle: bool, whether optimizer and schedule are those of train_squeeze.py, AdamW with a
            rate that rises over a tenth of the steps, then falls; instead of Adam.
    """

    epochs: int
    batch_size: int
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    one_cycle: bool = False


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        method: str, a key of METHODS.
        strength: float, lambda; 0 for methods without one.
        seed: int, of first weights, order, dropout, and what a method draws.
    """

    method: str
    strength: float
    seed: int

    def name(self):
        """The job in file names and bars: "cdep_10_seed_0"."""
        strength = f"_{self.strength:g}" if METHODS[self.method].has_strength else ""
        return f"{self.method}{strength}_seed_{self.seed}"


def train_network(problem, make, job, recipe):
    """Train one network of a Problem.

    Args:
        problem: Problem, of which only the training rows are looked at.
        make: function () -> nn.Module.
        job: Job.
        recipe: Recipe.

    Returns:
        nn.Module in eval mode.

    Raises:
        InputError: the loss is not finite, or the network cannot be decomposed.
    """
    method, data = METHODS[job.method], problem.train
    network = seeded_network(make, job.seed).train()
    inputs = problem.erase(data.inputs) if method.erases else data.inputs
    n, steps = len(data.label), recipe.epochs * -(-len(data.label) // recipe.batch_size)
    optimizer, schedule = _make_optimizer(network, recipe, steps)
    decompose = _decomposer(network) if method.rule else None
    generator = torch.Generator().manual_seed(job.seed)
    with tqdm(total=steps, desc=job.name(), unit=" batches", leave=False) as bar:
        for epoch in range(recipe.epochs):
            torch.manual_seed(1000 * job.seed + epoch)  # dropout has no other generator
            rng = np.random.default_rng([job.seed, epoch])
            for rows in np.array_split(rng.permutation(n), -(-n // recipe.batch_size)):
                masks = problem.draw_masks(rows, rng)
                rows = torch.from_numpy(rows)
                seen = problem.prepare(inputs[rows])
                parts = (seen, data.label[rows], masks, generator)
                batch = Batch(network, decompose, method.rule, *parts)
                loss = _loss(method, job, batch, problem.n_penalised)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if schedule:
                    schedule.step()
                bar.update()
    return network.eval()


def _make_optimizer(network, recipe, steps):
    """The optimizer, and its schedule or None."""
    if recipe.one_cycle:
        return model.make_optimizer(network, recipe.learning_rate, steps)
    options = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    return torch.optim.Adam(network.parameters(), **options), None


def _loss(method, job, batch, n_penalised):
    """The loss of a batch. n_penalised: rows that the penalty is a mean over, the first; 0: all."""
    penalised, plain = batch, None
    if n_penalised and n_penalised < len(batch.label):
        penalised, plain = batch.split(n_penalised)
    try:
        logits, penalty = method.penalty(penalised)
    except ValueError as error:
        raise InputError(f"the network cannot be decomposed: {error}") from None
    if plain:
        logits = torch.cat([logits, batch.network(plain.inputs)])
    loss = cross_entropy(logits, batch.label) + job.strength * penalty
    if not torch.isfinite(loss):
        raise InputError(
            f"{job.name()}: the loss is not finite; give smaller --LAMBDAS, or a lower "
            "--LEARNING_RATE"
        )
    return loss


def _decomposer(network):
    try:
        return Decomposer(network)
    except ValueError as error:
        raise InputError(f"the network cannot be decomposed: {error}") from None
