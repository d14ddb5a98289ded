"""Networks that the tests of filters share; each worker makes one after the other."""

import copy

import pytest

from filters.coalitions import Coalitions
from tests.networks import (
    IMAGE_SIZE,
    N_FILTERS,
    Small,
    draw_classes,
    random_network,
    seeded,
)

LIGHT = ("squeezenet1_1", "squeezenet1_0", "resnet18", "inception_v3")


@pytest.fixture(scope="session", params=N_FILTERS)
def arch(request):
    """The name of each architecture."""
    return request.param


@pytest.fixture(scope="session")
def network(arch):
    """A network of each architecture, with random weights."""
    return random_network(arch)


@pytest.fixture(scope="session")
def evaluator(network):
    """Coalitions of the network. Set coalitions_at_once back to 1 after changing it."""
    return Coalitions(network, IMAGE_SIZE)


@pytest.fixture(scope="session", params=LIGHT)
def light_network(request):
    """A network of each architecture that is quick to make."""
    return random_network(request.param)


@pytest.fixture(scope="session")
def float64(network):
    """The network in double precision."""
    return copy.deepcopy(network).double()


@pytest.fixture
def small():
    """A network of 9 filters."""
    return seeded(Small)


@pytest.fixture
def classes():
    """12 images of three classes for the small network."""
    return draw_classes()
