"""Networks by name: of torchvision, of timm, and of a file; their head, size and normalisation."""

import sys

from common.settings import InputError

import pytest
import torch
import torchvision
from torch import nn

import model
from datasets import MEAN, STD
from readers import networks
from readers.networks import find_head, make_network, normalisation_of
from tests.damage import check_message

OWN = """
from torch import nn

def build(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(5, num_classes))

def wrong_head(num_classes):
    return build(7)

def no_network(num_classes):
    return [1]

def parallel(num_classes):
    return nn.DataParallel(build(num_classes))

def compiled(num_classes):
    import torch
    return torch.compile(build(num_classes))

def volumes(num_classes):
    network = build(num_classes)
    network.other = nn.Conv3d(3, 4, 1)
    return network

def fails(num_classes):
    raise RuntimeError("no such layer")

def no_argument():
    return build(2)

class TwoOutputs(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.net = build(num_classes)
    def forward(self, x):
        return self.net(x), x

class Embeds(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.net, self.n = build(8), num_classes
    def forward(self, x):
        return self.net(x)[:, :self.n]

class Configured(nn.Module):
    default_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "input_size": (3, 64, 64)}
    def __init__(self, num_classes):
        super().__init__()
        self.net = build(num_classes)
        self.flat = nn.Linear(3 * 64 * 64, 1)
    def forward(self, x):
        y = self.flat(x.flatten(1))
        return self.net(x) + 0 * y
"""


OTHERS = """
import argparse, sys
parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, default=5)
width = parser.parse_args().width
from torch import nn
{top}
def build(num_classes):
    {first}
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(width, num_classes))
"""


@pytest.fixture
def own(tmp_path):
    """A file with networks of one's own."""
    (tmp_path / "my_model.py").write_text(OWN)
    before = list(sys.path)
    yield str(tmp_path / "my_model.py")
    sys.path[:] = before


# ----------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "arch, size",
    [("mobilenet_v2", 32), ("googlenet", 32), ("shufflenet_v2_x0_5", 32), ("alexnet", 64)],
)
def test_any_classifier_of_torchvision(arch, size):
    network = model.build(arch, "none", size, ("a", "b", "c")).eval()
    assert type(network) is type(
        getattr(torchvision.models, arch)(init_weights=False)
        if arch == "googlenet"
        else getattr(torchvision.models, arch)()
    )
    with torch.no_grad():
        assert network(torch.zeros(2, 3, size, size)).shape == (2, 3)
    assert network.source == "" and network.rescaling == ""


@pytest.mark.parametrize(
    "arch, words",
    [
        ("resnet", "must be one of torchvision's classifiers, timm:NAME, or FILE.py:FUNCTION"),
        ("resnet81", "did you mean resnet18"),
        ("ResNet18", "must be"),
        ("fcn_resnet50", "must be"),  # it segments
        ("nowhere.py:build", "there is no file nowhere.py"),
        ("nowhere.py", "must be"),
        ("timm:", "timm"),
        ("timm:resnet81", "timm"),
        ("", "must be"),
    ],
)
def test_names_that_are_no_network(arch, words):
    with pytest.raises(InputError) as refusal:
        model.build(arch, "none")
    check_message(str(refusal.value), f"ARCH={arch}", words)


def test_timm_by_name():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = model.build("timm:resnet18", "none", 64, ("a", "b")).eval()
    torch.manual_seed(0)
    expected = timm.create_model("resnet18", num_classes=2).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(images), expected(images))


def test_timm_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="ARCH=timm:resnet18: timm is missing; run pip install"):
        model.build("timm:resnet18", "none")


