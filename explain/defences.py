"""Other defences against a false explanation than projection, and a check of explanations.

    smooth      SmoothGrad (Smilkov et al. 2017): the mean attribution over COPIES of the image with
                noise, of a standard deviation of NOISE times the span from black to white
    ensemble    the mean of the heat-maps of all methods (Rieger & Hansen 2020)
    randomised  a check (Adebayo et al. 2018): with the weights of the last layer drawn anew, the
                explanation of what a network has learnt must change

Each is a function (explainer, network, inputs, seed) -> heat-maps (B, H, W) of sum 1, of the class
that the network gives each input. explainer: explain.heatmaps.Explainer; network: nn.Module in eval
mode, (B, C, H, W) -> (B, classes) logits; inputs: (B, C, H, W) floating point; seed: int.
"""

import copy
from dataclasses import replace

import torch
from torch import nn

from explain.heatmaps import METHODS, normalise_map

COPIES = 16  # noisy images
NOISE = 0.15  # of the span from black to white; the paper recommends 0.1 to 0.2


class _OneAnswer(nn.Module):
    """A network that gives the logit of one class an input only, (B, 1)."""

    def __init__(self, network, classes):
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, inputs):
        return self.network(inputs).gather(1, self.classes[:, None])


@torch.no_grad()
def _classes_of(network, inputs):
    return network(inputs).argmax(1)


def smooth_map(explainer, network, inputs, seed):
    """SmoothGrad of the class without noise. All images get the same COPIES noises."""
    method, span = METHODS[explainer.method], explainer.high - explainer.low
    answer, total = _OneAnswer(network, _classes_of(network, inputs)), 0
    generator = torch.Generator().manual_seed(seed)
    for _ in range(COPIES):
        noisy = inputs + NOISE * span * torch.randn(inputs.shape[1:], generator=generator)
        attribution, _ = method.attribute(explainer, answer, noisy, False, None)
        total = total + (attribution * noisy if method.times_input else attribution)
    return normalise_map(total)


def ensemble_map(explainer, network, inputs, seed):
    """The mean of the heat-maps of all methods."""
    total = 0
    for name in METHODS:
        total = total + replace(explainer, method=name).heatmap(network, inputs)[0]
    return total / len(METHODS)


def randomise_last(network, seed):
    """A copy of a network whose last dense layer has weights drawn anew, of the same spread."""
    copied, generator = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    last = [module for module in copied.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        noise = torch.randn(last.weight.shape, generator=generator)
        last.weight.copy_(last.weight.mean() + last.weight.std() * noise)
    return copied


def randomised_map(explainer, network, inputs, seed):
    """The heat-map of the class that it was, once the last layer is drawn anew."""
    answer = _OneAnswer(randomise_last(network, seed), _classes_of(network, inputs))
    return explainer.heatmap(answer, inputs)[0]


DEFENCES = {  # name -> function. A new one is a function and one more line
    "smooth": smooth_map,
    "ensemble": ensemble_map,
    "randomised": randomised_map,
}
