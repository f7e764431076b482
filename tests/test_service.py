"""What starts, ends and runs on untouched when the settings change under a running service."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import pytest

from app.engine.client import EngineError, NetworkConnection
from app.engine.session import Pace
from app.model import Slot, Snapshot
from app.service import Service
from app.settings import EngineSettings, Settings
from app.state import State
from app.storage import Storage
from tests import http_sd_reader
from tests.builders import container
from tests.engine.fake import FakeConnection, FakeEngine, entry
from tests.engine.test_proxy_state import service as proxied
from tests.engine.test_proxy_state import written
from tests.lab.process import wait_until
from tests.web.apps import Served

QUICK: Final = Pace(settle=0.0, first_delay=0.01, longest_delay=0.02, confirm=0.1)
# Long enough for what would happen to have happened.
A_WHILE: Final = 0.2
WEB: Final[dict[str, Any]] = {
    "Labels": {"service": "shop", "role": "web", "prometheus.port": "9394", "com.example.team": "x"}
}


def wait_for(condition: Callable[[], object], what: str = "it to be so") -> None:
    wait_until(condition, 20, what)


class Running:
    """A service before made-up engines, which are found by their host."""

    def __init__(self, directory: Path, **engines: FakeEngine) -> None:
        self._directory = directory
        self._engines = engines
        self._stack = ExitStack()

    def settings(self, *hosts: str, **given: Any) -> Settings:
        engines = [{"url": f"unix:///{host}", "host": host} for host in hosts]
        return Settings.model_validate(
            {"data_dir": self._directory / "data", "engines": engines} | given
        )

    def start(self, *hosts: str, **given: Any) -> State:
        self._service = self._stack.enter_context(
            Service(self.settings(*hosts, **given), self._connect, _no_network, QUICK)
        )
        return self._service.state

    def reload(self, *hosts: str, **given: Any) -> None:
        self._service.reload(self.settings(*hosts, **given))

    def _connect(self, engine: EngineSettings) -> FakeConnection:
        return self._engines[engine.host].connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _no_network(_engine: EngineSettings) -> NetworkConnection:
    raise EngineError("away")


def standing(state: State) -> dict[str, str]:
    """Whose container stands for each slot, by the slot's host and name."""
    return {
        f"{slot.host}/{slot.name}": each.container.id for slot, each in state.view.current().items()
    }


def _stands(state: State, place: str) -> bool:
    return place in standing(state)


def threads() -> list[str]:
    return sorted(each.name for each in threading.enumerate())


def test_engines_come_and_go_and_the_others_do_not_notice(tmp_path: Path) -> None:
    a, b, c = FakeEngine(entry("shop")), FakeEngine(entry("blog")), FakeEngine(entry("mail"))
    with Running(tmp_path, a=a, b=b, c=c) as running:
        state = running.start("a", "b")
        wait_for(lambda: set(standing(state)) == {"a/shop-web", "b/blog-web"})
        asked = list(a.asked)
        running.reload("c", "a")
        assert {"a/shop-web"} <= set(standing(state)) <= {"a/shop-web", "c/mail-web"}
        assert b.open == 0
        wait_for(lambda: set(standing(state)) == {"a/shop-web", "c/mail-web"})
        running.reload("a")
        assert c.open == 0
        assert set(standing(state)) == {"a/shop-web"}
        running.reload("b", "a")
        # It was seen before, and is known at once.
        assert set(standing(state)) == {"a/shop-web", "b/blog-web"}
        wait_for(lambda: state.known_of("b").up)
        assert (a.asked, a.open) == (asked, 1)
        # What it tells is heard, over the connection that it always had.
        a.start("cron")
        wait_for(lambda: "a/cron-web" in standing(state))
        assert a.asked.count("connect") == 1
    assert [each.open for each in (a, b, c)] == [0, 0, 0]


@pytest.mark.parametrize(
    "given",
    [
        {"roles": [{"role": "web", "port": 9400}]},
        {"defaults": {"address": "ip"}},
        {"overlap_limit": 5, "keep_missing": 5},
        {"relay": {"address": "here:9889"}},
        {"log_level": "debug"},
        {"proxy": {"state_file": "/nowhere"}},
        {"file_sd": "/nowhere/file"},
    ],
)
def test_what_no_watcher_heeds_reconnects_none(given: dict[str, Any], tmp_path: Path) -> None:
    engine = FakeEngine(entry("shop"))
    with Running(tmp_path, a=engine) as running:
        state = running.start("a")
        wait_for(lambda: standing(state))
        running.reload("a", **given)
        running.reload("a")
        time.sleep(A_WHILE)
        assert engine.asked.count("connect") == 1


