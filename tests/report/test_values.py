"""The record of mab.py: written, resumed from, and read by those who remove filters."""

import json
from dataclasses import fields

from common import records
from common.settings import InputError

import numpy as np
import pandas as pd
import pytest

from report.values import SavedRun, Stages, load_stages, save_stages, save_tables, signs
from shapley.estimate import Estimate, reliability, standard_errors, truncated_share
from shapley.intervals import rounds_to_decide
from tests.games import assert_same_state
from tests.report.toy_values import NAMES, PLAYERS, RUN, N, edit_npz, play, staged


@pytest.fixture(scope="module")
def state():
    """A game's Estimate after 13 rounds. Not to be changed."""
    return play()


# ----------------------------------------------------------------------------- stages


def test_totals_of_stages(state):
    assert (Stages().number, Stages(rounds=3).total("rounds")) == (0, 3)
    stages = staged(state)
    assert stages.number == 2
    assert stages.total("rounds") == 33
    assert stages.total("evaluations") == 300 + state.evaluations
    assert stages.total("guesses") == 7


def test_values_of_removed_filters_are_their_last(state):
    stages = staged(state)
    assert stages.remaining(N).tolist() == [False, True, True, False, True, True]
    expected = state.values.copy()
    expected[3], expected[0] = -0.5, -0.4
    assert stages.values().tolist() == expected.tolist()
    assert state.values[3] != -0.5  # the Estimate is as it was


def test_the_next_stage_removes_the_lowest_that_remains(state):
    ranked = np.argsort(state.values)
    first = Stages(state, guesses=4).next()
    assert first.removed == (ranked[0],) and first.lowest == (state.values[ranked[0]],)
    assert first.state is None and first.number == 1
    assert (first.rounds, first.evaluations) == (13, state.evaluations)
    assert first.guesses == 4 and type(first.removed[0]) is int
    first.state = state  # the same values, in which the filter removed has the lowest still
    second = first.next()
    assert second.removed == (ranked[0], ranked[1]) and second.rounds == 26
    assert second.lowest == (state.values[ranked[0]], state.values[ranked[1]])
    assert type(second.lowest[1]) is float


# ----------------------------------------------------------------------------- saving


def test_saved_and_resumed(state, tmp_path):
    stages = staged(state)
    save_stages(str(tmp_path), stages, RUN, PLAYERS)
    saved = load_stages(str(tmp_path), RUN, PLAYERS)
    assert_same_state(saved.stages.state, state)
    for field in fields(Stages):
        if field.name != "state":
            assert getattr(saved.stages, field.name) == getattr(stages, field.name)
    assert (saved.seconds, saved.tabled_rounds) == (0.0, 0)  # no tables yet
    assert type(saved.stages.removed[0]) is int and type(saved.stages.state.rounds) is int


def test_keys_and_dtypes_of_mab_npz(state, tmp_path):
    """Earlier records are resumed, so these must not change."""
    save_stages(str(tmp_path), Stages(state), RUN, PLAYERS)
    arrays = records.load_npz(f"{tmp_path}/mab.npz", "mab.py")
    head = ["run", "players", "removed", "lowest", "before"]
    assert list(arrays) == head + [field.name for field in fields(Estimate)]
    assert json.loads(str(arrays["run"])) == RUN
    assert arrays["before"].tolist() == [0, 0, 0] and arrays["players"].tolist() == [*PLAYERS]
    assert arrays["removed"].dtype == int and arrays["lowest"].dtype == float
    assert len(arrays["removed"]) == len(arrays["lowest"]) == 0
    save_stages(str(tmp_path), staged(state), RUN, PLAYERS)
    arrays = records.load_npz(f"{tmp_path}/mab.npz", "mab.py")
    assert arrays["before"].tolist() == [20, 300, 7]
    assert arrays["removed"].tolist() == [3, 0] and arrays["lowest"].tolist() == [-0.5, -0.4]


def test_without_a_record_a_run_begins(tmp_path):
    saved = load_stages(str(tmp_path), RUN, PLAYERS)
    assert saved == SavedRun(Stages(), 0.0, 0)


