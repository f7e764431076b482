"""Which versions of the API are refused, by whom and with which words."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.engine.client import DockerConnection, EngineError
from tests.engine.forwarder import Forwarder
from tests.engine.handmade import EMPTY, HandMade, answer
from tests.engine.town import assert_allowed
from tests.engines.conftest import Says
from tests.engines.kinds import DOCKER, Kind
from tests.engines.street import Street
from tests.lab.engine import Engine
from tests.lab.root import debian_root
from tests.lab.sd import Server
from tests.lab.stage import Stage
from tests.test_relay_deploys import wait_for_scrape

pytestmark = pytest.mark.real

UNKNOWN = "1.99"
LIKE_29 = "1.44"


def ask(engine: Engine, version: str) -> httpx.Response:
    """The engine's answer to a list in a version of the API."""
    transport = httpx.HTTPTransport(uds=str(engine.socket))
    with httpx.Client(transport=transport, base_url="http://engine", timeout=10) as client:
        return client.get(f"/v{version}/containers/json")


def below(version: str) -> str:
    major, _, minor = version.partition(".")
    return f"{major}.{int(minor) - 1}"


def refusal(engine: Engine, version: str) -> str:
    """The words with which the engine refuses a version."""
    refused = ask(engine, version)
    assert refused.status_code == httpx.codes.BAD_REQUEST
    # Whoever asks in a version from before 1.24 may be answered in plain text.
    is_json = refused.headers["Content-Type"].startswith("application/json")
    words = refused.json()["message"] if is_json else refused.text
    return f"{version}: “{' '.join(words.split())}”"


def test_a_version_that_is_too_old(kind: Kind, engine: Engine, says: Says) -> None:
    """The engine refuses the API versions below its oldest"""
    if kind.is_podman:
        assert ask(engine, "1.1").is_success
        says("no: it answers any")
        return
    assert ask(engine, kind.oldest).is_success
    says(refusal(engine, below(kind.oldest)))


def test_a_version_that_is_too_new(kind: Kind, engine: Engine, says: Says) -> None:
    """The engine refuses the API versions above its newest"""
    assert ask(engine, kind.api).is_success
    if kind.is_podman:
        assert ask(engine, UNKNOWN).is_success
        says("no: it answers any")
        return
    says(refusal(engine, UNKNOWN))


class Strict(Engine):
    """An engine that can be told to refuse older versions of the API than it would."""

    oldest = ""

    def _command(self, stage: Stage) -> list[str]:
        told = ["env", f"DOCKER_MIN_API_VERSION={self.oldest}"] if self.oldest else []
        return [*told, *super()._command(stage)]


@pytest.fixture
def strict() -> Iterator[Strict]:
    folder = Path(tempfile.mkdtemp(prefix="kamal-sd-lab-"))
    try:
        with Strict(folder / "engine", root=debian_root("sid", *DOCKER)) as engine:
            yield engine
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_an_engine_that_refuses_what_docker_29_does(
    strict: Strict, tmp_path: Path, says: Says
) -> None:
    """Docker 28.5 that was told to refuse what is below 1.44, as Docker 29 does"""
    # The docker command of the machine may be too old for it afterwards.
    Street(strict).run("v1", restart="always")
    strict.stop()
    strict.oldest = LIKE_29
    strict.start()
    words = refusal(strict, below(LIKE_29))
    with (
        Forwarder(tmp_path / "s", strict.socket) as forwarder,
        Server(tmp_path / "sd", forwarder.url) as server,
    ):
        wait_for_scrape(server, "v1")
    assert_allowed(forwarder.requests)
    (spoken,) = {urlsplit(line.split()[1]).path.split("/")[1] for line in forwarder.requests[1:]}
    assert spoken == "v1.51"
    says(f"it refuses {words}; kamal-sd speaks {spoken.removeprefix('v')} and serves")


def test_an_engine_that_is_too_old(says: Says) -> None:
    """An engine that speaks nothing above 1.23 (an answer made by hand)"""
    with (
        HandMade({"/version": answer({"ApiVersion": "1.23"})}) as server,
        pytest.raises(EngineError) as caught,
    ):
        DockerConnection(server.url, timeout=5, silence=5)
    assert "1.24" in str(caught.value)
    says(f"kamal-sd refuses it: “{caught.value}”")


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"), [("1.53", "1.44", "1.52"), ("1.60", "1.55", "1.55")]
)
def test_an_engine_of_the_future(newest: str, oldest: str, spoken: str, says: Says) -> None:
    """An engine that speaks more than 1.52 (an answer made by hand)"""
    answers = {
        "/version": answer({"ApiVersion": newest, "MinAPIVersion": oldest}),
        "/containers": EMPTY,
    }
    with (
        HandMade(answers) as server,
        closing(DockerConnection(server.url, timeout=5, silence=5)) as connection,
    ):
        assert connection.containers() == []
    assert f"/v{spoken}/containers/json" in server.requests[-1]
    says(f"{oldest} to {newest}: kamal-sd speaks {spoken}")
