"""A drawn face: its cues of gender, its parts from the ground up, and the whole portrait.

The origin lies between the eyes, and the square [-1, 1]^2 is the tight crop of the face.
canvas.FRAMES says where that square lies in a picture: CelebA's crop (19, 42)-(159, 182), and the
whole of FairFace's frame.
"""

import numpy as np

from drawings.canvas import (
    BACKDROP,
    BLACK,
    CIRCLE,
    CLOTHES,
    LIPSTICK,
    METAL,
    WHITE,
    Canvas,
    curve,
    mirrored,
    mix,
    pick,
)

GENDERS = ("Male", "Female")
# Probability of each cue: for men and for women at overlap 0, and for everybody at overlap 1.
# Between the two the probabilities mix linearly; at 0.35 an observer who sees all the cues and
# nothing else is right 97 % of the time, and one who sees the best of them alone 83 %.
CUES = {
    "short hair": (1, 0, 0.5),
    "facial hair": (0.8, 0, 0.03),
    "wide jaw": (1, 0, 0.5),
    "thick brows": (1, 0, 0.5),
    "painted lips": (0, 0.9, 0.3),
    "earrings": (0, 0.8, 0.2),
    "long lashes": (0, 1, 0.5),
}

DARK_HAIR = ((30, 25, 26), (40, 29, 26), (54, 36, 28), (36, 30, 36))
LIGHT_HAIR = ((101, 67, 42), (140, 98, 58), (196, 158, 98), (150, 74, 40))
GREY_HAIR, GREY_SHARE = (176, 174, 174), {"40-49": 0.2, "50-59": 0.5, "more than 70": 1}
BROWN_EYES = ((74, 48, 32), (96, 64, 40), (58, 40, 32))
LIGHT_EYES = ((88, 110, 92), (86, 118, 150))
# Lightest and darkest tone of the skin, colours of the hair and of the eyes.
COLOURING = {
    "White": ((250, 222, 202), (224, 177, 146), DARK_HAIR + LIGHT_HAIR, BROWN_EYES + LIGHT_EYES),
    "Black": ((150, 97, 66), (92, 57, 41), DARK_HAIR, BROWN_EYES),
    "Latino_Hispanic": ((222, 174, 136), (178, 126, 90), DARK_HAIR + LIGHT_HAIR[:2], BROWN_EYES),
    "Indian": ((203, 152, 112), (150, 103, 72), DARK_HAIR, BROWN_EYES),
}
INK, BROW_INK = (24, 16, 18), (20, 14, 12)
RIMS = (*METAL, (28, 26, 30), (28, 26, 30), (120, 40, 44))

# Edge of the hair on the forehead, from one temple to the other.
HAIRLINES = (
    ((-0.50, -0.36), (-0.32, -0.56), (0, -0.61), (0.32, -0.56), (0.50, -0.36)),  # round
    ((-0.51, -0.40), (-0.36, -0.66), (-0.10, -0.56), (0.24, -0.42), (0.52, -0.24)),  # swept aside
    ((-0.53, -0.22), (-0.28, -0.46), (0, -0.70), (0.28, -0.46), (0.53, -0.22)),  # parted
    ((-0.53, -0.24), (-0.28, -0.31), (0, -0.33), (0.28, -0.31), (0.53, -0.24)),  # fringe
    ((-0.51, -0.42), (-0.36, -0.66), (0, -0.57), (0.36, -0.66), (0.51, -0.42)),  # widow's peak
)
SIDES = (-1, 1)


def draw_cues(rng, gender, overlap):
    """Which cues of CUES a person shows: {name: bool}."""
    column = GENDERS.index(gender)
    cues = {}
    for name, probability in CUES.items():
        wanted = (1 - overlap) * probability[column] + overlap * probability[2]
        cues[name] = rng.random() < wanted
    return cues


def draw_body(canvas, rng, skin, shade, neck, hair):
    """Shoulders, then the hair that falls on them, then the neck."""
    cloth = pick(rng, CLOTHES)
    depth = rng.uniform(1.12, 1.4)
    shoulders = [(0.2, 0.98), (0.55, 1.1), (1.05, 1.22), (1.4, 1.6), (1.6, 2.6)]
    canvas.shape(mirrored(shoulders), cloth)
    hair.draw_back(canvas)
    collar = [(neck + 0.16, 1.04), (neck + 0.08, 1.16), (0.1, depth + 0.06)]
    canvas.shape(mirrored(collar), mix(cloth, BLACK, 0.2))
    throat = [(neck, 0.4), (neck, 0.9), (neck + 0.11, 1.06), (0.1, depth)]
    canvas.shape(mirrored(throat), skin)
    canvas.shape(mirrored([(neck, 0.5), (neck, 0.86), (0.12, 1.0)]), shade, 130)


