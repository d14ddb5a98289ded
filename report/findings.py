"""What eval.py found, in words: the lines that it prints."""

import numpy as np
import pandas as pd

from report import metrics
from report.labels import (
    CELEBA_SPLITS,
    FAIRFACE_SPLITS,
    REAL_SETS,
    celeba_label,
    group_label,
    method_label,
    rule_label,
    score_label,
)

PRINTED_CHANGES = (
    "threshold against nothing",
    "shapley against nothing",
    "shapley against random",
    "shapley against threshold",
    "shapley+threshold against nothing",
    "shapley+threshold against threshold",
)
PRINTED_RIVALS = ("random", "l2_norm")  # of the last table of a task other than faces

# ----------------------------------------------------------------------------- faces


def repair_lines(table, changes, record, set_names=None):
    """Scores of all repairs, and the changes that matter most.

    Args:
        table: DataFrame, from repair.score_rows.
        changes: {"shapley against nothing": DataFrame}, from repair.compare_rows.
        record: dict, with "told", the split of FairFace that is reported, "labels" and "trained"
            as in eval.json.
        set_names: what to call the two sets of faces, as from datasets.set_names.

    Returns:
        A list of str, two of them tables of several lines.
    """
    names, split = set_names or REAL_SETS, record["told"]
    key, shown = f"CelebA {CELEBA_SPLITS[split]}", celeba_label(split, names)
    printed = {key: shown, f"ECE {key}": f"ECE {shown}"}
    lines = [
        f"Scores in % on the {FAIRFACE_SPLITS[split]} of {names['fairface']}, and accuracy on the "
        f"{CELEBA_SPLITS[split]} set of {names['celeba']}.",
        "In brackets: filters removed, or what was trained. Their number, and the shift of",
        '"... and threshold", were chosen on the choosing set, by balanced accuracy, which takes',
        "gender and race. Column labels: what the repair itself needs beside that.",
        "",
        _repair_table(table, record)
        .rename(columns=printed)
        .to_string(float_format="{:.1f}".format, na_rep=""),
        "",
        "Chosen by each rule: worst group / balanced / accuracy on "
        f"{names['celeba']}, in % (filters, or steps of training). The last rule takes no labels "
        "of groups.",
        "",
        _rule_table(table, record["trained"], key, names),
        "",
        "Changes in points, with 95 % intervals over the images:",
        "",
    ]
    for name in PRINTED_CHANGES:
        if name in changes:
            groups = ["black women", "balanced", "AUC black", key]
            texts = metrics.format_percent(changes[name].set_index("group").loc[groups])
            after, before = map(method_label, name.split(" against "))
            labels = [*map(group_label, groups[:3]), shown]
            cells = [f"{label} {text}" for label, text in zip(labels, texts)]
            lines.append(f"{after}, against {before}: {'; '.join(cells)}")
    return lines


def _repair_table(table, record):
    """Scores in %, a row a repair as the first rule chose it, a column a score; first: labels."""
    table = table[~table["row"].str.contains("@")]
    wide = 100 * table.pivot_table(index="row", columns="group", values="value", sort=False)
    steps = table.groupby("row")["steps"].first()
    wide.insert(0, "labels", [record["labels"][row] for row in wide.index])
    names = []
    for row in wide.index:
        step = record["trained"][row][0] if row in record["trained"] else f"{steps[row]:g}"
        names.append(f"{method_label(row)} ({step})")
    wide.index = names
    return wide.rename(columns=group_label).rename_axis(columns=None)


def _rule_table(table, trained, celeba, set_names):
    """Three scores of each repair as each rule chose it, as text: a row a repair, a column a rule.

    trained: {row: steps} of repairs that train, as in eval.json. celeba: str, the name of the
    accuracy on CelebA among the table's scores. set_names: dict.
    """
    values = 100 * table.pivot_table(index="row", columns="group", values="value", sort=False)
    steps = table.groupby("row")["steps"].first()
    cells = {}  # of each rule: {repair: its scores}
    for row in values.index:
        if rule := rule_label(row, set_names):
            scores = [f"{values.loc[row, name]:.1f}" for name in ("worst", "balanced", celeba)]
            step = trained[row][0] if row in trained else f"{steps[row]:g}"
            cells.setdefault(rule, {})[method_label(row)] = f"{' / '.join(scores)} ({step})"
    return pd.DataFrame(cells).to_string(na_rep="")


def removal_lines(certified, n_negative, k):
    """What was removed, and how sure that is.

    Args:
        certified: (n_removed,) bool, whether each removed filter is certified to be of the lowest.
        n_negative: int, filters that could be removed.
        k: int, size of the set of the lowest.
    """
    if len(certified):
        return [
            "",
            f"Of the negative filters removed ({len(certified)}), {sum(certified)} are certified "
            f"by mab.py's intervals to be among the {k} lowest; the others are a best guess.",
        ]
    if n_negative:
        return [
            "",
            "No removal improves balanced accuracy on the choosing set by more than a standard "
            "error. No removal is made.",
        ]
    return [
        "",
        "There is nothing to remove: MAX_REMOVED is 0, or no value is negative. "
        "No removal is made.",
    ]


def opening_lines(openings):
    """A warning if the report set was opened before. openings: list of dicts, first to last."""
    if len(openings) < 2:
        return []
    return [
        f"The report set has been opened {len(openings)} times here, first "
        f"{openings[0]['when']}: choices made since then may have used it."
    ]


# ----------------------------------------------------------------------------- other tasks


def responsible_lines(table, changes, shares, record, max_removed):
    """What was lost as filters went.

    Args:
        table: DataFrame, from responsible.score_tables.
        changes: DataFrame, from the same.
        shares: {share of the filters: share of the values' sum}, may be empty.
        record: dict, with "run" and "told" as in eval.json.
        max_removed: int, filters that were to be removed.

    Returns:
        A list of str, one of them a table of several lines.
    """
    which = record["run"]["WHICH"]
    images = "of the report set"
    if record["told"] != "report":
        images = "that the values were estimated on (optimistic)"
    lines = [f"In %, on the images {images}, after so many filters were removed:", ""]
    lines.append(_removal_table(table, which).to_string())
    last = changes["n_removed"].max()
    if last < max_removed:
        lines += [
            "",
            f"No more are removed, although MAX_REMOVED={max_removed}: no other value has the sign "
            "of the set of interest.",
        ]
    lines += ["", f"{last} filters removed, in points, with 95 % intervals:", ""]
    rows = changes[(changes["n_removed"] == last) & changes["before"].isin(PRINTED_RIVALS)]
    for row, text in zip(rows.itertuples(), metrics.format_percent(rows)):
        score, rival = score_label(row.split, row.group), method_label(row.before, which)
        lines.append(f"{score}: {method_label('shapley', which)}, against {rival}: {text}")
    if shares:
        texts = [f"{share:.1%} of the filters hold {part:.0%}" for share, part in shares.items()]
        lines += ["", f"Of the sum of all values, the highest {', '.join(texts)}."]
    return lines


def _removal_table(table, which):
    """Scores in % as text, a row a score and method, a column a number of removed filters."""
    labels = []
    for row in table.itertuples():
        labels.append(f"{score_label(row.split, row.group)}: {method_label(row.method, which)}")
    table = table.assign(label=labels, value=100 * table["value"])
    wide = table.pivot_table(index="label", columns="n_removed", values="value", sort=False)
    wide = wide.rename_axis(index=None, columns=None)
    return wide.map(lambda value: "" if np.isnan(value) else f"{value:.1f}")
