"""How long one evaluation of V takes, against a plain forward and the naive ways.

    python bench.py

Times, in one run and interleaved: the network as it is; a masked forward for every coalition; the
earlier reimplementation's way (for every evaluation a new loader with two workers that decodes the
images, then a masked forward); and ours, along the removals of one order. Prints medians over repeats
and writes RECORDS_DIR/bench.json. Needs squeezenet.pth and the images of the values.
"""

import time

import numpy as np
import torch
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


def successor_share(network, images):
    """Multiplications behind a removed filter's stage, as a share of all, averaged over filters."""
    stages, _ = model.chain(network)
    convs, work = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)], {}
    handles = [conv.register_forward_hook(lambda conv, _, out: work.__setitem__(conv, conv.weight.numel() * out[0, 0].numel()))
               for conv in convs]
    network(images[:1])
    for handle in handles:
        handle.remove()
    names = {module: name for name, module in network.named_modules()}
    per_layer = {names[conv]: amount for conv, amount in work.items()}
    per_stage = [sum(per_layer[name] for name in dict.fromkeys(stage.names)) for stage in stages]
    behind = sum(per_layer.values()) - np.cumsum(per_stage)
    return float(np.average(behind / sum(per_layer.values()), weights=[len(stage.names) for stage in stages]))


class JpegFiles(torch.utils.data.Dataset):
    """Images decoded when asked for, as the earlier reimplementation had them."""

    def __init__(self, paths, image_size, frame):
        self.paths, self.image_size, self.frame = paths, image_size, frame

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, row):
        return torch.from_numpy(datasets.read_image(self.paths[row], self.image_size, self.frame)).permute(2, 0, 1)


def main():
    started = time.time()
    for name, value in (("IMAGES", IMAGES), ("REMOVALS", REMOVALS), ("REPEATS", REPEATS)):
        settings.require(name, value, value >= 1, "at least 1")
    device = model.device_of(DEVICE)
    network = model.load(settings.weights_path(RECORDS_DIR), ARCH=ARCH, IMAGE_SIZE=IMAGE_SIZE).to(device)
    faces = datasets.fairface(DATA_DIR, "values", IMAGE_SIZE, FAIRFACE_FRAME)
    settings.require("IMAGES", IMAGES, IMAGES <= len(faces.male), f"at most {len(faces.male)}, the images for the values")
    table = datasets.fairface_table(DATA_DIR)
    paths = table[table["purpose"] == "values"]["path"].tolist()[:IMAGES]
    fills = ablation.fill_values(network, faces, "mean", device)
    images = datasets.normalise(faces.images[:IMAGES], device)
    male = faces.male[:IMAGES].to(device)
    rng = np.random.default_rng(SEED)

    def order():
        keep = np.ones((REMOVALS + 1, len(fills)), dtype=bool)
        for step, removed in enumerate(rng.permutation(len(fills))[:REMOVALS]):
            keep[step + 1:, removed] = False
        return keep

    def masked_forward(images, keep):
        """A whole forward pass with the removed filters of `keep` filled: no prefix is shared."""
        stages, head = model.chain(network)
        first = 0
        for stage in stages:
            images = stage.forward(images)
            removed = np.flatnonzero(~keep[first:first + len(stage.names)])
            images[:, torch.from_numpy(removed).to(device)] = fills[first + removed][:, None, None]
            first += len(stage.names)
        return head(images)

    def accuracy(logits):
        return (logits.argmax(-1) == male).float().mean(-1).cpu()

    def plain():
        return accuracy(network(images))

    def naive():
        return accuracy(masked_forward(images, order()[rng.integers(REMOVALS)]))

    def earlier():
        loader = torch.utils.data.DataLoader(JpegFiles(paths, IMAGE_SIZE, FAIRFACE_FRAME), IMAGES, num_workers=2)
        for batch in loader:
            return accuracy(masked_forward(datasets.normalise(batch, device), order()[rng.integers(REMOVALS)]))

    def shared():
        return accuracy(ablation.Coalitions(network, fills, images).logits(order()))

    ways = {"plain": (plain, 1), "naive": (naive, 1), "earlier": (earlier, 1), "shared": (shared, REMOVALS + 1)}
    times = {name: [] for name in ways}
    with torch.no_grad():
        for repeat in tqdm(range(REPEATS + 1), "bench.py", unit=" repeats"):
            for name, (measure, evaluations) in ways.items():
                before = time.perf_counter()
                measure()
                if repeat:  # the first warms up
                    times[name].append((time.perf_counter() - before) / evaluations)
        share = successor_share(network, images)
    milliseconds = {name: 1000 * float(np.median(some)) for name, some in times.items()}
    records.save({f"{RECORDS_DIR}/bench.json": {
        **records.about(settings.chosen(globals()), time.time() - started, str(device)),
        **{f"{name}_ms": value for name, value in milliseconds.items()},
        "suffix_share": share, "image_size": IMAGE_SIZE, "images": IMAGES, "arch": ARCH,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"}})
    for name, value in milliseconds.items():
        print(f"{name:8} {value:9.2f} ms an evaluation, {milliseconds['plain'] / value:6.2f} x a plain forward's speed")
    print(f"share of a forward behind a removed filter: {share:.3f}; ours / (share x plain): "
          f"{milliseconds['shared'] / share / milliseconds['plain']:.2f}")


if __name__ == "__main__":
    settings.run(main, globals())
