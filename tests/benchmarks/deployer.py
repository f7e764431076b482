"""Deploys with Kamal's timeline, by the `docker` commands of recordings 02, 05 and 06.

Kamal itself would do the same more slowly, and only one service at a time over one SSH server.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from tests.benchmarks.truth import NEVER, Generation, Slot, Truth
from tests.lab.engine import Docker
from tests.lab.image import Behaviour
from tests.lab.process import LabError

NETWORK = "kamal"
PORT = "9394"
ROLES = ("web", "job")
OVERLAP = 7.0
DRAIN = 4.0
# What Kamal's SSH commands take from one role to the next, and until it gives up a candidate.
BETWEEN_ROLES = 1.1
GIVES_UP_AFTER = 12.0
KEPT = 5


@dataclass
class Deployer:
    """Deploys one service: one role after the other, as Kamal does on one host."""

    engine: Docker
    service: str
    images: dict[Behaviour, str]
    _ended: threading.Event = field(default_factory=threading.Event)
    _current: dict[str, Generation] = field(default_factory=dict)
    _over: list[Generation] = field(default_factory=list)
    _count: int = 0

    def deploy(self) -> None:
        """Put a new version in the place of the one that runs, if any."""
        version = self._next_version()
        for index, role in enumerate(ROLES):
            if index:
                self._wait(BETWEEN_ROLES)
            new = self._run(role, version)
            if old := self._current.get(role):
                self._wait(OVERLAP)
                self._stop(old)
            self._current[role] = new
        self._prune()

    def fail(self, role: str, behaviour: Behaviour) -> None:
        """Try a version that never gets ready in that role; the deploy ends with it."""
        candidate = self._run(role, self._next_version(), behaviour)
        self._wait(GIVES_UP_AFTER)
        self._stop(candidate)

    def end(self) -> None:
        """Let whatever goes on in another thread end with an error."""
        self._ended.set()

    @property
    def generations(self) -> list[Generation]:
        """Every container that ever ran, those that run now with no end."""
        return [*self._over, *self._current.values()]

    def _next_version(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def _run(self, role: str, version: str, behaviour: Behaviour = "plain") -> Generation:
        name = f"{self.service}-{role}"
        labels = {
            "service": self.service,
            "role": role,
            "destination": "",
            "prometheus.port": PORT,
            "prometheus.alias": name,
        }
        options = [word for label in labels.items() for word in ("--label", "=".join(label))]
        container = self.engine.docker(
            *("run", "--detach", "--restart", "unless-stopped", "--name", f"{name}-{version}"),
            *("--network", NETWORK, "--network-alias", name),
            *("--env", f"APP_VERSION={version}", "--env", f"APP_DRAIN={DRAIN:g}"),
            *(*options, self.images[behaviour], "/bin/app", role),
        ).strip()
        started, _ = self._times(container)
        failed = behaviour != "plain"
        return Generation(Slot(self.service, role), version, container[:12], started, NEVER, failed)

    def _stop(self, generation: Generation) -> None:
        self.engine.docker("stop", "--time", "30", generation.container)
        _, stopped = self._times(generation.container)
        self._over.append(generation._replace(stopped=stopped))

    def _times(self, container: str) -> tuple[float, float]:
        form = "{{.State.StartedAt}} {{.State.FinishedAt}}"
        words = self.engine.docker("inspect", "--format", form, container).split()
        started, finished = (datetime.fromisoformat(word).timestamp() for word in words)
        return started, finished

    def _prune(self) -> None:
        service = ("--filter", f"label=service={self.service}")
        found = self.engine.docker("ps", "-q", *service, "--filter", "status=exited").split()
        # The engine lists the newest first.
        for old in found[KEPT:]:
            self.engine.docker("rm", old)

    def _wait(self, seconds: float) -> None:
        if self._ended.wait(seconds):
            raise LabError(f"the deploy of {self.service} was cut short")


def truth_of(deployers: Iterable[Deployer]) -> Truth:
    """Return what really ran, by the engine's own clock, which is Prometheus' as well."""
    return Truth(each for deployer in deployers for each in deployer.generations)
