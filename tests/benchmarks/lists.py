"""One list of the engine's containers as the resync asks for it, beside the same one read raw."""

import http.client
import json
import socket
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from app.engine.client import DockerConnection
from tests.benchmarks.rounds import ROUNDS, Rounds, Row, median_ratio, rounds_of

LISTS: Final = 10
GOAL: Final = 1.25


class _Raw(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("engine")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def measure(engine: Path, rounds: int = ROUNDS) -> Rounds:
    """The median seconds of a list, by each, over a connection that stays."""
    connection = DockerConnection(f"unix://{engine}", timeout=10, silence=600)
    raw = _Raw(engine)

    def read_raw() -> None:
        raw.request("GET", "/v1.41/containers/json?all=1")
        json.loads(raw.getresponse().read())

    try:
        ways = {"ours": partial(_median, connection.containers), "raw": partial(_median, read_raw)}
        return rounds_of(ways, rounds)
    finally:
        connection.close()
        raw.close()


def _median(way: Callable[[], object]) -> float:
    taken = []
    for _ in range(LISTS):
        begun = time.perf_counter()
        way()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def rows(found: Rounds, containers: int) -> list[Row]:
    """Ours against the raw one."""
    ours, raw = (statistics.median(found[name]) * 1000 for name in ("ours", "raw"))
    return [
        Row(
            f"one list of the resync, {containers} containers",
            f"{ours:.1f} ms",
            f"{raw:.1f} ms, read raw and taken as JSON",
            median_ratio(found["ours"], found["raw"]),
            "times",
            GOAL,
        )
    ]
