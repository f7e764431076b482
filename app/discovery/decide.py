"""The decision: for every container a target, or the reason why there is none."""

from collections.abc import Iterable, Iterator, Mapping
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
from app.discovery.slots import NOTHING, Sorting, by_slot
from app.discovery.target import one_series_each
from app.model import AliasConflict, Decision, Reason, Slot, Snapshot
from app.settings import Settings

_NOBODY = Caller()
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class EngineDecision:
    """The decisions for one engine's containers: by slot, and the others, all of a peer among them.

    `snapshot` is what they were made of, with the incumbents that were made of it: of these they
    come out the same again, from the time `made_at` until `changes_at`.
    """

    snapshot: Snapshot
    others: tuple[Decision, ...]
    conflicts: tuple[AliasConflict, ...] = ()
    slots: Mapping[Slot, SlotDecision] = field(default_factory=dict)
    sorting: Sorting = NOTHING
    made_at: float = -NEVER
    changes_at: float = NEVER

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """All of them, those by slot first."""
        by_slots = (each.decisions for each in self.slots.values())
        return tuple(chain(chain.from_iterable(by_slots), self.others))

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
        return snapshot.containers is self.snapshot.containers and self.may_hold(snapshot, now)

    def may_hold(self, snapshot: Snapshot, now: float) -> bool:
        """Whether they do as far as its containers are the same."""
        was = self.snapshot
        return (
            snapshot.peer is was.peer
            # In tuples, since these ask first whether it is the very same set.
            and (snapshot.incumbents, snapshot.active) == (was.incumbents, was.active)
            and snapshot.alias_error == was.alias_error
            and self.made_at <= snapshot.as_of(now) < self.changes_at
        )

    def unlike(self, other: "EngineDecision | None") -> Iterator[Decision]:
        """Its decisions, but for those of the slots of which the other one has the very same."""
        theirs = other.slots if other else {}
        for slot, each in self.slots.items():
            if theirs.get(slot) is not each:
                yield from each.decisions
        yield from self.others


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

    def unlike(self, other: "Outcome") -> tuple[Decision, ...]:
        """Its decisions, but for those that one of the two took over from the other."""
        pairs = ((each, other.engines.get(host)) for host, each in self.engines.items())
        differing = (each.unlike(theirs) for each, theirs in pairs if each is not theirs)
        return tuple(chain.from_iterable(differing))

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
    found = by_slot(snapshot, settings, before.sorting if before else NOTHING)
    answering, managed = None, {}
    conflicts: tuple[AliasConflict, ...] = ()
    if settings.aliases.verify:
        begun = sorted(found.begun.values(), key=lambda each: each.slot is not None)
        answering = Answering(begun, is_partial=bool(snapshot.alias_error))
        conflicts = tuple(answering.conflicts(snapshot.host))
    if settings.aliases.manage:
        managed = names(slot for slot in found.slots if slot.role)
    # Then a slot whose containers are the very same needs no second look.
    is_calm = before and before.may_hold(snapshot, now) and not answering
    decided: dict[Slot, SlotDecision] = {}
    for slot, generations in found.slots.items():
        name = managed.get(slot, "")
        known = before.slots.get(slot) if before else None
        if not (known and is_calm and known.is_of(generations, name)):
            ids = [each.container.id for each in generations]
            causes = Causes(
                slot,
                generations,
                tuple(each for each in ids if each in snapshot.incumbents),
                snapshot.active.get(slot.name, _NONE) if slot.role and snapshot.active else _NONE,
                name,
                answering,
            )
            if known is None or not known.holds(causes, now):
                known = decide_slot(causes, settings, now, caller)
        decided[slot] = known
    incumbents = frozenset(chain.from_iterable(each.incumbents for each in decided.values()))
    if incumbents != snapshot.incumbents:
        snapshot = replace(snapshot, incumbents=incumbents)
    return EngineDecision(
        snapshot,
        tuple(sorted(found.others, key=order)),
        conflicts,
        slots=decided,
        sorting=found,
        made_at=now,
        changes_at=min((each.changes_at for each in decided.values()), default=NEVER),
    )


def _order(decision: Decision) -> tuple[object, ...]:
    return decision.slot is None, decision.slot or (), *order(decision)
