"""10,000 containers on one engine, through a loss and an end. docs/faults.md has the row."""

import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests import http_sd_reader
from tests.benchmarks.simulated import Engines
from tests.endurance import Asker
from tests.lab.process import wait_until
from tests.lab.prometheus import Prometheus, http_sd_job
from tests.lab.sd import Server

pytestmark = pytest.mark.real

CROWD: Final = 10_000
HOLD_SECONDS: Final = 5.0


@pytest.fixture(scope="module")
def crowd() -> Iterator[tuple[Engines, Server]]:
    # pytest's own folders have longer names than the path of a socket may have.
    with TemporaryDirectory() as name, Engines(Path(name), 1, CROWD) as engines:
        config = engines.settings_file(defaults={"address": "ip"}, timeout=30)
        with Server(Path(name) / "sd", config=config, wait=False) as server:
            server.wait_ready(server.ready, 60)
            yield engines, server


def test_ten_thousand_containers_are_kept_through_a_loss_and_an_end(
    crowd: tuple[Engines, Server], tmp_path: Path
) -> None:
    engines, server = crowd
    job = http_sd_job(f"{server.url}/targets", refresh="5s", scrape_interval="1h")
    with Prometheus(tmp_path, job) as prometheus, Asker(server.url, period=1) as asker:
        wait_until(lambda: discovered(prometheus) == CROWD, 60, "Prometheus to have all")
        engines.hold(0)
        engines.drop(0)
        wait_until(lambda: lost(server), 60, "the loss to be told")
        time.sleep(HOLD_SECONDS)
        assert discovered(prometheus) == CROWD
        engines.let_go(0)
        wait_until(lambda: not lost(server), 60, "the engine to be heard again")
        assert discovered(prometheus) == CROWD
    assert {len(http_sd_reader.read(body)) for body in asker.bodies()} == {CROWD}
    assert {answer.status for answer in asker.answers} == {200}
    whole = server.get("/targets", {"Accept-Encoding": "identity"}).content
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=10) as client:
        client.sendall(b"GET /targets HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        got = client.recv(1024)
        server.signal(signal.SIGTERM)
        time.sleep(0.2)
        while part := client.recv(65_536):
            got += part
    body = got.partition(b"\r\n\r\n")[2]
    assert (len(body), body == whole) == (len(whole), True), server.tail()
    assert server.stop() == 0


def discovered(prometheus: Prometheus) -> float:
    text = httpx.get(f"{prometheus.url}/metrics").text
    found = re.search(
        r'^prometheus_sd_discovered_targets\{config="kamal".*\} (.*)$', text, re.MULTILINE
    )
    return float(found[1]) if found else 0


def lost(server: Server) -> bool:
    return 'kamal_sd_engine_up{host="host-000"} 0.0' in server.get("/metrics").text
