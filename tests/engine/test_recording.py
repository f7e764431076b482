"""The film of recorded deploys: one time line, in which lists and events fit each other."""

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from app.engine import parse
from app.engine.client import EVENT_ACTIONS
from app.engine.parse import Event
from app.engine.recording import STAGES, Film, RecordedConnection, film
from app.model import Container
from app.server import watching
from app.settings import EngineSettings, Settings
from tests.engine.play import readable
from tests.lab.process import wait_until


@pytest.fixture(scope="module")
def whole() -> Film:
    return film()


def connection_at(playing: Film, place: float) -> RecordedConnection:
    """A connection to an engine that is at that second of the film."""
    return RecordedConnection(playing, time.monotonic() - place)


def seen(playing: Film, place: float, *ids: str) -> dict[str, Container]:
    answer = connection_at(playing, place).containers(ids)
    return {each.id: each for each in parse.containers(answer, time.time(), readable)}


def test_lists_and_events_stand_on_one_time_line(whole: Film) -> None:
    listed = [at for at, _ in whole.lists]
    told = [at for at, _ in whole.events]
    assert listed == sorted(listed)
    assert told == sorted(told)
    assert listed[0] == 0.0
    assert max(*listed, *told) <= whole.length
    assert {event.action for _, event in whole.events} <= EVENT_ACTIONS


def test_every_entry_of_it_can_be_read(whole: Film) -> None:
    for _, entries in whole.lists:
        for each in parse.containers(entries, time.time(), readable):
            assert not each.fault
            assert each.name


def test_each_stage_is_a_real_deploy_of_its_own(whole: Film) -> None:
    deaths = [event for _, event in whole.events if event.action == "die"]
    assert len(deaths) == 7
    for stage in STAGES:
        part = film([stage])
        assert part.length > 5
        assert any(event.action in ("die", "start") for _, event in part.events)


def test_a_look_right_after_an_event_shows_what_it_told(whole: Film) -> None:
    assert len(whole.events) > 50
    for at, event in whole.events:
        found = seen(whole, at, event.container_id)
        if event.action == "die":
            assert found[event.container_id].stopped, (at, event)
        elif event.action == "destroy":
            assert not found, (at, event)
        elif event.action in ("create", "start", "rename", "connect", "disconnect"):
            assert set(found) == {event.container_id}, (at, event)


def test_what_differs_between_two_stages_is_told(whole: Film) -> None:
    """Whoever heeds the events knows all containers at any time, without a list."""
    known = set(seen(whole, 0.0))
    for number, (at, event) in enumerate(whole.events):
        if event.action == "destroy":
            known.discard(event.container_id)
        elif event.action in ("create", "start"):
            known.add(event.container_id)
        following = whole.events[number + 1][0] if number + 1 < len(whole.events) else at + 2
        if following - at > 1:
            assert set(seen(whole, at + 0.5)) == known, at
    assert known == set(seen(whole, 0.0))


def test_it_is_a_loop(whole: Film) -> None:
    for place in (0.0, 10.0, whole.length / 2, whole.length - 0.5):
        assert set(seen(whole, place)) == set(seen(whole, place + 3 * whole.length))


def test_a_look_shows_the_wanted_ones_alone(whole: Film) -> None:
    everything = sorted(seen(whole, 1.0))
    assert len(everything) == 3
    assert set(seen(whole, 1.0, *everything[:2])) == set(everything[:2])
    assert seen(whole, 1.0, "unknown") == {}


def short(*events: tuple[float, str], length: float) -> Film:
    told = [(at, Event(action, "a")) for at, action in events]
    entries: list[dict[str, Any]] = []
    return Film([(0.0, entries)], told, length)


def take(events: Iterator[Event], number: int) -> list[str]:
    return [next(events).action for _ in range(number)]


def test_events_come_in_their_time_again_and_again() -> None:
    playing = short((0.05, "start"), (0.15, "die"), length=0.3)
    began = time.monotonic()
    stream = connection_at(playing, 0.0).events()
    assert take(iter(stream), 5) == ["start", "die", "start", "die", "start"]
    assert time.monotonic() - began >= 0.6


def test_what_was_over_before_a_stream_began_is_not_in_it() -> None:
    playing = short((0.0, "start"), (60.0, "die"), (119.0, "destroy"), length=120.0)
    stream = connection_at(playing, 59.9).events()
    assert take(iter(stream), 1) == ["die"]
    later = connection_at(playing, 119.9 + 5 * 120).events()
    assert take(iter(later), 1) == ["start"]


def test_close_ends_a_stream_at_once() -> None:
    stream = connection_at(short((600.0, "start"), length=1200.0), 0.0).events()
    heard: list[Event] = []
    reader = Thread(target=lambda: heard.extend(stream))
    reader.start()
    began = time.monotonic()
    stream.close()
    reader.join()
    assert time.monotonic() - began < 5
    assert heard == []


def test_it_plays_through_the_seam_of_an_engine(whole: Film, tmp_path: Path) -> None:
    """From just before shop-web's old container dies, until the new one has taken its place."""
    engines = (EngineSettings(url="unix:///a/recording", host="recording"),)
    settings = Settings(engines=engines, data_dir=tmp_path)
    with watching(settings, lambda _: connection_at(whole, 5.0)) as state:

        def current() -> dict[str, str]:
            return {slot.name: each.version for slot, each in state.view.current().items()}

        wait_until(lambda: current() == {"shop-web": "v1", "shop-job": "v1"}, 20, "the old ones")
        wait_until(lambda: current() == {"shop-web": "v2", "shop-job": "v1"}, 20, "the new one")
        assert state.view.snapshots[0].up
