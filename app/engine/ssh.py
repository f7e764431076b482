"""An engine on another host, through a tunnel that the OpenSSH client holds.

docker-py's own ways are not taken: its paramiko takes any new host key, and its `ssh` needs the
docker command on the far side. Here the user's SSH settings, agent and known hosts count, and
whatever would be asked of a person is an error.
"""

import os
import shutil
import signal
import subprocess
import time
import weakref
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from app.engine.client import DockerConnection, EngineError

_FAR_SOCKET = "/var/run/docker.sock"
_LOOK_SECONDS = 0.02
_END_SECONDS = 2.0

# What is in the stderr of an ssh that ended, and what it means. The first that is found counts.
_MEANINGS = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": (
        "the host key of {server} is not the one in known_hosts; if the host was set up anew, "
        "take its old key out there, else somebody is in between"
    ),
    "Host key verification failed": (
        "the host key of {server} is not known; add it to known_hosts: "
        "connect once by hand, or see ssh-keyscan"
    ),
    "Load key": "ssh cannot use its key; it must be a private one, with mode 0600",
    "Permission denied (": (
        "{server} lets none of the SSH keys in; add the public one to its authorized_keys, and "
        "set ssh.key or use an agent: a key with a passphrase works with an agent alone"
    ),
}


class SshConnection(DockerConnection):
    """A connection at ssh://[user@]host[:port][/socket], with a tunnel of its own.

    `key` and `known_hosts` are files that take the place of the user's. Raises EngineError.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        silence: float,
        key: Path | None = None,
        known_hosts: Path | None = None,
    ) -> None:
        tunnel = _Tunnel(url, timeout, key, known_hosts)
        # Without a close, too: at the latest when the program ends.
        self._end = weakref.finalize(self, tunnel.close)
        try:
            tunnel.wait()
            super().__init__(tunnel.url, timeout=timeout, silence=silence)
        except EngineError as error:
            words = tunnel.explained(error)
            self._end()
            raise EngineError(words) from None

    def close(self) -> None:
        super().close()
        self._end()


class _Tunnel:
    """A socket in a private folder, as long as `ssh` runs."""

    def __init__(
        self, url: str, timeout: float, key: Path | None, known_hosts: Path | None
    ) -> None:
        place = urlsplit(url)
        self._server = place.netloc
        self._far_socket = place.path.rstrip("/") or _FAR_SOCKET
        self._timeout = timeout
        if not shutil.which("ssh"):
            raise EngineError(
                "there is no ssh here; install the OpenSSH client (Debian: openssh-client)"
            )
        try:
            for file in filter(None, (key, known_hosts)):
                file.open("rb").close()
            self._folder = TemporaryDirectory(prefix="kamal-sd-")
            self._socket = Path(self._folder.name, "engine.sock")
            self._stderr = Path(self._folder.name, "stderr")
            self.url = f"unix://{self._socket}"
            with self._stderr.open("wb") as stderr:
                # In a session of its own it has no terminal to ask at, and Ctrl-C is not for it.
                self._process = subprocess.Popen(
                    self._command(key, known_hosts),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    start_new_session=True,
                )
        except OSError as error:
            raise EngineError(f"{error.filename or 'ssh'}: {error.strerror}") from None

    def _command(self, key: Path | None, known_hosts: Path | None) -> list[str]:
        seconds = max(1, int(self._timeout))
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ExitOnForwardFailure": "yes",
            "ConnectTimeout": seconds,
            "ServerAliveInterval": seconds,
            "ServerAliveCountMax": 1,
            # In a shared connection the forwarding would outlive this ssh.
            "ControlPath": "none",
            # Less, and it would not say why the far socket cannot be opened.
            "LogLevel": "INFO",
        }
        if key:
            options |= {"IdentityFile": _quoted(key), "IdentitiesOnly": "yes"}
        if known_hosts:
            options |= {
                "UserKnownHostsFile": _quoted(known_hosts),
                "GlobalKnownHostsFile": os.devnull,
            }
        return [
            *("ssh", "-N", "-T", "-a", "-x"),
            *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
            *("-L", f"{self._socket}:{self._far_socket}"),
            f"ssh://{self._server}",
        ]

    def wait(self) -> None:
        """Returns when it can be used. Raises EngineError where it cannot within the timeout."""
        deadline = time.monotonic() + self._timeout
        while not self._socket.exists():
            if self._process.poll() is not None:
                raise EngineError(self._meaning())
            if time.monotonic() > deadline:
                raise EngineError(f"ssh: {self._server} timed out after {self._timeout:g} s")
            time.sleep(_LOOK_SECONDS)

    def explained(self, error: EngineError) -> str:
        """Why nothing is heard through it."""
        if "open failed" not in self._said():
            return str(error)
        return (
            f"nothing can be reached at {self._far_socket} on {self._server}; is it there, may "
            "this user open it, and does sshd have AllowStreamLocalForwarding yes?"
        )

    def _meaning(self) -> str:
        said = self._said()
        for part, meaning in _MEANINGS.items():
            if part in said:
                return meaning.format(server=self._server)
        last = said.rpartition("\n")[2].removeprefix("ssh: ")
        return f"ssh: {last or 'it ended without a word'}"

    def _said(self) -> str:
        return self._stderr.read_text(errors="replace").strip()

    def close(self) -> None:
        """Ends ssh, and whatever it has started as a ProxyCommand."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                os.killpg(self._process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_SECONDS)
        self._folder.cleanup()


def _quoted(path: Path) -> str:
    """As a value of a setting of ssh, where % and blanks have a meaning."""
    return '"{}"'.format(str(path).replace("%", "%%"))
