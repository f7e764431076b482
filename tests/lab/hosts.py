"""Three hosts with an engine each: two with Docker, to which Kamal deploys, and one with Podman."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.engines.kinds import PODMAN
from tests.lab import image
from tests.lab.engine import Engine
from tests.lab.kamal import App
from tests.lab.place import Host, Switch
from tests.lab.podman import Podman
from tests.lab.process import Process
from tests.lab.registry import Registry
from tests.lab.root import debian_root
from tests.lab.ssh import Ssh
from tests.lab.world import World

PORT = 9889
SSH_PORT = 2222
SERVICE = "shop"
ROLES = ("web", "job")
NETWORK = "kamal"


class Machine(NamedTuple):
    """A host, and the engine that runs on it."""

    name: str
    host: Host
    engine: Engine

    def run(self, role: str, version: str, reference: str) -> str:
        """Run a container as Kamal does, and return its id."""
        labels = {"service": SERVICE, "role": role, "destination": "", "prometheus.port": "9394"}
        return self.engine.docker(
            *("run", "--detach", f"--network={NETWORK}", "--restart=unless-stopped"),
            *(f"--label={name}={value}" for name, value in labels.items()),
            *(f"--name={SERVICE}-{role}-{version}", reference, "/bin/app", role),
        ).strip()


class Hosts:
    """The hosts alpha, beta and gamma, with a registry and SSH, and two more without an engine.

    All ports are closed between them but the one of kamal-sd.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._stack = ExitStack()
        self._images: set[str] = set()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        enter = self._stack.enter_context
        switch = enter(Switch(self.folder("switch")))
        alpha, beta, gamma, center = (
            switch.host(number, open_to_all=[PORT]) for number in range(1, 5)
        )
        self.center = center
        self.outside = switch.host(9)
        podman = enter(
            Podman(self.folder("gamma"), root=debian_root("bookworm", *PODMAN), place=gamma)
        )
        podman.create_network(NETWORK)
        self.alpha, self.beta = self.docker = (
            Machine("alpha", alpha, enter(Engine(self.folder("alpha"), tcp=True, place=alpha))),
            Machine("beta", beta, enter(Engine(self.folder("beta"), place=beta))),
        )
        self.gamma = Machine("gamma", gamma, podman)
        self.all = (*self.docker, self.gamma)
        self._registry = enter(Registry(self.folder("registry"), host=switch.address))
        self.ssh: dict[str, Ssh] = {}
        key: Path | None = None
        for name, host, engine in self.docker:
            folder = self.folder("ssh")
            self.ssh[name] = enter(Ssh(folder, engine.url, SSH_PORT, key=key, place=host))
            key = self.ssh[name].key

    def folder(self, name: str) -> Path:
        """Return a new empty folder."""
        return self._world.folder(name)

    def keep(self, process: Process) -> None:
        """End the process with the hosts."""
        self._stack.enter_context(process)

    def image(self, version: str) -> str:
        """Return the sample app's image of a version, pushed to the registry once."""
        reference = f"{self._registry.address}/{SERVICE}:{version}"
        if reference not in self._images:
            image.build(self.alpha.engine, reference, version, service=SERVICE)
            self.alpha.engine.docker("push", reference)
            self._images.add(reference)
        return reference

    def local_image(self, machine: Machine, version: str) -> str:
        """Return the same, imported into one engine alone."""
        reference = f"{SERVICE}:{version}"
        image.build(machine.engine, reference, version, service=SERVICE, drain=0)
        return reference

    def app(self, **settings: Any) -> App:
        """Return an app that Kamal deploys to one host of Docker after the other."""
        addresses = [machine.host.address for machine in self.docker]
        return App(
            self.folder(SERVICE),
            ssh=self.ssh["alpha"],
            registry=self._registry.address,
            service=SERVICE,
            image=SERVICE,
            roles={role: {"hosts": addresses} for role in ROLES},
            # What ran is looked at when all is over.
            extra={"boot": {"limit": 1, "wait": 1}, "retain_containers": 100},
            **settings,
        )
