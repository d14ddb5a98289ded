"""The record of mab.py: mab.npz, filters.csv, race.csv, shapley_values.pkl and mab.json.

mab.py writes it and resumes from it; eval.py, rivals.py and features.py read it. Needs no torch.
"""

import json
import os
from dataclasses import dataclass, fields

from common import records
from common.settings import InputError, require

import numpy as np

from shapley import Estimate
from shapley.estimate import (
    clipped_share,
    largest_shift,
    reliability,
    standard_errors,
    truncated_share,
    value_parts,
)
from shapley.intervals import BOUNDS, FORECASTS, rounds_to_decide
from shapley.samplers import SAMPLERS

TOTALS = ("rounds", "evaluations", "guesses")
RACE = ("rounds", "evaluations", "active", "certified", "ruled_out")  # columns of race.csv
RUN_CONSTANTS = {  # constants of mab.py that a resumed run must share
    "ARCH",
    "IMAGE_SIZE",
    "FAIRFACE_FRAME",
    "SEED",
    "TOP_K",
    "MEASURE",
    "REMOVAL",
    "IMAGES_PER_ROUND",
    "BY_MARGIN",
    "TRUNCATION",
    "DEEPEST",
    "SAMPLER",
    "SINGLES",
    "BOUND",
    "CLIP",
    "DELTA",
    "EPS",
    "LOOK_EVERY",
}

# ----------------------------------------------------------------------------- stages


@dataclass
class Stages:
    """A run of mab.py: the present stage, and what earlier stages removed.

    With STAGES = 1 there is one stage. Else each further stage removes the filter of the lowest
    value for good, and estimates the values of what remains.
    """

    state: Estimate | None = None  # of the present stage
    removed: tuple = ()  # filters that earlier stages removed, in order
    lowest: tuple = ()  # their values at that time
    rounds: int = 0  # of earlier stages, as the next two
    evaluations: int = 0
    guesses: int = 0

    @property
    def number(self):
        """The present stage, from 0."""
        return len(self.removed)

    def total(self, name):
        """Rounds, evaluations or guesses of all stages."""
        return getattr(self, name) + (getattr(self.state, name) if self.state else 0)

    def remaining(self, n_filters):
        """(n_filters,) bool: which filters no stage removed."""
        return ~np.isin(np.arange(n_filters), self.removed)

    def values(self):
        """(n_filters,) float64: each filter's latest value; of a removed one, its last."""
        values = self.state.values.copy()
        values[list(self.removed)] = self.lowest
        return values

    def next(self):
        """The next stage: the filter of the lowest value is removed, the values are forgotten."""
        values = self.state.values
        lowest = int(np.argmin(np.where(self.remaining(len(values)), values, np.inf)))
        removed, values = (*self.removed, lowest), (*self.lowest, float(values[lowest]))
        return Stages(None, removed, values, *(self.total(name) for name in TOTALS))


# ----------------------------------------------------------------------------- writing


def save_stages(records_dir, stages, run, players):
    """Write mab.npz, from which a run goes on.

    Args:
        records_dir: str.
        stages: Stages.
        run: dict, the settings that a resumed run must share.
        players: (n_players,) int, the filters that have a value.
    """
    arrays = {
        "run": json.dumps(run),
        "players": players,
        "removed": np.array(stages.removed, dtype=int),
        "lowest": np.array(stages.lowest, dtype=float),
        "before": np.array([stages.rounds, stages.evaluations, stages.guesses]),
    }
    for field in fields(stages.state):
        arrays[field.name] = getattr(stages.state, field.name)
    records.save({f"{records_dir}/mab.npz": arrays})


def save_tables(records_dir, stages, run, names, players, facts):
    """Write filters.csv, race.csv, shapley_values.pkl and mab.json.

    Args:
        records_dir: str.
        stages: Stages.
        run: dict, the settings of the run.
        names: (layer, channel) of every filter of the network.
        players: (n_players,) int, the filters that have a value.
        facts: dict, how the record came about, which mab.json begins with.
    """
    import pandas as pd  # here, so that `import mab` stays fast

    state = stages.state
    layers, channels = zip(*(names[player] for player in players))
    errors = standard_errors(state.counts, state.m2, state.parts)
    gone = ~stages.remaining(len(players))  # the last stage's intervals are not theirs
    filters = pd.DataFrame(
        {
            "filter": players,
            "layer": layers,
            "channel": channels,
            "shapley": stages.values(),
            "ci_low": np.where(gone, np.nan, state.ci_low),
            "ci_high": np.where(gone, np.nan, state.ci_high),
            "samples": state.samples,
            "truncated": state.truncated,
            "status": np.where(gone, "undecided", state.status),
            "standard_error": np.where(gone, np.nan, errors),
            "sign": np.where(gone, "unknown", signs(state.ci_low, state.ci_high, run["BOUND"])),
            "clipped": state.clipped,
        }
    )
    race = pd.DataFrame(state.race, columns=RACE)
    all_values = pd.Series(stages.values(), players).reindex(range(len(names)))
    records.save(
        {
            f"{records_dir}/filters.csv": filters,
            f"{records_dir}/race.csv": race,
            f"{records_dir}/shapley_values.pkl": all_values.to_numpy(),
            f"{records_dir}/mab.json": {**facts, **_summary(stages, run, len(players))},
        }
    )


