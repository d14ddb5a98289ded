"""
Toy portraits: drawn faces in the folder layouts of CelebA and FairFace.

Every picture is a drawing made of smooth shapes; nobody in it exists. The drawings stand in for
the two photo sets, so that the whole experiment (train on one, audit on the other, repair) runs
without downloading them. They say nothing about real people; they only pose the same problem:

  - the label is gender, and seven visible cues (CUES) carry it, none of them with certainty;
  - no cue depends on skin tone, yet the CelebA-like set holds hardly any Black women
    (COMPOSITION), which makes dark skin a shortcut for "Male";
  - the FairFace-like set is balanced, so it shows what the shortcut costs, and to whom.

A face is drawn once, in face units: the origin lies between the eyes, y points down, and the
square [-1, 1]^2 is the tight crop of the face. FRAMES says where that square lies in a picture:
CelebA's crop (19, 42)-(159, 182), and the whole of FairFace's frame.

write_signs draws ten classes of signs instead, a folder a class, for experiments that are not about faces.
"""
import csv
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

# Width, height, x and y of the origin, pixels per face unit.
FRAMES = {"celeba": (178, 218, 89, 112, 70), "fairface": (224, 224, 112, 112, 112), "sign": (72, 72, 36, 36, 28)}
SUPERSAMPLE = 2

# Shares of (gender, race) in the CelebA-like splits.
COMPOSITION = {("Male", "White"): .330, ("Male", "Black"): .320,
               ("Female", "White"): .335, ("Female", "Black"): .015}

GENDERS = ("Male", "Female")
# Probability of each cue: for men and for women at overlap 0, and for everybody at overlap 1.
# Between the two the probabilities mix linearly; at .35 an observer who sees all the cues and
# nothing else is right 97 % of the time, and one who sees the best of them alone 83 %.
CUES = {"short hair": (1, 0, .5), "facial hair": (.8, 0, .03), "wide jaw": (1, 0, .5),
        "thick brows": (1, 0, .5), "painted lips": (0, .9, .3), "earrings": (0, .8, .2),
        "long lashes": (0, 1, .5)}

AGES = ("20-29", "30-39", "40-49", "50-59")
# Rows for the filter to drop: a race outside the four groups, or an age outside 20-59.
OTHERS = (("Latino_Hispanic", "30-39"), ("Indian", "20-29"), ("White", "more than 70"),
          ("Black", "3-9"), ("White", "3-9"), ("Black", "more than 70"))

DARK_HAIR = ((30, 25, 26), (40, 29, 26), (54, 36, 28), (36, 30, 36))
LIGHT_HAIR = ((101, 67, 42), (140, 98, 58), (196, 158, 98), (150, 74, 40))
GREY_HAIR, GREY_SHARE = (176, 174, 174), {"40-49": .2, "50-59": .5, "more than 70": 1}
BROWN_EYES = ((74, 48, 32), (96, 64, 40), (58, 40, 32))
LIGHT_EYES = ((88, 110, 92), (86, 118, 150))
# Lightest and darkest tone of the skin, colours of the hair and of the eyes.
COLOURING = {
    "White": ((250, 222, 202), (224, 177, 146), DARK_HAIR + LIGHT_HAIR, BROWN_EYES + LIGHT_EYES),
    "Black": ((150, 97, 66), (92, 57, 41), DARK_HAIR, BROWN_EYES),
    "Latino_Hispanic": ((222, 174, 136), (178, 126, 90), DARK_HAIR + LIGHT_HAIR[:2], BROWN_EYES),
    "Indian": ((203, 152, 112), (150, 103, 72), DARK_HAIR, BROWN_EYES),
}
LIPSTICK = ((190, 34, 54), (206, 62, 92), (160, 30, 70), (214, 84, 84))
CLOTHES = ((58, 84, 124), (150, 62, 66), (74, 110, 90), (228, 224, 214), (60, 60, 68),
           (196, 152, 82), (120, 92, 140), (92, 140, 160), (214, 142, 132))
BACKDROP = ((196, 212, 222), (222, 212, 196), (204, 218, 200), (216, 204, 218), (168, 182, 196),
            (190, 176, 164), (150, 170, 160), (228, 226, 222), (122, 134, 150))
METAL = ((226, 190, 92), (220, 224, 230))
RIMS = METAL + ((28, 26, 30), (28, 26, 30), (120, 40, 44))

