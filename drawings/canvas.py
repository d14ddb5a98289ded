"""A picture under way, and the curves and colours that drawings are made of.

Shapes are given in drawing units: the origin is the centre of the face or sign, x points right, and
y points down. FRAMES says where the origin lies in a picture and how many pixels a unit has.
"""

import numpy as np
from PIL import Image, ImageDraw

FRAMES = {  # width, height, x and y of the origin, pixels per unit
    "celeba": (178, 218, 89, 112, 70),
    "fairface": (224, 224, 112, 112, 112),
    "sign": (72, 72, 36, 36, 28),
}
SUPERSAMPLE = 2  # pictures are drawn this many times as large, then reduced, which smooths edges

LIPSTICK = ((190, 34, 54), (206, 62, 92), (160, 30, 70), (214, 84, 84))
CLOTHES = (
    *((58, 84, 124), (150, 62, 66), (74, 110, 90), (228, 224, 214), (60, 60, 68)),
    *((196, 152, 82), (120, 92, 140), (92, 140, 160), (214, 142, 132)),
)
BACKDROP = (
    *((196, 212, 222), (222, 212, 196), (204, 218, 200), (216, 204, 218), (168, 182, 196)),
    *((190, 176, 164), (150, 170, 160), (228, 226, 222), (122, 134, 150)),
)
METAL = ((226, 190, 92), (220, 224, 230))
BLACK, WHITE = (0, 0, 0), (255, 255, 255)

# Catmull-Rom spline: the weights of 4 control points at 6 places between the second and the third.
_PLACES = np.linspace(0, 1, 6, endpoint=False)
_BASIS = [[0, 1, 0, 0], [-0.5, 0, 0.5, 0], [1, -2.5, 2, -0.5], [-0.5, 1.5, -1.5, 0.5]]
SPLINE = _PLACES[:, None] ** np.arange(4) @ _BASIS  # (6, 4)
_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)  # (24, 2), of radius 1


def curve(points, closed=True):
    """Smooth curve through control points (n, 2): (6 n, 2) if closed, else (6 (n - 1), 2)."""
    points = np.asarray(points, float)
    n = len(points)
    if closed:
        window = (np.arange(n)[:, None] + np.arange(-1, 3)) % n
    else:
        window = np.clip(np.arange(n - 1)[:, None] + np.arange(-1, 3), 0, n - 1)
    return (SPLINE @ points[window]).reshape(-1, 2)


def mirrored(right):
    """Closed contour (2 n, 2) from its right half (n, 2), given from the top down."""
    right = np.asarray(right, float)
    return np.concatenate([right, right[::-1] * (-1, 1)])


def mix(start, end, share):
    """The colour (r, g, b) that lies `share` of the way from start to end."""
    return tuple(int(p + (q - p) * share) for p, q in zip(start, end, strict=True))


def pick(rng, options):
    """One item of a sequence. rng.choice would turn a tuple into an array."""
    return options[rng.integers(len(options))]


class Canvas:
    """A picture under way. Its methods take drawing units, colours (r, g, b) and alpha 0-255."""

    def __init__(self, frame, colour, angle, scale, shift):
        """An empty picture of the size of FRAMES[frame].

        Args:
            frame: a key of FRAMES.
            colour: (r, g, b) of the ground.
            angle: what is drawn is turned by so many radians.
            scale: what is drawn is enlarged by this factor.
            shift: (2,) float, what is drawn is moved by so many units.
        """
        width, height, x, y, unit = (SUPERSAMPLE * side for side in FRAMES[frame])
        self.image = Image.new("RGB", (width, height), colour)
        self.pen = ImageDraw.Draw(self.image, "RGBA")  # RGBA ink on an RGB picture blends
        cos, sin = np.cos(angle), np.sin(angle)
        self.turn = unit * scale * np.array([[cos, sin], [-sin, cos]])
        self.origin = np.array([x, y]) + unit * shift

    def polygon(self, points, colour, alpha=255):
        """Fill the polygon with corners (n, 2)."""
        pixels = points @ self.turn + self.origin
        self.pen.polygon(pixels.ravel().tolist(), (*colour, alpha))

    def shape(self, points, colour, alpha=255):
        """Fill the smooth outline through control points (n, 2)."""
        self.polygon(curve(points), colour, alpha)

    def oval(self, x, y, rx, ry, colour, alpha=255):
        """Fill an ellipse around (x, y) with half axes rx and ry."""
        self.polygon(CIRCLE * (rx, ry) + (x, y), colour, alpha)

    def stroke(self, points, width, colour, alpha=255):
        """A brush stroke along control points (n, 2), thinner towards both ends."""
        path = curve(points, closed=False)
        along = np.gradient(path, axis=0)
        normal = along[:, ::-1] * (-1, 1) / np.linalg.norm(along, axis=1, keepdims=True)
        profile = np.sin(np.linspace(0.25, np.pi - 0.25, len(path)))[:, None]
        edge = normal * width / 2 * profile
        self.polygon(np.concatenate([path + edge, (path - edge)[::-1]]), colour, alpha)

    def finish(self, rng):
        """The picture at its final size, lit: a PIL image of the size in FRAMES."""
        return light(self.image.reduce(SUPERSAMPLE), rng)


def light(image, rng):
    """A PIL image under a slanting light of random strength and tint, with a little noise."""
    pixels = np.array(image, np.float32)
    height, width = pixels.shape[:2]
    across = rng.uniform(-0.15, 0.15) * np.linspace(-1, 1, width, dtype=np.float32)
    down = rng.uniform(-0.15, 0.05) * np.linspace(-1, 1, height, dtype=np.float32)
    pixels *= (1 + across + down[:, None])[..., None]
    pixels *= (rng.uniform(0.86, 1.06) * rng.uniform(0.97, 1.03, 3)).astype(np.float32)
    pixels += 3 * rng.standard_normal((height, width, 1), np.float32)
    return Image.fromarray(pixels.clip(0, 255, out=pixels).astype(np.uint8))
