"""How long one evaluation of V takes, against a plain forward pass and other ways to remove filters.

    python bench.py

Times, in one run and interleaved: the network as it is, on all images at once and on as many at a time
as suits ours; a masked forward for every coalition; the earlier reimplementation's way (for
every evaluation a new loader with two workers that decodes the images, then a masked forward in the
default memory layout); and ours, along the removals of one order, by single removals from one coalition,
and by one guess of all filters' marginals there. Prints medians over repeats and where our time goes, and
writes RECORDS_DIR/bench.json. Weights are random: time does not depend on them.
"""

import copy
import time

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

import ablation
import datasets
import model
import records
import settings
from settings import ARCH, DATA_DIR, DEVICE, FAIRFACE_FRAME, IMAGE_SIZE, RECORDS_DIR, SEED

# -----------------------------------------------------------------------------
IMAGES = 128    # in a batch
REMOVALS = 150  # along an order; the length of a truncated one
REPEATS = 9     # of each measurement
# -----------------------------------------------------------------------------

KINDS = {  # of operations, by what their names in PyTorch contain
    "convolutions and matrix products": ("conv", "mm", "linear"), "ReLU and removal": ("clamp", "index_put", "copy_", "fill_"),
    "pooling": ("pool",)}


def suffix_share(evaluator, images):
    """Multiplications behind a removed filter, as a share of all, averaged over filters."""
    work = np.zeros(len(evaluator.steps))
    for number, step in enumerate(evaluator.steps):
        for layer in step.run.modules() if step.run else ():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                def count(layer, _, out, number=number):
                    work[number] += layer.weight.numel() * out[0, 0].numel()
                layer.register_forward_hook(count)  # on a copy of the network, which is not used any more
    model.forward(evaluator.steps, images[:1])

    def behind(gate):
        stale = {gate}
        for number, step in enumerate(evaluator.steps):
            if not stale.isdisjoint(step.inputs):
                stale.add(number)
        return work[list(stale)].sum()

    gates, filters = np.unique(evaluator.gate, return_counts=True)
    return float(np.average([behind(gate) for gate in gates], weights=filters) / work.sum())


def time_by_kind(evaluate, device):
    """{kind of operation: share of the time that they take} while `evaluate` runs."""
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda) as profiler:
        evaluate()
    shares = dict.fromkeys([*KINDS, "the rest"], 0.0)
    for event in profiler.key_averages():
        if event.device_type != torch.autograd.DeviceType.CPU:
            continue  # a GPU's kernel, whose time its operation has
        spent = event.self_device_time_total if cuda else event.self_cpu_time_total
        shares[next((kind for kind, parts in KINDS.items() if any(part in event.key for part in parts)), "the rest")] += spent
    return {kind: spent / sum(shares.values()) for kind, spent in shares.items()}


class JpegFiles(torch.utils.data.Dataset):
    """Images decoded when asked for, as the earlier reimplementation had them."""

    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, row):
        return torch.from_numpy(datasets.read_image(self.paths[row], IMAGE_SIZE, FAIRFACE_FRAME)).permute(2, 0, 1)