@pytest.mark.parametrize(
    "given",
    [
        {"engines": [{"url": "unix:///a", "host": "a", "timeout": 3}]},
        {"aliases": {"verify": True}},
        {"container_labels": ["com.example.*"]},
        {"resync_interval": "1h"},
    ],
)
def test_what_a_watcher_heeds_has_it_start_anew_with_what_is_known(
    given: dict[str, Any], tmp_path: Path
) -> None:
    engine = FakeEngine(entry("shop", **WEB))
    with Running(tmp_path, a=engine) as running:
        state = running.start("a")
        wait_for(lambda: standing(state))
        engine.fault = EngineError("just now I cannot tell")
        seen = set[bool]()
        with state.telling(lambda: seen.add(state._view.ready)):
            running.reload("a", **given)
            assert standing(state) == {"a/shop-web": "shop"}
            wait_for(lambda: engine.asked.count("connect") >= 2)
            engine.fault = None
            wait_for(lambda: engine.open == 1 and state.known_of("a").up)
        assert seen == {True}
        if "container_labels" in given:
            wait_for(lambda: b"com_example_team" in state.view.answer({}).body)


def test_what_is_read_back_from_the_disk_heeds_the_labels_of_now(tmp_path: Path) -> None:
    a, b = FakeEngine(entry("shop")), FakeEngine(entry("blog", **WEB))
    with Running(tmp_path, a=a, b=b) as running:
        state = running.start("a", "b", container_labels=["com.example.*"])
        wait_for(lambda: len(standing(state)) == 2)
        assert "com.example.team" in state.known_of("b").containers["blog"].labels
        running.reload("a")
        b.refusal = EngineError("away")
        running.reload("a", "b")
        assert "com.example.team" not in state.known_of("b").containers["blog"].labels


def test_no_generation_comes_back_when_a_watcher_starts_anew(tmp_path: Path) -> None:
    """The newer one had taken over, in the middle of a deploy."""
    engine = FakeEngine(entry("old", Status="Up 2 hours", **WEB))
    with Running(tmp_path, a=engine) as running:
        state = running.start("a", overlap_limit="300ms")
        wait_for(lambda: standing(state) == {"a/shop-web": "old"})
        engine.start("new", **WEB)
        wait_for(lambda: standing(state) == {"a/shop-web": "new"}, "the overlap to be over")
        seen = set[str]()
        with state.telling(
            lambda: seen.update(each.container.id for each in state._view.current().values())
        ):
            for limit in ("1h", "2h"):
                running.reload("a", overlap_limit=limit, resync_interval=limit)
                time.sleep(A_WHILE)
            assert engine.asked.count("connect") == 3
        assert seen == {"new"}


def test_an_engine_that_gets_a_name_is_known_by_it_at_once(tmp_path: Path) -> None:
    """So it is with an only engine when a second one is added."""
    nameless = FakeEngine(entry("old", Status="Up 2 hours", **WEB))
    other = FakeEngine(entry("blog"))
    with Running(tmp_path, **{"": nameless, "a": nameless, "b": other}) as running:
        only = {"engines": [{"url": "unix:///a"}]}
        state = running.start(**only, overlap_limit="300ms")
        wait_for(lambda: standing(state) == {"/shop-web": "old"})
        nameless.start("new", **WEB)
        wait_for(lambda: standing(state) == {"/shop-web": "new"}, "the overlap to be over")
        running.reload("a", "b", overlap_limit="1h")
        assert standing(state)["a/shop-web"] == "new"
        wait_for(lambda: standing(state) == {"a/shop-web": "new", "b/blog-web": "blog"})
        wait_for(lambda: nameless.asked.count("list") == 2)
        time.sleep(A_WHILE)
        assert standing(state)["a/shop-web"] == "new"
        running.reload(**only, overlap_limit="1h")
        assert standing(state) == {"/shop-web": "new"}


