"""Curves, colours and the canvas."""

import numpy as np
import pytest
from PIL import Image

from drawings.canvas import (
    CIRCLE,
    FRAMES,
    SUPERSAMPLE,
    Canvas,
    curve,
    light,
    mirrored,
    mix,
    pick,
)


def canvas(angle=0.0, scale=1.0, shift=(0, 0)):
    return Canvas("sign", (0, 0, 0), angle, scale, np.array(shift))


def pixels(drawing):
    return np.asarray(drawing.image)[..., 0] / 255


@pytest.mark.parametrize("closed", [True, False])
def test_curves_go_through_their_control_points(closed):
    points = np.random.default_rng(0).normal(size=(5, 2))
    smooth = curve(points, closed)
    assert smooth.shape == ((30, 2) if closed else (24, 2))
    np.testing.assert_allclose(smooth[::6], points if closed else points[:-1], atol=1e-12)


def test_a_curve_through_points_on_a_circle_is_round():
    radii = np.linalg.norm(curve(CIRCLE), axis=1)
    np.testing.assert_allclose(radii, 1, atol=1e-3)


def test_a_mirrored_contour_is_symmetric():
    contour = mirrored([(1, -1), (2, 0), (1, 3)])
    assert contour.tolist() == [[1, -1], [2, 0], [1, 3], [-1, 3], [-2, 0], [-1, -1]]


def test_colours_mix():
    assert mix((0, 100, 200), (100, 0, 200), 0.25) == (25, 75, 200)


def test_pick_returns_an_option_as_it_is():
    options = ((1, 2), (3, 4), (5, 6))
    picked = {pick(np.random.default_rng(seed), options) for seed in range(30)}
    assert picked == set(options)


@pytest.mark.parametrize("frame", FRAMES)
def test_pictures_have_the_size_of_their_frame(frame):
    picture = Canvas(frame, (9, 9, 9), 0, 1, np.zeros(2)).finish(np.random.default_rng(0))
    assert picture.size == FRAMES[frame][:2]


def test_an_oval_has_its_area_and_place():
    drawing = canvas()
    drawing.oval(0.3, -0.2, 0.5, 0.25, (255, 255, 255))
    _, _, x, y, unit = (SUPERSAMPLE * side for side in FRAMES["sign"])
    rows, columns = np.nonzero(pixels(drawing))
    assert len(rows) == pytest.approx(np.pi * 0.5 * 0.25 * unit**2, rel=0.05)
    assert columns.mean() == pytest.approx(x + 0.3 * unit, abs=1)
    assert rows.mean() == pytest.approx(y - 0.2 * unit, abs=1)


def test_drawings_are_turned_enlarged_and_moved():
    drawing = canvas(angle=np.pi / 2, scale=0.5, shift=(0.5, 0))
    drawing.oval(1, 0, 0.2, 0.2, (255, 255, 255))  # to the right becomes down
    _, _, x, y, unit = (SUPERSAMPLE * side for side in FRAMES["sign"])
    rows, columns = np.nonzero(pixels(drawing))
    assert (columns.mean(), rows.mean()) == pytest.approx((x + 0.5 * unit, y + 0.5 * unit), abs=1)


def test_ink_blends():
    drawing = canvas()
    drawing.oval(0, 0, 0.5, 0.5, (255, 255, 255), alpha=51)
    assert pixels(drawing).max() == pytest.approx(51 / 255)


def test_a_stroke_is_thinner_towards_its_ends():
    drawing = canvas()
    drawing.stroke([(-1, 0), (0, 0), (1, 0)], 0.4, (255, 255, 255))
    heights = pixels(drawing).sum(0)
    heights = heights[heights > 0]
    unit = SUPERSAMPLE * FRAMES["sign"][4]
    assert heights.max() == pytest.approx(0.4 * unit, abs=2)
    assert max(heights[0], heights[-1]) < 0.6 * heights.max()


def test_light_changes_brightness_smoothly_and_adds_little_noise():
    grey = Image.new("RGB", (60, 40), (128, 128, 128))
    lit = [np.asarray(light(grey, np.random.default_rng(seed)), float) for seed in range(20)]
    assert len({image.mean().round(3) for image in lit}) == 20
    assert all(80 < image.mean() < 160 for image in lit)
    noise = [np.diff(image, axis=1).std() / 2**0.5 for image in lit]
    assert np.mean(noise) == pytest.approx(3, abs=0.3)
