"""A unix socket in front of an engine's: it hands on everything, and writes down what was asked.

Told to, it misbehaves as proxies, networks and engines do that are out of order.
"""

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

# As long as a client takes to send its question.
_QUESTION_SECONDS = 0.05


class Forwarder:
    """Hands connections on to the engine's socket, until it is told to cut them or to misbehave.

    `requests` has the request lines of all connections. One thread does it all.
    """

    def __init__(self, path: Path, engine: Path) -> None:
        self.url = f"unix://{path}"
        self.requests: list[str] = []
        self._engine = engine
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._links: set[_Link] = set()
        self._answers: dict[str, bytes] = {}
        self._muted: str | None = None
        self._resets = False
        self._breaks = False
        self._loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Event
        self._begun = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._forward()), name="forwarder"
        )

    def cut(self) -> None:
        """Ends every connection in the middle of whatever it was."""
        self._loop.call_soon_threadsafe(self._end_links)

    @contextmanager
    def answering(self, asked: str, answer: bytes) -> Iterator[None]:
        """Gives this answer itself, head and all, to requests with `asked` in their first line."""
        self._answers[asked] = answer
        yield
        del self._answers[asked]

    @contextmanager
    def silent(self, asked: str = "") -> Iterator[None]:
        """Takes all and hands nothing back on connections that last asked for that."""
        self._muted = asked
        yield
        self._muted = None

    @contextmanager
    def resetting(self) -> Iterator[None]:
        """Resets every connection once it was asked for something."""
        self._resets = True
        self.cut()
        yield
        self._resets = False

    @contextmanager
    def breaking_chunks(self) -> Iterator[None]:
        """Ends every stream of events in the middle of the next one."""
        self._breaks = True
        yield
        self._breaks = False

    async def _forward(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        server = await asyncio.start_unix_server(self._serve, sock=self._listener)
        self._begun.set()
        await self._ended.wait()
        server.close()
        while self._links:
            self._end_links()
            await asyncio.sleep(0)

    def _end_links(self) -> None:
        for link in self._links:
            link.end()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._resets:
            # What was not read of the question makes a reset of the end.
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(_QUESTION_SECONDS)
            writer.transport.abort()
            return
        try:
            engine_reader, engine = await asyncio.open_unix_connection(self._engine)
        except OSError:
            writer.close()
            return
        link = _Link(writer, engine)
        self._links.add(link)
        back = asyncio.create_task(self._hand_back(link, engine_reader))
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._hand_on(link, reader)
        link.end()
        await back
        self._links.discard(link)

    async def _hand_on(self, link: "_Link", reader: asyncio.StreamReader) -> None:
        while head := await _head(reader):
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            link.asked = head.decode().partition("\r\n")[0]
            self.requests.append(link.asked)
            answer = self._own_answer(link.asked)
            link.client.write(answer) if answer else link.engine.write(head + body)

    def _own_answer(self, asked: str) -> bytes:
        """What it says itself to that question; nothing where it hands it on."""
        return next((answer for part, answer in self._answers.items() if part in asked), b"")

    async def _hand_back(self, link: "_Link", reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while part := await reader.read(65_536):
                if self._muted is not None and self._muted in link.asked:
                    continue
                is_last = self._is_torn(link.asked, part)
                link.client.write(part[: len(part) // 2] if is_last else part)
                await link.client.drain()
                if is_last:
                    break
        link.end()

    def _is_torn(self, asked: str, part: bytes) -> bool:
        """Whether the connection ends in the middle of that part of an answer."""
        return self._breaks and "/events" in asked and not part.startswith(b"HTTP/")

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()


class _Link:
    """A connection from a client to the engine, and what it asked for last."""

    def __init__(self, client: asyncio.StreamWriter, engine: asyncio.StreamWriter) -> None:
        self.client = client
        self.engine = engine
        self.asked = ""

    def end(self) -> None:
        self.client.close()
        self.engine.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    """The next request's head; empty at the end."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