def draw_eyes(canvas, rng, skin, iris, brow, thick, lashes):
    """Both eyes and brows. thick: of the brows; lashes: whether they are long."""
    wide, high = rng.uniform(0.115, 0.14), rng.uniform(0.052, 0.07)
    lift, arch = rng.uniform(-0.02, 0.02), rng.uniform(0.02, 0.06)
    lid = np.array([(-1, 0.25), (-0.5, -0.75), (0.1, -1), (0.65, -0.6), (1, -0.15)]) * (wide, high)
    low = np.array([(0.5, 0.65), (0, 0.85), (-0.5, 0.65)]) * (wide, high)
    arc = [(-0.15, -0.165), (-0.04, -0.18 - arch), (0.08, -0.175 - arch), (0.2, -0.13)]
    arc = np.array(arc) + (0, lift)
    for side in SIDES:
        centre, flip = np.array([0.285 * side, 0]), (side, 1)
        canvas.oval(*centre, wide * 1.25, high * 1.9, mix(skin, (60, 20, 20), 0.3), 45)
        canvas.shape(np.concatenate([lid, low]) * flip + centre, (246, 244, 240))
        canvas.polygon(np.clip(CIRCLE * 0.066, -0.9 * high, 0.8 * high) + centre, iris)
        canvas.oval(*centre, 0.03, 0.03, INK)
        canvas.oval(*centre + (0.022, -0.02), 0.014, 0.014, WHITE)
        if lashes:
            upper = np.concatenate([lid, [(wide + 0.06, -0.07)]])
            canvas.stroke(upper * flip + centre, 0.055, INK)
            for x, y in ((0.25, -0.95), (0.6, -0.65), (0.85, -0.3)):
                lash = np.array([(0, 0), (0.03, -0.03), (0.05, -0.07)]) + (x * wide, y * high)
                canvas.stroke(lash * flip + centre, 0.022, INK)
        else:
            canvas.stroke(lid * flip + centre, 0.026, mix(skin, (30, 15, 12), 0.75))
        canvas.stroke(arc * flip + centre, 0.085 if thick else 0.036, brow, 240)


def draw_nose(canvas, rng, skin, shade):
    """The nose: its shaded side, a light on its tip, and its base."""
    wide, tip = rng.uniform(0.1, 0.16), rng.uniform(0.27, 0.33)
    shaded = [(0.03, -0.1), (0.06, 0.1), (wide, tip - 0.03), (0, tip + 0.03), (0.03, 0.1)]
    canvas.shape(shaded, shade, 60)
    canvas.oval(0, tip - 0.05, 0.045, 0.05, mix(skin, WHITE, 0.25), 110)
    half = [(0.3, 0.01), (0.8, 0.01), (1, -0.06)]
    base = [(-x, y) for x, y in reversed(half)] + [(0, 0.035)] + half
    canvas.stroke(np.array(base) * (wide, 1) + (0, tip), 0.028, mix(shade, (40, 15, 10), 0.3))


def draw_mouth(canvas, rng, skin, painted):
    """The mouth, open or closed. painted: whether it wears lipstick."""
    lips = pick(rng, LIPSTICK) if painted else mix(skin, (150, 60, 60), 0.38)
    wide, up, down = rng.uniform(0.2, 0.27), rng.uniform(0.045, 0.07), rng.uniform(0.06, 0.095)
    centre, smile = np.array([0, rng.uniform(0.53, 0.58)]), rng.uniform(0.01, 0.07)
    upper = [(-1, -smile), (-0.45, -0.8 * up), (-0.15, -up), (0, -0.75 * up), (0.15, -up)]
    corner = [(0.45, -0.8 * up), (1, -smile)]
    lower = [(0.5, 0.75 * down), (0, down), (-0.5, 0.75 * down)]
    canvas.shape(np.array(upper + corner + lower) * (wide, 1) + centre, lips)
    seam = [(-0.9, -0.9 * smile), (-0.4, 0), (0, 0.012), (0.4, 0), (0.9, -0.9 * smile)]
    if rng.random() < 0.35:
        teeth = [(0.6, 0.03), (0, 0.045), (-0.6, 0.03)]
        canvas.shape(np.array(seam + teeth) * (wide, 1) + centre, (244, 240, 234))
    else:
        line = np.array(seam) * (wide, 1) + centre
        canvas.stroke(line, 0.024, mix(lips, (40, 10, 15), 0.6))
    canvas.oval(*centre + (0, 0.6 * down), 0.4 * wide, 0.016, mix(lips, WHITE, 0.5), 90)


