"""Tables of the study of fairwashing from its records."""

import glob

from common.records import load_csv

import pytest

from report import hidden
from tests.conftest import REPOSITORY
from tools import table_fairwashing, table_hidden

ALL_FOLDERS = sorted(glob.glob(f"{REPOSITORY}/cur_records/fairwashing/*"))
TABLES = [folder for folder in ALL_FOLDERS if table_hidden.has_hidden(folder)]
FOLDERS = [folder for folder in ALL_FOLDERS if folder not in TABLES]


def test_there_are_records():
    assert FOLDERS and TABLES
    assert all(table_fairwashing.has_fairwashing(folder) for folder in ALL_FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("name", ["head", "outputs", "maps", "defences", "claims"])
def test_tables_have_as_many_cells_as_headings(folder, name):
    lines = getattr(table_fairwashing, f"fairwashing_{name}_table")(folder).splitlines()
    assert len(lines) > 2 and len({line.count(" | ") for line in lines[2:]}) == 1
    assert lines[0].count(" | ") == lines[2].count(" | ")


@pytest.mark.parametrize("folder", FOLDERS)
def test_head_table_has_scores_of_the_record(folder):
    scores = load_csv(f"{folder}/scores.csv", "fairwashing.py", [])
    rows = scores[(scores["method"] == "grad") & (scores["attacker"] == "plain")]
    rows = rows[(rows["network"] == "student") & (rows["measure"] == "pcc")]
    line = table_fairwashing.fairwashing_head_table(folder).splitlines()[2]
    for reference in ("target", "teacher"):
        part = rows[rows["reference"] == reference].groupby("maps")["mean"].mean()
        assert f"{part['raw']:.2f} -> {part['projected']:.2f}" in line


@pytest.mark.parametrize("folder", TABLES)
@pytest.mark.parametrize("name", ["use", "shares", "defences"])
def test_tables_of_hidden_attributes(folder, name):
    lines = getattr(table_hidden, f"hidden_{name}_table")(folder).splitlines()
    scores = load_csv(f"{folder}/hidden.csv", "fairwashing.py", hidden.COLUMNS)
    methods = scores["method"].nunique()
    assert len(lines) == 2 + methods + (name != "defences")  # the teacher has a row of its own
    assert len({line.count(" | ") for line in lines}) == 1


@pytest.mark.parametrize("folder", TABLES)
def test_shares_are_those_of_the_record(folder):
    scores = load_csv(f"{folder}/hidden.csv", "fairwashing.py", hidden.COLUMNS)
    first = scores["method"].iloc[0]
    rows = scores[(scores["method"] == first) & (scores["network"] == "student")]
    means = rows[rows["measure"] == f"share: {first}"].groupby("attribute")["value"].mean()
    text = " / ".join(f"{100 * means[name]:.2f}" for name in ("sex", "race"))
    assert f"**{text}**" in table_hidden.hidden_shares_table(folder).splitlines()[3]


def test_verdicts():
    claim = table_fairwashing.Claim("", "", (), 0.5)
    below = table_fairwashing.Claim("", "", (), 0.5, above=False)
    for low, mean, high, text, opposite in (
        (0.5, 0.6, 0.7, "yes", "on average no"),
        (0.51, 0.6, 0.7, "yes", "no"),
        (0.3, 0.4, 0.49, "no", "yes"),
        (0.4, 0.55, 0.7, "on average yes", "on average no"),
        (0.4, 0.45, 0.7, "on average no", "on average yes"),
    ):
        row = {"min": low, "mean": mean, "max": high}
        assert table_fairwashing._verdict(row, claim) == text
        assert table_fairwashing._verdict(row, below) == opposite
