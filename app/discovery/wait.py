"""How far a version has come: the document behind /wait and `kamal-sd wait`."""

from collections.abc import Iterable, Mapping

from typing_extensions import TypedDict  # on Python 3.11 pydantic reads no other

from app.discovery.http_sd import Filters, passes
from app.discovery.labels import scrub
from app.model import Decision, Reason, Slot


class SlotDocument(TypedDict):
    """One slot. `version` is what is current there, empty where nothing runs."""

    host: str
    slot: str
    version: str
    current: bool


class WaitDocument(TypedDict):
    """Whether the version is current in all slots. `detail` is a sentence for people."""

    version: str
    current: bool
    detail: str
    slots: list[SlotDocument]


def progress(
    standing: Mapping[Slot, Decision],
    filters: Filters,
    version: str,
    *,
    unlisted: Iterable[str] = (),
    is_awaited: bool = True,
    refused: Iterable[Slot] = (),
) -> WaitDocument:
    """How far the version has come in the slots that the filters let pass.

    `standing` has the decision that stands for each slot. A role that is asked for by its name, and
    that no slot has, lacks the version too, and so does a `refused` slot, whatever runs there. What
    slots an `unlisted` host has is not known yet; unless it `is_awaited`, it is left out.
    """
    passing = {slot: each for slot, each in standing.items() if passes(slot, filters)}
    known = passing.keys() | {slot for slot in refused if passes(slot, filters)}
    slots = [_slot(slot, passing.get(slot), version) for slot in sorted(known)]
    absent = sorted(filters.get("role", frozenset()) - {slot.role for slot in known})
    lacking = [slot["slot"] for slot in slots if not slot["current"]] + absent
    unknown = [host for host in unlisted if host in filters.get("host", (host,))]
    hosts = ", ".join(host or "the engine" for host in unknown)
    if lacking:
        detail = f"{version} is not current in {', '.join(lacking)}"
    elif unknown and is_awaited:
        detail = f"what runs is not known yet of {hosts}"
    elif slots:
        detail = f"{version} is current in {', '.join(slot['slot'] for slot in slots)}"
        detail += f"; what runs is not known of {hosts}" if unknown else ""
    else:
        wanted = ", ".join(f"{name} {'|'.join(sorted(of))}" for name, of in filters.items())
        detail = f"no slot with a metrics port is known of {wanted}"
    return {
        "version": scrub(version),
        "current": bool(slots) and not lacking and not (unknown and is_awaited),
        "detail": scrub(detail),
        "slots": slots,
    }


def _slot(slot: Slot, decision: Decision | None, version: str) -> SlotDocument:
    current = decision.version if decision and decision.reason is Reason.CURRENT else None
    return {
        "host": slot.host,
        "slot": slot.name,
        "version": scrub(current or ""),
        "current": current == version,
    }
