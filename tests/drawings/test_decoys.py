"""Decoys: marks where they should be, and cues that follow the label as often as asked for."""

import numpy as np
import pytest

from drawings.decoys import MARKS, STRIPES, TINT, colours, draw_cues, plant

S = 16


def grey_images(n, level=128):
    return np.full((n, 3, S, S), level, dtype=np.uint8)


def marked(mark, cue, n_cues=3, size=4, seed=0, images=None):
    images = grey_images(len(cue)) if images is None else images
    return plant(images, np.array(cue), n_cues, mark, size, np.random.default_rng(seed))


@pytest.mark.parametrize("mark", MARKS)
def test_marks_differ_by_cue_and_spare_the_rest(mark):
    images = np.random.default_rng(1).integers(0, 256, (4, 3, S, S), dtype=np.uint8)
    before = images.copy()
    planted = marked(mark, [0, 1, -1, 2], images=images)
    assert (images == before).all() and planted.dtype == np.uint8
    assert (planted[2] == images[2]).all() and (planted[[0, 1, 3]] != images[[0, 1, 3]]).any(
        (1, 2, 3)
    ).all()
    again = marked(mark, [0, 1, -1, 2], images=images)
    assert (planted == again).all()
    flat = marked(mark, [0, 1, 2])
    assert len({image.tobytes() for image in flat}) == 3


def test_a_patch_is_in_the_corner():
    planted = marked("patch", [0, 2], size=5)
    for image, colour in zip(planted, ([255, 0, 0], [0, 0, 255])):
        assert (image[:, :5, :5] == np.reshape(colour, (3, 1, 1))).all()
        assert (image[:, 5:] == 128).all() and (image[:, :, 5:] == 128).all()


def test_a_moving_patch_is_whole_and_anywhere():
    planted = marked("moving_patch", [1] * 200, size=5)
    painted = (planted == np.reshape([0, 255, 0], (3, 1, 1))).all(1)  # (N, S, S)
    assert (painted.sum((1, 2)) == 25).all()
    assert painted.any(0).all()  # the corners of the image included
    rows, columns = painted.any(2).argmax(1), painted.any(1).argmax(1)
    assert len(set(zip(rows, columns))) > 80


def test_a_tint_is_a_mean_with_the_colour():
    planted = marked("tint", [0])
    expected = np.round((1 - TINT) * 128 + TINT * np.array([255, 0, 0]))
    assert (planted[0] == expected[:, None, None]).all()


def test_stripes_run_in_the_direction_of_the_cue():
    planted = marked("stripes", [0, 1], n_cues=2).astype(float)
    assert np.ptp(planted[0], axis=1).max() == 0  # along columns
    assert np.ptp(planted[1], axis=2).max() <= 1  # along rows, but for rounding
    assert abs(planted - 128).max() <= STRIPES and abs(planted.mean() - 128) < 2
    period = planted[0, 0, 0]
    assert np.allclose(period[:8], period[8:], atol=1)  # two sizes of 4 pixels


def test_colours_run_from_red_to_blue():
    assert colours(2).tolist() == [[255, 0, 0], [0, 0, 255]]
    assert colours(1).tolist() == [[255, 0, 0]]
    assert len(np.unique(colours(10), axis=0)) == 10


@pytest.mark.parametrize("agreement", [0.0, 0.25, 0.9, 1.0])
def test_cues_agree_with_the_label_as_often_as_asked_for(agreement):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 20000)
    cue = draw_cues(label, 4, agreement, rng)
    assert (cue == label).mean() == pytest.approx(agreement, abs=0.01)
    away = np.bincount((cue - label)[cue != label] % 4, minlength=4)
    assert away[0] == 0 and (agreement == 1 or np.ptp(away[1:]) < 0.05 * away.sum() + 1)
