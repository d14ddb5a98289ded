"""What income.py measures, as tables."""

import time
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from explain.relevance import RULES, fold_layers, layer_matrix, propagate
from report import fairness
from tabular import audit
from tabular.dense import Predictor
from tabular.rivals import CONSTRAINTS, RIVALS, post_process

AS_TRAINED = "as trained"
STOPPED, LAST, RIVAL = "early stopping", "last epoch", "rival"  # kinds of models


@dataclass(frozen=True)
class Job:
    """What to train.

    Attributes:
        architecture: str.
        seed: int.
        dropped: names of the attributes that it does not see.
        penalised: names of the attributes whose use is penalised (CDEP).
        strength: float, lambda of that penalty.
        is_long: whether it goes on after early stopping.
    """

    architecture: str
    seed: int
    dropped: tuple[str, ...] = ()
    penalised: tuple[str, ...] = ()
    strength: float = 0.0
    is_long: bool = False

    @property
    def is_repair(self):
        """Whether it is trained against differences between groups."""
        return bool(self.dropped or self.penalised)

    def repair(self):
        """The repair's name in tables."""
        if self.penalised:
            return f"CDEP on {', '.join(self.penalised)}"
        return f"trained without {', '.join(self.dropped)}" if self.dropped else AS_TRAINED


@dataclass
class Trained:
    """One training of a network.

    Attributes:
        job: Job.
        stopped: Predictor, as early stopping leaves it.
        last: Predictor, after the last epoch.
        curve: as in tabular.dense.Training.
        best_epoch: int, from 0, the epoch of `stopped`.
    """

    job: Job
    stopped: Predictor
    last: Predictor
    curve: list[dict]
    best_epoch: int


@dataclass
class Results:
    """Tables of a study; their columns are described where they are made. facts: a dict."""

    accuracy: pd.DataFrame
    curves: pd.DataFrame
    layers: pd.DataFrame
    attributes: pd.DataFrame
    rates: pd.DataFrame
    repairs: pd.DataFrame
    facts: dict = field(default_factory=dict)

    def tables(self):
        """The tables by name, a dict."""
        return {name: value for name, value in vars(self).items() if name != "facts"}


# ----------------------------------------------------------------------------- accuracy


def accuracy_table(trained, train, val, test, seed):
    """Accuracy of each network and of the rivals, which learn from training and validation rows.

    Returns:
        A DataFrame: model (an architecture or a rival), kind (one of STOPPED, LAST, RIVAL), seed,
        epochs (passes over the training rows; 0 of a rival), train_accuracy, test_accuracy.
    """
    rows = []
    for training in tqdm(trained, "accuracy", unit=" networks", leave=False):
        if training.job.is_repair:
            continue
        kind, predictor, epochs = STOPPED, training.stopped, training.best_epoch + 1
        if training.job.is_long:
            kind, predictor, epochs = LAST, training.last, len(training.curve)
        scores = [share_right(predictor.predict(part.values), part) for part in (train, test)]
        rows.append((training.job.architecture, kind, training.job.seed, epochs, *scores))
    learnt = _join(train, val)
    for name, fit_predict in RIVALS.items():
        scores = [share_right(fit_predict(learnt, part, seed), part) for part in (learnt, test)]
        rows.append((name, RIVAL, seed, 0, *scores))
    columns = ["model", "kind", "seed", "epochs", "train_accuracy", "test_accuracy"]
    return pd.DataFrame(rows, columns=columns)


def share_right(predicted, table):
    """Accuracy, a float: predicted (N,) int, and the Table of these rows."""
    return float((predicted == table.label).mean())


def _join(first, second):
    """The rows of two tables as one Table."""
    values = np.concatenate([first.values, second.values])
    return replace(first, values=values, label=np.concatenate([first.label, second.label]))


def curve_table(trained):
    """Loss and accuracy by epoch of all trainings that are no repairs.

    Returns a DataFrame: architecture, seed, is_long, epoch (from 1), and the keys of a curve.
    """
    rows = []
    for training in trained:
        if training.job.is_repair:
            continue
        name = {key: getattr(training.job, key) for key in ("architecture", "seed", "is_long")}
        for epoch, row in enumerate(training.curve, 1):
            rows.append(name | {"epoch": epoch} | row)
    return pd.DataFrame(rows)


# ----------------------------------------------------------------------------- relevance


def layer_table(predictor, table):
    """Relevance of each attribute for every dense layer, by each rule, summed over rows.

    Args:
        predictor: Predictor.
        table: Table, the rows that are explained.

    Returns:
        A DataFrame: rule, layer (from 1, the first), width (its outputs), ratio (all relevance of
        the layer / the summed output that it explains: 1 where the rule conserves), attribute,
        relevance (its own part of the ratio); and the seconds that each rule took, a dict. The
        ratio is a column of its own since large parts of both signs, once rounded, no longer add
        up to it.
    """
    inputs, rows, seconds = predictor.inputs(table.values), [], {}
    layers = [layer for layer in predictor.network if hasattr(layer, "out_features")]
    for rule in tqdm(RULES, "relevance by layer", unit=" rules", leave=False):
        started = time.time()
        relevance, output = layer_matrix(predictor.network, inputs, rule)
        seconds[rule] = round(time.time() - started, 1)
        shares = predictor.encoding.sum_inputs(relevance) / output[:, None]  # (L, A)
        for number, (layer, row) in enumerate(zip(layers, shares), 1):
            for attribute, share in zip(table.attributes, row):
                rows.append((rule, number, layer.out_features, row.sum(), attribute, share))
    columns = ["rule", "layer", "width", "ratio", "attribute", "relevance"]
    return pd.DataFrame(rows, columns=columns), seconds