# Edge of the hair on the forehead, from one temple to the other.
HAIRLINES = (
    ((-.50, -.36), (-.32, -.56), (0, -.61), (.32, -.56), (.50, -.36)),       # round
    ((-.51, -.40), (-.36, -.66), (-.10, -.56), (.24, -.42), (.52, -.24)),    # swept aside
    ((-.53, -.22), (-.28, -.46), (0, -.70), (.28, -.46), (.53, -.22)),       # parted
    ((-.53, -.24), (-.28, -.31), (0, -.33), (.28, -.31), (.53, -.24)),       # fringe
    ((-.51, -.42), (-.36, -.66), (0, -.57), (.36, -.66), (.51, -.42)),       # widow's peak
)

# Catmull-Rom spline: the weights (6 steps, 4 control points) of the segment between points 1 and 2.
SPLINE = (np.linspace(0, 1, 6, endpoint=False)[:, None] ** np.arange(4)
          @ [[0, 1, 0, 0], [-.5, 0, .5, 0], [1, -2.5, 2, -.5], [-.5, 1.5, -1.5, .5]])
CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 24, endpoint=False)) for f in (np.cos, np.sin)], 1)


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


def mix(a, b, share):
    """The colour `share` of the way from a to b."""
    return tuple(int(p + (q - p) * share) for p, q in zip(a, b))


class Canvas:
    """A picture under way; its methods take face units, colours (r, g, b) and alpha 0-255."""

    def __init__(self, frame, colour, angle, scale, shift):
        width, height, x, y, unit = (SUPERSAMPLE * side for side in FRAMES[frame])
        self.image = Image.new("RGB", (width, height), colour)
        self.pen = ImageDraw.Draw(self.image, "RGBA")  # RGBA ink on an RGB picture blends
        cos, sin = np.cos(angle), np.sin(angle)
        self.turn = unit * scale * np.array([[cos, sin], [-sin, cos]])
        self.origin = np.array([x, y]) + unit * shift

    def polygon(self, points, colour, alpha=255):
        self.pen.polygon((points @ self.turn + self.origin).ravel().tolist(), (*colour, alpha))

    def shape(self, points, colour, alpha=255):
        self.polygon(curve(points), colour, alpha)

    def oval(self, x, y, rx, ry, colour, alpha=255):
        self.polygon(CIRCLE * (rx, ry) + (x, y), colour, alpha)

    def stroke(self, points, width, colour, alpha=255):
        """A brush stroke along control points (n, 2), thinner towards both ends."""
        path = curve(points, closed=False)
        along = np.gradient(path, axis=0)
        normal = along[:, ::-1] * (-1, 1) / np.linalg.norm(along, axis=1, keepdims=True)
        profile = np.sin(np.linspace(.25, np.pi - .25, len(path)))[:, None]
        edge = normal * width / 2 * profile
        self.polygon(np.concatenate([path + edge, (path - edge)[::-1]]), colour, alpha)


def pick(rng, options):
    """One of a sequence; rng.choice would turn its tuples into arrays."""
    return options[rng.integers(len(options))]


def draw_cues(rng, gender, overlap):
    """Which cues of CUES a person shows: {name: bool}."""
    column = GENDERS.index(gender)
    return {name: rng.random() < (1 - overlap) * p[column] + overlap * p[2]
            for name, p in CUES.items()}


def draw_body(canvas, rng, skin, shade, neck, hair):
    """Shoulders, then the hair that falls on them, then the neck."""
    cloth = pick(rng, CLOTHES)
    depth = rng.uniform(1.12, 1.4)
    canvas.shape(mirrored([(.2, .98), (.55, 1.1), (1.05, 1.22), (1.4, 1.6), (1.6, 2.6)]), cloth)
    hair.back(canvas)
    canvas.shape(mirrored([(neck + .16, 1.04), (neck + .08, 1.16), (.1, depth + .06)]),
                 mix(cloth, (0, 0, 0), .2))
    canvas.shape(mirrored([(neck, .4), (neck, .9), (neck + .11, 1.06), (.1, depth)]), skin)
    canvas.shape(mirrored([(neck, .5), (neck, .86), (.12, 1.0)]), shade, 130)


