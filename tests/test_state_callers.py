"""What a caller of /targets may wish, and that wishes cost no more than they must."""

from dataclasses import replace
from typing import Any

import pytest

import app.view
from app.discovery.decide import Outcome, decide
from app.discovery.endpoint import Caller
from app.model import Reason, Snapshot
from app.state import State
from app.view import View
from tests import http_sd_reader
from tests.builders import NOW, container, labels, settings, snapshot

OLD = container("shop-web-v1", ip="172.18.0.5")
NEW = container("shop-web-v2", ago=5, ip="172.18.0.6")
BY_RELAY = {"defaults": {"address": "relay"}}


def view(*shown: Any, **given: Any) -> View:
    return State([snapshot(*shown)], settings(**given), lambda: NOW).view


def addresses(of: View, caller: Caller) -> set[str]:
    return {each.address for each in http_sd_reader.read(of.answer({}, caller).body)}


def at(number: int) -> str:
    return f"sd-{number}.example:9889"


# --- where it reached kamal-sd ---


def test_where_nothing_is_relayed_it_is_the_same_for_all() -> None:
    found = view(OLD, NEW, defaults={"address": "ip"})
    first = found.answer({}, Caller(authority="a:1"))
    assert found.answer({}, Caller(authority="b:1")) is first
    assert found.answer({}) is first
    assert found.decisions_for(Caller(authority="a:1")) is found.decisions


def test_where_something_is_relayed_each_finds_what_it_asked() -> None:
    found = view(OLD, **BY_RELAY)
    first, second = (found.answer({}, Caller(authority=f"{host}:1")) for host in "ab")
    assert first.etag != second.etag
    assert addresses(found, Caller(authority="a:1")) == {"a:1"}
    assert addresses(found, Caller()) == {"localhost:9889"}
    assert addresses(found, Caller("ip", authority="a:1")) == {"172.18.0.5:9394"}
    by_ip = found.answer({}, Caller("ip", authority="a:1"))
    assert found.answer({}, Caller("ip", authority="b:1")) is by_ip


def test_a_caller_that_wishes_the_relay_finds_it_where_it_asked() -> None:
    found = view(OLD)
    assert addresses(found, Caller("relay", authority="a:1")) == {"a:1"}
    assert addresses(found, Caller("relay", authority="b:1")) == {"b:1"}


@pytest.mark.parametrize(
    "bad",
    [
        replace(OLD, networks=()),
        replace(OLD, labels=labels(port="x")),
        replace(OLD, labels=labels() | {"prometheus.scrape": "false"}),
    ],
    ids=["no network", "no port", "opted out"],
)
def test_one_that_alone_is_relayed_is_found_there_too_although_it_is_a_candidate(bad: Any) -> None:
    # The deploy that mends the current one: what is new is all that has a target.
    found = view(bad, NEW, **BY_RELAY)
    assert [each.reason for each in found.decisions if each.target] == []
    assert addresses(found, Caller(generations="both", authority="a:1")) == {"a:1"}


def test_an_address_that_is_set_is_the_same_for_all() -> None:
    found = view(OLD, relay={"address": "kamal-sd:9889"}, **BY_RELAY)
    bodies = {found.answer({}, Caller(authority=f"{host}:1")).etag for host in "abc"}
    assert bodies == {found.answer({}).etag}
    assert addresses(found, Caller(authority="a:1")) == {"kamal-sd:9889"}


# --- which generations ---


def test_a_caller_can_have_both_generations() -> None:
    found = view(OLD, NEW)
    both = Caller(generations="both")
    assert addresses(found, both) == {"172.18.0.5:9394", "172.18.0.6:9394"}
    assert addresses(found, Caller()) == {"172.18.0.5:9394"}
    assert [each.reason for each in found.decisions_for(both)] == [
        *(Reason.CURRENT, Reason.CANDIDATE)
    ]
    # Whoever is current is no matter of wishes.
    assert len(found.current()) == 1


def test_a_view_that_shows_nothing_new_gives_a_caller_the_same_answer() -> None:
    before = snapshot(OLD, NEW)
    kept = State([before], settings(), lambda: NOW)
    caller = Caller("relay", "both", "a:1")
    first = kept.view.answer({}, caller)
    kept.publish(replace(before, listed_at=NOW + 60))
    assert kept.view.answer({}, caller) is first
    kept.publish(snapshot(NEW))
    assert kept.view.answer({}, caller) is not first


# --- the relay's own view ---


def test_it_serves_whatever_anybody_may_have_asked_for() -> None:
    found = view(OLD, NEW)
    behind = {path: each.upstream for path, each in found.routes.items()}
    assert {path: each.authority for path, each in behind.items() if each} == {
        "/scrape/-/shop/web/-/9394": "172.18.0.5:9394",
        "/scrape/-/shop/web/-/9394/next": "172.18.0.6:9394",
    }
    assert found.routes is found.routes


def test_every_path_that_a_caller_is_told_is_one_of_its() -> None:
    for given in ({}, BY_RELAY, {"defaults": {"generations": "both"}}):
        found = view(OLD, NEW, **given)
        for caller in (Caller("relay"), Caller("relay", "both"), Caller(authority="a:1")):
            told = {
                each.labels["__metrics_path__"]
                for each in http_sd_reader.read(found.answer({}, caller).body)
                if each.labels["__meta_kamal_address"] == "relay"
            }
            assert told <= set(found.routes)


def test_before_the_first_list_it_has_none() -> None:
    assert State([Snapshot("")], settings(), lambda: NOW).view.routes == {}


# --- what is remembered ---


def test_what_is_remembered_of_callers_is_bounded() -> None:
    found = view(OLD, NEW, **BY_RELAY)
    first = found.answer({}, Caller(authority=at(0))).body
    for number in range(200):
        caller = Caller(authority=at(number))
        assert addresses(found, caller) == {at(number)}
        found.answer({"role": frozenset({str(number)})}, caller)
    assert len(found._made.outcomes) <= 8
    assert len(found._made.answers) <= 64
    assert found.answer({}, Caller(authority=at(0))).body == first


def test_one_caller_with_many_filters_is_decided_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = view(OLD, NEW, **BY_RELAY)
    asked = []

    def counted(*given: Any) -> Outcome:
        asked.append(given)
        return decide(*given)

    monkeypatch.setattr(app.view, "decide", counted)
    for number in range(50):
        found.answer({"role": frozenset({str(number)})}, Caller(authority="a:1"))
    assert len(asked) == 1
