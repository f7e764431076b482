"""What a scrape costs through the relay, beside the same one without it, and beside nginx.

Time is that of one scrape after the other over one connection; answers a second are wrk's, over 16.
The app serves ready bytes, and each server is a process of its own.
"""

import http.client
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import uvicorn

from app.protocol import Protocol
from app.state import State
from app.web import create_app
from tests.benchmarks.rounds import ROUNDS, Rounds, Row, median_ratio, rounds_of
from tests.benchmarks.servers import Ask, answers_a_second, asgi, nginx, raw
from tests.builders import container, settings, snapshot
from tests.lab.process import LabError, free_port, listening, wait_until

SIZES: Final = {"10 KB": 10_000, "1 MB": 1_000_000}
SCRAPES: Final = {"10 KB": 200, "1 MB": 40}
SLOWER_AT_MOST: Final = 1.3
OF_NGINX_AT_LEAST: Final = 0.5
RELAY_PATH: Final = "/scrape/-/shop/web/-/{port}"


class Place(NamedTuple):
    """Where a scrape is sent."""

    url: str
    path: str = "/metrics"


def serve(app_port: int, port: int) -> None:
    """kamal-sd, before an app on this machine's loopback."""
    web = container(ip="127.0.0.1", labels={"service": "shop", "role": "web"})
    checked = settings(defaults={"port": app_port})
    app = create_app(State([snapshot(web)], checked), Future)
    uvicorn.run(app, port=port, http=Protocol, log_level="error", access_log=False)


@contextmanager
def relay(app_port: int) -> Iterator[Place]:
    """The path of the relay that leads to that app."""
    port = free_port()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=serve, args=(app_port, port), daemon=True)
    process.start()
    wait_until(lambda: listening(port), 20, "a server to listen")
    yield Place(f"http://127.0.0.1:{port}", RELAY_PATH.format(port=app_port))
    process.terminate()
    process.join()


def seconds_of(place: Place, scrapes: int, size: int) -> float:
    """The median time of a scrape."""
    connection = http.client.HTTPConnection(urlsplit(place.url).netloc)
    taken = []
    for _ in range(scrapes):
        begun = time.perf_counter()
        connection.request("GET", place.path)
        answer = connection.getresponse()
        body = answer.read()
        taken.append(time.perf_counter() - begun)
        if (answer.status, len(body)) != (200, size):
            raise LabError(f"{place} answered {answer.status} with {len(body)} bytes")
    connection.close()
    return statistics.median(taken)


def measure(name: str, rounds: int = ROUNDS, seconds: int = 2) -> tuple[Rounds, Rounds]:
    """The seconds of a scrape and the answers a second, by way."""
    size = SIZES[name]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sd-")))
        direct = Place(stack.enter_context(asgi(raw, b"x" * size)))
        app_port = urlsplit(direct.url).port
        assert app_port
        places = {
            "direct": direct,
            "relay": stack.enter_context(relay(app_port)),
            "nginx": Place(stack.enter_context(nginx(folder / "nginx", {}, app_port))),
        }
        times: dict[str, Callable[[], float]] = {
            way: partial(seconds_of, place, SCRAPES[name], size) for way, place in places.items()
        }
        answers: dict[str, Callable[[], float]] = {
            way: partial(answers_a_second, place.url, Ask(place.path), seconds)
            for way, place in places.items()
        }
        return rounds_of(times, rounds), rounds_of(answers, rounds)


def rows(name: str, times: Rounds, answers: Rounds) -> list[Row]:
    """The time against that without a relay, the answers a second against nginx's."""
    middle = {way: statistics.median(values) * 1000 for way, values in times.items()}
    return [
        Row(
            f"a scrape of {name} through the relay",
            f"{middle['relay']:.2f} ms",
            f"{middle['direct']:.2f} ms straight, {middle['nginx']:.2f} ms through nginx",
            median_ratio(times["relay"], times["direct"]),
            "times the straight one",
            SLOWER_AT_MOST,
        ),
        Row(
            f"scrapes of {name}, 16 at once",
            f"{statistics.median(answers['relay']):,.0f}/s",
            f"{statistics.median(answers['nginx']):,.0f}/s through nginx",
            median_ratio(answers["relay"], answers["nginx"]),
            "of nginx",
            OF_NGINX_AT_LEAST,
            at_least=True,
        ),
    ]
