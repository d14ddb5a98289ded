"""Networks with a head for the classes at hand, checkpoints, and one epoch of training."""

import warnings

from common.settings import InputError

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import model
from datasets import GENDERS, Images, normalise
from tests.damage import JUNK, check_message, cut
from tests.networks import draw_faces, random_network

CPU = torch.device("cpu")
ARCH = "squeezenet1_1"


@pytest.fixture(scope="module")
def squeezenet():
    """A network of random weights in eval mode. Not to be changed."""
    return random_network(ARCH)


@pytest.fixture(scope="module")
def faces():
    """24 faces, 6 of each group."""
    return draw_faces()


def seeded_build(*arguments, seed=0):
    torch.manual_seed(seed)
    return model.build(*arguments)


# ----------------------------------------------------------------------------- build


@pytest.mark.parametrize("arch", [arch for arch in model.ARCHS if arch != "vgg16"])
def test_networks_of_the_smallest_images(arch):
    size, classes = model.ARCHS[arch], ("a", "b", "c")
    network = model.build(arch, "none", size, classes).eval()
    with torch.no_grad():
        assert network(torch.zeros((2, 3, size, size))).shape == (2, 3)
    with pytest.raises(InputError) as refusal:
        model.build(arch, "none", size - 1)
    assert str(refusal.value) == f"IMAGE_SIZE={size - 1}: {arch} needs at least {size} pixels"


def test_an_unknown_architecture():
    with pytest.raises(InputError, match="ARCH=resnet: must be squeezenet1_1 or squeezenet1_0 or"):
        model.build("resnet", "none")


