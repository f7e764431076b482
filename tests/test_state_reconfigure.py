"""Other settings for a state that serves: what they change at once, and what they leave alone."""

from dataclasses import replace
from typing import Any

import pytest

from app.discovery import peer
from app.engine import ledger
from app.model import Peer, Snapshot
from app.state import State
from tests.builders import NOW, WEB, Clock, container, labels, settings, snapshot, targets

OLD = container("shop-web-v1", id="a" * 64, ip="172.18.0.5")
NEW = container("shop-web-v2", id="b" * 64, ago=5, ip="172.18.0.6")
A, B = {"url": "unix:///a", "host": "a"}, {"url": "unix:///b", "host": "b"}
PEER, OTHER_PEER = "http://192.0.2.10:9889", "http://192.0.2.11:9889"


def state(clock: Clock, *snapshots: Snapshot, **given: Any) -> State:
    return State(snapshots, settings(**given), clock)


def hosts(of: State) -> list[str]:
    return [each.host for each in of.view.snapshots]


def of_peer(url: str, host: str) -> Snapshot:
    return Snapshot(host, listed_at=NOW, peer=Peer(url))


def test_they_decide_at_once_and_who_waits_is_told(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD))
    before, told = kept.view.answer({}), list[str]()
    with kept.telling(lambda: told.append("told")):
        kept.reconfigure(settings(roles=[{"role": "web", "port": 9400}]))
    assert told == ["told"]
    assert targets(kept.view.decisions) == {"shop-web:9400": "172.18.0.5:9400"}
    assert kept.view.answer({}) is not before
    assert kept.settings.roles


def test_the_same_ones_change_no_byte(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, NEW))
    before = kept.view
    kept.reconfigure(settings())
    assert kept.view is not before
    assert kept.view.answer({}).body == before.answer({}).body
    assert kept.view.snapshots[0].containers is before.snapshots[0].containers


def test_they_give_no_slot_another_incumbent(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, NEW, incumbents=frozenset({NEW.id})))
    kept.reconfigure(settings(overlap_limit=9999, roles=[{"port": 9400}]))
    assert kept.view.current()[WEB].container is NEW
    assert kept.view.snapshots[0].incumbents == {NEW.id}


def test_they_leave_what_kamal_proxy_said(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, NEW))
    kept.publish_active("", {"shop-web": frozenset({"b" * 12})})
    kept.reconfigure(settings(keep_missing=1))
    assert kept.view.current()[WEB].container is NEW


def test_an_engine_comes_with_what_is_known_of_it_and_goes_with_it(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, host="b"), engines=[B])
    kept.reconfigure(settings(engines=[A, B]), [Snapshot("a")])
    assert hosts(kept) == ["a", "b"]
    assert set(targets(kept.view.decisions)) == {"b/shop-web:9394"}
    kept.publish(ledger.listed(Snapshot("a"), [NEW], NOW))
    assert set(targets(kept.view.decisions)) == {"a/shop-web:9394", "b/shop-web:9394"}
    kept.reconfigure(settings(engines=[A]))
    assert hosts(kept) == ["a"]
    assert set(targets(kept.view.decisions)) == {"shop-web:9394"}


C = {"url": "unix:///c", "host": "c"}


def test_an_engine_that_is_added_is_not_waited_for(clock: Clock) -> None:
    """It may be away for long, and nothing that was served is missed meanwhile."""
    kept = state(clock, snapshot(OLD, host="a"), engines=[A])
    kept.reconfigure(settings(engines=[A, B]), [Snapshot("b")])
    assert kept.view.ready
    assert kept.view.unlisted == ["b"]
    kept.publish(ledger.lost(Snapshot("b"), "away", NOW))
    kept.reconfigure(settings(engines=[A, B, C], peers=[PEER]), [Snapshot("c")], unheard(PEER))
    assert kept.view.ready
    kept.reconfigure(settings(engines=[A, C]))
    assert kept.view.ready
    # Of one that was served since, the targets would be missed.
    kept.publish(snapshot(NEW, host="c"))
    kept.reconfigure(settings(engines=[A, {**C, "url": "unix:///d"}]), [Snapshot("c")])
    assert not kept.view.ready


def test_what_may_be_one_that_is_gone_is_waited_for(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, host="a"), snapshot(NEW, host="b"), engines=[A, B])
    kept.reconfigure(settings(engines=[A, {**B, "host": "renamed"}]), [Snapshot("renamed")])
    assert not kept.view.ready
    kept.publish(snapshot(NEW, host="renamed"))
    assert kept.view.ready
    kept.reconfigure(settings(engines=[A], peers=[PEER]), peers=unheard(PEER))
    assert not kept.view.ready


