"""Tables of the study of fairwashing from its records."""

import glob

from common.records import load_csv, save

import pandas as pd
import pytest

from readers.faces import GROUP_NAMES
from report import hidden
from report.fairwashing import COLUMNS, GROUP_COLUMNS
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


def write_faces(folder, mass, projected, celeba, agreement, black_women):
    """Records of a student on faces, one value a seed; its teacher is right on 90 % of each set."""
    scores, groups = [], []
    for seed in range(len(mass)):
        key = ("grad", "plain", seed)
        for maps, values in (("raw", mass), ("projected", projected)):
            scores.append((*key, "student", maps, "target", "mass", values[seed], 0, 1))
        for name in ("CelebA", "FairFace", *GROUP_NAMES):
            accuracy = {"CelebA": celeba, "black women": black_women}.get(name, [0.9] * 2)[seed]
            groups.append((*key, name, 50, "student", "accuracy", accuracy, 0, 1))
            groups.append((*key, name, 50, "teacher", "accuracy", 0.9, 0, 1))
            groups.append((*key, name, 50, "student", "agreement", agreement[seed], 0, 1))
    files = {f"{folder}/fairwashing.json": {}, f"{folder}/curves.csv": pd.DataFrame({"epoch": [1]})}
    files[f"{folder}/scores.csv"] = pd.DataFrame(scores, columns=COLUMNS)
    files[f"{folder}/groups.csv"] = pd.DataFrame(groups, columns=GROUP_COLUMNS)
    save(files)


def test_tables_on_faces_by_hand(tmp_path):
    folder = str(tmp_path / "faces")
    write_faces(folder, (0.5, 0.6), (0.04, 0.14), (0.89, 0.87), (0.96, 0.97), (0.92, 0.91))
    lines = table_fairwashing.fairwashing_faces_table(folder).splitlines()[2:]
    bars, *columns = ([line.strip("| ").split(" | ")[n] for line in lines] for n in (1, 2, 3))
    assert bars == ["at least 0.45", "at most 0.1", "at most 1.5", "at least 95", "at most 3"]
    assert list(zip(*columns)) == [
        ("0.55 (0.50 to 0.60)", "yes"),
        ("0.09 (0.04 to 0.14)", "on average yes"),
        ("2.0 (1.0 to 3.0)", "on average no"),
        ("96.5 (96.0 to 97.0)", "yes"),
        ("1.5 (1.0 to 2.0)", "yes"),
    ]
    table = table_fairwashing.fairwashing_groups_table(folder).splitlines()[2:]
    assert len(table) == 6
    cells = "| black women | 50 | 90.0 (90.0 to 90.0) | 91.5 (91.0 to 92.0) | -1.5 (-2.0 to -1.0) |"
    assert table[-1] == f"{cells} 96.5 (96.0 to 97.0) |"
