"""Tables of the study of income from its records."""

import pytest

from tabular.dense import ARCHITECTURES
from tests.conftest import REPOSITORY
from tools import table_income

FOLDER = str(REPOSITORY / "cur_records/income")


def test_every_architecture_has_what_the_original_reports():
    assert table_income.ORIGINAL.keys() == ARCHITECTURES.keys()
    assert min(test for _, test in table_income.ORIGINAL.values()) == 42


def test_short_names():
    name = table_income._short_name("D8-RELU-D4-BN-RELU-DR(0.3)-D2-SIGMOID")
    assert name == "8-4-2, RELU, dropout"


def test_architectures_table_has_accuracies_of_the_record():
    results = table_income.income_results(FOLDER)
    lines = table_income.architectures_table(FOLDER).splitlines()
    assert len(lines) == 2 + len(ARCHITECTURES) + 3
    chosen = results.accuracy[results.accuracy["model"] == "9"]
    assert f"{100 * chosen['test_accuracy'].mean():.1f}" in lines[2 + 8]
    assert "79.6 / 42.0" in lines[2]


def test_ratios_are_those_of_the_record():
    table = table_income.rules_table(FOLDER)
    layers = table_income.income_results(FOLDER).layers
    first = layers[(layers["rule"] == "epsilon") & (layers["layer"] == 1)]["ratio"].iloc[0]
    assert f"| epsilon (0.01) | {first:.2f} " in table


@pytest.mark.parametrize("folder", [FOLDER, f"{FOLDER}/drawn", f"{FOLDER}/compas"])
def test_tables_have_as_many_cells_as_headings(folder):
    for name in ("attributes_table", "rules_table", "rates_table", "repairs_table"):
        lines = getattr(table_income, name)(folder).replace("\\|", "").splitlines()
        assert len({line.count("|") for line in lines}) == 1, name
