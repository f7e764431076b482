"""The apps behind the relay: who is to be asked, over which connection, and until when.

Nothing is sent to an address before it is known which container holds it, and an answer counts only
while that is so.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import cached_property, lru_cache
from ssl import SSLContext, create_default_context
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from app import ready
from app.discovery.relay import NEXT
from app.model import Decision, Upstream
from app.peer_credentials import CredentialsError, headers_for, tls_for
from app.settings import PeerSettings
from app.state import State
from app.view import View
from app.web.upstream import PIECE, Connection, Connections, Headers, UpstreamError
from app.web.waiting import until

# What a path may have beside letters and digits (RFC 3986, 3.3).
_IN_A_PATH = "/:@!$&'()*+,;=-._~"


class BrokenError(Exception):
    """The container did not give a whole answer. Another one may."""


class _Place(NamedTuple):
    """What connections are made to, and where: a container or another kamal-sd, by its id."""

    behind: str
    scheme: str
    authority: str


class Apps:
    """The connections to the apps: kept alive, and dropped when their container is current no more.

    `running` has to be entered before anything is asked.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        # Containers that were told to stop and do not answer any more. They are not asked again.
        self._done: set[str] = set()
        self._connections: dict[_Place, Connections] = {}
        self._buffer = memoryview(bytearray(PIECE))
        # The containers that are asked now, each by what ends when it is lost.
        self._held: dict[asyncio.Timeout, Decision] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Drops connections as their containers are replaced, and all of them at the end."""
        loop = asyncio.get_running_loop()
        with self._state.telling(lambda: loop.call_soon_threadsafe(self._look)):
            try:
                yield
            finally:
                while self._connections:
                    self._connections.popitem()[1].close()

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
        self, path: str, decision: Decision, upstream: Upstream, query: bytes, headers: Headers
    ) -> AsyncIterator[Connection]:
        """The container's answer, on its connection, of which nothing was read yet.

        Raises BrokenError, then and while it is read.
        """
        try:
            peer = self._peer_at(upstream.authority) if upstream.is_peer else None
            connections = self._connections_to(_place_of(decision, upstream), peer)
            connection = await connections.take()
            try:
                # The connection is made, and nothing sent: is it still the one that is meant?
                if not _same(self.current(self._state.view, path), decision):
                    raise BrokenError(f"{decision.container.name} is not the current one any more")
                if peer:
                    headers = [*headers, *headers_for(peer)]
                await connection.ask(_request(upstream, query, headers))
                yield connection
            except UpstreamError:
                # What has ended this one may have ended the others.
                connections.drop_idle()
                raise
            finally:
                connections.give_back(connection)
        except (UpstreamError, CredentialsError) as error:
            place = f"{decision.container.name} at {upstream.authority}"
            raise BrokenError(f"{place}: {error}") from None

    def _look(self) -> None:
        """What a change means to the scrapes that are on their way, and to connections."""
        for until_lost in list(self._held):
            self._end_where_lost(until_lost)
        if self._connections or self._done:
            routes = self._state.view.routes.values()
            live = {_place_of(each, each.upstream) for each in routes if each.upstream}
            self._done &= {place.behind for place in live}
            for place in self._connections.keys() - live:
                self._connections.pop(place).close()

    def _end_where_lost(self, until_lost: asyncio.Timeout) -> None:
        if not self.hold(self._held[until_lost]):
            del self._held[until_lost]
            until_lost.reschedule(0)

    def _peer_at(self, authority: str) -> PeerSettings | None:
        peers = self._state.settings.peers
        return next((each for each in peers if urlsplit(each.url).netloc == authority), None)

    def _connections_to(self, place: _Place, peer: PeerSettings | None) -> Connections:
        """Those to a container or peer. Raises CredentialsError."""
        known = self._connections.get(place)
        if known is None:
            tls = None
            if place.scheme == "https":
                tls = tls_for(peer) if peer else self._tls
            known = Connections(place.scheme, place.authority, tls, self._buffer)
            self._connections[place] = known
        return known

    @cached_property
    def _tls(self) -> SSLContext:
        """What the certificates of containers are checked with."""
        return create_default_context()

    def _is_done(self, view: View, path: str, decision: Decision) -> bool:
        """Whether the container that did not answer is on its way out, and has a successor."""
        now, candidate = view.routes.get(path), view.routes.get(f"{path}/{NEXT}")
        is_stopping = now and _same(now, decision) and now.container.stopping
        if not (is_stopping and candidate and candidate.upstream):
            return False
        self._done.add(decision.container.id)
        return True


def _request(upstream: Upstream, query: bytes, headers: Headers) -> bytes:
    target, host = _target(upstream)
    query = query and b"?" + query
    return b"GET %s%s HTTP/1.1\r\nhost: %s\r\n%s\r\n" % (target, query, host, ready.head(headers))


@lru_cache(1024)
def _target(upstream: Upstream) -> tuple[bytes, bytes]:
    return quote(upstream.path, safe=_IN_A_PATH).encode(), upstream.authority.encode()


def _place_of(decision: Decision, upstream: Upstream) -> _Place:
    return _Place(_behind(decision), upstream.scheme, upstream.authority)


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
