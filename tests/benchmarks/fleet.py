"""A real engine with many containers, and what its events say when to whoever listens to it."""

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

import httpx

from tests.engine.town import Town
from tests.lab.engine import Engine

_AT_ONCE = 8


class Happened(NamedTuple):
    """An event, and when a listener had read it, on the monotonic clock."""

    action: str
    container: str
    at: float


class Listener:
    """A consumer of an engine's events that does nothing else."""

    def __init__(self, path: Path) -> None:
        self.heard: list[Happened] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        query = "filters=%7B%22type%22%3A%5B%22container%22%5D%7D"
        self._socket.sendall(f"GET /events?{query} HTTP/1.1\r\nHost: engine\r\n\r\n".encode())
        self._file = self._socket.makefile("rb")
        while self._file.readline().strip():
            pass
        self._thread = threading.Thread(target=self._listen, name="listener")

    def _listen(self) -> None:
        for line in self._file:
            # The rest are the sizes of chunks.
            if line.startswith(b"{"):
                at, said = time.monotonic(), json.loads(line)
                self.heard.append(Happened(said["Action"], said["Actor"]["ID"], at))

    def last(self, action: str, since: int = 0) -> Happened:
        """The latest of an action after the first so many events; waits for it."""
        while True:
            for each in reversed(self.heard[since:]):
                if each.action == action:
                    return each
            time.sleep(0.001)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._file.close()
        self._socket.close()


class Fleet(Town):
    """Containers of as many roles as one likes, on an engine of their own."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.socket = engine.socket
        self.ids: list[str] = []
        transport = httpx.HTTPTransport(uds=str(engine.socket))
        self._api = httpx.Client(transport=transport, base_url="http://engine", timeout=60)
        self._pool = ThreadPoolExecutor(_AT_ONCE)

    def grow(self, count: int) -> None:
        """Has so many containers run."""
        roles = [role_of(number) for number in range(len(self.ids), count)]
        made = list(self._pool.map(partial(self.create, restart="no"), roles))
        self.ids += made
        self.tell("start", made)

    def tell(self, command: str, ids: Sequence[str]) -> None:
        """Has the engine `start` or `kill` all of them, several at a time, and waits for it."""
        for answer in self._pool.map(lambda each: self._post(each, command), ids):
            answer.raise_for_status()

    def begin(self, command: str, container: str) -> Future[httpx.Response]:
        """Has it done to one, and does not wait."""
        return self._pool.submit(self._post, container, command)

    def _post(self, container: str, command: str) -> httpx.Response:
        return self._api.post(f"/containers/{container}/{command}")

    def close(self) -> None:
        self._pool.shutdown()
        self._api.close()


def role_of(number: int) -> str:
    return f"r{number:03}"


@contextmanager
def fleet(directory: Path, count: int) -> Iterator[Fleet]:
    """An engine with so many running containers, as long as the context lasts."""
    with Engine(directory) as engine:
        found = Fleet(engine)
        try:
            found.grow(count)
            yield found
        finally:
            found.close()
