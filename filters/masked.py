"""Coalitions of any network: a whole forward pass for each, with hooks that remove filters."""

from contextlib import contextmanager

from common.settings import InputError

import numpy as np
import torch
from torch import nn

# Coalitions to ask for in a call. Few, since those past the truncation are wasted.
COALITIONS_A_CALL = 8


class MaskedForwards:
    """As coalitions.Coalitions, for any network. A removed filter's conv gives its fill.

    It has no first_order and no without.
    """

    is_cut = False
    chunk = COALITIONS_A_CALL

    def __init__(self, network, image_size):
        """Args: network: nn.Module in eval mode; image_size: int, pixels."""
        self.network, self.device = network, next(network.parameters()).device
        called, names = {}, {module: name for name, module in network.named_modules()}
        with _hooks(names, lambda module, outputs: called.update({module: None})):
            self._forward(torch.zeros((1, 3, image_size, image_size), device=self.device))
        layers = [module for module in called if isinstance(module, (nn.Conv2d, nn.Linear))]
        self.players, start = {}, 0
        for conv in layers[:-1]:  # the last gives the logits
            if isinstance(conv, nn.Conv2d):
                self.players[conv] = slice(start, start + conv.out_channels)
                start += conv.out_channels
        if not self.players:
            raise InputError(
                f"{type(network).__name__} has no conv filters but its head's, so there is nothing "
                "to value; give another network"
            )
        self.layers, self.channels = [], []
        for conv in self.players:
            self.layers += [names[conv]] * conv.out_channels
            self.channels += range(conv.out_channels)

    def see(self, images, fills):
        """As Coalitions.see."""
        self.images, self.fills = images, fills.to(self.device)

    def logits(self, keep):
        """As Coalitions.logits."""
        return torch.stack([self._logits(row) for row in np.asarray(keep)])

    def _logits(self, keep):
        def fill(conv, outputs):
            removed = torch.from_numpy(np.flatnonzero(~keep[self.players[conv]])).to(self.device)
            outputs[:, removed] = self.fills[self.players[conv]][removed][:, None, None]

        with _hooks(self.players, fill):
            return self._forward(self.images)

    def mean_outputs(self, images):
        """As Coalitions.mean_outputs; of a conv that is called twice, the mean of its calls."""
        means = {conv: [] for conv in self.players}

        def add_mean(conv, outputs):
            means[conv].append(outputs.mean((2, 3)).sum(0, dtype=torch.float64))

        with _hooks(self.players, add_mean):
            self._forward(images)
        return torch.cat([torch.stack(calls).mean(0) for calls in means.values()])

    @torch.no_grad()
    def _forward(self, images):
        return self.network(images.contiguous())  # the network may take views of what it computes


@contextmanager
def _hooks(modules, act):
    """Call act(module, outputs) when one of `modules` was called; it may change the outputs."""

    def hook(module, _, outputs):
        act(module, outputs)

    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
