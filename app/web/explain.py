"""GET /explain: every container and its decision, as JSON or as a table."""

import json

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from app.discovery.endpoint import Caller
from app.discovery.explain import EngineDocument, ExplainDocument, explain, own, place_of, slot_of
from app.settings import AddressKind
from app.state import State
from app.web.parameters import authority_of, refuse_unknown, unlisted_header, wants_text

_PARAMETERS = ("address", "peers")


def router(state: State) -> APIRouter:
    """The route, over this state."""
    routes = APIRouter(tags=["discovery"])

    @routes.get(
        "/explain",
        response_model=ExplainDocument,
        responses={400: {"description": "A parameter is unknown or wrong; the text says which."}},
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
        decisions = view.decisions_for(Caller(address, authority=authority_of(request)))
        document = explain(view.snapshots, decisions, state.now(), view.conflicts, view.history)
        if not peers:
            document = own(document)
        headers = unlisted_header(view.unlisted)
        if wants_text(request):
            return PlainTextResponse(table(document), headers=headers)
        # For a person with curl as well as for a program.
        text = json.dumps(document, ensure_ascii=False, indent=1)
        return Response(text + "\n", media_type="application/json", headers=headers)

    return routes


def table(document: ExplainDocument) -> str:
    """The document as aligned columns."""
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
    engines = map(_engine_line, document["engines"])
    return "\n".join([*engines, *conflicts, "", *lines]) + "\n"


def _engine_line(engine: EngineDocument) -> str:
    name = f"engine {engine['host']}" if engine["host"] else "engine"
    if engine["list_age"] is None:
        return f"{name}: not listed yet. {engine['error']}".rstrip()
    listed = f"{engine['containers']} containers, listed {engine['list_age']:.0f} s ago"
    if engine["alias_error"]:
        listed += f"; not all aliases are known: {engine['alias_error']}"
    return f"{name}: up, {listed}" if engine["up"] else f"{name}: DOWN, {engine['error']}; {listed}"
