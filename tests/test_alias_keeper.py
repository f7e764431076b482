"""Making the moves: in which order, how often, and on a real engine."""

import json
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app import alias_keeper
from app.alias_keeper import AliasKeeper
from app.discovery.naming import MARK, Move
from app.engine.client import EngineError, NoNetworkError
from app.follower import Follower
from app.model import Snapshot
from app.state import State
from tests.builders import Clock, container, settings, snapshot
from tests.lab import image
from tests.lab.engine import Engine
from tests.lab.process import run, wait_until
from tests.lab.sd import REPOSITORY, Server

OLD = Move("leave", "1", "shop-web-v1", "shop-web")
NEW = Move("join", "2", "shop-web-v2", "shop-web")
JOB = Move("join", "3", "shop-job-v1", "shop-job")


class FakeNetwork:
    """A NetworkConnection that writes down what it was asked; `faults` are raised in turn."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.faults: dict[str, list[EngineError]] = {}
        self.called = threading.Event()

    def connect(self) -> "FakeNetwork":
        self._ask("connect")
        return self

    def join(self, network: str, container_id: str, aliases: Collection[str]) -> None:
        assert MARK in aliases
        self._ask(f"join {network} {container_id}")
        self.called.set()

    def leave(self, network: str, container_id: str) -> None:
        self._ask(f"leave {network} {container_id}")

    def make_network(self, network: str) -> None:
        self._ask(f"make {network}")

    def close(self) -> None:
        self.asked.append("close")

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if faults := self.faults.get(what):
            raise faults.pop(0)


@pytest.fixture
def network() -> FakeNetwork:
    return FakeNetwork()


@pytest.fixture
def keeper(network: FakeNetwork) -> AliasKeeper:
    return AliasKeeper("", "net", network.connect)


def test_the_new_one_joins_before_the_old_one_leaves(
    keeper: AliasKeeper, network: FakeNetwork
) -> None:
    assert keeper.make((NEW, OLD))
    assert network.asked == ["connect", "join net 2", "leave net 1"]
    keeper.close()
    keeper.close()
    assert network.asked[3:] == ["close"]


def test_what_was_done_is_not_done_again_until_it_had_time_to_show(
    keeper: AliasKeeper, network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("app.alias_keeper.time.monotonic", clock)
    for _ in range(3):
        assert keeper.make((NEW,))
    assert network.asked.count("join net 2") == 1
    clock.now += 5.1
    assert keeper.make((NEW,))
    assert network.asked.count("join net 2") == 2
    # It was seen to be done, and is to be done once more.
    keeper.make(())
    keeper.make((NEW,))
    assert network.asked.count("join net 2") == 3


def test_nobody_leaves_a_name_that_no_other_one_could_take(
    keeper: AliasKeeper, network: FakeNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    network.faults["join net 2"] = [EngineError("no"), EngineError("no")]
    assert not keeper.make((NEW, JOB, OLD))
    assert network.asked == ["connect", "join net 2", "close", "connect", "join net 3"]
    assert len(caplog.records) == 1
    assert not keeper.make((NEW, JOB, OLD))
    # It was told at the first time.
    assert len(caplog.records) == 1
    assert keeper.make((NEW, JOB, OLD))
    assert network.asked[-2:] == ["join net 2", "leave net 1"]


def test_a_further_alias_does_not_let_the_old_one_leave(
    keeper: AliasKeeper, network: FakeNetwork
) -> None:
    network.faults["join net 2"] = [EngineError("no")]
    assert not keeper.make((NEW, OLD._replace(name="extra shop-web")))
    assert "leave net 1" not in network.asked


def test_the_network_is_made_where_there_is_none(keeper: AliasKeeper, network: FakeNetwork) -> None:
    network.faults["join net 2"] = [NoNetworkError("404")]
    assert keeper.make((NEW,))
    assert network.asked == ["connect", "join net 2", "make net", "join net 2"]


def test_where_it_may_not_be_made_it_says_how(
    keeper: AliasKeeper, network: FakeNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    network.faults["join net 2"] = [NoNetworkError("404")]
    network.faults["make net"] = [EngineError("it answered 403 Forbidden")]
    assert not keeper.make((NEW,))
    (told,) = caplog.messages
    assert told.startswith("engine: shop-web-v2 joins as shop-web on the network net: ")
    assert told.endswith("make it with: docker network create --internal net")


@contextmanager
def keeping(state: State, network: FakeNetwork) -> Iterator[None]:
    """A keeper that follows the state, as the server has it."""
    keeper = AliasKeeper("", "kamal-sd", network.connect)
    follower = Follower(state, keeper.act, "names", keeper.close)
    follower.start()
    yield
    follower.stop()
    follower.join(10)


def test_it_acts_at_each_change_and_ends(network: FakeNetwork) -> None:
    state = State([snapshot()], settings(aliases={"manage": True}), Clock())
    before = threading.active_count()
    with keeping(state, network):
        state.publish(snapshot(container()))
        assert network.called.wait(10)
    assert threading.active_count() == before
    assert network.asked[-1] == "close"


def test_an_engine_that_is_set_no_more_is_none_to_act_on(
    keeper: AliasKeeper, network: FakeNetwork
) -> None:
    state = State([snapshot(container())], settings(aliases={"manage": True}), Clock())
    state.reconfigure(
        settings(engines=[{"url": "unix:///b", "host": "b"}], aliases={"manage": True}),
        [Snapshot("b")],
    )
    assert keeper.act(state.view) is None
    assert network.asked == []


def test_after_a_failure_it_tries_again(
    network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alias_keeper, "_FIRST_DELAY_SECONDS", 0.01)
    network.faults["connect"] = [EngineError("down")]
    state = State([snapshot(container())], settings(aliases={"manage": True}), Clock())
    with keeping(state, network):
        assert network.called.wait(10)
    assert network.asked.count("connect") == 2


# --- on a real engine ---


class Street:
    """A real engine with containers of one role, and kamal-sd's command line beside it."""

    def __init__(self, engine: Engine, tmp_path: Path) -> None:
        self.engine = engine
        self._config = tmp_path / "config.yml"
        self._config.write_text(
            "aliases: {manage: true}\ndefaults: {address: alias}\n"
            f"engines: [{{url: 'unix://{engine.socket}'}}]\n"
        )
        self._directory = tmp_path / "sd"
        image.build(engine, "shop:v1", "v1")
        if "kamal" not in engine.docker("network", "ls", "--format={{.Name}}").split():
            engine.docker("network", "create", "kamal")

    def start(self, version: str, *options: str) -> str:
        labels = {"service": "shop", "role": "web", "destination": "", "prometheus.port": "9394"}
        given = [f"--label={name}={value}" for name, value in labels.items()]
        return self.engine.docker(
            *("run", "--detach", "--network=kamal", f"--name=shop-web-{version}", *given),
            *(*options, "shop:v1", "/bin/app", "web"),
        ).strip()

    def members(self) -> set[str]:
        """Who has the role's name by kamal-sd, stopped ones too."""
        found = set()
        for name in self.engine.docker("ps", "--all", "--format={{.Names}}").split():
            shown: dict[str, Any] = json.loads(self.engine.docker("inspect", name))[0]
            place = shown["NetworkSettings"]["Networks"].get("kamal-sd")
            if place and {"shop-web", MARK} <= set(place["Aliases"] or ()):
                found.add(name)
        return found

    def wait(self, *members: str) -> None:
        wait_until(lambda: self.members() == set(members), 20, f"the name to be of {members}")

    def server(self) -> Server:
        return Server(self._directory, f"unix://{self.engine.socket}", config=self._config)

    def sync(self, *options: str) -> str:
        words = ["-m", "app", "alias", "sync", "--config", str(self._config), *options]
        return run([sys.executable, *words], cwd=REPOSITORY)


