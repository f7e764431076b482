from typing import Any

import pytest

from app.discovery.decide import decide
from app.discovery.endpoint import Caller
from app.discovery.incumbent import NEVER
from app.model import Container, Health, Network, Reason, Slot, State
from tests.builders import (
    NOW,
    URL,
    WEB,
    container,
    decision,
    decisions,
    identity,
    labels,
    settings,
    snapshot,
    stopped,
    targets,
)

OLD = container("shop-web-v1", ip="172.18.0.5")
NEW = container("shop-web-v2", ago=5, ip="172.18.0.6")
TWO_HOSTS = [{"url": "unix:///a", "host": "a"}, {"url": "unix:///b", "host": "b"}]


def created(name: str) -> Container:
    return container(name, ago=1, ip="", state=State.CREATED)


# Every reason: the containers, the name of the one it is about, settings, and words of its detail.
REASONS: list[tuple[Reason, list[Container], str, dict[str, Any], str]] = [
    (Reason.CURRENT, [OLD, NEW], OLD.name, {}, "it is the current one of its slot"),
    (
        Reason.CANDIDATE,
        [OLD, NEW],
        NEW.name,
        {"overlap_limit": 30},
        "which stays current until it stops, or until this one has run for 30 s",
    ),
    (
        Reason.SUPERSEDED,
        [OLD, NEW],
        OLD.name,
        {"overlap_limit": 4},
        "it still runs, and shop-web-v2 has taken over",
    ),
    (
        Reason.STOPPED,
        [stopped("shop-web-v1", 5), NEW],
        OLD.name,
        {},
        "it has stopped; shop-web-v2 stands for its slot",
    ),
    (
        Reason.STOPPED,
        [stopped("shop-web-v1", 50), stopped("shop-web-v2", 5)],
        OLD.name,
        {},
        "it has stopped; shop-web-v2 stands for its slot",
    ),
    (
        Reason.KEPT,
        [stopped("shop-web-v1", 5)],
        OLD.name,
        {},
        "it has stopped and nothing took its place; its target is kept, and is down",
    ),
    (
        Reason.EXPIRED,
        [stopped("shop-web-v1", 3600)],
        OLD.name,
        {},
        "it has stopped, and is not kept for over 3600 s",
    ),
    (
        Reason.NOT_STARTED,
        [created("shop-web-v1")],
        OLD.name,
        {},
        "it was created and has not started",
    ),
    (
        Reason.NOT_STARTED,
        [OLD, created("shop-web-v2")],
        NEW.name,
        {},
        "it was created and has not started",
    ),
    (Reason.FOREIGN, [container("x", labels={})], "x", {}, "Kamal did not start it"),
    (Reason.ONE_OFF, [container("x", labels={"service": "shop"})], "x", {}, "a one-off"),
    (Reason.NOT_ENABLED, [container("db", labels={"service": "db"})], "db", {}, "accessories:"),
    (
        Reason.OPTED_OUT,
        [container(labels=labels() | {"prometheus.scrape": "false"})],
        OLD.name,
        {},
        "its labels or the settings say that it is not scraped",
    ),
    (Reason.NO_PORT, [container(labels=labels(port=""))], OLD.name, {}, "add the label"),
    (Reason.BAD_LABEL, [container(labels=labels("a\nb"))], OLD.name, {}, "cannot be printed"),
    (Reason.BAD_ENDPOINT, [container(labels=labels(port="70000"))], OLD.name, {}, "is no port"),
    (Reason.NO_ADDRESS, [container(networks=())], OLD.name, {}, "not on the network kamal"),
    (
        Reason.ALIAS_CONFLICT,
        [
            container(networks=(Network("kamal", "172.18.0.5", aliases=("shop",)),)),
            container(
                "exporter", labels={}, networks=(Network("kamal", "172.18.0.6", aliases=("shop",)),)
            ),
        ],
        OLD.name,
        {"aliases": {"verify": True}, "defaults": {"address": "alias", "alias": "shop"}},
        "the alias shop is answered by exporter (foreign), too",
    ),
    (
        Reason.DUPLICATE,
        [container(labels=labels(port="9394,9395"))],
        OLD.name,
        {"defaults": {"instance": "{slot}"}},
        "its labels are those of a target of shop-web-v1 already",
    ),
    (
        Reason.UNREADABLE,
        [container(fault="KeyError: 'x'")],
        OLD.name,
        {},
        "the engine's entry cannot be read: KeyError: 'x'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "shown", "name", "given", "words"), REASONS, ids=[each[0] for each in REASONS]
)
def test_every_reason_is_given_with_words(
    reason: Reason, shown: list[Container], name: str, given: dict[str, Any], words: str
) -> None:
    found = next(
        each for each in reversed(decisions(*shown, **given)) if each.container.name == name
    )
    assert found.reason is reason
    assert words in found.detail
    assert bool(found.target) is (reason in (Reason.CURRENT, Reason.KEPT))


def test_no_reason_is_left_out_above() -> None:
    assert {each[0] for each in REASONS} == set(Reason)


def test_every_container_has_a_decision() -> None:
    shown = [container for *_, found, _, _, _ in REASONS for container in found]
    assert {each.container.id for each in decisions(*shown)} == {each.id for each in shown}


def test_the_order_is_by_host_and_slot_with_the_targets_first() -> None:
    job = container("shop-job-v1", labels=labels(role="job"))
    foreign = container("a", labels={})
    shown = [foreign, NEW, stopped("shop-web-v0", 5), OLD, job]
    snapshots = [snapshot(*shown, host="b"), snapshot(OLD, host="a")]
    found = decide(snapshots, settings(engines=TWO_HOSTS), NOW).decisions
    assert [(each.host, each.container.name) for each in found] == [
        ("a", "shop-web-v1"),
        ("b", "shop-job-v1"),
        ("b", "shop-web-v1"),
        ("b", "shop-web-v0"),
        ("b", "shop-web-v2"),
        ("b", "a"),
    ]


def test_each_metrics_port_is_a_decision_of_its_own() -> None:
    shown = container(labels=labels(port="9394,puma=9395"))
    assert targets(decisions(shown)) == {
        "shop-web:9394": "172.18.0.5:9394",
        "shop-web:9395": "172.18.0.5:9395",
    }


def test_a_kept_target_reaches_nobody_and_says_so() -> None:
    kept = decision(container(state=State.EXITED, ip="172.18.0.5"))
    assert kept.target
    assert kept.target.targets == ("shop-web.invalid:9394",)
    assert kept.target.labels["__meta_kamal_address"] == "none"
    assert kept.target.labels["__meta_kamal_version"] == "v1"


def test_a_kept_target_needs_no_network() -> None:
    kept = decision(stopped("shop-web-v1", 5, networks=(), network_mode="host"))
    assert targets([kept]) == {"shop-web:9394": "shop-web.invalid:9394"}


@pytest.mark.parametrize(
    "bad",
    [
        container("bad", labels=labels(role="job", port="x")),
        container("bad", labels=labels(role="job"), networks=()),
        container("bad", labels=labels(role="\ud800")),
        container("bad", fault="TypeError"),
        container("bad", labels={}),
    ],
)
def test_one_bad_container_costs_one_target(bad: Container) -> None:
    assert targets(decisions(bad, OLD)) == targets(decisions(OLD))


@pytest.mark.parametrize("shown", [OLD, container(labels=labels(port="x"))])
def test_the_incumbents_are_for_the_next_decision(shown: Container) -> None:
    # A current one that makes no target is remembered, too.
    outcome = decide([snapshot(shown, NEW, host="")], settings(), NOW)
    assert outcome.incumbents == {"": frozenset({shown.id})}


def test_who_is_kept_is_not_an_incumbent() -> None:
    outcome = decide([snapshot(stopped("shop-web-v1", 5))], settings(), NOW)
    assert outcome.incumbents == {"": frozenset()}


def test_the_memory_is_heeded() -> None:
    remembering = snapshot(OLD, NEW, incumbents=frozenset({NEW.id}))
    found = decide([remembering], settings(), NOW).decisions
    assert targets(found) == {"shop-web:9394": "172.18.0.6:9394"}


def test_time_alone_changes_it_first_where_something_is_due_first() -> None:
    job = stopped("shop-job-v1", 5, labels=labels(role="job"))
    snapshots = [snapshot(OLD, NEW, host="a"), snapshot(job, host="b")]
    given = settings(engines=TWO_HOSTS)
    assert decide(snapshots, given, NOW).changes_at == NOW + 85
    assert decide(snapshots[1:], given, NOW).changes_at == NOW + 3595
    assert decide([snapshot(OLD)], settings(), NOW).changes_at == NEVER
    assert decide([], settings(), NOW).changes_at == NEVER


def test_in_an_outage_time_stands_still() -> None:
    given = settings(keep_missing=60)
    job = stopped("shop-job-v1", 5, labels=labels(role="job"))
    lost = snapshot(OLD, NEW, job, lost_at=NOW, error="gone")
    before = decide([lost], given, NOW)
    after = decide([lost], given, NOW + 9999)
    assert after.decisions == before.decisions
    assert after.changes_at == before.changes_at == NEVER
    assert set(targets(after.decisions)) == {"shop-web:9394", "shop-job:9394"}


def test_an_outage_that_began_in_the_future_does_not_hurry_time() -> None:
    lost = snapshot(OLD, NEW, lost_at=NOW + 500)
    assert targets(decide([lost], settings(), NOW).decisions) == {
        "shop-web:9394": "172.18.0.5:9394"
    }


def test_a_caller_can_ask_for_another_kind_of_address() -> None:
    given = settings(defaults={"alias": "{slot}"})
    shown = [snapshot(container(), stopped("shop-job-v1", 5, labels=labels(role="job")))]
    kept = {"shop-job:9394": "shop-job.invalid:9394"}
    by_alias = decide(shown, given, NOW).decisions
    by_ip = decide(shown, given, NOW, Caller("ip")).decisions
    assert targets(by_alias) == {"shop-web:9394": "shop-web:9394"} | kept
    assert targets(by_ip) == {"shop-web:9394": "172.18.0.5:9394"} | kept


def test_an_alias_that_is_not_known_costs_that_target() -> None:
    shown = [snapshot(container(), container("x", labels=labels("x") | {"prometheus.alias": "x"}))]
    found = decide(shown, settings(), NOW, Caller("alias")).decisions
    assert targets(found) == {"x-web:9394": "x:9394"}
    assert [each.reason for each in found] == [Reason.NO_ADDRESS, Reason.CURRENT]


def test_two_destinations_are_two_slots() -> None:
    staging = container("shop-web-staging-v1", labels=labels(destination="staging"))
    assert set(targets(decisions(OLD, staging))) == {"shop-web:9394", "shop-web-staging:9394"}


def test_one_name_on_two_hosts_is_two_targets() -> None:
    snapshots = [snapshot(OLD, host="a"), snapshot(OLD, host="b")]
    found = decide(snapshots, settings(engines=TWO_HOSTS), NOW)
    assert set(targets(found.decisions)) == {"a/shop-web:9394", "b/shop-web:9394"}
    assert found.incumbents == {host: frozenset({OLD.id}) for host in ("a", "b")}


def test_an_accessory_and_kamal_proxy_have_slots_of_their_own() -> None:
    title = {"org.opencontainers.image.title": "kamal-proxy"}
    exporter = container(
        "db-exporter", labels={"service": "db-exporter", "prometheus.port": "9187"}
    )
    found = decisions(
        exporter,
        container("kamal-proxy", labels=title),
        accessories=True,
        proxy={"metrics_port": 9090},
    )
    assert set(targets(found)) == {"db-exporter:9187", "kamal-proxy:9090"}
    kinds = [each.target.labels["__meta_kamal_kind"] for each in found if each.target]
    assert kinds == ["accessory", "proxy"]


def test_an_unhealthy_container_is_scraped_all_the_same() -> None:
    assert decision(container(health=Health.UNHEALTHY)).target


def test_an_address_on_the_hosts_network_is_the_engines() -> None:
    engines = [{"url": URL, "address": "10.0.0.1"}]
    shown = container(network_mode="host", networks=(Network("host"),))
    assert targets(decisions(shown, engines=engines)) == {"shop-web:9394": "10.0.0.1:9394"}


def test_a_decision_names_its_slot_only_where_it_is_in_one() -> None:
    assert decision(container()).slot == WEB
    assert decision(container("x", labels={})).slot is None
    assert decision(container(labels=labels(port=""))).slot == Slot("", "shop", "web")


def test_identical_containers_of_two_slots_do_not_share_a_memory() -> None:
    job = container("shop-job-v1", ago=2000, labels=labels(role="job"))
    outcome = decide([snapshot(OLD, job)], settings(), NOW)
    assert outcome.incumbents[""] == {identity("shop-web-v1"), identity("shop-job-v1")}


def test_the_current_one_that_was_told_to_stop_is_current_and_said_to_stop() -> None:
    found = decision(container(stopping=True))
    assert found.reason is Reason.CURRENT
    assert found.target
    assert found.detail == "it is the current one of its slot, and was told to stop"


@pytest.mark.parametrize("name", ["a", "z"])
def test_of_two_that_started_at_one_time_the_loser_is_superseded(name: str) -> None:
    # As far as rounded ages tell. Both have run for longer than any candidate does.
    shown = [container("m", ago=500), container(name, ago=500)]
    current, other = decisions(*shown)
    assert (current.reason, other.reason) == (Reason.CURRENT, Reason.SUPERSEDED)
