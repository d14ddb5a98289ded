"""Networks get the normalisation, and the channels, that they expect."""

from common.settings import InputError

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import model
from datasets import MEAN, STD, normalise
from readers import networks
from readers.networks import find_head, normalisation_of
from tests.damage import check_message
from tests.networks import patches


@pytest.mark.parametrize(
    "given, mean, std",
    [
        ("auto", MEAN, STD),
        ("0,0,0,1,1,1", (0, 0, 0), (1, 1, 1)),
        ("0.5, 0.5, 0.5, 0.5, 0.5, 0.5", (0.5,) * 3, (0.5,) * 3),
        ("0.48,0.45,0.40,0.26,0.26,0.27", (0.48, 0.45, 0.40), (0.26, 0.26, 0.27)),
    ],
)
def test_a_network_gets_the_normalisation_that_it_expects(given, mean, std):
    """As the plain network does on images normalised by hand."""
    torch.manual_seed(0)
    network = model.build("squeezenet1_1", "none", 64, normalisation=given).eval()
    torch.manual_seed(0)
    plain = model.build("squeezenet1_1", "none", 64).eval()
    pixels = patches(0)[:3, :, :64, :64]
    by_hand = (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        logits = network(normalise(pixels, "cpu"))
        torch.testing.assert_close(logits, plain(by_hand), rtol=1e-4, atol=1e-4)
    assert list(network.state_dict()) == list(plain.state_dict())
    assert (model.digest(network) == model.digest(plain)) == (given == "auto")


@pytest.mark.parametrize("given", ["x", "0.5", "0,0,0,1,1,0", "0,0,0,1,1,-1", "0,0,0,nan,1,1", ""])
def test_a_normalisation_that_cannot_be(given):
    with pytest.raises(InputError, match="--NORMALISATION=.*must be auto, or six numbers"):
        normalisation_of(nn.Linear(1, 1), given)


class Grey(nn.Module):
    """Takes images of one channel."""

    def __init__(self, config=None):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)
        if config:
            self.default_cfg = config

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


class GreyItself(Grey):
    """Takes images of three channels, and makes one of them."""

    def forward(self, x):
        if x.shape[1] != 3:
            raise ValueError("no RGB")
        return super().forward(x.mean(1, keepdim=True))


@pytest.mark.parametrize(
    "config, given, mean, std",
    [
        (None, "0.5,0.5,0.5,0.25,0.25,0.25", 0.5, 0.25),
        ({"mean": (0.13,), "std": (0.31,)}, "auto", 0.13, 0.31),
        ({"mean": (0.13,), "std": (0.31,)}, "0,0,0,1,1,1", 0.0, 1.0),
    ],
)
def test_a_network_of_one_channel_gets_the_luminance(monkeypatch, config, given, mean, std):
    """As Pillow's grey, normalised by hand."""
    monkeypatch.setattr(model, "make_network", lambda *_: network)
    torch.manual_seed(0)
    network, plain = Grey(config), Grey()
    plain.load_state_dict(network.state_dict())
    network = model._make("x", 16, ("a", "b"), given)[0]
    pixels = patches(0)[:3, :, :16, :16]
    grey = [np.asarray(Image.fromarray(p.permute(1, 2, 0).numpy()).convert("L")) for p in pixels]
    by_hand = (torch.tensor(np.stack(grey))[:, None] / 255 - mean) / std
    with torch.no_grad():
        logits = network(normalise(pixels, "cpu"))
        torch.testing.assert_close(logits, plain(by_hand), rtol=0, atol=0.01)
    assert network.rescaling.endswith(", grey") and network.logits_layer == "fc"


def test_a_network_of_one_channel_needs_its_normalisation(monkeypatch):
    monkeypatch.setattr(model, "make_network", lambda *_: Grey())
    with pytest.raises(InputError) as refusal:
        model._make("x", 16, ("a", "b"), "auto")
    words = ["takes images of one channel", "give them three times each", "--NORMALISATION=0.5,"]
    check_message(str(refusal.value), *words)


def test_a_network_that_makes_images_grey_itself():
    network = GreyItself()
    assert networks.takes_grey(Grey(), 16) and not networks.takes_grey(network, 16)
    assert not networks.takes_grey(nn.Conv2d(3, 4, 3), 16)
    assert network.training and find_head(network, "x", 16, 2) == "fc"
