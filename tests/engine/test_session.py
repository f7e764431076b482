"""What a session asks the engine for, and what it makes of stale and strange answers."""

import time
from dataclasses import replace
from threading import Timer

import pytest

from app.engine.session import End
from tests.engine.fake import FakeEngine, entry
from tests.engine.play import CALM, SOON, Play, known, running


@pytest.mark.parametrize("action", ["die", "died"])
def test_a_death_is_believed_without_asking(action: str) -> None:
    engine = FakeEngine(entry("a"), entry("b"))
    play = Play(engine)
    play.hear(action, "a")
    play.run_until_heard(1)
    assert running(play.last) == {"b"}
    assert play.last.containers["a"].networks[0].ipv4 == ""
    assert engine.asked == ["list"]


@pytest.mark.parametrize(
    "action",
    ["create", "start", "rename", "pause", "unpause", "health_status", "connect", "disconnect"],
)
def test_any_other_event_leads_to_a_look_at_that_one(action: str) -> None:
    engine = FakeEngine(entry("a"), entry("b"), entry("c"))
    play = Play(engine)

    def change() -> None:
        engine.true["b"] = entry("b", Names=["/renamed"])

    engine.at_list = change
    play.hear(action, "b")
    play.run_until(lambda: len(engine.asked) == 2)
    assert engine.asked == ["list", "look b"]
    assert play.last.containers["b"].name == "renamed"


def test_who_was_told_to_stop_is_known_without_asking() -> None:
    engine = FakeEngine(entry("a"), entry("b"))
    play = Play(engine)
    play.hear("kill", "a", "x")
    play.run_until_heard(2)
    assert running(play.last) == {"a", "b"}
    assert [each.stopping for each in play.last.containers.values()] == [True, False]
    assert engine.asked == ["list"]


@pytest.mark.parametrize("action", ["destroy", "remove"])
def test_a_removal_is_believed_without_asking(action: str) -> None:
    engine = FakeEngine(entry("a"), entry("b", "exited"))
    play = Play(engine)
    play.hear(action, "b")
    play.run_until_heard(1)
    assert set(play.last.containers) == {"a"}
    assert engine.asked == ["list"]


def test_whoever_is_gone_is_not_looked_at() -> None:
    engine = FakeEngine(entry("a"), entry("b", "exited"))
    play = Play(engine)
    play.hear("rename", "b")
    play.hear("destroy", "b")
    play.run_until_heard(2)
    assert engine.asked == ["list"]


def test_nothing_is_asked_while_nothing_happens() -> None:
    engine = FakeEngine(entry("a"), entry("b"))
    play = Play(engine)
    play.hear("rename", "a")
    end = Timer(SOON, play.inbox.put, [End()])
    end.start()
    play.run_until(lambda: False)
    end.join()
    assert engine.asked == ["list", "look a"]


def test_events_that_came_at_once_lead_to_one_look() -> None:
    engine = FakeEngine(*(entry(each) for each in "abc"))
    play = Play(engine)
    play.hear("rename", "a", "b", "a", "c")
    play.run_until_heard(4)
    assert engine.asked == ["list", "look a b c"]


def test_a_disconnect_waits_until_the_container_has_died_or_not() -> None:
    engine = FakeEngine(entry("a"))
    play = Play(engine, pace=CALM._replace(settle=SOON))
    play.hear("disconnect", "a")
    play.hear("disconnect", "a")
    took = play.run_until(lambda: len(engine.asked) > 1)
    assert took >= SOON
    assert engine.asked == ["list", "look a"]


@pytest.mark.parametrize("told", [["die", "disconnect"], ["disconnect", "die"]])
def test_the_dead_are_not_looked_at_while_others_die(told: list[str]) -> None:
    engine = FakeEngine(entry("a"), entry("b"))
    play = Play(engine, pace=CALM._replace(settle=SOON / 4, rest=SOON))
    for action in told:
        play.hear(action, "a", "b")
    took = play.run_until(lambda: len(engine.asked) > 1)
    assert took >= SOON
    assert engine.asked == ["list", "look a b"]


@pytest.mark.parametrize("action", ["connect", "pause", "unpause"])
def test_what_an_engine_shows_late_is_looked_at_again(action: str) -> None:
    """20.10 tells these before its lists show them, as `test_engine_faults` has it."""
    engine = FakeEngine(entry("a", Names=["/new"]))
    engine.stale["a"] = entry("a", Names=["/old"])
    play = Play(engine, pace=CALM._replace(settle=SOON))
    soon = Timer(SOON / 3, engine.settle)
    soon.start()
    play.hear(action, "a")
    play.run_until(lambda: play.last.containers["a"].name == "new")
    soon.join()
    assert engine.asked[0] == "list"
    assert set(engine.asked[1:]) == {"look a"}


def test_a_container_that_was_unknown_when_it_died_gets_its_name() -> None:
    engine = FakeEngine(entry("a"))
    play = Play(engine)

    def live_and_die() -> None:
        engine.true["b"] = entry("b", "exited")

    engine.at_list = live_and_die
    play.hear("die", "b")
    play.run_until_heard(1)
    assert engine.asked == ["list", "look b"]
    assert play.last.containers["b"].name == "b-web-v1"
    assert play.last.containers["b"].stopped


@pytest.mark.usefixtures("short_afterlife")
def test_a_burst_of_starts_and_kills_ends_exact_with_few_questions() -> None:
    engine = FakeEngine()
    play = Play(engine)
    ids = [f"c{number:02}" for number in range(50)]

    def burst() -> None:
        engine.at_list = lambda: None
        for each in ids:
            engine.start(each)
            play.hear("start", each)
        for each in ids[10:]:
            engine.kill(each)
            play.hear("die", each)

    engine.at_list = burst
    # Every list is stale, for as long as one was ever seen to be, and longer.
    play.run_until(lambda: len(engine.asked) == 2)
    assert running(play.last) == set(ids[:10]) == engine.running()
    engine.settle()
    play.run_until(lambda: len(engine.asked) >= 4)
    assert running(play.last) == set(ids[:10])
    assert set(play.last.containers) == set(ids)
    assert engine.asked[0] == "list"
    assert len(engine.asked) <= 5


def test_for_a_great_many_one_full_list_is_made() -> None:
    engine = FakeEngine()
    play = Play(engine)
    ids = [f"c{number:03}" for number in range(200)]

    def appear() -> None:
        for each in ids:
            engine.start(each)

    engine.at_list = appear
    play.hear("start", *ids)
    play.run_until_heard(200)
    assert engine.asked == ["list", "list"]
    assert running(play.last) == set(ids)


@pytest.mark.usefixtures("long_afterlife")
@pytest.mark.parametrize("stale", [False, True])
def test_a_start_that_is_told_undoes_a_death(stale: bool) -> None:
    engine = FakeEngine(entry("a"))
    before = replace(known(entry("a")), incumbents=frozenset({"a"}))
    play = Play(engine, before)
    engine.kill("a")
    engine.start("a")
    play.hear("die", "a")
    play.hear("start", "a")
    if stale:
        engine.kill("a")
        play.hear("die", "a")
    play.run_until_heard(3 if stale else 2)
    assert engine.asked == ["list", "look a"]
    assert running(play.last) == (set() if stale else {"a"})
    # A new life is not the one that was current.
    assert play.last.incumbents == set()
    assert play.last.containers["a"].since >= time.time() - 10
