"""Removing filters: exactness against forward hooks, on random weights."""

import copy

import numpy as np
import pytest
import torch
from tqdm import tqdm

import ablation
import model
from datasets import GROUPS, Images, normalise
from settings import Stop

N_FILTERS = {"squeezenet1_1": 2944, "squeezenet1_0": 2976, "resnet18": 4800, "resnet50": 26560, "vgg16": 4224,
             "inception_v3": 17216}


@pytest.fixture(scope="module", params=N_FILTERS)
def network(request):
    """Random weights; batch norms have seen images, so that folding them into convs changes the convs."""
    torch.manual_seed(0)
    network = model.build(request.param, "none")
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    with torch.no_grad():
        network.train()(normalise(patches(1), "cpu"))
    return network.eval()


def patches(seed):
    """24 images of coarse patches: unlike fine noise, they look different to a network."""
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 3, 5, 5), dtype=np.uint8)
    return torch.from_numpy(coarse.repeat(16, 2).repeat(16, 3))


@pytest.fixture(scope="module")
def faces():
    group = torch.arange(24) % len(GROUPS)
    return Images(patches(0), torch.tensor([int(GROUPS[index][1] == "Male") for index in group]), group)


def naive_logits(network, coalitions, fills, images, keep):
    """One coalition the plain way: a hook behind every conv, or its batch norm, that fills the removed channels.

    A filter's ReLU output is `fill` exactly if what the ReLU sees is, as fills behind ReLUs are not negative.
    """
    modules, removed = dict(network.named_modules()), {}
    for index in np.flatnonzero(~keep):
        conv = coalitions.layers[index]
        norm = conv.replace("downsample.0", "downsample.1").replace("conv", "bn")
        behind = norm if isinstance(modules.get(norm), torch.nn.BatchNorm2d) else conv
        removed.setdefault(behind, []).append(index)

    def hook(indices):
        def fill(module, inputs, output):
            output[:, [coalitions.channels[index] for index in indices]] = fills[indices][:, None, None]
            return output
        return fill

    handles = [modules[name].register_forward_hook(hook(indices)) for name, indices in removed.items()]
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


@pytest.fixture(scope="module")
def evaluator(network):
    return ablation.Coalitions(network, 80)


@pytest.fixture(scope="module")
def float64(network):
    return copy.deepcopy(network).double()


def rounding(expected, exact):
    """1e-5; more where a naive float32 forward is itself further from float64, as behind many batch norms."""
    return max(1e-5, 2 * (expected - exact).abs().max().item())


@pytest.mark.parametrize("kind, removal", [("nested", "mean"), ("single", "zero"), ("unrelated", "mean"), ("nested", "zero")])
def test_logits_equal_a_naive_forward(network, evaluator, float64, faces, removal, kind):
    images = normalise(faces.images[:5], "cpu")
    fills = ablation.fill_values(evaluator, faces, removal)
    keep = coalitions(len(fills), kind, np.random.default_rng(len(kind)))
    expected = torch.stack([naive_logits(network, evaluator, fills, images, row) for row in keep])
    exact = torch.stack([naive_logits(float64, evaluator, fills.double(), images.double(), row) for row in keep]).float()
    assert not torch.allclose(expected[0], expected[-1])  # the removals do something
    tolerance = rounding(expected, exact)
    for at_once in (1, 2, 4, 50):
        evaluator.coalitions_at_once = at_once
        evaluator.see(images, fills)
        found = evaluator.logits(keep)
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=tolerance)
        assert torch.equal(found.argmax(2), expected.argmax(2))
    evaluator.coalitions_at_once = 1


@pytest.fixture(scope="module")
def squeezenet():
    torch.manual_seed(1)
    return model.build("squeezenet1_1", "none").eval()


