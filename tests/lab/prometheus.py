"""A real Prometheus, and promtool."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.lab.packages import require
from tests.lab.place import HERE, Place
from tests.lab.process import LabError, Process, free_port, run, wait_until

Json = dict[str, Any]


def http_sd_job(url: str, *, name: str = "kamal", refresh: str = "1s", **extra: object) -> Json:
    """Return a scrape job that asks kamal-sd; `extra` adds keys of scrape_config."""
    discovery = [{"url": url, "refresh_interval": refresh}]
    return {"job_name": name, "http_sd_configs": discovery} | extra


class Prometheus(Process):
    """Debian's Prometheus with the given scrape jobs and its storage in a directory.

    `text` is a whole configuration in place of jobs, and `program` another Prometheus. With the
    flag `agent` it stores nothing, and a `receiver` takes what others send to `write_url`.
    """

    def __init__(
        self,
        directory: Path,
        *jobs: Mapping[str, object],
        scrape_interval: str = "1s",
        port: int | None = None,
        text: str = "",
        program: str | Path = "prometheus",
        agent: str = "",
        receiver: bool = False,
        place: Place = HERE,
    ) -> None:
        require("prometheus")
        directory.mkdir(parents=True, exist_ok=True)
        self.url = f"http://{place.address}:{port or free_port()}"
        self.config = directory / "prometheus.yml"
        settings = {
            "global": {"scrape_interval": scrape_interval, "scrape_timeout": scrape_interval},
            "scrape_configs": jobs,
        }
        self.config.write_text(text or json.dumps(settings, indent=2))
        self.write_url = f"{self.url}/api/v1/write"
        storage = "--storage.agent.path" if agent else "--storage.tsdb.path"
        super().__init__(
            "prometheus",
            [
                *place.command([]),
                program,
                f"--config.file={self.config}",
                f"{storage}={directory / 'data'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
                "--log.level=warn",
                *([agent] if agent else []),
                *(["--web.enable-remote-write-receiver"] if receiver else []),
            ],
            log=directory / "prometheus.log",
        )
        self._client = httpx.Client(base_url=self.url, timeout=10, trust_env=False)
        self.wait_ready(self._ready)

    def stop(self, timeout: float = 10) -> int:
        self._client.close()
        return super().stop(timeout)

    def _ready(self) -> bool:
        try:
            return self._client.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def _ask(self, path: str, **parameters: str) -> Any:
        answer = self._client.get(f"/api/v1/{path}", params=parameters)
        if not answer.is_success:
            raise LabError(f"Prometheus refused {path} {parameters}: {answer.text}")
        return answer.json()["data"]

    def targets(self) -> list[Json]:
        """Return the active targets of /api/v1/targets, in the order of their scrape URLs."""
        found: list[Json] = self._ask("targets", state="active")["activeTargets"]
        return sorted(found, key=lambda target: (target["scrapeUrl"], str(target["labels"])))

    def labels(self) -> list[dict[str, str]]:
        """Return the plain labels of the active targets."""
        return [target["labels"] for target in self.targets()]

    def query(self, expression: str) -> list[Json]:
        """Return the result of an instant query."""
        result: list[Json] = self._ask("query", query=expression)["result"]
        return result

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Json]:
        """Return the result of a query over a time, in steps of some seconds."""
        times = {"start": str(start), "end": str(end), "step": str(step)}
        result: list[Json] = self._ask("query_range", query=expression, **times)["result"]
        return result

    def rules(self) -> list[Json]:
        """Return the rules with their health, as they stand in their files."""
        groups: list[Json] = self._ask("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def values(self, expression: str) -> list[float]:
        """Return the values of an instant query, less their labels."""
        return [float(sample["value"][1]) for sample in self.query(expression)]

    def series(self, match: str) -> list[dict[str, str]]:
        """Return the labels of every series that ever was, in this Prometheus' life."""
        found: list[dict[str, str]] = self._ask("series", **{"match[]": match})
        return found

    def wait_until(self, condition: Callable[[], object], timeout: float = 30) -> None:
        """Wait for a condition; the targets stand in the message when it does not come."""
        try:
            wait_until(condition, timeout, "Prometheus to see what it should")
        except LabError as error:
            seen = json.dumps(self.targets(), indent=1)
            raise LabError(f"{error}; its targets are:\n{seen}") from None


def promtool_check_sd(config: Path, job: str, wait: int = 2) -> list[Json]:
    """Return what `promtool check service-discovery` says of a job's targets.

    It always waits as long as it may (30 s unless told) for what it finds to settle.
    """
    require("prometheus")
    output = run(["promtool", "check", "service-discovery", f"--timeout={wait}s", config, job])
    found: list[Json] = json.loads(output)
    return found
