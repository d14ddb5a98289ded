"""Folders and tables that a data set must have, with messages that say what is missing."""

import os
import zlib

from common.settings import InputError

import pandas as pd

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")


def require_folder(data_dir, name, holds, drawing):
    """The path of the folder `name` in data_dir.

    Args:
        data_dir: the folder of all data.
        name: of the folder in it.
        holds: what data_dir should hold, for the message.
        drawing: what to draw instead, for the message: "portraits: python datasets.py".

    Raises:
        InputError: there is no such folder.
    """
    folder = os.path.join(data_dir, name)
    if not os.path.isdir(folder):
        raise InputError(
            f"{folder}: no such folder; DATA_DIR must be the folder that holds {holds}, as the "
            f"README shows. Or draw {drawing} --DRAW=toy"
        )
    return folder


def list_images(folder):
    """Names of the images in a folder, in no order; none if there is no such folder."""
    if not os.path.isdir(folder):
        return []
    return [name for name in os.listdir(folder) if name.lower().endswith(IMAGE_ENDINGS)]


def read_table(path, **options):
    """A file of a data set as a DataFrame; options as for pandas.read_csv. Raises InputError."""
    if not os.path.exists(path):
        raise InputError(f"{path} is missing; download it with the data set")
    try:
        return pd.read_csv(path, **options)
    except (ValueError, EOFError, zlib.error) as error:  # ValueError: of pandas' parser too
        raise InputError(f"{path} cannot be read ({error}); download it again") from None


def require_columns(path, table, columns):
    """Raise InputError unless the table that was read from `path` has these columns."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        needed = ", ".join(columns)
        raise InputError(f"{path}: no column {', '.join(missing)}; it needs {needed}")


def require_images(path, names, present, folder):
    """Raise InputError unless every row of a label file has an image, and only one row each.

    Args:
        path: of the label file.
        names: (n,) pandas Index or Series, the image that each row names.
        present: the names of the images that exist.
        folder: where they lie, for the message.
    """
    missing = [name for name in names if name not in present]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of {len(names)} rows have no image in {folder}, the first "
            f"{missing[0]}; add the images or take the rows out"
        )
    duplicates = list(names[pd.Index(names).duplicated()])
    if duplicates:
        raise InputError(f"{path}: two rows for {duplicates[0]}; keep one")