def draw_eyes(canvas, rng, skin, iris, brow, thick, lashes):
    wide, high = rng.uniform(.115, .14), rng.uniform(.052, .07)
    lift, arch = rng.uniform(-.02, .02), rng.uniform(.02, .06)
    lid = np.array([(-1, .25), (-.5, -.75), (.1, -1), (.65, -.6), (1, -.15)]) * (wide, high)
    low = np.array([(.5, .65), (0, .85), (-.5, .65)]) * (wide, high)
    arc = np.array([(-.15, -.165), (-.04, -.18 - arch), (.08, -.175 - arch), (.2, -.13)]) + (0, lift)
    black = (24, 16, 18)
    for side in (-1, 1):
        at, flip = np.array([.285 * side, 0]), (side, 1)
        canvas.oval(*at, wide * 1.25, high * 1.9, mix(skin, (60, 20, 20), .3), 45)
        canvas.shape(np.concatenate([lid, low]) * flip + at, (246, 244, 240))
        canvas.polygon(np.clip(CIRCLE * .066, -.9 * high, .8 * high) + at, iris)
        canvas.oval(*at, .03, .03, black)
        canvas.oval(*at + (.022, -.02), .014, .014, (255, 255, 255))
        if lashes:
            canvas.stroke(np.concatenate([lid, [(wide + .06, -.07)]]) * flip + at, .055, black)
            for x, y in ((.25, -.95), (.6, -.65), (.85, -.3)):
                lash = np.array([(0, 0), (.03, -.03), (.05, -.07)]) + (x * wide, y * high)
                canvas.stroke(lash * flip + at, .022, black)
        else:
            canvas.stroke(lid * flip + at, .026, mix(skin, (30, 15, 12), .75))
        canvas.stroke(arc * flip + at, .085 if thick else .036, brow, 240)


def draw_nose(canvas, rng, skin, shade):
    wide, tip = rng.uniform(.1, .16), rng.uniform(.27, .33)
    canvas.shape([(.03, -.1), (.06, .1), (wide, tip - .03), (0, tip + .03), (.03, .1)], shade, 60)
    canvas.oval(0, tip - .05, .045, .05, mix(skin, (255, 255, 255), .25), 110)
    base = [(-1, -.06), (-.8, .01), (-.3, .01), (0, .035), (.3, .01), (.8, .01), (1, -.06)]
    canvas.stroke(np.array(base) * (wide, 1) + (0, tip), .028, mix(shade, (40, 15, 10), .3))


def draw_mouth(canvas, rng, skin, painted):
    lips = pick(rng, LIPSTICK) if painted else mix(skin, (150, 60, 60), .38)
    wide, up, down = rng.uniform(.2, .27), rng.uniform(.045, .07), rng.uniform(.06, .095)
    at, smile = np.array([0, rng.uniform(.53, .58)]), rng.uniform(.01, .07)
    outline = [(-1, -smile), (-.45, -.8 * up), (-.15, -up), (0, -.75 * up), (.15, -up),
               (.45, -.8 * up), (1, -smile), (.5, .75 * down), (0, down), (-.5, .75 * down)]
    canvas.shape(np.array(outline) * (wide, 1) + at, lips)
    seam = [(-.9, -.9 * smile), (-.4, 0), (0, .012), (.4, 0), (.9, -.9 * smile)]
    if rng.random() < .35:
        teeth = [(.6, .03), (0, .045), (-.6, .03)]
        canvas.shape(np.array(seam + teeth) * (wide, 1) + at, (244, 240, 234))
    else:
        canvas.stroke(np.array(seam) * (wide, 1) + at, .024, mix(lips, (40, 10, 15), .6))
    canvas.oval(*at + (0, .6 * down), .4 * wide, .016, mix(lips, (255, 255, 255), .5), 90)


def draw_facial_hair(canvas, rng, jaw, colour):
    """Stubble, a full beard, a goatee or a moustache alone, alike often."""
    kind = rng.choice(["stubble", "beard", "goatee", "moustache"])
    if kind in ("stubble", "beard"):
        alpha = 90 if kind == "stubble" else 235
        canvas.shape(mirrored([(.16, .4), (.33, .52), (.44, .42), (.56, .1), (.615, .06), (.61, .28),
                               (jaw + .015, .56), (.6 * jaw, .82), (.1, .93)]), colour, alpha)
    elif kind == "goatee":
        canvas.shape(mirrored([(.1, .67), (.2, .72), (.17, .86), (.07, .93)]), colour, 235)
    if kind != "stubble":
        canvas.shape(mirrored([(.03, .4), (.18, .42), (.31, .53), (.27, .58), (.14, .5), (.04, .47)]),
                     colour, 240)


