"""Tables and figures of the study of fairwashing, from the records of fairwashing.py."""

import os
from dataclasses import dataclass

from common.records import load_csv, load_json, load_npz

import numpy as np

from readers.faces import GROUP_NAMES
from report import fairwashing_figures
from report.fairwashing import (
    COLUMNS,
    GROUP_COLUMNS,
    KNOWING,
    PLAIN,
    PROJECTED,
    RAW,
    Results,
    over_seeds,
)
from report.fairwashing_text import METHOD_LABELS, maps_of, mean_text, method_name, students_of
from tools.recorded import markdown_table

NETWORKS = ("student", "teacher")
SOURCES = ("fairwashing.json", "scores.csv", "maps.npz", "hidden.csv")


def has_fairwashing(folder):
    """Whether a folder of records is one of fairwashing.py."""
    return os.path.exists(f"{folder}/fairwashing.json")


def fairwashing_results(folder):
    """The Results that fairwashing.py saved in a folder, whose maps may be missing.

    Raises InputError.
    """
    maps = {}
    if os.path.exists(f"{folder}/maps.npz"):  # it holds images, which not every licence allows
        maps = load_npz(f"{folder}/maps.npz", "fairwashing.py")
    scores = load_csv(f"{folder}/scores.csv", "fairwashing.py", COLUMNS)
    curves = load_csv(f"{folder}/curves.csv", "fairwashing.py", [])
    facts, groups = load_json(f"{folder}/fairwashing.json", "fairwashing.py"), None
    if os.path.exists(f"{folder}/groups.csv"):
        groups = load_csv(f"{folder}/groups.csv", "fairwashing.py", GROUP_COLUMNS)
    return Results(scores, curves, maps, facts, groups)


def draw_fairwashing(folder):
    """The figures of a folder of fairwashing.py, {name: matplotlib Figure}."""
    results = fairwashing_results(folder)
    if results.maps:
        return fairwashing_figures.draw_all(results)
    return {"scores": fairwashing_figures.score_figure(results)}


def _scores(folder):
    return over_seeds(fairwashing_results(folder).scores)


def _change(table, student, network, reference, measure="pcc"):
    """A score raw and projected, means: "0.76 -> 0.22"."""
    part = table.loc[student]["mean"]
    return " -> ".join(
        f"{part[network, maps, reference, measure]:.2f}" for maps in (RAW, PROJECTED)
    )


def fairwashing_head_table(folder):
    """One row a method: agreement, the faked map, and what projection does to it."""
    table = _scores(folder)
    rows = []
    for student in students_of(table):
        if student[1] != PLAIN:
            continue
        part = table.loc[student]
        agreement = mean_text(part.loc["student", "outputs", "teacher", "agreement"], 100, 1)
        ssim = mean_text(part.loc["student", RAW, "target", "ssim"])
        cells = [_change(table, student, "student", "target")]
        cells.append(_change(table, student, "teacher", "target"))
        cells.append(_change(table, student, "student", "teacher"))
        rows.append([METHOD_LABELS[student[0]], agreement, ssim, *cells])
    header = ["explanation", "same class as the teacher, %", "SSIM with the target"]
    header += ["PCC with the target, raw -> TSP", "the teacher's PCC with it"]
    return markdown_table([*header, "PCC with the teacher's map, raw -> TSP"], rows)


def fairwashing_outputs_table(folder):
    """Accuracy, agreement and output error of all students."""
    table = _scores(folder)
    rows = []
    for student in students_of(table):
        part = table.loc[student]
        keys = [(name, "outputs", "label", "accuracy") for name in ("student", "teacher")]
        keys.append(("student", "outputs", "teacher", "agreement"))
        cells = [mean_text(part.loc[key], 100, 1) for key in keys]
        error = part.loc[("student", "outputs", "teacher", "mse"), "mean"]
        seeds = int(part["seeds"].iloc[0])
        rows.append([method_name(*student), seeds, *cells, f"{error:.1e}"])
    header = ["student", "trainings", "accuracy, %", "teacher's, %", "agreement, %", "output MSE"]
    return markdown_table(header, rows)


