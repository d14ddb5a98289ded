"""What a run of mab.py says: its progress line, its last lines, its verdict."""

import re

import numpy as np
import pytest
from tqdm import tqdm

from report.summary import progress_text, summary_lines, verdict
from report.values import Stages, projected_rounds
from shapley import tmab_shapley
from shapley.estimate import new_estimate
from shapley.intervals import rounds_to_decide
from tests.conftest import REPOSITORY

CLEAR = [-0.4, -0.3, 0.1, 0.2, 0.3]
RUN = {
    "TOP_K": 2,
    "WHICH": "lowest",
    "EPS": 0.0,
    "DELTA": 0.05,
    "BOUND": "sequence",
    "SAMPLER": "shared",
    "SINGLES": 160,
}


def ending(weights, max_rounds=3000, truncation=None, seconds=60.0, **constants):
    """(Estimate, verdict of it): an additive game with chance, run as mab.py would."""
    weights, run = np.array(weights), {**RUN, **constants}

    def value(keep, round_seed):
        return keep @ (weights * np.random.default_rng(round_seed).choice([0, 2], len(weights)))

    state = tmab_shapley(
        value,
        len(weights),
        k=run["TOP_K"],
        which=run["WHICH"],
        eps=run["EPS"],
        delta=run["DELTA"],
        bound=run["BOUND"],
        sampler=run["SAMPLER"],
        max_rounds=max_rounds,
        truncation=truncation,
    )
    return state, verdict(state, run, seconds)


def signs_text(state):
    """The last words of a verdict on an Estimate."""
    helpful, harmful = (state.ci_low > 0).sum(), (state.ci_high < 0).sum()
    return f" {helpful} filters are certified to help, {harmful} to harm."


# ----------------------------------------------------------------------------- the verdict


@pytest.mark.parametrize(
    "bound, promise",
    [
        ("sequence", "with probability 0.95"),
        ("bernstein", "with probability 0.95"),
        ("asymptotic", "with probability of about 0.95 (BOUND=asymptotic is approximate)"),
        ("clt", "approximately (BOUND=clt promises nothing)"),
    ],
)
def test_ends_decided(bound, promise):
    state, line = ending(CLEAR, BOUND=bound)
    assert state.decided and state.rounds < 3000
    assert state.status.tolist() == ["top", "top", "rest", "rest", "rest"]
    expected = f"The 2 lowest are decided, {promise}: no other value is lower than one of them."
    if bound == "clt":  # its limits hold at one look, and the bandit takes many
        assert line == expected + " 0 filters are certified to help, 0 to harm."
        return
    assert line == expected + signs_text(state)
    assert line.endswith(" 2 to harm.")  # those of the set: their intervals end before 0


def test_ends_decided_at_the_other_end():
    state, line = ending(CLEAR, WHICH="highest", DELTA=0.1)
    assert line == (
        "The 2 highest are decided, with probability 0.9: "
        "no other value is higher than one of them." + signs_text(state)
    )


def test_ends_with_ties():
    state, line = ending([-0.4, -0.3, -0.3, 0.2, 0.3], EPS=0.05)
    assert state.decided and state.rounds < 3000
    assert state.status[0] == "top" and (state.status[3:] == "rest").all()
    assert line == (
        "The 2 lowest are decided, with probability 0.95: no other value is lower than one of "
        "them by more than 2 EPS = 0.1; 1 others are that near to the last." + signs_text(state)
    )
    state, line = ending([-0.4, -0.3, -0.3, 0.2, 0.3], EPS=0.05, WHICH="highest", TOP_K=3)
    tied = "by more than 2 EPS = 0.1; 1 others are that near to the last."
    assert line.endswith(tied + signs_text(state))
    state, line = ending([-0.5, -0.1, -0.1, 0.4, 0.5])  # never decided, but what is clear is
    assert not state.decided
    assert state.status.tolist() == ["top", "undecided", "undecided", "rest", "rest"]
    assert state.active.tolist() == [False, True, True, False, False]
    expected = "The 2 lowest are not decided: 1 are certified with probability 0.95, 2 ruled out."
    assert line.startswith(expected)


@pytest.mark.parametrize("sampler", ["shared", "paper"])
def test_ends_with_the_budget(sampler):
    state, line = ending(CLEAR, max_rounds=10, SAMPLER=sampler)
    assert not state.decided and state.rounds == 10
    match = re.fullmatch(
        r"The 2 lowest are not decided: 0 are certified with probability 0\.95, 0 ruled out\. "
        r"The rest is a best guess; filters\.csv has the intervals\. "
        r"To decide takes about (\d+) rounds in all, (\d+\.\d) more hours if .* faster\. "
        r"0 filters are certified to help, 0 to harm\.",
        line,
    )
    rounds, hours = int(match[1]), float(match[2])
    assert 0.2 < rounds / ending(CLEAR, SAMPLER=sampler)[0].rounds < 5
    assert hours == pytest.approx((rounds - 10) * 6 / 3600, abs=0.06)  # 60 seconds for 10 rounds


