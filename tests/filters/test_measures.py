"""Measures: one conformance test for all, and each against its definition, image by image."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from datasets import GROUPS, Images
from filters import measures
from filters.measures import ADVERSARY, CLEAN, MEASURES, class_margins, male_margin
from tests.networks import draw_faces

WORST = {"likelihood": 0.01}  # of all others it is the lower end of value_range
N_IMAGES = 24

# ----------------------------------------------------------------------------- all measures


@pytest.fixture(params=MEASURES)
def name(request):
    """The name of each measure of the registry."""
    return request.param


def data_of(name):
    """24 images with the groups that a measure compares."""
    faces = draw_faces()
    if name == "attack":
        return faces._replace(group=torch.tensor([CLEAN, ADVERSARY]).repeat_interleave(12))
    return faces


def draw_margins(n_rows, seed=0):
    """Margins with ties, (n_rows, 24)."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(-3, 4, (n_rows, N_IMAGES), generator=random).float()


def test_a_value_for_each_row_within_the_range(name):
    values = MEASURES[name](draw_margins(50), data_of(name))
    assert values.shape == (50,) and values.dtype == torch.float32
    low, high = MEASURES[name].value_range
    assert (values >= low).all() and (values <= high).all()
    assert values.std() > 0.01


def test_perfect_margins_are_best_and_inverted_ones_worst(name):
    data = data_of(name)
    right = torch.full((1, N_IMAGES), 100.0)
    if name == "attack":  # adversaries are classified as their target, clean images wrongly
        right[0, data.group == CLEAN] *= -1
    low, best = MEASURES[name].value_range
    worst = WORST.get(name, low)
    values = MEASURES[name](torch.cat([right, -right]), data)
    assert values.tolist() == pytest.approx([best, worst], abs=1e-6)


def test_rows_are_independent(name):
    margins, data = draw_margins(5), data_of(name)
    together = MEASURES[name](margins, data)
    for t in range(5):
        alone = MEASURES[name](margins[t : t + 1], data)
        torch.testing.assert_close(alone, together[t : t + 1], rtol=1e-6, atol=1e-7)


def test_the_order_of_a_batch_changes_nothing(name):
    margins, data = draw_margins(4), data_of(name)
    rows = torch.randperm(N_IMAGES, generator=torch.Generator().manual_seed(1))
    values = MEASURES[name](margins[:, rows], data.take(rows))
    torch.testing.assert_close(values, MEASURES[name](margins, data), rtol=1e-6, atol=1e-7)


def test_group_measures_are_those_that_compare_groups(name):
    """All others give the same whatever the groups are (an attack has groups of its own)."""
    margins, faces = draw_margins(20), draw_faces()
    regrouped = faces._replace(group=faces.group.sort().values)
    if name == "attack":
        assert not MEASURES[name].compares_groups
        return
    same = torch.allclose(MEASURES[name](margins, faces), MEASURES[name](margins, regrouped))
    assert same == (not MEASURES[name].compares_groups)


def test_measures_that_average():
    averaging = [name for name, measure in MEASURES.items() if measure.averages]
    assert averaging == ["accuracy", "soft_accuracy"]
    assert not any(MEASURES[name].compares_groups for name in averaging)


AVERAGING = pytest.mark.parametrize("name", [name for name in MEASURES if MEASURES[name].averages])


@AVERAGING
def test_weights_of_1_change_nothing(name):
    margins, data = draw_margins(20), data_of(name)
    weighted = data._replace(weight=torch.ones(N_IMAGES))
    assert torch.equal(MEASURES[name](margins, weighted), MEASURES[name](margins, data))


@AVERAGING
def test_measures_that_average_are_weighted_means(name):
    """Of what each image scores alone."""
    margins, data = draw_margins(20), data_of(name)
    weight = torch.rand(N_IMAGES, generator=torch.Generator().manual_seed(3)) + 0.1
    weight /= weight.mean()
    scores = []
    for image in range(N_IMAGES):
        alone = data.take(torch.tensor([image]))
        scores.append(MEASURES[name](margins[:, [image]], alone).numpy())
    expected = np.average(np.transpose(scores), axis=1, weights=weight.numpy())  # (20,)
    values = MEASURES[name](margins, data._replace(weight=weight)).numpy()
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert abs(values - MEASURES[name](margins, data).numpy()).max() > 0.02


# ----------------------------------------------------------------------------- definitions


