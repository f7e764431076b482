"""Every kind of engine in turn, several hosts at once, and the table of what was seen of engines.

These tests take long and need other engines than `make test` has, so they are collected only where
the command line names them: `make test-engines`, or `pytest tests/engines`.
"""

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.engine.forwarder import Forwarder
from tests.engine.town import assert_allowed
from tests.engines.kinds import KINDS, Kind
from tests.engines.street import Street
from tests.engines.table import Table
from tests.lab.engine import Engine
from tests.lab.process import LabError, orderly_end
from tests.lab.sd import Server

HERE: Final = Path(__file__).parent
TABLE: Final = pytest.StashKey[Table]()
HINT: Final = "These need root on Debian, and its mirrors: see tests/engines/kinds.py"

Says = Callable[[str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--table", type=Path, help="write what was seen of the engines to this file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = Table()


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    named = [config.invocation_params.dir / each.partition("::")[0] for each in config.args]
    return None if any(path.resolve().is_relative_to(HERE) for path in named) else True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" or report.failed:
        function = getattr(item, "function", None)
        words = " ".join(((function and function.__doc__) or item.name).split())
        said = [str(text) for name, text in item.user_properties if name == "seen"]
        item.config.stash[TABLE].add(
            section=item.path.stem,
            row=words.rstrip("."),
            kind=_kind(item),
            cell="; ".join(said) or "yes" if report.passed else "**no: the test fails**",
        )
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if path := session.config.getoption("--table", default=None):
        path.write_text(session.config.stash[TABLE].markdown())


def _kind(item: pytest.Item) -> Kind | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("started") if callspec else None


@pytest.fixture(scope="session", params=KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
def started(request: pytest.FixtureRequest) -> Iterator[tuple[Kind, Engine]]:
    """An engine of each kind, once."""
    kind: Kind = request.param
    folder = Path(tempfile.mkdtemp(prefix="kamal-sd-lab-"))
    try:
        with orderly_end(), kind.make(folder / "engine") as engine:
            request.config.stash[TABLE].versions[kind] = _version(engine)
            yield kind, engine
    except LabError as error:
        pytest.fail(f"{kind.name} cannot be had here: {error}\n{HINT}", pytrace=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def kind(started: tuple[Kind, Engine]) -> Kind:
    return started[0]


@pytest.fixture
def engine(started: tuple[Kind, Engine]) -> Iterator[Engine]:
    """The engine, for one test; it runs and has no containers, before and after it."""
    engine = started[1]
    _recover(engine)
    yield engine
    _recover(engine)


@pytest.fixture
def street(engine: Engine) -> Street:
    return Street(engine)


@pytest.fixture
def forwarder(engine: Engine, tmp_path: Path) -> Iterator[Forwarder]:
    """What stands before the engine and sees what it is asked for, which is little."""
    with Forwarder(tmp_path / "s", engine.socket) as opened:
        yield opened
    assert_allowed(opened.requests)


@pytest.fixture
def server(forwarder: Forwarder, tmp_path: Path) -> Iterator[Server]:
    """`kamal-sd serve` without any configuration."""
    with Server(tmp_path / "sd", forwarder.url) as serving:
        yield serving


@pytest.fixture
def says(request: pytest.FixtureRequest) -> Says:
    """What stands in the table instead of "yes", for a test that passes."""
    properties = request.node.user_properties
    return lambda text: properties.append(("seen", text))


def _recover(engine: Engine) -> None:
    with suppress(LabError):
        engine.resume()
    if not engine.answers():
        engine.start()
    engine.remove_containers()


def _version(engine: Engine) -> str:
    transport = httpx.HTTPTransport(uds=str(engine.socket))
    with httpx.Client(transport=transport, base_url="http://engine", timeout=10) as client:
        told = client.get("/version").raise_for_status().json()
    return f"{told['Version']} (API {told['MinAPIVersion']} to {told['ApiVersion']})"
