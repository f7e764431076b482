"""Snapshots and decisions as the document behind /explain, the page and the command line."""

from collections.abc import Iterable, Sequence

from typing_extensions import TypedDict  # on Python 3.11 pydantic reads no other

from app.discovery.aliases import advice, named
from app.discovery.history import Entry
from app.discovery.labels import scrub
from app.model import AliasConflict, Decision, Snapshot


class EngineDocument(TypedDict):
    """An engine's state. Ages and times are in seconds; null where there is none yet.

    `peer` is the address of the other kamal-sd that watches it, empty where this one does.
    """

    host: str
    peer: str
    up: bool
    error: str
    alias_error: str
    containers: int
    list_age: float | None
    events: int
    reconnects: int


class DecisionDocument(TypedDict):
    """One decision. `targets` is empty where there is none, and `reason` says why.

    `upstream` is the container's own address where the target is the relay's, else empty. `labels`
    are the target's.
    """

    host: str
    slot: str
    kind: str
    service: str
    role: str
    destination: str
    version: str
    container: str
    container_id: str
    state: str
    health: str
    since: float
    reason: str
    detail: str
    targets: list[str]
    upstream: str
    instance: str
    labels: dict[str, str]


class AliasConflictDocument(TypedDict):
    """A network alias of a role to which others answer, too. `detail` is a sentence for people."""

    host: str
    network: str
    alias: str
    containers: list[str]
    detail: str


class EntryDocument(TypedDict):
    """Something that happened to a slot, or to an engine where `slot` is empty.

    `overlap` is for how many seconds both generations ran, null where that is not known.
    """

    time: float
    host: str
    slot: str
    change: str
    version: str
    detail: str
    overlap: float | None


class ExplainDocument(TypedDict):
    """The whole document, of the moment `time`. Of the `history` the last comes first."""

    time: float
    engines: list[EngineDocument]
    alias_conflicts: list[AliasConflictDocument]
    decisions: list[DecisionDocument]
    history: list[EntryDocument]


def explain(
    snapshots: Iterable[Snapshot],
    decisions: Iterable[Decision],
    now: float,
    conflicts: Iterable[AliasConflict] = (),
    history: Sequence[Entry] = (),
) -> ExplainDocument:
    """Everything that is known and decided, at `now`."""
    return {
        "time": round(now, 3),
        "engines": [_engine(snapshot, now) for snapshot in snapshots],
        "alias_conflicts": [_conflict(conflict) for conflict in conflicts],
        "decisions": [_decision(decision) for decision in decisions],
        "history": [_entry(entry) for entry in history[::-1]],
    }


def own(document: ExplainDocument) -> ExplainDocument:
    """The part of the document that no peer told."""
    engines = [each for each in document["engines"] if not each["peer"]]
    hosts = {each["host"] for each in engines}
    conflicts = [each for each in document["alias_conflicts"] if each["host"] in hosts]
    decisions = [each for each in document["decisions"] if each["host"] in hosts]
    return {
        "time": document["time"],
        "engines": engines,
        "alias_conflicts": conflicts,
        "decisions": decisions,
        "history": [each for each in document["history"] if each["host"] in hosts],
    }


def slot_of(document: ExplainDocument, host: str, slot: str) -> str:
    """A slot's name for people, with its host where the document is of several."""
    return f"{host}/{slot}" if slot and host and len(document["engines"]) > 1 else slot


def place_of(decision: DecisionDocument) -> str:
    """Where the metrics are, for a person: the relay's own address would be the same for all."""
    if decision["upstream"]:
        return f"{decision['upstream']} by relay"
    return " ".join(decision["targets"])


def _engine(snapshot: Snapshot, now: float) -> EngineDocument:
    listed_at = snapshot.listed_at
    return {
        "host": snapshot.host,
        "peer": snapshot.peer.url if snapshot.peer else "",
        "up": snapshot.up,
        "error": scrub(snapshot.error),
        "alias_error": scrub(snapshot.alias_error),
        "containers": len(snapshot.containers),
        "list_age": None if listed_at is None else round(max(0.0, now - listed_at), 3),
        "events": snapshot.events,
        "reconnects": snapshot.reconnects,
    }


def _entry(entry: Entry) -> EntryDocument:
    return {
        "time": round(entry.at, 3),
        "host": entry.host,
        "slot": entry.slot.name if entry.slot else "",
        "change": entry.change,
        "version": scrub(entry.version),
        "detail": scrub(entry.detail),
        "overlap": None if entry.overlap is None else round(entry.overlap, 3),
    }


def _conflict(conflict: AliasConflict) -> AliasConflictDocument:
    return {
        "host": conflict.host,
        "network": scrub(conflict.network),
        "alias": scrub(conflict.alias),
        "containers": [scrub(each.container.name) for each in conflict.answering],
        "detail": scrub(
            f"{conflict.alias} on the network {conflict.network} is answered by "
            f"{named(conflict.answering)}; {advice(conflict.strangers)}"
        ),
    }


def _decision(decision: Decision) -> DecisionDocument:
    slot, target, container = decision.slot, decision.target, decision.container
    return {
        "host": decision.host,
        "slot": slot.name if slot else "",
        "kind": decision.kind,
        "service": slot.service if slot else "",
        "role": slot.role if slot else "",
        "destination": slot.destination if slot else "",
        "version": scrub(decision.version),
        "container": scrub(container.name),
        "container_id": scrub(container.id),
        "state": container.state,
        "health": container.health,
        "since": round(container.since, 3),
        "reason": decision.reason,
        "detail": scrub(decision.detail),
        "targets": list(target.targets) if target else [],
        "upstream": decision.upstream.authority if decision.upstream else "",
        "instance": target.labels["instance"] if target else "",
        "labels": dict(target.labels) if target else {},
    }
