"""The headline table of README.md: one row a study."""

import glob

from report import metrics
from tools.claims import loss, score
from tools.recorded import (
    application_scores,
    change_text,
    evaluation,
    markdown_table,
    score_path,
)

SCRIPTS = "`train_squeeze.py`, `mab.py`, `eval.py`"
LOST = 0.1  # recall below which a class is lost
INTACT = 0.05  # accuracy lost at most where the other classes are intact
# Studies without a record: a name, and the question.
PLANNED = {
    "contextual decomposition (CDEP)": "can training forbid a network to use a part of its input?",
    "fairwashing": "can a model show a false explanation, and is there a defence?",
    "income": "which inputs does relevance propagation blame?",
    "planted shortcut": "do these methods find, repair or hide a known cause?",
}


def studies_table(folder):
    """Question, script, result and record of each study; planned ones say so."""
    digits = f"{folder}/digits"
    repair = "[repair of faces](docs/neuron-shapley.md): does removing harmful filters undo a bias?"
    critical = "[critical filters](docs/applications.md): does accuracy depend on a few filters?"
    one_class = "[one class](docs/applications.md): does a class depend on filters of its own?"
    attack = "[vulnerable filters](docs/applications.md): does removing filters stop attacks?"
    rows = [
        [repair, SCRIPTS, _repair_result(folder), f"`{folder}/`"],
        [critical, SCRIPTS, _critical_result(digits), f"`{digits}/`"],
        [one_class, SCRIPTS, _class_result(digits), f"`{digits}/class_*/`"],
        [attack, SCRIPTS, _attack_result(f"{digits}/attack"), f"`{digits}/attack/`"],
    ]
    for name, question in PLANNED.items():
        rows.append([f"{name}: {question}", "planned", "no result yet", "none"])
    return markdown_table(["study and question", "scripts", "result", "record"], rows)


def _repair_result(folder):
    repair, paper = "shapley+threshold", "values of accuracy"
    path = score_path(folder, repair, "balanced")
    gain = change_text(folder, repair, "nothing", "balanced")
    beyond = change_text(folder, repair, "threshold", "balanced")
    paper_gain = change_text(folder, paper, "nothing", "balanced")
    return (
        f"in part: mean accuracy of four groups {path} %, {gain} points, {beyond} of them beyond "
        f"a threshold shift; by the paper's own recipe {paper_gain}"
    )


def _critical_result(folder):
    before, after = _percents(application_scores(folder), "all", (0, 10))
    filters = evaluation(folder)["filters"]
    return f"yes: 10 of {filters:,} filters removed, accuracy on digits {before} -> {after} %"


def _class_result(folder):
    digits, lost, alone = [], 0, 0
    for name in sorted(glob.glob(f"{folder}/class_*")):
        scores, digit = application_scores(name), evaluation(name)["run"]["CLASS"]
        _, _, highest = score(scores, 40, group=f"class {digit}")
        digits.append(f"{digit}: {_percents(scores, f'class {digit}', (40,))[0]}")
        lost += highest < LOST
        alone += highest < LOST and loss(scores, 40, group="others")[0] < INTACT
    return (
        f"in part: 40 filters removed, {lost} of {len(digits)} digits tried are lost, {alone} "
        f"of them alone (recall in %, {', '.join(digits)})"
    )


def _attack_result(folder):
    scores = application_scores(folder)
    success = " -> ".join(_percents(scores, "success", (0, 16), "attack"))
    accuracy = " -> ".join(_percents(scores, "all", (0, 16)))
    return f"no: 16 filters removed, attacks on digits {success} %, but accuracy {accuracy} %"


def _percents(scores, group, steps, split="report"):
    """A score after each number of filters, in % with its interval: a list of str."""
    keys = [("shapley", split, group, step) for step in steps]
    return metrics.format_percent(scores.loc[keys])
