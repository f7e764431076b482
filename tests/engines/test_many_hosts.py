"""Three hosts with real engines on a network, deployed to by the real Kamal: one truth of them all.

First one kamal-sd watches all three engines, at tcp://, ssh:// and unix://. Then there is one on
each host, whose port is the only one that is open.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread
from typing import Any, Final, NamedTuple, Self

import httpx
import pytest

from tests import http_sd_reader
from tests.benchmarks.hosts import (
    BY_IP,
    CENTER,
    EACH,
    WAYS,
    Watched,
    deployed,
    one_for_all,
    set_up,
    watched,
)
from tests.engine.town import wait_for
from tests.lab.hosts import PORT, Hosts, Machine
from tests.lab.kamal import App
from tests.lab.place import Place
from tests.lab.prometheus import Prometheus
from tests.lab.sd import Server
from tests.lab.world import World

pytestmark = pytest.mark.real

DEPLOYS: Final = 2
TIMEOUT: Final = 2
RESYNC: Final = 1
# By host, the version of each role.
Picture = dict[str, dict[str, str]]


class Town(NamedTuple):
    """The hosts, and the app that is deployed to two of them."""

    hosts: Hosts
    app: App


@pytest.fixture(scope="module")
def town(world: World) -> Iterator[Town]:
    with Hosts(world) as hosts:
        yield Town(hosts, set_up(hosts))


@pytest.fixture(scope="module")
def one(town: Town) -> Iterator[Server]:
    """One kamal-sd for all."""
    hosts = town.hosts
    sshd = hosts.ssh["beta"]
    files = {"key": str(sshd.key), "known_hosts": str(sshd.known_hosts)}
    socket = hosts.beta.engine.socket
    engines: list[dict[str, Any]] = [
        {"host": "alpha", "url": hosts.alpha.engine.tcp_url},
        {"host": "beta", "url": f"ssh://{sshd.address}{socket}", "ssh": files},
        {"host": "gamma", "url": hosts.gamma.engine.url},
    ]
    env = {
        "KAMAL_SD_ENGINES": json.dumps([each | {"timeout": TIMEOUT} for each in engines]),
        "KAMAL_SD_RESYNC_INTERVAL": f"{RESYNC}s",
    }
    with Server(hosts.folder("one"), env=env) as server:
        wait_for(lambda: all(is_up(server, each.name) for each in hosts.all), "three engines")
        yield server


@pytest.fixture(scope="module")
def seen(town: Town) -> Iterator[Watched]:
    """One kamal-sd a host, one in the center, and a Prometheus outside."""
    with watched(town.hosts) as parts:
        yield parts


def engine(server: Server, host: str) -> dict[str, Any]:
    """What /explain says of a host's engine."""
    engines = server.get("/explain").json()["engines"]
    found: dict[str, Any] = next(each for each in engines if each["host"] == host)
    return found


def is_up(server: Server, host: str) -> bool:
    said: bool = engine(server, host)["up"]
    assert f'kamal_sd_engine_up{{host="{host}"}}' in server.get("/metrics").text
    return said


def served(server: Server, path: str = "/targets") -> Picture:
    found: Picture = {}
    for target in http_sd_reader.read(server.get(path).raise_for_status().content):
        roles = found.setdefault(target.labels["host"], {})
        assert target.labels["role"] not in roles, "two targets of a slot"
        roles[target.labels["role"]] = target.labels["__meta_kamal_version"]
    return found


def explained(server: Server) -> Picture:
    found: Picture = {}
    for decision in server.get("/explain").json()["decisions"]:
        if decision["targets"]:
            found.setdefault(decision["host"], {})[decision["role"]] = decision["version"]
    return found


class Sampler:
    """Looks again and again, and keeps what differs from the time before."""

    def __init__(self, look: Callable[[], Picture]) -> None:
        self.pictures = [look()]
        self._look = look
        self._stop = Event()
        self._thread = Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            if (picture := self._look()) != self.pictures[-1]:
                self.pictures.append(picture)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def everywhere(version: str) -> Picture:
    both = {"job": version, "web": version}
    return {"alpha": both, "beta": both, "gamma": {"web": "v1"}}


