"""When each container of an app lived, and what was its address: from the engine's own events."""

import json
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.lab.engine import Docker
from tests.lab.process import LabError, system_environment


class Life(NamedTuple):
    """A container's times on this machine's clock; None where it has not happened."""

    service: str
    role: str
    name: str
    started: float
    told: float | None = None
    """When it was told to stop."""
    ended: float | None = None


class Lives:
    """The last life of each container, by its id, and who joined a network when."""

    def __init__(self, docker: Docker, network: str) -> None:
        self.by_id: dict[str, Life] = {}
        self.joined: list[tuple[float, str, str]] = []
        """The times, each with the container's id and the address that it got."""
        self._docker, self._network = docker, network

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Heed the engine's events meanwhile."""
        command = ["docker", "--host", self._docker.url, "events", "--format", "{{json .}}"]
        environment = system_environment(HOME="/nonexistent")
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        ) as events:
            assert events.stdout
            thread = threading.Thread(target=self._follow, args=[events.stdout])
            thread.start()
            try:
                yield
            finally:
                events.terminate()
                thread.join()

    def running(self, service: str, role: str, at: float) -> list[Life]:
        """Return those of a role that ran for sure at that time, the oldest first."""
        return sorted(
            (
                each
                for each in self.by_id.values()
                if (each.service, each.role) == (service, role)
                and each.started < at
                and (each.ended or at) >= at
            ),
            key=lambda each: each.started,
        )

    def address(self, network: str, identity: str) -> str:
        """Return the address that a container has on a network now, empty where it has none."""
        place = f'index .NetworkSettings.Networks "{network}"'
        form = f"--format={{{{with {place}}}}}{{{{.IPAddress}}}}{{{{end}}}}"
        try:
            return self._docker.docker("inspect", form, identity).strip()
        except LabError:
            # It is gone.
            return ""

    def _follow(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._heed(line)

    def _heed(self, line: str) -> None:
        event = json.loads(line)
        at = event["timeNano"] / 1e9
        attributes = event["Actor"]["Attributes"]
        if event["Type"] == "network":
            if event["Action"] == "connect" and attributes["name"] == self._network:
                self._join(at, attributes["container"])
            return
        identity, role = event["Actor"]["ID"], attributes.get("role", "")
        known = self.by_id.get(identity)
        if event["Action"] == "start" and role:
            self.by_id[identity] = Life(attributes["service"], role, attributes["name"], at)
        elif event["Action"] == "kill" and known and known.told is None:
            self.by_id[identity] = known._replace(told=at)
        elif event["Action"] == "die" and known:
            self.by_id[identity] = known._replace(ended=at)

    def _join(self, at: float, identity: str) -> None:
        # The event comes before inspect shows what it tells.
        for _ in range(50):
            if address := self.address(self._network, identity):
                self.joined.append((at, identity, address))
                return
            time.sleep(0.005)
