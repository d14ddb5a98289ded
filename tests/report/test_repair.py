"""The protocol for faces, on a network of which every margin is known."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from datasets import GROUP_NAMES
from report import following, metrics, repair, selection
from tests.report.toy_faces import (
    FACES,
    GROUP,
    MALE,
    NO_GROUP,
    NUMBERED,
    SETS,
    SIGN,
    KnownEvaluator,
    known_margins,
    numbered,
    right_in_each,
)

# ----------------------------------------------------------------------------- rows of the table


def path_of(name, threshold, chosen, rule="balanced", n_steps=4):
    """A path whose margins at step i are i for men and -i for women; in CelebA the opposite."""
    steps, shifts = np.arange(n_steps)[:, None] * SIGN.astype(float), np.full(n_steps, 0.5)
    margins = {"report": steps, "celeba": -steps}
    return selection.RepairPath(name, threshold, margins, shifts * threshold, chosen, rule)


@pytest.fixture
def paths():
    return [
        path_of("shapley", False, 2),
        path_of("shapley", True, 1),
        path_of("random 0", False, 3),
        path_of("random 0", True, 0),
        path_of("random 1", False, 1),
        path_of("random 1", True, 3),
        path_of("finetune", False, 1),
    ]


def test_table_rows(paths):
    """The network as it is comes first; all random orders are one row."""
    rows = repair.table_rows(paths)
    assert {row.name: row.steps for row in rows} == {
        "nothing": [0],
        "threshold": [0],
        "shapley": [2],
        "shapley+threshold": [1],
        "random": [3, 1],
        "random+threshold": [0, 3],
        "finetune": [1],
    }
    assert [row.name for row in rows][:4] == [
        "nothing",
        "threshold",
        "shapley",
        "shapley+threshold",
    ]
    rows = {row.name: row for row in rows}
    for split, sign in (("report", 1), ("celeba", -1)):
        assert rows["random"].stacked(split).tolist() == (sign * np.outer([3, 1], SIGN)).tolist()
        threshold = rows["threshold"].stacked(split)
        assert threshold.shape == (1, 200) and (threshold == 0.5).all()
        assert (rows["nothing"].stacked(split) == 0).all()


def test_rows_of_another_rule(paths):
    """They bear its name; the network as it is is there once, and its threshold shift anew."""
    by_worst = [
        path_of(name, shifted, 3, "worst")
        for name in ("shapley", "random 0")
        for shifted in (False, True)
    ]
    rows = {row.name: row.steps for row in repair.table_rows([*paths, *by_worst])}
    names = [name for name in rows if "@" in name]
    assert names == ["shapley@worst", "threshold@worst", "shapley+threshold@worst",
                     "random@worst", "random+threshold@worst"]  # fmt: skip
    assert rows["shapley@worst"] == [3] and rows["threshold@worst"] == [0]
    assert rows["nothing"] == [0] and rows["random"] == [3, 1]
    assert repair.compared_rows(list(rows)) == repair.compared_rows(list(rows)[:7])


def test_compared_rows():
    names = ["nothing", "threshold", "shapley", "shapley+threshold", "greedy", "greedy+threshold"]
    assert repair.compared_rows(names) == [
        ("threshold", "nothing"),
        ("shapley", "nothing"),
        ("shapley+threshold", "nothing"),
        ("greedy", "nothing"),
        ("greedy+threshold", "nothing"),
        ("shapley", "threshold"),
        ("shapley+threshold", "threshold"),
        ("shapley", "greedy"),
        ("shapley+threshold", "greedy+threshold"),
    ]


@pytest.mark.parametrize("split, celeba", [("report", "CelebA test"), ("choose", "CelebA val")])
def test_scores_and_changes(split, celeba):
    """Both are metrics' of the rows' margins, over FairFace's split and CelebA."""
    rng, rows = np.random.default_rng(0), []
    for name, steps in (("nothing", [0]), ("shapley", [4]), ("random", [1, 2])):
        margins = {part: list(rng.normal(0, 1, (len(steps), 200)) + SIGN) for part in SETS}
        rows.append(repair.RepairRow(name, steps, margins))
    rows += [
        repair.RepairRow(f"{name}threshold", [0], rows[0].margins) for name in ("", "shapley+")
    ]
    reported = repair.Reported(split, SETS, seed=5)
    assert reported.splits == (split, "celeba")
    table = repair.score_rows(rows, reported)
    assert table.columns.tolist() == [
        "group", "value", "ci_low", "ci_high", "n_images", "row", "steps"
    ]  # fmt: skip
    assert list(dict.fromkeys(table["row"])) == [row.name for row in rows]
    assert table.index.tolist() == list(range(len(table)))
    random = table[table["row"] == "random"]
    assert random["group"].tolist()[-4:] == ["AUC black", "ECE", celeba, f"ECE {celeba}"]
    assert len(random) == 13
    assert (random["steps"] == 1.5).all() and (table["steps"][:13] == 0).all()
    margins = np.stack(rows[2].margins[split])
    expected = metrics.score_table([margins], MALE, GROUP, 5)
    pd.testing.assert_frame_equal(random.iloc[:11, :5].reset_index(drop=True), expected)
    changes = repair.compare_rows(rows, reported)
    names = [f"{a} against {b}" for a, b in repair.compared_rows([row.name for row in rows])]
    assert list(changes) == names
    change = changes["shapley against random"]
    after, before = (np.stack(rows[number].margins["celeba"]) for number in (1, 2))
    expected = metrics.score_changes([before], [after], MALE, NO_GROUP, 5)
    expected = expected.replace({"group": {"all": celeba, "ECE all": f"ECE {celeba}"}})
    pd.testing.assert_frame_equal(change.iloc[11:].reset_index(drop=True), expected)
    assert change["group"].tolist()[0] == "white men"


