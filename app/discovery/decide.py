"""The decision: for every container a target, or the reason why there is none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

from app.discovery import peer
from app.discovery.aliases import Answering
from app.discovery.endpoint import Caller
from app.discovery.http_sd import Page, fragments
from app.discovery.incumbent import NEVER
from app.discovery.naming import names
from app.discovery.slot_decision import Causes, SlotDecision, decide_slot, order
from app.discovery.slots import by_slot
from app.discovery.target import one_series_each
from app.model import AliasConflict, Decision, Reason, Slot, Snapshot
from app.settings import Settings

_NOBODY = Caller()
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class EngineDecision:
    """The decisions for one engine's containers, by slot, and at last those that are in none.

    `snapshot` is what they were made of, with the incumbents that were made of it: of these they
    come out the same again, from the time `made_at` until `changes_at`.
    """

    snapshot: Snapshot
    decisions: tuple[Decision, ...]
    conflicts: tuple[AliasConflict, ...] = ()
    slots: Mapping[Slot, SlotDecision] = field(default_factory=dict)
    begun: Mapping[str, Decision] = field(default_factory=dict)
    made_at: float = -NEVER
    changes_at: float = NEVER

    @cached_property
    def page(self) -> Page:
        """The rendered target groups."""
        if self.snapshot.peer:
            return Page(fragments(self.decisions))
        return Page(tuple(chain.from_iterable(each.fragments for each in self.slots.values())))

    @cached_property
    def current(self) -> dict[Slot, Decision]:
        """The generation that stands for each slot."""
        standing = (Reason.CURRENT, Reason.KEPT)
        return {each.slot: each for each in self.decisions if each.slot and each.reason in standing}

    def holds(self, snapshot: Snapshot, now: float) -> bool:
        """Whether they come out of that snapshot of the engine at that time."""
        was = self.snapshot
        return (
            snapshot.containers is was.containers
            and snapshot.peer is was.peer
            # In tuples, since these ask first whether it is the very same set.
            and (snapshot.incumbents, snapshot.active) == (was.incumbents, was.active)
            and snapshot.alias_error == was.alias_error
            and self.made_at <= snapshot.as_of(now) < self.changes_at
        )


@dataclass(frozen=True)
class Outcome:
    """The decisions of all engines, by their hosts and in the order of these.

    `changes_at` is the earliest time at which time alone may change a decision.
    """

    engines: Mapping[str, EngineDecision]
    changes_at: float
    settings: Settings
    caller: Caller

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """Decisions in a fixed order: by host and slot, in each slot the targets first."""
        return tuple(chain.from_iterable(each.decisions for each in self.engines.values()))

    @property
    def incumbents(self) -> dict[str, frozenset[str]]:
        """The ids of each host's current containers, for the next decision to remember.

        A peer remembers its own.
        """
        own = ((host, each) for host, each in self.engines.items() if not each.snapshot.peer)
        return {host: each.snapshot.incumbents for host, each in own}

    def changed_since(self, before: "Outcome") -> frozenset[str]:
        """The hosts of which something was decided that was not taken over from before."""
        hosts = self.engines.keys() | before.engines.keys()
        return frozenset(
            host for host in hosts if self.engines.get(host) is not before.engines.get(host)
        )

    @property
    def conflicts(self) -> tuple[AliasConflict, ...]:
        """Known where aliases are verified."""
        return tuple(chain.from_iterable(each.conflicts for each in self.engines.values()))


def decide(
    snapshots: Iterable[Snapshot],
    settings: Settings,
    now: float,
    caller: Caller = _NOBODY,
    before: Outcome | None = None,
) -> Outcome:
    """The decision for every container of the snapshots, at `now`, as the caller wishes it.

    It is the same with an earlier outcome and without. What is so as it was `before` is taken from
    there, so that a change costs what it changes.
    """
    is_of_use = before and before.settings is settings and before.caller == caller
    known = before.engines if before and is_of_use else {}
    engines: dict[str, EngineDecision] = {}
    changes_at = NEVER
    for snapshot in sorted(snapshots, key=lambda each: each.host):
        engine = known.get(snapshot.host)
        if engine is None or not engine.holds(snapshot, now):
            engine = _decide_engine(snapshot, settings, now, caller, engine)
        engines[snapshot.host] = engine
        if snapshot.lost_at is None and engine.changes_at < changes_at:
            changes_at = engine.changes_at
    return Outcome(engines, changes_at, settings, caller)


def _decide_engine(
    snapshot: Snapshot,
    settings: Settings,
    now: float,
    caller: Caller,
    before: EngineDecision | None,
) -> EngineDecision:
    if snapshot.peer:
        seen = sorted(peer.seen_by(caller, snapshot.peer, settings), key=_order)
        return EngineDecision(snapshot, tuple(one_series_each(seen)), snapshot.peer.conflicts)
    now = snapshot.as_of(now)
    slots, others = by_slot(snapshot, settings, before.begun if before else {})
    begun = [*others, *chain.from_iterable(slots.values())]
    answering, managed = None, {}
    conflicts: tuple[AliasConflict, ...] = ()
    if settings.aliases.verify:
        answering = Answering(begun, is_partial=bool(snapshot.alias_error))
        conflicts = tuple(answering.conflicts(snapshot.host))
    if settings.aliases.manage:
        managed = names(slot for slot in slots if slot.role)
    decided: dict[Slot, SlotDecision] = {}
    for slot, generations in sorted(slots.items()):
        ids = [each.container.id for each in generations]
        causes = Causes(
            slot,
            tuple(generations),
            tuple(each for each in ids if each in snapshot.incumbents),
            snapshot.active.get(slot.name, _NONE) if slot.role and snapshot.active else _NONE,
            managed.get(slot, ""),
            answering,
        )
        known = before.slots.get(slot) if before else None
        if known is None or not known.holds(causes, now):
            known = decide_slot(causes, settings, now, caller)
        decided[slot] = known
    decisions = chain.from_iterable(each.decisions for each in decided.values())
    incumbents = frozenset(chain.from_iterable(each.incumbents for each in decided.values()))
    if incumbents != snapshot.incumbents:
        snapshot = replace(snapshot, incumbents=incumbents)
    return EngineDecision(
        snapshot,
        (*decisions, *sorted(others, key=order)),
        conflicts,
        slots=decided,
        begun={each.container.id: each for each in begun},
        made_at=now,
        changes_at=min((each.changes_at for each in decided.values()), default=NEVER),
    )


def _order(decision: Decision) -> tuple[object, ...]:
    return decision.slot is None, decision.slot or (), *order(decision)
