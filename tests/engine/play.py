"""A session over the engine in memory, in the test's own thread."""

import time
from collections.abc import Callable
from threading import Timer
from typing import Final

from app.engine import ledger, parse
from app.engine.client import EngineError
from app.engine.inspection import Inspects
from app.engine.parse import Event
from app.engine.session import End, Inbox, Pace, Session
from app.model import Container, Snapshot
from tests.engine.fake import Entry, FakeEngine

# Nothing is due but what a test is about.
CALM: Final = Pace(resync=600.0, settle=0.0, second=600.0, confirm=600.0)
# Long enough to be told from at once.
SOON: Final = 0.3
_PATIENCE_SECONDS = 10.0


def known(*entries: Entry, host: str = "") -> Snapshot:
    """The snapshot of an engine that has just been listed."""
    now = time.time()
    return ledger.listed(Snapshot(host), parse.containers(list(entries), now, readable), now)


def readable(_name: str) -> bool:
    """Every label is read."""
    return True


def nobody(_container: Container) -> bool:
    """Nobody's aliases are wanted."""
    return False


def running(snapshot: Snapshot) -> set[str]:
    return {key for key, each in snapshot.containers.items() if each.running}


class Play:
    """A session, and all that it published."""

    def __init__(
        self,
        engine: FakeEngine,
        before: Snapshot | None = None,
        pace: Pace = CALM,
        inspects: Inspects | None = None,
    ) -> None:
        self.engine = engine
        self.published: list[Snapshot] = []
        self.inbox = Inbox()
        self._until: Callable[[], object] = lambda: False
        self._session = Session(
            Snapshot("") if before is None else before,
            engine.connect(),
            self.inbox,
            publish=self._publish,
            readable=readable,
            inspects=inspects or nobody,
            pace=pace,
        )
        engine.asked.clear()

    def hear(self, action: str, *ids: str) -> None:
        for container_id in ids:
            self.inbox.put(Event(action, container_id))

    def run_until(self, condition: Callable[[], object]) -> float:
        """Runs until the condition holds after something was published; how long that took."""
        self._until = condition
        began = time.monotonic()
        guard = Timer(_PATIENCE_SECONDS, self.inbox.put, [End(EngineError("it never came"))])
        guard.start()
        try:
            self._session.run()
        finally:
            guard.cancel()
            guard.join()
        return time.monotonic() - began

    def run_until_heard(self, events: int) -> float:
        """Runs until so many events were heard, and what they led to at once is done."""
        return self.run_until(lambda: self.last.events >= events)

    @property
    def last(self) -> Snapshot:
        return self.published[-1]

    def _publish(self, snapshot: Snapshot) -> Snapshot:
        self.published.append(snapshot)
        if self._until():
            self.inbox.put(End())
        return snapshot
