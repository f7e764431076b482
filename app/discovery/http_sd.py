"""Decisions -> target groups -> the canonical bytes of an HTTP SD answer.

Format: https://prometheus.io/docs/prometheus/latest/http_sd/
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

from app.discovery import gzipped
from app.model import Decision, Slot, TargetGroup

FILTERS = ("service", "role", "destination", "host")
Filters = Mapping[str, frozenset[str]]

_BEGIN, _BETWEEN, _END = b"[", b",\n", b"]\n"


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


class Page:
    """Fragments that are served together again and again, and so are put together once."""

    def __init__(self, rendered: tuple[Fragment, ...]) -> None:
        self.fragments = rendered

    @cached_property
    def json(self) -> bytes:
        """The groups, without the brackets of a list."""
        return _BETWEEN.join(fragment.json for fragment in self.fragments)

    @cached_property
    def digest(self) -> bytes:
        """It is the same for the same JSON alone."""
        return hashlib.sha256(self.json).digest()

    @cached_property
    def gzip_piece(self) -> gzipped.Piece:
        """The JSON, compressed."""
        return gzipped.piece(self.json)


class Answer:
    """The bytes of one answer, each made when it is first asked for.

    The same pages give the same bytes.
    """

    def __init__(self, pages: Iterable[Page]) -> None:
        self._pages = [page for page in pages if page.fragments]
        # A digest of digests, so that a change costs those of the pages that it changes.
        self.etag = etag(b"".join(page.digest for page in self._pages))

    @cached_property
    def body(self) -> bytes:
        """The JSON."""
        return _BEGIN + _BETWEEN.join(page.json for page in self._pages) + _END

    @cached_property
    def gzipped(self) -> bytes:
        """The same, compressed."""
        begin, between, end = map(gzipped.piece, (_BEGIN, _BETWEEN, _END))
        pieces = [each for page in self._pages for each in (between, page.gzip_piece)]
        return gzipped.whole([begin, *pieces[1:], end])


def answer(pages: Iterable[Page], filters: Filters) -> Answer:
    """The answer of those of the pages' fragments that pass the filters."""
    if not any(filters.values()):
        return Answer(pages)
    rendered = (fragment for page in pages for fragment in page.fragments)
    return Answer([Page(tuple(each for each in rendered if passes(each.slot, filters)))])


def body(rendered: Iterable[Fragment], filters: Filters) -> bytes:
    """The answer's body alone."""
    return answer([Page(tuple(rendered))], filters).body


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
