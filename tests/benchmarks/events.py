"""How long after an event its target is served, beside a consumer that does nothing but listen.

The engine and its containers are real. `/targets` is asked for again and again over one connection,
so what is measured goes up to the last byte of the answer that shows the change. Between two
questions is a pause: on a machine of two cores whoever asks without one takes from the engine, and
from kamal-sd, what they need for the event.
"""

import http.client
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from tests.benchmarks.fleet import Fleet, role_of
from tests.benchmarks.listener import Listener
from tests.benchmarks.rounds import Row, percentile
from tests.lab.sd import Server

EVENTS: Final = 40
BURST: Final = 50
PAUSE_SECONDS: Final = 0.0005
_ACTIONS: Final = {"kill": "die", "start": "start"}


class Seen(NamedTuple):
    """An answer of `/targets`, and when it had been read."""

    at: float
    running: frozenset[str]


class Burst(NamedTuple):
    """Seconds: from the last start, and from the last death, until all was exact; and the longest
    that any of the dead was still served as running."""

    started: float
    died: float
    longest: float


class Reader:
    """Asks for `/targets` over one connection."""

    def __init__(self, url: str) -> None:
        self._web = http.client.HTTPConnection(urlsplit(url).netloc)
        self._etag = ""
        self._running = frozenset[str]()

    def look(self) -> Seen:
        """The roles whose target is a running container, now."""
        time.sleep(PAUSE_SECONDS)
        self._web.request("GET", "/targets", headers={"If-None-Match": self._etag})
        answer = self._web.getresponse()
        body, at = answer.read(), time.monotonic()
        if answer.status == http.HTTPStatus.OK:
            self._etag = answer.headers["ETag"]
            self._running = frozenset(_running(body))
        return Seen(at, self._running)

    def until(self, running: frozenset[str]) -> Seen:
        """The first answer in which exactly these run."""
        while (seen := self.look()).running != running:
            pass
        return seen

    def close(self) -> None:
        self._web.close()


@contextmanager
def reading(server: Server) -> Iterator[Reader]:
    """A reader of that server, as long as the context lasts."""
    reader = Reader(server.url)
    try:
        yield reader
    finally:
        reader.close()


def _running(body: bytes) -> Iterator[str]:
    """The roles of the targets that are running containers. There is a target a line."""
    for line in body.split(b"\n"):
        _, has_role, rest = line.partition(b'"role":"')
        if has_role and b'"exited"' not in line:
            yield rest.partition(b'"')[0].decode()


def delays(
    fleet: Fleet, reader: Reader, listener: Listener, events: int = EVENTS
) -> Mapping[str, list[float]]:
    """The seconds from the raw event to the answer that shows it, for deaths and starts in turn."""
    found: dict[str, list[float]] = {action: [] for action in _ACTIONS.values()}
    everybody = frozenset(role_of(number) for number in range(len(fleet.ids)))
    for number in range(events):
        victim = number % len(fleet.ids)
        for command, action in _ACTIONS.items():
            since = len(listener.heard)
            reader.look()
            done = fleet.begin(command, fleet.ids[victim])
            seen = reader.until(everybody - {role_of(victim)} if action == "die" else everybody)
            done.result().raise_for_status()
            found[action].append(seen.at - listener.last(action, since).at)
    return found


def burst(fleet: Fleet, reader: Reader, listener: Listener, count: int = BURST) -> Burst:
    """What becomes of many that start, and are then killed, all at once."""
    everybody = frozenset(role_of(number) for number in range(len(fleet.ids)))
    crowd = {each: role_of(number) for number, each in enumerate(fleet.ids[:count])}
    fleet.tell("kill", list(crowd))
    reader.until(everybody - {*crowd.values()})
    since = len(listener.heard)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(fleet.tell, "start", list(crowd))
        started = reader.until(everybody).at - listener.last("start", since).at
        since = len(listener.heard)
        pool.submit(fleet.tell, "kill", list(crowd))
        gone: dict[str, float] = {}
        while len(gone) < len(crowd):
            seen = reader.look()
            for each, role in crowd.items():
                if role not in seen.running:
                    gone.setdefault(each, seen.at)
    fleet.tell("start", list(crowd))
    died = {each.container: each.at for each in listener.heard[since:] if each.action == "die"}
    longest = max(gone[each] - died[each] for each in crowd)
    return Burst(started, max(gone.values()) - max(died.values()), longest)


def rows(count: int, found: Mapping[str, list[float]]) -> list[Row]:
    """The 95th percentile of each, in milliseconds."""
    names = {"die": "death", "start": "start"}
    beside = "the raw event, read by a consumer of its own"
    found_rows = []
    for action, values in found.items():
        middle, high = (
            1000 * part for part in (statistics.median(values), percentile(values, 0.95))
        )
        what = f"a {names[action]} served, {count} containers"
        ours = f"{middle:.1f} ms after it, {high:.1f} ms at 95 %"
        found_rows.append(Row(what, ours, beside, high, "ms after it", 10))
    return found_rows


def burst_rows(found: Sequence[Burst]) -> list[Row]:
    """The worst of all bursts, in milliseconds."""
    worst = Burst(*(max(values) * 1000 for values in zip(*found, strict=True)))
    beside = "the last raw event"
    return [
        Row(f"{BURST} started at once", f"{worst.started:.0f} ms", beside, worst.started, "ms", 50),
        Row(f"{BURST} killed at once", f"{worst.died:.0f} ms", beside, worst.died, "ms", 50),
        Row(
            "a dead one served as running",
            f"{worst.longest:.0f} ms",
            "its own raw event",
            worst.longest,
            "ms",
            50,
        ),
    ]
