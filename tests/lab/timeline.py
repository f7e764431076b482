"""What kamal-sd decides while a deploy goes on, told as it happens."""

import time
from collections.abc import Callable
from typing import NamedTuple

import httpx

from tests.lab.process import Process
from tests.lab.sd import Server

Labels = frozenset[tuple[str, str]]

EVENTS = {
    "not-started": "is created",
    "candidate": "starts; the current one stays the target",
    "superseded": "still runs, and is no target any more",
    "stopped": "has stopped",
    "kept": "has stopped; its target stays, so that alerts see it",
}


class Change(NamedTuple):
    """A container whose decision is new. `place` is where its metrics are, if it is a target."""

    slot: str
    version: str
    reason: str
    place: str

    @property
    def words(self) -> str:
        if self.reason == "current":
            return f"is the target: {self.place}"
        return EVENTS.get(self.reason, self.reason)


class Timeline:
    """Follows one service through a server's /explain and /targets."""

    def __init__(self, server: Server, service: str, tell: Callable[[Change], None]) -> None:
        self._server = server
        self._service = service
        self._tell = tell
        self._seen: dict[str, Change] = {}
        self.label_sets: list[frozenset[Labels]] = []
        """The plain labels of all targets, each time that they were others than before."""

    def look(self) -> None:
        """Tell what has changed since the last look."""
        document = self._server.get("/explain").raise_for_status().json()
        for each in document["decisions"]:
            if each["service"] != self._service or not each["slot"]:
                continue
            place = each["upstream"] or ", ".join(each["targets"])
            change = Change(each["slot"], each["version"], each["reason"], place)
            if self._seen.get(each["container_id"]) != change:
                self._seen[each["container_id"]] = change
                self._tell(change)
        labels = self._plain_labels()
        if not self.label_sets or self.label_sets[-1] != labels:
            self.label_sets.append(labels)

    def follow(self, command: Process) -> int:
        """Look ten times a second until the command ends, and once more; return its exit code."""
        while command.running:
            self.look()
            time.sleep(0.1)
        self.look()
        return command.stop()

    def current(self) -> dict[str, Change]:
        """Return each slot's current container as of the last look."""
        seen = self._seen.values()
        return {change.slot: change for change in seen if change.reason == "current"}

    def _plain_labels(self) -> frozenset[Labels]:
        query = httpx.QueryParams(service=self._service)
        groups = self._server.get(f"/targets?{query}").raise_for_status().json()
        return frozenset(
            frozenset(
                (name, value)
                for name, value in group["labels"].items()
                if not name.startswith("__meta_")
            )
            for group in groups
        )
