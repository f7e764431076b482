"""The last snapshots, and the one immutable view of them that everything that answers reads."""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import cached_property
from itertools import chain
from threading import Lock
from types import MappingProxyType

from app.discovery import http_sd, peer, relay
from app.discovery.decide import Outcome, decide
from app.discovery.endpoint import Caller
from app.discovery.history import Change, Deploys, Entry, Scene, counted, entries, remembered
from app.discovery.http_sd import Answer, Filters
from app.discovery.labels import readable, scrub
from app.model import FAULTS, AliasConflict, Decision, Slot, Snapshot
from app.settings import Settings

log = logging.getLogger(__name__)

# A caller chooses the filters, so what is remembered of them is bounded.
_MOST_ANSWERS = 64
_MOST_CALLERS = 8

_NOBODY = Caller()
_NO_FILTERS: Filters = MappingProxyType({})
# The relay serves whatever anybody may have asked for.
_RELAY = Caller("relay", "both")


class _Made:
    """What was made of one set of snapshots, as it was asked for.

    `outcomes` of callers that are not among the `asked` are of earlier snapshots, and much of them
    will still be so.
    """

    def __init__(self, outcomes: Mapping[Caller, Outcome]) -> None:
        self.outcomes = dict(outcomes)
        self.asked: set[Caller] = set()
        self.answers: dict[object, Answer] = {}
        self.routes: relay.Routes | None = None


