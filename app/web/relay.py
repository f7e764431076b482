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

from fastapi import APIRouter
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app import __version__, ready
from app.discovery.relay import PREFIX
from app.metrics import RelayMetrics, RelayResult
from app.model import Decision, Upstream
from app.state import State
from app.web.apps import Apps, BrokenError
from app.web.upstream import Connection, Headers
from app.web.waiting import hung_up

# What is done after each failure, before the answer is given up: the first may be a connection that
# the app has closed since, so it is tried afresh at once; then the engine has this long to say what
# became of the container. It says so within 0.03 s of cutting it off (seen on 28.5).
_PATIENCE_SECONDS = (0.0, 1.0)
_LONGEST_SECONDS = 300.0
# Nearly all scrapes are over by then. A task that watches the scraper costs each of them a turn.
_UNWATCHED_SECONDS = 0.02
# So much of the scraper's time is left for the way back.
_MARGIN, _LONGEST_MARGIN_SECONDS = 0.1, 0.5

_TIMEOUT_HEADER = b"x-prometheus-scrape-timeout-seconds"
_PASSED_ON = frozenset({b"accept", b"accept-encoding"})
_PASSED_BACK = frozenset({b"content-type", b"content-encoding"})
_STATUSES = range(200, 600)
_USER_AGENT = (b"user-agent", f"kamal-sd/{__version__}".encode())
# What a scrape has on its way from one kamal-sd to the next (RFC 9110, 7.6.3).
_VIA = (b"via", b"1.1 kamal-sd")

routes = APIRouter(tags=["relay"])


