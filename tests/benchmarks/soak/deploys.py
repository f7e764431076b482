"""Those who deploy: by Kamal's commands to the engine, quickly, and by the real Kamal."""

import random
import time
from collections.abc import Callable
from typing import Final

from tests.benchmarks.soak.findings import Findings
from tests.benchmarks.soak.pausing import Engaged, Gate
from tests.benchmarks.soak.truth import Claim, Fleet
from tests.benchmarks.truth import Slot
from tests.lab import image
from tests.lab.engine import Docker
from tests.lab.image import Behaviour
from tests.lab.kamal import App
from tests.lab.process import LabError, listening, wait_until
from tests.lab.world import World

NETWORK: Final = "kamal"
PORT: Final = "9394"
APPS: Final = {"shop": ("web", "job"), "blog": ("web", "cron")}
GUEST: Final = Slot("guest", "web")
KAMAL: Final = Slot("till", "web")
DRAIN: Final = 0.5
KEPT: Final = 2
CHECKED: Final = Slot("shop", "web")
# A container is well while it has no such file. A check costs more than a scrape.
CHECK: Final = ("--health-cmd=test ! -e /sick", "--health-interval=3s", "--health-retries=1")
FAILING: Final = ("--health-cmd=false", "--health-interval=1s", "--health-retries=1")
_TRIES: Final = 40


class Deployer:
    """One app that is deployed again and again, with all that happens between two deploys.

    Its commands are given again until they are done, because the engine may be killed meanwhile.
    """

    def __init__(
        self, docker: Docker, service: str, fleet: Fleet, gate: Gate, engaged: Engaged, seed: str
    ) -> None:
        self._docker = docker
        self._service = service
        self._roles = APPS[service]
        self._fleet, self._gate, self._engaged = fleet, gate, engaged
        self._random = random.Random(f"{seed} {service}")  # noqa: S311 - to be had again
        self._versions = 0
        self._current: dict[str, tuple[str, Claim]] = {}
        self._stopped: list[str] = []
        self._image = f"{service}:v0"
        image.build(docker, self._image, "v0", service=service, drain=DRAIN)

    def work(self, findings: Findings) -> None:
        """Deploy, and let other things happen, until the gate ends it."""
        others: dict[str, Callable[[], None]] = {
            "failing deploys": self.fail,
            "one-offs": self.one_off,
            "pauses": self.pause,
            "restarts of an app": self.restart,
        }
        if self._service == CHECKED.service:
            others["changes of health"] = self.sicken
        else:
            others["guests"] = self.guest
        bag: list[str] = []
        while True:
            self._gate.passes(self._random.uniform(0.2, 1.5))
            self.deploy()
            findings.count("deploys of a role", len(self._roles))
            self._gate.passes(self._random.uniform(0.2, 1.5))
            bag = bag or self._random.sample(list(others), len(others))
            what = bag.pop()
            others[what]()
            findings.count(what)

    def deploy(self) -> None:
        """Put a new version in the place of the one that runs, role by role, if any."""
        version = self._next_version()
        for role in self._roles:
            slot = Slot(self._service, role)
            name, before = self._name(role, version), self._current.get(role)
            if before is None:
                claim = self._fleet.claim(slot, version)
                self._run(role, name, version)
            else:
                self._run(role, name, version)
                self._fleet.tell(slot, f"{version} runs")
                self._wait_listening(name)
                self._wait(0.5, 1.5)
                self._fleet.tell(slot, f"{version} listens, {before[0]} is told to stop")
                claim = self._fleet.claim(slot, version)
                self._stop(before[0])
                before[1].ends = time.time()
                self._fleet.tell(slot, f"{before[0]} has stopped")
            self._current[role] = (name, claim)
        while len(self._stopped) > KEPT * len(self._roles):
            self._again("rm", "--force", self._stopped.pop(0), fine="No such container")

    def fail(self) -> None:
        """Try a version that never gets ready; the old one goes on."""
        role = self._random.choice(self._roles)
        behaviour: Behaviour = self._random.choice(("unhealthy", "crashing"))
        version = self._next_version()
        name = self._name(role, version)
        slot = Slot(self._service, role)
        self._fleet.tell(slot, f"{version} runs, which is {behaviour}")
        self._run(role, name, version, behaviour)
        self._wait(1.0, 4.0)
        self._stop(name)
        self._fleet.tell(slot, f"{version} has stopped, which is {behaviour}")

    def one_off(self) -> None:
        """Run a command in a container of its own, as `kamal app exec` does."""
        role = self._random.choice(self._roles)
        name = f"{self._service}-{role}-exec-{self._next_version()}"
        self._begin(name, *("run", "--detach", "--name", name, "--network", NETWORK))
        self._wait(0.5, 1.5)
        self._again("rm", "--force", name, fine="No such container")

    def pause(self) -> None:
        """Freeze the current container for a moment: it stays a target."""
        name, slot = self._some()
        with self._engaged.needed(), self._fleet.down[slot].going_on():
            self._fleet.tell(slot, f"{name} is paused")
            self._again("pause", name, fine="already paused")
            self._wait(0.3, 1.5)
            self._again("unpause", name, fine="not paused")
            self._fleet.tell(slot, f"{name} goes on")

    def sicken(self) -> None:
        """Let the one that has a check be unhealthy, alone, for a while: it stays the target."""
        name, _ = self._current[CHECKED.role]
        with self._engaged.needed():
            self._again("exec", name, "/bin/sh", "-c", ">/sick")
            self._wait_health(name, "unhealthy")
            self._again("exec", name, "/bin/busybox", "rm", "-f", "/sick")
            self._wait_health(name, "healthy")

    def _wait_health(self, name: str, wanted: str) -> None:
        """Wait for it, but not for ever: after a crash 20.10 checks no more what ran before."""
        form = "--format={{.State.Health.Status}}"
        for _ in range(15):
            if self._gate.ended.wait(0.5) or self._again("inspect", form, name).strip() == wanted:
                return

    def restart(self) -> None:
        """Restart the current container: its target stays, and cannot be reached meanwhile."""
        name, slot = self._some()
        with self._engaged.needed(), self._fleet.down[slot].going_on():
            self._fleet.tell(slot, f"{name} is restarted")
            self._again("restart", "--time", "5", name)
            self._wait_listening(name)
            self._fleet.tell(slot, f"{name} listens again")

    def guest(self) -> None:
        """A role that comes and goes for good, so that its target ends, too."""
        version = self._next_version()
        claim = self._fleet.claim(GUEST, version)
        name = f"{GUEST.service}-{GUEST.role}-{version}"
        self._run(GUEST.role, name, version, service=GUEST.service)
        self._wait(2.0, 4.0)
        self._again("rm", "--force", name, fine="No such container")
        claim.ends = time.time()

    def _run(
        self,
        role: str,
        name: str,
        version: str,
        behaviour: Behaviour = "plain",
        service: str = "",
    ) -> None:
        labels = {
            "service": service or self._service,
            "role": role,
            "destination": "",
            "prometheus.port": PORT,
        }
        is_checked = behaviour == "plain" and Slot(labels["service"], role) == CHECKED
        check = CHECK if is_checked else FAILING if behaviour == "unhealthy" else ()
        self._begin(
            name,
            *("run", "--detach", "--restart", "unless-stopped", "--name", name),
            *("--network", NETWORK, "--env", f"APP_VERSION={version}", *check),
            *("--env", f"APP_BEHAVIOUR={behaviour}"),
            *(word for label in labels.items() for word in ("--label", "=".join(label))),
            words=("/bin/app", role),
        )

    def _begin(self, name: str, *run: str, words: tuple[str, ...] = ("/bin/app",)) -> None:
        """Run a container. What an engine that was killed has left of it goes first."""
        for attempt in range(_TRIES):
            try:
                self._docker.docker(*run, self._image, *words)
            except LabError:
                if attempt == _TRIES - 1:
                    raise
                time.sleep(0.5)
                self._again("rm", "--force", name, fine="No such container")
            else:
                return

    def _wait_listening(self, name: str) -> None:
        """Wait until a container serves, as Kamal does before it stops the old one."""
        form = f"--format={{{{.NetworkSettings.Networks.{NETWORK}.IPAddress}}}}"
        wait_until(
            lambda: (
                self._gate.ended.is_set()
                or listening(int(PORT), self._again("inspect", form, name).strip())
            ),
            60,
            f"{name} to listen",
        )

    def _stop(self, name: str) -> None:
        self._again("stop", "--time", "10", name, fine="No such container")
        self._stopped.append(name)

    def _again(self, *command: str, fine: str = "\0") -> str:
        """Give a command until it is done; `fine` says in an error that it was so already."""
        for _ in range(_TRIES):
            try:
                return self._docker.docker(*command)
            except LabError as error:
                if fine in str(error):
                    return ""
                time.sleep(0.5)
        return self._docker.docker(*command)

    def _some(self) -> tuple[str, Slot]:
        role = self._random.choice(self._roles)
        return self._current[role][0], Slot(self._service, role)

    def _next_version(self) -> str:
        self._versions += 1
        return f"v{self._versions}"

    def _name(self, role: str, version: str) -> str:
        return f"{self._service}-{role}-{version}"

    def _wait(self, least: float, most: float) -> None:
        self._gate.ended.wait(self._random.uniform(least, most))


