"""Watchers in simulated time: the real ones, without a second of waiting, the same at each run.

Their threads run one at a time, and each until it waits for something. What they wait with is put
in the place of what the standard library has: clock, thread, flag and queue.
"""

import logging
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from queue import Empty
from threading import Semaphore, Thread
from unittest.mock import patch

NEVER = float("inf")
AT_ONCE = -NEVER
# A watcher that does so much without any time going by does it for ever.
_MOST_TURNS = 10_000


class Clock:
    """Time that stands still but for `run`, and the strands that live in it.

    It stands in for the module `time`, too.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        self._strands: list[Strand] = []
        self._current: Strand | None = None
        self._failure: BaseException | None = None

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def run(self, seconds: float = 0.0) -> None:
        """Lets so many seconds go by, and all strands do what is due until then."""
        end, turns = self.now + seconds, 0
        while True:
            strand = min(self._strands, key=lambda each: each.due(), default=None)
            if strand is None or strand.due() > end:
                self.now = end
                return
            turns = turns + 1 if strand.due() <= self.now else 0
            assert turns < _MOST_TURNS, f"{strand.name} turns round and round"
            self.now = max(self.now, strand.due())
            # Whoever has waited longest is the next, where several are due.
            self._strands.remove(strand)
            self._current = strand
            strand.go_on()
            self._current = None
            if not strand.is_over:
                self._strands.append(strand)
            if self._failure:
                failure, self._failure = self._failure, None
                raise failure

    def wait(self, due: Callable[[], float]) -> None:
        """Has the strand that runs wait until the time that `due` says, whenever it is asked."""
        assert self._current, "nobody but a strand may wait"
        self._current.wait(due)

    def add(self, strand: "Strand") -> None:
        self._strands.append(strand)

    def fail(self, error: BaseException) -> None:
        self._failure = error


class Strand:
    """A Thread that runs when the clock lets it."""

    def __init__(
        self,
        clock: Clock,
        target: Callable[..., object],
        args: tuple[object, ...] = (),
        name: str = "",
        daemon: bool = True,
    ) -> None:
        self.name = name
        self.due: Callable[[], float] = lambda: AT_ONCE
        self.is_over = False
        self._clock = clock
        self._work = partial(target, *args)
        self._turn, self._back = Semaphore(0), Semaphore(0)
        self._thread = Thread(target=self._run, name=name, daemon=daemon)

    def start(self) -> None:
        self._clock.add(self)
        self._thread.start()

    def join(self, timeout: float = NEVER) -> None:
        end = self._clock.now + timeout
        self._clock.wait(lambda: AT_ONCE if self.is_over else end)

    def go_on(self) -> None:
        """Gives it its turn, until it waits or ends."""
        self._turn.release()
        self._back.acquire()
        if self.is_over:
            self._thread.join()

    def wait(self, due: Callable[[], float]) -> None:
        self.due = due
        self._back.release()
        self._turn.acquire()

    def _run(self) -> None:
        self._turn.acquire()
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - it is raised by the one who runs the clock
            self._clock.fail(error)
        finally:
            self.is_over = True
            self._back.release()


class _Flag:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float) -> None:
        end = self._clock.now + timeout
        self._clock.wait(lambda: AT_ONCE if self._is_set else end)


class _Inbox:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._items: deque[object] = deque()

    def put(self, item: object) -> None:
        self._items.append(item)

    def get(self, timeout: float) -> object:
        end = self._clock.now + timeout
        self._clock.wait(lambda: AT_ONCE if self._items else end)
        return self.get_nowait()

    def get_nowait(self) -> object:
        if not self._items:
            raise Empty
        return self._items.popleft()


class _Log(logging.Logger):
    """Where a watcher would note a failure of its own and go on, it fails."""

    def exception(self, *_args: object, **_options: object) -> None:
        raise  # noqa: PLE0704 - it is called where one is being handled


@contextmanager
def simulated(now: float) -> Iterator[Clock]:
    """A clock in which every watcher lives that is made, started and ended in the context."""
    clock = Clock(now)
    instead = {
        "session.time": clock,
        "watcher.time": clock,
        "watcher.log": _Log("watcher", logging.CRITICAL),
        "watcher.random": random.Random(0),  # noqa: S311 - no secret
        "watcher.Thread": partial(Strand, clock),
        "watcher.Flag": partial(_Flag, clock),
        "watcher.Inbox": partial(_Inbox, clock),
    }
    with ExitStack() as stack:
        for name, each in instead.items():
            stack.enter_context(patch(f"app.engine.{name}", each))
        yield clock