def test_the_head_of_a_squeezenet_has_a_positive_bias():
    network = model.build(ARCH, "none")
    assert network.classifier[1].bias.tolist() == [1.0, 1.0] and len(GENDERS) == 2
    weight = network.features[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("seed", range(2))
def test_from_scratch_both_logits_live(seed, faces):
    """Training without ImageNet's weights must not end with both logits 0 for every face."""
    network = seeded_build(ARCH, "none", seed=seed)
    light = 127 * faces.label.view(-1, 1, 1, 1).to(torch.uint8)
    bright = faces._replace(images=faces.images // 2 + light)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=60, pct_start=0.1)
    for _ in range(20):
        rng = np.random.default_rng(seed)
        model.run_epoch(network, bright, "cpu", 8, optimizer, schedule, rng)
    loss, correct = model.run_epoch(network, bright, "cpu", 8)
    assert loss < 0.3 and correct.float().mean() > 0.9


def test_weights_of_a_file(tmp_path):
    source, path = seeded_build(ARCH, "none"), str(tmp_path / "weights.pth")
    for content in (source.state_dict(), model.pack_checkpoint(source)):
        torch.save(content, path)
        assert model.digest(model.build(ARCH, path)) == model.digest(source)


def test_a_head_of_other_classes_is_not_used(tmp_path):
    source, path = seeded_build(ARCH, "none", 64, range(7)), str(tmp_path / "weights.pth")
    torch.save(source.state_dict(), path)
    network = model.build(ARCH, path)
    assert network.classifier[1].bias.tolist() == [1.0, 1.0]
    assert torch.equal(network.features[0].weight, source.features[0].weight)


def test_an_auxiliary_head_is_dropped(tmp_path):
    path = str(tmp_path / "weights.pth")
    state = model.build("inception_v3", "none", 75).state_dict()
    torch.save(state | {"AuxLogits.conv0.conv.weight": torch.zeros(3)}, path)
    assert isinstance(model.build("inception_v3", path, 75), nn.Module)


@pytest.mark.parametrize(
    "content, words",
    [
        ({"weight": torch.zeros(3)}, "does not fit squeezenet1_1"),
        ({"state_dict": {"weight": torch.zeros(3)}}, "does not fit squeezenet1_1"),
        ({"state_dict": [1]}, "does not fit squeezenet1_1"),
        ({"a": [1]}, "does not fit squeezenet1_1"),
        (torch.zeros(3), "is damaged or holds no weights"),
    ],
    ids=["another", "another checkpoint", "a list", "no tensors", "a tensor"],
)
def test_weights_that_do_not_fit(tmp_path, content, words):
    path = str(tmp_path / "weights.pth")
    torch.save(content, path)
    with pytest.raises(InputError) as refusal:
        model.build(ARCH, path)
    check_message(str(refusal.value), path, words)


def test_weights_that_are_missing(tmp_path):
    path = str(tmp_path / "weights.pth")
    with pytest.raises(InputError) as refusal:
        model.build(ARCH, path)
    fix = "give imagenet, none, or the path of a state dict"
    assert str(refusal.value) == f"WEIGHTS={path}: no such file; {fix}"


def test_a_download_that_fails(monkeypatch):
    def fail(self, **options):
        raise OSError("no network")

    monkeypatch.setattr(
        type(model.torchvision.models.SqueezeNet1_1_Weights.DEFAULT), "get_state_dict", fail
    )
    with pytest.raises(InputError, match="WEIGHTS=imagenet: the download failed .no network."):
        model.build(ARCH, "imagenet")


# ----------------------------------------------------------------------------- pretrained


def test_pretrained_logits_by_name(tmp_path):
    """Of ImageNet's 1,000 logits, those of the folder's classes."""
    path = str(tmp_path / "whole.pth")
    whole = seeded_build(ARCH, "none", 64, range(1000)).eval()
    torch.save(whole.state_dict(), path)
    missing, classes = str(tmp_path / "no.pth"), ("tabby", "tiger_cat")
    network = model.load(missing, classes, path, ARCH=ARCH, IMAGE_SIZE=64)
    images = torch.randn((3, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(images), whole(images)[:, [281, 282]])
    assert not network.training
    with pytest.raises(InputError, match="moggy is none of ImageNet's by name"):
        model.pretrained(ARCH, path, 64, ("tabby", "moggy"))


def test_pretrained_logits_in_order(tmp_path):
    """Of as many logits as there are classes, all in order."""
    path = str(tmp_path / "three.pth")
    source = seeded_build(ARCH, "none", 64, range(3)).eval()
    torch.save(source.state_dict(), path)
    network, images = model.pretrained(ARCH, path, 64, ("a", "b", "c")), torch.ones((1, 3, 64, 64))
    assert torch.equal(network(images), source(images))
    with pytest.raises(InputError, match="a head of 3 logits, but there are 2 classes"):
        model.pretrained(ARCH, path, 64, ("a", "b"))
    torch.save({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="a head of no logits, but there are 2 classes"):
        model.pretrained(ARCH, path, 64, ("a", "b"))


def test_an_untrained_network_is_not_pretrained():
    with pytest.raises(InputError) as refusal:
        model.pretrained(ARCH, "none", 64, ("a", "b"))
    check_message(str(refusal.value), "WEIGHTS=none", "train_squeeze.py", "--WEIGHTS=imagenet")


# ----------------------------------------------------------------------------- checkpoints


def save_checkpoint(path, network, **constants):
    torch.save(model.pack_checkpoint(network, **constants), path)
    return str(path)


def test_a_checkpoint_keeps_its_constants(tmp_path, squeezenet):
    packed = model.pack_checkpoint(squeezenet, ARCH=ARCH, IMAGE_SIZE=64, SEED=3)
    assert {name: packed[name] for name in packed if name != "state_dict"} == {
        "arch": ARCH,
        "image_size": 64,
        "seed": 3,
    }
    path = save_checkpoint(tmp_path / "x.pth", squeezenet, ARCH=ARCH, IMAGE_SIZE=64)
    network = model.load(path, ARCH=ARCH, IMAGE_SIZE=64)
    assert model.digest(network) == model.digest(squeezenet) and not network.training
    assert model.read_checkpoint(path)["arch"] == ARCH


def test_a_plain_state_dict_is_a_checkpoint_too(tmp_path, squeezenet):
    torch.save(squeezenet.state_dict(), tmp_path / "x.pth")
    network = model.load(str(tmp_path / "x.pth"), ARCH=ARCH, IMAGE_SIZE=64)
    assert model.digest(network) == model.digest(squeezenet)


def test_constants_of_another_training(tmp_path, squeezenet):
    frame = (0.0, 0.5, 1.0, 1.0)
    path = save_checkpoint(tmp_path / "x.pth", squeezenet, IMAGE_SIZE=64, CELEBA_FRAME=frame)
    with pytest.raises(InputError) as refusal:
        model.load(path, ARCH=ARCH, IMAGE_SIZE=32)
    assert str(refusal.value) == (
        f"{path} was trained with IMAGE_SIZE=64, not 32; give --IMAGE_SIZE=64, or train anew "
        "under another RECORDS_DIR"
    )
    with pytest.raises(InputError, match="CELEBA_FRAME=0.0,0.5,1.0,1.0, not 0.0,0.0,1.0,1.0"):
        model.load(path, ARCH=ARCH, IMAGE_SIZE=64, CELEBA_FRAME=(0.0, 0.0, 1.0, 1.0))


def test_classes_of_another_training(tmp_path):
    network = model.build(ARCH, "none", 64, ("a", "b", "c"))
    path = save_checkpoint(tmp_path / "x.pth", network, CLASSES=("a", "b", "c"))
    assert model.load(path, ("a", "b", "c"), ARCH=ARCH)
    for classes, names in ((("a", "b", "d"), "c, d"), (("a", "c", "b"), "a, b, c")):
        with pytest.raises(InputError) as refusal:
            model.load(path, classes, ARCH=ARCH)
        assert str(refusal.value) == (
            f"{path} was trained to tell other classes apart ({names}); give its data, or "
            "another --RECORDS_DIR"
        )


def test_a_missing_checkpoint_names_its_maker(tmp_path):
    path = str(tmp_path / "x.pth")
    with pytest.raises(InputError) as refusal:
        model.load(path, ARCH=ARCH)
    fix = "run train_squeeze.py first, with the same RECORDS_DIR"
    assert str(refusal.value) == f"{path} is missing; {fix}"


@pytest.mark.parametrize("damage", [cut, JUNK, lambda path: path.write_bytes(b"")])
def test_a_damaged_checkpoint_is_one_message_without_warnings(tmp_path, squeezenet, damage):
    path = tmp_path / "x.pth"
    save_checkpoint(path, squeezenet)
    damage(path)
    with warnings.catch_warnings(), pytest.raises(InputError) as refusal:
        warnings.simplefilter("error")
        model.read_checkpoint(str(path))
    check_message(str(refusal.value), str(path), "is damaged or holds no weights")


def test_a_digest_knows_every_weight(squeezenet):
    network = random_network(ARCH)
    assert model.digest(network) == model.digest(squeezenet)
    assert len(model.digest(network)) == 16
    with torch.no_grad():
        network.classifier[1].bias[1] += 1e-6
    assert model.digest(network) != model.digest(squeezenet)


# ----------------------------------------------------------------------------- training


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_the_learning_rate_warms_up_and_falls(steps):
    optimizer, schedule = model.make_optimizer(nn.Linear(2, 2), 0.1, steps)
    rates = []
    for _ in range(max(3, steps)):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < max(3, steps):
            schedule.step()
    assert max(rates) <= 0.1 and rates[0] < 0.01 and rates[-1] < 0.001
    assert np.argmax(rates) == max(1, round(0.1 * steps) - 1)


def test_an_epoch_is_exact_for_unequal_batches(squeezenet, faces):
    loss, correct = model.run_epoch(squeezenet, faces, "cpu", 24)
    parts = model.run_epoch(squeezenet, faces, "cpu", 7)
    assert loss == pytest.approx(parts[0], rel=1e-5) and torch.equal(correct, parts[1])
    with torch.no_grad():
        logits = squeezenet(normalise(faces.images, "cpu"))
    assert loss == pytest.approx(cross_entropy(logits, faces.label).item(), rel=1e-5)
    assert torch.equal(correct, logits.argmax(1) == faces.label)


class Recorder(nn.Module):
    """A network that keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.head, self.batches, self.modes = nn.Linear(3, 2), [], []

    def forward(self, images):
        self.batches.append(images)
        self.modes.append(self.training)
        return self.head(images.mean((2, 3)))


@pytest.fixture
def sides():
    """10 images whose left half differs from the right, told apart by their level."""
    images = torch.zeros((10, 3, 4, 4), dtype=torch.uint8)
    images[..., :2] = torch.arange(10, 20, dtype=torch.uint8).view(-1, 1, 1, 1)
    return Images(images, torch.arange(10) % 2, torch.full((10,), -1))


def train_epoch(data, **options):
    """A Recorder after an epoch of training."""
    network = Recorder()
    optimizer, schedule = model.make_optimizer(network, 0.01, 10)
    result = model.run_epoch(
        network, data, "cpu", 4, optimizer, schedule, np.random.default_rng(0), **options
    )
    return network, schedule, result


@pytest.mark.parametrize("mirror", [True, False])
def test_training_sees_every_image_once_and_mirrors_half(sides, mirror):
    network, schedule, _ = train_epoch(sides, mirror=mirror)
    assert [len(batch) for batch in network.batches] == [4, 4, 2] and all(network.modes)
    assert schedule.last_epoch == 3
    originals, n_mirrored = normalise(sides.images, "cpu"), 0
    rows = []
    for image in torch.cat(network.batches):
        for row, original in enumerate(originals):
            if torch.equal(image, original) or torch.equal(image, original.flip(2)):
                rows.append(row)
                n_mirrored += torch.equal(image, original.flip(2))
    assert sorted(rows) == list(range(10)) and rows != list(range(10))
    assert (2 <= n_mirrored <= 8) if mirror else n_mirrored == 0


def test_training_learns_and_tells_what_was_right_in_the_order_of_the_data(sides):
    network, _, (loss, correct) = train_epoch(sides, mirror=False)
    start = Recorder()
    assert correct.shape == (10,) and correct.dtype == torch.bool and loss > 0
    assert not torch.equal(network.head.weight, start.head.weight)
    evaluated = Recorder().eval()
    with torch.no_grad():
        expected = evaluated(normalise(sides.images, "cpu")).argmax(1) == sides.label
    evaluated.batches.clear()
    assert torch.equal(model.run_epoch(evaluated, sides, "cpu", 3)[1], expected)
    assert torch.equal(torch.cat(evaluated.batches), normalise(sides.images, "cpu"))
    assert not any(evaluated.modes[1:]) and evaluated.head.weight.grad is None


def test_the_bar_has_a_name_or_is_not_there(sides, capsys):
    model.run_epoch(Recorder(), sides, "cpu", 4)
    assert capsys.readouterr().err == ""
    model.run_epoch(Recorder(), sides, "cpu", 4, bar="testing")
    assert "testing" in capsys.readouterr().err


def test_male_margins(squeezenet, faces):
    margins = model.male_margins(squeezenet, faces, CPU, batch_size=7)
    with torch.no_grad():
        logits = squeezenet(normalise(faces.images, "cpu"))
    np.testing.assert_allclose(margins, (logits[:, 1] - logits[:, 0]).numpy(), atol=1e-5)
    assert margins.dtype == np.float32 and margins.shape == (24,)
    training = random_network(ARCH).train()
    model.male_margins(training, faces, CPU)
    assert not training.training


# ----------------------------------------------------------------------------- devices


def test_devices(monkeypatch):
    assert model.find_device("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert model.find_device("auto") == CPU
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    "name, words",
    [
        ("cuda", ["DEVICE=cuda", "no CUDA GPU", "--DEVICE=cpu"]),
        ("cuda:99", ["DEVICE=cuda:99", "no CUDA GPU"]),
        ("meta", ["DEVICE=meta", "no such device"]),
        ("x", ["DEVICE=x", "no such device"]),
    ],
)
def test_devices_that_are_not_there(monkeypatch, name, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError) as refusal:
        model.find_device(name)
    check_message(str(refusal.value), *words)


def test_processes_of_torchrun_take_a_gpu_each(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(InputError, match="DEVICE=cuda:3: "):
        model.find_device("cuda")
    assert model.find_device("cpu") == CPU
