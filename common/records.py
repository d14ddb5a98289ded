"""Records: read with care, written all together or not at all."""

import functools
import io
import json
import os
import pickle
import platform
import subprocess
import sys
import time
import zipfile
from contextlib import ExitStack, contextmanager, suppress

from common.settings import InputError

import numpy as np


@contextmanager
def replace_file(path):
    """Yield a temporary path beside `path`, which replaces `path` if the block succeeds.

    Raises:
        InputError: the file cannot be written.
    """
    root, extension = os.path.splitext(path)
    temporary = f"{root}.{os.getpid()}.tmp{extension}"
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        fix = "free some space, or give a folder that can be written"
        reason = error.strerror or error
        raise InputError(f"{path} cannot be written ({reason}); {fix}") from None
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


@contextmanager
def lock_folder(folder, script=""):
    """Keep a script's other processes out of a folder for records, until the block ends.

    Other scripts may run there: each writes files of its own, which replace older ones as a whole.
    A note says which do. The locks are the operating system's, so that of a process that died holds
    nobody up.

    Args:
        folder: str.
        script: str, the script's name without its ending.

    Raises:
        InputError: another process has it, which the message names; or there is no such folder and
            none can be made.
    """
    existed, path = os.path.isdir(folder), os.path.join(folder, f"{LOCK}.{script}".rstrip("."))
    if os.path.exists(folder) and not existed:
        raise InputError(
            f"--RECORDS_DIR={folder}: is a file; give a folder, or a name for a new one"
        )
    try:
        os.makedirs(folder, exist_ok=True)
        lock = _take_lock(path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"--RECORDS_DIR={folder}: nothing can be written there ({reason}); give another folder"
        ) from None
    if lock is None:
        raise InputError(
            f"{folder} is in use by {_read_holder(path)}; wait until it ends, or give another "
            "--RECORDS_DIR"
        )
    try:
        _note_other_scripts(folder, path)
        yield
    finally:
        with suppress(OSError):  # whoever has opened the file already looks again
            os.remove(path)
        lock.lock.release()
        if not existed:
            with suppress(OSError):  # it is not empty
                os.rmdir(folder)


LOCK = ".lock"  # how the names of lock files begin


def _take_lock(path):
    """The lock of a file, which then says who has it; None if another process has it."""
    import filelock  # here, so that reading records does not need it

    program, host, now = os.path.basename(sys.argv[0]), platform.node(), time.strftime("%H:%M")
    holder = f"{program} (process {os.getpid()} on {host}, since {now})"

    def write_holder(file):
        os.ftruncate(file, 0)
        os.write(file, holder.encode())

    try:
        # Not at once: another script may be looking whether the lock is taken.
        return filelock.FileLock(path, timeout=0.2, on_acquired=write_holder).acquire()
    except filelock.Timeout:
        return None


def _read_holder(path):
    with open(path) as file:
        return file.read() or "another process"


def _note_other_scripts(folder, own):
    """Say which other scripts run in a folder: what they have written may not be their last."""
    import filelock

    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if not name.startswith(LOCK) or path == own:
            continue
        try:
            filelock.FileLock(path, timeout=0).acquire().lock.release()  # a process that died
        except filelock.Timeout:
            holder = _read_holder(path)
            note(f"{folder} is in use by {holder}: what it has saved so far is read")
        except OSError:  # it has ended
            continue


def save(files):
    """Write {path: content}; no file is replaced before all are written.

    Args:
        files: content by path. The extension says what the content is: .json a dict, .csv a
            DataFrame, .npz a dict of arrays, .pkl an array (for readers of the original's file;
            nothing here reads it), .pth what torch.save takes, .png and .pdf a matplotlib Figure.

    Raises:
        InputError: a file cannot be written.
    """
    with ExitStack() as stack:
        # The stack unwinds in reverse order, so the first file is replaced last.
        for path, content in files.items():
            temporary = stack.enter_context(replace_file(path))
            buffer = io.BytesIO()  # torch.save reports a full disk as an internal error
            WRITERS[os.path.splitext(path)[1]](buffer, content)
            with open(temporary, "wb") as file:
                file.write(buffer.getbuffer())


