"""tools.league: estimators on games with known values, points, scores, limits, and tiny runs."""

import contextlib
import itertools
import json
import os
import runpy
import time

import numpy as np
import pytest

from tests.conftest import TINY
from tests.games import airport, exact_shapley, pairs_game
from tools.estimators import ESTIMATORS, BudgetSpent, Estimator, MeteredGame, Task
from tools.table_league import draw_league, league_table
from tools.trace import OutOfTime, Reference, limit_run, trace

N = 8
GAMES = {"airport": airport(np.arange(1.0, N + 1) / N), "pairs": pairs_game(N)[0]}


def task_of(which="highest", deepest=1.0, seed=0, n=N):
    return Task(n, 2, which, (-4.0, 4.0), deepest, seed)


def open_game(value, budget, n=N):
    """A game with guesses that know nothing but which coalition it is."""

    def guess(keep):
        return np.random.default_rng(int(keep.sum())).normal(0, 0.1, len(keep))

    return MeteredGame(lambda keep: value(keep, 0), n, budget, guess, guess_cost=2.5)


def last_estimate(name, value, budget, **options):
    """The last estimate of an estimator, and the game it has played."""
    game, estimates = open_game(value, budget), []
    try:
        for estimate in ESTIMATORS[name].run(game, task_of(**options)):
            estimates.append(estimate)
    except BudgetSpent:
        pass
    return estimates[-1], game


# ----------------------------------------------------------------------------- estimators


def promise_of(name):
    return ESTIMATORS[name].promise


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if promise_of(name) != "nothing"])
@pytest.mark.parametrize("game, which", [("airport", "highest"), ("pairs", "lowest")])
def test_an_estimator_keeps_its_promise(name, game, which):
    """With many evaluations: all values, or the set of the k highest or lowest."""
    value, promise = GAMES[game], promise_of(name)
    exact, sign = exact_shapley(value, N), 1 if which == "highest" else -1
    estimate, _ = last_estimate(name, value, 6000, which=which)
    if promise == "values":
        np.testing.assert_allclose(estimate, exact, atol=0.15 * np.abs(exact).max())
    else:
        assert set(np.argsort(sign * estimate)[-2:]) == set(np.argsort(sign * exact)[-2:])


def test_no_player_is_dropped():
    """Though the airport's last is surely the highest: each order has one marginal of each."""
    values = []
    for budget in (9 * 150, 9 * 151):
        values.append(last_estimate("paper", GAMES["airport"], budget)[0])
    assert (values[0] != values[1]).all()


def test_guesses_go_on_to_the_end():
    """Though the bandit would decide this set soon, and then guess no more."""
    n, rng, guesses = 150, np.random.default_rng(0), []
    weights, pairs = rng.uniform(-0.05, 0.05, n), rng.normal(0, 1e-4, (n, n))

    def guess(keep):
        guesses.append(keep)
        return weights

    def value(keep):
        return keep @ weights + np.einsum("ti,ij,tj->t", keep, pairs, keep)

    game = MeteredGame(value, n, 12_000, guess)
    rounds = len(
        list(exhaust(ESTIMATORS["guided"].run(game, Task(n, 2, "highest", (-1, 1), 1, 0))))
    )
    assert len(guesses) in (rounds, rounds + 1) and rounds > 100


def exhaust(estimates):
    """All estimates of an estimator, until its budget is spent."""
    with contextlib.suppress(BudgetSpent):
        yield from estimates


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_respects_its_budget(name):
    calls = []

    def value(keep, round_seed):
        calls.append(len(keep))
        return GAMES["pairs"](keep, round_seed)

    for budget in (30, 100, 247):
        calls.clear()
        estimate, game = last_estimate(name, value, budget)
        assert estimate.shape == (N,) and estimate.dtype == float
        assert sum(calls) <= game.spent <= budget


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_same_seed_gives_the_same_estimates(name):
    estimates = [last_estimate(name, GAMES["pairs"], 150, seed=seed)[0] for seed in (3, 3, 4)]
    np.testing.assert_array_equal(estimates[0], estimates[1])
    if name != "gradient":
        assert not np.array_equal(estimates[0], estimates[2])


