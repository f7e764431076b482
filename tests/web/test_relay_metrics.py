"""What the relay counts, and that nothing of it grows with the deploys."""

import asyncio
import gc
import logging
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, NamedTuple, Self

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.model import Slot
from app.state import State
from app.web.apps import Apps
from app.web.upstream import Connection, Connections
from tests.builders import NOW, WEB, container, labels, settings, snapshot
from tests.web.apps import TIMEOUT, WEB_PATH, Served, wait_for
from tests.web.sockets import PORT, App, answer, hold

METRICS: Final = b"up 1\n"
SCRAPES, BYTES = "kamal_sd_relay_scrapes_total", "kamal_sd_relay_bytes_total"
SECONDS: Final = "kamal_sd_relay_duration_seconds"


@pytest.fixture
def app() -> Iterator[App]:
    with App(answer(METRICS)) as listening:
        yield listening


@pytest.fixture
def served(running: Served, app: App) -> Iterator[Served]:
    running.begin_with(container(ip=app.ip))
    yield running
    running.check()


def series(served: Served) -> list[str]:
    """The lines of /metrics without their values."""
    text = served.ask("/metrics").body.decode()
    return sorted(each.rpartition(" ")[0] for each in text.splitlines() if each[0] != "#")


def test_results_bytes_and_durations_are_counted_by_slot(app: App, served: Served) -> None:
    with App(answer(b"x" * 100_000)) as other:
        blog = Slot("", "blog", "web")
        served.looked(container("blog-web-v1", ip=other.ip, labels=labels("blog")))
        for _ in range(3):
            served.ask()
        served.ask(WEB_PATH.replace("shop", "blog"))
        served.counts(ok=3)
        served.counts(blog, ok=1)
        assert served.samples(BYTES) == {"": 3 * len(METRICS)}
        assert served.samples(BYTES, blog) == {"": 100_000}
        assert served.samples(f"{SECONDS}_count") == {"": 3}
        app.reply = hold
        assert served.ask(headers={TIMEOUT: "0.2"}).status == 504
        served.counts(ok=3, timeout=1)
        assert 0.18 <= served.samples(f"{SECONDS}_sum")[""] < 10


def test_whoever_asks_for_what_is_not_there_makes_no_series(served: Served) -> None:
    assert served.ask(f"/scrape/-/shop-none/web/-/{PORT}").status == 404
    before = series(served)
    for number in range(20):
        assert served.ask(f"/scrape/-/shop{number}/web/-/{PORT}").status == 404
    assert series(served) == before


def test_a_candidate_counts_for_its_slot(app: App, served: Served) -> None:
    served.looked(container("shop-web-v2", ago=5.0, ip=app.ip))
    assert served.ask().status == 200
    assert served.ask(f"{WEB_PATH}/next").status == 200
    served.counts(ok=2)


def test_the_counts_go_on_over_a_deploy(app: App, served: Served) -> None:
    assert served.ask().status == 200
    served.looked(container("shop-web-v2", ago=5.0, ip=app.ip))
    served.died("shop-web-v1")
    served.removed("shop-web-v1")
    assert served.ask().status == 200
    served.counts(ok=2)


def test_the_series_of_a_slot_that_is_gone_are_gone(app: App, served: Served) -> None:
    def come_and_go(number: int) -> None:
        service = f"pr-{number}"
        served.looked(container(f"{service}-web-v1", ip=app.ip, labels=labels(service)))
        assert served.ask(WEB_PATH.replace("shop", service)).status == 200
        if number % 2:
            served.died(f"{service}-web-v1")
            assert served.ask(WEB_PATH.replace("shop", service)).status == 503
        served.removed(f"{service}-web-v1")

    # Each status has a series of its own, whoever's it was.
    come_and_go(101)
    # A request is counted a moment after its answer was sent.
    wait_for(lambda: any('code="503"' in each for each in series(served)))
    before = series(served)
    for number in range(100):
        come_and_go(number)
    assert series(served) == before
    # It begins anew where one comes back.
    served.looked(container("pr-1-web-v1", ip=app.ip, labels=labels("pr-1")))
    assert served.ask(WEB_PATH.replace("shop", "pr-1")).status == 200
    served.counts(Slot("", "pr-1", "web"), ok=1)


def test_labels_that_are_odd_are_counted_as_readably_as_any(app: App, served: Served) -> None:
    slot = Slot("", 'a"b\\c', "wéb", "d\U0001f433")
    served.looked(container("odd", ip=app.ip, labels=labels(*slot[1:])))
    path = f"/scrape/-/~{slot.service.encode().hex()}/~{slot.role.encode().hex()}"
    path += f"/~{slot.destination.encode().hex()}/{PORT}"
    assert served.ask(path).body == METRICS
    served.counts(slot, ok=1)


class Size(NamedTuple):
    """How much there is of whatever could grow."""

    series: int
    pools: int
    threads: int
    files: int

    @classmethod
    def of(cls, served: Served) -> Self:
        lines = len(series(served))
        gc.collect()
        pools = sum(isinstance(each, Connections) for each in gc.get_objects())
        files = len(list(Path("/proc/self/fd").iterdir()))
        return cls(lines, pools, threading.active_count(), files)


def traced_bytes() -> int:
    """What the program and whatever it keeps its connections and counts in have allocated."""
    gc.collect()
    rooms = ("app", "asyncio", "prometheus_client")
    filters = [tracemalloc.Filter(True, f"*/{room}/*") for room in rooms]
    found = tracemalloc.take_snapshot().filter_traces(filters)
    return sum(each.size for each in found.statistics("filename"))


