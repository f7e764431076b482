"""All that runs in a soak: engine, proxy, two kamal-sd's, Prometheus, and who works at it."""

import http.client
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.soak.clients import Asker, Crowd
from tests.benchmarks.soak.deploys import APPS, KAMAL, NETWORK, Deployer, KamalDeployer
from tests.benchmarks.soak.findings import Findings
from tests.benchmarks.soak.judge import Held
from tests.benchmarks.soak.pausing import Engaged, Gate
from tests.benchmarks.soak.proxy import Proxy
from tests.benchmarks.soak.truth import Fleet, Hearing
from tests.benchmarks.truth import Slot
from tests.lab.engine import Engine
from tests.lab.process import free_port, wait_until
from tests.lab.prometheus import Prometheus, http_sd_job
from tests.lab.sd import Server
from tests.lab.world import World

STEADY: Final = "steady"
RESTARTED: Final = "restarted"
KAMAL_EVERY: Final = 45.0


class Watched:
    """A kamal-sd that may be ended and started again, at the same port and with its snapshots."""

    def __init__(self, name: str, folder: Path, config: Path) -> None:
        self.name = name
        self.hearing = Hearing()
        self._folder, self._config = folder, config
        self._port = free_port()
        self.server = self._start(wait=False)
        self.url = self.server.url
        self._place = self.url.removeprefix("http://")

    def start(self) -> None:
        """Start it again, and wait until it answers."""
        self.server = self._start()

    def end(self, *, kill: bool) -> None:
        if kill:
            self.server.kill()
        self.server.stop()

    def stop(self) -> None:
        """End whichever runs."""
        self.server.stop()

    def hears(self) -> bool:
        """Whether it says itself that it hears the engine."""
        return bool(self.metric("kamal_sd_engine_up"))

    def metric(self, name: str) -> float:
        """The value of one of its metrics, 0 while it does not answer."""
        web = http.client.HTTPConnection(self._place, timeout=5)
        try:
            web.request("GET", "/metrics")
            text = web.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return 0.0
        finally:
            web.close()
        found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def held(self) -> Held | None:
        """What its process holds now; None while it does not run."""
        process = Path(f"/proc/{self.server.pid}")
        try:
            status = dict(
                line.split(":", 1) for line in (process / "status").read_text().splitlines()
            )
            descriptors = len(os.listdir(process / "fd"))  # noqa: PTH208 - they go meanwhile
        except OSError:
            return None
        if "VmRSS" not in status:
            return None
        memory = int(status["VmRSS"].split()[0]) / 1024
        return Held(time.time(), memory, int(status["Threads"]), descriptors)

    def _start(self, *, wait: bool = True) -> Server:
        return Server(self._folder, config=self._config, port=self._port, wait=wait)


class Rig:
    """The running parts, and the threads that work at them until the `with` ends."""

    def __init__(self, world: World, findings: Findings, seed: str, *, kamal: bool) -> None:
        self.fleet, self.gate, self.engaged = Fleet(), Gate(), Engaged()
        self.findings = findings
        self.engine: Engine = world.engine
        self._world, self._seed, self._kamal = world, seed, kamal
        self._stack = ExitStack()
        self._work: list[Future[None]] = []
        self.config = world.folder("soak") / "config.yml"

    @contextmanager
    def running(self) -> Iterator["Rig"]:
        """Start everything; each role is deployed by then."""
        with self._stack as stack:
            deployers = self._deployed()
            proxy = Proxy(self.config.with_name("proxy.sock"), self.engine.socket)
            self.proxy = stack.enter_context(proxy)
            self.configure()
            self.watched = [self._watch(name) for name in (STEADY, RESTARTED)]
            for each in self.watched:
                wait_until(each.hears, 20, f"the {each.name} one to hear the engine")
            jobs = [http_sd_job(f"{each.url}/targets", name=each.name) for each in self.watched]
            folder = self._world.folder("prometheus")
            self.prometheus = stack.enter_context(Prometheus(folder, *jobs))
            self._begin(deployers)
            up = len(self.fleet.expected)
            self.prometheus.wait_until(
                lambda: self.prometheus.values("count by (job) (up == 1)") == [up] * len(jobs)
            )
            yield self

    def configure(self, **given: Any) -> None:
        """Put another settings file in the place of the one that is there."""
        engines = [{"url": self.proxy.url, "timeout": "3s"}]
        self.write(json.dumps({"engines": engines, "resync_interval": "20s"} | given))

    def write(self, text: str) -> None:
        """Put a settings file with that text there, at once as a good editor does."""
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.replace(self.config)

    def check(self) -> None:
        """Raise what ended a thread that was to go on."""
        for each in self._work:
            if each.done():
                each.result()

    def _deployed(self) -> list[Deployer | KamalDeployer]:
        self.engine.docker("network", "create", NETWORK)
        parts = (self.fleet, self.gate, self.engaged)
        found: list[Deployer | KamalDeployer] = []
        for service, roles in APPS.items():
            deployer = Deployer(self.engine, service, *parts, self._seed)
            deployer.deploy()
            found.append(deployer)
            self.fleet.expected |= {Slot(service, role) for role in roles}
        if self._kamal:
            kamal = KamalDeployer(self._world, *parts)
            kamal.deploy("plain")
            found.append(kamal)
            self.fleet.expected.add(KAMAL)
        return found

    def _watch(self, name: str) -> Watched:
        watched = Watched(name, self._world.folder(name), self.config)
        self._stack.callback(watched.stop)
        return watched

    def _begin(self, deployers: list[Deployer | KamalDeployer]) -> None:
        works: list[Callable[[], None]] = []
        for deployer in deployers:
            if isinstance(deployer, Deployer):
                works.append(partial(deployer.work, self.findings))
            else:
                works.append(partial(deployer.work, self.findings, KAMAL_EVERY))
        self.askers = []
        for each in self.watched:
            parts = (each.hearing, self.findings, self.gate)
            self.askers.append(Asker(each.name, each.url, self.fleet, *parts))
            crowd = Crowd(each.name, each.url, *parts, self._seed)
            works += [self.askers[-1].work, crowd.work]
        pool = self._stack.enter_context(ThreadPoolExecutor(len(works) + 2))
        self._stack.callback(self.gate.end)
        self._work = [pool.submit(work) for work in works]
        self.pool = pool
