"""One connection's life: what is listed, what events lead to, and what is looked at again."""

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import NamedTuple

from app.engine import ledger, parse
from app.engine.client import Connection, EngineError, StreamSilentError
from app.engine.inspection import Inspection, Inspects
from app.engine.parse import Event, Readable
from app.model import Container, Snapshot

_DEATHS = frozenset({"die", "died"})
_REMOVALS = frozenset({"destroy", "remove"})
# 20.10 tells these a moment before its lists show them.
_TOLD_EARLY = frozenset({"connect", "pause", "unpause"})
# Only these can change the aliases of a container.
_RENAMING = frozenset({"start", "connect"})
# Above this many, one full list is cheaper than a filter that names them all.
_MOST_LOOKS = 64


class Pace(NamedTuple):
    """A watcher's times, in seconds."""

    resync: float = 60.0
    # What is told early is looked at once more after this time. It is enough for a stopping
    # container, too, which leaves its network a moment before it dies (28.5: 3 to 24 ms).
    settle: float = 0.3
    # A dead one leaves its networks as well. That is looked at when others that die with it have
    # died: whoever waits for an answer hears of no death, and a busy engine takes its time.
    rest: float = 2.0
    # The first list of a connection is made once more after this time. It can be a moment older
    # than the events, so that what died just before runs in it (20.10, on a busy machine).
    second: float = 1.0
    # A list that is suddenly empty is believed when it is so again after this time.
    confirm: float = 3.0
    first_delay: float = 0.5
    longest_delay: float = 30.0
    # A session that went well for so long after its first list was a good one: the delays start
    # afresh. Proxies cut streams off every minute, and those must not add up to longer and longer
    # waits; and one list in so long costs an engine nothing.
    good_run: float = 2.0


class End(NamedTuple):
    """Put into the inbox where no further event will come. Without an error: as was wished."""

    error: EngineError | None = None


Inbox = SimpleQueue[Event | End]


