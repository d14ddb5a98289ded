"""The networks of the problems; any other that explain/decomposition.py can walk will do."""

from common.settings import InputError

import torch
from torch import nn


class ConvNet(nn.Module):
    """Two convs of 5 x 5 pixels with pooling, and two linear layers, as in the original's code."""

    def __init__(self, channels, size, classes, hidden=256):
        super().__init__()
        side = ((size - 4) // 2 - 4) // 2  # pixels a side behind the second pooling
        self.features = nn.Sequential(
            nn.Conv2d(channels, 20, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(50 * side**2, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def forward(self, images):
        """Images (B, C, S, S) -> logits (B, classes)."""
        return self.classifier(self.features(images))


class SmallConvNet(nn.Sequential):
    """Two convs of 3 x 3 pixels, one pooling, one linear layer: for images of 8 x 8 pixels."""

    def __init__(self, channels, size, classes):
        super().__init__(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * (size // 2) ** 2, classes),
        )


def make_mlp(inputs, classes, widths=(512, 512)):
    """Linear layers with ReLU: (B, ...) of `inputs` numbers -> (B, classes)."""
    pieces = [nn.Flatten()]
    for width in widths:
        pieces += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*pieces, nn.Linear(inputs, classes))


class WordNet(nn.Module):
    """An LSTM over words, whose last hidden state gives the logits."""

    def __init__(self, words, classes, size=64, hidden=64):
        super().__init__()
        self.embedding = nn.Embedding(words, size, padding_idx=0)
        self.lstm = nn.LSTM(size, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, words):
        """Words (B, T) int64, 0 before each sentence -> logits (B, classes)."""
        _, (hidden, _) = self.lstm(self.embedding(words))
        return self.head(hidden[-1])


def require_arch(arch, networks):
    """Raise InputError unless a problem has a network of this name. networks: {name: function}."""
    if arch not in networks:
        raise InputError(f"ARCH={arch}: must be {' or '.join(networks)} for this EXPERIMENT")


def seeded_network(make, seed):
    """A network with first weights of a seed."""
    torch.manual_seed(seed)
    return make()
