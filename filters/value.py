"""V(S) of coalitions on images, guesses of all marginals, and what a removed filter gives."""

from common.settings import InputError

import numpy as np
import torch
from tqdm import tqdm

from datasets import normalise
from filters.coalitions import free_memory
from filters.measures import MEASURES, class_margins

# Of the images, those nearest to the decision boundary first; each share gives a batch as many.
STRATA = (1 / 16, 3 / 16, 1 / 4, 1 / 2)
FLIPS_AT_ONCE = 256  # rows of margins that guess_marginals scores at once


def evaluate_measure(evaluator, keep, data, measure):
    """V of T coalitions on the images that the evaluator sees.

    Args:
        evaluator: Coalitions or MaskedForwards.
        keep: (T, n_filters) bool.
        data: Images, label and group on the evaluator's device.
        measure: str, a name in MEASURES.

    Returns:
        (T,) float64.
    """
    margins = class_margins(evaluator.logits(keep), data.label)
    return MEASURES[measure](margins, data).double().cpu().numpy()


def guess_marginals(evaluator, keep, data, measure):
    """Guess the marginal of every filter at one coalition, to first order in the margins.

    Args:
        evaluator: Coalitions.
        keep: (n_filters,) bool.
        data: Images, label and group on the evaluator's device.
        measure: str, a name in MEASURES.

    Returns:
        (n_filters,) float64.
    """
    margins, changes = evaluator.first_order(keep, data.label)
    sign = torch.from_numpy(np.where(keep, 1, -1)).to(margins.device)
    flipped = margins - sign[:, None] * changes.T  # (n_filters, B): if it is removed, or put back
    before = MEASURES[measure](margins[None], data)
    gains = [before - MEASURES[measure](part, data) for part in flipped.split(FLIPS_AT_ONCE)]
    return (sign * torch.cat(gains)).double().cpu().numpy()


class BatchValue:
    """V(S) for tmab_shapley: a measure on a batch of images, equally many from each group.

    On a set of equal groups this leaves the mean over images as it is, and lowers its variance. So
    does `by_margin`: a batch then has more of the images near the network's decision boundary,
    where one filter can turn right into wrong, and each of them counts less.
    """

    def __init__(self, evaluator, fills, data, images_per_round, measure, by_margin=False):
        """Prepare the images.

        Args:
            evaluator: Coalitions or MaskedForwards.
            fills: (n_filters,) float32.
            data: Images.
            images_per_round: int, images of a batch.
            measure: str, a name in MEASURES.
            by_margin: bool, for a measure that averages over images: each of STRATA gives a batch
                as many images, weighted so that the mean stays that over all images.

        Raises:
            InputError: images_per_round is no multiple of the groups (times the strata), or there
                are not enough images in one of them.
            ValueError: by_margin, and the measure does not average.
        """
        if by_margin and not MEASURES[measure].averages:
            raise ValueError(f"measure={measure!r} is no average over images, as by_margin needs")
        groups = data.group.unique().tolist()
        self.evaluator, self.fills, self.measure = evaluator, fills, measure
        n_cells, cells, cell = len(groups), "groups", "group"
        if by_margin:
            n_cells *= len(STRATA)
            cells, cell = f"groups times the {len(STRATA)} strata of BY_MARGIN", "stratum"
        if images_per_round < 1 or images_per_round % n_cells:
            rule = f"must be a multiple of {n_cells}, the number of {cells}"
            raise InputError(f"IMAGES_PER_ROUND={images_per_round}: {rule}")
        self.rows = [np.flatnonzero(data.group.numpy() == group) for group in groups]
        if by_margin:
            margins = _whole_margins(evaluator, fills, data, images_per_round)
            self.rows, weight = _strata(margins, self.rows)
            data = data._replace(weight=torch.from_numpy(weight))
        self.per_cell = images_per_round // n_cells
        available = min(map(len, self.rows))
        if self.per_cell > available:
            each = f" from each {cell}" if n_cells > 1 else ""
            raise InputError(
                f"IMAGES_PER_ROUND={images_per_round} takes {self.per_cell} images{each}, and "
                f"there are only {available} for the values; give a smaller one"
            )
        fits = data.images.numel() < free_memory(evaluator.device) // 4
        if fits:  # uint8
            data = data._replace(images=data.images.to(evaluator.device))
        self.data, self.round_seed = data, None

    def __call__(self, keep, round_seed):
        """V of coalitions: keep (T, n_filters) bool -> (T,) float64. A round_seed is a batch."""
        self._draw(round_seed)
        return evaluate_measure(self.evaluator, keep, self.batch, self.measure)

    def guess(self, keep, round_seed):
        """Guess all marginals at a coalition: keep (n_filters,) bool -> (n_filters,) float64."""
        self._draw(round_seed)
        return guess_marginals(self.evaluator, keep, self.batch, self.measure)

    def _draw(self, round_seed):
        """Draw the round's batch, unless it is drawn already."""
        if round_seed == self.round_seed:
            return
        rng, device = np.random.default_rng(round_seed), self.evaluator.device
        rows = [rng.choice(rows, self.per_cell, replace=False) for rows in self.rows]
        rows = torch.from_numpy(np.concatenate(rows))
        self.batch = self.data.apply(lambda tensor: tensor[rows.to(tensor.device)].to(device))
        self.evaluator.see(normalise(self.batch.images, device), self.fills)
        self.round_seed = round_seed


