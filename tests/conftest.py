"""What all tests share: the real parts, started once, and an eye on what a test leaves behind."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest

from tests.builders import Clock, Write, clear_environment
from tests.lab.engine import Engine
from tests.lab.process import LabError
from tests.lab.world import World

# Shared machines are slow at times: how long an example took says nothing about it.
hypothesis.settings.register_profile("kamal-sd", deadline=None, print_blob=True)
hypothesis.settings.load_profile("kamal-sd")

_REAL_FIXTURES = frozenset({"world", "engine"})
_HINT = "Run these as root on Debian, or leave them out with: pytest -m 'not real'"
_GRACE_SECONDS = 5.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever needs a real part must say so, or `-m 'not real'` would promise too much."""
    for item in items:
        needed = _REAL_FIXTURES.intersection(getattr(item, "fixturenames", ()))
        if needed and not item.get_closest_marker("real"):
            raise pytest.UsageError(f"{item.nodeid} uses {min(needed)}; mark it pytest.mark.real")


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """The real parts, each started when it is first asked for. A missing one is a failure."""
    with World() as parts:
        try:
            parts.engine.answers()
        except LabError as error:
            pytest.fail(f"there is no private engine: {error}\n{_HINT}", pytrace=False)
        yield parts


@pytest.fixture
def engine(world: World) -> Iterator[Engine]:
    """The world's engine, for one test; it runs and has no containers, before and after it."""
    _recover(world.engine)
    yield world.engine
    _recover(world.engine)


def _recover(engine: Engine) -> None:
    with suppress(LabError):
        engine.resume()
    if not engine.answers():
        engine.start()
    engine.remove_containers()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable that settings are made of."""
    clear_environment(monkeypatch)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a settings file with that content."""

    def _write(content: str | bytes) -> Path:
        path = tmp_path / "config.yml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + _GRACE_SECONDS
    while left := set(threading.enumerate()) - before:
        if time.monotonic() > deadline:
            pytest.fail(f"threads left behind: {sorted(thread.name for thread in left)}")
        time.sleep(0.01)
