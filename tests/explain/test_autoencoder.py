"""Tangent spaces by auto-encoders: exact where the manifold is known, and their training."""

from types import SimpleNamespace

import h5py
import pytest
import torch
from torch import nn

from explain.autoencoder import Autoencoder, fit_decoded, train_autoencoder
from explain.tangent_files import add_class, computed_classes, open_tangents
from explain.training import Recipe

CODE = 3  # numbers of a code


@pytest.fixture
def flat():
    """A plane of three dimensions among the images of 12 numbers, as a linear auto-encoder."""
    generator = torch.Generator().manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, CODE))
    decoder = nn.Sequential(nn.Linear(CODE, 12), nn.Unflatten(1, (1, 3, 4)))
    network = SimpleNamespace(encoder=encoder, decoder=decoder)
    return network, torch.randn(10, 1, 3, 4, generator=generator)


@pytest.fixture
def curved():
    """A small auto-encoder of random weights, and images."""
    torch.manual_seed(0)
    return Autoencoder(2, 10, CODE).eval(), torch.randn(9, 2, 10, 10)


def test_projection_is_exact_on_a_plane(flat):
    """A linear decoder's Jacobian is its weight, wherever the image lies."""
    network, inputs = flat
    rows = torch.tensor([1, 2, 6])
    tangent = fit_decoded(network, inputs, rows, CODE)
    weight = network.decoder[0].weight.detach().double()
    projector = weight @ torch.linalg.pinv(weight)
    values = torch.randn(3, 1, 3, 4)
    expected = (values.flatten(1).double() @ projector).float().reshape(values.shape)
    torch.testing.assert_close(tangent.project(rows, values), expected, rtol=1e-4, atol=1e-5)
    inside = network.decoder(torch.randn(3, CODE)) - network.decoder(torch.zeros(3, CODE))
    torch.testing.assert_close(tangent.project(rows, inside), inside, rtol=1e-4, atol=1e-5)
    singular = torch.linalg.svdvals(weight).float().expand(3, CODE)
    torch.testing.assert_close(tangent.singular[rows], singular)


def test_a_code_with_a_number_that_has_no_effect(flat):
    """The tangent space has a dimension less, and no noise in its place."""
    network, inputs = flat
    with torch.no_grad():
        network.decoder[0].weight[:, 1] = 0
    rows = torch.arange(10)
    tangent = fit_decoded(network, inputs, rows, CODE)
    assert (tangent.singular[:, 2] == 0).all() and (tangent.singular[:, :2] > 0).all()
    basis = tangent.basis(rows)
    expected = torch.diag(torch.tensor([1.0, 1, 0])).expand(10, CODE, CODE)
    torch.testing.assert_close(basis.mT @ basis, expected, rtol=0, atol=1e-4)


def test_the_jacobian_is_that_of_each_image(curved):
    """As torch.autograd.functional has it, one image at a time; P P = P = its transpose."""
    network, inputs = curved
    rows = torch.tensor([8, 0, 3])
    tangent = fit_decoded(network, inputs, rows, CODE, batch_size=2)
    values = torch.randn(3, 2, 10, 10)
    once = tangent.project(rows, values)
    torch.testing.assert_close(tangent.project(rows, once), once, rtol=1e-3, atol=1e-5)
    for place, row in enumerate(rows.tolist()):
        code = network.encoder(inputs[row : row + 1]).detach()
        jacobian = torch.autograd.functional.jacobian(network.decoder, code)
        basis = torch.linalg.qr(jacobian.reshape(200, CODE).double())[0]
        expected = basis @ (basis.T @ values[place].flatten().double())
        torch.testing.assert_close(once[place].flatten(), expected.float(), rtol=1e-3, atol=1e-4)
    basis = tangent.basis(rows)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(CODE).expand(3, 3, 3), atol=1e-4, rtol=0)
    other = torch.tensor([1, 2])  # of other classes: nothing is known
    assert (tangent.project(other, values[:2]) == 0).all()


@pytest.mark.parametrize("size", [28, 32, 33])
def test_images_keep_their_size(size):
    inputs = torch.randn(2, 3, size, size)
    assert Autoencoder(3, size, 4)(inputs).shape == inputs.shape


def test_training_learns_a_curve_and_goes_on_where_it_stopped(tmp_path):
    """Images of one number, the place of a bright row; half the training is resumed."""
    places = torch.linspace(2, 7, 40)[:, None]
    profile = torch.exp(-((torch.arange(10) - places) ** 2))
    inputs = profile[:, None, :, None].expand(40, 1, 10, 10).contiguous()
    losses = []
    for parts in ([60], [20, 60]):
        for epochs in parts:
            torch.manual_seed(0)
            network = Autoencoder(1, 10, 2)
            recipe = Recipe(0, epochs, 20, 3e-3, schedule="constant")
            path = str(tmp_path / f"{len(parts)}.pth")
            curve = train_autoencoder(network, inputs, recipe, path, {"class": 0})[1]
        losses.append([row["loss"] for row in curve])
    assert losses[0] == losses[1] and len(losses[0]) == 60
    assert losses[0][-1] < 0.1 * inputs.var()


def test_rows_of_a_file_are_those_of_the_images(tmp_path, curved):
    """Two classes, one after the other, each by its own network."""
    _, inputs = curved
    path, label, facts = str(tmp_path / "t.h5"), torch.arange(9) % 2, {"dimensions": CODE}
    values, expected = torch.randn(9, 2, 10, 10), torch.zeros(9, 2, 10, 10)
    for number in (1, 0):
        torch.manual_seed(number)
        rows = (label == number).nonzero()[:, 0]
        tangent = fit_decoded(Autoencoder(2, 10, CODE).eval(), inputs, rows, CODE)
        expected[rows] = tangent.project(rows, values[rows])
        add_class(path, "test", number, rows, tangent, "original", facts)
    assert computed_classes(path, "test", facts) == {0, 1}
    with h5py.File(path) as file:
        assert file["test/v"].shape == (9, 200, CODE) and file["test/s"].shape == (9, CODE)
    again = open_tangents(path, "test", inputs.flatten(1), inputs.flatten(1))
    projected = again.project(torch.arange(9), values)
    torch.testing.assert_close(projected, expected, rtol=1e-4, atol=1e-5)
