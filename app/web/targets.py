"""GET /targets: HTTP SD."""

from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from app.discovery.endpoint import Caller
from app.discovery.http_sd import FILTERS, Answer, Filters
from app.settings import AddressKind, Generations
from app.state import State
from app.view import View
from app.web.parameters import (
    RETRY_AFTER,
    UNLISTED_HEADER,
    Values,
    authority_of,
    filters_of,
    refuse_unknown,
    unlisted_header,
    wants_gzip,
)
from app.web.shared import Workshop

PATH = "/targets"
AGE_HEADER = "X-Kamal-SD-List-Age-Seconds"
# Where the scope of a request that was read keeps what answers it anew: a coroutine function that
# takes nothing, gives a Response, and raises BusyError.
AGAIN = "kamal_sd.again"

_NOBODY = Caller()
_PARAMETERS = (*FILTERS, "address", "generations")
_TARGET_GROUPS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "targets": {"type": "array", "items": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["targets", "labels"],
        "additionalProperties": False,
    },
}
_HEADERS = {
    "ETag": {"schema": {"type": "string"}, "required": True},
    AGE_HEADER: {"schema": {"type": "number"}, "required": True},
    UNLISTED_HEADER: {"schema": {"type": "string"}},
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"The target groups. {UNLISTED_HEADER} names the hosts of which nothing is "
        "known, where there are any.",
        "content": {"application/json": {"schema": _TARGET_GROUPS}},
        "headers": _HEADERS,
    },
    304: {"description": "If-None-Match names this answer.", "headers": _HEADERS},
    400: {"description": "A parameter is unknown or wrong; the text says which."},
    503: {
        "description": "No engine has been listed yet, or one that is waited for has not; or too "
        "much is asked for at once. Prometheus keeps what it has.",
        "headers": RETRY_AFTER,
    },
}


class _Question(NamedTuple):
    """What a request asks for."""

    filters: Filters
    caller: Caller
    gzipped: bool
    if_none_match: str


def router(state: State, workshop: Workshop) -> APIRouter:
    """The route, over this state."""
    routes = APIRouter(tags=["discovery"])

    async def targets(
        request: Request,
        service: Values,
        role: Values,
        destination: Values,
        host: Values,
        address: AddressKind | None = None,
        generations: Generations | None = None,
    ) -> Response:
        """The targets, in the format of Prometheus' `http_sd_configs`.

        A filter may be given several times; a target passes that has one of its values.
        """
        if refused := refuse_unknown(request, _PARAMETERS):
            return refused
        question = _Question(
            filters_of(service=service, role=role, destination=destination, host=host),
            Caller(address, generations, authority_of(request)),
            wants_gzip(request),
            request.headers.get("if-none-match", ""),
        )
        request.scope[AGAIN] = partial(respond, question)
        return await respond(question)

    async def respond(question: _Question) -> Response:
        view = state.view
        filters, caller, gzipped, if_none_match = question
        if awaited := view.awaited(filters):
            return _not_ready(view, awaited)
        answer = await _answer(view, filters, view.less_what_changes_nothing(caller), gzipped)
        # A strong validator is one of an encoding (RFC 9110, 8.8.1).
        etag = answer.etag.removesuffix('"') + '-gzip"' if gzipped else answer.etag
        headers = {
            "ETag": etag,
            "Vary": "Accept-Encoding",
            "Cache-Control": "no-cache",
            AGE_HEADER: list_age(view, state.now()),
            **unlisted_header(view.unlisted_of(filters)),
        }
        if _matches(if_none_match, etag):
            return Response(status_code=304, headers=headers)
        if gzipped:
            headers["Content-Encoding"] = "gzip"
        body = answer.gzipped if gzipped else answer.body
        return Response(body, media_type="application/json", headers=headers)

    async def _answer(view: View, filters: Filters, caller: Caller, gzipped: bool) -> Answer:
        if not filters and caller == _NOBODY:
            return view.answer(filters)

        def make() -> Answer:
            answer = view.answer(filters, caller)
            # It is kept in the answer, too.
            _ = answer.gzipped if gzipped else answer.body
            return answer

        # What whoever asks has chosen may be new each time.
        name = ("targets", caller, frozenset(filters.items()), gzipped)
        return await workshop.made(name, view.generation, make)

    routes.add_api_route(PATH, targets, methods=["GET"], responses=_RESPONSES)
    routes.add_api_route(PATH, targets, methods=["HEAD"], include_in_schema=False)
    return routes


def list_age(view: View, now: float) -> str:
    """The seconds since the list of that engine which was listed longest ago; for `AGE_HEADER`."""
    return f"{max(0.0, now - view.listed_at):.1f}"


def _not_ready(view: View, awaited: Collection[str]) -> Response:
    waiting = [
        f"{snapshot.host or 'the engine'}: {snapshot.error or 'not listed yet'}"
        for snapshot in view.snapshots
        if snapshot.host in awaited
    ]
    text = "no list of containers yet: " + "; ".join(waiting) + "\n"
    return PlainTextResponse(text, status_code=503, headers={"Retry-After": "5"})


def _matches(if_none_match: str, etag: str) -> bool:
    wanted = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return etag in wanted or "*" in wanted
