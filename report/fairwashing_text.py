"""What fairwashing.py prints, and texts that its figures and pages share."""

import pandas as pd

from report.fairwashing import PLAIN, PROJECTED, RAW, over_seeds

METHOD_LABELS = {
    "grad": "gradient",
    "xgrad": "gradient x input",
    "intgrad": "integrated gradients",
    "lrp": "LRP",
}
TASKS = {"digits": "scikit-learn's digits", "mnist": "MNIST", "fmnist": "FashionMNIST"}
TASKS |= {
    "cifar10": "CIFAR-10",
    "folder": "a folder of images",
    "celeba": "CelebA",
    "faces": "FairFace",
}
MAPS = {RAW: "raw", PROJECTED: "TSP", "smooth": "SmoothGrad", "ensemble": "mean of four methods"}
MAPS |= {"randomised": "last layer drawn anew"}
EXPLAINED = """
Heat-maps: mean over images, and over trainings with their range
  raw: as they are; TSP: projected onto the tangent space of the data
  SSIM, PCC: likeness with the target (teacher's: what an honest map has by chance)
  teacher's map: PCC of the student's map with that of the teacher, both of the same kind"""


def mean_text(row, factor=1, digits=2):
    """A mean and its range: "0.48 (0.46 to 0.50)". row: mean, min, max."""
    mean, low, high = (f"{factor * row[name]:.{digits}f}" for name in ("mean", "min", "max"))
    return f"{mean} ({low} to {high})"


def method_name(method, attacker):
    """A student: "gradient", or "gradient, trained through TSP"."""
    label = METHOD_LABELS[method]
    return label if attacker == PLAIN else f"{label}, trained {attacker}"


def students_of(table):
    """The pairs (method, attacker) of a table from over_seeds, plain attackers first."""
    pairs = list(dict.fromkeys(zip(*(table.index.get_level_values(n) for n in (0, 1)))))
    return sorted(pairs, key=lambda pair: pair[1] != PLAIN)


def maps_of(part):
    """Names of the kinds of maps of a student, {maps: name}. part: its rows of such a table."""
    present = set(part.index.get_level_values("maps"))
    return {maps: label for maps, label in MAPS.items() if maps in present}


def output_frame(table):
    """Accuracy, agreement and output error of each student, as texts."""
    rows = []
    for student in students_of(table):
        part = table.loc[student]
        rows.append(
            {
                "student": method_name(*student),
                "accuracy, %": mean_text(part.loc["student", "outputs", "label", "accuracy"], 100),
                "teacher's, %": mean_text(part.loc["teacher", "outputs", "label", "accuracy"], 100),
                "agreement, %": mean_text(
                    part.loc["student", "outputs", "teacher", "agreement"], 100
                ),
                "output MSE": f"{part.loc[('student', 'outputs', 'teacher', 'mse'), 'mean']:.1e}",
            }
        )
    return pd.DataFrame(rows)


def map_frame(table, measures=("ssim", "pcc")):
    """Likeness of heat-maps as texts: one row a student and kind of map."""
    rows = []
    for student in students_of(table):
        part = table.loc[student]
        for maps, label in maps_of(part).items():
            row = {"student": method_name(*student), "maps": label}
            for measure in measures:
                row[measure.upper()] = mean_text(part.loc["student", maps, "target", measure])
                other = part.loc[("teacher", maps, "target", measure), "mean"]
                row[f"({measure.upper()} of teacher)"] = f"{other:.2f}"
            row["teacher's map"] = mean_text(part.loc["student", maps, "teacher", "pcc"])
            rows.append(row)
    return pd.DataFrame(rows)


def summary_text(results):
    """What fairwashing.py prints at its end."""
    facts, table = results.facts, over_seeds(results.scores)
    counts = facts["images"]
    parts = [
        f"{TASKS[facts['task']]}: {counts['train']:,} training images; results are of "
        f"{counts['report']:,} {facts['reported']} images.",
        output_frame(table).to_string(index=False),
        EXPLAINED,
        map_frame(table).to_string(index=False),
        "",
        *verdicts(table),
    ]
    return "\n".join(parts)


def verdicts(table):
    """A sentence on each student: how far its map is faked, and what TSP restores."""
    lines = []
    for student in students_of(table):
        part = table.loc[student]["mean"]
        faked, exposed = (part["student", maps, "target", "pcc"] for maps in (RAW, PROJECTED))
        honest = part["teacher", PROJECTED, "target", "pcc"]
        before, after = (part["student", maps, "teacher", "pcc"] for maps in (RAW, PROJECTED))
        lines.append(
            f"{method_name(*student)}: PCC with the target {faked:.2f}, with TSP {exposed:.2f} "
            f"(teacher {honest:.2f}); with the teacher's map {before:.2f}, with TSP {after:.2f}."
        )
    return lines
