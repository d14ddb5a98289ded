"""Intervals of scores, of changes and of shares, against their definitions and published ones."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from datasets import GROUP_NAMES
from report import metrics
from tests.report.toy_faces import GROUP, MALE, NO_GROUP, SIGN, margins_right_in_each


def by_group(table):
    return table.set_index("group")


def resampled_weights(group, seed=0, resamples=2000):
    """The bootstrap's weights: samples drawn from each group with replacement."""
    rng, weights = np.random.default_rng(seed), np.empty((resamples, len(group)))
    for index in np.unique(group):
        members = np.flatnonzero(group == index)
        counts = rng.multinomial(len(members), [1 / len(members)] * len(members), resamples)
        weights[:, members] = counts / len(members)
    return weights


def widened(value, resampled, half):
    """The bootstrap's interval with another half width added in quadrature."""
    low, high = np.quantile(resampled, [0.025, 0.975])
    low = value - np.sqrt((value - low) ** 2 + half**2)
    return low, value + np.sqrt((high - value) ** 2 + half**2)


def test_weights_of_the_bootstrap():
    weights = metrics._bootstrap_weights(GROUP.tobytes(), GROUP.dtype.str, 3)
    assert weights.shape == (2001, 200) and (weights[0] == 1 / 50).all()
    assert np.array_equal(weights[1:], resampled_weights(GROUP, 3))
    assert not np.array_equal(weights[1:], resampled_weights(GROUP, 4))


def test_intervals_of_one_training():
    margins = margins_right_in_each(50, 40, 30, 10)
    table = by_group(metrics.score_table([margins[None]], MALE, GROUP))
    assert table.columns.tolist() == ["value", "ci_low", "ci_high", "n_images"]
    assert table["n_images"].tolist() == [50] * 4 + [200] * 7
    for name, hits in zip(GROUP_NAMES, (50, 40, 30, 10)):
        interval = table.loc[name, ["ci_low", "ci_high"]].tolist()
        assert interval == pytest.approx(metrics.wilson(hits, 50))
    unknown = table.loc[["worst", "gap", "equalised odds"], ["ci_low", "ci_high"]]
    assert unknown.isna().all(axis=None) and table["ci_low"].notna().sum() == 7
    scores = metrics.group_scores(margins, MALE, GROUP, resampled_weights(GROUP))
    for name in ("balanced", "AUC black"):
        interval = table.loc[name, ["ci_low", "ci_high"]].tolist()
        assert interval == pytest.approx(widened(table.loc[name, "value"], scores[name], 0))
    half = 1.96 * np.sqrt((0.8 * 0.2 + 0.6 * 0.4 + 0.2 * 0.8) / 50) / 4
    assert table.loc["balanced", "ci_high"] == pytest.approx(0.65 + half, abs=0.006)


def test_quantiles_of_the_bootstrap():
    """Exactly: of margins without ties, each of whose resamples has another AUC."""
    margins = np.random.default_rng(0).normal(0, 1, 200) + MALE
    table = by_group(metrics.score_table([margins[None]], MALE, GROUP, seed=3))
    scores = metrics.group_scores(margins, MALE, GROUP, resampled_weights(GROUP, 3))
    for name in ("AUC white", "AUC black"):
        assert len(np.unique(scores[name])) > 1000
        interval = table.loc[name, ["ci_low", "ci_high"]].tolist()
        expected = widened(table.loc[name, "value"], scores[name], 0)
        assert interval == pytest.approx(expected, rel=1e-9)


def test_interval_of_a_set_without_groups():
    table = metrics.score_table([margins_right_in_each(50, 40, 30, 10)[None]], MALE, NO_GROUP)
    assert table[["group", "n_images"]].values.tolist() == [["all", 200], ["ECE all", 200]]
    assert table.loc[0, "value"] == pytest.approx(0.65)
    interval = table.loc[0, ["ci_low", "ci_high"]].tolist()
    assert interval == pytest.approx(metrics.wilson(130, 200))
    assert table.loc[1, ["ci_low", "ci_high"]].isna().all()  # resampled, it is larger


def test_the_seed_is_that_of_the_bootstrap():
    margins = margins_right_in_each(50, 40, 30, 10)[None]
    tables = [metrics.score_table([margins], MALE, GROUP, seed) for seed in (0, 0, 1)]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert not tables[0].equals(tables[2])
    changes = [metrics.score_changes([margins], [-margins], MALE, GROUP, s) for s in (0, 1)]
    default = metrics.score_changes([margins], [-margins], MALE, GROUP)
    assert default.equals(changes[0]) and not changes[0].equals(changes[1])
    assert metrics.score_table([margins], MALE, GROUP).equals(tables[0])


