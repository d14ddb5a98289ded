"""How long one evaluation of V takes, and how long other ways to remove filters take.

    python -m tools.bench

Times these ways, interleaved in one run: the network as it is, on all images at once and on as
many at a time as suits ours; a masked forward for every coalition; the earlier reimplementation's
way (for every evaluation a new loader with two workers that decodes the images, then a masked
forward in the default memory layout); and ours, along the removals of one order, by single removals
from one coalition, and by one guess of all filters' marginals there. Prints medians over repeats
and where our time goes, and writes RECORDS_DIR/bench.json. Weights are random: time does not depend
on them.
"""

import copy
import time
from dataclasses import dataclass

from common import records, settings
from common.settings import (
    ARCH,
    DATA_DIR,
    DEVICE,
    FAIRFACE_FRAME,
    IMAGE_SIZE,
    RECORDS_DIR,
    SEED,
)

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

import datasets
import model
from filters.coalitions import Coalitions
from filters.graph import run_steps
from filters.masked import MaskedForwards
from filters.value import fill_values
from report.removals import coalitions_along

# -----------------------------------------------------------------------------
IMAGES = 128  # in a batch
REMOVALS = 150  # along an order; the length of a truncated one
REPEATS = 9  # of each measurement
# -----------------------------------------------------------------------------

# Kinds of operations, by what their names in PyTorch contain.
KINDS = {
    "convolutions and matrix products": ("conv", "mm", "linear"),
    "ReLU and removal": ("clamp", "index_put", "copy_", "fill_"),
    "pooling": ("pool",),
}


class JpegFiles(torch.utils.data.Dataset):
    """Images decoded at each access, as the earlier reimplementation did."""

    def __init__(self, paths, image_size, frame):
        self.paths, self.image_size, self.frame = paths, image_size, frame

    def __len__(self):
        """The number of images."""
        return len(self.paths)

    def __getitem__(self, row):
        """One image, (3, S, S) uint8."""
        image = datasets.read_image(self.paths[row], self.image_size, self.frame)
        return torch.from_numpy(image).permute(2, 0, 1)


@dataclass
class Setup:
    """A batch of images, and a network in every form that is timed.

    images (B, 3, S, S) float32, labels (B,) int64, fills (n_filters,) float32.
    """

    network: torch.nn.Module
    ours: Coalitions
    masked: MaskedForwards
    masked_default: MaskedForwards  # in PyTorch's default memory layout
    jpegs: JpegFiles
    images: torch.Tensor
    labels: torch.Tensor
    fills: torch.Tensor
    rng: np.random.Generator

    def draw_removals(self, n_removals):
        """Coalitions along one order, (n_removals + 1, n_filters) bool: nothing removed first."""
        removed = self.rng.permutation(len(self.fills))[:n_removals]
        return coalitions_along(removed, len(self.fills))

    def accuracy(self, logits):
        """Share of the batch that is right: (..., B, classes) -> (...), on the CPU."""
        return (logits.argmax(-1) == self.labels).float().mean(-1).cpu()


def plain(setup, keep):
    """The network as it is, on all images at once."""
    setup.accuracy(setup.network(setup.images))


def plain_in_parts(setup, keep):
    """The network as it is, on as many images at once as ours takes."""
    parts = setup.images.split(setup.ours.images_at_once)
    setup.accuracy(torch.cat([setup.network(part) for part in parts]))


def naive(setup, keep):
    """A forward pass with hooks that remove filters."""
    setup.masked.see(setup.images, setup.fills)
    setup.accuracy(setup.masked.logits(keep[-1:]))


def earlier(setup, keep):
    """Images decoded by a new loader with two workers, then a masked forward pass."""
    device = setup.images.device
    for batch in torch.utils.data.DataLoader(setup.jpegs, len(setup.images), num_workers=2):
        images = datasets.normalise(batch, device).contiguous()
        setup.masked_default.see(images, setup.fills)
        setup.accuracy(setup.masked_default.logits(keep[-1:]))


def shared(setup, keep):
    """Ours, along an order, in the chunks in which mab.py evaluates it."""
    setup.ours.see(setup.images, setup.fills)
    for start in range(0, len(keep), setup.ours.chunk):
        setup.accuracy(setup.ours.logits(keep[start : start + setup.ours.chunk]))


def singles(setup, keep):
    """Ours, single filters removed from (or put back into) the last coalition."""
    setup.ours.see(setup.images, setup.fills)
    flipped = np.repeat(keep[-1:], len(keep), 0)
    filters = setup.rng.permutation(len(setup.fills))[: len(keep)]
    flipped[np.arange(len(keep)), filters] ^= True
    setup.accuracy(setup.ours.logits(flipped))


def guess(setup, keep):
    """A guess of all filters' marginals at the last coalition."""
    setup.ours.see(setup.images, setup.fills)
    setup.ours.first_order(keep[-1], setup.labels)


WAYS = {
    "plain": plain,
    "plain_in_parts": plain_in_parts,
    "naive": naive,
    "earlier": earlier,
    "shared": shared,
    "singles": singles,
    "guess": guess,
}
WHOLE_ORDER = {"shared", "singles"}  # evaluate all coalitions of a call, not one


def suffix_share(evaluator, images):
    """Multiplications behind a removed filter, as a share of all, averaged over filters."""
    work = np.zeros(len(evaluator.steps))  # multiplications of each step
    for number, step in enumerate(evaluator.steps):
        for layer in step.run.modules() if step.run else ():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                _count_multiplications(layer, work, number)
    run_steps(evaluator.steps, images[:1])
    gates, filters = np.unique(evaluator.gate, return_counts=True)
    behind = [work[_steps_behind(evaluator.steps, gate)].sum() for gate in gates]
    return float(np.average(behind, weights=filters) / work.sum())


