"""The lines that eval.py prints, word for word; the names of methods, scores and sets."""

import numpy as np
import pandas as pd
import pytest

from report import findings, labels, selection

DRAWN = {"fairface": "balanced drawings", "celeba": "unbalanced drawings"}


@pytest.mark.parametrize(
    "method, which, label",
    [
        ("shapley", "lowest", "lowest values removed"),
        ("shapley", "highest", "highest values removed"),
        ("shapley+threshold", "lowest", "lowest values removed and threshold"),
        ("threshold", "lowest", "threshold shifted"),
        ("threshold", "highest", "threshold shifted"),
        ("nothing", "highest", "nothing removed"),
        ("l2_norm", "lowest", "smallest weights removed"),
        ("l2_norm", "highest", "largest weights removed"),
        ("mean_activation", "highest", "most active removed"),
        ("greedy", "highest", "greedy removal"),
        ("values of auc", "lowest", "values of auc"),
        ("values of auc+threshold", "lowest", "values of auc and threshold"),
    ],
)
def test_method_label(method, which, label):
    assert labels.method_label(method, which) == label
    if which == "lowest":
        assert labels.method_label(method) == label


@pytest.mark.parametrize(
    "split, group, label",
    [
        ("report", "all", "accuracy"),
        ("report", "others", "accuracy on the other classes"),
        ("report", "class star", "recall of star"),
        ("report", "class class", "recall of class"),
        ("attack", "success", "success of the attack"),
        ("black box", "success", "success of the black-box attack"),
        ("fresh attack", "success", "success of a fresh attack"),
        ("no attack", "success", "unattacked, taken for the target"),
    ],
)
def test_score_label(split, group, label):
    assert labels.score_label(split, group) == label


def test_method_label_by_another_name():
    names = {"shapley": "re-estimated values", "values of auc": "paper's recipe"}
    assert labels.method_label("shapley+threshold", names=names) == (
        "re-estimated values and threshold"
    )
    assert labels.method_label("values of auc", names=names) == "paper's recipe"
    assert labels.method_label("greedy", names=names) == "greedy removal"


def test_group_label():
    groups = ["white men", "black women", "AUC black", "balanced", "CelebA test"]
    shown = ["White men", "Black women", "AUC Black", "balanced", "CelebA test"]
    assert [labels.group_label(group) for group in groups] == shown


def test_labels_of_sets():
    assert labels.fairface_label("report") == "FairFace report set"
    assert labels.fairface_label("choose", DRAWN) == "balanced drawings choosing set"
    assert labels.celeba_label("report") == "CelebA test set"
    assert labels.celeba_label("choose", DRAWN) == "unbalanced drawings val set"


# ----------------------------------------------------------------------------- faces


def repair_tables(celeba="CelebA test"):
    groups = ["black women", "balanced", "worst", "AUC black", celeba]
    rows = [
        ("nothing", 0.0, (0.5, 0.75, 0.5, 0.8, 0.9)),
        ("shapley", 2.5, (0.61, 0.77, 0.6, 0.85, 1.0)),
        ("finetune+threshold", 3.0, (0.7, 0.8, 0.7, 0.9, 0.95)),
        ("shapley@worst", 4.0, (0.65, 0.76, 0.65, 0.84, 0.8)),
        ("race_thresholds", 0.0, (0.55, 0.7, 0.55, np.nan, np.nan)),
    ]
    tables = []
    for row, steps, values in rows:
        table = pd.DataFrame({"group": groups, "value": values})
        tables.append(table.assign(row=row, steps=steps))
    change = pd.DataFrame({"group": groups, "change": [0.11, 0.02, 0.3, 0.05, 0.1]})
    change = change.assign(ci_low=change["change"] - 0.2, ci_high=change["change"] + 0.01)
    names = ["shapley against threshold", "shapley against nothing", "shapley against greedy"]
    return pd.concat(tables, ignore_index=True), dict.fromkeys(names, change)


def record_of(split):
    """What the lines need of eval.json."""
    rows = ("nothing", "shapley", "finetune+threshold", "shapley@worst", "race_thresholds")
    trained = {"finetune+threshold": ["3 epochs at 0.0001"]}
    return {"told": split, "labels": dict.fromkeys(rows, "gender"), "trained": trained}


def test_repair_lines():
    lines = findings.repair_lines(*repair_tables(), record_of("report"))
    change = (
        "Black women +11.0 (-9.0 to +12.0); balanced +2.0 (-18.0 to +3.0); "
        "AUC Black +5.0 (-15.0 to +6.0); CelebA test set +10.0 (-10.0 to +11.0)"
    )
    words = [" ".join(line.split()) for line in "\n".join(lines).splitlines()]
    assert words == [
        "Scores in % on the report set of FairFace, and accuracy on the test set of CelebA.",
        "In brackets: filters removed, or what was trained. Their number, and the shift of",
        '"... and threshold", were chosen on the choosing set, by balanced accuracy, which takes',
        "gender and race. Column labels: what the repair itself needs beside that.",
        "",
        "labels Black women balanced worst AUC Black CelebA test set",
        "nothing removed (0) gender 50.0 75.0 50.0 80.0 90.0",
        "lowest values removed (2.5) gender 61.0 77.0 60.0 85.0 100.0",
        "all fine-tuned and threshold (3 epochs at 0.0001) gender 70.0 80.0 70.0 90.0 95.0",
        "thresholds by race (fairlearn) (0) gender 55.0 70.0 55.0",
        "",
        "Chosen by each rule: worst group / balanced / accuracy on CelebA, in % (filters, or steps "
        "of training). The last rule takes no labels of groups.",
        "",
        "balanced accuracy worst group",
        "lowest values removed 60.0 / 77.0 / 100.0 (2.5) 65.0 / 76.0 / 80.0 (4)",
        "all fine-tuned and threshold 70.0 / 80.0 / 95.0 (3 epochs at 0.0001)",
        "",
        "Changes in points, with 95 % intervals over the images:",
        "",
        f"lowest values removed, against nothing removed: {change}",
        f"lowest values removed, against threshold shifted: {change}",
    ]


