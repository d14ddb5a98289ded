"""Records: written all together or not at all, and read with care."""

import json
import os
import pickle
import subprocess
import sys

from common import records, settings
from common.records import (
    load_csv,
    load_json,
    load_npz,
    lock_folder,
    provenance,
    replace_file,
    save,
)
from common.settings import InputError

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from tests.conftest import REPOSITORY
from tests.damage import JUNK, check_message, cut

TABLE = pd.DataFrame({"name": ["a", "b"], "value": [1 / 3, 2.0]})


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


# ----------------------------------------------------------------------------- writing


def test_a_file_is_replaced_when_the_block_succeeds(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with replace_file(str(path)) as temporary:
        assert temporary.endswith(".tmp.txt") and os.path.dirname(temporary) == str(path.parent)
        with open(temporary, "w") as file:
            file.write("new")
        assert not path.exists()
    assert path.read_text() == "new" and files_in(path.parent) == ["file.txt"]


def test_a_file_is_kept_when_the_block_fails(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("before")
    with pytest.raises(KeyError), replace_file(str(path)) as temporary:
        with open(temporary, "w") as file:
            file.write("half")
        raise KeyError
    assert path.read_text() == "before" and files_in(tmp_path) == ["file.txt"]


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError) as refusal, replace_file(str(tmp_path / "file" / "x.txt")):
        pass
    check_message(str(refusal.value), f"{tmp_path}/file/x.txt cannot be written", "free")
    message = "cannot be written .No space left on device."
    with pytest.raises(InputError, match=message), replace_file(str(tmp_path / "x.txt")):
        raise OSError(28, "No space left on device")


def test_every_kind_of_file(tmp_path):
    figure = Figure()
    figure.subplots().plot([1, 2])
    contents = {
        "x.json": {"a": [1, None]},
        "x.csv": TABLE,
        "x.npz": {"a": np.arange(3), "b": np.array("text")},
        "x.pkl": np.arange(2.0),
        "x.pth": {"weight": torch.ones(2)},
        "x.png": figure,
        "x.pdf": figure,
    }
    assert {os.path.splitext(name)[1] for name in contents} == set(records.WRITERS)
    save({str(tmp_path / name): content for name, content in contents.items()})
    assert files_in(tmp_path) == sorted(contents)
    assert (tmp_path / "x.json").read_text() == '{\n "a": [\n  1,\n  null\n ]\n}\n'
    assert (tmp_path / "x.csv").read_text() == "name,value\na,0.3333333\nb,2\n"
    assert np.load(tmp_path / "x.npz")["a"].tolist() == [0, 1, 2]
    assert pickle.loads((tmp_path / "x.pkl").read_bytes()).tolist() == [0, 1]
    assert torch.load(tmp_path / "x.pth")["weight"].tolist() == [1, 1]
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    before = (tmp_path / "x.pdf").read_bytes()
    save({str(tmp_path / "x.pdf"): figure})
    assert (tmp_path / "x.pdf").read_bytes() == before  # it holds no date


def test_all_or_none_is_replaced(tmp_path):
    paths = [tmp_path / name for name in ("first.json", "second.csv", "third.npz")]
    save(dict(zip(paths, ({"a": 1}, TABLE, {"a": np.ones(1)}))))
    before = [path.read_bytes() for path in paths]
    with pytest.raises(AttributeError):
        save(dict(zip(paths, ({"a": 2}, "no table", {"a": np.zeros(1)}))))
    assert [path.read_bytes() for path in paths] == before
    assert len(files_in(tmp_path)) == 3


def test_the_first_file_is_replaced_last(tmp_path, monkeypatch):
    """So a run that goes on from it finds all others new as well."""
    replaced, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: replaced.append(new) or replace(old, new))
    paths = [str(tmp_path / f"{number}.json") for number in range(3)]
    save(dict.fromkeys(paths, {}))
    assert replaced == paths[::-1]


# ----------------------------------------------------------------------------- reading

