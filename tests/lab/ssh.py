"""An SSH server, on loopback as a rule, through which Kamal reaches the lab's engine."""

import os
import pwd
from pathlib import Path

from tests.lab.packages import require
from tests.lab.place import HERE, Place
from tests.lab.process import SYSTEM_PATH, Process, free_port, is_root, listening, run

SETTINGS = """\
Port {port}
ListenAddress {address}
HostKey {directory}/host_key
AuthorizedKeysFile {key}.pub
PidFile {directory}/sshd.pid
StrictModes no
UsePAM {pam}
UseDNS no
PermitRootLogin prohibit-password
PasswordAuthentication no
MaxStartups 100
MaxSessions 100
SetEnv DOCKER_HOST={engine} HOME={directory}/home PATH={path}
ForceCommand cd "$HOME" && exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""


class Ssh(Process):
    """Debian's sshd, which hands every session the engine and a home of the lab's.

    Kamal keeps locks, environments and logins in the home: two labs must not share one, and the
    user's own must not change. Without root it lets in the user who started it. With the `key` of
    another one, whoever may enter there may enter here.
    """

    def __init__(
        self,
        directory: Path,
        engine_url: str,
        port: int | None = None,
        *,
        key: Path | None = None,
        place: Place = HERE,
    ) -> None:
        require("openssh-server", "openssh-client")
        self.home = directory / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        if is_root():
            # sshd insists on this folder for its unprivileged child.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.port = port or free_port()
        self.host = place.address
        self.key = key or directory / "client_key"
        for file in (self.key, directory / "host_key"):
            if not file.exists():
                run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file])
        # Whoever reads this file has seen this host before.
        self.known_hosts = directory / "known_hosts"
        host_key = (directory / "host_key.pub").read_text()
        self.known_hosts.write_text(f"[{self.host}]:{self.port} {host_key}")
        file = directory / "sshd_config"
        values = {
            "port": self.port,
            "address": self.host,
            "key": self.key,
            "directory": directory,
            "engine": engine_url,
            "path": SYSTEM_PATH,
            "pam": "yes" if locked(self.user) else "no",
        }
        file.write_text(SETTINGS.format_map(values))
        command = place.command(["/usr/sbin/sshd", "-D", "-e", "-f", file])
        super().__init__("sshd", command, log=directory / "sshd.log")
        self.wait_ready(lambda: listening(self.port, self.host))

    @property
    def address(self) -> str:
        """The user, host and port of an ssh:// URL."""
        return f"{self.user}@{self.host}:{self.port}"


def locked(user: str) -> bool:
    """Tell whether the account has no password at all, which sshd lets pass with PAM alone."""
    if not is_root():
        return False
    lines = Path("/etc/shadow").read_text().splitlines()
    return any(line.startswith(f"{user}:!") for line in lines)
