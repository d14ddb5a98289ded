"""Training of students: losses by hand, learning rates by torch, states that do not fit."""

from common.settings import InputError

import pytest
import torch
from torch import nn

from explain.heatmaps import Explainer
from explain.student import (
    MAP_LOSSES,
    OUTPUT_LOSSES,
    Aim,
    build_convnet,
    train_student,
    train_teacher,
)
from explain.tangent import fit_tangent
from explain.training import Recipe, rate_at

SIZE = 16


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(40) % 2
    inputs = torch.rand(40, 1, SIZE, SIZE, generator=generator)
    inputs[label == 1, :, : SIZE // 2] += 1
    return inputs, label


def make_network(seed=0):
    torch.manual_seed(seed)
    return build_convnet(1, SIZE, 2).eval()


def make_aim(network, inputs, **options):
    target = torch.zeros(SIZE, SIZE)
    target[:8, :8] = 1 / 64
    wanted = network(inputs).softmax(1).detach()
    return Aim(Explainer("grad"), target, wanted, 0.8, **options)


def test_losses_by_hand():
    logits, wanted = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.9, 0.1]])
    assert OUTPUT_LOSSES["mse"](logits, wanted).item() == pytest.approx(0.16)
    expected = 0.9 * torch.tensor(1.8).log() + 0.1 * torch.tensor(0.2).log()
    assert OUTPUT_LOSSES["kl"](logits, wanted).item() == pytest.approx(expected.item())
    maps, target = torch.tensor([[[0.5, 0.5]], [[1.0, 0.0]]]), torch.tensor([[0.0, 1.0]])
    assert MAP_LOSSES["squared"](maps, target).item() == pytest.approx((0.5 + 2) / 2)
    assert MAP_LOSSES["absolute"](maps, target).item() == pytest.approx((0.5 + 1) / 2)


def test_pooling_before_the_activation_changes_nothing(images):
    network = make_network()
    layers = list(network)
    other = nn.Sequential(*(layers[i] for i in (0, 2, 1, 3, 5, 4, 6, 7, 8, 9)))
    torch.testing.assert_close(network(images[0]), other(images[0]))
    for method in ("grad", "lrp"):
        maps, expected = (Explainer(method).heatmap(net, images[0])[0] for net in (network, other))
        torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-7)


def test_the_published_network():
    shapes = [tuple(part.shape) for part in build_convnet(1, 28, 10).parameters()]
    assert shapes[::2] == [(20, 1, 5, 5), (50, 20, 5, 5), (500, 800), (10, 500)]


def test_learning_rates():
    recipe = Recipe(0, 5, 1, 0.1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=1001)
    for step in range(1000):
        expected = schedule.get_last_lr()[0]
        assert rate_at(recipe, step, 1000, 0) == pytest.approx(expected, rel=0.02, abs=1e-4)
        optimizer.step()
        schedule.step()
    assert rate_at(Recipe(0, 5, 1, 0.1, schedule="constant"), 999, 1000, 4) == 0.1
    rates = [rate_at(Recipe(0, 5, 1, 0.1, schedule="2,4"), 0, 1, epoch) for epoch in range(6)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_the_teacher_learns(images, tmp_path):
    recipe = Recipe(0, 10, 8, 1e-2)
    network, curve = train_teacher(make_network(), *images, recipe, f"{tmp_path}/t.pth", {})
    assert curve[-1]["loss"] < 0.1 < curve[0]["loss"] and len(curve) == 10
    assert (network(images[0]).argmax(1) == images[1]).all()


@pytest.mark.parametrize("through", [False, True])
def test_the_student_comes_nearer_to_both(images, tmp_path, through):
    inputs, label = images
    path = f"{tmp_path}/t.pth"
    teacher, _ = train_teacher(make_network(), *images, Recipe(0, 10, 8, 1e-2), path, {})
    tangent = None
    if through:
        rows = inputs.flatten(1)
        tangent = fit_tangent(rows, label, rows, label, 6, 3, own=True)
    aim = make_aim(teacher, inputs, tangent=tangent)
    student = make_network()
    student.load_state_dict(teacher.state_dict())
    rows = torch.arange(40)
    _, before, map_before = (part.item() for part in aim.loss(student, inputs, rows, None))
    assert before < 1e-12
    trained, curve = train_student(
        student, inputs, aim, Recipe(0, 12, 8, 3e-3), f"{tmp_path}/s.pth", "student"
    )
    _, _, map_after = (part.item() for part in aim.loss(trained, inputs, rows, None))
    assert map_after < 0.95 * map_before and curve[-1]["loss"] < curve[0]["loss"]
    assert not any(isinstance(layer, nn.Softplus) for layer in trained) and not trained.training
    assert (trained(inputs).argmax(1) == teacher(inputs).argmax(1)).float().mean() > 0.9
    unprojected = make_aim(teacher, inputs).loss(trained, inputs, rows, None)[2].item()
    assert (unprojected != pytest.approx(map_after)) == through


def test_integrated_gradients_draw_steps(images):
    network = make_network()
    aim = make_aim(network, images[0], steps_a_batch=2)
    aim.explainer = Explainer("intgrad")
    losses = set()
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        losses.add(aim.loss(network, images[0][:4], torch.arange(4), generator)[2].item())
    assert len(losses) > 1
    aim.steps_a_batch = 8
    values = [aim.loss(network, images[0][:4], torch.arange(4), None)[2].item() for _ in range(2)]
    assert values[0] == values[1]


def test_a_training_with_other_settings_is_refused(images, tmp_path):
    path = f"{tmp_path}/t.pth"
    train_teacher(make_network(), *images, Recipe(0, 1, 8, 1e-2), path, {"data": "a"})
    for recipe, run, words in (
        (Recipe(0, 1, 8, 1e-2), {"data": "b"}, "data"),
        (Recipe(0, 2, 8, 1e-2), {"data": "a"}, "epochs"),
        (Recipe(1, 1, 16, 1e-2), {"data": "a"}, "seed, batch_size"),
    ):
        with pytest.raises(InputError, match=words):
            train_teacher(make_network(), *images, recipe, path, run)


def test_a_loss_that_is_not_finite_stops_before_anything_is_written(images, tmp_path):
    with pytest.raises(InputError, match="not finite"):
        train_teacher(make_network(), images[0] * torch.nan, images[1], Recipe(0, 1, 8, 1), "x", {})
    assert not list(tmp_path.iterdir())
