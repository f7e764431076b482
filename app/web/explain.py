"""GET /explain: every container and its decision, as JSON or as a table.

What time changes of it comes first, and is small. The rest is made once for all who ask, as long as
the decisions are the same.
"""

import json
from collections.abc import Iterable

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.discovery.endpoint import Caller
from app.discovery.explain import EngineDocument, ExplainDocument, explain, own, place_of, slot_of
from app.settings import AddressKind
from app.state import State
from app.web.parameters import (
    RETRY_AFTER,
    TEXT,
    authority_of,
    refuse_unknown,
    unlisted_header,
    wants_text,
)
from app.web.shared import Parts, Workshop

_PARAMETERS = ("address", "peers")
_PASSING = ("time", "engines")
_LASTING = ("alias_conflicts", "decisions", "history")


def router(state: State, workshop: Workshop) -> APIRouter:
    """The route, over this state."""
    routes = APIRouter(tags=["discovery"])

    @routes.get(
        "/explain",
        response_model=ExplainDocument,
        responses={
            200: {
                "description": "The document, or a table for `Accept: text/plain`.",
                "content": TEXT,
            },
            400: {"description": "A parameter is unknown or wrong; the text says which."},
            503: {"description": "Too much is asked for at once.", "headers": RETRY_AFTER},
        },
    )
    async def explain_all(
        request: Request, address: AddressKind | None = None, peers: bool = True
    ) -> Response:
        """Every container that the engines show, and why it is a target or is none.

        With `address`, as `/targets` has them then; without `peers`, of this server's own engines.
        """
        if refused := refuse_unknown(request, _PARAMETERS):
            return refused
        view = state.view
        caller = view.less_what_changes_nothing(Caller(address, authority=authority_of(request)))
        passing = explain(view.snapshots, (), state.now())
        is_text = wants_text(request)

        def lasting() -> bytes:
            decisions = view.decisions_for(caller)
            document = explain(view.snapshots, decisions, 0, view.conflicts, view.history)
            if not peers:
                document = own(document)
            return (table(document) if is_text else _json(document, _LASTING)[1:] + "\n").encode()

        rest = await workshop.made(("explain", caller, peers, is_text), view.generation, lasting)
        if not peers:
            passing = own(passing)
        first = engine_lines(passing) if is_text else _json(passing, _PASSING)[:-2] + ","
        media_type = "text/plain" if is_text else "application/json"
        return Parts([first.encode(), rest], media_type, unlisted_header(view.unlisted))

    return routes


def _json(document: ExplainDocument, keys: Iterable[str]) -> str:
    # For a person with curl as well as for a program.
    part = {key: each for key, each in document.items() if key in keys}
    return json.dumps(part, ensure_ascii=False, indent=1)


def engine_lines(document: ExplainDocument) -> str:
    """A line for each engine, which stand above the table."""
    return "".join(f"{_engine_line(each)}\n" for each in document["engines"])


def table(document: ExplainDocument) -> str:
    """The decisions as aligned columns, after the conflicts of aliases."""
    rows = [("CONTAINER", "SLOT", "VERSION", "STATE", "REASON", "TARGET")]
    rows += [
        (
            each["container"] or each["container_id"][:12],
            slot_of(document, each["host"], each["slot"]) or "-",
            each["version"] or "-",
            each["state"],
            each["reason"],
            place_of(each) or "-",
        )
        for each in document["decisions"]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    conflicts = [f"alias conflict: {each['detail']}" for each in document["alias_conflicts"]]
    return "\n".join([*conflicts, "", *lines]) + "\n"


def _engine_line(engine: EngineDocument) -> str:
    name = f"engine {engine['host']}" if engine["host"] else "engine"
    if engine["list_age"] is None:
        return f"{name}: not listed yet. {engine['error']}".rstrip()
    listed = f"{engine['containers']} containers, listed {engine['list_age']:.0f} s ago"
    if engine["alias_error"]:
        listed += f"; not all aliases are known: {engine['alias_error']}"
    return f"{name}: up, {listed}" if engine["up"] else f"{name}: DOWN, {engine['error']}; {listed}"
