"""Drawn signs: their outlines, and what a folder of them holds."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from drawings.signs import SIGNS, draw_sign, ring, star, write_signs


def area(outline):
    x, y = outline.T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def test_a_star_with_the_right_inner_radius_is_a_regular_polygon():
    square, hexagon = star(4, 2**-0.5), star(6, 0.75**0.5)
    assert (area(square), area(hexagon)) == pytest.approx((2, 1.5 * 3**0.5))
    assert area(star(5, 0.42)) < area(star(5, np.cos(np.pi / 5)))


def test_a_ring_is_an_outline_less_its_hole():
    assert area(ring(star(4, 2**-0.5), 0.6)) == pytest.approx(2 * (1 - 0.6**2))


def test_outlines_lie_inside_the_square():
    assert len(SIGNS) == 10
    assert all(np.abs(outline).max() <= 1 + 1e-9 for outline in SIGNS.values())


def test_signs_depend_on_the_seed_alone(tmp_path):
    contents = []
    for number, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(number)
        write_signs(folder, seed, train=2, val=1, test=1)
        paths = sorted(folder.rglob("*.jpg"))
        contents.append({path.relative_to(folder): path.read_bytes() for path in paths})
    assert contents[0] == contents[1]
    assert contents[0].keys() == contents[2].keys()
    assert len(set(contents[0].values()) | set(contents[2].values())) == 2 * 10 * 4
    names = {path.parts[:2] for path in contents[0]}
    assert names == {(part, name) for part in ("train", "val", "test") for name in SIGNS}


def test_a_sign_is_drawn_as_before():
    """The records were made of these pictures. Pillow and numpy decide the last bits."""
    sign = draw_sign(np.random.default_rng(0), "star")
    assert sign.size == (72, 72)
    assert hashlib.sha256(sign.tobytes()).hexdigest()[:16] == "a9c2a877bc4aaba7"


def test_signs_of_a_class_differ_in_colour_and_place():
    pictures = [draw_sign(np.random.default_rng(seed), "circle") for seed in range(5)]
    assert all(isinstance(picture, Image.Image) for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 5
