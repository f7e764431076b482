"""What `kamal-sd serve` asks a real engine for, and how it answers on the wire."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.engine.forwarder import Forwarder
from tests.engine.town import Town, addresses, assert_allowed, wait_for
from tests.lab.engine import Engine
from tests.lab.sd import Server

pytestmark = pytest.mark.real

# The addresses tell who is served.
BY_IP: Final = {"KAMAL_SD_DEFAULTS__ADDRESS": "ip"}
PATHS: Final = (
    *("/targets", "/targets?service=town", "/targets?address=ip", "/explain", "/metrics"),
    *("/", "/-/healthy", "/-/ready", "/openapi.json", "/targets?x=1", "/nothing"),
)


@pytest.fixture
def town(engine: Engine) -> Town:
    town = Town(engine)
    town.run("web", "job", restart="always")
    return town


@pytest.fixture
def server(town: Town, tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "sd", town.engine.url, env=BY_IP) as running:
        yield running


def test_no_request_reaches_the_engine(town: Town, tmp_path: Path) -> None:
    engine = town.engine
    assert isinstance(engine, Engine)
    with (
        Forwarder(tmp_path / "s", engine.socket) as forwarder,
        Server(tmp_path / "sd", forwarder.url, env=BY_IP) as server,
    ):
        wait_for(lambda: len(addresses(server.get("/targets").content)) == 2, "both roles")
        quiet(forwarder)
        asked = list(forwarder.requests)
        for _ in range(10):
            for path in PATHS:
                assert server.get(path).status_code < 500
            assert server.get("/explain", {"Accept": "text/plain"}).is_success
        assert forwarder.requests == asked
        assert server.stop() == 0
    assert_allowed(forwarder.requests)
    # Subscribed first, then listed; looks come after that, if at all.
    kinds = [each.split()[1].partition("?")[0].rpartition("/")[2] for each in asked]
    assert kinds[:3] == ["version", "events", "json"]


def quiet(forwarder: Forwarder) -> None:
    """Waits until nothing has been asked for longer than any look is put off."""
    while True:
        asked = len(forwarder.requests)
        time.sleep(2.5)
        if len(forwarder.requests) == asked:
            return


def test_head_and_gzip_over_a_real_connection(server: Server) -> None:
    with httpx.Client(base_url=server.url) as client:
        plain = client.get("/targets", headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        head = client.head("/targets", headers={"Accept-Encoding": "identity"})
        assert head.content == b""
        assert head.headers["content-length"] == str(len(plain.content))
        packed = client.get("/targets", headers={"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.content == plain.content
        known = client.get("/targets", headers={"If-None-Match": packed.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        assert client.get("/-/healthy").is_success
        assert "server" not in plain.headers
