"""Training that saves its state after every epoch, and goes on from there."""

import math
from dataclasses import asdict, dataclass

from common import records
from common.settings import InputError

import torch
from tqdm import tqdm

import model

OPTIMIZERS = {
    "adam": lambda parameters, rate: torch.optim.Adam(parameters, rate, fused=True),
    "sgd": lambda parameters, rate: torch.optim.SGD(parameters, rate, momentum=0.9),
}


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. What a saved training must share to be gone on with, but epochs.

    Attributes:
        seed: int, of the order of the images, and of a teacher's first weights.
        epochs: int, passes over the training images.
        batch_size: int, images a step.
        learning_rate: float, the highest.
        optimizer: str, a key of OPTIMIZERS.
        schedule: str, of the learning rate: cycle, constant, or epochs after which it is divided
            by ten, with commas between.
    """

    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str = "adam"
    schedule: str = "cycle"


def is_schedule(text):
    """Whether a text is a schedule of Recipe."""
    return text in ("cycle", "constant") or all(part.strip().isdigit() for part in text.split(","))


def minimise(network, n, loss_of, recipe, path, run, bar, names, validate=None):
    """Minimise a loss, saving all after each epoch, or go on with a saved training.

    Args:
        network: nn.Module.
        n: int, training images.
        loss_of: function (rows, generator) -> scalars, the first of which is minimised. rows: (B,)
            int64 tensor; generator: torch.Generator.
        recipe: Recipe.
        path: str, of the saved state.
        run: facts that a saved training must share, a dict of what JSON holds.
        bar: str, text of the progress bar.
        names: of the scalars, a tuple of str.
        validate: function of the epoch (from 0) -> dict of floats for the curve; None: none.

    Returns:
        The curve: for each epoch a dict of the scalars' means by name, and of what `validate` gave.
        The network ends in eval mode.

    Raises:
        InputError: the saved state does not fit, or a loss is not finite.
    """
    run = run | {key: value for key, value in asdict(recipe).items() if key != "epochs"}
    steps = recipe.epochs * math.ceil(n / recipe.batch_size)
    if recipe.schedule == "cycle":
        run["epochs"] = recipe.epochs  # which the learning rate of each epoch depends on
    parameters = list(network.parameters())
    optimizer = OPTIMIZERS[recipe.optimizer](parameters, recipe.learning_rate)
    curve = _load(path, run, network, optimizer)
    while len(curve) < recipe.epochs:
        epoch = len(curve)
        generator = torch.Generator().manual_seed(100_000 * recipe.seed + epoch)
        order = torch.randperm(n, generator=generator).split(recipe.batch_size)
        sums = torch.zeros(len(names))
        text = f"{bar}, epoch {epoch + 1} of {recipe.epochs}"
        for number, batch in enumerate(tqdm(order, text, unit=" batches", leave=False)):
            rate = rate_at(recipe, epoch * len(order) + number, steps, epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate
            losses = loss_of(batch, generator)
            _check(losses[0], bar)
            optimizer.zero_grad()
            losses[0].backward(inputs=parameters)  # not by the images
            optimizer.step()
            sums += torch.stack(losses).detach() * len(batch)
        row = dict(zip(names, (sums / n).tolist()))
        curve.append(row | (validate(epoch) if validate else {}))
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
        records.save({path: {"run": run, "curve": curve} | state})
    network.eval()
    return curve


def rate_at(recipe, step, steps, epoch):
    """The learning rate of a step (from 0, of `steps`) in an epoch (from 0).

    cycle: from 1/25 of the highest up to it in the first 30 % of the steps, and down to 0, along
    cosines (Smith & Topin 2019).
    """
    highest = recipe.learning_rate
    if recipe.schedule == "constant":
        return highest
    if recipe.schedule != "cycle":
        passed = [int(part) <= epoch for part in recipe.schedule.split(",")]
        return highest * 0.1 ** sum(passed)
    rise = max(1, 0.3 * steps)
    if step < rise:
        return highest * (0.04 + 0.96 * (1 - math.cos(math.pi * step / rise)) / 2)
    return highest * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))) / 2


def _load(path, run, network, optimizer):
    """Fill a network and its optimizer from a saved state, if there is one: its curve, or []."""
    state = model.load_state(path, run)
    if state is None:
        return []
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return state["curve"]


def _check(loss, bar):
    if not math.isfinite(loss.item()):
        raise InputError(
            f"{bar}: the loss is not finite; nothing is written of this epoch; give a lower "
            "--LEARNING_RATE"
        )
