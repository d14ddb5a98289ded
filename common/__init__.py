"""What everything else builds on: constants from the command line, and records.

Importing this package sets one environment variable, before torch loads OpenMP (see SPIN_COUNT).
If one of this project's scripts imports it, Ctrl-C ends the script with one line while it loads.
"""

import os
import signal
import sys

# OpenMP threads that wait for each other spin. With other processes on the same cores this makes a
# round many times slower. A short spin costs nothing on an idle machine (measured, see
# docs/performance.md). Set GOMP_SPINCOUNT or OMP_WAIT_POLICY outside to override.
SPIN_COUNT = "10000"

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def end_while_loading(number, frame):
    """End at once, with status 130: an exception would pass through half-loaded libraries."""
    os.write(2, b"\nInterrupted while loading. Nothing was changed.\n")
    os._exit(130)


def _is_script(module):
    """Whether the running program is a script or a tool of this project."""
    path = os.path.abspath(getattr(module, "__file__", None) or ".")
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return os.path.dirname(path) in (root, os.path.join(root, "tools"))


# Until settings.run, which sets Python's own handler again. Whoever else imports this keeps theirs.
if _is_script(sys.modules["__main__"]) and signal.getsignal(signal.SIGINT) is (
    signal.default_int_handler
):
    signal.signal(signal.SIGINT, end_while_loading)