def truncated_shapley(value, n, n_places):
    """Mean marginals over all orders of removal, those behind n_places counted as 0."""
    values = np.zeros(n)
    orders = list(itertools.permutations(range(n)))
    for order in orders:
        keep = np.ones((n + 1, n), dtype=bool)
        for place, player in enumerate(order, 1):
            keep[place:, player] = False
        worth = value(keep, 0)
        marginals = worth[:-1] - worth[1:]
        marginals[n_places:] = 0
        values[list(order)] += marginals
    return values / len(orders)


TRUNCATED = [name for name in ESTIMATORS if ESTIMATORS[name].truncates]


# Those that seek a set sample the other players too seldom for this.
@pytest.mark.parametrize("name", [name for name in TRUNCATED if promise_of(name) == "values"])
def test_truncated_values(name):
    """Of shared coalitions the last place counts a little less, see sample_shared."""
    n, deepest = 6, 0.5
    value = airport(np.arange(1.0, n + 1) / n)
    task = task_of(deepest=deepest, n=n)
    exact = truncated_shapley(value, n, task.n_places)
    game = open_game(value, 4_000, n)
    points = trace(ESTIMATORS[name], lambda budget: game, task, [4_000], time.perf_counter)
    (point,) = points
    shared_place = 0 if name in ("paper", "antithetic") else 0.5 / (n + 1)
    np.testing.assert_allclose(point.estimate, exact, atol=0.03 + shared_place)


def test_a_game_counts_and_ends():
    game = open_game(GAMES["pairs"], 10)
    assert game.value(np.ones(N)).shape == (1,) and game.spent == 1
    game.guess(np.ones(N, dtype=bool))
    assert game.spent == 3.5
    with pytest.raises(BudgetSpent):
        game.value(np.ones((7, N)))
    assert game.spent == 3.5


# ----------------------------------------------------------------------------- points and scores


def steps(*costs):
    """An estimator whose i-th estimate is i, after so many more evaluations."""

    def run(game, task):
        for number, cost in enumerate(costs):
            game.value(np.ones((cost, N)))
            yield np.full(N, float(number))

    return run


def points_of(run, checkpoints, anytime=True):
    estimator = Estimator(run, "", anytime=anytime)
    budgets = []

    def open_counted(budget):
        budgets.append(budget)
        return open_game(GAMES["pairs"], budget)

    points = trace(estimator, open_counted, task_of(), checkpoints, time.perf_counter)
    points = [(point.checkpoint, point.evaluations, point.estimate[0]) for point in points]
    return points, budgets


def test_a_point_is_the_last_estimate_up_to_its_checkpoint():
    points, budgets = points_of(steps(3, 3, 3, 30, 5, 100), [5, 10, 20, 50])
    assert points == [(5, 3, 0.0), (10, 9, 2.0), (50, 44, 4.0)] and budgets == [50]


def test_an_estimate_that_ends_by_itself_is_one_point():
    assert points_of(steps(3), [5, 10])[0] == [(5, 3, 0.0)]


def test_an_estimator_that_takes_a_budget_runs_anew_for_each():
    points, budgets = points_of(steps(4), [5, 10], anytime=False)
    assert points == [(5, 4, 0.0), (10, 4, 0.0)] and budgets == [5, 10]


def test_an_estimate_that_is_not_finite_is_an_error():
    def run(game, task):
        yield np.full(N, np.nan)

    with pytest.raises(ValueError, match="not finite"):
        points_of(run, [5])


