"""Values for those who remove filters or spare them, from records of mab.py.

Of the order in which filters go, see test_load_values.py.
"""

from common.settings import InputError

import numpy as np
import pytest

from report.values import Stages, highest_filters, load_values, save_stages, signs
from tests.report.toy_values import PLAYERS, RUN, N, edit_npz, play, staged


@pytest.fixture(scope="module")
def state():
    """A game's Estimate after 13 rounds. Not to be changed."""
    return play()


def saved_values(folder, stages, **run):
    save_stages(str(folder), stages, RUN | run, PLAYERS)
    return load_values(f"{folder}/mab.npz")


def test_filter_values(tmp_path):
    state = play()
    state.status[:] = "top"
    loaded = saved_values(tmp_path, staged(state))
    gone = [4, 0]  # numbers of filters, not of players
    columns = ["shapley", "ci_low", "ci_high", "standard_error", "sign", "certified"]
    assert loaded.filters.columns.tolist() == columns and loaded.run == RUN
    for name in columns[1:4]:
        assert loaded.filters[name].dtype == float
        assert loaded.filters[name].isna().tolist() == [True, False, False, True, False, False]
    remaining = loaded.filters.drop(gone)
    kept = ~np.isin(PLAYERS, gone)
    assert remaining["ci_low"].tolist() == state.ci_low[kept].tolist()
    assert remaining["ci_high"].tolist() == state.ci_high[kept].tolist()
    assert loaded.filters["shapley"][gone].tolist() == [-0.5, -0.4]
    proven = signs(state.ci_low, state.ci_high, "sequence")
    assert remaining["sign"].tolist() == proven[kept].tolist()
    assert loaded.filters["sign"][gone].tolist() == ["unknown"] * 2


def test_equal_values_go_in_the_order_of_their_numbers(tmp_path):
    state = play()
    state.values[:] = [-0.1, -0.2, -0.1, -0.2, -0.1, 0.3]
    assert saved_values(tmp_path, Stages(state)).order.tolist() == [1, 4, 0, 2, 5]


def test_no_filter_harms(tmp_path):
    state = play()
    state.values[:] = 0.1
    assert saved_values(tmp_path, Stages(state)).order.tolist() == []


def test_values_of_older_records(state, tmp_path):
    save_stages(str(tmp_path), Stages(state), RUN, PLAYERS)
    for drop in (["players", "counts"], ["players", "m2"]):
        loaded = load_values(edit_npz(tmp_path, drop))
        assert loaded.filters.index.tolist() == list(range(N))
        errors = loaded.filters["standard_error"]
        assert errors.isna().all() and errors.dtype == float
        assert loaded.filters["shapley"].tolist() == state.values.tolist()


def test_race_of_a_record(tmp_path):
    state = play(rounds=24)
    race = saved_values(tmp_path, Stages(state)).race
    assert race.columns.tolist() == ["rounds", "evaluations", "active", "certified", "ruled_out"]
    assert race.to_numpy().tolist() == state.race.tolist() and len(race) == 2
    older = load_values(edit_npz(tmp_path, ["race"])).race
    assert len(older) == 0 and older.columns.tolist() == race.columns.tolist()
    assert len(older["evaluations"]) == 0


def test_errors_of_older_records_with_guesses(tmp_path):
    """Two parts, the marginals less their guesses and the guesses: the values are their sums."""
    save_stages(str(tmp_path), Stages(play()), RUN, PLAYERS)
    counts = np.array([[4, 4, 4, 1, 9, 4], [16, 16, 25, 16, 16, 16]])
    m2 = (counts - 1) * counts * np.array([[9.0], [16.0]])  # errors of 3 and 4
    path = edit_npz(tmp_path, ["plain"], counts=counts, m2=m2)
    errors = load_values(path).filters["standard_error"].to_numpy()
    assert np.isnan(errors[3])
    assert np.delete(errors, 3).tolist() == pytest.approx([5.0] * 5)