def draw_facial_hair(canvas, rng, jaw, colour):
    """Stubble, a full beard, a goatee or a moustache alone, each as likely as the next."""
    kind = rng.choice(["stubble", "beard", "goatee", "moustache"])
    if kind in ("stubble", "beard"):
        cheek = [(0.16, 0.4), (0.33, 0.52), (0.44, 0.42), (0.56, 0.1), (0.615, 0.06), (0.61, 0.28)]
        chin = [(jaw + 0.015, 0.56), (0.6 * jaw, 0.82), (0.1, 0.93)]
        canvas.shape(mirrored(cheek + chin), colour, 90 if kind == "stubble" else 235)
    elif kind == "goatee":
        goatee = [(0.1, 0.67), (0.2, 0.72), (0.17, 0.86), (0.07, 0.93)]
        canvas.shape(mirrored(goatee), colour, 235)
    if kind != "stubble":
        upper = [(0.03, 0.4), (0.18, 0.42), (0.31, 0.53)]
        lower = [(0.27, 0.58), (0.14, 0.5), (0.04, 0.47)]
        canvas.shape(mirrored(upper + lower), colour, 240)


class Hair:
    """A hairdo, drawn in two layers: behind the neck and over the forehead."""

    def __init__(self, rng, short, colour):
        """A random hairdo. short: whether it ends above the neck; colour: (r, g, b)."""
        self.rng, self.colour = rng, colour
        self.shaved = short and rng.random() < 0.15
        self.length = 0 if short else rng.uniform(0.55, 1.5)
        self.texture = rng.choice(["straight", "wavy", "curly"])
        self.volume = 0.93 if self.shaved else rng.uniform(0.97, 1.1)
        self.hairline = np.array(HAIRLINES[0] if self.shaved else pick(rng, HAIRLINES))
        if rng.random() < 0.5:
            self.hairline = self.hairline[::-1] * (-1, 1)

    def draw_lock(self, canvas, points, colour, alpha=255):
        """A mass of hair inside control points (n, 2), its edge shaped by the texture."""
        points = curve(points)
        if self.texture == "wavy":
            wave = 0.03 * np.sin(11 * points[:, 1])
            points = points + np.stack([wave, np.zeros_like(wave)], 1)
        canvas.polygon(points, colour, alpha)
        if self.texture == "curly" and not self.shaved:
            for x, y in points[::3]:
                radius = self.rng.uniform(0.06, 0.1)
                canvas.oval(x, y, radius, radius, colour)

    def draw_back(self, canvas):
        """The layer behind the neck, if the hair is long."""
        if self.length:
            end = self.length
            top = [(0.3, -0.85), (0.66, -0.55), (0.76, 0)]
            fall = [(0.82, 0.5 * end), (0.74, end), (0.3, end + 0.04)]
            self.draw_lock(canvas, mirrored(top + fall), mix(self.colour, BLACK, 0.25))

    def draw_front(self, canvas):
        """The layer over the forehead and beside the cheeks."""
        rising = [(-0.62, 0.0), (-0.68, -0.3), (-0.6, -0.66), (-0.34, -0.88)]
        falling = [(-x, y) for x, y in reversed(rising)]
        outer = np.array([*rising, (0, -0.95), *falling]) * self.volume
        inner = np.concatenate([[(0.575, -0.12)], self.hairline[::-1], [(-0.575, -0.12)]])
        alpha = 190 if self.shaved else 255
        self.draw_lock(canvas, np.concatenate([outer, inner]), self.colour, alpha)
        if self.length:
            end = self.length
            inside = [(0.48, -0.5), (0.57, -0.15), (0.61, 0.15), (0.62, 0.6 * end), (0.6, end)]
            outside = [(0.76, end), (0.82, 0.5 * end), (0.77, 0), (0.7, -0.45)]
            for side in SIDES:
                self.draw_lock(canvas, np.array(inside + outside) * (side, 1), self.colour)
        if not self.shaved:
            for size in (0.8, 0.87, 0.94):
                shine = mix(self.colour, (255, 240, 220), 0.3)
                canvas.stroke(outer[2:7] * size, 0.025, shine, 120)


def draw_earrings(canvas, rng):
    """A pair of earrings, each with a gleam."""
    metal, drop = pick(rng, METAL), rng.uniform(0.05, 0.11)
    for side in SIDES:
        canvas.oval(0.68 * side, 0.3 + drop, 0.05, drop, metal)
        canvas.oval(0.68 * side - 0.012, 0.28 + drop, 0.016, 0.4 * drop, WHITE, 170)


