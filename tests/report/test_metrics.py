"""Scores and intervals against numbers by hand, slow versions from the definition, libraries."""

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import equalized_odds_difference
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from datasets import GROUP_NAMES
from report import metrics
from report.calibration import BINS, calibration_error
from tests.report.toy_faces import (
    FLAT,
    GROUP,
    MALE,
    NO_GROUP,
    SIGN,
    margins_right_in_each,
    right_in_each,
)

Z = 1.959963984540054


def by_group(table):
    return table.set_index("group")


# ----------------------------------------------------------------------------- one set of images


def test_wilson_interval():
    low, high = metrics.wilson(8, 10)  # Newcombe 1998's method 3, to his four digits
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=5e-5)
    assert metrics.wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    for limit in metrics.wilson(7, 23):  # where the proportion is just rejected
        assert abs(7 / 23 - limit) == pytest.approx(Z * np.sqrt(limit * (1 - limit) / 23))
    low, high = metrics.wilson(np.array([0, 3, 5]), np.array([5, 6, 5]))
    pairs = [metrics.wilson(hits, n) for hits, n in ((0, 5), (3, 6), (5, 5))]
    assert list(low) == pytest.approx([pair[0] for pair in pairs])
    assert list(high) == pytest.approx([pair[1] for pair in pairs])


def test_accuracy_by_group():
    table = metrics.accuracy_by_group(right_in_each(50, 40, 30, 10), GROUP)
    assert table.columns.tolist() == ["group", "accuracy", "ci_low", "ci_high", "n_images"]
    assert table["group"].tolist() == [*GROUP_NAMES, "balanced", "worst"]
    assert table["accuracy"].tolist() == pytest.approx([1.0, 0.8, 0.6, 0.2, 0.65, 0.2])
    assert table["n_images"].tolist() == [50, 50, 50, 50, 200, 50]
    intervals = table[["ci_low", "ci_high"]].to_numpy()
    for row, hits in enumerate((50, 40, 30, 10)):
        assert intervals[row] == pytest.approx(metrics.wilson(hits, 50))
    half = Z * np.sqrt((0.8 * 0.2 + 0.6 * 0.4 + 0.2 * 0.8) / 50) / 4
    assert intervals[4] == pytest.approx([0.65 - half, 0.65 + half])
    assert intervals[5] == pytest.approx(intervals[3])


def test_accuracy_of_groups_of_different_size():
    group, correct = np.repeat([0, 1], [10, 40]), np.arange(50) < 30  # 10 of 10, 20 of 40
    table = by_group(metrics.accuracy_by_group(correct, group))
    assert table["accuracy"].to_dict() == pytest.approx(
        {"white men": 1.0, "white women": 0.5, "balanced": 0.75, "worst": 0.5}
    )
    assert table.loc["balanced", "n_images"] == 50
    half = Z * np.sqrt(0.25 / 40) / 2
    assert table.loc["balanced", "ci_high"] - 0.75 == pytest.approx(half)


def test_accuracy_without_groups():
    table = metrics.accuracy_by_group(right_in_each(50, 40, 30, 10), NO_GROUP)
    assert table["group"].tolist() == ["all"]
    assert table.loc[0, ["accuracy", "n_images"]].tolist() == [0.65, 200]
    assert table.loc[0, ["ci_low", "ci_high"]].tolist() == pytest.approx(metrics.wilson(130, 200))
    one = metrics.accuracy_by_group(np.array([True, False]), np.array([2, 2]))
    assert one["group"].tolist() == ["black men"]  # no mean of a single group


def test_balanced_accuracy():
    correct = np.array([True, True, False, True, False, False])
    assert metrics.balanced_accuracy(correct, np.array([0, 0, 1, 1, 1, 1])) == (1 + 0.25) / 2


# ----------------------------------------------------------------------------- the selection rule


def slow_fewest(correct, group, errors=1.0):
    """fewest_within_one_se by the definition, image by image; `errors`: standard errors."""
    groups = sorted(set(group))

    def mean_of_group(numbers, index):
        members = [number for number, of_image in zip(numbers, group) if of_image == index]
        return sum(members) / len(members), len(members)

    accuracy = []
    for step in correct:
        accuracy.append(sum(mean_of_group(step, index)[0] for index in groups) / len(groups))
    best = correct[accuracy.index(max(accuracy))]
    for number, step in enumerate(correct):
        loss, variance = 0, 0
        for index in groups:
            differences = [int(b) - int(s) for b, s in zip(best, step)]
            mean, n = mean_of_group(differences, index)
            squares, _ = mean_of_group([difference**2 for difference in differences], index)
            loss += mean / len(groups)
            variance += (squares - mean**2) / n / len(groups) ** 2
        if loss <= errors * variance**0.5 + 1e-12:
            return number
    raise AssertionError("the best is within an error of itself")


