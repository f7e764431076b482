"""Whose aliases an engine is asked for, and how often."""

import logging
from typing import Any

import pytest

from app.engine import ledger
from app.engine.client import EngineError
from app.engine.parse import aliases
from app.model import Container
from tests.engine.fake import FakeConnection, FakeEngine, entry
from tests.engine.play import CALM, Play


def everybody(container: Container) -> bool:
    return container.running


def inspected(name: str, *names: str, **endpoint: Any) -> dict[str, Any]:
    return {
        "Id": name,
        "Name": f"/{name}-web-v1",
        "Config": {"Hostname": "host", "Env": ["PASSWORD=secret"]},
        "NetworkSettings": {"Networks": {"kamal": {"Aliases": list(names), **endpoint}}},
    }


def engine_of(*names: str) -> FakeEngine:
    engine = FakeEngine(*map(entry, names))
    engine.inspected = {name: inspected(name, f"{name}-alias") for name in names}
    return engine


def asked(engine: FakeEngine) -> list[str]:
    return [each for each in engine.asked if each.startswith("inspect")]


def known(play: Play) -> dict[str, tuple[str, ...] | None]:
    return {key: each.networks[0].aliases for key, each in play.last.containers.items()}


def test_each_is_asked_for_once() -> None:
    engine = engine_of("a", "b")
    play = Play(engine, pace=CALM._replace(resync=0.05), inspects=everybody)
    play.run_until(lambda: engine.asked.count("list") >= 4)
    assert asked(engine) == ["inspect a", "inspect b"]
    assert known(play) == {"a": ("a-alias",), "b": ("b-alias",)}


def test_unless_wished_nobody_is_inspected() -> None:
    engine = engine_of("a")
    play = Play(engine)
    play.hear("start", "a")
    play.run_until_heard(1)
    assert not asked(engine)
    assert known(play) == {"a": None}


@pytest.mark.parametrize(
    ("action", "again"),
    [("start", 1), ("connect", 1), ("pause", 0), ("rename", 0), ("health_status", 0)],
)
def test_only_what_can_change_them_is_heeded(action: str, again: int) -> None:
    engine = engine_of("a")
    play = Play(engine, inspects=everybody)
    play.run_until(lambda: play.published)
    engine.inspected["a"] = inspected("a", "new")
    engine.asked.clear()
    play = Play(engine, play.last, inspects=everybody)
    play.hear(action, "a")
    play.run_until_heard(1)
    # A new session knows nothing for sure, and asks once by itself.
    assert len(asked(engine)) == 1 + again
    assert known(play) == {"a": ("new",)}


def test_a_refusal_costs_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    engine = engine_of("a", "b")
    engine.inspect_fault = EngineError("it answered 403 Forbidden")
    play = Play(engine, pace=CALM._replace(resync=0.05), inspects=everybody)
    with caplog.at_level(logging.WARNING):
        play.run_until(lambda: engine.asked.count("list") >= 3)
    assert play.last.alias_error == "it answered 403 Forbidden"
    assert known(play) == {"a": None, "b": None}
    # One is asked for at each list, and it is told once.
    assert len(asked(engine)) == engine.asked.count("list")
    assert len(caplog.records) == 1
    engine.inspect_fault = None
    play = Play(engine, play.last, inspects=everybody)
    play.run_until(lambda: not play.last.alias_error)
    assert known(play) == {"a": ("a-alias",), "b": ("b-alias",)}


def test_one_that_cannot_be_read_leaves_the_others() -> None:
    engine = engine_of("a", "b")
    engine.inspected["a"] = {"NetworkSettings": []}
    play = Play(engine, inspects=everybody)
    play.run_until(lambda: play.published)
    assert known(play) == {"a": None, "b": ("b-alias",)}
    assert play.last.alias_error.startswith("a cannot be read: ")


def test_one_that_can_no_longer_be_read_is_said_and_tried_again() -> None:
    """What was known of it before is no longer sure."""
    engine = engine_of("a")
    play = Play(engine, inspects=everybody)
    play.run_until(lambda: play.published)
    engine.inspected["a"] = {"NetworkSettings": []}
    play = Play(engine, play.last, pace=CALM._replace(resync=0.05), inspects=everybody)
    play.run_until(lambda: engine.asked.count("list") >= 3)
    assert play.last.alias_error.startswith("a cannot be read: ")
    assert len(asked(engine)) == engine.asked.count("list")


