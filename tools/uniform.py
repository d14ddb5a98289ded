"""mab.py without its bandit: every filter is sampled until the whole set is decided.

    python -m tools.uniform --RECORDS_DIR=records/uniform

It shows what the bandit saves. All constants are mab.py's, and so are the files it writes; the
record says that sampling was uniform, and neither program goes on with a record of the other.
"""

from common import settings

import mab
from shapley.estimate import update_values


class UniformSearch(mab.Search):
    """The search of mab.py, with all filters active and none sampled more often than others."""

    def on_round(self, state):
        """As mab.Search, before which all that a look has changed is undone, unless it decides."""
        if not state.decided:
            state.active[:], state.close[:], state.plain[:] = True, False, False
            update_values(state)
        super().on_round(state)


def main():
    """Run mab.py with this search."""
    run_settings = mab.run_settings
    mab.Search = UniformSearch
    mab.run_settings = lambda game, data: run_settings(game, data) | {"UNIFORM": True}
    mab.main()


if __name__ == "__main__":
    settings.run(main, vars(mab), earlier=("train_squeeze.py", "mab.py"), resumes="mab.npz")
