"""Tables on the paper's applications other than repair: I, II and IV."""

import glob

from report import metrics
from report.labels import method_label
from tools.claims import ATTACK_RECORDS, CRITICAL_RECORDS
from tools.recorded import (
    application_scores,
    arrows,
    evaluation,
    markdown_table,
    valuation,
)

# Columns of attack_table: split and group of the scores.
ATTACK_SCORES = [
    ("report", "all"),
    ("attack", "success"),
    ("fresh attack", "success"),
    ("black box", "success"),
    ("no attack", "success"),
]
# Rows of attack_table: method, and the numbers of filters removed that it shows.
ATTACK_STEPS = {"shapley": (0, 4, 16), "l2_norm": (0, 16), "random": (0, 16)}


def critical_table(folder):
    """Application I: accuracy as filters are removed, by value and by rivals."""
    rows = [
        ["paper: Inception-v3, ImageNet, highest values removed", "74", "38", "8", "not reported"],
        ["paper: the same, random filters removed", "74", "no change", "no change", "no change"],
    ]
    for name, task in CRITICAL_RECORDS.items():
        record, scores = evaluation(f"{folder}/{name}"), application_scores(f"{folder}/{name}")
        for method in dict.fromkeys(row["method"] for row in record["table"]):
            steps = [(method, "report", "all", step) for step in (0, 10, 20, 30)]
            label = f"{task}, {record['run']['ARCH']}: {method_label(method, 'highest')}"
            rows.append([label, *metrics.format_percent(scores.loc[steps])])
    return markdown_table(["accuracy in %; filters removed:", 0, 10, 20, 30], rows)


def concentration_table(folder):
    """Application I: the share of the values' sum that the highest filters hold."""
    rows = []
    for name, task in CRITICAL_RECORDS.items():
        mab = valuation(f"{folder}/{name}")
        shares = evaluation(f"{folder}/{name}")["concentration"]
        cells = [f"{share:.0%}" for share in shares.values()]
        negative = f"{mab['negative'] / mab['filters']:.0%}"
        reliability = f"{mab['reliability']:.2f}"
        label = f"{task}, {mab['run']['ARCH']}"
        rows.append([label, mab["rounds"], reliability, *cells, negative])
    parts = [f"highest {float(share):.1%}" for share in shares]
    header = ["", "rounds", "reliability", *parts, "filters of negative value"]
    return markdown_table(header, rows)


def class_table(folder):
    """Application II: recall of a class, and accuracy on the others, as its filters are removed."""
    rows = []
    for name in sorted(glob.glob(f"{folder}/class_*")):
        scores, digit = application_scores(name), evaluation(name)["run"]["CLASS"]
        reliability = f"{valuation(name)['reliability']:.2f}"
        for method in ("shapley", "l2_norm", "random"):
            recall = [(method, "report", f"class {digit}", step) for step in (0, 20, 40)]
            rest = [(method, "report", "others", step) for step in (0, 20, 40)]
            texts = [metrics.format_percent(scores.loc[steps]) for steps in (recall, rest)]
            cells = [" / ".join(pair) for pair in zip(*texts)]
            label = f"{digit}, {method_label(method, 'highest')}"
            rows.append([label, reliability if method == "shapley" else "", *cells])
    header = [
        "class: its recall / accuracy on the other classes, in %; filters removed:",
        "reliability of the values",
    ]
    return markdown_table([*header, 0, 20, 40], rows)


def attack_table(folder):
    """Application IV: clean accuracy and success of attacks, as filters are removed."""
    paper = [
        "paper: Inception-v3, ImageNet, 16 filters",
        "",
        "26 -> -67",
        "74 -> 67",
        "100 -> 0.1",
        "still works",
        "-37 on average",
        "not reported",
    ]
    rows = [paper]
    for name, task in ATTACK_RECORDS.items():
        scores = application_scores(f"{folder}/{name}")
        record = valuation(f"{folder}/{name}")
        reliability, arch = f"{record['reliability']:.2f}", record["run"]["ARCH"]
        for method, steps in ATTACK_STEPS.items():
            label = f"{task}, {arch}: {method_label(method, 'highest')}, "
            label += " -> ".join(map(str, steps))
            cells = _attack_cells(scores, method, steps)
            rows.append([label, reliability if method == "shapley" else "", *cells])
    header = [
        "in %; filters removed",
        "reliability of the values",
        "V",
        "clean accuracy",
        "success of the same attack",
        "of a fresh attack on the network without them",
        "of a black-box attack",
        "not attacked, but taken for the target",
    ]
    return markdown_table(header, rows)


def _attack_cells(scores, method, steps):
    """V, then each of ATTACK_SCORES, along the steps: texts."""
    columns = []
    for split, group in ATTACK_SCORES:
        keys = [(method, split, group, step) for step in steps]
        columns.append([scores.loc[key, "value"] for key in keys if key in scores.index])
    clean, success = columns[:2]
    worth = [attacked - right for attacked, right in zip(success, clean)]  # V
    return [arrows(column) or "not run" for column in (worth, *columns)]
