"""HTTP/1.1 with whoever comes: in time and within bounds, or not at all.

uvicorn waits for a client as long as he likes, and takes what he sends. Here whatever is waited for
has a deadline, and whatever is kept has a bound. A server that is full lets go of those that want
nothing or do not say what, in favour of those that ask. llhttp, which reads the requests, is
strict; `request_head` looks at what it leaves to the server.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from app import ready
from app.request_head import RefusedError, check, path_of


class Limits(NamedTuple):
    """What clients may take of the server. Times are in seconds, sizes in bytes."""

    # From the beginning of a connection, or of a later request on it, to the end of the request.
    receive: float = 10.0
    # Between two requests. Longer than Prometheus' default interval, which is a minute.
    idle: int = 75
    # For 64 KiB of an answer to be taken, or what is left of it in the end.
    unread: float = 30.0
    head: int = 16 * 1024
    # No route reads one.
    body: int = 4 * 1024
    # Asked on one connection before the first is answered.
    pipelined: int = 16
    connections: int = 512
    # Not taken for a second. Each may be one that is kept for this client alone.
    unread_answers: int = 64


# A head is measured, and an answer handed on, in pieces of these sizes.
_HEAD_PIECE, _ANSWER_PIECE = 4 * 1024, 32 * 1024
# What the kernel keeps for a client, 4 MB else: at most, and of what it cannot send yet. Of the one
# who reads it takes more, and the other holds little, however fast he has read before
# (https://docs.kernel.org/networking/ip-sysctl.html, tcp_notsent_lowat).
_KERNEL_BYTES, _UNSENT_BYTES = 256 * 1024, 64 * 1024
_NO_LINGERING = struct.pack("ii", 1, 0)
# After it, one who has just come has been listened to.
_GRACE_SECONDS = 0.1
_TICK_SECONDS = 0.001
_SLOW_SECONDS = 1.0

_LINE = b"%s: %s\r\n"

_EXTENSIONS: dict[str, dict[str, Any]] = {ready.EXTENSION: {}}

_Message = Any
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class Protocol(HttpToolsProtocol):
    """One connection; uvicorn makes one for each. Other limits are those of a subclass."""

    limits: ClassVar = Limits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.timeout_keep_alive = self.limits.idle
        self._socket: socket.socket
        # What TLS is spoken over; else it is the transport itself.
        self._wire: asyncio.Transport
        # Whether there was a request yet.
        self._is_begun = False
        self._in_message = self._in_head = False
        self._head_size = 0
        # The last request's head that was found to be in order.
        self._passed: object = None
        self._refusal: RefusedError | None = None
        # They end the connection where a request, or the taking of an answer, lasts too long.
        self._receiving: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._is_slow = False

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wire = transport
        transport.set_write_buffer_limits(_ANSWER_PIECE)
        self._socket = transport.get_extra_info("socket")
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self._await_request()
        if len(self.connections) > self.limits.connections:
            # Twice, because a loop that was busy comes to its clocks before it listens.
            half = _GRACE_SECONDS / 2
            then = self.loop.time() + _TICK_SECONDS
            self._later(half, self._later, half, self._make_room, then)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._request_is_here()
        self._answer_is_taken()

    def _later(
        self, seconds: float, what: Callable[..., object], *given: object
    ) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, what, *given)

    def _make_room(self, then: float) -> None:
        excess = len(self.connections) - self.limits.connections
        if excess <= 0:
            return
        waiting = [(claim, each) for each in self._others() if (claim := each.claim)]
        waiting.sort(key=lambda pair: pair[0])
        for (_, since), each in waiting[:excess]:
            # What came later may not have been listened to; it makes room in its own time.
            if since <= then:
                each.let_go()
        if not waiting and self in self.connections:
            self.let_go()

    def _others(self) -> list["Protocol"]:
        return [each for each in self.connections if isinstance(each, Protocol)]

    @property
    def claim(self) -> tuple[int, float] | None:
        """Its claim to stay, of which the least goes first; None while it is served.

        Who has said nothing, or not all, goes before those that were served, each by its time.
        """
        if self._receiving:
            return 0, self._receiving.when() - self.limits.receive
        if self.timeout_keep_alive_task:
            return 1, self.timeout_keep_alive_task.when() - self.limits.idle
        return None

    def let_go(self) -> None:
        """Ends it at once, whatever has not been sent."""
        # It ends in the loop's next turn. Until then nobody else is to choose it again.
        self.connections.discard(self)
        # The kernel would else keep for the client what it has taken. One who has just gone, in the
        # middle of a greeting say, has no socket any more.
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
        self._wire.abort()

    # The request

    @property
    def _is_idle(self) -> bool:
        return not self._is_begun or self.cycle.response_complete

    def _await_request(self) -> None:
        if self._receiving is None:
            self._receiving = self._later(self.limits.receive, self.let_go)

    def _request_is_here(self) -> None:
        if self._receiving:
            self._receiving.cancel()
            self._receiving = None

    def data_received(self, data: bytes) -> None:
        if self._refusal:
            return
        self._unset_keepalive_if_required()
        try:
            for start in range(0, len(data), _HEAD_PIECE):
                self._read(data[start : start + _HEAD_PIECE])
        except RefusedError as refusal:
            self._refuse(refusal)
        except httptools.HttpParserCallbackError as error:
            found = error.__context__
            unknown = RefusedError(HTTPStatus.BAD_REQUEST, "the request's target is no URL")
            self._refuse(found if isinstance(found, RefusedError) else unknown)
        except httptools.HttpParserError as error:
            self._refuse(RefusedError(HTTPStatus.BAD_REQUEST, f"malformed request: {error}"))
        except httptools.HttpParserUpgrade:
            # It is answered in HTTP/1.1 all the same, and is the last: llhttp reads no further.
            self.cycle.keep_alive = False
            self._refuse(RefusedError(HTTPStatus.BAD_REQUEST, "no other protocol is spoken here"))
        else:
            # A request that came in one piece, as nearly all do, needs no clock.
            if self._in_message or (self._is_idle and not self.timeout_keep_alive_task):
                self._await_request()

    def _read(self, piece: bytes) -> None:
        self.parser.feed_data(piece)
        if self._in_head:
            self._head_size += len(piece)
            if self._head_size > self.limits.head:
                raise RefusedError(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                    f"the request's head has more than {self.limits.head} bytes",
                )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_message, self._in_head, self._head_size = True, True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._is_begun and not self.cycle.keep_alive:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the last request was to be the last")
        if len(self.pipeline) >= self.limits.pipelined:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "too many requests before an answer")
        # Prometheus asks for the same again and again.
        method, version = self.parser.get_method(), self.parser.get_http_version()
        asked = (method, version, self.url, self.headers)
        if asked != self._passed:
            check(method, version, self.headers, self.limits.body)
            self._passed = asked
        self.url = path_of(method, self.url)
        super().on_headers_complete()
        self._is_begun = True

    def on_message_complete(self) -> None:
        self._in_message = False
        self._request_is_here()
        super().on_message_complete()
        if self.cycle.response_complete:
            # It was answered before it had ended.
            self.timeout_keep_alive_task = self._later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _refuse(self, refusal: RefusedError) -> None:
        self._refusal = refusal
        if self._is_idle:
            self._say_refusal(refusal)
        else:
            # First come the answers to what was asked before.
            self._request_is_here()

    def _say_refusal(self, refusal: RefusedError) -> None:
        text = f"kamal-sd: {refusal}\n".encode()
        lines = [
            STATUS_LINE[refusal.status],
            *map(_LINE.__mod__, self.server_state.default_headers),
            b"content-type: text/plain; charset=utf-8\r\n",
            b"content-length: %d\r\nconnection: close\r\n\r\n" % len(text),
            text,
        ]
        self._await_request()
        self.transport.write(b"".join(lines))
        if self.transport.can_write_eof():
            # A kernel that has unread bytes at the end takes the answer back from the client.
            self.transport.write_eof()
        else:
            self.transport.close()

    # The answer

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: _App) -> None:
        # `self.cycle` is that of the last request, which may have to wait for those before it.
        super()._start_asgi_task(cycle, partial(self._answer, cycle, app))

    async def _answer(
        self,
        cycle: RequestResponseCycle,
        app: _App,
        scope: _Message,
        receive: _Receive,
        send: _Send,
    ) -> None:
        is_old = scope["http_version"] == "1.0"
        if not self.flow.write_paused:
            self._answer_is_taken()
        scope["extensions"] = _EXTENSIONS

        async def send_pieces(message: _Message) -> None:
            if message["type"] == ready.TYPE:
                await self._send_ready(cycle, message)
                return
            if is_old:
                # It knows no chunks: an answer without a length ends with the connection.
                cycle.chunked_encoding = False
            if message["type"] == "http.response.start":
                await send(message)
                return
            body = message.get("body", b"")
            for start in range(0, len(body) or 1, _ANSWER_PIECE):
                end = start + _ANSWER_PIECE
                if self._has_left(cycle):
                    return
                piece = body[start:end]
                if is_old:
                    cycle.expected_content_length = len(piece)
                more = message.get("more_body", False) or end < len(body)
                await send({"type": message["type"], "body": piece, "more_body": more})

        try:
            await app(scope, receive, send_pieces)
        finally:
            if self._wire.get_write_buffer_size() or not cycle.response_complete:
                self.loop.call_soon(self._await_taking)

    async def _send_ready(self, cycle: RequestResponseCycle, message: _Message) -> None:
        """Sends a whole answer, its head together with its beginning, as `cycle.send` would."""
        # Whoever asks on and on and reads nothing is not answered on and on.
        if self.flow.write_paused:
            await self.flow.drain()
        if self._has_left(cycle):
            return
        cycle.response_started = True
        head = b"".join(
            [
                STATUS_LINE[message["status"]],
                *map(_LINE.__mod__, cycle.default_headers),
                message["head"],
                b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n",
            ]
        )
        body = memoryview(message["body"])
        start = self._offer(head, body) - len(head)
        if start < 0:
            self.transport.write(head[start:] + body[:_ANSWER_PIECE])
            start = _ANSWER_PIECE
        while start < len(body):
            if self.flow.write_paused:
                await self.flow.drain()
            if self._has_left(cycle):
                return
            start += self._offer(body[start:])
            # It is kept until the kernel takes more; nothing where that has taken all.
            self.transport.write(body[start : start + _ANSWER_PIECE])
            start += _ANSWER_PIECE
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def _offer(self, *parts: bytes | memoryview) -> int:
        """Gives the kernel what it takes of them at once, and returns how many bytes.

        asyncio would copy, and keep, what it does not take.
        """
        if self.transport is self._wire and not self._wire.get_write_buffer_size():
            try:
                return os.writev(self._socket.fileno(), parts)
            except OSError:
                # It fails in the next write, too, and asyncio knows what that means.
                return 0
        return 0

    def _has_left(self, cycle: RequestResponseCycle) -> bool:
        """Whether the client is gone. It is seen by a write; uvicorn hears of it a little later."""
        cycle.disconnected |= self.transport.is_closing()
        return cycle.disconnected

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._refusal and self._is_idle and not self.transport.is_closing():
            self._say_refusal(self._refusal)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._answer_is_taken()
        self._unread = self._later(_SLOW_SECONDS, self._is_slowly_read)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._answer_is_taken()

    def _await_taking(self) -> None:
        if self._unread is None and self._wire.get_write_buffer_size():
            self._unread = self._later(self.limits.unread, self._is_not_read)

    def _is_slowly_read(self) -> None:
        self._is_slow = True
        self._unread = self._later(self.limits.unread - _SLOW_SECONDS, self._is_not_read)
        slow = [each for each in self._others() if each.taking_until]
        if len(slow) > self.limits.unread_answers:
            min(slow, key=lambda each: each.taking_until).let_go()

    def _is_not_read(self) -> None:
        if self._wire.get_write_buffer_size():
            self.let_go()

    @property
    def taking_until(self) -> float:
        """Until when a slow client is waited for; 0 where he is not slow."""
        return self._unread.when() if self._unread and self._is_slow else 0.0

    def _answer_is_taken(self) -> None:
        self._is_slow = False
        if self._unread:
            self._unread.cancel()
            self._unread = None
