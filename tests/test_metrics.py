"""Accuracy, intervals and the threshold control, against numbers known otherwise."""

import numpy as np
import pytest
import torch

import eval
import metrics
from datasets import GROUPS, Images

GROUP = np.repeat(np.arange(4), 50)
FACES = Images(torch.zeros(200, 3, 1, 1), torch.tensor([int(GROUPS[index][1] == "Male") for index in GROUP]),
              torch.from_numpy(GROUP))


def test_wilson_interval():
    assert metrics.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Newcombe 1998's method 3
    assert metrics.wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)


def test_accuracy_by_group():
    correct = np.arange(200) % 50 < np.repeat([50, 40, 30, 10], 50)
    table = metrics.accuracy(correct, GROUP).set_index("group")
    assert table["accuracy"].to_dict() == pytest.approx({
        "white men": 1.0, "white women": 0.8, "black men": 0.6, "black women": 0.2, "balanced": 0.65, "worst": 0.2})
    assert metrics.balanced(correct, GROUP) == pytest.approx(0.65)
    assert table.loc["balanced", "n_images"] == 200 and table.loc["worst", "n_images"] == 50
    assert metrics.accuracy(correct, np.full(200, -1))["group"].tolist() == ["all"]


MALE = FACES.label.numpy()
SIGN = 2 * MALE - 1  # margins of a network that is always right


def told(found):
    return found.set_index("group")


def test_scores_by_hand():
    """White men 50, white women 40, black men 30, black women 10 of 50 right: what fairlearn calls equalized odds difference
    is the larger of |50 - 30| and |10 - 40| of 50."""
    margins = np.where(np.arange(200) % 50 < np.repeat([50, 40, 30, 10], 50), SIGN, -SIGN).astype(float)
    found = told(metrics.table([margins[None]], MALE, GROUP))["value"]
    assert found[["white men", "white women", "black men", "black women"]].tolist() == pytest.approx([1.0, 0.8, 0.6, 0.2])
    assert found[["balanced", "worst", "gap", "equalised odds"]].tolist() == pytest.approx([0.65, 0.2, 0.8, 0.6])
    # Of a man and a woman, right and right: 1; one wrong: a tie; both wrong: 0.
    assert found["AUC white"] == pytest.approx(0.8 + 0.2 / 2)
    assert found["AUC black"] == pytest.approx(0.6 * 0.2 + 0.6 * 0.8 / 2 + 0.4 * 0.2 / 2)
    assert told(metrics.table([margins[None]], MALE, np.full(200, -1))).loc["all", "value"] == pytest.approx(0.65)


def test_intervals_of_one_training():
    margins = np.where(np.arange(200) % 50 < 40, SIGN, -SIGN).astype(float)
    found = told(metrics.table([margins[None]], MALE, GROUP))
    assert found.loc["black women", ["ci_low", "ci_high"]].tolist() == pytest.approx(metrics.wilson(40, 50))
    half = 1.96 * np.sqrt(0.8 * 0.2 / 200)
    assert found.loc["balanced", ["ci_low", "ci_high"]].tolist() == pytest.approx([0.8 - half, 0.8 + half], abs=0.006)


def test_change_interval_is_the_paired_one():
    """Nobody changes but 10 of a group of 50 that turn right: + 20 points, interval of a proportion of 0.2."""
    before = -SIGN.astype(float)
    after = np.where(np.arange(200) < 10, SIGN, before)
    found = told(metrics.change([before[None]], [after[None]], MALE, GROUP))
    assert found.loc["white men", "change"] == pytest.approx(0.2) and found.loc["balanced", "change"] == pytest.approx(0.05)
    assert found.loc["white men", ["ci_low", "ci_high"]].tolist() == pytest.approx([0.1, 0.32], abs=0.021)
    assert found.loc["black women", ["ci_low", "change", "ci_high"]].tolist() == [0, 0, 0]
    half = told(metrics.change([before[None]], [np.stack([before, after])], MALE, GROUP))  # the mean of two networks
    assert half.loc["white men", "change"] == pytest.approx(0.1)


def test_change_over_trainings():
    """Changes of 0.1, 0.2 and 0.3 in a group: their mean and Student's t; more with the faces' share."""
    before = -SIGN.astype(float)
    after = [np.where(np.arange(200) < number, SIGN, before)[None] for number in (5, 10, 15)]
    found = told(metrics.change([before[None]] * 3, after, MALE, GROUP)).loc["white men"]
    t = 4.303 * 0.1 / np.sqrt(3)
    faces = 1.96 * np.sqrt(np.var((np.arange(50) < 5) / 3. + (np.arange(50) < 10) / 3. + (np.arange(50) < 15) / 3.) / 50)
    assert found["change"] == pytest.approx(0.2)
    assert [found["change"] - found["ci_low"], found["ci_high"] - found["change"]] == pytest.approx([np.hypot(t, faces)] * 2, abs=0.01)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_auc_knows_no_threshold(shift):
    worse = np.where(GROUP == 2, 0.0, MALE)  # black men like black women
    found = told(metrics.change([MALE[None] + shift * (GROUP >= 2)], [worse[None] + 1.0 * shift], MALE, GROUP))["change"]
    assert (found["AUC white"], found["AUC black"]) == pytest.approx((0, -0.5))


def test_noisy_auc():
    rng = np.random.default_rng(0)
    found = told(metrics.change([rng.normal(0, 1, (1, 200))], [MALE + rng.normal(0, 1, (1, 200))], MALE, GROUP))
    found = found.loc[["AUC white", "AUC black"]]
    assert ((found["ci_low"] < found["change"]) & (found["change"] < found["ci_high"])).all()
    assert (found["ci_high"] - found["ci_low"]).between(0.1, 0.4).all()


@pytest.mark.parametrize("seed", range(5))
def test_best_shift_is_the_best_there_is(seed):
    rng = np.random.default_rng(seed)
    margin = (rng.normal(0, 1, 200) + FACES.label.numpy() - 2).round(1).astype(np.float32)  # with ties

    def balanced(shift):
        return metrics.balanced((margin + shift > 0) == FACES.label.numpy().astype(bool), GROUP)

    shift = eval.best_shift(margin, FACES)
    assert balanced(shift) == pytest.approx(max(balanced(other) for other in np.arange(-5, 5, 0.05)))
    assert balanced(shift) > balanced(0)


def test_fewest_within_one_standard_error():
    """Steps that get the first 20, 29, 30, 30 images of each group of 50 right: 29 is not told from 30, 20 is."""
    steps = np.stack([np.arange(200) % 50 < number for number in (20, 29, 30, 30)])
    assert metrics.fewest_within_one_se(steps, GROUP) == 2
    noisy = steps.copy()
    noisy[1] = np.roll(steps[2], 1)  # 30 right in all groups, others than the best's
    noisy[1, [0, 50]] = False
    assert metrics.fewest_within_one_se(noisy, GROUP) == 1
    assert metrics.fewest_within_one_se(steps[:1], GROUP) == 0
