"""Whom the state tells of a new decision, and what kamal-proxy's state changes in it."""

import threading
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from app.engine import ledger
from app.model import Reason, Snapshot
from app.state import State
from tests.builders import NOW, WEB, Clock, container, settings, snapshot, stopped

OLD = container("shop-web-v1", id="a" * 64, ip="172.18.0.5")
NEW = container("shop-web-v2", id="b" * 64, ago=5, ip="172.18.0.6")
TO_OLD, TO_NEW = ({"shop-web": frozenset({digit * 12})} for digit in "ab")


def state(clock: Clock, *snapshots: Snapshot, **given: Any) -> State:
    return State(snapshots, settings(**given), clock)


def current(of: State) -> str:
    """The name of the container that stands for shop's web."""
    return of.view.current()[WEB].container.name


# --- telling ---


def test_each_new_decision_is_told_and_nothing_else(clock: Clock) -> None:
    told: list[str] = []
    before = snapshot(OLD, NEW)
    kept = state(clock, before)
    with kept.telling(partial(told.append, "a")), kept.telling(partial(told.append, "b")):
        kept.publish(replace(before, listed_at=NOW + 60, events=5))
        assert told == []
        kept.publish(snapshot(NEW))
        assert told == ["a", "b"]
        kept.publish(ledger.lost(kept.view.snapshots[0], "gone", NOW))
        assert len(told) == 4
        kept.publish_active("", TO_NEW)
        assert len(told) == 6
        # A look at the view alone tells nobody.
        assert current(kept) == NEW.name
        assert len(told) == 6
    kept.publish(snapshot(OLD))
    assert len(told) == 6


def test_one_that_is_told_no_more_does_not_keep_the_others_from_it(clock: Clock) -> None:
    told: list[str] = []
    kept = state(clock, snapshot(OLD))
    with kept.telling(partial(told.append, "a")):
        with kept.telling(partial(told.append, "b")):
            pass
        kept.publish(snapshot(NEW))
    assert told == ["a"]


def test_one_that_asks_twice_is_told_twice(clock: Clock) -> None:
    told: list[str] = []
    kept = state(clock, snapshot(OLD))
    tell = partial(told.append, "a")
    with kept.telling(tell):
        with kept.telling(tell):
            kept.publish(snapshot(NEW))
        kept.publish(snapshot(OLD))
    assert told == ["a", "a", "a"]


def test_an_error_of_the_one_who_waits_ends_the_telling(clock: Clock) -> None:
    told: list[str] = []
    kept = state(clock, snapshot(OLD))
    with pytest.raises(KeyError), kept.telling(partial(told.append, "a")):
        raise KeyError
    kept.publish(snapshot(NEW))
    assert told == []


def test_what_time_alone_changes_is_told_when_somebody_looks(clock: Clock) -> None:
    told: list[str] = []
    kept = state(clock, snapshot(OLD, NEW))
    with kept.telling(partial(told.append, "a")):
        clock.now = kept.view.changes_at
        assert told == []
        assert current(kept) == NEW.name
        assert told == ["a"]
        assert current(kept) == NEW.name
        assert told == ["a"]


def test_whoever_is_told_finds_the_new_view(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD))
    waiting, seen = threading.Event(), []

    def wait() -> None:
        assert waiting.wait(20)
        seen.append(current(kept))

    thread = threading.Thread(target=wait)
    with kept.telling(waiting.set):
        thread.start()
        kept.publish(snapshot(NEW))
        thread.join()
    assert seen == [NEW.name]


# --- kamal-proxy's state ---


def test_the_traffic_decides_at_once(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, NEW))
    assert current(kept) == OLD.name
    kept.publish_active("", TO_NEW)
    assert current(kept) == NEW.name
    assert kept.view.snapshots[0].incumbents == {NEW.id}
    kept.publish_active("", TO_OLD)
    assert current(kept) == OLD.name


def test_it_may_be_known_before_the_containers_are(clock: Clock) -> None:
    kept = state(clock, Snapshot(""))
    kept.publish_active("", TO_NEW)
    assert not kept.view.ready
    kept.publish(snapshot(OLD, NEW))
    assert current(kept) == NEW.name


def test_a_watcher_does_not_make_it_forgotten(clock: Clock) -> None:
    # A watcher goes on from what it published before, which knows nothing of the traffic.
    kept = state(clock, Snapshot(""))
    known = kept.publish(snapshot(OLD, NEW))
    assert known.active == {}
    kept.publish_active("", TO_NEW)
    for after in (
        replace(known, listed_at=NOW + 60, events=7),
        ledger.lost(known, "Connection refused", NOW),
        ledger.listed(known, [OLD, NEW], NOW),
        ledger.looked(known, [replace(NEW, name="shop-web-v2b")], NOW),
    ):
        published = kept.publish(after)
        assert published.active == TO_NEW
        assert kept.view.current()[WEB].container.id == NEW.id


def test_it_holds_in_an_outage_and_is_followed_there(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, NEW))
    kept.publish_active("", TO_OLD)
    kept.publish(ledger.lost(kept.view.snapshots[0], "Connection refused", NOW))
    clock.now += 9999
    assert current(kept) == OLD.name
    kept.publish_active("", TO_NEW)
    assert current(kept) == NEW.name
    assert kept.view.snapshots[0].lost_at == NOW


def test_without_it_the_one_that_had_the_traffic_stays(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, NEW))
    kept.publish_active("", TO_NEW)
    kept.publish_active("", {})
    assert current(kept) == NEW.name


def test_where_it_has_died_the_ordinary_rule_goes_on(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, NEW))
    kept.publish_active("", TO_NEW)
    kept.publish(ledger.died(kept.view.snapshots[0], NEW.id, NOW))
    assert current(kept) == OLD.name
    kept.publish(ledger.died(kept.view.snapshots[0], OLD.id, NOW))
    assert kept.view.current()[WEB].reason is Reason.KEPT


def test_it_is_of_one_engine_alone(clock: Clock) -> None:
    engines = [{"url": "unix:///a", "host": "a"}, {"url": "tcp://b:1", "host": "b"}]
    shown = [snapshot(OLD, NEW, host=host) for host in "ab"]
    kept = state(clock, *shown, engines=engines)
    kept.publish_active("a", TO_NEW)
    standing = {slot.host: each.container.name for slot, each in kept.view.current().items()}
    assert standing == {"a": NEW.name, "b": OLD.name}


def test_a_switch_changes_no_series(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, NEW, stopped("shop-web-v0", 90)))
    seen = set()
    for active in (TO_OLD, TO_NEW, {}):
        kept.publish_active("", active)
        (target,) = [each.target for each in kept.view.decisions if each.target]
        plain = {name: text for name, text in target.labels.items() if name[:2] != "__"}
        seen.add(tuple(sorted(plain.items())))
    assert len(seen) == 1