def test_what_an_engine_says_too_late_does_not_count(tmp_path: Path) -> None:
    """The old watcher hangs in an answer, while the host's engine is another one already."""
    go_on = threading.Event()
    slow, other = FakeEngine(entry("shop")), FakeEngine(entry("blog"))
    with Running(tmp_path, a=slow) as running:
        state = running.start("a")
        wait_for(lambda: standing(state))
        slow.at_list = partial(wait_until, go_on.is_set, 30, "the end of it")
        slow.start("late")
        wait_for(lambda: "look late" in slow.asked)
        running._engines["a"] = other
        running.reload(engines=[{"url": "unix:///elsewhere", "host": "a"}])
        wait_for(lambda: standing(state) == {"a/blog-web": "blog"})
        go_on.set()
        wait_for(lambda: slow.open == 0)
        time.sleep(A_WHILE)
        assert standing(state) == {"a/blog-web": "blog"}


def test_an_engine_that_hangs_does_not_hold_up_a_reload(tmp_path: Path) -> None:
    go_on = threading.Event()
    slow, other = FakeEngine(entry("shop")), FakeEngine(entry("blog"))
    slow.at_list = partial(wait_until, go_on.is_set, 30, "the end of it")
    with Running(tmp_path, a=slow, b=other) as running:
        state = running.start("a")
        wait_for(lambda: "list" in slow.asked)
        began = time.monotonic()
        running.reload("b")
        assert time.monotonic() - began < 3
        wait_for(lambda: standing(state) == {"b/blog-web": "blog"})
        go_on.set()


def test_what_was_heard_last_is_known_after_the_engine_is_lost(tmp_path: Path) -> None:
    engine = FakeEngine(entry("shop"))
    with Running(tmp_path, a=engine) as running:
        state = running.start("a")
        wait_for(lambda: standing(state))
        engine.start("blog")
        wait_for(lambda: "a/blog-web" in standing(state))
        engine.refusal = EngineError("away")
        engine.cut()
        file = tmp_path / "data" / "a.json"
        wait_for(lambda: file.exists() and "blog" in file.read_text())


def test_an_engine_that_goes_at_once_is_known_when_it_comes_back(tmp_path: Path) -> None:
    a, b = FakeEngine(entry("shop")), FakeEngine(entry("blog"))
    with Running(tmp_path, a=a, b=b) as running:
        state = running.start("a", "b")
        wait_for(lambda: len(standing(state)) == 2)
        b.start("mail")
        wait_for(lambda: "b/mail-web" in standing(state))
        running.reload("a")
        b.refusal = EngineError("away")
        running.reload("a", "b")
        assert set(standing(state)) == {"a/shop-web", "b/blog-web", "b/mail-web"}


def test_what_could_not_be_written_is_written_when_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.service._KEEP_RETRY_SECONDS", 0.1)
    engine, data = FakeEngine(entry("shop")), tmp_path / "data"
    with Running(tmp_path, a=engine) as running:
        state = running.start("a")
        wait_for((data / "a.json").exists)
        data.rename(tmp_path / "away")
        engine.start("blog")
        wait_for(lambda: "a/blog-web" in standing(state))
        time.sleep(A_WHILE + 0.3)
        data.mkdir()
        # Nothing else happens.
        for name in ("a.json", "history@.json"):
            wait_for((data / name).exists)
            assert "blog" in (data / name).read_text()


def test_a_burst_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, written = FakeEngine(entry("shop")), list[int]()
    save = Storage.save

    def noting(self: Storage, snapshot: Snapshot, url: str) -> bool:
        written.append(len(snapshot.containers))
        return save(self, snapshot, url)

    with Running(tmp_path, a=engine) as running:
        state = running.start("a")
        wait_for(lambda: standing(state))
        monkeypatch.setattr(Storage, "save", noting)
        for number in range(20):
            engine.start(f"blog{number}")
            wait_for(partial(_stands, state, f"a/blog{number}-web"))
        wait_for(lambda: 21 in written)
        assert len(written) < 20


