"""A real engine with containers as Kamal starts them, and a watch on what is served of them."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Self

from app.settings import Settings
from app.state import State
from tests import http_sd_reader, socket_rules
from tests.lab import image
from tests.lab.engine import Docker
from tests.lab.process import wait_until

IMAGE: Final = "town:v1"
WAIT_SECONDS: Final = 30.0


class Town:
    """Roles of a service on an engine."""

    def __init__(self, engine: Docker) -> None:
        self.engine = engine
        if not engine.docker("images", "-q", IMAGE):
            image.build(engine, IMAGE, "v1", service="town", drain=0)
        if not engine.docker("network", "ls", "-q", "--filter", "name=^kamal$"):
            engine.docker("network", "create", "kamal")

    def create(self, role: str, *, restart: str = "unless-stopped") -> str:
        """A container like those of `kamal app boot`, that has not started; its id."""
        options = ["--network=kamal", f"--restart={restart}", f"--name=town-{role}-v1"]
        labels = {"service": "town", "role": role, "destination": "", "prometheus.port": "9394"}
        options += [f"--label={name}={value}" for name, value in labels.items()]
        return self.engine.docker("create", *options, IMAGE, "/bin/app", role).strip()

    def run(self, *roles: str, restart: str = "unless-stopped") -> list[str]:
        ids = [self.create(role, restart=restart) for role in roles]
        self.engine.docker("start", *ids)
        return ids

    def states(self) -> dict[str, str]:
        """What the engine says now: the state of each container by its id."""
        lines = self.engine.docker("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}")
        return dict(line.split() for line in lines.splitlines())


def settings(url: str, directory: Path, **given: Any) -> Settings:
    """Settings with short limits, so that a test need not wait for long ones."""
    engine = {"url": url, "host": "one", "timeout": 2}
    return Settings.model_validate(
        {
            "data_dir": directory,
            "engines": [engine],
            "resync_interval": "1s",
            # The addresses tell who is served.
            "defaults": {"address": "ip"},
        }
        | given
    )


def body(state: State) -> bytes:
    return state.view.answer({}).body


def addresses(content: bytes) -> dict[str, str]:
    """The address of each role's target. Fails where a strict reader does."""
    return {each.labels["role"]: each.address for each in http_sd_reader.read(content)}


def wait_for(condition: Callable[[], object], what: str) -> None:
    wait_until(condition, WAIT_SECONDS, what)


def wait_for_addresses(state: State, *roles: str) -> dict[str, str]:
    """Waits until exactly these roles are served with a live address; the addresses."""
    wait_for(
        lambda: (
            set(found := addresses(body(state))) == set(roles)
            and not any(".invalid" in each for each in found.values())
        ),
        f"{', '.join(roles)} to be current",
    )
    return addresses(body(state))


class Sampler:
    """Reads all that is served, again and again; whoever is lost for an instant is seen."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self.bodies: list[bytes] = []
        self._read = read
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler")

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            content = self._read()
            if self.bodies[-1:] != [content]:
                self.bodies.append(content)

    def roles(self) -> list[set[str]]:
        return [set(addresses(each)) for each in self.bodies]

    def __enter__(self) -> Self:
        self.bodies.append(self._read())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def assert_allowed(requests: Iterable[str]) -> None:
    """Fails for any call that the shipped rules of a socket proxy refuse: inspects above all."""
    asked = {socket_rules.route(each) for each in requests}
    assert asked
    assert not [each for each in asked if each.switch]
