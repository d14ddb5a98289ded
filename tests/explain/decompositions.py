"""Slow decompositions, straight from the formulas, and the networks that they are tried on."""

import itertools

import numpy as np
import torch
from torch import nn

TINY = 1e-10


class Convs(nn.Module):
    """A small ConvNet with functions in place of modules, as in the original's code."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3, padding=1)
        self.hidden, self.head = nn.Linear(4 * 2 * 2, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.first(x)), 2, 2)
        x = nn.functional.max_pool2d(nn.functional.relu(self.second(x)), 2)
        x = x.view(x.size(0), -1)
        return self.head(self.hidden(x).relu())


class Words(nn.Module):
    """An LSTM over words."""

    def __init__(self, words=9, size=4):
        super().__init__()
        self.embedding = nn.Embedding(words, 3)
        self.lstm = nn.LSTM(3, size, batch_first=True)
        self.head = nn.Linear(size, 2)

    def forward(self, words):
        _, (hidden, _) = self.lstm(self.embedding(words))
        return self.head(hidden[-1])


def mlp(*sizes, bias=True, act=nn.ReLU):
    """Linear layers with activations between."""
    pieces = []
    for inputs, outputs in itertools.pairwise(sizes):
        pieces += [nn.Linear(inputs, outputs, bias=bias), act()]
    return nn.Sequential(*pieces[:-1])


# ----------------------------------------------------------------------------- the published rule


def _affine(relevant, rest, weight, bias):
    """Both parts of W x + b as lists of numbers."""
    pairs = []
    for row, shift in zip(weight, bias):
        part = sum(w * r for w, r in zip(row, relevant))
        other = sum(w * r for w, r in zip(row, rest))
        size = abs(part) + abs(other)
        share = abs(part) / size if size > TINY else 0.0
        pairs.append((part + share * shift, other + (1 - share) * shift))
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _rectify(relevant, rest):
    parts = [max(r, 0.0) for r in relevant]
    totals = [max(r + i, 0.0) for r, i in zip(relevant, rest)]
    return parts, [total - part for total, part in zip(totals, parts)]


def _convolve(relevant, rest, conv):
    """A 3 x 3 conv pixel by pixel. relevant, rest: (C, H, W) arrays."""
    weight, bias = (values.detach().numpy() for values in (conv.weight, conv.bias))
    pad = conv.padding[0]
    around = ((0, 0), (pad, pad), (pad, pad))
    relevant, rest = np.pad(relevant, around), np.pad(rest, around)
    height, width = relevant.shape[1] - 2, relevant.shape[2] - 2
    outputs = np.zeros((2, len(weight), height, width))
    for row, column in np.ndindex(height, width):
        window = np.s_[:, row : row + 3, column : column + 3]
        pieces = (relevant[window].ravel(), rest[window].ravel())
        outputs[:, :, row, column] = _affine(*pieces, weight.reshape(len(weight), -1), bias)
    return outputs


def _pool(relevant, rest):
    """2 x 2 maximum of relevant + rest, window by window."""
    channels, height, width = relevant.shape
    outputs = np.zeros((2, channels, height // 2, width // 2))
    for channel, row, column in np.ndindex(outputs.shape[1:]):
        window = np.s_[channel, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        place = (relevant[window] + rest[window]).argmax()
        outputs[:, channel, row, column] = relevant[window].flat[place], rest[window].flat[place]
    return outputs


def published_convs(network, image, mask):
    """CD of Convs for one image (1, H, W): relevant and rest, a pair of 3 numbers."""
    parts = image * mask, image * (1 - mask)
    for conv in (network.first, network.second):
        convolved = _convolve(*parts, conv)
        shape = convolved[0].shape
        rectified = _rectify(*(values.ravel().tolist() for values in convolved))
        parts = _pool(*(np.reshape(values, shape) for values in rectified))
    parts = [values.ravel().tolist() for values in parts]
    for number, layer in enumerate((network.hidden, network.head)):
        weight, bias = layer.weight.tolist(), layer.bias.tolist()
        parts = _affine(*parts, weight, bias)
        parts = parts if number else _rectify(*parts)
    return parts


def published_words(network, words, mask):
    """CD of Words for one sentence by Murdoch et al.'s formulas, three terms a gate."""
    state = {name: value.detach().numpy() for name, value in network.lstm.state_dict().items()}
    inputs, recurrent = (np.split(state[f"weight_{kind}_l0"], 4) for kind in ("ih", "hh"))
    biases = np.split(state["bias_ih_l0"] + state["bias_hh_l0"], 4)
    vectors = network.embedding.weight.detach().numpy()[words]
    size = network.lstm.hidden_size
    cell, rest_cell, hidden, rest_hidden = np.zeros((4, size))

    def sigmoid(values):
        return 1 / (1 + np.exp(-values))

    def three(a, b, c, f):
        first = (f(a + c) - f(c) + f(a + b + c) - f(b + c)) / 2
        second = (f(b + c) - f(c) + f(a + b + c) - f(a + c)) / 2
        return first, second, f(c)

    for vector, is_relevant in zip(vectors, mask):
        gates = []
        for w, u, b, f in zip(inputs, recurrent, biases, (sigmoid, sigmoid, np.tanh, sigmoid)):
            part, rest = u @ hidden, u @ rest_hidden
            part, rest = part + is_relevant * (w @ vector), rest + (not is_relevant) * (w @ vector)
            gates.append(three(part, rest, b, f))
        (ri, ii, bi), (rf, nf, bf), (rg, ig, bg), output = gates
        new = ri * (rg + bg) + bi * rg + is_relevant * bi * bg + (rf + bf) * cell
        rest_cell = (
            ii * (rg + ig + bg)
            + (ri + bi) * ig
            + (not is_relevant) * bi * bg
            + (rf + nf + bf) * rest_cell
            + nf * cell
        )
        cell = new
        shown = (np.tanh(cell) + np.tanh(cell + rest_cell) - np.tanh(rest_cell)) / 2
        hidden = sum(output) * shown
        rest_hidden = sum(output) * (np.tanh(cell + rest_cell) - shown)
    return _affine(hidden, rest_hidden, network.head.weight.tolist(), network.head.bias.tolist())


# ----------------------------------------------------------------------------- Shapley values


def shapley_of_part(network, inputs, mask):
    """The Shapley value of the masked part of one input against the rest, over all orders."""
    groups = {"part": mask, "rest": ~mask}
    values = []
    for order in itertools.permutations(groups):
        present = torch.zeros_like(inputs)
        for name in order:
            before = network(present[None])[0]
            present = present + inputs * groups[name]
            if name == "part":
                values.append(network(present[None])[0] - before)
    return torch.stack(values).mean(0)
