"""Tables and folders that a data set must have."""

from common.settings import InputError

import pandas as pd
import pytest

from readers.files import list_images, read_table, require_columns, require_folder, require_images
from tests.damage import check_message


def test_images_of_a_folder(tmp_path):
    for name in ("a.jpg", "b.JPEG", "c.png", "d.txt", "e.jpg.part"):
        (tmp_path / name).touch()
    assert sorted(list_images(tmp_path)) == ["a.jpg", "b.JPEG", "c.png"]
    assert list_images(tmp_path / "nowhere") == []


def test_a_missing_folder_says_what_to_do(tmp_path):
    with pytest.raises(InputError) as error:
        require_folder(tmp_path, "faces", "faces/", "faces: python draw.py")
    check_message(str(error.value), str(tmp_path / "faces"), "python draw.py --DRAW=toy")
    (tmp_path / "faces").mkdir()
    assert require_folder(tmp_path, "faces", "", "") == str(tmp_path / "faces")


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", b'a,b\n"c', b"a,b\n1,2\n1,2,3\n"])
def test_tables_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_table(path)
    check_message(" ".join(str(error.value).split()), str(path), "download it")


def test_columns_that_are_missing_are_named():
    table = pd.DataFrame({"file": [], "age": []})
    require_columns("labels.csv", table, ["file", "age"])
    with pytest.raises(InputError, match="labels.csv: no column race; it needs file, race"):
        require_columns("labels.csv", table, ["file", "race"])


def test_every_row_needs_its_image():
    names = pd.Series(["a", "b", "c"])
    require_images("labels.csv", names, {"a", "b", "c", "d"}, "folder")
    with pytest.raises(InputError, match="2 of 3 rows have no image in folder, the first b"):
        require_images("labels.csv", names, {"a"}, "folder")
    with pytest.raises(InputError, match="two rows for b; keep one"):
        require_images("labels.csv", pd.Series(["a", "b", "b"]), {"a", "b"}, "folder")
