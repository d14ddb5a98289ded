"""Coalitions of filters: the logits of a network with any of its filters removed.

A coalition is a row `keep` of n_filters booleans. True: the filter works. False: it is removed, and
its output behind batch norm and ReLU is one constant at every position, its fill.
"""

import math
import sys

from common.settings import InputError

import numpy as np
import torch
from tqdm import tqdm

from filters.graph import cut, run_steps
from filters.masked import COALITIONS_A_CALL, MaskedForwards
from filters.removal import Removed, first_order_changes
from filters.together import empty_output, run_together

AT_ONCE = 32  # coalitions that a GPU evaluates at once, if its memory allows
CACHE = 32 * 2**20  # bytes of a step's output above which a CPU takes fewer images at a time
LARGEST_OUTPUT = 2**33  # bytes; CUDA kernels index 2**31 numbers


def make_evaluator(network, image_size):
    """Coalitions; or MaskedForwards, with a line on stderr, for a network that cannot be cut.

    Raises:
        InputError: the network has no conv filters, or none behind its patch embedding.
    """
    evaluator = _make_evaluator(network, image_size)
    _refuse_patches(network, evaluator.layers)
    return evaluator


def _refuse_patches(network, layers):
    """Raise InputError if the only conv cuts images into patches, as a transformer's does."""
    conv = network.get_submodule(layers[0])
    if set(layers) == {layers[0]} and conv.stride == conv.kernel_size != (1, 1):
        raise InputError(
            f"{type(network).__name__} has no conv filters behind its patch embedding {layers[0]}: "
            "attention and linear layers have none. Give a convolutional network as --ARCH"
        )


def _make_evaluator(network, image_size):
    try:
        return Coalitions(network, image_size)
    except ValueError as error:
        print(
            f"{type(network).__name__} takes a whole forward pass for each coalition, and loses "
            f"filters at their conv's output: {error}",
            file=sys.stderr,
        )
        return MaskedForwards(network, image_size)


