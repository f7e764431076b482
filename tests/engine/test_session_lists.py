"""Lists that are stale, empty or strange, and what a session makes of them."""

import time

import pytest

from app.engine import ledger
from app.engine.client import EngineError, StreamSilentError
from app.model import Snapshot
from tests.engine.fake import FakeEngine, entry
from tests.engine.play import CALM, SOON, Play, known, running


@pytest.mark.usefixtures("long_afterlife")
def test_a_resync_cannot_bring_back_what_just_died() -> None:
    engine = FakeEngine(entry("a"), entry("b"))
    play = Play(engine, pace=CALM._replace(resync=0.0))
    engine.kill("a")
    play.hear("die", "a")
    play.run_until(lambda: len(engine.asked) >= 10)
    assert engine.asked.count("list") >= 9
    first, *later = [running(each) for each in play.published]
    assert first == {"a", "b"}
    assert later
    assert all(each == {"b"} for each in later)


@pytest.mark.usefixtures("short_afterlife")
def test_a_restart_that_nobody_told_shows_by_itself() -> None:
    # It died, and was started again while the engine was not being heard.
    engine = FakeEngine(entry("a"))
    before = ledger.died(known(entry("a")), "a", time.time() + SOON)
    play = Play(engine, before)
    play.run_until(lambda: running(play.last) == {"a"})
    assert running(play.published[0]) == set()
    assert engine.asked[0] == "list"
    assert set(engine.asked[1:]) == {"look a"}


@pytest.mark.usefixtures("short_afterlife")
def test_a_stale_list_after_a_reconnect_is_looked_at_again() -> None:
    engine = FakeEngine(entry("a"))
    engine.kill("a")
    before = ledger.died(known(entry("a")), "a", time.time() + SOON)
    play = Play(engine, before)
    engine.at_list = engine.settle
    play.run_until(lambda: len(engine.asked) == 2)
    assert [running(each) for each in play.published] == [set(), set()]


@pytest.mark.usefixtures("short_afterlife")
def test_a_container_on_its_way_out_is_looked_at_again() -> None:
    engine = FakeEngine(entry("a"), entry("b", "removing"))
    play = Play(engine)

    def go() -> None:
        engine.true.pop("b", None)

    engine.at_list = go
    # Nobody tells of its end, so the stream cannot be trusted.
    with pytest.raises(StreamSilentError):
        play.run_until(lambda: False)
    assert "b" not in play.last.containers
    assert "b" in play.published[0].containers
    assert engine.asked == ["list", "look b", "list"]


def test_what_died_just_before_the_connection_is_seen_soon() -> None:
    # Its death was told to nobody, and the list does not show it yet.
    engine = FakeEngine(entry("a", "exited"), entry("b"))
    engine.stale["a"] = entry("a")
    play = Play(engine, pace=CALM._replace(second=SOON))
    engine.at_list = engine.settle
    took = play.run_until(lambda: running(play.last) == {"b"})
    assert SOON <= took < 10 * SOON
    assert engine.asked == ["list", "list"]
    assert [running(each) for each in play.published] == [{"a", "b"}, {"b"}]


def test_a_suddenly_empty_list_is_believed_when_it_is_confirmed() -> None:
    engine = FakeEngine()
    play = Play(engine, known(entry("a"), entry("b")), CALM._replace(confirm=SOON))
    took = play.run_until(lambda: True)
    assert took >= SOON
    assert engine.asked == ["list", "list"]
    assert [dict(each.containers) for each in play.published] == [{}]


def test_a_suddenly_empty_list_is_held_back_at_a_resync_too() -> None:
    engine = FakeEngine(entry("a"), entry("b"))
    play = Play(engine, pace=CALM._replace(resync=0.0, confirm=SOON))
    engine.at_list = engine.true.clear
    with pytest.raises(StreamSilentError, match="no event told"):
        play.run_until(lambda: False)
    assert engine.asked == ["list"] * 3
    assert [running(each) for each in play.published] == [{"a", "b"}, set()]


