"""The stream of events for a page that is live, from a server as it really runs."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPResponse
from pathlib import Path
from typing import Final

import httpx
import pytest

from app.web import events
from tests.builders import NOW, container
from tests.lab.sd import Server
from tests.web.apps import NEW, OLD, Served, wait_for

CHANGE: Final = b"event: change\ndata: the decisions are others\n\n"
STILL: Final = b"event: still\ndata: nothing changed\n\n"
CURRENT: Final = container(OLD)
NEXT: Final = container(NEW, ago=5.0, ip="172.18.0.6")


@pytest.fixture(scope="module")
def running() -> Iterator[Served]:
    with Served() as running:
        yield running


@pytest.fixture
def served(running: Served) -> Iterator[Served]:
    running.begin_with(CURRENT)
    yield running
    forgotten(running)
    running.check()


def listeners(served: Served) -> int:
    """How many streams listen to the state; the relay does, too."""
    return len(served.state._told) - 1


def forgotten(served: Served, but: int = 0) -> None:
    """Waits until as many streams are left."""
    wait_for(lambda: listeners(served) == but, "the streams to be forgotten")


class Stream:
    """What is read of a stream of events."""

    def __init__(self, answer: HTTPResponse) -> None:
        self.answer = answer

    def next(self) -> bytes:
        """The next event, whole."""
        lines = []
        while (line := self.answer.readline()) not in (b"\n", b""):
            lines.append(line)
        return b"".join([*lines, line])


@contextmanager
def streaming(served: Served) -> Iterator[Stream]:
    connection = served.connect()
    try:
        connection.request("GET", "/events")
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        stream = Stream(answer)
        assert stream.next() == STILL
        with answer:
            yield stream
    finally:
        connection.close()


def test_the_first_event_comes_at_once_and_a_change_soon(served: Served) -> None:
    with streaming(served) as stream:
        began = time.monotonic()
        served.looked(NEXT)
        assert stream.next() == CHANGE
        served.removed(NEW)
        assert stream.next() == CHANGE
        assert time.monotonic() - began < 3


def test_what_time_alone_changes_is_told(served: Served) -> None:
    served.looked(NEXT)
    with streaming(served) as stream:
        # The clock of the tests stands still, so a due time that has come is looked at soon after.
        served.now = NOW + 86.0
        served.looked(container("blog-web-v1", ip="172.18.0.7"))
        assert stream.next() == CHANGE
        assert served.state.view.current().popitem()[1].container.name == NEW


def test_time_that_runs_out_without_a_word_of_the_engine(
    monkeypatch: pytest.MonkeyPatch, served: Served
) -> None:
    monkeypatch.setattr(events, "_LONGEST_SECONDS", 0.05)
    served.looked(NEXT)
    with streaming(served) as stream:
        served.now = NOW + 86.0
        assert CHANGE in (stream.next() for _ in range(10))
        assert served.state._view.current().popitem()[1].container.name == NEW


def test_many_changes_are_few_events(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr(events, "_LONGEST_SECONDS", 0.5)
    with streaming(served) as stream:
        began = time.monotonic()
        for _ in range(50):
            served.looked(NEXT)
            served.removed(NEW)
        served.looked(NEXT)
        took = time.monotonic() - began
        count = 0
        while stream.next() == CHANGE:
            count += 1
        assert 1 <= count <= took / events._SHORTEST_SECONDS + 2


def test_a_list_that_changes_nothing_is_no_change(
    monkeypatch: pytest.MonkeyPatch, served: Served
) -> None:
    monkeypatch.setattr(events, "_LONGEST_SECONDS", 0.3)
    with streaming(served) as stream:
        served.state.publish(served._snapshot)
        assert stream.next() == STILL


def test_who_goes_away_is_forgotten(served: Served) -> None:
    with streaming(served), streaming(served):
        assert listeners(served) == 2
    forgotten(served)
    # Nor does a change after that find anybody.
    served.looked(NEXT)


def test_there_are_no_more_than_some(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr(events, "_MOST_STREAMS", 2)
    with streaming(served):
        with streaming(served):
            refused = served.ask("/events")
            assert (refused.status, refused.body) == (503, b"too many are listening already\n")
        forgotten(served, but=1)
        with streaming(served):
            pass


def test_the_rest_is_answered_meanwhile(served: Served) -> None:
    with streaming(served):
        assert served.ask("/explain").status == 200
        assert served.ask("/targets").status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_open_stream_does_not_hold_up_the_end(tmp_path: Path, number: signal.Signals) -> None:
    url = f"unix://{tmp_path}/none.sock"
    with Server(tmp_path, url, wait=False) as server:
        server.wait_ready(partial(_answers, server))
        with server._client.stream("GET", "/events") as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: still"
            began = time.monotonic()
            server.signal(number)
            # It is ended in order, not cut off after the 5 s that answers have.
            for _ in lines:
                pass
            assert server.wait(15) == 0
            assert time.monotonic() - began < 3
        assert "Traceback" not in server.tail(100_000)
        assert "Cancel" not in server.tail(100_000)


def _answers(server: Server) -> bool:
    try:
        return server.get("/-/healthy").is_success
    except httpx.TransportError:
        return False
