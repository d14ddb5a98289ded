"""CIFAR-10's binary files."""

from common.settings import InputError

import numpy as np
import pytest

from readers.cifar import CLASSES, cifar10, cifar10_classes
from tests.damage import check_message


def write_batches(folder):
    """Six files of 20 images, two of each class: (pixels (6, 20, 3, 32, 32), labels (6, 20))."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 20, 3, 32, 32), dtype=np.uint8)
    labels = np.tile(np.arange(20, dtype=np.uint8) % 10, (6, 1))
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    for name, images, label in zip(names, pixels, labels):
        records = np.concatenate([label[:, None], images.reshape(20, -1)], 1)
        (folder / name).write_bytes(records.tobytes())
    return pixels, labels


@pytest.mark.parametrize("below", ["cifar10", "cifar10/cifar-10-batches-bin"])
def test_the_binary_files(tmp_path, below):
    pixels, labels = write_batches(tmp_path / below)
    train = cifar10(tmp_path, "train", 32)
    np.testing.assert_array_equal(train.images, pixels[:5].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(train.label, labels[:5].ravel())
    halves = [cifar10(tmp_path, purpose, 32) for purpose in ("values", "report")]
    together = np.concatenate([part.images.numpy() for part in halves])
    assert sorted(map(bytes, together)) == sorted(map(bytes, pixels[5]))
    for part in halves:
        assert sorted(part.label.tolist()) == list(range(10))
    assert cifar10_classes(tmp_path) == CLASSES
    assert cifar10(tmp_path, "report", 48).images.shape == (10, 3, 48, 48)


def test_a_resized_image_keeps_its_colours(tmp_path):
    folder = tmp_path / "cifar10"
    write_batches(folder)
    record = np.concatenate([[3], np.repeat([200, 100, 50], 32 * 32)]).astype(np.uint8)
    (folder / "data_batch_1.bin").write_bytes(record.tobytes())
    train = cifar10(tmp_path, "train", 40)
    assert train.label[0] == 3
    assert train.images[0].flatten(1).unique(dim=1).flatten().tolist() == [200, 100, 50]


def test_files_that_cannot_be_read(tmp_path):
    folder = tmp_path / "cifar10"
    write_batches(folder)
    for damage, words in (
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), ["data_batch_2.bin", "3073"]),
        (lambda path: path.write_bytes(b"\x0a" * 3073), ["data_batch_2.bin", "0 to 9"]),
        (lambda path: path.unlink(), ["data_batch_2.bin"]),
    ):
        damage(folder / "data_batch_2.bin")
        with pytest.raises(InputError) as refusal:
            cifar10(tmp_path, "train", 32)
        check_message(str(refusal.value), *words)


def test_pickles_are_not_read(tmp_path):
    (tmp_path / "cifar10/cifar-10-batches-py").mkdir(parents=True)
    with pytest.raises(InputError) as refusal:
        cifar10(tmp_path, "train", 32)
    check_message(str(refusal.value), "pickles", "cifar-10-batches-bin")
