"""`make bench-growth`: what an event, an answer and the memory cost with many engines.

The server is a whole `kamal-sd serve` over simulated engines, which are a process of their own. An
event's way goes from the engine's word to the last new byte of `/targets`, which is asked for again
and again over one connection; the CPU time is that of all of the server's threads meanwhile. The
parts of that way are measured in this process, over the same state, in CPU time. All sizes take
turns in each round.
"""

import http.client
import logging
import os
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from app.discovery.endpoint import Caller
from app.engine import ledger
from app.model import Container, Network, Snapshot
from app.settings import Settings
from app.state import State
from tests.benchmarks import machine
from tests.benchmarks.rounds import Row
from tests.benchmarks.simulated import Engines, Event, host_of, ip_of, service_of
from tests.builders import container, identity, labels, settings, snapshot
from tests.lab.sd import Server

ROUNDS: Final = 11
# A change of the last one, so that whoever looks through all of them has to look far.
BURST: Final = 500
CALLER: Final = Caller(authority="localhost:9889")
GZIP: Final = {"Accept-Encoding": "gzip"}

Measures = dict[str, list[float]]


class Size(NamedTuple):
    """How many engines, and how many containers on each."""

    engines: int
    each: int

    @property
    def containers(self) -> int:
        return self.engines * self.each


SIZES: Final = (
    Size(1, 10),
    Size(1, 100),
    Size(10, 100),
    Size(1, 1000),
    Size(50, 100),
    Size(100, 100),
)


class Live:
    """A server over engines of that size, and one connection to it."""

    def __init__(self, size: Size, directory: Path, stack: ExitStack) -> None:
        self.size = size
        directory.mkdir()
        self.engines = stack.enter_context(Engines(directory, size.engines, size.each))
        begun = time.monotonic()
        config = self.engines.settings_file(resync_interval="1h")
        self.server = stack.enter_context(Server(directory / "sd", config=config, wait=False))
        self.server.wait_ready(self.server.ready, timeout=300)
        self.ready_after = time.monotonic() - begun
        self._web = http.client.HTTPConnection(urlsplit(self.server.url).netloc)
        self._etags: dict[str, str] = {}

    def ask(self, encoding: str) -> bytes:
        """The new bytes of `/targets`; none where they are the ones that were answered last."""
        headers = {"Accept-Encoding": encoding, "If-None-Match": self._etags.get(encoding, "")}
        self._web.request("GET", "/targets", headers=headers)
        answer = self._web.getresponse()
        body = answer.read()
        if answer.status not in (200, 304):
            raise SystemExit(f"/targets answered {answer.status}: {body!r}")
        self._etags[encoding] = answer.headers["ETag"]
        return body

    def way_of(self, event: Event, encoding: str = "identity") -> tuple[float, float]:
        """The seconds until an event of the last engine is served, and of CPU that it took."""
        self._web.close()  # The server closes it after 5 s of silence.
        self.ask(encoding)
        cpu = self.cpu_seconds()
        begun = self.engines.happen(self.size.engines - 1, event)
        while not self.ask(encoding):
            pass
        taken = time.monotonic() - begun
        return taken, self.cpu_seconds() - cpu

    def cpu_seconds(self) -> float:
        """The CPU time of all threads, of those that have ended, too.

        `/proc/PID/stat` counts in steps of 10 ms. The clock of a process that is not one's own has
        this number (Linux, include/linux/posix-timers_types.h).
        """
        return time.clock_gettime(~self.server.pid << 3 | 2)

    def status(self, name: str) -> int:
        """A number of `/proc/PID/status`."""
        lines = Path(f"/proc/{self.server.pid}/status").read_text().splitlines()
        (found,) = (line for line in lines if line.startswith(f"{name}:"))
        return int(found.split()[1])


class Parts:
    """The same state in this process, for the parts of an event's way."""

    def __init__(self, size: Size) -> None:
        self._settings = _settings(size)
        self._state = State(list(_snapshots(size)), self._settings)
        self._host = host_of(size.engines - 1)
        self._running = self._last()

    def _snapshot(self) -> Snapshot:
        return next(each for each in self._state.view.snapshots if each.host == self._host)

    def _last(self) -> Container:
        return list(self._snapshot().containers.values())[-1]

    def measure(self, into: Measures) -> None:
        """One death and one start."""
        now = time.time()
        self._state.view.answer({}, CALLER)
        for is_start in (False, True):
            known, running = self._snapshot(), self._running
            begun = time.thread_time()
            if is_start:
                after = ledger.looked(known, [running], now, {running.id})
            else:
                after = ledger.died(known, running.id, now)
            self._state.publish(after)
            decided = time.thread_time()
            answer = self._state.view.answer({}, CALLER)
            _ = answer.etag
            begun_to_write = time.thread_time()
            _ = answer.body
            written = time.thread_time()
            _ = answer.gzipped
            zipped = time.thread_time()
            into["state and decision"].append(decided - begun)
            into["bytes"].append(written - decided)
            into["gzip"].append(begun_to_write - decided + zipped - written)


def _settings(size: Size) -> Settings:
    hosts = [host_of(number) for number in range(size.engines)]
    return settings(engines=[{"url": f"unix:///{host}", "host": host} for host in hosts])


def _snapshots(size: Size) -> Iterator[Snapshot]:
    for engine in range(size.engines):
        host = host_of(engine)
        yield snapshot(*(_container(host, number) for number in range(size.each)), host=host)


def _container(host: str, number: int) -> Container:
    service = service_of(number)
    return container(
        f"{service}-web-v1",
        id=identity(f"{host}{number}"),
        labels=labels(service),
        networks=(Network("kamal", ip_of(number, 0)),),
    )


