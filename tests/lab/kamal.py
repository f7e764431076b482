"""An app's folder as its developer has it, and the real Kamal run in it."""

import json
import re
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.lab.process import LabError, Process, run, system_environment
from tests.lab.ssh import Ssh

KAMAL = Path(sys.executable).parent / "kamal"
HOST = "127.0.0.1"
# By which an accessory says where it runs; Kamal asks for exactly one.
PLACES = frozenset({"host", "hosts", "role", "roles", "tag", "tags"})
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# Kamal 2.11 prunes for all roles at once, and an engine refuses the second where the first takes
# its time, as on a busy machine. All else of a deploy is done by then; pruning is asked for again.
PRUNED_AT_ONCE = "a prune operation is already running"

Settings = Mapping[str, object]


class App:
    """One service that Kamal deploys to this machine.

    `roles`, `accessories` and `destinations` map a name to what deploy.yml says of it, and `extra`
    holds further root keys; what is left out becomes a role without a proxy that serves metrics.
    `hooks` are the scripts by their names, and `variables` what they find in their environment.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ssh: Ssh,
        registry: str,
        service: str = "shop",
        image: str = "shop",
        roles: Mapping[str, Settings] | None = None,
        accessories: Mapping[str, Settings] | None = None,
        destinations: Mapping[str, Settings] | None = None,
        extra: Settings | None = None,
        hooks: Mapping[str, Path] | None = None,
        variables: Mapping[str, str] | None = None,
        readiness_delay: int = 2,
        deploy_timeout: int = 10,
        drain_timeout: int = 5,
    ) -> None:
        self.folder = folder
        self.service = service
        self._runs = 0
        self._variables = dict(variables or {})
        self._settings: dict[str, object] = {
            "service": service,
            "image": image,
            "servers": {
                name: role_settings(name, role)
                for name, role in (roles or {"web": {}, "job": {}}).items()
            },
            "accessories": {
                name: ({} if PLACES & accessory.keys() else {"host": HOST}) | dict(accessory)
                for name, accessory in (accessories or {}).items()
            },
            "registry": {"server": registry, "username": "lab", "password": ["REGISTRY_PASSWORD"]},
            "builder": {"arch": "amd64"},
            "ssh": {"user": ssh.user, "port": ssh.port, "keys": [str(ssh.key)], "keys_only": True},
            "readiness_delay": readiness_delay,
            "deploy_timeout": deploy_timeout,
            "drain_timeout": drain_timeout,
        } | dict(extra or {})
        self._write("config/deploy.yml", self._settings)
        for destination, settings in (destinations or {}).items():
            self._write(f"config/deploy.{destination}.yml", settings)
        (folder / ".kamal").mkdir(exist_ok=True)
        (folder / ".kamal/secrets-common").write_text("REGISTRY_PASSWORD=none\n")
        (folder / ".kamal/secrets").write_text("")
        for name, script in (hooks or {}).items():
            target = folder / ".kamal/hooks" / name
            target.parent.mkdir(exist_ok=True)
            shutil.copy(script, target)
        self._commit()

    def _write(self, name: str, settings: Settings) -> None:
        # JSON is YAML, and says a label's "9394" and a port's 9394 without guessing.
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings, indent=2))

    def _commit(self) -> None:
        """Make the folder what Kamal asks for: a git repository with a commit."""
        git = ["git", "-c", "user.name=lab", "-c", "user.email=lab@localhost"]
        for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "The app"]):
            run([*git, *words], cwd=self.folder, env=self._environment())

    def _environment(self) -> dict[str, str]:
        return system_environment(HOME=str(self.folder)) | self._variables

    def begin(self, *args: str) -> Process:
        """Start a Kamal command and return it while it runs."""
        self._runs += 1
        log = self.folder / "log" / f"{self._runs:02}-{args[0]}.log"
        log.parent.mkdir(exist_ok=True)
        return Process(
            f"kamal {' '.join(args)}",
            [KAMAL, *args],
            log=log,
            env=self._environment(),
            cwd=self.folder,
        )

    def kamal(self, *args: str, check: bool = True, timeout: float = 180) -> str:
        """Run a Kamal command to its end and return what it printed."""
        started = time.monotonic()
        with self.begin(*args) as command:
            code = command.wait(timeout)
        output = COLOURS.sub("", command.log.read_text(errors="replace"))
        if code and PRUNED_AT_ONCE in output:
            if args[0] != "deploy":
                return self.kamal(*args, check=check, timeout=timeout)
            self.kamal("prune", "containers", check=check, timeout=timeout)
            return output
        if code and check:
            seconds = time.monotonic() - started
            raise LabError(
                f"`{command.name}` ended with {code} after {seconds:.0f} s: {output[-2000:]}"
            )
        return output

    def deploy(self, version: str, *, destination: str | None = None, check: bool = True) -> str:
        """Deploy an image that is in the registry already."""
        return self.kamal("deploy", "-P", *options(version, destination), check=check)

    def rollback(self, version: str, *, destination: str | None = None, check: bool = True) -> str:
        """Go back to a version whose containers are still there."""
        return self.kamal("rollback", version, *options(None, destination), check=check)

    def app_stop(self, *, destination: str | None = None, check: bool = True) -> str:
        """Stop the app's containers, which stay."""
        return self.kamal("app", "stop", *options(None, destination), check=check)

    def app_start(self, version: str, *, destination: str | None = None, check: bool = True) -> str:
        """Start the stopped containers of a version."""
        return self.kamal("app", "start", *options(version, destination), check=check)

    def app_exec(
        self,
        role: str,
        version: str,
        command: str,
        *,
        detach: bool = False,
        destination: str | None = None,
        check: bool = True,
    ) -> str:
        """Run a one-off container of a role."""
        words = ["app", "exec", "-r", role, *options(version, destination)]
        return self.kamal(*words, *(["--detach"] if detach else []), command, check=check)

    def app_remove(self, *, destination: str | None = None, check: bool = True) -> str:
        """Remove the app's containers and images."""
        return self.kamal("app", "remove", *options(None, destination), check=check)

    def accessory_boot(
        self, name: str, *, destination: str | None = None, check: bool = True
    ) -> str:
        """Start an accessory."""
        return self.kamal("accessory", "boot", name, *options(None, destination), check=check)

    def lock_release(self, *, destination: str | None = None) -> str:
        """Take away the lock that a killed command left."""
        return self.kamal("lock", "release", *options(None, destination))


def role_settings(name: str, settings: Settings) -> dict[str, object]:
    """Return what deploy.yml says of a role, with the lab's defaults for what is left out."""
    defaults: dict[str, object] = {
        "hosts": [HOST],
        "proxy": False,
        "cmd": f"/bin/app {name}",
        "labels": {"prometheus.port": "9394"},
    }
    return defaults | dict(settings)


def options(version: str | None, destination: str | None) -> list[str]:
    """Return the command-line options that name a version and a destination."""
    words = ["--version", version] if version else []
    return [*words, "--destination", destination] if destination else words
