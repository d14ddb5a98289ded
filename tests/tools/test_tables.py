"""Tables and figures of the pages are those of the records, and follow from made-up ones."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from datasets import GROUP_NAMES
from tests.conftest import REPOSITORY
from tools import claims, recorded, table_performance, tables
from tools.figures import FIGURE_FOLDERS, draw_figures, source_hash
from tools.overview import ROWS, draw_overview
from tools.table_repair import repair_table

PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in REPOSITORY.glob("docs/*.md"))]


@pytest.fixture
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def save_json(path, record):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


# ----------------------------------------------------------------------------- pages


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_those_of_the_records(page, in_repository):
    text = (REPOSITORY / page).read_text()
    assert len(tables.MARKS.findall(text)) == text.splitlines().count("<!-- end -->")
    assert tables.update_tables(text) == text, "run python -m tools.tables"


def test_every_table_is_on_a_page(in_repository):
    texts = [(REPOSITORY / page).read_text() for page in tables.pages()]
    assert {name for text in texts for name, _ in tables.MARKS.findall(text)} == set(tables.TABLES)
    assert tables.pages() == PAGES


def test_a_changed_number_is_noticed(in_repository):
    text = (REPOSITORY / "README.md").read_text()
    number = re.search(r"\d\d\.\d \(", text)[0]
    changed = text.replace(number, "99.9 (", 1)
    assert changed != text and tables.update_tables(changed) == text


def test_what_is_outside_the_marks_stays(monkeypatch):
    monkeypatch.setitem(tables.TABLES, "made_up_table", lambda folder: f"| {folder} |")
    old = "a\n<!-- made_up_table(x/y) -->\nold\nold\n<!-- end -->\nb <!-- end -->"
    new = "a\n<!-- made_up_table(x/y) -->\n| x/y |\n<!-- end -->\nb <!-- end -->"
    assert tables.update_tables(old) == new


def test_an_unknown_table_is_an_error():
    with pytest.raises(KeyError):
        tables.update_tables("<!-- no_such_table(cur_records) -->\n<!-- end -->")


# ----------------------------------------------------------------------------- figures


@pytest.mark.parametrize("folder", FIGURE_FOLDERS)
def test_figures_are_those_of_the_records(folder, in_repository):
    for name in draw_figures(folder):
        with Image.open(f"{folder}/{name}.png") as image:
            assert image.info["Source"] == source_hash(folder), "run python -m tools.tables"
        assert (REPOSITORY / folder / f"{name}.pdf").exists()


def test_a_changed_record_changes_the_hash(tmp_path):
    for name in (".", "seed_1"):
        folder = tmp_path / "records" / name
        folder.mkdir(exist_ok=True, parents=True)
        for file in ("eval.csv", "eval.json", "filters.csv"):
            shutil.copy(REPOSITORY / "cur_records/demo" / file, folder)
    before = source_hash(str(tmp_path / "records"))
    assert source_hash(str(tmp_path / "records")) == before
    changed = tmp_path / "records/seed_1/eval.csv"
    changed.write_text(changed.read_text().replace("0", "1", 1))
    assert source_hash(str(tmp_path / "records")) != before


def repairs(scores):
    """An eval.json of faces with {repair: accuracy of all groups}, the same for each group."""
    rows = []
    for repair, accuracy in scores.items():
        row = {"row": repair, "ci_low": accuracy - 0.1, "ci_high": accuracy + 0.1}
        extremes = ("worst", "gap", "equalised odds", "AUC white", "AUC black", "CelebA test")
        for group in (*GROUP_NAMES, "balanced", *extremes):
            rows.append(row | {"group": group, "value": accuracy})
    return {"table": rows, "steps": {repair: [3] for repair in scores}, "changes": {}}


def test_overview_shows_means_and_ranges(tmp_path):
    for name, shift in ((".", 0), ("seed_1", 0.1), ("seed_2", 0.05)):
        scores = {repair: 0.6 + 0.02 * number + shift for number, repair in enumerate(ROWS)}
        save_json(tmp_path / name / "eval.json", repairs(scores))
    groups, means = draw_overview(str(tmp_path)).axes
    line, _, (bars,) = means.containers[0]
    np.testing.assert_allclose(line.get_xdata(), 65 + 2 * np.arange(len(ROWS)))
    first_bar = bars.get_segments()[0]
    np.testing.assert_allclose(first_bar[:, 0], [60, 70])
    assert len(groups.containers) == len(GROUP_NAMES)


# ----------------------------------------------------------------------------- made-up records


def test_repair_table_names_rules_labels_and_steps(tmp_path):
    """Of two trainings: a row a rule, the chosen step of each, and no score that there is not."""
    for name, shift in ((".", 0), ("seed_1", 0.1)):
        scores = {"nothing": 0.5, "dfr": 0.75, "dfr@worst": 0.7, "race_thresholds": 0.6}
        record = repairs({row: score + shift for row, score in scores.items()})
        for row in list(record["table"]):
            if row["group"] in ("balanced", "CelebA test"):
                ending = " CelebA test" * (row["group"] == "CelebA test")
                record["table"].append(row | {"group": f"ECE{ending}", "value": 0.02})
        kept = []
        for row in record["table"]:
            if row["row"] == "race_thresholds" and "CelebA" in row["group"]:
                continue
            unscored = row["row"] == "race_thresholds" and row["group"][:3] in ("AUC", "ECE")
            kept.append(row | {"value": None} if unscored else row)
        trained = {"dfr": [f"C = {0.3 + shift:g}"], "dfr@worst": ["as it was"]}
        rules = {"rules": {}, "trained": trained, "labels": dict.fromkeys(scores, "gender, race")}
        save_json(tmp_path / name / "eval.json", record | rules | {"table": kept})
    header, _, nothing, dfr, worst, thresholds = repair_table(str(tmp_path)).splitlines()
    assert header.startswith("|  | chosen by | labels | filters (epochs) | White men |")
    assert header.endswith("| AUC Black | ECE | CelebA test set | ECE CelebA test set |")
    assert nothing.startswith("| nothing removed |  | gender, race | 3 | 55.0 (50.0 to 60.0) |")
    assert dfr.startswith(
        "| last layer retrained (DFR) | balanced accuracy | gender, race | C = 0.3 / "
    )
    assert worst.startswith(
        "| last layer retrained (DFR) | worst group | gender, race | as it was /"
    )
    assert dfr.endswith(" | 80.0 | 80.0 | 2.0 | 80.0 | 2.0 |")
    assert thresholds.endswith("| 65.0 | 65.0 | 65.0 |  |  |  |  |  |")


def test_repair_table_of_one_training_has_intervals(tmp_path):
    save_json(tmp_path / "eval.json", repairs({"nothing": 0.5, "shapley": 0.75}))
    lines = repair_table(str(tmp_path)).splitlines()
    assert len(lines) == 4 and lines[3].startswith("| lowest values removed | 3 | 75.0 (65.0 to 85")


def test_repair_table_of_several_trainings_has_ranges(tmp_path):
    for name, accuracy in ((".", 0.5), ("seed_1", 0.6), ("seed_2", 0.7)):
        save_json(tmp_path / name / "eval.json", repairs({"nothing": accuracy}))
    cells = repair_table(str(tmp_path)).splitlines()[2].split(" | ")
    assert cells[2] == "60.0 (50.0 to 70.0)"
    assert cells[-1] == "60.0 |"  # CelebA: the mean alone


def test_repairs_by_the_names_of_the_pages(tmp_path):
    """Where values are re-estimated, those estimated once are rivals; else eval.py's names."""
    for name, run in (("once", {}), ("re-estimated", {"ROUNDS_A_STAGE": 1})):
        save_json(tmp_path / name / "eval.json", {"run": run})
    once, again = (str(tmp_path / name) for name in ("once", "re-estimated"))
    assert recorded.repair_label(again, "shapley+threshold") == "re-estimated values and threshold"
    assert recorded.repair_label(again, "values of accuracy") == "paper's recipe"
    assert recorded.repair_label(again, "greedy") == "greedy removal"
    assert recorded.repair_label(once, "shapley") == "lowest values removed"


