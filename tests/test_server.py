"""Putting it together: what outlives a run, and how a server ends."""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from app import server
from app.engine.client import EngineError
from app.engine.session import Pace
from app.model import Slot
from app.server import watching
from app.settings import EngineSettings, Settings
from app.state import State
from app.storage import default_data_dir
from app.web.targets import AGE_HEADER
from tests.engine.fake import FakeConnection, FakeEngine, entry
from tests.engine.handmade import HandMade, hold
from tests.lab.process import Process, free_port, system_environment, wait_until
from tests.lab.sd import REPOSITORY, Server

QUICK: Final = Pace(settle=0.0, first_delay=0.01, longest_delay=0.02, confirm=0.1)


def fake_settings(directory: Path, **given: Any) -> Settings:
    engines = [{"url": "unix:///fake", "host": "one"}]
    return Settings.model_validate({"data_dir": directory, "engines": engines} | given)


def watch(settings: Settings, engine: FakeEngine) -> Any:
    return watching(settings, lambda _: engine.connect(), QUICK)


def current(state: State) -> dict[str, str]:
    return {slot.name: each.container.id for slot, each in state.view.current().items()}


def wait_for(condition: Any, what: str = "it to be so") -> None:
    wait_until(condition, 20, what)


def test_what_an_engine_shows_is_in_the_state_as_long_as_it_is_watched(tmp_path: Path) -> None:
    engine = FakeEngine(entry("shop"))
    with watch(fake_settings(tmp_path), engine) as state:
        wait_for(lambda: current(state) == {"shop-web": "shop"})
        engine.start("blog")
        wait_for(lambda: current(state) == {"shop-web": "shop", "blog-web": "blog"})
    assert engine.open == 0


def test_each_engine_is_watched_by_its_own_settings(tmp_path: Path) -> None:
    engines = {"a": FakeEngine(entry("shop")), "b": FakeEngine(entry("blog"))}
    urls = [{"url": f"unix:///{host}", "host": host} for host in engines]

    def connect(asked: EngineSettings) -> FakeConnection:
        assert asked.url == f"unix:///{asked.host}"
        return engines[asked.host].connect()

    with watching(fake_settings(tmp_path, engines=urls), connect, QUICK) as state:
        slots = {Slot("a", "shop", "web"), Slot("b", "blog", "web")}
        wait_for(lambda: set(state.view.current()) == slots)
        engines["a"].refusal = EngineError("away")
        engines["a"].cut()
        wait_for(lambda: not state.view.snapshots[0].up)
        engines["b"].start("mail")
        wait_for(lambda: Slot("b", "mail", "web") in state.view.current())
        assert slots < set(state.view.current())
    assert [each.open for each in engines.values()] == [0, 0]


def test_an_engine_that_is_never_reached_is_done_without_in_the_end(tmp_path: Path) -> None:
    engines = {"a": FakeEngine(entry("shop")), "b": FakeEngine(entry("blog"))}
    engines["b"].refusal = EngineError("away")
    urls = [{"url": f"unix:///{host}", "host": host} for host in engines]
    settings = fake_settings(tmp_path, engines=urls, startup_grace="400ms")
    with watching(settings, lambda asked: engines[asked.host].connect(), QUICK) as state:
        wait_for(lambda: state.view.snapshots[0].up)
        assert not state.view.ready
        wait_for(lambda: state.view.ready)
        assert state.view.unlisted == ["b"]
        engines["b"].refusal = None
        wait_for(lambda: len(state.view.current()) == 2)
        assert state.view.unlisted == []
    # What was known before is no matter of any grace.
    engines["b"].refusal = EngineError("away")
    with watching(settings, lambda asked: engines[asked.host].connect(), QUICK) as state:
        assert state.view.ready


def test_the_resync_interval_is_a_setting(tmp_path: Path) -> None:
    engine = FakeEngine(entry("shop"))
    with watch(fake_settings(tmp_path, resync_interval="20ms"), engine):
        wait_for(lambda: engine.asked.count("list") >= 5)


def test_a_restart_during_an_outage_serves_what_was_known(tmp_path: Path) -> None:
    engine = FakeEngine(entry("shop"), entry("blog"))
    settings = fake_settings(tmp_path)
    with watch(settings, engine) as state:
        wait_for(lambda: len(current(state)) == 2)
        listed_at = state.view.snapshots[0].listed_at
    engine.refusal = EngineError("Connection refused")
    with watch(settings, engine) as state:
        # At once, and not after a first try.
        assert state.view.ready
        assert set(current(state)) == {"shop-web", "blog-web"}
        (snapshot,) = state.view.snapshots
        assert (snapshot.up, snapshot.listed_at) == (False, listed_at)
        wait_for(lambda: state.view.snapshots[0].error == "Connection refused")
        assert state.view.snapshots[0].listed_at == listed_at
        assert set(current(state)) == {"shop-web", "blog-web"}
        engine.refusal = None
        del engine.true["blog"]
        wait_for(lambda: state.view.snapshots[0].up)
        assert set(current(state)) == {"shop-web"}


def test_a_restart_remembers_which_generation_was_current(tmp_path: Path) -> None:
    """The newer one had taken over: the older one that still runs shall not come back."""
    names: dict[str, Any] = {
        "Labels": {"service": "shop", "role": "web", "prometheus.port": "9394"}
    }
    engine = FakeEngine(entry("old", Status="Up 2 hours", **names))
    settings = fake_settings(tmp_path, overlap_limit="300ms")
    with watch(settings, engine) as state:
        wait_for(lambda: current(state) == {"shop-web": "old"})
        engine.start("new", **names)
        wait_for(lambda: "new" in state.view.snapshots[0].containers)
        wait_for(lambda: current(state) == {"shop-web": "new"}, "the overlap to be over")
        engine.tell("rename", "old")
        time.sleep(0.1)
    engine.refusal = EngineError("away")
    with watch(settings, engine) as state:
        assert current(state) == {"shop-web": "new"}


