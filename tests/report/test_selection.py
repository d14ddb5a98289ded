"""The selection rule, against all thresholds that there are, and against its definition."""

import numpy as np
import pytest
import torch
from fairlearn.postprocessing import ThresholdOptimizer
from sklearn.base import BaseEstimator

from datasets import GROUPS, Images
from report import selection
from tests.report.toy_faces import FACES, GROUP, MALE, SIGN, right_in_each


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


def worst(margins, shift, faces=FACES):
    """Accuracy of the worst group of shifted margins."""
    right = (margins + shift > 0) == (faces.label.numpy() == 1)
    return min(right[faces.group.numpy() == index].mean() for index in range(4))


@pytest.mark.parametrize("seed", range(5))
def test_best_shift_for_the_worst_group(seed):
    rng = np.random.default_rng(seed)
    margins = (rng.normal(0, 1, 200) + SIGN + 0.8 * (FACES.group.numpy() > 1)).astype(np.float32)
    if seed % 2:
        margins = margins.round(1)
    accuracy = {shift: worst(margins, shift) for shift in all_shifts(margins)}
    highest = max(accuracy.values())
    best = [shift for shift, value in accuracy.items() if value > highest - 1e-9]
    assert selection.best_shift(margins, FACES, np.min) == min(best, key=abs)
    assert selection.best_shift(margins, FACES) != min(best, key=abs)


def test_best_shift_without_groups():
    """All faces count alike, whatever is known of them."""
    margins = np.array([-1.0, 1.0, 2.0, 3.0, 4.0], dtype=np.float32)
    assert selection.best_shift(margins, few_faces([1, 0, 0, 1, 1], [-1] * 5)) == -2.5


def test_the_worst_group_decides():
    """Steps of equal balanced accuracy, by their worst groups; losses within chance are none."""
    margins = []
    for numbers in ((50, 50, 50, 20), (48, 48, 48, 26), (42, 43, 42, 43), (43, 42, 42, 43)):
        margins.append(np.where(right_in_each(*numbers), SIGN, -SIGN).astype(np.float32))
    rule = selection.RULES["worst"]
    assert selection.choose_step(np.stack(margins), FACES, rule) == 2
    assert selection.choose_step(np.stack(margins), FACES) == 0
    assert selection.choose_step(np.stack(margins[1::-1]), FACES, rule) == 0


def test_standard_errors_of_worst_groups():
    """Paired in the same group: 20 against 23 of 50, and never a loss but these 3, is more than
    chance; of two groups, independent, 20 against 23 is not.
    """
    group = FACES.group.numpy()
    same = np.stack([right_in_each(*numbers) for numbers in ((20, 50, 50, 50), (23, 50, 50, 50))])
    assert selection.fewest_of_worst_group(same, group) == 1
    other = np.stack([right_in_each(*numbers) for numbers in ((20, 50, 50, 50), (50, 23, 50, 50))])
    assert selection.fewest_of_worst_group(other, group) == 0


CELEBA = FACES._replace(group=torch.full((200,), -1))


@pytest.mark.parametrize("name", selection.RULES)
def test_every_rule_conforms(name):
    """It takes the first of equal steps, and the step that is right everywhere."""
    rule, faces = selection.RULES[name], {"choose": FACES, "celeba val": CELEBA}
    wrong, right = -SIGN.astype(np.float32), SIGN.astype(np.float32)
    for margins, step in (([wrong, right, right], 1), ([wrong] * 3, 0)):
        assert selection.choose_step(np.stack(margins), rule.faces_of(faces), rule) == step
    assert rule.faces_of({"choose": 1, "celeba": 2}) == (2 if name == "celeba" else 1)