def test_several_networks_of_one_training():
    """Two random removals: their mean, with Student's t between them; no Wilson interval."""
    networks = np.stack([margins_right_in_each(50, 40, 30, number) for number in (10, 20)])
    table = by_group(metrics.score_table([networks], MALE, GROUP))
    t = stats.t.ppf(0.975, 1) * 0.1 / 2  # the mean of 0.2 and 0.4; deviation 0.1 sqrt(2) / sqrt(2)
    draws = resampled_weights(GROUP)
    scores = [metrics.group_scores(margins, MALE, GROUP, draws) for margins in networks]
    resampled = (scores[0]["black women"] + scores[1]["black women"]) / 2
    row = table.loc["black women"]
    expected = np.clip(widened(0.3, resampled, 2 * t), 0, 1)  # a share
    assert [row["value"], row["ci_low"], row["ci_high"]] == pytest.approx([0.3, *expected])


def test_change_interval_is_the_paired_one():
    """Only 10 of a group of 50 change, to right: + 20 points, as the share of 10 in 50."""
    before = -SIGN.astype(float)
    after = np.where(np.arange(200) < 10, SIGN, before)
    table = metrics.score_changes([before[None]], [after[None]], MALE, GROUP)
    assert table.columns.tolist() == ["group", "change", "ci_low", "ci_high"]
    table = by_group(table)
    assert table.loc["white men", "change"] == pytest.approx(0.2)
    assert table.loc["balanced", "change"] == pytest.approx(0.05)
    share = resampled_weights(GROUP)[:, :10].sum(1)
    interval = table.loc["white men", ["ci_low", "ci_high"]].tolist()
    assert interval == pytest.approx(widened(0.2, share, 0))
    assert table.loc["black women"].tolist() == [0, 0, 0]
    assert table.loc["gap", ["ci_low", "ci_high"]].isna().all()


def test_change_between_several_networks():
    """Both sides' variances add up: of 2 networks before, of 3 after."""
    before = np.stack([margins_right_in_each(50, 50, 50, number) for number in (10, 20)])
    after = np.stack([margins_right_in_each(50, 50, 50, number) for number in (20, 30, 40)])
    row = by_group(metrics.score_changes([before], [after], MALE, GROUP)).loc["black women"]
    halves = [
        stats.t.ppf(0.975, 1) * 0.1 * np.sqrt(2) / np.sqrt(2),
        stats.t.ppf(0.975, 2) * 0.2 / np.sqrt(3),
    ]
    draws = resampled_weights(GROUP)[:, 150:]
    right = [np.arange(50) < number for number in (10, 20, 20, 30, 40)]
    drawn = [draws @ images for images in right]
    resampled = np.mean(drawn[2:], axis=0) - np.mean(drawn[:2], axis=0)
    assert row["change"] == pytest.approx(0.3)
    expected = widened(0.3, resampled, np.hypot(*halves))
    assert row[["ci_low", "ci_high"]].tolist() == pytest.approx(expected)


def test_change_over_trainings():
    """Changes of 0.1, 0.2 and 0.3 in a group: their mean and Student's t, and the faces' share.

    The random removals within a training are in its mean, and count no second time.
    """
    before = -SIGN.astype(float)
    after = [np.where(np.arange(200) < number, SIGN, before) for number in (5, 10, 15)]
    pairs = [np.stack([before, before])] * 3, [np.stack([margins, margins]) for margins in after]
    row = by_group(metrics.score_changes(*pairs, MALE, GROUP)).loc["white men"]
    draws = resampled_weights(GROUP)[:, :50]
    resampled = np.mean([draws[:, :number].sum(1) for number in (5, 10, 15)], axis=0)
    assert row["change"] == pytest.approx(0.2)
    expected = widened(0.2, resampled, stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3))
    assert row[["ci_low", "ci_high"]].tolist() == pytest.approx(expected)
    unlike = np.stack([after[0], after[2]])  # 0.2 in each of two trainings, by 0.1 and 0.3
    twice = by_group(metrics.score_changes([before[None]] * 2, [unlike] * 2, MALE, GROUP))
    resampled = np.mean([draws[:, :number].sum(1) for number in (5, 15)], axis=0)
    interval = twice.loc["white men", ["ci_low", "ci_high"]].tolist()
    assert interval == pytest.approx(widened(0.2, resampled, 0))


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_auc_depends_on_no_threshold(shift):
    worse = np.where(GROUP == 2, 0.0, MALE)  # black men like black women
    sides = [MALE[None] + shift * (GROUP >= 2)], [worse[None] + shift]
    change = by_group(metrics.score_changes(*sides, MALE, GROUP))["change"]
    assert (change["AUC white"], change["AUC black"]) == pytest.approx((0, -0.5))


# ----------------------------------------------------------------------------- shares of images


