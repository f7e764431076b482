"""A real engine behind a real sshd: faults are said, cost no target, and leave nothing."""

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from app.engine.client import EngineError
from app.engine.session import Pace
from app.server import connect, watching
from app.settings import EngineSettings
from app.state import State
from tests.engine.town import Town, body, settings, wait_for, wait_for_addresses
from tests.lab.engine import Engine
from tests.lab.process import run
from tests.lab.sd import Server
from tests.lab.ssh import Ssh
from tests.lab.world import World

pytestmark = pytest.mark.real

QUICK: Final = Pace(first_delay=0.05, longest_delay=0.2, confirm=0.5)


@pytest.fixture
def sshd(world: World, engine: Engine) -> Iterator[Ssh]:
    with Ssh(world.folder("ssh"), engine.url) as server:
        yield server


@pytest.fixture(autouse=True)
def folder(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Where this process puts what is for a while. Nothing is left there, and no ssh runs on."""
    # pytest's own is not to be there.
    tmp_path_factory.getbasetemp()
    folder = world.folder("tmp")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not children("ssh")
    assert not list(folder.iterdir())


def children(name: str, parent: int | None = None) -> list[int]:
    """The processes of that name, also those that ended and were not waited for, below one."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            head, _, tail = stat.read_text().rpartition(")")
            number, _, program = head.partition(" (")
            if program == name and int(tail.split()[1]) == (parent or os.getpid()):
                found.append(int(number))
    return found


def described(sshd: Ssh, socket: Path, **given: Any) -> dict[str, Any]:
    files = {"key": str(sshd.key), "known_hosts": str(sshd.known_hosts)}
    url = f"ssh://{sshd.address}{socket}"
    return {"url": url, "host": "one", "timeout": 2, "ssh": files} | given


def error_of(description: dict[str, Any]) -> str:
    with pytest.raises(EngineError) as caught:
        connect(EngineSettings.model_validate(description))
    # Not by the garbage collector.
    assert not children("ssh")
    return str(caught.value)


def wait_for_error(state: State, words: str) -> None:
    wait_for(lambda: words in state.view.snapshots[0].error, words)
    assert not state.view.snapshots[0].up


def wait_up(state: State) -> None:
    wait_for(lambda: state.view.snapshots[0].up, "the engine to be heard")


def test_an_engine_is_followed_by_its_events(
    engine: Engine, sshd: Ssh, folder: Path, tmp_path: Path
) -> None:
    town = Town(engine)
    there = [described(sshd, engine.socket)]
    with watching(
        settings("", tmp_path, engines=there, resync_interval="10m"), pace=QUICK
    ) as state:
        wait_up(state)
        (web,) = town.run("web")
        wait_for_addresses(state, "web")
        engine.docker("rm", "--force", web)
        wait_for(lambda: body(state) == b"[]\n", "its removal")
        assert state.view.snapshots[0].reconnects == 0
        assert len(children("ssh")) == 1
        (private,) = folder.iterdir()
        assert private.stat().st_mode & 0o777 == 0o700


def forget(sshd: Ssh) -> None:
    sshd.known_hosts.write_text("")


def exchange(sshd: Ssh) -> None:
    known = f"[127.0.0.1]:{sshd.port} {sshd.key.with_suffix('.pub').read_text()}"
    sshd.known_hosts.write_text(known)


def lock(sshd: Ssh) -> None:
    run(["ssh-keygen", "-q", "-p", "-N", "a passphrase", "-f", sshd.key])


def replace_key(sshd: Ssh) -> None:
    sshd.key.unlink()
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", sshd.key.with_name("other")])
    sshd.key.with_name("other").rename(sshd.key)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (forget, "is not known; add it to known_hosts"),
        (exchange, "is not the one in known_hosts"),
        (replace_key, "lets none of the SSH keys in"),
        (lock, "a key with a passphrase works with an agent alone"),
        (lambda sshd: sshd.key.write_text("no key"), "it must be a private one, with mode 0600"),
        (lambda sshd: sshd.key.chmod(0o644), "it must be a private one, with mode 0600"),
        (lambda sshd: sshd.key.unlink(), "/client_key: No such file or directory"),
        (lambda sshd: sshd.known_hosts.unlink(), "/known_hosts: No such file or directory"),
        (lambda sshd: sshd.stop(), "Connection refused"),
    ],
)
def test_what_is_wrong_is_said(
    harm: Callable[[Ssh], object], words: str, engine: Engine, sshd: Ssh
) -> None:
    there = described(sshd, engine.socket)
    connect(EngineSettings.model_validate(there)).close()
    harm(sshd)
    found = error_of(there)
    assert words in found
    assert "\n" not in found


