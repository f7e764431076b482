"""The shipped image, built from the Dockerfile and run as its documentation says."""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.lab import image, shipped
from tests.lab.engine import Engine
from tests.lab.process import LabError, wait_until
from tests.lab.sd import REPOSITORY
from tests.lab.world import World

pytestmark = pytest.mark.real

NAME = "kamal-sd"
PROGRAM = "/opt/kamal-sd/bin/kamal-sd"
# What kamal-sd adds to its base, in bytes: it is far less today.
LIMIT = 50_000_000
SHELLS = ("/usr/bin/dash", "/usr/bin/bash")
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")


@pytest.fixture
def reference(world: World, engine: Engine) -> str:
    # Kamal removes images along with accessories.
    engine.docker("pull", "--quiet", world.shipped)
    return world.shipped


@pytest.fixture
def network(engine: Engine) -> str:
    if not engine.docker("network", "ls", "-q", "--filter", "name=^kamal$"):
        engine.docker("network", "create", "kamal")
    return "kamal"


@pytest.fixture
def volume(engine: Engine) -> Iterator[str]:
    engine.docker("volume", "create", "kamal-sd-image-test")
    yield "kamal-sd-image-test"
    engine.remove_containers()
    engine.docker("volume", "rm", "kamal-sd-image-test")


class Container:
    """kamal-sd's container, as its documentation has it run."""

    def __init__(self, engine: Engine, reference: str, network: str, *options: str) -> None:
        self._engine = engine
        # Only to see its own state is the probe more frequent.
        self.id = engine.docker(
            *("run", "--detach", f"--name={NAME}", f"--network={network}", *HARDENED),
            *("--health-interval=1s", *options, reference),
        ).strip()
        address: str = self.inspect()["NetworkSettings"]["Networks"][network]["IPAddress"]
        self.url = f"http://{address}:9889"

    def inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._engine.docker("inspect", self.id))[0]
        return found

    def health(self) -> str:
        status: str = self.inspect()["State"]["Health"]["Status"]
        return status

    def get(self, path: str, timeout: float = 10) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=timeout, trust_env=False)

    def ready(self) -> bool:
        try:
            return self.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def wait_ready(self) -> None:
        try:
            wait_until(self.ready, 20, "kamal-sd to be ready")
        except LabError as error:
            raise LabError(f"{error}; it said:\n{self.log()}") from None

    def exec(self, *words: str) -> str:
        return self._engine.docker("exec", self.id, *words)

    def log(self) -> str:
        return self._engine.docker("logs", self.id)


def socket_options(engine: Engine) -> list[str]:
    return [
        f"--volume={engine.socket}:/var/run/docker.sock",
        f"--group-add={engine.socket.stat().st_gid}",
    ]


def find(engine: Engine, reference: str, *words: str) -> list[str]:
    command = ("run", "--rm", "--network=none", "--entrypoint=/usr/bin/find", reference)
    return engine.docker(*command, *words).splitlines()


def web(engine: Engine) -> None:
    """A container as Kamal starts it."""
    image.build(engine, "shop:v1", "v1")
    labels = {"service": "shop", "role": "web", "destination": "", "prometheus.port": "9394"}
    options = [f"--label={name}={value}" for name, value in labels.items()]
    engine.docker(
        *("run", "--detach", "--network=kamal", "--name=shop-web-v1", *options),
        *("shop:v1", "/bin/app", "web"),
    )


