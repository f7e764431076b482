"""The apps behind the relay: who is to be asked, over which connection, and until when.

Nothing is sent to an address before it is known which container holds it, and an answer counts only
while that is so.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

import httpcore

from app.discovery.relay import NEXT
from app.model import Decision, Upstream
from app.peer_credentials import CredentialsError, headers_for, tls_for
from app.settings import PeerSettings
from app.state import State
from app.view import View
from app.web.waiting import until

Headers = list[tuple[bytes, bytes]]

# What a path may have beside letters and digits (RFC 3986, 3.3).
_IN_A_PATH = "/:@!$&'()*+,;=-._~"
_ERRORS = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


class BrokenError(Exception):
    """The container did not give a whole answer. Another one may."""


class Apps:
    """The connections to the apps: kept alive, and dropped when their container is current no more.

    `running` has to be entered before anything is asked.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        # Containers that were told to stop and do not answer any more. They are not asked again.
        self._done: set[str] = set()
        self._pools: dict[str, httpcore.AsyncConnectionPool] = {}
        self._busy = Counter[str]()
        self._changed = asyncio.Event()
        # The containers that are asked now, each by what ends when it is lost.
        self._held: dict[asyncio.Timeout, Decision] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Drops connections as their containers are replaced, and all of them at the end."""
        loop = asyncio.get_running_loop()
        with self._state.telling(lambda: loop.call_soon_threadsafe(self._look)):
            dropping = asyncio.create_task(self._drop_at_changes())
            try:
                yield
            finally:
                dropping.cancel()
                await asyncio.gather(dropping, return_exceptions=True)
                while self._pools:
                    await self._pools.popitem()[1].aclose()

    def current(self, view: View, path: str) -> Decision | None:
        """Who is to be asked: the current one, or its candidate where that one is done."""
        decision = view.routes.get(path)
        if decision and decision.container.id in self._done:
            candidate = view.routes.get(f"{path}/{NEXT}")
            return candidate if candidate and candidate.upstream else decision
        return decision

    async def word_about(self, path: str, decision: Decision, patience: float) -> bool:
        """Whether another container is the one to ask, or becomes it within `patience` s.

        It is asked for after one did not answer.
        """

        def is_replaced(view: View) -> bool | None:
            is_other = not _same(self.current(view, path), decision)
            return is_other or self._is_done(view, path, decision) or None

        return bool(await until(self._state, is_replaced, patience))

    def hold(self, decision: Decision) -> bool:
        """Whether the container still runs, at the addresses that it had."""
        return not _lost(self._state.view, decision)

    async def while_held(self, decision: Decision, asking: Coroutine[Any, Any, None]) -> None:
        """Asks for as long as the container holds its address. Raises BrokenError afterwards."""
        until_lost = asyncio.timeout(None)
        try:
            async with until_lost:
                self._held[until_lost] = decision
                self._end_where_lost(until_lost)
                await asking
        except TimeoutError:
            raise BrokenError(f"{decision.container.name} stopped while it was asked") from None
        finally:
            self._held.pop(until_lost, None)

    @asynccontextmanager
    async def answer(
        self, path: str, decision: Decision, upstream: Upstream, query: str, headers: Headers
    ) -> AsyncIterator[httpcore.Response]:
        """The container's answer, as far as its head. Raises BrokenError, then and while it is
        read."""
        peer = self._peer_at(upstream.authority) if upstream.is_peer else None
        greeted: list[httpcore.AsyncNetworkStream] = []

        async def check(event: str, info: Mapping[str, Any]) -> None:
            if event == "connection.connect_tcp.complete":
                greeted.append(info["return_value"])
            elif event == "http11.send_request_headers.started":
                greeted.clear()
                # The connection is made, and nothing sent: is it still the one that is meant?
                if not _same(self.current(self._state.view, path), decision):
                    raise BrokenError(f"{decision.container.name} is not the current one any more")

        try:
            async with (
                self._pool_of(_behind(decision), peer) as pool,
                pool.stream(
                    "GET",
                    _url(upstream, query),
                    headers=[
                        *headers,
                        (b"host", upstream.authority.encode()),
                        *(headers_for(peer) if peer else ()),
                    ],
                    extensions={"trace": check},
                ) as response,
            ):
                yield response
        except (*_ERRORS, CredentialsError) as error:
            place = f"{decision.container.name} at {upstream.authority}"
            raise BrokenError(f"{place}: {str(error) or type(error).__name__}") from None
        finally:
            # httpcore forgets a connection whose TLS greeting is cancelled, and leaves it open.
            for stream in greeted:
                await stream.aclose()
            if not _same(self.current(self._state.view, path), decision):
                self._changed.set()

    def _look(self) -> None:
        """What a change means to the scrapes that are on their way, and to connections."""
        self._changed.set()
        for until_lost in list(self._held):
            self._end_where_lost(until_lost)

    def _end_where_lost(self, until_lost: asyncio.Timeout) -> None:
        if not self.hold(self._held[until_lost]):
            del self._held[until_lost]
            until_lost.reschedule(0)

    def _peer_at(self, authority: str) -> PeerSettings | None:
        peers = self._state.settings.peers
        return next((each for each in peers if urlsplit(each.url).netloc == authority), None)

    @asynccontextmanager
    async def _pool_of(
        self, behind: str, peer: PeerSettings | None
    ) -> AsyncIterator[httpcore.AsyncConnectionPool]:
        """The connections to a container or peer, which are not dropped as long as this lasts."""
        if behind not in self._pools:
            self._pools[behind] = httpcore.AsyncConnectionPool(
                ssl_context=tls_for(peer) if peer else None, max_connections=None
            )
        self._busy[behind] += 1
        try:
            yield self._pools[behind]
        finally:
            self._busy[behind] -= 1
            if not self._busy[behind]:
                del self._busy[behind]

    async def _drop_at_changes(self) -> None:
        # The only one that does: closing takes its time, in which others may come and go.
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._pools:
                # Where nothing is relayed, nobody else has use for the routes.
                continue
            routes = self._state.view.routes.values()
            live = {_behind(decision) for decision in routes if decision.upstream}
            self._done &= live
            for behind in [each for each in self._pools if each not in live]:
                if not self._busy[behind]:
                    await self._pools.pop(behind).aclose()

    def _is_done(self, view: View, path: str, decision: Decision) -> bool:
        """Whether the container that did not answer is on its way out, and has a successor."""
        now, candidate = view.routes.get(path), view.routes.get(f"{path}/{NEXT}")
        is_stopping = now and _same(now, decision) and now.container.stopping
        if not (is_stopping and candidate and candidate.upstream):
            return False
        self._done.add(decision.container.id)
        return True


@lru_cache(1024)
def _url(upstream: Upstream, query: str) -> httpcore.URL:
    # In its parts: httpcore loses what follows a semicolon of a whole one.
    place = urlsplit(f"//{upstream.authority}")
    target = quote(upstream.path, safe=_IN_A_PATH) + (query and f"?{query}")
    return httpcore.URL(
        scheme=upstream.scheme, host=place.hostname or "", port=place.port, target=target
    )


def _behind(decision: Decision) -> str:
    """What a connection is made to, by its id: the container, or another kamal-sd."""
    upstream = decision.upstream
    return upstream.authority if upstream and upstream.is_peer else decision.container.id


def _same(now: Decision | None, before: Decision) -> bool:
    return now is not None and _behind(now) == _behind(before) and now.upstream == before.upstream


def _lost(view: View, decision: Decision) -> bool | None:
    """True where the container does not hold its addresses any more, else None.

    It may well have been replaced: it is asked to the end as long as it runs. A peer looks to its
    own containers.
    """
    if decision.upstream and decision.upstream.is_peer:
        return None
    for snapshot in view.snapshots:
        if snapshot.host == decision.host:
            held = snapshot.containers.get(decision.container.id)
            if held and held.running and set(decision.container.networks) <= set(held.networks):
                return None
    return True
