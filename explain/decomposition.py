"""Contextual decomposition (CD): what a part of an input contributes to each logit.

A forward pass carries pairs (r, t): the total t is what the network computes, r is what the masked
part of the input contributes; the rest is t - r. So relevant and rest add up to the logits, and
several masks share one total. Layer by layer:

    convolution, linear   R = W r, I = W (t - r), r' = R + b |R| / (|R| + |I|), elementwise. Where
                          both are 0, the bias b belongs to the rest, if the mask leaves any.
                          Batch norm is folded in
    nonlinear function f  by one of RULES:
        cd       r' = f(r) - f(0)                          the published rule (Rieger et al. 2020)
        shapley  r' = 1/2 [f(r) - f(0) + f(t) - f(t - r)]  the Shapley value of two players
        last     r' = f(t) - f(t - r)                      what is lost without the part
    max pooling           r and t are both taken where t is largest
    products              r1 r2 + w (r1 i2 + i1 r2), with the weight w of the rule: 0, 1/2 or 1
    all else              is linear, and works on r as on t; dropout has one mask for both

An LSTM's gates are functions of relevant, rest and bias (Murdoch et al. 2018), see recurrent.py.
Everything is differentiable, so that r can be penalised. Training works on the logits `total` of
the same pass, which saw the same dropout and the same batch statistics.
"""

import operator

import torch
from torch import fx, nn
from torch.nn import functional

from explain import parts as split
from explain.parts import RULES, Parts
from explain.recurrent import split_lstm

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
POOLS = (nn.MaxPool2d, nn.AdaptiveMaxPool2d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
LINEAR_MODULES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity, nn.ZeroPad2d)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Softplus)
ACTIVATIONS += (nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.Hardsigmoid)
ACTIVATION_FUNCTIONS = {functional.relu, torch.relu, torch.tanh, torch.sigmoid, functional.relu6}
ACTIVATION_FUNCTIONS |= {functional.softplus, functional.leaky_relu, functional.silu}
LINEAR_FUNCTIONS = {torch.flatten, torch.mean, functional.avg_pool2d, operator.getitem}
LINEAR_FUNCTIONS |= {functional.adaptive_avg_pool2d, torch.unsqueeze, torch.squeeze, operator.neg}
POOL_FUNCTIONS = {functional.max_pool2d, torch.max_pool2d, functional.adaptive_max_pool2d}
LINEAR_METHODS = {"view", "reshape", "flatten", "mean", "contiguous", "squeeze", "unsqueeze", "sum"}
LINEAR_METHODS |= {"permute", "transpose"}
ADDITIONS = {operator.add, operator.iadd, torch.add}
PRODUCTS = {operator.mul, operator.imul, torch.mul}
SHAPES = {"size", "dim", "shape"}


class Decomposer:
    """Contextual decomposition of a network, which torch.fx must be able to trace.

    Args:
        network: nn.Module, inputs (B, ...) -> logits (B, classes). Not copied: gradients reach its
            parameters, and its mode (train or eval) is that of each call.

    Raises:
        ValueError: it cannot be traced.
    """

    def __init__(self, network):
        self.network, self.modules = network, dict(network.named_modules())
        self.graphs = {}  # by mode: dropout as a function has the mode of its tracing
        self._graph()

    def _graph(self):
        mode = self.network.training
        if mode not in self.graphs:
            try:
                self.graphs[mode] = fx.Tracer().trace(self.network)
            except Exception as error:  # torch.fx raises a dozen kinds
                reason = str(error).partition("\n")[0]
                raise ValueError(f"torch.fx cannot trace it ({reason})") from None
        return self.graphs[mode]

    def __call__(self, inputs, masks, rule="shapley"):
        """Split the logits.

        Args:
            inputs: (B, ...) floating point; or (B, T) int64, places in an nn.Embedding.
            masks: (M, B or 1, ...) bool or floating point, 1 where an input is relevant; axes of
                length 1 stand for all. Without the first axis: one mask.
            rule: str, one of RULES.

        Returns:
            Parts of the logits: relevant (M, B, classes) and total (B, classes).

        Raises:
            ValueError: the network has an operation without a rule here.
        """
        if masks.dim() == inputs.dim():
            masks = masks.unsqueeze(0)
        if inputs.is_floating_point():
            start = Parts(masks.to(inputs) * inputs, inputs)
        else:
            shape = (len(masks), *inputs.shape)
            start = Parts(masks.expand(shape).to(next(self.network.parameters())), inputs)
        is_whole = masks.bool().flatten(2).all(-1).expand(start.relevant.shape[:2])
        values = {}
        for node in self._graph().nodes:
            arguments = fx.node.map_arg(node.args, values.__getitem__)
            options = fx.node.map_arg(node.kwargs, values.__getitem__)
            if node.op == "placeholder":
                values[node] = start
            elif node.op == "output":
                return arguments[0]
            elif node.op == "get_attr":
                values[node] = operator.attrgetter(node.target)(self.network)
            elif node.op == "call_module":
                values[node] = self._run_layer(node, RULES[rule], arguments[0], is_whole)
            elif not _has_parts(node.target, arguments):  # of shapes, and of an LSTM's outputs
                values[node] = _call(node)(*arguments, **options)
            elif node.op == "call_method":
                values[node] = _run_method(
                    node.target, RULES[rule], is_whole, *arguments, **options
                )
            else:
                values[node] = _run_function(
                    node.target, RULES[rule], is_whole, *arguments, **options
                )

    def _run_layer(self, node, rule, value, is_whole):
        module = self.modules[node.target]
        if isinstance(module, NORMS):
            return split.batch_norm(module, value, is_whole)
        if not isinstance(module, LAYERS):
            return _run_module(module, rule, value)
        affine, users = split.layer(module, value), list(node.users)
        if len(users) == 1 and isinstance(self.modules.get(users[0].target), NORMS):
            return affine  # its batch norm is folded in
        return split.share_bias(affine, is_whole)