def test_one_in_the_place_of_another_that_was_listed_is_waited_for(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, host="a"), snapshot(NEW, host="b"), engines=[A, B])
    clock.now += 3600
    kept.reconfigure(settings(engines=[A, {**B, "url": "unix:///other"}]), [Snapshot("b")])
    assert kept.view.awaited() == ["b"]
    clock.now += 30
    assert (kept.view.ready, kept.view.unlisted) == (True, ["b"])


def test_before_any_engine_was_listed_nothing_is_served(clock: Clock) -> None:
    kept = state(clock, Snapshot("a"), engines=[A])
    kept.reconfigure(settings(engines=[A, B]), [Snapshot("b")])
    assert not kept.view.ready
    kept.publish(snapshot(host="b"))
    # The first one is waited for as it was.
    assert not kept.view.ready
    kept.publish(snapshot(host="a"))
    assert kept.view.ready
    kept.reconfigure(settings(engines=[A, B, C]), [Snapshot("c")])
    kept.reconfigure(settings(engines=[C]))
    assert not kept.view.ready


def unheard(url: str) -> dict[str, tuple[Snapshot, ...]]:
    return {url: (peer.unheard(url),)}


def test_another_engine_of_the_same_host_does_not_take_its_containers(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, host="a"), engines=[A])
    active = {"shop-web": frozenset({"b" * 12})}
    kept.publish_active("a", active)
    kept.reconfigure(settings(engines=[{**A, "url": "unix:///other"}]), [Snapshot("a")])
    assert not kept.view.ready
    assert kept.view.decisions == ()
    # The file that says so is the same one, and is not told again.
    assert kept.known_of("a").active == active


def test_a_label_that_is_on_the_list_no_more_is_gone_at_once(clock: Clock) -> None:
    named = replace(OLD, labels={**labels(), "com.example.team": "x", "com.example.secret": "y"})
    kept = state(clock, snapshot(named), container_labels=["com.example.*"])
    assert b"secret" in kept.view.answer({}).body
    kept.reconfigure(settings(container_labels=["com.example.team"]))
    assert b"secret" not in kept.view.answer({}).body
    assert b"label_com_example_team" in kept.view.answer({}).body
    assert targets(kept.view.decisions) == {"shop-web:9394": "172.18.0.5:9394"}


# --- peers ---


def with_peers(*urls: str, **given: Any) -> dict[str, Any]:
    return {"engines": [A], "peers": list(urls), **given}


def test_a_peer_comes_and_goes_with_its_hosts(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, host="a"), **with_peers())
    kept.reconfigure(settings(**with_peers(PEER)), peers=unheard(PEER))
    assert hosts(kept) == ["a", "192.0.2.10:9889"]
    kept.publish_peer(PEER, (of_peer(PEER, "far"),))
    other = {OTHER_PEER: (of_peer(OTHER_PEER, "farther"),)}
    kept.reconfigure(settings(**with_peers(OTHER_PEER, PEER)), peers=other)
    assert hosts(kept) == ["a", "farther", "far"]
    assert kept.known_of_peer(PEER) == (of_peer(PEER, "far"),)
    kept.reconfigure(settings(**with_peers(OTHER_PEER)))
    assert hosts(kept) == ["a", "farther"]


def test_an_engine_of_ones_own_comes_before_what_a_peer_says_of_its_host(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, host="a"), **with_peers(PEER))
    kept.publish_peer(PEER, (of_peer(PEER, "b"), of_peer(PEER, "c")))
    kept.reconfigure(settings(**with_peers(PEER, engines=[A, B])), [snapshot(host="b")])
    assert hosts(kept) == ["a", "b", "192.0.2.10:9889"]
    with pytest.raises(ValueError, match="its host b is known from elsewhere"):
        kept.publish_peer(PEER, (of_peer(PEER, "b"),))
    kept.reconfigure(settings(**with_peers(PEER)))
    kept.publish_peer(PEER, (of_peer(PEER, "b"),))
    assert hosts(kept) == ["a", "b"]


def test_what_a_peer_said_in_the_last_run_of_an_engine_that_is_ones_own_now_is_not_believed(
    clock: Clock,
) -> None:
    peers = {PEER: (of_peer(PEER, "a"),)}
    kept = State([snapshot(OLD, host="a")], settings(**with_peers(PEER)), clock, peers)
    assert hosts(kept) == ["a", "192.0.2.10:9889"]


# --- what is told of it ---


def test_since_when_they_hold_and_what_was_refused(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD))
    assert (kept.settings_at, kept.refusal) == (NOW, "")
    clock.now += 5
    kept.refuse("config.yml: line 1: no")
    assert (kept.settings_at, kept.refusal) == (NOW, "config.yml: line 1: no")
    clock.now += 5
    kept.reconfigure(settings())
    assert (kept.settings_at, kept.refusal) == (NOW + 10, "")
