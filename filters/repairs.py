"""Repairs of a network by some images: filters are removed, or weights are trained.

A repair is a function (Subject, Budget) -> RepairPath, the networks that it passes through. How far
to go is chosen by cross-validation on the same images. A new one is one more function and one more
entry of REPAIRS.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

import model
from datasets import normalise
from filters.choosers import CHOOSERS, guessed_in_stages
from filters.measures import MEASURES
from filters.value import BatchValue, score_images
from shapley import tmab_shapley

PENALTIES = tuple(10.0**power for power in range(-4, 4))  # C of last-layer retraining
WHOLE_BATCH = 250  # images of a forward pass


@dataclass(frozen=True)
class Budget:
    """What a repair may spend.

    Attributes:
        max_removed: int, filters.
        rounds, images_per_round, singles, deepest, truncation: of the bandit, for values once.
        epochs: int, of fine-tuning.
        learning_rates: tuple of float, tried in fine-tuning all layers; the head has ten times as
            much.
        seed: int.
        mirror: bool, whether fine-tuning mirrors half of the images, as training did.
    """

    max_removed: int
    rounds: int
    epochs: int
    learning_rates: tuple
    seed: int
    mirror: bool = True
    images_per_round: int = 128
    singles: int = 96
    deepest: float = 0.01
    truncation: float | None = None


@dataclass
class RepairPath:
    """The networks that a repair passes through; step 0 is the network as it was.

    Attributes:
        steps: list of str, what each network is, such as "3 filters removed".
        logits: function of (N, 3, S, S) uint8 images and of numbers of steps (list of int; None:
            all) -> (len(numbers), N, classes) float32.
        removed: list of int, the filters that go, the first to go first; empty for other repairs.
        values: (n_filters,) float, what they were chosen by, if that was one value of each; the
            lowest go first. None for other repairs.
    """

    steps: list
    logits: Callable
    removed: list
    values: np.ndarray | None = None


# ----------------------------------------------------------------------------- removal


def removal_path(subject, order, max_removed):
    """The path along an order of filters, as long as max_removed; a short order ends early."""
    order = list(map(int, order[:max_removed]))
    keep = np.ones((len(order) + 1, len(subject.fills)), dtype=bool)
    for step, number in enumerate(order, 1):
        keep[step:, number] = False

    def logits(images, numbers=None):
        rows = keep if numbers is None else keep[np.minimum(numbers, len(order))]
        bar = tqdm(total=len(rows) * len(images), desc="scores", unit=" images", leave=False)
        with bar:
            arguments = (images, rows, torch.Tensor.float, bar, WHOLE_BATCH)
            scores = score_images(subject.evaluator, subject.fills, *arguments)
        return scores if numbers is not None else _as_long(scores, max_removed + 1)

    steps = [f"{number} filters removed" for number in range(len(keep))]
    return RepairPath(_as_long(steps, max_removed + 1), logits, order)


def _as_long(steps, number):
    """Steps (list or array), the last one repeated up to `number`."""
    repeats = np.minimum(np.arange(number), len(steps) - 1)
    return [steps[row] for row in repeats] if isinstance(steps, list) else steps[repeats]


def chosen_filters(choose):
    """A repair that removes filters in the order of a chooser (filters/choosers.py)."""

    def repair(subject, budget):
        return removal_path(subject, choose(subject, budget.max_removed), budget.max_removed)

    return repair


def random_filters(subject, budget):
    """Filters in random order: a control."""
    order = np.random.default_rng([budget.seed, 5]).permutation(subject.players)
    return removal_path(subject, order, budget.max_removed)


def values_once(measure="soft_accuracy", **changes):
    """A repair that removes the filters of negative Shapley value, estimated once.

    measure: V, a name in MEASURES; changes: of the budget.
    """

    def repair(subject, budget):
        values = shapley_values(subject, replace(budget, **changes), measure)
        order = np.argsort(values, kind="stable")
        path = removal_path(subject, order[np.sort(values) < 0], budget.max_removed)
        return replace(path, values=values)

    return repair


def values_anew(subject, budget):
    """The filter of the lowest value goes, and the values of what remains are estimated anew.

    Before each removal there is one round on all images, of a coalition that lacks at most two
    further filters.
    """
    keep, order = np.ones(len(subject.fills), dtype=bool), []
    anew = {"images_per_round": len(subject.data.label), "deepest": 2 / len(keep)}
    for number in tqdm(range(budget.max_removed), "values anew", unit=" filters", leave=False):
        stage = replace(budget, rounds=1, singles=2, seed=budget.seed + number * 2**40, **anew)
        values = shapley_values(subject, stage, "soft_accuracy", keep)
        order.append(int(np.argmin(np.where(keep, values, np.inf))))
        keep[order[-1]] = False
    return removal_path(subject, order, budget.max_removed)


def shapley_values(subject, budget, measure, remaining=True):
    """Values of all filters by the bandit, with guesses: (n_filters,) float64.

    remaining: (n_filters,) bool, filters that are there; True: all. The others change nothing.
    """
    n_filters, n_images = len(subject.fills), len(subject.data.label)
    size = min(budget.images_per_round, n_images)
    batch = BatchValue(subject.evaluator, subject.fills, subject.data, size, measure)
    low, high = MEASURES[measure].value_range
    name = f"values of {measure}"
    with tqdm(total=budget.rounds, desc=name, unit=" rounds", leave=False) as bar:
        state = tmab_shapley(
            lambda keep, round_seed: batch(keep & remaining, round_seed),
            n_filters,
            k=min(budget.max_removed, n_filters - 1),
            truncation=budget.truncation,
            value_range=(low - high, high - low),
            max_rounds=budget.rounds,
            seed=budget.seed,
            singles=budget.singles,
            guess=lambda keep, seed: batch.guess(keep & remaining, seed) * remaining,
            deepest=budget.deepest,
            chunk=subject.evaluator.chunk,
            on_round=lambda state: bar.update(),
        )
    return state.values


# ----------------------------------------------------------------------------- training


def last_layer(network):
    """The layer of a network of model.py that gives the logits."""
    return network.get_submodule(network.logits_layer)


@dataclass
class Training:
    """How long and by what steps a network is fine-tuned.

    Attributes:
        epochs: int.
        batch_size: int, images a step.
        learning_rate: float, AdamW's highest.
        seed: int.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


