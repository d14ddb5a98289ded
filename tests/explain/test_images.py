"""Which images a student of the gender network sees, and how they are scaled."""

from common.settings import CELEBA_FRAME, FAIRFACE_FRAME

import numpy as np
import torch

import datasets
from explain.images import load_inputs


def rows_of(values):
    return {row.numpy().tobytes() for row in values.contiguous()}


def test_students_imitate_on_images_of_both_sets_that_nothing_else_sees(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sets = load_inputs("faces", str(toy), 32, imitated=40)
    imitated = rows_of(sets.inputs["imitated"])
    assert len(sets.inputs["imitated"]) == 40
    assert len(imitated & rows_of(sets.inputs["train"])) == 20
    for name in ("validation", "report", "celeba"):
        assert not imitated & rows_of(sets.inputs[name])
    report = datasets.load("faces", str(toy), "report", 32, CELEBA_FRAME, FAIRFACE_FRAME)
    assert np.array_equal(sets.group, report.group)
    closed = load_inputs("faces", str(toy), 32, open_report=False, imitated=40)
    assert not rows_of(closed.inputs["report"]) & rows_of(sets.inputs["report"])
    assert not rows_of(closed.inputs["celeba"]) & rows_of(sets.inputs["celeba"])
    assert closed.imitated_digest == sets.imitated_digest != sets.digest


def test_images_for_a_network_of_train_squeeze_are_scaled_as_there(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale = (datasets.MEAN, datasets.STD)
    sets = load_inputs("faces", str(toy), 32, imitated=8, scale=scale)
    report = datasets.load("faces", str(toy), "report", 32, CELEBA_FRAME, FAIRFACE_FRAME)
    torch.testing.assert_close(sets.inputs["report"], datasets.normalise(report.images, "cpu"))
    black, white = (datasets.normalise(torch.full((1, 3, 1, 1), v), "cpu")[0] for v in (0, 255))
    torch.testing.assert_close(sets.low, black)
    torch.testing.assert_close(sets.high, white)


def test_other_tasks_imitate_on_the_training_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sets = load_inputs("digits", "none", 28, imitated=40)
    assert sets.inputs["imitated"] is sets.inputs["train"]
    assert sets.imitated_digest == sets.digest
    assert set(sets.label) == {"train", "validation", "report"}
