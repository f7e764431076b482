"""`make bench-hosts`: what deploys to two of three hosts do to the series of a Prometheus outside.

On each host is a kamal-sd, whose port is the only one that is open. Prometheus asks them in two
ways at once: each by itself, and one in the center that has them as its peers and relays to them.
For comparison it scrapes the containers at their IPs as well, which it cannot reach.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from tests.benchmarks import machine
from tests.benchmarks.judgement import Tally, judge, total
from tests.benchmarks.samples import METRICS, Series, Track, tracks
from tests.benchmarks.truth import NEVER, Generation, Slot, Truth, Window
from tests.lab.hosts import PORT, ROLES, SERVICE, Hosts, Machine
from tests.lab.kamal import App
from tests.lab.process import orderly_end
from tests.lab.prometheus import Json, Prometheus
from tests.lab.sd import Server
from tests.lab.world import World

INTERVAL: Final = 1
CENTER, EACH, BY_IP = "center", "each", "ip"
WAYS: Final = {CENTER: "one for all", EACH: "one a host", BY_IP: "one a host, by IP"}
WIDTH: Final = 120
"""What the table needs."""
# For the last scrapes of what the last deploy left.
_REST = 3.0

Tell = Callable[[str], None]


class Row(NamedTuple):
    """What the deploys did to the roles of one host, as Prometheus found them in one way."""

    way: str
    host: str
    tracks: list[Track]
    tally: Tally

    @property
    def scrapes(self) -> int:
        return sum(len(track.ups) for track in self.tracks)


class Watched(NamedTuple):
    """A kamal-sd on each host and one in the center, and the Prometheus that asks them."""

    servers: dict[str, Server]
    center: Server
    prometheus: Prometheus


@contextmanager
def watched(hosts: Hosts) -> Iterator[Watched]:
    """Have the hosts watched, until Prometheus sees every role in each way."""
    with ExitStack() as stack:
        servers = {}
        for name, host, engine in hosts.all:
            engines = [{"url": engine.url, "host": name, "address": host.address}]
            env = {"KAMAL_SD_ENGINES": json.dumps(engines)}
            server = Server(hosts.folder("sd"), env=env, port=PORT, place=host, wait=False)
            servers[name] = stack.enter_context(server)
        for server in servers.values():
            server.wait_ready(server.ready)
        urls = [server.url for server in servers.values()]
        center = stack.enter_context(one_for_all(hosts, urls))
        prometheus = stack.enter_context(
            Prometheus(
                hosts.folder("prometheus"),
                job(CENTER, f"{center.url}/targets"),
                job(EACH, *(f"{url}/targets" for url in urls)),
                job(BY_IP, *(f"{url}/targets?address=ip" for url in urls)),
                scrape_interval=f"{INTERVAL}s",
                place=hosts.outside,
            )
        )
        every = len(ROLES) * len(hosts.docker) + 1
        prometheus.wait_until(
            lambda: prometheus.values(f'count by (job) (up{{job!="{BY_IP}"}} == 1)') == [every] * 2
        )
        yield Watched(servers, center, prometheus)


def one_for_all(
    hosts: Hosts, urls: Iterable[str], *, port: int = PORT, wait: bool = True
) -> Server:
    """Start a kamal-sd in the center that relays to those on the hosts, and knows nothing yet."""
    peers = [{"url": url, "relay": True, "timeout": "2s"} for url in urls]
    env = {"KAMAL_SD_ENGINES": "[]", "KAMAL_SD_PEERS": json.dumps(peers)}
    return Server(hosts.folder("sd"), env=env, port=port, place=hosts.center, wait=wait)


def job(name: str, *urls: str) -> Json:
    """Return a scrape job of a Prometheus that asks several."""
    return {
        "job_name": name,
        "http_sd_configs": [{"url": url, "refresh_interval": "5s"} for url in urls],
    }


def set_up(hosts: Hosts) -> App:
    """Deploy the first version to the hosts of Docker, and run it on that of Podman."""
    app = hosts.app(readiness_delay=1)
    hosts.image("v1")
    app.deploy("v1")
    hosts.gamma.run("web", "v1", hosts.local_image(hosts.gamma, "v1"))
    return app


def deployed(
    hosts: Hosts, app: App, prometheus: Prometheus, versions: list[str], tell: Tell
) -> list[Row]:
    """Deploy the versions one after the other, and judge what Prometheus made of it."""
    for version in versions:
        hosts.image(version)
    time.sleep(2 * INTERVAL)
    began = []
    for version in versions:
        began.append(time.time())
        app.deploy(version)
        tell(f"{version} is deployed, {time.time() - began[-1]:.0f} s")
    time.sleep(_REST)
    ends = [*began[1:], time.time() - 2 * INTERVAL]
    windows = [Window(begins, end) for begins, end in zip(began, ends, strict=True)]
    truths = {each.name: Truth(generations(each)) for each in hosts.all}
    rows = []
    for way in WAYS:
        series = raw(prometheus, way, seconds=time.time() - began[0] + 2 * INTERVAL)
        for name, truth in truths.items():
            found = tracks(each for each in series if each.labels["host"] == name)
            tallies = [total(judge(track, truth, windows, interval=INTERVAL)) for track in found]
            rows.append(Row(way, name, found, total(tallies)))
    return rows


def raw(prometheus: Prometheus, name: str, *, seconds: float) -> list[Series]:
    """Return all samples of a job in the last seconds, as they were stored."""
    metrics = "|".join(METRICS)
    selector = f'{{__name__=~"{metrics}",job="{name}"}}[{round(seconds * 1000)}ms]'
    return [
        Series(each["metric"], [(at, float(value)) for at, value in each["values"]])
        for each in prometheus.query(selector)
    ]


def generations(machine: Machine) -> Iterator[Generation]:
    """Return what ran on a host, by its engine."""
    engine = machine.engine
    form = (
        '{{.Id}} {{index .Config.Labels "role"}} {{.Name}} '
        "{{.State.Running}} {{.State.StartedAt}} {{.State.FinishedAt}}"
    )
    ids = engine.containers(f"label=service={SERVICE}")
    for line in engine.docker("inspect", "--format", form, *ids).splitlines():
        identity, role, name, running, started, finished = line.split()
        yield Generation(
            Slot(SERVICE, role),
            name.rpartition("-")[2],
            identity[:12],
            datetime.fromisoformat(started).timestamp(),
            NEVER if running == "true" else datetime.fromisoformat(finished).timestamp(),
        )


def table(rows: list[Row], deploys: int) -> Table:
    """What the deploys did, way by way and host by host."""
    found = Table(
        *("way", "host", "scrapes", "new series", "missed", "other role/host"),
        *("not current", "back, forth", "false increase, s"),
        title=f"{deploys} deploys by Kamal to alpha and beta; none to gamma",
    )
    for row in rows:
        tally = row.tally
        found.add_row(
            *(WAYS[row.way], row.host, str(row.scrapes), str(tally.new_series), str(tally.missed)),
            *(str(tally.wrong_role), str(tally.not_current), str(tally.returns)),
            f"{tally.false_increase:.1f}",
        )
    return found


def main() -> None:
    """Deploy, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--deploys", type=int, default=10, help="of two roles to two hosts")
    options = parser.parse_args()
    console, started = Console(highlight=False), time.monotonic()

    def tell(words: str) -> None:
        console.print(f"{time.monotonic() - started:6.0f} s  {words}")

    with orderly_end(), World() as world, Hosts(world) as hosts:
        description = machine.description(hosts.alpha.engine)
        app = set_up(hosts)
        with watched(hosts) as seen:
            tell("Prometheus reaches every role, in two ways")
            versions = [f"v{number + 2}" for number in range(options.deploys)]
            rows = deployed(hosts, app, seen.prometheus, versions, tell)
    Console(highlight=False, width=max(WIDTH, console.width)).print(table(rows, options.deploys))
    console.print(", ".join(f"{name}: {value}" for name, value in description.items()))


if __name__ == "__main__":
    main()