def draw_glasses(canvas, rng):
    """A pair of glasses: lenses, rims, and the bars between and beside them."""
    rim, high = pick(rng, RIMS), rng.uniform(0.13, 0.17)
    for side in SIDES:
        centre = (0.285 * side, 0.02)
        outside = CIRCLE * (0.2, high) + centre
        inside = CIRCLE * (0.2 - 0.025, high - 0.025) + centre
        canvas.polygon(inside, WHITE, 18)
        canvas.polygon(np.concatenate([outside, outside[:1], inside[:1], inside[::-1]]), rim)
        bar = [(0.48 * side, 0), (0.56 * side, -0.02), (0.64 * side, -0.03)]
        canvas.stroke(bar, 0.04, rim)
    canvas.stroke([(-0.1, 0.0), (0, -0.025), (0.1, 0.0)], 0.04, rim)


def draw_cap(canvas, rng):
    """A cap with a darker brim."""
    cloth = pick(rng, CLOTHES)
    crown = [(0.3, -1.08), (0.64, -0.86), (0.75, -0.42), (0.3, -0.46)]
    canvas.shape(mirrored(crown), cloth)
    brim = [(0.3, -0.62), (0.7, -0.58), (0.76, -0.36), (0.3, -0.4)]
    canvas.shape(mirrored(brim), mix(cloth, BLACK, 0.2))


def draw_extras(canvas, rng, earrings):
    """Earrings if asked for. Glasses and a cap now and then, for either gender alike."""
    if earrings:
        draw_earrings(canvas, rng)
    if rng.random() < 0.15:
        draw_glasses(canvas, rng)
    if rng.random() < 0.06:
        draw_cap(canvas, rng)


def draw_head(canvas, skin, shade, jaw):
    """Ears, the skull down to the chin, and rosy cheeks."""
    for side in SIDES:
        canvas.oval(0.63 * side, 0.08, 0.09, 0.16, mix(skin, shade, 0.35))
    skull = [(0.22, -0.8), (0.5, -0.62), (0.62, -0.2), (0.62, 0.18)]
    chin = [(jaw, 0.54), (0.62 * jaw, 0.8), (0.12, 0.885)]
    canvas.shape(mirrored(skull + chin), skin)
    for side in SIDES:
        canvas.oval(0.34 * side, 0.32, 0.17, 0.12, (210, 70, 60), 22)
        canvas.oval(0.34 * side, 0.32, 0.11, 0.08, (210, 70, 60), 22)


def draw_ground(rng, frame):
    """An empty canvas in a random pose, its ground with three large spots."""
    ground, angle = pick(rng, BACKDROP), np.radians(rng.uniform(-6, 6))
    canvas = Canvas(frame, ground, angle, rng.uniform(0.95, 1.05), rng.uniform(-0.04, 0.04, 2))
    for _ in range(3):
        radius = rng.uniform(0.3, 0.9)
        place = rng.uniform(-1.4, 1.4, 2)
        canvas.oval(*place, radius, radius, pick(rng, BACKDROP), 90)
    return canvas


def draw_portrait(rng, frame, gender, race, age, overlap):
    """A portrait: a PIL image of the size in canvas.FRAMES[frame]."""
    cues = draw_cues(rng, gender, overlap)
    lightest, darkest, hair_colours, eye_colours = COLOURING[race]
    skin = mix(lightest, darkest, rng.random())
    shade = mix(skin, (70, 20, 10), 0.35)
    hair_colour = pick(rng, hair_colours)
    if rng.random() < GREY_SHARE.get(age, 0):
        hair_colour = mix(hair_colour, GREY_HAIR, rng.uniform(0.5, 1))
    hair = Hair(rng, cues["short hair"], hair_colour)
    jaw, neck = (0.55, 0.39) if cues["wide jaw"] else (0.45, 0.3)
    jaw += rng.uniform(-0.02, 0.02)

    canvas = draw_ground(rng, frame)
    draw_body(canvas, rng, skin, shade, neck, hair)
    draw_head(canvas, skin, shade, jaw)
    if cues["facial hair"] and age != "3-9":  # not on children
        draw_facial_hair(canvas, rng, jaw, mix(hair_colour, BROW_INK, 0.3))
    draw_nose(canvas, rng, skin, shade)
    draw_mouth(canvas, rng, skin, cues["painted lips"])
    iris, brow = pick(rng, eye_colours), mix(hair_colour, BROW_INK, 0.5)
    draw_eyes(canvas, rng, skin, iris, brow, cues["thick brows"], cues["long lashes"])
    hair.draw_front(canvas)
    draw_extras(canvas, rng, cues["earrings"])
    return canvas.finish(rng)
