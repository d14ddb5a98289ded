"""Heat-maps of a network's answer, which can themselves be differentiated by its weights.

For an input x and its class c, the one with the highest logit f_c(x) (chosen once, held fixed):

    grad      d f_c / d x (Simonyan et al. 2014)
    xgrad     x * d f_c / d x (Shrikumar et al. 2017)
    intgrad   x * mean over n = 1..N of d f_c / d x at (n / N) x (Sundararajan et al. 2017)
    lrp       layer-wise relevance propagation (Bach et al. 2015) of a relevance of 1 of output c:
              R_i = sum_j a_i w+_ij R_j / sum_i a_i w+_ij (z+), in the first layer
              R_i = sum_j (x_i w_ij - l_i w+_ij - h_i w-_ij) R_j / (its sum over i) (z^B), where l
              and h are the lowest and highest values of an input (Montavon et al. 2017). Biases are
              left out, max-pooling hands all to the winner, activations hand on what they get

A heat-map is an attribution in absolute value, summed over channels, divided by its sum over
pixels (Anders et al. 2020). The second derivative of ReLU is 0 nearly everywhere, so training by a
heat-map of gradients needs Softplus in its place, see set_activations.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

from common.settings import InputError

import torch
from torch import nn

STEPS = 8  # N of integrated gradients
TINY = 1e-9  # beside a denominator; 1e-19 gives gradients that are not numbers
ACTIVATIONS = (nn.ReLU, nn.Softplus)  # never negative, as z+ needs
WITHOUT_EFFECT = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten)  # in eval mode


@dataclass(frozen=True)
class Explainer:
    """What heat-maps are computed with.

    Attributes:
        method: str, a key of METHODS.
        low: (C, 1, 1) tensor, the lowest value of an input's channel (l above).
        high: the same, the highest (h above).
        steps: int, of integrated gradients.
    """

    method: str
    low: torch.Tensor = torch.zeros(1, 1, 1)
    high: torch.Tensor = torch.ones(1, 1, 1)
    steps: int = STEPS

    def heatmap(self, network, inputs, project=None, differentiable=False, subset=None):
        """Heat-maps of the class that the network gives each input.

        Args:
            network: nn.Module, (B, C, H, W) -> (B, classes) logits; in eval mode.
            inputs: (B, C, H, W) floating point.
            project: a linear function on (B, C, H, W), such as explain.tangent's; None: none. Of
                xgrad the gradient is projected and then multiplied by the input, of other methods
                the attribution.
            differentiable: whether a loss of the heat-maps can be differentiated by the weights.
            subset: indices n from 1 to `steps` of integrated gradients to average over, a
                sequence; None: all. Random ones give an unbiased attribution at less cost.

        Returns:
            (heat-maps (B, H, W), each of sum 1, logits (B, classes)).
        """
        method = METHODS[self.method]
        inputs = inputs.detach()
        attribution, logits = method.attribute(self, network, inputs, differentiable, subset)
        if project is not None:
            attribution = project(attribution)
        if method.times_input:
            attribution = attribution * inputs
        return normalise_map(attribution), logits


@dataclass(frozen=True)
class Method:
    """A way to explain.

    attribute(explainer, network, inputs, differentiable, subset) -> (attribution as the inputs,
    logits). times_input: whether it is multiplied by the input afterwards.
    """

    attribute: Callable
    times_input: bool = False


def normalise_map(attribution):
    """(B, C, H, W) -> (B, H, W): absolute value, summed over channels, of sum 1.

    An attribution of 0 everywhere gives a map of 0.
    """
    absolute = attribution.abs().sum(1)
    return absolute / absolute.sum((1, 2), keepdim=True).clamp_min(1e-30)


def set_activations(network, beta=None):
    """Replace each ReLU and Softplus of a network, in place.

    Args:
        network: nn.Module.
        beta: float, of Softplus, log(1 + exp(beta x)) / beta; None: ReLU, its limit.

    Returns:
        The network.
    """
    for name, module in list(network.named_modules()):
        if isinstance(module, ACTIVATIONS):
            parent, _, last = name.rpartition(".")
            new = nn.ReLU() if beta is None else nn.Softplus(beta)
            setattr(network.get_submodule(parent), last, new)
    return network


# ----------------------------------------------------------------------------- gradients


def _sum_of_answers(logits, classes=None):
    """The sum over a batch of the logits of the given classes, or of the highest ones."""
    classes = logits.argmax(1) if classes is None else classes
    return logits.gather(1, classes[:, None]).sum()


def gradient(explainer, network, inputs, differentiable, subset):
    """The gradient of the highest logit, (B, C, H, W), and the logits."""
    inputs = inputs.clone().requires_grad_()
    with torch.enable_grad():
        logits = network(inputs)
        answer = _sum_of_answers(logits)
        (attribution,) = torch.autograd.grad(answer, inputs, create_graph=differentiable)
    return attribution, logits if differentiable else logits.detach()


def integrated_gradient(explainer, network, inputs, differentiable, subset):
    """Integrated gradients from an input of 0 by a right Riemann sum, and the logits."""
    with torch.set_grad_enabled(differentiable):
        logits = network(inputs)
    classes, total = logits.argmax(1), 0
    numbers = range(1, explainer.steps + 1) if subset is None else subset
    for number in numbers:
        scaled = (inputs * (number / explainer.steps)).requires_grad_()
        with torch.enable_grad():
            answer = _sum_of_answers(network(scaled), classes)
            (slope,) = torch.autograd.grad(answer, scaled, create_graph=differentiable)
        total = total + slope
    return inputs * total / len(numbers), logits


# ----------------------------------------------------------------------------- relevance


class _Relay(torch.autograd.Function):
    """Gives a layer's output; its gradient is what a rule makes of the relevance of the output.

    The rule reads the layer's input from another forward pass, whose gradients are the true ones.
    So relevance can be differentiated through the inputs of all layers.
    """

    @staticmethod
    def forward(ctx, inputs, output, rule):
        ctx.rule = rule
        return output.detach().clone()

    @staticmethod
    def backward(ctx, relevance):
        return ctx.rule(relevance), None, None


def propagate(explainer, network, inputs, differentiable, subset):
    """Relevance of the inputs for the highest logit, (B, C, H, W), and the logits.

    Raises:
        InputError: the network has layers that no rule here is for.
    """
    layers = [module for module in network.modules() if not list(module.children())]
    calls, first = {layer: [] for layer in layers}, []
    handles = []

    def keep(layer, arguments, output):
        if not first and isinstance(layer, (nn.Conv2d, nn.Linear)):
            first.append(layer)
        calls[layer].append((arguments[0], output))

    for layer in layers:
        handles.append(layer.register_forward_hook(keep))
    try:
        with torch.set_grad_enabled(differentiable):
            logits = network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    source = inputs.clone().requires_grad_()
    start = torch.zeros_like(logits).scatter(1, logits.argmax(1, keepdim=True), 1)
    with _relayed(calls, first[0], explainer), torch.enable_grad():
        output = network(source)
        relevance = torch.autograd.grad(output, source, start, create_graph=differentiable)[0]
    return relevance if differentiable else relevance.detach(), logits


@contextmanager
def _relayed(calls, first, explainer):
    """Let each layer give what it gave before, and pass relevance on by its rule."""

    def relay(layer):
        remaining = iter(calls[layer])

        def forward(values):
            layer_input, output = next(remaining)
            return _Relay.apply(values, output, _rule_of(layer, layer_input, first, explainer))

        return forward

    relayed = [layer for layer, kept in calls.items() if kept]
    try:
        for layer in relayed:
            layer.forward = relay(layer)
        yield
    finally:
        for layer in relayed:
            layer.__dict__.pop("forward", None)  # the class's own is there again


def _rule_of(layer, inputs, first, explainer):
    """A function from the relevance of a layer's output to that of its inputs."""
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        if layer is first:
            return lambda relevance: _pass_box(layer, inputs, relevance, explainer)
        return lambda relevance: _pass_plus(layer, inputs, relevance)
    if isinstance(layer, (*ACTIVATIONS, *WITHOUT_EFFECT)):
        return lambda relevance: relevance.reshape(inputs.shape)
    if isinstance(layer, (nn.MaxPool2d, nn.AdaptiveMaxPool2d)):
        return lambda relevance: _transpose(layer.__class__.forward, layer, inputs, relevance)
    if isinstance(layer, (nn.AvgPool2d, nn.AdaptiveAvgPool2d)):
        return lambda relevance: _pass_average(layer, inputs, relevance)
    raise InputError(
        f"lrp has no rule for the layer {type(layer).__name__}; give another method, or a network "
        "of convolutions, dense layers, ReLU and pooling"
    )


