"""Tasks beyond faces: critical filters, one class, adversaries, what filters see; on a few drawn signs, and exactly on small models."""

import gzip
import json
import shutil
import struct
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import ablation
import adversaries
import datasets
import features
import metrics
import model
import portraits
from datasets import Images, normalise
from settings import Stop

FOLDER = ["--TASK=folder", "--IMAGE_SIZE=32", "--DEVICE=cpu"]
MAB = [*FOLDER, "--IMAGES_PER_ROUND=16", "--MAX_ROUNDS=3", "--TRUNCATION=-1", "--DEEPEST=0.02"]
RECORDS = "records/folder_squeezenet1_1"  # where a task other than faces puts them


@pytest.fixture(scope="module")
def signs(tmp_path_factory):
    """A folder of drawn signs: 16 of each of ten classes to train, 8 for the values, 8 to report."""
    folder = tmp_path_factory.mktemp("signs") / "data"
    portraits.write_signs(str(folder), 0, train=16, val=8, test=8)
    return folder


@pytest.fixture(scope="module")
def script(run, signs):
    """script("mab.py", *arguments, cwd=folder): as run, on the signs; it must end well."""

    def script(name, *arguments, cwd):
        result = run(name, f"--DATA_DIR={signs}", *arguments, cwd=cwd)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return script