def signs(low, high, bound):
    """What confidence limits prove of each filter: harmful, helpful or unknown, (n,) str.

    Limits of a bound for a single look prove nothing, since the bandit looks again and again.
    """
    if not BOUNDS[bound].every_look:
        return np.full(len(low), "unknown")
    return np.select([high < 0, low > 0], ["harmful", "helpful"], "unknown")


def _summary(stages, run, n_players):
    """What mab.json says of a run."""
    state = stages.state
    return {
        "stages": stages.number + 1,
        "removed": list(stages.removed),
        **{name: stages.total(name) for name in TOTALS},
        "decided": bool(state.decided),
        "filters": n_players,
        "certified": int((state.status == "top").sum()),
        "ruled_out": int((state.status == "rest").sum()),
        "active": int(state.active.sum()),
        "negative": int((state.values < 0).sum()),
        "reliability": reliability(state),
        "intervals_below_0": int((state.ci_high < 0).sum()),
        "intervals_above_0": int((state.ci_low > 0).sum()),
        "widest_interval": float((state.ci_high - state.ci_low).max()),
        "truncated_share": truncated_share(state),
        "clipped_share": clipped_share(state),
        "largest_shift_by_clip": largest_shift(state),
        "rounds_to_decide": projected_rounds(state, run),
    }


def projected_rounds(state, run):
    """rounds_to_decide for a run's settings; None for a bound that it does not know."""
    if run["BOUND"] not in FORECASTS:
        return None
    singles = run["SINGLES"] if SAMPLERS[run["SAMPLER"]].takes_turns else None
    set_of_interest = (run["TOP_K"], run["WHICH"], run["EPS"])
    return rounds_to_decide(state, *set_of_interest, run["DELTA"], run["BOUND"], singles)


# ----------------------------------------------------------------------------- resuming


@dataclass
class SavedRun:
    """What a record holds of a run that can go on."""

    stages: Stages
    seconds: float = 0.0  # that it took
    tabled_rounds: int = 0  # rounds that filters.csv and mab.json know


def load_stages(records_dir, run, players):
    """The run saved in a folder; a new one if there is none.

    Args:
        records_dir: str.
        run: dict, this run's settings.
        players: (n_players,) int.

    Returns:
        SavedRun.

    Raises:
        InputError: the record is damaged, or is of a run with other settings.
    """
    path, json_path = f"{records_dir}/mab.npz", f"{records_dir}/mab.json"
    if not os.path.exists(path):
        return SavedRun(Stages())
    arrays = records.load_npz(path, "mab.py")
    try:
        before = json.loads(str(arrays.pop("run")))
        if missing := sorted(run.keys() - before.keys() - {"ROUNDS_A_STAGE"}):
            raise InputError(
                f"{path} is of an older mab.py (it has no {', '.join(missing)}); "
                "give another --RECORDS_DIR to start anew"
            )
        everyone = np.arange(len(arrays["values"]))  # records from before SPARE
        same_players = np.array_equal(arrays.pop("players", everyone), players)
        stages = _unpack_stages(arrays)
        tables = {"seconds": 0, "rounds": 0}
        if os.path.exists(json_path):
            tables = records.load_json(json_path, "mab.py")
        saved = SavedRun(stages, float(tables["seconds"]), int(tables["rounds"]))
        changed = []
        for name in sorted(before.keys() | run.keys()):
            if before.get(name) != run.get(name):
                changed.append(f"{name}={before.get(name)} there, {run.get(name)} now")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"{path} or {json_path} is not a record of mab.py; move both away "
            "or give another --RECORDS_DIR"
        ) from None
    if not same_players:
        changed.append("other filters were spared")
    if changed:
        raise InputError(
            f"{path} is of another run ({'; '.join(changed)}); set them back to go on with it, "
            "or give another --RECORDS_DIR to start anew"
        )
    return saved


def _unpack_stages(arrays):
    """Stages from the arrays of mab.npz, less "run" and "players"."""
    removed, lowest = tuple(arrays.pop("removed").tolist()), tuple(arrays.pop("lowest").tolist())
    totals = dict(zip(TOTALS, arrays.pop("before").tolist(), strict=True))
    state = Estimate(**arrays)
    for name in TOTALS:
        setattr(state, name, int(getattr(state, name)))
    return Stages(state, removed, lowest, **totals)


