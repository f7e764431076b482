"""Sorting an engine's containers into slots."""

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
    snapshot: Snapshot, settings: Settings
) -> tuple[dict[Slot, list[Decision]], list[Decision]]:
    """A beginning of a decision for each generation of each slot, and all others' decisions."""
    slots: dict[Slot, list[Decision]] = {}
    others = []
    for container in snapshot.containers.values():
        kind = kamal.kind_of(container)
        try:
            slot = _slot_of(snapshot.host, container, kind, settings)
        except Refused as refused:
            reason, detail = refused.reason, refused.detail
            others.append(Decision(snapshot.host, container, kind, reason, detail))
        else:
            generation = Decision(
                host=slot.host,
                container=container,
                kind=kind,
                reason=Reason.CURRENT,
                detail="",
                slot=slot,
                version=kamal.version_of(container, slot),
            )
            slots.setdefault(slot, []).append(generation)
    return slots, others


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