@pytest.fixture(scope="module")
def found(script, tmp_path_factory):
    """A folder in which critical filters were found. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("found")
    script("train_squeeze.py", *FOLDER, "--EPOCHS=3", "--LEARNING_RATE=0.001", cwd=folder)
    script("mab.py", *MAB, cwd=folder)
    (folder / "fresh").mkdir()
    shutil.copy(folder / RECORDS / "squeezenet.pth", folder / "fresh")
    return folder


def load(folder, name):
    return json.loads((folder / RECORDS / name).read_text())


def test_critical_filters(script, found, tmp_path):
    """Application I: the highest values go first, random filters and largest weights beside them, on images of their own."""
    folder = shutil.copytree(found, tmp_path / "copy")
    script("rivals.py", *FOLDER, "--RIVALS=l2_norm,first_order,leave_one_out", "--MAX_REMOVED=6", cwd=folder)
    told = script("eval.py", *FOLDER, "--MAX_REMOVED=6", "--EVERY=3", "--RANDOM_ORDERS=2", cwd=folder)
    assert "highest values removed" in told and "largest weights removed" in told and "leave-one-out" in told
    record, values = load(folder, "eval.json"), pd.read_csv(folder / RECORDS / "filters.csv").set_index("filter")["shapley"]
    assert record["run"]["WHICH"] == "highest"
    removed = record["removed_filters"]
    assert values.loc[removed].tolist() == sorted(values, reverse=True)[:6] and min(values.loc[removed]) > 0
    table = pd.DataFrame(record["table"]).set_index(["method", "split", "group", "n_removed"])["value"]
    assert set(table.index.get_level_values("n_removed")) == {0, 3, 6}
    curves = pd.read_csv(folder / RECORDS / "eval.csv")
    assert curves.columns.tolist() == ["method", "n_removed", "split", "group", "accuracy", "ci_low", "ci_high", "n_images"]
    overall = curves[curves["group"] == "all"].set_index(["method", "n_removed"])["accuracy"]
    by_class = curves[curves["group"] != "all"].groupby(["method", "n_removed"])["accuracy"].mean()  # classes are of one size
    pd.testing.assert_series_equal(overall.sort_index(), by_class.sort_index(), check_names=False)
    assert table["shapley", "report", "all", 6] == pytest.approx(overall["shapley", 6])
    assert table["random", "report", "all", 3] == pytest.approx(overall.loc[["random 0", "random 1"]][:, 3].mean())
    orders = np.load(folder / RECORDS / "rivals.npz")
    network = model.load(str(folder / RECORDS / "squeezenet.pth"), tuple(sorted(portraits.SIGNS)), ARCH="squeezenet1_1", IMAGE_SIZE=32)
    norms = ablation.l2_norms(network, ablation.evaluator(network, 32))
    assert norms[orders["l2_norm"]].tolist() == sorted(norms, reverse=True)[:6]  # the largest first, since the highest are sought


def test_one_class(script, found, tmp_path):
    """Application II: V is the recall of a class, and the top contributors to accuracy are no players."""
    folder = shutil.copytree(found, tmp_path / "copy")
    (folder / "star").mkdir()
    shutil.copy(folder / RECORDS / "squeezenet.pth", folder / "star")
    more = ["--CLASS=star", f"--SPARE={RECORDS}", "--IMAGES_PER_ROUND=4", "--RECORDS_DIR=star", "--TOP_K=5", "--MEASURE=soft_accuracy"]
    script("mab.py", *MAB, *more, cwd=folder)
    everyone = pd.read_csv(folder / RECORDS / "filters.csv").set_index("filter")["shapley"]
    players = pd.read_csv(folder / "star" / "filters.csv")["filter"]
    assert len(players) == 2944 - 589  # 20 %
    assert set(everyone.nlargest(589, keep="first").index).isdisjoint(players)
    told = script("eval.py", *FOLDER, "--RECORDS_DIR=star", "--MAX_REMOVED=4", "--EVERY=2", "--RANDOM_ORDERS=2", cwd=folder)
    assert "recall of star" in told and "accuracy on the other classes" in told
    record = json.loads((folder / "star" / "eval.json").read_text())
    assert set(record["removed_filters"]) <= set(players)
    table = pd.DataFrame(record["table"]).set_index(["method", "group", "n_removed"])["value"]
    assert table["shapley", "all", 2] == pytest.approx(0.1 * table["shapley", "class star", 2] + 0.9 * table["shapley", "others", 2])


def test_going_on_with_other_players_is_refused(run, signs, script, found, tmp_path):
    folder = shutil.copytree(found, tmp_path / "copy")
    (folder / "other").mkdir()
    shutil.copy(folder / RECORDS / "squeezenet.pth", folder / "other")
    script("mab.py", *MAB, "--RECORDS_DIR=other", cwd=folder)
    result = run("mab.py", f"--DATA_DIR={signs}", *MAB, "--RECORDS_DIR=other", f"--SPARE={RECORDS}", "--MAX_ROUNDS=4", cwd=folder)
    assert result.returncode == 2 and "other filters were spared" in result.stderr.splitlines()[-1]


def test_adversaries(script, found, tmp_path):
    """Application IV: the same attack, a fresh one on what is left, and one made on another network."""
    folder = shutil.copytree(found, tmp_path / "copy")
    (folder / "attack").mkdir()
    shutil.copy(folder / RECORDS / "squeezenet.pth", folder / "attack")
    script("train_squeeze.py", *FOLDER, "--ARCH=squeezenet1_0", "--EPOCHS=1", cwd=folder)  # by default in a folder of its own
    script("mab.py", *MAB, "--MEASURE=attack", "--RECORDS_DIR=attack", cwd=folder)
    told = script("eval.py", *FOLDER, "--RECORDS_DIR=attack", "--MAX_REMOVED=2", "--EVERY=2", "--RANDOM_ORDERS=1",
                  "--BLACK_BOX=records/folder_squeezenet1_0", cwd=folder)
    assert all(line in told for line in ("success of the attack", "success of a fresh attack", "success of the black-box attack"))
    record = json.loads((folder / "attack" / "eval.json").read_text())
    table = pd.DataFrame(record["table"]).set_index(["method", "split", "n_removed"])["value"]
    assert table["shapley", "attack", 0] == table["shapley", "fresh attack", 0] > table["shapley", "black box", 0]


def test_two_processes_attack_as_one(run, signs, found, tmp_path):
    """The same record; and what is wrong stops both, with the one line."""
    from test_scripts import torchrun

    more = [f"--DATA_DIR={signs}", *MAB, "--MEASURE=attack"]
    for name in ("one", "two"):
        (tmp_path / name / RECORDS).mkdir(parents=True)
        shutil.copy(found / RECORDS / "squeezenet.pth", tmp_path / name / RECORDS)
    assert run("mab.py", *more, cwd=tmp_path / "one").returncode == 0
    (tmp_path / "one" / RECORDS / "mab.npz").rename(tmp_path / "one.npz")
    assert run("mab.py", *more, "--MAX_ROUNDS=1", cwd=tmp_path / "one").returncode == 0
    assert run("mab.py", *more, cwd=tmp_path / "one").returncode == 0  # with a break
    assert (tmp_path / "one" / RECORDS / "mab.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()
    result = subprocess.run(torchrun(2, *more), cwd=tmp_path / "two", capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "two" / RECORDS / "mab.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()
    (tmp_path / "two" / RECORDS / "squeezenet.pth").write_bytes(b"no network")
    result = subprocess.run(torchrun(2, *more), cwd=tmp_path / "two", capture_output=True, text=True, timeout=300)
    assert result.returncode != 0 and "is damaged or holds no weights" in result.stderr and "Connection closed" not in result.stderr


def test_what_filters_see(script, found, tmp_path):
    folder = shutil.copytree(found, tmp_path / "copy")
    told = script("features.py", *FOLDER, "--SHOWN=2", "--IMAGES=3", "--STEPS=5", cwd=folder)
    best = pd.read_csv(folder / RECORDS / "filters.csv").nlargest(1, "shapley").iloc[0]
    assert f"{best['layer']}[{best['channel']}], value {best['shapley']:+.4f}" in told.splitlines()[0]
    assert load(folder, "features.json")["filters"][0] == best["filter"]
    script("features.py", *FOLDER, "--FILTERS=7,100", "--IMAGES=1", "--STEPS=2", cwd=folder)
    assert load(folder, "features.json")["filters"] == [7, 100]


@pytest.mark.parametrize("arguments, words", [
    (["mab.py", *MAB, "--CLASS=moose"], ["CLASS", "arrow"]),
    (["mab.py", *MAB, "--MEASURE=smooth_auc"], ["MEASURE", "--TASK=faces"]),
    (["mab.py", *MAB, "--TRUNCATION=0.99", "--RECORDS_DIR=fresh"], ["TRUNCATION", "V of the whole network"]),
    (["mab.py", *MAB, "--ARCH=moose", "--RECORDS_DIR=none"], ["ARCH=moose", "resnet18"]),
    (["mab.py", *MAB, "--MEASURE=attack", "--CLASS=star"], ["CLASS", "attack"]),
    (["mab.py", *MAB, "--SPARE=nowhere"], ["SPARE=nowhere", "RECORDS_DIR"]),
    (["mab.py", *MAB, "--TASK=letters"], ["TASK", "mnist"]),
    (["eval.py", *FOLDER, "--TASK=mnist", f"--RECORDS_DIR={RECORDS}"], ["TASK=folder"]),
    (["features.py", *FOLDER, "--FILTERS=99999"], ["FILTERS", "filters.csv"]),
    (["mab.py", *MAB, "--ARCH=resnet18", f"--RECORDS_DIR={RECORDS}"], ["ARCH=squeezenet1_1"]),
])
def test_bad_constants(arguments, words, run, signs, found):
    name, *rest = arguments
    result = run(name, f"--DATA_DIR={signs}", *rest, cwd=found)
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert all(word in result.stderr for word in words), result.stderr


def picture(path, colour=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour or (len(list(path.parent.iterdir())), 0, 0)).save(path)


@pytest.mark.parametrize("files, words", [
    ([], ["folder of images for each class"]), (["a.png"], ["folder of images for each class"]),
    (["cat/1.png", "cat/2.png"], ["only one class, cat"]), (["cat/1.png", "cat/2.png", "dog/1.txt"], ["dog"]),
    (["cat/1.png", "cat/2.png", "dog/1.png"], ["dog: one image"]),
    (["val/cat/1.png", "val/dog/1.png", "test/cat/1.png", "test/cow/1.png"], ["cow"]),
    (["train/cat/1.png", "train/dog/1.png"], ["val/"]),
])
def test_bad_folders(files, words, tmp_path):
    for name in files:
        picture(tmp_path / name) if name.endswith("png") else (tmp_path / name).parent.mkdir(parents=True)
    with pytest.raises(Stop) as stop:
        datasets.folder(str(tmp_path), "report", 8)
    assert all(word in str(stop.value) for word in words)
    assert str(tmp_path) in str(stop.value)


def test_a_folder_that_is_missing(run, tmp_path):
    result = run("mab.py", *MAB, f"--DATA_DIR={tmp_path / 'my_images'}", cwd=tmp_path)
    assert result.returncode == 2 and "my_images" in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_a_folder_is_halved_by_what_its_files_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for index in range(7):  # 0 and 6 are copies
        picture(tmp_path / "data" / "cat" / f"{index}.png", (index % 6, 0, 0))
        picture(tmp_path / "data" / "dog" / f"{index}.png", (index, 1, 0))
    halves = [datasets.folder("data", purpose, 8) for purpose in ("values", "report")]
    seen = [{tuple(pixel.tolist()) for pixel in half.images[:, :2, 0, 0]} for half in halves]
    assert seen[0].isdisjoint(seen[1]) and len(seen[0] | seen[1]) == 13
    assert sorted(half.label.bincount().tolist() for half in halves) in ([[3, 3], [4, 4]], [[3, 4], [4, 3]])
    with pytest.raises(Stop, match="no folder train/"):
        datasets.folder("data", "train", 8)


def test_the_centre_of_a_folders_image_is_seen(tmp_path):
    image = Image.new("RGB", (200, 100))
    image.paste((255, 255, 255), (50, 0, 150, 100))
    image.save(tmp_path / "wide.png")
    assert (datasets.read_image(str(tmp_path / "wide.png"), 10, 0.875) == 255).all()
    assert not (datasets.read_image(str(tmp_path / "wide.png"), 10, (0.0, 0.0, 1.0, 1.0)) == 255).all()


def write_mnist(folder, images, labels):
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz", "wb") as file:
        file.write(struct.pack(">4i", 0x803, *images.shape) + images.tobytes())
    with open(folder / "t10k-labels-idx1-ubyte", "wb") as file:
        file.write(struct.pack(">2i", 0x801, len(labels)) + labels.tobytes())


def test_mnist(tmp_path):
    images, labels = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8), np.arange(20, dtype=np.uint8) % 10
    write_mnist(tmp_path / "mnist", images, labels)
    halves = [datasets.mnist(str(tmp_path), purpose, 28) for purpose in ("values", "report")]
    assert [sorted(half.label.tolist()) for half in halves] == [list(range(10))] * 2
    digits = {image.tobytes(): label for image, label in zip(images, labels)}
    assert [digits.pop(image.numpy().tobytes()) for half in halves for image in half.images[:, 2]] == [
        label for half in halves for label in half.label.tolist()] and not digits
    with pytest.raises(Stop, match="neither train-images-idx3-ubyte"):
        datasets.mnist(str(tmp_path), "train", 28)
    write_mnist(tmp_path / "mnist", images[:, :27], labels)
    with pytest.raises(Stop, match="t10k-images-idx3-ubyte.gz is damaged"):
        datasets.mnist(str(tmp_path), "values", 28)


def test_pretrained_logits_by_name(tmp_path):
    """Of ImageNet's 1,000 logits those of the folder's classes; of as many as there are classes, all in order."""
    torch.manual_seed(0)
    whole = model.build("squeezenet1_1", "none", 64, range(1000)).eval()
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    some = model.load(str(tmp_path / "no.pth"), ("tabby", "tiger_cat"), str(tmp_path / "whole.pth"), ARCH="squeezenet1_1", IMAGE_SIZE=64)
    images = torch.randn(3, 3, 64, 64)
    torch.testing.assert_close(some(images), whole(images)[:, [281, 282]])
    with pytest.raises(Stop, match="moggy is none of ImageNet's"):
        model.pretrained("squeezenet1_1", str(tmp_path / "whole.pth"), 64, ("tabby", "moggy"))
    torch.save(model.build("squeezenet1_1", "none", 64, range(3)).state_dict(), tmp_path / "three.pth")
    assert model.pretrained("squeezenet1_1", str(tmp_path / "three.pth"), 64, ("a", "b", "c"))(images).shape == (3, 3)
    with pytest.raises(Stop, match="a head of 3 logits, but there are 2 classes"):
        model.pretrained("squeezenet1_1", str(tmp_path / "three.pth"), 64, ("a", "b"))


# ----------------------------------------------------------------------------- exact, on small models


class Small(nn.Module):
    """Two convs, one behind the other, and a head: everything by which filters differ in size."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Conv2d(5, 3, 1)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x))))).mean((2, 3))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (12, 3, 16, 16), dtype=np.uint8))
    return Images(images, torch.from_numpy(rng.integers(0, 3, 12)), torch.full((12,), -1))