def main():
    started = time.time()
    for name, value in (("IMAGES", IMAGES), ("REMOVALS", REMOVALS), ("REPEATS", REPEATS)):
        settings.require(name, value, value >= 1, "at least 1")
    device = model.device_of(DEVICE)
    torch.manual_seed(SEED)
    network = model.build(ARCH, "none", IMAGE_SIZE).eval().to(device)
    default_layout = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    faces = datasets.fairface(DATA_DIR, "values", IMAGE_SIZE, FAIRFACE_FRAME)
    settings.require("IMAGES", IMAGES, IMAGES <= len(faces.label), f"at most {len(faces.label)}, the images for the values")
    table = datasets.fairface_table(DATA_DIR)
    jpegs = JpegFiles(table[table["purpose"] == "values"]["path"].tolist()[:IMAGES])
    images = datasets.normalise(faces.images[:IMAGES], device)
    male = faces.label[:IMAGES].to(device)
    ours = ablation.Coalitions(network, IMAGE_SIZE)
    masked, masked_default = (ablation.MaskedForwards(some, IMAGE_SIZE) for some in (network, default_layout))
    fills = ablation.fill_values(ours, faces.take(slice(IMAGES)), "mean")
    ours.see(images, fills)
    rng = np.random.default_rng(SEED)

    def removals():
        """An order's coalitions, (REMOVALS + 1, n_filters) bool: nothing removed first."""
        removed = rng.permutation(len(fills))[:REMOVALS]
        keep = np.ones((REMOVALS + 1, len(fills)), dtype=bool)
        for step in range(REMOVALS):
            keep[step + 1:, removed[step]] = False
        return keep

    def accuracy(logits):
        return (logits.argmax(-1) == male).float().mean(-1).cpu()

    def plain(keep):
        return accuracy(network(images))

    def plain_in_parts(keep):
        return accuracy(torch.cat([network(part) for part in images.split(ours.images_at_once)]))

    def naive(keep):
        masked.see(images, fills)
        return accuracy(masked.logits(keep[-1:]))

    def earlier(keep):
        for batch in torch.utils.data.DataLoader(jpegs, IMAGES, num_workers=2):
            masked_default.see(datasets.normalise(batch, device).contiguous(), fills)
            return accuracy(masked_default.logits(keep[-1:]))

    def shared(keep):
        ours.see(images, fills)
        for start in range(0, len(keep), ours.chunk):  # as mab.py calls it
            accuracy(ours.logits(keep[start:start + ours.chunk]))

    def singles(keep):
        ours.see(images, fills)
        flipped = np.repeat(keep[-1:], len(keep), 0)
        flipped[np.arange(len(keep)), rng.permutation(len(fills))[:len(keep)]] ^= True
        accuracy(ours.logits(flipped))

    def guess(keep):
        ours.see(images, fills)
        ours.first_order(keep[-1], male)

    ways = {"plain": plain, "plain_in_parts": plain_in_parts, "naive": naive, "earlier": earlier, "shared": shared,
            "singles": singles, "guess": guess}
    many = ("shared", "singles")  # evaluate REMOVALS + 1 coalitions
    times = {name: [] for name in ways}
    with torch.no_grad():
        for repeat in tqdm(range(REPEATS + 1), "bench.py", unit=" repeats"):
            for name, measure in ways.items():
                keep = removals()
                if name not in many:
                    measure(keep)  # so that none pays for the caches that the one before left; ours pays for its own
                before = time.perf_counter()
                measure(keep)
                if repeat:  # the first warms up
                    times[name].append((time.perf_counter() - before) / (REMOVALS + 1 if name in many else 1))
        spent = time_by_kind(lambda: shared(removals()), device)
    ms = {name: 1000 * float(np.median(some)) for name, some in times.items()}
    at_once, images_at_once, share = ours.coalitions_at_once, ours.images_at_once, suffix_share(ours, images)
    records.save({f"{RECORDS_DIR}/bench.json": {
        **records.about(settings.chosen(globals()), time.time() - started, str(device)),
        **{f"{name}_ms": value for name, value in ms.items()},
        "evaluations_a_guess": ms["guess"] / ms["singles"], "suffix_share": share, "spent": spent,
        "image_size": IMAGE_SIZE, "images": IMAGES, "arch": ARCH,
        "coalitions_at_once": at_once, "images_at_once": images_at_once, "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"}})
    for name, value in ms.items():
        what = "a guess of all marginals" if name == "guess" else "an evaluation"
        print(f"{name:14} {value:9.2f} ms {what}, {ms['plain'] / value:6.2f} x a plain forward's speed")
    print(f"Share of a forward behind a removed filter: {share:.3f}. Ours takes {ms['shared'] / share / ms['plain']:.2f} of share x plain.")
    print("Where its time goes: " + ", ".join(f"{kind} {part:.0%}" for kind, part in spent.items()) + ".")


if __name__ == "__main__":
    settings.run(main, globals())
