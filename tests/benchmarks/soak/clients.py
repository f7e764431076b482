"""Those who ask: some check each answer, and some are odd."""

import http.client
import json
import random
import socket
import struct
import time
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from tests.benchmarks.soak import judge
from tests.benchmarks.soak.deploys import APPS
from tests.benchmarks.soak.findings import Findings
from tests.benchmarks.soak.pausing import EndedError, Gate
from tests.benchmarks.soak.truth import Fleet, Hearing
from tests.benchmarks.truth import Slot

BETWEEN: Final = 0.1
"""So many seconds a client that checks rests between two answers."""
MOST_ODD: Final = 24
# A server that is killed is away a little before and after it is known.
_BESIDE: Final = 1.0
_SLOW: Final = 5.0


class Asker:
    """Asks one server everything in turn, and checks each answer against the truth."""

    def __init__(
        self, name: str, url: str, fleet: Fleet, hearing: Hearing, findings: Findings, gate: Gate
    ) -> None:
        self.longest = 0.0
        self._name = name
        self._place = urlsplit(url).netloc
        self._fleet, self._hearing = fleet, hearing
        self._findings, self._gate = findings, gate
        self._web = http.client.HTTPConnection(self._place, timeout=_SLOW)
        self._etag, self._body = "", b""

    def work(self) -> None:
        """Ask until the gate ends it."""
        service = min(APPS)
        asked = (
            ("/targets", ""),
            ("/targets?address=ip", ""),
            (f"/targets?service={service}", service),
            ("/targets", ""),
            ("/explain", ""),
            ("/", ""),
        )
        try:
            while True:
                for path, of_service in asked:
                    self._gate.passes(BETWEEN, self._web.close)
                    self._ask(path, of_service)
        except EndedError:
            self._web.close()

    def _ask(self, path: str, service: str, *, again: bool = True) -> None:
        since = time.time()
        headers = {"If-None-Match": self._etag} if path == "/targets" and self._etag else {}
        try:
            self._web.request("GET", path, headers=headers)
            answer = self._web.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._web.close()
            until = time.time()
            if not self._hearing.away.meeting(since - _BESIDE, until + _BESIDE):
                self._wrong(path, f"no answer: {error!r} after {until - since:.2f} s")
            return
        until = time.time()
        self.longest = max(self.longest, until - since)
        self._findings.count("answers checked")
        if answer.status == http.client.NOT_MODIFIED and headers:
            # It is the answer of before, and was checked as such; now it is checked for its age.
            body = self._body
        elif answer.status != http.client.OK:
            self._wrong(path, f"{answer.status}: {body[:200]!r}")
            return
        elif path == "/targets":
            self._etag, self._body = answer.headers["ETag"], body
        try:
            faults = self._faults(path, service, body, since, until)
        except ValueError as error:
            faults = [f"it cannot be read: {error!r}"]
        is_behind = self._hearing.deaf.meeting(since, until)
        if again and is_behind and any(judge.DOWN in each for each in faults):
            # In what comes after a silence, a death is told before its successor is looked at.
            self._findings.count("deaths told a moment before the successor")
            self._gate.passes(BETWEEN)
            self._ask(path, service, again=False)
            return
        for fault in faults:
            self._wrong(path, fault)

    def _faults(
        self, path: str, service: str, body: bytes, since: float, until: float
    ) -> list[str]:
        if path.startswith("/targets"):
            return judge.of_targets(body, self._fleet, self._hearing, since, until, service)
        if path == "/":
            names = [f"{slot.service}-{slot.role}".encode() for slot in self._fleet.expected]
            return [f"the page lacks {name.decode()}" for name in names if name not in body]
        faults = []
        for each in json.loads(body)["decisions"]:
            if each["reason"] == "current":
                slot = Slot(each["service"], each["role"])
                faults += judge.of_version(
                    slot, each["version"], self._fleet, self._hearing, since, until
                )
        return faults

    def _wrong(self, path: str, words: str) -> None:
        self._findings.add("answer", f"{self._name} {path}: {words}")


class Crowd:
    """Connections to one server that are slow, silent, given up or only listened to."""

    def __init__(
        self, name: str, url: str, hearing: Hearing, findings: Findings, gate: Gate, seed: str
    ) -> None:
        place = urlsplit(url)
        self._name = name
        self._address = (place.hostname or "", place.port or 0)
        self._hearing, self._findings, self._gate = hearing, findings, gate
        self._random = random.Random(f"{seed} {name}")  # noqa: S311 - to be had again
        self._sockets: list[tuple[socket.socket, str]] = []

    def work(self) -> None:
        """Come and go until the gate ends it."""
        try:
            while True:
                self._gate.passes(self._random.uniform(0.05, 0.4), self._leave)
                if len(self._sockets) < MOST_ODD:
                    self._come()
                for each, _ in self._sockets:
                    with suppress(OSError):
                        each.recv(self._random.choice((1, 16, 512)))
                if len(self._sockets) >= self._random.randint(MOST_ODD // 2, MOST_ODD):
                    self._leave(self._random.randint(1, 4))
        except EndedError:
            self._leave()

    def _come(self) -> None:
        kinds = {
            "listeners to /events": "GET /events HTTP/1.1\r\nHost: soak\r\n\r\n",
            "slow readers": "GET /explain HTTP/1.1\r\nHost: soak\r\n\r\n" * 20,
            "half requests": "GET /targets HTTP/1.1\r\nHo",
            "silent connections": "",
            "broken requests": "GE\x00T /\r\n\r\n",
        }
        kind = self._random.choice(list(kinds))
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(2)
        since = time.time()
        try:
            connection.connect(self._address)
            connection.sendall(kinds[kind].encode())
        except OSError as error:
            connection.close()
            if not self._hearing.away.meeting(since - _BESIDE, time.time() + _BESIDE):
                self._findings.add("connection", f"{self._name}: {error!r}")
            return
        connection.setblocking(False)
        self._findings.count(kind)
        self._sockets.append((connection, kind))

    def _leave(self, most: int = MOST_ODD) -> None:
        self._random.shuffle(self._sockets)
        for _ in range(min(most, len(self._sockets))):
            connection, _kind = self._sockets.pop()
            if self._random.random() < 0.5:
                # Its end is a reset.
                now = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
            connection.close()
