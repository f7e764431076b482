"""The decision: for every container a target, or the reason why there is none."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from app.discovery import peer, relay
from app.discovery.aliases import Answering
from app.discovery.endpoint import Caller, endpoints
from app.discovery.incumbent import NEVER, Choice, choose, start_order
from app.discovery.naming import full_name, is_open, names
from app.discovery.slots import by_slot
from app.discovery.target import one_series_each, with_target
from app.model import AliasConflict, Container, Decision, Reason, Refused, Slot, Snapshot
from app.settings import Settings

_NOBODY = Caller()
_TARGETS = frozenset({Reason.CURRENT, Reason.KEPT})


class Outcome(NamedTuple):
    """Decisions in a fixed order: by host and slot, in each slot the targets first.

    `incumbents` are the ids of each host's current containers, for the next decision to remember;
    a peer remembers its own.
    `changes_at` is the earliest time at which time alone may change a decision. `conflicts` are
    known where aliases are verified.
    """

    decisions: tuple[Decision, ...]
    incumbents: Mapping[str, frozenset[str]]
    changes_at: float
    conflicts: tuple[AliasConflict, ...] = ()


def decide(
    snapshots: Iterable[Snapshot],
    settings: Settings,
    now: float,
    caller: Caller = _NOBODY,
) -> Outcome:
    """The decision for every container of the snapshots, at `now`, as the caller wishes it."""
    decisions: list[Decision] = []
    incumbents: dict[str, frozenset[str]] = {}
    changes_at = NEVER
    conflicts: list[AliasConflict] = []
    for snapshot in snapshots:
        if snapshot.peer:
            decisions += peer.seen_by(caller, snapshot.peer, settings)
            conflicts += snapshot.peer.conflicts
            continue
        slots, others = by_slot(snapshot, settings)
        decisions += others
        answering, managed = None, {}
        if settings.aliases.verify:
            answering = Answering(
                chain(others, *slots.values()), is_partial=bool(snapshot.alias_error)
            )
            conflicts += answering.conflicts(snapshot.host)
        if settings.aliases.manage:
            managed = names(slot for slot in slots if slot.role)
        current: set[str] = set()
        for slot, generations in slots.items():
            choice = choose(
                [generation.container for generation in generations],
                snapshot.incumbents,
                now=snapshot.as_of(now),
                overlap_limit=settings.overlap_limit,
                keep_missing=settings.keep_missing,
                active=snapshot.active.get(slot.name, ()) if slot.role else (),
            )
            for generation in generations:
                name = managed.get(slot, "")
                decisions += _of_generation(
                    slot, generation, choice, settings, caller, answering, name
                )
            if choice.current and not choice.kept:
                current.add(choice.current.id)
            if snapshot.lost_at is None:
                changes_at = min(changes_at, choice.changes_at)
        incumbents[snapshot.host] = frozenset(current)
    decisions.sort(key=_order)
    return Outcome(tuple(one_series_each(decisions)), incumbents, changes_at, tuple(conflicts))


def _of_generation(
    slot: Slot,
    generation: Decision,
    choice: Choice,
    settings: Settings,
    caller: Caller,
    answering: Answering | None,
    name: str,
) -> Iterator[Decision]:
    """The decisions for one generation: one a metrics port where it is a target.

    `name` is the slot's managed name, empty where it has none.
    """
    try:
        wanted = endpoints(generation.container, generation.kind, slot, settings)
    except Refused as refused:
        yield replace(generation, reason=refused.reason, detail=refused.detail)
        return
    reason, detail = _standing(generation.container, choice, settings)
    generation = replace(generation, reason=reason, detail=detail)
    watched = (caller.generations or wanted[0].generations) == "both"
    lane = relay.NEXT if watched and generation.container is choice.candidate else ""
    if reason not in _TARGETS and not lane:
        yield generation
        return
    name = full_name(name, settings.aliases.network) if is_open(generation.container) else ""
    for endpoint in wanted:
        asked = endpoint._replace(address=caller.address or endpoint.address, lane=lane, name=name)
        try:
            yield with_target(slot, generation, asked, settings, caller, answering)
        except Refused as refused:
            yield replace(generation, reason=refused.reason, detail=refused.detail)


def _standing(container: Container, choice: Choice, settings: Settings) -> tuple[Reason, str]:
    """What a generation is to its slot, and why, as a sentence."""
    current = choice.current
    if container is current:
        if choice.kept:
            detail = "it has stopped and nothing took its place; its target is kept, and is down"
            return Reason.KEPT, detail
        told = ", and was told to stop" if container.stopping else ""
        return Reason.CURRENT, f"it is the current one of its slot{told}"
    if current is None or not container.running:
        return _standing_at_rest(container, current, settings)
    if start_order(container) < start_order(current):
        return Reason.SUPERSEDED, f"it still runs, and {current.name} has taken over"
    if choice.by_proxy:
        detail = f"it is newer than {current.name}, to which kamal-proxy sends the traffic"
        return Reason.CANDIDATE, detail
    return Reason.CANDIDATE, (
        f"it is newer than {current.name}, which stays current until it stops, "
        f"or until this one has run for {settings.overlap_limit:g} s and is not unhealthy"
    )


def _standing_at_rest(
    container: Container, current: Container | None, settings: Settings
) -> tuple[Reason, str]:
    if not container.stopped:
        return Reason.NOT_STARTED, "it was created and has not started"
    if current is None:
        kept = f"{settings.keep_missing:g} s"
        return Reason.EXPIRED, f"it has stopped, and is not kept for over {kept}"
    return Reason.STOPPED, f"it has stopped; {current.name} stands for its slot"


def _order(decision: Decision) -> tuple[object, ...]:
    slot, target, container = decision.slot, decision.target, decision.container
    instance = target.labels["instance"] if target else ""
    place = (slot is None, slot or (), target is None)
    return decision.host, *place, container.name, container.id, instance