def test_one_that_is_always_refused_is_not_in_the_way_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = engine_of("a", "b", "c")
    inspect = FakeConnection.inspect

    def refuse(connection: FakeConnection, container_id: str) -> object:
        found = inspect(connection, container_id)
        if container_id == "a":
            raise EngineError("it answered 500 Internal Server Error")
        return found

    monkeypatch.setattr(FakeConnection, "inspect", refuse)
    play = Play(engine, pace=CALM._replace(resync=0.05), inspects=everybody)
    play.run_until(lambda: engine.asked.count("list") >= 2)
    assert asked(engine)[:4] == ["inspect a", "inspect b", "inspect c", "inspect a"]
    assert known(play) == {"a": None, "b": ("b-alias",), "c": ("c-alias",)}
    assert play.last.alias_error == "it answered 500 Internal Server Error"


def test_after_a_refusal_nobody_is_asked_for_until_the_next_list() -> None:
    engine = engine_of("a", "b")
    engine.inspect_fault = EngineError("it answered 403 Forbidden")
    play = Play(engine, inspects=everybody)
    play.hear("start", "a", "b")
    play.run_until(lambda: "look a b" in engine.asked and play.last.events)
    assert asked(engine) == ["inspect a"]


def test_one_that_has_just_gone_is_passed_over() -> None:
    engine = engine_of("a", "b")
    del engine.inspected["a"]
    play = Play(engine, inspects=everybody)
    play.run_until(lambda: play.published)
    assert (known(play), play.last.alias_error) == ({"a": None, "b": ("b-alias",)}, "")


@pytest.mark.parametrize(
    ("endpoint", "found"),
    [
        pytest.param({"Aliases": ["shop-web", "0123456789ab"]}, ("shop-web",), id="20.10"),
        pytest.param(
            {"Aliases": ["shop-web", "0123456789ab", "host-1"]}, ("shop-web",), id="20.10, Kamal"
        ),
        pytest.param(
            {
                "Aliases": ["shop-web"],
                "DNSNames": ["shop-web-v1", "shop-web", "0123456789ab", "host-1"],
            },
            ("shop-web",),
            id="from API 1.45 on",
        ),
        pytest.param(
            {"Aliases": ["host-1", "0123456789ab"]}, ("host-1",), id="an alias like the host name"
        ),
        pytest.param(
            {
                "Aliases": ["host-1"],
                "DNSNames": ["shop-web-v1", "host-1", "0123456789ab"],
            },
            ("host-1",),
            id="an alias like the host name, from API 1.45 on",
        ),
        pytest.param({"Aliases": ["0123456789ab", "host-1"]}, (), id="a host name alone"),
        pytest.param({"DNSNames": ["shop-web-v1", "shop-web"]}, ("shop-web",), id="DNSNames alone"),
        pytest.param({"Aliases": ["", "a"]}, ("a",), id="an empty one"),
        pytest.param({"Aliases": None}, (), id="none"),
        pytest.param({}, (), id="nothing said"),
        pytest.param(None, (), id="no endpoint"),
        pytest.param({"Aliases": ["b", "a", "a"]}, ("a", "b"), id="each once, in order"),
    ],
)
def test_which_names_are_aliases(endpoint: object, found: tuple[str, ...]) -> None:
    shown = {
        "Id": "0123456789ab" * 5 + "cdef",
        "Name": "/shop-web-v1",
        "Config": {"Hostname": "host-1"},
        "NetworkSettings": {"Networks": {"kamal": endpoint}},
    }
    assert aliases(shown) == {"kamal": found}


@pytest.mark.parametrize(
    "names", ["shop-web", {"a": 1}, 7, [7], ["\ud800"]], ids=["text", "map", "7", "[7]", "half"]
)
def test_names_that_are_none_are_refused(names: object) -> None:
    shown = {"NetworkSettings": {"Networks": {"kamal": {"Aliases": names}}}}
    with pytest.raises((TypeError, ValueError)):
        aliases(shown)


def test_aliases_outlive_lists_and_are_lost_with_their_network() -> None:
    engine = engine_of("a")
    play = Play(engine, inspects=everybody)
    play.run_until(lambda: play.published)
    (before,) = play.last.containers.values()
    fresh = Container("a", state=before.state, networks=(before.networks[0]._replace(ipv4="1"),))
    bare = fresh.networks[0]._replace(aliases=None)
    other = bare._replace(name="b")
    listed = [Container("a", state=before.state, networks=(bare, other))]
    after = ledger.listed(play.last, listed, 0.0)
    assert [each.aliases for each in after.containers["a"].networks] == [("a-alias",), None]
