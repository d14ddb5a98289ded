"""Projections onto tangent spaces: exact on known manifolds, and their files."""

from common.settings import InputError

import h5py
import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from explain.tangent import factorise, fit_tangent, nearest
from explain.tangent_files import LAYOUTS, add_class, computed_classes, open_tangents

D, K = 12, 6  # numbers of an input, neighbours


@pytest.fixture
def data():
    """Inputs (10, D), their labels, and a pool (40, D) of two classes with its labels."""
    generator = torch.Generator().manual_seed(0)
    inputs, pool = torch.randn(10, D, generator=generator), torch.randn(40, D, generator=generator)
    return inputs, torch.arange(10) % 2, pool, torch.arange(40) // 20


@pytest.fixture
def plane():
    """Inputs and a pool on two planes of three dimensions, one a class, away from 0; the bases."""
    rng = np.random.default_rng(0)
    bases = [np.linalg.qr(rng.normal(size=(D, 3)))[0] for _ in range(2)]
    offsets = rng.normal(size=(2, D)) * 5

    def draw(label):
        return np.stack([offsets[c] + bases[c] @ rng.normal(size=3) for c in label])

    label, pool_label = np.arange(8) % 2, np.arange(30) % 2
    parts = (draw(label), label, draw(pool_label), pool_label)
    tensors = [torch.from_numpy(p).float() if p.ndim == 2 else torch.from_numpy(p) for p in parts]
    return tensors, bases


def test_nearest_are_those_of_scikit_learn(data):
    inputs, _, pool, _ = data
    expected = NearestNeighbors(n_neighbors=5).fit(pool).kneighbors(inputs, return_distance=False)
    assert nearest(inputs, pool, 5, batch_size=3).tolist() == expected.tolist()
    own = nearest(pool, pool, 5, torch.arange(40), batch_size=7)
    expected = NearestNeighbors(n_neighbors=6).fit(pool).kneighbors(pool, return_distance=False)
    assert own.tolist() == expected[:, 1:].tolist()


def test_singular_vectors_are_those_of_numpy():
    differences = torch.randn(3, K, D)
    matrix, singular = factorise(differences, 4)
    for rows, a, values in zip(differences, matrix, singular):
        _, expected, vectors = np.linalg.svd(rows.numpy(), full_matrices=False)
        np.testing.assert_allclose(values, expected[:4], rtol=1e-5)
        projector = (rows.T @ a) @ (rows.T @ a).T
        np.testing.assert_allclose(projector, vectors[:4].T @ vectors[:4], atol=1e-5)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_projections(data, strict, own):
    """P P = P = its transpose, of d dimensions; as slow loops have it."""
    inputs, label, pool, pool_label = data
    if own:
        inputs, label = pool, pool_label
    tangent = fit_tangent(inputs, label, pool, pool_label, K, 4, strict, own)
    rows = torch.tensor([1, 4, 7])
    values = torch.randn(3, 1, 3, 4)
    once = tangent.project(rows, values)
    assert once.shape == values.shape
    torch.testing.assert_close(tangent.project(rows, once), once, rtol=1e-4, atol=1e-5)
    for place, row in enumerate(rows.tolist()):
        same = [i for i in range(40) if pool_label[i] == label[row] and not (own and i == row)]
        same.sort(key=lambda i, row=row: ((pool[i] - inputs[row]) ** 2).sum().item())
        near = pool[same[:K]].double()
        centre = inputs[row].double() if strict else near.mean(0)
        vectors = np.linalg.svd((near - centre).numpy())[2][:4]
        expected = vectors.T @ (vectors @ values[place].double().numpy().ravel())
        np.testing.assert_allclose(once[place].ravel(), expected, atol=1e-5)
    basis = tangent.basis(rows)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(4).expand(3, 4, 4), rtol=0, atol=1e-4)


def test_projection_is_exact_on_a_plane(plane):
    """However many dimensions are given beyond those that there are."""
    (inputs, label, pool, pool_label), bases = plane
    tangent = fit_tangent(inputs, label, pool, pool_label, 7, 6)
    values = torch.randn(len(inputs), D)
    projected = tangent.project(torch.arange(len(inputs)), values)
    for row, number in enumerate(label.tolist()):
        expected = bases[number] @ (bases[number].T @ values[row].double().numpy())
        np.testing.assert_allclose(projected[row], expected, atol=1e-4)
    assert (tangent.singular[:, 3:] == 0).all() and (tangent.singular[:, :3] > 0).all()


