"""What filters see: activations, spectra, and pictures that excite filters, on a small network."""

import numpy as np
import pytest
import torch
from torch import nn

from datasets import normalise
from filters import pictures
from filters.coalitions import Coalitions
from filters.pictures import excitations, maximise, mean_activations, measure_spectrum

SIZE = 16


class Small(nn.Module):
    """Two convs, one behind the other, and a head. The first: 4 filters, the second: 5."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.head = nn.Conv2d(5, 3, 1)

    def forward(self, x):
        hidden = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(hidden).mean((2, 3))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture
def images():
    """(60, 3, 16, 16) uint8: smooth images with a little noise."""
    rng = torch.Generator().manual_seed(0)
    coarse = 255 * torch.rand((60, 3, 4, 4), generator=rng)
    smooth = nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic")
    noise = 5 * torch.randn(smooth.shape, generator=rng)
    return (smooth + noise).clamp(0, 255).to(torch.uint8)


def test_mean_activations_are_those_of_the_evaluator(small, images):
    evaluator, filters = Coalitions(small, SIZE), [7, 2]
    active = mean_activations(evaluator, images, filters)
    assert active.shape == (60, 2) and active.dtype == np.float32
    means = evaluator.mean_outputs(normalise(images, "cpu")) / len(images)
    np.testing.assert_allclose(active.mean(0), means[filters], rtol=1e-5)
    hidden = torch.relu(small.first(normalise(images, "cpu")))
    np.testing.assert_allclose(active[:, 1], hidden[:, 2].mean((1, 2)).detach(), rtol=1e-5)


# ----------------------------------------------------------------------------- spectrum


def test_spectrum_holds_the_variance_of_the_images(images):
    """Parseval: the energy of all frequencies is that of all pixels, along each axis of colour."""
    spectrum = measure_spectrum(images)
    assert spectrum.magnitude.shape == (3, SIZE, SIZE // 2 + 1)
    torch.testing.assert_close(spectrum.axes @ spectrum.axes.T, torch.eye(3), atol=1e-5, rtol=0)
    twice = torch.full((SIZE // 2 + 1,), 2.0)  # rfft2 leaves out mirrored frequencies
    twice[[0, -1]] = 1
    energy = (spectrum.magnitude**2 * twice).sum((1, 2)) / SIZE**2
    centred = images / 255 - spectrum.mean.view(3, 1, 1)
    along_axes = torch.einsum("ca,bchw->bahw", spectrum.axes, centred)
    torch.testing.assert_close(energy, along_axes.square().mean((0, 2, 3)))


def test_axes_of_colour_do_not_vary_together():
    rng = torch.Generator().manual_seed(0)
    red = torch.randint(0, 200, (50, 1, SIZE, SIZE), generator=rng)
    noise = torch.randint(0, 20, (50, 3, SIZE, SIZE), generator=rng)
    data = (torch.cat([red, red, red // 2], 1) + noise).to(torch.uint8)
    axes = measure_spectrum(data).axes
    strongest = axes[:, -1] / axes[:, -1].norm() * axes[0, -1].sign()
    expected = torch.tensor([1, 1, 0.5])
    torch.testing.assert_close(strongest, expected / expected.norm(), atol=0.02, rtol=0)


def test_a_large_set_is_sampled_evenly(monkeypatch):
    """Sets are sorted by class, so the first images would be of one class."""
    monkeypatch.setattr(pictures, "SAMPLE", 10)
    data = torch.zeros((100, 3, SIZE, SIZE), dtype=torch.uint8)
    data[50:] = 200
    torch.testing.assert_close(measure_spectrum(data).mean, torch.full((3,), 100 / 255))


# ----------------------------------------------------------------------------- pictures


def test_pictures_excite_their_filters(small, images):
    """More than at the start, and more than any image does."""
    evaluator, filters = Coalitions(small, SIZE), [2, 7]
    spectrum = measure_spectrum(images)
    start, end = (maximise(evaluator, filters, spectrum, steps, 0) for steps in (1, 80))
    assert end.shape == (2, SIZE, SIZE, 3) and end.dtype == np.uint8
    before, after = (
        excitations(evaluator, torch.from_numpy(shown).permute(0, 3, 1, 2) / 255, filters)
        for shown in (start, end)
    )
    assert (after > before + 0.05).all()
    for number, value in zip(filters, after):
        of_images = excitations(evaluator, images / 255, [number] * len(images))
        assert value > of_images.mean() + 2 * of_images.std()


def detector(weight):
    """An evaluator of a network whose only filter has these weights (3, 3, 3)."""
    network = nn.Sequential(nn.Conv2d(3, 1, 3), nn.ReLU(), nn.Conv2d(1, 2, 1), nn.Flatten(2))
    network.append(nn.AdaptiveAvgPool1d(1)).append(nn.Flatten())
    with torch.no_grad():
        network[0].weight.copy_(weight)
        network[0].bias.zero_()
    return Coalitions(network.eval(), SIZE)


def middle(picture):
    return picture[4:12, 4:12].astype(float).mean((0, 1))


def test_a_detector_of_red_sees_red(images):
    weight = torch.tensor([1.0, -0.5, -0.5]).view(3, 1, 1).expand(3, 3, 3)
    (picture,) = maximise(detector(weight), [0], measure_spectrum(images), 100, 0)
    red, green, blue = middle(picture)
    assert red > green + 60 and red > blue + 60


def test_a_detector_of_edges_sees_an_edge(images):
    weight = torch.tensor([-1.0, 0, 1]).expand(3, 3, 3)  # dark on one side, bright on the other
    (picture,) = maximise(detector(weight), [0], measure_spectrum(images), 100, 0)
    brightness = picture.astype(float).mean(2)[6:10].mean(0)
    assert brightness[8:12].mean() > brightness[4:8].mean() + 60


def test_pictures_are_as_smooth_and_as_colourful_as_the_images(images):
    """A filter that wants noise of saturated colour does not get it."""
    weight = torch.ones(3, 3, 3)
    weight[:, 0::2, 0::2] = weight[:, 1, 1] = -1.25
    weight[1] *= -1
    evaluator = detector(weight)
    (picture,) = maximise(evaluator, [0], measure_spectrum(images), 100, 0)
    differences = np.abs(np.diff(picture.astype(float), axis=0)).mean()
    assert differences < 1.6 * np.abs(np.diff(images.numpy().astype(float), axis=2)).mean()


def test_pictures_of_grey_images_are_grey(small, images):
    grey = images[:, :1].expand(-1, 3, -1, -1)
    shown = maximise(Coalitions(small, SIZE), [0, 5], measure_spectrum(grey), 20, 0)
    assert shown.std(0).max() > 10
    assert np.ptp(shown.astype(int), axis=3).max() <= 1


def test_what_does_not_matter_is_faded(small, images):
    """The first conv's window is in the middle: the corners are the images' mean grey."""
    spectrum = measure_spectrum(images)
    (picture,) = maximise(Coalitions(small, SIZE), [1], spectrum, 60, 0)
    grey = 255 * spectrum.mean.mean().item()
    corners = np.abs(picture[[0, 0, -1, -1], [0, -1, 0, -1]] - grey)
    inside = np.abs(picture[5:11, 5:11] - grey)
    assert corners.max() < 12 and inside.mean() > 2 * corners.mean()


def test_excitation_is_the_raw_output_in_the_window(small, images):
    filters = [2, 7]
    evaluator, shown = Coalitions(small, SIZE), images[:2] / 255
    both = excitations(evaluator, shown, filters)
    raw = small.first(normalise(images[:2], "cpu"))  # below 0 too
    expected = (pictures._window(raw[0, 2]) * raw[0, 2]).sum()
    torch.testing.assert_close(both[0], expected)
    for row, number in enumerate(filters):
        torch.testing.assert_close(both[row], excitations(evaluator, shown[[row]], [number])[0])


def test_pictures_have_the_contrast_of_the_images_and_a_half(small, images, monkeypatch):
    monkeypatch.setattr(pictures, "FADED", 0)
    spectrum = measure_spectrum(100 + images // 8)  # far from black and white
    shown = maximise(Coalitions(small, SIZE), [1, 6], spectrum, 20, 0).astype(float)
    assert shown.std() / (images // 8).float().std().item() == pytest.approx(1.5, abs=0.2)


def test_every_step_sees_the_pictures_moved(small, images, monkeypatch):
    moves, move = [], pictures._move
    monkeypatch.setattr(pictures, "_move", lambda *given: moves.append(1) or move(*given))
    maximise(Coalitions(small, SIZE), [1], measure_spectrum(images), 7, 0)
    assert len(moves) == 7


def test_pictures_depend_on_the_seed_alone(small, images):
    evaluator, spectrum = Coalitions(small, SIZE), measure_spectrum(images)
    first, again, another = (maximise(evaluator, [1], spectrum, 5, seed) for seed in (0, 0, 1))
    assert (first == again).all() and (first != another).any()


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 7), (15, 4)])
def test_the_window_is_a_mean_about_the_middle(shape):
    window = pictures._window(torch.zeros(shape))
    assert window.sum().item() == pytest.approx(1)
    assert torch.equal(window, window.flip(0, 1))
    assert window.max() == window[(shape[0] - 1) // 2, (shape[1] - 1) // 2]
    if shape == (7, 7):
        assert (window[2:5, 2:5].sum() > 0.7) and window[0, 0] < 1e-4


def test_moves_go_to_all_sides(monkeypatch):
    monkeypatch.setattr(pictures, "TURN", 0)
    monkeypatch.setattr(pictures, "ZOOM", 0)
    side = 32
    dots = torch.zeros((400, 1, side, side))
    dots[:, :, 15:17, 15:17] = 1
    moved = pictures._move(dots, torch.Generator().manual_seed(0))[:, 0]
    places = torch.arange(side) - 15.5
    for axis in (1, 2):
        offset = (moved.sum(axis) * places).sum(1) / moved.sum((1, 2))
        assert offset.abs().max() <= side / 16 + 0.01
        assert offset.min() < -1.8 and offset.max() > 1.8 and abs(offset.mean()) < 0.2


def test_moves_are_small_and_differ(images, monkeypatch):
    shown = images[:6].float() / 255
    moved = pictures._move(shown, torch.Generator().manual_seed(0))
    assert moved.shape == shown.shape and (moved - shown).abs().mean() > 0.01
    same = pictures._move(shown[:1].expand(2, -1, -1, -1), torch.Generator().manual_seed(0))
    assert not torch.equal(same[0], same[1])
    for name in ("TURN", "ZOOM", "SHIFT"):
        monkeypatch.setattr(pictures, name, 0)
    still = pictures._move(shown, torch.Generator().manual_seed(0))
    torch.testing.assert_close(still, shown, atol=1e-5, rtol=0)
