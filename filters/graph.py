"""A network cut into steps at its filters.

A filter is an output channel of a conv layer. The outputs of the last layer are the class logits,
not filters. squeezenet1_1 has 2,944 filters, squeezenet1_0 2,976, inception_v3 17,216.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from common.settings import InputError

import numpy as np
import torch
from torch import nn
from torch.fx.experimental.optimization import fuse
from torch.nn.functional import relu

IN_PLACE_OPERATORS = ("add", "sub", "mul", "truediv")
OUT_OF_PLACE = {
    getattr(operator, f"i{name}"): getattr(operator, name) for name in IN_PLACE_OPERATORS
}


class ConvFilters(NamedTuple):
    """All filters of a conv layer."""

    layer: str  # the conv's name in the network
    players: slice  # their numbers
    low: float  # their lowest possible output: 0 behind a ReLU, else -inf


@dataclass
class Step:
    """A value between images and logits: an operation's output, or a gate.

    A gate is where filters are removed. It stands behind a conv, its batch norm and its ReLU, and
    takes the place of the torch.cat of several convs.
    """

    inputs: tuple[int, ...]  # the steps whose outputs it takes; none for the images
    run: Callable | None = None  # of an operation: (B, ...) tensors, one an input -> (B, ...)
    # of a gate, one an input: the filters whose raw output it is; None: not a conv's
    filters: tuple[ConvFilters | None, ...] = ()
    channels: tuple[slice, ...] = ()  # of a gate, one an input: its channels in the output
    shape: tuple[int, ...] = ()  # of the output, for one image


def cut(network, image_size):
    """Cut a network in eval mode into steps, by tracing it with torch.fx.

    Batch norms are folded into convs. Filters are numbered in the order in which their convs are
    called.

    Args:
        network: nn.Module, images (B, 3, S, S) -> logits (B, classes).
        image_size: int, S in pixels.

    Returns:
        A list of Step. The first stands for the images, the last gives the logits.

    Raises:
        ValueError: the network cannot be cut so, or the steps do not give its logits.
        InputError: its outputs are not finite.
    """
    traced = _trace(network).requires_grad_(False)
    steps = _Cutter(traced).cut()
    _measure(steps, network, image_size)
    return steps


def run_steps(steps, images):
    """Outputs of all steps with every filter at work: images (B, 3, S, S) -> list of tensors."""
    values = [images]
    for step in steps[1:]:
        inputs = [values[number] for number in step.inputs]
        values.append(step.run(*inputs) if step.run else _open_gate(step, inputs))
    return values


def _open_gate(step, inputs):
    outputs = []
    for value, conv in zip(inputs, step.filters):
        outputs.append(value.clamp_min(conv.low) if conv else value)
    return torch.cat(outputs, 1)


class _Cutter:
    """Turns the nodes of a traced network into steps, in their order."""

    def __init__(self, traced):
        self.traced = traced
        self.modules, self.nodes = dict(traced.named_modules()), list(traced.graph.nodes)
        layers = [node for node in self.nodes if self._is_layer(node, nn.Conv2d, nn.Linear)]
        self.head = layers[-1]  # its outputs are the logits
        self.steps = []
        self.chains = {}  # by number of a step: an operation's nodes, one after the other
        self.number = {}  # by node: the step that gives its output
        self.waiting = {}  # by node: ConvFilters that wait for their gate
        self.n_filters = 0

    def cut(self):
        for node in self.nodes:
            if node.op == "placeholder":
                self.number[node] = len(self.steps)
                self.steps.append(Step(()))
            elif _is_cat(node) and self._takes_filters(node):
                self._add_gate(node, node.args[0])
            elif node not in self.number and node.op != "output":  # else a ReLU in its conv's gate
                self._add_operation(node)
                if self._is_layer(node, nn.Conv2d) and node is not self.head:
                    self._add_filters(node)
        if not self.n_filters:
            raise ValueError("it has no convs but its head")
        for step, chain in self.chains.items():
            self.steps[step].run = _as_function(self.traced, chain)
        return self.steps

    def _add_operation(self, node):
        sources = node.all_input_nodes
        chain = self.chains.get(self.number[sources[0]])
        if chain and sources == chain[-1:] and _only_user(chain[-1]):
            chain.append(node)  # nothing else needs what it starts from
            self.number[node] = self.number[sources[0]]
        else:
            self.number[node] = len(self.steps)
            self.chains[len(self.steps)] = [node]
            self.steps.append(Step(tuple(self.number[source] for source in sources)))

    def _add_filters(self, node):
        """Number the filters of a conv, and add their gate if it is not that of a torch.cat."""
        user = _only_user(node)
        rectified = bool(user) and self._is_relu(user)
        last = user if rectified else node
        channels = self.modules[node.target].out_channels
        players = slice(self.n_filters, self.n_filters + channels)
        self.waiting[last] = ConvFilters(node.target, players, 0.0 if rectified else -math.inf)
        self.n_filters = players.stop
        self.number[last] = self.number[node]
        user = _only_user(last)
        if not (user and _is_cat(user) and list(user.args[0]).count(last) == 1):
            self._add_gate(last, [last])

    def _add_gate(self, node, sources):
        inputs = tuple(self.number[source] for source in sources)
        filters = tuple(self.waiting.pop(source, None) for source in sources)
        self.number[node] = len(self.steps)
        self.steps.append(Step(inputs, filters=filters))

    def _takes_filters(self, node):
        return any(source in self.waiting for source in node.all_input_nodes)

    def _is_layer(self, node, *kinds):
        return node.op == "call_module" and isinstance(self.modules[node.target], kinds)

    def _is_relu(self, node):
        calls = (("call_function", relu), ("call_function", torch.relu), ("call_method", "relu"))
        return self._is_layer(node, nn.ReLU) or (node.op, node.target) in calls


def _is_cat(node):
    """Whether a node is torch.cat along the channels."""
    return node.target is torch.cat and (*node.args[1:], *node.kwargs.values()) == (1,)


def _only_user(node):
    return next(iter(node.users)) if len(node.users) == 1 else None


def _trace(network):
    """The network as a torch.fx.GraphModule that calls a conv once and changes nothing in place."""
    try:
        traced = fuse(network).eval().to(memory_format=torch.channels_last)
    except Exception as error:  # torch.fx raises a dozen kinds
        reason = str(error).partition("\n")[0]
        raise ValueError(f"torch.fx cannot trace it ({reason})") from None
    modules = dict(traced.named_modules())
    for module in modules.values():
        if hasattr(module, "inplace"):  # outputs of steps are kept, and must not change
            module.inplace = False
    convs = []
    for node in traced.graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], nn.Conv2d):
            convs.append(node.target)
        _make_out_of_place(node)
        if node.op not in ("placeholder", "output") and not node.all_input_nodes:
            raise ValueError(f"{node.name} depends on no image")
    if not convs:
        raise ValueError("it has no convs")
    if len(convs) > len(set(convs)):
        raise ValueError("a conv is called more than once")
    if sum(node.op == "placeholder" for node in traced.graph.nodes) > 1:
        raise ValueError("it takes more than images")
    return traced


def _make_out_of_place(node):
    """Replace an operation that works in place. Raises ValueError where that is not possible."""
    if node.op == "call_method" and node.target == "view":  # outputs may not be contiguous
        node.target = "reshape"
    node.target = OUT_OF_PLACE.get(node.target, node.target)
    node.kwargs = {name: value for name, value in node.kwargs.items() if name != "inplace"}
    called = node.op in ("call_function", "call_method")
    if called and getattr(node.target, "__name__", node.target).endswith("_"):
        raise ValueError(f"{node.target} works in place")


def _as_function(traced, nodes):
    """A chain of a traced network's nodes as a function of the inputs of the first one."""
    graph = torch.fx.Graph()
    copies = {source: graph.placeholder(source.name) for source in nodes[0].all_input_nodes}
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[nodes[-1]])
    return torch.fx.GraphModule(traced, graph)


def _measure(steps, network, image_size):
    """Fill in the shapes of the steps' outputs; raise ValueError unless they give the logits."""
    noise = torch.Generator().manual_seed(0)
    images = 3 * torch.randn((2, 3, image_size, image_size), generator=noise)
    device = next(network.parameters()).device
    images = images.to(device, memory_format=torch.channels_last)
    mistakes = (ValueError, TypeError, AttributeError, IndexError, AssertionError)
    try:
        with torch.no_grad():
            values, expected = run_steps(steps, images), network(images)
        if not torch.isfinite(expected).all():
            raise InputError("the network's outputs are not finite (NaN, Inf); give other weights")
        for step, value in zip(steps, values):
            ends = np.cumsum([0] + [values[source].shape[1] for source in step.inputs]).tolist()
            step.shape = tuple(value.shape[1:])
            step.channels = tuple(map(slice, ends, ends[1:]))
            if len(value) != len(images):
                raise ValueError("the first axis of a step's output is not the images")
        tolerance = 1e-3 * expected.abs().max().item()
        torch.testing.assert_close(values[-1], expected, rtol=1e-3, atol=tolerance)
    except mistakes as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"its steps do not give its logits ({reason})") from None