def save_all(folder, stages, run=RUN):
    save_stages(str(folder), stages, run, PLAYERS)
    facts = {"constants": {"SEED": 3}, "seconds": 12.5}
    save_tables(str(folder), stages, run, NAMES, PLAYERS, facts)


def test_tables_are_those_of_the_estimate(state, tmp_path):
    save_all(tmp_path, Stages(state))
    table = pd.read_csv(tmp_path / "filters.csv")
    assert table.columns.tolist() == [
        "filter",
        "layer",
        "channel",
        "shapley",
        "ci_low",
        "ci_high",
        "samples",
        "truncated",
        "status",
        "standard_error",
        "sign",
        "clipped",
    ]
    assert table["filter"].tolist() == PLAYERS.tolist()
    assert list(zip(table["layer"], table["channel"])) == [NAMES[player] for player in PLAYERS]
    errors = standard_errors(state.counts, state.m2)
    columns = {"shapley": state.values, "ci_low": state.ci_low, "ci_high": state.ci_high}
    for name, expected in {**columns, "standard_error": errors}.items():
        np.testing.assert_allclose(table[name], expected, rtol=1e-6)
    np.testing.assert_allclose(table["truncated"], state.truncated, rtol=1e-6)
    assert table["samples"].tolist() == state.samples.tolist()
    assert table["status"].tolist() == state.status.tolist()
    assert table["sign"].tolist() == ["unknown"] * N  # after 13 rounds
    assert table["clipped"].tolist() == [0] * N
    values = pd.read_pickle(tmp_path / "shapley_values.pkl")
    assert isinstance(values, np.ndarray) and np.isnan(values[[3, 6]]).all() and len(values) == 8
    assert values[PLAYERS].tolist() == state.values.tolist()


def test_tables_know_nothing_of_intervals_of_removed_filters(tmp_path):
    state = play()
    state.status[:], state.ci_high[:] = "top", -0.01
    save_all(tmp_path, staged(state))
    table = pd.read_csv(tmp_path / "filters.csv")
    gone = [3, 0]
    assert (table["sign"][gone] == "unknown").all()
    assert (table["sign"].drop(gone) == "harmful").all()
    for name in ("ci_low", "ci_high", "standard_error"):
        assert np.isnan(table[name][gone]).all() and not np.isnan(table[name].drop(gone)).any()
    assert table["shapley"][gone].tolist() == [-0.5, -0.4]
    assert (table["status"][gone] == "undecided").all()
    assert (table["status"].drop(gone) == "top").all()
    assert pd.read_pickle(tmp_path / "shapley_values.pkl")[[4, 0]].tolist() == [-0.5, -0.4]


def test_summary_in_mab_json(state, tmp_path):
    state = play(n=N, seed=1)
    state.status = np.array(["top", "undecided", "rest", "rest", "undecided", "undecided"])
    state.ci_low, state.ci_high = state.values - 0.1, state.values + 0.1
    state.active[:4] = False
    state.guesses = 5
    state.clipped[:], state.excess[:] = [0, 3, 0, 1, 0, 0], [0, -0.5, 0, 0.25, 0, 0]
    save_all(tmp_path, staged(state))
    record = json.loads((tmp_path / "mab.json").read_text())
    assert list(record)[:2] == ["constants", "seconds"] and record["seconds"] == 12.5
    forecast = rounds_to_decide(state, 2, "lowest", 0.001, 0.05, "sequence", 5)
    assert list(record)[2:] == [*expected_summary(state, forecast)]
    for name, expected in expected_summary(state, forecast).items():
        assert record[name] == pytest.approx(expected) and type(record[name]) is type(expected)


def expected_summary(state, forecast):
    """What mab.json says of two stages and this Estimate."""
    return {
        "stages": 3,
        "removed": [3, 0],
        "rounds": 33,
        "evaluations": 300 + state.evaluations,
        "guesses": 12,
        "decided": False,
        "filters": 6,
        "certified": 1,
        "ruled_out": 2,
        "active": 2,
        "negative": int(sum(state.values < 0)),
        "reliability": reliability(state),
        "intervals_below_0": int(sum(state.values < -0.1)),
        "intervals_above_0": int(sum(state.values > 0.1)),
        "widest_interval": 0.2,
        "truncated_share": truncated_share(state),
        "clipped_share": 4 / int(sum(state.samples)),
        "largest_shift_by_clip": 0.5 / int(state.samples[1]),
        "rounds_to_decide": forecast,
    }