def _write_json(buffer, record):
    buffer.write((json.dumps(record, indent=1) + "\n").encode())


def _write_csv(buffer, table):
    table.to_csv(buffer, index=False, float_format="%.7g")


def _write_npz(buffer, arrays):
    np.savez(buffer, **arrays)


def _write_pickle(buffer, array):
    pickle.dump(array, buffer)


def _write_torch(buffer, content):
    import torch  # here, so that reading records does not need torch

    torch.save(content, buffer)


def _write_png(buffer, figure):
    figure.savefig(buffer, format="png", dpi=150)


def _write_pdf(buffer, figure):  # without a date, the same figure gives the same bytes
    figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})


WRITERS = {
    ".json": _write_json,
    ".csv": _write_csv,
    ".npz": _write_npz,
    ".pkl": _write_pickle,
    ".pth": _write_torch,
    ".png": _write_png,
    ".pdf": _write_pdf,
}


def load_json(path, maker):
    """A record as a dict. `maker` is the script that writes it. Raises InputError."""
    _require_file(path, maker)
    try:
        with open(path) as file:
            record = json.load(file)
        if not isinstance(record, dict):
            raise ValueError("no object")
        return record
    except ValueError as error:
        raise _damaged(path, error, maker) from None


def load_npz(path, maker):
    """A record as a dict of arrays; nothing is unpickled. Raises InputError."""
    _require_file(path, maker)
    damage = (ValueError, EOFError, TypeError, AttributeError, KeyError, zipfile.BadZipFile)
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except damage as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise _damaged(path, reason, maker) from None


def load_csv(path, maker, columns):
    """A record as a DataFrame that has at least these columns. Raises InputError."""
    import pandas as pd  # here, so that `import mab` stays fast

    _require_file(path, maker)
    try:
        table = pd.read_csv(path)
        if missing := [name for name in columns if name not in table]:
            raise ValueError(f"no {', '.join(missing)}")
        return table
    except ValueError as error:
        raise _damaged(path, error, maker) from None


def _require_file(path, maker):
    if not os.path.exists(path):
        raise InputError(f"{path} is missing; run {maker} first, with the same RECORDS_DIR")


def _damaged(path, reason, maker):
    return InputError(f"{path} is damaged ({reason}); move it away and run {maker} again")


NOTES = []  # what this process has noted, for its record


def note(line):
    """Print one line, once, and keep it for the record: what was left out, corrected or guessed."""
    if line in NOTES:
        return
    NOTES.append(line)
    if os.environ.get("RANK", "0") == "0":  # torchrun's other processes say the same
        print(line)


def provenance(constants, seconds, device):
    """What every <script>.json begins with: how the record came about.

    Args:
        constants: the script's constants by name.
        seconds: float, how long it took.
        device: str, such as "cpu" or "cuda:0".
    """
    packages = ("torch", "torchvision", "numpy", "pandas", "PIL")
    versions = {name: sys.modules[name].__version__ for name in packages if name in sys.modules}
    return {
        "constants": constants,
        "seconds": round(seconds, 1),
        "device": device,
        "commit": commit(),
        "notes": list(NOTES),
        "peak_memory_gib": _peak_memory(device),
        "versions": {"python": platform.python_version(), **versions},
    }


def _peak_memory(device):
    """Peak memory of this process in GiB: of the GPU if it ran there; None if unknown."""
    if device.startswith("cuda"):
        return round(sys.modules["torch"].cuda.max_memory_allocated(device) / 2**30, 2)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 2)


@functools.cache
def commit():
    """The git commit of these scripts when first called; "-dirty" if changed, or "unknown"."""
    command = ["git", "-C", os.path.dirname(os.path.abspath(__file__)), "describe"]
    try:
        git = subprocess.run([*command, "--always", "--dirty"], capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return git.stdout.strip() or "unknown"
