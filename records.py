"""Records: read with care, written whole or not at all.

`python records.py` rewrites the README's tables from the records; a test fails when they differ.
"""

import json
import os
import pickle
import platform
import subprocess
import sys
import zipfile
from contextlib import contextmanager

import numpy as np

from settings import Stop


@contextmanager
def replacing(path):
    """Yield a temporary path beside `path`; it takes the place of `path` only when all went well."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    root, extension = os.path.splitext(path)
    temporary = f"{root}.{os.getpid()}.tmp{extension}"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def save_json(path, record):
    with replacing(path) as temporary, open(temporary, "w") as file:
        json.dump(record, file, indent=1)
        file.write("\n")


def save_npz(path, **arrays):
    with replacing(path) as temporary:
        np.savez(temporary, **arrays)


def save_csv(path, table):
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def save_pickle(path, array):
    """For readers of the original's file. Nothing here reads a pickle."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        pickle.dump(array, file)


def load_json(path, maker):
    """A record as a dict. `maker` is the script that writes it, named if it is missing. Raises Stop."""
    _require(path, maker)
    try:
        with open(path) as file:
            return json.load(file)
    except ValueError as error:
        raise Stop(f"{path} is damaged ({error}); delete it and run {maker} again") from None


def load_npz(path, maker):
    """A record as a dict of arrays. Raises Stop on a missing, truncated or pickled file."""
    _require(path, maker)
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Stop(f"{path} is damaged ({reason}); delete it and run {maker} again") from None


def about(constants, seconds, device):
    """What a <script>.json begins with: how the record came about."""
    versions = {name: sys.modules[name].__version__
                for name in ("torch", "torchvision", "numpy", "pandas", "PIL") if name in sys.modules}
    return {"constants": constants, "seconds": round(seconds, 1), "device": device, "commit": _commit(),
            "versions": {"python": platform.python_version(), **versions}}


def _require(path, maker):
    if not os.path.exists(path):
        raise Stop(f"{path} is missing; run {maker} first, with the same RECORDS_DIR")


def _commit():
    here = os.path.dirname(os.path.abspath(__file__))
    git = subprocess.run(["git", "-C", here, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return git.stdout.strip() or "unknown"
