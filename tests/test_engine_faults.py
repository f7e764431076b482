"""A real engine that is killed, frozen, restarted and cut off, under watchers in this process."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from app.engine.session import Pace
from app.server import watching
from app.state import State
from tests.engine.forwarder import Forwarder
from tests.engine.town import (
    Sampler,
    Town,
    addresses,
    assert_allowed,
    body,
    settings,
    wait_for,
    wait_for_addresses,
)
from tests.lab.engine import Engine

pytestmark = pytest.mark.real

QUICK: Final = Pace(first_delay=0.05, longest_delay=0.2, confirm=0.5)
BURST: Final = 50


def wait_up(state: State) -> None:
    wait_for(lambda: state.view.snapshots[0].up, "the engine to be heard")


def wait_lost(state: State) -> str:
    wait_for(lambda: state.view.snapshots[0].error, "the loss to be told")
    assert not state.view.snapshots[0].up
    return state.view.snapshots[0].error


@pytest.mark.parametrize(("how", "policy"), [("stop", "unless-stopped"), ("kill", "always")])
def test_containers_that_restart_with_their_engine_are_targets_all_the_while(
    how: str, policy: str, engine: Engine, tmp_path: Path
) -> None:
    town = Town(engine)
    town.run("web", "job", restart=policy)
    with watching(settings(engine.url, tmp_path), pace=QUICK) as state:
        wait_for_addresses(state, "web", "job")
        with Sampler(lambda: body(state)) as sampler:
            getattr(engine, how)()
            wait_lost(state)
            engine.start()
            wait_up(state)
            wait_for(lambda: set(town.states().values()) == {"running"}, "both to run again")
            found = wait_for_addresses(state, "web", "job")
        assert all(roles == {"web", "job"} for roles in sampler.roles())
    for name, address in found.items():
        ip = town.engine.docker(
            "inspect", "-f", "{{.NetworkSettings.Networks.kamal.IPAddress}}", f"town-{name}-v1"
        )
        assert address == f"{ip.strip()}:9394"


def test_a_frozen_engine_is_noticed_and_heard_again(engine: Engine, tmp_path: Path) -> None:
    town = Town(engine)
    (web, _) = town.run("web", "job")
    with watching(settings(engine.url, tmp_path), pace=QUICK) as state:
        wait_for_addresses(state, "web", "job")
        before = body(state)
        with Sampler(lambda: body(state)) as sampler:
            engine.pause()
            try:
                assert "timed out" in wait_lost(state)
                time.sleep(2)
            finally:
                engine.resume()
            wait_up(state)
        assert sampler.bodies == [before]
        engine.docker("kill", web)
        wait_for(lambda: ".invalid" in addresses(body(state))["web"], "events to be heard")


def test_fifty_reconnects_leave_no_thread_and_no_descriptor(engine: Engine, tmp_path: Path) -> None:
    Town(engine).run("web", "job")
    quicker = QUICK._replace(first_delay=0.01, longest_delay=0.02)
    with (
        Forwarder(tmp_path / "s", engine.socket) as forwarder,
        watching(settings(forwarder.url, tmp_path / "data"), pace=quicker) as state,
    ):
        wait_for_addresses(state, "web", "job")
        before = body(state)
        reconnect(forwarder, state)
        before_them = held()
        for _ in range(50):
            reconnect(forwarder, state)
        assert state.view.snapshots[0].reconnects >= 51
        wait_for(
            lambda: all(now <= then for now, then in zip(held(), before_them, strict=True)),
            f"no more threads and open files than {before_them}",
        )
        assert body(state) == before
    assert_allowed(forwarder.requests)


def reconnect(forwarder: Forwarder, state: State) -> None:
    so_far = state.view.snapshots[0].reconnects
    forwarder.cut()
    wait_for(lambda: state.view.snapshots[0].reconnects > so_far, "the loss")
    wait_up(state)


def held() -> tuple[int, int]:
    """The threads and open files of this process."""
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


def test_a_burst_of_real_starts_and_kills_ends_exact(engine: Engine, tmp_path: Path) -> None:
    town = Town(engine)
    ids = [town.create(f"r{number:02}", restart="no") for number in range(BURST)]
    with (
        Forwarder(tmp_path / "s", engine.socket) as forwarder,
        watching(settings(forwarder.url, tmp_path / "data"), pace=QUICK) as state,
    ):
        wait_up(state)
        starters = [
            threading.Thread(target=engine.docker, args=["start", *ids[part::4]])
            for part in range(4)
        ]
        for starter in starters:
            starter.start()
        for starter in starters:
            starter.join()
        roles = [f"r{number:02}" for number in range(BURST)]
        wait_for_addresses(state, *roles)
        # All at once, but for five, that must not be taken for dead with the others.
        asked = len(forwarder.requests)
        engine.docker("kill", *ids[5:])
        wait_for(lambda: shown(state) == town.states(), "it to be exact")
        assert list(town.states().values()).count("exited") == BURST - 5
        # A late list must not bring one back.
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            assert shown(state) == town.states()
        live = {name: each for name, each in addresses(body(state)).items() if ".inv" not in each}
        assert set(live) == set(roles[:5])
        # Each death came with a disconnect and a doubt, and they came together.
        assert len(forwarder.requests) - asked < BURST
    assert_allowed(forwarder.requests)


def shown(state: State) -> dict[str, str]:
    return {key: each.state.value for key, each in state.view.snapshots[0].containers.items()}


@pytest.fixture
def followed(engine: Engine, tmp_path: Path) -> Iterator[tuple[Town, State, Forwarder]]:
    """A role, and a state that learns of it by events alone: the resync comes far too late."""
    town = Town(engine)
    town.run("web")
    with (
        Forwarder(tmp_path / "s", engine.socket) as forwarder,
        watching(
            settings(forwarder.url, tmp_path / "data", resync_interval="10m"),
            pace=QUICK._replace(second=600.0),
        ) as state,
    ):
        wait_for_addresses(state, "web")
        yield town, state, forwarder
        lists = [each for each in forwarder.requests if "/containers/json" in each]
        assert len([each for each in lists if "filters" not in each]) == 1
    assert_allowed(forwarder.requests)


def test_a_life_is_followed_by_events_alone(followed: tuple[Town, State, Forwarder]) -> None:
    town, state, _ = followed
    engine, (web,) = town.engine, town.states()
    engine.docker("restart", "--time=1", web)
    wait_for(lambda: shown(state) == {web: "running"}, "it to run again")
    wait_for_addresses(state, "web")
    engine.docker("rename", web, "town-web-v2")
    wait_for(lambda: [each.version for each in state.view.decisions] == ["v2"], "its new name")
    engine.docker("exec", web, "/bin/sleep", "0")
    engine.docker("stop", "--time=1", web)
    wait_for(lambda: ".invalid" in addresses(body(state)).get("web", ""), "its stop")
    engine.docker("start", web)
    wait_for_addresses(state, "web")
    engine.docker("rm", "--force", web)
    wait_for(lambda: body(state) == b"[]\n", "its removal")


def test_a_pause_is_seen_and_keeps_the_target(followed: tuple[Town, State, Forwarder]) -> None:
    town, state, _ = followed
    (web,) = town.states()
    before = addresses(body(state))
    for command, there in (("pause", "paused"), ("unpause", "running")) * 3:
        town.engine.docker(command, web)
        wait_for(lambda wanted=there: shown(state) == {web: wanted}, there)  # type: ignore[misc]
        assert addresses(body(state)) == before


def test_networks_are_followed(followed: tuple[Town, State, Forwarder]) -> None:
    town, state, _ = followed
    (web,) = town.states()
    for _ in range(3):
        town.engine.docker("network", "disconnect", "kamal", web)
        wait_for(lambda: addresses(body(state)) == {}, "its leaving the network")
        town.engine.docker("network", "connect", "kamal", web)
        wait_for_addresses(state, "web")