class Hair:
    """A hairdo, drawn in two layers: behind the neck and over the forehead."""

    def __init__(self, rng, short, colour):
        self.rng, self.colour = rng, colour
        self.shaved = short and rng.random() < .15
        self.length = 0 if short else rng.uniform(.55, 1.5)
        self.texture = rng.choice(["straight", "wavy", "curly"])
        self.volume = .93 if self.shaved else rng.uniform(.97, 1.1)
        self.hairline = np.array(HAIRLINES[0] if self.shaved else pick(rng, HAIRLINES))
        if rng.random() < .5:
            self.hairline = self.hairline[::-1] * (-1, 1)

    def lock(self, canvas, points, colour, alpha=255):
        """A mass of hair inside control points (n, 2), its edge shaped by the texture."""
        points = curve(points)
        if self.texture == "wavy":
            points = points + np.stack([.03 * np.sin(11 * points[:, 1]), 0 * points[:, 1]], 1)
        canvas.polygon(points, colour, alpha)
        if self.texture == "curly" and not self.shaved:
            for x, y in points[::3]:
                radius = self.rng.uniform(.06, .1)
                canvas.oval(x, y, radius, radius, colour)

    def back(self, canvas):
        if self.length:
            end = self.length
            self.lock(canvas, mirrored([(.3, -.85), (.66, -.55), (.76, 0), (.82, .5 * end), (.74, end),
                                        (.3, end + .04)]), mix(self.colour, (0, 0, 0), .25))

    def front(self, canvas):
        outer = np.array([(-.62, .0), (-.68, -.3), (-.6, -.66), (-.34, -.88), (0, -.95),
                          (.34, -.88), (.6, -.66), (.68, -.3), (.62, .0)]) * self.volume
        inner = np.concatenate([[(.575, -.12)], self.hairline[::-1], [(-.575, -.12)]])
        self.lock(canvas, np.concatenate([outer, inner]), self.colour, 190 if self.shaved else 255)
        if self.length:
            end = self.length
            fall = np.array([(.48, -.5), (.57, -.15), (.61, .15), (.62, .6 * end), (.6, end),
                             (.76, end), (.82, .5 * end), (.77, 0), (.7, -.45)])
            for side in (-1, 1):
                self.lock(canvas, fall * (side, 1), self.colour)
        if not self.shaved:
            for size in (.8, .87, .94):
                canvas.stroke(outer[2:7] * size, .025, mix(self.colour, (255, 240, 220), .3), 120)


def draw_extras(canvas, rng, earrings):
    """Earrings if asked for; glasses and a cap now and then, for either gender alike."""
    if earrings:
        metal, drop = pick(rng, METAL), rng.uniform(.05, .11)
        for side in (-1, 1):
            canvas.oval(.68 * side, .3 + drop, .05, drop, metal)
            canvas.oval(.68 * side - .012, .28 + drop, .016, .4 * drop, (255, 255, 255), 170)
    if rng.random() < .15:
        rim, high = pick(rng, RIMS), rng.uniform(.13, .17)
        for side in (-1, 1):
            outside, inside = (CIRCLE * (.2 - d, high - d) + (.285 * side, .02) for d in (0, .025))
            canvas.polygon(inside, (255, 255, 255), 18)
            canvas.polygon(np.concatenate([outside, outside[:1], inside[:1], inside[::-1]]), rim)
            canvas.stroke([(.48 * side, 0), (.56 * side, -.02), (.64 * side, -.03)], .04, rim)
        canvas.stroke([(-.1, .0), (0, -.025), (.1, .0)], .04, rim)
    if rng.random() < .06:
        cloth = pick(rng, CLOTHES)
        canvas.shape(mirrored([(.3, -1.08), (.64, -.86), (.75, -.42), (.3, -.46)]), cloth)
        canvas.shape(mirrored([(.3, -.62), (.7, -.58), (.76, -.36), (.3, -.4)]),
                     mix(cloth, (0, 0, 0), .2))


