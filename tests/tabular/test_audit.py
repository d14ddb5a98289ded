"""Swaps, permutations, rivals and post-processing on small tables whose answers are known."""

import numpy as np
import pytest
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

from readers.people import Table
from tabular.audit import (
    members_by_group,
    permutation_drops,
    relevance_shares,
    swap_attribute,
    swap_rates,
)
from tabular.rivals import RIVALS, post_process

N = 600


@pytest.fixture
def table():
    """The label is 1 for size 2 or 3; sex, shade and noise do not matter."""
    rng = np.random.default_rng(0)
    size, sex = rng.integers(0, 4, N), rng.integers(0, 2, N)
    shade, noise = rng.integers(0, 3, N), rng.normal(size=N)
    values = np.stack([size, sex, shade, noise], 1).astype(float)
    levels = {"sex": ("Female", "Male"), "shade": ("black", "grey", "white")}
    groups = {"sex": ("Female", "Male"), "shade": ("black", "white")}
    label, names = (size > 1).astype(int), ("size", "sex", "shade", "noise")
    return Table(names, levels, values, label, ("no", "yes"), groups)


def by_size(values):
    return (values[:, 0] > 1).astype(int)


def by_sex(values):
    return values[:, 1].astype(int)


def test_groups(table):
    members = members_by_group(table)
    names = ["all", "sex: Female", "sex: Male", "shade: black", "shade: white"]
    assert list(members) == names and members["all"].all()
    assert (members["sex: Male"] == (table.column("sex") == 1)).all()


def test_swaps_change_every_row_that_they_may(table):
    rng = np.random.default_rng(1)
    values, swapped = swap_attribute(table, "sex", rng)
    assert swapped.all() and (values[:, 1] == 1 - table.values[:, 1]).all()
    values, swapped = swap_attribute(table, "shade", rng)
    grey = table.is_level("shade", "grey")
    assert (swapped == ~grey).all() and (values[~grey, 2] == 2 - table.values[~grey, 2]).all()
    values, swapped = swap_attribute(table, "noise", rng)
    assert swapped.all() and np.isin(values[:, 3], table.values[:, 3]).all()
    np.testing.assert_array_equal(values[:, :3], table.values[:, :3])


def test_swap_rates_of_known_rules(table):
    rates = swap_rates(by_sex, table, 0)
    assert rates["sex"]["all"] == rates["sex"]["sex: Male"] == 1 and rates["size"]["all"] == 0
    rates = swap_rates(by_size, table, 0)  # of 3 other sizes, 2 lie on the other side
    assert rates["size"]["all"] == pytest.approx(2 / 3, abs=0.06) and rates["sex"]["all"] == 0
    assert np.isnan(
        swap_rates(by_size, table.take(table.is_level("shade", "grey")), 0)["shade"]["all"]
    )


def test_permutation_drops(table):
    drops = permutation_drops(by_size, table, 5, 0)
    assert drops["size"]["all"] == pytest.approx(0.5, abs=0.05) and drops["sex"]["all"] == 0
    assert drops["size"]["sex: Female"] == pytest.approx(0.5, abs=0.1)


def test_relevance_shares_by_group(table):
    relevance = np.ones((N, 4))
    relevance[table.is_level("sex", "Male"), 1] = -7
    shares = relevance_shares(relevance, table)
    assert shares["sex"]["sex: Male"] == 0.7 and shares["sex"]["sex: Female"] == 0.25
    assert sum(share["all"] for share in shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("name, least", [("majority", 0.45), ("logistic regression", 0.95)])
def test_rivals(table, name, least):
    assert (RIVALS[name](table.take(slice(400)), table.take(slice(400, N)), 0) >= 0).all()
    predicted = RIVALS[name](table, table, 0)
    assert least <= (predicted == table.label).mean()


def test_trees(table):
    assert (RIVALS["HistGradientBoosting"](table, table, 0) == table.label).all()


def test_post_processing_closes_the_difference_it_is_asked_to(table):
    rng = np.random.default_rng(2)
    male = table.column("sex")
    scores = table.label - 0.5 + 0.8 * (male - 0.5) + rng.normal(0, 0.4, N)
    before = (scores > 0).astype(int)
    for constraint, difference in (
        ("equal selection rates", demographic_parity_difference),
        ("equalised odds", equalized_odds_difference),
    ):
        after = post_process(scores, table, scores, table, "sex", constraint, 0)
        values = [
            difference(table.label, part, sensitive_features=male) for part in (before, after)
        ]
        assert values[0] > 0.2 and values[1] < 0.08


def test_post_processing_leaves_rows_of_other_groups(table):
    scores = np.random.default_rng(3).normal(size=N)
    after = post_process(scores, table, scores, table, "shade", "equal selection rates", 0)
    grey = table.is_level("shade", "grey")
    assert (after[grey] == (scores[grey] > 0)).all()
