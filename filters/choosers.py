"""Ways to choose the filters to remove, by what each does for V on some images.

A chooser is a function (Subject, number) -> filters to remove, (number,) int, the first to go
first. A new one is one more function and one more entry of CHOOSERS.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from tqdm import tqdm

from datasets import Images, normalise
from filters.coalitions import Coalitions
from filters.removal import relevance_rule
from filters.value import evaluate_measure, fill_values, guess_marginals, l2_norms


@dataclass
class Subject:
    """What a rival may know: the network, and the images of the values.

    Attributes:
        network: nn.Module.
        evaluator: of the network, as from filters.coalitions.make_evaluator.
        fills: (n_filters,) float32, the output of a removed filter.
        data: Images that V is measured on.
        seen: Images, the clean ones, of all classes.
        measure: str, V, a name in filters.measures.MEASURES.
        players: (n_players,) int, the filters that may go.
        sign: 1: the filters to go first are those that do V the least good; -1: the most.
        candidates: int, filters that greedy tries at each step.
        begun: tuple of int, the first filters of an order that was interrupted; of rivals that
            choose one filter after the other.
        on_filter: function, called with the order so far, a list, after each filter of theirs.
    """

    network: torch.nn.Module
    evaluator: Coalitions
    fills: torch.Tensor
    data: Images
    seen: Images
    measure: str
    players: np.ndarray
    sign: int = 1
    candidates: int = 8
    begun: tuple = ()
    on_filter: Callable | None = None

    COALITIONS_A_CALL = 64  # that V is asked for at once

    def batches(self, per_group=50):
        """The images in batches of about as many from each group, seen by the evaluator.

        Yields Images, label and group on the evaluator's device.
        """
        group, device = self.data.group.numpy(), self.evaluator.device
        members = [np.flatnonzero(group == index) for index in np.unique(group)]
        n_batches = max(1, min(map(len, members)) // per_group)
        for parts in zip(*(np.array_split(rows, n_batches) for rows in members)):
            batch = self.data.take(torch.from_numpy(np.concatenate(parts)))
            self.evaluator.see(normalise(batch.images, device), self.fills)
            yield batch._replace(label=batch.label.to(device), group=batch.group.to(device))

    def value(self, keep):
        """V on all images, the mean of batches: (T, n_filters) bool -> (T,) float64."""
        values, sizes = [], []
        total = len(keep) * len(self.data.label)
        with tqdm(total=total, desc="V", unit=" images", leave=False, dynamic_ncols=True) as bar:
            for batch in self.batches():
                parts = []
                for rows in np.array_split(keep, -(-len(keep) // self.COALITIONS_A_CALL)):
                    parts.append(evaluate_measure(self.evaluator, rows, batch, self.measure))
                    bar.update(len(rows) * len(batch.label))
                values.append(np.concatenate(parts))
                sizes.append(len(batch.label))
        return np.average(values, axis=0, weights=sizes)

    def guess(self, keep):
        """All marginals at a coalition on all images, to first order in the margins.

        keep: (n_filters,) bool -> (n_filters,) float64.
        """
        guesses, sizes = [], []
        for batch in self.batches():
            guesses.append(guess_marginals(self.evaluator, keep, batch, self.measure))
            sizes.append(len(batch.label))
        return np.average(guesses, axis=0, weights=sizes)

    def lowest(self, scores, number):
        """The players of the lowest scores (n_filters,), or of the highest if sign is -1.

        Returns (number,) int, the first to go first.
        """
        order = np.argsort(self.sign * scores[self.players], kind="stable")
        return self.players[order][:number]


def without_each(keep, filters):
    """Coalitions with one more filter gone: (n_filters,) bool and (T,) int -> (T, n_filters)."""
    coalitions = np.repeat(keep[None], len(filters), 0)
    coalitions[np.arange(len(filters)), filters] = False
    return coalitions


# ----------------------------------------------------------------------------- rivals


def l2_norm(subject, number):
    """The filters of the smallest weights, by their L2 norm (pruning by magnitude)."""
    return subject.lowest(l2_norms(subject.network, subject.evaluator), number)


def mean_activation(subject, number):
    """The filters of the lowest mean output, which do the least."""
    outputs = fill_values(subject.evaluator, subject.seen, "mean")
    return subject.lowest(outputs.cpu().numpy(), number)


def first_order(subject, number):
    """The filters whose removal raises V most by its gradient (gradient x activation)."""
    return subject.lowest(subject.guess(np.ones(len(subject.fills), dtype=bool)), number)


def relevance(subject, number):
    """The filters of the lowest relevance for the right class, less that for the best other one.

    By layer-wise relevance propagation, see removal.relevance_rule; the mean over images. Filters
    of negative relevance speak for another class. After Yeom et al. (2021, Pattern Recognition
    115:107899), who prune filters of low relevance for the right class.
    """
    evaluator, total = subject.evaluator, 0
    everyone = np.ones(len(subject.fills), dtype=bool)
    nothing = replace(subject, fills=torch.zeros_like(subject.fills))  # the output itself counts
    with relevance_rule(evaluator.steps):
        for batch in nothing.batches():
            total = total + evaluator.first_order(everyone, batch.label)[1].double().sum(0)
    return subject.lowest(total.cpu().numpy(), number)


def leave_one_out(subject, number):
    """The filters whose removal, one at a time from the whole network, raises V most.

    Measured for ten times as many as are asked for, those with the best guesses.
    """
    everyone = np.ones(len(subject.fills), dtype=bool)
    tried = first_order(subject, 10 * number)
    values = subject.value(without_each(everyone, tried))
    return tried[np.argsort(-subject.sign * values, kind="stable")][:number]


def greedy(subject, number):
    """One after the other, the filter whose removal from what remains raises V most.

    Measured for the candidates, those with the best guesses.
    """
    return _remove_one_by_one(subject, number, subject.candidates)


def greedy_guess(subject, number):
    """As greedy, by the guesses alone: gradient x activation, anew after each removal."""
    return _remove_one_by_one(subject, number, 1)


def guessed_in_stages(size):
    """A chooser like greedy_guess, but `size` filters go before the guesses are made anew."""

    def choose(subject, number):
        return _remove_one_by_one(subject, number, 1, size)

    return choose


def _remove_one_by_one(subject, number, candidates, size=1):
    """Filters in order, the best of the candidates each time; size: that go by the same guesses."""
    n_filters, order = len(subject.fills), list(subject.begun)
    keep, may_go = np.ones(n_filters, dtype=bool), np.isin(np.arange(n_filters), subject.players)
    keep[order] = False
    bar = tqdm(desc="one by one", total=number, initial=len(order), unit=" filters", leave=False)
    with bar:
        while len(order) < number:
            remaining = keep & may_go
            guesses = np.where(remaining, subject.sign * subject.guess(keep), np.inf)
            ranked = np.argsort(guesses, kind="stable")[: remaining.sum()]
            best = ranked[: min(size, number - len(order))]
            if candidates > 1:
                tried = ranked[:candidates]
                values = subject.sign * subject.value(without_each(keep, tried))
                best = tried[[np.argmax(values)]]
            order += best.tolist()
            keep[best] = False
            bar.update(len(best))
            if subject.on_filter:
                subject.on_filter(order)
    return np.array(order, dtype=int)


@dataclass(frozen=True)
class Rival:
    """A way to choose filters, and whether it needs a network that can be cut."""

    choose: Callable
    needs_guesses: bool = True

    def __call__(self, subject, number):
        """Filters to remove, the first to go first: (number,) int."""
        return self.choose(subject, number)


CHOOSERS = {
    "l2_norm": Rival(l2_norm, needs_guesses=False),
    "mean_activation": Rival(mean_activation, needs_guesses=False),
    "first_order": Rival(first_order),
    "relevance": Rival(relevance),
    "leave_one_out": Rival(leave_one_out),
    "greedy_guess": Rival(greedy_guess),
    "greedy": Rival(greedy),
}
