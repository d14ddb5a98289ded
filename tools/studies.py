"""The headline table of README.md: one row a study."""

import glob

from report import metrics
from tools.claims import BEST_ROW, PAPER_ROW, loss, score
from tools.recorded import (
    application_scores,
    change_text,
    evaluation,
    markdown_table,
    repair_scores,
    score_path,
)
from tools.table_cdep import cdep_result
from tools.table_fairwashing import fairwashing_result
from tools.table_income import income_result
from tools.table_shortcut import shortcut_result

LOST = 0.1  # recall below which a class is lost
INTACT = 0.05  # accuracy lost at most where the other classes are intact


def studies_table(folder):
    """Question, options, result and record of each study."""
    digits, page = f"{folder}/digits", "docs/applications.md"
    repair = "[repair of faces](docs/neuron-shapley.md): does removing harmful filters undo a bias?"
    critical = f"[critical filters]({page}#i-critical-filters): does accuracy depend on a few?"
    one_class = f"[one class]({page}#ii-one-class): does a class have filters of its own?"
    attack = f"[vulnerable filters]({page}#iv-vulnerable-filters): does removal stop attacks?"
    shortcut = "[planted shortcut](docs/shortcut.md): can removal undo what a network was taught?"
    shortcut_script = "`shortcut.py`, or `make demo-shortcut`: drawn portraits"
    cdep = "[CDEP](docs/cdep.md): can training forbid the use of an input?"
    cdep_script = "`cdep.py`, or `make demo-cdep`: small digits"
    fair = "[fairwashing](docs/fairwashing.md): can a model fake its explanation?"
    mnist_fair = f"{folder}/fairwashing/mnist"
    fair_script = "`fairwashing.py`, or `make demo-fairwashing`: small digits"
    income_script = "`income.py`, or `make demo-income`: a drawn table"
    income = "[income](docs/income.md): does relevance show which attributes a network uses?"
    best = "paper's recipe: none; re-estimated values: `--MEASURE=smooth_auc_all --STAGES=81`"
    mnist, of_class, of_attack = (
        f"`--TASK=mnist{option}`" for option in ("", " --CLASS=1 --SPARE=...", " --MEASURE=attack")
    )
    rows = [
        [shortcut, shortcut_script, shortcut_result(f"{folder}/shortcut"), f"`{folder}/shortcut/`"],
        [repair, best, _repair_result(folder), f"`{folder}/`"],
        [critical, mnist, _critical_result(digits), f"`{digits}/`"],
        [one_class, of_class, _class_result(digits), f"`{digits}/class_*/`"],
        [attack, of_attack, _attack_result(f"{digits}/attack"), f"`{digits}/attack/`"],
        [cdep, cdep_script, cdep_result(f"{folder}/cdep"), f"`{folder}/cdep/`"],
        [
            fair,
            fair_script,
            fairwashing_result(mnist_fair),
            f"`{folder}/fairwashing/`",
        ],
        [income, income_script, income_result(f"{folder}/income"), f"`{folder}/income/`"],
    ]
    return markdown_table(
        ["study and question", "script, or options of `mab.py`", "result", "record"], rows
    )


def _repair_result(folder):
    path = score_path(folder, BEST_ROW, "balanced")
    gain = change_text(folder, BEST_ROW, "nothing", "balanced")
    beyond = change_text(folder, BEST_ROW, "threshold", "balanced")
    paper_gain = change_text(folder, PAPER_ROW, "nothing", "balanced")
    rows = ("nothing", BEST_ROW, "threshold")
    before, after, shifted = (
        f"{100 * repair_scores(folder, row).loc['gap', 'value']:.0f}" for row in rows
    )
    return (
        f"accuracy yes, the gap no more than a threshold shift does: mean of the four groups "
        f"{path} %, {gain}, of which {beyond} beyond a threshold shift; gap {before} -> {after} "
        f"points (shift: {shifted}); by the paper's recipe, mean {paper_gain}"
    )


def _critical_result(folder):
    before, after = _percents(application_scores(folder), "all", (0, 20))
    filters = evaluation(folder)["filters"]
    return f"yes: 20 of {filters:,} filters removed, accuracy on digits {before} -> {after} %"


def _class_result(folder):
    lost, alone, names = 0, 0, sorted(glob.glob(f"{folder}/class_*"))
    for name in names:
        scores, digit = application_scores(name), evaluation(name)["run"]["CLASS"]
        _, _, highest = score(scores, 40, group=f"class {digit}")
        lost += highest < LOST
        alone += highest < LOST and loss(scores, 40, group="others")[0] < INTACT
    return (
        f"in part: 40 filters removed, digits lost: {lost} of {len(names)} tried, {alone} of them "
        "alone"
    )


def _attack_result(folder):
    scores = application_scores(folder)
    success = " -> ".join(_percents(scores, "success", (0, 16), "attack"))
    accuracy = " -> ".join(_percents(scores, "all", (0, 16)))
    return (
        f"no: 16 filters removed, success of attacks on digits {success} %, but accuracy "
        f"{accuracy} %"
    )


def _percents(scores, group, steps, split="report"):
    """A score after each number of filters, in % with its interval: a list of str."""
    keys = [("shapley", split, group, step) for step in steps]
    return metrics.format_percent(scores.loc[keys])
