"""Removing filters from a network, and the value V(S) of what is left.

A coalition S is a row `keep` of n_filters booleans: True, the filter works; False, it is removed and
its output, behind batch norm and ReLU, is one constant at every position: 0 or its mean output (REMOVAL).
"""

import math
import sys
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.functional import logsigmoid, relu
from tqdm import tqdm

from adversaries import ADVERSARY, CLEAN
from datasets import GROUPS, Images, normalise
from model import cut, forward
from settings import Stop

AT_ONCE = 32        # coalitions that a GPU evaluates at once, if its memory allows
CACHE = 32 * 2**20  # bytes of a step's output above which a CPU takes fewer images at a time


def evaluator(network, image_size):
    """Coalitions; or MaskedForwards, which stderr is told, for a network that cannot be cut into steps."""
    try:
        return Coalitions(network, image_size)
    except ValueError as error:
        print(f"{type(network).__name__} takes a whole forward pass for each coalition, and loses filters at their "
              f"conv's output: {error}", file=sys.stderr)
        return MaskedForwards(network, image_size)


class Coalitions:
    """The logits of a network on one batch of images, with any filters removed.

    Removing filters changes nothing in front of them, so coalitions share all steps in front of the
    first that they differ in. On a CPU they are evaluated one after the other, each from where it
    differs from the one before: nothing is copied, and activations stay in the cache. On a GPU many
    are evaluated at once, each distinct output of a step once, in batches that fill the device.
    """

    def __init__(self, network, image_size, coalitions_at_once=None):
        """coalitions_at_once: None for 1 on a CPU, and what memory allows on a GPU. Raises ValueError as model.cut does."""
        self.steps = cut(network, image_size)
        self.device = next(network.parameters()).device
        self.coalitions_at_once, self.images_at_once, self.keeps_outputs = coalitions_at_once, None, True
        self.chunk = AT_ONCE if self.device.type == "cuda" else MaskedForwards.chunk  # see there
        self.last_use = {source: number for number, step in enumerate(self.steps) for source in step.inputs}
        convs = sorted((conv for step in self.steps for conv in step.filters if conv), key=lambda conv: conv.players.start)
        counts = [conv.players.stop - conv.players.start for conv in convs]
        self.layers = np.repeat([conv.layer for conv in convs], counts).tolist()  # (n_filters,)
        self.channels = np.concatenate([np.arange(count) for count in counts]).tolist()
        self.low = torch.from_numpy(np.repeat([conv.low for conv in convs], counts)).float().to(self.device)
        self.raw, self.gate = np.empty((2, len(self.layers)), dtype=int)  # steps that give a filter's output, and remove it
        for number, step in enumerate(self.steps):
            for source, conv in zip(step.inputs, step.filters):
                if conv:
                    self.raw[conv.players], self.gate[conv.players] = source, number

    def see(self, images, fills):
        """Evaluate on `images` (B, 3, S, S), normalised, from now on. fills: (n_filters,) float32, a removed filter's output."""
        self.images, self.fills = images, fills.to(self.device)
        self.kept = {}  # by first image: the outputs of all steps for the coalition last seen, and that coalition
        if self.images_at_once is None:
            self._fit(len(images), _free_memory(self.device) // 2)

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
            if self.coalitions_at_once > 1:
                self.coalitions_at_once //= 2
            elif self.images_at_once > 1:
                self.images_at_once //= 2
                self.keeps_outputs = False  # or smaller parts would leave as much behind
            else:
                raise Stop("memory does not suffice to evaluate one image; give a smaller --IMAGE_SIZE")
            tqdm.write(f"Out of memory: going on with {self.coalitions_at_once} coalitions and {self.images_at_once} images "
                       "at once.", file=sys.stderr)

    @torch.no_grad()
    def mean_outputs(self, images):
        """Each filter's output, averaged over positions and summed over images (B, 3, S, S): (n_filters,) float64."""
        sums = torch.empty(len(self.layers), dtype=torch.float64, device=self.device)
        for step, value in zip(self.steps, forward(self.steps, images)):
            for conv, channels in zip(step.filters, step.channels):
                if conv:
                    sums[conv.players] = value[:, channels].mean((2, 3)).sum(0, dtype=torch.float64)
        return sums

    def first_order(self, keep, labels):
        """Margins on all images, and what each filter adds to them, to first order: one pass forward and one back.

        keep (n_filters,) bool, labels (B,) -> margins (B,) as in margins_of, changes (B, n_filters), float32: the
        gradient by a filter's output times what that is, or would be, above the fill, summed over positions.
        """
        keep = torch.from_numpy(keep).to(self.device)
        scale, offset = keep.float(), torch.where(keep, 0, self.fills)  # scale x output + offset: the output, or the fill
        parts = [self._first_order(scale, offset, *part) for part in zip(*(
            some.split(max(1, self.images_at_once // 4)) for some in (self.images, labels)))]  # gradients take memory too
        return tuple(map(torch.cat, zip(*parts)))

    @torch.enable_grad()
    def _first_order(self, scale, offset, images, labels):
        values, gates = [images], []  # of each gate: its filters and channels, outputs before removal, and after
        for step in self.steps[1:]:
            inputs = [values[source] for source in step.inputs]
            if step.run:
                values.append(step.run(*inputs))
                continue
            outputs, left = _removed(step, inputs, scale, offset)
            if not left.requires_grad:
                left.requires_grad_()
            gates.append((step, outputs.detach(), left))
            values.append(left)
        margins = margins_of(values[-1], labels)
        gradients = torch.autograd.grad(margins.sum(), [left for *_, left in gates], allow_unused=True)
        changes = images.new_zeros(len(images), len(scale))
        for (step, outputs, _), gradient in zip(gates, gradients):
            if gradient is not None:
                total, weighted = gradient.sum((2, 3)), (gradient * outputs).sum((2, 3))  # (B, channels)
                for conv, channels in zip(step.filters, step.channels):
                    if conv:
                        changes[:, conv.players] = weighted[:, channels] - total[:, channels] * self.fills[conv.players]
        return margins.detach(), changes

    def without(self, removed, fills):
        """The network with some filters removed, as a module: for attacks, or to be used as it is."""
        keep = torch.ones(len(self.layers), dtype=torch.bool, device=self.device)
        keep[torch.as_tensor(removed, dtype=torch.long, device=self.device)] = False
        return Removed(self.steps, keep, fills.to(self.device))

    def _fit(self, batch, free):
        """Set how many coalitions and images go at once, by the free bytes and the size of the steps' outputs."""
        sizes, cuda = [4 * math.prod(step.shape) for step in self.steps], self.device.type == "cuda"  # bytes, for one image
        if self.coalitions_at_once is None:
            fitting = min(AT_ONCE, free // (batch * self._peak(sizes)), 2**33 // (batch * max(sizes)))  # 2**31 numbers
            # A few at once gain less than what is shared with the coalition before.
            self.coalitions_at_once = fitting if cuda and fitting >= 8 else 1
        if self.coalitions_at_once > 1:
            self.images_at_once = batch
        else:
            self.images_at_once = max(1, min(batch, free // sum(sizes) if cuda else CACHE // max(sizes)))
        self.keeps_outputs = batch * sum(sizes) < free

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
        size = -(-len(self.images) // -(-len(self.images) // self.images_at_once))  # as equal as can be
        found = []
        for start in range(0, len(self.images), size):
            images = self.images[start:start + size]
            if self.coalitions_at_once > 1:
                rows = range(0, len(keep), self.coalitions_at_once)
                found.append(torch.cat([self._together(keep[row:row + self.coalitions_at_once], images) for row in rows]))
            else:
                outputs, last = self.kept.pop(start, ([images] + [None] * (len(self.steps) - 1), None))
                logits = [None] * len(keep)
                for row in sorted(range(len(keep)), key=lambda row: (~keep[row]).tobytes()):  # alike in front, side by side
                    logits[row] = self._next(outputs, last, keep[row])
                    last = keep[row]
                found.append(torch.stack(logits))
                if self.keeps_outputs:
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
        if last is None:
            lost, stale = np.zeros_like(keep), {0}
        else:  # stale: steps whose output is not that of `last`, or is needed anew
            lost, stale = last & ~keep, set(self.raw[keep & ~last].tolist())
        losing = set(self.gate[lost].tolist())
        low, high = self._limits(keep)
        for number, step in enumerate(self.steps[1:], 1):
            if step.run:
                if number in stale or not stale.isdisjoint(step.inputs):
                    outputs[number] = step.run(*(outputs[source] for source in step.inputs))
                    stale.add(number)
            elif number in losing or not stale.isdisjoint(step.inputs):
                for source, conv, channels in zip(step.inputs, step.filters, step.channels):
                    if source in stale:
                        raw = outputs[source]
                        if len(step.inputs) == 1:
                            outputs[number] = raw
                        elif outputs[number] is None:
                            outputs[number] = _empty(len(raw), step.shape, raw)
                        if conv:
                            torch.clamp(raw, low[conv.players], high[conv.players], out=outputs[number][:, channels])
                            outputs[source] = None  # nothing but the gate needs it
                        else:
                            outputs[number][:, channels] = raw
                    elif conv and lost[conv.players].any():  # the rest of this input is as it was
                        removed = torch.from_numpy(np.flatnonzero(lost[conv.players])).to(self.device)
                        outputs[number][:, channels][:, removed] = self.fills[conv.players][removed][:, None, None]
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
        masks = [[keep[t, conv.players].tobytes() for conv in step.filters if conv] for t in range(len(keep))]
        row, seen = _distinct((own[t], *masks[t]) for t in range(len(keep)))
        more = [t for t in seen if t not in set(first)]
        place = {t: number for number, t in enumerate(first + more)}
        batch = len(inputs[0]) // len(first)
        alone = len(inputs) == 1 and not more
        out = inputs[0] if alone else _empty(len(place) * batch, step.shape, inputs[0])
        for raw, conv, channels in zip(inputs, step.filters, step.channels):
            for start, chosen in ((0, first), (len(first), more)):
                if chosen:
                    part = _take(raw, [own[t] for t in chosen], batch).unflatten(0, (-1, batch))
                    target = out.unflatten(0, (-1, batch))[start:start + len(chosen), :, channels]
                    if conv:
                        limits = [limit[:, conv.players][chosen].unsqueeze(1) for limit in (low, high)]
                        torch.clamp(part, *limits, out=target)
                    else:
                        target.copy_(part)
        return [place[seen[number]] for number in row], out


class Removed(nn.Module):
    """A network cut into steps, some of its filters removed: images (B, 3, S, S), normalised -> logits (B, classes)."""

    def __init__(self, steps, keep, fills):
        super().__init__()
        self.steps, self.scale, self.offset = steps, keep.float(), torch.where(keep, 0, fills)

    def forward(self, images):
        values = [images]
        for step in self.steps[1:]:
            inputs = [values[source] for source in step.inputs]
            values.append(step.run(*inputs) if step.run else _removed(step, inputs, self.scale, self.offset)[1])
        return values[-1]


def _removed(step, inputs, scale, offset):
    """A gate's outputs, and what is left of them: scale x output + offset, (n_filters,) each; gradients pass through."""
    outputs = [relu(value) if conv and conv.low == 0 else value for conv, value in zip(step.filters, inputs)]
    outputs = torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]
    scales, offsets = outputs.new_ones(outputs.shape[1], 1, 1), outputs.new_zeros(outputs.shape[1], 1, 1)
    for conv, channels in zip(step.filters, step.channels):
        if conv:
            scales[channels, 0, 0], offsets[channels, 0, 0] = scale[conv.players], offset[conv.players]
    return outputs, torch.addcmul(offsets, outputs, scales)  # in one pass, and cheap to go back through


class MaskedForwards:
    """As Coalitions, for any network: a whole forward pass for each, a removed filter's conv giving its fill."""

    chunk = 8  # coalitions to ask for in a call; few, since along an order those behind the truncation are in vain

    def __init__(self, network, image_size):
        self.network, self.device = network, next(network.parameters()).device
        called, names = {}, {module: name for name, module in network.named_modules()}
        with _hooks(names, lambda module, outputs: called.update({module: None})):
            self._forward(torch.zeros((1, 3, image_size, image_size), device=self.device))
        *layers, _ = [module for module in called if isinstance(module, (nn.Conv2d, nn.Linear))]  # the last gives the logits
        self.players, start = {}, 0
        for conv in layers:
            if isinstance(conv, nn.Conv2d):
                self.players[conv] = slice(start, start := start + conv.out_channels)
        self.layers = [names[conv] for conv in self.players for _ in range(conv.out_channels)]
        self.channels = [channel for conv in self.players for channel in range(conv.out_channels)]

    def see(self, images, fills):
        self.images, self.fills = images, fills.to(self.device)

    def logits(self, keep):
        return torch.stack([self._logits(row) for row in np.asarray(keep)])

    def _logits(self, keep):
        def fill(conv, outputs):
            removed = torch.from_numpy(np.flatnonzero(~keep[self.players[conv]])).to(self.device)
            outputs[:, removed] = self.fills[self.players[conv]][removed][:, None, None]

        with _hooks(self.players, fill):
            return self._forward(self.images)

    def mean_outputs(self, images):
        means = {conv: [] for conv in self.players}  # of each of its calls
        with _hooks(self.players, lambda conv, outputs: means[conv].append(outputs.mean((2, 3)).sum(0, dtype=torch.float64))):
            self._forward(images)
        return torch.cat([torch.stack(calls).mean(0) for calls in means.values()])

    @torch.no_grad()
    def _forward(self, images):
        return self.network(images.contiguous())  # the network may take views of what it computes


@contextmanager
def _hooks(modules, act):
    """Call act(module, outputs) whenever one of `modules` has been called; it may change the outputs."""
    hooks = [module.register_forward_hook(lambda module, _, outputs: act(module, outputs)) for module in modules]
    try:
        yield
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
    """Bytes that can be had."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # PyTorch's own, for later use
        return torch.cuda.mem_get_info(device)[0] + idle
    try:
        with open("/proc/meminfo") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        return 4 * 2**30


def outputs(evaluator, fills, images, keep, told, bar, batch_size=250):
    """(T, n_filters) bool and (N, 3, S, S) uint8 -> (T, N): what `told` makes of the logits of all images.

    told: (T, B, classes) -> (T, B); bar: a tqdm bar, told how many images are done, those of each coalition.
    """
    found = []
    for batch in images.split(batch_size):
        evaluator.see(normalise(batch, evaluator.device), fills)
        found.append(told(evaluator.logits(keep)).cpu().numpy())
        bar.update(found[-1].size)
    return np.concatenate(found, 1)


def l2_norms(network, evaluator):
    """The L2 norm of each filter's weights, (n_filters,) float64."""
    convs = dict(network.named_modules())
    norms = {layer: convs[layer].weight.detach().flatten(1).norm(dim=1).double().cpu().numpy() for layer in set(evaluator.layers)}
    return np.array([norms[layer][channel] for layer, channel in zip(evaluator.layers, evaluator.channels)])


def male_margin(logits):
    """(..., classes) -> (...): the logit of "male" less that of "female"."""
    return logits[..., 1] - logits[..., 0]


def margins_of(logits, labels):
    """(..., B, classes) and (B,) -> (..., B): by how much the right class's logit exceeds all others'; above 0 is right."""
    right = labels[:, None] == torch.arange(logits.shape[-1], device=labels.device)  # (B, classes)
    others = logits.masked_fill(right, -torch.inf).amax(-1)
    return logits.gather(-1, labels.expand(logits.shape[:-1])[..., None]).squeeze(-1) - others


SOFTNESS = 0.5  # of the smooth measures: the logit difference over which right turns to wrong


def accuracy(margins, data):
    """Share of the images that are right; a tie is half right."""
    return (margins.sign() / 2 + 0.5).mean(-1)


def soft_accuracy(margins, data):
    """Accuracy with a sigmoid in place of the step from wrong to right."""
    return (margins / SOFTNESS).sigmoid().mean(-1)


def likelihood(margins, data):
    """Geometric mean of the probability of the right one of two classes (of more: of it and the best other), each at least 1 %."""
    return logsigmoid(margins).clamp_min(math.log(0.01)).mean(-1).exp()


def worst_group(margins, faces):
    """Soft accuracy of the group that fares worst."""
    return torch.stack([soft_accuracy(margins[..., faces.group == group], faces)
                        for group in faces.group.unique().tolist()]).amin(0)


RACES = list(dict.fromkeys(race for race, _ in GROUPS))


def auc(margins, faces, pairs=tuple(zip(RACES, RACES)), above=lambda margins: margins.sign() / 2 + 0.5):
    """AUC within race: the chance that a man looks more like one than a woman of his race; mean of the races.

    pairs: other pairs of races (of the men, of the women) to average over. In a large batch each face is compared with
    some 50 others, not with all: the same mean, at a cost that grows as the batch.
    """
    found = []
    for of_men, of_women in pairs:
        men, women = (margins[..., faces.group == GROUPS.index(group)] for group in ((of_men, "Male"), (of_women, "Female")))
        parts = -(-min(men.shape[-1], women.shape[-1]) // 50)
        blocks = zip(men.tensor_split(parts, -1), women.tensor_split(parts, -1))  # a woman's margin is that of "female"
        found.append(sum(above(some[..., :, None] + others[..., None, :]).mean((-2, -1)) for some, others in blocks) / parts)
    return torch.stack(found).mean(0)


def smooth_auc(margins, faces, pairs=tuple(zip(RACES, RACES))):
    """AUC within race with a sigmoid in place of the step."""
    return auc(margins, faces, pairs, lambda margins: (margins / SOFTNESS).sigmoid())


def smooth_auc_all(margins, faces):
    """As smooth_auc, men of each race against women of each: high if one threshold, wherever it is, serves all groups."""
    return smooth_auc(margins, faces, tuple((of_men, of_women) for of_men in RACES for of_women in RACES))


def attack(margins, data):
    """Attack success, the share of adversaries taken for their label, the attack's target, less the accuracy on clean images."""
    return accuracy(margins[..., data.group == ADVERSARY], data) - accuracy(margins[..., data.group == CLEAN], data)


OF_FACES = (worst_group, auc, smooth_auc, smooth_auc_all)  # measures that compare GROUPS
MEASURES = {measure.__name__: measure  # (T, B) margins, Images -> (T,) in [0, 1]; attack in [-1, 1]
            for measure in (accuracy, soft_accuracy, likelihood, attack, *OF_FACES)}


def value(evaluator, keep, data, measure):
    """V of T coalitions on the images that the evaluator sees: keep (T, n_filters) bool -> (T,) float64."""
    return MEASURES[measure](margins_of(evaluator.logits(keep), data.label), data).double().cpu().numpy()


def guess(evaluator, keep, data, measure):
    """The marginal of every filter at a coalition, to first order in the margins: keep (n_filters,) bool -> (n_filters,)."""
    margins, changes = evaluator.first_order(keep, data.label)
    sign = torch.from_numpy(np.where(keep, 1, -1)).to(margins.device)
    flipped = margins - sign[:, None] * changes.T  # (n_filters, B): when it is removed, or put back
    gained = torch.cat([MEASURES[measure](margins[None], data) - MEASURES[measure](some, data) for some in flipped.split(256)])
    return (sign * gained).double().cpu().numpy()


class BatchValue:
    """V(S) for mab.tmab_shapley: a measure on a batch of images, the same number from each group.

    Equal numbers leave a mean over images as it is in a set of equal groups, and lower its variance.
    """

    def __init__(self, evaluator, fills, data, images_per_round, measure):
        """measure: a name in MEASURES. Raises Stop on a number of images that cannot be."""
        groups = data.group.unique().tolist()
        if images_per_round < 1 or images_per_round % len(groups):
            raise Stop(f"IMAGES_PER_ROUND={images_per_round}: must be a multiple of {len(groups)}, the groups")
        self.evaluator, self.fills, self.measure = evaluator, fills, measure
        self.rows = [np.flatnonzero(data.group.numpy() == group) for group in groups]
        self.per_group = images_per_round // len(groups)
        if self.per_group > min(map(len, self.rows)):
            raise Stop(f"IMAGES_PER_ROUND={images_per_round} takes {self.per_group} images{' a group' * (len(groups) > 1)}, and there are only "
                       f"{min(map(len, self.rows))} for the values; give a smaller one")
        fits = data.images.numel() < _free_memory(evaluator.device) // 4
        self.data = data._replace(images=data.images.to(evaluator.device)) if fits else data  # uint8
        self.round_seed = None

    def __call__(self, keep, round_seed):
        """keep (T, n_filters) bool -> (T,) float64. One round_seed is one batch."""
        self._see(round_seed)
        return value(self.evaluator, keep, self.batch, self.measure)

    def guess(self, keep, round_seed):
        """A guess of the marginal of every filter at a coalition: keep (n_filters,) bool -> (n_filters,)."""
        self._see(round_seed)
        return guess(self.evaluator, keep, self.batch, self.measure)

    def _see(self, round_seed):
        """Draw the round's batch, unless it is drawn already."""
        if round_seed != self.round_seed:
            rng = np.random.default_rng(round_seed)
            rows = torch.from_numpy(np.concatenate([rng.choice(rows, self.per_group, replace=False) for rows in self.rows]))
            self.batch = Images(*(some[rows.to(some.device)].to(self.evaluator.device) for some in self.data))
            self.evaluator.see(normalise(self.batch.images, self.evaluator.device), self.fills)
            self.round_seed = round_seed


def fill_values(evaluator, data, removal, batch_size=8):
    """What a removed filter gives: (n_filters,) float32.

    "zero": 0. "mean": the filter's mean output over images and positions, where it is removed (the
    paper's choice for conv filters). Raises Stop on any other name.
    """
    if removal not in ("mean", "zero"):
        raise Stop(f"REMOVAL={removal}: must be mean or zero")
    sums = torch.zeros(len(evaluator.layers), dtype=torch.float64, device=evaluator.device)
    if removal == "mean":
        for start in range(0, len(data.label), batch_size):
            sums += evaluator.mean_outputs(normalise(data.images[start:start + batch_size], evaluator.device))
    return (sums / len(data.label)).float()
