"""Label files: tables of text whose separator, encoding and spelling differ."""

import codecs
import csv
import io
import os
import re
from collections import Counter

from common.records import note
from common.settings import InputError, list_names

import pandas as pd

from readers.pixels import IMAGE_ENDINGS

SEPARATORS = (",", ";", "\t", "|", r"\s+")  # the last: blanks, as in CelebA's own .txt files
MARKS = {  # byte order mark -> encoding; UTF-32's begins as UTF-16's, so it goes first
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
BLANKS = " \t\r\n\xa0\ufeff\u200b"  # no-break and zero-width ones too


def read_table(path, columns, headless=False):
    """The columns of a label file, as text.

    The separator is the one that shows most of the columns; their names may differ in case and in
    blanks around them. If rows begin with a field that has no name, and it is an image, it is the
    first of the columns.

    Args:
        path: of the file; UTF-8, or as its byte order mark says.
        columns: list of str.
        headless: bool, whether a file of these columns alone may come without their names.

    Returns:
        A DataFrame with these columns of str, as in the file.

    Raises:
        InputError: the file is missing or no such table.
    """
    text = _read_text(path)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = [line for line in lines if line.strip(BLANKS)]
    separators = SEPARATORS
    if lines and (declared := re.fullmatch(r'"?sep=(.)"?', lines[0].strip(BLANKS))):  # of Excel
        separators, lines = (declared[1],), lines[1:]
    if lines and lines[0].strip(BLANKS).isdigit():  # CelebA's own files begin with their length
        lines = lines[1:]
    if not lines:
        raise InputError(f"{path} is empty; download it again")
    _check_quotes(path, lines[:1])
    separator = max(separators, key=lambda separator: _score(lines[0], separator, columns))
    names = _split(lines[0], separator)
    rows = lines[1:]
    if headless and len(names) == len(columns) and _is_image(names[0]):
        names, rows = columns, lines
    table = _parse(path, rows, separator)
    unnamed = len(table.columns) == len(names) + 1
    if unnamed and len(rows):
        first_row = table.iloc[0].astype(str)
        trailing = first_row.iloc[-1].strip(BLANKS) == ""
        names = [*names, ""] if trailing else ["", *names]
    positions = _find_columns(path, names, table, columns)
    table = table[positions].astype(str)
    table.columns = columns
    return table


def match_values(path, column, known):
    """The values of a column in the spelling of `known`, a Series of str.

    Case, blanks and kinds of dashes do not matter. A note says what was corrected.

    Args:
        path: of the file, for messages.
        column: a Series of str.
        known: all values that the column may hold.

    Raises:
        InputError: there are others; it names them with their counts.
    """
    spelling = {_simplify(value): value for value in known}
    counts = column.value_counts()
    unknown = {value: n for value, n in counts.items() if _simplify(value) not in spelling}
    if unknown:
        raise InputError(
            f"{path}: the column {column.name} holds {_list_counts(unknown)}; it must hold only "
            f"{', '.join(known)}: correct these rows, or take them out"
        )
    corrected = {value: n for value, n in counts.items() if value not in known}
    if corrected:
        note(f"{path}: in column {column.name}, corrected {_list_counts(corrected)}")
    return column.map(lambda value: spelling[_simplify(value)])


def clean_names(column):
    """Names of images as the folders have them: no blanks around, slashes, no "./"; a Series."""
    names = column.str.strip(BLANKS).str.replace("\\", "/", regex=False)
    return names.str.replace(r"^(\./)+", "", regex=True)


def _list_counts(counts):
    """{value: n} as text, the most frequent first: "'male ' 12 times, '' once"."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return list_names(f"'{value}' {'once' if n == 1 else f'{n} times'}" for value, n in ordered)


def _simplify(value):
    value = re.sub(r"[\u2010-\u2015\u2212]", "-", value.strip(BLANKS).casefold())
    value = re.sub(r"\s*-\s*", "-", value)
    return re.sub(r"[\s_]+", " ", value)


def _read_text(path):
    """All of a text file. Raises InputError."""
    if not os.path.exists(path):
        raise InputError(f"{path} is missing; download it with the data set")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a file that can be read") from None
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        reason = f"byte {error.object[error.start]:#x} in line {line} is not {encoding}"
        raise InputError(f"{path} cannot be read ({reason}); save it as UTF-8 text") from None
    if "\0" in text:
        reason = "there are zero bytes in it, as in UTF-16 or in files that are no text"
        raise InputError(f"{path} cannot be read ({reason}); save it as UTF-8 text")
    return text


def _split(line, separator):
    """The fields of a line, without blanks around them."""
    if separator == r"\s+":
        return line.split()
    fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    return [field.strip(BLANKS) for field in fields]


def _score(line, separator, columns):
    """How well a separator suits the line of names: columns that it shows, then fields."""
    try:
        fields = [field.casefold() for field in _split(line, separator)]
    except csv.Error:
        return (-1, 0)
    shown = sum(column.casefold() in fields for column in columns)
    return (shown, len(fields) == len(columns), separator != r"\s+")


def _parse(path, rows, separator):
    """Rows of text as a DataFrame whose columns are numbered. Raises InputError."""
    if not rows:
        return pd.DataFrame()
    try:
        table = pd.read_csv(
            io.StringIO("\n".join(rows)),
            sep=separator,
            header=None,
            dtype=str,
            na_filter=False,
            skipinitialspace=separator != r"\s+",
        )
    except ValueError as error:  # of pandas' parser too
        _check_quotes(path, rows)
        raise InputError(f"{path} cannot be read ({error}); download it again") from None
    if len(table) != len(rows):  # a field in quotes goes on in the next line
        _check_quotes(path, rows)
    return table


def _check_quotes(path, rows):
    """Raise InputError if a quote that is not closed in its row."""
    for row in rows:
        if row.count('"') % 2:
            raise InputError(
                f"{path} cannot be read (a quote is not closed in the line {row.strip()[:60]}); "
                "correct that line, or take it out"
            )


def _is_image(field):
    return field.strip(BLANKS).lower().endswith(IMAGE_ENDINGS)


def _find_columns(path, names, table, columns):
    """The positions of the columns among the names. Raises InputError."""
    folded = [name.casefold() for name in names]
    names_images = names[0] == "" and len(table) > 0 and _is_image(str(table.iloc[0, 0]))
    if names_images and columns[0].casefold() not in folded:
        folded[0] = columns[0].casefold()
    counts = Counter(folded)
    missing = [column for column in columns if not counts[column.casefold()]]
    listed = list_names((f"'{name}'" for name in names), 8)
    needed = ", ".join(columns)
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(missing)}; it has {listed}, it needs {needed}"
        )
    doubled = [column for column in columns if counts[column.casefold()] > 1]
    if doubled:
        raise InputError(f"{path}: two columns {doubled[0]}; it has {listed}; keep one")
    if not len(table):
        raise InputError(f"{path}: no rows below the names of the columns; download it again")
    return [folded.index(column.casefold()) for column in columns]
