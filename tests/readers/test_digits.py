"""MNIST's files."""

import gzip
import struct

from common.settings import InputError

import numpy as np
import pytest
import torch

import datasets
from readers.digits import mnist


def write_idx(path, magic, array):
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "wb") as file:
        file.write(struct.pack(f">{1 + array.ndim}i", magic, *array.shape) + array.tobytes())


def write_mnist(folder, images, labels, source="t10k"):
    """Images compressed, labels not: both forms are read."""
    folder.mkdir(parents=True, exist_ok=True)
    write_idx(folder / f"{source}-images-idx3-ubyte.gz", 0x803, images)
    write_idx(folder / f"{source}-labels-idx1-ubyte", 0x801, labels)


@pytest.fixture
def digits():
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    return images, np.arange(20, dtype=np.uint8) % 10


def test_test_images_are_halved_by_class(tmp_path, digits):
    write_mnist(tmp_path / "mnist", *digits)
    halves = [mnist(tmp_path, purpose, 28) for purpose in ("values", "report")]
    for half in halves:
        assert sorted(half.label.tolist()) == list(range(10))
    label_of = {image.tobytes(): label for image, label in zip(*digits)}
    for half in halves:
        assert (half.images[:, 0] == half.images[:, 2]).all() and (half.group == -1).all()
        for image, label in zip(half.images[:, 2], half.label.tolist()):
            assert label_of.pop(image.numpy().tobytes()) == label
    assert not label_of


def test_training_images_are_all_taken(tmp_path, digits):
    write_mnist(tmp_path / "mnist", *digits, source="train")
    data = mnist(tmp_path, "train", 28)
    assert (data.images[:, 1].numpy() == digits[0]).all()
    assert data.label.tolist() == digits[1].tolist()


def test_training_table_stands_in_for_the_training_images(tmp_path, digits):
    rows = np.column_stack([digits[0].reshape(20, -1), digits[1]]).astype(int)
    (tmp_path / "mnist").mkdir()
    path = tmp_path / "mnist" / "mnist_5k.csv.gz"
    np.savetxt(path, rows, fmt="%d", delimiter=",")
    data = mnist(tmp_path, "train", 28)
    assert (data.images[:, 0].numpy() == digits[0]).all()
    assert data.label.tolist() == digits[1].tolist()
    np.savetxt(path, rows[:, 1:], fmt="%d", delimiter=",")
    with pytest.raises(InputError, match="must hold 784 pixels and a label"):
        mnist(tmp_path, "train", 28)
    np.savetxt(path, rows[:, ::-1] + 256 * (rows[:, ::-1] > 250), fmt="%d", delimiter=",")
    with pytest.raises(InputError, match="from 0 to 255"):
        mnist(tmp_path, "train", 28)
    np.savetxt(path, np.roll(rows, 1, 1) * (np.arange(785) < 780), fmt="%d", delimiter=",")
    with pytest.raises(InputError, match="20 labels .0., which should be"):  # labels in front
        mnist(tmp_path, "train", 28)
    write_mnist(tmp_path / "mnist", digits[0][:4], digits[1][:4], source="train")
    assert len(mnist(tmp_path, "train", 28).label) == 4  # MNIST's own files go first


def test_digits_are_enlarged(tmp_path, digits):
    write_mnist(tmp_path / "mnist", np.full_like(digits[0], 7), digits[1])
    data = mnist(tmp_path, "values", 64)
    assert data.images.shape == (20, 3, 64, 64) and (data.images == 7).all()


def test_missing_files(tmp_path, digits):
    with pytest.raises(InputError, match="no such folder; .* --TASK=folder --DRAW=toy"):
        mnist(tmp_path, "values", 28)
    write_mnist(tmp_path / "mnist", *digits)
    with pytest.raises(InputError, match="neither train-images-idx3-ubyte nor"):
        mnist(tmp_path, "train", 28)