def test_large_forecasts_have_commas():
    line = ending([-0.31, -0.3, -0.299, 0.3], max_rounds=12, seconds=360_000.0)[1]
    match = re.search(r"about (\d[\d,]+) rounds in all, (\d[\d,]+\.\d) more hours", line)
    rounds, hours = (float(number.replace(",", "")) for number in match.groups())
    assert "," in match[1] and hours == pytest.approx(100 * (rounds - 12) / 12, rel=1e-4)


@pytest.mark.parametrize("sampler, singles", [("paper", None), ("shared", 160), ("guided", 160)])
def test_forecasts_follow_from_the_run(sampler, singles):
    state, run = ending(CLEAR, max_rounds=12)[0], RUN | {"SAMPLER": sampler, "WHICH": "highest"}
    expected = rounds_to_decide(state, 2, "highest", 0.0, 0.05, "sequence", singles)
    assert projected_rounds(state, run) == expected > 12
    run |= {"SINGLES": 2, "DELTA": 0.01, "EPS": 0.01, "TOP_K": 1}
    singles = singles and 2
    expected = rounds_to_decide(state, 1, "highest", 0.01, 0.01, "sequence", singles)
    assert projected_rounds(state, run) == expected
    run["BOUND"] = "asymptotic"
    fewer = rounds_to_decide(state, 1, "highest", 0.01, 0.01, "asymptotic", singles)
    assert projected_rounds(state, run) == fewer < expected
    for bound in ("bernstein", "clt"):
        assert projected_rounds(state, run | {"BOUND": bound}) is None


def test_other_bounds_foresee_nothing():
    for bound in ("clt", "bernstein"):
        line = ending(CLEAR, max_rounds=10, BOUND=bound)[1]
        assert "filters.csv has the intervals. 0 filters are certified" in line
        assert "rounds" not in line and "hours" not in line


@pytest.mark.parametrize("eps", [0.0, 0.5])
def test_ends_with_nothing_but_zeros(eps):
    line = ending([0, 0, 0, 0, 0], max_rounds=500, EPS=eps)[1]
    assert line == "All values are 0, since no removal changed V. No set of 2 stands out."


def test_nothing_but_zeros_of_a_network_at_chance():
    state = ending([0, 0, 0, 0, 0], max_rounds=10)[0]
    line = verdict(state, RUN, 1.0, "the network is at chance (causes)")
    reason = "no removal changed V; the network is at chance (causes)"
    assert line == f"All values are 0, since {reason}. No set of {RUN['TOP_K']} stands out."


def test_ends_with_everything_truncated():
    line = ending([0.1, 0.1, 0.1, 0.1], truncation=0.9, max_rounds=5)[1]
    assert line == (
        "All values are 0, since V of the whole network is below TRUNCATION: give a lower one. "
        "No set of 2 stands out."
    )


@pytest.mark.parametrize("status", ["top", "undecided"])
def test_signs_are_certified_by_intervals_beside_0(status):
    """An interval that ends at 0 proves nothing, whether the set is decided or not."""
    limits = ([0.1, 0.2, 0.0, -0.5, -0.5, -0.1], [0.3, 0.4, 0.2, -0.1, 0.0, 0.1])
    state = state_of(np.mean(limits, 0), *limits)
    state.status[:] = status
    line = verdict(state, RUN, 60.0)
    assert line.endswith(". 2 filters are certified to help, 1 to harm.")
    assert ("are decided" in line) == (status == "top")


def test_decided_at_the_end_of_the_budget():
    """The last round looks at the intervals though it is no multiple of look_every."""
    rounds = ending(CLEAR)[0].rounds
    state, line = ending(CLEAR, max_rounds=rounds - 1)
    assert "are decided" in line and state.active.any() and state.rounds % 12 == 11


# ----------------------------------------------------------------------------- the last lines


def state_of(values, ci_low, ci_high):
    state = new_estimate(len(values), (-1, 1))
    state.values, state.means[0] = np.array(values), values
    state.ci_low, state.ci_high = np.array(ci_low), np.array(ci_high)
    state.rounds, state.evaluations = 12, 345
    state.counts[:], state.m2[:], state.truncated[:] = 4, 0.12, 1.0
    return state


NAMES = [("conv1", 0), ("conv1", 1), ("conv2", 0), ("conv2", 1), ("conv2", 2), ("conv3", 0)]
PLAYERS = np.array([0, 2, 3, 5])  # two filters are spared
VALUES = [-0.2, 0.1, -0.05, 0.3]


