"""Engines that are simulated, as many as one machine could never run: the Engine API over unix
sockets, with containers as Kamal starts them.

They live in a process of their own, so that what they cost is nobody else's, and do what they are
told over a pipe. Shapes: Docker Engine 28.5, as in `tests/builders.py`.
"""

import asyncio
import json
import multiprocessing
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

from tests.builders import entry, labels

OLD: Final = "Up 3 hours"
NEW: Final = "Up Less than a second"
PORT: Final = 9394

_VERSION: Final = {"ApiVersion": "1.51", "MinAPIVersion": "1.24", "Version": "28.5.2"}


class Event(NamedTuple):
    """What is to happen to the container of that number: `start`, `die`, `create` or `destroy`."""

    action: str
    number: int


def host_of(engine: int) -> str:
    return f"host-{engine:03}"


def service_of(number: int) -> str:
    """Each container is the web of a service of its own."""
    return f"shop{number:05}"


def ip_of(number: int, starts: int) -> str:
    """A container has another address after each start."""
    return f"10.{starts % 256}.{number // 250}.{number % 250 + 2}"


class _Container:
    def __init__(self, engine: int, number: int, *, runs: bool) -> None:
        self.number = number
        self.id = f"{engine:08x}{number:08x}".ljust(64, "0")
        self.runs = runs
        self.starts = 0

    def shown(self) -> dict[str, Any]:
        state, status = ("running", NEW if self.starts else OLD) if self.runs else ("exited", "")
        service = service_of(self.number)
        address = ip_of(self.number, self.starts) if self.runs else ""
        return entry(
            f"{service}-web-v1",
            Id=self.id,
            Image=f"registry.example/{service}:v1",
            Labels=labels(service, port=str(PORT)),
            State=state,
            Status=status or "Exited (0) Less than a second ago",
            Created=int(time.time()) - 20_000,
            NetworkSettings={"Networks": {"kamal": {"IPAddress": address}}},
        )


class _Engine:
    """One engine: what it has, who listens to its events, and whether it answers."""

    def __init__(self, number: int, containers: int) -> None:
        self.number = number
        self.containers = {each: _Container(number, each, runs=True) for each in range(containers)}
        self.listeners: set[asyncio.StreamWriter] = set()
        self.connections: set[asyncio.StreamWriter] = set()
        self.answering = asyncio.Event()
        self.answering.set()
        self.lists_asked = 0

    # --- what it is told ---

    def happen(self, *events: Event) -> float:
        """Does it, and tells it to all who listen; when, on the monotonic clock."""
        told = b"".join(self._chunk(event) for event in events)
        now = time.monotonic()
        for listener in self.listeners:
            listener.write(told)
        return now

    def drop(self) -> None:
        for connection in self.connections:
            connection.transport.abort()

    def hold(self) -> None:
        self.answering.clear()

    def let_go(self) -> None:
        self.answering.set()

    def asked(self) -> tuple[int, int]:
        return self.lists_asked, len(self.listeners)

    # --- what it tells ---

    def _chunk(self, event: Event) -> bytes:
        action, number = event
        if action == "create":
            self.containers[number] = _Container(self.number, number, runs=False)
        container = self.containers[number]
        if action == "destroy":
            del self.containers[number]
        if action == "start":
            container.starts += 1
        container.runs = action == "start"
        said = {"Type": "container", "Action": action, "Actor": {"ID": container.id}}
        line = json.dumps(said).encode() + b"\n"
        return b"%x\r\n%s\r\n" % (len(line), line)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                url = urlsplit(head.split(b" ", 2)[1].decode())
                if url.path.endswith("/events"):
                    await self._tell(reader, writer)
                    break
                if url.path.endswith("/containers/json"):
                    self.lists_asked += 1
                    await self.answering.wait()
                    found: object = self._listed(parse_qs(url.query))
                else:
                    found = _VERSION
                writer.write(_answer(found))
                await writer.drain()
        self.connections.discard(writer)
        writer.close()

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        self.listeners.add(writer)
        await reader.read()
        self.listeners.discard(writer)

    def _listed(self, query: Mapping[str, list[str]]) -> list[dict[str, Any]]:
        wanted = json.loads(query.get("filters", ["{}"])[0]).get("id")
        return [
            each.shown() for each in self.containers.values() if wanted is None or each.id in wanted
        ]


def _answer(found: object) -> bytes:
    body = json.dumps(found).encode()
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
    return f"{head}{len(body)}\r\n\r\n".encode() + body


async def _simulate(directory: Path, containers: int, engines: int, pipe: Connection) -> None:
    simulated = [_Engine(number, containers) for number in range(engines)]
    servers = [
        await asyncio.start_unix_server(each.serve, _socket(directory, each.number))
        for each in simulated
    ]
    ended = asyncio.Event()

    def obey() -> None:
        try:
            number, order, *arguments = pipe.recv()
        except EOFError:
            ended.set()
        else:
            pipe.send(getattr(simulated[number], order)(*arguments))

    asyncio.get_running_loop().add_reader(pipe.fileno(), obey)
    pipe.send(None)
    await ended.wait()
    for server in servers:
        server.close()


def _socket(directory: Path, number: int) -> Path:
    return directory / f"{number}.sock"


def _run(directory: Path, containers: int, engines: int, pipe: Connection) -> None:
    asyncio.run(_simulate(directory, containers, engines, pipe))


class Engines:
    """So many simulated engines, with so many running containers on each, while the context lasts.

    The path of the directory must be short: a unix socket's has 108 bytes at the most.
    """

    def __init__(self, directory: Path, engines: int, containers: int) -> None:
        self.directory = directory
        self.engines = engines
        self.containers = containers

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (self.directory, self.containers, self.engines, theirs)
        self._process = context.Process(target=_run, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(10)

    def settings_file(self, timeout: float = 10.0, **more: object) -> Path:
        """A settings file with all of them, each with that timeout. JSON is YAML, too."""
        engines = [
            {
                "url": f"unix://{_socket(self.directory, number)}",
                "host": host_of(number),
                "timeout": timeout,
            }
            for number in range(self.engines)
        ]
        path = self.directory / "config.yml"
        path.write_text(json.dumps({"engines": engines, **more}))
        return path

    def happen(self, engine: int, *events: Event) -> float:
        """Has all that happen at once; when, on the monotonic clock."""
        at: float = self._told(engine, "happen", *events)
        return at

    def drop(self, engine: int) -> None:
        """Breaks all connections to the engine off."""
        self._told(engine, "drop")

    def hold(self, engine: int) -> None:
        """Has it answer no list from now on; its events are told all the same."""
        self._told(engine, "hold")

    def let_go(self, engine: int) -> None:
        """Has it answer all lists that it has not, and all that will be asked for."""
        self._told(engine, "let_go")

    def lists_asked(self, engine: int) -> int:
        """How many lists it was asked for, answered or not."""
        count: int = self._told(engine, "asked")[0]
        return count

    def listeners(self, engine: int) -> int:
        """How many are subscribed to its events."""
        count: int = self._told(engine, "asked")[1]
        return count

    def _told(self, engine: int, order: str, *arguments: object) -> Any:
        self._pipe.send((engine, order, *arguments))
        return self._pipe.recv()
