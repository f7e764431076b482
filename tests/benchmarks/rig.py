"""All that runs while the benchmark does: engine, apps, kamal-sd twice, and Prometheus."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.benchmarks.deployer import NETWORK, PORT, ROLES, Deployer
from tests.benchmarks.prometheus import Prometheus
from tests.benchmarks.ways import FILE_SD, SOCKET, Way, docker_sd, file_sd, http_sd, static
from tests.lab import image
from tests.lab.engine import Engine
from tests.lab.image import Behaviour
from tests.lab.process import LabError, free_port
from tests.lab.sd import Server
from tests.lab.world import World

INTERVAL = 5
KEEPS, CLOSES = "keeps", "closes"
SERVICES = (KEEPS, CLOSES)
"""The two apps, named after what they do with a connection once they have answered."""
BEHAVIOURS: tuple[Behaviour, ...] = ("plain", "unhealthy", "crashing")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Rig:
    """The running parts. Both apps are deployed, and every way has scraped every role."""

    engine: Engine
    deployers: dict[str, Deployer]
    prometheus: Prometheus
    ways: list[Way]

    def in_both(self, act: Callable[[Deployer], None]) -> None:
        """Do something to both services at once, and wait until it is done."""
        with ThreadPoolExecutor(len(self.deployers)) as threads:
            try:
                for done in [threads.submit(act, each) for each in self.deployers.values()]:
                    done.result()
            except BaseException:
                for each in self.deployers.values():
                    each.end()
                raise


@contextmanager
def set_up(tell: Tell) -> Iterator[Rig]:
    """Start everything, and end it with the `with`."""
    with World() as world, ExitStack() as stack:
        engine = world.engine
        engine.docker("network", "create", NETWORK)
        images = {service: build_images(engine, service) for service in SERVICES}
        deployers = {service: Deployer(engine, service, images[service]) for service in SERVICES}
        for each in deployers.values():
            each.deploy()
        check_connections(engine, deployers)
        tell("a private engine runs, and both apps are deployed in two roles")
        folder = world.folder("file-sd")
        ways = [
            *(docker_sd("60s"), docker_sd("5s"), static(SERVICES)),
            written(world, stack, folder),
            *served(world, stack),
        ]
        prometheus = stack.enter_context(
            Prometheus(
                engine,
                world.folder("prometheus"),
                image=images[CLOSES]["plain"],
                network=NETWORK,
                jobs=[way.job for way in ways],
                interval=INTERVAL,
                mounts={engine.socket: SOCKET, folder: str(Path(FILE_SD).parent)},
            )
        )
        targets = len(SERVICES) * len(ROLES)
        for way in ways:
            prometheus.wait_for(way.name, targets)
        tell(
            f"Prometheus {prometheus.version} reaches {targets} targets in each of {len(ways)} ways"
        )
        yield Rig(engine, deployers, prometheus, ways)


def build_images(engine: Engine, service: str) -> dict[Behaviour, str]:
    """Return the images of an app by what they do."""
    found: dict[Behaviour, str] = {}
    for behaviour in BEHAVIOURS:
        found[behaviour] = f"{service}:{behaviour}"
        image.build(
            engine,
            found[behaviour],
            "v0",
            service=service,
            behaviour=behaviour,
            keep_alive=service == KEEPS,
        )
    return found


def check_connections(engine: Engine, deployers: dict[str, Deployer]) -> None:
    """Make sure that the apps do with their connections what they are named after."""
    for service, deployer in deployers.items():
        container = deployer.generations[0].container
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address = engine.docker("inspect", "--format", form, container).strip()
        ports = set()
        with httpx.Client(base_url=f"http://{address}:{PORT}", trust_env=False) as client:
            for _ in range(3):
                with client.stream("GET", "/metrics") as answer:
                    ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
                    answer.read()
        if (len(ports) == 1) != (service == KEEPS):
            raise LabError(f"the app {service} was asked three times over {len(ports)} connections")


def written(world: World, stack: ExitStack, folder: Path) -> Way:
    """Start a kamal-sd that writes the file, and return that way."""
    settings = world.folder("kamal-sd") / "settings.yml"
    settings.write_text(f"defaults: {{address: ip}}\nfile_sd: {folder / Path(FILE_SD).name}\n")
    stack.enter_context(Server(world.folder("kamal-sd"), world.engine.url, config=settings))
    return file_sd()


def served(world: World, stack: ExitStack) -> list[Way]:
    """Start a kamal-sd as it is without settings, and return what it offers over HTTP."""
    port = free_port()
    # From the apps' network it is reached at the gateway.
    reachable = {"KAMAL_SD_LISTEN": f"0.0.0.0:{port}"}
    stack.enter_context(
        Server(world.folder("kamal-sd"), world.engine.url, env=reachable, port=port)
    )
    base = f"http://{gateway_of(world.engine)}:{port}"
    return [
        http_sd(base, "ip", "60s"),
        *(http_sd(base, address, "5s") for address in ("ip", "alias", "auto", "relay")),
    ]


def gateway_of(engine: Engine) -> str:
    """Return the machine's own address in the apps' network."""
    form = "{{(index .IPAM.Config 0).Gateway}}"
    return engine.docker("network", "inspect", "--format", form, NETWORK).strip()
