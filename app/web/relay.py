"""GET /scrape/…: the metrics of whatever container is current in a slot at this moment.

Nothing is sent to an address before it is known which container holds it, and an answer counts
only while that is so. A small answer is held until it is whole, so that a container that vanishes
in the middle of it costs nothing: its successor is asked within the same request. What has been
begun is never spliced; it is broken off, and the scraper sees that.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpcore
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from app import __version__
from app.discovery.relay import PREFIX
from app.metrics import RelayMetrics, RelayResult
from app.model import Decision, Upstream
from app.settings import RelaySettings
from app.state import State, View
from app.web.waiting import until

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
_PASSED_ON = ("accept", "accept-encoding")
_PASSED_BACK = frozenset({b"content-type", b"content-encoding"})
# What a path may have beside letters and digits (RFC 3986, 3.3).
_IN_A_PATH = "/:@!$&'()*+,;=-._~"

_ERRORS = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


class _Broken(Exception):  # noqa: N818 - of the app, not of the program
    """The container did not give a whole answer. Another one may."""


class _Final(Exception):  # noqa: N818 - of the app, not of the program
    """There is no answer, and asking again changes nothing."""

    def __init__(self, status: int, result: RelayResult, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.result = result


class Relay:
    """The connections to the apps: kept alive, and dropped when their container is current no more.

    `running` has to be entered before the first scrape.
    """

    def __init__(self, state: State, settings: RelaySettings, metrics: RelayMetrics) -> None:
        self.state = state
        self.settings = settings
        self.metrics = metrics
        self._pools: dict[str, httpcore.AsyncConnectionPool] = {}
        self._busy = Counter[str]()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Drops connections as their containers are replaced, and all of them at the end."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        with self.state.telling(lambda: loop.call_soon_threadsafe(changed.set)):
            dropping = asyncio.create_task(self._drop_at(changed))
            try:
                yield
            finally:
                dropping.cancel()
                await asyncio.gather(dropping, return_exceptions=True)
                for pool in self._pools.values():
                    await pool.aclose()

    async def _drop_at(self, changed: asyncio.Event) -> None:
        while True:
            await changed.wait()
            changed.clear()
            await self._drop_idle()

    async def _drop_idle(self) -> None:
        routes = self.state.view.routes.values()
        live = {decision.container.id for decision in routes if decision.upstream}
        for container_id in [each for each in self._pools if each not in live]:
            if not self._busy[container_id]:
                await self._pools.pop(container_id).aclose()

    @asynccontextmanager
    async def pool_of(self, container_id: str) -> AsyncIterator[httpcore.AsyncConnectionPool]:
        """The connections to that container, which stay open as long as this lasts."""
        if container_id not in self._pools:
            self._pools[container_id] = httpcore.AsyncConnectionPool(max_connections=None)
        self._busy[container_id] += 1
        try:
            yield self._pools[container_id]
        finally:
            self._busy[container_id] -= 1
            if not self._busy[container_id]:
                del self._busy[container_id]
                await self._drop_idle()


def router(relay: Relay) -> APIRouter:
    """The route, over this relay."""
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
            503: {"description": "Nothing runs in the slot."},
            504: {"description": "The app did not answer within the scraper's time."},
        },
    )
    async def scrape(request: Request, target: str) -> Response:  # noqa: ARG001 - for the document
        """The metrics of the container that is current now, as the app itself serves them."""
        return _Scrape(relay, request)

    return routes


class _Scrape(Response):
    """One scrape, from the decision to the last byte."""

    def __init__(self, relay: Relay, request: Request) -> None:
        super().__init__()
        self._relay = relay
        self._path = request.url.path
        self._query = request.url.query
        self._passed_on = {
            name: request.headers[name] for name in _PASSED_ON if name in request.headers
        }
        self._budget = _budget(request, relay.settings.timeout)
        self._deadline = time.monotonic() + self._budget
        self._begun = False
        self._whole = False
        self._size = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        started = time.monotonic()
        decision = self._relay.state.view.routes.get(self._path)
        work = asyncio.ensure_future(self._answer(send))
        hung_up = asyncio.ensure_future(_hung_up(receive))
        try:
            await asyncio.wait(
                {work, hung_up}, timeout=self._budget, return_when=asyncio.FIRST_COMPLETED
            )
            if self._whole:
                # To the server, an answer that is whole is the end of the request, too.
                await asyncio.wait({work})
            if work.done():
                result = work.result()
            elif hung_up.done():
                result = RelayResult.HUNG_UP
            else:
                result = RelayResult.TIMEOUT
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                await self._say(504, f"no whole answer within {self._budget:.1f} s", send)
        finally:
            for task in (work, hung_up):
                task.cancel()
            await asyncio.gather(work, hung_up, return_exceptions=True)
        if decision and decision.slot:
            seconds = time.monotonic() - started
            self._relay.metrics.observe(decision.slot, result, seconds, self._size)

    async def _answer(self, send: Send) -> RelayResult:
        """Answers, and says with what result. What was begun and is not whole is left so."""
        result = RelayResult.OK
        for patience in (*_PATIENCE_SECONDS, None):
            try:
                decision, upstream = self._current()
                await self._while_held(decision, self._ask(decision, upstream, send))
            except _Final as final:
                await self._say(final.status, str(final), send)
                return final.result
            except _Broken as broken:
                if self._begun or patience is None:
                    await self._say(502, str(broken), send)
                    return RelayResult.BROKEN
            else:
                return result
            if await self._word_about(decision, patience):
                result = RelayResult.HANDED_OVER
        raise AssertionError("the last try has no patience")  # pragma: no cover

    def _current(self) -> tuple[Decision, Upstream]:
        decision = self._relay.state.view.routes.get(self._path)
        if decision is None:
            raise _Final(404, RelayResult.UNKNOWN, "no slot that is discovered has this path")
        if decision.upstream is None:
            raise _Final(503, RelayResult.DOWN, f"{decision.container.name}: {decision.detail}")
        return decision, decision.upstream

    async def _word_about(self, decision: Decision, patience: float) -> bool:
        """Whether another container is, or becomes, the one to ask."""

        def is_replaced(view: View) -> bool | None:
            return None if _same(view.routes.get(self._path), decision) else True

        return bool(await until(self._relay.state, is_replaced, patience))

    async def _while_held(self, decision: Decision, asking: Coroutine[Any, Any, None]) -> None:
        """Asks, for as long as the container holds the address that is asked."""
        state = self._relay.state
        work = asyncio.ensure_future(asking)
        lost = asyncio.ensure_future(until(state, lambda view: _lost(view, decision), math.inf))
        try:
            await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            else:
                raise _Broken(f"{decision.container.name} stopped while it was asked")
        finally:
            for task in (work, lost):
                task.cancel()
            await asyncio.gather(work, lost, return_exceptions=True)

    async def _ask(self, decision: Decision, upstream: Upstream, send: Send) -> None:
        """Asks this container, and passes its answer on. Raises _Broken and _Final."""

        async def check(event: str, _info: object) -> None:
            # The connection is made, and nothing sent: is it still the one that is meant?
            if event == "http11.send_request_headers.started":
                now = self._relay.state.view.routes.get(self._path)
                if not _same(now, decision):
                    raise _Broken(f"{decision.container.name} is not the current one any more")

        target = quote(upstream.path, safe=_IN_A_PATH) + (self._query and f"?{self._query}")
        left = max(0.0, self._deadline - time.monotonic())
        headers = self._passed_on | {
            "host": upstream.authority,
            "user-agent": f"kamal-sd/{__version__}",
            _TIMEOUT_HEADER: f"{left:.3f}",
        }
        name = decision.container.name
        try:
            async with (
                self._relay.pool_of(decision.container.id) as pool,
                pool.stream(
                    "GET",
                    f"{upstream.scheme}://{upstream.authority}{target}",
                    headers=list(headers.items()),
                    extensions={"trace": check},
                ) as response,
            ):
                await self._pass_on(decision, response, send)
        except _ERRORS as error:
            words = str(error) or type(error).__name__
            raise _Broken(f"{name} at {upstream.authority}: {words}") from None

    async def _pass_on(self, decision: Decision, response: httpcore.Response, send: Send) -> None:
        name = decision.container.name
        if HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST:
            raise _Final(
                502,
                RelayResult.REFUSED,
                f"{name} redirects, which is not followed; "
                "set the label prometheus.path to where its metrics are",
            )
        self._size = 0
        held: list[bytes] = []
        async for chunk in response.aiter_stream():
            self._size += len(chunk)
            if self._size > self._relay.settings.max_size:
                most = self._relay.settings.max_size
                reason = f"{name} answers with more than the {most} bytes of relay.max_size"
                raise _Final(502, RelayResult.REFUSED, reason)
            held.append(chunk)
            if self._size >= _HELD_BYTES:
                await self._begin(response, send)
                await self._send_body(send, b"".join(held), more=True)
                held.clear()
        if not self._begun:
            if _lost(self._relay.state.view, decision):
                raise _Broken(f"{name} stopped while it was asked")
            await self._begin(response, send, length=self._size)
        await self._send_body(send, b"".join(held), more=False)

    async def _begin(
        self, response: httpcore.Response, send: Send, length: int | None = None
    ) -> None:
        if self._begun:
            return
        headers = [each for each in response.headers if each[0].lower() in _PASSED_BACK]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        self._begun = True
        await send({"type": "http.response.start", "status": response.status, "headers": headers})

    async def _say(self, status: int, reason: str, send: Send) -> None:
        """Answers in our own words, unless the app's have been begun: then it is broken off."""
        if self._begun:
            return
        text = f"kamal-sd: {reason}\n".encode()
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(text)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send_body(send, text, more=False)

    async def _send_body(self, send: Send, body: bytes, *, more: bool) -> None:
        self._whole = not more
        await send({"type": "http.response.body", "body": body, "more_body": more})


def _same(now: Decision | None, before: Decision) -> bool:
    return (
        now is not None
        and now.container.id == before.container.id
        and now.upstream == before.upstream
    )


def _lost(view: View, decision: Decision) -> bool | None:
    """True where the container does not hold its addresses any more.

    It may well have been replaced: it is asked to the end as long as it runs.
    """
    for snapshot in view.snapshots:
        if snapshot.host == decision.host:
            held = snapshot.containers.get(decision.container.id)
            if held and held.running and set(decision.container.networks) <= set(held.networks):
                return None
    return True


def _budget(request: Request, default: float) -> float:
    """The seconds that a scrape may take."""
    try:
        asked = float(request.headers.get(_TIMEOUT_HEADER, default))
    except ValueError:
        asked = default
    if not 0 < asked < math.inf:
        asked = default
    return min(asked - min(asked * _MARGIN, _LONGEST_MARGIN_SECONDS), _LONGEST_SECONDS)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
