"""Prometheus in a container of the apps' network, where Docker's DNS knows their aliases."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import httpx

from tests.benchmarks.samples import METRICS, Series
from tests.lab.engine import Docker
from tests.lab.packages import require
from tests.lab.process import LabError, wait_until
from tests.lab.prometheus import Json

NAME = "prometheus"
PORT = 9090
# The machine's own programs and libraries, and nothing else of it.
SYSTEM = ("/usr", "/lib", "/lib64")


class Prometheus:
    """Scrapes the jobs while the `with` lasts; its storage is in the directory."""

    def __init__(
        self,
        engine: Docker,
        directory: Path,
        *,
        image: str,
        network: str,
        jobs: Iterable[Json],
        interval: int,
        mounts: dict[Path, str],
    ) -> None:
        require("prometheus")
        self._engine = engine
        settings = {
            "global": {"scrape_interval": f"{interval}s", "scrape_timeout": f"{interval}s"},
            "scrape_configs": list(jobs),
        }
        (directory / "prometheus.yml").write_text(json.dumps(settings, indent=2))
        places = {Path(place).resolve(): place for place in SYSTEM if Path(place).exists()}
        readable = [f"{host}:{place}:ro" for host, place in (places | mounts).items()]
        volumes = [*readable, f"{directory}:/prometheus"]
        self._command = [
            *("run", "--detach", "--name", NAME, "--network", network),
            *(word for volume in volumes for word in ("--volume", volume)),
            *(image, "/usr/bin/prometheus", "--config.file=/prometheus/prometheus.yml"),
            *("--storage.tsdb.path=/prometheus/data", f"--web.listen-address=:{PORT}"),
            "--log.level=warn",
        ]
        self._client = httpx.Client(timeout=60, trust_env=False)

    def __enter__(self) -> Self:
        self._engine.docker(*self._command)
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address = self._engine.docker("inspect", "--format", form, NAME).strip()
        self._client.base_url = httpx.URL(f"http://{address}:{PORT}")
        try:
            wait_until(self._ready, 30, "Prometheus to be ready")
        except LabError as error:
            log = self.log()
            self.__exit__()
            raise LabError(f"{error}; its log ends:\n{log}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._engine.remove_containers(f"name=^{NAME}$")

    def log(self) -> str:
        """Return the end of what it said."""
        return self._engine.docker("logs", "--tail", "20", NAME)

    @property
    def version(self) -> str:
        answer: str = self._ask("status/buildinfo")["version"]
        return answer

    def wait_for(self, job: str, targets: int) -> None:
        """Wait until the job has reached so many targets at their last scrapes."""
        query = f"sum(up{{job={json.dumps(job)}}}) == {targets}"
        wait_until(
            lambda: self._ask("query", query=query)["result"], 90, f"{targets} targets in {job}"
        )

    def raw(self, job: str, *, end: float, seconds: float) -> list[Series]:
        """Return all samples of a job before `end`, as they were stored."""
        names = "|".join(METRICS)
        selector = f'{{__name__=~"{names}",job={json.dumps(job)}}}[{round(seconds * 1000)}ms]'
        result = self._ask("query", query=selector, time=f"{end:.3f}")["result"]
        return [
            Series(each["metric"], [(time, float(value)) for time, value in each["values"]])
            for each in result
        ]

    def increase(self, metric: str, job: str, service: str, *, end: float, seconds: float) -> float:
        """Return Prometheus' own `increase()` of a service's counter."""
        selector = f'{metric}{{job={json.dumps(job)},service="{service}"}}'
        query = f"sum(increase({selector}[{round(seconds * 1000)}ms]))"
        result = self._ask("query", query=query, time=f"{end:.3f}")["result"]
        return float(result[0]["value"][1]) if result else 0.0

    def _ready(self) -> bool:
        try:
            return self._client.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def _ask(self, path: str, **parameters: str) -> Json:
        answer = self._client.get(f"/api/v1/{path}", params=parameters)
        if not answer.is_success:
            raise LabError(f"Prometheus refused {path} {parameters}: {answer.text}")
        found: Json = answer.json()["data"]
        return found