@pytest.mark.parametrize("seed", range(8))
def test_any_sets_in_any_chunks(squeezenet, faces, seed, monkeypatch):
    """Call after call on random sets, with any number of coalitions and of images at once."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(ablation, "CACHE", int(rng.integers(1, 4 * 10**6)))
    some = ablation.Coalitions(squeezenet, 80, int(rng.integers(1, 9)))
    fills = ablation.fill_values(some, faces, "mean")
    images = normalise(faces.images[:int(rng.integers(1, 9))], "cpu")
    some.see(images, fills)
    some.keeps_outputs = bool(rng.integers(2))
    for _ in range(4):
        keep = coalitions(len(fills), ["nested", "single", "unrelated"][rng.integers(3)], rng)[:rng.integers(1, 7)]
        expected = torch.stack([naive_logits(squeezenet, some, fills, images, row) for row in keep])
        torch.testing.assert_close(some.logits(keep), expected, rtol=1e-5, atol=1e-5)


def test_all_kept_is_the_network(network, evaluator, float64, faces, request):
    assert len(evaluator.layers) == len(evaluator.channels) == N_FILTERS[request.node.callspec.params["network"]]
    images = normalise(faces.images, "cpu")
    with torch.no_grad():
        expected, exact = network(images), float64(images.double()).float()
    evaluator.see(images, torch.zeros(len(evaluator.layers)))
    found = evaluator.logits(np.ones((1, len(evaluator.layers)), bool))[0]
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=rounding(expected, exact))


@pytest.mark.parametrize("at_once", [1, 7])
def test_long_order_does_not_drift(squeezenet, faces, at_once):
    some, fresh = ablation.Coalitions(squeezenet, 80, at_once), ablation.Coalitions(squeezenet, 80, at_once)
    fills = ablation.fill_values(some, faces, "mean")
    images = normalise(faces.images[:4], "cpu")
    keep = np.ones((400, len(fills)), dtype=bool)
    for step, removed in enumerate(np.random.default_rng(0).permutation(len(fills))[:399]):
        keep[step + 1:, removed] = False
    some.see(images, fills)
    fresh.see(images, fills)
    found = some.logits(keep)
    assert torch.equal(found[-1:], fresh.logits(keep[-1:]))
    torch.testing.assert_close(found[-1], naive_logits(squeezenet, some, fills, images, keep[-1]), rtol=1e-5, atol=1e-5)


class Odd(torch.nn.Module):
    """A residual, a torch.cat with a pooled branch and dim by name, a ReLU as a method, a conv without ReLU."""

    def __init__(self):
        super().__init__()
        self.convs = torch.nn.ModuleList([torch.nn.Conv2d(a, b, 3, padding=1) for a, b in ((3, 4), (4, 4), (4, 4), (12, 5))])
        self.head = torch.nn.Linear(5, 2)

    def forward(self, x):
        x = self.convs[0](x).relu()
        y = self.convs[1](x)
        y += x
        y = torch.cat([torch.nn.functional.max_pool2d(x, 3, 1, 1), self.convs[2](y).relu(), y], dim=1)
        return self.head(torch.nn.functional.relu(self.convs[3](y), inplace=True).mean((2, 3)))


class Shared(torch.nn.Module):
    """Convs whose outputs are used twice, one of them in a cat; a cat of one conv with itself; a ReLU6 named relu; view."""

    def __init__(self):
        super().__init__()
        self.convs = torch.nn.ModuleList([torch.nn.Conv2d(a, b, 3, padding=1) for a, b in ((3, 4), (4, 4), (8, 4), (8, 5))])
        self.relu = torch.nn.ReLU6()
        self.head = torch.nn.Linear(5, 2)

    def forward(self, x):
        x = self.convs[0](x)
        y = self.convs[2](torch.cat([x, torch.relu(self.convs[1](x))], 1))
        z = self.relu(9 * self.convs[3](torch.cat([y, y], 1)))
        return self.head(torch.nn.functional.adaptive_avg_pool2d(z, 1).view(-1, 5))


class Untraceable(Odd):
    def forward(self, x):
        return super().forward(x if x.mean() > 1e6 else 2 * x)


@pytest.mark.parametrize("kind", [Odd, Shared])
@pytest.mark.parametrize("at_once", [1, 3])
def test_odd_networks(faces, at_once, kind):
    torch.manual_seed(0)
    network = kind().eval()
    some = ablation.Coalitions(network, 80, at_once)
    assert any(None in step.filters for step in some.steps)  # a cat of filters with something else is a gate
    assert len(some.layers) == 17
    fills = torch.rand(17)
    images = normalise(faces.images[:3], "cpu")
    some.see(images, fills)
    for kind in ("nested", "single", "unrelated", "nested"):
        keep = coalitions(17, kind, np.random.default_rng(2)) if kind != "single" else ~np.eye(17, dtype=bool)
        expected = torch.stack([naive_logits(network, some, fills, images, row) for row in keep])
        torch.testing.assert_close(some.logits(keep), expected, rtol=1e-5, atol=1e-5)


def test_network_that_cannot_be_cut_takes_masked_forwards(faces, capsys):
    torch.manual_seed(0)
    network = Untraceable().eval()
    some = ablation.evaluator(network, 80)
    assert isinstance(some, ablation.MaskedForwards)
    assert "Untraceable takes a whole forward pass for each coalition" in capsys.readouterr().err
    fills = ablation.fill_values(some, faces, "mean", batch_size=7)
    assert fills.shape == (17,) and some.layers[4] == "convs.1" and some.channels[4] == 0
    images = normalise(faces.images[:3], "cpu")
    with torch.no_grad():
        first = network.convs[0](2 * normalise(faces.images, "cpu")).mean((0, 2, 3))
    torch.testing.assert_close(fills[:4], first)
    some.see(images, fills)
    keep = coalitions(17, "unrelated", np.random.default_rng(0))
    expected = torch.stack([naive_logits(network, some, fills, images, row) for row in keep])
    torch.testing.assert_close(some.logits(keep), expected)


def test_steps_that_would_be_wrong_are_not_taken():
    class Twice(Odd):
        def forward(self, x):
            return self.head(self.convs[3](torch.cat([self.convs[1](self.convs[1](self.convs[0](x)))] * 3, 1)).mean((2, 3)))

    class InPlace(Odd):
        def forward(self, x):
            return self.head(self.convs[3](torch.cat([self.convs[0](x).abs_()] * 3, 1)).mean((2, 3)))

    class Sized(Odd):
        def forward(self, x):
            return super().forward(x.view(x.size(0), 3, 80, 80))

    class Scaled(Odd):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return super().forward(x * self.scale)

    class Two(Odd):
        def forward(self, x, y=None):
            return super().forward(x)

    for network, message in ((Twice(), "more than once"), (InPlace(), "in place"), (Sized(), "do not give its logits"),
                             (Scaled(), "depends on no image"), (Two(), "more than images"), (Untraceable(), "trace"),
                             (torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 80 * 80, 2)), "no convs")):
        with pytest.raises(ValueError, match=message):
            model.cut(network.eval(), 80)


def test_masked_forwards_of_a_conv_that_is_called_twice(faces):
    class Twice(Untraceable):
        def forward(self, x):
            x = self.convs[1](self.convs[1](self.convs[0](x)))
            return self.head(self.convs[3](torch.cat([x] * 3, 1)).mean((2, 3)) + self.convs[2](x).mean())

    torch.manual_seed(0)
    some = ablation.evaluator(Twice().eval(), 80)
    first = some.mean_outputs(normalise(faces.images[:3], "cpu"))
    assert len(some.layers) == len(first) == 17 and some.layers[8] == "convs.3"  # as they are called
    outputs = []
    some.network.convs[1].register_forward_hook(lambda conv, _, out: outputs.append(out.mean((2, 3)).sum(0)))
    some.mean_outputs(normalise(faces.images[:3], "cpu"))
    torch.testing.assert_close(first[4:8].float(), (outputs[0] + outputs[1]) / 2)


@pytest.mark.parametrize("free", [10**12, 10**10, 4 * 10**8, 10**8, 1])
def test_memory_decides_how_much_goes_at_once_on_a_gpu(squeezenet, free):
    some = ablation.Coalitions(squeezenet, 80)
    some.device = torch.device("cuda")
    some._fit(128, free)
    outputs = sum(4 * np.prod(step.shape) for step in some.steps)
    if free > 10**9:  # many coalitions on all images
        assert 8 <= some.coalitions_at_once <= ablation.AT_ONCE and some.images_at_once == 128
        widest = max(4 * np.prod(step.shape) for step in some.steps)
        assert some.coalitions_at_once * 128 * 2 * widest <= free
    else:  # one coalition, on as many images as leave room for all outputs
        assert some.coalitions_at_once == 1
        assert some.images_at_once == max(1, min(128, free // outputs))
    assert some.keeps_outputs == (128 * outputs < free)


@pytest.mark.parametrize("limit, at_once, images_at_once", [(6, 2, 3), (2, 1, 1)])
def test_out_of_memory_halves_and_goes_on(squeezenet, faces, monkeypatch, capsys, limit, at_once, images_at_once):
    some = ablation.Coalitions(squeezenet, 80, 5)
    fills = torch.zeros(len(some.layers))
    keep = coalitions(len(fills), "nested", np.random.default_rng(0))
    some.see(normalise(faces.images[:3], "cpu"), fills)
    expected = some.logits(keep)
    for step in some.steps[1:]:
        if step.run:
            def run(*inputs, run=step.run):
                if len(inputs[0]) > limit:
                    raise torch.OutOfMemoryError("none left")
                return run(*inputs)
            step.run = run
    torch.testing.assert_close(some.logits(keep), expected)
    assert (some.coalitions_at_once, some.images_at_once) == (at_once, images_at_once)
    assert "Out of memory: going on with" in capsys.readouterr().err
    limit = 0
    with pytest.raises(Stop, match="memory does not suffice"):
        some.logits(keep)


def test_mean_fills_are_means_over_all_images(network, evaluator, faces):
    fills = ablation.fill_values(evaluator, faces, "mean", batch_size=7)  # unequal batches
    layer = evaluator.layers[0]
    norm, outputs = layer.replace("conv", "bn"), []
    behind = dict(network.named_modules()).get(norm) if norm != layer else network.get_submodule(layer)
    handle = behind.register_forward_hook(lambda module, inputs, output: outputs.append(torch.relu(output)))
    with torch.no_grad():
        network(normalise(faces.images, "cpu"))
    handle.remove()
    expected = outputs[0].mean((0, 2, 3))
    torch.testing.assert_close(fills[:len(expected)], expected, rtol=1e-4, atol=1e-5)
    assert (ablation.fill_values(evaluator, faces, "zero") == 0).all()


def test_value_of_a_batch(squeezenet, faces):
    some = ablation.Coalitions(squeezenet, 80)
    fills = torch.zeros(len(some.layers))
    keep = np.ones((2, len(fills)), dtype=bool)
    keep[1] = False
    value = ablation.BatchValue(some, fills, faces, len(faces.label), "accuracy")  # a batch of all the faces
    with torch.no_grad():
        right = (squeezenet(normalise(faces.images, "cpu")).argmax(1) == faces.label).float().mean()
    assert value(keep, 3)[0] == pytest.approx(right.item())
    assert value(keep, 3)[1] == 0.5  # everything removed: one answer for all
    small = ablation.BatchValue(some, fills, faces, 8, "accuracy")
    assert np.array_equal(small(keep, 3), small(keep, 3))
    seen = {small.batch.label.tolist().count(1) for seed in range(5) if small(keep[:1], seed) is not None}
    assert seen == {4}  # the same number from each group
    with pytest.raises(Stop):
        ablation.BatchValue(some, fills, faces, 28, "accuracy")


def test_margins_of_are_those_of_the_right_class():
    logits, labels = torch.randn((3, 7, 4), generator=torch.Generator().manual_seed(0)), torch.arange(7) % 4
    for t, b in np.ndindex(3, 7):
        row, label = logits[t, b].tolist(), int(labels[b])
        expected = row.pop(label) - max(row)
        assert ablation.margins_of(logits, labels)[t, b].item() == pytest.approx(expected)


def test_measures_are_what_they_say(faces):
    """Against the definitions, image by image, with ties among the margins."""
    margins = torch.randint(-3, 4, (2, 24), generator=torch.Generator().manual_seed(0)).float()
    found = {name: measure(margins, faces) for name, measure in ablation.MEASURES.items()}
    group, half = faces.group.numpy(), ablation.SOFTNESS

    def step(x):
        return 0.5 * (x > 0) + 0.5 * (x >= 0)

    def soft(x):
        return 1 / (1 + np.exp(-x / half))

    for t, row in enumerate(margins.double().numpy()):
        assert found["accuracy"][t].item() == pytest.approx(step(row).mean())
        assert found["soft_accuracy"][t].item() == pytest.approx(soft(row).mean())
        probabilities = np.maximum(1 / (1 + np.exp(-row)), 0.01)
        assert found["likelihood"][t].item() == pytest.approx(np.exp(np.log(probabilities).mean()))
        assert found["worst_group"][t].item() == pytest.approx(min(soft(row[group == index]).mean() for index in range(4)))
        male = np.where(faces.label.numpy() == 1, row, -row)  # by how much "male" exceeds "female"
        for name, above, pairs in (("auc", step, [(0, 1), (2, 3)]), ("smooth_auc", soft, [(0, 1), (2, 3)]),
                                   ("smooth_auc_all", soft, [(0, 1), (0, 3), (2, 1), (2, 3)])):
            areas = [np.mean([above(male[i] - male[j]) for i in np.flatnonzero(group == men) for j in np.flatnonzero(group == women)])
                     for men, women in pairs]
            assert found[name][t].item() == pytest.approx(np.mean(areas))


def test_auc_of_a_large_batch_is_a_mean_over_blocks():
    """120 of each group in blocks of 40: each man is compared with the 40 women of his block, all alike here."""
    group = torch.arange(4).repeat_interleave(120)
    faces = Images(None, 1 - group % 2, group)
    block = torch.arange(120).repeat(4) // 40
    margins = torch.where(group % 2 == 0, 1.0, -1.0 * block)  # a man is right by 1, a woman wrong by the number of her block
    assert ablation.auc(margins[None], faces).item() == pytest.approx((1 + 0.5 + 0) / 3)


def test_first_order_changes_are_those_of_small_removals(network, evaluator, faces):
    """A filter's fill brought near to its output, or its output near to the fill it has: there first order is exact."""
    some, images = copy.copy(evaluator), normalise(faces.images[:2], "cpu").double()
    labels, rng = faces.label[:2], np.random.default_rng(0)
    some.steps = model.cut(copy.deepcopy(network), images.shape[-1])
    for step in some.steps:
        if step.run:
            step.run.double()
    some.low = evaluator.low.double()
    keep = rng.random(len(some.layers)) < 0.98
    chosen = np.concatenate([rng.choice(np.flatnonzero(here), 5, replace=False) for here in (keep, ~keep)])
    fills = torch.rand(len(some.layers), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 10
    some.see(images, fills)
    some.images_at_once = 4  # parts of one image
    margins, changes = some.first_order(keep, labels)
    smooth = 0
    for player in chosen:
        conv = next(conv for step in some.steps for conv in step.filters if conv and conv.players.start <= player < conv.players.stop)

        def margin(share):  # of the way from the fill to the output
            values = [images]
            for step in some.steps[1:]:
                inputs = [values[source] for source in step.inputs]
                if step.run:
                    values.append(step.run(*inputs))
                    continue
                outputs = []
                for filters, value in zip(step.filters, inputs):
                    if filters:
                        working = torch.from_numpy(keep[filters.players])[:, None, None]
                        value = value.clamp_min(filters.low)
                        fill = fills[filters.players][:, None, None]
                        left = torch.where(working, value, fill)
                        if filters is conv:
                            channel = player - conv.players.start
                            left[:, channel] = fill[channel] + share * (value[:, channel] - fill[channel])
                        value = left
                    outputs.append(value)
                values.append(torch.cat(outputs, 1))
            return ablation.margins_of(values[-1], labels)

        at, small = float(keep[player]), 1e-6
        with torch.no_grad():
            torch.testing.assert_close(margin(at), margins)
            up, down = (margin(at + small) - margins) / small, (margins - margin(at - small)) / small
        if torch.allclose(up, down, rtol=1e-3, atol=1e-5):  # else there is a kink, as where a pooling sees a constant fill
            smooth += 1
            torch.testing.assert_close(changes[:, player], up, rtol=1e-3, atol=1e-4)
    assert smooth >= 5


@pytest.mark.parametrize("measure", ["soft_accuracy", "smooth_auc"])
def test_guesses_go_with_the_marginals(squeezenet, faces, measure):
    some = ablation.Coalitions(squeezenet, 80)
    value = ablation.BatchValue(some, ablation.fill_values(some, faces, "mean"), faces, 16, measure)
    rng = np.random.default_rng(0)
    keep = rng.random(len(some.layers)) < 0.97
    players = np.concatenate([rng.choice(np.flatnonzero(here), 40, replace=False) for here in (keep, ~keep)])
    flipped = np.repeat(keep[None], 80, 0)
    flipped[np.arange(80), players] ^= True
    true = np.where(keep[players], 1, -1) * (value(keep[None], 5)[0] - value(flipped, 5))
    guessed = value.guess(keep, 5)
    assert guessed.shape == (len(some.layers),) and guessed.dtype == np.float64
    assert np.corrcoef(guessed[players], true)[0, 1] > 0.8
    assert np.corrcoef(guessed[players[40:]], true[40:])[0, 1] > 0.5  # those that are put back


def test_margins_equal_the_network(squeezenet, faces):
    some = ablation.Coalitions(squeezenet, 80)
    fills = ablation.fill_values(some, faces, "mean")
    keep = np.ones((2, len(fills)), dtype=bool)
    keep[1, ::9] = False
    found = ablation.outputs(some, fills, faces.images, keep, ablation.male_margin, tqdm(disable=True), batch_size=7)
    for row, margin in zip(keep, found):
        logits = naive_logits(squeezenet, some, fills, normalise(faces.images, "cpu"), row)
        np.testing.assert_allclose(margin, (logits[:, 1] - logits[:, 0]).numpy(), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_from_scratch_both_logits_live(seed, faces):
    """Training without ImageNet's weights must not end with both logits 0 for every face (loss ln 2)."""
    torch.manual_seed(seed)
    network = model.build("squeezenet1_1", "none")
    bright = faces._replace(images=(faces.images // 2 + 127 * faces.label.view(-1, 1, 1, 1).to(torch.uint8)))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=60, pct_start=0.1)
    for _ in range(20):
        model.epoch(network, bright, "cpu", 8, optimizer, schedule, np.random.default_rng(seed))
    loss, correct = model.epoch(network, bright, "cpu", 8)
    assert loss < 0.3 and correct.float().mean() > 0.9


def test_epoch_is_exact_for_unequal_batches(squeezenet, faces):
    whole, some = (model.epoch(squeezenet, faces, "cpu", size) for size in (len(faces.label), 7))
    assert whole[0] == pytest.approx(some[0], rel=1e-5) and torch.equal(whole[1], some[1])
