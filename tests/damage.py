"""Ways to damage a file, and what a message about bad input must be like."""

import re
import shutil

import numpy as np

# A message says what to do: it has one of these words.
REMEDY = re.compile(
    r"\b(add|be|choose|delete|download|draw|free|give|hold|keep|lists|look|move|needs?|put|replace|"
    r"run|set|take|unpack)\b",
    re.IGNORECASE,
)
BAR = re.compile(r"\d+%\|.*\]\s*$|\d+ \w+ \[.*\]\s*$")  # a whole line by tqdm


def check_message(message, *words):
    """One line that holds all the words and a remedy, and neither a bar nor a traceback."""
    assert not re.search(r"\n|\d%\||Traceback", message), message
    assert [word for word in words if word not in message] == [], message
    assert REMEDY.search(message), message


def check_stopped(status, stderr, *words):
    """Exit status 2, and one line on stderr (besides progress bars) as in check_message."""
    lines = re.split("[\r\n]+", stderr)
    lines = [line for line in lines if line.strip() and not BAR.search(line)]
    assert status == 2 and len(lines) == 1, stderr
    check_message(lines[0], *words)


def edit(old, new):
    """A function of a path that replaces a pattern in the file."""
    return lambda path: path.write_text(re.sub(old, new, path.read_text()))


def write(content):
    """A function of a path that writes bytes there."""
    return lambda path: path.write_bytes(content)


def remove(path):
    """Delete a file or folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def empty(path):
    """Replace a folder by an empty one."""
    shutil.rmtree(path)
    path.mkdir()


def cut(path):
    """Keep only the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


JUNK = write(np.random.default_rng(0).bytes(3000))
