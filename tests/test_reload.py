"""A server whose settings change while it runs: who has them read anew, and what is refused.

The engines are made by hand here, so that what each is asked can be counted.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from app.reloader import Reloader
from app.settings import Settings
from app.settings_file import SettingsError, Source
from app.state import State
from tests import http_sd_reader
from tests.builders import settings, snapshot
from tests.engine.fake import entry
from tests.engine.handmade import VERSION, HandMade, answer, chunked, then_hold
from tests.lab.process import Process, free_port, system_environment, wait_until
from tests.lab.sd import REPOSITORY, Server

# As long as it takes to see that the file is not read: some looks.
A_WHILE: Final = 3.5
FIXED: Final = "cannot change while kamal-sd runs; restart it, or keep"
SUCCESSFUL: Final = "kamal_sd_config_last_reload_successful"
SUCCESS_AT: Final = "kamal_sd_config_last_reload_success_timestamp_seconds"


def wait_for(condition: Callable[[], object], what: str = "it to be so") -> None:
    wait_until(condition, 20, what)


class Place:
    """A settings file, and three engines with a role each."""

    def __init__(self, directory: Path, engines: dict[str, HandMade]) -> None:
        self.file = directory / "config.yml"
        self.engines = engines
        self.write("a")

    def document(self, *hosts: str, **given: Any) -> str:
        engines = [{"url": self.engines[host].url, "host": host} for host in hosts]
        document = {
            "engines": engines, "defaults": {"address": "ip"}, "reload": {"http": True}
        } | given  # fmt: skip
        return yaml.safe_dump(document)

    def write(self, *hosts: str, **given: Any) -> None:
        """Over what is there."""
        self.file.write_text(self.document(*hosts, **given))

    def replace(self, *hosts: str, **given: Any) -> None:
        """By another file of that name."""
        beside = self.file.with_suffix(".new")
        beside.write_text(self.document(*hosts, **given))
        beside.replace(self.file)


def handmade(service: str) -> HandMade:
    return HandMade(
        {
            "/version": VERSION,
            "/events": then_hold(chunked()),
            "/containers/json": answer([entry(service)]),
        }
    )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        engines = {
            host: stack.enter_context(handmade(service))
            for host, service in {"a": "shop", "b": "blog", "c": "mail"}.items()
        }
        yield Place(tmp_path, engines)


@pytest.fixture
def server(place: Place, tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server", config=place.file) as started:
        yield started


def serves(server: Server, *expected: str) -> bool:
    return server.ready() and instances(server) == set(expected)


def instances(server: Server) -> set[str]:
    content = server.get("/targets").raise_for_status().content
    return {each.labels["instance"] for each in http_sd_reader.read(content)}


def reload(server: Server) -> httpx.Response:
    return httpx.post(f"{server.url}/-/reload", trust_env=False, timeout=20)


def metric(server: Server, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", server.get("/metrics").text, re.MULTILINE)
    assert found, name
    return float(found[1])


def said(server: Server) -> str:
    return server.log.read_text()


# --- who has the settings read anew ---


def by_signal(server: Server) -> None:
    server.signal(signal.SIGHUP)


def by_http(server: Server) -> None:
    answered = reload(server)
    assert (answered.status_code, answered.text) == (200, "the settings were read anew\n")
    assert answered.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("ask", [by_signal, by_http])
def test_whoever_asks_has_them_at_once(
    ask: Callable[[Server], None], place: Place, tmp_path: Path
) -> None:
    place.write("a", reload={"http": True, "watch": False})
    with Server(tmp_path / "server", config=place.file) as server:
        assert instances(server) == {"shop-web:9394"}
        place.write("a", "c", reload={"http": True, "watch": False})
        time.sleep(A_WHILE)
        assert instances(server) == {"shop-web:9394"}
        ask(server)
        wait_for(lambda: serves(server, "a/shop-web:9394", "c/mail-web:9394"))
        wait_for(lambda: f"{place.file}: the settings were read anew" in said(server))


@pytest.mark.parametrize("how", ["write", "replace"])
def test_the_file_is_watched(how: str, server: Server, place: Place) -> None:
    getattr(place, how)("a", roles=[{"service": "shop", "port": 9400}])
    wait_for(lambda: instances(server) == {"shop-web:9400"})
    getattr(place, how)("a")
    wait_for(lambda: instances(server) == {"shop-web:9394"})
    # Neither time did the engine notice anything.
    assert len([line for line in place.engines["a"].requests if "/events" in line]) == 1
    # It is said when all is done, which is after it can be seen.
    wait_for(lambda: said(server).count("the settings were read anew") == 2)


def test_half_a_file_is_not_read(server: Server, place: Place) -> None:
    """An empty one has no mistake: without a pause it would end every engine."""
    whole = place.document("a", roles=[{"port": 9400}])
    for _ in range(10):
        place.file.write_text("")
        time.sleep(0.15)
        place.file.write_text(whole + f"# {time.monotonic()}\n")
        time.sleep(0.15)
    place.file.write_text(whole)
    wait_for(lambda: instances(server) == {"shop-web:9400"})
    assert "not heard" not in said(server)
    assert len([line for line in place.engines["a"].requests if "/events" in line]) == 1


def test_engines_come_and_go_with_the_file(server: Server, place: Place) -> None:
    place.replace("a", "b", "c")
    everywhere = ("a/shop-web:9394", "b/blog-web:9394", "c/mail-web:9394")
    wait_for(lambda: serves(server, *everywhere))
    place.replace("a", "c")
    wait_for(lambda: serves(server, "a/shop-web:9394", "c/mail-web:9394"))
    assert 'host="b"' not in server.get("/metrics").text
    for host in "ac":
        asked = [line for line in place.engines[host].requests if "/events" in line]
        assert len(asked) == 1, host


def test_an_engine_that_is_added_and_away_takes_nothing_from_the_others(
    server: Server, place: Place
) -> None:
    away = {"url": "tcp://127.0.0.1:1", "host": "away"}
    here = {"url": place.engines["a"].url, "host": "a"}
    place.write(engines=[here, away])
    assert reload(server).is_success
    wait_for(lambda: 'kamal_sd_engine_reconnects_total{host="away"}' in server.get("/metrics").text)
    assert instances(server) == {"a/shop-web:9394"}
    # Whether it has what a deploy waits for is not known, and said.
    waited = server.get("/wait?service=shop&version=v1&timeout=100ms")
    assert waited.status_code == httpx.codes.OK
    assert "what runs is not known of away" in waited.json()["detail"]


def test_without_the_setting_nobody_asks_over_http(place: Place, tmp_path: Path) -> None:
    place.write("a", reload={})
    with Server(tmp_path / "server", config=place.file) as server:
        refused = reload(server)
        assert refused.status_code == httpx.codes.FORBIDDEN
        assert refused.text.startswith("reload.http is not true in the settings; send SIGHUP")
        assert server.get("/-/reload").status_code == httpx.codes.METHOD_NOT_ALLOWED


def test_the_environment_and_the_command_line_win_as_they_did(place: Place, tmp_path: Path) -> None:
    env = {"KAMAL_SD_DEFAULTS__PATH": "/of-the-environment"}
    with Server(tmp_path / "server", config=place.file, env=env) as server:
        place.write("a", defaults={"address": "ip", "path": "/of-the-file", "scheme": "https"})
        assert reload(server).is_success
        (group,) = server.get("/targets").json()
        assert group["labels"]["__metrics_path__"] == "/of-the-environment"
        assert group["labels"]["__scheme__"] == "https"


def test_the_level_of_the_log_is_another_one(server: Server, place: Place) -> None:
    place.write("a", log_level="error")
    assert reload(server).is_success
    length = len(said(server))
    assert reload(server).is_success
    assert len(said(server)) == length
    place.write("a", log_level="debug")
    assert reload(server).is_success
    assert "the settings were read anew" in said(server)[length:]


def test_whoever_keeps_the_names_alone_takes_other_settings_too(
    place: Place, tmp_path: Path
) -> None:
    env = system_environment(HOME=str(tmp_path), PYTHONPATH=str(REPOSITORY))
    argv = [sys.executable, "-m", "app", "alias", "sync", "--config", str(place.file)]
    place.write("a", reload={"watch": False}, file_sd=str(tmp_path / "none"))
    with Process("names", argv, log=tmp_path / "log", env=env) as process:
        wait_for(lambda: "a: listening, 1 containers" in process.tail(100_000))
        place.write("a", "b", reload={"watch": False})
        process.signal(signal.SIGHUP)
        wait_for(lambda: "b: listening, 1 containers" in process.tail(100_000))
        assert process.stop() == 0
    assert not (tmp_path / "none").exists()


# --- what is refused ---


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("listen: 0.0.0.0:9889\nroles:\n  - prot: 9400\n", "line 3: roles[0].prot: is no setting"),
        ("engines: [\n", "line 2: is not YAML"),
        ("overlap_limit: soon\n", "line 1: overlap_limit: "),
        (
            "engines: [{url: 'unix:///a', host: a},\n  {url: 'unix:///b', host: a}]\n",
            "line 2: engines[1].host: 'a' is another engine's",
        ),
        ("engines: []\n\ndata_dir: /elsewhere\n", "line 3: data_dir: cannot change while"),
    ],
)
def test_a_mistake_refuses_all_of_it_and_is_told_everywhere(
    content: str, words: str, place: Place, tmp_path: Path
) -> None:
    given = {"KAMAL_SD_DATA_DIR": "", "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    place.write("a", data_dir=str(tmp_path / "data"), reload={"http": True, "watch": False})
    with Server(tmp_path / "server", config=place.file, env=given) as server:
        wait_for(server.ready)
        began, before = metric(server, SUCCESS_AT), server.get("/targets").content
        assert metric(server, SUCCESSFUL) == 1
        assert abs(began - time.time()) < 60
        place.file.write_text(content)
        refused = reload(server)
        assert refused.status_code == httpx.codes.INTERNAL_SERVER_ERROR
        assert refused.text.startswith("the new settings are refused, and the old ones stay: ")
        assert f"{place.file}: {words}" in refused.text
        assert f"the old ones stay: {place.file}: {words}" in said(server)
        assert (metric(server, SUCCESSFUL), metric(server, SUCCESS_AT)) == (0, began)
        assert server.get("/targets").content == before
        place.write("a", data_dir=str(tmp_path / "data"))
        assert reload(server).is_success
        assert metric(server, SUCCESSFUL) == 1
        assert metric(server, SUCCESS_AT) > began


def test_a_file_that_goes_away_is_told_once_and_changes_nothing(
    server: Server, place: Place
) -> None:
    place.file.unlink()
    wait_for(lambda: metric(server, SUCCESSFUL) == 0)
    time.sleep(A_WHILE)
    assert said(server).count("cannot be read: No such file") == 1
    assert instances(server) == {"shop-web:9394"}
    place.write("a", "b")
    wait_for(lambda: metric(server, SUCCESSFUL) == 1)


def test_where_it_listens_needs_a_restart(place: Place, tmp_path: Path) -> None:
    port = free_port()
    listen, env = f"127.0.0.1:{port}", {"KAMAL_SD_LISTEN": ""}
    place.write("a", listen=listen)
    with Server(tmp_path / "server", config=place.file, env=env, port=port) as server:
        place.write("a", "b", listen="127.0.0.1:1")
        assert f"listen: {FIXED} {listen}\n" in reload(server).text
        assert instances(server) == {"shop-web:9394"}
        place.write("a", "b", listen=listen)
        assert reload(server).is_success


def test_the_line_of_what_needs_a_restart_is_told(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("log_level: info\nlisten: 127.0.0.1:1\n")
    source = Source(file)
    running = source.load()
    file.write_text("\n\nlisten: 127.0.0.1:2\ndata_dir: /elsewhere\n")
    with pytest.raises(SettingsError) as caught:
        source.reload(running)
    assert str(caught.value).splitlines() == [
        f"{file}: line 3: listen: {FIXED} 127.0.0.1:1",
        f"{file}: line 4: data_dir: {FIXED} its default",
    ]


# --- when a file counts as changed ---


def test_a_file_has_changed_when_two_looks_find_the_same(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("log_level: info\n")
    source = Source(file)
    source.load()
    looks = partial(lambda: [source.is_changed() for _ in range(3)])
    assert looks() == [False, False, False]
    file.write_text("log_level: debug\n")
    assert looks() == [False, True, True]
    source.load()
    assert looks() == [False, False, False]
    file.write_text("")
    assert not source.is_changed()
    file.write_text("log_level: debug\n")
    assert looks() == [False, False, False]
    # Written once more, with what it held at the last look.
    file.write_text("")
    assert not source.is_changed()
    os.utime(file, (1, 1))
    assert looks() == [False, True, True]
    file.unlink()
    assert looks() == [False, True, True]


def test_what_is_written_while_it_is_read_is_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("log_level: info\n")
    source = Source(file)
    # Between the start of the program and its first look.
    source.load()
    file.write_text("log_level: debug\n")
    assert [source.is_changed(), source.is_changed()] == [False, True]


def test_without_a_file_nothing_changes_and_it_can_be_read_all_the_same() -> None:
    source = Source(options={"engines": [{"url": "unix:///a"}]})
    assert source.load().engines[0].url == "unix:///a"
    assert not source.is_changed()
    assert not source.is_changed()
    assert str(source) == "environment"


# --- the thread that does it ---


def test_a_fault_of_its_own_is_told_and_does_not_end_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "config.yml"
    file.write_text("")
    state = State([snapshot()], settings())
    faults: list[Exception] = [ZeroDivisionError()]

    def take(_settings: Settings) -> None:
        if faults:
            raise faults.pop()

    source = Source(file, {"listen": state.settings.listen})
    with Reloader(source, state, take, period=0.01) as reloader:
        assert reloader.ask().result(10) == "ZeroDivisionError in kamal-sd; its log has more"
        assert state.refusal
        assert "Traceback" in caplog.text
        assert reloader.ask().result(10) == ""


def test_one_that_hung_up_ends_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("")
    state, taken = State([snapshot()], settings()), list[Settings]()
    with Reloader(Source(file), state, taken.append) as reloader:
        asked = [reloader.ask() for _ in range(20)]
        asked[-1].cancel()
        assert reloader.ask().result(10) == ""
    assert len(taken) in (20, 21)
