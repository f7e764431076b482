"""The decision for one slot: which of its generations is current, and what becomes of each."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from app.discovery import relay
from app.discovery.aliases import Answering
from app.discovery.endpoint import Caller, endpoints
from app.discovery.http_sd import Fragment, fragments
from app.discovery.incumbent import Choice, choose, start_order
from app.discovery.naming import full_name, is_open
from app.discovery.target import one_series_each, with_target
from app.model import Container, Decision, Reason, Refused, Slot
from app.settings import Settings

_TARGETS = frozenset({Reason.CURRENT, Reason.KEPT})


class Causes(NamedTuple):
    """What a slot's decisions are made of, beside the settings, the caller and the time.

    `incumbents` are those of its containers' ids that were current before, and `active` the short
    ids of which kamal-proxy says so. `name` is its managed name, empty where it has none.
    `answering` is there where aliases are verified.
    """

    slot: Slot
    generations: tuple[Decision, ...]
    incumbents: tuple[str, ...]
    active: frozenset[str]
    name: str
    answering: Answering | None


@dataclass(frozen=True)
class SlotDecision:
    """The decisions for a slot's containers, the targets first.

    `causes` are what they were made of, with the incumbent that was made of it: of these they come
    out the same again, from the time `made_at` until `changes_at`.
    """

    causes: Causes
    made_at: float
    changes_at: float
    decisions: tuple[Decision, ...]

    @property
    def incumbents(self) -> tuple[str, ...]:
        """The id of the current container, if one runs."""
        return self.causes.incumbents

    @cached_property
    def fragments(self) -> tuple[Fragment, ...]:
        """The rendered target groups."""
        return fragments(self.decisions)

    def is_of(self, generations: tuple[Decision, ...], name: str) -> bool:
        """Whether they were made of the very same generations, with that managed name."""
        return self.causes.generations is generations and self.causes.name == name

    def holds(self, causes: Causes, now: float) -> bool:
        """Whether they come out of these causes at that time."""
        return self.made_at <= now < self.changes_at and causes == self.causes


def decide_slot(causes: Causes, settings: Settings, now: float, caller: Caller) -> SlotDecision:
    """The decisions for one slot at `now`, as the caller wishes them."""
    choice = choose(
        [generation.container for generation in causes.generations],
        causes.incumbents,
        now=now,
        overlap_limit=settings.overlap_limit,
        keep_missing=settings.keep_missing,
        active=causes.active,
    )
    decisions = [
        decision
        for generation in causes.generations
        for decision in _of_generation(generation, choice, causes, settings, caller)
    ]
    # No other slot has the same values, so two targets with one series are of one slot.
    decisions = list(one_series_each(sorted(decisions, key=order)))
    incumbents = (choice.current.id,) if choice.current and not choice.kept else ()
    causes = causes._replace(incumbents=incumbents)
    return SlotDecision(causes, now, choice.changes_at, tuple(decisions))


def order(decision: Decision) -> tuple[object, ...]:
    """What the decisions of one slot, or of those in none, are sorted by."""
    target, container = decision.target, decision.container
    instance = target.labels["instance"] if target else ""
    return target is None, container.name, container.id, instance


def _of_generation(
    generation: Decision, choice: Choice, causes: Causes, settings: Settings, caller: Caller
) -> Iterator[Decision]:
    """The decisions for one generation: one a metrics port where it is a target."""
    slot, name = causes.slot, ""
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
    if is_open(generation.container):
        name = full_name(causes.name, settings.aliases.network)
    for endpoint in wanted:
        asked = endpoint._replace(address=caller.address or endpoint.address, lane=lane, name=name)
        try:
            yield with_target(slot, generation, asked, settings, caller, causes.answering)
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
