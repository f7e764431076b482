"""A kamal-sd that serves what others have decided: real servers, one before the other."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from app.cli.source import SourceError, ask_engines
from app.discovery import peer, relay
from app.engine import ledger
from app.model import Container, Slot
from app.peers import PeerWatcher
from app.settings import PeerSettings
from tests.builders import container, settings, stopped
from tests.lab.process import Process, free_port, system_environment
from tests.lab.sd import REPOSITORY, Server
from tests.web.apps import OLD, Served, next_one, wait_for
from tests.web.sockets import FIRST, PORT, SECOND, App, answer

HOST = "recording"


class Recording(Process):
    """`kamal-sd demo`: a whole server, whose engine is a recording of real deploys."""

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__(
            "peer",
            [sys.executable, "-m", "app", "demo", "--listen", f"127.0.0.1:{port}"],
            log=directory / "peer.log",
            env=system_environment(HOME=str(directory), PYTHONPATH=str(REPOSITORY)),
            cwd=directory,
        )
        self.url = f"http://127.0.0.1:{port}"
        self.wait_ready(lambda: is_ready(self.url))


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).is_success
    except httpx.TransportError:
        return False


@contextmanager
def one_for_all(directory: Path, *peers: str, wait: bool = True) -> Iterator[Server]:
    asked = [{"url": each, "interval": "100ms", "timeout": "1s"} for each in peers]
    env = {"KAMAL_SD_ENGINES": "[]", "KAMAL_SD_PEERS": json.dumps(asked)}
    with Server(directory, env=env, wait=wait) as server:
        yield server


def engine(server: Server, host: str = HOST) -> dict[str, Any]:
    engines = server.get("/explain").json()["engines"]
    return next(
        (each for each in engines if each["host"] == host), {"up": None, "error": str(engines)}
    )


def test_it_serves_what_its_peer_serves_and_keeps_it_through_every_loss(tmp_path: Path) -> None:
    port = free_port()
    with Recording(tmp_path, port) as peer:
        with one_for_all(tmp_path / "all", peer.url) as server:

            def instances(of: str) -> set[str]:
                groups = httpx.get(f"{of}/targets", trust_env=False).json()
                return {group["labels"]["instance"] for group in groups}

            wait_for(lambda: instances(server.url) == instances(peer.url) != set())
            assert engine(server)["up"] is True
            assert engine(server)["peer"] == peer.url
            os.kill(peer.pid, signal.SIGSTOP)
            try:
                wait_for(lambda: engine(server)["up"] is False)
                assert "timed out" in engine(server)["error"]
            finally:
                os.kill(peer.pid, signal.SIGCONT)
            wait_for(lambda: engine(server)["up"] is True)
            served = instances(server.url)
            peer.stop()
            # A question that is on its way is reset, and the next one is refused.
            wait_for(lambda: "refused" in engine(server)["error"])
            assert engine(server)["up"] is False
            assert instances(server.url) == served
            assert 'kamal_sd_engine_up{host="recording"} 0.0' in server.get("/metrics").text
        with one_for_all(tmp_path / "all", peer.url) as server:
            assert instances(server.url) == served
            wait_for(lambda: "refused" in engine(server)["error"])
            assert server.get("/targets").headers["X-Kamal-SD-List-Age-Seconds"] != "0.0"
    with one_for_all(tmp_path / "all", peer.url) as server, Recording(tmp_path, port):
        wait_for(lambda: engine(server)["up"] is True)


def test_a_damaged_memory_of_a_peer_is_said_and_costs_nothing_else(tmp_path: Path) -> None:
    with Recording(tmp_path, free_port()) as peer:
        with one_for_all(tmp_path / "all", peer.url) as server:
            wait_for(lambda: engine(server)["up"] is True)
        (kept,) = (tmp_path / "all" / "data").glob("peer@*.json")
        kept.write_bytes(kept.read_bytes()[:100])
        with one_for_all(tmp_path / "all", peer.url) as server:
            wait_for(lambda: engine(server)["up"] is True)
        assert "what it said last is not used" in server.log.read_text()


def test_before_it_was_ever_heard_nothing_is_served(tmp_path: Path) -> None:
    with one_for_all(tmp_path, f"http://127.0.0.1:{free_port()}", wait=False) as server:
        wait_for(lambda: answers(server))
        answer = server.get("/targets")
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        wait_for(lambda: "refused" in server.get("/targets").text)


def says(server: Server, words: str) -> bool:
    return words in server.get("/explain").text


def answers(server: Server) -> bool:
    try:
        return server.get("/-/healthy").is_success
    except httpx.TransportError:
        return False


def test_two_that_know_the_same_host_are_told(tmp_path: Path) -> None:
    with Recording(tmp_path, free_port()) as peer:
        also = peer.url.replace("127.0.0.1", "localhost")
        with one_for_all(tmp_path / "all", peer.url, also, wait=False) as server:
            wait_for(partial(answers, server))
            wait_for(partial(says, server, "known from elsewhere"))
            hosts = [each["host"] for each in server.get("/explain").json()["engines"]]
            assert hosts.count(HOST) == 1


def test_one_that_is_its_own_peer_is_told(tmp_path: Path) -> None:
    port = free_port()
    env = {
        "KAMAL_SD_ENGINES": json.dumps([{"url": f"unix://{tmp_path}/none.sock", "host": "here"}]),
        "KAMAL_SD_PEERS": json.dumps([{"url": f"http://127.0.0.1:{port}", "interval": "100ms"}]),
    }
    with Server(tmp_path, env=env, port=port, wait=False) as server:
        wait_for(lambda: answers(server))
        wait_for(lambda: "its host here is known" in server.get("/explain").text)


def test_two_that_ask_each_other_do_not_go_round(tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    servers = []
    for port, other in ((first, second), (second, first)):
        env = {
            "KAMAL_SD_ENGINES": "[]",
            "KAMAL_SD_PEERS": json.dumps(
                [{"url": f"http://127.0.0.1:{other}", "interval": "100ms"}]
            ),
        }
        servers.append(Server(tmp_path / str(port), env=env, port=port, wait=False))
    with servers[0] as one, servers[1] as two:
        for each in (one, two):
            wait_for(partial(answers, each))
            wait_for(partial(says, each, "watches no engine itself"))


@pytest.mark.parametrize(
    ("answered", "words"),
    [
        (answer(b"[]"), "not as a kamal-sd"),
        (answer(b'{"time": 1}'), "not as a kamal-sd"),
        (answer(b"who are you?", "403 Forbidden"), "it answered 403: who are you?"),
        (answer(b"", "302 Found", "Location: /elsewhere"), "it answered 302"),
    ],
)
def test_an_address_of_something_else_is_told(tmp_path: Path, answered: bytes, words: str) -> None:
    with (
        App(answered) as other,
        one_for_all(tmp_path, f"http://{other.ip}:{PORT}", wait=False) as server,
    ):
        wait_for(partial(answers, server))
        wait_for(partial(says, server, words))


PATH = relay.path_of(Slot("web-1", "shop", "web"), PORT, "")


class Chain:
    """A kamal-sd on the host web-1, and one elsewhere that relays to it."""

    def __init__(self, *containers: Container) -> None:
        self._stack = ExitStack()
        engines = [{"url": "unix:///engine.sock", "host": "web-1"}]
        self.there = self._stack.enter_context(
            Served(*containers, engines=engines, defaults={"address": "relay"})
        )
        self.asked = PeerSettings(
            url=f"http://{self.there.authority}", relay=True, interval=0.05, timeout=2.0
        )
        other = [{"url": "unix:///engine.sock", "host": "here"}]
        self.here = self._stack.enter_context(Served(engines=other, peers=[self.asked]))
        unheard = (peer.unheard(self.asked.url),)
        self._watcher = PeerWatcher(self.asked, unheard, self.here.state.publish_peer)
        self._watcher.start()
        self._stack.callback(self._watcher.join, 10)
        self._stack.callback(self._watcher.stop)

    def __enter__(self) -> Self:
        wait_for(lambda: PATH in self.here.state.view.routes)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def test_a_scrape_goes_through_both_relays() -> None:
    with App(FIRST) as app, Chain(container(OLD, ip=app.ip)) as chain:
        (group,) = json.loads(chain.here.ask("/targets").body)
        assert group["targets"] == [chain.here.authority]
        assert chain.here.ask(group["labels"]["__metrics_path__"]).body == b"version 1\n"


def test_the_one_on_the_host_hands_over_before_the_other_knows_of_it() -> None:
    with App(FIRST) as old, App(SECOND) as new, Chain(container(OLD, ip=old.ip)) as chain:
        state, before = chain.there.state, chain.there.state.view.snapshots[0]
        assert chain.here.ask(PATH).body == b"version 1\n"
        state.publish(ledger.listed(before, [next_one(new)], chain.there.now))
        assert chain.here.ask(PATH).body == b"version 2\n"


def test_what_the_app_answers_comes_through_as_it_is() -> None:
    teapot = answer(b"short and stout", "418 I'm a teapot")
    with App(teapot) as app, Chain(container(OLD, ip=app.ip)) as chain:
        assert chain.here.ask(PATH)[::2] == (418, b"short and stout")


def test_a_role_that_died_is_down_through_both() -> None:
    with App(FIRST) as app, Chain(container(OLD, ip=app.ip)) as chain:
        before = chain.there.state.view.snapshots[0]
        gone = stopped(OLD, 1.0)
        chain.there.state.publish(ledger.listed(before, [gone], chain.there.now))
        assert chain.here.ask(PATH).status == httpx.codes.SERVICE_UNAVAILABLE


def test_a_scrape_goes_through_no_third() -> None:
    with App(FIRST) as app, Chain(container(OLD, ip=app.ip)) as chain:
        refused = chain.here.ask(PATH, {"Via": "1.1 kamal-sd"})
        assert refused.status == httpx.codes.LOOP_DETECTED
        assert "came through another kamal-sd" in refused.words


def test_the_command_line_refuses_a_host_that_two_tell_of() -> None:
    engines = [{"url": "unix:///engine.sock", "host": "web-1"}]
    with Served(container(OLD), engines=engines) as served:
        port = served.authority.rpartition(":")[2]
        twice = [f"http://127.0.0.1:{port}", f"http://localhost:{port}"]
        assert len(ask_engines(settings(engines=[], peers=twice[:1])).document["decisions"]) == 1
        with pytest.raises(SourceError, match="its host web-1 is known from elsewhere already"):
            ask_engines(settings(engines=[], peers=twice))