def finetune(network, part, faces, device, training, mirror=True):
    """Train a network, or a part of it.

    The statistics of batch norms, if there are any, change in either case.

    Args:
        network: nn.Module on the device; it is changed.
        part: nn.Module, the network itself or a layer of it, whose weights are trained.
        faces: Images.
        device: torch.device.
        training: Training.
        mirror: bool, whether half of the images are mirrored.

    Returns:
        A list of state dicts on the CPU, one an epoch. They share the tensors that do not change.
    """
    network.requires_grad_(False)
    part.requires_grad_(True)
    steps = training.epochs * -(-len(faces.label) // training.batch_size)
    optimizer, schedule = model.make_optimizer(part, training.learning_rate, steps)
    name, states = "all layers" if part is network else "head", []
    last = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
    for epoch in range(training.epochs):
        torch.manual_seed(training.seed * 1000 + epoch)  # dropout has no other generator
        rng = np.random.default_rng([training.seed, epoch, 3])
        bar = f"{name}, epoch {epoch + 1} of {training.epochs}"
        steppers = (optimizer, schedule, rng, bar, mirror)
        model.run_epoch(network, faces, device, training.batch_size, *steppers)
        state = {key: value.detach().cpu() for key, value in network.state_dict().items()}
        changed = {
            key: state[key].clone() for key in state if not torch.equal(state[key], last[key])
        }
        last = last | changed
        states.append(last)
    return states


def fine_tuned(head):
    """A repair that trains all layers, or the head alone, at each of the budget's rates."""

    def repair(subject, budget):
        steps, states = ["as it was"], [copy.deepcopy(subject.network.state_dict())]
        for rate in budget.learning_rates:
            rate = 10 * rate if head else rate
            network = copy.deepcopy(subject.network)
            part = last_layer(network) if head else network
            training = Training(budget.epochs, 64, rate, budget.seed)
            device = subject.evaluator.device
            states += finetune(network, part, subject.data, device, training, budget.mirror)
            steps += [f"{epoch + 1} epochs at {rate:g}" for epoch in range(budget.epochs)]
        network = copy.deepcopy(subject.network)

        def logits(images, numbers=None):
            scores = []
            for number in range(len(states)) if numbers is None else numbers:
                network.load_state_dict(states[number])
                scores.append(network_logits(network, images, subject.evaluator.device))
            return np.stack(scores)

        return RepairPath(steps, logits, [])

    return repair


@torch.no_grad()
def network_logits(network, images, device):
    """Logits of a network for (N, 3, S, S) uint8 images: (N, classes) float32 array."""
    network.eval()
    parts = [network(normalise(part, device)).cpu() for part in images.split(WHOLE_BATCH)]
    return torch.cat(parts).numpy()


def shifted_thresholds(subject, budget):
    """One constant added to each logit, that of the highest likelihood of the labels."""
    device, label = subject.evaluator.device, subject.data.label.numpy()
    before = network_logits(subject.network, subject.data.images, device).astype(np.float64)

    def surprise(shifts):
        scores = before + shifts
        return (logsumexp(scores, 1) - scores[np.arange(len(label)), label]).mean()

    shifts = minimize(surprise, np.zeros(before.shape[1])).x.astype(np.float32)

    def logits(images, numbers=(0, 1)):
        scores = network_logits(subject.network, images, device)
        return np.stack([scores + number * shifts for number in numbers])

    return RepairPath(["as it was", "logits shifted"], logits, [])


def retrained_last_layer(subject, budget):
    """Deep feature reweighting (Kirichenko et al. 2023): a new head by logistic regression.

    On the features in front of the head, averaged over positions; the l2 penalty is the step.
    """
    network, device = subject.network, subject.evaluator.device
    features = head_inputs(network, subject.data.images, device)
    mean, scale = features.mean(0), features.std(0) + 1e-6
    heads = []
    for penalty in PENALTIES:
        head = LogisticRegression(C=penalty, max_iter=2000)
        heads.append(head.fit((features - mean) / scale, subject.data.label.numpy()))
    n_classes = network_logits(network, subject.data.images[:1], device).shape[1]

    def logits(images, numbers=None):
        inputs = (head_inputs(network, images, device) - mean) / scale
        scores = [network_logits(network, images, device)]
        scores += [_spread(head, inputs, n_classes) for head in heads]
        return np.stack(scores if numbers is None else [scores[number] for number in numbers])

    return RepairPath(["as it was", *(f"C = {penalty:g}" for penalty in PENALTIES)], logits, [])


def _spread(head, inputs, n_classes):
    """Logits of a fitted LogisticRegression: (N, n_classes), -inf for classes it has not seen."""
    scores = np.full((len(inputs), n_classes), -np.inf, dtype=np.float32)
    decision = head.decision_function(inputs)
    if decision.ndim == 1:  # of two classes, that of the second
        decision = np.stack([np.zeros_like(decision), decision], 1)
    scores[:, head.classes_] = decision
    return scores


@torch.no_grad()
def head_inputs(network, images, device, over_positions=torch.mean):
    """What the last layer takes in, by default averaged over positions: (N, features) float32."""
    network.eval()
    inputs = []

    def keep_input(module, arguments):
        value = arguments[0]
        inputs.append((over_positions(value, (2, 3)) if value.dim() == 4 else value).cpu())

    handle = last_layer(network).register_forward_pre_hook(keep_input)
    try:
        network_logits(network, images, device)
    finally:
        handle.remove()
    return torch.cat(inputs).numpy()


# ----------------------------------------------------------------------------- choosing a step


def choose_step(repair, subject, budget, folds):
    """The step of a repair with the best accuracy on images that it has not seen.

    Args:
        repair: one of REPAIRS.
        subject: Subject.
        budget: Budget.
        folds: int, parts of the images, each left out once.

    Returns:
        int, the first of the best steps; and the accuracy of each step, (steps,) float64.
    """
    n_images = len(subject.data.label)
    part = np.random.default_rng([budget.seed, 6]).permutation(n_images) % folds
    right = 0
    for fold in range(folds):
        rows = torch.from_numpy(part != fold)
        data = subject.data.take(rows)
        path = repair(replace(subject, data=data, seen=data), budget)
        unseen = subject.data.take(~rows)
        right = right + (path.logits(unseen.images).argmax(-1) == unseen.label.numpy()).sum(-1)
    return int(np.argmax(right)), right / n_images


REPAIRS = {
    "values anew": values_anew,
    "values once": values_once(),
    "values once, the paper's V": values_once("accuracy", truncation=0.53, deepest=0.25),
    "gradient anew": chosen_filters(CHOOSERS["greedy_guess"]),
    "gradient in stages of 5": chosen_filters(guessed_in_stages(5)),
    "gradient in stages of 10": chosen_filters(guessed_in_stages(10)),
    "gradient once": chosen_filters(CHOOSERS["first_order"]),
    "leave-one-out": chosen_filters(CHOOSERS["leave_one_out"]),
    "greedy": chosen_filters(CHOOSERS["greedy"]),
    "smallest weights": chosen_filters(CHOOSERS["l2_norm"]),
    "random filters": random_filters,
    "threshold shift": shifted_thresholds,
    "last-layer retraining": retrained_last_layer,
    "fine-tuning the head": fine_tuned(head=True),
    "fine-tuning all layers": fine_tuned(head=False),
}
