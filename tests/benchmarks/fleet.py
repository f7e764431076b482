"""A real engine with many containers."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx

from tests.engine.town import Town
from tests.lab.engine import Engine

_AT_ONCE = 8


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