LOADERS = {
    "x.json": lambda path: load_json(path, "mab.py"),
    "x.npz": lambda path: load_npz(path, "mab.py"),
    "x.csv": lambda path: load_csv(path, "mab.py", ["name", "value"]),
}


@pytest.fixture(params=LOADERS)
def record(request, tmp_path):
    """(path, function that reads it) of each kind, written."""
    contents = {"x.json": {"a": 1}, "x.npz": {"a": np.arange(900)}, "x.csv": TABLE}
    path = tmp_path / request.param
    save({str(path): contents[request.param]})
    return path, lambda: LOADERS[request.param](str(path))


def test_what_was_written_is_read(record):
    path, load = record
    content = load()
    if path.suffix == ".csv":
        assert content["name"].tolist() == ["a", "b"]
        assert content["value"].tolist() == [0.3333333, 2]
    else:
        assert list(content) == ["a"]


def test_a_missing_record_names_its_maker(record):
    path, load = record
    path.unlink()
    with pytest.raises(InputError) as refusal:
        load()
    assert str(refusal.value) == (f"{path} is missing; run mab.py first, with the same RECORDS_DIR")


@pytest.mark.parametrize("damage", [cut, JUNK, lambda path: path.write_bytes(b"")])
def test_a_damaged_record_is_refused(record, damage):
    path, load = record
    if path.suffix == ".csv" and damage is cut:
        path.write_text("name,val")
    else:
        damage(path)
    with pytest.raises(InputError) as refusal:
        load()
    check_message(str(refusal.value), f"{path} is damaged (", "move it away and run mab.py again")


@pytest.mark.parametrize("text", ["[]", "3", "null"])
def test_json_that_is_no_object(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is damaged .no object."):
        load_json(str(path), "mab.py")


def test_a_table_without_a_column(tmp_path):
    path = str(tmp_path / "x.csv")
    save({path: TABLE})
    with pytest.raises(InputError, match="is damaged .no filter, layer."):
        load_csv(path, "mab.py", ["filter", "value", "layer"])


def test_nothing_is_unpickled(tmp_path):
    path = str(tmp_path / "x.npz")
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="x.npz is damaged"):
        load_npz(path, "mab.py")
    np.save(tmp_path / "x.npy", np.ones(2))
    os.rename(tmp_path / "x.npy", path)
    with pytest.raises(InputError, match="x.npz is damaged"):
        load_npz(path, "mab.py")


# ----------------------------------------------------------------------------- provenance


