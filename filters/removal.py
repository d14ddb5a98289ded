"""Removal of filters that gradients pass through: a network without them, and first-order changes.

A gate's output is scale x output + offset, (n_filters,) each: the output itself, or the fill.
"""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.functional import linear, relu

from filters.measures import class_margins

TINY = 1e-9  # beside a denominator


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


@contextmanager
def relevance_rule(steps):
    """Let gradients of steps be relevance divided by the output, as long as the block runs.

    So gradient x output is the relevance R of layer-wise relevance propagation (Bach et al. 2015),
    by the rule z+, without biases, in all layers but the last, the head, and by the rule 0 there:

        R_i = sum_j (a_i w_ij)+ R_j / sum_i (a_i w_ij)+        (the head: without the plus signs)

    What layers give stays as it was, as a multiple of the sum of their positive contributions by a
    factor of which no gradient is taken (Montavon et al. 2019).

    Args:
        steps: from graph.cut. Additions pass relevance on in proportion to what they add.
    """
    layers = []
    for step in steps:
        for node in step.run.graph.nodes if step.run else ():
            layer = step.run.get_submodule(node.target) if node.op == "call_module" else None
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layers.append(layer)
    handles = [layer.register_forward_hook(_pass_plus) for layer in layers[:-1]]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _pass_plus(layer, arguments, output):
    """The output of a layer as it was, with the gradient of the rule z+; a forward hook."""
    inputs, weight = arguments[0], layer.weight.detach()
    positive = _without_bias(layer, inputs.clamp_min(0), weight.clamp_min(0))
    if (inputs < 0).any():  # not behind a ReLU
        positive = positive + _without_bias(layer, inputs.clamp_max(0), weight.clamp_max(0))
    scaled = positive * (output / (positive + TINY)).detach()
    return scaled + (output - scaled).detach()  # of a bias alone the first is 0


def _without_bias(layer, inputs, weight):
    """A convolution or dense layer with another weight, and without its bias."""
    if isinstance(layer, nn.Linear):
        return linear(inputs, weight)
    return layer._conv_forward(inputs, weight, None)


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
