"""A proxy in front of the engine that misbehaves as it is told."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.engine.forwarder import Forwarder

# A whole list, and not that of one container.
_LIST: Final = re.compile(r"GET /\S*/containers/json\?(?!\S*filters)")


class Proxy(Forwarder):
    """Hands on everything, but for what a `with` of its methods spoils."""

    def __init__(self, path: Path, engine: Path) -> None:
        super().__init__(path, engine)
        self._path = path
        self._empty_lists = 0
        self._torn_lists = 0

    @contextmanager
    def refusing(self, status: str) -> Iterator[None]:
        """Answer everything with an error like "403 Forbidden"."""
        with self.answering("", _answer(status, b'{"message":"the proxy does not want to"}')):
            self.cut()
            yield

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Be away: its socket is not there."""
        aside = self._path.with_suffix(".aside")
        self._path.rename(aside)
        self.cut()
        try:
            yield
        finally:
            aside.rename(self._path)

    def empty_list(self) -> None:
        """Cut all, and answer the next whole list as an engine without a container would.

        It is one alone: what an engine says twice is true.
        """
        self._empty_lists = 1
        self.cut()

    def tear_lists(self) -> None:
        """Cut all, and the next two lists in their middle."""
        self._torn_lists = 2
        self.cut()

    @property
    def is_done(self) -> bool:
        """Whether all lists that were to be spoiled have been."""
        return not self._empty_lists and not self._torn_lists

    def _own_answer(self, asked: str) -> bytes:
        # They would be all that grows here.
        self.requests.clear()
        if self._empty_lists and _LIST.match(asked):
            self._empty_lists -= 1
            return _answer("200 OK", b"[]")
        return super()._own_answer(asked)

    def _is_torn(self, asked: str, part: bytes) -> bool:
        if self._torn_lists and _LIST.match(asked):
            self._torn_lists -= 1
            return True
        return super()._is_torn(asked, part)


def _answer(status: str, body: bytes) -> bytes:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    head = f"HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