def test_what_is_left_as_a_module(small, data):
    evaluator, fills = ablation.evaluator(small, 16), torch.arange(9) / 10
    images, keep = normalise(data.images, "cpu"), np.ones((1, 9), dtype=bool)
    keep[0, [1, 6]] = False
    evaluator.see(images, fills)
    left = evaluator.without([1, 6], fills)
    torch.testing.assert_close(left(images), evaluator.logits(keep)[0])
    torch.testing.assert_close(evaluator.without([], fills)(images), small(images))


def test_attack_is_what_our_own_loop_makes(small, data):
    """PGD: steps of the gradient's sign towards the target, within the ball and [0, 1]."""
    target = adversaries.targets(data.label, 3, 0)
    assert (target != data.label).all() and target.max() < 3
    found = adversaries.attack(small, data.images, target, 3, torch.device("cpu"))
    x = data.images.float() / 255
    mean, std = (torch.tensor(some).view(3, 1, 1) for some in (datasets.MEAN, datasets.STD))
    at = x.clone()
    for _ in range(adversaries.STEPS):
        at.requires_grad_()
        loss = nn.functional.cross_entropy(small((at - mean) / std), target)
        gradient, = torch.autograd.grad(loss, at)
        at = at.detach() - adversaries.STEP / 255 * gradient.sign()
        at = torch.clamp(torch.clamp(at, x - adversaries.EPSILON / 255, x + adversaries.EPSILON / 255), 0, 1)
    difference = (255 * at).round() - found.float()
    assert (difference.abs() <= 1).float().mean() > 0.99  # a gradient of about 0 may have either sign
    assert (found.int() - data.images.int()).abs().max() <= adversaries.EPSILON
    with torch.no_grad():
        before, after = (nn.functional.cross_entropy(small(normalise(some, "cpu")), target) for some in (data.images, found))
    assert after < before - 0.01


