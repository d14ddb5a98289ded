"""Models beside the networks, and predictions that are made fairer after training."""

import numpy as np
from fairlearn.postprocessing import ThresholdOptimizer
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from tabular.encoding import fit_encoding

CONSTRAINTS = {  # of fairlearn's post-processing, by what the pages call them
    "equal selection rates": "demographic_parity",
    "equalised odds": "equalized_odds",
}


def majority(train, test, seed):
    """Predict the more frequent label of the training rows for everyone: (N,) int."""
    return np.full(len(test.label), int(train.label.mean() > 0.5))


def logistic_regression(train, test, seed):
    """scikit-learn's logistic regression on the networks' inputs: (N,) int."""
    encoding = fit_encoding(train)
    fitted = LogisticRegression(max_iter=500).fit(encoding.encode(train.values), train.label)
    return fitted.predict(encoding.encode(test.values).numpy())


def boosted_trees(train, test, seed):
    """scikit-learn's HistGradientBoosting on the attributes as they are: (N,) int."""
    categorical = [name in train.levels for name in train.attributes]
    trees = HistGradientBoostingClassifier(categorical_features=categorical, random_state=seed)
    return trees.fit(train.values, train.label).predict(test.values)


RIVALS = {  # name -> function (train Table, test Table, seed) -> predicted labels of the test rows
    "majority": majority,
    "logistic regression": logistic_regression,
    "HistGradientBoosting": boosted_trees,
}


class _Scores(BaseEstimator):
    """A fitted model whose input is its own score, as fairlearn wants it."""

    def fit(self, scores, label):
        """Return self: there is nothing to fit."""
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, scores):
        """The scores: (N, 1) -> (N,)."""
        return np.asarray(scores)[:, 0]


def fit_thresholds(scores, label, group, constraint, objective="accuracy_score"):
    """Thresholds of its own for each group, by fairlearn's ThresholdOptimizer; they may be random.

    Args:
        scores: (N,) float, the logit of label 1 less that of label 0.
        label: (N,) int, 0 or 1.
        group: (N,) array.
        constraint: str, one of CONSTRAINTS.
        objective: str, what is maximised under the constraint, as fairlearn calls it.

    Returns:
        The fitted ThresholdOptimizer: predict((M, 1) scores, sensitive_features=groups (M,),
        random_state=seed) -> (M,) of 0 and 1.
    """
    optimizer = ThresholdOptimizer(
        estimator=_Scores(),
        constraints=CONSTRAINTS[constraint],
        objective=objective,
        prefit=True,
        predict_method="predict",
    )
    return optimizer.fit(scores[:, None], label, sensitive_features=group)


def post_process(scores, table, fitted_scores, fitted_table, attribute, constraint, seed):
    """Predictions with thresholds of its own for each group, by fairlearn's ThresholdOptimizer.

    Thresholds may be random. It needs the attribute of every person at prediction time. Rows
    outside the two groups that are compared keep the threshold 0.

    Args:
        scores: (N,) float, the logit of label 1 less that of label 0.
        table: Table, the same rows.
        fitted_scores: (M,) float, of the rows that thresholds are fitted on.
        fitted_table: Table, the same rows.
        attribute: str, a key of the table's groups.
        constraint: str, one of CONSTRAINTS.
        seed: int, of the random thresholds.

    Returns:
        (N,) int array of 0 and 1.
    """
    predicted = (scores > 0).astype(int)
    pair = table.groups[attribute]

    def in_pair(rows):
        return np.any([rows.is_level(attribute, level) for level in pair], axis=0)

    rows, fitted_rows = in_pair(table), in_pair(fitted_table)
    optimizer = fit_thresholds(
        fitted_scores[fitted_rows],
        fitted_table.label[fitted_rows],
        fitted_table.column(attribute)[fitted_rows],
        constraint,
    )
    features = table.column(attribute)[rows]
    predicted[rows] = optimizer.predict(
        scores[rows, None], sensitive_features=features, random_state=seed
    )
    return predicted
