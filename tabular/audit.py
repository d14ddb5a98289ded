"""What predictions on a table hang on, attribute by attribute: swaps and permutations."""

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.inspection import permutation_importance

DRAWS = 20  # tries to find another person whose value differs


def members_by_group(table):
    """Which rows are in each group: {"all": (N,) bool, "sex: Female": (N,) bool, ...}."""
    members = {"all": np.ones(len(table.label), dtype=bool)}
    for attribute, pair in table.groups.items():
        if attribute in table.attributes:
            for level in pair:
                members[f"{attribute}: {level}"] = table.is_level(attribute, level)
    return members


def swap_attribute(table, attribute, rng):
    """The rows of a table with one attribute swapped for another value.

    An attribute whose groups are compared takes the value of the other group, in the rows of both.
    Any other takes the value of another person drawn at random, one that differs.

    Args:
        table: Table.
        attribute: str.
        rng: numpy Generator.

    Returns:
        values (N, A) float64, and swapped (N,) bool: the rows in which the value did change.
    """
    values, column = table.values.copy(), table.attributes.index(attribute)
    before = table.column(attribute)
    after = before.copy()
    if attribute in table.groups:
        levels = table.levels[attribute]
        first, second = (levels.index(level) for level in table.groups[attribute])
        after[before == first], after[before == second] = second, first
    else:
        for _ in range(DRAWS):
            same = np.flatnonzero(after == before)
            after[same] = before[rng.integers(len(before), size=len(same))]
    values[:, column] = after
    return values, after != before


def swap_rates(predict, table, seed, attributes=None):
    """The share of predictions that change when an attribute is swapped.

    Args:
        predict: function, (N, A) values -> (N,) predicted labels.
        table: Table.
        seed: int, of the people whose values are taken.
        attributes: names of those to swap; None: all.

    Returns:
        {attribute: {group: float in [0, 1]}}, groups as from members_by_group; shares are of the
        group's rows in which the value changed. NaN where there are none.
    """
    before, rates = predict(table.values), {}
    for place, attribute in enumerate(table.attributes):
        if attributes is not None and attribute not in attributes:
            continue
        values, swapped = swap_attribute(table, attribute, np.random.default_rng([seed, place]))
        changed = predict(values) != before
        rates[attribute] = {}
        for group, members in members_by_group(table).items():
            rows = members & swapped
            rates[attribute][group] = float(changed[rows].mean()) if rows.any() else np.nan
    return rates


def mean_swaps(predictors, table, attributes, seed):
    """The mean over networks of the share of predictions that a swap changes, among all people.

    predictors: list of tabular.dense.Predictor. Returns {attribute: float in [0, 1]}.
    """
    rates = [swap_rates(one.predict, table, seed, attributes) for one in predictors]
    return {name: float(np.mean([rate[name]["all"] for rate in rates])) for name in attributes}


class _Predictor(BaseEstimator):
    """A function from values to labels, as scikit-learn wants it."""

    def __init__(self, predict):
        self.predict = predict

    def fit(self, values, label):
        """Return self: it is trained already."""
        return self


def permutation_drops(predict, table, repeats, seed):
    """How much accuracy falls when an attribute is shuffled among all people.

    Args:
        predict: function, (N, A) values -> (N,) predicted labels.
        table: Table.
        repeats: int, shuffles of each attribute.
        seed: int.

    Returns:
        {attribute: {group: float}}, the mean fall in the accuracy of each group, in [-1, 1].
    """
    groups = members_by_group(table)

    def accuracies(predictor, values, label):
        correct = predictor.predict(values) == label
        return {name: correct[members].mean() for name, members in groups.items()}

    result = permutation_importance(
        _Predictor(predict),
        table.values,
        table.label,
        scoring=accuracies,
        n_repeats=repeats,
        random_state=seed,
    )
    drops = {attribute: {} for attribute in table.attributes}
    for group in groups:
        for attribute, drop in zip(table.attributes, result[group].importances_mean):
            drops[attribute][group] = float(drop)
    return drops


def relevance_shares(relevance, table):
    """Each attribute's share of all |relevance|.

    Args:
        relevance: (N, A), of each person's attributes.
        table: Table, the same rows.

    Returns:
        {attribute: {group: float in [0, 1]}}; shares add up to 1 in each group.
    """
    size, shares = np.abs(relevance), {attribute: {} for attribute in table.attributes}
    for group, members in members_by_group(table).items():
        sums = size[members].sum(0, dtype=np.float64)
        for attribute, share in zip(table.attributes, sums / sums.sum()):
            shares[attribute][group] = float(share)
    return shares