@routes.get(
    PREFIX + "{target:path}",
    response_class=Response,
    response_model=None,
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
async def scrape(target: str) -> None:
    """The metrics of the container that is current now, as the app itself serves them."""


class _FinalError(Exception):
    """There is no answer, and asking again changes nothing."""

    def __init__(self, status: int, result: RelayResult, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.result = result


class Relay:
    """Answers what is asked below PREFIX, and has the app answer the rest.

    Pure ASGI, in front of the routes: of all requests, no others are as frequent.
    """

    def __init__(self, app: ASGIApp, state: State, apps: Apps, metrics: RelayMetrics) -> None:
        self._app = app
        self._state = state
        self._apps = apps
        self._metrics = metrics
        # For the metrics of requests.
        (self._route,) = routes.routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_ours = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        if not is_ours or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route
        started = time.monotonic()
        scraping = _Scrape(scope, send, self._state, self._apps)
        decision = self._state.view.routes.get(scraping.path)
        result = await scraping.answer(receive)
        if decision and decision.slot:
            seconds = time.monotonic() - started
            self._metrics.observe(decision.slot, result, seconds, scraping.size)


class _Scrape:
    """One scrape, from the decision to the last byte; `size` is the answer's in bytes."""

    def __init__(self, scope: Scope, send: Send, state: State, apps: Apps) -> None:
        self._send = send
        self._state = state
        self._settings = state.settings.relay
        self._apps = apps
        # As they were sent: a path of the relay has nothing that could be spelled otherwise.
        self.path = scope["raw_path"].decode("latin-1")
        self._query: bytes = scope["query_string"]
        headers: Headers = scope["headers"]
        self._passed_on = [each for each in headers if each[0] in _PASSED_ON]
        self._is_from_peer = _VIA in headers
        self._takes_ready = ready.EXTENSION in scope.get("extensions", ())
        self._budget = _budget(headers, self._settings.timeout)
        self._deadline = time.monotonic() + self._budget
        # It ends when the scraper's time is over, or when nobody waits any more.
        self._time = asyncio.timeout(self._budget)
        self._is_awaited = True
        self._watching: asyncio.TimerHandle | asyncio.Future[None]
        self._begun = False
        self._whole = False
        self.size = 0

    async def answer(self, receive: Receive) -> RelayResult:
        """Answers, and says with what result. What was begun and is not whole is left so."""
        loop = asyncio.get_running_loop()
        self._watching = loop.call_later(_UNWATCHED_SECONDS, self._watch, receive)
        try:
            async with self._time:
                return await self._try()
        except TimeoutError:
            if not self._is_awaited:
                return RelayResult.HUNG_UP
            await self._say(504, f"no whole answer within {self._budget:.1f} s")
            return RelayResult.TIMEOUT
        finally:
            self._watching.cancel()

    def _watch(self, receive: Receive) -> None:
        self._watching = asyncio.ensure_future(self._until_hung_up(receive))

    async def _until_hung_up(self, receive: Receive) -> None:
        await hung_up(receive)
        # To the server, an answer that is whole is the end of the request, too.
        if not (self._whole or self._time.expired()):
            self._is_awaited = False
            self._time.reschedule(0)

    async def _try(self) -> RelayResult:
        result = RelayResult.OK
        for patience in (*_PATIENCE_SECONDS, None):
            try:
                decision, upstream = self._current()
                await self._apps.while_held(decision, self._ask(decision, upstream))
            except _FinalError as final:
                await self._say(final.status, str(final))
                return final.result
            except BrokenError as broken:
                if self._begun or patience is None:
                    await self._say(502, str(broken))
                    return RelayResult.BROKEN
            else:
                return result
            if await self._apps.word_about(self.path, decision, patience):
                result = RelayResult.HANDED_OVER
        raise AssertionError("the last try has no patience")  # pragma: no cover

    def _current(self) -> tuple[Decision, Upstream]:
        view = self._state.view
        decision = self._apps.current(view, self.path)
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

    async def _ask(self, decision: Decision, upstream: Upstream) -> None:
        """Asks this container, and passes its answer on. Raises BrokenError and _FinalError."""
        left = max(0.0, self._deadline - time.monotonic())
        headers: Headers = [*self._passed_on, _USER_AGENT, (_TIMEOUT_HEADER, b"%.3f" % left)]
        if upstream.is_peer:
            headers.append(_VIA)
        async with self._apps.answer(self.path, decision, upstream, self._query, headers) as answer:
            await self._pass_on(decision, answer)

    async def _pass_on(self, decision: Decision, answer: Connection) -> None:
        name, most = decision.container.name, self._settings.max_size
        if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
            raise _refused(
                f"{name} redirects, which is not followed; "
                "set the label prometheus.path to where its metrics are"
            )
        if answer.status not in _STATUSES:
            raise _refused(f"{name} answers with {answer.status}, which is no status of HTTP")
        headers = [each for each in answer.headers if each[0].lower() in _PASSED_BACK]
        self.size = 0
        # What is short comes at once, and whole.
        while True:
            body = await answer.read()
            self.size += len(body)
            if self.size > most:
                raise _refused(f"{name} answers with more than the {most} bytes of relay.max_size")
            if answer.is_whole:
                break
            await self._begin(answer.status, headers)
            await self._send_body(body, more=True)
        if self._begun:
            self._answer_is_whole()
            await self._send_body(body, more=False)
        elif self._apps.hold(decision):
            await self._send_whole(answer.status, headers, body)
        else:
            raise BrokenError(f"{name} stopped while it was asked")

    async def _say(self, status: int, reason: str) -> None:
        """Answers in our own words, unless the app's have been begun: then it is broken off."""
        if not self._begun:
            text = f"kamal-sd: {reason}\n".encode()
            await self._send_whole(status, [(b"content-type", b"text/plain; charset=utf-8")], text)

    async def _send_whole(self, status: int, headers: Headers, body: bytes) -> None:
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        self._answer_is_whole()
        if self._takes_ready:
            self._begun = True
            await self._send(ready.message(status, ready.head(headers), body))
        else:
            await self._begin(status, headers)
            await self._send_body(body, more=False)

    async def _begin(self, status: int, headers: Headers) -> None:
        if not self._begun:
            self._begun = True
            await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    def _answer_is_whole(self) -> None:
        """From here on the scraper takes what time it needs; the server sees to its end."""
        self._whole = True
        if not self._time.expired():
            self._time.reschedule(None)


def _refused(reason: str) -> _FinalError:
    return _FinalError(502, RelayResult.REFUSED, reason)


def _budget(headers: Headers, default: float) -> float:
    """The seconds that a scrape may take."""
    asked = next((value for name, value in headers if name == _TIMEOUT_HEADER), b"")
    try:
        seconds = float(asked)
    except ValueError:
        seconds = default
    if not 0 < seconds < math.inf:
        seconds = default
    return min(seconds - min(seconds * _MARGIN, _LONGEST_MARGIN_SECONDS), _LONGEST_SECONDS)