def _strata(margins, groups):
    """Cut each group into STRATA by distance from the decision boundary.

    Args:
        margins: (N,) float, of the whole network.
        groups: list of int arrays, the rows of each group.

    Returns:
        The rows of each stratum of each group, a list of int arrays; and the images' weights,
        (N,) float32: 1 on average over a batch that takes as many from each.
    """
    weight, cells = np.zeros(len(margins), dtype=np.float32), []
    for rows in groups:
        nearest_first = rows[np.argsort(abs(margins[rows]), kind="stable")]
        ends = np.round(np.cumsum(STRATA) * len(rows)).astype(int)
        for cell in np.split(nearest_first, ends[:-1]):
            weight[cell] = len(cell) * len(STRATA) / len(rows)
            cells.append(np.sort(cell))
    return cells, weight


def _whole_margins(evaluator, fills, data, batch_size):
    """Margins of the whole network, (N,) float32, as class_margins."""
    keep = np.ones((1, len(evaluator.layers)), dtype=bool)
    bar = tqdm(disable=True)  # a few seconds
    logits = score_images(evaluator, fills, data.images, keep, torch.Tensor.float, bar, batch_size)
    return class_margins(torch.from_numpy(logits[0]), data.label.cpu()).numpy()


def fill_values(evaluator, data, removal, batch_size=8):
    """What each filter gives when it is removed.

    Args:
        evaluator: Coalitions or MaskedForwards.
        data: Images.
        removal: "mean": the filter's mean output behind its ReLU, over images and positions (the
            paper's choice for conv filters); "zero": 0.
        batch_size: int, images of a forward pass.

    Returns:
        (n_filters,) float32.

    Raises:
        InputError: another name.
    """
    if removal not in ("mean", "zero"):
        raise InputError(f"REMOVAL={removal}: must be mean or zero")
    sums = torch.zeros(len(evaluator.layers), dtype=torch.float64, device=evaluator.device)
    if removal == "mean":
        for start in range(0, len(data.label), batch_size):
            images = data.images[start : start + batch_size]
            sums += evaluator.mean_outputs(normalise(images, evaluator.device))
    return (sums / len(data.label)).float()


def score_images(evaluator, fills, images, keep, score, bar, batch_size=250):
    """What `score` makes of the logits of all images, for T coalitions.

    Args:
        evaluator: Coalitions or MaskedForwards.
        fills: (n_filters,) float32.
        images: (N, 3, S, S) uint8.
        keep: (T, n_filters) bool.
        score: function of logits, (T, B, classes) -> (T, B, ...).
        bar: tqdm bar, updated by the images evaluated, counted once for each coalition.
        batch_size: int.

    Returns:
        (T, N, ...) array.
    """
    scores = []
    for batch in images.split(batch_size):
        evaluator.see(normalise(batch, evaluator.device), fills)
        scores.append(score(evaluator.logits(keep)).cpu().numpy())
        bar.update(len(keep) * len(batch))
    return np.concatenate(scores, 1)


def l2_norms(network, evaluator):
    """The L2 norm of each filter's weights, (n_filters,) float64."""
    convs = dict(network.named_modules())
    norms = {}
    for layer in set(evaluator.layers):
        weights = convs[layer].weight.detach()
        norms[layer] = weights.flatten(1).norm(dim=1).double().cpu().numpy()
    pairs = zip(evaluator.layers, evaluator.channels)
    return np.array([norms[layer][channel] for layer, channel in pairs])