@pytest.mark.real
def test_a_life_of_a_name(engine: Engine, tmp_path: Path) -> None:
    street = Street(engine, tmp_path)
    street.start("v1")
    with street.server() as server:
        street.wait("shop-web-v1")
        assert '"Internal": true' in engine.docker("network", "inspect", "kamal-sd")
        (target,) = server.targets()
        assert target["targets"] == ["shop-web.kamal-sd:9394"]

        # Somebody else's member has that very alias, and stays throughout.
        engine.docker("run", "--detach", "--name=guest", "shop:v1", "/bin/app", "web")
        engine.docker("network", "connect", "--alias=shop-web", "kamal-sd", "guest")

        street.start("v2")
        wait_until(lambda: "candidate" in server.get("/explain").text, 10, "the candidate")
        assert street.members() == {"shop-web-v1"}
        engine.docker("stop", "shop-web-v1")
        # The stopped one left, too: started again, it would have the name.
        street.wait("shop-web-v2")
        assert server.targets()[0]["targets"] == ["shop-web.kamal-sd:9394"]

    # Neither kamal-sd's end nor its start changes anything.
    assert street.members() == {"shop-web-v2"}
    with street.server() as server:
        wait_until(server.targets, 10, "the target")
        assert street.members() == {"shop-web-v2"}
        # The last one keeps the name while it is stopped, and has it at its start.
        engine.docker("stop", "shop-web-v2")
        assert street.members() == {"shop-web-v2"}
        engine.docker("start", "shop-web-v2")
        assert street.members() == {"shop-web-v2"}
        engine.stop()
        engine.start()
        engine.docker("start", "shop-web-v2", "guest")
        wait_until(lambda: server.get("/explain").json()["engines"][0]["up"], 60, "the engine")
        street.wait("shop-web-v2")

    assert "nothing to do" in street.sync("--once")
    street.start("v3")
    engine.docker("stop", "shop-web-v2")
    would = street.sync("--dry-run")
    assert "would be done: shop-web-v3 joins as shop-web on the network kamal-sd" in would
    assert street.members() == {"shop-web-v2"}
    assert "shop-web-v2 leaves, and was shop-web" in street.sync("--once")
    assert street.members() == {"shop-web-v3"}
    assert "shop-web-v3 leaves" in street.sync("--remove")
    assert street.members() == set()
    (guest,) = json.loads(engine.docker("inspect", "guest"))
    assert "kamal-sd" in guest["NetworkSettings"]["Networks"]
    engine.docker("rm", "--force", "guest")
    engine.docker("network", "rm", "kamal-sd")
