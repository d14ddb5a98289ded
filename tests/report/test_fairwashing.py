"""Scores of students by hand, over seeds, and targets."""

from common.settings import InputError

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from drawings.targets import TARGETS, load_target
from explain.heatmaps import Explainer, set_activations
from explain.student import build_convnet
from explain.tangent import fit_tangent
from report import fairwashing
from report.fairwashing import PROJECTED, RAW, Explained


def make_pair(n=6, size=8):
    rng = np.random.default_rng(0)

    def explained():
        outputs = rng.dirichlet(np.ones(3), n)
        maps = {kind: rng.dirichlet(np.ones(size**2), n) for kind in (RAW, PROJECTED)}
        return Explained(outputs, {key: part.reshape(n, size, size) for key, part in maps.items()})

    return explained(), explained()


def test_scores_are_those_of_their_pairs():
    student, teacher = make_pair()
    label, target = np.array([0, 1, 2, 0, 1, 2]), np.float32(np.eye(8) / 8)
    projected_target = np.stack([target] * 6)
    table = fairwashing.score_table(student, teacher, label, target, projected_target)
    means = table.set_index(["network", "maps", "reference", "measure"])["mean"]
    classes = [part.outputs.argmax(1) for part in (student, teacher)]
    assert means["student", "outputs", "label", "accuracy"] == (classes[0] == label).mean()
    assert means["teacher", "outputs", "label", "accuracy"] == (classes[1] == label).mean()
    assert means["student", "outputs", "teacher", "agreement"] == (classes[0] == classes[1]).mean()
    error = np.mean((student.outputs - teacher.outputs) ** 2)
    assert means["student", "outputs", "teacher", "mse"] == pytest.approx(error)
    for name, part in (("student", student), ("teacher", teacher)):
        for kind in (RAW, PROJECTED):
            maps = part.maps[kind]
            values = [np.corrcoef(one.ravel(), target.ravel())[0, 1] for one in maps]
            assert means[name, kind, "target", "pcc"] == pytest.approx(np.mean(values))
            mass = np.mean([np.trace(one) for one in maps])
            assert means[name, kind, "target", "mass"] == pytest.approx(mass)
    for kind in (RAW, PROJECTED):
        pairs = zip(student.maps[kind], teacher.maps[kind])
        values = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in pairs]
        assert means["student", kind, "teacher", "pcc"] == pytest.approx(np.mean(values))
    assert means["target", PROJECTED, "target", "pcc"] == pytest.approx(1)
    row = table.set_index(["network", "maps", "reference", "measure"]).loc[
        ("student", RAW, "teacher", "pcc")
    ]
    pairs = zip(student.maps[RAW], teacher.maps[RAW])
    values = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in pairs]
    half = 1.96 * np.std(values, ddof=1) / np.sqrt(6)
    assert row["ci_high"] - row["mean"] == pytest.approx(half, rel=1e-3)


def test_over_seeds():
    rows = []
    for seed, mean in ((0, 0.1), (1, 0.4)):
        rows.append(("grad", "plain", seed, "student", RAW, "target", "pcc", mean, 0.0, 1.0))
    rows.append(("lrp", "plain", 0, "student", RAW, "target", "pcc", 0.5, 0.2, 0.7))
    table = fairwashing.over_seeds(pd.DataFrame(rows, columns=fairwashing.COLUMNS))
    two = table.loc[("grad", "plain", "student", RAW, "target", "pcc")]
    assert two.tolist() == [0.25, 0.1, 0.4, 2]
    one = table.loc[("lrp", "plain", "student", RAW, "target", "pcc")]
    assert one.tolist() == [0.5, 0.2, 0.7, 1]


def test_groups_are_scored_by_hand():
    student, teacher, label = np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    groups = {"all": np.full(4, True), "last": np.array([False, False, True, True])}
    table = fairwashing.group_table(student, teacher, label, groups)
    means = table.set_index(["group", "network", "measure"])["mean"]
    assert means["all", "student", "accuracy"] == 0.75
    assert means["all", "teacher", "accuracy"] == 0.75
    assert means["all", "student", "agreement"] == 0.5
    assert means["last", "student", "accuracy"] == 0.5
    assert means["last", "teacher", "accuracy"] == 1
    assert table["images"].tolist() == [4, 4, 4, 2, 2, 2]
    seeds = [table.assign(method="grad", attacker="plain", seed=seed) for seed in (0, 1)]
    both = pd.concat(seeds)[fairwashing.GROUP_COLUMNS]
    row = fairwashing.over_seeds(both).loc[("grad", "plain", "last", 2, "student", "agreement")]
    assert row.tolist() == [0.5, 0.5, 0.5, 2]


def test_images_are_explained_in_batches_as_at_once():
    torch.manual_seed(0)
    network = set_activations(build_convnet(1, 16, 3)).eval()
    inputs = torch.rand(7, 1, 16, 16)
    tangent = fit_tangent(
        inputs.flatten(1), torch.zeros(7), inputs.flatten(1), torch.zeros(7), 5, 3, classes=[0]
    )
    whole, parts = (
        fairwashing.explain_images(network, Explainer("grad"), inputs, tangent, batch_size=size)
        for size in (7, 3)
    )
    for kind in (RAW, PROJECTED):
        np.testing.assert_allclose(whole.maps[kind], parts.maps[kind], rtol=1e-3, atol=1e-6)
    project = lambda values: tangent.project(torch.arange(7), values)  # noqa: E731
    expected, _ = Explainer("grad").heatmap(network, inputs, project)
    np.testing.assert_allclose(whole.maps[PROJECTED], expected, rtol=1e-3, atol=1e-6)
    target = np.float32(np.eye(16) / 16)
    projected = fairwashing.project_target(target, tangent, 7, (1, 16, 16), batch_size=2)
    values = tangent.project(torch.tensor([4]), torch.from_numpy(target)[None, None])[0, 0].abs()
    np.testing.assert_allclose(projected[4], values / values.sum(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("size", [16, 28, 64])
def test_drawn_targets(name, size):
    target = load_target(name, size)
    assert target.shape == (size, size) and target.dtype == np.float32
    assert target.sum() == pytest.approx(1) and len(np.unique(target)) == 2


def test_the_42_is_as_large_as_the_original():
    assert 100 < (load_target("42", 28) > 0).sum() < 130


def test_targets_from_files(tmp_path):
    path = tmp_path / "t.png"
    pixels = np.zeros((4, 4), np.uint8)
    pixels[0, 1], pixels[3, 3] = 255, 85
    Image.fromarray(pixels).save(path)
    expected = np.zeros((4, 4))
    expected[0, 1], expected[3, 3] = 0.75, 0.25
    np.testing.assert_allclose(load_target(str(path), 4), expected)
    Image.fromarray(pixels * 0).save(path)
    with pytest.raises(InputError, match="black"):
        load_target(str(path), 4)
    path.write_bytes(b"no image")
    with pytest.raises(InputError, match="can be read"):
        load_target(str(path), 4)
    with pytest.raises(InputError, match="no such file"):
        load_target("43", 4)
