"""A watcher's life: it subscribes before it lists, it is lost, comes back, and ends when told."""

import logging
import time

import pytest

from app.engine.client import EngineError, StreamSilentError
from tests.engine.fake import FakeEngine, entry
from tests.engine.play import known, running
from tests.engine.watch import QUICK, watching


def test_it_subscribes_before_it_lists() -> None:
    engine = FakeEngine(entry("a"))

    def change_that_the_list_does_not_show() -> None:
        engine.at_list = lambda: None
        engine.start("b")

    engine.at_list = change_that_the_list_does_not_show
    with watching(engine) as watch:
        watch.wait(lambda: running(watch.last) == {"a", "b"}, "both to be seen")
    assert engine.asked == ["connect", "events", "list", "look b"]


def test_a_burst_in_a_running_watch_ends_exact() -> None:
    engine = FakeEngine()
    # A real engine takes a while to answer; meanwhile events gather.
    engine.at_list = lambda: time.sleep(0.01)
    ids = [f"c{number:02}" for number in range(50)]
    with watching(engine) as watch:
        watch.wait_up()
        for each in ids:
            engine.start(each)
        for each in ids[::2]:
            engine.kill(each)
        watch.wait(lambda: watch.last.events == 75, "all events to be heard")
        # The lists that were made meanwhile all showed the killed ones as running.
        assert running(watch.last) == set(ids[1::2])
        engine.settle()
        watch.wait(lambda: running(watch.last) == engine.running(), "it to be exact")
    assert len(engine.asked) < 25


def test_a_stream_that_breaks_in_an_unknown_way_is_a_loss_too() -> None:
    """Deafness would show only at the next resync."""
    engine = FakeEngine(entry("a"))
    with watching(engine) as watch:
        watch.wait_up()
        engine.cut(RecursionError("too deep"))
        watch.wait(lambda: watch.last.reconnects, "the loss to be told")
        watch.wait_up()
    assert running(watch.last) == {"a"}


@pytest.mark.parametrize("error", [None, EngineError("broken pipe")])
def test_a_stream_that_ends_is_a_loss_that_costs_no_container(error: EngineError | None) -> None:
    engine = FakeEngine(entry("a"))
    with watching(engine) as watch:
        watch.wait_up()
        heard_at = time.time()
        engine.cut(error)
        watch.wait(lambda: watch.last.reconnects, "the loss to be told")
        watch.wait_up()
        engine.start("b")
        watch.wait(lambda: running(watch.last) == {"a", "b"}, "events to be heard again")
    (lost,) = [each for each in watch.published if each.error]
    assert running(lost) == {"a"}
    assert lost.error == (str(error) if error else "the event stream ended")
    assert lost.lost_at is not None
    assert heard_at - 5 < lost.lost_at <= time.time()
    assert watch.last.reconnects == 1
    assert watch.last.events == 1
    assert engine.asked.count("connect") == 2


@pytest.mark.parametrize("where", ["connect", "list"])
def test_an_engine_that_is_down_is_said_once_and_is_heard_when_it_is_back(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine(entry("a"))
    error = EngineError("Connection refused")
    if where == "connect":
        engine.refusal = error
    else:
        engine.fault = error
    with caplog.at_level(logging.INFO), watching(engine) as watch:
        watch.wait(lambda: watch.last.reconnects >= 5, "five tries")
        assert (watch.last.up, watch.last.error) == (False, "Connection refused")
        assert watch.last.listed_at is None
        engine.refusal = engine.fault = None
        watch.wait_up()
    assert watch.last.error == ""
    assert running(watch.last) == {"a"}
    said = [record.getMessage() for record in caplog.records]
    assert said == ["engine: not heard: Connection refused", "engine: listening, 1 containers"]


def test_what_was_known_before_stays_known_while_the_engine_is_down() -> None:
    engine = FakeEngine()
    engine.refusal = EngineError("No such file or directory")
    before = known(entry("a"), host="one")
    with watching(engine, before) as watch:
        watch.wait(lambda: watch.last.reconnects >= 3, "three tries")
    for each in watch.published:
        assert (each.host, running(each)) == ("one", {"a"})
        assert each.listed_at == before.listed_at
        assert each.lost_at == watch.published[0].lost_at


def test_a_silent_stream_is_renewed_and_is_no_loss() -> None:
    engine = FakeEngine(entry("a"))
    with watching(engine) as watch:
        watch.wait_up()
        engine.cut(StreamSilentError("no event for 600 s"))
        watch.wait(lambda: engine.asked.count("list") == 2, "a second list")
        engine.start("b")
        watch.wait(lambda: running(watch.last) == {"a", "b"}, "events to be heard again")
    assert all(each.up for each in watch.published)
    assert watch.last.reconnects == 0
    assert engine.asked[:6] == ["connect", "events", "list"] * 2


def test_a_change_that_no_event_told_renews_the_stream_and_is_no_loss() -> None:
    engine = FakeEngine(entry("a"))
    with watching(engine, pace=QUICK._replace(resync=0.05)) as watch:
        watch.wait_up()
        engine.true["b"] = entry("b")
        watch.wait(lambda: engine.asked.count("events") == 2, "a new stream")
        watch.wait(lambda: running(watch.last) == {"a", "b"}, "the change to be seen")
    assert all(each.up for each in watch.published)
    assert watch.last.reconnects == 0


def test_a_bug_in_publish_does_not_end_the_watcher(caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine(entry("a"))
    with watching(engine) as watch:
        watch.wait_up()
        watch.bug = ZeroDivisionError("division by zero")
        engine.start("b")
        watch.wait(lambda: "ZeroDivisionError" in caplog.text, "the bug to be logged")
        watch.bug = None
        engine.start("c")
        watch.wait(
            lambda: running(watch.last) == {"a", "b", "c"} or not watch.watcher._thread.is_alive(),
            "it to go on",
        )
        assert running(watch.last) == {"a", "b", "c"}


def test_a_bug_in_an_engines_answer_is_told_as_one_of_ours() -> None:
    engine = FakeEngine(entry("a"))
    with watching(engine) as watch:
        watch.wait_up()
        engine.fault = RecursionError("too deep")
        engine.tell("rename", "a")
        watch.wait(lambda: watch.last.error, "it to be told")
        assert "RecursionError in kamal-sd" in watch.last.error
        assert running(watch.last) == {"a"}
        engine.fault = None
        watch.wait_up()
