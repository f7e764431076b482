"""A registry of images, on loopback as a rule."""

import json
from pathlib import Path

from tests.lab.packages import require
from tests.lab.process import Process, free_port, listening


class Registry(Process):
    """Debian's docker-registry with its files in a directory; any login is welcome."""

    def __init__(self, directory: Path, port: int | None = None, host: str = "127.0.0.1") -> None:
        require("docker-registry")
        directory.mkdir(parents=True, exist_ok=True)
        port = port or free_port()
        self.address = f"{host}:{port}"
        settings = {
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "http": {"addr": self.address},
            "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        }
        file = directory / "registry.yml"
        file.write_text(json.dumps(settings))
        super().__init__(
            "docker-registry",
            ["docker-registry", "serve", file],
            log=directory / "registry.log",
        )
        self.wait_ready(lambda: listening(port, host))
