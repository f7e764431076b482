"""One real engine, one kamal-sd and one Prometheus that go through fault after fault together."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import httpx

from app.engine.session import Pace
from app.web.targets import AGE_HEADER
from tests import http_sd_reader
from tests.engine.forwarder import Forwarder
from tests.engine.town import IMAGE, Town, wait_for
from tests.lab.engine import Engine
from tests.lab.place import HERE, Place
from tests.lab.process import free_port, run
from tests.lab.prometheus import Prometheus, http_sd_job
from tests.lab.sd import Server
from tests.lab.world import World

ROLES: Final = ("web", "job")
# How Prometheus reaches the apps: through kamal-sd, and by itself.
JOBS: Final = {"relay": "/targets", "ip": "/targets?address=ip"}
EVERYBODY: Final = frozenset((job, role) for job in JOBS for role in ROLES)

_CONTAINER: Final = "__meta_docker_container_id"
# What a process may grow by without being taken for a leak, in KiB.
_GROWTH: Final = 8 * 1024


class Answer(NamedTuple):
    """One answer of /targets, and what /-/ready said right after it. Monotonic seconds."""

    at: float
    status: int
    body: bytes
    age: float
    ready: int


class Level(NamedTuple):
    """What a process holds; memory in KiB."""

    threads: int
    descriptors: int
    memory: int


class Asker:
    """Asks a kamal-sd every `period` seconds, as long as the context lasts.

    `unheard` counts the questions that nobody answered.
    """

    def __init__(self, url: str, period: float = 0.02) -> None:
        self.answers: list[Answer] = []
        self.unheard = 0
        self.asked = threading.Event()
        self._url = url
        self._period = period
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asker")

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30, trust_env=False) as client:
            while not self._stop.wait(self._period):
                try:
                    answer = client.get("/targets")
                    self.asked.set()
                    age = float(answer.headers.get(AGE_HEADER, "nan"))
                    at, ready = time.monotonic(), client.get("/-/ready").status_code
                except httpx.TransportError:
                    self.unheard += 1
                else:
                    self.answers.append(Answer(at, answer.status_code, answer.content, age, ready))

    def bodies(self) -> set[bytes]:
        """All that was answered, each once."""
        return {each.body for each in self.answers if each.status == httpx.codes.OK}

    def __enter__(self) -> Self:
        self._thread.start()
        # Its connection is there before anything happens.
        self.asked.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


class Bystander:
    """Looks at what Prometheus scrapes, all the while. `fewer` has each look that missed one."""

    def __init__(self, prometheus: Prometheus) -> None:
        self.fewer: list[tuple[float, frozenset[tuple[str, str]]]] = []
        self.looks = 0
        self._prometheus = prometheus
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bystander")

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            missing = EVERYBODY - active(self._prometheus)
            self.looks += 1
            if missing:
                self.fewer.append((time.time(), missing))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def active(prometheus: Prometheus) -> frozenset[tuple[str, str]]:
    """The job and the role of each active target."""
    return frozenset((each["job"], each["role"]) for each in prometheus.labels() if "role" in each)


class Way(NamedTuple):
    """How kamal-sd runs: whom it asks, in which environment, and with which mounts."""

    url: str
    env: tuple[tuple[str, str], ...] = ()
    place: Place = HERE


class Rig:
    """The engine, whose containers outlive it, the kamal-sd before it, and the Prometheus."""

    def __init__(self, world: World, engine: Engine, forwarder: Forwarder) -> None:
        self.engine = engine
        self.forwarder = forwarder
        self.directory = world.folder("sd")
        self.data = self.directory / "data"
        self._town = Town(engine)
        self._versions = 1
        self._port = free_port()
        self._town.run(*ROLES, restart="always")
        self._way = Way(engine.url)
        self.server = self._started()
        # When the engine was last heard again.
        self.well_since = time.monotonic()
        wait_for(self.is_true, "both roles")
        jobs = [http_sd_job(self.server.url + path, name=name) for name, path in JOBS.items()]
        self.prometheus = Prometheus(world.folder("prometheus"), *jobs)
        self.prometheus.wait_until(lambda: active(self.prometheus) == EVERYBODY)

    def close(self) -> None:
        self.prometheus.stop()
        self.server.stop()

    # --- what is done ---

    def _started(self) -> Server:
        engine = {"url": self._way.url, "host": "one", "timeout": 1}
        server = Server(
            self.directory,
            env={
                "KAMAL_SD_ENGINES": json.dumps([engine]),
                "KAMAL_SD_RESYNC_INTERVAL": "1s",
                **dict(self._way.env),
            },
            port=self._port,
            place=self._way.place,
            wait=False,
        )
        server.wait_ready(lambda: _is_healthy(server))
        return server

    def start(self) -> None:
        """Starts kamal-sd again, in the same way as before."""
        self.server = self._started()
        self.well_since = time.monotonic()

    def restart(self) -> None:
        """Ends kamal-sd, and starts it again."""
        assert self.server.stop() == 0
        self.start()

    def server_place(self, *argv: str) -> None:
        """Runs a program to its end among the mounts that kamal-sd has."""
        run(["nsenter", f"--target={self.server.pid}", "--mount", "--", *argv])

    def run_in(self, way: Way) -> None:
        """Has kamal-sd run in that way, and waits until all is well in the eyes of Prometheus."""
        if way != self._way:
            self._way = way
            self.restart()
        wait_for(self.is_true, "the truth to be served")
        # The job's IP changes, and Prometheus takes that every five seconds at the most.
        scraped = f'sum(up{{role="web"}} and timestamp(up) > {time.time()})'
        wait_for(lambda: self.prometheus.values(scraped) == [len(JOBS)], "web to be scraped")
        # The loss before is forgotten then, and the waits begin afresh.
        time.sleep(max(0.0, self.well_since + Pace().good_run + 0.2 - time.monotonic()))

    def replace(self, role: str) -> None:
        """What a deploy does: a container of another version runs, and the one before it goes."""
        (before,) = self.engine.containers(f"label=role={role}")
        self._versions += 1
        labels = {"service": "town", "role": role, "destination": "", "prometheus.port": "9394"}
        self.engine.docker(
            *("run", "--detach", "--network=kamal", "--restart=always"),
            f"--name=town-{role}-v{self._versions}",
            *(f"--label={name}={value}" for name, value in labels.items()),
            *(IMAGE, "/bin/app", role),
        )
        self.engine.docker("rm", "--force", before)

    # --- what is seen ---

    def stored(self) -> dict[str, str]:
        """The running container of each role, as kamal-sd has it on disk, wherever that is."""
        text = Path(f"/proc/{self.server.pid}/root{self.data}/one.json").read_text()
        return {
            each["labels"]["role"]: each["id"]
            for each in json.loads(text)["containers"]
            if each["state"] == "running"
        }

    def get(self, path: str) -> httpx.Response:
        return self.server.get(path)

    def engine_document(self) -> Any:
        """What /explain says of the engine."""
        (engine,) = self.get("/explain").raise_for_status().json()["engines"]
        return engine

    def log_since(self, mark: int) -> str:
        return self.server.log.read_text(errors="replace")[mark:]

    def mark(self) -> int:
        """Where the log ends now."""
        return len(self.server.log.read_text(errors="replace"))

    def is_true(self) -> bool:
        """Whether what is served is what runs, as of a list of just now."""
        try:
            answer = self.get("/targets")
        except httpx.TransportError:
            return False
        if not answer.is_success or float(answer.headers[AGE_HEADER]) > 2:
            return False
        return self.engine_document()["up"] is True and served(answer.content) == self.truth()

    def truth(self) -> dict[str, str]:
        """The running container of each role, as the engine itself says."""
        form = '{{.Label "role"}} {{.ID}}'
        lines = self.engine.docker("ps", "--no-trunc", "--format", form).splitlines()
        return dict(line.split() for line in lines)

    def level(self) -> Level:
        """What kamal-sd holds, at the most, in a moment of now: connections come and go."""
        looks = []
        for _ in range(10):
            looks.append(self._level())
            time.sleep(0.03)
        return Level(*map(max, zip(*looks, strict=True)))

    def _level(self) -> Level:
        process = Path(f"/proc/{self.server.pid}")
        status = dict(
            re.findall(r"^(\w+):\s+(\d+)", (process / "status").read_text(), re.MULTILINE)
        )
        passing = {f"socket:[{inode}]" for inode in self._passing(process / "net")}
        held = [each for each in _opened(process / "fd") if each not in passing]
        return Level(int(status["Threads"]), len(held), int(status["VmRSS"]))

    def _passing(self, tables: Path) -> Iterator[str]:
        """The inodes of sockets that come and go (proc(5)).

        Those are the clients', and those that docker-py could not connect to an absent engine: it
        leaves them to the garbage collector.
        """
        for line in (tables / "tcp").read_text().splitlines()[1:]:
            _, local, *_, inode = line.split()[:10]
            if int(local.partition(":")[2], 16) == self._port:
                yield inode
        for line in (tables / "unix").read_text().splitlines()[1:]:
            *_, state, inode = line.split()[:7]
            if state == "01":
                yield inode

    def assert_level(self, before: Level) -> None:
        """Waits until kamal-sd holds no more than before."""

        def is_level() -> bool:
            now = self._level()
            return (
                now.threads <= before.threads
                and now.descriptors <= before.descriptors
                and now.memory <= before.memory + _GROWTH
            )

        wait_for(is_level, f"kamal-sd to hold no more than {before}, as it does: {self.level()}")

    def missed(self, job: str, role: str, since: float) -> float:
        """How many scrapes failed since that time, in Prometheus' own series."""
        window = f"{max(1, round(time.time() - since))}s"
        series = f'up{{job="{job}",role="{role}"}}[{window}]'
        return sum(self.prometheus.values(f"count_over_time({series}) - sum_over_time({series})"))

    def series(self) -> set[tuple[tuple[str, str], ...]]:
        """The labels of every series of the apps that there ever was."""
        found = self.prometheus.series('{__name__=~"up|shop_requests_total"}')
        return {tuple(sorted(each.items())) for each in found}


def _is_healthy(server: Server) -> bool:
    try:
        return server.get("/-/healthy").is_success
    except httpx.TransportError:
        return False


def _opened(folder: Path) -> Iterator[str]:
    """What stands behind each descriptor. One may be closed while they are looked at."""
    for each in folder.iterdir():
        with suppress(FileNotFoundError):
            yield str(each.readlink())


def served(body: bytes) -> dict[str, str]:
    """The container behind each role's target. Fails where a strict reader does."""
    return {each.labels["role"]: each.labels[_CONTAINER] for each in http_sd_reader.read(body)}


@contextmanager
def rig(world: World) -> Iterator[Rig]:
    """A rig that ends with the context."""
    folder = world.folder("lasting")
    with (
        Engine(folder, live_restore=True) as engine,
        Forwarder(folder / "forwarder.sock", engine.socket) as forwarder,
    ):
        made = Rig(world, engine, forwarder)
        try:
            yield made
        finally:
            with suppress(subprocess.TimeoutExpired):
                made.close()
