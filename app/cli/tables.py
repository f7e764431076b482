"""Tables for people, of the document of /explain."""

from collections.abc import Iterable, Iterator

from rich.table import Table
from rich.text import Text

from app.discovery.explain import DecisionDocument, ExplainDocument, place_of, slot_of
from app.discovery.overview import Row, age
from app.model import FAULTS, Reason

_GOOD = frozenset({Reason.CURRENT})
_BAD = FAULTS | {Reason.KEPT}


def targets_table(document: ExplainDocument, chosen: Iterable[DecisionDocument]) -> Table:
    """The targets, one a line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("SLOT", "TARGET", "INSTANCE", "VERSION", "STATE", "FOR"):
        table.add_column(heading, overflow="fold")
    for each in chosen:
        table.add_row(
            _plain(slot_of(document, each["host"], each["slot"])),
            _plain(place_of(each)),
            _plain(each["instance"]),
            _plain(each["version"]),
            _state(each),
            age(document["time"] - each["since"]),
        )
    return table


def status_table(document: ExplainDocument, rows: Iterable[Row]) -> Table:
    """The slots, and what comes after those that are being deployed."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("SLOT", "IS", "VERSION", "FOR", "LAST CHANGE"):
        table.add_column(heading, overflow="fold")
    now = document["time"]
    for row in rows:
        first, last = row.first, row.history[:1]
        table.add_row(
            _plain(slot_of(document, row.host, row.slot)),
            Text(row.status, style="green" if row.is_well else "red"),
            _plain(first["version"]),
            age(now - first["since"]),
            _plain(f"{last[0]['detail']}, {age(now - last[0]['time'])} ago" if last else ""),
        )
        for each in row.candidates:
            table.add_row(
                _plain(f"  next: {each['container']}"),
                _state(each),
                _plain(each["version"]),
                age(now - each["since"]),
                _plain(each["detail"]),
            )
    return table


def engine_lines(document: ExplainDocument) -> Iterator[Text]:
    """What there is to know of each engine, one a line, and of conflicts."""
    for engine in document["engines"]:
        name = engine["host"] or "the engine"
        by = f" by {engine['peer']}" if engine["peer"] else ""
        listed = engine["list_age"]
        ago = "never listed" if listed is None else f"listed {age(listed)} ago"
        words = f"{name}{by}: {engine['containers']} containers, {ago}"
        if engine["up"]:
            yield Text(words)
        else:
            yield Text(f"{words}; not heard: {engine['error']}", style="red")
    for conflict in document["alias_conflicts"]:
        yield Text(f"alias conflict: {conflict['detail']}", style="red")


def explain_table(document: ExplainDocument, chosen: Iterable[DecisionDocument]) -> Table:
    """Every container with its decision and the reason."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("CONTAINER", overflow="fold")
    table.add_column("DECISION", no_wrap=True)
    table.add_column("WHY", overflow="fold")
    for each in chosen:
        name = each["container"] or each["container_id"][:12]
        shown = slot_of(document, each["host"], name)
        table.add_row(_plain(shown), _coloured(each["reason"]), _plain(each["detail"]))
    return table


def _state(decision: DecisionDocument) -> Text:
    health = decision["health"]
    return Text(
        decision["state"] if health == "none" else f"{decision['state']}, {health}",
        style="red" if decision["state"] != "running" or health == "unhealthy" else "green",
    )


def _coloured(reason: str) -> Text:
    return Text(reason, style="green" if reason in _GOOD else "red" if reason in _BAD else "dim")


def _plain(text: str) -> Text:
    # Not a str: rich would read [brackets] in it as its markup.
    return Text(text)