def test_hosts_that_are_deployed_to_one_after_the_other_differ_meanwhile(
    town: Town, one: Server
) -> None:
    assert served(one) == explained(one) == everywhere("v1")
    town.hosts.image("v2")
    with Sampler(lambda: served(one)) as targets, Sampler(lambda: explained(one)) as decisions:
        town.app.deploy("v2")
        wait_for(lambda: served(one) == explained(one) == everywhere("v2"), "the second version")
    for pictures in (targets.pictures, decisions.pictures):
        old, new = {"job": "v1", "web": "v1"}, {"job": "v2", "web": "v2"}
        between = [(each["alpha"], each["beta"]) for each in pictures]
        assert (new, old) in between or (old, new) in between
        # Each of the four changed once, and gamma did not.
        assert len(pictures) == 5
        assert all(each["gamma"] == {"web": "v1"} for each in pictures)


def test_a_host_can_be_asked_for(one: Server) -> None:
    assert {host: served(one, f"/targets?host={host}") for host in served(one)} == {
        host: {host: roles} for host, roles in served(one).items()
    }
    assert set(served(one, "/targets?host=alpha&host=gamma")) == {"alpha", "gamma"}


CRON: Final = "label=role=cron"


@contextmanager
def unplugged(machine: Machine) -> Iterator[None]:
    machine.host.unplug()
    try:
        yield
    finally:
        machine.host.plug()


@contextmanager
def frozen(machine: Machine) -> Iterator[None]:
    machine.engine.pause()
    try:
        yield
    finally:
        machine.engine.resume()


@pytest.mark.parametrize(
    ("name", "loss"),
    [("alpha", unplugged), ("beta", unplugged), ("beta", frozen), ("gamma", frozen)],
)
def test_a_host_that_is_lost_harms_no_other_and_is_right_when_it_is_back(
    name: str,
    loss: Callable[[Machine], Any],
    town: Town,
    one: Server,
    request: pytest.FixtureRequest,
) -> None:
    lost = next(each for each in town.hosts.all if each.name == name)
    others = [each for each in town.hosts.all if each != lost]
    images = {each.name: town.hosts.local_image(each, "cron") for each in town.hosts.all}
    for each in town.hosts.all:
        request.addfinalizer(partial(each.engine.remove_containers, CRON))
    lost.run("cron", "old", images[name])
    wait_for(partial(serves, one, lost, "old"), "a role to be lost")
    before, began = served(one)[name], time.monotonic()
    with loss(lost):
        wait_for(lambda: not is_up(one, name), "the loss to be told")
        assert f'kamal_sd_engine_up{{host="{name}"}} 0.0' in one.get("/metrics").text
        for each in others:
            # A busy machine is slow at times. What the loss holds up would be late each time.
            assert min(published_after(one, each, images[each.name]) for _ in range(3)) < 1
            assert engine(one, each.name)["list_age"] < RESYNC + TIMEOUT
        assert engine(one, name)["list_age"] > time.monotonic() - began - RESYNC
        assert served(one)[name] == before
        assert is_up(one, others[0].name)
        assert is_up(one, others[1].name)
        if loss is unplugged:
            lost.engine.remove_containers(CRON)
            lost.run("cron", "other", images[name])
    # What it waits before a try is at most what went by before, and the first 0.5 s.
    step = 0.5 + time.monotonic() - began
    expected = before | ({"cron": "other"} if loss is unplugged else {})
    assert_within(step + TIMEOUT, lambda: is_up(one, name) and served(one)[name] == expected)


def serves(server: Server, machine: Machine, version: str) -> bool:
    return served(server)[machine.name].get("cron") == version


def published_after(server: Server, machine: Machine, reference: str) -> float:
    """The seconds from a start to the target of it."""
    machine.engine.remove_containers(CRON)
    wait_for(lambda: "cron" not in served(server)[machine.name], "its removal")
    machine.run("cron", "new", reference)
    began = time.monotonic()
    wait_for(partial(serves, server, machine, "new"), "its start to be seen")
    seconds = time.monotonic() - began
    print(f"{machine.name}: published after {seconds:.2f} s")
    return seconds


def assert_within(seconds: float, condition: Callable[[], object]) -> None:
    began = time.monotonic()
    wait_for(condition, f"what was to come within {seconds:g} s")
    assert time.monotonic() - began < seconds


def test_a_host_that_is_cut_off_is_told_long_before_the_next_list(town: Town) -> None:
    alpha = town.hosts.alpha
    engines = [{"host": "alpha", "url": alpha.engine.tcp_url, "timeout": TIMEOUT}]
    env = {"KAMAL_SD_ENGINES": json.dumps(engines), "KAMAL_SD_RESYNC_INTERVAL": "10m"}
    with Server(town.hosts.folder("sd"), env=env) as server:
        wait_for(lambda: is_up(server, "alpha"), "alpha to be heard")
        with unplugged(alpha):
            # The time of a probe, and as much for its answer. To connect anew would take longer.
            assert_within(2.75 * TIMEOUT, lambda: not is_up(server, "alpha"))
            assert engine(server, "alpha")["error"] == "its host does not answer any more"
        wait_for(lambda: is_up(server, "alpha"), "alpha to be back")