def cut_file(path):
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("damage", [cut_file, lambda path: path.write_bytes(b"no digits")])
def test_damaged_files(tmp_path, digits, name, damage):
    write_mnist(tmp_path / "mnist", *digits)
    damage(tmp_path / "mnist" / name)
    with pytest.raises(InputError, match=f"{name} is damaged .* download it again"):
        mnist(tmp_path, "values", 28)


@pytest.mark.parametrize(
    "images, labels, words",
    [
        (np.zeros((20, 27, 28)), np.arange(20) % 10, "no idx file of this shape"),
        (np.zeros((20, 28, 28)), np.arange(19) % 10, "20 images and 19 labels"),
        (np.zeros((20, 28, 28)), np.arange(20), "from 0 to 9"),
        (np.zeros((20, 28, 28)), np.zeros(20), "20 labels .0., which should be"),
        (np.zeros((1, 28, 28)), np.zeros(1), "1 images and 1 labels"),
    ],
)
def test_files_that_do_not_fit(tmp_path, images, labels, words):
    write_mnist(tmp_path / "mnist", images.astype(np.uint8), labels.astype(np.uint8))
    with pytest.raises(InputError, match=words):
        mnist(tmp_path, "values", 28)


def own_folders(path):
    """As Kaggle's archive unpacks: each file in a folder of its name."""
    for file in list(path.iterdir()):
        file.rename(path / "aside")
        file.mkdir()
        (path / "aside").rename(file / file.name)


def compress_under_the_old_name(path):
    for file in path.iterdir():
        content = file.read_bytes()
        file.write_bytes(content if content[:2] == b"\x1f\x8b" else gzip.compress(content))


def rename(old, new):
    def rename_all(path):
        for file in list(path.iterdir()):
            file.rename(path / file.name.replace(old, new))

    return rename_all


@pytest.mark.parametrize("place", ["mnist", "MNIST", "MNIST/raw", "mnist/MNIST/raw", "mnist/raw"])
@pytest.mark.parametrize(
    "change",
    [
        lambda path: None,
        rename("-idx", ".idx"),
        rename("-", "_"),
        rename("t10k", "test"),
        rename("-ubyte", ".ubyte"),
        rename("images", "IMAGES"),
        own_folders,
        compress_under_the_old_name,
    ],
)
def test_other_places_and_names(tmp_path, digits, place, change):
    for source, images in (("t10k", digits[0]), ("train", 255 - digits[0])):
        write_mnist(tmp_path / place, images, digits[1], source)
    change(tmp_path / place)
    data = mnist(tmp_path, "train", 28)
    assert (data.images[:, 1].numpy() == 255 - digits[0]).all()
    assert data.label.tolist() == digits[1].tolist()
    assert sorted(mnist(tmp_path, "report", 28).label.tolist()) == list(range(10))


def test_a_missing_file_is_told_beside_what_is_there(tmp_path, digits):
    write_mnist(tmp_path / "mnist", *digits)
    rename("t10k-images", "pictures")(tmp_path / "mnist")
    words = "neither t10k-images-idx3-ubyte nor .* holds pictures-idx3-ubyte.gz, t10k-labels"
    with pytest.raises(InputError, match=words):
        mnist(tmp_path, "values", 28)


def test_digits_of_scikit_learn_need_no_files():
    whole, sets = (0.0, 0.0, 1.0, 1.0), {}
    for purpose in ("train", "values", "report"):
        sets[purpose] = datasets.load("digits", "nowhere", purpose, 32, whole, whole)
    contents = {}
    for purpose, data in sets.items():
        assert data.images.shape[1:] == (3, 32, 32) and data.images.dtype == torch.uint8
        assert len(data.label.unique()) == 10
        contents[purpose] = {image.numpy().tobytes() for image in data.images}
    assert sum(len(data.label) for data in sets.values()) == 1797
    assert len(sets["train"].label) > 2 * len(sets["report"].label) - 20
    for first, second in (("train", "values"), ("train", "report"), ("values", "report")):
        assert contents[first].isdisjoint(contents[second])


def test_digits_are_not_mirrored():
    mirrored = {task for task in datasets.LOADERS if datasets.may_mirror(task)}
    assert datasets.LOADERS.keys() - mirrored == {"mnist", "digits"}
