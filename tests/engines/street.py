"""Containers as Kamal starts them, by the options that every kind of engine understands."""

from collections.abc import Callable
from typing import Any, Final

from tests.engine.town import wait_for
from tests.lab import image
from tests.lab.engine import Docker
from tests.lab.podman import Podman
from tests.lab.sd import Server

IMAGE: Final = "street:v1"
HEALTH: Final = "/bin/wget -q -O /dev/null http://127.0.0.1/up"


class Street:
    """The containers of the service `shop` on an engine, and the network `kamal`."""

    def __init__(self, engine: Docker) -> None:
        self.engine = engine
        if not engine.docker("images", "-q", IMAGE):
            # Podman's import knows neither two variables in one ENV nor HEALTHCHECK, so what an
            # image would say of them stands among the options of each container.
            changes = ("--change", "LABEL service=shop", "--change", 'CMD ["/bin/app"]')
            engine.docker("import", *changes, "-", IMAGE, data=image.root_archive())
        if not engine.docker("network", "ls", "-q", "--filter", "name=^kamal$"):
            if isinstance(engine, Podman):
                engine.create_network("kamal")
            else:
                engine.docker("network", "create", "kamal")

    def create(
        self,
        version: str,
        role: str = "web",
        *options: str,
        behaviour: image.Behaviour = "plain",
        drain: float = 0,
        port: str = "9394",
        restart: str = "unless-stopped",
    ) -> str:
        """Create a container like those of `kamal app boot`; its id."""
        labels = {"service": "shop", "role": role, "destination": ""}
        if port:
            labels["prometheus.port"] = port
        variables = {"APP_VERSION": version, "APP_BEHAVIOUR": behaviour, "APP_DRAIN": f"{drain:g}"}
        return self.engine.docker(
            *("create", "--network=kamal", f"--restart={restart}", f"--name=shop-{role}-{version}"),
            *(f"--label={name}={value}" for name, value in labels.items()),
            *(f"--env={name}={value}" for name, value in variables.items()),
            *(*options, IMAGE, "/bin/app", role),
        ).strip()

    def run(self, version: str, role: str = "web", *options: str, **given: Any) -> str:
        """Create a container and start it; its id."""
        container = self.create(version, role, *options, **given)
        self.engine.docker("start", container)
        return container

    def address(self, container: str) -> str:
        """The IP that the engine names for a container."""
        form = "{{.NetworkSettings.Networks.kamal.IPAddress}}"
        return self.engine.docker("inspect", "-f", form, container).strip()

    def states(self) -> dict[str, str]:
        """What the engine says now: the state of each container by its id."""
        lines = self.engine.docker("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}")
        return dict(line.split() for line in lines.splitlines())


def decisions(server: Server) -> dict[str, dict[str, Any]]:
    """What the server says of each container, by its id."""
    document = server.get("/explain").raise_for_status().json()
    return {each["container_id"]: each for each in document["decisions"]}


def wait_for_decision(
    server: Server, container: str, what: str, condition: Callable[[dict[str, Any]], object]
) -> None:
    """Wait until what is said of a container is as wanted."""
    wait_for(lambda: container in (all_ := decisions(server)) and condition(all_[container]), what)
