"""Ways to train a network not to use what is masked: a penalty beside the cross-entropy.

A method is a function (Batch) -> (logits (B, classes), penalty, a scalar). The loss is the
cross-entropy plus lambda times the penalty. A new one is one more function and one more entry of
METHODS. Penalties are means over the batch and sums over masks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.functional import softmax, softplus

from explain.decomposition import Decomposer
from explain.parts import centred_square


@dataclass
class Batch:
    """What a penalty sees.

    Attributes:
        network: nn.Module.
        decompose: Decomposer of it.
        rule: str, one of explain.decomposition.RULES, for the methods that need one.
        inputs: (B, ...).
        label: (B,) int64.
        masks: (M, B or 1, ...) bool, True where an input must not be used.
        generator: torch.Generator, for methods that draw.
    """

    network: nn.Module
    decompose: Decomposer
    rule: str
    inputs: torch.Tensor
    label: torch.Tensor
    masks: torch.Tensor
    generator: torch.Generator

    def split(self, n):
        """The first n rows, and the others: two Batches."""
        pieces = []
        for rows in (slice(n), slice(n, None)):
            masks = self.masks if self.masks.shape[1] == 1 else self.masks[:, rows]
            taken = {"inputs": self.inputs[rows], "label": self.label[rows], "masks": masks}
            pieces.append(replace(self, **taken))
        return pieces


def vanilla(batch):
    """No penalty."""
    return batch.network(batch.inputs), torch.zeros(())


# ----------------------------------------------------------------------------- decomposition


def published(batch):
    """softmax([r, rest])[r], the mean over classes and images, by the published rule `cd`.

    An image whose mask is empty counts as 0: there r is 0, and the softmax of the rest alone.
    Of words, -log softmax([r, rest])[rest] of the true class, as in the original's code.
    """
    parts = batch.decompose(batch.inputs, batch.masks, "cd")
    if not batch.inputs.is_floating_point():
        margin = (parts.relevant - parts.rest)[:, torch.arange(len(batch.label)), batch.label]
        return parts.total, softplus(margin).mean(1).sum()
    masked = batch.masks.flatten(2).any(-1)[..., None]
    share = softmax(torch.stack([parts.relevant, parts.rest]), 0)[0] * masked
    return parts.total, share.mean((1, 2)).sum()


def centred(batch):
    """The square of r less its mean over classes, by the batch's rule."""
    parts = batch.decompose(batch.inputs, batch.masks, batch.rule)
    return parts.total, centred_square(parts)


# ----------------------------------------------------------------------------- gradients


def log_likelihood(logits, label):
    """The log-probability of the true class, (B,)."""
    return logits.log_softmax(1).gather(1, label[:, None])[:, 0]


def margin(logits, label):
    """The true class's logit less the log-sum-exp of the others: does not saturate. (B,)."""
    own = logits.gather(1, label[:, None])
    rest = logits.scatter(1, label[:, None], -torch.inf)
    return own[:, 0] - rest.logsumexp(1)


def probability(logits, label):
    """The probability of the true class, (B,)."""
    return log_likelihood(logits, label).exp()


class _Watched:
    """A network's float inputs, or the vectors of its words, kept so that gradients reach them."""

    def __init__(self, network, change=None):
        self.network, self.change = network, change or (lambda values: values)
        self.values = None

    def __call__(self, inputs):
        """Logits. Afterwards `values` is what a gradient is taken of."""
        if inputs.is_floating_point():
            self.values = self.change(inputs).detach().requires_grad_()
            return self.network(self.values)
        embedding = next(part for part in self.network.modules() if isinstance(part, nn.Embedding))
        handle = embedding.register_forward_hook(self._keep)
        try:
            return self.network(inputs)
        finally:
            handle.remove()

    def _keep(self, module, inputs, output):
        self.values = self.change(output)
        if not self.values.requires_grad:
            self.values.requires_grad_()
        return self.values


def input_gradient(network, inputs, label, score, change=None, create_graph=True):
    """The gradient of a score with respect to the inputs, or to the vectors of words.

    Returns:
        logits (B, classes), gradient and the values it was taken at, both as the inputs; of words
        (B, T, size).
    """
    watched = _Watched(network, change)
    logits = watched(inputs)
    scores = score(logits, label).sum()
    (gradient,) = torch.autograd.grad(scores, watched.values, create_graph=create_graph)
    return logits, gradient, watched.values


def masked_sum(values, masks, inputs):
    """Sums over what each mask selects: values as input_gradient's -> (M, B)."""
    if values.dim() > inputs.dim():  # vectors of words
        masks = masks.unsqueeze(-1)
    return (values * masks).flatten(2).sum(-1)


def rrr(batch, score=log_likelihood):
    """The squared gradient on the masked inputs (Ross et al. 2017, of the loss of the label)."""
    logits, gradient, _ = input_gradient(batch.network, batch.inputs, batch.label, score)
    return logits, masked_sum(gradient.square(), batch.masks, batch.inputs).mean(1).sum()


def rrr_margin(batch):
    """The same for the margin, whose gradient does not vanish where the network is sure."""
    return rrr(batch, margin)


def expected_gradients(batch):
    """|Expected gradients| of the probability on the masked inputs, one reference an image.

    (x - x') times the gradient at x' + a (x - x'), with a from [0, 1] and x' another image of the
    batch (Erion et al. 2019). With one reference the logits need a pass of their own.
    """
    order = torch.randperm(len(batch.label), generator=batch.generator)
    share = torch.rand(len(batch.label), generator=batch.generator)
    kept = {}

    def between(values):
        kept["difference"] = values - values[order]
        return values[order] + share.view(-1, *[1] * (values.dim() - 1)) * kept["difference"]

    _, gradient, _ = input_gradient(batch.network, batch.inputs, batch.label, probability, between)
    attribution = (gradient * kept["difference"]).abs()
    logits = batch.network(batch.inputs)
    return logits, masked_sum(attribution, batch.masks, batch.inputs).mean(1).sum()


# ----------------------------------------------------------------------------- registry


@dataclass(frozen=True)
class Method:
    """A way to train.

    Attributes:
        penalty: function (Batch) -> (logits, penalty).
        label: str, what pages call it.
        has_strength: bool, whether there is a lambda.
        rule: str, the rule of its decomposition; "" if it has none.
        erases: bool, whether the network never sees the decoy, in training and after: a ceiling.
    """

    penalty: Callable
    label: str
    has_strength: bool = True
    rule: str = ""
    erases: bool = False


METHODS = {  # name -> Method. A new one is one function and one line
    "vanilla": Method(vanilla, "no penalty", False),
    "cdep": Method(published, "CDEP as published", rule="cd"),
    "cdep_centred": Method(centred, "centred square, rule shapley", rule="shapley"),
    "cdep_last": Method(centred, "centred square, rule last", rule="last"),
    "rrr": Method(rrr, "RRR, gradient of the loss"),
    "rrr_margin": Method(rrr_margin, "RRR, gradient of the margin"),
    "expected_gradients": Method(expected_gradients, "expected gradients"),
    "erased": Method(vanilla, "decoy erased: the ceiling", False, erases=True),
}
