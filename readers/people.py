"""Tables of people with a yes-or-no label, as they are released: UCI Adult and COMPAS."""

import os
from dataclasses import dataclass, replace

from common.settings import InputError, list_names

import numpy as np
import pandas as pd

from readers.files import read_csv, require_folder

ADULT_COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation"),
    *("relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week"),
    *("native-country", "income"),
)
ADULT_NUMBERS = (
    *("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"),
)
ADULT_LABELS = ("<=50K", ">50K")
ADULT_GROUPS = {"sex": ("Female", "Male"), "race": ("Black", "White")}

COMPAS_NUMBERS = (*("age", "juv_fel_count", "juv_misd_count", "juv_other_count", "priors_count"),)
COMPAS_LEVELS = ("c_charge_degree", "race", "sex")
COMPAS_GROUPS = {"sex": ("Female", "Male"), "race": ("African-American", "Caucasian")}
COMPAS_TEST_SHARE = 1 / 3  # of its rows, drawn once: it is released without a test set
ADULT_DRAWING = "a table: python datasets.py --TASK=adult"


@dataclass(frozen=True)
class Table:
    """Rows of a table, each a person, with a binary label.

    Attributes:
        attributes: tuple of A str.
        levels: {attribute: tuple of str} of those that are no numbers.
        values: (N, A) float64, numbers, or places in the attribute's levels.
        label: (N,) int64, 0 or 1.
        label_names: what the labels 0 and 1 are called.
        groups: {attribute: two of its levels}, the groups of people that are compared.
    """

    attributes: tuple[str, ...]
    levels: dict[str, tuple[str, ...]]
    values: np.ndarray
    label: np.ndarray
    label_names: tuple[str, str]
    groups: dict[str, tuple[str, str]]

    def take(self, rows):
        """The same table with some rows only. rows: (n,) int or (N,) bool."""
        return replace(self, values=self.values[rows], label=self.label[rows])

    def without(self, dropped):
        """The same table without some attributes. dropped: names, which need not exist."""
        kept = [name for name in self.attributes if name not in dropped]
        columns = [self.attributes.index(name) for name in kept]
        levels = {name: names for name, names in self.levels.items() if name in kept}
        values = self.values[:, columns]
        return replace(self, attributes=tuple(kept), levels=levels, values=values)

    def column(self, attribute):
        """The values of an attribute: (N,) float64."""
        return self.values[:, self.attributes.index(attribute)]

    def is_level(self, attribute, level):
        """Which rows have a level of an attribute: (N,) bool."""
        return self.column(attribute) == self.levels[attribute].index(level)


def make_table(frame, reference, numbers, label, label_names, groups):
    """A Table from a DataFrame.

    Args:
        frame: a row a person, columns the attributes.
        reference: DataFrame that names the levels: all that it has, in alphabetical order.
        numbers: names of the columns that are numbers.
        label: (N,) 0 or 1.
        label_names: as in Table.
        groups: as in Table.

    Raises:
        InputError: a level that the reference does not have.
    """
    columns, levels = [], {}
    for name in frame.columns:
        if name in numbers:
            columns.append(frame[name].to_numpy(float))
            continue
        levels[name] = tuple(sorted(reference[name].unique()))
        known = {level: place for place, level in enumerate(levels[name])}
        places = frame[name].map(known)
        if places.isna().any():
            unknown = frame[name][places.isna()].iloc[0]
            raise InputError(
                f"{name}: {unknown} is in the test rows but not in the training rows; a network "
                "has no input for it: take these rows out, or give other training rows"
            )
        columns.append(places.to_numpy(float))
    label = np.asarray(label, dtype=np.int64)
    attributes = tuple(frame.columns)
    return Table(attributes, levels, np.stack(columns, 1), label, label_names, groups)


def adult(data_dir, purpose):
    """UCI Adult: adult.data for "train", adult.test for "test", as a Table.

    Missing values ("?") are a level of their own. The label is 1 for an income above 50,000
    dollars. Raises InputError on missing or damaged files.
    """
    folder = require_folder(data_dir, "adult", "adult/", ADULT_DRAWING)
    train = _read_adult(os.path.join(folder, "adult.data"))
    frame = train
    if purpose == "test":
        frame = _read_adult(os.path.join(folder, "adult.test"))
    label = frame["income"] == ADULT_LABELS[1]
    rows, reference = frame.drop(columns="income"), train.drop(columns="income")
    return make_table(rows, reference, ADULT_NUMBERS, label, ADULT_LABELS, ADULT_GROUPS)


def _read_adult(path):
    """A file of UCI Adult as a DataFrame of its 15 columns. Raises InputError.

    adult.test begins with a line that is no row ("|1x3 Cross validator"), and its labels end in a
    full stop.
    """
    text = {name: str for name in ADULT_COLUMNS if name not in ADULT_NUMBERS}
    options = {"skipinitialspace": True, "comment": "|", "keep_default_na": False}
    frame = read_csv(path, header=None, names=ADULT_COLUMNS, dtype=text, **options)
    fix = "download it again from UCI"
    if not frame.index.equals(pd.RangeIndex(len(frame))):  # more fields than columns
        raise InputError(f"{path}: rows with more than {len(ADULT_COLUMNS)} fields; {fix}")
    income = frame["income"].astype(str).str.removesuffix(".")
    unknown = ~income.isin(ADULT_LABELS)
    if len(frame) == 0 or unknown.any():
        where = f"row {frame.index[unknown][0] + 1}" if len(frame) else "no rows"
        needed = f"{len(ADULT_COLUMNS)} fields in each row, the last {' or '.join(ADULT_LABELS)}"
        raise InputError(f"{path}: {where}; needed are {needed}; {fix}")
    for name in ADULT_NUMBERS:
        if frame[name].dtype.kind not in "if":
            raise InputError(f"{path}: {name} is not a number in every row; {fix}")
    return frame.assign(income=income)


def compas(data_dir, purpose):
    """ProPublica's COMPAS table as a Table: two thirds of its rows for "train", one for "test".

    Rows are filtered as ProPublica did, which leaves 6,172. The label is 1 for a new offence within
    two years. The COMPAS score itself is no input. Raises InputError on missing or damaged files.
    """
    holds = "compas/compas-scores-two-years.csv"
    folder = require_folder(data_dir, "compas", holds, ADULT_DRAWING)
    path = os.path.join(folder, "compas-scores-two-years.csv")
    frame = read_csv(path)
    filters = ("days_b_screening_arrest", "is_recid", "score_text", "two_year_recid")
    attributes = [*COMPAS_NUMBERS, *COMPAS_LEVELS]
    if missing := [name for name in (*attributes, *filters) if name not in frame.columns]:
        present = list_names(frame.columns, 8)
        raise InputError(f"{path}: no column {', '.join(missing)}; it has {present}")
    kept = frame["days_b_screening_arrest"].between(-30, 30) & (frame["is_recid"] != -1)
    kept &= (frame["c_charge_degree"] != "O") & (frame["score_text"] != "N/A")
    frame = frame[kept].reset_index(drop=True)
    if len(frame) < 2 or frame[attributes].isna().any(axis=None):
        raise InputError(f"{path}: too few rows, or rows with empty fields; download it again")
    order = np.random.default_rng(0).permutation(len(frame))
    n_test = round(COMPAS_TEST_SHARE * len(frame))
    rows = frame.iloc[np.sort(order[:n_test] if purpose == "test" else order[n_test:])]
    label, names = rows["two_year_recid"], ("no new offence", "new offence")
    reference = frame[attributes]
    return make_table(rows[attributes], reference, COMPAS_NUMBERS, label, names, COMPAS_GROUPS)