def test_half_width_is_students():
    assert metrics._half_width([0.3]) == 0
    assert metrics._half_width([0.0, 1.0]) == pytest.approx(12.7062 / 2, abs=1e-4)
    assert metrics._half_width([1.0, 2.0, 3.0]) == pytest.approx(4.30265 / 3**0.5, abs=1e-5)
    values = np.arange(31.0)
    expected = 2.042272 * np.std(values, ddof=1) / np.sqrt(31)
    assert metrics._half_width(values) == pytest.approx(expected, rel=1e-6)


def test_mean_share():
    one = np.arange(20)[None] < 5
    assert metrics.mean_share(one) == pytest.approx((0.25, *metrics.wilson(5, 20)))
    two = np.stack([np.arange(20) < 4, np.arange(20) < 6])
    low, high = metrics.wilson(5, 20)
    t = 12.706205 * 0.1 / 2
    expected = (0.25, 0.25 - np.hypot(0.25 - low, t), 0.25 + np.hypot(high - 0.25, t))
    assert metrics.mean_share(two) == pytest.approx(expected)


def paired_sides(both, after_only, before_only, neither):
    after = [True] * (both + after_only) + [False] * (before_only + neither)
    before = [True] * both + [False] * after_only + [True] * before_only + [False] * neither
    return np.array([after]), np.array([before])


TABLES = [(36, 12, 2, 0), (53, 3, 1, 43), (1, 1, 7, 12), (5, 10, 20, 15), (0, 3, 4, 0)]


@pytest.mark.parametrize("table", TABLES)
def test_paired_difference_is_newcombes(table):
    """His method 8, from the fourfold table."""
    a, b, c, d = table
    n = a + b + c + d
    p, q = (a + b) / n, (a + c) / n
    (p_low, p_high), (q_low, q_high) = metrics.wilson(a + b, n), metrics.wilson(a + c, n)
    phi = (a * d - b * c) / np.sqrt((a + b) * (c + d) * (a + c) * (b + d))
    dl, du, el, eu = p - p_low, p_high - p, q - q_low, q_high - q
    low = np.sqrt(dl**2 - 2 * phi * dl * eu + eu**2)
    high = np.sqrt(el**2 - 2 * phi * el * du + du**2)
    difference = metrics.paired_difference(*paired_sides(*table))
    assert difference == pytest.approx((p - q, p - q - low, p - q + high))


def test_paired_difference_as_published():
    """The first table of Newcombe 1998 (paired data): 0.2, 0.0569 to 0.3404."""
    difference = metrics.paired_difference(*paired_sides(36, 12, 2, 0))
    assert difference == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)


def test_paired_difference_of_constant_sides_has_a_width():
    low, high = metrics.wilson(50, 50)
    width = np.hypot(1 - low, high - 1)
    difference = metrics.paired_difference(*paired_sides(50, 0, 0, 0))
    assert difference == pytest.approx((0, -width, width))


def test_paired_difference_from_a_constant_side():
    """All right after, 30 of 50 before: no correlation, so the two widths add in quadrature."""
    difference, low, high = metrics.paired_difference(*paired_sides(30, 20, 0, 0))
    (p_low, _), (q_low, q_high) = metrics.wilson(50, 50), metrics.wilson(30, 50)
    assert difference == pytest.approx(0.4)
    assert 0.4 - low == pytest.approx(np.hypot(1 - p_low, q_high - 0.6))
    assert high - 0.4 == pytest.approx(0.6 - q_low)


def test_paired_difference_of_several_networks():
    """The correlation is between the shares of networks that have each image right."""
    after = np.array([[1, 1, 0, 0, 1], [1, 0, 0, 0, 1]], dtype=bool)
    before = np.array([[1, 0, 0, 1, 0], [1, 0, 1, 0, 0], [1, 0, 0, 0, 1]], dtype=bool)
    (p, p_low, p_high), (q, q_low, q_high) = map(metrics.mean_share, (after, before))
    phi = np.corrcoef(after.mean(0), before.mean(0))[0, 1]
    dl, du, el, eu = p - p_low, p_high - p, q - q_low, q_high - q
    low, high = (x**2 + y**2 - 2 * phi * x * y for x, y in ((dl, eu), (du, el)))
    expected = (p - q, p - q - np.sqrt(low), p - q + np.sqrt(high))
    assert metrics.paired_difference(after, before) == pytest.approx(expected)


def test_identical_networks_do_not_differ():
    right = np.arange(40)[None] % 3 > 0
    difference = metrics.paired_difference(right, right)
    assert difference[0] == 0 and -0.1 < difference[1] < 0 < difference[2] < 0.1
    assert metrics._newcombe_half(0.3, 0.3, 1 + 1e-12) == 0  # no root of a negative number
