"""Where a program runs: on this machine as it is, or on a host of the lab's own.

A host is a network namespace with an address that the others reach; files are shared by all.
"""

import ipaddress
import os
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.lab.process import Process, run, wait_until
from tests.lab.stage import reserve

MINE = 254
"""The last number of this machine's own address in a `Switch`."""


class Place:
    """This machine, on loopback."""

    address = "127.0.0.1"

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """Return the command that runs `argv` there."""
        return [str(word) for word in argv]


HERE = Place()


class Mounted(Place):
    """This machine, with mounts of the program's own, which end with it.

    `mounts` are commands of a shell. What another program sees below the mounts is unchanged.
    """

    def __init__(self, mounts: str) -> None:
        self._mounts = mounts

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        script = f'set -e; {self._mounts}; exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh", *map(str, argv)]


class Host(Place):
    """A host on a switch, which ends with it.

    What it serves is open to this machine alone, and `open_to_all` adds ports for the other hosts.
    It passes on nothing that comes from outside, so nobody else reaches its containers.
    """

    def __init__(self, switch: "Switch", number: int, open_to_all: Sequence[int]) -> None:
        self.address = switch.address_of(number)
        self._switch, self._port = switch, f"port{number}"
        self._namespace = switch.namespace()
        self.run("ip", "link", "set", "lo", "up")
        switch.connect(self._port, f"--net={self._namespace}", "eth0")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        for words in (
            *(f"INPUT --protocol tcp --dport {port} --jump ACCEPT" for port in open_to_all),
            f"INPUT --source {switch.address} --jump ACCEPT",
            "INPUT --match conntrack --ctstate ESTABLISHED --jump ACCEPT",
            "INPUT --jump DROP",
            "FORWARD --jump DROP",
        ):
            chain, *rule = words.split()
            self.run("iptables", "-w", "-A", chain, "--in-interface", "eth0", *rule)

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """Return the command that runs `argv` in the host's network."""
        return ["nsenter", f"--net={self._namespace}", "--", *map(str, argv)]

    def run(self, *argv: str) -> str:
        """Run a program there to its end and return what it printed."""
        return run(self.command(argv))

    def unplug(self) -> None:
        """Cut it off: what is sent to it and by it is lost, and nobody is told."""
        self._switch.run("ip", "link", "set", self._port, "nomaster")

    def plug(self) -> None:
        """Connect it again."""
        self._switch.run("ip", "link", "set", self._port, "master", "switch")


class Switch:
    """Joins this machine and hosts, in a range of addresses that no other lab has."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        ranges = (ipaddress.IPv4Network(f"10.99.{number}.0/24") for number in range(256))
        self._range, reservation = reserve(ranges)
        self._stack.callback(reservation.close)
        self.address = self.address_of(MINE)

    def __enter__(self) -> Self:
        self._namespace = self.namespace()
        self.run("ip", "link", "add", "switch", "type", "bridge")
        self.run("ip", "link", "set", "switch", "up")
        mine = f"lab-{secrets.token_hex(4)}"
        self.connect("mine", f"--net=/proc/{os.getpid()}/ns/net", mine)
        run(["ip", "address", "add", f"{self.address}/24", "dev", mine])
        run(["ip", "link", "set", mine, "up"])
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def host(self, number: int, *, open_to_all: Sequence[int] = ()) -> Host:
        """Return a new host whose address ends with the number."""
        return Host(self, number, open_to_all)

    def address_of(self, number: int) -> str:
        """Return the address of a host."""
        return str(self._range[number])

    def namespace(self) -> Path:
        """Return a new network namespace, which ends with the switch."""
        keeper = Process(
            "network namespace",
            ["unshare", "--net", "--", "sleep", "infinity"],
            log=self._directory / "namespaces.log",
        )
        self._stack.enter_context(keeper)
        namespace = Path(f"/proc/{keeper.pid}/ns/net")
        mine = Path("/proc/self/ns/net").readlink()
        wait_until(lambda: namespace.readlink() != mine, 10, "a network namespace")
        return namespace

    def connect(self, port: str, namespace: str, interface: str) -> None:
        """Lay a cable from a new port to a new interface in the namespace that nsenter is told."""
        pid = self._namespace.parts[2]
        cable = ("ip", "link", "add", interface, "type", "veth", "peer", "name", port, "netns", pid)
        run(["nsenter", namespace, "--", *cable])
        self.run("ip", "link", "set", port, "master", "switch", "up")

    def run(self, *argv: str) -> None:
        """Run a program in the switch's own namespace."""
        run(["nsenter", f"--net={self._namespace}", "--", *argv])
