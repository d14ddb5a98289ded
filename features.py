"""What filters see: the images that activate each most, and a picture that activation maximisation draws for it.

    python features.py

Reads what mab.py wrote, and the images of the values. Takes the filters that mab.py put first, or those that FILTERS names. Writes
RECORDS_DIR/features.png and .pdf: a row a filter, with its layer, value and interval. Of faces, the figure shows
faces: git ignores it.

The picture (Erhan et al. 2009; Olah et al. 2017) is ours, in some thirty lines: lucent, the library of the genre, has had no release since
2021.
"""

import time

import numpy as np
import torch
from tqdm import tqdm

import ablation
import figures
import game
import model
import records
import settings
from datasets import MEAN, STD, normalise
from settings import (ARCH, CELEBA_FRAME, DATA_DIR, DEVICE, FAIRFACE_FRAME, IMAGE_SIZE, RECORDS_DIR, SEED, TASK, WEIGHTS,
                      Stop)

# -----------------------------------------------------------------------------
SHOWN = 8       # filters, if FILTERS is empty
FILTERS = ""    # their numbers, as in filters.csv, with commas between
IMAGES = 6      # of each filter: those that activate it most
STEPS = 100     # of the maximisation
# -----------------------------------------------------------------------------


def activations(evaluator, images, filters):
    """Each filter's output averaged over positions, (N, len(filters)) float32: images (N, 3, S, S) uint8."""
    raw, channels, found = evaluator.raw[filters], [evaluator.channels[filter] for filter in filters], []
    with torch.no_grad():
        for batch in tqdm(images.split(20), "activations", unit=" batches", leave=False, dynamic_ncols=True):
            values = model.forward(evaluator.steps, normalise(batch, evaluator.device))
            outputs = [values[step][:, channel].clamp_min(evaluator.low[filter]) for step, channel, filter in zip(raw, channels, filters)]
            found.append(torch.stack([output.mean((1, 2)) for output in outputs], 1).cpu())
    return torch.cat(found).numpy()


def palette(images):
    """How colours vary in images (N, 3, S, S) uint8: (3, 3) float32, RGB from three independent channels (a root of their covariance)."""
    pixels = images[:500, :, ::4, ::4].float().permute(1, 0, 2, 3).flatten(1) / 255
    values, vectors = torch.linalg.eigh(torch.cov(pixels))
    root = vectors * values.clamp_min(0).sqrt()
    return root / root.norm(dim=1).max()


def maximise(evaluator, filters, image_size, colours, steps, seed):
    """Pictures that excite each filter most, (len(filters), S, S, 3) uint8. colours: as from palette.

    By Adam on the pictures' spectra, high frequencies damped (so that they are smooth), in the colours of the data, and
    seen shifted a little at random in each step (so that a pattern counts wherever it lies). What is
    maximised is the raw output of the filter's conv, averaged over positions: it has a gradient where ReLU has none.
    """
    rng, device = torch.Generator().manual_seed(seed), evaluator.device
    spectra = 0.01 * torch.randn((len(filters), 3, image_size, image_size // 2 + 1, 2), generator=rng)
    spectra = spectra.to(device).requires_grad_()
    frequency = (torch.fft.fftfreq(image_size)[:, None] ** 2 + torch.fft.rfftfreq(image_size)[None] ** 2).sqrt()
    damping = (1 / frequency.clamp_min(1 / image_size)).to(device)
    colours, mean, std = colours.to(device), *(torch.tensor(some, device=device).view(3, 1, 1) for some in (MEAN, STD))
    adam = torch.optim.Adam([spectra], 0.02)

    def pictures():
        channels = torch.fft.irfft2(torch.view_as_complex(spectra) * damping, s=(image_size, image_size), norm="ortho")
        return torch.einsum("rc,bchw->brhw", 2 * colours, channels).sigmoid()

    for _ in tqdm(range(steps), "maximising", unit=" steps", leave=False, dynamic_ncols=True):
        reach = image_size // 16
        shift = torch.randint(-reach, reach + 1, (2,), generator=rng).tolist()
        seen = (pictures().roll(shift, (2, 3)) - mean) / std
        values = model.forward(evaluator.steps, seen.contiguous(memory_format=torch.channels_last))
        excited = sum(values[evaluator.raw[filter]][row, evaluator.channels[filter]].mean() for row, filter in enumerate(filters))
        adam.zero_grad()
        (-excited).backward()
        adam.step()
    return (255 * pictures().detach()).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def chosen(table, given, number, which):
    """The filters to show: those that are given, "3,14", or the first of the set that was sought. Raises Stop."""
    try:
        filters = [int(part) for part in given.split(",") if part]
    except ValueError:
        filters = [-1]
    known = set(table["filter"])
    settings.require("FILTERS", given, known.issuperset(filters), "numbers of filters that filters.csv has, with commas between")
    return filters or table.sort_values("shapley", ascending=which == "lowest", kind="stable")["filter"].tolist()[:number]


def main():
    started = time.time()
    for name, value in (("SHOWN", SHOWN), ("IMAGES", IMAGES), ("STEPS", STEPS)):
        settings.require(name, value, value >= 1, "at least 1")
    device = model.device_of(DEVICE)
    run = records.load_json(f"{RECORDS_DIR}/mab.json", "mab.py")["run"]
    network, classes, data = game.load(settings.chosen(globals()), device, run)
    evaluator = ablation.evaluator(network, IMAGE_SIZE)
    if not hasattr(evaluator, "raw"):
        raise Stop(f"{ARCH} cannot be cut into steps, which the pictures need; give another --ARCH")
    table = records.load_csv(f"{RECORDS_DIR}/filters.csv", "mab.py", ["filter", "layer", "channel", "shapley", "ci_low", "ci_high"])
    filters = chosen(table, FILTERS, SHOWN, run["WHICH"])
    active = activations(evaluator, data.images, filters)
    most = np.argsort(-active, axis=0, kind="stable")[:IMAGES].T  # (filters, IMAGES)
    pictures = maximise(evaluator, filters, IMAGE_SIZE, palette(data.images), STEPS, SEED)
    shown = data.images[torch.from_numpy(most.flatten())].permute(0, 2, 3, 1).numpy().reshape(*most.shape, IMAGE_SIZE, IMAGE_SIZE, 3)
    labels = [[classes[data.label[row]] for row in rows] for rows in most]
    rows = table.set_index("filter").loc[filters]
    figure = figures.features(pictures, shown, labels, rows)
    records.save({f"{RECORDS_DIR}/features.json": {
        **records.about(settings.chosen(globals()), time.time() - started, str(device)), "network": run["network"], "filters": filters,
        "most_active": most.tolist(), "labels": labels},
        **{f"{RECORDS_DIR}/features.{kind}": figure for kind in ("png", "pdf")}})
    for filter, names in zip(filters, labels):
        print(f"{figures.filter_title(rows.loc[filter])}: most active on {', '.join(names)}")
    print(f"{RECORDS_DIR}/features.png and .pdf written.")


if __name__ == "__main__":
    settings.run(main, globals())