def _count_multiplications(layer, work, number):
    """Add a layer's multiplications to work[number] at its next call.

    The hook remains: the layer belongs to a copy of the network that is not used any more.
    """

    def count(layer, _, out):
        work[number] += layer.weight.numel() * out[0, 0].numel()

    layer.register_forward_hook(count)


def _steps_behind(steps, gate):
    """Numbers of the steps whose output depends on that of a gate, itself included: a list."""
    stale = {gate}
    for number, step in enumerate(steps):
        if not stale.isdisjoint(step.inputs):
            stale.add(number)
    return list(stale)


def time_by_kind(evaluate, device):
    """{kind of operation: share of the time that they take} while `evaluate` runs."""
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda) as profiler:
        evaluate()
    spent = dict.fromkeys([*KINDS, "the rest"], 0.0)
    for event in profiler.key_averages():
        if event.device_type != torch.autograd.DeviceType.CPU:
            continue  # a GPU's kernel; its operation has its time
        seconds = event.self_device_time_total if cuda else event.self_cpu_time_total
        spent[_kind(event.key)] += seconds
    total = sum(spent.values())
    return {kind: seconds / total for kind, seconds in spent.items()}


def _kind(operation):
    for kind, parts in KINDS.items():
        if any(part in operation for part in parts):
            return kind
    return "the rest"


def load_setup(device):
    """The images of the values and a network with random weights: a Setup."""
    torch.manual_seed(SEED)
    network = model.build(ARCH, "none", IMAGE_SIZE).eval().to(device)
    default_layout = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    faces = datasets.fairface(DATA_DIR, "values", IMAGE_SIZE, FAIRFACE_FRAME)
    available = len(faces.label)
    rule = f"at most {available}, the images for the values"
    settings.require("IMAGES", IMAGES, available >= IMAGES, rule)
    table = datasets.fairface_table(DATA_DIR)
    paths = table[table["purpose"] == "values"]["path"].tolist()[:IMAGES]
    ours = Coalitions(network, IMAGE_SIZE)
    batch = faces.take(slice(IMAGES))
    setup = Setup(
        network=network,
        ours=ours,
        masked=MaskedForwards(network, IMAGE_SIZE),
        masked_default=MaskedForwards(default_layout, IMAGE_SIZE),
        jpegs=JpegFiles(paths, IMAGE_SIZE, FAIRFACE_FRAME),
        images=datasets.normalise(batch.images, device),
        labels=batch.label.to(device),
        fills=fill_values(ours, batch, "mean"),
        rng=np.random.default_rng(SEED),
    )
    setup.ours.see(setup.images, setup.fills)
    return setup


@torch.no_grad()
def time_ways(setup, n_removals, repeats):
    """Median milliseconds of one evaluation each way: {way: float}."""
    seconds = {name: [] for name in WAYS}
    for repeat in tqdm(range(repeats + 1), "tools.bench", unit=" repeats"):
        for name, way in WAYS.items():
            keep, evaluations = setup.draw_removals(n_removals), 1
            if name in WHOLE_ORDER:
                evaluations = n_removals + 1
            else:
                way(setup, keep)  # warm caches; ours pays for its own
            before = time.perf_counter()
            way(setup, keep)
            if repeat:  # the first warms up
                seconds[name].append((time.perf_counter() - before) / evaluations)
    return {name: 1000 * float(np.median(times)) for name, times in seconds.items()}


def print_times(ms, share, spent):
    """Print a line for each way, and where our time goes."""
    for name, value in ms.items():
        what = "a guess of all marginals" if name == "guess" else "an evaluation"
        speed = f"{ms['plain'] / value:6.2f} x a plain forward's speed"
        print(f"{name:14} {value:9.2f} ms {what}, {speed}")
    relative = ms["shared"] / share / ms["plain"]
    print(f"Share of a forward pass behind a removed filter: {share:.3f}.")
    print(f"Ours takes {relative:.2f} of share x plain.")
    kinds = ", ".join(f"{kind} {part:.0%}" for kind, part in spent.items())
    print(f"Where its time goes: {kinds}.")


def main():
    """Time all ways, save and print."""
    started = time.time()
    for name, value in (("IMAGES", IMAGES), ("REMOVALS", REMOVALS), ("REPEATS", REPEATS)):
        settings.require(name, value, value >= 1, "at least 1")
    device = model.find_device(DEVICE)
    setup = load_setup(device)
    ms = time_ways(setup, REMOVALS, REPEATS)
    with torch.no_grad():
        spent = time_by_kind(lambda: shared(setup, setup.draw_removals(REMOVALS)), device)
    ours, on_gpu = setup.ours, device.type == "cuda"
    share = suffix_share(ours, setup.images)
    record = {
        **records.provenance(settings.constants_of(globals()), time.time() - started, str(device)),
        **{f"{name}_ms": value for name, value in ms.items()},
        "evaluations_a_guess": ms["guess"] / ms["singles"],
        "suffix_share": share,
        "spent": spent,
        "image_size": IMAGE_SIZE,
        "images": IMAGES,
        "arch": ARCH,
        "coalitions_at_once": ours.coalitions_at_once,
        "images_at_once": ours.images_at_once,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
    }
    records.save({f"{RECORDS_DIR}/bench.json": record})
    print_times(ms, share, spent)


if __name__ == "__main__":
    settings.run(main, globals())