def test_provenance():
    record = provenance({"SEED": 3}, 12.345, "cpu")
    assert list(record) == [
        "constants",
        "seconds",
        "device",
        "commit",
        "notes",
        "peak_memory_gib",
        "versions",
    ]
    assert record["constants"] == {"SEED": 3} and record["seconds"] == 12.3
    assert record["device"] == "cpu" and 0.05 < record["peak_memory_gib"] < 64
    assert record["versions"]["numpy"] == np.__version__
    assert record["versions"]["torch"] == torch.__version__
    assert record["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    json.dumps(record)


def test_commit_is_that_of_the_repository():
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    git = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    records.commit.cache_clear()
    assert records.commit() == (git or "unknown")
    assert records.commit() is records.commit()


def test_commit_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    records.commit.cache_clear()
    assert records.commit() == "unknown"
    records.commit.cache_clear()


def test_records_are_read_without_torch_and_pandas():
    code = "import sys; from common import records; print({'torch', 'pandas'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.stdout.strip() == "set()", result.stderr


# ----------------------------------------------------------------------------- locks

HOLD = """
import sys, time
sys.argv[0] = "other.py"
from common.records import lock_folder
with lock_folder(*sys.argv[1:]):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold():
    """A function that starts a process which locks a folder; it is killed in the end."""
    processes = []

    def hold(folder, script=""):
        command = [sys.executable, "-c", HOLD, str(folder), script]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "locked\n"
        return process

    yield hold
    for process in processes:
        process.kill()
        process.communicate()


def test_a_locked_folder_names_who_has_it(tmp_path, hold):
    other = hold(tmp_path / "r")
    for _ in range(2):
        with pytest.raises(InputError) as refusal, lock_folder(str(tmp_path / "r")):
            pass
        words = [f"{tmp_path}/r is in use by other.py (process {other.pid} on ", "since "]
        check_message(str(refusal.value), *words, "give another --RECORDS_DIR")
    with lock_folder(str(tmp_path / "another")):
        pass


@pytest.mark.parametrize("own, other", [("eval", "mab"), ("mab", "train_squeeze"), ("mab", "")])
def test_another_script_may_run_in_the_same_folder(tmp_path, hold, own, other, monkeypatch):
    """It is named, in the record too, since what it has saved may not be its last."""
    monkeypatch.setattr(records, "NOTES", [])
    process = hold(tmp_path, other)
    with lock_folder(str(tmp_path), own):
        assert len(records.NOTES) == 1
        check_message(records.NOTES[0] + "; run", f"in use by other.py (process {process.pid} on ")
        assert "what it has saved so far is read" in records.NOTES[0]
        with pytest.raises(InputError, match="in use by"), lock_folder(str(tmp_path), own):
            pass
    with pytest.raises(InputError, match="in use by other.py"), lock_folder(str(tmp_path), other):
        pass


def test_another_script_that_died_is_not_named(tmp_path, hold, monkeypatch):
    monkeypatch.setattr(records, "NOTES", [])
    process = hold(tmp_path, "mab")
    process.kill()
    process.wait()
    with lock_folder(str(tmp_path), "eval"):
        assert records.NOTES == []
    with lock_folder(str(tmp_path), "mab"):  # looking has not taken it
        pass


@pytest.mark.parametrize("file, locks", [("x/mab.py", ".lock.mab"), ("eval.py", ".lock.eval")])
def test_a_script_s_lock_has_its_name(tmp_path, monkeypatch, file, locks):
    """tools.uniform runs with the globals of mab.py, and writes what mab.py writes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["any.py"])
    names = []
    namespace = {"RECORDS_DIR": "r", "__file__": file}
    settings.run(lambda: names.extend(files_in(tmp_path / "r")), namespace)
    assert names == [locks]


def test_the_lock_of_a_process_that_died_holds_nobody_up(tmp_path, hold):
    other = hold(tmp_path)
    other.kill()
    other.wait()
    assert (tmp_path / ".lock").exists()
    with lock_folder(str(tmp_path)):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("error", [None, InputError, KeyboardInterrupt])
def test_a_lock_leaves_nothing_behind(tmp_path, error):
    (tmp_path / "kept").mkdir()
    for name in ("kept", "new"):
        try:
            with lock_folder(str(tmp_path / name)):
                if error:
                    raise error
        except (InputError, KeyboardInterrupt) as raised:
            assert type(raised) is error
    assert files_in(tmp_path) == ["kept"] and files_in(tmp_path / "kept") == []


def test_a_lock_keeps_what_was_written(tmp_path):
    with lock_folder(str(tmp_path / "new")):
        save({str(tmp_path / "new/x.json"): {}})
        with pytest.raises(InputError, match="in use by"), lock_folder(str(tmp_path / "new")):
            pass
    assert files_in(tmp_path / "new") == ["x.json"]


@pytest.mark.parametrize("rank, locks", [(None, True), ("0", True), ("1", False), ("5", False)])
def test_of_torchrun_s_processes_the_first_one_locks(tmp_path, monkeypatch, rank, locks):
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mab.py"])
    seen = []
    settings.run(lambda: seen.append((tmp_path / "r/.lock").exists()), {"RECORDS_DIR": "r"})
    assert seen == [locks]


def test_a_script_without_a_folder_for_records_locks_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["datasets.py"])
    settings.run(lambda: None, {"DATA_DIR": "data"})
    assert files_in(tmp_path) == []