def test_choose_steps():
    """Two paths a rule and repair: with margins as they are, and shifted at each step anew."""
    rng = np.random.default_rng(0)
    margins = {}
    for name in ("shapley", "random 0"):
        steps = (rng.normal(0, 1, (3, 200)) + SIGN * [[1], [2], [3]] - 1).astype(np.float32)
        steps[2] = SIGN  # the best shift is 0
        celeba = (rng.normal(0, 1, (3, 200)) + SIGN + 0.5).astype(np.float32)
        margins[name] = {"choose": steps, "celeba": steps[:, :7] + 5, "celeba val": celeba}
    faces = {"choose": FACES, "celeba val": CELEBA}
    paths = selection.choose_steps(margins, faces)
    expected = [(rule, name, shifted) for rule in ("balanced", "worst", "celeba")
                for name in ("shapley", "random 0") for shifted in (False, True)]  # fmt: skip
    assert [(path.rule, path.name, path.threshold) for path in paths] == expected
    for path in paths:
        rule, by_split = selection.RULES[path.rule], margins[path.name]
        split = "celeba val" if path.rule == "celeba" else "choose"
        shifts = np.zeros(3)
        if path.threshold:
            combine = np.min if path.rule == "worst" else np.mean
            shifts = [selection.best_shift(step, faces[split], combine) for step in by_split[split]]
        for step in range(3):
            for name in by_split:
                shifted = path.margins_after(step, name)
                assert shifted.dtype == np.float64
                np.testing.assert_array_equal(shifted, by_split[name][step] + shifts[step])
        chosen = by_split[split] + np.array(shifts)[:, None]
        assert path.chosen_step == selection.choose_step(chosen, faces[split], rule)
    assert {path.rule: path.chosen_step for path in paths if path.threshold}["celeba"] != 2
    assert paths[0].chosen_step == 2


# ----------------------------------------------------------------------------- thresholds by race


def test_thresholds_by_race_are_fairlearns():
    """Equal odds on the choosing set; of a split without groups there is nothing."""
    rng = np.random.default_rng(0)
    shift = np.where(FACES.group.numpy() > 1, 1.5, -0.5)
    margins = (rng.normal(0, 1, 200) + SIGN + shift).astype(np.float32)
    faces = {"choose": FACES, "report": FACES, "celeba": CELEBA}
    by_split = dict.fromkeys(faces, margins)
    decisions = selection.race_thresholds(by_split, faces, seed=0)
    assert list(decisions) == ["choose", "report"] and len(decisions["report"]) == selection.DRAWS
    race, scores = np.array([GROUPS[index][0] for index in GROUP]), margins[:, None].astype(float)
    optimizer = ThresholdOptimizer(
        estimator=Identity(),
        constraints="equalized_odds",
        objective="balanced_accuracy_score",
        prefit=True,
        predict_method="predict",
    ).fit(scores, MALE, sensitive_features=race)
    for number, draw in enumerate(decisions["report"]):
        random_state = np.random.RandomState([0, number])
        male = optimizer.predict(scores, sensitive_features=race, random_state=random_state)
        np.testing.assert_array_equal(draw, np.where(male == 1, np.inf, -np.inf))
    expected = optimizer._pmf_predict(scores, sensitive_features=race)[:, 1]
    for gender in (0, 1):
        rates = [expected[(gender == MALE) & (race == name)].mean() for name in set(race)]
        assert np.ptp(rates) < 0.01
    assert all(np.isinf(draw).all() for draw in decisions["choose"])
    again = selection.race_thresholds(by_split, faces, seed=0)
    np.testing.assert_array_equal(again["report"], decisions["report"])


class Identity(BaseEstimator):
    def fit(self, scores, label):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, scores):
        return scores[:, 0]


# ----------------------------------------------------------------------------- names


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
    path = selection.RepairPath(name, threshold, {}, np.zeros(1), 0)
    assert (path.method, path.row) == (method, row)
    path = selection.RepairPath(name, threshold, {}, np.zeros(1), 0, "celeba")
    assert (path.method, path.row) == (method, f"{row}@celeba")
