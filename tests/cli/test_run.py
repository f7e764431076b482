"""The command as a process of its own: what it leaves, and how it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import __version__
from tests import http_sd_reader
from tests.lab.process import Process, free_port, system_environment, wait_until
from tests.lab.sd import REPOSITORY

PROGRAM = Path(sys.executable).parent / "kamal-sd"


def environment(home: Path, **more: str) -> dict[str, str]:
    return system_environment(HOME=str(home), COLUMNS="80", **more)


@pytest.mark.parametrize(
    "program", [[str(PROGRAM)], [sys.executable, "-m", "app"]], ids=["script", "module"]
)
def test_it_runs_as_a_script_and_as_a_module(program: list[str], tmp_path: Path) -> None:
    env = environment(tmp_path, PYTHONPATH=str(REPOSITORY))
    said = subprocess.run([*program, "--version"], env=env, capture_output=True, check=True)
    assert (said.stdout.decode(), said.stderr) == (f"kamal-sd {__version__}\n", b"")


def test_an_error_is_a_line_on_stderr(tmp_path: Path) -> None:
    env = environment(tmp_path, DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    said = subprocess.run([PROGRAM, "targets"], env=env, capture_output=True, check=False)
    assert (said.returncode, said.stdout) == (3, b"")
    assert said.stderr.decode().startswith(f"the engine at unix://{tmp_path}/none.sock does not")
    assert said.stderr.count(b"\n") == 1


class Demo(Process):
    """`kamal-sd demo` on a port of its own."""

    def __init__(self, directory: Path) -> None:
        listen = f"127.0.0.1:{free_port()}"
        self.url = f"http://{listen}"
        self.scratch = directory / "tmp"
        self.scratch.mkdir()
        super().__init__(
            "kamal-sd demo",
            [PROGRAM, "demo", "--listen", listen],
            log=directory / "log",
            # It takes neither an engine nor settings from where it runs.
            env=environment(
                directory,
                TMPDIR=str(self.scratch),
                DOCKER_HOST="unix:///nowhere.sock",
                KAMAL_SD_ENGINES='[{"url": "unix:///nowhere.sock"}]',
            ),
        )

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}")

    def ready(self) -> bool:
        try:
            return self.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def versions(self) -> dict[str, str]:
        found = http_sd_reader.read(self.get("/targets").raise_for_status().content)
        return {
            each.labels["__meta_kamal_slot"]: each.labels["__meta_kamal_version"] for each in found
        }


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    with Demo(tmp_path) as process:
        yield process


def ask(demo: Demo, *args: str) -> subprocess.CompletedProcess[str]:
    argv: list[Any] = [PROGRAM, *args, "--url", demo.url]
    env = environment(demo.scratch)
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


def test_the_demo_lives_within_seconds_and_says_what_it_is(demo: Demo) -> None:
    began = time.monotonic()
    demo.wait_ready(demo.ready, timeout=10)
    wait_until(lambda: set(demo.versions()) == {"shop-web", "shop-job"}, 10, "both roles")
    first = demo.versions()
    assert first == {"shop-web": "v1", "shop-job": "v1"}
    said = " ".join(demo.tail(100_000).split())
    assert "This is a RECORDING" in said
    assert f"{demo.url}/targets" in said
    found = http_sd_reader.read(demo.get("/targets").content)
    assert {each.series["host"] for each in found} == {"recording"}
    (engine,) = demo.get("/explain").json()["engines"]
    assert (engine["host"], engine["up"]) == ("recording", True)
    # About six seconds after its begin the first deploy has changed web.
    wait_until(lambda: demo.versions() != first, 30, "the targets to change")
    assert demo.versions() == {"shop-web": "v2", "shop-job": "v1"}
    assert time.monotonic() - began < 40

    table = ask(demo, "targets")
    assert table.returncode == 0
    assert [line.split()[0] for line in table.stdout.splitlines()] == [
        *("SLOT", "shop-job", "shop-web")
    ]
    explained = ask(demo, "explain")
    assert explained.returncode == 0
    assert "shop-web-v1" in explained.stdout
    for line in (table.stdout + explained.stdout).splitlines():
        assert len(line) <= 80
    as_json = ask(demo, "targets", "--json", "--role", "web")
    assert as_json.stdout == demo.get("/targets?role=web").text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_demo_and_leaves_nothing(demo: Demo, number: signal.Signals) -> None:
    demo.wait_ready(demo.ready, timeout=10)
    wait_until(lambda: list(demo.scratch.rglob("recording.json")), 10, "its files")
    group = os.getpgid(demo.pid)
    demo.signal(number)
    began = time.monotonic()
    assert demo.wait(15) == 0
    assert time.monotonic() - began < 5
    assert "Traceback" not in demo.tail(100_000)
    # Its files are gone, and so is whatever it may have started.
    assert list(demo.scratch.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def test_serve_takes_its_place_from_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "kamal-sd.yml"
    file.write_text(f"listen: 127.0.0.1:1\ndata_dir: {tmp_path}/data\n")
    port = free_port()
    argv = [str(PROGRAM), "serve", "--config", str(file), "--listen", f"127.0.0.1:{port}"]
    env = environment(tmp_path, DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    with Process("serve", argv, log=tmp_path / "log", env=env) as process:

        def answers() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/-/healthy").is_success
            except httpx.TransportError:
                return False

        process.wait_ready(answers, timeout=10)
        assert process.stop() == 0