# ----------------------------------------------------------------------------- reading


@dataclass
class FilterValues:
    """What mab.py found, for those who remove filters."""

    # (n,) int, the filters of the set of interest, first to go first. For the lowest: those that
    # stages removed, in their order, then by value, none that helps. For the highest: by value,
    # none that harms.
    order: np.ndarray
    # DataFrame, index: the filters' numbers; columns shapley, ci_low, ci_high, standard_error,
    # sign (see signs), certified (whether the intervals prove that it belongs to the set)
    filters: object
    run: dict  # the settings of the run
    race: object  # DataFrame with columns RACE, a row a look


REQUIRED_SETTINGS = (
    "network",
    "images",
    "REMOVAL",
    "FAIRFACE_FRAME",
    "TOP_K",
    "WHICH",
    "BOUND",
    "MEASURE",
)


def load_values(path):
    """FilterValues from a mab.npz. Raises InputError if it is missing, damaged or not one."""
    arrays = records.load_npz(path, "mab.py")
    try:
        run = json.loads(str(arrays["run"]))
        for name in REQUIRED_SETTINGS:
            run[name]  # noqa: B018  (a missing one is reported below)
        filters = _filter_table(arrays, run)
        removed = filters.index[arrays["removed"]]
        filters.loc[removed, "shapley"] = arrays["lowest"]
        own = ["ci_low", "ci_high", "standard_error"]
        filters.loc[removed, own] = np.nan  # these are the last stage's
        filters.loc[removed, "certified"] = False
        filters.loc[removed, "sign"] = "unknown"
        order = _removal_order(filters["shapley"], removed, run["WHICH"])
        return FilterValues(order, filters, run, _race_table(arrays))
    except (KeyError, TypeError, ValueError, IndexError):
        fix = "move it away and run mab.py again"
        raise InputError(f"{path} is not a record of mab.py; {fix}") from None


def _race_table(arrays):
    import pandas as pd

    return pd.DataFrame(arrays.get("race", np.zeros((0, len(RACE)), dtype=int)), columns=RACE)


def _filter_table(arrays, run):
    import pandas as pd

    n_players = len(arrays["values"])
    errors = np.full(n_players, np.nan)
    if {"counts", "m2"} <= arrays.keys():
        counts = arrays["counts"]
        plain = arrays.get("plain", np.zeros(n_players, dtype=bool))  # a new field
        parts = value_parts(plain, len(counts))
        errors = standard_errors(counts, arrays["m2"], parts)
    return pd.DataFrame(
        {
            "shapley": arrays["values"],
            "ci_low": arrays["ci_low"],
            "ci_high": arrays["ci_high"],
            "standard_error": errors,
            "sign": signs(arrays["ci_low"], arrays["ci_high"], run["BOUND"]),
            "certified": (arrays["status"] == "top") & BOUNDS[run["BOUND"]].every_look,
        },
        index=arrays.get("players", np.arange(n_players)),
    )


def _removal_order(values, removed, which):
    """FilterValues.order: up to the first value of the other sign."""
    sign = -1 if which == "lowest" else 1
    by_value = values.index[np.argsort(-sign * values.to_numpy(), kind="stable")]
    order = np.concatenate([removed, by_value[~by_value.isin(removed)]]).astype(int)
    of_the_set = np.logical_and.accumulate(sign * values.loc[order].to_numpy() > 0)
    return order[of_the_set]


def highest_filters(records_dir, share, network, n_filters):
    """The filters with the highest values in an earlier record, (n,) int, highest first.

    Args:
        records_dir: str, of the earlier run of mab.py (the constant SPARE).
        share: float, of the filters.
        network: str, digest of the network that the record must be of.
        n_filters: int.

    Raises:
        InputError: no such record, or one of another network or of some filters only.
    """
    path = f"{records_dir}/mab.npz"
    rule = "the RECORDS_DIR of an earlier run of mab.py on this network"
    require("SPARE", records_dir, os.path.exists(path), rule)
    arrays = records.load_npz(path, "mab.py")
    try:
        recorded, values = json.loads(str(arrays["run"]))["network"], arrays["values"]
    except (KeyError, TypeError, ValueError):
        fix = "give the RECORDS_DIR of another run"
        raise InputError(f"{path} is not a record of mab.py; {fix}") from None
    if recorded != network or len(values) != n_filters:
        raise InputError(
            f"SPARE: {path} is of another network, or of some of its filters only; "
            "give a run of all filters of this one"
        )
    return np.argsort(-values, kind="stable")[: round(share * n_filters)]
