"""A watcher of the engine in memory, in threads of its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from app.engine.session import Pace
from app.engine.watcher import Watcher
from app.model import Snapshot
from tests.engine.fake import FakeEngine
from tests.engine.play import nobody, readable
from tests.lab.process import wait_until

QUICK: Final = Pace(settle=0.0, first_delay=0.01, longest_delay=0.02)
WAIT_SECONDS: Final = 20.0


class Watch:
    """A watcher of the engine in memory, and what it published."""

    def __init__(
        self, engine: FakeEngine, before: Snapshot | None = None, pace: Pace = QUICK
    ) -> None:
        self.engine = engine
        self.published: list[Snapshot] = []
        self.bug: Exception | None = None
        self.watcher = Watcher(
            Snapshot("") if before is None else before,
            engine.connect,
            self._publish,
            readable,
            nobody,
            pace,
        )

    def _publish(self, snapshot: Snapshot) -> Snapshot:
        if self.bug:
            raise self.bug
        self.published.append(snapshot)
        return snapshot

    @property
    def last(self) -> Snapshot:
        return self.published[-1] if self.published else Snapshot("")

    def stop(self) -> None:
        self.watcher.stop()
        self.watcher.join(WAIT_SECONDS)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        wait_until(condition, WAIT_SECONDS, what)

    def wait_up(self) -> None:
        self.wait(lambda: self.last.up, "the engine to be up")


@contextmanager
def watching(
    engine: FakeEngine, before: Snapshot | None = None, pace: Pace = QUICK
) -> Iterator[Watch]:
    watch = Watch(engine, before, pace)
    watch.watcher.start()
    with ExitStack() as stack:
        stack.callback(watch.stop)
        yield watch
    assert engine.open == 0
