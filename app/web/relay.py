"""GET /scrape/…: the metrics of whatever container is current in a slot at this moment.

A small answer is held until it is whole, so that a container that vanishes in the middle of it
costs nothing: its successor is asked within the same request. So it is with one that was told to
stop and does not listen any more, although it runs: many servers close their port first and then
finish what they have begun. What has been begun is never spliced; it is broken off, and the scraper
sees that.
"""

import asyncio
import math
import time
from http import HTTPStatus

import httpcore
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from app import __version__
from app.discovery.relay import PREFIX
from app.metrics import RelayMetrics, RelayResult
from app.model import Decision, Upstream
from app.state import State
from app.web.apps import Apps, BrokenError, Headers
from app.web.waiting import hung_up

# So much of an answer is held back until it is whole, or longer than that.
_HELD_BYTES = 64 * 1024
# What is done after each failure, before the answer is given up: the first may be a connection that
# the app has closed since, so it is tried afresh at once; then the engine has this long to say what
# became of the container. It says so within 0.03 s of cutting it off (seen on 28.5).
_PATIENCE_SECONDS = (0.0, 1.0)
_LONGEST_SECONDS = 300.0
# So much of the scraper's time is left for the way back.
_MARGIN, _LONGEST_MARGIN_SECONDS = 0.1, 0.5

_TIMEOUT_HEADER = "x-prometheus-scrape-timeout-seconds"
_PASSED_ON = frozenset({b"accept", b"accept-encoding"})
_PASSED_BACK = frozenset({b"content-type", b"content-encoding"})
_STATUSES = range(200, 600)
# What a scrape has on its way from one kamal-sd to the next (RFC 9110, 7.6.3).
_VIA = (b"via", b"1.1 kamal-sd")


