"""Parts of a forward pass, the rules that split them, and one function for each operation."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

TINY = 1e-10  # added to |R| + |I|; with 1e-19, gradients would be NaN where both are 0


class Parts(NamedTuple):
    """The pairs of a forward pass, or of the logits."""

    relevant: torch.Tensor  # (M, B, ...), a row for each mask
    total: torch.Tensor  # (B, ...)

    @property
    def rest(self):
        """What the masks do not select contributes, (M, B, ...)."""
        return self.total - self.relevant


def centre(logits):
    """Logits less their mean over the classes, the last axis."""
    return logits - logits.mean(-1, keepdim=True)


def centred_square(parts):
    """The square of r less its mean over classes: the mean over rows, the sum over masks, a scalar.

    A shift of all logits costs nothing and changes no answer, and r cannot become less than 0.
    """
    return centre(parts.relevant).square().sum(-1).mean(1).sum()


class Affine(NamedTuple):
    """The output of a layer before its bias is shared: batch norm may still scale it."""

    relevant: torch.Tensor  # (M, B, ...), W r
    total: torch.Tensor  # (B, ...), W t
    bias: torch.Tensor  # broadcasts to total


# ----------------------------------------------------------------------------- rules


def _alone(function, relevant, total):
    """f(r) - f(0): what the part gives by itself."""
    return function(relevant) - function(torch.zeros_like(total))


def _last(function, relevant, total):
    """f(t) - f(t - r): what the part adds when it comes last."""
    return function(total) - function(total - relevant)


def _mean_order(function, relevant, total):
    """The mean of both: the Shapley value of the part in the game of two players."""
    return (_alone(function, relevant, total) + _last(function, relevant, total)) / 2


class Rule(NamedTuple):
    """How nonlinear functions and products are split.

    Attributes:
        activation: function (f, r (M, B, ...), t (B, ...)) -> (M, B, ...).
        gate: the same, for an LSTM's gates and tanh.
        interaction: the share of r1 i2 + i1 r2 in a product that is the part's.
        splits_output_gate: whether an LSTM's output gate is split as well; the published rule
            only splits what it multiplies.
    """

    activation: Callable
    gate: Callable
    interaction: float
    splits_output_gate: bool


RULES = {  # name -> Rule. A new one is one more line
    "cd": Rule(_alone, _mean_order, 0.0, False),
    "shapley": Rule(_mean_order, _mean_order, 0.5, True),
    "last": Rule(_last, _last, 1.0, True),
}


# ----------------------------------------------------------------------------- operations


def _together(function, relevant):
    """Apply a function of (N, ...) to the rows of all masks at once: (M, B, ...)."""
    return function(relevant.flatten(0, 1)).unflatten(0, relevant.shape[:2])


def linear(function, parts, *arguments, **options):
    """A linear operation without a bias, mask by mask: it may name the size of the batch."""
    rows = [function(row, *arguments, **options) for row in parts.relevant]
    return Parts(torch.stack(rows), function(parts.total, *arguments, **options))


def share_bias(affine, is_whole):
    """Parts of a layer's output: the bias is shared as |R| to |I|, elementwise.

    is_whole: (M, B) bool, whether a mask leaves no rest. The bias is then the part's, also where
    |R| and |I| are 0.
    """
    relevant, total, bias = affine
    size, rest = relevant.abs(), (total - relevant).abs()
    whole = is_whole.view(*is_whole.shape, *[1] * (relevant.dim() - 2))
    share = torch.where(whole, 1.0, size / (size + rest + TINY))
    return Parts(relevant + bias * share, total + bias)


def layer(module, parts):
    """A conv or linear layer, as an Affine."""
    bias = module.bias
    if isinstance(module, nn.Linear):

        def apply(values):
            return functional.linear(values, module.weight)

    else:

        def apply(values):
            return module._conv_forward(values, module.weight, None)

    total = apply(parts.total)
    if bias is None:
        bias = total.new_zeros(len(module.weight))
    if not isinstance(module, nn.Linear):
        bias = bias.view(-1, *[1] * (total.dim() - 2))
    return Affine(_together(apply, parts.relevant), total, bias)


def batch_norm(module, value, is_whole):
    """Batch norm, folded into the layer before it: scale and shift, then the bias is shared."""
    relevant, total = value[:2]
    bias = value.bias if isinstance(value, Affine) else torch.zeros_like(total[:1])
    shape = (-1, *[1] * (total.dim() - 2))
    mean, variance = module.running_mean, module.running_var
    if module.training or mean is None:
        seen, axes = total + bias, [0, *range(2, total.dim())]
        mean, variance = seen.mean(axes), seen.var(axes, unbiased=False)
        with torch.no_grad():
            module(seen)  # for its running statistics
    scale = torch.rsqrt(variance + module.eps)
    shift = -mean * scale
    if module.affine:
        scale, shift = scale * module.weight, shift * module.weight + module.bias
    scale, shift = scale.view(shape), shift.view(shape)
    affine = Affine(relevant * scale, total * scale, bias * scale + shift)
    return share_bias(affine, is_whole)


def max_pool(pool, parts, *arguments, **options):
    """Maximum over the last two axes: both parts are taken where the total is largest."""
    total, places = pool(parts.total, *arguments, **options, return_indices=True)
    places = places.flatten(-2).expand(len(parts.relevant), *places.flatten(-2).shape)
    relevant = parts.relevant.flatten(-2).gather(-1, places)
    return Parts(relevant.unflatten(-1, total.shape[-2:]), total)


def max_pool_module(module, parts):
    """max_pool as a module."""
    if isinstance(module, nn.AdaptiveMaxPool2d):
        return max_pool(functional.adaptive_max_pool2d, parts, module.output_size)
    sizes = (module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
    return max_pool(functional.max_pool2d, parts, *sizes)


def dropout(dropout, parts, *arguments, **options):
    """One mask for the total and for each relevant part."""
    options.pop("inplace", None)
    kept = dropout(torch.ones_like(parts.total), *arguments, **options)
    return Parts(parts.relevant * kept, parts.total * kept)


def embedding(module, parts):
    """Of integer inputs, relevant holds the mask itself until here: (M, B, T)."""
    total = module(parts.total)
    return Parts(parts.relevant.unsqueeze(-1) * total, total)


def add(first, second, is_whole):
    """The sum of two Parts; or of Parts and a constant, which is shared as a bias."""
    if isinstance(first, Parts) and isinstance(second, Parts):
        return Parts(first.relevant + second.relevant, first.total + second.total)
    parts, bias = (first, second) if isinstance(first, Parts) else (second, first)
    return share_bias(Affine(*parts, torch.as_tensor(bias).to(parts.total)), is_whole)


def multiply(rule, first, second):
    """The product of two Parts, or of Parts and a constant."""
    if not isinstance(first, Parts) or not isinstance(second, Parts):
        parts, factor = (first, second) if isinstance(first, Parts) else (second, first)
        return Parts(parts.relevant * factor, parts.total * factor)
    mixed = first.relevant * second.rest + first.rest * second.relevant
    relevant = first.relevant * second.relevant + rule.interaction * mixed
    return Parts(relevant, first.total * second.total)


def cat(parts, dim=0):
    """torch.cat of several Parts. dim: of the total."""
    dims = dim if dim < 0 else dim + 1  # relevant has one more axis in front
    relevant = torch.cat([part.relevant for part in parts], dims)
    return Parts(relevant, torch.cat([part.total for part in parts], dim))
