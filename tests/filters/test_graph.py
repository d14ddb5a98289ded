"""Networks cut into steps: filters and gates, and what cannot be cut."""

import math

from common.settings import InputError

import numpy as np
import pytest
import torch
from torch import nn

from datasets import normalise
from filters.graph import cut, run_steps
from tests.networks import IMAGE_SIZE, HeadAlone, Odd, Shared, Small, Untraceable, seeded


def gates(steps):
    """All gates: where filters are removed."""
    return [step for step in steps if step.filters]


def all_filters(steps):
    """All ConvFilters of a cut network."""
    return [conv for step in steps for conv in step.filters if conv]


@pytest.fixture(scope="module")
def steps(light_network):
    return cut(light_network, IMAGE_SIZE)


def test_filters_are_those_of_all_convs(light_network, steps):
    convs = sorted(all_filters(steps), key=lambda conv: conv.players.start)
    ends = [conv.players.stop for conv in convs]
    assert [conv.players.start for conv in convs] == [0, *ends[:-1]]
    for conv in convs:
        n_players = conv.players.stop - conv.players.start
        assert n_players == light_network.get_submodule(conv.layer).out_channels
    kinds, modules = (nn.Conv2d, nn.Linear), light_network.named_modules()
    names = [name for name, module in modules if isinstance(module, kinds)]
    head = names[-1]  # it gives the logits
    assert sorted(conv.layer for conv in convs) == sorted(set(names) - {head})


def test_steps_give_the_logits_and_shapes(light_network, steps, faces):
    images = normalise(faces.images[:2], "cpu")
    values = run_steps(steps, images)
    with torch.no_grad():
        logits = light_network(images)
    torch.testing.assert_close(values[-1], logits, rtol=1e-3, atol=1e-3 * logits.abs().max().item())
    assert [value.shape[1:] for value in values] == [torch.Size(step.shape) for step in steps]
    for number, step in enumerate(steps):
        assert all(source < number for source in step.inputs)
        assert bool(step.run) + bool(step.filters) == (number > 0)


def test_small_network_step_by_step(small):
    """Images, a conv, its gate, a conv, its gate, the head."""
    steps = cut(small, 16)
    assert [step.inputs for step in steps] == [(), (0,), (1,), (2,), (3,), (4,)]
    assert [step.shape for step in steps] == [
        (3, 16, 16),
        (4, 14, 14),
        (4, 14, 14),
        (5, 12, 12),
        (5, 12, 12),
        (3,),
    ]
    (first,), (second,) = (step.filters for step in gates(steps))
    assert first == ("first", slice(0, 4), 0.0) and second == ("second", slice(4, 9), 0.0)
    assert [step.channels for step in gates(steps)] == [(slice(0, 4),), (slice(0, 5),)]
    images = torch.randn((3, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    values = run_steps(steps, images)
    with torch.no_grad():
        raw = small.first(images)
        torch.testing.assert_close(values[1], raw)
        torch.testing.assert_close(values[2], raw.relu())
        torch.testing.assert_close(values[5], small(images))


def test_odd_network_has_a_gate_with_other_inputs():
    steps = cut(seeded(Odd), IMAGE_SIZE)
    lows = {conv.layer: conv.low for conv in all_filters(steps)}
    assert lows == {"convs.0": 0, "convs.1": -math.inf, "convs.2": 0, "convs.3": 0}
    (cat,) = [step for step in gates(steps) if len(step.filters) == 3]
    assert [conv and conv.layer for conv in cat.filters] == [None, "convs.2", None]
    assert cat.channels == (slice(0, 4), slice(4, 8), slice(8, 12)) and cat.shape[0] == 12


def test_a_conv_that_is_used_twice_has_its_own_gate():
    steps = cut(seeded(Shared), IMAGE_SIZE)
    assert [len(step.filters) for step in gates(steps)] == [1, 2, 1, 1]
    assert [conv.low for conv in all_filters(steps)] == [-math.inf, 0, -math.inf, -math.inf]


def test_cutting_leaves_the_network_as_it_is():
    network = seeded(Odd)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    cut(network, IMAGE_SIZE)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not network.training


def test_outputs_are_not_changed_in_place():
    """What a step gave remains, whatever follows it."""
    for kind in (Odd, Shared):
        steps = cut(seeded(kind), IMAGE_SIZE)
        images = torch.randn((1, 3, IMAGE_SIZE, IMAGE_SIZE))
        values = run_steps(steps, images)
        for step, value in zip(steps, values):
            if step.run:
                torch.testing.assert_close(value, step.run(*(values[i] for i in step.inputs)))


def test_batch_norm_is_folded_behind_its_conv():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)
    )
    nn.init.uniform_(network[1].weight, 0.5, 1.5)
    nn.init.normal_(network[1].running_mean)
    steps, images = cut(network.eval(), 8), torch.randn((2, 3, 8, 8))
    assert len(gates(steps)) == 1
    with torch.no_grad():
        torch.testing.assert_close(run_steps(steps, images)[1], network[:2](images))


# ----------------------------------------------------------------------------- what cannot be cut


class Twice(Odd):
    def forward(self, x):
        x = self.convs[1](self.convs[1](self.convs[0](x)))
        return self.head(self.convs[3](torch.cat([x] * 3, 1)).mean((2, 3)))


class InPlace(Odd):
    def forward(self, x):
        x = self.convs[0](x).abs_()
        return self.head(self.convs[3](torch.cat([x] * 3, 1)).mean((2, 3)))


class Sized(Odd):
    def forward(self, x):
        return super().forward(x.view(x.size(0), 3, IMAGE_SIZE, IMAGE_SIZE))


class Scaled(Odd):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return super().forward(x * self.scale)


class TwoInputs(Odd):
    def forward(self, x, y=None):
        return super().forward(x)


class MergedImages(nn.Module):
    """A step's output, used twice, holds all images in one row."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        row = self.conv(x).mean((2, 3)).reshape(1, -1)
        return self.head((row.relu() + row).reshape(-1, 4))


class NoConvs(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3 * IMAGE_SIZE**2, 2)

    def forward(self, x):
        return self.head(x.flatten(1))


@pytest.mark.parametrize(
    "kind, message",
    [
        (Twice, "a conv is called more than once"),
        (InPlace, "abs_ works in place"),
        (Sized, "its steps do not give its logits"),
        (Scaled, "scale depends on no image"),
        (TwoInputs, "it takes more than images"),
        (Untraceable, "torch.fx cannot trace it"),
        (NoConvs, "it has no convs$"),
        (HeadAlone, "it has no convs but its head"),
        (MergedImages, "the first axis of a step's output is not the images"),
    ],
)
def test_what_cannot_be_cut_says_why(kind, message):
    with pytest.raises(ValueError, match=message):
        cut(seeded(kind), IMAGE_SIZE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [Odd, Small])
def test_outputs_that_are_not_finite(kind, value):
    network = seeded(kind)
    with torch.no_grad():
        network.head.bias[0] = value
    with pytest.raises(InputError, match="outputs are not finite .*; give other weights"):
        cut(network, IMAGE_SIZE)


def test_filters_are_numbered_as_their_convs_are_called():
    class Backwards(Small):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(4, 5, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.head(self.first(self.second(x))).mean((2, 3))

    convs = all_filters(cut(seeded(Backwards), 16))
    assert [conv.layer for conv in convs] == ["second", "first"]
    assert np.array_equal([conv.players.start for conv in convs], [0, 4])