def test_fewest_within_one_standard_error():
    """The first 20, 29, 30, 30 of each group right: 29 differs from 30 for certain, as does 20."""
    steps = np.stack([right_in_each(*[number] * 4) for number in (20, 29, 30, 30)])
    assert metrics.fewest_within_one_se(steps, GROUP) == 2
    noisy = steps.copy()
    noisy[1] = np.roll(steps[2], 1)  # 30 right in all groups, but not the best's
    noisy[1, [0, 50]] = False
    assert metrics.fewest_within_one_se(noisy, GROUP) == 1
    assert metrics.fewest_within_one_se(steps[:1], GROUP) == 0


def test_fewest_within_one_standard_error_is_that_of_the_definition():
    rng, with_two_errors, chosen = np.random.default_rng(0), [], []
    group = np.repeat([0, 1, 3], [10, 20, 30])
    for _ in range(60):
        steps = rng.random((6, 60)) < np.linspace(0.5, 0.75, 6)[:, None]
        chosen.append(metrics.fewest_within_one_se(steps, group))
        assert chosen[-1] == slow_fewest(steps, group)
        with_two_errors.append(slow_fewest(steps, group, errors=2.0))
    assert len(set(chosen)) == 6  # every step is chosen in its turn
    assert np.mean(np.array(chosen) != with_two_errors) > 0.3  # two errors would be noticed


def test_one_standard_error_exactly_is_within():
    """Two groups of ten: the best has 4 right that the step has not, and the step 2 of its own.

    The loss is (4 - 2) / 10 / 2 = 0.1. Its error is the square root of (0.24 + 0.16) / 10, by two.
    """
    step, best = np.zeros(20, dtype=bool), np.zeros(20, dtype=bool)
    step[[0, 10, 11]] = True
    best[[0, 1, 2, 3, 4]] = True
    group = np.repeat([0, 1], 10)
    assert metrics.fewest_within_one_se(np.stack([step, best]), group) == 0
    best[5] = True  # a loss of 0.15, an error of 0.10
    assert metrics.fewest_within_one_se(np.stack([step, best]), group) == 1


# ----------------------------------------------------------------------------- scores of faces


def test_scores_by_hand():
    scores = metrics.group_scores(margins_right_in_each(50, 40, 30, 10), MALE, GROUP, FLAT)
    assert list(scores) == [
        *GROUP_NAMES, "balanced", "worst", "gap", "equalised odds", "AUC white", "AUC black", "ECE"
    ]  # fmt: skip
    values = [float(value[0]) for value in scores.values()]
    # Of a man and a woman, right and right: 1; one wrong: a tie; both wrong: 0.
    auc = [0.8 + 0.2 / 2, 0.6 * 0.2 + 0.6 * 0.8 / 2 + 0.4 * 0.2 / 2]
    ece = 1 / (1 + np.exp(-1)) - 0.65  # all margins are 1 or -1
    assert values == pytest.approx([1.0, 0.8, 0.6, 0.2, 0.65, 0.2, 0.8, 0.6, *auc, ece])
    alone = metrics.group_scores(margins_right_in_each(50, 40, 30, 10), MALE, NO_GROUP, FLAT / 4)
    assert list(alone) == ["all", "ECE all"] and alone["all"].tolist() == pytest.approx([0.65])


def test_a_margin_of_0_is_called_female():
    scores = metrics.group_scores(np.zeros(200), MALE, GROUP, FLAT)
    assert [scores[name][0] for name in GROUP_NAMES] == pytest.approx([0, 1, 0, 1])


def random_faces(seed):
    """Margins with ties, and weights, two rows of them."""
    rng = np.random.default_rng(seed)
    margins = (rng.normal(0, 1, 200) + MALE - 0.3 * (GROUP > 1)).round(1)
    weights = rng.random((2, 200)) + 0.1
    for index in range(4):
        members = index == GROUP
        weights[:, members] /= weights[:, members].sum(1, keepdims=True)
    return margins, weights


@pytest.mark.parametrize("seed", range(3))
def test_equalised_odds_are_fairlearns(seed):
    margins, weights = random_faces(seed)
    scores = metrics.group_scores(margins, MALE, GROUP, weights)
    called = (margins > 0).astype(int)
    for row in range(2):
        difference = equalized_odds_difference(
            MALE, called, sensitive_features=GROUP > 1, sample_weight=weights[row]
        )
        assert scores["equalised odds"][row] == pytest.approx(difference)


