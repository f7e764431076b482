"""Tables for people, of the document of /explain."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from app.discovery.explain import DecisionDocument, ExplainDocument, place_of
from app.discovery.overview import age
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
            _plain(each["slot"]),
            _plain(place_of(each)),
            _plain(each["instance"]),
            _plain(each["version"]),
            _state(each),
            age(document["time"] - each["since"]),
        )
    return table


def explain_table(chosen: Iterable[DecisionDocument]) -> Table:
    """Every container with its decision and the reason."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("CONTAINER", overflow="fold")
    table.add_column("DECISION", no_wrap=True)
    table.add_column("WHY", overflow="fold")
    for each in chosen:
        name = each["container"] or each["container_id"][:12]
        table.add_row(_plain(name), _coloured(each["reason"]), _plain(each["detail"]))
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
