"""The drawn table: its layout, and its rule."""

import numpy as np
import pytest

from drawings.salaries import RULE, rule_labels, write_salaries
from readers.people import adult
from tabular.audit import swap_rates


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("salaries")
    write_salaries(folder, 0, train=2000, test=200)
    return adult(str(folder), "train"), adult(str(folder), "test")


def test_same_seed_same_table(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_salaries(tmp_path / name, seed, train=20, test=10)
    texts = [(tmp_path / name / "adult/adult.data").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]


def test_sizes_and_labels(tables):
    assert [len(table.label) for table in tables] == [2000, 200]
    assert 0.2 < tables[0].label.mean() < 0.6


def test_labels_follow_the_rule_but_for_noise(tables):
    agreement = (rule_labels(tables[0]) == tables[0].label).mean()
    assert 0.85 < agreement < 0.99


def test_the_rule_by_hand(tables):
    table = tables[1]
    for row in range(20):
        points = RULE["base"] + RULE["female"] * table.is_level("sex", "Female")[row]
        for name in ("age", "education-num", "hours-per-week"):
            points += RULE[name] * table.column(name)[row]
        assert rule_labels(table)[row] == int(points >= 0)


def test_sex_changes_most_and_race_nothing(tables):
    def rule(values):
        return rule_labels(tables[0].__class__(**(vars(tables[0]) | {"values": values})))

    rates = {name: groups["all"] for name, groups in swap_rates(rule, tables[0], 0).items()}
    assert max(rates, key=rates.get) == "sex" and rates["race"] == 0
    assert sum(rate > 0 for rate in rates.values()) == 4


def test_black_people_have_fewer_years_of_education(tables):
    education, black = tables[0].column("education-num"), tables[0].is_level("race", "Black")
    assert education[~black].mean() - education[black].mean() > 1
    assert np.isin(education, (6, 9, 10, 11, 13, 14, 16)).all()