class Coalitions:
    """The logits of a network on one batch of images, with any filters removed.

    Removing filters changes nothing in front of them, so coalitions share all steps in front of
    the first in which they differ. On a CPU they are evaluated one after the other, each from
    where it differs from the one before: nothing is copied, and activations stay in the cache. On
    a GPU many are evaluated at once, each distinct output of a step once, in batches that fill the
    device.

    Attributes:
        is_cut: True: first_order and without work, unlike in MaskedForwards.
        layers: list of n_filters str, the conv of each filter.
        channels: list of n_filters int, its output channel there.
        chunk: coalitions to ask for in a call.
    """

    is_cut = True

    def __init__(self, network, image_size, coalitions_at_once=None):
        """Cut the network.

        Args:
            network: nn.Module in eval mode, images (B, 3, S, S) -> logits (B, classes).
            image_size: int, S in pixels.
            coalitions_at_once: int; None: 1 on a CPU, and what memory allows on a GPU.

        Raises:
            ValueError: the network cannot be cut (see graph.cut).
        """
        self.steps = cut(network, image_size)
        self.device = next(network.parameters()).device
        self.coalitions_at_once, self.images_at_once = coalitions_at_once, None
        self.keeps_outputs = True
        self.chunk = AT_ONCE if self.device.type == "cuda" else COALITIONS_A_CALL
        self.last_use = {}  # by step: the last step that takes its output
        for number, step in enumerate(self.steps):
            self.last_use.update(dict.fromkeys(step.inputs, number))
        convs = [conv for step in self.steps for conv in step.filters if conv]
        convs.sort(key=lambda conv: conv.players.start)
        counts = [conv.players.stop - conv.players.start for conv in convs]
        self.layers = np.repeat([conv.layer for conv in convs], counts).tolist()
        self.channels = np.concatenate([np.arange(count) for count in counts]).tolist()
        low = np.repeat([conv.low for conv in convs], counts)
        self.low = torch.from_numpy(low).float().to(self.device)  # (n_filters,)
        # steps that give a filter's output, and that remove it
        self.raw, self.gate = np.empty((2, len(self.layers)), dtype=int)
        for number, step in enumerate(self.steps):
            for source, conv in zip(step.inputs, step.filters):
                if conv:
                    self.raw[conv.players], self.gate[conv.players] = source, number

    def see(self, images, fills):
        """Evaluate on these images from now on.

        Args:
            images: (B, 3, S, S) float32, normalised, on the network's device.
            fills: (n_filters,) float32, the output of each filter when it is removed.
        """
        self.images, self.fills = images, fills.to(self.device)
        self.kept = {}  # by first image: outputs of all steps for the last coalition, and that
        if self.images_at_once is None:
            self._fit(len(images), free_memory(self.device) // 2)

    @torch.no_grad()
    def logits(self, keep):
        """Logits of coalitions: keep (T, n_filters) bool -> (T, B, classes) float32.

        Raises:
            InputError: memory does not suffice for one image.
        """
        return self._in_memory(lambda: self._logits(np.asarray(keep)))

    @torch.no_grad()
    def mean_outputs(self, images):
        """Outputs averaged over positions and summed over images: (n_filters,) float64."""
        return self._sums(run_steps(self.steps, images))

    @torch.no_grad()
    def mean_changes(self, images, changed):
        """By how much outputs differ between images and changed ones, (B, 3, S, S) each.

        Absolute differences averaged over positions and summed over images: (n_filters,) float64.
        """
        pairs = zip(run_steps(self.steps, images), run_steps(self.steps, changed))
        return self._sums((before - after).abs() for before, after in pairs)

    @torch.no_grad()
    def change_map(self, number, images, changed):
        """Where a filter's output differs between images and changed ones: (h, w) float32 array.

        Absolute differences averaged over images. number: int, of the filter.
        """
        gate = self.gate[number]
        before, after = (run_steps(self.steps, batch)[gate] for batch in (images, changed))
        for conv, channels in zip(self.steps[gate].filters, self.steps[gate].channels):
            if conv and conv.players.start <= number < conv.players.stop:
                change = (before - after)[:, channels][:, number - conv.players.start]
                return change.abs().mean(0).cpu().numpy()

    def _sums(self, outputs):
        """Means over positions, summed over images, of the outputs of all steps: (n_filters,)."""
        sums = torch.empty(len(self.layers), dtype=torch.float64, device=self.device)
        for step, value in zip(self.steps, outputs):
            for conv, channels in zip(step.filters, step.channels):
                if conv:
                    means = value[:, channels].mean((2, 3))
                    sums[conv.players] = means.sum(0, dtype=torch.float64)
        return sums

    def first_order(self, keep, labels):
        """Margins of the images seen, and what each filter adds to them to first order.

        One pass forward and one back.

        Args:
            keep: (n_filters,) bool, the coalition.
            labels: (B,) int64, class indices.

        Returns:
            margins (B,) float32, as class_margins, and changes (B, n_filters) float32: the
            gradient by a filter's output times what that is, or would be, above the fill, summed
            over positions.

        Raises:
            InputError: memory does not suffice for one image.
        """
        keep = torch.from_numpy(keep).to(self.device)
        return self._in_memory(lambda: self._first_order(keep, labels))

    def _first_order(self, keep, labels):
        size = max(1, self.images_at_once // 4)  # gradients take memory too
        margins, changes = [], []
        for images, part in zip(self.images.split(size), labels.split(size)):
            result = first_order_changes(self.steps, keep, self.fills, images, part)
            margins.append(result[0])
            changes.append(result[1])
        return torch.cat(margins), torch.cat(changes)

    def without(self, removed, fills):
        """The network without some filters as a Removed module. removed: their numbers, ints."""
        keep = torch.ones(len(self.layers), dtype=torch.bool, device=self.device)
        keep[torch.as_tensor(removed, dtype=torch.long, device=self.device)] = False
        return Removed(self.steps, keep, fills.to(self.device))

    def _fit(self, batch, free):
        """Set how many coalitions and images go at once.

        Args:
            batch: int, images of a batch.
            free: int, bytes that may be used.
        """
        sizes = [4 * math.prod(step.shape) for step in self.steps]  # bytes, for one image
        cuda = self.device.type == "cuda"
        if self.coalitions_at_once is None:
            in_memory = free // (batch * self._peak(sizes))
            fitting = min(AT_ONCE, in_memory, LARGEST_OUTPUT // (batch * max(sizes)))
            # A few at once gain less than what is shared with the coalition before.
            self.coalitions_at_once = fitting if cuda and fitting >= 8 else 1
        if self.coalitions_at_once > 1:
            self.images_at_once = batch
        else:
            fitting = free // sum(sizes) if cuda else CACHE // max(sizes)
            self.images_at_once = max(1, min(batch, fitting))
        self.keeps_outputs = batch * sum(sizes) < free

    def _peak(self, sizes):
        """The most bytes alive at once if each output goes with its last use."""
        peak = alive = sizes[0]
        for number, step in enumerate(self.steps[1:], 1):
            alive += sizes[number]
            peak = max(peak, alive)
            finished = {source for source in step.inputs if self.last_use[source] == number}
            alive -= sum(sizes[source] for source in finished)
        return peak

    def _in_memory(self, compute):
        """What compute() returns, with less at once each time that memory does not suffice."""
        while True:
            try:
                return compute()
            except RuntimeError as error:
                out_of_memory = isinstance(error, torch.OutOfMemoryError)
                if not out_of_memory and "can't allocate memory" not in str(error):
                    raise
            self._shrink()  # only here: the error held tensors too

    def _shrink(self):
        """Take less at once after running out of memory. Raises InputError at one image."""
        self.kept.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.coalitions_at_once > 1:
            self.coalitions_at_once //= 2
        elif self.images_at_once > 1:
            self.images_at_once //= 2
            self.keeps_outputs = False  # or smaller parts would keep as much
        else:
            raise InputError(
                "memory does not suffice to evaluate one image; give a smaller --IMAGE_SIZE"
            )
        tqdm.write(
            f"Out of memory: going on with {self.coalitions_at_once} coalitions and "
            f"{self.images_at_once} images at once.",
            file=sys.stderr,
        )

    def _logits(self, keep):
        n_parts = -(-len(self.images) // self.images_at_once)
        size = -(-len(self.images) // n_parts)  # parts as equal as can be
        logits = []
        for start in range(0, len(self.images), size):
            images = self.images[start : start + size]
            if self.coalitions_at_once > 1:
                rows = range(0, len(keep), self.coalitions_at_once)
                parts = [keep[row : row + self.coalitions_at_once] for row in rows]
                logits.append(torch.cat([self._together(part, images) for part in parts]))
            else:
                logits.append(self._one_by_one(keep, images, start))
        return torch.cat(logits, 1)

    def _limits(self, keep):
        """Limits between which torch.clamp is both ReLU and removal.

        keep (..., n_filters) bool -> lowest and highest outputs, (..., n_filters, 1, 1) each: both
        the fill where a filter is removed.
        """
        keep = torch.from_numpy(keep).to(self.device)
        low, high = (
            torch.where(keep, limit, self.fills)
            for limit in (self.low, torch.full_like(self.low, torch.inf))
        )
        return low[..., None, None], high[..., None, None]

    def _together(self, keep, images):
        return run_together(self.steps, self.last_use, keep, images, self._limits(keep))

    def _one_by_one(self, keep, images, start):
        """Logits (T, B, classes) of one coalition after the other, similar ones side by side."""
        nothing_yet = ([images] + [None] * (len(self.steps) - 1), None)
        outputs, last = self.kept.pop(start, nothing_yet)
        logits = [None] * len(keep)
        for row in sorted(range(len(keep)), key=lambda row: (~keep[row]).tobytes()):
            logits[row] = self._next(outputs, last, keep[row])
            last = keep[row]
        if self.keeps_outputs:
            self.kept[start] = outputs, last.copy()
        return torch.stack(logits)

    def _next(self, outputs, last, keep):
        """Turn the outputs of all steps from coalition `last` into those of `keep`.

        Args:
            outputs: list of tensors, one a step, changed in place; None where not computed.
            last: (n_filters,) bool; None: nothing is computed yet.
            keep: (n_filters,) bool.

        Returns:
            The logits, (B, classes).
        """
        if last is None:
            lost, stale = np.zeros_like(keep), {0}
        else:  # stale: steps whose output is not that of `last`, or is needed again
            lost, stale = last & ~keep, set(self.raw[keep & ~last].tolist())
        losing = set(self.gate[lost].tolist())
        limits = self._limits(keep)
        for number, step in enumerate(self.steps[1:], 1):
            stale_input = not stale.isdisjoint(step.inputs)
            if step.run:
                if number in stale or stale_input:
                    outputs[number] = step.run(*(outputs[source] for source in step.inputs))
                    stale.add(number)
            elif number in losing or stale_input:
                self._update_gate(number, outputs, stale, lost, limits)
                stale.add(number)
        return outputs[-1]

    def _update_gate(self, number, outputs, stale, lost, limits):
        """Write a gate's output anew where an input is stale, and fills where filters are lost."""
        step = self.steps[number]
        for source, conv, channels in zip(step.inputs, step.filters, step.channels):
            if source in stale:
                raw = outputs[source]
                if len(step.inputs) == 1:
                    outputs[number] = raw
                elif outputs[number] is None:
                    outputs[number] = empty_output(len(raw), step.shape, raw)
                output = outputs[number][:, channels]
                if conv:
                    torch.clamp(raw, *(limit[conv.players] for limit in limits), out=output)
                    outputs[source] = None  # only the gate needs it
                else:
                    outputs[number][:, channels] = raw
            elif conv and lost[conv.players].any():  # the rest of this input is unchanged
                removed = torch.from_numpy(np.flatnonzero(lost[conv.players])).to(self.device)
                fills = self.fills[conv.players][removed][:, None, None]
                outputs[number][:, channels][:, removed] = fills


def free_memory(device):
    """Bytes of memory that can still be used on a torch.device."""
    if device.type == "cuda":
        # memory that PyTorch has reserved and does not use
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    try:
        with open("/proc/meminfo") as file:
            line = next(line for line in file if line.startswith("MemAvailable"))
            return int(line.split()[1]) * 1024
    except (OSError, StopIteration):  # not Linux
        return 4 * 2**30
