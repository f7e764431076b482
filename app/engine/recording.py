"""An engine that plays recorded real deploys, in a loop, for those who have none at hand.

The recordings in `recordings/` are of Kamal 2.12 on Docker Engine 28.5: a deploy, a rollback, a
deploy that fails, `app stop` and `app start`. A line is an object with `t`, the seconds since
Kamal began, and either `containers`, the body of `GET /containers/json?all=1` from then on, or
`event`, an object of `GET /events`.
"""

import gzip
import json
import time
from bisect import bisect_right
from collections.abc import Collection, Iterator
from importlib.resources import files
from itertools import count
from threading import Event as Flag
from typing import Any, NamedTuple

from app.engine import parse
from app.engine.client import EVENT_ACTIONS
from app.engine.parse import Event

STAGES = ("02-second-deploy", "04-rollback", "05-failed-web", "07-app-stop", "08-app-start")

_PAUSE = 5.0
# A recorded list is sampled, so one that shows what an event told comes up to this much later.
_SAMPLING = 0.3

_Entries = list[dict[str, Any]]


class Film(NamedTuple):
    """Recorded lists and events on one time line, in seconds from its begin."""

    lists: list[tuple[float, _Entries]]
    events: list[tuple[float, Event]]
    length: float


def film(stages: Collection[str] = STAGES) -> Film:
    """The stages one after the other, with the events that lead from each to the next."""
    lists: list[tuple[float, _Entries]] = []
    events: list[tuple[float, Event]] = []
    begin = 0.0
    for stage in stages:
        lines = _lines(stage)
        offset = begin - lines[0]["t"]
        shown = [(line["t"] + offset, line["containers"]) for line in lines if "containers" in line]
        told = [
            (line["t"] + offset, parse.event(line["event"])) for line in lines if "event" in line
        ]
        if lists:
            events += _cut(begin, lists[-1][1], shown[0][1])
        events += [(at, each) for at, each in told if each and each.action in EVENT_ACTIONS]
        lists += shown
        begin = lines[-1]["t"] + offset + _PAUSE
    events += _cut(begin, lists[-1][1], lists[0][1])
    return Film(lists, events, begin)


def _lines(stage: str) -> list[dict[str, Any]]:
    packed = files("app.engine").joinpath("recordings", f"{stage}.ndjson.gz").read_bytes()
    return [json.loads(line) for line in gzip.decompress(packed).splitlines()]


def _cut(at: float, before: _Entries, after: _Entries) -> Iterator[tuple[float, Event]]:
    """What an engine would tell on the way from one list to another one."""
    left = {each["Id"] for each in before} - {each["Id"] for each in after}
    yield from ((at, Event("destroy", each)) for each in sorted(left))
    yield from ((at, Event("start", each["Id"])) for each in after)


class RecordedConnection:
    """Plays a film as a Connection. `began` is its begin, on the monotonic clock."""

    def __init__(self, playing: Film, began: float) -> None:
        self._film = playing
        self._began = began

    def events(self) -> "_RecordedEvents":
        return _RecordedEvents(self._film, self._began)

    def containers(self, ids: Collection[str] = ()) -> object:
        place = (time.monotonic() - self._began) % self._film.length + _SAMPLING
        index = bisect_right(self._film.lists, place, key=lambda each: each[0])
        _, entries = self._film.lists[max(0, index - 1)]
        return [entry for entry in entries if not ids or entry["Id"] in ids]

    def inspect(self, container_id: str) -> object:  # noqa: ARG002 - none was recorded
        return None

    def close(self) -> None:
        """Nothing is open."""


class _RecordedEvents:
    def __init__(self, playing: Film, began: float) -> None:
        self._film = playing
        self._began = began
        self._closed = Flag()

    def __iter__(self) -> Iterator[Event]:
        for begin in count(self._began, self._film.length):
            for at, event in self._film.events:
                until = begin + at - time.monotonic()
                # What was over before this stream began is not in it.
                if until > -_SAMPLING and not self._closed.wait(max(0.0, until)):
                    yield event
                if self._closed.is_set():
                    return

    def close(self) -> None:
        self._closed.set()
