"""GET /wait: answers when a version is current in every slot that was asked for."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from app import grammar
from app.discovery.http_sd import FILTERS
from app.discovery.wait import WaitDocument, progress
from app.state import State
from app.view import View
from app.web.parameters import TEXT, Values, filters_of, refuse_unknown, wants_text
from app.web.waiting import unless_hung_up, until

_PARAMETERS = (*FILTERS, "version", "timeout")
_LONGEST_SECONDS = 600.0
# With those that listen to events they leave connections for whoever wants an answer now.
_MOST_WAITING = 200
# For the document, within the 292 years that a duration may last; grammar has the words about a
# wrong one.
_DURATION = (
    "^(?=.)([0-9]{1,2}y)?([0-9]{1,3}w)?([0-9]{1,4}d)?([0-9]{1,5}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?"
    "([0-9]{1,9}ms)?$"
)
Timeout = Annotated[str, Query(json_schema_extra={"pattern": _DURATION})]
_IN_TIME, _TOO_LATE = 200, 504


def router(state: State) -> APIRouter:
    """The route, over this state."""
    routes = APIRouter(tags=["discovery"])
    waiting: set[Request] = set()

    @routes.get(
        "/wait",
        response_model=WaitDocument,
        responses={
            200: {
                "description": "It is current. For `Accept: text/plain` this is a sentence.",
                "content": TEXT,
            },
            400: {"description": "A parameter is unknown or wrong; the text says which."},
            503: {"description": "kamal-sd is ending, or too many are waiting already."},
            504: {
                "description": "Not in time; it names what lacks.",
                "model": WaitDocument,
                "content": TEXT,
            },
        },
    )
    async def wait(
        request: Request,
        service: Annotated[list[str], Query()],
        version: str,
        role: Values,
        destination: Values,
        host: Values,
        timeout: Timeout = "60s",  # noqa: ASYNC109 - the caller's
    ) -> Response:
        """Answers when that version is current in every slot that the filters let pass.

        Else with 504 when the time is over, at most ten minutes.
        """
        if refused := refuse_unknown(request, _PARAMETERS):
            return refused
        try:
            patience = min(grammar.duration(timeout), _LONGEST_SECONDS)
        except ValueError as error:
            return PlainTextResponse(f"timeout: {error}\n", status_code=400)
        filters = filters_of(service=service, role=role, destination=destination, host=host)

        def so_far(view: View) -> WaitDocument:
            return progress(
                view.current(),
                filters,
                version,
                unlisted=view.unlisted,
                is_awaited=bool(view.awaited(filters)),
                refused=view.refused(),
            )

        def done(view: View) -> WaitDocument | None:
            document = so_far(view)
            return document if document["current"] else None

        if len(waiting) >= _MOST_WAITING:
            return PlainTextResponse("too many are waiting already\n", status_code=503)
        waiting.add(request)
        try:
            document = await unless_hung_up(request, until(state, done, patience))
        except asyncio.CancelledError:
            return PlainTextResponse("kamal-sd is ending; ask again\n", status_code=503)
        finally:
            waiting.discard(request)
        status = _IN_TIME if document else _TOO_LATE
        document = document or so_far(state.view)
        if wants_text(request):
            return PlainTextResponse(document["detail"] + "\n", status_code=status)
        return JSONResponse(document, status_code=status)

    return routes
