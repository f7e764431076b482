import gzip
import logging
import math
from dataclasses import replace
from typing import Any

import pytest

from app.discovery.endpoint import Caller
from app.discovery.http_sd import Filters
from app.engine import ledger
from app.model import Container, Health, Reason, Slot, Snapshot
from app.state import State
from app.view import View
from tests import http_sd_reader
from tests.builders import NOW, WEB, Clock, container, labels, settings, snapshot, stopped, targets

OLD = container("shop-web-v1", ip="172.18.0.5")
NEW = container("shop-web-v2", ago=5, ip="172.18.0.6")
TWO_ENGINES = [{"url": "unix:///a", "host": "a"}, {"url": "unix:///b", "host": "b"}]


def state(clock: Clock, *snapshots: Snapshot, **given: object) -> State:
    return State(snapshots, settings(**given), clock)


def current(of: State) -> str:
    """The name of the container that stands for shop's web."""
    return of.view.current()[WEB].container.name


# --- what is published ---


def test_a_view_has_all_that_was_decided(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, NEW))
    assert [each.host for each in kept.view.snapshots] == [""]
    assert [each.reason for each in kept.view.decisions] == [Reason.CURRENT, Reason.CANDIDATE]
    assert kept.view.changes_at == NOW + 85
    assert kept.now() == NOW


def test_it_is_not_ready_before_every_engine_was_listed_once(clock: Clock) -> None:
    first, second = snapshot(OLD, host="a"), snapshot(host="b", listed_at=None)
    kept = state(clock, first, second, engines=TWO_ENGINES)
    assert not kept.view.ready
    kept.publish(ledger.lost(second, "refused", NOW))
    assert not kept.view.ready
    kept.publish(ledger.listed(second, [], NOW))
    assert kept.view.ready
    kept.publish(ledger.lost(first, "gone", NOW))
    assert kept.view.ready


# --- one of several engines that was never reached ---

A, B = snapshot(OLD, host="a"), Snapshot("b")
OF_A, OF_B, OF_BOTH, OF_NONE = (
    {"host": frozenset(hosts)} for hosts in (["a"], ["b"], ["a", "b"], ["c"])
)


def two(clock: Clock, *snapshots: Snapshot, **given: object) -> State:
    return state(clock, *snapshots, engines=TWO_ENGINES, **given)


def test_it_is_waited_for_as_long_as_the_grace_lasts(clock: Clock) -> None:
    kept = two(clock, A, B)
    assert kept.view.changes_at == NOW + 30
    clock.now = NOW + 29.999
    assert (kept.view.ready, kept.view.awaited(), kept.view.unlisted) == (False, ["b"], ["b"])
    clock.now = NOW + 30
    assert (kept.view.ready, kept.view.awaited(), kept.view.unlisted) == (True, [], ["b"])
    assert kept.view.changes_at == math.inf
    # And it stays so, whatever is told of it meanwhile.
    kept.publish(ledger.lost(B, "Connection refused", NOW + 31))
    kept.publish(replace(A, events=5))
    assert kept.view.ready
    kept.publish(snapshot(OLD, host="b"))
    assert (kept.view.ready, kept.view.unlisted) == (True, [])
    assert len(targets(kept.view.decisions)) == 2


def test_the_grace_is_a_setting(clock: Clock) -> None:
    kept = two(clock, A, B, startup_grace="2m")
    clock.now = NOW + 119
    assert not kept.view.ready
    clock.now = NOW + 120
    assert kept.view.ready


def test_what_comes_in_the_grace_does_not_end_it(clock: Clock) -> None:
    kept = two(clock, Snapshot("a"), B)
    clock.now = NOW + 10
    kept.publish(snapshot(OLD, host="a"))
    kept.publish(replace(snapshot(OLD, host="a"), containers=kept.view.snapshots[0].containers))
    assert (kept.view.ready, kept.view.changes_at) == (False, NOW + 30)
    clock.now = NOW + 30
    assert kept.view.ready


def test_without_any_engine_there_is_no_answer_however_long_it_takes(clock: Clock) -> None:
    kept = two(clock, Snapshot("a"), B)
    clock.now = NOW + 86_400
    assert (kept.view.ready, kept.view.awaited()) == (False, ["a", "b"])
    assert kept.view.changes_at == math.inf
    kept.publish(ledger.listed(B, [], clock.now))
    assert kept.view.ready


def test_an_only_engine_is_waited_for_for_ever(clock: Clock) -> None:
    kept = state(clock, Snapshot(""))
    clock.now = NOW + 86_400
    for filters in ({}, OF_A, {"host": frozenset([""])}):
        assert kept.view.awaited(filters) == [""]
    kept.publish(snapshot(OLD))
    assert kept.view.ready


