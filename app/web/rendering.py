"""The HTML of the page, which is what jinja2 is for."""

from collections import Counter
from datetime import UTC, datetime
from functools import cache
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from app import __version__
from app.discovery.endpoint import Caller
from app.discovery.explain import EntryDocument, ExplainDocument, explain, place_of
from app.discovery.history import Change
from app.discovery.overview import Overview, age, overview, passing
from app.view import View

# So many of the last events are shown together; a slot's own row has all of its.
_MOST_EVENTS = 30

_template = Environment(
    loader=PackageLoader("app.web", "assets"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
).get_template("page.html")


def render(view: View, caller: Caller, now: float, job: str, **filters: str) -> str:
    """The page for that caller, less what does not pass the filters `q`, `host` and `reason`."""
    decisions = view.decisions_for(caller)
    document = explain(view.snapshots, decisions, now, view.conflicts, view.history)
    whole = overview(document)
    host, reason = filters["host"], filters["reason"]
    shown = passing(whole, text=filters["q"], host=host, reason=reason)
    return _template.render(
        whole=whole,
        shown=shown,
        counts=_counts(whole),
        document=document,
        events=_events(document, shown if any(filters.values()) else None)[:_MOST_EVENTS],
        filters=filters,
        hosts=sorted({each["host"] for each in document["engines"]} | {host} - {""}),
        reasons=sorted({each["reason"] for each in document["decisions"]} | {reason} - {""}),
        link=cache(lambda **changed: _query(filters | changed)),
        job=job,
        version=__version__,
        age=lambda since: age(now - since),
        utc=cache(_utc),
        kinds={"ok": "good", "deploying": "busy"},
        place_of=place_of,
        troubles=frozenset(change for change in Change if change.is_trouble),
    )


def _utc(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _counts(whole: Overview) -> dict[str, int]:
    """How many slots are in which status, the good ones last."""
    found = Counter((row.is_well, row.status) for row in whole.rows)
    return {status: count for (_, status), count in sorted(found.items())}


def _events(document: ExplainDocument, shown: Overview | None) -> list[EntryDocument]:
    """What happened to the slots that are shown; everything where all are."""
    if shown is None:
        return document["history"]
    places = {(row.host, row.slot) for row in shown.rows}
    return [each for each in document["history"] if (each["host"], each["slot"]) in places]


def _query(filters: dict[str, str]) -> str:
    return "?" + urlencode({name: text for name, text in filters.items() if text})
