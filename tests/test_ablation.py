"""Removing filters: exactness against forward hooks, on random weights."""

import numpy as np
import pytest
import torch
from tqdm import tqdm

import ablation
import model
from datasets import GROUPS, Faces, normalise
from settings import Stop

N_FILTERS = {"squeezenet1_1": 2944, "squeezenet1_0": 2976}


@pytest.fixture(scope="module", params=sorted(N_FILTERS))
def network(request):
    torch.manual_seed(0)
    network = model.squeezenet(request.param, "none").eval()
    assert sum(len(stage.names) for stage in model.chain(network)[0]) == N_FILTERS[request.param]
    return network


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(0)
    group = torch.arange(24) % len(GROUPS)
    images = torch.from_numpy(rng.integers(0, 256, (24, 3, 48, 48), dtype=np.uint8))
    return Faces(images, torch.tensor([int(GROUPS[index][1] == "Male") for index in group]), group)


def naive_logits(network, fills, images, keep):
    """One coalition the plain way: a hook behind every conv that fills the removed channels' ReLU output.

    A filter's ReLU output is `fill` exactly if its conv output is, as fills are not negative.
    """
    stages, _ = model.chain(network)
    names = [name for stage in stages for name in stage.names]
    channels = [channel for stage in stages for channel in stage.channels]
    removed = {}
    for index in np.flatnonzero(~keep):
        removed.setdefault(names[index], []).append(index)

    def hook(indices):
        def fill(module, inputs, output):
            output[:, [channels[index] for index in indices]] = fills[indices][:, None, None]
            return output
        return fill

    handles = [network.get_submodule(name).register_forward_hook(hook(indices)) for name, indices in removed.items()]
    try:
        with torch.no_grad():
            return network(images)
    finally:
        for handle in handles:
            handle.remove()


def coalitions(n, kind, rng):
    """(6, n) bool: an order of removals, single removals from one base, or unrelated sets of any size."""
    keep = np.ones((6, n), dtype=bool)
    if kind == "nested":
        for row, removed in enumerate(np.array_split(rng.permutation(n)[:n // 2], 6)):
            keep[row:, removed] = False
    elif kind == "single":
        keep[:, rng.permutation(n)[:50]] = False
        keep[np.arange(6), rng.integers(0, n, 6)] = False
    else:
        keep = rng.random((6, n)) < rng.uniform(0.7, 1, (6, 1))
    return keep


@pytest.mark.parametrize("kind", ["nested", "single", "unrelated"])
@pytest.mark.parametrize("removal", ["mean", "zero"])
def test_logits_equal_a_naive_forward(network, faces, removal, kind):
    fills = ablation.fill_values(network, faces, removal, "cpu")
    keep = coalitions(len(fills), kind, np.random.default_rng(len(kind)))
    images = normalise(faces.images, "cpu")
    found = ablation.Coalitions(network, fills, images).logits(keep)
    expected = torch.stack([naive_logits(network, fills, images, row) for row in keep])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected[0], expected[-1])  # the removals do something


def test_all_kept_is_the_network(network, faces):
    images = normalise(faces.images, "cpu")
    with torch.no_grad():
        expected = network(images)
    everyone = np.ones((1, N_FILTERS["squeezenet1_1" if len(network.features[0].weight) == 64 else "squeezenet1_0"]), bool)
    fills = torch.zeros(everyone.shape[1])
    torch.testing.assert_close(ablation.Coalitions(network, fills, images).logits(everyone)[0], expected)


def test_long_order_does_not_drift(faces):
    torch.manual_seed(1)
    network = model.squeezenet("squeezenet1_1", "none").eval()
    fills = ablation.fill_values(network, faces, "mean", "cpu")
    images = normalise(faces.images[:4], "cpu")
    keep = np.ones((400, len(fills)), dtype=bool)
    for step, removed in enumerate(np.random.default_rng(0).permutation(len(fills))[:399]):
        keep[step + 1:, removed] = False
    found = ablation.Coalitions(network, fills, images).logits(keep)
    fresh = ablation.Coalitions(network, fills, images).logits(keep[-1:])
    assert torch.equal(found[-1:], fresh)
    torch.testing.assert_close(found[-1], naive_logits(network, fills, images, keep[-1]), rtol=1e-5, atol=1e-5)


def test_mean_fills_are_means_over_all_images(network, faces):
    fills = ablation.fill_values(network, faces, "mean", "cpu", batch_size=7)  # unequal batches
    with torch.no_grad():
        first = torch.relu(network.features[0](normalise(faces.images, "cpu"))).mean((0, 2, 3))
    torch.testing.assert_close(fills[:len(first)], first)
    assert (fills >= 0).all()
    assert (ablation.fill_values(network, faces, "zero", "cpu") == 0).all()


def test_batch_accuracy(network, faces):
    fills = torch.zeros(sum(len(stage.names) for stage in model.chain(network)[0]))
    keep = np.ones((2, len(fills)), dtype=bool)
    keep[1] = False
    value = ablation.BatchAccuracy(network, fills, faces, len(faces.male), "cpu")  # a batch of all the faces
    with torch.no_grad():
        right = (network(normalise(faces.images, "cpu")).argmax(1) == faces.male).float().mean()
    assert value(keep, 3)[0] == pytest.approx(right.item())
    assert value(keep, 3)[1] == 0.5  # everything removed: one answer for all
    small = ablation.BatchAccuracy(network, fills, faces, 8, "cpu")
    assert np.array_equal(small(keep, 3), small(keep, 3))
    seen = {small.male.tolist().count(1) for seed in range(5) if small(keep[:1], seed) is not None}
    assert seen == {4}  # the same number from each group
    with pytest.raises(Stop):
        ablation.BatchAccuracy(network, fills, faces, 28, "cpu")


def test_margins_equal_the_network(network, faces):
    fills = ablation.fill_values(network, faces, "mean", "cpu")
    keep = np.ones((2, len(fills)), dtype=bool)
    keep[1, ::9] = False
    bar = tqdm(disable=True)
    found = ablation.margins(network, fills, faces, keep, "cpu", bar, batch_size=7)
    for row, margin in zip(keep, found):
        logits = naive_logits(network, fills, normalise(faces.images, "cpu"), row)
        np.testing.assert_allclose(margin, (logits[:, 1] - logits[:, 0]).numpy(), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_from_scratch_both_logits_live(seed, faces):
    """Training without ImageNet's weights must not end with both logits 0 for every face (loss ln 2)."""
    torch.manual_seed(seed)
    network = model.squeezenet("squeezenet1_1", "none")
    bright = faces._replace(images=(faces.images // 2 + 127 * faces.male.view(-1, 1, 1, 1).to(torch.uint8)))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=60, pct_start=0.1)
    for _ in range(20):
        model.epoch(network, bright, "cpu", 8, optimizer, schedule, np.random.default_rng(seed))
    loss, correct = model.epoch(network, bright, "cpu", 8)
    assert loss < 0.3 and correct.float().mean() > 0.9


def test_epoch_is_exact_for_unequal_batches(network, faces):
    whole, some = (model.epoch(network, faces, "cpu", size) for size in (len(faces.male), 7))
    assert whole[0] == pytest.approx(some[0], rel=1e-5) and torch.equal(whole[1], some[1])
