"""Removing filters from a network, and the value V(S) of what is left.

A coalition S is a row `keep` of n_filters booleans: True, the filter works; False, it is removed and
its output, behind batch norm and ReLU, is one constant at every position: 0 or its mean output (REMOVAL).
"""

import math
import os
import sys

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from datasets import GROUPS, normalise
from model import cut, forward
from settings import Stop

AT_ONCE = 32        # coalitions that a GPU evaluates at once, if its memory allows
CACHE = 32 * 2**20  # bytes of a step's output above which a CPU takes fewer images at a time


def coalitions(network, image_size):
    """Coalitions; or MaskedForwards, which stderr is told, for a network that cannot be cut into steps."""
    try:
        return Coalitions(network, image_size)
    except ValueError as error:
        print(f"{type(network).__name__} takes a whole forward pass for each coalition, and loses filters at their "
              f"conv's output: {error}", file=sys.stderr)
        return MaskedForwards(network)


class Coalitions:
    """The logits of a network on one batch of images, with any filters removed.

    Removing filters changes nothing in front of them, so coalitions share all steps in front of the
    first that they differ in. On a CPU they are evaluated one after the other, each from where it
    differs from the one before: nothing is copied, and activations stay in the cache. On a GPU many
    are evaluated at once, each distinct output of a step once, in batches that fill the device.
    """

    def __init__(self, network, image_size, at_once=None):
        """at_once: coalitions evaluated at once; None: 1 on a CPU, what memory allows on a GPU. ValueError as model.cut."""
        self.steps = cut(network, image_size)
        self.device = next(network.parameters()).device
        self.at_once = at_once or (AT_ONCE if self.device.type == "cuda" else 1)  # coalitions
        self.at_a_time = None                                                     # images
        self.last_use = {source: number for number, step in enumerate(self.steps) for source in step.inputs}
        every = sorted((some for step in self.steps for some in step.filters if some), key=lambda some: some.players.start)
        counts = [some.players.stop - some.players.start for some in every]
        self.layers = np.repeat([some.layer for some in every], counts).tolist()  # (n_filters,)
        self.channels = np.concatenate([np.arange(count) for count in counts]).tolist()
        self.low = torch.from_numpy(np.repeat([some.low for some in every], counts)).float().to(self.device)
        self.raw, self.gate = np.empty((2, len(self.layers)), dtype=int)  # steps that give a filter's output, and remove it
        for number, step in enumerate(self.steps):
            for source, some in zip(step.inputs, step.filters):
                if some:
                    self.raw[some.players], self.gate[some.players] = source, number

    def see(self, images, fills):
        """Evaluate on `images` (B, 3, S, S), normalised, from now on. fills: (n_filters,) float32, a removed filter's output."""
        self.images, self.fills = images, fills.to(self.device)
        self.kept = {}  # by first image: the outputs of all steps for the coalition last seen, and that coalition
        if self.at_a_time is None:
            self._fit(len(images))

    @torch.no_grad()
    def logits(self, keep):
        """(T, n_filters) bool -> (T, B, classes) float32. Raises Stop if memory does not suffice for one image."""
        while True:
            try:
                return self._logits(np.asarray(keep))
            except RuntimeError as error:
                if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                    raise
            self.kept.clear()  # only here: the error held tensors too
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            if self.at_once > 1:
                self.at_once //= 2
            elif self.at_a_time > 1:
                self.at_a_time //= 2
            else:
                raise Stop("memory does not suffice to evaluate one image; give a smaller --IMAGE_SIZE")
            tqdm.write(f"Out of memory: going on with {self.at_once} coalitions and {self.at_a_time} images at once.",
                       file=sys.stderr)

    @torch.no_grad()
    def mean_outputs(self, images):
        """Each filter's output, averaged over positions and summed over images (B, 3, S, S): (n_filters,) float64."""
        sums = torch.empty(len(self.layers), dtype=torch.float64, device=self.device)
        for step, value in zip(self.steps, forward(self.steps, images)):
            for some, channels in zip(step.filters, step.channels):
                if some:
                    sums[some.players] = value[:, channels].mean((2, 3)).sum(0, dtype=torch.float64)
        return sums

    def _fit(self, batch):
        """Set how many coalitions and images go at once, from the memory that is free and what the steps' outputs need."""
        sizes = [4 * math.prod(step.shape) for step in self.steps]  # bytes, for one image
        free, self.at_a_time = _free_memory(self.device) // 2, batch
        if self.device.type == "cuda":
            self.at_once = min(self.at_once, free // (batch * self._peak(sizes)))
            if self.at_once < 8:  # then what is shared with the coalition before saves more than large batches do
                self.at_once = 1
            if self.at_once == 1:
                self.at_a_time = max(1, min(batch, free // sum(sizes)))
        else:
            self.at_a_time = max(1, min(batch, CACHE // max(sizes)))
        self.keeps = batch * sum(sizes) < free  # whether kept outputs of all images fit

    def _peak(self, sizes):
        """The most bytes that are alive at once when each output goes with its last use."""
        peak = alive = sizes[0]
        for number, step in enumerate(self.steps[1:], 1):
            alive += sizes[number]
            peak = max(peak, alive)
            alive -= sum(sizes[source] for source in set(step.inputs) if self.last_use[source] == number)
        return peak

    def _logits(self, keep):
        """All coalitions on all images, as many of either at once as was settled."""
        size = -(-len(self.images) // -(-len(self.images) // self.at_a_time))  # as equal as can be
        found = []
        for start in range(0, len(self.images), size):
            images = self.images[start:start + size]
            if self.at_once > 1:
                some = [self._together(keep[row:row + self.at_once], images) for row in range(0, len(keep), self.at_once)]
                found.append(torch.cat(some))
            else:
                outputs, last = self.kept.pop(start, ([images] + [None] * (len(self.steps) - 1), None))
                some = []
                for row in keep:
                    some.append(self._next(outputs, last, row))
                    last = row
                found.append(torch.stack(some))
                if self.keeps:
                    self.kept[start] = outputs, last.copy()
        return torch.cat(found, 1)

    def _limits(self, keep):
        """(..., n_filters) bool -> lowest and highest outputs, (..., n_filters, 1, 1): both the fill where a filter is removed.

        So one torch.clamp is ReLU and removal.
        """
        keep = torch.from_numpy(keep).to(self.device)
        low, high = torch.where(keep, self.low, self.fills), torch.where(keep, torch.inf, self.fills)
        return low[..., None, None], high[..., None, None]

    def _next(self, outputs, last, keep):
        """Turn the outputs of all steps from those of coalition `last` (None: none yet) to those of `keep`; the logits."""
        lost, restored = (last & ~keep, keep & ~last) if last is not None else (np.zeros_like(keep), np.zeros_like(keep))
        stale = {0} if last is None else set(self.raw[restored].tolist())  # steps with another output than in `last`
        losing = set(self.gate[lost].tolist())
        low, high = self._limits(keep)
        for number, step in enumerate(self.steps[1:], 1):
            if step.run:
                if number in stale or not stale.isdisjoint(step.inputs):
                    outputs[number] = step.run(*(outputs[source] for source in step.inputs))
                    stale.add(number)
            elif number in losing or not stale.isdisjoint(step.inputs):
                for source, some, channels in zip(step.inputs, step.filters, step.channels):
                    if source in stale:
                        raw = outputs[source]
                        if len(step.inputs) == 1:
                            outputs[number] = raw.clamp_(low[some.players], high[some.players])
                        else:
                            if outputs[number] is None:
                                outputs[number] = _empty(len(raw), step.shape, raw)
                            if some:
                                torch.clamp(raw, low[some.players], high[some.players], out=outputs[number][:, channels])
                            else:
                                outputs[number][:, channels] = raw
                        if some:
                            outputs[source] = None  # nothing but the gate needs it
                    elif some and number in losing:  # the rest of the input is as it was
                        removed = torch.from_numpy(np.flatnonzero(lost[some.players])).to(self.device)
                        outputs[number][:, channels][:, removed] = self.fills[some.players][removed][:, None, None]
                stale.add(number)
        return outputs[-1]

    def _together(self, keep, images):
        """The logits of T coalitions, (T, B, classes), each distinct output of a step computed once.

        values[step] has the images' outputs for one distinct coalition after the other; row[step] says,
        for each of the T, which of them is its own.
        """
        values, row = {0: images}, {0: [0] * len(keep)}
        low, high = self._limits(keep)
        for number, step in enumerate(self.steps[1:], 1):
            own, first = _distinct(zip(*(row[source] for source in step.inputs)))
            inputs = [_take(values[source], [row[source][t] for t in first], len(images)) for source in step.inputs]
            for source in set(step.inputs):
                if self.last_use[source] == number:
                    del values[source]
            if step.run:
                row[number], values[number] = own, step.run(*inputs)
            else:
                row[number], values[number] = self._gate(step, keep, own, first, inputs, low, high)
        return _take(values[number], row[number], len(images)).unflatten(0, (len(keep), -1))

    def _gate(self, step, keep, own, first, inputs, low, high):
        """A gate for T coalitions: which of its distinct outputs is whose, and the outputs.

        own: which of the distinct inputs is whose; first: the coalition in which each comes first. The
        outputs of those come first, in place of the inputs; what shares its input with another follows.
        """
        masks = [[keep[t, some.players].tobytes() for some in step.filters if some] for t in range(len(keep))]
        row, seen = _distinct((own[t], *masks[t]) for t in range(len(keep)))
        more = [t for t in seen if t not in set(first)]
        place = {t: number for number, t in enumerate(first + more)}
        batch = len(inputs[0]) // len(first)
        alone = len(inputs) == 1 and not more
        out = inputs[0] if alone else _empty(len(place) * batch, step.shape, inputs[0])
        for raw, some, channels in zip(inputs, step.filters, step.channels):
            for start, chosen in ((0, first), (len(first), more)):
                if chosen:
                    part = _take(raw, [own[t] for t in chosen], batch).unflatten(0, (-1, batch))
                    target = out.unflatten(0, (-1, batch))[start:start + len(chosen), :, channels]
                    if some:
                        limits = [limit[:, some.players][chosen].unsqueeze(1) for limit in (low, high)]
                        torch.clamp(part, *limits, out=target)
                    else:
                        target.copy_(part)
        return [place[seen[number]] for number in row], out


class MaskedForwards:
    """As Coalitions, for any network: a whole forward pass each, a removed filter's conv output being its fill."""

    def __init__(self, network):
        self.network, self.device = network, next(network.parameters()).device
        layers = [(name, module) for name, module in network.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
        self.convs = [(name, module) for name, module in layers[:-1] if isinstance(module, nn.Conv2d)]  # the last gives logits
        self.layers = [name for name, conv in self.convs for _ in range(conv.out_channels)]
        self.channels = [channel for _, conv in self.convs for channel in range(conv.out_channels)]
        self.at_once = 1

    def see(self, images, fills):
        self.images, self.fills = images, fills.to(self.device)

    def logits(self, keep):
        return torch.stack([self._logits(row) for row in np.asarray(keep)])

    def _logits(self, keep):
        def fill(players, outputs):
            removed = torch.from_numpy(np.flatnonzero(~keep[players])).to(self.device)
            outputs[:, removed] = self.fills[players][removed][:, None, None]

        return self._forward(self.images, fill)

    def mean_outputs(self, images):
        sums = torch.zeros(len(self.layers), dtype=torch.float64, device=self.device)

        def measure(players, outputs):
            sums[players] = outputs.mean((2, 3)).sum(0, dtype=torch.float64)

        self._forward(images, measure)
        return sums

    @torch.no_grad()
    def _forward(self, images, change):
        """Logits, with change(players, outputs) called on each conv's outputs, which it may change."""
        start, hooks = 0, []
        for _, conv in self.convs:
            players = slice(start, start := start + conv.out_channels)
            hooks.append(conv.register_forward_hook(lambda _, inputs, outputs, players=players: change(players, outputs)))
        try:
            return self.network(images)
        finally:
            for hook in hooks:
                hook.remove()


def _distinct(keys):
    """Number keys as they first appear: (the number of each, where each number comes first)."""
    numbers, row, first = {}, [], []
    for place, key in enumerate(keys):
        if key not in numbers:
            numbers[key] = len(first)
            first.append(place)
        row.append(numbers[key])
    return row, first


def _take(values, rows, batch):
    """Of values (R * batch, ...), those of the given rows, (len(rows) * batch, ...); not copied if they are all, in order."""
    if rows == list(range(len(values) // batch)):
        return values
    rows = torch.tensor(rows, device=values.device)
    # movedim: a copy of channels-last values then is channels last
    return values.movedim(1, -1).unflatten(0, (-1, batch))[rows].flatten(0, 1).movedim(-1, 1)


def _empty(length, shape, like):
    return torch.empty((length, *shape), dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _free_memory(device):
    """Bytes that nothing uses."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not told by this system
        return 4 * 2**30


def margins(coalitions, fills, faces, keep, bar, batch_size=250):
    """(T, n_filters) bool -> (T, N) float32: the logit of "male" less that of "female" for all faces.

    bar: a tqdm bar, told how many images are done.
    """
    result = np.empty((len(keep), len(faces.male)), dtype=np.float32)
    for start in range(0, result.shape[1], batch_size):
        rows = slice(start, start + batch_size)
        coalitions.see(normalise(faces.images[rows], coalitions.device), fills)
        logits = coalitions.logits(keep)
        result[:, rows] = (logits[..., 1] - logits[..., 0]).cpu().numpy()
        bar.update(logits.shape[1])
    return result


class BatchAccuracy:
    """V(S) for mab.tmab_shapley: accuracy on a batch of faces, the same number from each group.

    Equal numbers leave V's expectation as it is in a set of equal groups, and lower its variance.
    """

    def __init__(self, coalitions, fills, faces, images_per_round):
        if images_per_round < 1 or images_per_round % len(GROUPS):
            raise Stop(f"IMAGES_PER_ROUND={images_per_round}: must be a multiple of {len(GROUPS)}, the groups")
        self.coalitions, self.fills = coalitions, fills
        self.rows = [np.flatnonzero(faces.group.numpy() == group) for group in range(len(GROUPS))]
        self.per_group = images_per_round // len(GROUPS)
        if self.per_group > min(map(len, self.rows)):
            raise Stop(f"IMAGES_PER_ROUND={images_per_round} takes {self.per_group} faces a group, and a group has only "
                       f"{min(map(len, self.rows))} for the values; give a smaller one")
        fits = faces.images.numel() < _free_memory(coalitions.device) // 4
        self.images = faces.images.to(coalitions.device) if fits else faces.images  # uint8
        self.male = faces.male.to(coalitions.device)
        self.chunk = max(8, coalitions.at_once)  # coalitions for a call: few, since truncation may come before the last
        self.round_seed = None

    def __call__(self, keep, round_seed):
        """keep (T, n_filters) bool -> (T,) float64. One round_seed is one batch."""
        if round_seed != self.round_seed:
            rng = np.random.default_rng(round_seed)
            rows = torch.from_numpy(np.concatenate([rng.choice(rows, self.per_group, replace=False) for rows in self.rows]))
            images = normalise(self.images[rows.to(self.images.device)], self.coalitions.device)
            self.coalitions.see(images, self.fills)
            self.labels = self.male[rows.to(self.male.device)]
            self.round_seed = round_seed
        correct = self.coalitions.logits(keep).argmax(2) == self.labels  # (T, B)
        return correct.sum(1).cpu().numpy() / len(self.labels)


def fill_values(coalitions, faces, removal, batch_size=32):
    """What a removed filter gives: (n_filters,) float32.

    "zero": 0. "mean": the filter's mean output over images and positions, where it is removed (the
    paper's choice for conv filters). Raises Stop on any other name.
    """
    if removal not in ("mean", "zero"):
        raise Stop(f"REMOVAL={removal}: must be mean or zero")
    sums = torch.zeros(len(coalitions.layers), dtype=torch.float64, device=coalitions.device)
    if removal == "mean":
        for start in range(0, len(faces.male), batch_size):
            sums += coalitions.mean_outputs(normalise(faces.images[start:start + batch_size], coalitions.device))
    return (sums / len(faces.male)).float()