def test_a_function_of_a_file(own):
    network = model.build(f"{own}:build", "none", 32, ("a", "b", "c"))
    assert network[-1].out_features == 3
    assert network.source.startswith(f"{own}:build sha256 ") and len(network.source) > 40
    torch.manual_seed(0)
    first = model.digest(model.build(f"{own}:build", "none", 32, ("a", "b", "c")))
    with open(own, "a") as file:
        file.write("\n# changed\n")
    torch.manual_seed(0)
    changed = model.build(f"{own}:build", "none", 32, ("a", "b", "c"))
    assert changed.source != network.source and model.digest(changed) != first


@pytest.mark.parametrize(
    "name, words",
    [
        ("wrong_head", "gives (1, 7) for an image, but must give (1, 2)"),
        ("volumes", "weights of more than four axes, as of 3d convolutions; give one for images"),
        ("no_network", "returns a list; give one that returns an nn.Module"),
        ("fails", "fails (RuntimeError: no such layer)"),
        ("no_argument", "give a file with a function no_argument that takes num_classes"),
        ("missing", "give a file with a function missing"),
        ("missing", "my_model.py has no function missing, but build, wrong_head, no_network"),
        ("nn", "my_model.py has no function nn, but build"),  # what it imports is no function
        ("TwoOutputs", "gives tuple for an image"),
        ("Embeds", "its last layer, net.4, gives 8 outputs, but must give the 2 logits"),
    ],
)
def test_a_file_whose_function_does_not_do(own, name, words):
    with pytest.raises(InputError) as refusal:
        model.build(f"{own}:{name}", "none", 32)
    check_message(str(refusal.value), f"{own}:{name}", words)


@pytest.mark.parametrize("name", ["parallel", "compiled"])
def test_a_network_in_a_wrapper_is_the_network(own, name):
    network = model.build(f"{own}:{name}", "none", 32)
    assert list(network.state_dict()) == list(model.build(f"{own}:build", "none", 32).state_dict())


def test_a_file_that_is_no_python(own):
    with open(own, "w") as file:
        file.write("def build(:")
    with pytest.raises(InputError, match=r"fails \(SyntaxError"):
        model.build(f"{own}:build", "none", 32)


def test_a_file_that_parses_arguments(own, monkeypatch):
    """It sees none: those of the script are not meant for it."""
    with open(own, "w") as file:
        file.write(OTHERS.format(top="", first="pass"))
    monkeypatch.setattr(sys, "argv", ["mab.py", "--TASK=folder", "--width=7"])
    assert model.build(f"{own}:build", "none", 32)[0].out_channels == 5
    assert sys.argv == ["mab.py", "--TASK=folder", "--width=7"]


@pytest.mark.parametrize(
    "top, first, words",
    [
        ("parser.add_argument('data'); parser.parse_args()", "pass", ["ends the program, with 2"]),
        ("sys.exit('no GPU')", "pass", ["ends the program, with 'no GPU'", "__main__"]),
        ("", "sys.exit(3)", ["ends the program, with 3", "behind if __name__"]),
        ("", "raise OSError('no such disk')", ["OSError: no such disk", "put what it reads"]),
        ("open('w.pth')", "pass", ["FileNotFoundError", "w.pth", "put what it reads where it"]),
        ("import no_such_library", "pass", ["No module named 'no_such_library'", "install"]),
        ("from my_model import build", "pass", ["my_model"]),
        ("import sys; getattr(sys.modules[__name__], 'x')", "pass", ["module '", "my_model.py'"]),
    ],
)
def test_a_file_that_fails_when_it_is_loaded(own, top, first, words, capsys):
    with open(own, "w") as file:
        file.write(OTHERS.format(top=top, first=first))
    with pytest.raises(InputError) as refusal:
        model.build(f"{own}:build", "none", 32)
    check_message(str(refusal.value), f"{own}:build", *words)
    assert "network_" not in str(refusal.value) and capsys.readouterr().err == ""