class KamalDeployer:
    """An app that the real Kamal deploys, now and then in vain."""

    def __init__(self, world: World, fleet: Fleet, gate: Gate, engaged: Engaged) -> None:
        self._world = world
        self._fleet, self._gate, self._engaged = fleet, gate, engaged
        self._claim: Claim | None = None
        self._versions = 0
        self._app: App = world.app(
            service=KAMAL.service,
            roles={KAMAL.role: {}},
            readiness_delay=1,
            deploy_timeout=3,
            drain_timeout=3,
        )

    def work(self, findings: Findings, every: float) -> None:
        """Deploy each so many seconds, until the gate ends it."""
        while True:
            self._gate.passes(every)
            if self._versions % 3 == 2:
                self.deploy("unhealthy")
                findings.count("failing deploys by Kamal")
            else:
                self.deploy("plain")
                findings.count("deploys by Kamal")

    def deploy(self, behaviour: Behaviour) -> None:
        """Deploy. From the beginning to the end both versions may be the current one."""
        self._versions += 1
        version = f"v{self._versions}"
        with self._engaged.needed():
            self._world.image(version, behaviour, service=KAMAL.service, drain=DRAIN)
            if behaviour != "plain":
                self._app.deploy(version, check=False)
                return
            claim = self._fleet.claim(KAMAL, version)
            self._app.deploy(version)
            if self._claim:
                self._claim.ends = time.time()
            self._claim = claim
