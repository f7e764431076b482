"""Whoever listens to an engine's events and does nothing else: a process of its own, so that nobody
else's work is in the times.

`python -m tests.benchmarks.listener SOCKET` prints a line an event: its action, the container's id,
and when it had been read, on the monotonic clock, which is one for all processes.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Self

from tests.lab.process import LabError
from tests.lab.sd import REPOSITORY

_REQUEST: Final = b"GET /events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D HTTP/1.1\r\n"


class Happened(NamedTuple):
    """An event, and when the listener had read it, on the monotonic clock."""

    action: str
    container: str
    at: float


class Listener:
    """A listening process, and what it has heard."""

    def __init__(self, path: Path) -> None:
        self.heard: list[Happened] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.listener", str(path)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self._lines = self._process.stdout
        if not self._lines.readline():
            raise LabError(f"nobody could listen to the events of the engine at {path}; see above")
        self._thread = threading.Thread(target=self._take, name="listener")

    def _take(self) -> None:
        for line in self._lines:
            action, container, at = line.split()
            self.heard.append(Happened(action, container, float(at)))

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
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        self._lines.close()


def _events(stream: BinaryIO) -> Iterator[Happened]:
    for line in stream:
        # The rest are the sizes of chunks.
        if line.startswith(b"{"):
            at, said = time.monotonic(), json.loads(line)
            yield Happened(said["Action"], said["Actor"]["ID"], at)


def main(path: str) -> None:
    """Listens until it is ended."""
    with socket.socket(socket.AF_UNIX) as engine:
        engine.connect(path)
        engine.sendall(_REQUEST + b"Host: engine\r\n\r\n")
        with engine.makefile("rb") as stream:
            while stream.readline().strip():
                pass
            print("listening", flush=True)
            for each in _events(stream):
                print(*each, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
