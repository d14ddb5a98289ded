"""Rows of a table as inputs, and sums of inputs as attributes."""

import numpy as np
import pytest

from readers.people import Table
from tabular.encoding import fit_encoding


@pytest.fixture
def table():
    values = np.array([[1.0, 0, 7], [3, 2, 7], [5, 1, 7]])
    levels = {"colour": ("blue", "green", "red")}
    return Table(("size", "colour", "same"), levels, values, np.array([0, 1, 1]), ("no", "yes"), {})


def test_numbers_are_standardised_and_levels_one_hot(table):
    encoding = fit_encoding(table)
    inputs = encoding.encode(table.values).numpy()
    assert inputs.shape == (3, 5) and inputs.dtype == np.float32
    np.testing.assert_allclose(inputs[:, 0], (table.column("size") - 3) / np.sqrt(8 / 3), rtol=1e-6)
    np.testing.assert_array_equal(inputs[:, 1:4], [[1, 0, 0], [0, 0, 1], [0, 1, 0]])
    assert not inputs[:, 4].any()  # a column without variance is 0, not NaN


def test_other_rows_are_scaled_as_the_training_rows(table):
    inputs = fit_encoding(table.take([0, 1])).encode(np.array([[2.0, 0, 7], [4, 0, 7]]))
    np.testing.assert_allclose(inputs[:, 0], [0, 2])


def test_places_of_an_attribute(table):
    assert fit_encoding(table).places([2, 1]) == (4, 1, 2, 3)


def test_inputs_of_an_attribute_are_summed(table):
    relevance = np.arange(10.0).reshape(2, 5)
    sums = fit_encoding(table).sum_inputs(relevance)
    np.testing.assert_array_equal(sums, [[0, 1 + 2 + 3, 4], [5, 6 + 7 + 8, 9]])