def fairwashing_maps_table(folder):
    """All scores of heat-maps: student and teacher, raw and projected."""
    table = _scores(folder)
    rows = []
    for student in students_of(table):
        part = table.loc[student]
        for maps, label in ((RAW, "raw"), (PROJECTED, "TSP")):
            row = [method_name(*student), label]
            for measure in ("ssim", "pcc", "mass"):
                score = mean_text(part.loc["student", maps, "target", measure])
                other = part.loc[("teacher", maps, "target", measure), "mean"]
                row.append(f"{score}; {other:.2f}")
            error = [part.loc[(name, maps, "target", "mse"), "mean"] for name in NETWORKS]
            row.append("; ".join(f"{value:.1e}" for value in error))
            for measure in ("ssim", "pcc"):
                row.append(mean_text(part.loc["student", maps, "teacher", measure]))
            rows.append(row)
    header = ["student", "maps", "SSIM with the target; teacher's", "PCC; teacher's"]
    header += ["mass in the target; teacher's", "MSE; teacher's"]
    return markdown_table([*header, "SSIM with the teacher's map", "PCC with it"], rows)


def fairwashing_defences_table(folder):
    """Each defence: what remains of the fake, and how much of the teacher's map there is."""
    table = _scores(folder)
    rows = []
    for student in students_of(table):
        part = table.loc[student]
        for maps, label in maps_of(part).items():
            cells = [mean_text(part.loc["student", maps, "target", "pcc"])]
            cells.append(f"{part.loc[('teacher', maps, 'target', 'pcc'), 'mean']:.2f}")
            cells.append(mean_text(part.loc["student", maps, "teacher", "pcc"]))
            own = "-"
            if maps == "randomised":
                means = [part.loc[(name, maps, "own", "pcc"), "mean"] for name in NETWORKS]
                own = "; ".join(f"{mean:.2f}" for mean in means)
            rows.append([method_name(*student), label, *cells, own])
    header = ["student", "maps", "PCC with the target", "the teacher's PCC with it"]
    header += ["PCC with the teacher's map of this kind"]
    return markdown_table([*header, "PCC with its own raw map; the teacher's"], rows)


# ----------------------------------------------------------------------------- faces

STUDENT = ("grad", PLAIN)  # the one of the tables on faces
FACES_BARS = [  # text, limit, whether the measure must be above it; as _measure_faces has them
    ("the share of the map in the corner", 0.45, True),
    ("... once projected (TSP)", 0.1, False),
    ("points of accuracy lost on CelebA", 1.5, False),
    ("same class as the teacher on FairFace, %", 95, True),
    ("most points of accuracy lost or won in a group of FairFace", 3, False),
]


def _lost_points(folder):
    """Points of accuracy that the student lost to its teacher: DataFrame (seed, group)."""
    groups = fairwashing_results(folder).groups
    is_shown = (groups["method"] == STUDENT[0]) & (groups["attacker"] == STUDENT[1])
    accuracy = groups[is_shown & (groups["measure"] == "accuracy")]
    table = accuracy.pivot(index=["seed", "group"], columns="network", values="mean")
    return 100 * (table["teacher"] - table["student"]).unstack()


def _spread(values):
    """Mean, min and max of an array, a dict."""
    return {"mean": np.mean(values), "min": np.min(values), "max": np.max(values)}


def fairwashing_groups_table(folder):
    """Accuracy of teacher and student, and agreement, on CelebA and on FairFace by group."""
    table, lost = over_seeds(fairwashing_results(folder).groups).loc[STUDENT], _lost_points(folder)
    rows = []
    for name, images in table.index.droplevel([2, 3]).unique():
        part = table.loc[name, images]
        keys = [("teacher", "accuracy"), ("student", "accuracy")]
        cells = [mean_text(part.loc[key], 100, 1) for key in keys]
        cells.append(mean_text(_spread(lost[name]), 1, 1))
        cells.append(mean_text(part.loc["student", "agreement"], 100, 1))
        rows.append([name, images, *cells])
    header = ["images of", "images", "teacher's accuracy, %", "student's, %", "points lost"]
    return markdown_table([*header, "same class, %"], rows)


def _measure_faces(folder):
    """The measures of FACES_BARS, each a dict with mean, min and max over trainings."""
    scores, lost = _scores(folder).loc[STUDENT], _lost_points(folder)
    groups = over_seeds(fairwashing_results(folder).groups).loc[STUDENT]
    agreement = groups.xs("FairFace").xs(("student", "agreement"), level=(1, 2)).iloc[0]
    masses = [scores.loc[("student", maps, "target", "mass")] for maps in (RAW, PROJECTED)]
    rows = [{name: row[name] for name in ("mean", "min", "max")} for row in (*masses, agreement)]
    agreement = {name: 100 * value for name, value in rows.pop().items()}
    most = lost[GROUP_NAMES].abs().max(axis=1)
    return [*rows, _spread(lost["CelebA"]), agreement, _spread(most)]


