"""GET /events: server-sent events, one for each new decision, for a page that is live.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from app.state import State

# Many changes at once are one event.
_SHORTEST_SECONDS = 0.25
# Ages grow on a page, and who went away without a word is found out by writing to him.
_LONGEST_SECONDS = 15.0
_MOST_STREAMS = 200

# What one of them is.
_EVENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["change", "still"]},
        "data": {"type": "string"},
    },
    "required": ["event", "data"],
}
_CHANGE = b"event: change\ndata: the decisions are others\n\n"
_STILL = b"event: still\ndata: nothing changed\n\n"


def router(state: State, ending: asyncio.Event) -> APIRouter:
    """The route, over this state, until the server is `ending`."""
    routes = APIRouter(tags=["discovery"])
    streams: set[asyncio.Event] = set()

    @routes.get(
        "/events",
        response_class=StreamingResponse,
        responses={
            200: {
                "description": "The events, for as long as somebody reads them.",
                "content": {"text/event-stream": {"schema": _EVENT}},
            },
            503: {"description": "Too many are listening already."},
        },
    )
    async def events() -> Response:
        """An event `change` at each new decision, and `still` when there was none for a while."""
        if len(streams) >= _MOST_STREAMS:
            return PlainTextResponse("too many are listening already\n", status_code=503)
        return StreamingResponse(
            _stream(state, ending, streams),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return routes


async def _stream(
    state: State, ending: asyncio.Event, streams: set[asyncio.Event]
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    streams.add(changed)
    end = asyncio.ensure_future(ending.wait())
    try:
        with state.telling(lambda: loop.call_soon_threadsafe(changed.set)):
            told = state.view.decisions
            yield _STILL
            while not end.done():
                # Time alone may change a decision; then nobody tells before the view is looked at.
                due = max(0.0, state.view.changes_at - state.now())
                change = asyncio.ensure_future(changed.wait())
                try:
                    done, _ = await asyncio.wait(
                        (end, change),
                        timeout=min(due, _LONGEST_SECONDS),
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                finally:
                    change.cancel()
                changed.clear()
                decisions = state.view.decisions
                if decisions is not told:
                    yield _CHANGE
                elif not done:
                    yield _STILL
                told = decisions
                await asyncio.wait((end,), timeout=_SHORTEST_SECONDS)
    finally:
        end.cancel()
        streams.discard(changed)
