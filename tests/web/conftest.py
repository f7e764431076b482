"""A relay that is served once a module, before two generations of shop's web."""

from collections.abc import Iterator

import pytest

from tests.builders import container
from tests.web.apps import OLD, Served
from tests.web.sockets import FIRST, SECOND, App


@pytest.fixture
def old() -> Iterator[App]:
    """What runs in the current generation."""
    with App(FIRST) as listening:
        yield listening


@pytest.fixture
def new() -> Iterator[App]:
    """What runs in the next one, which the engine has not shown yet."""
    with App(SECOND) as listening:
        yield listening


@pytest.fixture(scope="module")
def running() -> Iterator[Served]:
    """kamal-sd, which knows whatever the test before has left."""
    with Served() as running:
        yield running


@pytest.fixture
def served(running: Served, old: App) -> Iterator[Served]:
    """kamal-sd, which knows the current generation alone."""
    running.begin_with(container(OLD, ip=old.ip))
    yield running
    running.check()
