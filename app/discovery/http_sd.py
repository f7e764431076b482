"""Decisions -> target groups -> the canonical bytes of an HTTP SD answer.

Format: https://prometheus.io/docs/prometheus/latest/http_sd/
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from app.model import Decision, Slot, TargetGroup

FILTERS = ("service", "role", "destination", "host")
Filters = Mapping[str, frozenset[str]]


class Fragment(NamedTuple):
    """One target group, rendered once, with what the filters look at."""

    slot: Slot
    json: bytes


def fragments(decisions: Iterable[Decision]) -> tuple[Fragment, ...]:
    """The rendered groups of all decisions that have one, in their order."""
    return tuple(
        Fragment(decision.slot, _render(decision.target))
        for decision in decisions
        if decision.slot and decision.target
    )


def body(rendered: Iterable[Fragment], filters: Filters) -> bytes:
    """The answer: the same fragments and filters give the same bytes."""
    passing = (fragment.json for fragment in rendered if passes(fragment.slot, filters))
    return b"[" + b",\n".join(passing) + b"]\n"


def passes(slot: Slot, filters: Filters) -> bool:
    """Whether each filter has the slot's value among its own; one without any lets all pass."""
    return all(getattr(slot, name) in values for name, values in filters.items() if values)


def etag(content: bytes) -> str:
    """A strong validator: equal for equal bytes alone (RFC 9110, 8.8.3)."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _render(group: TargetGroup) -> bytes:
    document = {"targets": group.targets, "labels": group.labels}
    text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode()
