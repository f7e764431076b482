"""`make bench-relay`: what a scrape costs through the relay, beside the same one without it.

Both are asked over one connection that is kept alive, in rounds that take turns. The app serves
ready bytes on the same uvicorn that kamal-sd runs on, each in a process of its own.
"""

import http.client
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Final, NamedTuple

import uvicorn
from rich.console import Console
from rich.table import Table
from starlette.types import ASGIApp, Receive, Scope, Send

from app.state import State
from app.web import create_app
from tests.builders import container, settings, snapshot
from tests.lab.process import free_port, listening, wait_until

ROUNDS: Final = 9
SIZES: Final = {"10 KB": 10_000, "1 MB": 1_000_000}
SCRAPES: Final = {"10 KB": 200, "1 MB": 40}
RELAY_PATH: Final = "/scrape/-/shop/web/-/{port}"


class Place(NamedTuple):
    """Where a scrape is sent."""

    port: int
    path: str


def app(size: int) -> ASGIApp:
    """An app that answers everything with so many bytes."""
    body = b"x" * size
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(size).encode())]

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


def relay(port: int) -> ASGIApp:
    """kamal-sd, before an app on this machine's loopback."""
    checked = settings(defaults={"port": port})
    web = container(ip="127.0.0.1", labels={"service": "shop", "role": "web"})
    return create_app(State([snapshot(web)], checked), Future)


def serve(make: Callable[[int], ASGIApp], argument: int, port: int) -> None:
    uvicorn.run(make(argument), port=port, log_level="error", access_log=False)


def started(make: Callable[[int], ASGIApp], argument: int) -> tuple[int, multiprocessing.Process]:
    """A server in a process of its own, and its port."""
    port = free_port()
    process = multiprocessing.Process(target=serve, args=(make, argument, port), daemon=True)
    process.start()
    wait_until(lambda: listening(port), 20, "a server to listen")
    return port, process


def seconds_of(place: Place, scrapes: int, size: int) -> float:
    """The median time of a scrape."""
    connection = http.client.HTTPConnection("127.0.0.1", place.port)
    taken = []
    for _ in range(scrapes):
        begun = time.perf_counter()
        connection.request("GET", place.path)
        answer = connection.getresponse()
        body = answer.read()
        taken.append(time.perf_counter() - begun)
        if (answer.status, len(body)) != (200, size):
            raise SystemExit(f"{place} answered {answer.status} with {len(body)} bytes")
    connection.close()
    return statistics.median(taken)


def measure(name: str) -> Mapping[str, list[float]]:
    """The rounds of both ways, in seconds a scrape."""
    size = SIZES[name]
    app_port, app_process = started(app, size)
    relay_port, relay_process = started(relay, app_port)
    places = {
        "direct": Place(app_port, "/metrics"),
        "relay": Place(relay_port, RELAY_PATH.format(port=app_port)),
    }
    rounds: dict[str, list[float]] = {way: [] for way in places}
    try:
        for _ in range(ROUNDS):
            for way, place in places.items():
                rounds[way].append(seconds_of(place, SCRAPES[name], size))
        return rounds
    finally:
        for process in (relay_process, app_process):
            process.terminate()
            process.join()


def main() -> None:
    """Measure, and print the table."""
    table = Table("answer", "direct, ms", "through the relay, ms", "times", title_justify="left")
    for name in SIZES:
        rounds = measure(name)
        direct, relayed = (statistics.median(rounds[way]) * 1000 for way in ("direct", "relay"))
        table.add_row(name, f"{direct:.2f}", f"{relayed:.2f}", f"{relayed / direct:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