def test_projection_can_be_differentiated(data):
    tangent = fit_tangent(*data, K, 4)
    values = torch.randn(2, D, requires_grad=True)
    rows = torch.tensor([0, 3])
    tangent.project(rows, values).square().sum().backward()
    torch.testing.assert_close(values.grad, 2 * tangent.project(rows, values.detach()))


# ----------------------------------------------------------------------------- files

FACTS = {"neighbours": K, "dimensions": 4, "strict": 0, "data": "abc"}


def write(path, data, layout, classes, tangent=None):
    tangent = tangent or fit_tangent(*data, K, 4)
    for number in classes:
        rows = (data[1] == number).nonzero()[:, 0]
        add_class(str(path), "test", number, rows, tangent, layout, FACTS)
    return tangent


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_is_read(tmp_path, data, layout):
    inputs, _, pool, _ = data
    path, rows, values = tmp_path / "t.h5", torch.arange(10), torch.randn(10, D)
    tangent = write(path, data, layout, [0, 1])
    again = open_tangents(str(path), "test", inputs, pool, data="abc")
    assert torch.equal(again.singular, tangent.singular)
    expected = tangent.project(rows, values)
    torch.testing.assert_close(again.project(rows, values), expected, rtol=1e-4, atol=1e-5)
    part = np.array([2, 5, 9])
    fewer = open_tangents(str(path), "test", inputs[part], pool, part)
    torch.testing.assert_close(fewer.project(rows[:3], values[part]), expected[part])
    assert computed_classes(str(path), "test", FACTS) == {0, 1}
    assert computed_classes(str(path), "train", FACTS) == set()


def test_layout_of_the_original(tmp_path, data):
    """Groups, names and shapes; rows aligned; rows of other classes 0 until they are appended."""
    path = tmp_path / "t.h5"
    tangent = write(path, data, "original", [0])
    with h5py.File(path) as file:
        assert set(file["test"]) == {"s", "v"}
        singular, vectors = file["test/s"][:], file["test/v"][:]
    assert singular.shape == (10, 4) and vectors.shape == (10, D, 4)
    assert (singular[1::2] == 0).all() and (vectors[1::2] == 0).all()
    np.testing.assert_allclose(vectors[::2], tangent.basis(torch.arange(0, 10, 2)))
    write(path, data, "original", [1], tangent)
    with h5py.File(path) as file:
        np.testing.assert_allclose(file["test/v"][:], tangent.basis(torch.arange(10)))
        assert (file["test/v"][::2] == vectors[::2]).all()


def test_a_file_of_the_original_without_facts_is_read(tmp_path, data):
    inputs, _, pool, _ = data
    tangent = fit_tangent(*data, K, 4)
    path, rows, values = tmp_path / "t.h5", torch.arange(10), torch.randn(10, D)
    with h5py.File(path, "w") as file:
        file["test/s"], file["test/v"] = tangent.singular.numpy(), tangent.basis(rows).numpy()
    again = open_tangents(str(path), "test", inputs, pool, data="any")
    torch.testing.assert_close(again.project(rows, values), tangent.project(rows, values))


def test_files_that_do_not_fit(tmp_path, data):
    inputs, _, pool, _ = data
    path = str(tmp_path / "t.h5")
    with pytest.raises(InputError, match="no such file"):
        open_tangents(path, "test", inputs, pool)
    write(path, data, "compact", [0])
    for arguments, options, words in (
        (("train", inputs, pool), {}, "ALL_DATA"),
        (("test", inputs, pool), {"data": "other"}, "other training images"),
        (("test", inputs[:9], pool), {}, "10 rows"),
        (("test", inputs, pool), {}, "5 rows of test are 0"),
    ):
        with pytest.raises(InputError, match=words):
            open_tangents(path, *arguments, **options)
    with pytest.raises(InputError, match="DIMENSIONS=4, not 5"):
        computed_classes(path, "test", FACTS | {"dimensions": 5})
    (tmp_path / "t.h5").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no HDF5 file"):
        open_tangents(path, "test", inputs, pool)


def test_an_interrupted_write_leaves_the_file_as_it_was(tmp_path, data, monkeypatch):
    path = tmp_path / "t.h5"
    write(path, data, "compact", [0])
    before = path.read_bytes()
    tangent = fit_tangent(*data, K, 4)
    monkeypatch.setattr(type(tangent), "matrix", property(lambda self: 1 / 0), raising=False)
    with pytest.raises(ZeroDivisionError):
        write(path, data, "compact", [1], tangent)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