class Session:
    """Keeps a snapshot true with what comes into the inbox. Raises EngineError when it cannot.

    `publish` is given each new snapshot, and gives it back as it shall be remembered.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        connection: Connection,
        inbox: Inbox,
        *,
        publish: Callable[[Snapshot], Snapshot],
        readable: Readable,
        inspects: Inspects,
        pace: Pace,
    ) -> None:
        self.snapshot = snapshot
        self._connection = connection
        self._inbox = inbox
        self._publish_to = publish
        self._readable = readable
        self._pace = pace
        self._started: set[str] = set()
        # Which containers to look at, and when, on the monotonic clock.
        self._due: dict[str, float] = {}
        self._told_early: set[str] = set()
        self._inspection = Inspection(connection, inspects)
        self._list_due = 0.0
        self._lists = 0
        self._eventful = True
        # While lists are held back, because they are suddenly empty: when one will be believed.
        self._believed_at: float | None = None

    def run(self) -> None:
        """Lists, then heeds the inbox until its end."""
        self._list()
        while True:
            batch = self._take()
            events = [item for item in batch if isinstance(item, Event)]
            if events and self._believed_at is not None:
                # An engine that has news has containers, and the one that an event ends may have a
                # successor that only a list tells of.
                self._list()
            for event in events:
                self._heed(event)
            if events:
                self._eventful = True
                # The deaths are told before the engine is asked for anything.
                self._publish(replace(self.snapshot, events=self.snapshot.events + len(events)))
            for item in batch:
                if isinstance(item, End):
                    if item.error:
                        raise item.error
                    return
            self._look()
            if time.monotonic() >= self._list_due:
                self._list()

    def _take(self) -> list[Event | End]:
        """All that is in the inbox; waits for something until the next look or list is due."""
        due = min([self._list_due, *self._due.values()])
        try:
            batch: list[Event | End] = [self._inbox.get(timeout=max(0.0, due - time.monotonic()))]
        except Empty:
            return []
        try:
            while True:
                batch.append(self._inbox.get_nowait())
        except Empty:
            return batch

    def _heed(self, event: Event) -> None:
        container_id, now = event.container_id, time.monotonic()
        if event.action in _DEATHS:
            self._heed_death(container_id, now)
        elif event.action == "kill":
            self.snapshot = ledger.told_to_stop(self.snapshot, container_id)
        elif event.action in _REMOVALS:
            self._due.pop(container_id, None)
            self.snapshot = ledger.removed(self.snapshot, container_id)
        elif event.action == "disconnect":
            known = self.snapshot.containers.get(container_id)
            is_dead = known is not None and known.stopped
            wait = self._pace.rest if is_dead else self._pace.settle
            self._due.setdefault(container_id, now + wait)
        else:
            if event.action == "start":
                self._started.add(container_id)
            elif event.action in _TOLD_EARLY:
                self._told_early.add(container_id)
            if event.action in _RENAMING:
                self._inspection.doubt(container_id)
            self._due[container_id] = now

    def _heed_death(self, container_id: str, now: float) -> None:
        if container_id not in self.snapshot.containers:
            self._due[container_id] = now
        elif self._due.get(container_id, now) > now:
            # What it did before it died can wait, too.
            self._due[container_id] = now + self._pace.rest
        self._started.discard(container_id)
        self.snapshot = ledger.died(self.snapshot, container_id, time.time())

    def _look(self) -> None:
        now = time.monotonic()
        wanted = {container_id for container_id, due in self._due.items() if due <= now}
        if len(wanted) > _MOST_LOOKS:
            self._list_due = now
        elif wanted:
            found = self._ask(wanted)
            if wanted.intersection(self.snapshot.containers) - {each.id for each in found}:
                # Nobody told of its end, or not yet. A list says whether it is one.
                self._list_due = min(self._list_due, now + self._pace.settle)
            after = ledger.looked(self.snapshot, found, time.time(), self._started)
            self._conclude(after, found, now)

    def _list(self) -> None:
        now = time.monotonic()
        found = self._ask()
        is_sudden = self.snapshot.containers and not found
        if is_sudden and (self._believed_at is None or now < self._believed_at):
            # Nobody was seen to go. An engine that is just starting can answer so.
            self._believed_at = self._believed_at or now + self._pace.confirm
            self._list_due = self._believed_at
            return
        self._believed_at = None
        self._lists += 1
        is_again_soon = self._pace.second < self._pace.resync
        is_first, is_second = (is_again_soon and self._lists == count for count in (1, 2))
        self._list_due = now + (self._pace.second if is_first else self._pace.resync)
        before = self.snapshot
        after = ledger.listed(before, found, time.time(), self._started)
        self._inspection.listed(after)
        self._conclude(after, found, now)
        is_changed = after.containers is not before.containers
        if is_changed and not self._eventful and not is_second:
            raise StreamSilentError("a list shows what no event told")
        self._eventful = False

    def _ask(self, ids: Collection[str] = ()) -> tuple[Container, ...]:
        try:
            return parse.containers(self._connection.containers(ids), time.time(), self._readable)
        except TypeError as error:
            raise EngineError(str(error)) from None

    def _conclude(self, after: Snapshot, found: tuple[Container, ...], asked_at: float) -> None:
        """Publishes what an answer showed, and sees to what is left to look at."""
        self._started.clear()
        self._due = {key: due for key, due in self._due.items() if due > asked_at}
        after = self._inspection.of(after, found)
        for container_id in self._told_early:
            self._due.setdefault(container_id, time.monotonic() + self._pace.settle)
        self._told_early.clear()
        for container_id in ledger.doubtful(after, found):
            self._due.setdefault(container_id, time.monotonic() + ledger.AFTERLIFE)
        self._publish(after)

    def _publish(self, snapshot: Snapshot) -> None:
        self.snapshot = self._publish_to(snapshot)