def test_drawings_are_not_called_by_the_names_of_photos(tmp_path):
    names = {"fairface": "a", "celeba": "b"}
    save_json(tmp_path / "named" / "eval.json", {"data_names": names})
    save_json(tmp_path / "photos" / "eval.json", {})
    assert recorded.set_names(str(tmp_path / "named")) == names
    assert recorded.set_names(str(tmp_path / "photos")) is None


def test_steps_are_means_over_trainings(tmp_path):
    for name, steps in ((".", [2, 4]), ("seed_1", [9])):
        save_json(tmp_path / name / "eval.json", {"steps": {"random": steps, "nothing": [0]}})
    assert recorded.steps_text(str(tmp_path), "random") == "6 (3 to 9)"
    assert recorded.steps_text(str(tmp_path), "nothing") == "0"


@pytest.mark.parametrize(
    "interval, above, expected",
    [
        ((0.5, 0.4, 0.6), True, "yes"),
        ((0.2, 0.1, 0.25), True, "no"),
        ((0.35, 0.2, 0.5), True, "on average yes, not for certain"),
        ((0.25, 0.2, 0.5), True, "on average no, not for certain"),
        ((0.2, 0.1, 0.25), False, "yes"),
        ((0.5, 0.4, 0.6), False, "no"),
        ((0.25, 0.2, 0.5), False, "on average yes, not for certain"),
    ],
)
def test_verdict_goes_by_the_interval(interval, above, expected):
    assert claims.verdict(*interval, 0.3, above=above) == expected