def draw(rng, frame, gender, race, age, overlap):
    """A portrait: PIL picture of the size in FRAMES[frame]."""
    cues = draw_cues(rng, gender, overlap)
    lightest, darkest, hair_colours, eye_colours = COLOURING[race]
    skin = mix(lightest, darkest, rng.random())
    shade = mix(skin, (70, 20, 10), .35)
    hair_colour = pick(rng, hair_colours)
    if rng.random() < GREY_SHARE.get(age, 0):
        hair_colour = mix(hair_colour, GREY_HAIR, rng.uniform(.5, 1))
    hair = Hair(rng, cues["short hair"], hair_colour)
    jaw, neck = (.55, .39) if cues["wide jaw"] else (.45, .3)
    jaw += rng.uniform(-.02, .02)

    canvas = Canvas(frame, pick(rng, BACKDROP), np.radians(rng.uniform(-6, 6)),
                    rng.uniform(.95, 1.05), rng.uniform(-.04, .04, 2))
    for _ in range(3):
        radius = rng.uniform(.3, .9)
        canvas.oval(*rng.uniform(-1.4, 1.4, 2), radius, radius, pick(rng, BACKDROP), 90)
    draw_body(canvas, rng, skin, shade, neck, hair)
    for side in (-1, 1):
        canvas.oval(.63 * side, .08, .09, .16, mix(skin, shade, .35))
    canvas.shape(mirrored([(.22, -.8), (.5, -.62), (.62, -.2), (.62, .18), (jaw, .54),
                           (.62 * jaw, .8), (.12, .885)]), skin)
    for side in (-1, 1):
        canvas.oval(.34 * side, .32, .17, .12, (210, 70, 60), 22)
        canvas.oval(.34 * side, .32, .11, .08, (210, 70, 60), 22)
    if cues["facial hair"] and age != "3-9":  # not on children
        draw_facial_hair(canvas, rng, jaw, mix(hair_colour, (20, 14, 12), .3))
    draw_nose(canvas, rng, skin, shade)
    draw_mouth(canvas, rng, skin, cues["painted lips"])
    draw_eyes(canvas, rng, skin, pick(rng, eye_colours), mix(hair_colour, (20, 14, 12), .5),
              cues["thick brows"], cues["long lashes"])
    hair.front(canvas)
    draw_extras(canvas, rng, cues["earrings"])
    return light(canvas.image.reduce(SUPERSAMPLE), rng)


def light(image, rng):
    """The picture under a slanting light of random strength and tint, with a little noise."""
    pixels = np.array(image, np.float32)
    height, width = pixels.shape[:2]
    across = rng.uniform(-.15, .15) * np.linspace(-1, 1, width, dtype=np.float32)
    down = rng.uniform(-.15, .05) * np.linspace(-1, 1, height, dtype=np.float32)
    pixels *= (1 + across + down[:, None])[..., None]
    pixels *= (rng.uniform(.86, 1.06) * rng.uniform(.97, 1.03, 3)).astype(np.float32)
    pixels += 3 * rng.standard_normal((height, width, 1), np.float32)
    return Image.fromarray(pixels.clip(0, 255, out=pixels).astype(np.uint8))


def save(path, seed, frame, *person):
    """Draw one portrait from its own seed and save it."""
    draw(np.random.default_rng(seed), frame, *person).save(path, quality=90)


def celeba_people(rng, count, composition):
    """`count` tuples (gender, race, age), in the proportions of composition, shuffled."""
    edges = np.round(count * np.cumsum(list(composition.values()))).astype(int)
    groups = np.repeat(np.arange(len(edges)), np.diff(edges, prepend=0))
    pairs = list(composition)
    return [(*pairs[g], str(rng.choice(AGES))) for g in rng.permutation(groups)]


