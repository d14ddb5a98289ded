"""Removing filters from a network, and the value V(S) of what is left.

A coalition S is a row `keep` of n_filters booleans: True, the filter works; False, it is removed and
its output, behind the ReLU, is one constant at every position: 0 or its mean output (REMOVAL).
"""

import numpy as np
import torch

from datasets import GROUPS, normalise
from model import chain
from settings import Stop


class Coalitions:
    """The logits of a network on one batch of images, with any filters removed.

    Removing filters of a stage changes nothing in front of it. So the output of every stage is kept
    for the coalition last seen, and the next is computed from the first stage in which it differs:
    along an order of removals, that takes about 0.3 of the network for each. It is exact.
    """

    def __init__(self, network, fills, images):
        """fills: (n_filters,) float32, what a removed filter gives. images: (B, 3, S, S), normalised."""
        self.stages, self.head = chain(network)
        sizes = [len(stage.names) for stage in self.stages]
        self.starts = np.concatenate([[0], np.cumsum(sizes)])  # filters of stage l: starts[l] to starts[l + 1]
        self.fills = fills.to(images.device)
        self.outputs = [images] + [None] * len(self.stages)    # outputs[l + 1]: of stage l, removed filters filled
        self.keep = np.ones(self.starts[-1], dtype=bool)       # the coalition that outputs belong to
        self._recompute(0)

    @torch.no_grad()
    def logits(self, keep):
        """(T, n_filters) bool -> (T, B, classes) float32."""
        return torch.stack([self._logits(row) for row in np.asarray(keep)])

    def _logits(self, row):
        changed = np.flatnonzero(row != self.keep)
        restored = row & ~self.keep
        self.keep = row.copy()
        if len(changed):
            stage = np.searchsorted(self.starts, changed[0], side="right") - 1
            if restored[self.starts[stage]:self.starts[stage + 1]].any():
                self._recompute(stage)
            else:  # the first stage that differs has lost filters only: fill them in place
                self._fill(stage, changed[changed < self.starts[stage + 1]])
                self._recompute(stage + 1)
        return self.head(self.outputs[-1])

    @torch.no_grad()
    def _recompute(self, first):
        for stage in range(first, len(self.stages)):
            self.outputs[stage + 1] = self.stages[stage].forward(self.outputs[stage])
            removed = np.flatnonzero(~self.keep[self.starts[stage]:self.starts[stage + 1]])
            if len(removed):
                self._fill(stage, removed + self.starts[stage])

    def _fill(self, stage, removed):
        removed = torch.from_numpy(removed).to(self.fills.device)
        self.outputs[stage + 1][:, removed - self.starts[stage]] = self.fills[removed][:, None, None]


def margins(network, fills, faces, keep, device, bar, batch_size=250):
    """(T, n_filters) bool -> (T, N) float32: the logit of "male" less that of "female" for all faces.

    bar: a tqdm bar, told how many images are done.
    """
    result = np.empty((len(keep), len(faces.male)), dtype=np.float32)
    for start in range(0, result.shape[1], batch_size):
        rows = slice(start, start + batch_size)
        logits = Coalitions(network, fills, normalise(faces.images[rows], device)).logits(keep)
        result[:, rows] = (logits[..., 1] - logits[..., 0]).cpu().numpy()
        bar.update(logits.shape[1])
    return result


class BatchAccuracy:
    """V(S) for mab.tmab_shapley: accuracy on a batch of faces, the same number from each group.

    Equal numbers leave V's expectation as it is in a set of equal groups, and lower its variance.
    """

    def __init__(self, network, fills, faces, images_per_round, device):
        if images_per_round < 1 or images_per_round % len(GROUPS):
            raise Stop(f"IMAGES_PER_ROUND={images_per_round}: must be a multiple of {len(GROUPS)}, the groups")
        self.network, self.fills, self.faces, self.device = network, fills, faces, device
        self.rows = [np.flatnonzero(faces.group.numpy() == group) for group in range(len(GROUPS))]
        self.per_group = images_per_round // len(GROUPS)
        if self.per_group > min(map(len, self.rows)):
            raise Stop(f"IMAGES_PER_ROUND={images_per_round} takes {self.per_group} faces a group, and a group has only "
                       f"{min(map(len, self.rows))} for the values; give a smaller one")
        self.round_seed = None

    def __call__(self, keep, round_seed):
        """keep (T, n_filters) bool -> (T,) float64. One round_seed is one batch."""
        if round_seed != self.round_seed:
            rng = np.random.default_rng(round_seed)
            rows = np.concatenate([rng.choice(rows, self.per_group, replace=False) for rows in self.rows])
            faces = self.faces.take(torch.from_numpy(rows))
            self.male = faces.male.to(self.device)
            self.coalitions = Coalitions(self.network, self.fills, normalise(faces.images, self.device))
            self.round_seed = round_seed
        correct = self.coalitions.logits(keep).argmax(2) == self.male  # (T, B)
        return correct.sum(1).cpu().numpy() / len(self.male)


def fill_values(network, faces, removal, device, batch_size=100):
    """What a removed filter gives: (n_filters,) float32.

    "zero": 0. "mean": the filter's mean output over images and positions, behind its ReLU (the
    paper's choice for conv filters). Raises Stop on any other name.
    """
    stages, _ = chain(network)
    if removal not in ("mean", "zero"):
        raise Stop(f"REMOVAL={removal}: must be mean or zero")
    sums = [torch.zeros(len(stage.names), dtype=torch.float64, device=device) for stage in stages]
    if removal == "mean":
        with torch.no_grad():
            for start in range(0, len(faces.male), batch_size):
                x = normalise(faces.images[start:start + batch_size], device)
                for stage, total in zip(stages, sums):
                    x = stage.forward(x)
                    total += x.mean((2, 3)).sum(0)
    return (torch.cat(sums) / len(faces.male)).float()
