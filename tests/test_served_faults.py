"""Faults of a real engine as those see them who ask `kamal-sd serve` over HTTP."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.web.targets import AGE_HEADER
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


def served(directory: Path, url: str) -> Server:
    """A server whose limits are short, but for those of its reconnects."""
    engines = f'[{{"url": "{url}", "host": "one", "timeout": 1}}]'
    env = {"KAMAL_SD_ENGINES": engines, "KAMAL_SD_RESYNC_INTERVAL": "1s"} | BY_IP
    return Server(directory, env=env, wait=False)


@pytest.fixture
def server(town: Town, tmp_path: Path) -> Iterator[Server]:
    with served(tmp_path / "sd", town.engine.url) as running:
        running.wait_ready(running.ready)
        wait_for(lambda: age(running) < 5, "a list")
        yield running


def metric(server: Server, name: str) -> float:
    text = server.get("/metrics").raise_for_status().text
    (value,) = (
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )
    return value


def age(server: Server) -> float:
    return float(server.get("/targets").raise_for_status().headers[AGE_HEADER])


def engine_document(server: Server) -> Any:
    (engine,) = server.get("/explain").raise_for_status().json()["engines"]
    return engine


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_an_outage_is_told_everywhere_and_ends_by_itself(
    fault: str, town: Town, server: Server
) -> None:
    engine = town.engine
    assert isinstance(engine, Engine)
    before = server.get("/targets").content
    assert metric(server, "kamal_sd_engine_up") == 1
    engine.kill() if fault == "killed" else engine.pause()
    try:
        wait_for(lambda: metric(server, "kamal_sd_engine_up") == 0, "the outage to be told")
        older = age(server)
        wait_for(lambda: age(server) > older + 1, "the age to grow")
        answer = server.get("/targets")
        assert answer.status_code == 200
        assert answer.content == before
        assert server.get("/targets", {"If-None-Match": answer.headers["etag"]}).status_code == 304
        assert server.get("/-/ready").status_code == 200
        told = engine_document(server)
        assert told["up"] is False
        assert told["error"]
        assert told["list_age"] >= older
        assert metric(server, "kamal_sd_engine_list_age_seconds") >= older
        table = server.get("/explain", {"Accept": "text/plain"}).text
        assert table.startswith(f"engine one: DOWN, {told['error']}; 2 containers, listed ")
    finally:
        engine.start() if fault == "killed" else engine.resume()
    wait_for(lambda: metric(server, "kamal_sd_engine_up") == 1, "the recovery")
    wait_for(lambda: age(server) < 2, "a new list")
    assert set(addresses(server.get("/targets").content)) == {"web", "job"}
    assert engine_document(server)["error"] == ""
    assert metric(server, "kamal_sd_engine_reconnects_total") >= 1
    town.run("cron")
    wait_for(lambda: "cron" in addresses(server.get("/targets").content), "events to be heard")


def test_a_restart_while_the_engine_is_down_serves_what_was_known(
    town: Town, tmp_path: Path
) -> None:
    engine, directory = town.engine, tmp_path / "sd"
    assert isinstance(engine, Engine)
    with served(directory, engine.url) as first:
        first.wait_ready(first.ready)
        wait_for(lambda: len(addresses(first.get("/targets").content)) == 2, "both roles")
        before = first.get("/targets").content
        assert first.stop() == 0
    engine.kill()
    with served(directory, engine.url) as second:
        second.wait_ready(second.ready, timeout=10)
        answer = second.get("/targets")
        assert answer.content == before
        old = float(answer.headers[AGE_HEADER])
        assert old > 0
        wait_for(lambda: age(second) > old + 0.5, "the age to grow")
        wait_for(lambda: "not reached" not in engine_document(second)["error"], "a first try")
        assert engine_document(second)["up"] is False
        engine.start()
        wait_for(lambda: metric(second, "kamal_sd_engine_up") == 1, "the engine to be found")
        wait_for(lambda: age(second) < 2, "a new list")


def test_a_damaged_snapshot_is_set_aside_and_said(town: Town, tmp_path: Path) -> None:
    directory = tmp_path / "sd"
    with served(directory, town.engine.url) as first:
        first.wait_ready(first.ready)
    # What happened is kept beside it.
    (file,) = (each for each in (directory / "data").glob("*.json") if "@" not in each.name)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with served(directory, town.engine.url) as second:
        second.wait_ready(second.ready)
        wait_for(lambda: len(addresses(second.get("/targets").content)) == 2, "both roles")
        assert "is damaged, set aside as one.damaged" in second.tail(100_000)
        assert file.with_suffix(".damaged").read_bytes() == whole[: len(whole) // 2]
        assert second.stop() == 0
    assert len(file.read_bytes()) > len(whole) // 2


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