def test_pairs_are_cached_by_network_and_images(small, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = adversaries.pairs(small, "one", data, 3, 0, torch.device("cpu"))
    assert first.group.tolist() == [0] * 12 + [1] * 12 and torch.equal(first.images[:12], data.images)
    assert torch.equal(first.label[12:], adversaries.targets(data.label, 3, 0))
    monkeypatch.setattr(adversaries, "attack", None)  # it is not made again
    assert torch.equal(adversaries.pairs(small, "one", data, 3, 0, torch.device("cpu")).images, first.images)
    with pytest.raises(TypeError):
        adversaries.pairs(small, "another", data, 3, 0, torch.device("cpu"))


def test_value_of_an_attack():
    data = Images(None, None, torch.tensor([0, 0, 0, 0, 1, 1]))
    margins = torch.tensor([[1.0, 1, 1, -1, 2, -2], [-1, -1, -1, -1, 1, 1]])
    assert ablation.attack(margins, data).tolist() == [0.5 - 0.75, 1.0]


def test_batches_of_images_without_groups(small, data):
    evaluator = ablation.evaluator(small, 16)
    value = ablation.BatchValue(evaluator, torch.zeros(9), data, 12, "accuracy")
    with torch.no_grad():
        right = (small(normalise(data.images, "cpu")).argmax(1) == data.label).float().mean()
    assert value(np.ones((1, 9), dtype=bool), 0).item() == pytest.approx(right.item())


def test_activations_and_maximisation(small, data):
    evaluator, filters = ablation.evaluator(small, 16), [2, 7]
    active = features.activations(evaluator, data.images, filters)
    means = evaluator.mean_outputs(normalise(data.images, "cpu")) / 12
    np.testing.assert_allclose(active.mean(0), means[filters], rtol=1e-5)
    colours = features.palette(data.images)
    start, end = (features.maximise(evaluator, filters, 16, colours, steps, 0) for steps in (1, 60))
    assert end.shape == (2, 16, 16, 3) and end.dtype == np.uint8

    def raw(pictures):
        values = model.forward(evaluator.steps, normalise(torch.from_numpy(pictures).permute(0, 3, 1, 2), "cpu"))
        return [values[evaluator.raw[filter]][row, evaluator.channels[filter]].mean().item() for row, filter in enumerate(filters)]

    assert all(after > before + 0.05 for before, after in zip(raw(start), raw(end)))


def test_palette_of_grey_images_is_grey():
    grey = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8).expand(-1, 3, -1, -1)
    colours = features.palette(grey)
    torch.testing.assert_close(colours.std(0), torch.zeros(3), atol=1e-3, rtol=0)