class View:
    """Snapshots and the decisions made of them, at one time. Everything in it belongs together."""

    def __init__(
        self,
        snapshots: Iterable[Snapshot],
        outcome: Outcome,
        settings: Settings,
        made_at: float,
        grace_until: float,
        newcomers: frozenset[str] = frozenset(),
        history: tuple[Entry, ...] = (),
        callers: Mapping[Caller, Outcome] = MappingProxyType({}),
    ) -> None:
        self.snapshots = tuple(snapshots)
        self.outcome = outcome
        # What led to it, the last at the end.
        self.history = history
        self._settings = settings
        self._made_at = made_at
        self._grace_until = grace_until
        self._newcomers = newcomers
        self._made = _Made(callers)
        # The earliest time at which time alone may change anything here.
        self.changes_at = outcome.changes_at
        if self.unlisted and not self._is_grace_over:
            self.changes_at = min(outcome.changes_at, grace_until)

    def scene(self, hosts: Collection[str]) -> Scene:
        """What the next view's history is told from, where only these hosts have changed."""
        engines = (self.outcome.engines[host] for host in hosts if host in self.outcome.engines)
        return Scene(self.snapshots, tuple(chain.from_iterable(each.decisions for each in engines)))

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions of all engines."""
        return self.outcome.decisions

    @property
    def generation(self) -> object:
        """The same object for as long as the decisions, and what led to them, are the same."""
        return self._made

    @property
    def callers(self) -> Mapping[Caller, Outcome]:
        """Outcomes for those who asked of late, for the next view to begin with."""
        return self._made.outcomes

    @property
    def conflicts(self) -> tuple[AliasConflict, ...]:
        """The aliases in conflict, where aliases are verified."""
        return self.outcome.conflicts

    @property
    def ready(self) -> bool:
        """Whether there is an answer about all engines."""
        return not self.awaited()

    @cached_property
    def listed_at(self) -> float:
        """When the engine was listed that was listed longest ago; infinity before the first."""
        known = (each.listed_at for each in self.snapshots if each.listed_at is not None)
        return min(known, default=math.inf)

    @property
    def unlisted(self) -> list[str]:
        """The hosts of the engines that have not been listed once."""
        return [snapshot.host for snapshot in self.snapshots if snapshot.listed_at is None]

    def awaited(self, filters: Filters = _NO_FILTERS) -> list[str]:
        """The hosts without whose first list, of this run or one before, there is no answer.

        They are waited for as long as the grace after a start lasts, and where the filters want no
        other host for ever: an answer without any targets would remove those that a reader has.
        Those that settings have added since are not waited for: nothing was served of them.
        """
        unlisted = self.unlisted_of(filters)
        if len(unlisted) == len(self._hosts_of(filters)):
            return unlisted
        if self._is_grace_over:
            return []
        known = {each.host for each in self.snapshots if _origin(each) not in self._newcomers}
        return [host for host in unlisted if host in known]

    def unlisted_of(self, filters: Filters) -> list[str]:
        """The hosts that the filters want and that have not been listed once."""
        wanted = self._hosts_of(filters)
        return [host for host in self.unlisted if host in wanted]

    @property
    def _is_grace_over(self) -> bool:
        return self._made_at >= self._grace_until

    def _hosts_of(self, filters: Filters) -> list[str]:
        hosts = [snapshot.host for snapshot in self.snapshots]
        wanted = filters.get("host", frozenset())
        found = [host for host in hosts if host in wanted]
        if not wanted.issubset(hosts):
            # Of a peer that was never heard nobody knows the hosts.
            found += [each.host for each in self.snapshots if each.peer and each.listed_at is None]
        # One that no engine has is no reason to answer before there is anything to look at.
        return found or hosts

    def answer(self, filters: Filters, caller: Caller = _NOBODY) -> Answer:
        """The answer for these filters, made when it is first asked for."""
        caller = self.less_what_changes_nothing(caller)
        key = (caller, tuple(sorted(filters.items())))
        answers = self._made.answers
        # Another thread may have them cleared in between.
        answer = answers.get(key)
        if answer is None:
            if len(answers) >= _MOST_ANSWERS:
                answers.clear()
            pages = (engine.page for engine in self._outcome_for(caller).engines.values())
            answer = answers[key] = http_sd.answer(pages, filters)
        return answer

    def decisions_for(self, caller: Caller) -> tuple[Decision, ...]:
        """The decisions as this caller wishes them."""
        return self._outcome_for(self.less_what_changes_nothing(caller)).decisions

    @property
    def routes(self) -> relay.Routes:
        """What stands behind each path of the relay."""
        if self._made.routes is None:
            self._made.routes = relay.routes(self.decisions_for(_RELAY))
        return self._made.routes

    def less_what_changes_nothing(self, caller: Caller) -> Caller:
        """The same for all whom it makes no difference where they reached kamal-sd."""
        matters = self._settings.may_relay(caller.address) and not self._settings.relay.address
        return caller if matters else caller._replace(authority="")

    def _outcome_for(self, caller: Caller) -> Outcome:
        if caller == _NOBODY:
            return self.outcome
        made = self._made
        # Another thread may have them cleared in between.
        if caller in made.asked and (known := made.outcomes.get(caller)):
            return known
        if caller not in made.outcomes and len(made.outcomes) >= _MOST_CALLERS:
            made.asked.clear()
            made.outcomes.clear()
        earlier = made.outcomes.get(caller)
        outcome = decide(self.snapshots, self._settings, self._made_at, caller, earlier)
        made.outcomes[caller] = outcome
        made.asked.add(caller)
        return outcome

    def with_snapshots(self, snapshots: Iterable[Snapshot]) -> "View":
        """This view, with snapshots that lead to the same decisions."""
        view = View(
            snapshots,
            self.outcome,
            self._settings,
            self._made_at,
            self._grace_until,
            self._newcomers,
            self.history,
        )
        view._made = self._made
        return view

    def with_history(self, history: tuple[Entry, ...]) -> "View":
        """This view, with what led to it."""
        view = copy(self)
        view.history = history
        return view

    def refused(self) -> set[Slot]:
        """The slots in which something runs that is no target, for a reason that can be mended."""
        found = {
            each.slot
            for each in self.decisions
            if each.slot and each.container.running and each.reason in FAULTS
        }
        return found - self.current().keys()

    def current(self) -> dict[Slot, Decision]:
        """The generation that stands for each slot."""
        found: dict[Slot, Decision] = {}
        for engine in self.outcome.engines.values():
            found |= engine.current
        return found


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
        return {_origin(each) for each in self._all() if each.listed_at is None}

    def _all(self) -> list[Snapshot]:
        return [*self._snapshots.values(), *self._of_peers()]

    def _renew(self) -> None:
        before = self._view
        after = self._decide(before)
        hosts = after.outcome.changed_since(before.outcome)
        new = entries(before.scene(hosts), after.scene(hosts), self._clock())
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


def _origin(snapshot: Snapshot) -> str:
    """Who tells of it: an engine by its host, or a peer by its URL."""
    return snapshot.peer.url if snapshot.peer else snapshot.host


def _without_age(snapshot: Snapshot) -> tuple[object, ...]:
    return snapshot.host, snapshot.peer, snapshot.up, snapshot.error


def _say(entry: Entry) -> None:
    # Engines are their watchers' to tell.
    if entry.slot or entry.change is Change.REFUSED:
        level = logging.WARNING if entry.change.is_trouble else logging.INFO
        # What a container is called is anybody's to choose, and a line of the log is one line.
        log.log(level, "%s: %s", scrub(entry.place), scrub(entry.detail))
