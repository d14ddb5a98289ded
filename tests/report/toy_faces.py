"""Two hundred faces, fifty of each group, and networks of which every margin is known."""

import numpy as np
import torch

from datasets import GROUPS, Images

GROUP = np.repeat(np.arange(4), 50)
MALE = np.array([int(GROUPS[index][1] == "Male") for index in GROUP])
SIGN = 2 * MALE - 1  # margins of a network that is always right
NO_GROUP = np.full(200, -1)
FLAT = np.full((1, 200), 1 / 50)  # equal weights, adding up to 1 in each group
FACES = Images(torch.zeros(200, 3, 1, 1), torch.from_numpy(MALE), torch.from_numpy(GROUP))


def right_in_each(*numbers):
    """(200,) bool: the first so many of each group are right."""
    return np.arange(200) % 50 < np.repeat(numbers, 50)


def margins_right_in_each(*numbers):
    """(200,) float: margins of a network that is right on those."""
    return np.where(right_in_each(*numbers), SIGN, -SIGN).astype(float)


CELEBA = Images(torch.zeros(200, 3, 1, 1), torch.from_numpy(MALE), torch.from_numpy(NO_GROUP))
SETS = {"choose": FACES, "report": FACES, "celeba": CELEBA}
EFFECTS = np.random.default_rng(1).normal(0, 0.5, (5, 200)).astype(np.float32)  # of each filter


class KnownEvaluator:
    """Margins are those of an almost right network, and what the working filters add.

    Image i of a set has i as its pixels. A male margin is the second logit less the first.
    """

    device = torch.device("cpu")

    def see(self, images, fills):
        # undoes datasets.normalise for the first channel
        self.numbers = (images[:, 0, 0, 0] * 0.229 + 0.485).mul(255).round().long()
        self.fills = fills

    def logits(self, keep):
        margins = torch.from_numpy((0.4 * SIGN + keep @ EFFECTS).astype(np.float32))
        margins = margins[:, self.numbers]
        return torch.stack([torch.zeros_like(margins), margins], -1)


def numbered(faces):
    images = torch.arange(200, dtype=torch.uint8)[:, None, None, None].expand(200, 3, 1, 1)
    return faces._replace(images=images)


NUMBERED = {split: numbered(faces) for split, faces in SETS.items()}


def known_margins(order):
    """Margins as filters go, (len(order) + 1, 200)."""
    keep = np.ones((len(order) + 1, 5))
    for step, gone in enumerate(order):
        keep[step + 1 :, gone] = 0
    return (0.4 * SIGN + keep @ EFFECTS).astype(np.float32)