def test_numbers_of_the_summary_at_0_are_on_neither_side(state, tmp_path):
    state = play()
    state.values[:] = [0, -1, 1, 1, -1, 0]
    state.ci_low[:], state.ci_high[:] = [0, -2, 0.5, 0, -2, -1], [1, 0, 2, 2, -0.5, 0]
    save_all(tmp_path, Stages(state))
    record = json.loads((tmp_path / "mab.json").read_text())
    names = ("negative", "intervals_below_0", "intervals_above_0", "decided")
    assert [record[name] for name in names] == [2, 1, 1, False]


def test_a_decided_run(tmp_path):
    state = play()
    state.status[:] = ["top", "rest", "rest", "rest", "rest", "rest"]
    save_all(tmp_path, Stages(state))
    record = json.loads((tmp_path / "mab.json").read_text())
    assert [record[name] for name in ("decided", "certified", "ruled_out")] == [True, 1, 5]


def test_tables_have_seven_digits(state, tmp_path):
    save_all(tmp_path, Stages(state))
    table = pd.read_csv(tmp_path / "filters.csv", dtype=str)
    for name in ("shapley", "ci_low", "ci_high", "standard_error"):
        for number in table[name]:
            assert number == f"{float(number):.7g}" and len(number) > 5


def test_signs_are_those_that_limits_prove():
    low = np.array([-0.2, -0.2, -0.1, 0.0, 0.1, np.nan, -np.inf])
    high = np.array([-0.1, 0.0, 0.1, 0.2, 0.2, np.nan, np.inf])
    expected = ["harmful", "unknown", "unknown", "unknown", "helpful", "unknown", "unknown"]
    for bound in ("asymptotic", "sequence"):
        assert signs(low, high, bound).tolist() == expected
    assert signs(low[:0], high[:0], "sequence").tolist() == []


def test_limits_for_one_look_prove_no_sign():
    assert signs(np.array([-2.0, 1.0]), np.array([-1.0, 2.0]), "clt").tolist() == ["unknown"] * 2


def test_signs_and_clipped_samples_of_each_filter(tmp_path):
    state = play()
    state.ci_low[:], state.ci_high[:] = [-2, -1, 0, 1, 2, -9], [-1, 0, 1, 2, 3, 9]
    state.clipped[:] = [5, 0, 1, 0, 0, 2]
    save_all(tmp_path, Stages(state))
    table = pd.read_csv(tmp_path / "filters.csv")
    unknown = "unknown"
    assert table["sign"].tolist() == ["harmful", unknown, unknown, "helpful", "helpful", unknown]
    assert table["clipped"].tolist() == [5, 0, 1, 0, 0, 2]


def test_race_has_a_row_a_look(tmp_path):
    """What the last look saw is what the Estimate holds after it."""
    state = play(rounds=24)
    save_all(tmp_path, Stages(state))
    race = pd.read_csv(tmp_path / "race.csv")
    assert race.columns.tolist() == ["rounds", "evaluations", "active", "certified", "ruled_out"]
    assert race.to_numpy().tolist() == state.race.tolist()
    assert race["rounds"].tolist() == [12, 24]
    assert race.iloc[-1].tolist() == [24, state.evaluations, 6, 0, 0]
    early = play(rounds=11)
    save_all(tmp_path, Stages(early))
    assert len(pd.read_csv(tmp_path / "race.csv")) == 0
    assert (tmp_path / "race.csv").read_text() == ",".join(race.columns) + "\n"


# ----------------------------------------------------------------------------- resuming


