"""Label files in all the forms in which they come."""

import codecs

from common import records
from common.settings import InputError

import pandas as pd
import pytest

from readers.tables import clean_names, match_values, read_table
from tests.damage import check_message

COLUMNS = ["file", "gender"]
ROWS = [("a.jpg", "Male"), ("b c.jpg", "Female"), ("d.jpg", "Male")]
PLAIN = "file,gender\n" + "".join(f"{file},{gender}\n" for file, gender in ROWS)


@pytest.fixture(autouse=True)
def notes(monkeypatch):
    monkeypatch.setattr(records, "NOTES", [])
    return records.NOTES


FORMS = {
    "commas": PLAIN.encode(),
    "semicolons": PLAIN.replace(",", ";").encode(),
    "tabs": PLAIN.replace(",", "\t").encode(),
    "bars": PLAIN.replace(",", "|").encode(),
    "blanks behind commas": PLAIN.replace(",", ", ").encode(),
    "separator declared": ("sep=;\n" + PLAIN.replace(",", ";")).encode(),
    "Windows lines": PLAIN.replace("\n", "\r\n").encode(),
    "old Mac lines": PLAIN.replace("\n", "\r").encode(),
    "blank lines": PLAIN.replace("\n", "\n\n").encode(),
    "no last line end": PLAIN.strip().encode(),
    "UTF-8 with a mark": codecs.BOM_UTF8 + PLAIN.encode(),
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16 big-endian": codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
    "UTF-32": PLAIN.encode("utf-32"),
    "capitals in names": PLAIN.replace("file,gender", "FILE, Gender ").encode(),
    "quotes": "".join(
        ",".join(f'"{field}"' for field in line.split(",")) + "\n" for line in PLAIN.split()
    )
    .replace('"b"\n"c.jpg"', '"b c.jpg"')
    .encode(),
    "columns in between": b"x,gender,y,file\n1,Male,2,a.jpg\n1,Female,2,b c.jpg\n1,Male,2,d.jpg\n",
    "index": b",file,gender\n0,a.jpg,Male\n1,b c.jpg,Female\n2,d.jpg,Male\n",
    "row names": b"file,gender\n0,a.jpg,Male\n1,b c.jpg,Female\n2,d.jpg,Male\n",
    "separator at the ends": b"file,gender\na.jpg,Male,\nb c.jpg,Female,\nd.jpg,Male,\n",
    "image as row name": b"other,gender\na.jpg,0,Male\nb c.jpg,0,Female\nd.jpg,0,Male\n",
    "index that is the image": b",gender\na.jpg,Male\nb c.jpg,Female\nd.jpg,Male\n",
    "length first": b"3\n" + PLAIN.encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_one_table(tmp_path, form):
    path = tmp_path / "labels.csv"
    path.write_bytes(FORMS[form])
    table = read_table(path, COLUMNS)
    assert list(table.columns) == COLUMNS
    assert list(table.itertuples(index=False, name=None)) == ROWS


@pytest.mark.parametrize("text", ["a.jpg 0\nb.jpg 2\n", "a.jpg,0\nb.jpg,2\n", "a.jpg\t0\nb.jpg\t2"])
def test_names_of_columns_may_be_missing_where_that_is_usual(tmp_path, text):
    path = tmp_path / "partition.txt"
    path.write_text(text)
    table = read_table(path, ["image_id", "partition"], headless=True)
    assert table.to_numpy().tolist() == [["a.jpg", "0"], ["b.jpg", "2"]]
    with pytest.raises(InputError, match="no column image_id, partition; it has 'a.jpg', '0'"):
        read_table(path, ["image_id", "partition"])


@pytest.mark.parametrize(
    "content, words",
    [
        (None, ["is missing"]),
        (b"", ["is empty"]),
        (b"\n \n", ["is empty"]),
        (b"file,gender\n", ["no rows"]),
        (b"name;sex\n1;2\n", ["no column file, gender", "'name', 'sex'", "needs file, gender"]),
        (b"file,sex\na,Male\n", ["no column gender", "'file', 'sex'"]),
        (b"<!DOCTYPE html>\n<html>\n", ["'<!DOCTYPE'"]),
        (b"file,gender,Gender\na,Male,Male\n", ["two columns gender"]),
        (b"file,gender\na,Male\nb,Male,x,y\n", ["cannot be read"]),
        (b'file,gender\n"a,Male\n', ["cannot be read"]),
        (b"file,gender\nf\xfcr.jpg,Male\n", ["0xfc in line 2", "UTF-8"]),
        ("file,gender\na,Male\n".encode("utf-16-le"), ["zero bytes", "UTF-8"]),
        (b"PK\x03\x04\xff\xfe", ["save it as UTF-8"]),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, content, words):
    path = tmp_path / "labels.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_table(path, COLUMNS)
    check_message(" ".join(str(error.value).split()), str(path), *words)


@pytest.mark.parametrize(
    "text, line",
    [
        ('file,gender\n"a,Male\n', '"a,Male'),
        ('file,gender\na,Male\n"b,Male\nc,"Female\nd,Male\n', '"b,Male'),  # no error of pandas
        ('file,gender\na,Male\nb,"Female\nc,Male\n', 'b,"Female'),
        ('file;gender\n"a";"Male\nb";"Male"\n', '"a";"Male'),
        ('file gender\na "Male\nb "Male\n', 'a "Male'),
        ('"file,gender\na,Male\n', '"file,gender'),
    ],
)
def test_a_quote_that_is_not_closed_is_shown(tmp_path, text, line):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_table(path, COLUMNS)
    check_message(str(error.value), f"a quote is not closed in the line {line})", "correct that")


def test_a_quote_within_a_field_is_no_harm(tmp_path):
    (tmp_path / "x.csv").write_text('file,gender\n5" pipe.jpg,Male\n"a ""b"".jpg",Female\n')
    table = read_table(tmp_path / "x.csv", COLUMNS)
    assert table["file"].tolist() == ['5" pipe.jpg', 'a "b".jpg']


AGES = ("20-29", "more than 70")
RACES = ("White", "Latino_Hispanic", "East Asian")


@pytest.mark.parametrize(
    "value, known, expected",
    [
        ("Male ", ("Female", "Male"), "Male"),
        ("\tmale", ("Female", "Male"), "Male"),
        ("FEMALE", ("Female", "Male"), "Female"),
        ("\xa0Female\u200b", ("Female", "Male"), "Female"),
        ("20 - 29", AGES, "20-29"),
        ("20\u201329", AGES, "20-29"),
        ("More  Than 70", AGES, "more than 70"),
        ("latino hispanic", RACES, "Latino_Hispanic"),
        ("East_Asian", RACES, "East Asian"),
    ],
)
def test_values_are_corrected_and_counted(notes, value, known, expected):
    column = pd.Series([known[0], value, known[0], value], name="kind")
    values = match_values("labels.csv", column, known)
    assert values.tolist() == [known[0], expected, known[0], expected]
    assert notes == [f"labels.csv: in column kind, corrected '{value}' 2 times"]


def test_good_values_are_not_spoken_of(notes):
    column = pd.Series(["Male", "Female"], name="gender")
    assert match_values("labels.csv", column, ("Female", "Male")).tolist() == ["Male", "Female"]
    assert notes == []


@pytest.mark.parametrize("value", ["M", "", "Mal", "femal e", "0", "nan", "Male/Female"])
def test_unknown_values_are_named_with_their_counts(value):
    column = pd.Series(["Male", value, "x", value, "Female"], name="gender")
    with pytest.raises(InputError) as error:
        match_values("labels.csv", column, ("Female", "Male"))
    words = ["labels.csv", "column gender", f"'{value}' 2 times", "'x' once", "Female, Male"]
    check_message(str(error.value), *words)


def test_names_of_images_are_cleaned():
    names = pd.Series([" a.jpg", "val\\b.jpg", "./val/c.jpg", "d e.jpg\t"])
    assert clean_names(names).tolist() == ["a.jpg", "val/b.jpg", "val/c.jpg", "d e.jpg"]
