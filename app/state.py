"""The last snapshots, and the one immutable view of them that everything that answers reads."""

import gzip
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from threading import Lock

from app.discovery import http_sd
from app.discovery.decide import Outcome, decide
from app.discovery.http_sd import Filters, Fragment
from app.model import Decision, Reason, Slot, Snapshot
from app.settings import AddressKind, Settings

log = logging.getLogger(__name__)

# A caller chooses the filters, so what is remembered of them is bounded.
_MOST_ANSWERS = 64


class Answer:
    """The bytes of one `/targets` answer, in both encodings."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.etag = http_sd.etag(body)

    @cached_property
    def gzipped(self) -> bytes:
        """The body, compressed when somebody first asks for that."""
        return gzip.compress(self.body, mtime=0)


class View:
    """Snapshots and the decisions made of them, at one time. Everything in it belongs together."""

    def __init__(
        self,
        snapshots: Mapping[str, Snapshot],
        outcome: Outcome,
        settings: Settings,
        made_at: float,
    ) -> None:
        self.snapshots = tuple(snapshots.values())
        self.decisions = outcome.decisions
        self.changes_at = outcome.changes_at
        self._outcome = outcome
        self._settings = settings
        self._made_at = made_at
        self._fragments: dict[AddressKind | None, tuple[Fragment, ...]] = {}
        self._answers: dict[object, Answer] = {}

    @property
    def ready(self) -> bool:
        """Whether every engine has been listed once, in this run or in one before."""
        return all(snapshot.listed_at is not None for snapshot in self.snapshots)

    def answer(self, filters: Filters, address: AddressKind | None = None) -> Answer:
        """The answer for these filters, made when it is first asked for."""
        key = (address, tuple(sorted(filters.items())))
        if key not in self._answers:
            if len(self._answers) >= _MOST_ANSWERS:
                self._answers.clear()
            self._answers[key] = Answer(http_sd.body(self._rendered(address), filters))
        return self._answers[key]

    def _rendered(self, address: AddressKind | None) -> tuple[Fragment, ...]:
        if address not in self._fragments:
            decisions = self.decisions
            if address:
                decisions = decide(self.snapshots, self._settings, self._made_at, address).decisions
            self._fragments[address] = http_sd.fragments(decisions)
        return self._fragments[address]

    def with_snapshots(self, snapshots: Mapping[str, Snapshot]) -> "View":
        """This view, with snapshots that lead to the same decisions."""
        view = View(snapshots, self._outcome, self._settings, self._made_at)
        view._fragments, view._answers = self._fragments, self._answers
        return view

    def current(self) -> dict[Slot, Decision]:
        """The generation that stands for each slot."""
        standing = (Reason.CURRENT, Reason.KEPT)
        return {each.slot: each for each in self.decisions if each.slot and each.reason in standing}


class State:
    """Takes snapshots from any thread, and has a view of them ready for any reader."""

    def __init__(
        self,
        snapshots: Iterable[Snapshot],
        settings: Settings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = Lock()
        self._snapshots = {snapshot.host: snapshot for snapshot in snapshots}
        self._view = self._decide()

    @property
    def view(self) -> View:
        """The view as it is now. Made anew only where time alone changes a decision."""
        if self._clock() >= self._view.changes_at:
            with self._lock:
                self._renew()
        return self._view

    def now(self) -> float:
        """The time on the clock that the snapshots are dated with."""
        return self._clock()

    def publish(self, snapshot: Snapshot) -> Snapshot:
        """Takes a snapshot, and gives it back with what the decision wants to be remembered.

        Its `incumbents` are not taken: time may have made others current since the watcher's last.
        """
        with self._lock:
            before = self._snapshots[snapshot.host]
            snapshot = replace(snapshot, incumbents=before.incumbents)
            self._snapshots[snapshot.host] = snapshot
            if snapshot.containers is before.containers and snapshot.lost_at == before.lost_at:
                self._view = self._view.with_snapshots(self._snapshots)
            else:
                self._renew()
            return self._snapshots[snapshot.host]

    def _renew(self) -> None:
        before = self._view.current()
        self._view = self._decide()
        _log_changes(before, self._view.current())

    def _decide(self) -> View:
        now = self._clock()
        outcome = decide(self._snapshots.values(), self._settings, now)
        self._snapshots = {
            host: replace(snapshot, incumbents=outcome.incumbents[host])
            for host, snapshot in self._snapshots.items()
        }
        return View(self._snapshots, outcome, self._settings, now)


def _log_changes(before: Mapping[Slot, Decision], after: Mapping[Slot, Decision]) -> None:
    for slot in sorted(before.keys() | after.keys()):
        old, new = before.get(slot), after.get(slot)
        if new is None:
            log.info("%s: its last container was removed or is no longer kept", slot.name)
        elif old is None or (old.container.id, old.reason) != (new.container.id, new.reason):
            log.info("%s: %s %s", slot.name, new.container.name, new.reason)
