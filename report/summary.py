"""What a run of mab.py found, in words: its progress line, its last lines, its verdict."""

from common.settings import list_names

import numpy as np

from report.values import projected_rounds, signs
from shapley.estimate import clipped_share, largest_shift, reliability, truncated_share
from shapley.intervals import BOUNDS, tied_filters

NAMED = 5  # filters that a line names


def progress_text(stages, n_stages, pace):
    """The end of the progress line, which in all fits in 100 columns.

    Args:
        stages: Stages.
        n_stages: int, stages in all.
        pace: float, evaluations of V a second.
    """
    if n_stages > 1:
        return f"stage {stages.number + 1} of {n_stages}, {pace:.0f} V/s"
    undecided, precise = stages.state.active.sum(), reliability(stages.state)
    return f"{undecided} undecided, reliability {precise:.2f}, {pace:.0f} V/s"


def summary_lines(stages, names, players, which, records_dir):
    """What a run found, as lines of text.

    Args:
        stages: Stages.
        names: (layer, channel) of every filter of the network.
        players: (n_players,) int.
        which: "lowest" or "highest", the end of interest.
        records_dir: str.
    """
    state, lines = stages.state, []
    if stages.removed:
        removed = list_names([f"{names[i][0]}[{names[i][1]}]" for i in stages.removed], NAMED)
        lines.append(
            f"{stages.number} filters removed one by one, their values estimated anew before each: "
            f"{removed}. Last stage:"
        )
    lines.append(
        f"{state.rounds} rounds, {state.evaluations} evaluations of V, reliability "
        f"{reliability(state):.2f}, {truncated_share(state):.0%} of an order truncated. "
        f"{(state.values < 0).sum()} of {len(players)} values are negative."
    )
    if state.clipped.any():
        lines.append(
            f"Values are means of clipped marginals: {clipped_share(state):.2%} of them were "
            f"clipped, which moved no value by more than {largest_shift(state):.2g}."
        )
    if not stages.removed and state.values.any():
        sign = 1 if which == "lowest" else -1
        extreme = np.argsort(sign * state.values, kind="stable")[:NAMED]
        listed = []
        for i in extreme:
            layer, channel = names[players[i]]
            listed.append(f"{layer}[{channel}] {state.values[i]:+.4f}")
        lines.append(
            f"The {which} values, of all in {records_dir}/filters.csv: {', '.join(listed)}"
        )
    return lines


def verdict(state, run, seconds, doubt=""):
    """What a run proved about the set of interest, in one line.

    Args:
        state: Estimate.
        run: dict, its settings.
        seconds: float, that it took.
        doubt: str, why the network may be unfit; "" if nothing is known.
    """
    k, which, eps = run["TOP_K"], run["WHICH"], run["EPS"]
    bound, probability = BOUNDS[run["BOUND"]], f"{1 - run['DELTA']:g}"
    promise = f"with probability {probability}"
    if not bound.proves:
        promise = f"with probability of about {probability} (BOUND={run['BOUND']} is approximate)"
    if not bound.every_look:
        promise = f"approximately (BOUND={run['BOUND']} promises nothing)"
    if not state.values.any():
        reason = "no removal changed V"
        if truncated_share(state) == 1:
            reason = "V of the whole network is below TRUNCATION: give a lower one"
        if doubt:
            reason = f"{reason}; {doubt}"
        return f"All values are 0, since {reason}. No set of {k} stands out."
    if state.decided:
        extreme = which.replace("est", "er")
        line = (
            f"The {k} {which} are decided, {promise}: no other value is {extreme} than one of them"
        )
        if eps:
            tied = tied_filters(state, k, which, eps)
            line += f" by more than 2 EPS = {2 * eps:g}; {tied} others are that near to the last"
        return f"{line}. {_signs_text(state, run)}"
    certified, excluded = (state.status == "top").sum(), (state.status == "rest").sum()
    line = (
        f"The {k} {which} are not decided: {certified} are certified {promise}, {excluded} ruled "
        "out. The rest is a best guess; filters.csv has the intervals."
    )
    if rounds := projected_rounds(state, run):
        hours = (rounds - state.rounds) * seconds / state.rounds / 3600
        line += f" To decide takes about {rounds:,.0f} rounds in all, {hours:,.1f} more hours"
        line += " if rounds stay as slow; with fewer filters left they are faster."
    return f"{line} {_signs_text(state, run)}"


def _signs_text(state, run):
    """How many filters the intervals prove to help or to harm."""
    proven = signs(state.ci_low, state.ci_high, run["BOUND"])
    helpful, harmful = (proven == "helpful").sum(), (proven == "harmful").sum()
    return f"{helpful} filters are certified to help, {harmful} to harm."
