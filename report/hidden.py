"""What fairwashing.py measures on a table: relevance of hidden attributes, and their true use."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from explain.heatmaps import METHODS, Explainer, set_activations
from explain.relevance import fold_layers, propagate
from report.fairwashing import RAW, explain_images
from report.fairwashing_text import MAPS, METHOD_LABELS
from report.income_text import data_label
from report.panels import SMALL, add_legend_below
from tabular import audit

RULE = "epsilon"  # of LRP by zennit, as income.py's; no student is trained against it
EXPLANATIONS = METHOD_LABELS | {RULE: "LRP, epsilon rule"}
PERMUTATIONS = 3  # shuffles of each attribute
ALL = "all"  # in place of an attribute
COLUMNS = ["method", "seed", "network", "measure", "attribute", "value"]
NETWORKS = ("teacher", "student")
USES = {  # measure -> heading; what predictions hang on, without an explanation
    "swap": "predictions that a swap changes",
    "permutation": "accuracy lost when shuffled",
}


@dataclass
class Results:
    """Tables of a study.

    Attributes:
        scores: DataFrame with COLUMNS, as from score_table, of all students.
        curves: DataFrame: method, seed, epoch (from 1), and the keys of a curve of
            tabular.hiding.hide_attributes.
        facts: a dict.
    """

    scores: pd.DataFrame
    curves: pd.DataFrame
    facts: dict = field(default_factory=dict)


def evaluate(rows, students, tangent, defences, facts):
    """Measure all students: Results.

    Args:
        rows: tabular.hiding.Rows.
        students: {(method, seed): (student, its curve, teacher)}, networks in eval mode.
        tangent: explain.tangent.Tangent of the report rows.
        defences: keys of explain.defences.DEFENCES, a sequence of str.
        facts: dict, what to add those of the rows to.
    """
    tables, curves = [], []
    for (method, seed), (student, curve, teacher) in tqdm(
        students.items(), "explanations", unit=" students", leave=False
    ):
        table = score_table(rows, student, teacher, method, tangent, defences)
        tables.append(table.assign(method=method, seed=seed)[COLUMNS])
        for number, row in enumerate(curve, 1):
            curves.append({"method": method, "seed": seed, "epoch": number} | row)
    facts = facts | {
        "rows": {name: len(part) for name, part in rows.label.items()},
        "hidden": list(rows.hidden),
        "label": rows.classes[1],
    }
    return Results(pd.concat(tables, ignore_index=True), pd.DataFrame(curves), facts)


def score_table(rows, student, teacher, method, tangent, defences):
    """All measures of one student and its teacher on the report rows.

    network: student or teacher. measure: of all attributes accuracy and, of the student, agreement
    (the share of people who get the teacher's label); of each hidden attribute

        swap, permutation   as tabular.audit's: what predictions do hang on
        counterparts        of the student, agreement on people with the attribute swapped
        share: NAME         its share of relevance by an explanation, the mean over people
        MAPS                the same by the student's faked explanation, projected, or of a defence

    Args: as for evaluate; method: str, the faked explanation.

    Returns:
        DataFrame: network, measure, attribute, value, all values in [0, 1] but permutation's, in
        [-1, 1].
    """
    table, cells = rows.tables["report"], []
    predict = {}
    for name, network in zip(NETWORKS, (teacher, student)):
        network = set_activations(network)
        predict[name] = rows.predictor(network).predict
        labels = predict[name](table.values)
        cells.append((name, "accuracy", ALL, (labels == table.label).mean()))
        for measure, by_attribute in _uses(predict[name], table, rows.hidden).items():
            cells += [(name, measure, *pair) for pair in by_attribute.items()]
        for measure, shares in _shares(rows, network, method, tangent, defences).items():
            cells += [(name, measure, *pair) for pair in shares.items()]
    cells.append(("student", "agreement", ALL, _agreement(predict, table.values)))
    for place, attribute in enumerate(rows.hidden):
        rng = np.random.default_rng([0, place])
        values, swapped = audit.swap_attribute(table, attribute, rng)
        agreement = _agreement(predict, values[swapped])
        cells.append(("student", "counterparts", attribute, agreement))
    return pd.DataFrame(cells, columns=COLUMNS[2:])


def _agreement(predict, values):
    """The share of rows (N, A) that get the same label from both: a float."""
    first, second = (predict[name](values) for name in NETWORKS)
    return float((first == second).mean())


def _uses(predict, table, hidden):
    """What predictions hang on, without an explanation: {measure: {attribute: float}}."""
    swaps = audit.swap_rates(predict, table, 0, hidden)
    drops = audit.permutation_drops(predict, table, PERMUTATIONS, 0)
    return {
        "swap": {name: swaps[name]["all"] for name in hidden},
        "permutation": {name: drops[name]["all"] for name in hidden},
    }


def _shares(rows, network, method, tangent, defences):
    """Shares of relevance of the hidden attributes: {measure: {attribute: float}}."""
    inputs, maps = rows.inputs["report"], {}
    for name in METHODS:
        explainer = Explainer(name, rows.low, rows.high)
        if name == method:
            options = {"batch_size": 512, "defences": defences}
            explained = explain_images(network, explainer, inputs, tangent, **options)
            maps[f"share: {name}"] = explained.maps.pop(RAW)
            maps |= explained.maps
        else:
            maps[f"share: {name}"] = explainer.heatmap(network, inputs)[0].detach().numpy()
    layers = fold_layers(network[1:])  # without Flatten
    relevance = np.abs(propagate(layers, inputs.flatten(1), RULE)[0])
    sums = relevance.sum(1, keepdims=True)
    maps[f"share: {RULE}"] = (relevance / np.maximum(sums, 1e-30))[:, None]
    places = [rows.tables["report"].attributes.index(name) for name in rows.hidden]
    shares = {}
    for measure, values in maps.items():  # (N, 1, D)
        means = rows.encoding.sum_inputs(np.float64(values)[:, 0]).mean(0)  # (A,)
        shares[measure] = dict(zip(rows.hidden, means[places].tolist()))
    return shares


# ----------------------------------------------------------------------------- texts


def over_seeds(scores):
    """Mean, min and max over seeds, indexed by method, network, measure and attribute."""
    groups = scores.groupby(["method", "network", "measure", "attribute"], sort=False)["value"]
    return groups.agg(["mean", "min", "max"])


def percent_text(row):
    """Mean and range in %: "3.7 (3.1 to 4.4)". row: mean, min, max."""
    rounded = (np.round(100 * row[name], 1) + 0.0 for name in ("mean", "min", "max"))  # no "-0.0"
    mean, low, high = (f"{value:.1f}" for value in rounded)
    return mean if low == high else f"{mean} ({low} to {high})"


def network_rows(table):
    """What rows the tables have: a list of (label, method, network), the teacher first."""
    methods = list(dict.fromkeys(table.index.get_level_values("method")))
    rows = [("the teacher", methods[0], "teacher")]
    return rows + [(f"hidden from {METHOD_LABELS[name]}", name, "student") for name in methods]


def use_frame(table, hidden):
    """Accuracy, agreement, swaps and shuffles of teacher and students in %, as texts.

    table: as from over_seeds; hidden: names of attributes.
    """
    lines = []
    for label, method, network in network_rows(table):
        part = table.loc[method, network]
        line = {"network": label, "accuracy": percent_text(part.loc["accuracy", ALL])}
        line["agreement"] = "-"
        if network == "student":
            line["agreement"] = percent_text(part.loc["agreement", ALL])
        for name in hidden:
            line[f"swap of {name}"] = percent_text(part.loc["swap", name])
        for name in hidden:
            line[f"shuffle of {name}"] = percent_text(part.loc["permutation", name])
        lines.append(line)
    return pd.DataFrame(lines)


def share_frame(table, hidden):
    """Shares of relevance by each explanation in %, as texts "sex / race"; faked ones in stars."""
    lines = []
    for label, method, network in network_rows(table):
        part, line = table.loc[method, network]["mean"], {f"{' / '.join(hidden)}, %": label}
        for name, heading in EXPLANATIONS.items():
            cells = [100 * part[f"share: {name}", attribute] for attribute in hidden]
            text = " / ".join(f"{cell:.2f}" for cell in cells)
            faked = network == "student" and name == method
            line[heading] = f"**{text}**" if faked else text
        lines.append(line)
    return pd.DataFrame(lines)


def defence_frame(table, hidden):
    """Shares of all hidden attributes by the faked explanation and its defences: student; teacher.

    Texts, in %.
    """
    lines = []
    for _, method, _ in network_rows(table)[1:]:
        line = {"explanation": METHOD_LABELS[method]}
        for maps, heading in MAPS.items():
            measure = f"share: {method}" if maps == RAW else maps
            pair = [table.loc[method, name]["mean"] for name in reversed(NETWORKS)]
            if all((measure, name) in pair[0] for name in hidden):
                sums = [sum(part[measure, name] for name in hidden) for part in pair]
                line[heading] = "; ".join(f"{100 * value:.2f}" for value in sums)
        lines.append(line)
    return pd.DataFrame(lines)


def summary_text(results):
    """What fairwashing.py prints at its end."""
    facts, table = results.facts, over_seeds(results.scores)
    names, counts = " and ".join(facts["hidden"]), facts["rows"]
    defended = defence_frame(table, facts["hidden"])
    parts = [
        f"{data_label(facts)}: {counts['train']:,} training rows; results are of "
        f"{counts['report']:,} {facts['reported']} rows, in %, means of trainings and their range.",
        f"\nWhat predictions hang on, {names}: predictions that a swap changes, accuracy lost "
        "when shuffled (points)",
        use_frame(table, facts["hidden"]).to_string(index=False),
        "\nTheir share of relevance by each explanation (**: the faked one)",
        share_frame(table, facts["hidden"]).to_string(index=False),
        "\nTheir share by the faked explanation with defences: student; teacher",
        defended.to_string(index=False),
    ]
    return "\n".join(parts)


# ----------------------------------------------------------------------------- files


def share_figure(results):
    """Shares of relevance and swaps of each hidden attribute: a panel each, bars by explanation."""
    table, facts = over_seeds(results.scores), results.facts
    hidden, lines = facts["hidden"], network_rows(table)[1:]
    figure = Figure(figsize=(4.6 * len(hidden), 1.5 + 0.75 * len(lines)), layout="constrained")
    axes = figure.subplots(1, len(hidden), sharey=True, squeeze=False)[0]
    bars = [
        ("share of relevance, teacher", "teacher", "share", "0.8", ""),
        ("share of relevance, student", "student", "share", "0.2", ""),
        ("changed by a swap, teacher", "teacher", "swap", "white", "///"),
        ("changed by a swap, student", "student", "swap", "white", "xxx"),
    ]
    for axis, attribute in zip(axes, hidden):
        for number, (label, network, kind, colour, hatch) in enumerate(bars):
            values = []
            for _, method, _ in lines:
                measure = f"share: {method}" if kind == "share" else kind
                values.append(table.loc[method, network, measure, attribute])
            mean, low, high = (
                100 * np.array([row[name] for row in values]) for name in ("mean", "min", "max")
            )
            style = {"color": colour, "hatch": hatch, "edgecolor": "black", "linewidth": 0.6}
            errors = np.maximum([mean - low, high - mean], 0)
            places = np.arange(len(lines)) + 0.2 * number - 0.3
            axis.barh(places, mean, 0.2, xerr=errors, capsize=2, label=label, **style)
        axis.set_title(attribute, fontsize=10)
        axis.set_xlabel("%")
        axis.grid(axis="x", alpha=0.3)
    names = [METHOD_LABELS[method] for _, method, _ in lines]
    axes[0].set_yticks(range(len(lines)), names, fontsize=SMALL + 1)
    axes[0].invert_yaxis()
    add_legend_below(figure, axes, 2)
    figure.suptitle(f"What the faked explanation shows, and what is used: {data_label(facts)}")
    return figure


def draw_all(results):
    """All figures by name, {name: matplotlib Figure}."""
    return {"scores": share_figure(results)}


def files(results, facts, folder):
    """What to save in a folder, as common.records.save takes it. facts: of the run, a dict."""
    saved = {f"{folder}/fairwashing.json": {**facts, **results.facts}}
    saved[f"{folder}/hidden.csv"] = results.scores
    saved[f"{folder}/curves.csv"] = results.curves
    for name, figure in draw_all(results).items():
        saved[f"{folder}/{name}.png"] = figure
        saved[f"{folder}/{name}.pdf"] = figure
    return saved