def test_a_larger_budget_may_give_a_finite_estimate():
    def run(game, task):
        game.value(np.ones((4, N)))
        yield np.full(N, np.nan if game.budget < 10 else 1.0)

    points, budgets = points_of(run, [5, 10], anytime=False)
    assert points == [(10, 4, 1.0)] and budgets == [5, 10]
    with pytest.raises(ValueError, match="not finite"):
        points_of(run, [5, 6], anytime=False)


def test_the_truncated_game_alone(ready, monkeypatch, toy, capsys):
    monkeypatch.chdir(ready)
    given = [f"--DATA_DIR={toy}", *TINY["tools.league"], "--VARIANTS=truncated"]
    monkeypatch.setattr("sys.argv", ["tools.league", *given, "--METHODS=paper"])
    runpy.run_module("tools.league", run_name="__main__")
    folders = [path for path in ready.rglob("league") if path.is_dir()]
    assert [path.name for folder in folders for path in folder.glob("*/")] == ["truncated"]


def test_scores_are_less_the_error_of_the_reference():
    rng = np.random.default_rng(0)
    values = np.linspace(-1, 1, 5000)
    runs = values + rng.normal(0, 0.1, (10, 5000))
    reference = Reference.from_runs(runs, "lowest", 100)
    assert reference.squared_error.mean() == pytest.approx(0.001, rel=0.05)
    scores = reference.score(values + rng.choice([-0.2, 0.2], 5000))
    assert scores["error_all"] == pytest.approx(0.04, rel=0.02)
    assert scores["error_top"] == pytest.approx(0.04, rel=0.2)
    same = reference.score(reference.values)
    assert same["found_few"] == same["found_top"] == 1
    assert reference.score(-reference.values)["found_top"] == 0


# ----------------------------------------------------------------------------- limits


def test_a_run_ends_when_its_time_is_over():
    with pytest.raises(OutOfTime, match=r"0\.2 s without"), limit_run(0.2):
        while True:
            pass
    with limit_run(0.4) as restart:
        for _ in range(3):
            time.sleep(0.2)
            restart()
    time.sleep(0.5)  # the limit is off


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux")
def test_a_run_ends_when_its_memory_is_over():
    with pytest.raises(MemoryError), limit_run(60, 0.25):
        np.empty(2**27)
    assert len(np.empty(2**27)) == 2**27


# ----------------------------------------------------------------------------- the tool


def test_a_tiny_run_and_its_table(run, ready):
    """The paper's sampler has no order within so few evaluations, and its record says so."""
    (ready / "cur_records").mkdir()
    result = run("tools.league", cwd=ready)
    assert result.returncode == 0, result.stderr
    folder = ready / "cur_records/league"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.json")}
    expected = {
        f"whole/{name}_0.json" for name in ("paper", "shared", "guided", "cmcs", "gradient")
    }
    assert expected < names
    assert "whole/shared_1.json" in names and "whole/paper_1.json" not in names
    assert "truncated/cmcs_1.json" in names and "truncated/gradient_0.json" not in names
    shared = json.loads((folder / "whole/shared_0.json").read_text())
    assert [point["checkpoint"] for point in shared["points"]] == [200]
    assert shared["points"][0]["evaluations"] == 2 * 97 and not shared["failure"]
    paper = json.loads((folder / "whole/paper_0.json").read_text())
    assert not paper["points"] and "200 evaluations" in paper["failure"]
    check_goes_on(run, ready, folder)
    lines = league_table(str(ready / "cur_records")).splitlines()
    assert any("no estimate within 200 evaluations" in line for line in lines)
    assert sum("truncated orders" in line for line in lines) == 4 + 2  # and two about the values
    assert len(draw_league(str(ready / "cur_records")).axes) == 2


