"""Two hundred faces, fifty of each group, and networks that are right on some of them."""

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