def test_errors_of_three_parts(tmp_path):
    """Where guesses have ended, the value and its error are those of the third part."""
    save_stages(str(tmp_path), Stages(play()), RUN, PLAYERS)
    counts = np.array([[4, 4, 1, 4, 4, 1], [4, 1, 4, 4, 1, 4], [9, 9, 9, 1, 1, 9]])
    m2 = (counts - 1) * counts * np.array([[9.0], [16.0], [36.0]])
    plain = np.array([False, False, True, False, False, True])
    path = edit_npz(tmp_path, counts=counts, m2=m2, plain=plain)
    errors = load_values(path).filters["standard_error"].to_numpy()
    assert np.isnan(errors).tolist() == [False, True, False, False, True, False]
    assert errors[[0, 2, 3, 5]].tolist() == pytest.approx([5.0, 6.0, 5.0, 6.0])


@pytest.mark.parametrize("drop", ["run", "values", "ci_low", "status", "removed", "lowest"])
def test_values_without_an_array_are_refused(state, tmp_path, drop):
    save_stages(str(tmp_path), Stages(state), RUN, PLAYERS)
    with pytest.raises(InputError, match="mab.npz is not a record of mab.py; move it away"):
        load_values(edit_npz(tmp_path, [drop]))


# ----------------------------------------------------------------------------- the highest


def test_highest_filters(tmp_path):
    state = play(n=8)
    state.values[:] = [0.1, 0.5, 0.3, 0.5, -0.2, 0.0, 0.2, 0.4]
    save_stages(str(tmp_path), Stages(state), RUN, np.arange(8))
    folder = str(tmp_path)
    assert highest_filters(folder, 0.5, "abc", 8).tolist() == [1, 3, 7, 2]
    assert highest_filters(folder, 0.2, "abc", 8).tolist() == [1, 3]  # 1.6, rounded
    assert highest_filters(folder, 0.05, "abc", 8).tolist() == []


def test_highest_filters_of_other_records(state, tmp_path):
    with pytest.raises(InputError) as refusal:
        highest_filters(f"{tmp_path}/none", 0.5, "abc", N)
    rule = "must be the RECORDS_DIR of an earlier run of mab.py on this network"
    assert str(refusal.value) == f"--SPARE={tmp_path}/none: {rule}"
    save_stages(str(tmp_path), Stages(state), RUN, PLAYERS)
    for network, n_filters in (("abc", 8), ("xyz", N)):
        with pytest.raises(InputError) as refusal:
            highest_filters(str(tmp_path), 0.5, network, n_filters)
        assert str(refusal.value) == (
            f"SPARE: {tmp_path}/mab.npz is of another network, or of some of its filters only; "
            "give a run of all filters of this one"
        )


@pytest.mark.parametrize(
    "damage",
    [{"drop": ["run"]}, {"drop": ["values"]}, {"run": "{}"}, {"run": "x"}, {"run": "[]"}],
)
def test_highest_filters_of_no_record(state, tmp_path, damage):
    save_stages(str(tmp_path), Stages(state), RUN, PLAYERS)
    path = edit_npz(tmp_path, **damage)
    with pytest.raises(InputError) as refusal:
        highest_filters(str(tmp_path), 0.5, "abc", N)
    fix = "give the RECORDS_DIR of another run"
    assert str(refusal.value) == f"{path} is not a record of mab.py; {fix}"


def test_highest_filters_of_a_damaged_record(tmp_path):
    (tmp_path / "mab.npz").write_text("junk")
    for load in (
        lambda: highest_filters(str(tmp_path), 0.5, "abc", N),
        lambda: load_values(f"{tmp_path}/mab.npz"),
    ):
        with pytest.raises(InputError, match="mab.npz is damaged .* and run mab.py again"):
            load()


def test_equal_filters_are_spared_in_the_order_of_their_numbers(tmp_path):
    state = play(n=200)
    state.values[:] = np.arange(200) % 2
    save_stages(str(tmp_path), Stages(state), RUN, np.arange(200))
    spared = highest_filters(str(tmp_path), 0.6, "abc", 200)
    assert spared.tolist() == [*range(1, 200, 2), *range(0, 40, 2)]
