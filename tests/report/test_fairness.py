"""Rates by group against fairlearn's own, and their intervals."""

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
from statsmodels.stats.proportion import confint_proportions_2indep

from readers.people import Table
from report import fairness
from report.metrics import mean_share


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, (400, 1)).astype(float)
    groups = {"race": ("black", "white")}
    levels = {"race": ("black", "other", "white")}
    return Table(("race",), levels, values, rng.integers(0, 2, 400), ("no", "yes"), groups)


def test_rates_are_fairlearns(table):
    predicted = np.random.default_rng(1).integers(0, 2, (1, 400))
    rates = fairness.rate_table(predicted, table).set_index(["group", "rate"])["value"]
    functions = {
        "selection rate": selection_rate,
        "true positive rate": true_positive_rate,
        "false positive rate": false_positive_rate,
    }
    race = np.array(table.levels["race"])[table.column("race").astype(int)]
    frame = MetricFrame(
        metrics=functions, y_true=table.label, y_pred=predicted[0], sensitive_features=race
    )
    for rate in functions:
        for group in ("black", "white"):
            assert rates[group, rate] == pytest.approx(frame.by_group.loc[group, rate])
    parity = rates["black and white", "demographic parity difference"]
    assert parity == pytest.approx(abs(rates["white - black", "selection rate"]))
    largest = max(
        abs(rates["white - black", f"{kind} positive rate"]) for kind in ("true", "false")
    )
    assert rates["black and white", "equalised odds difference"] == pytest.approx(largest)


def test_difference_has_newcombes_interval():
    first, second = np.arange(100) < 37, np.arange(140) < 91
    shares = [mean_share(part[None]) for part in (first, second)]
    difference = fairness.independent_difference(*shares)
    low, high = confint_proportions_2indep(37, 100, 91, 140, method="newcomb")
    np.testing.assert_allclose(difference, (37 / 100 - 91 / 140, low, high))


def test_trainings_that_differ_widen_the_interval(table):
    same = np.repeat((np.arange(400) % 2)[None], 3, 0)
    differing = same.copy()
    differing[0, :100], differing[1, -100:] = 1, 0
    widths = []
    for predicted in (same, differing):
        rows = fairness.rate_table(predicted, table)
        row = rows[(rows["group"] == "white") & (rows["rate"] == "selection rate")].iloc[0]
        widths.append(row["ci_high"] - row["ci_low"])
    assert widths[1] > 1.5 * widths[0]