def test_margins_are_those_of_the_right_class():
    logits = torch.randn((3, 7, 4), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(7) % 4
    margins = class_margins(logits, labels)
    assert margins.shape == (3, 7)
    for t, b in np.ndindex(3, 7):
        row, label = logits[t, b].tolist(), int(labels[b])
        expected = row.pop(label) - max(row)
        assert margins[t, b].item() == pytest.approx(expected)
    torch.testing.assert_close(class_margins(logits[0], labels), margins[0])


def test_the_male_margin_is_the_difference_of_two_logits():
    logits = torch.tensor([[[1.0, 3.0], [5.0, 2.0]]])
    assert male_margin(logits).tolist() == [[2.0, -3.0]]
    margins = class_margins(logits, torch.tensor([1, 0]))
    assert margins.tolist() == [[2.0, 3.0]]  # of a woman with the sign of "female"


def step(x):
    """1 above 0, 0 below, and a half for a tie."""
    return 0.5 * (x > 0) + 0.5 * (x >= 0)


def soft_step(x):
    return 1 / (1 + np.exp(-x / 0.5))


def area(male, group, men, women, above):
    """Mean over pairs of a man of one race and a woman of another."""
    pairs = []
    for i in np.flatnonzero(group == GROUPS.index((men, "Male"))):
        for j in np.flatnonzero(group == GROUPS.index((women, "Female"))):
            pairs.append(above(male[i] - male[j]))
    return np.mean(pairs)


def slow_measures(margins, label, group):
    """All measures of faces for one row of margins, by their definitions."""
    male = np.where(label == 1, margins, -margins)  # by how much "male" exceeds "female"
    races = ("White", "Black")
    within = [(race, race) for race in races]
    everyone = [(men, women) for men in races for women in races]
    areas = {
        "auc": [area(male, group, *pair, step) for pair in within],
        "smooth_auc": [area(male, group, *pair, soft_step) for pair in within],
        "smooth_auc_all": [area(male, group, *pair, soft_step) for pair in everyone],
    }
    likelihoods = np.maximum(1 / (1 + np.exp(-margins)), 0.01)
    return {
        "accuracy": step(margins).mean(),
        "soft_accuracy": soft_step(margins).mean(),
        "likelihood": np.exp(np.log(likelihoods).mean()),
        "worst_group": min(soft_step(margins[group == index]).mean() for index in range(4)),
        **{name: np.mean(values) for name, values in areas.items()},
    }


@pytest.mark.parametrize("scale", [1.0, 0.1, 4.0])
def test_measures_are_their_definitions(scale):
    faces, margins = draw_faces(), scale * draw_margins(3)
    for t, row in enumerate(margins.double().numpy()):
        for name, expected in slow_measures(row, faces.label.numpy(), faces.group.numpy()).items():
            value = MEASURES[name](margins, faces)[t].item()
            assert value == pytest.approx(expected, rel=1e-5), name


def test_auc_is_scikit_learns():
    faces, margins = draw_faces(), draw_margins(1, seed=2)
    male = torch.where(faces.label == 1, margins[0], -margins[0])
    areas = []
    for race in measures.RACES:
        rows = torch.tensor([GROUPS[index][0] == race for index in faces.group])
        areas.append(roc_auc_score(faces.label[rows], male[rows]))
    assert measures.auc(margins, faces).item() == pytest.approx(np.mean(areas))


def test_value_of_an_attack():
    data = Images(None, None, torch.tensor([CLEAN] * 4 + [ADVERSARY] * 2))
    margins = torch.tensor([[1.0, 1, 1, -1, 2, -2], [-1, -1, -1, -1, 1, 1]])
    assert measures.attack(margins, data).tolist() == [0.5 - 0.75, 1.0]


def test_worst_group_of_groups_that_are_there():
    data = Images(None, None, torch.tensor([1, 1, 3, 3]))
    margins = torch.tensor([[0.0, 100, -100, 100], [100, 100, 100, 0.0]])
    assert measures.worst_group(margins, data).tolist() == pytest.approx([0.5, 0.75])


@pytest.mark.parametrize("n, n_blocks", [(50, 1), (51, 2), (100, 2), (120, 3)])
def test_auc_of_a_large_batch_is_a_mean_over_blocks(n, n_blocks):
    """n of each group: each man is compared with the women of his block, all alike here.

    A man is right by 1, a woman wrong by the number of her block.
    """
    group = torch.arange(4).repeat_interleave(n)
    faces = Images(None, 1 - group % 2, group)
    sizes = [len(part) for part in torch.arange(n).tensor_split(n_blocks)]
    block = torch.arange(n_blocks).repeat_interleave(torch.tensor(sizes)).repeat(4)
    margins = torch.where(group % 2 == 0, 1.0, -1.0 * block)
    expected = np.mean([1, 0.5, 0][:n_blocks])
    assert measures.auc(margins[None], faces).item() == pytest.approx(expected)


def test_auc_with_fewer_women_than_men():
    """The blocks are as many as the smaller side needs."""
    sizes = torch.tensor([60, 10, 60, 10])
    group = torch.arange(4).repeat_interleave(sizes)
    faces = Images(None, 1 - group % 2, group)
    margins = torch.randn((2, 140), generator=torch.Generator().manual_seed(0))
    for t, row in enumerate(margins.numpy()):
        male = np.where(faces.label == 1, row, -row)
        areas = [area(male, group.numpy(), race, race, step) for race in ("White", "Black")]
        assert measures.auc(margins, faces)[t].item() == pytest.approx(np.mean(areas))
