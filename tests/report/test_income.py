"""Tables and texts of income.py from made-up numbers."""

import numpy as np
import pandas as pd
import pytest

from report.income import mean_values, rank_correlations
from report.income_text import (
    attribute_frame,
    conservation_frame,
    disagreements,
    mean_text,
    short_number,
)


def made_up_attributes(**values):
    """{measure: one list a training}: of the attributes sex, race and age."""
    rows = []
    for measure, trainings in values.items():
        name = {"relevance": "relevance: epsilon"}.get(measure, measure)
        for number, training in enumerate(trainings):
            number = -1 if measure == "truth" else number
            for attribute, value in zip(("sex", "race", "age"), training):
                rows.append((number, name, attribute, "all", value))
    return pd.DataFrame(rows, columns=["training", "measure", "attribute", "group", "value"])


@pytest.fixture
def attributes():
    relevance, swap = [[0.2, 0.5, 0.3], [0.1, 0.6, 0.3]], [[0.4, 0.1, 0.2], [0.4, 0.3, 0.2]]
    return made_up_attributes(relevance=relevance, swap=swap, truth=[[0.5, 0, 0]])


def test_rank_correlations_by_hand(attributes):
    table = rank_correlations(attributes).set_index(["first", "second"])
    row = table.loc[("relevance: epsilon", "swap")]
    # Ranks of relevance 1 3 2; of swaps 3 1 2, then 3 2 1: 1 - 6 sum d^2 / 24
    assert (row["min"], row["max"]) == pytest.approx((-1, -0.5))
    assert row["mean"] == pytest.approx(-0.75)
    assert ("swap", "truth") in table.index


def test_means_over_trainings(attributes):
    row = mean_values(attributes).loc[("relevance: epsilon", "race")]
    np.testing.assert_allclose(row, [0.55, 0.5, 0.6])


def test_disagreements_are_said(attributes):
    sex, race, unused = disagreements(attributes, "epsilon")
    assert "sex: number 1 of 3 by swaps (40.0%" in sex and "number 3 by relevance (15.0%)" in sex
    assert "race: number 2 of 3" in race and "number 1 by relevance" in race
    assert "The 2 attributes" in unused and "85%" in unused


def test_the_largest_swap_is_on_top(attributes):
    shuffled = attributes[attributes["measure"] == "swap"].assign(measure="permutation")
    frame = attribute_frame(pd.concat([attributes, shuffled]), "epsilon")
    assert frame.index[0] == "sex"
    assert frame.columns.tolist() == ["relevance", "shuffle", "swap", "rule"]
    assert frame.loc["sex"].tolist() == ["15.0", "40.0", "40.0", "50.0"]


@pytest.mark.parametrize(
    "value, text",
    [(0.984, "0.98"), (1, "1.00"), (2.34, "2.3"), (13.2, "13"), (-3e4, "-3e4"), (-0.001, "0.00")],
)
def test_short_numbers(value, text):
    assert short_number(value) == text


def test_means_with_ranges():
    assert mean_text([0.5]) == "50.0" and mean_text([0.5, 0.6]) == "55.0 (50.0 to 60.0)"


def test_ratios_by_rule_and_layer():
    rows = [("z", layer, 1 / layer, name) for layer in (1, 2) for name in ("sex", "age")]
    layers = pd.DataFrame(rows, columns=["rule", "layer", "ratio", "attribute"])
    assert conservation_frame(layers).iloc[0].tolist() == ["1.00", "0.50"]