def test_a_checkpoint_of_a_file_that_has_changed(own, tmp_path):
    arch, path = f"{own}:build", str(tmp_path / "x.pth")
    network = model.build(arch, "none", 32)
    torch.save(model.pack_checkpoint(network, ARCH=arch, IMAGE_SIZE=32), path)
    assert model.digest(model.load(path, ARCH=arch, IMAGE_SIZE=32)) == model.digest(network)
    with open(own, "a") as file:
        file.write("\n# changed\n")
    with pytest.raises(InputError, match="x.pth was trained with the network of .*sha256"):
        model.load(path, ARCH=arch, IMAGE_SIZE=32)


# ----------------------------------------------------------------------------- size and head


@pytest.mark.parametrize("arch, size", [("alexnet", 32), ("vit_b_32", 32), ("vgg11", 16)])
def test_a_size_that_a_network_does_not_take(arch, size):
    network = make_network(arch, 2)
    with pytest.raises(InputError) as refusal:
        find_head(network, arch, size, 2)
    check_message(str(refusal.value), f"IMAGE_SIZE={size}: {arch} takes no such images")


def test_the_size_of_a_network_s_own_config_is_named(own):
    with pytest.raises(InputError, match="its own size is 64; give another --IMAGE_SIZE"):
        model.build(f"{own}:Configured", "none", 32)
    assert model.build(f"{own}:Configured", "none", 64)


def test_the_head_is_the_layer_called_last():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.conv = nn.Linear(4, 2), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.fc(self.conv(x).mean((2, 3)))

    network = Backwards()
    assert find_head(network, "x", 32, 2) == "fc" and network.training
    assert not any(module._forward_hooks for module in network.modules())


def test_the_normalisation_of_a_network_s_own_config(own):
    network = make_network(f"{own}:Configured", 2)
    assert normalisation_of(network, "auto") == ((0.5,) * 3, (0.5,) * 3)
    assert normalisation_of(network, "0,0,0,1,1,1") == ((0,) * 3, (1,) * 3)
    network.default_cfg = {"mean": None}
    assert normalisation_of(network, "auto") == (MEAN, STD)


# ----------------------------------------------------------------------------- downloads

CACHED = {
    "html": b"<!DOCTYPE html><html>403 Forbidden</html>",
    "empty": b"",
    "cut": None,
    "text": b"Not Found",
    "zeros": bytes(5000),
}


@pytest.mark.parametrize("kind", CACHED)
@pytest.mark.parametrize("arch", ["squeezenet1_1", "mobilenet_v3_small"])
@pytest.mark.parametrize("make", [model.build, model.pretrained])
def test_a_broken_download_names_the_cached_file(tmp_path, monkeypatch, kind, arch, make):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = torchvision.models.get_model_weights(arch).DEFAULT.url
    path = tmp_path / "hub/checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    torch.save({"x": torch.zeros(2000)}, path)
    path.write_bytes(path.read_bytes()[:4000] if CACHED[kind] is None else CACHED[kind])
    with pytest.raises(InputError) as refusal:
        make(arch, "imagenet", 64, ("tabby", "tiger_cat"))
    check_message(str(refusal.value), f"{path} is a broken download", "delete it and run again")


def test_weights_of_another_network_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub/checkpoints/squeezenet1_1-b8a52dc0.pth"
    path.parent.mkdir(parents=True)
    torch.save(nn.Linear(3, 2).state_dict(), path)
    with pytest.raises(InputError) as refusal:
        model.build("squeezenet1_1", "imagenet")
    check_message(str(refusal.value), str(path), "does not fit squeezenet1_1", "delete the file")


def test_imagenet_has_no_weights_of_a_file(own):
    with pytest.raises(InputError, match="WEIGHTS=imagenet: there are none of .*:build; give"):
        model.build(f"{own}:build", "imagenet", 32)


def test_the_names_of_imagenet_are_the_same_for_all():
    for arch in ("squeezenet1_1", "vit_b_16", "regnet_y_400mf", "efficientnet_b0"):
        weights = torchvision.models.get_model_weights(arch).DEFAULT
        assert weights.meta["categories"] == networks.IMAGENET_NAMES
