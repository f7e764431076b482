"""Making the target of a decision, and keeping two targets out of one time series."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from app.discovery import labels, relay
from app.discovery.address import address_of, nowhere, upstream_of
from app.discovery.aliases import Answering
from app.discovery.endpoint import Caller, Endpoint
from app.model import Decision, Reason, Slot, TargetGroup
from app.settings import Settings


def with_target(
    slot: Slot,
    generation: Decision,
    endpoint: Endpoint,
    settings: Settings,
    caller: Caller,
    answering: Answering | None = None,
) -> Decision:
    """The decision with the target at that endpoint. Raises Refused where it has no address.

    `answering` is needed where aliases are to be verified.
    """
    engine = next(each for each in settings.engines if each.host == slot.host)
    is_kept = generation.reason is Reason.KEPT
    is_reached = settings.relay.address or caller.authority
    if endpoint.address == "auto" and engine.is_on_this_host and is_reached:
        # It alone misses no scrape and meets no other container: docs/continuity.md.
        endpoint = endpoint._replace(address="relay")
    kind: str
    note = ""
    upstream = None
    if endpoint.address == "relay":
        kind, address = "relay", relay.authority(settings, caller)
        if not is_kept:
            upstream = upstream_of(generation.container, endpoint, engine)
        endpoint = endpoint._replace(
            path=relay.path_of(slot, endpoint.port.number, endpoint.lane),
            scheme=settings.relay.scheme,
        )
    elif is_kept:
        kind, address = "none", nowhere(slot, endpoint.port.number)
    else:
        kind, address, note = address_of(generation, endpoint, slot, engine, answering)
    group = TargetGroup(
        targets=(address,),
        labels=labels.meta_labels(slot, generation, endpoint, kind)
        | labels.scrape_labels(endpoint)
        | labels.plain_labels(slot, endpoint),
    )
    detail = f"{generation.detail}; {note}" if note else generation.detail
    return replace(generation, detail=detail, target=group, upstream=upstream)


def one_series_each(decisions: Iterable[Decision]) -> Iterator[Decision]:
    """Refuses all but the first of the targets whose plain labels are the same."""
    holders: dict[frozenset[tuple[str, str]], str] = {}
    for decision in decisions:
        if decision.target is None:
            yield decision
            continue
        labels = decision.target.labels.items()
        series = frozenset(each for each in labels if not each[0].startswith("__"))
        if series not in holders:
            holders[series] = decision.container.name
            yield decision
        else:
            detail = (
                f"its labels are those of a target of {holders[series]} already; "
                "give it an instance of its own, with {port} in it where it has several ports"
            )
            yield replace(decision, reason=Reason.DUPLICATE, detail=detail, target=None)