def test_after_1000_deploys_nothing_has_grown(
    app: App, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    # pytest would keep each line that is logged.
    caplog.set_level(logging.ERROR, "app.state")

    def deploy(number: int) -> None:
        """With a candidate that fails on the way, and scrapes."""
        served.now = NOW + number
        served.looked(container(f"shop-web-v{number}-failed", ago=0.5 - number, ip=app.ip))
        if number % 10 == 0:
            assert served.ask(f"{WEB_PATH}/next").status == 200
        served.died(f"shop-web-v{number}-failed")
        served.looked(container(f"shop-web-v{number}", ago=0.1 - number, ip=app.ip))
        if number % 3 == 0:
            served.told_to_stop(f"shop-web-v{number - 1}")
        served.died(f"shop-web-v{number - 1}")
        assert served.ask().status == 200
        served.removed(f"shop-web-v{number - 1}", f"shop-web-v{number}-failed")
        app.asked.clear()

    def settled() -> Size:
        wait_for(lambda: len(app.open) == 1, "the old connections to be closed")
        return Size.of(served)

    served.begin_with(container("shop-web-v0", ip=app.ip))
    for number in range(1, 101):
        deploy(number)
    before = settled()
    for number in range(101, 801):
        deploy(number)
    tracemalloc.start()
    try:
        for number in range(801, 821):
            deploy(number)
        traced_before = traced_bytes()
        for number in range(821, 1001):
            deploy(number)
        grown = traced_bytes() - traced_before
    finally:
        tracemalloc.stop()
    after = settled()
    assert after.series == before.series
    assert after.pools == before.pools == 1
    # A connection of this test's own may be on its way.
    assert abs(after.threads - before.threads) <= 2
    assert abs(after.files - before.files) <= 2
    # One connection that is left behind is 10 kB and more, a name in a set 100 bytes.
    assert grown < 180 * 100
    served.counts(ok=1100)


def test_changes_that_come_in_a_storm_cost_no_scrape_for_good(app: App, served: Served) -> None:
    """Several roles are deployed at once, as fast as they can be, while they are scraped."""
    services = [f"shop{number}" for number in range(4)]
    storm = threading.Event()
    storm.set()

    def scrape(service: str) -> set[int]:
        path, seen = WEB_PATH.replace("shop", service), set()
        while storm.is_set():
            found = served.ask(path, {TIMEOUT: "20"})
            assert found.body == METRICS or found.status in (502, 503)
            seen.add(found.status)
        return seen

    served.begin_with(
        *(container(f"{each}-web-v0", ip=app.ip, labels=labels(each)) for each in services)
    )
    with ThreadPoolExecutor(8) as callers:
        found = [callers.submit(scrape, service) for service in services * 2]
        for number in range(1, 101):
            old = [f"{service}-web-v{number - 1}" for service in services]
            for each in services:
                name = f"{each}-web-v{number}"
                served.looked(
                    container(name, ago=50 - 0.1 * number, ip=app.ip, labels=labels(each))
                )
            # All at once, so that several connections are to be dropped at once.
            served.removed(*old)
            time.sleep(0.01)
        storm.clear()
        # One that is replaced at every try has no answer; that is no way to deploy.
        assert 200 in set[int]().union(*(each.result() for each in found))
    for service in services:
        assert served.ask(WEB_PATH.replace("shop", service)).body == METRICS
    wait_for(lambda: len(app.open) <= 8, "the old connections to be closed")
    # Changes are heard as before.
    served.removed(*(f"{service}-web-v100" for service in services))
    wait_for(lambda: not app.open, "the last connections to be closed")


@pytest.mark.parametrize("steps", range(8))
def test_two_that_drop_connections_do_not_get_in_each_others_way(app: App, steps: int) -> None:
    """A change and the end of a scrape, so many steps after it."""
    names = ("shop", "blog", "shelf")
    shown = {name: container(f"{name}-web-v1", ip=app.ip, labels=labels(name)) for name in names}
    state = State([snapshot(*shown.values())], settings(), clock=lambda: NOW)
    apps = Apps(state)

    def asked(name: str) -> AbstractAsyncContextManager[Connection]:
        path = WEB_PATH.replace("shop", name)
        decision = state.view.routes[path]
        assert decision.upstream
        return apps.answer(path, decision, decision.upstream, b"", [])

    async def play() -> None:
        async with apps.running():
            for name in names:
                async with asked(name) as response:
                    assert response.status == 200
                    await response.read()
            assert len(app.open) == 3
            async with asked("shelf") as response:
                await response.read()
                state.publish(snapshot(shown["shelf"]))
                for _ in range(steps):
                    await asyncio.sleep(0)
            await asyncio.to_thread(wait_for, lambda: len(app.open) == 1, "two to be dropped")
            # The next change is heard, too.
            state.publish(snapshot())
            await asyncio.to_thread(wait_for, lambda: not app.open, "the last to be dropped")

    asyncio.run(play())


def test_what_is_measured_has_its_words_and_its_type(app: App, served: Served) -> None:
    assert served.ask().status == 200
    wait_for(lambda: served.samples(SCRAPES), "the count")
    text = served.ask("/metrics").body.decode()
    families = {each.name: each for each in text_string_to_metric_families(text)}
    for name, kind in (
        ("kamal_sd_relay_scrapes", "counter"),
        ("kamal_sd_relay_bytes", "counter"),
        (SECONDS, "summary"),
    ):
        assert families[name].type == kind
        assert families[name].documentation
        for sample in families[name].samples:
            assert {key: sample.labels[key] for key in Slot._fields} == WEB._asdict()
    assert len(app.asked) == 1
