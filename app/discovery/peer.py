"""What another kamal-sd says in its /explain -> snapshots that carry its decisions.

A peer tells of its own engines alone, so what it tells went through two kamal-sd's at the most.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from urllib.parse import urlsplit

from app import grammar
from app.discovery import relay
from app.discovery.endpoint import Caller
from app.discovery.explain import (
    AliasConflictDocument,
    DecisionDocument,
    EngineDocument,
    ExplainDocument,
)
from app.model import (
    AliasConflict,
    Container,
    Decision,
    Health,
    Kind,
    Peer,
    Reason,
    Slot,
    Snapshot,
    State,
    TargetGroup,
    Upstream,
)
from app.settings import Settings

_SCHEME = "__scheme__"
_END_OF_TIME = 1e11


class PeerError(Exception):
    """The peer gave no answer that can be used. The message is for people."""


def unheard(url: str, error: str = "") -> Snapshot:
    """What stands for a peer that was never heard: nobody knows its hosts yet."""
    return Snapshot(urlsplit(url).netloc, error=error, peer=Peer(url))


def lost(before: Iterable[Snapshot], error: str, heard_at: float) -> tuple[Snapshot, ...]:
    """The same, of a peer that was last heard at that time."""
    return tuple(
        replace(each, lost_at=each.lost_at or heard_at, error=error)
        if each.listed_at is not None
        else replace(each, error=error)
        for each in before
    )


def snapshots(
    document: ExplainDocument, url: str, before: Iterable[Snapshot], now: float, *, is_relay: bool
) -> tuple[Snapshot, ...]:
    """A snapshot of each engine of the peer at `url`, in this machine's time.

    What was known `before` of an engine is kept where the peer itself has no list of it, as after a
    start of its own. Raises ValueError where the document cannot be a peer's.
    """
    times = [document["time"], *(each["since"] for each in document["decisions"])]
    times += [each["list_age"] or 0.0 for each in document["engines"]]
    # JSON, as it is read here, has infinite numbers, too, and those that are none.
    if not all(abs(each) < _END_OF_TIME for each in times):
        raise ValueError("it tells of a time that cannot be")
    known = {each.host: each for each in before if each.listed_at is not None}
    decisions: dict[str, list[Decision]] = {}
    for each in document["decisions"]:
        # In whole seconds: what a way over the network takes shall change nothing.
        decision = _decision(each, round(now - document["time"]))
        decisions.setdefault(decision.host, []).append(decision)
    if not document["engines"]:
        raise ValueError("it watches no engine itself; list its peers here in its place")
    found: list[Snapshot] = []
    for engine in document["engines"]:
        host = engine["host"]
        if not host:
            raise ValueError(
                "its engine has no host name, so its targets cannot be told from others'; "
                "set host for the engine in its settings"
            )
        if engine["list_age"] is None and host in known:
            found += lost([known[host]], engine["error"] or "not listed yet by its kamal-sd", now)
            continue
        decided = tuple(decisions.get(host, ()))
        conflicts = [each for each in document["alias_conflicts"] if each["host"] == host]
        peer = Peer(url, decided, _conflicts(conflicts, decided), is_relay=is_relay)
        found.append(_snapshot(engine, peer, now))
    return tuple(found)


def check_hosts(told: Iterable[Snapshot], others: Collection[str]) -> None:
    """Raises ValueError where a host that a peer tells of is another's."""
    for snapshot in told:
        if snapshot.host in others:
            raise ValueError(
                f"its host {snapshot.host} is known from elsewhere already; give each host "
                "one kamal-sd, and each engine a host name of its own"
            )


def seen_by(caller: Caller, peer: Peer, settings: Settings) -> Iterator[Decision]:
    """A peer's decisions as this caller reaches their targets."""
    authority = relay.authority(settings, caller)
    for decision in peer.decisions:
        if peer.is_relay and decision.target and relay.is_relayed(decision.target):
            scheme = settings.relay.scheme
            yield _chained(decision, decision.target, peer, f"{scheme}://{authority}")
        else:
            yield decision


def _chained(decision: Decision, target: TargetGroup, peer: Peer, here: str) -> Decision:
    """The decision with a target of the relay `here`, behind which is the peer's."""
    url, own = urlsplit(peer.url), urlsplit(here)
    return replace(
        decision,
        target=TargetGroup((own.netloc,), dict(target.labels) | {_SCHEME: own.scheme}),
        upstream=Upstream(
            authority=url.netloc,
            scheme=url.scheme,
            path=url.path + target.labels[relay.PATH],
            is_peer=True,
        ),
    )


def _snapshot(engine: EngineDocument, peer: Peer, now: float) -> Snapshot:
    age = engine["list_age"]
    listed_at = None if age is None else now - age
    return Snapshot(
        engine["host"],
        containers=MappingProxyType({each.container.id: each.container for each in peer.decisions}),
        listed_at=listed_at,
        lost_at=None if engine["up"] else listed_at,
        error=engine["error"],
        alias_error=engine["alias_error"],
        events=engine["events"],
        reconnects=engine["reconnects"],
        peer=peer,
    )


def _decision(document: DecisionDocument, ahead: float) -> Decision:
    """The decision, whose times were `ahead` s behind this machine's."""
    labels = document["labels"]
    if document["targets"] and "instance" not in labels:
        raise ValueError(f"it serves a target of {document['container']} without an instance")
    if document["targets"] and labels.get("host", "") != document["host"]:
        raise ValueError(f"it serves a target of {document['container']} under another host")
    if document["targets"]:
        _check_target(document)
    slot = Slot(document["host"], document["service"], document["role"], document["destination"])
    return Decision(
        host=document["host"],
        container=Container(
            id=document["container_id"],
            name=document["container"],
            image=labels.get("__meta_docker_container_image", ""),
            state=State(document["state"]),
            since=document["since"] + ahead,
            health=Health(document["health"]),
        ),
        kind=Kind(document["kind"]),
        reason=Reason(document["reason"]),
        detail=document["detail"],
        slot=slot if document["slot"] else None,
        version=document["version"],
        target=TargetGroup(tuple(document["targets"]), labels) if document["targets"] else None,
        upstream=_upstream(document["upstream"], labels),
    )


def _check_target(document: DecisionDocument) -> None:
    """Prometheus refuses all targets where it cannot read one, and the relay needs its path."""
    try:
        _check_labels(document["labels"])
        for address in document["targets"]:
            grammar.authority(address)
    except ValueError as error:
        place = f"a target of {document['container']}"
        raise ValueError(f"it serves {place} that cannot be one: {error}") from None


def _check_labels(labels: Mapping[str, str]) -> None:
    for name in labels:
        grammar.label_name(name)
    is_relayed = labels.get(relay.ADDRESS) == "relay"
    for name in (relay.ADDRESS, relay.PATH) if is_relayed else (relay.ADDRESS,):
        if name not in labels:
            raise ValueError(f"{name} is missing")


def _upstream(authority: str, labels: Mapping[str, str]) -> Upstream | None:
    """What the peer's own relay asks. Nobody asks it from here; it is for people to read."""
    return Upstream(authority, "http", labels.get(relay.PATH, "")) if authority else None


def _conflicts(
    documents: Iterable[AliasConflictDocument], decisions: Sequence[Decision]
) -> tuple[AliasConflict, ...]:
    by_name = {each.container.name: each for each in decisions}
    found = []
    for each in documents:
        answering = tuple(by_name[name] for name in each["containers"] if name in by_name)
        if answering:
            found.append(AliasConflict(each["host"], each["network"], each["alias"], answering))
    return tuple(found)
