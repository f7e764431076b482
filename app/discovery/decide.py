"""The decision: for every container a target, or the reason why there is none."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from app.discovery.endpoint import endpoints
from app.discovery.incumbent import NEVER, Choice, choose, start_order
from app.discovery.slots import by_slot
from app.discovery.target import one_series_each, target_of
from app.model import Decision, Reason, Refused, Slot, Snapshot
from app.settings import AddressKind, Settings


class Outcome(NamedTuple):
    """Decisions in a fixed order: by host and slot, in each slot the targets first.

    `incumbents` are the ids of each host's current containers, for the next decision to remember.
    `changes_at` is the earliest time at which time alone may change a decision.
    """

    decisions: tuple[Decision, ...]
    incumbents: Mapping[str, frozenset[str]]
    changes_at: float


def decide(
    snapshots: Iterable[Snapshot],
    settings: Settings,
    now: float,
    address: AddressKind | None = None,
) -> Outcome:
    """The decision for every container of the snapshots, at `now`.

    `address` is a caller's wish to have every target's address of one kind.
    """
    decisions: list[Decision] = []
    incumbents: dict[str, frozenset[str]] = {}
    changes_at = NEVER
    for snapshot in snapshots:
        slots, others = by_slot(snapshot, settings)
        decisions += others
        current: set[str] = set()
        for slot, generations in slots.items():
            choice = choose(
                [generation.container for generation in generations],
                snapshot.incumbents,
                now=snapshot.as_of(now),
                overlap_limit=settings.overlap_limit,
                keep_missing=settings.keep_missing,
            )
            for generation in generations:
                decisions += _of_generation(slot, generation, choice, settings, address)
            if choice.current and not choice.kept:
                current.add(choice.current.id)
            if snapshot.lost_at is None:
                changes_at = min(changes_at, choice.changes_at)
        incumbents[snapshot.host] = frozenset(current)
    decisions.sort(key=_order)
    return Outcome(tuple(one_series_each(decisions)), incumbents, changes_at)


def _of_generation(
    slot: Slot,
    generation: Decision,
    choice: Choice,
    settings: Settings,
    address: AddressKind | None,
) -> Iterator[Decision]:
    """The decisions for one generation: one a metrics port where it stands for its slot."""
    try:
        wanted = endpoints(generation.container, generation.kind, slot, settings)
        _check_stands_for_slot(generation, choice, settings)
    except Refused as refused:
        yield replace(generation, reason=refused.reason, detail=refused.detail)
        return
    if choice.kept:
        detail = "it has stopped and nothing took its place; its target is kept, and is down"
        generation = replace(generation, reason=Reason.KEPT, detail=detail)
    for endpoint in wanted:
        asked = endpoint._replace(address=address or endpoint.address)
        try:
            yield replace(generation, target=target_of(slot, generation, asked, settings))
        except Refused as refused:
            yield replace(generation, reason=refused.reason, detail=refused.detail)


def _check_stands_for_slot(generation: Decision, choice: Choice, settings: Settings) -> None:
    container, current = generation.container, choice.current
    if container is current:
        return
    if current is None or not container.running:
        if not container.stopped:
            raise Refused(Reason.NOT_STARTED, "it was created and has not started")
        if current is None:
            hours = f"{settings.keep_missing:g} s"
            raise Refused(Reason.EXPIRED, f"it has stopped, and is not kept for over {hours}")
        raise Refused(Reason.STOPPED, f"it has stopped; {current.name} stands for its slot")
    if start_order(container) < start_order(current):
        raise Refused(Reason.SUPERSEDED, f"it still runs, and {current.name} has taken over")
    raise Refused(
        Reason.CANDIDATE,
        f"it is newer than {current.name}, which stays current until it stops, "
        f"or until this one has run for {settings.overlap_limit:g} s and is not unhealthy",
    )


def _order(decision: Decision) -> tuple[object, ...]:
    slot, target, container = decision.slot, decision.target, decision.container
    instance = target.labels["instance"] if target else ""
    place = (slot is None, slot or (), target is None)
    return decision.host, *place, container.name, container.id, instance