def fairface_people(rng, per_group):
    """per_group of each of the four groups, and about 5 % of others, shuffled."""
    people = [(gender, race, AGES[i % len(AGES)]) for gender in GENDERS for race in ("White", "Black")
              for i in range(per_group)]
    people += [(GENDERS[i // len(OTHERS) % 2], *OTHERS[i % len(OTHERS)]) for i in range(per_group // 5)]
    return [people[i] for i in rng.permutation(len(people))]


def write_table(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def write(folder, seed=0, train=4000, val=600, test=600, fairface_train=600, fairface_val=225,
          composition=COMPOSITION, overlap=.35, workers=2):
    """
    Write both sets under `folder`: celeba/ with train, val and test portraits, and fairface/ with
    fairface_train and fairface_val portraits of each group. `overlap` sets how hard the task is
    (0: the cues separate the genders perfectly; 1: they carry nothing). Every portrait has a seed
    of its own, [seed, split, index], so the pictures do not depend on the number of workers.
    """
    folder, jobs, attributes = Path(folder), [], []
    for split, (name, count) in enumerate({"train": train, "val": val, "test": test}.items()):
        (folder / "celeba" / name).mkdir(parents=True, exist_ok=True)
        people = celeba_people(np.random.default_rng([seed, split]), count, composition)
        for index, person in enumerate(people):
            file = f"{len(jobs) + 1:06d}.jpg"  # unique over the splits, as in CelebA
            jobs.append((folder / "celeba" / name / file, [seed, split, index], "celeba",
                         *person, overlap))
            attributes.append((file, 1 if person[0] == "Male" else -1))
    write_table(folder / "celeba" / "list_attr_celeba.csv", ("image_id", "Male"), attributes)

    for split, (name, count) in enumerate({"train": fairface_train, "val": fairface_val}.items(), 3):
        (folder / "fairface" / name).mkdir(parents=True, exist_ok=True)
        rng, labels = np.random.default_rng([seed, split]), []
        for index, (gender, race, age) in enumerate(fairface_people(rng, count)):
            file = f"{name}/{index + 1}.jpg"
            jobs.append((folder / "fairface" / file, [seed, split, index], "fairface",
                         gender, race, age, overlap))
            labels.append((file, age, gender, race, bool(rng.random() < .5)))
        write_table(folder / "fairface" / f"fairface_label_{name}.csv",
                    ("file", "age", "gender", "race", "service_test"), labels)

    with ProcessPoolExecutor(workers) as pool:
        list(tqdm(pool.map(save, *zip(*jobs), chunksize=32), "drawing portraits", len(jobs)))


# ----------------------------------------------------------------------------- signs


def star(points, inner):
    """Corners (2 points, 2) of a star whose inner corners lie at radius `inner`; at cos(pi / points) it is a polygon."""
    angle = np.arange(2 * points) * np.pi / points - np.pi / 2
    radius = np.where(np.arange(2 * points) % 2, inner, 1)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def ring(outline, inner):
    """A closed outline (n, 2) with a hole of its own shape."""
    closed = np.concatenate([outline, outline[:1]])
    return np.concatenate([closed, inner * closed[::-1]])


SIGNS = {  # (n, 2) each, inside [-1, 1]^2
    "arrow": np.array([(0, -1), (.8, -.1), (.3, -.1), (.3, 1), (-.3, 1), (-.3, -.1), (-.8, -.1)]),
    "circle": CIRCLE, "ring": ring(CIRCLE, .6),
    "triangle": star(3, .5), "square": star(4, 2 ** -.5), "frame": ring(star(4, 2 ** -.5), .6), "hexagon": star(6, .75 ** .5),
    "star": star(5, .42), "flash": np.array([(.25, -1), (-.6, .15), (-.05, .15), (-.3, 1), (.6, -.25), (.1, -.25)]),
    "moon": np.concatenate([CIRCLE[5:20], ((CIRCLE * .75) + (.45, 0))[5:20][::-1]]),
}


def draw_sign(rng, name):
    """A sign of any colour, size, turn and place, on a littered ground."""
    canvas = Canvas("sign", pick(rng, BACKDROP), np.radians(rng.uniform(-40, 40)), rng.uniform(.4, .95), rng.uniform(-.3, .3, 2))
    for _ in range(6):
        canvas.oval(*rng.uniform(-2, 2, 2), *rng.uniform(.1, .7, 2), pick(rng, BACKDROP + CLOTHES), 110)
    canvas.polygon(SIGNS[name] * rng.uniform(.8, 1.2, 2), pick(rng, CLOTHES + LIPSTICK + METAL))
    for _ in range(3):
        canvas.oval(*rng.uniform(-1.2, 1.2, 2), *rng.uniform(.05, .3, 2), pick(rng, BACKDROP + CLOTHES), 230)
    return light(canvas.image.reduce(SUPERSAMPLE), rng)


def write_signs(folder, seed=0, train=400, val=200, test=200):
    """Write under `folder` train/, val/ and test/, each with a folder a class of SIGNS, of so many signs."""
    for split, (part, count) in enumerate({"train": train, "val": val, "test": test}.items()):
        for index, name in enumerate(tqdm(SIGNS, f"drawing {part}")):
            (Path(folder) / part / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                sign = draw_sign(np.random.default_rng([seed, split, index, number]), name)
                sign.save(Path(folder) / part / name / f"{number:04d}.jpg", quality=90)
