"""`make bench-names`: what managed names answer and cost while the real Kamal deploys.

Two apps are deployed in turn, deploys that fail among them. One has managed names, and the engine's
DNS is asked for them every 20 ms from a container on kamal-sd's network. The other one has none,
for comparison. wrk loads every container of both on their own network all the while, from when it
listens until it is told to stop.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from tests.benchmarks import machine
from tests.benchmarks.answers import Sample, judge, parse
from tests.benchmarks.asker import SAMPLING
from tests.benchmarks.lives import Lives
from tests.benchmarks.wrk import CONNECTIONS, Load, Wrk
from tests.engines.kinds import KINDS
from tests.lab.image import Behaviour
from tests.lab.kamal import App
from tests.lab.process import LabError, orderly_end, wait_until
from tests.lab.sd import REPOSITORY, Server
from tests.lab.world import World

MANAGED: Final = "shop"
PLAIN: Final = "till"
SERVICES: Final = (MANAGED, PLAIN)
ROLES: Final = ("web", "job")
NETWORK: Final = "kamal-sd"
SETTINGS: Final = "aliases: {manage: true}\ndefaults: {address: alias}\n"
ENGINES: Final = {each.name.removeprefix("Docker "): each for each in KINDS if not each.is_podman}

# Without a check Kamal may take a container for good that it happens to see between two crashes.
HEALTH: Final = {
    "health-cmd": "/bin/wget -q -O /dev/null http://127.0.0.1/up",
    "health-interval": "1s",
    "health-retries": "2",
}
WIDTH: Final = 120
"""What the widest table needs."""

Tell = Callable[[str], None]


class Deploy(NamedTuple):
    """A deploy that is over, with its times on this machine's clock."""

    service: str
    behaviour: Behaviour
    began: float
    ended: float

    @property
    def fails(self) -> bool:
        return self.behaviour != "plain"


