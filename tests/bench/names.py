"""`make bench-names`: what a managed name answers while the real Kamal deploys.

Every 20 ms the engine's DNS is asked for the names of two roles, from a container on kamal-sd's
network, through deploys, deploys that fail and one-offs. All the while each container of the app is
asked over HTTP on its own network, from its start until it is told to stop.
"""

import argparse
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import httpx
from rich.console import Console
from rich.table import Table

from tests.lab.engine import Docker
from tests.lab.image import Behaviour
from tests.lab.process import orderly_end
from tests.lab.sd import Server
from tests.lab.world import World

ROLES: Final = ("web", "job")
SAMPLING: Final = 0.02

# Runs in the network namespace of the asker: one line a sample.
SAMPLER: Final = """
import socket, struct, sys, time
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.settimeout(2)
def ask(name, number):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    head = struct.pack(">6H", number, 0x100, 1, 0, 0, 0)
    query = head + labels + b"\\0" + struct.pack(">2H", 1, 1)
    asker.sendto(query, ("127.0.0.11", 53))
    answer = asker.recv(4096)
    while answer[:2] != query[:2]:
        answer = asker.recv(4096)
    found, place = [], len(query)
    for _ in range(struct.unpack(">H", answer[6:8])[0]):
        while answer[place] and answer[place] < 192:
            place += 1 + answer[place]
        place += 2 if answer[place] >= 192 else 1
        size = struct.unpack(">H", answer[place + 8:place + 10])[0]
        found.append(socket.inet_ntoa(answer[place + 10:place + 10 + size]))
        place += 10 + size
    return found
number, due = 0, time.time()
while True:
    for name in sys.argv[1:]:
        number = (number + 1) % 65536
        try:
            found = ",".join(sorted(ask(name, number)))
        except OSError as error:
            found = "?"
        print(time.time(), name, found or "-", flush=True)
    due = max(due + 0.02, time.time())
    time.sleep(max(0, due - time.time()))
"""


class Life(NamedTuple):
    """A container's times on this machine's clock; None where it has not happened."""

    name: str
    role: str
    started: float
    told: float | None
    ended: float | None


class Truth:
    """What the engine's events tell of each container, and which IP it had on the network."""

    def __init__(self, docker: Docker) -> None:
        self.lives: dict[str, Life] = {}
        self.joined: list[tuple[float, str, str]] = []
        self._docker = docker
        self._lock = threading.Lock()

    def follow(self, lines: Iterable[str]) -> None:
        """Heeds the engine's events until their end."""
        for line in lines:
            self._heed(line)

    def _heed(self, line: str) -> None:
        event = json.loads(line)
        at = event["timeNano"] / 1e9
        attributes = event["Actor"]["Attributes"]
        if event["Type"] == "network":
            if event["Action"] == "connect" and attributes["name"] == "kamal-sd":
                self._join(at, attributes["container"])
            return
        identity, role = event["Actor"]["ID"], attributes.get("role", "")
        known = self.lives.get(identity)
        if event["Action"] == "start" and role:
            self.lives[identity] = Life(attributes["name"], role, at, None, None)
        elif event["Action"] == "kill" and known and known.told is None:
            self.lives[identity] = known._replace(told=at)
        elif event["Action"] == "die" and known:
            self.lives[identity] = known._replace(ended=at)

    def _join(self, at: float, identity: str) -> None:
        form = '{{(index .NetworkSettings.Networks "kamal-sd").IPAddress}}'
        address = ""
        for _ in range(50):
            address = self._docker.docker("inspect", f"--format={form}", identity).strip()
            if address:
                break
            time.sleep(0.005)
        self.joined.append((at, identity, address))

    def running(self, role: str, at: float) -> list[Life]:
        """Those of a role that ran for sure at that time, the oldest first."""
        return sorted(
            (
                each
                for each in self.lives.values()
                if each.role == role and each.started < at and (each.ended or at) >= at
            ),
            key=lambda each: each.started,
        )


