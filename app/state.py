"""The last snapshots, of which there is always a view that is true."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from threading import Lock
from types import MappingProxyType

from app.discovery import peer
from app.discovery.decide import decide
from app.discovery.history import Change, Deploys, Entry, counted, entries, remembered
from app.discovery.labels import readable, scrub
from app.model import Slot, Snapshot
from app.settings import Settings
from app.view import View, origin_of

log = logging.getLogger(__name__)


class State:
    """Takes snapshots from any thread, and has a view of them ready for any reader.

    `settings_at` is the time since which the settings hold. `refusal` says what was wrong with
    others that came later; it is empty where none did.
    """

    def __init__(
        self,
        snapshots: Iterable[Snapshot],
        settings: Settings,
        clock: Callable[[], float] = time.time,
        peers: Mapping[str, tuple[Snapshot, ...]] = MappingProxyType({}),
        history: Iterable[Entry] = (),
    ) -> None:
        self._settings = settings
        self.settings_at = clock()
        self.refusal = ""
        self._clock = clock
        self._grace_until = clock() + settings.startup_grace
        self._lock = Lock()
        self._deploys: Mapping[Slot, Deploys] = {}
        self._told: list[Callable[[], object]] = []
        self._snapshots = {snapshot.host: snapshot for snapshot in snapshots}
        self._peers = self._without_our_hosts(peers)
        self._newcomers = frozenset[str]()
        self._view = self._decide().with_history(tuple(history))

    @property
    def settings(self) -> Settings:
        """The settings that hold now."""
        return self._settings

    def reconfigure(
        self,
        settings: Settings,
        snapshots: Iterable[Snapshot] = (),
        peers: Mapping[str, tuple[Snapshot, ...]] = MappingProxyType({}),
    ) -> None:
        """Takes other settings, and decides anew.

        `snapshots` and `peers` are of the engines and peers that are new, or others than those
        that were known by their host or URL. What is known of the rest stays, and what the
        settings do not name any more goes.
        """
        with self._lock:
            before = {*self._snapshots, *self._peers}
            unlisted = self._unlisted()
            known = dict(self._snapshots)
            for each in snapshots:
                # kamal-proxy's state is told apart from the engine, and once.
                active = known[each.host].active if each.host in known else each.active
                known[each.host] = replace(each, active=active)
            if settings.container_labels != self._settings.container_labels:
                is_readable = readable(settings)
                known = {host: _less_labels(each, is_readable) for host, each in known.items()}
            self._snapshots = {engine.host: known[engine.host] for engine in settings.engines}
            heard = {**self._peers, **peers}
            self._peers = self._without_our_hosts(
                {asked.url: heard[asked.url] for asked in settings.peers}
            )
            # Where one goes, another may be the same by a new name, and its targets are missed; so
            # they are where another engine takes the place of one that was listed.
            after = {*self._snapshots, *self._peers}
            is_more = before <= after
            is_missed = not is_more or bool((before - unlisted) & self._unlisted())
            self._newcomers = self._newcomers & unlisted | (after - before if is_more else set())
            if is_missed:
                self._grace_until = self._clock() + settings.startup_grace
            self._settings = settings
            self.settings_at, self.refusal = self._clock(), ""
            self._renew()

    def refuse(self, error: str) -> None:
        """Notes that other settings could not be taken, and why."""
        self.refusal = error

    def known_of(self, host: str) -> Snapshot:
        """What is known of that engine."""
        return self._snapshots[host]

    def known_of_peer(self, url: str) -> tuple[Snapshot, ...]:
        """What is known of that peer's engines."""
        return self._peers[url]

    @property
    def view(self) -> View:
        """The view as it is now. Made anew only where time alone changes a decision."""
        if self._clock() >= self._view.changes_at:
            with self._lock:
                self._renew()
        return self._view

    @property
    def deploys(self) -> Mapping[Slot, Deploys]:
        """What came of the deploys that were seen in this run, by slot."""
        return self._deploys

    def now(self) -> float:
        """The time on the clock that the snapshots are dated with."""
        return self._clock()

    @contextmanager
    def telling(self, tell: Callable[[], object]) -> Iterator[None]:
        """Has `tell` called at each new decision, as long as the context lasts.

        It is called in whichever thread brought the change, and must neither block nor ask the
        state for anything. What time alone changes is told when somebody next looks at the view.
        """
        with self._lock:
            self._told.append(tell)
        try:
            yield
        finally:
            with self._lock:
                self._told.remove(tell)

    def publish_active(self, host: str, active: Mapping[str, frozenset[str]]) -> None:
        """Takes what kamal-proxy's state says of that engine's slots (`Snapshot.active`)."""
        with self._lock:
            self._snapshots[host] = replace(self._snapshots[host], active=active)
            self._renew()

    def publish(self, snapshot: Snapshot) -> Snapshot:
        """Takes a snapshot, and gives it back with what the decision wants to be remembered.

        Its `incumbents` and `active` are not taken: others may have become so since the watcher's
        last.
        """
        with self._lock:
            before = self._snapshots[snapshot.host]
            snapshot = replace(snapshot, incumbents=before.incumbents, active=before.active)
            self._snapshots[snapshot.host] = snapshot
            if snapshot.containers is before.containers and snapshot.lost_at == before.lost_at:
                self._view = self._view.with_snapshots(self._all())
            else:
                self._renew()
            return self._snapshots[snapshot.host]

    def publish_peer(self, url: str, snapshots: tuple[Snapshot, ...]) -> None:
        """Takes what a peer says of its engines. Raises ValueError where a host is another's."""
        with self._lock:
            others = [*self._snapshots, *(each.host for each in self._of_peers(but=url))]
            peer.check_hosts(snapshots, others)
            before = self._peers.get(url, ())
            self._peers[url] = snapshots
            if list(map(_without_age, before)) == list(map(_without_age, snapshots)):
                self._view = self._view.with_snapshots(self._all())
            else:
                self._renew()

    def _without_our_hosts(
        self, peers: Mapping[str, tuple[Snapshot, ...]]
    ) -> dict[str, tuple[Snapshot, ...]]:
        """The same, but for peers that watch what is watched from here: they are not believed."""
        return {
            url: (peer.unheard(url),) if any(each.host in self._snapshots for each in of) else of
            for url, of in peers.items()
        }

    def _of_peers(self, but: str = "") -> Iterator[Snapshot]:
        return chain.from_iterable(of for url, of in self._peers.items() if url != but)

    def _unlisted(self) -> set[str]:
        return {origin_of(each) for each in self._all() if each.listed_at is None}

    def _all(self) -> list[Snapshot]:
        return [*self._snapshots.values(), *self._of_peers()]

    def _renew(self) -> None:
        before = self._view
        after = self._decide(before)
        new = entries(before.scene(after), after.scene(before), self._clock())
        self._view = after.with_history(remembered(before.history, new) if new else before.history)
        self._deploys = counted(self._deploys, new)
        for entry in new:
            _say(entry)
        for tell in self._told:
            tell()

    def _decide(self, before: View | None = None) -> View:
        now = self._clock()
        earlier, callers = (before.outcome, before.callers) if before else (None, {})
        outcome = decide(self._all(), self._settings, now, before=earlier)
        incumbents = outcome.incumbents
        self._snapshots = {
            host: snapshot
            if snapshot.incumbents is incumbents[host]
            else replace(snapshot, incumbents=incumbents[host])
            for host, snapshot in self._snapshots.items()
        }
        return View(
            self._all(),
            outcome,
            self._settings,
            now,
            self._grace_until,
            self._newcomers,
            callers=callers,
        )


def _less_labels(snapshot: Snapshot, is_readable: Callable[[str], bool]) -> Snapshot:
    """The same, without the labels that are not to be read any more."""
    containers = {
        each.id: replace(each, labels={k: v for k, v in each.labels.items() if is_readable(k)})
        for each in snapshot.containers.values()
    }
    return replace(snapshot, containers=MappingProxyType(containers))


def _without_age(snapshot: Snapshot) -> tuple[object, ...]:
    return snapshot.host, snapshot.peer, snapshot.up, snapshot.error


def _say(entry: Entry) -> None:
    # Engines are their watchers' to tell.
    if entry.slot or entry.change is Change.REFUSED:
        level = logging.WARNING if entry.change.is_trouble else logging.INFO
        # What a container is called is anybody's to choose, and a line of the log is one line.
        log.log(level, "%s: %s", scrub(entry.place), scrub(entry.detail))