class Bench:
    """The world of the two apps, each of which has been deployed once."""

    def __init__(self, world: World, tell: Tell) -> None:
        self._world, self._tell = world, tell
        self._versions = 0
        self._current: dict[str, str] = {}
        self._apps = {
            MANAGED: self._app(MANAGED, {}),
            PLAIN: self._app(PLAIN, {"prometheus.scrape": "false"}),
        }
        for service in SERVICES:
            self._deploy(service, "plain", ROLES)

    def _app(self, service: str, labels: dict[str, str]) -> App:
        port = {"prometheus.port": "9394"}
        return self._world.app(
            service=service,
            roles={role: {"labels": port | labels, "options": HEALTH} for role in ROLES},
            deploy_timeout=6,
        )

    def deploys(self, count: int) -> Iterator[Deploy]:
        """Deploy each app `count` times, and as often in vain, in turn."""
        for number in range(count):
            for service in SERVICES if number % 2 else reversed(SERVICES):
                if number % 5 == 1:
                    self._one_off(service)
                yield self._deploy(service, "plain", ROLES)
                behaviour: Behaviour = "unhealthy" if number % 2 else "crashing"
                # Kamal ends with the first role that fails.
                yield self._deploy(service, behaviour, [ROLES[number // 2 % 2]])

    def _one_off(self, service: str) -> None:
        self._apps[service].app_exec(
            "job", self._current[service], "/bin/busybox sleep 20", detach=True
        )

    def _deploy(self, service: str, behaviour: Behaviour, roles: Sequence[str]) -> Deploy:
        self._versions += 1
        version = f"v{self._versions}"
        self._world.image(version, behaviour, service=service, drain=1)
        began = time.time()
        try:
            words = ["deploy", "-P", "--version", version, "--roles", ",".join(roles)]
            self._apps[service].kamal(*words)
        except LabError:
            if behaviour == "plain":
                raise
        else:
            if behaviour != "plain":
                raise LabError(f"Kamal took {service} {version} for good, which is {behaviour}")
            self._current[service] = version
        done = Deploy(service, behaviour, began, time.time())
        self._tell(f"{service} {version} {behaviour} {' '.join(roles)}")
        return done


@contextmanager
def sampled(world: World, samples: Path) -> Iterator[None]:
    """Ask for the names of the app that has some, meanwhile."""
    engine = world.engine
    form = "--format={{.Name}}"
    wait_until(
        lambda: NETWORK in engine.docker("network", "ls", form).split(), 20, f"network {NETWORK}"
    )
    image = world.image("asker", service="asker")
    asker = engine.docker("run", "--detach", f"--network={NETWORK}", image, "/bin/app", "asker")
    command = [
        *("nsenter", f"--net={engine.network_of(asker.strip())}"),
        *(sys.executable, "-m", "tests.benchmarks.asker", *map(name_of, ROLES)),
    ]
    with (
        samples.open("w") as file,
        subprocess.Popen(command, stdout=file, cwd=REPOSITORY) as sampler,
    ):
        try:
            wait_until(
                lambda: sampler.poll() is not None or samples.stat().st_size, 20, "a first sample"
            )
            yield
            if sampler.poll() is not None:
                raise LabError(f"the sampler ended with {sampler.returncode}: see above")
        finally:
            sampler.terminate()


def name_of(role: str) -> str:
    return f"{MANAGED}-{role}.{NETWORK}"


def main() -> None:
    """Deploy, and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=ENGINES, default="20.10", help="which Docker Engine")
    parser.add_argument(
        "--deploys", type=int, default=9, help="of each of the two apps, and as many that fail"
    )
    options = parser.parse_args()
    console, started = Console(highlight=False), time.monotonic()

    def tell(words: str) -> None:
        console.print(f"{time.monotonic() - started:6.0f} s  {words}")

    with orderly_end(), World(make=ENGINES[options.engine].make) as world:
        docker, folder = world.docker, world.folder("names")
        description = machine.description(docker)
        lives = Lives(docker, NETWORK)
        config = folder / "config.yml"
        config.write_text(SETTINGS)
        samples = folder / "samples"
        with ExitStack() as stack:
            stack.enter_context(lives.followed())
            bench = Bench(world, tell)
            stack.enter_context(Server(folder / "sd", docker.url, config=config))
            stack.enter_context(sampled(world, samples))
            wrk = Wrk(lives, folder)
            wrk.start()
            stack.callback(wrk.end)
            done = list(bench.deploys(options.deploys))
        lines = samples.read_text().splitlines()
        wide = Console(highlight=False, width=max(WIDTH, console.width))
        wide.print(of_names(lines, lives, done))
        wide.print(of_deploys(done, wrk.loads()))
        words = ", ".join(f"{name}: {value}" for name, value in description.items())
        console.print(words, soft_wrap=True)


def of_names(lines: Sequence[str], lives: Lives, deploys: Sequence[Deploy]) -> Table:
    """What the names answered, by role and by what went on."""
    table = Table(
        *("name", "while", "samples", "one", "two", "longest, ms"),
        *("nobody", "longest, ms", "wrong"),
        title=f"Managed names, sampled every {SAMPLING * 1000:g} ms",
    )
    for role in ROLES:
        samples = parse(lines, name_of(role))
        mine = [each for each in deploys if each.service == MANAGED]
        for words, these in {
            "deploys": within(samples, [each for each in mine if not each.fails]),
            "failing deploys": within(samples, [each for each in mine if each.fails]),
            "the other app's": within(samples, [each for each in deploys if each not in mine]),
        }.items():
            found = judge(these, lives, MANAGED, role)
            table.add_row(
                name_of(role),
                words,
                *(str(found.samples), str(found.one)),
                *(str(found.two), f"{found.longest_two * 1000:.0f}"),
                *(str(found.nobody), f"{found.longest_nobody * 1000:.0f}"),
                str(found.wrong),
            )
    return table


def within(samples: Sequence[Sample], deploys: Sequence[Deploy]) -> list[Sample]:
    """Those of the samples that fall into deploys."""
    return [
        each
        for each in samples
        if any(deploy.began <= each.at <= deploy.ended for deploy in deploys)
    ]


def of_deploys(deploys: Sequence[Deploy], loads: Sequence[Load]) -> Table:
    """What the deploys took and what the requests met, with managed names and without."""
    table = Table(
        *("managed names", "deploys", "median, s", "failing", "median, s"),
        *("requests", "failed", "longest wait, ms", "not counted"),
        title=f"The apps, loaded by wrk with {CONNECTIONS} connections to each container",
    )
    for service, words in {MANAGED: "yes", PLAIN: "no"}.items():
        good, bad = (
            [
                each.ended - each.began
                for each in deploys
                if each.service == service and each.fails == fails
            ]
            for fails in (False, True)
        )
        mine = [each for each in loads if each.life.service == service]
        counted = [each.counted for each in mine if not each.outlived]
        table.add_row(
            words,
            *(str(len(good)), f"{statistics.median(good):.2f}"),
            *(str(len(bad)), f"{statistics.median(bad):.2f}"),
            str(sum(each.requests for each in counted)),
            str(sum(each.failed for each in counted)),
            f"{max(each.longest for each in counted) * 1000:.0f}",
            f"{len(mine) - len(counted)} of {len(mine)}",
        )
    return table


if __name__ == "__main__":
    main()