class _FinalError(Exception):
    """There is no answer, and asking again changes nothing."""

    def __init__(self, status: int, result: RelayResult, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.result = result


def router(state: State, apps: Apps, metrics: RelayMetrics) -> APIRouter:
    """The route, to these apps."""
    routes = APIRouter(tags=["relay"])

    @routes.get(
        PREFIX + "{target:path}",
        response_class=Response,
        responses={
            200: {
                "description": "What the app answered; so it is with its own errors.",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            },
            404: {"description": "No slot is discovered that has this path."},
            502: {"description": "The current container gave no whole answer; the text says why."},
            503: {"description": "Nothing runs in the slot, or it is not known yet what does."},
            508: {"description": "The scrape went through two kamal-sd's already."},
            504: {"description": "The app did not answer within the scraper's time."},
        },
    )
    async def scrape(request: Request, target: str) -> Response:  # noqa: ARG001 - for the document
        """The metrics of the container that is current now, as the app itself serves them."""
        return _Scrape(request, state, apps, metrics)

    return routes


class _Scrape(Response):
    """One scrape, from the decision to the last byte."""

    def __init__(
        self,
        request: Request,
        state: State,
        apps: Apps,
        metrics: RelayMetrics,
    ) -> None:
        super().__init__()
        self._state = state
        self._settings = state.settings.relay
        self._apps = apps
        self._metrics = metrics
        # As they were sent: a path of the relay has nothing that could be spelled otherwise.
        self._path = request.scope["raw_path"].decode("latin-1")
        self._query = request.scope["query_string"].decode("latin-1")
        self._passed_on = [each for each in request.headers.raw if each[0] in _PASSED_ON]
        self._is_from_peer = _VIA in request.headers.raw
        self._budget = _budget(request, self._settings.timeout)
        self._deadline = time.monotonic() + self._budget
        self._begun = False
        self._whole = False
        self._size = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        started = time.monotonic()
        decision = self._state.view.routes.get(self._path)
        work = asyncio.ensure_future(self._answer(send))
        gone = asyncio.ensure_future(hung_up(receive))
        try:
            await asyncio.wait(
                {work, gone}, timeout=self._budget, return_when=asyncio.FIRST_COMPLETED
            )
            if self._whole:
                # To the server, an answer that is whole is the end of the request, too.
                await asyncio.wait({work})
            if work.done():
                result = work.result()
            elif gone.done():
                result = RelayResult.HUNG_UP
            else:
                result = RelayResult.TIMEOUT
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                await self._say(504, f"no whole answer within {self._budget:.1f} s", send)
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        if decision and decision.slot:
            seconds = time.monotonic() - started
            self._metrics.observe(decision.slot, result, seconds, self._size)

    async def _answer(self, send: Send) -> RelayResult:
        """Answers, and says with what result. What was begun and is not whole is left so."""
        result = RelayResult.OK
        for patience in (*_PATIENCE_SECONDS, None):
            try:
                decision, upstream = self._current()
                await self._apps.while_held(decision, self._ask(decision, upstream, send))
            except _FinalError as final:
                await self._say(final.status, str(final), send)
                return final.result
            except BrokenError as broken:
                if self._begun or patience is None:
                    await self._say(502, str(broken), send)
                    return RelayResult.BROKEN
            else:
                return result
            if await self._apps.word_about(self._path, decision, patience):
                result = RelayResult.HANDED_OVER
        raise AssertionError("the last try has no patience")  # pragma: no cover

    def _current(self) -> tuple[Decision, Upstream]:
        view = self._state.view
        decision = self._apps.current(view, self._path)
        if decision is None and view.unlisted:
            hosts = ", ".join(host or "the engine" for host in view.unlisted)
            raise _FinalError(503, RelayResult.UNKNOWN, f"no list of containers yet of {hosts}")
        if decision is None:
            raise _FinalError(404, RelayResult.UNKNOWN, "no slot that is discovered has this path")
        if decision.upstream is None:
            reason = f"{decision.container.name}: {decision.detail}"
            raise _FinalError(503, RelayResult.DOWN, reason)
        if decision.upstream.is_peer and self._is_from_peer:
            reason = "this scrape came through another kamal-sd, and would go on to a third"
            raise _FinalError(508, RelayResult.REFUSED, reason)
        return decision, decision.upstream

    async def _ask(self, decision: Decision, upstream: Upstream, send: Send) -> None:
        """Asks this container, and passes its answer on. Raises BrokenError and _FinalError."""
        left = max(0.0, self._deadline - time.monotonic())
        headers: Headers = [
            *self._passed_on,
            (b"user-agent", f"kamal-sd/{__version__}".encode()),
            (_TIMEOUT_HEADER.encode(), f"{left:.3f}".encode()),
        ]
        if upstream.is_peer:
            headers.append(_VIA)
        async with self._apps.answer(
            self._path, decision, upstream, self._query, headers
        ) as response:
            await self._pass_on(decision, response, send)

    async def _pass_on(self, decision: Decision, response: httpcore.Response, send: Send) -> None:
        name, most = decision.container.name, self._settings.max_size
        if HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST:
            raise _refused(
                f"{name} redirects, which is not followed; "
                "set the label prometheus.path to where its metrics are"
            )
        if response.status not in _STATUSES:
            raise _refused(f"{name} answers with {response.status}, which is no status of HTTP")
        self._size = 0
        held: list[bytes] = []
        async for chunk in response.aiter_stream():
            self._size += len(chunk)
            if self._size > most:
                raise _refused(f"{name} answers with more than the {most} bytes of relay.max_size")
            held.append(chunk)
            if self._size >= _HELD_BYTES:
                await self._begin(response.status, _passed_back(response), send)
                await self._send_body(send, b"".join(held), more=True)
                held.clear()
        if not self._begun:
            if not self._apps.hold(decision):
                raise BrokenError(f"{name} stopped while it was asked")
            length = (b"content-length", str(self._size).encode())
            await self._begin(response.status, [*_passed_back(response), length], send)
        await self._send_body(send, b"".join(held), more=False)

    async def _say(self, status: int, reason: str, send: Send) -> None:
        """Answers in our own words, unless the app's have been begun: then it is broken off."""
        if self._begun:
            return
        text = f"kamal-sd: {reason}\n".encode()
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(text)).encode()),
        ]
        await self._begin(status, headers, send)
        await self._send_body(send, text, more=False)

    async def _begin(self, status: int, headers: Headers, send: Send) -> None:
        if not self._begun:
            self._begun = True
            await send({"type": "http.response.start", "status": status, "headers": headers})

    async def _send_body(self, send: Send, body: bytes, *, more: bool) -> None:
        self._whole = not more
        await send({"type": "http.response.body", "body": body, "more_body": more})


def _refused(reason: str) -> _FinalError:
    return _FinalError(502, RelayResult.REFUSED, reason)


def _passed_back(response: httpcore.Response) -> Headers:
    return [each for each in response.headers if each[0].lower() in _PASSED_BACK]


def _budget(request: Request, default: float) -> float:
    """The seconds that a scrape may take."""
    try:
        asked = float(request.headers.get(_TIMEOUT_HEADER, default))
    except ValueError:
        asked = default
    if not 0 < asked < math.inf:
        asked = default
    return min(asked - min(asked * _MARGIN, _LONGEST_MARGIN_SECONDS), _LONGEST_SECONDS)
