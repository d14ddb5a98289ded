"""The paper's claims, and what became of each in the records."""

import glob
import os
from dataclasses import dataclass

import numpy as np

from tools.recorded import (
    application_scores,
    arrows,
    change_text,
    evaluation,
    markdown_table,
    repair_changes,
    score_path,
    valuation,
)

# Records of application I, and what they are of.
CRITICAL_RECORDS = {
    "digits": "MNIST",
    "signs": "drawn signs",
    "signs_resnet18": "drawn signs",
}
# Records of application IV.
ATTACK_RECORDS = {"digits/attack": "MNIST", "celeba_attack": "CelebA gender"}

PAPER_ROW = "values of accuracy"  # the paper's recipe: Shapley values of accuracy, once
BEST_ROW = "shapley+threshold"  # values re-estimated before each removal, threshold shifted
HEADER = ["claim", "paper", "earlier reimplementation", "here", "reproduced?", "record"]


@dataclass
class RepairClaim:
    """A claim on the repair of faces: one score of one repair changes by more than `least`.

    text, paper, earlier: cells of the table. row: the repair; before: what it is compared with;
    group, split: the score. least: a share in [-1, 1]. prefix: words in front of our numbers.
    """

    text: str
    row: str
    group: str
    paper: str = "not studied"
    earlier: str = "not studied"
    before: str = "nothing"
    split: str = "report"
    least: float = 0.0
    prefix: str = ""


REPAIR_CLAIMS = [
    RepairClaim(
        "the paper's recipe repairs the worst group",
        PAPER_ROW,
        "black women",
        "Black women 54.7 -> 81.9",
        "54 -> 80, 36 filters, on the images of the values",
        prefix="Black women ",
    ),
    RepairClaim(
        "... and raises the mean of the groups",
        PAPER_ROW,
        "balanced",
        "84.9 -> 91.7",
        "72 -> 76, on the images of the values",
    ),
    RepairClaim(
        "... more than a threshold shift does",
        PAPER_ROW,
        "balanced",
        before="threshold",
        prefix="balanced ",
    ),
    RepairClaim(
        "... and with the threshold shifted in both",
        f"{PAPER_ROW}+threshold",
        "balanced",
        before="threshold",
        prefix="balanced ",
    ),
    RepairClaim(
        "... and costs at most 2 points on CelebA",
        PAPER_ROW,
        "all",
        "a little",
        "not reported",
        split="celeba",
        least=-0.02,
    ),
    RepairClaim(
        "re-estimated values and threshold: Black women +27.2",
        BEST_ROW,
        "black women",
        "+27.2",
        "-",
        least=0.272,
    ),
    RepairClaim("... balanced +6.8", BEST_ROW, "balanced", "+6.8", "-", least=0.068),
    RepairClaim(
        "... more than a threshold shift does",
        BEST_ROW,
        "balanced",
        before="threshold",
        prefix="balanced ",
    ),
    RepairClaim("... AUC among Black faces, which no threshold moves", BEST_ROW, "AUC black"),
    RepairClaim(
        "... and costs at most 2 points on CelebA",
        BEST_ROW,
        "all",
        "a little",
        "not reported",
        split="celeba",
        least=-0.02,
    ),
    RepairClaim(
        "... better than greedy removal on the same images",
        BEST_ROW,
        "balanced",
        before="greedy+threshold",
        prefix="balanced, both with a threshold: ",
    ),
    RepairClaim(
        "... better than fine-tuning on the same images",
        BEST_ROW,
        "balanced",
        before="finetune+threshold",
        prefix="balanced, both with a threshold: ",
    ),
]


def claims_table(folder):
    """The claims on the repair of faces, and on what is certified, as the records have it."""
    rows = []
    for claim in REPAIR_CLAIMS:
        ours = change_text(folder, claim.row, claim.before, claim.group, claim.split)
        if claim.before == "nothing":
            ours = f"{score_path(folder, claim.row, claim.group, claim.split)}: {ours}"
        verdict = _repair_verdict(folder, claim)
        ours = claim.prefix + ours
        record = "`eval.json` of the seeds"
        rows.append([claim.text, claim.paper, claim.earlier, ours, verdict, record])
    return markdown_table(HEADER, [*rows, _certification_row(folder)])


def _repair_verdict(folder, claim):
    """Whether the interval of a change lies above or below what is claimed."""
    changes = repair_changes(folder, claim.row, claim.before, claim.split)
    mean, low, high = changes.loc[claim.group, ["change", "ci_low", "ci_high"]]
    if low <= claim.least <= high and claim.least == 0:
        return "undecided by these data"
    return verdict(mean, low, high, claim.least, above=True)


def _certification_row(folder):
    mab = valuation(f"{folder}/samplers/reference")
    if mab["decided"]:
        outcome = "decided"
    elif mab["certified"] + mab["ruled_out"]:
        outcome = "partly decided"
    else:
        outcome = "no filter decided"
    ours = (
        f"{outcome} after {mab['rounds']:,} rounds; reliability {mab['reliability']:.2f}, "
        f"widest interval {mab['widest_interval']:.2f}"
    )
    return [
        "the k most extreme filters are found with probability 1 - delta",
        "k = 100",
        "no filter decided after 809 rounds, reliability 0.35",
        ours,
        "yes" if mab["decided"] else "no",
        "`samplers/reference/`",
    ]


