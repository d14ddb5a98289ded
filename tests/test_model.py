"""Networks with a head for the classes at hand, checkpoints, and one epoch of training."""

import warnings

from common.settings import InputError

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import model
from datasets import GENDERS
from tests.damage import JUNK, check_message, cut
from tests.networks import N_FILTERS, random_network

CPU = torch.device("cpu")
ARCH = "squeezenet1_1"


def seeded_build(*arguments, seed=0):
    torch.manual_seed(seed)
    return model.build(*arguments)


# ----------------------------------------------------------------------------- build


@pytest.mark.parametrize("arch", [arch for arch in N_FILTERS if arch != "vgg16"])
def test_networks_of_the_smallest_images(arch):
    size, classes = model.SMALLEST.get(arch, 32), ("a", "b", "c")
    network = model.build(arch, "none", size, classes).eval()
    with torch.no_grad():
        assert network(torch.zeros((2, 3, size, size))).shape == (2, 3)


def test_images_too_small_for_a_network():
    with pytest.raises(InputError) as refusal:
        model.build("inception_v3", "none", 74)
    assert str(refusal.value) == "IMAGE_SIZE=74: inception_v3 needs at least 75 pixels"


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
        (torch.zeros(3), "does not fit squeezenet1_1"),
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
    fix = "give imagenet, none, or the path of a checkpoint"
    assert str(refusal.value) == f"WEIGHTS={path}: no such file; {fix}"


def test_a_download_that_fails(monkeypatch):
    def fail(self, **options):
        raise OSError("no network")

    monkeypatch.setattr(
        type(torchvision.models.SqueezeNet1_1_Weights.DEFAULT), "get_state_dict", fail
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
    body = {name: value for name, value in source.state_dict().items() if "classifier" not in name}
    torch.save(body, path)
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
        "source": "",
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
    with pytest.raises(InputError) as refusal:
        model.load(path, ("a", "b", "d"), ARCH=ARCH)
    assert str(refusal.value) == (
        f"{path} was trained to tell other classes apart (c, d); give its data, or another "
        "--RECORDS_DIR"
    )


FOREIGN = {
    "classes": ["Male", "Female"],
    "class_names": ("male", "female"),
    "class_to_idx": {"female": 1, "male": 0},
}


@pytest.mark.parametrize("key", FOREIGN)
def test_a_checkpoint_that_names_its_classes_in_another_order(tmp_path, squeezenet, key):
    """Whoever saved it: by name, whatever the case, in each of the usual entries."""
    path = str(tmp_path / "x.pth")
    torch.save({key: FOREIGN[key], "model": squeezenet.state_dict()}, path)
    calls = (
        lambda: model.load(path, ARCH=ARCH),
        lambda: model.pretrained(ARCH, path, 64, GENDERS),
    )
    for call in calls:
        with pytest.raises(InputError) as refusal:
            call()
        words = ["has its logits in the order male, female, not female, male", "give other weights"]
        check_message(str(refusal.value), path, *words)


def test_a_foreign_checkpoint_may_hold_anything_beside_its_weights(tmp_path, squeezenet):
    """Its names for things are not ours."""
    path, beside = str(tmp_path / "x.pth"), {"arch": "SqueezeNet", "image_size": 224, "classes": 2}
    torch.save({**beside, "state_dict": squeezenet.state_dict()}, path)
    network = model.load(path, ARCH=ARCH, IMAGE_SIZE=64)
    assert model.digest(network) == model.digest(squeezenet)


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
    check_message(str(refusal.value), str(path), "give another file, or make it anew")


def test_a_digest_knows_every_weight(squeezenet):
    network = random_network(ARCH)
    assert model.digest(network) == model.digest(squeezenet)
    assert len(model.digest(network)) == 16
    with torch.no_grad():
        network.classifier[1].bias[1] += 1e-6
    assert model.digest(network) != model.digest(squeezenet)


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
