"""Drawn lesions: the label is in the lesion alone, and patches are where their masks are."""

import numpy as np

from drawings.lesions import REACH, draw_lesion, draw_lesions


def test_the_label_changes_the_lesion_alone():
    """Drawn from the same seed, both labels have the same skin, light and noise."""
    down, across = np.meshgrid(*[np.linspace(-1, 1, 32)] * 2, indexing="ij")
    outside = np.hypot(down, across) > REACH + 0.2  # its middle lies up to 0.17 off
    differing = 0
    for seed in range(20):
        pair = [draw_lesion(np.random.default_rng(seed), label, 32) for label in (0, 1)]
        np.testing.assert_array_equal(pair[0][outside], pair[1][outside])
        differing += (pair[0] != pair[1]).any()
    assert differing == 20


def test_the_label_draws_nothing():
    """What is drawn after the lesion, the patch, cannot tell the label."""
    rngs = [np.random.default_rng(0), np.random.default_rng(0)]
    for label, rng in enumerate(rngs):
        draw_lesion(rng, label, 16)
    assert rngs[0].random() == rngs[1].random()


def test_patches_lie_where_their_masks_are():
    images, patches, label = draw_lesions(60, 32, 0)
    assert images.dtype == np.uint8 and patches.shape == (60, 32, 32)
    patched = patches.any((1, 2))
    assert label.sum() == 20 and patched.sum() == 20 and not label[patched].any()
    for number in range(60):  # a patch is drawn last, on what would be there without it
        bare = draw_lesion(np.random.default_rng([0, number]), label[number], 32)
        changed = (images[number].transpose(1, 2, 0) != bare).any(2)
        assert not changed[~patches[number]].any()
        assert changed.sum() >= 0.95 * patches[number].sum()


def test_images_depend_on_seed_and_number_alone():
    four, eight, other = draw_lesions(4, 16, 1), draw_lesions(8, 16, 1), draw_lesions(4, 16, 2)
    np.testing.assert_array_equal(four[0], eight[0][:4])
    assert (four[0] != other[0]).any((1, 2, 3)).all()


def test_unevenness_tells_malignant_lesions_but_not_with_certainty():
    """Brightness within the lesion varies more, on average; the classes overlap."""
    images, patches, label = draw_lesions(300, 32, 0)
    spread = images[:, :, 10:22, 10:22].mean(1).std((1, 2))[~patches.any((1, 2))]
    label = label[~patches.any((1, 2))]
    low, high = spread[label == 0], spread[label == 1]
    assert high.mean() > low.mean() and (low > np.median(high)).any()
    assert (high < np.median(low)).any()