CONNECT: Final = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)"


def why_not_reached(place: Place, address: str, port: int) -> str:
    """The error of a connection from there, empty where there is none."""
    command = place.command([sys.executable, "-c", CONNECT, address, str(port)])
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.stderr.strip().rpartition("\n")[2]


def test_nothing_but_each_kamal_sd_is_reached_from_outside(town: Town, seen: Watched) -> None:
    outside, alpha = town.hosts.outside, town.hosts.alpha
    for machine in town.hosts.all:
        assert not why_not_reached(outside, machine.host.address, PORT)
        (container,) = machine.engine.containers("label=role=web", "status=running")
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        ip = machine.engine.docker("inspect", "--format", form, container).strip()
        assert not why_not_reached(machine.host, ip, 9394)
        assert "unreachable" in why_not_reached(outside, ip, 9394)
    engine_port = int(str(alpha.engine.tcp_url).rpartition(":")[2])
    assert "timed out" in why_not_reached(outside, alpha.host.address, engine_port)
    by_ip = seen.prometheus.values(f'up{{job="{BY_IP}"}}')
    assert by_ip == [0] * 5


def test_a_host_that_is_cut_off_costs_the_others_no_scrape(town: Town, seen: Watched) -> None:
    hosts, center, prometheus = town.hosts, seen.center, seen.prometheus
    groups = center.targets()
    began = time.monotonic()
    with unplugged(hosts.alpha):
        wait_for(lambda: not is_up(center, "alpha"), "the loss to be told")
        assert center.targets() == groups
        # One that starts meanwhile and remembers nothing cannot say what there is, but relays.
        urls = [server.url for server in seen.servers.values()]
        with one_for_all(hosts, urls, port=PORT + 1, wait=False) as fresh:
            for name in ("beta", "gamma"):
                wait_for(partial(is_relayed, fresh, path_of(groups, name)), f"{name}'s metrics")
            assert fresh.get("/targets").status_code == 503
        prometheus.wait_until(lambda: ups(prometheus, 'host="alpha"') == [0] * 4)
    prometheus.wait_until(lambda: ups(prometheus, 'host="alpha"') == [1] * 4)
    seconds = round(time.monotonic() - began)
    others = f'up{{job!="{BY_IP}",host!="alpha"}}[{seconds}s]'
    assert prometheus.values(f"min_over_time({others})") == [1] * 6
    assert min(prometheus.values(f"count_over_time({others})")) >= seconds - 1
    wait_for(lambda: is_up(center, "alpha") and center.targets() == groups, "alpha to be back")


def ups(prometheus: Prometheus, matcher: str) -> list[float]:
    return prometheus.values(f'up{{job=~"{CENTER}|{EACH}",{matcher}}}')


def path_of(groups: list[dict[str, Any]], host: str) -> str:
    found: str = next(
        group["labels"]["__metrics_path__"] for group in groups if group["labels"]["host"] == host
    )
    return found


def is_relayed(server: Server, path: str) -> bool:
    try:
        return "shop_build_info" in server.get(path).text
    except httpx.TransportError:
        # It is not there yet.
        return False


def test_the_only_open_port_of_each_host_is_enough_for_deploys_without_a_trace(
    town: Town, seen: Watched
) -> None:
    versions = [f"v{number + 3}" for number in range(DEPLOYS)]
    rows = deployed(town.hosts, town.app, seen.prometheus, versions, print)
    last = everywhere(versions[-1])
    wait_for(lambda: served(seen.center) == explained(seen.center) == last, "the last version")
    for name, server in seen.servers.items():
        assert served(server) == {name: last[name]}
    assert {(row.way, row.host) for row in rows} == {(way, host) for way in WAYS for host in last}
    for row in rows:
        assert {track.slot.role for track in row.tracks} == set(last[row.host])
        assert row.tally.new_series == 0
        assert row.tally.wrong_role == 0
        if row.way != BY_IP:
            assert all(len(track.samples) > 10 * DEPLOYS for track in row.tracks)
            assert row.tally.missed == 0
            assert row.tally.not_current == 0
            assert row.tally.returns == 0
            assert row.tally.false_increase == 0
