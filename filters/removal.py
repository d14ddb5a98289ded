"""Removal of filters that gradients pass through: a network without them, and first-order changes.

A gate's output is scale x output + offset, (n_filters,) each: the output itself, or the fill.
"""

import torch
from torch import nn
from torch.nn.functional import relu

from filters.measures import class_margins


class Removed(nn.Module):
    """A network cut into steps without some filters, for attacks.

    It shares its operations with the steps: it stays on their device, and has no state of its own.

    Takes normalised images (B, 3, S, S) float32, gives logits (B, classes) float32.
    """

    def __init__(self, steps, keep, fills):
        """Args: steps: from graph.cut; keep: (n_filters,) bool; fills: (n_filters,) float32."""
        super().__init__()
        self.steps = steps
        self.scale, self.offset = keep.float(), torch.where(keep, 0, fills)

    def forward(self, images):
        """Logits of images."""
        values = [images]
        for step in self.steps[1:]:
            inputs = [values[source] for source in step.inputs]
            if step.run:
                values.append(step.run(*inputs))
            else:
                values.append(_close_gate(step, inputs, self.scale, self.offset)[1])
        return values[-1]


@torch.enable_grad()
def first_order_changes(steps, keep, fills, images, labels):
    """As Coalitions.first_order, on these images in one batch.

    changes_i = sum over positions of d margin / d a_i (a_i - fill_i), a_i the output of filter i.

    Args:
        steps: from graph.cut.
        keep: (n_filters,) bool tensor.
        fills: (n_filters,) float32.
        images: (B, 3, S, S) float32, normalised.
        labels: (B,) int64.
    """
    scale, offset = keep.float(), torch.where(keep, 0, fills)
    values, gates = [images], []  # of each gate: its step, outputs before removal, and after
    for step in steps[1:]:
        inputs = [values[source] for source in step.inputs]
        if step.run:
            values.append(step.run(*inputs))
            continue
        outputs, closed = _close_gate(step, inputs, scale, offset)
        if not closed.requires_grad:
            closed.requires_grad_()
        gates.append((step, outputs.detach(), closed))
        values.append(closed)
    margins = class_margins(values[-1], labels)
    closed_outputs = [closed for _, _, closed in gates]
    gradients = torch.autograd.grad(margins.sum(), closed_outputs, allow_unused=True)
    changes = images.new_zeros(len(images), len(scale))
    for (step, outputs, _), gradient in zip(gates, gradients):
        if gradient is None:
            continue
        total, weighted = gradient.sum((2, 3)), (gradient * outputs).sum((2, 3))  # (B, channels)
        for conv, channels in zip(step.filters, step.channels):
            if conv:
                below = total[:, channels] * fills[conv.players]
                changes[:, conv.players] = weighted[:, channels] - below
    return margins.detach(), changes


def _close_gate(step, inputs, scale, offset):
    """A gate's outputs before removal, and after: scale x output + offset."""
    outputs = []
    for conv, value in zip(step.filters, inputs):
        outputs.append(relu(value) if conv and conv.low == 0 else value)
    outputs = torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]
    scales = outputs.new_ones(outputs.shape[1], 1, 1)
    offsets = outputs.new_zeros(outputs.shape[1], 1, 1)
    for conv, channels in zip(step.filters, step.channels):
        if conv:
            scales[channels, 0, 0] = scale[conv.players]
            offsets[channels, 0, 0] = offset[conv.players]
    return outputs, torch.addcmul(
        offsets, outputs, scales
    )  # one pass, and cheap to go back through
