"""What everything else builds on: constants from the command line, and records.

Importing this package sets one environment variable, before torch loads OpenMP (see SPIN_COUNT).
"""

import os

# OpenMP threads that wait for each other spin. With other processes on the same cores this makes a
# round many times slower. A short spin costs nothing on an idle machine (measured, see
# docs/performance.md). Set GOMP_SPINCOUNT or OMP_WAIT_POLICY outside to override.
SPIN_COUNT = "10000"

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
