"""VictoriaMetrics' vmagent, on loopback."""

from pathlib import Path
from typing import Any

import httpx

from tests.lab.process import LabError, Process, free_port, run
from tests.lab.sid import from_sid

Json = dict[str, Any]


def program() -> Path:
    """Return vmagent as Debian sid has it."""
    return from_sid("victoria-metrics") / "usr/bin/vmagent"


class VmAgent(Process):
    """vmagent with a configuration, which sends what it scrapes to `write_url`."""

    def __init__(
        self, directory: Path, text: str, *, write_url: str, check_interval: str = "15s"
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.config = directory / "vmagent.yml"
        self.config.write_text(text)
        super().__init__(
            "vmagent",
            [
                program(),
                f"-promscrape.config={self.config}",
                f"-promscrape.httpSDCheckInterval={check_interval}",
                f"-remoteWrite.url={write_url}",
                f"-remoteWrite.tmpDataPath={directory / 'data'}",
                f"-httpListenAddr={self.url.removeprefix('http://')}",
                # It shares the machine with the engine and all the others.
                "-memory.allowedBytes=128MiB",
                "-remoteWrite.queues=1",
            ],
            log=directory / "vmagent.log",
        )
        self._client = httpx.Client(base_url=self.url, timeout=10, trust_env=False)
        self.wait_ready(self._ready)

    def stop(self, timeout: float = 10) -> int:
        self._client.close()
        return super().stop(timeout)

    def _ready(self) -> bool:
        try:
            return self._client.get("/-/healthy").is_success
        except httpx.TransportError:
            return False

    def targets(self) -> list[Json]:
        """Return the active targets of /api/v1/targets, in the order of their scrape URLs."""
        answer = self._client.get("/api/v1/targets", params={"state": "active"})
        if not answer.is_success:
            raise LabError(f"vmagent refused to tell its targets: {answer.text}")
        found: list[Json] = answer.json()["data"]["activeTargets"]
        return sorted(found, key=lambda target: (target["scrapeUrl"], str(target["labels"])))


def dry_run(config: Path) -> None:
    """Let vmagent check a configuration; a mistake in it is a LabError."""
    run([program(), "-dryRun", "-loggerLevel=ERROR", f"-promscrape.config={config}"])