@pytest.mark.parametrize(
    ("filters", "early", "late", "unlisted"),
    [
        ({}, ["b"], [], ["b"]),
        (OF_A, [], [], []),
        (OF_B, ["b"], ["b"], ["b"]),
        (OF_BOTH, ["b"], [], ["b"]),
        # No engine has it: nothing is said before it is said of all.
        (OF_NONE, ["b"], [], ["b"]),
        ({"service": frozenset(["shop"])}, ["b"], [], ["b"]),
        ({"host": frozenset()}, ["b"], [], ["b"]),
    ],
)
def test_only_the_hosts_that_are_asked_for_are_waited_for(
    clock: Clock, filters: Filters, early: list[str], late: list[str], unlisted: list[str]
) -> None:
    kept = two(clock, A, B)
    assert kept.view.awaited(filters) == early
    assert kept.view.unlisted_of(filters) == unlisted
    clock.now = NOW + 30
    assert kept.view.awaited(filters) == late
    assert kept.view.unlisted_of(filters) == unlisted


def test_what_was_known_before_a_restart_is_not_waited_for(clock: Clock) -> None:
    known = replace(snapshot(OLD, host="b"), listed_at=NOW - 500, lost_at=NOW - 400)
    assert two(clock, A, known).view.ready


# --- what comes from an engine ---


def test_a_snapshot_replaces_that_of_its_engine_alone(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, host="a"), snapshot(OLD, host="b"), engines=TWO_ENGINES)
    kept.publish(snapshot(host="a"))
    assert targets(kept.view.decisions) == {"b/shop-web:9394": "172.18.0.5:9394"}
    assert [each.host for each in kept.view.snapshots] == ["a", "b"]


def test_a_snapshot_comes_back_with_what_is_to_be_remembered(clock: Clock) -> None:
    kept = state(clock, Snapshot(""))
    published = kept.publish(snapshot(OLD, NEW))
    assert published.incumbents == {OLD.id}
    assert published is kept.view.snapshots[0]


def test_the_memory_of_the_last_run_is_heeded(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, NEW, incumbents=frozenset({NEW.id})))
    assert current(kept) == NEW.name


# --- who sees a new view ---


def test_the_view_is_the_same_one_while_nothing_changes(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD))
    view = kept.view
    clock.now += 9999
    assert kept.view is view


def test_a_list_that_shows_nothing_new_keeps_decisions_and_answers(clock: Clock) -> None:
    before = snapshot(OLD, NEW)
    kept = state(clock, before)
    view, answer = kept.view, kept.view.answer({})
    clock.now += 60
    kept.publish(replace(before, listed_at=NOW + 60, events=9))
    assert kept.view is not view
    assert kept.view.decisions is view.decisions
    assert kept.view.changes_at == view.changes_at
    assert kept.view.answer({}) is answer
    (shown,) = kept.view.snapshots
    assert (shown.listed_at, shown.events) == (NOW + 60, 9)


@pytest.mark.parametrize("change", ["containers", "lost", "heard again"])
def test_what_changes_a_decision_makes_it_anew(clock: Clock, change: str) -> None:
    before = snapshot(OLD, NEW, lost_at=NOW if change == "heard again" else None)
    kept = state(clock, before)
    view = kept.view
    after = {
        "containers": snapshot(OLD),
        "lost": replace(before, lost_at=NOW),
        "heard again": replace(before, lost_at=None),
    }
    kept.publish(after[change])
    assert kept.view.decisions is not view.decisions


# --- time alone ---


def test_time_alone_makes_a_new_view_when_it_is_due(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, NEW))
    view = kept.view
    clock.now = view.changes_at - 0.001
    assert kept.view is view
    clock.now = view.changes_at
    assert current(kept) == NEW.name
    renewed = kept.view
    clock.now += 9999
    assert kept.view is renewed


def test_what_is_kept_ends_by_time_alone(clock: Clock) -> None:
    kept = state(clock, snapshot(stopped("shop-web-v1", 5)), keep_missing=60)
    assert http_sd_reader.read(kept.view.answer({}).body)
    clock.now += 55
    assert not http_sd_reader.read(kept.view.answer({}).body)


def test_in_an_outage_time_alone_changes_nothing(clock: Clock) -> None:
    kept = state(clock, snapshot(OLD, NEW, stopped("x-web-v1", 5, labels=labels("x")), lost_at=NOW))
    view = kept.view
    clock.now += 99_999
    assert kept.view is view


@pytest.mark.parametrize("is_seen", [True, False], ids=["seen", "unseen"])
def test_what_time_made_current_stays_so_when_it_gets_unhealthy(
    clock: Clock, is_seen: bool
) -> None:
    # The watcher has not been told of the new incumbent: it publishes from what it had before.
    kept = state(clock, Snapshot(""))
    published = kept.publish(snapshot(OLD, NEW))
    clock.now += 90
    if is_seen:
        assert current(kept) == NEW.name
    unhealthy = replace(NEW, health=Health.UNHEALTHY)
    kept.publish(ledger.looked(published, [unhealthy], clock.now))
    # Who asked before saw the new one, and never sees it go back (promise 2).
    assert current(kept) == (NEW.name if is_seen else OLD.name)


