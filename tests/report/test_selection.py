"""The selection rule, against all thresholds that there are, and against its definition."""

import numpy as np
import pytest
import torch

from datasets import Images
from report import selection
from tests.report.toy_faces import FACES, MALE, SIGN, right_in_each


def balanced(margins, shift, faces=FACES):
    """Balanced accuracy of shifted margins, face by face."""
    right = {}
    for margin, male, group in zip(margins, faces.label.tolist(), faces.group.tolist()):
        right.setdefault(group, []).append((margin + shift > 0) == (male == 1))
    return sum(sum(faces) / len(faces) for faces in right.values()) / len(right)


def all_shifts(margins):
    """A shift for every way to cut the margins in two: midway between neighbours, and beyond."""
    levels = np.unique(margins.astype(float))
    cuts = [levels[0] - 1, *(levels[1:] + levels[:-1]) / 2, levels[-1] + 1]
    return [-cut for cut in cuts]


@pytest.mark.parametrize("seed", range(5))
def test_best_shift_is_the_best_there_is(seed):
    """Of all cuts, the best; of several that are as good, the nearest to 0. Half have ties."""
    rng = np.random.default_rng(seed)
    margins = (rng.normal(0, 1, 200) + MALE - 2).astype(np.float32)
    if seed % 2:
        margins = margins.round(1)
    accuracy = {shift: balanced(margins, shift) for shift in all_shifts(margins)}
    highest = max(accuracy.values())
    best = [shift for shift, value in accuracy.items() if value > highest - 1e-9]
    shift = selection.best_shift(margins, FACES)
    assert shift == min(best, key=abs)
    assert highest > balanced(margins, 0)


def few_faces(male, group):
    n = len(male)
    return Images(torch.zeros(n, 3, 1, 1), torch.tensor(male), torch.tensor(group))


@pytest.mark.parametrize(
    "margins, male, shift",
    [
        ([-3, -1, 2, 4], [0, 0, 1, 1], -0.5),  # all are right from -2 to 1: the middle of the gap
        ([-3, -1, 2, 4], [0, 1, 1, 1], 2.0),
        ([1, 2, 3, 4], [0, 0, 0, 0], -5.0),  # nobody is called male: one beyond the highest
        ([-4, -3, -2, -1], [1, 1, 1, 1], 5.0),  # everybody: one beyond the lowest
        ([4, 2, -1, -3], [1, 1, 0, 0], -0.5),  # in any order
        ([-2, 0, 0, 2], [0, 0, 1, 1], 1.0),  # no cut between equals; -1 is as good
    ],
)
def test_best_shift_by_hand(margins, male, shift):
    margins = np.array(margins, dtype=np.float32)
    assert selection.best_shift(margins, few_faces(male, [0] * 4)) == shift


def test_best_shift_weighs_groups_alike():
    """One face of a group of 1 outweighs two of a group of 4."""
    margins = np.array([-1.0, 1.0, 2.0, 3.0, 4.0], dtype=np.float32)
    faces = few_faces([1, 0, 0, 1, 1], [1, 0, 0, 0, 0])
    assert selection.best_shift(margins, faces) == 2  # the man at -1 is right, both women wrong
    alike = few_faces([1, 0, 0, 1, 1], [0] * 5)
    assert selection.best_shift(margins, alike) == -2.5  # one man wrong, both women right


def test_choose_step_takes_the_fewest_within_one_standard_error():
    correct = np.stack([right_in_each(*[number] * 4) for number in (20, 29, 30, 30)])
    margins = np.where(correct, SIGN, -SIGN).astype(np.float32)
    assert selection.choose_step(margins, FACES) == 2
    margins[0] = np.where(np.roll(right_in_each(30, 30, 30, 30), 5), SIGN, -SIGN)
    assert selection.choose_step(margins, FACES) == 0
    margins[0] = MALE  # a margin of 0 is female: all are right
    assert selection.choose_step(margins, FACES) == 0
    margins[0] = MALE - 1  # all are called female
    assert selection.choose_step(margins, FACES) == 2


def test_choose_steps():
    """Two paths a repair: with margins as they are, and shifted at each step anew."""
    rng = np.random.default_rng(0)
    margins = {}
    for name in ("shapley", "random 0"):
        steps = (rng.normal(0, 1, (3, 200)) + SIGN * [[1], [2], [3]] - 1).astype(np.float32)
        steps[2] = SIGN  # the best shift is 0
        margins[name] = {"choose": steps, "celeba": steps[:, :7] + 5}
    paths = selection.choose_steps(margins, {"choose": FACES})
    assert [(path.name, path.threshold) for path in paths] == [
        ("shapley", False), ("shapley", True), ("random 0", False), ("random 0", True)
    ]  # fmt: skip
    for path in paths:
        steps = margins[path.name]
        shifts = np.zeros(3)
        if path.threshold:
            shifts = np.array([selection.best_shift(step, FACES) for step in steps["choose"]])
        assert list(path.margins) == ["choose", "celeba"]
        for split in steps:
            assert path.margins[split].dtype == np.float64
            np.testing.assert_array_equal(path.margins[split], steps[split] + shifts[:, None])
        assert path.chosen_step == selection.choose_step(path.margins["choose"], FACES)
    assert any((path.margins["choose"] != margins[path.name]["choose"]).any() for path in paths)


@pytest.mark.parametrize(
    "name, threshold, method, row",
    [
        ("shapley", False, "shapley", "shapley"),
        ("shapley", True, "shapley+threshold", "shapley+threshold"),
        ("random 3", False, "random 3", "random"),
        ("random 3", True, "random 3+threshold", "random+threshold"),
        ("randomised", False, "randomised", "randomised"),
    ],
)
def test_names_of_paths(name, threshold, method, row):
    path = selection.RepairPath(name, threshold, {}, 0)
    assert (path.method, path.row) == (method, row)
