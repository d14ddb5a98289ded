"""What everything else builds on: constants from the command line, and records.

Importing this package sets one environment variable, before torch loads OpenMP (see SPIN_COUNT).
"""

import os

# OpenMP threads that wait for each other spin. With other processes on the same cores this makes a
# round up to 26 times slower. GNU OpenMP spins 300,000 times by default where threads have a core
# each; docs/performance.md has what a shorter spin costs and gains. Set GOMP_SPINCOUNT or
# OMP_WAIT_POLICY outside to override.
SPIN_COUNT = "10000"

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
