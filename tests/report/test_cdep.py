"""Tables and text of cdep.py, from records written by hand."""

import numpy as np
import pytest
from scipy import stats

from report import cdep, cdep_figures


def image_row(method, strength, seed, inverted, share=0.3):
    accuracy = {"same": 0.9, "inverted": inverted, "random": 0.8, "absent": 0.8}
    explained = {"share_cd": share, "share_shapley": 0.3, "gradient": 0.3, "worst_group": 0.1}
    return {"method": method, "strength": strength, "seed": seed, **accuracy, **explained}


@pytest.fixture
def record():
    """Vanilla follows the decoy; CDEP hides it; the last rule drops it."""
    rows = []
    for seed, shift in enumerate((-0.01, 0.0, 0.01)):
        rows.append(image_row("vanilla", 0.0, seed, 0.4 + shift))
        rows.append(image_row("cdep", 10.0, seed, 0.5 + shift, share=0.1))
        rows.append(image_row("cdep_last", 0.3, seed, 0.88 + shift, share=0.01))
    trainings = [row | {"seconds": 1.0} for row in rows]
    trainings += [image_row("cdep", 1.0, 0, 0.3) | {"seconds": 1.0}]
    return {
        "run": {"EXPERIMENT": "decoy_mnist", "arch": "mlp"},
        "classes": ["0", "1"],
        "rows": {"training": 10, "validation": 5, "reported": 5},
        "reported": "test",
        "chosen": {"vanilla": 0.0, "cdep": 10.0, "cdep_last": 0.3},
        "trainings": trainings,
        "results": rows,
    }


def test_interval_is_students():
    values = [0.1, 0.2, 0.4, 0.5]
    mean, low, high = cdep.interval(values)
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert mean == pytest.approx(0.3) and (low, high) == pytest.approx(expected)
    assert np.isnan(cdep.interval([0.1, 0.3])[1:]).all()


def test_means_of_one_lambda_and_some_seeds(record):
    assert cdep.mean_measures(record, "cdep", 1.0, [0])["inverted"] == 0.3
    means = cdep.mean_measures(record, "cdep", 10.0, [0, 1])
    assert means["inverted"] == pytest.approx(0.495) and "seconds" not in means


def test_reliance_is_what_inversion_costs(record):
    frame = cdep.result_frame(record).set_index(["method", "measure"])
    assert frame.loc[("cdep", "reliance"), "mean"] == pytest.approx(0.4)
    assert frame.loc[("cdep", "reliance"), "trainings"] == 3


def test_a_clean_explanation_of_a_network_that_follows_the_decoy(record):
    (case,) = cdep.concealed(cdep.result_frame(record))
    assert case[:3] == ("cdep", 10.0, "share_cd")
    assert case[3:] == pytest.approx((0.3, 0.1, 0.5, 0.4))
    (line,) = cdep.concealed_text(cdep.result_frame(record))
    assert "falls from 30.0% to 10.0%" in line and "from 50.0% to 40.0%" in line


def test_an_interval_of_a_share_stays_in_it(record):
    for row in record["results"]:
        row["gradient"] = 0.001 * row["seed"] ** 5
    frame = cdep.result_frame(record).set_index(["method", "measure"])
    assert frame.loc[("cdep", "gradient"), "ci_low"] == 0


def test_nothing_is_concealed_where_reliance_falls_too(record):
    for row in record["results"]:
        if row["method"] == "cdep":
            row["inverted"] = 0.7
    (line,) = cdep.concealed_text(cdep.result_frame(record))
    assert line.startswith("No method")


def test_gap_and_reliance_of_tables():
    facts = {"same": 0.7, "flips": 0.1, "false_positives_0": 0.4, "false_positives_1": 0.3}
    frame = cdep.result_frame(
        {"results": [{"method": "cdep", "strength": 1.0, "seed": 0, **facts}]}
    )
    means = frame.set_index("measure")["mean"]
    assert means["gap"] == pytest.approx(0.1) and means["reliance"] == 0.1


def test_curves_are_of_the_worst_condition(record):
    curves = cdep.validation_curves(record).set_index(["method", "strength"])["mean"]
    assert curves["cdep", 10.0] == pytest.approx(0.5) and curves["cdep", 1.0] == 0.3
    assert curves["cdep_last", 0.3] == pytest.approx(0.8)


def test_text(record):
    text = cdep.summary_text(record)
    for words in ("CDEP as published, 10", "50.0 (47.5 to 52.5)", "3 trainings", "10 training"):
        assert words in text
    row = {"mean": 0.0, "ci_low": -0.0001, "ci_high": 0.0}
    assert cdep.percent_text(row) == "0.0 (0.0 to 0.0)"


def test_figures(record):
    maps = {
        "images": np.zeros((2, 4, 4, 3), np.uint8),
        "maps": np.random.default_rng(0).normal(size=(3, 2, 4, 4)),
        "label": np.array([0, 1]),
        "answers": np.array([[0, 0], [1, 1], [0, 1]]),
        "methods": np.array(["vanilla", "cdep", "cdep_last"]),
    }
    drawn = cdep_figures.draw_all(record, maps)
    assert list(drawn) == ["lambdas", "heatmaps"]
    score, reliance = drawn["lambdas"].axes
    assert "worst condition" in score.get_ylabel() and "inverted" in reliance.get_ylabel()
    points = {line.get_label(): line.get_xydata()[0] for line in reliance.lines}
    np.testing.assert_allclose(points["CDEP as published"], (10, 40))
    titles = [axis.get_title() for axis in drawn["heatmaps"].axes]
    assert titles[:2] == ["true: 0", "true: 1"] and titles[2:4] == ["answer: 0", "answer: 0"]
    assert list(cdep_figures.draw_all(record, None)) == ["lambdas"]


def test_skin_images_have_a_table_of_their_own(record):
    assert "AUC" not in cdep.summary_text(record)
    for row in record["results"]:
        row |= dict.fromkeys(cdep.PATCH_COLUMNS, 0.123)
    text = cdep.summary_text(record)
    assert "AUC, without patch images" in text and "12.3 (12.3 to 12.3)" in text
