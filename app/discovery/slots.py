"""Sorting an engine's containers into slots."""

from collections.abc import Mapping
from types import MappingProxyType

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


def by_slot(
    snapshot: Snapshot, settings: Settings, known: Mapping[str, Decision] = MappingProxyType({})
) -> tuple[dict[Slot, list[Decision]], list[Decision]]:
    """A beginning of a decision for each generation of each slot, and all others' decisions.

    `known` has what came out for the engine's containers under the same settings before, by their
    ids; it comes out again for those that are the same.
    """
    slots: dict[Slot, list[Decision]] = {}
    others = []
    for container in snapshot.containers.values():
        begun = known.get(container.id)
        if begun is None or begun.container is not container:
            begun = _begun(snapshot.host, container, settings)
        if begun.slot:
            slots.setdefault(begun.slot, []).append(begun)
        else:
            others.append(begun)
    return slots, others


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
