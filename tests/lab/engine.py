"""A Docker Engine of the lab's own, in a directory, and the engine that a machine already has."""

import json
import os
import signal
from pathlib import Path
from typing import Self

import httpx

from tests.lab.certificates import Authority
from tests.lab.packages import require
from tests.lab.place import HERE, Place
from tests.lab.process import (
    LabError,
    Process,
    free_port,
    is_root,
    run,
    system_environment,
    wait_until,
)
from tests.lab.stage import Stage, child_of


class Docker:
    """An engine that already runs; the lab only talks to it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def docker(self, *args: str | Path, data: bytes | None = None, timeout: float = 120) -> str:
        """Run the docker command on this engine and return what it printed."""
        environment = system_environment(DOCKER_HOST=self.url, HOME="/nonexistent")
        return run(["docker", *args], env=environment, data=data, timeout=timeout)

    def containers(self, *filters: str) -> list[str]:
        """Return the ids of all containers, running or not, that match `--filter` expressions."""
        options = [word for one in filters for word in ("--filter", one)]
        return self.docker("ps", "-aq", "--no-trunc", *options).split()

    def remove_containers(self, *filters: str) -> None:
        """Remove the matching containers, running or not."""
        if found := self.containers(*filters):
            self.docker("rm", "--force", "--volumes", *found)

    def answers(self) -> bool:
        """Tell whether the engine answers a ping within two seconds."""
        kind, _, place = self.url.partition("://")
        transport = httpx.HTTPTransport(uds=place if kind == "unix" else None)
        base = "http://engine" if kind == "unix" else f"http://{place}"
        try:
            with httpx.Client(transport=transport, base_url=base, timeout=2) as client:
                return client.get("/_ping").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


class Engine(Docker):
    """A private dockerd. It touches nothing outside its directory but its own bridges.

    It programs no iptables: another engine's rules stay as they are, and published ports are
    served by docker-proxy. With `root` it is the dockerd of that root, of which `debian_root` in
    tests/lab/root.py makes some, and not the machine's. With `tls` its TCP port is for clients with
    a certificate of that CA alone, and its own certificate is what `tls` has signed as "server".
    On a `place` of its own its bridges are there, and it pulls from a registry in the same network.
    """

    program = "dockerd"

    def __init__(
        self,
        directory: Path,
        *,
        live_restore: bool = False,
        tcp: bool = False,
        tls: Authority | None = None,
        root: Path | None = None,
        place: Place = HERE,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.socket = directory / "docker.sock"
        self.log = directory / "dockerd.log"
        self.tcp_url = f"tcp://{place.address}:{free_port()}" if tcp or tls else None
        self._tls = tls
        self._settings = directory / "daemon.json"
        self._set(live_restore=live_restore)
        self._root = root
        self._place = place
        self._stage: Stage | None = None
        self._process: Process | None = None
        super().__init__(f"unix://{self.socket}")

    def start(self) -> None:
        """Start dockerd, the first time or again on the same data, and wait until it answers."""
        if self._process is not None and self._process.running:
            raise LabError(f"the engine in {self.directory} runs already")
        if self._stage is None:
            if not is_root():
                raise LabError("an engine of the lab's own needs root: run this as root")
            require("docker.io", "iproute2", "iptables")
            if not Path("/sys/fs/cgroup").is_mount():
                require("cgroupfs-mount")
            self._stage = Stage(self.directory, self._root, self._place.command([]))
        command = self._stage.command(self._command(self._stage))
        self._process = Process(self.program, command, log=self.log)
        self._process.wait_ready(self.answers)

    def _command(self, stage: Stage) -> list[str]:
        command = [
            self.program,
            f"--data-root={self.directory / 'data'}",
            f"--exec-root={stage.exec_root}",
            f"--pidfile={self.directory / 'docker.pid'}",
            f"--host={self.url}",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            # No name is asked outside of the lab.
            "--dns=127.0.0.1",
            f"--default-address-pool=base={stage.pool},size=24",
            f"--cgroup-parent=/{stage.name}",
            # systemd cannot see into the stage's process namespace, where cgroup v2 would ask it.
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--config-file={self._settings}",
            *([] if self._place is HERE else [f"--insecure-registry={self._place.address}/24"]),
        ]
        if not self.tcp_url:
            return command
        command.append(f"--host={self.tcp_url}")
        if not self._tls:
            return [*command, "--tls=false"]
        server = self._tls.pair("server")
        command += ["--tlsverify", f"--tlscacert={self._tls.file}"]
        return [*command, f"--tlscert={server.cert}", f"--tlskey={server.key}"]

    @property
    def pid(self) -> int:
        """Return dockerd's own process id; the program that entered the stage is its parent."""
        return child_of(self._running().pid)

    def network_of(self, container: str) -> Path:
        """Return the network namespace of a running container, for `nsenter --net` from here."""
        assert self._stage is not None
        pid = self.docker("inspect", "--format={{.State.Pid}}", container).strip()
        return self._stage.path(Path("/proc", pid, "ns/net"))

    def set_live_restore(self, live_restore: bool) -> None:
        """Have a running dockerd leave its containers alone when it ends, or take them along."""
        self._set(live_restore=live_restore)
        os.kill(self.pid, signal.SIGHUP)
        wanted = str(live_restore).lower()
        wait_until(
            lambda: self.docker("info", "-f", "{{.LiveRestoreEnabled}}").strip() == wanted,
            10,
            "dockerd to take its settings",
        )

    def _set(self, *, live_restore: bool) -> None:
        self._settings.write_text(json.dumps({"live-restore": live_restore}))

    def kill(self) -> None:
        """End dockerd like a crash; what it leaves behind stays until `start` or `close`."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End dockerd in order; it stops its containers unless `live_restore` is on."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Freeze dockerd: it accepts connections and answers none."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused dockerd go on."""
        process = self._running()
        os.kill(self.pid, signal.SIGCONT)
        # Its parent stopped along with it.
        process.signal(signal.SIGCONT)

    def close(self) -> None:
        """End everything the engine started; the data stays in its directory."""
        if self._process is not None:
            # Stopped along with a paused dockerd, it would keep that one's remains for ever.
            self._process.kill()
        if self._stage is not None:
            self._stage.close()
        self._stage = self._process = None

    def _end(self, number: signal.Signals) -> None:
        process = self._running()
        os.kill(self.pid, number)
        process.wait(30)

    def _running(self) -> Process:
        if self._process is None or not self._process.running:
            raise LabError(f"the engine in {self.directory} does not run: start it first")
        return self._process

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
