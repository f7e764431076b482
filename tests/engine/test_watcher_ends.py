"""Between two sessions and at the end: how long a watcher waits, and what it leaves."""

import threading
import time

import pytest

from app.engine.client import EngineError
from app.engine.session import End, Inbox, Pace
from tests.engine.fake import FakeEngine, entry
from tests.engine.watch import QUICK, Watch, watching


class Delays(threading.Event):
    """Stands in for the flag that a watcher waits on: writes down how long it would have waited."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.seen: list[float] = []
        self._most = most

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.seen.append(timeout)
        if len(self.seen) >= self._most:
            self.set()
        return self.is_set()


def _delays(engine: FakeEngine, pace: Pace, most: int) -> list[float]:
    watch = Watch(engine, pace=pace)
    delays = Delays(most)
    watch.watcher._stopping = delays
    watch.watcher.run()
    return delays.seen


def test_the_delays_between_tries_grow_and_are_jittered() -> None:
    engine = FakeEngine()
    engine.refusal = EngineError("Connection refused")
    delays = _delays(engine, Pace(first_delay=0.5, longest_delay=30.0), most=60)
    wanted = [min(30.0, 0.5 * 2**number) for number in range(60)]
    shares = [each / full for each, full in zip(delays, wanted, strict=True)]
    assert all(0.5 <= share <= 1.0 for share in shares), delays
    # Sixty draws fall into all quarters of the range: were they one, it would be no jitter.
    assert len({int((share - 0.5) * 8) for share in shares}) >= 4


@pytest.mark.parametrize(("lasts", "is_good"), [(0.0, False), (0.5, True)])
def test_the_delays_start_afresh_after_a_good_run(lasts: float, is_good: bool) -> None:
    engine = FakeEngine(entry("a"))
    engine.refusal = EngineError("Connection refused")
    tries = 0

    def answer_the_fifth_time() -> None:
        nonlocal tries
        tries += 1
        engine.refusal = None if tries == 5 else EngineError("Connection refused")

    def end_soon() -> None:
        threading.Timer(lasts, engine.cut).start()

    engine.at_connect, engine.at_list = answer_the_fifth_time, end_soon
    pace = Pace(first_delay=1.0, longest_delay=1000.0, good_run=0.25)
    delays = _delays(engine, pace, most=7)
    wanted = (1, 2, 4, 8, 1, 2, 4) if is_good else (1, 2, 4, 8, 16, 32, 64)
    shares = [each / full for each, full in zip(delays, wanted, strict=True)]
    assert shares == [pytest.approx(0.75, abs=0.25)] * 7


def test_a_try_that_takes_long_is_no_good_session() -> None:
    engine = FakeEngine()
    engine.fault = EngineError("broken")
    engine.at_connect = lambda: time.sleep(0.05)
    pace = Pace(first_delay=1.0, longest_delay=1000.0, good_run=0.02)
    assert _delays(engine, pace, most=4)[3] >= 4


@pytest.mark.parametrize("when", ["listening", "waiting for the next try", "just started"])
def test_stop_ends_it_at_once_and_leaves_nothing(when: str) -> None:
    engine = FakeEngine(entry("a"))
    if when == "waiting for the next try":
        engine.refusal = EngineError("Connection refused")
    before = set(threading.enumerate())
    watch = Watch(engine, pace=Pace(first_delay=600.0, longest_delay=600.0))
    watch.watcher.start()
    if when != "just started":
        watch.wait(lambda: watch.published, "a first word")
    began = time.monotonic()
    watch.stop()
    assert time.monotonic() - began < 5
    assert set(threading.enumerate()) == before
    assert engine.open == 0


def test_stop_comes_between_two_sessions() -> None:
    """Each time at another point of a session's begin, which comes again and again."""
    for number in range(30):
        engine = FakeEngine(entry("a"))
        watch = Watch(engine, pace=Pace(first_delay=0.0, longest_delay=0.0))
        engine.at_list = engine.cut
        watch.watcher.start()
        time.sleep(number / 2000)
        began = time.monotonic()
        watch.stop()
        assert time.monotonic() - began < 5
        assert not watch.watcher._thread.is_alive()
        assert engine.open == 0


def test_a_stop_that_comes_as_a_session_begins_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(entry("a"))
    watch = Watch(engine)

    def made_as_somebody_stops() -> Inbox:
        watch.watcher._stopping.set()
        watch.watcher._inbox.put(End())
        return Inbox()

    monkeypatch.setattr("app.engine.watcher.Inbox", made_as_somebody_stops)
    watch.watcher.start()
    try:
        watch.wait(lambda: not watch.watcher._thread.is_alive(), "it to end")
    finally:
        engine.cut()
    assert engine.asked == []


def test_many_reconnects_leave_one_thread_of_each_kind() -> None:
    engine = FakeEngine(entry("a"))
    before = threading.active_count()
    with watching(engine, pace=QUICK._replace(first_delay=0.001, longest_delay=0.001)) as watch:
        for number in range(50):
            watch.wait_up()
            engine.cut()
            watch.wait(lambda n=number: watch.last.reconnects > n, "the loss")  # type: ignore[misc]
        watch.wait_up()
        assert threading.active_count() == before + 2
        assert engine.open == 1
