"""What filters see: how active images make them, and the picture that excites a filter most.

The picture is made by activation maximisation as in MaCo (Fel et al. 2023, "Unlocking feature
visualization for deeper networks with magnitude constrained optimization"): only the phases of its
Fourier transform are sought. The magnitudes are those of the data's images, in the colours in which
these vary, so that a picture has their contrast, colours and smoothness and cannot become noise of
saturated colour. It is seen turned, enlarged and moved a little at random in each step, so that
what it shows does not hang on single pixels (Olah et al. 2017, "Feature visualization"). What
matters to the filter stands out from grey, by the gradients of all steps, as in MaCo too.

Libraries of the genre do not fit: lucent had its last release in 2021; horama, by MaCo's authors,
takes the magnitudes of ImageNet's images.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample
from tqdm import tqdm

from datasets import MEAN, STD, normalise
from filters.graph import run_steps

SAMPLE = 500  # images whose spectrum is measured, spread over the set
BATCH = 20  # images at once
CONTRAST = 1.5  # times that of the data: a picture spends it on what the filter does not see, too
LEARNING_RATE = 0.1  # Adam's, in radians
TURN, ZOOM, SHIFT = math.radians(10), 0.1, 1 / 16  # at random up to so much; SHIFT: of the side
CENTRE = 0.15  # standard deviation of the window on a filter's output, as a share of its side
BLUR = 5  # pixels; what matters is averaged over squares of this side
FADED = 0.7  # share of a picture that is faded towards grey, the more, the less it matters


@dataclass
class Spectrum:
    """How the images of a data set vary, with colours in [0, 1]."""

    mean: torch.Tensor  # (3,) RGB
    axes: torch.Tensor  # (3, 3): column a is the RGB of the a-th principal axis of colour
    magnitude: torch.Tensor  # (3, S, S // 2 + 1): of rfft2 along each axis, root of mean square


def measure_spectrum(images):
    """The Spectrum of images (N, 3, S, S) uint8."""
    sample = images[:: math.ceil(len(images) / SAMPLE)]
    pixels = sample[..., ::4, ::4].permute(1, 0, 2, 3).flatten(1).float() / 255
    mean = pixels.mean(1)
    _, axes = torch.linalg.eigh(torch.cov(pixels))
    energy = 0.0
    for batch in sample.split(BATCH):
        along_axes = torch.einsum("ca,bchw->bahw", axes, batch / 255 - mean.view(3, 1, 1))
        energy = energy + torch.fft.rfft2(along_axes, norm="ortho").abs().square().sum(0)
    return Spectrum(mean, axes, (energy / len(sample)).sqrt())


def mean_activations(evaluator, images, filters):
    """Each filter's output averaged over positions.

    Args:
        evaluator: Coalitions.
        images: (N, 3, S, S) uint8.
        filters: list of F int.

    Returns:
        (N, F) float32 numpy array.
    """
    batches = images.split(BATCH)
    bar = tqdm(batches, "activations", unit=" batches", leave=False, dynamic_ncols=True)
    means = []
    with torch.no_grad():
        for batch in bar:
            outputs = _raw_outputs(evaluator, normalise(batch, evaluator.device), filters)
            lowest = [evaluator.low[number] for number in filters]
            active = [output.clamp_min(low) for output, low in zip(outputs, lowest)]
            means.append(torch.stack([output.mean((1, 2)) for output in active], 1).cpu())
    return torch.cat(means).numpy()


def maximise(evaluator, filters, spectrum, steps, seed):
    """Pictures that excite each filter most.

    Args:
        evaluator: Coalitions.
        filters: list of F int.
        spectrum: Spectrum of the data, on the CPU.
        steps: int, of Adam.
        seed: int, of the first phases and of the random turns.

    Returns:
        (F, S, S, 3) uint8 numpy array.
    """
    rng, device = torch.Generator().manual_seed(seed), evaluator.device
    mean, axes = spectrum.mean.to(device).view(3, 1, 1), spectrum.axes.to(device)
    magnitude = CONTRAST * spectrum.magnitude.to(device)
    size = magnitude.shape[1]
    phases = 2 * torch.pi * torch.rand((len(filters), *magnitude.shape), generator=rng)
    phases = phases.to(device).requires_grad_()
    adam = torch.optim.Adam([phases], LEARNING_RATE)

    def draw():
        coefficients = torch.polar(magnitude.expand_as(phases).contiguous(), phases)
        along_axes = torch.fft.irfft2(coefficients, s=(size, size), norm="ortho")
        return (torch.einsum("ca,bahw->bchw", axes, along_axes) + mean).clamp(0, 1)

    importance = torch.zeros((len(filters), 1, size, size), device=device)
    for _ in tqdm(range(steps), "maximising", unit=" steps", leave=False, dynamic_ncols=True):
        pictures = draw()
        pictures.retain_grad()
        loss = -excitations(evaluator, _move(pictures, rng), filters).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        importance += pictures.grad.abs().mean(1, keepdim=True)
    with torch.no_grad():
        pictures = _fade(draw(), importance, mean)
    return (255 * pictures).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def excitations(evaluator, pictures, filters):
    """How much each picture excites its filter: (F, 3, S, S) in [0, 1] -> (F,).

    The mean of the filter's raw output, which has a gradient where ReLU has none, in a window on
    the middle of the map: over all positions, one pattern would be repeated all over the picture.
    """
    mean, std = (torch.tensor(value, device=pictures.device).view(3, 1, 1) for value in (MEAN, STD))
    normal = ((pictures - mean) / std).contiguous(memory_format=torch.channels_last)
    outputs = _raw_outputs(evaluator, normal, filters)
    own = [output[row] for row, output in enumerate(outputs)]  # (H, W) each
    return torch.stack([(_window(output) * output).sum() for output in own])


def _raw_outputs(evaluator, images, filters):
    """Outputs of filters' convs before ReLU, a list of F (B, H, W): images (B, 3, S, S) float."""
    last = max(evaluator.raw[number] for number in filters)
    values = run_steps(evaluator.steps[: last + 1], images)
    return [values[evaluator.raw[number]][:, evaluator.channels[number]] for number in filters]


