"""Tables of CDEP say what the records say."""

import pandas as pd
import pytest

from tests.conftest import REPOSITORY
from tools import table_cdep

FOLDER = REPOSITORY / "cur_records/cdep"
FOLDERS = sorted(str(path.parent) for path in FOLDER.glob("*/cdep.json"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_tables_have_as_many_cells_as_headings(folder):
    for table in (table_cdep.cdep_table, table_cdep.cdep_explained_table):
        assert len({line.count("|") for line in table(folder).splitlines()}) == 1


@pytest.mark.parametrize("folder", FOLDERS)
def test_means_are_those_of_the_record(folder):
    record = table_cdep.load_cdep(folder)
    assert record["reported"] == "test" and len({row["seed"] for row in record["results"]}) >= 5
    results, measure = pd.DataFrame(record["results"]), "same"
    for name, part in results.groupby("method"):
        mean = f"{100 * part[measure].mean():.1f} "
        assert table_cdep.mean_text(folder, name, measure).startswith(mean)
        assert mean in table_cdep.cdep_table(folder)
    assert table_cdep.mean_text(folder, "no such method", measure) == "-"


def test_the_head_has_a_row_for_each_record():
    lines = table_cdep.cdep_head_table(str(FOLDER)).splitlines()
    assert len(lines) == 2 + len(FOLDERS)
    compas = next(line for line in lines if "COMPAS" in line)
    assert table_cdep.mean_text(f"{FOLDER}/compas", "cdep", "flips") in compas


def test_claims_name_what_came_out():
    table = table_cdep.cdep_claims_table(str(FOLDER))
    for folder, measure in (("decoy_mlp", "inverted"), ("compas", "gap"), ("compas", "same")):
        assert table_cdep.mean_text(f"{FOLDER}/{folder}", "cdep", measure) in table
    assert table_cdep.cdep_result(str(FOLDER)).count("%") == 2


def test_verdicts(monkeypatch):
    rows = {"vanilla": (0.1, 0.05, 0.15), "cdep": (0.3, 0.2, 0.4), "erased": (0.305, 0.3, 0.31)}

    def reported(folder, method, measure):
        return dict(zip(("mean", "ci_low", "ci_high"), rows[method]))

    monkeypatch.setattr(table_cdep, "reported", reported)
    assert table_cdep._verdict("", "cdep", "inverted") == "yes"
    assert table_cdep._ceiling_verdict("", "cdep") == "yes"
    assert table_cdep._gap_verdict("") == "no: the intervals overlap"
    rows["cdep"] = (0.12, 0.1, 0.14)
    assert table_cdep._verdict("", "cdep", "inverted") == "no"
    assert "18 points below" in table_cdep._ceiling_verdict("", "cdep")
    rows["cdep"] = (0.02, 0.01, 0.03)
    assert table_cdep._gap_verdict("") == "yes"
