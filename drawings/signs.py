"""Drawn signs: ten classes, one folder each, for experiments that are not about faces."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from drawings.canvas import BACKDROP, CIRCLE, CLOTHES, LIPSTICK, METAL, Canvas, pick


def star(points, inner):
    """Corners (2 points, 2) of a star whose inner corners lie at radius `inner`.

    At inner = cos(pi / points) it is a regular polygon.
    """
    angle = np.arange(2 * points) * np.pi / points - np.pi / 2
    radius = np.where(np.arange(2 * points) % 2, inner, 1)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def ring(outline, inner):
    """A closed outline (n, 2) with a hole of its own shape, `inner` times as large."""
    closed = np.concatenate([outline, outline[:1]])
    return np.concatenate([closed, inner * closed[::-1]])


_ARROW = [(0, -1), (0.8, -0.1), (0.3, -0.1), (0.3, 1), (-0.3, 1), (-0.3, -0.1), (-0.8, -0.1)]
_FLASH = [(0.25, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.3, 1), (0.6, -0.25), (0.1, -0.25)]
_HOLLOW = (CIRCLE * 0.75 + (0.45, 0))[5:20][::-1]
SIGNS = {  # (n, 2) each, inside [-1, 1]^2
    "arrow": np.array(_ARROW),
    "circle": CIRCLE,
    "ring": ring(CIRCLE, 0.6),
    "triangle": star(3, 0.5),
    "square": star(4, 2**-0.5),
    "frame": ring(star(4, 2**-0.5), 0.6),
    "hexagon": star(6, 0.75**0.5),
    "star": star(5, 0.42),
    "flash": np.array(_FLASH),
    "moon": np.concatenate([CIRCLE[5:20], _HOLLOW]),
}


def draw_sign(rng, name):
    """A PIL image of a sign of any colour, size, turn and place, on a littered ground."""
    ground, angle = pick(rng, BACKDROP), np.radians(rng.uniform(-40, 40))
    canvas = Canvas("sign", ground, angle, rng.uniform(0.4, 0.95), rng.uniform(-0.3, 0.3, 2))
    for _ in range(6):
        place, radii = rng.uniform(-2, 2, 2), rng.uniform(0.1, 0.7, 2)
        canvas.oval(*place, *radii, pick(rng, BACKDROP + CLOTHES), 110)
    outline = SIGNS[name] * rng.uniform(0.8, 1.2, 2)
    canvas.polygon(outline, pick(rng, CLOTHES + LIPSTICK + METAL))
    for _ in range(3):
        place, radii = rng.uniform(-1.2, 1.2, 2), rng.uniform(0.05, 0.3, 2)
        canvas.oval(*place, *radii, pick(rng, BACKDROP + CLOTHES), 230)
    return canvas.finish(rng)


def write_signs(folder, seed=0, train=400, val=200, test=200):
    """Write train/, val/ and test/ under `folder`, each with a folder of signs for each class.

    train, val and test: the number of signs of each class. Every sign has a seed of its own,
    [seed, split, class, number].
    """
    for split, (part, count) in enumerate({"train": train, "val": val, "test": test}.items()):
        for index, name in enumerate(tqdm(SIGNS, f"drawing {part}")):
            target = Path(folder) / part / name
            target.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                sign = draw_sign(np.random.default_rng([seed, split, index, number]), name)
                sign.save(target / f"{number:04d}.jpg", quality=90)
