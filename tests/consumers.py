"""Everything that reads HTTP SD, as its own shipped file in deploy/ has it, beside one kamal-sd."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

from tests.lab.prometheus import Prometheus
from tests.lab.sd import REPOSITORY, Server
from tests.lab.sid import from_sid
from tests.lab.vmagent import VmAgent
from tests.lab.wire import Wire
from tests.lab.world import World

DEPLOY: Final = REPOSITORY / "deploy"
# What a user puts an address or a path of his own in place of.
KAMAL_SD: Final = "shop-kamal-sd:9889"
STORAGE: Final = "http://prometheus:9090/api/v1/write"
FILE: Final = "/targets/kamal-sd.json"

# What makes an agent of a Prometheus.
AGENT_FLAGS: Final = {"2.42": "--enable-feature=agent", "3.5": "--agent"}

Json = dict[str, Any]
Way = Literal["relay", "ip", "file"]

FILES: Final[dict[Way, str]] = {
    "relay": "prometheus.yml",
    "ip": "prometheus.yml",
    "file": "file_sd.yml",
}


class _Program(Protocol):
    def targets(self) -> list[Json]: ...


class Target(NamedTuple):
    """One target, as the consumer itself says that it scrapes it."""

    labels: dict[str, str]
    url: str


class Consumer(NamedTuple):
    """A program that scrapes, the Prometheus that has its series, and the wire to kamal-sd."""

    program: _Program
    storage: Prometheus
    wire: Wire

    def targets(self, job: str = "kamal") -> list[Target]:
        """The active targets of a job, by service and role."""
        found = [
            Target(each["labels"], each["scrapeUrl"])
            for each in self.program.targets()
            if each["labels"]["job"] == job
        ]
        return sorted(found, key=lambda each: sorted(each.labels.items()))

    def url_of(self, service: str, role: str) -> str:
        """Where it scrapes a role. Fails where it does so twice."""
        [target] = [
            each
            for each in self.targets()
            if (each.labels["service"], each.labels["role"]) == (service, role)
        ]
        return target.url

    def versions(self) -> dict[str, str]:
        """The version behind each role's series at its latest scrape, in the app's own words.

        By IP, those of the old container linger until Prometheus has given up its address.
        """
        latest = "topk by (service, role) (1, timestamp(shop_build_info))"
        return {
            f"{of['service']} {of['role']}": f"{of['exported_role']} {of['version']}"
            for of in (each["metric"] for each in self.storage.query(latest))
        }

    def number_of(self, expression: str) -> float:
        """How many samples an expression has now."""
        return sum(self.storage.values(f"count({expression})"))


def shipped(name: str, replacements: Mapping[str, str]) -> str:
    """The text of a file in deploy/, with the user's addresses and paths in place of its own."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text


def sid_program(package: str) -> Path:
    """The program of the name in the package of the name, as Debian sid has it."""
    return from_sid(package) / "usr/bin" / package


class Consumers:
    """Starts consumers of one kamal-sd, each with a wire of its own."""

    def __init__(self, world: World, server: Server, file: Path, stack: ExitStack) -> None:
        self._world = world
        self._port = urlsplit(server.url).port or 0
        self._file = file
        self._stack = stack

    def start(self, name: str, way: Way) -> Consumer:
        """Start the consumer of that name; its targets come from /targets or from the file."""
        wire = self._stack.enter_context(Wire(self._port))
        kind, version = name.split()
        program = "prometheus" if version == "2.42" else sid_program("prometheus")
        if kind == "prometheus":
            text = self._text(f"prometheus/{FILES[way]}", wire, way)
            started = self._prometheus(text=text, program=program)
            return Consumer(started, started, wire)
        storage = self._prometheus(receiver=True)
        if kind == "agent":
            text = self._text("prometheus/agent.yml", wire, way, {STORAGE: storage.write_url})
            agent = self._prometheus(text=text, program=program, agent=AGENT_FLAGS[version])
            return Consumer(agent, storage, wire)
        text = self._text("vmagent/vmagent.yml", wire, way)
        folder = self._world.folder("vmagent")
        vmagent = self._stack.enter_context(VmAgent(folder, text, write_url=storage.write_url))
        return Consumer(vmagent, storage, wire)

    def _prometheus(self, **settings: Any) -> Prometheus:
        folder = self._world.folder("prometheus")
        return self._stack.enter_context(Prometheus(folder, **settings))

    def _text(
        self, name: str, wire: Wire, way: Way, further: Mapping[str, str] | None = None
    ) -> str:
        targets = f"{wire.url}/targets"
        replacements = {
            f"http://{KAMAL_SD}/targets": f"{targets}?address=ip" if way == "ip" else targets,
            KAMAL_SD: wire.address,
            FILE: str(self._file),
        }
        return shipped(name, replacements | dict(further or {}))


@contextmanager
def kamal_sd(world: World, config: str) -> Iterator[tuple[Server, Path]]:
    """A kamal-sd on the world's engine that writes its targets into a file, too."""
    folder = world.folder("sd")
    settings, file = folder / "config.yml", world.folder("targets") / "kamal-sd.json"
    settings.write_text(config)
    environment = {"KAMAL_SD_FILE_SD": str(file)}
    with Server(folder, world.engine.url, config=settings, env=environment) as server:
        yield server, file
