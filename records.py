"""Records: read with care, written all together or not at all."""

import functools
import io
import json
import os
import pickle
import platform
import subprocess
import sys
import zipfile
from contextlib import ExitStack, contextmanager

import numpy as np

from settings import Stop


@contextmanager
def replacing(path):
    """Yield a temporary path beside `path`, which takes the place of `path` if all goes well. Raises Stop."""
    root, extension = os.path.splitext(path)
    temporary = f"{root}.{os.getpid()}.tmp{extension}"
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise Stop(f"{path} cannot be written ({error.strerror or error}); free some space, "
                   "or give a folder that can be written") from None
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def save(files):
    """Write {path: content}; none takes its place before all are written. Raises Stop.

    Content by extension: .json a dict, .csv a DataFrame, .npz a dict of arrays, .pkl an array (for readers
    of the original's file; nothing here reads it), .pth what torch.save takes, .png and .pdf a matplotlib Figure.
    """
    with ExitStack() as stack:
        # The stack leaves in reverse order, so that the first file is replaced last.
        for path, content in files.items():
            temporary = stack.enter_context(replacing(path))
            buffer = io.BytesIO()  # writers like torch's do not tell a full disk from a fault of their own
            _WRITERS[os.path.splitext(path)[1]](buffer, content)
            with open(temporary, "wb") as file:
                file.write(buffer.getbuffer())


def _save_torch(buffer, content):
    import torch

    torch.save(content, buffer)


_WRITERS = {
    ".json": lambda buffer, record: buffer.write((json.dumps(record, indent=1) + "\n").encode()),
    ".csv": lambda buffer, table: table.to_csv(buffer, index=False, float_format="%.7g"),
    ".npz": lambda buffer, arrays: np.savez(buffer, **arrays),
    ".pkl": lambda buffer, array: pickle.dump(array, buffer),
    ".pth": _save_torch,
    ".png": lambda buffer, figure: figure.savefig(buffer, format="png", dpi=150),
    ".pdf": lambda buffer, figure: figure.savefig(buffer, format="pdf", metadata={"CreationDate": None}),  # same figure, same bytes
}


def load_json(path, maker):
    """A record as a dict. `maker`: the script that writes it. Raises Stop."""
    _require(path, maker)
    try:
        with open(path) as file:
            record = json.load(file)
        if not isinstance(record, dict):
            raise ValueError("no object")
        return record
    except ValueError as error:
        raise Stop(f"{path} is damaged ({error}); move it away and run {maker} again") from None


def load_npz(path, maker):
    """A record as a dict of arrays; nothing is unpickled. Raises Stop."""
    _require(path, maker)
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, EOFError, TypeError, AttributeError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise Stop(f"{path} is damaged ({reason}); move it away and run {maker} again") from None


def load_csv(path, maker, columns):
    """A record as a DataFrame that has these columns at least. Raises Stop."""
    import pandas as pd

    _require(path, maker)
    try:
        table = pd.read_csv(path)
        if missing := [name for name in columns if name not in table]:
            raise ValueError(f"no {', '.join(missing)}")
        return table
    except ValueError as error:
        raise Stop(f"{path} is damaged ({error}); move it away and run {maker} again") from None


def about(constants, seconds, device):
    """What every <script>.json begins with: how the record came about."""
    versions = {name: sys.modules[name].__version__
                for name in ("torch", "torchvision", "numpy", "pandas", "PIL") if name in sys.modules}
    return {"constants": constants, "seconds": round(seconds, 1), "device": device, "commit": commit(),
            "peak_memory_gib": _peak_memory(device), "versions": {"python": platform.python_version(), **versions}}


def _peak_memory(device):
    """The most GiB that this process ever held: of the GPU's memory if it ran there; None where nothing tells."""
    if device.startswith("cuda"):
        return round(sys.modules["torch"].cuda.max_memory_allocated(device) / 2**30, 2)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 2)


def _require(path, maker):
    if not os.path.exists(path):
        raise Stop(f"{path} is missing; run {maker} first, with the same RECORDS_DIR")


@functools.cache
def commit():
    """The git commit of these scripts, "-dirty" if changed, as it was when first asked for; "unknown" without git."""
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        git = subprocess.run(["git", "-C", here, "describe", "--always", "--dirty"], capture_output=True, text=True)
    except FileNotFoundError:  # no git
        return "unknown"
    return git.stdout.strip() or "unknown"