def test_concentration():
    values = np.array([6.0, 3.0, 2.0, -1.0] + [0.0] * 6)
    assert metrics.concentration(values, (0.1, 0.2, 1.0)) == {0.1: 0.6, 0.2: 0.9, 1.0: 1.0}


def test_shares_and_differences():
    rng = np.random.default_rng(0)
    right = rng.random((1, 400)) < 0.8
    assert metrics.share(right) == (right.mean(), *metrics.wilson(right.sum(), 400))
    same = np.repeat(right, 3, 0)
    mean, low, high = metrics.share(same)  # networks that do not differ: the images' variance alone
    assert (mean, low, high) == (right.mean(), *map(pytest.approx, metrics.wilson(right.sum(), 400)))
    assert metrics.difference(right, right) == (0, pytest.approx(0, abs=0.02), pytest.approx(0, abs=0.02))
    none = np.zeros_like(right)
    assert metrics.difference(none, none)[2] > 0.005  # that nothing was right is no proof that nothing ever is
    p, q, n = right, rng.random((1, 400)) < 0.7, 400
    mean, low, high = metrics.difference(p, q)  # far from 0 and 1 it is about the normal interval
    half = metrics.Z * np.sqrt((p.astype(float) - q).var() / n)
    assert (mean - low, high - mean) == (pytest.approx(half, rel=0.03), pytest.approx(half, rel=0.03))
    misses = 0
    for _ in range(300):  # two sides of 3 networks each, which differ by a chance of their own, 0.7 and 0.75 on average
        sides = [rng.random((3, 200)) < (mean + rng.normal(0, 0.03, (3, 1))) for mean in (0.75, 0.7)]
        _, low, high = metrics.difference(*sides)
        misses += not low <= 0.05 <= high
    assert misses <= 15  # 5 %; the two variances are added, so rather fewer