def test_nor_does_a_list_that_shows_nothing_new_make_it_forget(clock: Clock) -> None:
    kept = state(clock, Snapshot(""))
    published = kept.publish(snapshot(OLD, NEW))
    clock.now += 90
    assert current(kept) == NEW.name
    published = kept.publish(ledger.listed(published, [OLD, NEW], clock.now))
    assert published.incumbents == {NEW.id}
    unhealthy = replace(NEW, health=Health.UNHEALTHY)
    kept.publish(ledger.looked(published, [unhealthy], clock.now))
    assert current(kept) == NEW.name


def test_one_that_died_is_remembered_no_more_when_it_starts_again(clock: Clock) -> None:
    kept = state(clock, Snapshot(""))
    published = kept.publish(snapshot(OLD, NEW))
    published = kept.publish(ledger.died(published, OLD.id, NOW))
    assert current(kept) == NEW.name
    again = replace(OLD, since=NOW + 1)
    clock.now += 1
    kept.publish(ledger.looked(published, [again], clock.now, {OLD.id}))
    assert current(kept) == NEW.name


# --- answers ---


def test_an_answer_is_made_once_for_the_same_filters(clock: Clock) -> None:
    view = state(clock, snapshot(OLD, NEW)).view
    web, job = frozenset({"web"}), frozenset({"job"})
    first = view.answer({"role": web, "service": frozenset({"shop"})})
    assert view.answer({"service": frozenset({"shop"}), "role": web}) is first
    assert view.answer({"role": job}) is not first
    assert http_sd_reader.read(view.answer({"role": job}).body) == []
    assert view.answer({}, Caller("ip")) is not view.answer({})


def test_an_answer_can_have_another_kind_of_address(clock: Clock) -> None:
    view = state(clock, snapshot(OLD, NEW), defaults={"alias": "{slot}"}).view
    assert [each.address for each in addresses(view)] == ["shop-web:9394"]
    assert [each.address for each in addresses(view, "ip")] == ["172.18.0.5:9394"]
    assert [each.address for each in addresses(view)] == ["shop-web:9394"]


def addresses(view: View, kind: Any = None) -> list[http_sd_reader.Target]:
    return http_sd_reader.read(view.answer({}, Caller(kind)).body)


def test_what_is_remembered_of_answers_is_bounded(clock: Clock) -> None:
    view = state(clock, snapshot(OLD)).view
    body = view.answer({}).body
    for number in range(1000):
        view.answer({"service": frozenset({str(number)})})
    assert len(view._made.answers) <= 64
    assert view.answer({}).body == body


def test_an_answer_has_its_validator_and_its_compressed_form(clock: Clock) -> None:
    answer, same = (state(clock, snapshot(OLD)).view.answer({}) for _ in range(2))
    assert answer.etag == same.etag != state(clock, snapshot(NEW)).view.answer({}).etag
    assert gzip.decompress(answer.gzipped) == answer.body
    # Without the time in its header: the same body has the same bytes, whenever it is asked for.
    assert answer.gzipped == same.gzipped
    assert answer.gzipped[4:8] == bytes(4)
    assert answer.gzipped is answer.gzipped


# --- what is current, and said in the log ---


def test_current_is_who_stands_for_each_slot(clock: Clock) -> None:
    job = stopped("shop-job-v1", 5, labels=labels(role="job"))
    blog = container("blog-web-v1", labels=labels("blog", port="1,2"))
    view = state(clock, snapshot(OLD, NEW, job, blog, container("x", labels={}))).view
    standing = {slot: (each.container.name, each.reason) for slot, each in view.current().items()}
    assert standing == {
        WEB: ("shop-web-v1", Reason.CURRENT),
        Slot("", "shop", "job"): ("shop-job-v1", Reason.KEPT),
        Slot("", "blog", "web"): ("blog-web-v1", Reason.CURRENT),
    }


def dead(*shown: Container) -> Snapshot:
    return ledger.died(snapshot(*shown), OLD.id, NOW)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (snapshot(), snapshot(OLD), ["shop-web: shop-web-v1 is current"]),
        (
            snapshot(OLD),
            dead(OLD),
            ["shop-web: shop-web-v1 stopped and nothing took its place"],
        ),
        (
            snapshot(OLD, NEW),
            dead(OLD, NEW),
            ["shop-web: shop-web-v2 took over from shop-web-v1 after both ran for 5 s"],
        ),
        (
            snapshot(OLD),
            snapshot(),
            ["shop-web: shop-web-v1 was removed, or is no longer kept"],
        ),
        (
            snapshot(OLD),
            snapshot(OLD, NEW),
            ["shop-web: shop-web-v2 started; shop-web-v1 stays current until it stops"],
        ),
        (snapshot(OLD), snapshot(replace(OLD, name="renamed")), []),
    ],
)
def test_what_happens_to_a_slot_is_logged_in_one_line(
    clock: Clock,
    before: Snapshot,
    after: Snapshot,
    said: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    kept = state(clock, before)
    caplog.clear()
    kept.publish(after)
    assert caplog.messages == said
