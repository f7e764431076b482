"""Making the target of a decision, and keeping two targets out of one time series."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from app.discovery import labels
from app.discovery.address import address_of, nowhere
from app.discovery.endpoint import Endpoint
from app.model import Decision, Reason, Slot, TargetGroup
from app.settings import Settings


def target_of(
    slot: Slot, generation: Decision, endpoint: Endpoint, settings: Settings
) -> TargetGroup:
    """The target of the generation that stands for its slot. Raises Refused without an address."""
    if generation.reason is Reason.KEPT:
        kind, address = "none", nowhere(slot, endpoint.port.number)
    else:
        engine = next(each for each in settings.engines if each.host == slot.host)
        kind, address = address_of(generation.container, endpoint, slot, engine)
    return TargetGroup(
        targets=(address,),
        labels=labels.meta_labels(slot, generation, endpoint, kind)
        | labels.scrape_labels(endpoint)
        | labels.plain_labels(slot, endpoint),
    )


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