def _transpose(function, layer, inputs, relevance):
    """The derivative of function(layer, inputs) by the inputs, transposed, times `relevance`."""
    leaf = inputs.detach().requires_grad_()
    with torch.enable_grad():
        output = function(layer, leaf)
    return torch.autograd.grad(output, leaf, relevance, create_graph=relevance.requires_grad)[0]


def _pass_average(layer, inputs, relevance):
    """In proportion to what each input contributes to the mean."""
    forward = layer.__class__.forward
    share = relevance / (forward(layer, inputs) + TINY)
    return inputs * _transpose(forward, layer, inputs, share)


def _linear(layer, values, weight):
    """A convolution or dense layer with another weight and without bias."""
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(values, weight)
    return layer._conv_forward(values, weight, None)


def _linear_back(layer, shape, weight, share):
    """The transpose of _linear: from the shape of its outputs to `shape`, that of its inputs."""
    if isinstance(layer, nn.Linear):
        return share @ weight
    options = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return nn.grad.conv2d_input(shape, weight, share, *options)


def _pass_plus(layer, inputs, relevance):
    """The rule z+."""
    weight = layer.weight.clamp_min(0)
    share = relevance / (_linear(layer, inputs, weight) + TINY)
    return inputs * _linear_back(layer, inputs.shape, weight, share)


def _pass_box(layer, inputs, relevance, explainer):
    """The rule z^B. Its denominator is a sum of terms that are not negative."""
    low, high = explainer.low.to(inputs), explainer.high.to(inputs)
    weights = (layer.weight, layer.weight.clamp_min(0), layer.weight.clamp_max(0))
    corners = (inputs, low.expand_as(inputs), high.expand_as(inputs))
    signs = (1, -1, -1)
    total = 0
    for sign, values, weight in zip(signs, corners, weights):
        total = total + sign * _linear(layer, values, weight)
    share, passed = relevance / (total + TINY), 0
    for sign, values, weight in zip(signs, corners, weights):
        passed = passed + sign * values * _linear_back(layer, inputs.shape, weight, share)
    return passed


METHODS = {  # name -> Method. A new one is a function and one more line
    "grad": Method(gradient),
    "xgrad": Method(gradient, times_input=True),
    "intgrad": Method(integrated_gradient),
    "lrp": Method(propagate),
}