@pytest.mark.parametrize("seed", range(3))
def test_auc_is_scikit_learns(seed):
    margins, weights = random_faces(seed)
    scores = metrics.group_scores(margins, MALE, GROUP, weights)
    for name, members in (("AUC white", GROUP < 2), ("AUC black", GROUP > 1)):
        for row in range(2):
            expected = roc_auc_score(
                MALE[members], margins[members], sample_weight=weights[row, members]
            )
            assert scores[name][row] == pytest.approx(expected)


def test_equalised_odds_is_the_larger_of_both_genders():
    for numbers, expected in (((50, 40, 30, 39), 0.4), ((50, 40, 49, 10), 0.6)):
        margins = margins_right_in_each(*numbers)
        scores = metrics.group_scores(margins, MALE, GROUP, FLAT)
        assert scores["equalised odds"][0] == pytest.approx(expected)


# ----------------------------------------------------------------------------- values, texts


def test_concentration():
    values = np.array([-1.0, 6.0, 0.0, 2.0, 3.0])  # sum 10
    shares = metrics.concentration(values, (0.2, 0.21, 0.6, 1.0))
    assert shares == pytest.approx({0.2: 0.6, 0.21: 0.9, 0.6: 1.1, 1.0: 1.0})
    default = metrics.concentration(np.ones(1000))
    assert default == pytest.approx(
        {0.001: 0.001, 0.01: 0.01, 0.02: 0.02, 0.05: 0.05, 0.1: 0.1, 0.2: 0.2}
    )


def test_format_percent():
    table = pd.DataFrame({"ci_low": [0.58149, np.nan], "ci_high": [0.66451, np.nan]})
    assert metrics.format_percent(table.assign(value=[0.624, 0.0004])) == [
        "62.4 (58.1 to 66.5)", "0.0"
    ]  # fmt: skip
    assert metrics.format_percent(table.assign(accuracy=[0.624, 1])) == [
        "62.4 (58.1 to 66.5)", "100.0"
    ]  # fmt: skip
    change = pd.DataFrame({"change": [-0.02, 0.5], "ci_low": [-0.1, 0.4], "ci_high": [-0.0001, 1]})
    assert metrics.format_percent(change) == ["-2.0 (-10.0 to +0.0)", "+50.0 (+40.0 to +100.0)"]


# ----------------------------------------------------------------------------- calibration


@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_is_scikit_learns(seed):
    """Its calibration curve of the answers' probabilities, bins weighed by their faces."""
    rng = np.random.default_rng(seed)
    margins = 3 * rng.normal(size=200) + SIGN
    correct = (margins > 0) == (MALE == 1)
    confidence = expit(abs(margins))
    right, said = calibration_curve(correct, confidence, n_bins=BINS, strategy="uniform")
    sizes = np.histogram(confidence, np.linspace(0, 1, BINS + 1))[0]
    expected = (sizes[sizes > 0] * abs(right - said)).sum() / 200
    scores = metrics.group_scores(margins, MALE, GROUP, FLAT)
    assert scores["ECE"] == pytest.approx(expected)
    scores = metrics.group_scores(margins, MALE, NO_GROUP, FLAT / 4)
    assert list(scores) == ["all", "ECE all"] and scores["ECE all"] == pytest.approx(expected)


def test_calibration_error_by_hand():
    """Two of four are right where 90 % are promised, and a face of weight 0 does not count."""
    margins = np.array([1, 1, -1, -1, 9]) * np.log(9)
    correct = np.array([True, False, True, False, False])
    weights = np.array([[1, 1, 1, 1, 0], [1, 0, 1, 0, 0], [0, 4, 0, 0, 0]]) / [[4], [2], [4]]
    errors = calibration_error(margins, correct, weights)
    assert errors == pytest.approx([0.4, 0.1, 0.9])


def test_decisions_have_no_calibration():
    """Infinite margins are decisions: accuracies as ever, no AUC and no ECE."""
    margins = margins_right_in_each(50, 40, 30, 10)
    scores = metrics.group_scores(margins, MALE, GROUP, FLAT)
    decided = metrics.group_scores(margins * np.inf, MALE, GROUP, FLAT)
    for name, value in scores.items():
        unscored = name.startswith(("AUC", "ECE"))
        assert np.isnan(decided[name]).all() if unscored else decided[name] == value
    table = metrics.score_table([np.stack([margins * np.inf] * 2)], MALE, GROUP)
    texts = dict(zip(table["group"], metrics.format_percent(table)))
    assert texts["AUC black"] == texts["ECE"] == "" and texts["balanced"].startswith("65.0 (")
