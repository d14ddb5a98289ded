"""Sentences with labels: SST-2 as tables of tab-separated text."""

import csv
import os

from common.settings import InputError, list_names

from readers.files import read_csv, require_folder

FILES = {"train": "train.tsv", "val": "dev.tsv", "test": "test.tsv"}
COLUMNS = ["sentence", "label"]


def sst2(data_dir, split):
    """The Stanford Sentiment Treebank with two classes: sentences and labels.

    Args:
        data_dir: the folder that holds sst2/{train,dev,test}.tsv.
        split: "train", "val" or "test".

    Returns:
        list of N sentences, each a list of words in lower case, and (N,) int64 array, 1: positive.

    Raises:
        InputError: a file is missing or damaged.
    """
    folder = require_folder(data_dir, "sst2", "sst2/")
    path = os.path.join(folder, FILES[split])
    options = {"sep": "\t", "quoting": csv.QUOTE_NONE, "dtype": str, "keep_default_na": False}
    table = read_csv(path, **options)
    present = list(table.columns)
    if present != COLUMNS or not len(table) or not table["label"].isin(["0", "1"]).all():
        raise InputError(
            f"{path}: columns {list_names(present, 4)}, {len(table)} rows; it must hold a sentence "
            "and a label of 0 or 1 in each row, below the names of the columns; download it again"
        )
    words = [sentence.lower().split() for sentence in table["sentence"]]
    return words, table["label"].to_numpy().astype("int64")
