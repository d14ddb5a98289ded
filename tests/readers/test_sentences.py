"""Sentences with labels, and files that are none."""

from common.settings import InputError

import pytest

from readers.sentences import sst2


def write(folder, text, name="train.tsv"):
    (folder / "sst2").mkdir(exist_ok=True)
    (folder / "sst2" / name).write_text(text)


def test_quotes_and_missing_values_are_words(tmp_path):
    write(tmp_path, 'sentence\tlabel\nA " film , NA\t1\nnull\t0\n')
    words, label = sst2(str(tmp_path), "train")
    assert words == [["a", '"', "film", ",", "na"], ["null"]] and label.tolist() == [1, 0]


@pytest.mark.parametrize(
    "text", ["sentence\tlabel\n", "sentence,label\na,1\n", "sentence\tlabel\na\t2\n"]
)
def test_other_files_are_refused(tmp_path, text):
    write(tmp_path, text)
    with pytest.raises(InputError, match="names of the columns; download it again"):
        sst2(str(tmp_path), "train")


def test_missing_files(tmp_path):
    with pytest.raises(InputError, match="sst2"):
        sst2(str(tmp_path), "train")
    write(tmp_path, "sentence\tlabel\na\t1\n")
    with pytest.raises(InputError, match="dev.tsv is missing"):
        sst2(str(tmp_path), "val")
