"""The namespaces that an engine of the lab's own lives in, so that its end is complete."""

import errno
import ipaddress
import json
import secrets
import socket
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.lab.process import LabError, run, system_environment

# The first process of the namespaces. It waits for the end of its input, which comes when the lab
# closes the stage or dies, however it dies; then it leaves nothing of the engine behind.
KEEPER = """
set -u
name=$1 pool=$2 directory=$3 root=$4
mount -t tmpfs tmpfs /run
grep -q ' /sys/fs/cgroup' /proc/mounts || cgroupfs-mount
if [ "$root" ]; then
    # Nothing is written into the root itself. A chroot would not do: a runtime finds its way out of
    # it, and leaves the processes of containers in the machine's own root.
    set -e
    mkdir /run/written /run/work /run/root
    written=upperdir=/run/written,workdir=/run/work
    mount -t overlay -o "lowerdir=$root,$written" overlay /run/root
    mkdir -p "/run/root$directory"
    mount --bind "$directory" "/run/root$directory"
    for tree in /proc /sys /dev; do mount --rbind "$tree" "/run/root$tree"; done
    for own in /run /dev/shm; do mount -t tmpfs tmpfs "/run/root$own"; done
    cd /run/root
    pivot_root . mnt
    cd /
    umount --lazy /mnt
    set +e
fi
# Where bridges are filtered, another engine's FORWARD policy would part this one's containers.
set -- FORWARD -s "$pool" -d "$pool" -m comment --comment "$name" -j ACCEPT
iptables -w -I "$@"
echo ready
cat >/dev/null
kill -KILL -1
iptables -w -D "$@"
ip -o -4 address show to "$pool" | while read -r _ bridge _; do
    for port in /sys/class/net/"$bridge"/brif/*; do ip link delete "${port##*/}"; done
    ip link delete "$bridge"
done
for _ in $(seq 100); do
    left=$(find /sys/fs/cgroup -depth -type d -path "*/$name*" ! -exec rmdir {} \\; -print 2>&1)
    [ -z "$left" ] && break
    sleep 0.05
done
"""


class Stage:
    """A mount and a process namespace, and a range of addresses that no other engine has.

    With `root` its programs are those of another root, which sees the directory where it is. It
    needs iproute2 and iptables in there. What it runs is started by the command `entering`, which
    may bring it into another network.
    """

    def __init__(
        self, directory: Path, root: Path | None = None, entering: Sequence[str] = ()
    ) -> None:
        self.name = f"kamal-sd-lab-{secrets.token_hex(4)}"
        self.pool, self._reservation = reserve_pool()
        # /run is the stage's own, and paths of sockets must be short.
        self.exec_root = Path("/run/docker")
        self.log = directory / "stage.log"
        with self.log.open("ab") as output:
            self._keeper = subprocess.Popen(
                [
                    *entering,
                    *("unshare", "--mount", "--propagation=slave", "--pid", "--mount-proc"),
                    *("--fork", "--kill-child=KILL"),
                    *("/bin/sh", "-c", KEEPER, "keeper", self.name, self.pool),
                    *(str(directory), str(root or "")),
                ],
                env=system_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline() != b"ready\n":
            self.close()
            raise LabError(
                f"no namespaces can be made here (is this root with all its capabilities?): "
                f"{self.log.read_text().strip()}"
            )
        self._init = child_of(self._keeper.pid)

    def command(self, argv: list[str]) -> list[str]:
        """Return the command that runs `argv` on the stage, as the one child of its own process."""
        namespaces = ("--mount", "--pid", "--net")
        return ["nsenter", f"--target={self._init}", *namespaces, "--", *argv]

    def path(self, path: Path) -> Path:
        """Return where this machine finds what the stage has at an absolute path."""
        return Path(f"/proc/{self._init}/root{path}")

    def close(self) -> None:
        """End every process of the stage, and with them their mounts, bridges and cgroups."""
        try:
            self._keeper.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.communicate()
        self._reservation.close()


def child_of(pid: int) -> int:
    """Return the process id of the one child that a process has."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if len(children) != 1:
        raise LabError(f"process {pid} should have one child and has {len(children)}")
    return int(children[0])


def reserve_pool() -> tuple[str, socket.socket]:
    """Return a free /16 and the socket whose name keeps it from other labs while it is open."""
    pool, reservation = reserve(
        ipaddress.IPv4Network(f"10.{number}.0.0/16") for number in range(200, 250)
    )
    return str(pool), reservation


def reserve(
    ranges: Iterable[ipaddress.IPv4Network],
) -> tuple[ipaddress.IPv4Network, socket.socket]:
    """Return the first range that is free, and the socket that keeps it while it is open."""
    taken = [
        ipaddress.ip_network(route["dst"])
        for route in json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]))
        if route["dst"] != "default"
    ]
    for each in ranges:
        if any(each.overlaps(network) for network in taken):
            continue
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0kamal-sd-lab/{each}")
        except OSError as error:
            reservation.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        return each, reservation
    raise LabError("no free range of addresses is left for the lab")