def test_seconds_and_rounds_of_the_tables_are_read(state, tmp_path):
    save_all(tmp_path, Stages(state))
    saved = load_stages(str(tmp_path), RUN, PLAYERS)
    assert (saved.seconds, saved.tabled_rounds) == (12.5, 13)
    assert type(saved.seconds) is float and type(saved.tabled_rounds) is int


def test_records_without_players_are_of_all_filters(state, tmp_path):
    save_stages(str(tmp_path), Stages(state), RUN, np.arange(N))
    edit_npz(tmp_path, ["players"])
    assert_same_state(load_stages(str(tmp_path), RUN, np.arange(N)).stages.state, state)
    with pytest.raises(InputError, match="other filters were spared"):
        load_stages(str(tmp_path), RUN, PLAYERS)


def test_other_settings_are_named(state, tmp_path):
    save_stages(str(tmp_path), Stages(state), RUN, PLAYERS)
    run = RUN | {"EPS": 0.1, "BOUND": "clt", "ROUNDS_A_STAGE": 9}
    with pytest.raises(InputError) as refusal:
        load_stages(str(tmp_path), run, PLAYERS)
    assert str(refusal.value) == (
        f"{tmp_path}/mab.npz is of another run (BOUND=sequence there, clt now; EPS=0.001 there, "
        "0.1 now; ROUNDS_A_STAGE=None there, 9 now); set them back to go on with it, "
        "or give another --RECORDS_DIR to start anew"
    )
    with pytest.raises(InputError, match=r"another run \(other filters were spared\); set"):
        load_stages(str(tmp_path), RUN, PLAYERS + 1)
    del run["ROUNDS_A_STAGE"]
    with pytest.raises(InputError, match=r"0.1 now; other filters were spared\); set"):
        load_stages(str(tmp_path), run, PLAYERS + 1)


def test_records_of_an_older_version(state, tmp_path):
    older = {name: value for name, value in RUN.items() if name not in ("EPS", "DELTA")}
    save_stages(str(tmp_path), Stages(state), older, PLAYERS)
    with pytest.raises(InputError) as refusal:
        load_stages(str(tmp_path), RUN, PLAYERS)
    assert str(refusal.value) == (
        f"{tmp_path}/mab.npz is of an older mab.py (it has no DELTA, EPS); "
        "give another --RECORDS_DIR to start anew"
    )


DAMAGE = [
    {"drop": ["run"]},
    {"drop": ["values"]},
    {"drop": ["removed"]},
    {"drop": ["m2"]},
    {"run": "[]"},
    {"run": "no json"},
    {"before": np.zeros(2, dtype=int)},
    {"before": np.zeros(4, dtype=int)},
    {"surplus": np.zeros(2)},
    {"rounds": np.zeros(2)},
]


@pytest.mark.parametrize("damage", DAMAGE, ids=str)
def test_what_is_no_record_is_refused(state, tmp_path, damage):
    save_stages(str(tmp_path), Stages(state), RUN, PLAYERS)
    path = edit_npz(tmp_path, **damage)
    with pytest.raises(InputError) as refusal:
        load_stages(str(tmp_path), RUN, PLAYERS)
    assert str(refusal.value) == (
        f"{path} or {tmp_path}/mab.json is not a record of mab.py; move both away "
        "or give another --RECORDS_DIR"
    )


@pytest.mark.parametrize(
    "text", ["{}", '{"seconds": 1}', '{"rounds": 1}', '{"seconds": [], "rounds": 1}']
)
def test_tables_that_say_nothing_are_refused(state, tmp_path, text):
    save_stages(str(tmp_path), Stages(state), RUN, PLAYERS)
    (tmp_path / "mab.json").write_text(text)
    with pytest.raises(InputError, match="mab.json is not a record of mab.py; move both away"):
        load_stages(str(tmp_path), RUN, PLAYERS)


def test_damaged_records_are_of_mab_py(state, tmp_path):
    save_all(tmp_path, Stages(state))
    for name in ("mab.json", "mab.npz"):
        (tmp_path / name).write_text("junk")
        with pytest.raises(InputError, match=f"{name} is damaged .* and run mab.py again"):
            load_stages(str(tmp_path), RUN, PLAYERS)
