"""The engines that are tried: which they are, where they come from and in what they differ."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from tests.lab.engine import Engine
from tests.lab.podman import Podman
from tests.lab.root import debian_root

DOCKER: Final = ("docker.io", "iproute2")
PODMAN: Final = ("iproute2", "iptables", "netavark", "podman", "runc")


class Kind(NamedTuple):
    """One kind of engine. `api` is the newest that it speaks; it refuses what is below `oldest`."""

    name: str
    source: str
    api: str
    oldest: str
    make: Callable[[Path], Engine]

    @property
    def is_podman(self) -> bool:
        return self.name.startswith("Podman")


def _docker(suite: str) -> Callable[[Path], Engine]:
    return lambda directory: Engine(directory, root=debian_root(suite, *DOCKER))


def _podman(suite: str) -> Callable[[Path], Engine]:
    return lambda directory: Podman(directory, root=debian_root(suite, *PODMAN))


KINDS: Final = (
    Kind("Docker 20.10", "the machine's docker.io (Debian bookworm)", "1.41", "1.12", Engine),
    Kind("Docker 26.1", "docker.io of Debian trixie", "1.45", "1.24", _docker("trixie")),
    Kind("Docker 28.5", "docker.io of Debian sid", "1.51", "1.24", _docker("sid")),
    Kind("Podman 4.3", "podman of Debian bookworm", "1.41", "", _podman("bookworm")),
)