def test_loss_is_newcombes():
    index = pd.MultiIndex.from_tuples([("shapley", "report", "all", step) for step in (0, 5)])
    columns = ["value", "ci_low", "ci_high"]
    scores = pd.DataFrame([[0.9, 0.86, 0.93], [0.5, 0.42, 0.56]], index, columns)
    lost, low, high = claims.loss(scores, 5)
    assert lost == pytest.approx(0.4)
    assert low == pytest.approx(0.4 - np.hypot(0.04, 0.06))
    assert high == pytest.approx(0.4 + np.hypot(0.03, 0.08))


def test_sampler_runs_compare_with_the_reference(tmp_path):
    """A run whose values are 0.1 off everywhere, at a cost of 10 evaluations a guess."""
    folder, values = tmp_path / "samplers", np.arange(200) / 100
    save_json(tmp_path / "bench/squeezenet1_1_64px/bench.json", {"evaluations_a_guess": 10})
    mab = {"evaluations": 500, "guesses": 3, "rounds": 7, "run": {"SAMPLER": "guided"}}
    for name in ("reference", "guided_1"):
        save_json(folder / name / "mab.json", mab)
    counts = np.full((1, 200), 3)  # m2 = 6: a squared standard error of 6 / 2 / 3 = 1
    arrays = {"values": values, "counts": counts, "m2": np.full((1, 200), 6.0)}
    np.savez(folder / "reference/mab.npz", **arrays)
    table = pd.DataFrame({"shapley": values + 0.1})
    table.to_csv(folder / "guided_1/filters.csv", index=False)
    (run,) = table_performance.sampler_runs(str(folder)).to_dict("records")
    assert run["cost"] == 530 and not run["long"] and run["ranks"] == pytest.approx(1)
    assert [run["lowest"], run["all"]] == pytest.approx([0.1**2 - 1] * 2)
    assert run["hits 20"] == 20 and run["hits 100"] == 100


def test_bench_table_says_what_was_not_timed(tmp_path):
    times = {"plain_ms": 200.4, "plain_in_parts_ms": 100.0, "naive_ms": 300.0, "earlier_ms": 900.0}
    names = {"arch": "vgg16", "images": 8, "image_size": 64, "device": "cpu", "threads": 1}
    share = {"shared_ms": 30.0, "suffix_share": 0.5, "images_at_once": 4, "spent": {"pooling": 0.2}}
    save_json(tmp_path / "bench.json", times | names | share)
    rows = dict(
        line.strip("| ").split(" | ")
        for line in table_performance.bench_table(str(tmp_path)).splitlines()
    )
    assert rows["the network as it is, all images at once"] == "200"
    assert rows["**here**"] == "**30.0**" and rows["times as fast as the earlier way"] == "30"
    assert rows["a guess of all filters' marginals at a coalition"] == "not timed"
    assert rows["time / (share x plain forward in parts)"] == "0.60"


# ----------------------------------------------------------------------------- coverage


@pytest.fixture
def coverage_folder(tmp_path):
    """A made-up record of tools.coverage: a game and a bandit, without and with clip."""
    constants = {"RUNS": 1000, "ROUNDS": 300, "DELTA": 0.05, "BANDIT_RUNS": 20}
    constants |= {"BANDIT_ROUNDS": 600, "BANDIT_PLAYERS": 8}
    bandit = {"certified": 7.5, "decided": 0.5, "rounds": 99.6, "evaluations": 1234.4}
    table = []
    for clip, missed in ((None, 0.05), (0.5, 0.051)):
        for bound in ("sequence", "clt"):
            row = {"bound": bound, "clip": clip, "missed": missed, "width": 0.25}
            table.append(row | {"game": "one_game", "value": 0.0123})
            table.append(row | bandit | {"game": "bandit", "wrong": 0.06 if clip else 0.0})
    table.sort(key=lambda row: row["game"], reverse=True)
    save_json(tmp_path / "coverage.json", {"constants": constants, "table": table})
    return str(tmp_path)


def test_coverage_table_shows_broken_promises_in_bold(coverage_folder):
    header, _, *rows = table_performance.coverage_table(coverage_folder).splitlines()
    assert header == (
        "| 1,000 runs of 300 rounds | a player's value | sequence: missed, width "
        "| clt (approximate, one look): missed, width |"
    )
    assert rows == [
        "| one game | 0.012 | 5.0%, 0.2500 | 5.0%, 0.2500 |",
        "| ... clipped to ±0.5 | 0.012 | **5.1%**, 0.2500 | **5.1%**, 0.2500 |",
    ]


def test_bandit_coverage_table(coverage_folder):
    header, _, *rows = table_performance.bandit_coverage_table(coverage_folder).splitlines()
    assert "20 whole runs of 600 rounds at most" in header and "players, of 8" in header
    assert len(rows) == 4
    assert rows[0] == "| bandit | sequence | 5.0% | 0.0% | 7.5 | 50.0% | 100 | 1,234 |"
    assert rows[3].startswith(
        "| ... clipped to ±0.5 | clt (approximate, one look) | **5.1%** | **6."
    )
