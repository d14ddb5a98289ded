"""Networks that are not those of the studies: removal is exact, and transformers are refused."""

from common.settings import InputError

import numpy as np
import pytest
import torch
from torch import nn

import model
from datasets import normalise
from filters.coalitions import Coalitions, make_evaluator
from filters.masked import MaskedForwards
from filters.value import fill_values
from tests.damage import check_message
from tests.networks import IMAGE_SIZE, draw_coalitions, naive_rows, random_network

QUICK = {  # filters. Grouped and depthwise convs, dense and shuffled channels, squeeze-excitation
    "mobilenet_v3_small": 8944,
    "shufflenet_v2_x0_5": 3976,
    "alexnet": 1152,
}
SLOW = {
    "densenet121": 10240,
    "efficientnet_b0": 30348,
    "googlenet": 7280,
    "mnasnet0_5": 10312,
    "mobilenet_v2": 17056,
    "regnet_y_400mf": 18784,
    "resnext50_32x4d": 34112,
    "vgg11_bn": 2752,
    "wide_resnet50_2": 34112,
    "convnext_tiny": 8064,
    "timm:resnet18d": 4864,
    "timm:mobilenetv3_small_050": 5840,
}
ALL = [*QUICK, *(pytest.param(arch, marks=pytest.mark.extended) for arch in SLOW)]


def make_random(arch):
    if arch.startswith("timm:"):
        pytest.importorskip("timm")
    return random_network(arch)


@pytest.mark.parametrize("arch", ALL)
def test_logits_equal_a_naive_forward(arch, faces):
    """Coalitions, cut or not, against hooks that fill the removed channels."""
    network = make_random(arch)
    evaluator, images = make_evaluator(network, IMAGE_SIZE), normalise(faces.images[:3], "cpu")
    assert len(evaluator.layers) == (QUICK | SLOW)[arch]
    fills = fill_values(evaluator, faces.take(slice(4)), "mean")
    evaluator.see(images, fills)
    for kind in ("nested", "single", "unrelated"):
        keep = draw_coalitions(len(fills), kind, np.random.default_rng(0))[::2]
        expected = naive_rows(network, evaluator, fills, images, keep)
        assert not torch.equal(expected[0], expected[-1])  # the removals change it
        atol = 1e-4 * expected.abs().max().item()
        torch.testing.assert_close(evaluator.logits(keep), expected, rtol=1e-3, atol=atol)


@pytest.mark.parametrize("given", ["0,0,0,1,1,1", "0.5,0.5,0.5,0.25,0.25,0.25"])
def test_a_network_with_its_own_normalisation_is_cut_too(given, faces):
    network = model.build("squeezenet1_1", "none", 80, normalisation=given).eval()
    evaluator, images = Coalitions(network, 80), normalise(faces.images[:3], "cpu")
    assert len(evaluator.layers) == 2944 and evaluator.layers[0] == "features.0"
    evaluator.see(images, torch.zeros(2944))
    keep = draw_coalitions(2944, "nested", np.random.default_rng(0))[::2]
    expected = naive_rows(network, evaluator, torch.zeros(2944), images, keep)
    torch.testing.assert_close(evaluator.logits(keep), expected, rtol=1e-4, atol=1e-4)


class Patches(nn.Module):
    """A transformer's outline: patches, then layers that are no convs."""

    def __init__(self, size, untraceable=False):
        super().__init__()
        self.embed, self.untraceable = nn.Conv2d(3, 8, size, size), untraceable
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        if self.untraceable and x.mean() > 1e6:
            x = 2 * x
        x = self.embed(x).flatten(2).mT
        return self.head(self.attention(x, x, x)[0].mean(1))


TRANSFORMERS = {
    "patches of 16": lambda: Patches(16),
    "patches of 4, not traceable": lambda: Patches(4, untraceable=True),
    "vit_b_32": lambda: model.build("vit_b_32", "none", 224),
    "swin_t": lambda: model.build("swin_t", "none", 224),
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.extended] * (kind[0] != "p")) for kind in TRANSFORMERS],
)
def test_a_transformer_is_refused(kind):
    size = 32 if kind[0] == "p" else 224
    with pytest.raises(InputError) as refusal:
        make_evaluator(TRANSFORMERS[kind]().eval(), size)
    words = ["has no conv filters behind its patch embedding", "Give a convolutional network"]
    check_message(str(refusal.value), *words)


def test_one_conv_that_cuts_no_patches_is_taken():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    assert len(make_evaluator(network.eval(), 8).layers) == 4
    assert isinstance(make_evaluator(network.eval(), 8), (Coalitions, MaskedForwards))
