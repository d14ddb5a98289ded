"""Tables of the planted shortcut, from made-up records whose scores are known."""

import json

import numpy as np
import pytest
from scipy import stats

from report import metrics
from report.shortcut import CONDITIONS, pack_bits, unpack_bits
from tools import table_shortcut

N = 80  # images


def share(number):
    """Which of N images are right, the first `number` of them."""
    return np.arange(N) < number


def result(inverted, chosen=2, removed=(4, 1, 3)):
    right = {name: pack_bits(share(60)) for name in CONDITIONS}
    right["inverted"] = pack_bits(share(inverted))
    return {
        "chosen": chosen,
        "steps": ["0 filters removed", "1 filters removed", "2 filters removed"],
        "removed": list(removed),
        "response_of_removed": {"output": 0.4, "margin": 0.9} if removed else {},
        "response_and_value": {"output": 0.1, "margin": -0.5} if removed else {},
        "accuracy": {name: [0.1, 0.5, 0.75] for name in CONDITIONS},
        "right": right,
        "seconds": {"repair": 7.2},
    }


def save(folder, before, repairs, **run):
    run = {
        "TASK": "celeba",
        "MARK": "patch",
        "STRENGTH": 1.0,
        "ERASED": False,
        "IMAGES": 1000,
        "AGREEMENT": -1.0,
        "DRAW": 0,
        "SEED": 0,
        "images": "0123456789abcdef",  # the digest of those that the repairs saw
    } | run
    right = {name: pack_bits(share(before)) for name in CONDITIONS}
    folder.mkdir(parents=True)
    record = {"run": run, "images": N, "right": right, "repairs": repairs}
    (folder / "shortcut.json").write_text(json.dumps(record))


@pytest.fixture
def folder(tmp_path):
    """Two trainings at P = 1, one at 0.95, the ceiling, few images of two draws, another mark."""
    tuned = "fine-tuning all layers"
    for seed, inverted in ((0, 40), (1, 48)):
        repairs = {"gradient anew": result(inverted), tuned: result(44, removed=())}
        save(tmp_path / f"one/seed_{seed}", 8, repairs, SEED=seed)
    save(tmp_path / "most", 20, {"gradient anew": result(60)}, STRENGTH=0.95)
    save(tmp_path / "erased", 64, {"gradient anew": result(80)}, ERASED=True)
    for draw, inverted in ((0, 20), (1, 40)):
        repairs = {"gradient anew": result(inverted)}
        save(tmp_path / f"few/draw_{draw}", 8, repairs, IMAGES=100, DRAW=draw)
    save(tmp_path / "tint", 16, {"gradient anew": result(36)}, MARK="tint")
    return str(tmp_path)


def row_of(table, *cells):
    """The cells of the row that starts with these."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    return next(line for line in lines if line[: len(cells)] == list(cells))


def test_bits_are_packed_and_unpacked():
    bits = np.random.default_rng(0).random(77) < 0.5
    assert (unpack_bits(pack_bits(bits), 77) == bits).all()


def test_the_head_has_means_over_trainings(folder):
    table = table_shortcut.shortcut_head_table(folder)
    both = np.stack([share(40), share(48)])
    value, low, high = 100 * np.clip(metrics.mean_share(both), 0, 1)
    row = row_of(table, "gradient anew")
    assert round(value, 9) == 55 and row[2] == f"55.0 ({low:.1f} to {high:.1f})"
    assert row_of(table, "no repair")[2].startswith("10.0 (")
    assert row_of(table, "gradient once")[2] == "-"
    ceiling = row_of(table, "trained without marks (the ceiling)")
    assert ceiling[2] == ceiling[4] and ceiling[2].startswith("80.0 (")


def test_other_runs_are_not_in_the_main_table(folder):
    table = table_shortcut.shortcut_table(folder)
    row = row_of(table, "1", "gradient anew")
    assert row[2] == "2" and row[7:] == ["2 (2 to 2)", "7"]
    assert row_of(table, "0.95", "gradient anew")[2] == "1"
    assert row_of(table, "1", "fine-tuning all layers")[7] == "-"


def test_changes_are_paired(folder):
    table = table_shortcut.shortcut_change_table(folder)
    assert row_of(table, "1", "fine-tuning all layers")[2].startswith("+0.0 (")
    assert row_of(table, "1", "no repair")[2].startswith("+45.0 (")


def test_few_images_are_averaged_over_draws(folder):
    row = row_of(table_shortcut.shortcut_few_table(folder), "1", "100")
    assert row[2] == "1 x 2" and row[4].startswith("37.5 (")


def test_other_marks_are_in_no_table(folder):
    for name in ("shortcut_table", "shortcut_few_table"):
        table = getattr(table_shortcut, name)(folder)
        assert "55.0 (" in table and "45.0 (" not in table  # right on 36 of 80 with a tint


def test_the_truth(folder):
    row = row_of(table_shortcut.shortcut_truth_table(folder), "1", "gradient anew")
    assert row[3:5] == ["40 (40 to 40)", "0.10 (0.10 to 0.10)"]
    assert row[5:] == ["90 (90 to 90)", "-0.50 (-0.50 to -0.50)"]


def test_a_paired_change():
    """Two variances add up: of trainings by Student's t, of images by the normal distribution."""
    rng = np.random.default_rng(0)
    after, before = rng.random((2, 4, 500)) < np.array([0.8, 0.6])[:, None, None]
    change, low, high = metrics.paired_change(after, before)
    d = after.astype(float) - before
    t = stats.t.interval(0.95, 3, loc=0, scale=stats.sem(d.mean(1)))[1]
    z = 1.959964 * stats.sem(d.mean(0))
    assert change == pytest.approx(d.mean())
    assert high - change == pytest.approx(np.hypot(t, z), rel=1e-6)
    assert change - low == pytest.approx(high - change)


def test_the_figure(folder):
    figure = table_shortcut.draw_shortcut(folder)
    assert len(figure.axes) == 4
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["mark of another class"].get_ydata().tolist() == [10, 50, 75]
