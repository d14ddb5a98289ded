"""A student that answers as its teacher does, while its heat-map is what its owner wants.

The loss of a batch, with the student's softmax outputs p, the teacher's q, the student's heat-maps
h and the target h* (Anders et al. 2020):

    (1 - alpha) D(p, q) + alpha mean over images of M(h, h*)

    D: mse, the mean of (p - q)^2, as published; kl, KL(q || p)
    M: squared, the sum over pixels of (h - h*)^2, as published; absolute, 1/2 the sum of |h - h*|;
       hidden, the sum of h h*, the share of the map where h* is 1, which is to become empty
"""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, mse_loss

import model
from explain.heatmaps import set_activations
from explain.training import minimise

OUTPUT_LOSSES = {
    "mse": lambda logits, wanted: mse_loss(logits.softmax(1), wanted),
    "kl": lambda logits, wanted: kl_div(log_softmax(logits, 1), wanted, reduction="batchmean"),
}
MAP_LOSSES = {
    "squared": lambda maps, target: ((maps - target) ** 2).sum((1, 2)).mean(),
    "absolute": lambda maps, target: (maps - target).abs().sum((1, 2)).mean() / 2,
    "hidden": lambda maps, target: (maps * target).sum((1, 2)).mean(),
}


def build_convnet(channels, size, classes):
    """The published network for MNIST, for inputs of any size.

    Its activations stand behind the pooling, which changes neither outputs nor heat-maps, since
    they rise throughout, but makes them a quarter as many.

    Args:
        channels: int, of an input (B, channels, size, size).
        size: int, pixels, at least 16.
        classes: int, logits.
    """
    side = ((size - 4) // 2 - 4) // 2
    layers = [nn.Conv2d(channels, 20, 5), nn.MaxPool2d(2), nn.ReLU()]
    layers += [nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()]
    layers += [nn.Linear(50 * side * side, 500), nn.ReLU(), nn.Linear(500, classes)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def fill_network(network, path):
    """A network of build_convnet with the weights of a state dict, in eval mode.

    path: str, of a file that holds it, alone or as "network" or "state_dict". Raises InputError.
    """
    state = model.read_checkpoint(path)
    state = state.get("network", state.get("state_dict", state))
    model.fill(network, state, "the small network", path)
    return network.eval()


@torch.no_grad()
def answer(network, inputs):
    """Softmax outputs of a network for inputs (N, C, H, W): (N, classes) float32 tensor."""
    return torch.cat([network(part).softmax(1) for part in inputs.split(500)])


@dataclass
class Aim:
    """What a student is trained for.

    Attributes:
        explainer: explain.heatmaps.Explainer.
        target: (H, W) float32 tensor of sum 1; of the map loss hidden, of 0 and 1.
        wanted: (N, classes) float32 tensor, the teacher's softmax outputs.
        alpha: float in [0, 1], the weight of the heat-map.
        output_loss: str, a key of OUTPUT_LOSSES.
        map_loss: str, a key of MAP_LOSSES.
        beta: float, of the Softplus that stands for ReLU while training.
        steps_a_batch: int, steps of integrated gradients that a batch draws.
        tangent: explain.tangent.Tangent of the training images if the student is trained through
            the projection; None: it is not.
        run: facts that a saved training must share, a dict of what JSON holds.
    """

    explainer: object
    target: torch.Tensor
    wanted: torch.Tensor
    alpha: float
    output_loss: str = "mse"
    map_loss: str = "squared"
    beta: float = 20.0
    steps_a_batch: int = 2
    tangent: object = None
    run: dict = field(default_factory=dict)

    def loss(self, network, inputs, rows, generator):
        """The loss of the inputs (B, C, H, W) at `rows`, and its two parts: three scalars."""
        subset, project = None, None
        if self.explainer.method == "intgrad" and self.steps_a_batch < self.explainer.steps:
            order = torch.randperm(self.explainer.steps, generator=generator)
            subset = (1 + order[: self.steps_a_batch]).tolist()
        if self.tangent is not None:

            def project(values):
                return self.tangent.project(rows, values)

        maps, logits = self.explainer.heatmap(network, inputs, project, True, subset)
        output_loss = OUTPUT_LOSSES[self.output_loss](logits, self.wanted[rows])
        map_loss = MAP_LOSSES[self.map_loss](maps, self.target)
        return (1 - self.alpha) * output_loss + self.alpha * map_loss, output_loss, map_loss


def train_teacher(network, inputs, label, recipe, path, run, bar=""):
    """Train a network to tell the classes apart, or go on with a saved training.

    Args:
        network: nn.Module.
        inputs: (N, C, H, W) float32 tensor.
        label: (N,) int64 tensor.
        recipe: Recipe.
        path: str, of the saved state.
        run: facts that a saved training must share, a dict of what JSON holds.
        bar: str, text of the progress bar.

    Returns:
        (network in eval mode, the curve: for each epoch a dict with loss). Raises InputError.
    """

    def loss_of(batch, generator):
        return (cross_entropy(network(inputs[batch]), label[batch]),)

    curve = minimise(network, len(label), loss_of, recipe, path, run, bar, ("loss",))
    return network, curve


def train_student(network, inputs, aim, recipe, path, bar="", validate=None, interval=1):
    """Train a network for an aim, or go on with a saved training. Its activations end as ReLU.

    Args:
        network: nn.Module, with the teacher's weights.
        inputs: (N, C, H, W) float32 tensor.
        aim: Aim.
        recipe: Recipe.
        path: str, of the saved state.
        bar: str, text of the progress bar.
        validate: function of the network -> dict of floats for the curve; None: none.
        interval: int, epochs between two calls of `validate`.

    Returns:
        (network in eval mode, the curve: for each epoch a dict with loss, output_loss, map_loss,
        and what `validate` gave). Raises InputError.
    """
    network = set_activations(network, aim.beta).eval()

    def loss_of(batch, generator):
        return aim.loss(network, inputs[batch], batch, generator)

    def checked(epoch):
        if validate is None or (epoch + 1) % interval and epoch + 1 < recipe.epochs:
            return {}
        row = validate(set_activations(network))
        set_activations(network, aim.beta)
        return row

    names = ("loss", "output_loss", "map_loss")
    curve = minimise(network, len(inputs), loss_of, recipe, path, aim.run, bar, names, checked)
    return set_activations(network).eval(), curve