def test_a_suddenly_empty_list_is_forgotten_when_it_is_not_confirmed() -> None:
    engine = FakeEngine()
    before = ledger.lost(known(entry("a")), "away", time.time())
    play = Play(engine, before, CALM._replace(confirm=0.0))

    def appear() -> None:
        engine.true["a"] = entry("a")

    engine.at_list = appear
    play.run_until(lambda: True)
    assert engine.asked == ["list", "list"]
    assert [set(each.containers) for each in play.published] == [{"a"}]
    assert play.last.up


def test_an_empty_list_is_doubted_at_once_when_the_engine_has_news() -> None:
    engine = FakeEngine()
    play = Play(engine, known(entry("a")))

    def hand_over() -> None:
        # "b" was started while nobody heard it, so the end of "a" is all that is told.
        engine.at_list = lambda: None
        engine.true["b"] = entry("b")
        play.hear("die", "a")

    engine.at_list = hand_over
    play.run_until(lambda: play.last.events)
    assert {frozenset(running(each)) for each in play.published} == {frozenset({"b"})}
    assert engine.asked[:2] == ["list", "list"]


def test_news_confirm_no_empty_list() -> None:
    engine = FakeEngine()
    play = Play(engine, known(entry("a"), entry("b")), CALM._replace(confirm=SOON))
    engine.at_list = lambda: play.hear("kill", "a") if len(engine.asked) == 1 else None
    took = play.run_until(lambda: not play.last.containers)
    assert took >= SOON
    assert engine.asked[:3] == ["list", "list", "list"]


def test_an_empty_list_that_events_explain_is_believed_at_once() -> None:
    engine = FakeEngine(entry("a"))
    play = Play(engine, pace=CALM._replace(resync=0.0))
    engine.at_list = engine.true.clear
    play.hear("die", "a")
    play.hear("destroy", "a")
    play.run_until(lambda: engine.asked == ["list", "list"])
    assert play.last.containers == {}


def test_a_list_that_shows_what_no_event_told_renews_the_stream() -> None:
    engine = FakeEngine(entry("a"))
    play = Play(engine, pace=CALM._replace(resync=0.0))

    def appear() -> None:
        if len(engine.asked) == 3:
            engine.true["b"] = entry("b")

    engine.at_list = appear
    with pytest.raises(StreamSilentError, match="no event told"):
        play.run_until(lambda: False)
    # What it shows is taken all the same.
    assert running(play.last) == {"a", "b"}
    assert engine.asked == ["list"] * 4


def test_a_list_that_shows_what_an_event_told_does_not() -> None:
    engine = FakeEngine(entry("a"))
    play = Play(engine, pace=CALM._replace(resync=0.0))

    def appear() -> None:
        if len(engine.asked) == 3:
            engine.start("b")
            play.hear("start", "b")

    engine.at_list = appear
    play.run_until(lambda: len(engine.asked) >= 8)
    assert running(play.last) == {"a", "b"}


def test_growing_ages_are_no_change() -> None:
    engine = FakeEngine(entry("a"), entry("b", "exited"))
    play = Play(engine, pace=CALM._replace(resync=0.0))

    def age() -> None:
        minutes = 5 + len(engine.asked)
        engine.true["a"]["Status"] = f"Up {minutes} minutes"
        engine.true["b"]["Status"] = f"Exited (0) {minutes} minutes ago"

    engine.at_list = age
    play.run_until(lambda: len(engine.asked) >= 5)
    first, *later = play.published
    assert all(each.containers is first.containers for each in later)


@pytest.mark.parametrize("answer", [None, {}, {"message": "page not found"}, "text", 5])
def test_an_answer_that_is_no_list_is_an_error(
    answer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine()
    play = Play(engine, Snapshot(""))
    monkeypatch.setattr(play._session._connection, "containers", lambda _ids: answer)
    with pytest.raises(EngineError, match="list of containers is a"):
        play.run_until(lambda: True)
    assert play.published == []


def test_a_look_that_shows_nobody_is_no_end_where_a_list_shows_all() -> None:
    engine = FakeEngine(entry("a"), entry("b"))
    play = Play(engine)
    held = engine.true
    engine.at_list = lambda: setattr(engine, "true", {} if len(engine.asked) == 1 else held)
    play.hear("health_status", "a")
    play.run_until(lambda: len(engine.asked) == 3)
    assert engine.asked == ["list", "look a", "list"]
    assert [running(each) for each in play.published] == [{"a", "b"}] * len(play.published)
