"""Many engines in one kamal-sd: what it takes is known and stays so, and none waits for another.

Nothing is timed here; what it costs is measured by `make bench-growth`.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from app.engine.session import Pace
from app.server import watching
from app.settings_file import load
from tests.benchmarks.simulated import Engines, Event, host_of, ip_of, service_of
from tests.lab.process import wait_until
from tests.lab.sd import Server

ENGINES: Final = 50
CONTAINERS: Final = 100
# Two threads watch an engine, and one serves.
# Two an engine, the server's own, the one that keeps the history, and the one that reloads.
THREADS: Final = 2 * ENGINES + 3
RECONNECTS: Final = 20
BURST: Final = 500
RESTARTED: Final = 50
WAIT_SECONDS: Final = 120.0


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    # pytest's own folders have longer names than the path of a socket may have.
    with tempfile.TemporaryDirectory() as name, Engines(Path(name), ENGINES, CONTAINERS) as engines:
        yield engines


@pytest.fixture(scope="module")
def server(engines: Engines) -> Iterator[Server]:
    # The IPs tell who is served. An engine that is held has all the time in the world.
    config = engines.settings_file(defaults={"address": "ip"}, timeout=600)
    with Server(engines.directory / "sd", config=config, wait=False) as server:
        server.wait_ready(server.ready, WAIT_SECONDS)
        yield server


def wait_for(condition: Callable[[], object], what: str) -> None:
    wait_until(condition, WAIT_SECONDS, what)


def addresses(server: Server, engine: int, number: int | None = None) -> list[str]:
    """The addresses of an engine's targets, or of the one of that number."""
    wanted = "" if number is None else f"&service={service_of(number)}"
    answer = server.get(f"/targets?host={host_of(engine)}{wanted}").raise_for_status()
    return [address for group in answer.json() for address in group["targets"]]


def threads(of: int | str = "self") -> int:
    return len([*Path(f"/proc/{of}/task").iterdir()])


def descriptors(of: int | str = "self") -> int:
    return len([*Path(f"/proc/{of}/fd").iterdir()])


def of_engines(server: Server, name: str) -> list[float]:
    """One of its metrics for each engine."""
    begin = f"kamal_sd_engine_{name}{{"
    lines = [line for line in server.get("/metrics").text.splitlines() if line.startswith(begin)]
    found = dict(line.removeprefix(begin).split() for line in lines)
    return [float(found[f'host="{host_of(engine)}"}}']) for engine in range(ENGINES)]


def test_all_containers_of_all_engines_are_served(server: Server) -> None:
    found = server.targets()
    assert len(found) == ENGINES * CONTAINERS
    places = {
        (group["labels"]["host"], group["labels"]["service"])
        for group in json.loads(server.get("/targets").content)
    }
    assert places == {
        (host_of(engine), service_of(number))
        for engine in range(ENGINES)
        for number in range(CONTAINERS)
    }


def test_it_has_two_threads_an_engine_and_one_more(server: Server) -> None:
    assert threads(server.pid) == THREADS


def test_losing_them_all_leaves_no_thread_and_no_descriptor_behind(
    server: Server, engines: Engines
) -> None:
    before = descriptors(server.pid)
    for engine in range(ENGINES):
        engines.drop(engine)
    wait_for(lambda: all(of_engines(server, "reconnects_total")), "all losses to be noticed")
    wait_for(lambda: all(of_engines(server, "up")), "all of them to be heard again")
    assert threads(server.pid) == THREADS
    assert descriptors(server.pid) <= before


def test_an_engine_that_is_lost_again_and_again_costs_no_more(tmp_path: Path) -> None:
    # In this process, where there is no need to wait longer each time.
    pace = Pace(first_delay=0.01, longest_delay=0.01)
    counts = set()
    with tempfile.TemporaryDirectory() as name, Engines(Path(name), 1, CONTAINERS) as engines:
        settings = load(engines.settings_file(data_dir=str(tmp_path)))
        with watching(settings, pace=pace) as state:
            for reconnects in range(RECONNECTS + 1):
                wait_for(
                    lambda: (
                        state.view.snapshots[0].up
                        and state.view.snapshots[0].reconnects >= reconnects  # noqa: B023
                        and engines.listeners(0) == 1
                    ),
                    "the engine to be heard",
                )
                counts.add((threads(), descriptors()))
                engines.drop(0)
    assert len({threads for threads, _ in counts}) == 1
    # The file of the history may be open just then.
    opened = {descriptors for _, descriptors in counts}
    assert max(opened) - min(opened) <= 1


def test_no_engine_waits_for_one_that_tells_a_burst_and_answers_nothing(
    server: Server, engines: Engines
) -> None:
    busy, other, number = 1, ENGINES - 1, 7
    half = [Event("start", each) for each in range(RESTARTED)] * (BURST // RESTARTED // 2)
    told = of_engines(server, "events_total")[busy]
    asked = engines.lists_asked(busy)
    engines.hold(busy)
    engines.happen(busy, *half)
    wait_for(lambda: engines.lists_asked(busy) > asked, "the busy engine to be asked")
    engines.happen(busy, *half)
    # What the burst led to is not known yet, and will not be before the engine answers.
    engines.happen(other, Event("start", number))
    address = f"{ip_of(number, starts=1)}:9394"
    wait_for(lambda: addresses(server, other, number) == [address], "the other engine's change")
    assert addresses(server, busy, 0) == [f"{ip_of(0, starts=0)}:9394"]
    engines.let_go(busy)
    last = [f"{ip_of(each, starts=BURST // RESTARTED)}:9394" for each in range(RESTARTED)]
    wait_for(lambda: addresses(server, busy)[:RESTARTED] == last, "the end of the burst")
    wait_for(lambda: of_engines(server, "events_total")[busy] == told + BURST, "all of its events")