def test_the_file_of_targets_is_another_one(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    engine = FakeEngine(entry("shop"))
    given: dict[str, Any] = {"defaults": {"address": "ip"}}

    def roles(file: Path) -> set[str]:
        content = file.read_bytes() if file.exists() else b"[]"
        return {each.labels["service"] for each in http_sd_reader.read(content)}

    with Running(tmp_path, a=engine) as running:
        running.start("a", file_sd=first, **given)
        wait_for(lambda: roles(first) == {"shop"})
        running.reload("a", file_sd=second, **given)
        wait_for(lambda: roles(second) == {"shop"})
        engine.start("blog")
        wait_for(lambda: roles(second) == {"shop", "blog"})
        assert roles(first) == {"shop"}
        running.reload("a", **given)
        engine.start("mail")
        time.sleep(A_WHILE)
        assert roles(second) == {"shop", "blog"}


def test_kamal_proxys_word_counts_as_long_as_it_is_asked_for(tmp_path: Path) -> None:
    old, new = "0a" * 32, "f5" * 32
    engine = FakeEngine(
        entry(old, Status="Up 2 hours", **WEB), entry(new, Status="Up 1 minute", **WEB)
    )
    files = [tmp_path / "one.state", tmp_path / "two.state"]
    for file, each in zip(files, (new, old), strict=True):
        file.write_bytes(written(proxied("shop-web", f"{each[:12]}:80")))
    given: dict[str, Any] = {"overlap_limit": "1h"}
    with Running(tmp_path, a=engine) as running:
        state = running.start("a", **given)
        wait_for(lambda: standing(state) == {"a/shop-web": old})
        running.reload("a", proxy={"state_file": files[0]}, **given)
        wait_for(lambda: standing(state) == {"a/shop-web": new})
        # Neither another watcher nor another engine at that host makes it forgotten.
        running.reload("a", proxy={"state_file": files[0]}, **given, resync_interval="1h")
        assert standing(state) == {"a/shop-web": new}
        running.reload("a", proxy={"state_file": files[1]}, **given)
        assert standing(state) == {"a/shop-web": old}
        running.reload("a", **given)
        assert state.known_of("a").active == {}
        assert "kamal-proxy state" not in threads()


def test_peers_come_and_go(tmp_path: Path) -> None:
    far = [{"url": "unix:///far", "host": "far"}]
    here, there = FakeEngine(entry("mail")), FakeEngine(entry("blog"))
    with (
        Served(container(ip="127.0.0.1"), engines=far) as served,
        Running(tmp_path, a=here, far=there) as running,
    ):
        url = f"http://{served.authority}"
        state = running.start("a")
        wait_for(lambda: standing(state) == {"a/mail-web": "mail"})
        asked = {"url": url, "interval": 0.05}
        running.reload("a", peers=[asked])
        wait_for(lambda: Slot("far", "shop", "web") in state.view.current())
        running.reload("a", peers=[{**asked, "interval": 0.06}])
        # What is known of it stays, and is not taken for lost.
        assert state.known_of_peer(url)[0].up
        # Its engine is watched from here now, so it is not believed any more, and is told so.
        running.reload("a", "far", peers=[{**asked, "interval": 0.06}])
        wait_for(lambda: set(standing(state)) == {"a/mail-web", "far/blog-web"})
        wait_for(lambda: "known from elsewhere" in state.known_of_peer(url)[0].error)
        running.reload("a", peers=[{**asked, "interval": 0.06}])
        wait_for(lambda: Slot("far", "shop", "web") in state.view.current())
        running.reload("a")
        assert set(standing(state)) == {"a/mail-web"}
        assert not [each for each in threads() if each.startswith("peer ")]
        assert here.asked.count("connect") == 1


def test_names_are_kept_as_long_as_it_is_set(tmp_path: Path) -> None:
    engines = {host: FakeEngine(entry("shop")) for host in "ab"}
    with Running(tmp_path, **engines) as running:
        running.start("a", "b")
        assert not [each for each in threads() if each.startswith("names ")]
        running.reload("a", "b", aliases={"manage": True})
        assert {"names a", "names b"} <= set(threads())
        running.reload("b", aliases={"manage": True})
        assert [each for each in threads() if each.startswith("names ")] == ["names b"]
        running.reload("b")
        assert not [each for each in threads() if each.startswith("names ")]


def test_twenty_reloads_leave_nothing_behind(tmp_path: Path) -> None:
    engines = {host: FakeEngine(entry("shop")) for host in "abc"}
    with Running(tmp_path, **engines) as running:
        state = running.start("a", "b")
        wait_for(lambda: len(standing(state)) == 2)
        before = threads()
        for _ in range(20):
            running.reload("a", "c", aliases={"manage": True}, file_sd=tmp_path / "file")
            running.reload("a", "b", container_labels=["x"], proxy={"state_file": "/none"})
            running.reload("a", "b")
        wait_for(lambda: threads() == before)
        wait_for(lambda: [each.open for each in engines.values()] == [1, 1, 0])
