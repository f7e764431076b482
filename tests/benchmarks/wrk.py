"""wrk, which asks each container of the apps on the apps' own network."""

import json
import signal
import socket
import threading
from pathlib import Path
from typing import Final, NamedTuple

from tests.benchmarks.lives import Life, Lives
from tests.lab.packages import require
from tests.lab.process import Process

NETWORK: Final = "kamal"
PORT: Final = 9394
CONNECTIONS: Final = 2

SCRIPT: Final = Path(__file__).with_suffix(".lua")


class Count(NamedTuple):
    """What wrk counted."""

    requests: int
    failed: int
    longest: float
    """The longest time from one answer to the next on a connection, in seconds."""
    ended: float


class Load(NamedTuple):
    """What wrk counted of one container."""

    life: Life
    counted: Count

    @property
    def outlived(self) -> bool:
        """Whether the container was gone before wrk was."""
        return self.life.ended is not None and self.life.ended < self.counted.ended


class Wrk(threading.Thread):
    """Loads each container from when it listens until it is told to stop."""

    def __init__(self, lives: Lives, folder: Path) -> None:
        require("wrk")
        super().__init__()
        self._lives, self._folder = lives, folder
        self._going: dict[str, Process] = {}
        self._counts: dict[str, Count] = {}
        self._ending = threading.Event()

    def run(self) -> None:
        try:
            while not self._ending.wait(0.01):
                for identity, life in list(self._lives.by_id.items()):
                    self._look(identity, life)
        finally:
            self._counts = {identity: end(each) for identity, each in self._going.items()}

    def end(self) -> None:
        """End all of it."""
        self._ending.set()
        self.join()

    def loads(self) -> list[Load]:
        """Return what was counted, after the end."""
        return [Load(self._lives.by_id[each], count) for each, count in self._counts.items()]

    def _look(self, identity: str, life: Life) -> None:
        is_over = life.told is not None or life.ended is not None
        if process := self._going.get(identity):
            if is_over and process.running:
                process.signal(signal.SIGINT)
            return
        if is_over:
            return
        address = self._lives.address(NETWORK, identity)
        if address and _listens(address):
            log = self._folder / f"wrk-{identity[:12]}.log"
            self._going[identity] = begin(f"http://{address}:{PORT}/metrics", log)


def begin(url: str, log: Path) -> Process:
    """Start wrk, which ends with SIGINT and then writes what it counted."""
    connections = (f"--threads={CONNECTIONS}", f"--connections={CONNECTIONS}")
    return Process("wrk", ["wrk", *connections, "--duration=1h", "--script", SCRIPT, url], log=log)


def end(process: Process) -> Count:
    """End wrk, if it still runs, and return what it counted."""
    process.signal(signal.SIGINT)
    process.wait(10)
    return Count(**json.loads(process.tail().splitlines()[-1]))


def _listens(address: str) -> bool:
    try:
        socket.create_connection((address, PORT), timeout=0.1).close()
    except OSError:
        return False
    return True
