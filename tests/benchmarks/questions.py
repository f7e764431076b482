"""How many answers a second, and how many questions to the engine, beside others that ask it anew.

The engine and its containers are real. Beside kamal-sd stand the two ways in which such tools are
made: a FastAPI route that has docker-py list the containers at each request, and
prometheus-http-sd, a framework from the registry, with such a list as its generator.
"""

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from app.engine.session import Pace
from tests.benchmarks.fleet import Fleet
from tests.benchmarks.rounds import Rounds, Row, median_ratio, rounds_of
from tests.benchmarks.servers import PLAIN, Ask, answers_a_second
from tests.engine.forwarder import Forwarder
from tests.lab.process import (
    LabError,
    Process,
    free_port,
    listening,
    system_environment,
    wait_until,
)
from tests.lab.sd import REPOSITORY, Server

ROUNDS: Final = 8
IDLE_SECONDS: Final = 65
REQUESTS: Final = 50
RIVAL: Final = REPOSITORY / ".cache" / "rivals" / "bin" / "prometheus-http-sd"
PATHS: Final = ("/targets", "/targets?role=web", "/explain", "/", "/metrics", "/-/ready")

_LIST: Final = """
import docker

client = docker.from_env(version="auto")


def groups():
    found = []
    for each in client.containers.list(all=True):
        port = each.labels.get("prometheus.port")
        network = each.attrs["NetworkSettings"]["Networks"].get("kamal")
        if port and network and each.status == "running":
            labels = {name: each.labels.get(name, "") for name in ("service", "role")}
            found.append({"targets": [f"{network['IPAddress']}:{port}"], "labels": labels})
    return found
"""
_ROUTE: Final = (
    _LIST
    + """
import sys
import fastapi
import uvicorn

app = fastapi.FastAPI()


@app.get("/targets")
def targets() -> list[dict]:
    return groups()


uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False)
"""
)
_GENERATOR: Final = (
    _LIST
    + """

def generate_targets(**_):
    return groups()
"""
)


@contextmanager
def asking_route(folder: Path, url: str) -> Iterator[str]:
    """The URL of the route that asks each time."""
    port, script = free_port(), folder / "route.py"
    script.write_text(_ROUTE)
    with _running("route", [sys.executable, script, str(port)], folder, url, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def framework(folder: Path, url: str) -> Iterator[str]:
    """The URL of prometheus-http-sd with such a generator, in an environment of its own."""
    if not RIVAL.exists():
        raise LabError(f"there is no {RIVAL}: this is begun by `make bench`, which installs it")
    port, generators, cache = free_port(), folder / "generators", folder / "cache"
    generators.mkdir()
    cache.mkdir()
    (generators / "containers.py").write_text(_GENERATOR)
    command: list[str | Path] = [
        *(RIVAL, "--log-level=50", "serve", "--port", str(port)),
        *("--cache-dir", cache, "--cache-refresh-interval=5"),
    ]
    with _running("prometheus-http-sd", [*command, generators], folder, url, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(
    name: str, command: Sequence[str | Path], folder: Path, url: str, port: int
) -> Iterator[None]:
    environment = system_environment(DOCKER_HOST=url)
    process = Process(name, command, log=folder / f"{name}.log", env=environment, cwd=folder)
    try:
        process.wait_ready(lambda: listening(port))
        yield
    finally:
        process.stop()


def asked(
    fleet: Fleet, folder: Path, idle: float = IDLE_SECONDS, requests: int = REQUESTS
) -> list[Row]:
    """The calls of the engine's API by so many requests to each path, and by a time without any."""
    folder.mkdir()
    with ExitStack() as stack:
        ours = stack.enter_context(Forwarder(folder / "ours", fleet.socket))
        theirs = stack.enter_context(Forwarder(folder / "theirs", fleet.socket))
        server = stack.enter_context(Server(folder / "sd", ours.url))
        route = stack.enter_context(asking_route(folder, theirs.url))
        # The first list is made once more before it is quiet.
        time.sleep(2 * Pace().second)
        before = len(ours.requests)
        for path in PATHS * requests:
            server.get(path)
        by_requests = len(ours.requests) - before
        httpx.get(f"{route}/targets", timeout=60).raise_for_status()
        before = len(theirs.requests)
        httpx.get(f"{route}/targets", timeout=60).raise_for_status()
        by_route = len(theirs.requests) - before
        before = len(ours.requests)
        time.sleep(idle)
        by_idling = len(ours.requests) - before
    count = len(fleet.ids)
    beside = f"{by_route}, docker-py in a route, {count} containers"
    what = f"engine calls by {len(PATHS) * requests} requests"
    return [
        Row(what, str(by_requests), beside, by_requests, "calls", 0),
        Row(f"engine calls in {idle:g} s without any", str(by_idling), "-", by_idling, "calls", 2),
    ]


def served(fleet: Fleet, folder: Path, rounds: int = ROUNDS, seconds: int = 2) -> Rounds:
    """The good answers a second of each."""
    folder.mkdir()
    with ExitStack() as stack:
        urls = {
            "kamal-sd": stack.enter_context(Server(folder / "sd", fleet.engine.url)).url,
            "docker-py in a route": stack.enter_context(asking_route(folder, fleet.engine.url)),
            "prometheus-http-sd": stack.enter_context(framework(folder, fleet.engine.url)),
        }
        # Its own path ends so.
        asks = {"prometheus-http-sd": Ask("/targets/")}
        # The slow one needs longer for a number.
        lasting = {"docker-py in a route": 5 * seconds}
        made = urls["prometheus-http-sd"] + "/targets/"
        wait_until(lambda: httpx.get(made).is_success, 60, "its first answer, made in background")
        ways = {
            name: partial(
                answers_a_second,
                url,
                asks.get(name, PLAIN),
                lasting.get(name, seconds),
                all_good=False,
            )
            for name, url in urls.items()
        }
        return rounds_of(ways, rounds)


def rows(found: Rounds, containers: int) -> list[Row]:
    """kamal-sd against both."""
    ours = found["kamal-sd"]
    goals = {"docker-py in a route": 1000, "prometheus-http-sd": 10}
    return [
        Row(
            f"`GET /targets`, {containers} containers",
            f"{statistics.median(ours):,.0f}/s",
            f"{statistics.median(found[name]):,.1f}/s, {name}",
            median_ratio(ours, found[name]),
            "times",
            goal,
            at_least=True,
        )
        for name, goal in goals.items()
    ]
