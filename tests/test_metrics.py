"""Accuracy, intervals and the threshold control, against numbers known otherwise."""

import numpy as np
import pandas as pd
import pytest
import torch

import eval
import metrics
from datasets import GROUPS, Faces

GROUP = np.repeat(np.arange(4), 50)
FACES = Faces(torch.zeros(200, 3, 1, 1), torch.tensor([int(GROUPS[index][1] == "Male") for index in GROUP]),
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


def test_change_interval_is_the_paired_one():
    """Nobody changes but 10 of a group of 50 that turn right: + 20 points, interval of a proportion of 0.2."""
    before = np.zeros(200, dtype=bool)
    after = np.arange(200) < 10
    table = metrics.change(before, after, GROUP, seed=0).set_index("group")
    assert table.loc["white men", "change"] == 0.2 and table.loc["balanced", "change"] == pytest.approx(0.05)
    assert table.loc["white men", ["ci_low", "ci_high"]].tolist() == pytest.approx([0.1, 0.32], abs=0.021)
    assert table.loc["black women", ["ci_low", "change", "ci_high"]].tolist() == [0, 0, 0]


def test_auc_within_race():
    perfect = FACES.male.numpy() * 1.0
    worse = np.where(GROUP == 2, 0.0, perfect)  # black men like black women
    table = metrics.auc_within_race(perfect, worse, GROUP, seed=0).set_index("group")
    assert table.loc["White"].tolist() == [1, 1, 0, 0, 0]
    assert table.loc["Black"].tolist() == pytest.approx([1, 0.5, -0.5, -0.5, -0.5])
    shifted = metrics.auc_within_race(perfect + 3 * (GROUP >= 2), worse, GROUP, seed=0).set_index("group")
    pd.testing.assert_frame_equal(shifted, table)  # no threshold moves it
    rng = np.random.default_rng(0)
    noisy = metrics.auc_within_race(rng.normal(0, 1, 200), perfect + rng.normal(0, 1, 200), GROUP, seed=0)
    assert ((noisy["ci_low"] < noisy["change"]) & (noisy["change"] < noisy["ci_high"])).all()
    assert (noisy["ci_high"] - noisy["ci_low"]).between(0.1, 0.4).all()


@pytest.mark.parametrize("seed", range(5))
def test_best_shift_is_the_best_there_is(seed):
    rng = np.random.default_rng(seed)
    margin = (rng.normal(0, 1, 200) + FACES.male.numpy() - 2).round(1).astype(np.float32)  # with ties

    def balanced(shift):
        return metrics.balanced((margin + shift > 0) == FACES.male.numpy().astype(bool), GROUP)

    shift = eval.best_shift(margin, FACES)
    assert balanced(shift) == pytest.approx(max(balanced(other) for other in np.arange(-5, 5, 0.05)))
    assert balanced(shift) > balanced(0)


def test_correct_calls_agree_with_argmax():
    logits = torch.tensor([[0.3, 0.5], [0.5, 0.3], [0.2, 0.2]])
    faces = Faces(None, torch.tensor([1, 1, 0]), None)
    margins = (logits[:, 1] - logits[:, 0]).numpy()[None]
    assert eval.correct_calls({"x": margins}, {"x": faces})["x"][0].tolist() == (
        logits.argmax(1) == faces.male).tolist()


def test_fewest_within_one_standard_error():
    """Steps that get the first 20, 29, 30, 30 images of each group of 50 right: 29 is not told from 30, 20 is."""
    steps = np.stack([np.arange(200) % 50 < number for number in (20, 29, 30, 30)])
    assert metrics.fewest_within_one_se(steps, GROUP) == 2
    noisy = steps.copy()
    noisy[1] = np.roll(steps[2], 1)  # 30 right in all groups, others than the best's
    noisy[1, [0, 50]] = False
    assert metrics.fewest_within_one_se(noisy, GROUP) == 1
    assert metrics.fewest_within_one_se(steps[:1], GROUP) == 0