def application_claims_table(folder):
    """The claims of the paper's applications I, II and IV, as the records have it."""
    rows = []
    for name, task in CRITICAL_RECORDS.items():
        rows += _critical_claims(f"{folder}/{name}", task, f"`{name}/`")
    for name in sorted(glob.glob(f"{folder}/digits/class_*")):
        rows += _class_claims(name, f"`digits/{os.path.basename(name)}/`")
    for name, task in ATTACK_RECORDS.items():
        rows += _attack_claims(f"{folder}/{name}", task, f"`{name}/`")
    return markdown_table(HEADER, rows)


def _critical_claims(folder, task, record):
    scores, evaluated = application_scores(folder), evaluation(folder)
    shares = evaluated["concentration"]
    what = f"I, {task}, {evaluated['run']['ARCH']}"
    intact = score(scores, 0)[0]
    return [
        [
            f"{what}: accuracy depends on a few filters (less than half remains without 20)",
            "74 -> 38 -> 8 (0, 10, 20 filters)",
            "-",
            path(scores, (0, 10, 20)),
            verdict(*score(scores, 20), intact / 2, above=False),
            record,
        ],
        [
            f"{what}: 20 random filters removed change nothing (2 points at most)",
            "no change",
            "-",
            path(scores, (0, 20), method="random"),
            verdict(*loss(scores, 20, method="random"), 0.02, above=False),
            record,
        ],
        [
            f"{what}: values are sparse (the highest 1 % hold half of their sum)",
            "very sparse",
            "-",
            f"highest 1 % hold {shares['0.01']:.0%}, 10 % hold {shares['0.1']:.0%}",
            "yes" if shares["0.01"] > 0.5 else "less sparse",
            record,
        ],
    ]


def _class_claims(folder, record):
    scores, digit = application_scores(folder), evaluation(folder)["run"]["CLASS"]
    what, recall = f"II, the digit {digit}", f"class {digit}"
    return [
        [
            f"{what}: 40 filters removed, the class is lost (recall below 10 %)",
            "yes",
            "-",
            path(scores, (0, 40), group=recall),
            verdict(*score(scores, 40, group=recall), 0.1, above=False),
            record,
        ],
        [
            f"{what}: ... and the rest is intact (5 points lost at most)",
            "yes",
            "-",
            path(scores, (0, 40), group="others"),
            verdict(*loss(scores, 40, group="others"), 0.05, above=False),
            record,
        ],
    ]


def _attack_claims(folder, task, record):
    scores = application_scores(folder)
    last = scores.index.get_level_values("n_removed").max()
    same, fresh, black_box, unattacked = (
        {"split": split, "group": "success"}
        for split in ("attack", "fresh attack", "black box", "no attack")
    )
    black_box_before = score(scores, 0, **black_box)[0]
    weakened = "undecided: it had no success to lose"
    if black_box_before >= 0.05:
        weakened = verdict(*score(scores, last, **black_box), black_box_before * 2 / 3, above=False)
    claims = [
        (
            f"{last} filters removed, the attack fails (success below 5 %)",
            "100 -> 0.1",
            path(scores, (0, last), **same),
            verdict(*score(scores, last, **same), 0.05, above=False),
        ),
        (
            "... at a small cost (7 points of clean accuracy at most)",
            "74 -> 67",
            path(scores, (0, last)),
            verdict(*loss(scores, last), 0.07, above=False),
        ),
        (
            "... and a black-box attack loses a third of its success",
            "-37 on average",
            f"{path(scores, (0, last), **black_box)}; "
            f"unattacked {path(scores, (0, last), **unattacked)}",
            weakened,
        ),
        (
            "... but a fresh attack works (success above 50 %)",
            "yes",
            path(scores, (0, last), **fresh),
            verdict(*score(scores, last, **fresh), 0.5, above=True),
        ),
    ]
    return [
        [f"IV, {task}: {claim}", paper, "-", ours, judged, record]
        for claim, paper, ours, judged in claims
    ]


def score(scores, step, split="report", group="all", method="shapley"):
    """A score of an application after `step` filters: (value, ci_low, ci_high), in [0, 1]."""
    return tuple(scores.loc[(method, split, group, step), ["value", "ci_low", "ci_high"]])


def path(scores, steps, **which):
    """A score of an application after each number of filters, in %: "74.0 -> 38.0"."""
    return arrows(score(scores, step, **which)[0] for step in steps)


def loss(scores, step, **which):
    """What a score lost since no filter was removed: (loss, low, high).

    Newcombe's square-and-add interval of two proportions, as if they were not paired: somewhat
    too wide.
    """
    before, before_low, before_high = score(scores, 0, **which)
    after, after_low, after_high = score(scores, step, **which)
    lost = before - after
    low = lost - np.hypot(before - before_low, after_high - after)
    high = lost + np.hypot(before_high - before, after - after_low)
    return lost, low, high


def verdict(mean, low, high, limit, *, above):
    """Whether a number lies above (or below) a limit, by its interval: yes, no, or on average."""
    sign = 1 if above else -1
    nearest, farthest = (low, high) if above else (high, low)
    if sign * nearest > sign * limit:
        return "yes"
    if sign * farthest < sign * limit:
        return "no"
    return f"on average {'yes' if sign * mean > sign * limit else 'no'}, not for certain"
