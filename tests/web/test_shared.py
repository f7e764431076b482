"""What takes long is made by one at a time, and once for all who ask for the same."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from app.engine import ledger
from app.web import shared
from app.web.shared import BusyError, Workshop
from tests.builders import NOW, container
from tests.web.site import town

NAME, OF = "name", "of"


class Making:
    """Something that is made when a test lets it be, and how often that was."""

    def __init__(self) -> None:
        self.count = 0
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.at_once = self.most_at_once = 0

    def __call__(self) -> int:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.begun.set()
        assert self.may_end.wait(10)
        self.count += 1
        self.at_once -= 1
        return self.count

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 10)


@pytest.fixture
def make() -> Making:
    return Making()


async def asked(
    workshop: Workshop, make: Callable[[], int], *names: str, of: str = OF
) -> list[asyncio.Task[int]]:
    """A task for each name, which has asked."""
    tasks = [asyncio.create_task(workshop.made(name, of, make)) for name in names]
    await asyncio.sleep(0)
    return tasks


def test_it_is_made_once_for_all_who_ask_while_it_is_the_same(make: Making) -> None:
    async def run() -> None:
        workshop = Workshop()
        tasks = await asked(workshop, make, *[NAME] * 20)
        await make.has_begun()
        make.may_end.set()
        assert await asyncio.gather(*tasks) == [1] * 20
        assert await workshop.made(NAME, OF, make) == 1
        assert await workshop.made(NAME, "another", make) == 2
        assert await workshop.made("another", OF, make) == 3
        assert await workshop.made(NAME, OF, make) == 4

    asyncio.run(run())


def test_one_who_hangs_up_takes_it_from_nobody(make: Making) -> None:
    async def run() -> None:
        leaving, staying = await asked(Workshop(), make, NAME, NAME)
        await make.has_begun()
        leaving.cancel()
        with suppress(asyncio.CancelledError):
            await leaving
        make.may_end.set()
        assert await staying == 1

    asyncio.run(run())


def test_one_is_made_at_a_time_and_not_too_many_wait(
    monkeypatch: pytest.MonkeyPatch, make: Making
) -> None:
    monkeypatch.setattr(shared, "_MOST", 3)

    async def run() -> None:
        workshop = Workshop()
        tasks = await asked(workshop, make, "a", "b", "c")
        await make.has_begun()
        with pytest.raises(BusyError):
            await workshop.made("d", OF, make)
        # Not even under a name that is known.
        with pytest.raises(BusyError):
            await workshop.made("c", "another", make)
        tasks += await asked(workshop, make, "b")
        make.may_end.set()
        assert await asyncio.gather(*tasks) == [1, 2, 3, 2]
        assert await workshop.made("d", OF, make) == 4
        assert make.most_at_once == 1

    asyncio.run(run())


def test_few_are_kept_and_those_that_were_asked_for_of_late(
    monkeypatch: pytest.MonkeyPatch, make: Making
) -> None:
    monkeypatch.setattr(shared, "_MOST_KEPT", 2)
    make.may_end.set()

    async def run() -> None:
        workshop = Workshop()
        found = [await workshop.made(name, OF, make) for name in "abacab"]
        assert found == [1, 2, 1, 3, 1, 4]

    asyncio.run(run())


def test_few_are_kept_of_many_that_were_asked_for_at_once(
    monkeypatch: pytest.MonkeyPatch, make: Making
) -> None:
    monkeypatch.setattr(shared, "_MOST_KEPT", 2)

    async def run() -> None:
        workshop = Workshop()
        tasks = await asked(workshop, make, *"abcde")
        await make.has_begun()
        make.may_end.set()
        assert await asyncio.gather(*tasks) == [1, 2, 3, 4, 5]
        assert len(workshop._made) == 2
        assert [await workshop.made(name, OF, make) for name in "ed"] == [5, 4]

    asyncio.run(run())


def test_a_failure_is_whoever_asked_for_its_alone() -> None:
    def fail() -> int:
        raise ZeroDivisionError

    async def run() -> None:
        workshop = Workshop()
        with pytest.raises(ZeroDivisionError):
            await workshop.made(NAME, OF, fail)
        assert await workshop.made(NAME, OF, lambda: 1) == 1

    asyncio.run(run())


def test_what_is_busy_says_so_and_the_rest_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_MOST", 0)
    site = town()
    for path in ("/explain", "/", "/targets?service=shop"):
        answer = site.ask(path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.text == "too much is asked for at once; ask again\n"
    for path in ("/targets", "/metrics", "/-/healthy"):
        assert site.ask(path).status_code == 200


@pytest.mark.parametrize("query", ["", "?peers=false", "?address=ip"])
def test_what_is_shared_is_of_this_moment(query: str) -> None:
    site = town()
    before = site.ask(f"/explain{query}").json()
    site.now = NOW + 3.25
    after = site.ask(f"/explain{query}").json()
    assert (after["time"], after["engines"][0]["list_age"]) == (NOW + 3.25, 3.25)
    assert after["decisions"] == before["decisions"]
    site.state.publish(ledger.listed(site.state.view.snapshots[0], [container()], site.now))
    again = site.ask(f"/explain{query}").json()
    assert len(again["decisions"]) < len(after["decisions"])
    assert again["history"] != after["history"]


def test_the_page_is_no_older_than_a_second() -> None:
    site = town()
    pages = {}
    for seconds in (0.0, 0.5, 1.0):
        site.now = NOW + seconds
        pages[seconds] = site.ask("/").text
    assert pages[0.0] == pages[0.5] != pages[1.0]
    site.state.publish(ledger.listed(site.state.view.snapshots[0], [container()], site.now))
    assert site.ask("/").text != pages[1.0]
