"""Drawn skin with a lesion, and on benign ones often a coloured patch, as in the ISIC archive.

Two traits tell malignant lesions from benign ones, and neither with certainty: a ragged border and
uneven colour. Skin, light, place and size of the lesion, and the patch do not depend on them.
"""

import numpy as np

SEPARATION = 2.6  # of the classes in each trait, in standard deviations
RAGGED, UNEVEN = 0.13, 0.16  # waves of border and colour, typical, as shares of radius and darkness
SPREAD = 0.5  # of both on a logarithmic scale, for one standard deviation of a trait
REACH = 0.8  # a lesion ends here, as a share of half the side
PALE, DARK = np.array([232, 190, 166]), np.array([150, 106, 82])  # skin
PIGMENT, REDDER = np.array([60, 34, 28]), np.array([1, 0, -1])
HUES = np.array([[40, 90, 200], [232, 122, 40], [60, 160, 84], [236, 204, 60], [204, 60, 142]])


def draw_lesions(n, size, seed):
    """Images, patches and labels. Every image has a seed of its own, [seed, number].

    A third of the images is malignant, 1; half of the others have a patch.

    Returns:
        images (n, 3, size, size) uint8, patches (n, size, size) bool, label (n,) int64.
    """
    numbers = np.arange(n)
    label, patched = (numbers % 3 == 0).astype(np.int64), np.isin(numbers % 6, (1, 2))
    images, patches = np.empty((n, 3, size, size), np.uint8), np.zeros((n, size, size), bool)
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        image = draw_lesion(rng, label[number], size)
        if patched[number]:
            patches[number] = add_patch(rng, image)
        images[number] = image.transpose(2, 0, 1)
    return images, patches, label


def draw_lesion(rng, malignant, size):
    """An image (size, size, 3) uint8. The label changes the lesion alone, and draws nothing."""
    down, across = _grid(size)
    skin = PALE + rng.random() * (DARK - PALE)
    light = 1 + rng.uniform(-0.12, 0.12, 2) @ [across.ravel(), down.ravel()]
    ragged, uneven = rng.normal(size=2) + SEPARATION * (malignant - 0.5)
    middle, radius = rng.uniform(-0.12, 0.12, 2), rng.uniform(0.35, 0.55)
    darkness, blush = rng.uniform(0.45, 0.75), rng.uniform(-0.3, 0.3)
    down, across = down - middle[0], across - middle[1]
    border = 1 + RAGGED * np.exp(SPREAD * ragged) * _waves_around(rng, np.arctan2(down, across))
    border = np.clip(radius * border, 0.1, REACH)
    inside = 1 / (1 + np.exp((np.hypot(down, across) - border) * size / 2))
    inside[np.hypot(down, across) > REACH] = 0
    field = darkness + UNEVEN * np.exp(SPREAD * uneven) * _waves(rng, down, across)
    share = (inside * np.clip(field, 0.1, 0.95))[..., None]
    noise = rng.normal(0, 6, (size, size, 1)) + rng.normal(0, 2, (size, size, 3))
    colour = skin + share * (PIGMENT * (1 + blush * REDDER) - skin)
    pixels = colour * light.reshape(size, size, 1) + noise
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def add_patch(rng, image):
    """Draw a round patch near the border of an image (S, S, 3), in place: where, (S, S) bool."""
    down, across = _grid(len(image))
    angle = rng.uniform(0, 2 * np.pi)
    distance, radius = rng.uniform(0.8, 1.1), rng.uniform(0.25, 0.4)
    distances = np.hypot(down - distance * np.sin(angle), across - distance * np.cos(angle))
    patch = distances < radius
    shade = rng.uniform(0.8, 1.1) * (1 - 0.2 * (distances[patch] / radius) ** 2)
    pixels = shade[:, None] * HUES[rng.integers(len(HUES))] + rng.normal(0, 5, (patch.sum(), 1))
    image[patch] = np.clip(np.round(pixels), 0, 255)
    return patch


def _grid(size):
    """Rows and columns of pixels, (size, size) each, from -1 to 1."""
    return np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")


def _waves_around(rng, angle):
    """A random closed curve's deviation at these angles, of variance 1 on average."""
    heights, phases = rng.normal(size=5), rng.uniform(0, 2 * np.pi, 5)
    orders = np.arange(3, 8)[:, None, None]
    waves = np.cos(orders * angle + phases[:, None, None])
    return np.tensordot(heights, waves, 1) * np.sqrt(2 / 5)


def _waves(rng, down, across):
    """A random smooth field on the pixels, of variance 1 on average."""
    heights, phases = rng.normal(size=5), rng.uniform(0, 2 * np.pi, 5)
    slopes = rng.normal(0, 5, (2, 5))
    places = np.tensordot(slopes, np.stack([down, across]), (0, 0))  # (5, size, size)
    waves = np.cos(places + phases[:, None, None])
    return np.tensordot(heights, waves, 1) * np.sqrt(2 / 5)