def test_the_same_files_give_the_same_layers(
    engine: Engine, reference: str, tmp_path: Path
) -> None:
    """From another folder, at another time and with other rights, by the other builder."""
    first = shipped.layers(engine, reference)
    kept = (".dockerignore", "Dockerfile", "requirements.lock", "requirements-dev.lock")
    for name in (*kept, "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    shutil.copytree(REPOSITORY / "app", tmp_path / "app")
    for each in (tmp_path / "app").rglob("*"):
        os.utime(each, (1, 1_600_000_000))
        each.chmod(0o700 if each.is_dir() else 0o600)
    for name in kept[2:]:
        (tmp_path / name).chmod(0o640)
    again = {"reproduced:classic": False, "reproduced:buildkit": True}
    for other, buildkit in again.items():
        shipped.build(engine, other, context=tmp_path, buildkit=buildkit, fresh=True)
        assert shipped.layers(engine, other) == first
    # One layer is added to the base.
    assert len(first) == len(shipped.layers(engine, shipped.BASE)) + 1


def test_it_is_small_and_says_what_it_is(engine: Engine, reference: str) -> None:
    described, base = (
        json.loads(engine.docker("image", "inspect", name))[0] for name in (reference, shipped.BASE)
    )
    assert described["Size"] - base["Size"] < LIMIT
    config = described["Config"]
    assert config["User"] == "65532:65532"
    assert config["Volumes"] == {"/data": {}}
    assert config["ExposedPorts"] == {"9889/tcp": {}}
    assert config["Entrypoint"] == [PROGRAM]
    assert config["Cmd"] == ["serve"]
    assert config["Healthcheck"]["Test"] == ["CMD", PROGRAM, "healthcheck"]
    title = "org.opencontainers.image."
    assert config["Labels"] == {
        f"{title}title": "kamal-sd",
        f"{title}description": "Prometheus service discovery for apps deployed with Kamal",
        f"{title}licenses": "MIT",
        f"{title}version": "1.2.3",
        f"{title}revision": "0123456789abcdef",
    }


def test_nothing_of_the_build_is_left(engine: Engine, reference: str) -> None:
    described = json.loads(engine.docker("image", "inspect", reference))[0]
    assert not [each for each in described["Config"]["Env"] if each.startswith("PIP_")]
    files = dict(
        line.split(" ", 1)
        for line in find(engine, reference, "/opt", "/data", "-printf", "%p %U %m %T@\\n")
    )
    assert files["/data"].startswith("65532 700 ")
    top = ("/", "-maxdepth", "1", "-printf", "%f\\n")
    assert set(find(engine, reference, *top)) == {*find(engine, shipped.BASE, *top), "data"}
    assert not [name for name in files if "/site-packages/pip" in name or "hatchling" in name]
    binaries = {name.rpartition("/")[2] for name in files if "/kamal-sd/bin/" in name}
    assert binaries == {"kamal-sd", "python", "python3", f"python{shipped.PYTHON}"}
    for name, said in files.items():
        owner, mode, changed = said.split()
        if name.startswith("/opt/"):
            # Nobody but root changes it, everybody may read it.
            assert owner == "0"
            assert int(mode, 8) & 0o022 == 0 or mode == "777"
            assert int(mode, 8) & 0o444 == 0o444
        assert float(changed) == shipped.EPOCH


@pytest.mark.usefixtures("network")
def test_it_runs_with_next_to_no_rights(engine: Engine, reference: str, volume: str) -> None:
    """Not as root, on a read-only root file system, without a shell and without capabilities."""
    web(engine)
    masks = [f"--volume=/dev/null:{shell}:ro" for shell in SHELLS]
    options = [f"--volume={volume}:/data", *masks, *socket_options(engine)]
    container = Container(engine, reference, "kamal", *options)
    with pytest.raises(LabError, match="ermission denied"):
        container.exec("/bin/sh", "-c", "true")
    container.wait_ready()
    (group,) = container.get("/targets").json()
    assert group["labels"]["instance"] == "shop-web:9394"
    assert group["targets"] == [container.url.removeprefix("http://")]
    assert 'role="web",version="v1"' in container.get(group["labels"]["__metrics_path__"]).text
    wait_until(lambda: container.health() == "healthy", 20, "it to be healthy")
    assert container.inspect()["State"]["Health"]["Log"][-1]["Output"] == "kamal-sd is healthy.\n"
    assert "shop-web" in container.exec(PROGRAM, "explain", "--url", "http://127.0.0.1:9889")
    assert container.exec(PROGRAM, "--version").startswith("kamal-sd ")
    assert "WARNING" not in container.log()
    changed = engine.docker("diff", container.id).splitlines()
    assert not [each for each in changed if "__pycache__" in each or "/opt" in each]


@pytest.mark.usefixtures("network")
def test_another_place_to_listen_is_healthy_too(engine: Engine, reference: str) -> None:
    listen = "--env=KAMAL_SD_LISTEN=127.0.0.1:9000"
    container = Container(engine, reference, "kamal", listen, *socket_options(engine))
    wait_until(lambda: container.health() == "healthy", 20, "it to be healthy")
    assert container.exec(PROGRAM, "healthcheck") == "kamal-sd is healthy.\n"


@pytest.mark.usefixtures("network")
def test_without_the_group_it_says_what_is_missing(engine: Engine, reference: str) -> None:
    container = Container(
        engine, reference, "kamal", f"--volume={engine.socket}:/var/run/docker.sock"
    )
    wait_until(lambda: container.health() == "healthy", 20, "it to be healthy")
    assert container.get("/targets").status_code == 503
    assert "ermission denied" in container.get("/explain").text


@pytest.mark.usefixtures("network")
def test_sigterm_lets_answers_be_finished(engine: Engine, reference: str, volume: str) -> None:
    web(engine)
    container = Container(
        engine, reference, "kamal", f"--volume={volume}:/data", *socket_options(engine)
    )
    container.wait_ready()
    answers: list[int] = []

    def ask() -> None:
        path = "/wait?service=shop&version=v9&timeout=3s"
        answers.append(container.get(path, timeout=20).status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.5)
    started = time.monotonic()
    engine.docker("stop", "--time=30", container.id)
    asking.join()
    assert time.monotonic() - started < 10
    assert answers == [504]
    assert container.inspect()["State"]["ExitCode"] == 0
    # The next one serves what this one knew, with no engine at all.
    engine.remove_containers(f"id={container.id}")
    heir = Container(engine, reference, "kamal", f"--volume={volume}:/data")
    heir.wait_ready()
    (group,) = heir.get("/targets").json()
    assert group["labels"]["instance"] == "shop-web:9394"
