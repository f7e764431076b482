"""The one immutable view of a set of snapshots, which everything that answers reads."""

import math
from collections.abc import Iterable, Mapping
from copy import copy
from functools import cached_property
from types import MappingProxyType

from app.discovery import http_sd, relay
from app.discovery.decide import Outcome, decide
from app.discovery.endpoint import Caller
from app.discovery.history import Entry, Scene
from app.discovery.http_sd import Answer, Filters
from app.model import FAULTS, AliasConflict, Decision, Slot, Snapshot
from app.settings import Settings

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

    def scene(self, other: "View") -> Scene:
        """What history is told from, of the two: what may be otherwise in the other one."""
        return Scene(self.snapshots, self.outcome.unlike(other.outcome))

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
        known = {each.host for each in self.snapshots if origin_of(each) not in self._newcomers}
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


def origin_of(snapshot: Snapshot) -> str:
    """Who tells of it: an engine by its host, or a peer by its URL."""
    return snapshot.peer.url if snapshot.peer else snapshot.host
