"""Sorting an engine's containers into slots."""

from collections.abc import Mapping
from typing import NamedTuple

from app.discovery import kamal, labels
from app.model import Container, Decision, Kind, Reason, Refused, Slot, Snapshot
from app.settings import Settings

_WITHOUT_SLOT = {
    Kind.FOREIGN: (Reason.FOREIGN, "it has no label service: Kamal did not start it"),
    Kind.ONE_OFF: (
        Reason.ONE_OFF,
        "it has a label service and no role: a one-off, or started by hand",
    ),
}
_NOT_ENABLED = {
    Kind.ACCESSORY: "it is an accessory; set accessories: true to have these as targets",
    Kind.PROXY: "it is kamal-proxy; set proxy.metrics_port to the port of its own metrics",
}


class Sorting(NamedTuple):
    """An engine's containers in their slots, in the order of these: a beginning of a decision each.

    `others` are the decisions for those that are in none, and `begun` has all of them by their ids.
    """

    slots: Mapping[Slot, tuple[Decision, ...]]
    others: tuple[Decision, ...]
    begun: Mapping[str, Decision]


NOTHING = Sorting({}, (), {})


def by_slot(snapshot: Snapshot, settings: Settings, before: Sorting = NOTHING) -> Sorting:
    """The engine's containers, sorted.

    `before` is what came out of it under the same settings. Of a slot whose containers are the same
    the very same comes out again.
    """
    begun: dict[str, Decision] = {}
    for container in snapshot.containers.values():
        each = before.begun.get(container.id)
        if each is None or each.container is not container:
            each = _begun(snapshot.host, container, settings)
        begun[container.id] = each
    changed = {each.slot for key, each in begun.items() if before.begun.get(key) is not each}
    changed |= {each.slot for key, each in before.begun.items() if key not in begun}
    found: dict[Slot, list[Decision]] = {}
    for each in begun.values():
        if each.slot and each.slot in changed:
            found.setdefault(each.slot, []).append(each)
    kept = ((slot, of) for slot, of in before.slots.items() if slot not in changed)
    slots = dict(sorted([*kept, *((slot, tuple(of)) for slot, of in found.items())]))
    return Sorting(slots, tuple(each for each in begun.values() if not each.slot), begun)


def _begun(host: str, container: Container, settings: Settings) -> Decision:
    kind = kamal.kind_of(container)
    try:
        slot = _slot_of(host, container, kind, settings)
    except Refused as refused:
        return Decision(host, container, kind, refused.reason, refused.detail)
    return Decision(
        host=host,
        container=container,
        kind=kind,
        reason=Reason.CURRENT,
        detail="",
        slot=slot,
        version=kamal.version_of(container, slot),
    )


def _slot_of(host: str, container: Container, kind: Kind, settings: Settings) -> Slot:
    if container.fault:
        raise Refused(Reason.UNREADABLE, f"the engine's entry cannot be read: {container.fault}")
    if kind in _WITHOUT_SLOT:
        raise Refused(*_WITHOUT_SLOT[kind])
    enabled = {Kind.ACCESSORY: settings.accessories, Kind.PROXY: settings.proxy.metrics_port}
    if not enabled.get(kind, True):
        raise Refused(Reason.NOT_ENABLED, _NOT_ENABLED[kind])
    slot = kamal.slot_of(host, container, kind)
    labels.check_slot(slot)
    return slot