@contextmanager
def heard(docker: Docker, truth: Truth) -> Iterator[None]:
    """Has the truth heed the engine's events."""
    command = ["docker", "--host", docker.url, "events", "--format", "{{json .}}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout
        thread = threading.Thread(target=truth.follow, args=[events.stdout])
        thread.start()
        try:
            yield
        finally:
            events.terminate()
            thread.join()


class Load(threading.Thread):
    """Asks each running container of the app on its own network, until it is told to stop."""

    def __init__(self, docker: Docker, truth: Truth) -> None:
        super().__init__()
        self.requests = 0
        self.failures: list[str] = []
        self._docker, self._truth = docker, truth
        self._ending = threading.Event()
        self._addresses: dict[str, str] = {}

    def run(self) -> None:
        with httpx.Client(trust_env=False, timeout=5) as client:
            while not self._ending.wait(0.002):
                for identity, life in list(self._truth.lives.items()):
                    if life.told is None and life.ended is None and time.time() > life.started + 1:
                        self._ask(client, identity, life)

    def _ask(self, client: httpx.Client, identity: str, life: Life) -> None:
        form = "{{.NetworkSettings.Networks.kamal.IPAddress}}"
        if identity not in self._addresses:
            self._addresses[identity] = self._docker.docker(
                "inspect", f"--format={form}", identity
            ).strip()
        try:
            answer = client.get(f"http://{self._addresses[identity]}:9394/metrics")
            failed = "" if answer.is_success else str(answer.status_code)
        except httpx.HTTPError as error:
            failed = repr(error)
        now = self._truth.lives[identity]
        if now.told is None and now.ended is None:
            self.requests += 1
            if failed:
                self.failures.append(f"{life.name}: {failed}")

    def end(self) -> None:
        self._ending.set()
        self.join()


def deploys(world: World, count: int) -> Iterator[str]:
    """Deploys one after the other; every fifth one fails, and every fifth is beside a one-off."""
    app = world.app(readiness_delay=2, deploy_timeout=6, drain_timeout=5)
    # The first one is there before anything is sampled.
    for number in range(count + 1):
        behaviour: Behaviour = "crashing" if number % 5 == 3 else "plain"
        version = f"v{number}"
        world.image(version, behaviour, drain=1)
        if number % 5 == 2:
            app.app_exec("job", f"v{number - 1}", "/bin/busybox sleep 5", detach=True)
        app.deploy(version, check=behaviour == "plain")
        yield f"{version} {behaviour}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--deploys", type=int, default=20)
    count = parser.parse_args().deploys
    console = Console()
    with orderly_end(), World() as world, ExitStack() as stack:
        docker, folder = world.docker, world.folder("names")
        truth = Truth(docker)
        stack.enter_context(heard(docker, truth))
        config = folder / "config.yml"
        config.write_text("aliases: {manage: true}\ndefaults: {address: alias}\n")
        going = deploys(world, count)
        next(going)
        stack.enter_context(Server(folder / "sd", docker.url, config=config))
        time.sleep(3)
        image = world.image("v0")
        asker = docker.docker("run", "--detach", "--network=kamal-sd", image, "/bin/app", "asker")
        form = "--format={{.State.Pid}}"
        pid = docker.docker("inspect", form, asker.strip()).strip()
        samples = folder / "samples"
        names = [f"shop-{role}.kamal-sd" for role in ROLES]
        load = Load(docker, truth)
        began = time.time()
        # The engine has a process table of its own, which the pid is of.
        stage = world.engine._stage
        assert stage
        command = stage.command(
            ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", SAMPLER, *names]
        )
        with samples.open("w") as file, subprocess.Popen(command, stdout=file) as sampler:
            load.start()
            try:
                for done in going:
                    console.print(f"{time.time() - began:6.0f} s  {done}", highlight=False)
                    if sampler.poll() is not None:
                        raise SystemExit(f"the sampler ended with {sampler.returncode}: see above")
            finally:
                load.end()
                sampler.terminate()
        console.print(table(samples, truth, count))
        console.print(f"{load.requests} requests, {len(load.failures)} failed {load.failures[:3]}")
        world.reset()


def table(samples: Path, truth: Truth, count: int) -> Table:
    """What was answered, by role."""
    shown = Table(title=f"{count} deploys, sampled every {SAMPLING * 1000:g} ms")
    for heading in (
        "role",
        "samples",
        "one",
        "two",
        "longest, ms",
        "nobody",
        "longest, ms",
        "wrong",
    ):
        shown.add_column(heading, justify="right")
    for role in ROLES:
        rows = [line.split() for line in samples.read_text().splitlines()]
        mine = [(float(at), found) for at, name, found in rows if name.startswith(f"shop-{role}.")]
        two = [(at, "," in found) for at, found in mine]
        nobody = [(at, found in "-?" and bool(truth.running(role, at))) for at, found in mine]
        wrong = [
            at for at, found in mine if found not in "-?" and _is_wrong(truth, role, at, found)
        ]
        one = sum("," not in found and found not in "-?" for _, found in mine)
        shown.add_row(
            role,
            str(len(mine)),
            str(one),
            str(sum(is_so for _, is_so in two)),
            f"{_longest(two):.0f}",
            str(sum(is_so for _, is_so in nobody)),
            f"{_longest(nobody):.0f}",
            str(len(wrong)),
        )
    return shown


def _longest(samples: list[tuple[float, bool]]) -> float:
    """The longest run of samples of which it is so, in milliseconds."""
    longest, began = 0.0, None
    for at, is_so in samples:
        if is_so:
            began = at if began is None else began
            longest = max(longest, at - began + SAMPLING)
        else:
            began = None
    return longest * 1000


def _is_wrong(truth: Truth, role: str, at: float, found: str) -> bool:
    """Whether an address is not the oldest one's or, once that was told to stop, the next one's."""
    running = truth.running(role, at)
    able = running[:1]
    if running and running[0].told is not None and running[0].told <= at:
        able = running[:2]
    owners = {
        address: identity for joined, identity, address in truth.joined if joined <= at + 0.05
    }
    allowed = {each.name for each in able}
    lives = [truth.lives.get(owners.get(address, "")) for address in found.split(",")]
    return any(life is None or life.name not in allowed for life in lives)


if __name__ == "__main__":
    socket.setdefaulttimeout(30)
    main()
