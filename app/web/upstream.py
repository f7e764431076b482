"""HTTP/1.1 as far as the relay needs it: GET, over connections that are kept alive.

llhttp reads the answers, as it reads the requests that come to kamal-sd. What comes is gathered
until there is enough of it to be worth a turn, and an app that sends faster than its scraper takes
is left waiting by its own socket.
"""

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from httptools import HttpParserCallbackError, HttpParserError
from httptools import HttpResponseParser as Parser

Headers = list[tuple[bytes, bytes]]

# So much of a body is gathered, unless it ends before. Of what is not taken, twice that is kept.
PIECE = 64 * 1024
# What is no body may be so long at a time: a head, say.
_MOST_OVERHEAD = 64 * 1024
_PORTS = {"http": 80, "https": 443}
_INTERIM, _SWITCHING = range(100, 200), 101


class UpstreamError(Exception):
    """There is no whole answer. The message says why."""


class Connection(asyncio.BufferedProtocol):
    """A connection, and the answer to what was asked on it last.

    `status` and `headers` are those of the answer, as they were sent. `is_whole` tells whether all
    of it has come.
    """

    def __init__(self, buffer: memoryview, lost: Callable[["Connection"], object]) -> None:
        self.status = 0
        self.headers: Headers = []
        self.is_whole = True
        # Whether nobody has ended it, nor is going to.
        self._is_open = True
        self._buffer = buffer
        self._lost = lost
        self._transport: asyncio.Transport
        self._parser = Parser(self)
        # It harms nobody: one answer is awaited, and handed on in chunks or with a length of ours.
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_chunked_length=True
        )
        self._error = ""
        self._news: asyncio.Future[None] | None = None
        self._has_head = self._ends_with_connection = False
        self._overhead = 0
        # What has come of the body, and was not taken yet.
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_paused = False

    @property
    def is_free(self) -> bool:
        """Whether something may be asked: the last answer is whole, and was taken."""
        return self.is_whole and not self._pieces and self._is_open

    async def ask(self, request: bytes) -> None:
        """Sends it, and waits for as much of the answer as `read` does. Raises UpstreamError."""
        self.status, self.headers = 0, []
        self.is_whole = self._has_head = self._ends_with_connection = False
        self._overhead = 0
        self._transport.write(request)
        await self._wait()

    async def read(self) -> bytes:
        """What comes next of the body, PIECE bytes of it or the end. Raises UpstreamError."""
        await self._wait()
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._is_paused and self._is_open:
            self._is_paused = False
            self._transport.resume_reading()
        return body

    def close(self) -> None:
        """Ends it at once."""
        self._is_open = False
        self._lost(self)
        self._transport.abort()

    @property
    def _is_news(self) -> bool:
        return self.is_whole or bool(self._error) or self._size >= PIECE

    async def _wait(self) -> None:
        if not self._is_news:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        if self._error:
            raise UpstreamError(self._error)

    def _fail(self, error: str) -> None:
        if not self.is_whole:
            self._error = self._error or error
        self.close()

    # What asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - it is a stream
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.is_whole:
            # Nothing was asked.
            self.close()
            return
        self._overhead += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except HttpParserCallbackError as error:
            self._fail(str(error.__context__))
        except HttpParserError as error:
            self._fail(f"malformed answer: {error}")
        if self._overhead > _MOST_OVERHEAD and not self.is_whole:
            self._fail(f"more than {_MOST_OVERHEAD} bytes of its answer are no body")
        if self._size >= 2 * PIECE and not self._is_paused and self._is_open:
            self._is_paused = True
            self._transport.pause_reading()
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open = False
        if self._ends_with_connection and exc is None and not self._error:
            self.is_whole = True
        elif not self.is_whole:
            self._fail(str(exc or "it closed the connection before its answer was whole"))
        self._tell()
        self._lost(self)
        # It holds what it calls.
        del self._parser

    def _tell(self) -> None:
        if self._news and not self._news.done() and self._is_news:
            self._news.set_result(None)

    # What llhttp tells

    def on_message_begin(self) -> None:
        if self.is_whole:
            raise UpstreamError("more than an answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        # Others may follow a body in chunks.
        if not self._has_head:
            self.headers.append((name, value.strip()))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self._parser.get_http_version() not in ("1.0", "1.1"):
            raise UpstreamError("it does not speak HTTP/1.1")
        if self.status < _INTERIM.start or self.status == _SWITCHING:
            raise UpstreamError(f"it answers with {self.status}, which was not asked for")
        if self.status in _INTERIM:
            return
        self._has_head = True
        framing = {name.lower(): value for name, value in self.headers}
        encoding = framing.get(b"transfer-encoding", b"")
        if encoding and encoding.lower() != b"chunked":
            raise UpstreamError("its answer has an encoding that was not asked for")
        self._ends_with_connection = not encoding and b"content-length" not in framing

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        self._pieces.append(body)
        self._size += len(body)

    def on_message_complete(self) -> None:
        if self._has_head:
            self.is_whole = True
            self._is_open = self._is_open and self._parser.should_keep_alive()
        else:
            self.headers, self._overhead = [], 0


class Connections:
    """The connections to one place, `scheme` and `authority` (host and port, or host alone).

    What comes is read through the `buffer`, which all that are of one loop may share.
    """

    def __init__(
        self, scheme: str, authority: str, tls: ssl.SSLContext | None, buffer: memoryview
    ) -> None:
        place = urlsplit(f"//{authority}")
        self._host = place.hostname or ""
        self._port = place.port or _PORTS[scheme]
        self._tls = tls
        self._buffer = buffer
        # The one that was used last is the last.
        self._idle: dict[Connection, None] = {}
        self._is_closed = False

    async def take(self) -> Connection:
        """One on which something may be asked, for the caller alone. Raises UpstreamError."""
        if self._idle:
            return self._idle.popitem()[0]
        try:
            # The addresses of a name are tried in turn. To try several at once leaves sockets open
            # where it is cancelled (Python 3.11).
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._buffer, self._forget),
                self._host,
                self._port,
                ssl=self._tls,
            )
        except OSError as error:
            raise UpstreamError(str(error) or type(error).__name__) from None
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keeps it for the next one who asks, or ends it where nothing may be asked any more."""
        if connection.is_free and not self._is_closed:
            self._idle[connection] = None
        else:
            connection.close()

    def close(self) -> None:
        """Ends them, and those that are taken when they are given back."""
        self._is_closed = True
        self.drop_idle()

    def drop_idle(self) -> None:
        """Ends those that nobody has taken."""
        while self._idle:
            self._idle.popitem()[0].close()

    def _forget(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