def attribute_table(predictors, table, explained, drawn_rule, permutations, seed):
    """How much each attribute counts, by each measure.

    Args:
        predictors: a Predictor for each training.
        table: Table, the rows that are reported.
        explained: (n,) int, the rows whose predictions are explained.
        drawn_rule: function of a Table, or None, as in Study of income.py.
        permutations: int, shuffles of each attribute.
        seed: int.

    Returns:
        A DataFrame: training (a number; -1 for the truth), measure ("permutation", "swap", "truth",
        or "relevance: RULE"), attribute, group (as from audit.members_by_group), value. Relevance
        is that of the predicted label's logit.
    """
    rows = []

    def add(training, measure, values):
        for attribute, by_group in values.items():
            for group, value in by_group.items():
                rows.append((training, measure, attribute, group, value))

    explained_rows = table.take(explained)
    for number, predictor in enumerate(
        tqdm(predictors, "attributes", unit=" networks", leave=False)
    ):
        inputs, layers = predictor.inputs(explained_rows.values), fold_layers(predictor.network)
        for rule in RULES:
            relevance, _ = propagate(layers, inputs, rule)
            by_attribute = predictor.encoding.sum_inputs(relevance)
            add(number, f"relevance: {rule}", audit.relevance_shares(by_attribute, explained_rows))
        drops = audit.permutation_drops(predictor.predict, table, permutations, seed)
        add(number, "permutation", drops)
        add(number, "swap", audit.swap_rates(predictor.predict, table, seed))
    if drawn_rule is not None:

        def rule_of_values(values):
            return drawn_rule(replace(table, values=values))

        add(-1, "truth", audit.swap_rates(rule_of_values, table, seed))
    columns = ["training", "measure", "attribute", "group", "value"]
    return pd.DataFrame(rows, columns=columns)


def mean_values(attributes, group="all"):
    """Mean, lowest and highest value over trainings: a DataFrame indexed by measure, attribute."""
    chosen = attributes[attributes["group"] == group]
    grouped = chosen.groupby(["measure", "attribute"], sort=False)["value"]
    return grouped.agg(["mean", "min", "max"])


def rank_correlations(attributes):
    """Spearman's correlation of each two measures over attributes.

    Returns a DataFrame: first, second (measures), mean, min and max over trainings.
    """
    chosen = attributes[attributes["group"] == "all"]
    truth = chosen[chosen["measure"] == "truth"]
    correlations = []
    for training, rows in chosen[chosen["training"] >= 0].groupby("training"):
        wide = pd.concat([rows, truth]).pivot(index="attribute", columns="measure", values="value")
        measures = [name for name in chosen["measure"].unique() if name in wide]
        for place, first in enumerate(measures):
            for second in measures[place + 1 :]:
                value = stats.spearmanr(wide[first], wide[second]).statistic
                correlations.append((training, first, second, value))
    columns = ["training", "first", "second", "value"]
    table = pd.DataFrame(correlations, columns=columns)
    grouped = table.groupby(["first", "second"], sort=False)["value"]
    return grouped.agg(["mean", "min", "max"]).reset_index()


# ----------------------------------------------------------------------------- groups


def rates(predictors, table):
    """fairness.rate_table of several networks' predictions."""
    predicted = np.stack([predictor.predict(table.values) for predictor in predictors])
    return fairness.rate_table(predicted, table)


def repair_table(trained, architecture, val, table, seed):
    """Accuracy and differences between groups of the network and of its repairs.

    Returns:
        A DataFrame: repair, trainings, strength (lambda of CDEP, else 0), accuracy, accuracy_low,
        accuracy_high, swap (the share of predictions that a swap of the row's attribute changes,
        NaN of post-processing, which needs the true one), and the columns of fairness.rate_table,
        of the rows that are differences.
    """
    networks, strengths, predicted, swaps = {}, {}, {}, {}
    for training in trained:
        if training.job.architecture == architecture and not training.job.is_long:
            name = training.job.repair()
            networks.setdefault(name, []).append(training.stopped)
            strengths[name] = training.job.strength
    for name, predictors in networks.items():
        predicted[name] = np.stack([predictor.predict(table.values) for predictor in predictors])
        swaps[name] = audit.mean_swaps(predictors, table, table.groups, seed)
    scores = [predictor.scores(table.values) for predictor in networks[AS_TRAINED]]
    val_scores = [predictor.scores(val.values) for predictor in networks[AS_TRAINED]]
    for attribute in table.groups:
        for constraint in CONSTRAINTS:
            labels = []
            for part, val_part in zip(scores, val_scores):
                fitted = (val_part, val, attribute, constraint, seed)
                labels.append(post_process(part, table, *fitted))
            predicted[f"post-processed: {constraint} by {attribute}"] = np.stack(labels)
    rows = []
    for name, labels in predicted.items():
        share = fairness.accuracy(labels, table.label)
        accuracy = dict(zip(("accuracy", "accuracy_low", "accuracy_high"), share))
        differences = fairness.rate_table(labels, table)
        differences = differences[differences["group"].str.contains(" - | and ")]
        for row in differences.to_dict("records"):
            swap = swaps.get(name, {}).get(row["attribute"], np.nan)
            facts = {"trainings": len(labels), "strength": strengths.get(name, 0.0), "swap": swap}
            rows.append({"repair": name, **facts, **accuracy, **row})
    return pd.DataFrame(rows)
