"""Made-up engines: what is true of their containers, and what of it is told, as to a session."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from app.discovery.labels import readable
from app.engine import ledger, parse
from app.model import Container, Health, Slot, Snapshot
from app.model import State as Is
from app.settings import Settings
from app.state import State
from tests.builders import NOW, entry, human_duration, labels


@dataclass
class Truth:
    """What is so with a container, whatever was told of it."""

    id: str
    slot: Slot
    name: str
    ip: str
    port: str
    created: float
    since: float
    state: Is = Is.RUNNING
    health: Health = Health.NONE

    @property
    def runs(self) -> bool:
        return self.state in (Is.RUNNING, Is.PAUSED)

    def shown(self, now: float) -> dict[str, Any]:
        """Its entry in a list."""
        age = human_duration(max(0.0, now - self.since))
        status = {
            Is.CREATED: "Created",
            Is.RUNNING: f"Up {age}",
            Is.PAUSED: f"Up {age} (Paused)",
            Is.RESTARTING: f"Restarting (1) {age} ago",
        }.get(self.state, f"Exited (137) {age} ago")
        _, service, role, destination = self.slot
        return entry(
            self.name,
            Id=self.id,
            State=self.state.value,
            Status=status,
            Created=int(self.created),
            Labels=labels(service, role, destination, self.port),
            NetworkSettings={"Networks": {"kamal": {"IPAddress": self.ip if self.runs else ""}}},
            Health={"Status": self.health.value},
        )


class Engines:
    """Engines by their hosts. What happens to a container is told, unless its engine is lost."""

    def __init__(self, settings: Settings) -> None:
        self.now = NOW
        self.true: dict[str, Truth] = {}
        self.lost: set[str] = set()
        self.known = {engine.host: Snapshot(engine.host) for engine in settings.engines}
        self.on_publish: Callable[[Snapshot], object] = lambda snapshot: snapshot
        self._settings = settings
        self._readable = readable(settings)
        self.state = self._state()
        for host in self.known:
            self.list_all(host)

    def _state(self) -> State:
        return State(self.known.values(), self._settings, lambda: self.now)

    def of(self, host: str) -> dict[str, Truth]:
        """What is true of that engine's containers."""
        return {key: each for key, each in self.true.items() if each.slot.host == host}

    def entries(self, host: str, ids: Collection[str] = ()) -> tuple[Container, ...]:
        """What the engine's list shows now."""
        shown = [
            each.shown(self.now) for key, each in self.of(host).items() if not ids or key in ids
        ]
        return parse.containers(shown, self.now, self._readable)

    def list_all(self, host: str) -> None:
        """A full list, which ends an outage."""
        self.lost.discard(host)
        self._publish(ledger.listed(self.known[host], self.entries(host), self.now))

    def look(self, truth: Truth, *, started: bool = False) -> None:
        """An event was heard about the container, and it is looked at."""
        host, ids = truth.slot.host, [truth.id]
        if host not in self.lost:
            found = self.entries(host, ids)
            started_ids = ids if started else ()
            self._publish(ledger.looked(self.known[host], ids, found, self.now, started_ids))

    def end(self, truth: Truth, into: Is, *, stale_list: bool) -> None:
        """A container dies; a list made at that moment still shows it running."""
        host = truth.slot.host
        stale = self.entries(host)
        truth.state, truth.since = into, self.now
        if host not in self.lost:
            self._publish(ledger.died(self.known[host], truth.id, self.now))
            if stale_list:
                self.now += 0.1
                self._publish(ledger.listed(self.known[host], stale, self.now))

    def remove(self, truth: Truth) -> None:
        """A container is destroyed."""
        host = truth.slot.host
        del self.true[truth.id]
        if host not in self.lost:
            self._publish(ledger.removed(self.known[host], truth.id))

    def lose(self, host: str, silent_for: float) -> None:
        """The connection breaks; nothing was heard for a while."""
        self.lost.add(host)
        self._publish(ledger.lost(self.known[host], "gone", self.now - silent_for))

    def restart(self) -> None:
        """kamal-sd itself ends, and starts with what is on disk, before any engine answers."""
        for snapshot in self.state.view.snapshots:
            loaded = replace(snapshot, lost_at=snapshot.listed_at, error="not reached")
            self.known[snapshot.host] = loaded
        self.lost = set(self.known)
        self.state = self._state()

    def _publish(self, snapshot: Snapshot) -> None:
        # As a session does: what comes back is what the next event is folded into.
        self.known[snapshot.host] = self.state.publish(snapshot)
        self.on_publish(self.known[snapshot.host])
