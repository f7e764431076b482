"""A wire between a client and a server on loopback, on which every request is read along."""

import asyncio
import threading
from contextlib import suppress
from typing import NamedTuple, Self

from tests.lab.process import LabError

_CHUNK = 64 * 1024
_END = b"\r\n\r\n"


class Request(NamedTuple):
    """The head of a request: its path, with the query, and its headers by lower-case names."""

    path: str
    headers: dict[str, str]


class Wire:
    """Passes bytes on to a port as they are, both ways; `requests` are those without a body."""

    def __init__(self, port: int) -> None:
        self.requests: list[Request] = []
        self.address = ""
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="wire")

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            with suppress(OSError):
                await self._connect(reader, writer)

        server = await asyncio.start_server(connected, "127.0.0.1")
        host, port = server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            raise
        try:
            there = self._pump(reader, far_writer, listen=True)
            back = self._pump(far_reader, writer, listen=False)
            await asyncio.gather(there, back)
        finally:
            writer.close()
            far_writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, listen: bool
    ) -> None:
        heard = b""
        while chunk := await reader.read(_CHUNK):
            if listen:
                *heads, heard = (heard + chunk).split(_END)
                self.requests += map(_request, heads)
            writer.write(chunk)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise LabError("the wire did not get ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


def _request(head: bytes) -> Request:
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = (line.partition(":") for line in rest)
    return Request(
        path=first.split(" ")[1],
        headers={name.strip().lower(): value.strip() for name, _, value in headers},
    )