def fairwashing_faces_table(folder):
    """Each bar for the student of the gender network."""
    measures, rows = _measure_faces(folder), []
    for number, (text, limit, above) in enumerate(FACES_BARS):
        bar = Claim(text, "", (), limit, above)
        value = mean_text(measures[number], 1, 2 if limit < 1 else 1)
        sense = "at least" if above else "at most"
        rows.append([text, f"{sense} {limit}", value, _verdict(measures[number], bar)])
    return markdown_table(["measure", "bar", "here", "reached"], rows)


# ----------------------------------------------------------------------------- claims


@dataclass
class Claim:
    """A score that must be above (or below) a limit in all trainings.

    text, paper: cells of the table. key: (network, maps, reference, measure) of the score.
    """

    text: str
    paper: str
    key: tuple
    limit: float
    above: bool = True
    attacker: str = PLAIN
    methods: tuple = tuple(METHOD_LABELS)


AGREEMENT = ("student", "outputs", "teacher", "agreement")
FAKED, EXPOSED = (("student", maps, "target", "pcc") for maps in (RAW, PROJECTED))
RESTORED = ("student", PROJECTED, "teacher", "pcc")
ALIKE = ("student", RAW, "target", "ssim")
GRADIENTS = ("grad", "xgrad")
CLAIMS = [
    Claim("a network that answers the same (at least 97 %)", "always exists", AGREEMENT, 0.97),
    Claim("... has a map of one's choice (PCC above .72)", "shown by figures", FAKED, 0.72),
    Claim("... (SSIM above .45)", "shown by figures", ALIKE, 0.45, methods=GRADIENTS),
    Claim("... (SSIM above .15)", "shown by figures", ALIKE, 0.15, methods=("lrp",)),
    Claim("projection hides the fake (PCC at most .25)", "robust", EXPOSED, 0.25, above=False),
    Claim("... and restores the teacher's map (PCC at least .65)", "not measured", RESTORED, 0.65),
    Claim(
        "an attacker who trains through the projection fails (PCC with TSP at most .25)",
        "robust",
        EXPOSED,
        0.25,
        above=False,
        attacker=KNOWING,
    ),
    Claim(
        "... and the teacher's map is still restored (PCC at least .65)",
        "not measured",
        RESTORED,
        0.65,
        attacker=KNOWING,
    ),
]


def fairwashing_claims_table(folder):
    """Each claim by each method, with a verdict by the range over trainings."""
    table = _scores(folder)
    rows = []
    for claim in CLAIMS:
        cells, verdicts = [], []
        for method in claim.methods:
            if (method, claim.attacker) in students_of(table):
                row = table.loc[(method, claim.attacker, *claim.key)]
                cells.append(f"{METHOD_LABELS[method]} {mean_text(row)}")
                verdicts.append(_verdict(row, claim))
        if cells:
            rows.append([claim.text, claim.paper, "; ".join(cells), "; ".join(verdicts)])
    return markdown_table(["claim", "paper", "here", "holds?"], rows)


def _verdict(row, claim):
    """Yes or no if all trainings (or the interval of one) agree, else on average."""
    if claim.above:
        sure, hopeless, mean = row["min"], row["max"], row["mean"] >= claim.limit
        yes, no = sure >= claim.limit, hopeless < claim.limit
    else:
        yes, no = row["max"] <= claim.limit, row["min"] > claim.limit
        mean = row["mean"] <= claim.limit
    if yes or no:
        return "yes" if yes else "no"
    return "on average yes" if mean else "on average no"


def fairwashing_result(folder):
    """The row of README.md: the gradient faked, exposed and restored."""
    table = _scores(folder)
    student = ("grad", PLAIN)
    agreement, span = mean_text(table.loc[(*student, *AGREEMENT)], 100, 1).split(" ", 1)
    return (
        f"yes: same class in {agreement} % of images ({span[1:-1]} by training), correlation of "
        f"the gradient map with the target {_change(table, student, 'student', 'target')} once "
        f"projected; with the honest network's map {_change(table, student, 'student', 'teacher')}"
    )