def test_last_lines():
    stages = Stages(state_of(VALUES, [-0.3, 0.01, -0.1, 0.2], [-0.1, 0.2, 0.1, 0.4]))
    lines = summary_lines(stages, NAMES, PLAYERS, "lowest", "records/x")
    reliability = 1 - 0.12 / 3 / 4 / np.var(VALUES)
    assert lines == [
        f"12 rounds, 345 evaluations of V, reliability {reliability:.2f}, 25% of an order "
        "truncated. 2 of 4 values are negative.",
        "The lowest values, of all in records/x/filters.csv: conv1[0] -0.2000, conv2[1] -0.0500, "
        "conv2[0] +0.1000, conv3[0] +0.3000",
    ]
    highest = summary_lines(stages, NAMES, PLAYERS, "highest", "records/x")[1]
    assert highest.startswith("The highest values, of all in records/x/filters.csv: conv3[0] +0.30")


def test_at_most_five_filters_are_named():
    state = state_of(np.arange(9) / 9, [-1.0] * 9, [1.0] * 9)
    names = [("conv", channel) for channel in range(9)]
    line = summary_lines(Stages(state), names, np.arange(9), "highest", "records")[1]
    assert re.findall(r"conv\[(\d)\]", line) == ["8", "7", "6", "5", "4"]


def test_equal_filters_are_named_in_the_order_of_their_numbers():
    values = -(np.arange(200) % 2.0)
    state = state_of(values, values - 1, values + 1)
    names = [("conv", channel) for channel in range(200)]
    line = summary_lines(Stages(state), names, np.arange(200), "lowest", "records")[1]
    assert re.findall(r"conv\[(\d)\]", line) == ["1", "3", "5", "7", "9"]


def test_clipped_marginals_are_told():
    """16 samples of 4 filters: their share, and by how much the most shifted mean would differ."""
    state = state_of(VALUES, [-1.0] * 4, [1.0] * 4)
    lines = summary_lines(Stages(state), NAMES, PLAYERS, "lowest", "records")
    assert len(lines) == 2 and "clipped" not in " ".join(lines)
    state.clipped[:], state.excess[:] = [1, 0, 2, 0], [0.25, 0.0, -0.375, 0.0]
    lines = summary_lines(Stages(state), NAMES, PLAYERS, "lowest", "records")
    assert len(lines) == 3 and lines[1] == (
        "Values are means of clipped marginals: 18.75% of them were clipped, which moved no value "
        "by more than 0.094."
    )


def test_values_of_0_are_not_negative_and_none_is_named():
    state = state_of([0.0, 0.0, 0.0, 0.0], [-1.0] * 4, [1.0] * 4)
    (line,) = summary_lines(Stages(state), NAMES, PLAYERS, "lowest", "records")
    assert "0 of 4 values are negative" in line and "reliability 0.00" in line


def test_stages_name_what_they_removed():
    state = state_of(VALUES, [-0.3, 0.01, -0.1, 0.2], [-0.1, 0.2, 0.1, 0.4])
    stages = Stages(state, (2, 0), (-0.5, -0.4))
    lines = summary_lines(stages, NAMES, np.arange(6), "lowest", "records")
    assert len(lines) == 2 and lines[0] == (
        "2 filters removed one by one, their values estimated anew before each: "
        "conv2[0], conv1[0]. Last stage:"
    )
    stages = Stages(state, tuple(range(6)), (-0.5,) * 6)
    line = summary_lines(stages, NAMES, np.arange(6), "lowest", "records")[0]
    assert "conv1[0], conv1[1], conv2[0], conv2[1], conv2[2] and 1 more. Last stage:" in line


# ----------------------------------------------------------------------------- the progress line


def large_state():
    """The largest numbers: 17,216 filters, none decided."""
    state = new_estimate(17216, (-1, 1))
    state.values, state.counts[:] = np.linspace(-1, 1, 17216), 2
    state.m2[:] = 4.0 * np.var(state.values)  # reliability -1
    return state


BAR_FORMAT = re.search(r'bar_format="(.*)"', (REPOSITORY / "mab.py").read_text())[1]


@pytest.mark.parametrize("n_stages", [1, 100])
@pytest.mark.parametrize("missing", [0, 100])
def test_the_progress_line_fits_in_100_columns(n_stages, missing):
    """1,000 rounds a stage in 100 hours."""
    stages = Stages(large_state(), tuple(range(n_stages - 1)), (0.0,) * (n_stages - 1))
    text, total = progress_text(stages, n_stages, 99999.4), 1000 * n_stages
    line = tqdm.format_meter(
        n=total - missing,
        total=total,
        elapsed=359999.0,
        prefix="mab.py",
        bar_format=BAR_FORMAT,
        postfix=text,
    )
    assert len(line) <= 100, line
    assert text in line and f"{total - missing}/{total} [99:59:59<" in line


def test_progress_of_one_stage_says_what_matters():
    state = large_state()
    state.m2[:] = 2 * 0.25 * np.var(state.values)
    state.active[:16] = False
    text = progress_text(Stages(state), 1, 12.6)
    assert text == "17200 undecided, reliability 0.75, 13 V/s"


def test_progress_of_stages():
    assert progress_text(Stages(large_state(), (7,), (0.0,)), 3, 12.6) == "stage 2 of 3, 13 V/s"
    assert progress_text(Stages(large_state()), 2, 0.4) == "stage 1 of 2, 0 V/s"
