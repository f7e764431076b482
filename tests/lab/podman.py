"""Podman as an engine, through the API that it serves for Docker's clients."""

from contextlib import suppress
from pathlib import Path

from tests.lab.engine import Engine
from tests.lab.process import run
from tests.lab.stage import Stage

SETTINGS = """\
[network]
network_backend = "netavark"
default_subnet_pools = [{{base = "{pool}", size = 24}}]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
# crun wants either cgroup v1 or v2, and not both of them side by side.
runtime = "runc"
"""
CGROUPS = Path("/sys/fs/cgroup")
PARENT = "libpod_parent"


class Podman(Engine):
    """A private `podman system service`, whose containers outlive it: it is not their parent.

    Its networks are internal ones, for which netavark programs no iptables; the host reaches them
    all the same. There is no systemd on its stage, and so nobody runs health checks.
    """

    program = "podman"
    _foreign: frozenset[Path] | None = None

    def start(self) -> None:
        """Start the service, the first time or again on the same data, until it answers."""
        if self._stage is None:
            self._foreign = frozenset(cgroups())
        super().start()

    def close(self) -> None:
        """End everything that Podman started; the data stays in its directory."""
        super().close()
        if self._foreign is None:
            return
        # These are not below the stage's name, and of no use any more.
        for parent in set(cgroups()) - self._foreign:
            for path in sorted((parent, *parent.rglob("*/")), reverse=True):
                with suppress(OSError):
                    path.rmdir()

    def create_network(self, name: str) -> None:
        """Create a network that has no way out."""
        self.docker("network", "create", "--internal", name)

    def podman(self, *args: str) -> str:
        """Run the podman command beside the service and return what it printed."""
        assert self._stage is not None
        return run(self._stage.command([*self._podman(self._stage), *args]))

    def _command(self, stage: Stage) -> list[str]:
        return [*self._podman(stage), "system", "service", "--time=0", self.url]

    def _podman(self, stage: Stage) -> list[str]:
        settings = self.directory / "containers.conf"
        settings.write_text(SETTINGS.format(pool=stage.pool))
        return [
            *("env", f"CONTAINERS_CONF={settings}", f"TMPDIR={self.directory}"),
            self.program,
            f"--root={self.directory / 'data'}",
            f"--runroot={stage.exec_root}",
            f"--network-config-dir={self.directory / 'networks'}",
        ]


def cgroups() -> list[Path]:
    """Return the cgroups that are above those of Podman's containers."""
    return [*CGROUPS.glob(PARENT), *CGROUPS.glob(f"*/{PARENT}")]