def test_a_host_without_a_name_is_said(engine: Engine, sshd: Ssh) -> None:
    there = described(sshd, engine.socket, url="ssh://root@nowhere.invalid")
    assert "nowhere.invalid" in error_of(there)


def test_a_machine_without_ssh_is_told_what_to_install(
    engine: Engine, sshd: Ssh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "install the OpenSSH client" in error_of(described(sshd, engine.socket))


def test_a_place_for_the_tunnel_is_missed(
    engine: Engine, sshd: Ssh, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "none"))
    assert "No such file or directory" in error_of(described(sshd, engine.socket))


def test_names_of_files_mean_nothing_to_ssh(engine: Engine, sshd: Ssh, folder: Path) -> None:
    odd = folder / "a %h b"
    odd.mkdir()
    files = {name: str(shutil.copy(getattr(sshd, name), odd)) for name in ("key", "known_hosts")}
    with closing(connect(EngineSettings.model_validate(described(sshd, engine.socket, ssh=files)))):
        pass
    shutil.rmtree(odd)


def test_an_engine_that_is_absent_is_found_when_it_comes(
    engine: Engine, sshd: Ssh, tmp_path: Path
) -> None:
    Town(engine).run("web", restart="always")
    there = [described(sshd, engine.socket)]
    with watching(settings("", tmp_path, engines=there), pace=QUICK) as state:
        wait_for_addresses(state, "web")
        before = body(state)
        # Without a word of the containers' end.
        engine.kill()
        engine.socket.unlink()
        wait_for_error(state, f"nothing can be reached at {engine.socket} on {sshd.address}")
        assert body(state) == before
        engine.start()
        wait_up(state)
        wait_for_addresses(state, "web")


def test_an_ssh_that_is_killed_is_started_anew(engine: Engine, sshd: Ssh, tmp_path: Path) -> None:
    town = Town(engine)
    town.run("web")
    there = [described(sshd, engine.socket)]
    with watching(settings("", tmp_path, engines=there), pace=QUICK) as state:
        wait_for_addresses(state, "web")
        before = body(state)
        (ssh,) = children("ssh")
        forget(sshd)
        os.kill(ssh, signal.SIGKILL)
        wait_for_error(state, "is not known; add it to known_hosts")
        assert body(state) == before
        sshd.known_hosts.write_text(
            f"[127.0.0.1]:{sshd.port} {sshd.known_hosts.with_name('host_key.pub').read_text()}"
        )
        wait_up(state)
        assert body(state) == before
        town.run("job")
        wait_for_addresses(state, "web", "job")


def test_a_host_that_freezes_is_noticed_and_heard_again(
    engine: Engine, sshd: Ssh, tmp_path: Path
) -> None:
    Town(engine).run("web")
    there = described(sshd, engine.socket)
    with watching(settings("", tmp_path, engines=[there]), pace=QUICK) as state:
        wait_for_addresses(state, "web")
        before = body(state)
        frozen = [sshd.pid, *below(sshd.pid)]
        for each in frozen:
            os.kill(each, signal.SIGSTOP)
        try:
            wait_for_error(state, "timed out")
            began = time.monotonic()
            with pytest.raises(EngineError, match="timed out"):
                connect(EngineSettings.model_validate(there))
            assert time.monotonic() - began < 3
            assert body(state) == before
        finally:
            for each in frozen:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGCONT)
        wait_up(state)
        assert body(state) == before


def below(pid: int) -> list[int]:
    found = children("sshd", pid)
    return [*found, *(each for child in found for each in below(child))]


def test_a_frozen_ssh_is_ended_all_the_same(engine: Engine, sshd: Ssh) -> None:
    connection = connect(EngineSettings.model_validate(described(sshd, engine.socket)))
    (ssh,) = children("ssh")
    os.kill(ssh, signal.SIGSTOP)
    began = time.monotonic()
    connection.close()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("hanging", [False, True])
def test_a_server_that_ends_leaves_no_ssh(
    hanging: bool, engine: Engine, sshd: Ssh, folder: Path, tmp_path: Path
) -> None:
    Town(engine).run("web")
    there = described(sshd, engine.socket, timeout=30)
    of_its_own = {"TMPDIR": str(folder), "KAMAL_SD_RESYNC_INTERVAL": "500ms"}
    env = {"KAMAL_SD_ENGINES": json.dumps([there]), **of_its_own}
    with Server(tmp_path / "sd", env=env) as server:
        assert [group["labels"] for group in server.targets()]
        (ssh,) = children("ssh", server.pid)
        try:
            if hanging:
                engine.pause()
                # Longer than until the next list, of which it awaits the answer when it ends.
                time.sleep(1)
            assert server.stop() == 0
        finally:
            engine.resume()
    assert not Path(f"/proc/{ssh}").exists()
