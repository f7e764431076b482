"""Everything that a deploy needs, in one directory: engine, registry, SSH, images and apps."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from tests.lab import image, program, shipped
from tests.lab.engine import Docker, Engine
from tests.lab.kamal import App
from tests.lab.process import orderly_end
from tests.lab.registry import Registry
from tests.lab.ssh import Ssh


class World:
    """The parts of a lab, each started when it is first asked for and ended with the world.

    With `guest_of` an engine that exists already is used instead of a private one; then nothing
    is touched there but what belongs to `service`. `make` makes the private one in a directory.
    """

    def __init__(
        self,
        guest_of: Docker | None = None,
        *,
        service: str = "shop",
        make: Callable[[Path], Engine] = Engine,
    ) -> None:
        self.service = service
        self.directory = Path()
        self._host = guest_of
        self._make = make
        self._stack = ExitStack()
        self._images: set[str] = set()

    def __enter__(self) -> Self:
        self._stack.enter_context(orderly_end())
        self.directory = Path(tempfile.mkdtemp(prefix="kamal-sd-lab-"))
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def docker(self) -> Docker:
        """The engine, whosever it is."""
        return self._guest if self._host is not None else self.engine

    @cached_property
    def engine(self) -> Engine:
        """The private engine, which may be killed, paused and started again."""
        return self._stack.enter_context(self._make(self.directory / "engine"))

    @cached_property
    def _guest(self) -> Docker:
        assert self._host is not None
        self._stack.enter_context(visit(self._host, self.service))
        return self._host

    @cached_property
    def registry(self) -> Registry:
        return self._stack.enter_context(Registry(self.directory / "registry"))

    @cached_property
    def ssh(self) -> Ssh:
        return self._stack.enter_context(Ssh(self.directory / "ssh", self.docker.url))

    def folder(self, name: str) -> Path:
        """Return a new empty folder in the world's directory."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.directory))

    def image(
        self,
        version: str,
        behaviour: image.Behaviour = "plain",
        *,
        service: str | None = None,
        drain: float = 1,
    ) -> str:
        """Return the sample app's image of a version, pushed to the registry once."""
        service = service or self.service
        reference = f"{self.registry.address}/{service}:{version}"
        if reference not in self._images:
            image.build(
                self.docker, reference, version, service=service, behaviour=behaviour, drain=drain
            )
            self.docker.docker("push", reference)
            self._images.add(reference)
        return reference

    @cached_property
    def shipped(self) -> str:
        """kamal-sd's own image, pushed to the registry."""
        return self._pushed(shipped.build(self.docker, f"{self.registry.address}/kamal-sd:1.2.3"))

    @cached_property
    def haproxy(self) -> str:
        """HAProxy's image, pushed to the registry."""
        return self._pushed(program.haproxy(self.docker, f"{self.registry.address}/haproxy:lab"))

    @cached_property
    def prometheus(self) -> str:
        """Prometheus' image, pushed to the registry."""
        reference = f"{self.registry.address}/prometheus:lab"
        return self._pushed(program.prometheus(self.docker, reference))

    def _pushed(self, reference: str) -> str:
        self.docker.docker("push", reference)
        return reference

    def app(self, *, service: str | None = None, **settings: Any) -> App:
        """Return an app's folder, ready for Kamal; the settings are those of `App`."""
        service = service or self.service
        return App(
            self.folder(service),
            ssh=self.ssh,
            registry=self.registry.address,
            service=service,
            image=service,
            **settings,
        )

    def reset(self) -> None:
        """Remove every container and Kamal's files on the host; images and networks stay."""
        if self._host is None:
            self.engine.remove_containers()
        else:
            self._host.remove_containers(f"label=service={self.service}")
        shutil.rmtree(self.ssh.home / ".kamal", ignore_errors=True)


@contextmanager
def visit(host: Docker, service: str) -> Iterator[None]:
    """Leave somebody's engine as it was, but for what others did meanwhile."""
    networks = set(host.docker("network", "ls", "-q", "--filter", "name=^kamal$").split())
    host.remove_containers(f"label=service={service}")
    try:
        yield
    finally:
        host.remove_containers(f"label=service={service}")
        label = f"label=service={service}"
        if images := set(host.docker("images", "-q", "--filter", label).split()):
            host.docker("rmi", "--force", *images)
        now = set(host.docker("network", "ls", "-q", "--filter", "name=^kamal$").split())
        if new := now - networks:
            host.docker("network", "rm", *new)
