"""Tables and figures of attributes hidden in a table, from the records of fairwashing.py."""

import os

from common.records import load_csv, load_json

from report import hidden
from tools.recorded import markdown_table


def has_hidden(folder):
    """Whether a folder of records is one of fairwashing.py on a table."""
    return os.path.exists(f"{folder}/hidden.csv")


def hidden_results(folder):
    """The report.hidden.Results that fairwashing.py saved in a folder. Raises InputError."""
    scores = load_csv(f"{folder}/hidden.csv", "fairwashing.py", hidden.COLUMNS)
    curves = load_csv(f"{folder}/curves.csv", "fairwashing.py", [])
    facts = load_json(f"{folder}/fairwashing.json", "fairwashing.py")
    return hidden.Results(scores, curves, facts)


def draw_hidden(folder):
    """The figures of a folder, {name: matplotlib Figure}."""
    return hidden.draw_all(hidden_results(folder))


def _frame(folder, make):
    """A frame of report.hidden as a Markdown table."""
    results = hidden_results(folder)
    frame = make(hidden.over_seeds(results.scores), results.facts["hidden"])
    return markdown_table(list(frame.columns), frame.to_numpy().tolist())


def hidden_use_table(folder):
    """Accuracy, agreement, and what predictions of teacher and students hang on."""
    return _frame(folder, hidden.use_frame)


def hidden_shares_table(folder):
    """Relevance of the hidden attributes in teacher and students, by every explanation."""
    return _frame(folder, hidden.share_frame)


def hidden_defences_table(folder):
    """What defences bring back of the hidden relevance."""
    return _frame(folder, hidden.defence_frame)
