"""The layout of the ISIC images and of the masks of their patches."""

from common.settings import InputError

import numpy as np
import pytest

from readers.isic import isic
from tests.damage import check_message, empty, remove, write
from tests.penalties.test_problems import write_isic


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the cache is made here
    return tmp_path, write_isic(tmp_path, 12)


def test_masks_align_with_their_images(written):
    """Drawn at 40 pixels and read so; masks are twice as large, and widened by a pixel."""
    folder, (pixels, patches, label) = written
    images, masks, labels = (part.numpy() for part in isic(folder, 40))
    order = np.argsort(label, kind="stable")  # benign ones come first
    np.testing.assert_array_equal(images, pixels[order])
    np.testing.assert_array_equal(labels, label[order])
    for mask, patch in zip(masks, patches[order]):
        padded = np.pad(patch, 1)
        wide = np.zeros_like(patch)
        for down in range(3):
            for across in range(3):
                wide |= padded[down : down + 40, across : across + 40]
        np.testing.assert_array_equal(mask, wide)


def test_other_sizes(written):
    images, masks, _ = isic(written[0], 24)
    assert images.shape == (12, 3, 24, 24) and masks.shape == (12, 24, 24)
    assert masks.flatten(1).any(1).sum() == 4


DAMAGE = {
    "processed/cancer": (remove, ["processed/cancer", "no such folder"]),
    "processed/no_cancer": (empty, ["processed/no_cancer", "no images"]),
    "segmentation": (remove, ["segmentation", "no such folder"]),
    "processed/no_cancer/ISIC_0000001.png": (remove, ["ISIC_0000001", "masks of no image"]),
    "segmentation/ISIC_0000002.png": (write(b"none"), ["ISIC_0000002.png", "decoded"]),
    "segmentation/ISIC_0000000.png": (write(b"none"), ["ISIC_0000000", "masks of no image"]),
    "segmentation/ISIC_0000001.gif": (write(b"none"), ["ISIC_0000001.*", "two files"]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_refused(written, name):
    damage, words = DAMAGE[name]
    damage(written[0] / "isic" / name)
    with pytest.raises(InputError) as error:
        isic(written[0], 24)
    check_message(str(error.value), *words)