def test_curve_table(paths):
    table = repair.curve_table(paths[:2], SETS)
    assert table.columns.tolist() == [
        "method", "n_removed", "split", "group", "accuracy", "ci_low", "ci_high", "n_images"
    ]  # fmt: skip
    assert table.index.tolist() == list(range(len(table)))
    assert len(table) == 2 * (4 * 6 + 4)  # paths; steps of report with six groups, of celeba
    assert list(dict.fromkeys(table["method"])) == ["shapley", "shapley+threshold"]
    rows = table[(table["method"] == "shapley") & (table["split"] == "celeba")]
    assert rows["n_removed"].tolist() == [0, 1, 2, 3] and set(rows["group"]) == {"all"}
    assert rows["accuracy"].tolist() == [0.5, 0, 0, 0]  # at step 0 all are called female
    rows = table[(table["method"] == "shapley+threshold") & (table["split"] == "report")]
    balanced = rows[rows["group"] == "balanced"].set_index("n_removed")
    assert balanced["accuracy"].tolist() == [0.5, 1, 1, 1]
    last = table.iloc[0]
    expected = metrics.accuracy_by_group(MALE == 0, GROUP).iloc[0]
    assert last[expected.index].tolist() == expected.tolist()


# ----------------------------------------------------------------------------- the whole protocol


def evaluate():
    game = SimpleNamespace(evaluator=KnownEvaluator(), network=None, device=torch.device("cpu"))
    orders = {"shapley": np.array([2, 0, 3]), "random 0": np.array([4, 3])}
    faces = NUMBERED | {"celeba val": NUMBERED["celeba"]}
    reported = repair.Reported("report", faces, seed=0)
    margins = following.follow_repairs(game, torch.zeros(5), orders, {}, faces)
    return orders, repair.evaluate_repairs(margins, orders["shapley"], reported)


def test_evaluate_repairs():
    orders, result = evaluate()
    margins = known_margins(orders["shapley"])
    chosen = selection.choose_step(margins, FACES)
    assert chosen == 1 and result.removed.tolist() == [2]
    names = [row.name for row in result.rows]
    rows = dict(zip(names, result.rows))
    methods = ["shapley", "shapley+threshold", "random", "random+threshold"]
    assert names[:7] == ["nothing", "threshold", "race_thresholds", *methods]
    for number, rule in ((7, "worst"), (12, "celeba")):
        expected = ["shapley", "threshold", *methods[1:]]
        assert names[number : number + 5] == [f"{name}@{rule}" for name in expected]
    assert len(names) == 17
    np.testing.assert_allclose(rows["shapley"].stacked("celeba")[0], margins[chosen], atol=1e-6)
    pd.testing.assert_frame_equal(result.table, repair.score_rows(result.rows, result.reported))
    assert len(result.curves) == 2 * (4 + 3) * (6 + 6 + 1 + 1)  # of the first rule alone
    assert "shapley against random" in result.changes


