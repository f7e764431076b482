"""`generations: both`: the candidate is a target beside the current one, in a lane of its own."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from app.discovery import http_sd, relay
from app.discovery.decide import decide
from app.discovery.endpoint import Caller
from app.discovery.explain import explain
from app.model import Container, Decision, Health, Kind, Reason, Slot, State, Upstream
from tests import http_sd_reader
from tests.builders import NOW, WEB, container, decisions, labels, settings, snapshot, stopped
from tests.builders import targets as targets_of

OLD = container("shop-web-v1", ip="172.18.0.5")
NEW = container("shop-web-v2", ago=5, ip="172.18.0.6")
NEWEST = container("shop-web-v3", ago=2, ip="172.18.0.7")
BOTH: Mapping[str, Any] = {"defaults": {"generations": "both"}}
PLAIN = {"instance": "shop-web.next:9394", "service": "shop", "role": "web", "generation": "next"}


def targets(*shown: Container, **given: Any) -> dict[str, str]:
    return targets_of(decisions(*shown, **{**BOTH, **given}))


def lanes(*shown: Container, **given: Any) -> list[Decision]:
    found = decisions(*shown, **{**BOTH, **given})
    return [each for each in found if each.reason is Reason.CANDIDATE and each.target]


def series(of: Decision) -> dict[str, str]:
    assert of.target
    return {name: value for name, value in of.target.labels.items() if name[:2] != "__"}


def fragments(found: tuple[Decision, ...]) -> list[bytes]:
    return [each.json for each in http_sd.fragments(found)]


# --- the lane ---


def test_the_candidate_is_a_target_beside_the_current_one() -> None:
    assert targets(OLD, NEW) == {
        "shop-web:9394": "172.18.0.5:9394",
        "shop-web.next:9394": "172.18.0.6:9394",
    }
    (lane,) = lanes(OLD, NEW)
    assert series(lane) == PLAIN
    assert lane.target
    assert lane.target.labels["__meta_kamal_version"] == "v2"
    assert lane.target.labels["__meta_kamal_slot"] == "shop-web"
    assert lane.target.labels["__meta_docker_container_id"] == NEW.id
    assert lane.detail.startswith("it is newer than shop-web-v1, which stays current until")


def test_without_it_there_is_none() -> None:
    for defaults in ({}, {"generations": "current"}):
        found = decisions(OLD, NEW, defaults=defaults)
        assert targets_of(found) == {"shop-web:9394": "172.18.0.5:9394"}


def test_it_is_a_list_that_prometheus_takes() -> None:
    shown = [OLD, NEW, container("shop-job-v1", labels=labels(role="job"))]
    found = decisions(*shown, **BOTH)
    body = http_sd.body(http_sd.fragments(found), {})
    assert len(http_sd_reader.read(body)) == 3
    asked = {"service": frozenset({"shop"}), "role": frozenset({"web"})}
    assert len(http_sd_reader.read(http_sd.body(http_sd.fragments(found), asked))) == 2


@pytest.mark.parametrize("ip", ["172.18.0.6", "172.18.0.5", "10.0.0.9"])
@pytest.mark.parametrize("version", ["v1", "v2", "v2_replaced_0123456789abcdef"])
def test_the_lane_is_the_same_at_every_deploy(ip: str, version: str) -> None:
    new = container(f"shop-web-{version}", id="f" * 64, ago=1, ip=ip, image="other:1")
    (lane,) = lanes(OLD, new)
    assert series(lane) == PLAIN


@pytest.mark.parametrize("given", [{}, {"defaults": {"address": "relay"}}])
def test_nothing_of_the_current_ones_target_changes(given: dict[str, Any]) -> None:
    (alone,) = fragments(decisions(OLD, **given))
    beside = {**given, "defaults": {**given.get("defaults", {}), "generations": "both"}}
    assert fragments(decisions(OLD, **beside)) == [alone]
    for shown in ([OLD, NEW], [NEW, OLD], [OLD, NEW, NEWEST], [OLD, container("a", ago=1)]):
        first, second = fragments(decisions(*shown, **beside))
        assert alone in (first, second)
        assert first != second


def test_an_explanation_has_both() -> None:
    document = explain([snapshot(OLD, NEW)], decisions(OLD, NEW, **BOTH), NOW)
    shown = {each["instance"]: each["reason"] for each in document["decisions"]}
    assert shown == {"shop-web:9394": "current", "shop-web.next:9394": "candidate"}


# --- who is in it, and until when ---


@pytest.mark.parametrize(
    ("shown", "watched"),
    [
        pytest.param([OLD], None, id="nobody is newer"),
        pytest.param([OLD, NEW, NEWEST], NEWEST, id="of several the newest"),
        pytest.param([OLD, NEW, stopped("shop-web-v3", 2)], NEW, id="of those that run"),
        pytest.param([OLD, container("x", ago=1, ip="", state=State.CREATED)], None, id="created"),
        pytest.param([OLD, stopped("x", 1, state=State.RESTARTING)], None, id="between two tries"),
        pytest.param([stopped("shop-web-v1", 1), NEW], None, id="it took over: the old one ended"),
        pytest.param([OLD, replace(NEW, since=NOW - 90)], None, id="it took over: the limit"),
        pytest.param(
            [OLD, replace(NEW, since=NOW - 90), NEWEST], NEWEST, id="and the next one waits"
        ),
        pytest.param(
            [replace(OLD, health=Health.UNHEALTHY), replace(NEW, health=Health.HEALTHY)],
            None,
            id="it took over: it is the healthy one",
        ),
        pytest.param(
            [OLD, replace(NEW, since=NOW - 900, health=Health.UNHEALTHY)],
            replace(NEW, since=NOW - 900, health=Health.UNHEALTHY),
            id="never healthy: as long as it runs",
        ),
        pytest.param([stopped("shop-web-v1", 1), stopped("x", 2)], None, id="none runs"),
    ],
)
def test_who_is_watched(shown: list[Container], watched: Container | None) -> None:
    for order in (shown, shown[::-1]):
        assert [each.container for each in lanes(*order)] == ([watched] if watched else [])


def test_a_lane_ends_without_a_trace() -> None:
    # No address that reaches nobody: a candidate that failed was never the role.
    assert targets(OLD, stopped("shop-web-v2", 1)) == targets(OLD)
    assert targets(OLD) == {"shop-web:9394": "172.18.0.5:9394"}


def test_whom_kamal_proxy_did_not_choose_is_watched_too() -> None:
    old, new = replace(OLD, id="a" * 64), replace(NEW, id="b" * 64)
    known = snapshot(old, new, active={"shop-web": frozenset({"a" * 12})})
    found = decide([known], settings(**BOTH), NOW).decisions
    assert targets_of(found)["shop-web.next:9394"] == "172.18.0.6:9394"


def test_two_slots_have_two_lanes() -> None:
    job = [
        container(f"shop-job-v{number}", ago=ago, labels=labels(role="job"))
        for number, ago in ((1, 1000), (2, 5))
    ]
    assert set(targets(OLD, NEW, *job)) == {
        *("shop-web:9394", "shop-web.next:9394", "shop-job:9394", "shop-job.next:9394")
    }


def test_a_role_can_have_it_alone() -> None:
    job = container("shop-job-v2", ago=5, labels=labels(role="job"))
    older = container("shop-job-v1", labels=labels(role="job"))
    given = {"defaults": {}, "roles": [{"role": "job", "generations": "both"}]}
    assert set(targets(OLD, NEW, older, job, **given)) == {
        *("shop-web:9394", "shop-job:9394", "shop-job.next:9394")
    }
    given = {"roles": [{"role": "job", "generations": "current"}]}
    assert "shop-job.next:9394" not in targets(OLD, NEW, older, job, **given)


@pytest.mark.parametrize(("asked", "count"), [("both", 2), ("current", 1), (None, 2)])
def test_a_caller_can_have_it_for_itself(asked: Any, count: int) -> None:
    caller = Caller(generations=asked)
    found = decide([snapshot(OLD, NEW)], settings(**BOTH), NOW, caller).decisions
    assert len(targets_of(found)) == count
    found = decide([snapshot(OLD, NEW)], settings(), NOW, caller).decisions
    assert len(targets_of(found)) == (2 if asked == "both" else 1)


# --- its ports, instances and labels ---


def test_each_of_its_ports_has_a_lane() -> None:
    ports = labels(port="9394,puma=9395")
    assert targets(replace(OLD, labels=ports), replace(NEW, labels=ports)) == {
        "shop-web:9394": "172.18.0.5:9394",
        "shop-web:9395": "172.18.0.5:9395",
        "shop-web.next:9394": "172.18.0.6:9394",
        "shop-web.next:9395": "172.18.0.6:9395",
    }


def test_a_port_that_the_new_version_adds_is_in_its_lane_alone() -> None:
    new = replace(NEW, labels=labels(port="9394,9400"))
    assert set(targets(OLD, new)) == {
        *("shop-web:9394", "shop-web.next:9394", "shop-web.next:9400")
    }


@pytest.mark.parametrize(
    ("instance", "both"),
    [
        ("{slot}", {"shop-web", "shop-web.next"}),
        ("{slot}/{port_name}:{port}", {"shop-web/:9394", "shop-web.next/:9394"}),
        ("{service}|{role}|{destination}", {"shop|web|"}),
        ("{service}:{port}", {"shop:9394"}),
    ],
)
def test_whatever_the_instance_is_its_series_is_its_own(instance: str, both: set[str]) -> None:
    found = decisions(OLD, NEW, defaults={"generations": "both", "instance": instance})
    assert [each.reason for each in found] == [Reason.CURRENT, Reason.CANDIDATE]
    assert {series(each)["instance"] for each in found} == both
    assert [series(each).get("generation") for each in found] == [None, "next"]
    assert len(http_sd_reader.read(http_sd.body(http_sd.fragments(found), {}))) == 2


def test_its_instance_has_the_host_where_there_are_several() -> None:
    engines = [{"url": "unix:///a", "host": "a"}, {"url": "unix:///b", "host": "b"}]
    found = decisions(OLD, NEW, host="b", engines=engines, **BOTH)
    assert set(targets_of(found)) == {"b/shop-web:9394", "b/shop-web.next:9394"}


def test_static_labels_are_in_the_lane_too() -> None:
    given = {"defaults": {"generations": "both", "labels": {"team": "a", "__param_x": "1"}}}
    (lane,) = lanes(OLD, NEW, **given)
    assert series(lane) == PLAIN | {"team": "a"}


# --- how it is reached ---


def test_an_alias_cannot_tell_the_two_apart() -> None:
    given = {"generations": "both", "address": "alias", "alias": "{slot}"}
    current, candidate = decisions(OLD, NEW, defaults=given)
    assert current.target
    assert current.target.targets == ("shop-web:9394",)
    assert candidate.target is None
    assert candidate.reason is Reason.NO_ADDRESS
    assert "an alias cannot tell it from the current one" in candidate.detail
    assert "set address to relay or ip" in candidate.detail


def test_auto_takes_the_ip_where_the_current_one_has_the_alias() -> None:
    given = {"defaults": {"generations": "both", "alias": "{slot}"}}
    assert targets(OLD, NEW, **given) == {
        "shop-web:9394": "shop-web:9394",
        "shop-web.next:9394": "172.18.0.6:9394",
    }
    (lane,) = lanes(OLD, NEW, **given)
    assert lane.target
    assert lane.target.labels["__meta_kamal_address"] == "ip"


def test_the_relay_has_a_path_for_it() -> None:
    (lane,) = lanes(OLD, NEW, defaults={"generations": "both", "address": "relay"})
    assert lane.target
    assert lane.target.labels["__metrics_path__"] == relay.path_of(WEB, 9394, relay.NEXT)
    assert lane.upstream == Upstream("172.18.0.6:9394", "http", "/metrics")


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (replace(NEW, networks=()), Reason.NO_ADDRESS),
        (replace(NEW, labels=labels(port="x")), Reason.BAD_ENDPOINT),
        (replace(NEW, labels=labels(port="")), Reason.NO_PORT),
        (replace(NEW, labels=labels() | {"prometheus.scrape": "false"}), Reason.OPTED_OUT),
    ],
)
def test_a_bad_candidate_costs_its_lane_alone(new: Container, reason: Reason) -> None:
    found = decisions(OLD, new, **BOTH)
    assert targets_of(found) == targets(OLD)
    assert {each.reason for each in found} == {Reason.CURRENT, reason}


def test_an_accessory_has_a_slot_and_no_candidate() -> None:
    shown = container("db", labels={"service": "db", "prometheus.port": "9187"})
    (found,) = decisions(shown, accessories=True, **BOTH)
    assert (found.kind, found.slot) == (Kind.ACCESSORY, Slot("", "db"))
    assert targets_of([found]) == {"db:9187": "172.18.0.5:9187"}
