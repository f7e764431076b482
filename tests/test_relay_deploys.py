"""The relay on a real engine: asked without a pause while containers come and go."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import httpx
import pytest

from tests.engine.town import wait_for
from tests.lab import image
from tests.lab.engine import Engine
from tests.lab.sd import Server

pytestmark = pytest.mark.real

PATH: Final = "/scrape/-/shop/web/-/9394"
VERSION: Final = re.compile(r'shop_build_info\{role="(\w+)",version="(\w+)"')


class Scraper:
    """Scrapes one path again and again; `seen` are the answers that differ from the one before."""

    def __init__(self, server: Server) -> None:
        self.seen: list[str] = []
        self.count = 0
        self._url = server.url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10, trust_env=False) as client:
            while not self._stop.wait(0.005):
                answer = client.get(PATH)
                match = VERSION.search(answer.text)
                told = f"{answer.status_code} " + (" ".join(match.groups()) if match else "")
                if self.seen[-1:] != [told]:
                    self.seen.append(told)
                self.count += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def server(engine: Engine, tmp_path: Path) -> Iterator[Server]:
    if not engine.docker("network", "ls", "-q", "--filter", "name=^kamal$"):
        engine.docker("network", "create", "kamal")
    with Server(tmp_path / "sd", engine.url) as started:
        yield started


def run(
    engine: Engine, version: str, behaviour: image.Behaviour = "plain", role: str = "web"
) -> str:
    """A container as Kamal starts it, which drains for two seconds."""
    reference = f"relayed:{version}-{behaviour}"
    if not engine.docker("images", "-q", reference):
        image.build(engine, reference, version, behaviour=behaviour, drain=2)
    labels = {"service": "shop", "role": role, "destination": "", "prometheus.port": "9394"}
    return engine.docker(
        *("run", "--detach", "--network=kamal", "--restart=unless-stopped"),
        *(f"--label={name}={value}" for name, value in labels.items()),
        *(f"--name=shop-{role}-{version}", reference, "/bin/app", role),
    ).strip()


def wait_for_scrape(server: Server, version: str) -> None:
    wait_for(lambda: f'version="{version}"' in server.get(PATH).text, f"{version} to answer")


@pytest.mark.parametrize("behaviour", ["plain", "closing"])
def test_a_deploy_costs_no_scrape(
    engine: Engine, server: Server, behaviour: image.Behaviour
) -> None:
    """Whether the old one answers until its end, or closes its port two seconds before."""
    old = run(engine, "v1", behaviour)
    wait_for_scrape(server, "v1")
    with Scraper(server) as scraper:
        run(engine, "v2", behaviour)
        time.sleep(1)
        engine.docker("stop", "--time=10", old)
        # The address of the old one is the next one's.
        run(engine, "v1", role="job")
        time.sleep(1)
    assert scraper.seen == ["200 web v1", "200 web v2"]
    assert scraper.count > 100


def test_a_failed_deploy_and_a_one_off_do_not_show(engine: Engine, server: Server) -> None:
    run(engine, "v1")
    wait_for_scrape(server, "v1")
    with Scraper(server) as scraper:
        behaviours: tuple[image.Behaviour, ...] = ("crashing", "unhealthy")
        for behaviour in behaviours:
            candidate = run(engine, f"bad{behaviour}", behaviour)
            time.sleep(1)
            engine.docker("stop", "--time=5", candidate)
        engine.docker("run", "--rm", "--network=kamal", "relayed:v1-plain", "/bin/sleep", "0.5")
    assert scraper.seen == ["200 web v1"]


def test_a_role_that_stops_and_starts_is_down_in_between(engine: Engine, server: Server) -> None:
    web = run(engine, "v1")
    wait_for_scrape(server, "v1")
    with Scraper(server) as scraper:
        engine.docker("stop", "--time=10", web)
        wait_for(lambda: server.get(PATH).status_code == 503, "it to be down")
        engine.docker("start", web)
        wait_for(lambda: scraper.seen[-1:] == ["200 web v1"], "it to be scraped again")
    assert scraper.seen == ["200 web v1", "503 ", "200 web v1"]
    assert "nothing took its place" in _text_while_down(engine, server, web)


def _text_while_down(engine: Engine, server: Server, container: str) -> str:
    engine.docker("kill", container)
    wait_for(lambda: server.get(PATH).status_code == 503, "it to be down")
    return server.get(PATH).text