def check_goes_on(run, ready, folder):
    """The same command makes only what is missing, the same as before; another game is refused."""
    path = folder / "truncated/cmcs_1.json"
    before, times = json.loads(path.read_text()), modified(folder)
    path.unlink()
    assert run("tools.league", cwd=ready).returncode == 0
    again = json.loads(path.read_text())
    for record in (before, again):
        for point in record["points"]:
            del point["seconds"]
    assert again["points"] == before["points"]
    assert {name for name, when in modified(folder).items() if times[name] != when} == {path}
    result = run("tools.league", "--IMAGES=16", cwd=ready)
    assert result.returncode == 2 and "game.json is of other settings" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def modified(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


WRONG = "IMAGES=0 IMAGES=13 DEEPEST=0 TOP_K=0 TOP_K=9999 WHICH=x METHODS=x SEEDS=0 MEASURE=x "
WRONG += "VARIANTS=x CHECKPOINTS=5,5,6,7,8 REFERENCE_PARTS=1 TIME_LIMIT=0 MEMORY_GIB=0"


@pytest.mark.parametrize("argument", WRONG.split())
def test_constants_out_of_range(argument, ready, monkeypatch, toy, capsys):
    monkeypatch.chdir(ready)
    given = [f"--DATA_DIR={toy}", *TINY["tools.league"], f"--{argument}"]
    monkeypatch.setattr("sys.argv", ["tools.league", *given])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("tools.league", run_name="__main__")
    error = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and error[-1].startswith(f"--{argument.partition('=')[0]}")


# ----------------------------------------------------------------------------- tables


def made_up_run(folder, method, seed, points, failure=""):
    """A record of a run whose points are (evaluations, seconds, squared error)."""
    rows = []
    for evaluations, seconds, error in points:
        costs = {"checkpoint": evaluations, "evaluations": evaluations, "seconds": seconds}
        scores = {"error_top": error, "error_all": error / 2, "found_few": 0.5, "found_top": 0.25}
        rows.append(costs | scores)
    reference = {"error_all": 1e-9, "error_top": 2e-9, "square_all": 3e-9, "square_top": 4e-9}
    record = {"variant": "whole", "method": method, "label": method, "seed": seed}
    record |= {"failure": failure, "seconds": 7, "run_peak_memory_gib": 2.5}
    path = folder / f"league/whole/{method}_{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record | {"reference": reference, "points": rows}))


def test_table_of_made_up_runs(tmp_path):
    """At the last checkpoint with the range over seeds, and after the time of the fastest."""
    made_up_run(tmp_path, "slow", 0, [(10, 1, 9e-6), (100, 100, 1e-6)])
    made_up_run(tmp_path, "slow", 1, [(10, 1, 9e-6), (100, 100, 3e-6)])
    made_up_run(tmp_path, "fast", 0, [(10, 1, 8e-6), (100, 10, 4e-6)])
    made_up_run(tmp_path, "late", 0, [(100, 11, 5e-6), (101, 12, 5e-6)])
    made_up_run(tmp_path, "point", 0, [(1, 0.1, 6e-6)])
    made_up_run(tmp_path, "broken", 0, [], "ValueError: no")
    lines = league_table(str(tmp_path)).splitlines()[2:]
    rows = [line.strip("| ").split(" | ")[1:] for line in lines]
    assert [row[0] for row in rows[:5]] == ["slow", "fast", "late", "point", "broken"]
    assert rows[0][1:4] == ["2", "100", "2,000 (1,000 to 3,000)"]
    assert rows[0][4:] == ["1,000", "50%", "25%", "5,500", "1000.0"]
    assert rows[1][3] == rows[1][7] == "4,000" and rows[2][7] == "-" and rows[3][7] == "6,000"
    assert rows[4][3] == "ValueError: no (7 s, 2.5 GiB)"
    assert rows[5][:5] == ["0 for all players", "-", "-", "4", "3"]
    assert rows[6][:5] == ["the reference itself", "-", "-", "2", "1"]
    (axis,) = draw_league(str(tmp_path)).axes
    labels = axis.get_legend_handles_labels()[1]
    assert sorted(labels) == ["fast", "late", "point", "slow"]


def test_without_a_record_there_is_a_line(tmp_path):
    assert "python -m tools.league" in league_table(str(tmp_path))