def _has_parts(target, arguments):
    """Whether a call is on Parts: they are among the arguments, or in a list (of torch.cat)."""
    first = arguments[0] if arguments else None
    values = list(arguments)
    if isinstance(first, (list, tuple)) and not isinstance(first, Parts):
        if target is operator.getitem:  # of an LSTM's several outputs
            return False
        values += first
    return any(isinstance(value, Parts) for value in values)


def _call(node):
    return node.target if node.op == "call_function" else operator.methodcaller(node.target)


def _run_module(module, rule, parts):
    if isinstance(module, ACTIVATIONS):
        function = _out_of_place(module)
        return Parts(rule.activation(function, *parts), function(parts.total))
    if isinstance(module, POOLS):
        return split.max_pool_module(module, parts)
    if isinstance(module, DROPOUTS):
        return split.dropout(module, parts)
    if isinstance(module, LINEAR_MODULES):
        relevant = torch.stack([module(row) for row in parts.relevant])
        return Parts(relevant, module(parts.total))
    if isinstance(module, nn.Embedding):
        return split.embedding(module, parts)
    if isinstance(module, nn.LSTM):
        return split_lstm(module, rule, parts)
    raise ValueError(f"contextual decomposition has no rule for {type(module).__name__}")


def _out_of_place(module):
    """An activation that leaves its input as it is."""
    if not getattr(module, "inplace", False):
        return module
    return lambda values: module(values.clone())


def _run_function(function, rule, is_whole, *arguments, **options):
    if function in ADDITIONS:
        return split.add(*arguments, is_whole)
    if function in PRODUCTS:
        return split.multiply(rule, *arguments)
    if function is operator.truediv and not isinstance(arguments[1], Parts):
        return split.multiply(rule, arguments[0], 1 / arguments[1])
    if function is operator.sub:
        return split.add(arguments[0], split.multiply(rule, arguments[1], -1), is_whole)
    if function is torch.cat:
        return split.cat(*arguments, **options)
    if function in ACTIVATION_FUNCTIONS:
        options.pop("inplace", None)

        def activation(values):
            return function(values, *arguments[1:], **options)

        return Parts(rule.activation(activation, *arguments[0]), activation(arguments[0].total))
    if function in POOL_FUNCTIONS:
        is_adaptive = function is functional.adaptive_max_pool2d
        pool = functional.adaptive_max_pool2d if is_adaptive else functional.max_pool2d
        options.pop("return_indices", None)
        return split.max_pool(pool, *arguments, **options)
    if function is functional.dropout:
        return split.dropout(function, *arguments, **options)
    if function in LINEAR_FUNCTIONS:
        return split.linear(function, *arguments, **options)
    if function is getattr and arguments[1] in SHAPES:
        return getattr(arguments[0].total, arguments[1])
    raise ValueError(f"contextual decomposition has no rule for {function.__name__}")


def _run_method(name, rule, is_whole, parts, *arguments, **options):
    if name in SHAPES:
        return getattr(parts.total, name)(*arguments, **options)
    if name in ("relu", "tanh", "sigmoid"):
        return _run_function(getattr(torch, name), rule, is_whole, parts)
    if name in ("add", "add_", "mul", "mul_"):
        operation = getattr(operator, name.rstrip("_"))
        return _run_function(operation, rule, is_whole, parts, *arguments)
    if name in LINEAR_METHODS:
        name = "reshape" if name == "view" else name  # parts may not be contiguous
        return split.linear(getattr(torch.Tensor, name), parts, *arguments, **options)
    raise ValueError(f"contextual decomposition has no rule for the method {name}")
