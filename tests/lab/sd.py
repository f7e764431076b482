"""kamal-sd itself, as its user starts it."""

import ssl
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.lab.place import HERE, Place
from tests.lab.process import Process, free_port, system_environment

REPOSITORY = Path(__file__).resolve().parents[2]


class Server(Process):
    """`kamal-sd serve`, on loopback as a rule, asking the engine at `docker_host`.

    `env` adds variables or, with an empty value, takes the lab's own away. With `tls` it is asked
    by https, in that context.
    """

    def __init__(
        self,
        directory: Path,
        docker_host: str | None = None,
        *,
        config: Path | None = None,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        wait: bool = True,
        place: Place = HERE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        listen = f"{place.address}:{port or free_port()}"
        self.url = f"{'https' if tls else 'http'}://{listen}"
        self.data_dir = directory / "data"
        environment = system_environment(
            HOME=str(directory),
            PYTHONPATH=str(REPOSITORY),
            KAMAL_SD_LISTEN=listen,
            KAMAL_SD_DATA_DIR=str(self.data_dir),
            DOCKER_HOST=docker_host or "",
        ) | dict(env or {})
        options = ["--config", str(config)] if config else []
        super().__init__(
            "kamal-sd",
            place.command([sys.executable, "-m", "app", "serve", *options]),
            log=directory / "kamal-sd.log",
            env={name: value for name, value in environment.items() if value},
            cwd=directory,
        )
        self._client = httpx.Client(
            base_url=self.url, timeout=10, trust_env=False, verify=tls or True
        )
        if wait:
            self.wait_ready(self.ready)

    def stop(self, timeout: float = 10) -> int:
        self._client.close()
        return super().stop(timeout)

    def ready(self) -> bool:
        """Tell whether /-/ready says so."""
        try:
            return self.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Ask the server; any answer is returned, be it an error."""
        return self._client.get(path, headers=headers)

    def targets(self) -> list[dict[str, object]]:
        """Return the target groups of /targets."""
        groups: list[dict[str, object]] = self.get("/targets").raise_for_status().json()
        return groups