def measured(lives: Sequence[Live]) -> Mapping[Size, Measures]:
    """All rounds of all sizes, in seconds."""
    parts = {live.size: Parts(live.size) for live in lives}
    found: dict[Size, Measures] = {live.size: defaultdict(list) for live in lives}
    for _ in range(ROUNDS):
        for live in lives:
            into, last = found[live.size], live.size.each - 1
            for action in ("die", "start"):
                taken, cpu = live.way_of(Event(action, last))
                into[action].append(taken)
                into["cpu"].append(cpu)
            for action in ("die", "start"):
                into["gzipped"].append(live.way_of(Event(action, last), "gzip")[0])
            parts[live.size].measure(into)
    return found


def beside_a_burst(live: Live) -> Mapping[str, float]:
    """The seconds until one event is served, alone, and while another engine tells a burst."""
    found: Measures = defaultdict(list)
    last = live.size.each - 1
    burst = [
        Event(action, number % live.size.each)
        for number in range(BURST // 2)
        for action in ("die", "start")
    ]
    for _ in range(ROUNDS):
        live.way_of(Event("start", last))
        found["alone"].append(live.way_of(Event("die", last))[0])
        live.way_of(Event("start", last))
        live.engines.happen(0, *burst)
        begun = live.engines.happen(live.size.engines - 1, Event("die", last))
        while not _is_down(live.ask("identity"), host_of(live.size.engines - 1), service_of(last)):
            pass
        found["beside a burst"].append(time.monotonic() - begun)
        _let_settle(live)
    return {name: statistics.median(values) for name, values in found.items()}


def _is_down(body: bytes, host: str, service: str) -> bool:
    """Whether that service's target says that nothing runs. There is a target a line."""
    wanted = (f'"host":"{host}"'.encode(), f'"service":"{service}"'.encode(), b'"exited"')
    return any(all(each in line for each in wanted) for line in body.split(b"\n"))


def _let_settle(live: Live) -> None:
    """Waits until nothing has changed for a second."""
    while live.ask("identity"):
        time.sleep(1)


COLUMNS: Final = {
    "die": "a death served, ms",
    "start": "a start served, ms",
    "gzipped": "either, with gzip, ms",
    "cpu": "CPU of either, ms",
    "state and decision": "state and decision, CPU ms",
    "bytes": "bytes, CPU ms",
    "gzip": "with gzip, CPU ms",
}


def table(lives: Sequence[Live], found: Mapping[Size, Measures]) -> str:
    """The medians by size, and how they grow."""
    heads = ["containers", "engines", *COLUMNS.values(), "RSS, MB", "threads", "ready after, s"]
    rows = [heads, ["---:" for _ in heads]]
    for live in lives:
        medians = [f"{_milliseconds(found[live.size][name]):.2f}" for name in COLUMNS]
        memory, threads = live.status("VmRSS") / 1024, live.status("Threads")
        told = [f"{memory:.0f}", f"{threads}", f"{live.ready_after:.1f}"]
        rows.append([f"{live.size.containers:,}", str(live.size.engines), *medians, *told])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def slopes(lives: Sequence[Live], found: Mapping[Size, Measures]) -> str:
    """What a further container adds, and how the largest compares with the smallest."""
    least, most = lives[0], lives[-1]
    more = most.size.containers - least.size.containers
    rows = [["", "of one container more, us", f"of {most.size.containers:,} to 10, times"]]
    rows.append(["---", "---:", "---:"])
    for name, heading in COLUMNS.items():
        few, many = (_milliseconds(found[live.size][name]) for live in (least, most))
        rows.append([heading, f"{(many - few) * 1000 / more:.3f}", f"{many / few:.1f}"])
    grown = (most.status("VmRSS") - least.status("VmRSS")) / more
    rows.append(
        ["RSS, KB", f"{grown:.1f} KB", f"{most.status('VmRSS') / least.status('VmRSS'):.1f}"]
    )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _milliseconds(values: Sequence[float]) -> float:
    return statistics.median(values) * 1000


class Grown(NamedTuple):
    """The tables in Markdown, and what the goals are about."""

    tables: str
    rows: list[Row]


def grown() -> Grown:
    """All of it."""
    # The state would say of each death that it happened.
    logging.getLogger("app").setLevel(logging.ERROR)
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    with tempfile.TemporaryDirectory(prefix="growth-") as name, ExitStack() as stack:
        lives = [Live(size, Path(name) / f"{number}", stack) for number, size in enumerate(SIZES)]
        found = measured(lives)
        many = next(live for live in lives if live.size == Size(50, 100))
        burst = beside_a_burst(many)
        told = "".join(
            f"- a death served, 5,000 containers on 50 engines, {what}: {seconds * 1000:.1f} ms\n"
            for what, seconds in burst.items()
        )
        tables = f"{table(lives, found)}\n{slopes(lives, found)}\n{told}"
    return Grown(tables, rows(found[SIZES[0]], found[SIZES[-1]]))


def rows(few: Measures, many: Measures) -> list[Row]:
    """One change among 10,000 containers, beside the same among 10."""
    decided, alone = (_milliseconds(each["state and decision"]) for each in (many, few))
    made = _milliseconds(many["bytes"])
    what = "one change among 10,000 on 100 engines"
    beside = f"{alone:.2f} ms among 10"
    return [
        Row(f"{what}: state, decision", f"{decided:.2f} ms", beside, decided / alone, "times", 2),
        Row(f"{what}: bytes", f"{made:.2f} ms", "", made, "ms", 10),
    ]


def main() -> None:
    """Measure, and print the tables."""
    print(grown().tables)
    print("\n".join(f"{what}: {value}" for what, value in machine.description().items()))
    print(f"load at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