def test_repair_lines_of_other_sets():
    lines = findings.repair_lines(*repair_tables("CelebA val"), record_of("choose"), DRAWN)
    assert lines[0] == (
        "Scores in % on the choosing set of balanced drawings, and accuracy on the val set of "
        "unbalanced drawings."
    )
    assert "unbalanced drawings val set" in lines[5].splitlines()[0]
    assert lines[-1].endswith("; unbalanced drawings val set +10.0 (-10.0 to +11.0)")


@pytest.mark.parametrize(
    "row, compares_groups, needs",
    [
        ("nothing", True, "none"),
        ("shapley", False, "gender"),
        ("shapley+threshold@worst", True, "gender, race"),
        ("greedy", True, "gender, race"),
        ("relevance", True, "gender"),
        ("dfr+threshold", False, "gender, race"),
        ("leace@celeba", False, "race"),
        ("race_thresholds", False, "gender, race; race of every new face"),
    ],
)
def test_label_needs(row, compares_groups, needs):
    assert labels.label_needs(row, compares_groups) == needs


def test_every_rule_has_a_label():
    assert list(labels.RULE_LABELS) == list(selection.RULES)
    rows = {"nothing": "", "race_thresholds": "", "dfr": "balanced accuracy"}
    rows |= {"dfr@worst": "worst group", "threshold@celeba": "CelebA val alone"}
    assert {row: labels.rule_label(row) for row in rows} == rows
    assert labels.rule_label("dfr@celeba", DRAWN) == "unbalanced drawings val alone"
    assert labels.method_label("greedy+threshold@worst") == "greedy removal and threshold"
    assert labels.method_label("threshold@celeba") == "threshold shifted"


def test_removal_lines():
    certified = np.array([True, False, True])
    assert findings.removal_lines(certified, 9, 100) == [
        "",
        "Of the negative filters removed (3), 2 are certified by mab.py's intervals to be among "
        "the 100 lowest; the others are a best guess.",
    ]
    nobody = certified[:0]
    for n_negative, words in ((1, "No removal improves balanced accuracy"), (0, "nothing to remo")):
        blank, line = findings.removal_lines(nobody, n_negative, 100)
        assert blank == "" and words in line and line.endswith("No removal is made.")


def test_opening_lines():
    openings = [{"when": "Monday"}, {"when": "Tuesday"}]
    assert findings.opening_lines(openings[:1]) == findings.opening_lines([]) == []
    (line,) = findings.opening_lines(openings)
    assert "opened 2 times here, first Monday:" in line


# ----------------------------------------------------------------------------- other tasks


def removal_tables(steps=(0, 4)):
    table, changes = [], []
    for method, values in (("shapley", (0.9, 0.1)), ("l2_norm", (0.9, 0.8)), ("greedy", (0.9,))):
        for step, value in zip(steps, values):
            table.append((method, step, "report", "all", value))
            if method != "shapley":
                changes.append((method, step, "report", "all", 0.1 - value, -0.75, -0.6))
    keys = ["method", "n_removed", "split", "group"]
    return (
        pd.DataFrame(table, columns=[*keys, "value"]),
        pd.DataFrame(changes, columns=["before", *keys[1:], "change", "ci_low", "ci_high"]),
    )


def test_responsible_lines():
    record = {"run": {"WHICH": "highest"}, "told": "report"}
    shares = {0.001: 0.126, 0.2: 1.1}
    assert findings.responsible_lines(*removal_tables(), shares, record, 4) == [
        "In %, on the images of the report set, after so many filters were removed:",
        "",
        "                                      0     4\n"
        "accuracy: highest values removed   90.0  10.0\n"
        "accuracy: largest weights removed  90.0  80.0\n"
        "accuracy: greedy removal           90.0      ",
        "",
        "4 filters removed, in points, with 95 % intervals:",
        "",
        "accuracy: highest values removed, against largest weights removed: -70.0 (-75.0 to -60.0)",
        "",
        "Of the sum of all values, the highest 0.1% of the filters hold 13%, 20.0% of the filters "
        "hold 110%.",
    ]


def test_responsible_lines_of_fewer_filters():
    record = {"run": {"WHICH": "lowest"}, "told": "values"}
    lines = findings.responsible_lines(*removal_tables(), {}, record, 5)
    assert lines[0].startswith(
        "In %, on the images that the values were estimated on (optimistic), after"
    )
    assert lines[3:5] == [
        "",
        "No more are removed, although MAX_REMOVED=5: no other value has the sign of the set of "
        "interest.",
    ]
    assert lines[-1].startswith("accuracy: lowest values removed, against smallest weights removed")
    assert len(lines) == 9
