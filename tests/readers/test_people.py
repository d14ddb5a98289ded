"""UCI Adult and COMPAS as tables, small ones written here and the real ones."""

from common.settings import InputError

import numpy as np
import pytest

from readers.people import adult, compas

ROW = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, ?, Husband, White, Male, 2174, 0, 40, Cuba"
)
OTHER = "50, Private, 83311, 9th, 5, Divorced, Sales, Wife, Black, Female, 0, 0, 13, ?"
COMPAS_HEADER = (
    "age,juv_fel_count,juv_misd_count,juv_other_count,priors_count,c_charge_degree,race,sex,"
    "days_b_screening_arrest,is_recid,score_text,two_year_recid"
)


def write_adult(folder, train=f"{ROW}, <=50K\n{OTHER}, >50K\n\n", test=f"|1x3\n{OTHER}, >50K.\n"):
    (folder / "adult").mkdir()
    (folder / "adult/adult.data").write_text(train)
    (folder / "adult/adult.test").write_text(test)
    return str(folder)


def test_adult_as_uci_ships_it(tmp_path):
    data_dir = write_adult(tmp_path)
    train, test = adult(data_dir, "train"), adult(data_dir, "test")
    assert train.label.tolist() == [0, 1] and test.label.tolist() == [1]
    assert train.values.shape == (2, 14) and len(train.levels) == 8
    assert train.levels["occupation"] == ("?", "Sales")  # missing is a level
    assert train.levels == test.levels
    assert train.column("age").tolist() == [39, 50]
    assert train.is_level("sex", "Female").tolist() == [False, True]
    np.testing.assert_array_equal(test.values[0], train.values[1])


def test_a_table_without_attributes(tmp_path):
    table = adult(write_adult(tmp_path), "train")
    smaller = table.without(("sex", "age"))
    assert "sex" not in smaller.attributes + tuple(smaller.levels) and smaller.values.shape == (
        2,
        12,
    )
    np.testing.assert_array_equal(smaller.column("race"), table.column("race"))
    assert table.take([1]).label.tolist() == [1]


@pytest.mark.parametrize(
    "train, words",
    [
        ("", "adult.data"),
        (f"{ROW}, rich\n", "row 1"),
        (f"{ROW}, <=50K\n{OTHER}\n", "row 2"),
        (f"{ROW}, <=50K, more\n", "fields"),
        (f"x{ROW}, <=50K\n", "age"),
    ],
)
def test_damaged_adult(tmp_path, train, words):
    with pytest.raises(InputError, match=words):
        adult(write_adult(tmp_path, train=train), "train")


def test_a_level_that_training_rows_lack(tmp_path):
    data_dir = write_adult(tmp_path, test=OTHER.replace("Sales", "Spy") + ", >50K.\n")
    with pytest.raises(InputError, match="Spy"):
        adult(data_dir, "test")


@pytest.mark.parametrize("reader", [adult, compas])
def test_no_table(tmp_path, reader):
    with pytest.raises(InputError, match="no such folder"):
        reader(str(tmp_path), "train")


def test_compas_is_filtered_as_propublica_did(tmp_path):
    kept = "30,0,0,1,2,F,Caucasian,Male,-1,0,Low,1\n"
    dropped = [kept.replace(",-1,0,", ",31,0,"), kept.replace(",0,Low", ",-1,Low")]
    dropped += [kept.replace(",F,", ",O,"), kept.replace(",-1,0,", ",,0,")]
    (tmp_path / "compas").mkdir()
    text = f"{COMPAS_HEADER}\n" + kept * 6 + "".join(dropped)
    (tmp_path / "compas/compas-scores-two-years.csv").write_text(text)
    train, test = compas(str(tmp_path), "train"), compas(str(tmp_path), "test")
    assert (len(train.label), len(test.label)) == (4, 2) and train.label.all()
    assert train.attributes[4] == "priors_count" and set(train.column("priors_count")) == {2}


def test_compas_needs_its_columns(tmp_path):
    (tmp_path / "compas").mkdir()
    (tmp_path / "compas/compas-scores-two-years.csv").write_text("age,sex\n1,Male\n")
    with pytest.raises(InputError, match="priors_count"):
        compas(str(tmp_path), "train")