def _window(output):
    """Weights (H, W) that fall off from the middle and sum to 1."""
    profiles = []
    for side in output.shape:
        distance = (torch.arange(side, device=output.device) - (side - 1) / 2) / side
        profiles.append(torch.exp(-0.5 * (distance / CENTRE) ** 2))
    window = torch.outer(*profiles)
    return window / window.sum()


def _move(pictures, rng):
    """Pictures (F, 3, S, S), each turned, enlarged and moved a little at random."""
    turn, zoom, x, y = 2 * torch.rand((4, len(pictures)), generator=rng) - 1  # in [-1, 1]
    cos, sin = torch.cos(TURN * turn), torch.sin(TURN * turn)
    zoom = 1 + ZOOM * zoom
    x, y = 2 * SHIFT * x, 2 * SHIFT * y  # affine_grid's coordinates go from -1 to 1
    rows = [
        torch.stack([cos * zoom, -sin * zoom, x], 1),
        torch.stack([sin * zoom, cos * zoom, y], 1),
    ]
    grid = affine_grid(torch.stack(rows, 1), pictures.shape, align_corners=False)
    grid = grid.to(pictures.device)
    return grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)


def _fade(pictures, importance, mean):
    """Pictures (F, 3, S, S) blended with grey `mean` where `importance` (F, 1, S, S) is low."""
    importance = avg_pool2d(importance, BLUR, 1, BLUR // 2, count_include_pad=False)
    full = importance.flatten(1).quantile(FADED, dim=1).view(-1, 1, 1, 1)
    opacity = (importance / full.clamp_min(torch.finfo().tiny)).clamp(0, 1)
    return opacity * pictures + (1 - opacity) * mean.mean()
