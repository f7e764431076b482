"""The conflicts over aliases that the real Kamal makes, on each engine that it can deploy to.

From Docker 26 (API 1.45) on an inspect says elsewhere who answers: `DNSNames`.
"""

from collections.abc import Iterator

import pytest

from tests.engines.kinds import KINDS
from tests.lab.engine import Engine
from tests.lab.world import World
from tests.test_alias_conflicts import test_one_role, test_two_roles

__all__ = ["test_one_role", "test_two_roles"]

pytestmark = [
    pytest.mark.real,
    pytest.mark.parametrize(
        "started",
        [
            pytest.param(kind, id=kind.name.replace(" ", "-"))
            for kind in KINDS
            if not kind.is_podman
        ],
        indirect=True,
        scope="session",
    ),
]


@pytest.fixture
def world(engine: Engine) -> Iterator[World]:
    """The real parts around the engine, which is not the world's own."""
    with World(guest_of=engine) as parts:
        yield parts
        # What a test left behind would be in the way of the world's end.
        engine.remove_containers()