def test_margin_arrays():
    """What others need to make tables of several trainings; the order decides the file's bytes."""
    _, result = evaluate()
    arrays = result.margin_arrays()
    names = [row.name for row in result.rows]
    splits = ("report", "celeba")
    margins = [f"{split}/{name}" for split in splits for name in names]
    margins.remove("celeba/race_thresholds")  # where no race is known
    labels = [f"{name}/{split}" for name in ("male", "group") for split in splits]
    assert list(arrays) == margins + labels
    for row in result.rows:
        if row.name == "race_thresholds":
            continue
        array = arrays[f"celeba/{row.name}"]
        assert array.dtype == np.float32 and array.shape == (len(row.steps), 200)
        np.testing.assert_array_equal(array, row.stacked("celeba").astype(np.float32))
    assert arrays["male/report"].tolist() == MALE.tolist()
    assert arrays["group/report"].tolist() == GROUP.tolist()
    assert arrays["group/celeba"].tolist() == NO_GROUP.tolist()


def test_examples_are_of_the_reported_split():
    _, result = evaluate()
    rows = {row.name: row for row in result.rows}
    sides = (rows[name].stacked("report")[0] for name in ("nothing", "shapley"))
    images, captions = repair.example_faces(NUMBERED["report"], *sides)
    examples = result.examples()
    assert np.array_equal(examples[0], images) and examples[1].tolist() == captions.tolist()


def test_example_faces():
    """Those that change most come first, repaired ones in front; no more than asked for."""
    faces = numbered(FACES)
    before, after = SIGN.astype(float), SIGN.astype(float)
    repaired = {0: 1.0, 60: 3.0, 110: 2.0}  # a white man, a white woman, a black man
    broken = {160: 1.0, 10: 2.0}  # a black woman, a white man
    for row, size in repaired.items():
        before[row], after[row] = -size * SIGN[row], size * SIGN[row]
    for row, size in broken.items():
        before[row], after[row] = size * SIGN[row], -size * SIGN[row]
    after[100] = 50  # changes most, and stays right
    images, captions = repair.example_faces(faces, before, after)
    assert images.shape == (5, 1, 1, 3) and images.dtype == np.uint8
    assert images[:, 0, 0, 0].tolist() == [60, 110, 0, 10, 160]
    assert captions.tolist() == [
        "one of the white women\nmale -> female",
        "one of the black men\nfemale -> male",
        "one of the white men\nfemale -> male",
        "one of the white men\nmale -> female",
        "one of the black women\nfemale -> male",
    ]
    images, _ = repair.example_faces(faces, before, after, repaired=1, broken=1)
    assert images[:, 0, 0, 0].tolist() == [60, 10]
    images, captions = repair.example_faces(faces, before, before)
    assert len(images) == len(captions) == 0 and captions.dtype.kind == "U"


def test_example_faces_are_eight_at_most():
    """Five repaired and three broken. Equal changes come in the order of the images."""
    right_before, right_after = right_in_each(10, 50, 50, 50), right_in_each(50, 40, 50, 50)
    sides = (np.where(right, SIGN, -SIGN) for right in (right_before, right_after))
    images, _ = repair.example_faces(numbered(FACES), *sides)
    assert images[:, 0, 0, 0].tolist() == [10, 11, 12, 13, 14, 90, 91, 92]
    zero = np.zeros(200)  # a margin of 0 is female
    images, captions = repair.example_faces(numbered(FACES), zero, np.where(MALE == 1, 1.0, 0.0))
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert set(captions) == {f"one of the {GROUP_NAMES[0]}\nfemale -> male"}


def test_results_fit_json():
    _, result = evaluate()
    steps = {row.name: row.steps for row in result.rows}
    assert json.loads(json.dumps(steps)) == steps