def test_a_damaged_file_is_set_aside_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "one.json").write_bytes(b'{"format": 1, "url"')
    with watch(fake_settings(tmp_path), FakeEngine(entry("shop"))) as state:
        assert not state.view.decisions or state.view.ready
        wait_for(lambda: set(current(state)) == {"shop-web"})
    assert "set aside as one.damaged" in caplog.text
    assert (tmp_path / "one.damaged").read_bytes().startswith(b'{"format"')
    assert (tmp_path / "one.json").exists()


def test_without_a_place_for_files_it_works_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with watch(fake_settings(blocked / "data"), FakeEngine(entry("shop"))) as state:
        wait_for(lambda: set(current(state)) == {"shop-web"})
    assert "cannot be made" in caplog.text
    assert "a restart while an engine is down will know nothing" in caplog.text


def test_snapshots_are_kept_at_the_usual_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/kamal-sd")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_data_dir() == Path("/state/kamal-sd")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_data_dir() == Path("/home/me/.local/state/kamal-sd")


def test_an_engines_time_limit_is_heeded() -> None:
    with HandMade({"": hold}) as silent:
        engine = EngineSettings(url=silent.url, timeout=0.2)
        began = time.monotonic()
        with pytest.raises(EngineError, match="timed out"):
            server.connect(engine)
        assert time.monotonic() - began < 5


def test_engines_that_hang_do_not_hold_up_the_end(tmp_path: Path) -> None:
    """Whoever stops a service waits for 10 s before it is killed: `docker stop`, and Kamal."""
    with HandMade({"": hold}) as silent:
        engines = [{"url": silent.url, "host": host} for host in "abc"]
        began = time.monotonic()
        with watching(fake_settings(tmp_path, engines=engines), server.connect, QUICK):
            wait_for(lambda: len(silent.requests) == 3)
        assert time.monotonic() - began < 6


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[Server]:
    """A server whose engine is not there."""
    with Server(tmp_path, f"unix://{tmp_path}/none.sock", wait=False) as started:
        started.wait_ready(partial(_healthy, started))
        yield started


def _healthy(started: Server) -> bool:
    try:
        return started.get("/-/healthy").is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(lonely: Server, number: signal.Signals) -> None:
    lonely.signal(number)
    began = time.monotonic()
    assert lonely.wait(15) == 0
    assert time.monotonic() - began < 5
    said = lonely.tail(100_000)
    assert "Traceback" not in said
    assert "not heard: No such file or directory" in said


def test_a_server_without_its_engine_says_so(lonely: Server) -> None:
    wait_for(lambda: "No such file or directory" in lonely.get("/targets").text)
    answer = lonely.get("/targets")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert AGE_HEADER not in answer.headers
    assert lonely.get("/-/ready").status_code == 503
    with httpx.Client(base_url=lonely.url) as client:
        head = client.head("/targets")
        assert (head.status_code, head.content) == (503, b"")
        # The connection is still in step after an answer without a body.
        assert client.get("/-/healthy").text == "kamal-sd is healthy.\n"


def test_a_connection_that_is_left_open_does_not_hold_up_the_end(lonely: Server) -> None:
    place = lonely.url.removeprefix("http://").split(":")
    with socket.create_connection((place[0], int(place[1]))) as half_open:
        half_open.sendall(b"GET /targets HTTP/1.1\r\nHost:")
        _healthy(lonely)
        began = time.monotonic()
        lonely.signal(signal.SIGTERM)
        assert lonely.wait(15) == 0
        assert time.monotonic() - began < 9


def test_a_port_that_is_taken_is_said_to_be(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Server(tmp_path, f"unix://{tmp_path}/none.sock", port=port, wait=False) as refused:
            assert refused.wait(15) not in (0, -signal.SIGKILL)
            said = refused.tail(100_000)
    assert "address already in use" in said
    assert "Traceback" not in said


EARLY: Final = """
import os, signal, sys
from app.engine.client import EngineError
from app.server import serve
from app.settings import Settings
from app.settings_file import Source

tries = []

def connect(engine):
    # The first thing that a watcher does, before there is a web server.
    if not tries:
        os.kill(os.getpid(), signal.SIGTERM)
    tries.append(engine)
    raise EngineError("away")

settings = Settings(
    listen=sys.argv[1], data_dir=sys.argv[2], engines=[{"url": "unix:///x"}]
)
serve(settings, Source(), connect)
"""


def test_a_signal_before_the_web_server_is_there_is_not_lost(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", EARLY, f"127.0.0.1:{free_port()}", str(tmp_path / "data")]
    environment = system_environment(PYTHONPATH=str(REPOSITORY), HOME=str(tmp_path))
    with Process("early", argv, log=tmp_path / "log", env=environment) as process:
        assert process.wait(6) == 0
        assert "Traceback" not in process.tail()


def test_the_log_is_of_the_level_that_is_set(tmp_path: Path) -> None:
    level = {"KAMAL_SD_LOG_LEVEL": "error"}
    url = f"unix://{tmp_path}/none.sock"
    with Server(tmp_path, url, env=level, wait=False) as quiet:
        quiet.wait_ready(partial(_healthy, quiet))
        wait_for(lambda: "No such file" in quiet.get("/targets").text)
    assert quiet.tail() == ""
