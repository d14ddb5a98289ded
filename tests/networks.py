"""Networks with random weights, odd ones, images for them, and coalitions the plain way."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import model
from datasets import GROUPS, Images, normalise

N_FILTERS = {
    "squeezenet1_1": 2944,
    "squeezenet1_0": 2976,
    "resnet18": 4800,
    "resnet50": 26560,
    "vgg16": 4224,
    "inception_v3": 17216,
}
IMAGE_SIZE = 80  # pixels; no less, for inception_v3

# ----------------------------------------------------------------------------- images


def patches(seed):
    """24 images of coarse patches: unlike fine noise, they look different to a network."""
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 3, 5, 5), dtype=np.uint8)
    return torch.from_numpy(coarse.repeat(16, 2).repeat(16, 3))


def draw_faces():
    """Images of 24 faces, 6 of each group in turn."""
    group = torch.arange(24) % len(GROUPS)
    label = torch.tensor([int(GROUPS[index][1] == "Male") for index in group])
    return Images(patches(0), label, group)


def draw_classes():
    """Images of 12 of three classes, 16 x 16 pixels, without groups."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (12, 3, 16, 16), dtype=np.uint8))
    label = torch.from_numpy(rng.integers(0, 3, 12))
    return Images(images, label, torch.full((12,), -1))


# ----------------------------------------------------------------------------- networks


def random_network(arch):
    """A network in eval mode. Its batch norms have seen images, so folding them changes convs."""
    torch.manual_seed(0)
    network = model.build(arch, "none")
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of all batches
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.1)
    if norms:
        with torch.no_grad():
            network.train()(normalise(patches(1), "cpu"))
    return network.eval()


def make_convs(*channels):
    """Convs of 3 x 3 pixels from pairs of channels."""
    return nn.ModuleList([nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in channels])


class Odd(nn.Module):
    """17 filters.

    A residual, a torch.cat with a pooled branch and dim by name, a ReLU as a method, a conv
    without ReLU.
    """

    def __init__(self):
        super().__init__()
        self.convs = make_convs((3, 4), (4, 4), (4, 4), (12, 5))
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        x = self.convs[0](x).relu()
        y = self.convs[1](x)
        y += x
        y = torch.cat([functional.max_pool2d(x, 3, 1, 1), self.convs[2](y).relu(), y], dim=1)
        return self.head(functional.relu(self.convs[3](y), inplace=True).mean((2, 3)))


class Shared(nn.Module):
    """17 filters.

    Convs whose outputs are used twice, one of them in a cat; a cat of one conv with itself; a
    ReLU6 named relu; view.
    """

    def __init__(self):
        super().__init__()
        self.convs = make_convs((3, 4), (4, 4), (8, 4), (8, 5))
        self.relu = nn.ReLU6()
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        x = self.convs[0](x)
        y = self.convs[2](torch.cat([x, torch.relu(self.convs[1](x))], 1))
        z = self.relu(9 * self.convs[3](torch.cat([y, y], 1)))
        return self.head(functional.adaptive_avg_pool2d(z, 1).view(-1, 5))


class Untraceable(Odd):
    """Its path depends on the images, which torch.fx cannot follow."""

    def forward(self, x):
        return super().forward(x if x.mean() > 1e6 else 2 * x)


class CalledTwice(Untraceable):
    """Cannot be cut, and calls a conv twice."""

    def forward(self, x):
        x = self.convs[1](self.convs[1](self.convs[0](x)))
        return self.head(
            self.convs[3](torch.cat([x] * 3, 1)).mean((2, 3)) + self.convs[2](x).mean()
        )


class Small(nn.Module):
    """9 filters of two convs, one behind the other, and three classes."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.head = nn.Conv2d(5, 3, 1)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x))))).mean((2, 3))


class HeadAlone(nn.Module):
    """Its only conv gives the logits, so it has no filters."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 2, 3)

    def forward(self, x):
        return self.head(x).mean((2, 3))


def seeded(kind, seed=0):
    """A network of this class in eval mode."""
    torch.manual_seed(seed)
    return kind().eval()


# ----------------------------------------------------------------------------- coalitions


def norms_behind(network, images):
    """The batch norm that takes a conv's output, by the conv's name, as a forward pass shows it."""
    outputs, pairs, handles = [], {}, []

    def keep_output(name):
        return lambda module, inputs, output: outputs.append((name, output))

    def find_conv(name):
        def hook(module, inputs):
            pairs.update({conv: name for conv, output in outputs if output is inputs[0]})

        return hook

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(keep_output(name)))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(find_conv(name)))
    with torch.no_grad():
        network(images[:1])
    for handle in handles:
        handle.remove()
    return pairs


def naive_logits(network, evaluator, fills, images, keep):
    """One coalition the plain way: hooks behind convs, or their batch norms, that fill channels.

    A filter's output behind its ReLU is the fill exactly if what the ReLU sees is, as fills behind
    ReLUs are not negative.
    """
    modules, removed = dict(network.named_modules()), {}
    norms = norms_behind(network, images) if evaluator.is_cut else {}
    for index in np.flatnonzero(~keep):
        conv = evaluator.layers[index]
        removed.setdefault(norms.get(conv, conv), []).append(index)

    def make_hook(indices):
        channels = [evaluator.channels[index] for index in indices]

        def fill(module, inputs, output):
            output[:, channels] = fills[indices][:, None, None]
            return output

        return fill

    handles = []
    for name, indices in removed.items():
        handles.append(modules[name].register_forward_hook(make_hook(indices)))
    try:
        with torch.no_grad():
            return network(images)
    finally:
        for handle in handles:
            handle.remove()


def naive_rows(network, evaluator, fills, images, keep):
    """naive_logits of coalitions: keep (T, n_filters) bool -> (T, B, classes)."""
    rows = [naive_logits(network, evaluator, fills, images, row) for row in keep]
    return torch.stack(rows)


def draw_coalitions(n, kind, rng):
    """Coalitions (6, n) bool.

    Args:
        n: int, filters.
        kind: "nested": an order of removals; "single": single removals from one base;
            "unrelated": sets of any size.
        rng: numpy Generator.
    """
    keep = np.ones((6, n), dtype=bool)
    if kind == "nested":
        for row, removed in enumerate(np.array_split(rng.permutation(n)[: n // 2], 6)):
            keep[row:, removed] = False
    elif kind == "single":
        keep[:, rng.permutation(n)[: n // 60]] = False
        keep[np.arange(6), rng.integers(0, n, 6)] = False
    else:
        keep = rng.random((6, n)) < rng.uniform(0.7, 1, (6, 1))
    return keep
