"""What another kamal-sd says of its engines, and what is made of it here."""

import json
from dataclasses import replace
from typing import Any

import pytest

from app.discovery import http_sd, peer
from app.discovery.decide import decide
from app.discovery.endpoint import Caller
from app.discovery.explain import ExplainDocument, explain, own
from app.model import Decision, Network, Reason, Snapshot, Upstream
from app.settings import Settings
from tests.builders import NOW, container, labels, settings, snapshot, stopped

URL = "http://10.0.0.2:9889"
RELAYED = {"defaults": {"address": "relay"}, "relay": {"address": "10.0.0.2:9889"}}
ALIASES = {"defaults": {"alias": "{slot}"}, "aliases": {"verify": True}}


def of(*hosts: str) -> list[dict[str, str]]:
    return [{"url": f"unix:///{host}.sock", "host": host} for host in hosts]


def document(*told: Snapshot, **given: object) -> ExplainDocument:
    """What a peer that watches these engines answers, through JSON and back."""
    given = {"engines": of(*(each.host for each in told))} | given
    outcome = decide(told, settings(**given), NOW)
    answer = explain(told, outcome.decisions, NOW, outcome.conflicts)
    again: ExplainDocument = json.loads(json.dumps(answer))
    return again


def heard(told: ExplainDocument, *before: Snapshot, **given: Any) -> tuple[Snapshot, ...]:
    return peer.snapshots(told, URL, before, **{"now": NOW, "is_relay": False, **given})


def here(*peers: Snapshot, caller: Caller | None = None, **given: object) -> tuple[Decision, ...]:
    """The decisions of a kamal-sd that has these peers and the engine of the host `here`."""
    mine = snapshot(container("blog-web-v1", labels=labels("blog")), host="here")
    ours = settings(engines=of("here"), **given)
    return decide([mine, *peers], ours, NOW, caller or Caller()).decisions


WEB_1 = snapshot(container(), stopped("shop-web-v0", 900.0), host="web-1")


def test_its_decisions_are_taken_as_they_are() -> None:
    there = decide([WEB_1], settings(engines=of("web-1")), NOW).decisions
    found = [each for each in here(*heard(document(WEB_1))) if each.host == "web-1"]
    assert http_sd.body(http_sd.fragments(found), {}) == http_sd.body(http_sd.fragments(there), {})
    assert [(each.container.name, each.reason, each.detail) for each in found] == [
        (each.container.name, each.reason, each.detail) for each in there
    ]


def test_its_own_settings_hold_and_not_those_of_this_one() -> None:
    told = document(WEB_1, defaults={"address": "ip", "instance": "its-own"})
    (target,) = (each.target for each in here(*heard(told)) if each.host == "web-1" and each.target)
    assert target.labels["instance"] == "its-own"


def test_what_is_told_on_is_of_ones_own_engines_alone() -> None:
    (told,) = heard(document(WEB_1))
    mine = snapshot(container("blog-web-v1", labels=labels("blog")), host="here")
    outcome = decide([mine, told], settings(engines=of("here")), NOW)
    answer = own(explain([mine, told], outcome.decisions, NOW, outcome.conflicts))
    assert {each["host"] for each in answer["engines"]} == {"here"}
    assert {each["host"] for each in answer["decisions"]} == {"here"}


def test_times_are_in_this_machines_time() -> None:
    ahead = 7200.0
    told = document(replace(WEB_1, listed_at=NOW - 3.0))
    (found,) = heard(told, now=NOW + ahead)
    assert found.listed_at == NOW + ahead - 3.0
    assert found.containers[container().id].since == container().since + ahead


def test_what_the_way_over_the_network_takes_changes_nothing() -> None:
    told = document(WEB_1)
    (first,), (later,) = heard(told, now=NOW + 0.01), heard(told, now=NOW + 0.2)
    assert first.peer == later.peer


def test_an_engine_that_it_has_lost_is_told_so() -> None:
    (found,) = heard(document(replace(WEB_1, lost_at=NOW - 60.0, error="refused")))
    assert (found.up, found.error, found.lost_at) == (False, "refused", NOW)
    assert next(each.reason for each in here(found) if each.host == "web-1") is Reason.CURRENT


def test_an_engine_that_it_has_not_listed_since_its_start_keeps_what_was_known() -> None:
    before = heard(document(WEB_1))
    (found,) = heard(document(Snapshot("web-1")), *before)
    assert found.peer == before[0].peer
    assert not found.up
    assert "not listed yet" in found.error


def test_an_engine_that_was_never_listed_is_not_listed_here_either() -> None:
    (found,) = heard(document(Snapshot("web-1", error="refused")))
    assert (found.listed_at, found.up, found.error) == (None, False, "refused")


def test_an_engine_without_a_host_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no host name"):
        heard(document(snapshot(container(), host="")))


def test_a_peer_that_has_none_but_peers_is_refused() -> None:
    with pytest.raises(ValueError, match="list its peers here"):
        heard(document())


@pytest.mark.parametrize("time", [float("inf"), float("nan"), 1e300])
def test_a_time_that_cannot_be_is_refused(time: float) -> None:
    told = document(WEB_1)
    told["time"] = time
    with pytest.raises(ValueError, match="a time that cannot be"):
        heard(told)


def test_a_target_without_an_instance_is_refused() -> None:
    told = document(WEB_1)
    told["decisions"][0]["labels"].pop("instance")
    with pytest.raises(ValueError, match="without an instance"):
        heard(told)


@pytest.mark.parametrize("label", ["__meta_kamal_address", "__metrics_path__"])
def test_a_target_of_the_relay_without_what_that_needs_is_refused(label: str) -> None:
    told = document(WEB_1, **RELAYED)
    told["decisions"][0]["labels"].pop(label)
    with pytest.raises(ValueError, match=f"cannot be one: {label} is missing"):
        heard(told)


def test_a_target_under_another_host_is_refused() -> None:
    told = document(WEB_1)
    told["decisions"][0]["labels"]["host"] = "here"
    with pytest.raises(ValueError, match="under another host"):
        heard(told)


@pytest.mark.parametrize(("name", "address"), [("a-b", "10.0.0.1:80"), ("a", "10.0.0.1")])
def test_a_target_that_prometheus_cannot_read_is_refused(name: str, address: str) -> None:
    told = document(WEB_1)
    told["decisions"][0]["labels"][name] = ""
    told["decisions"][0]["targets"] = [address]
    with pytest.raises(ValueError, match="a target of shop-web-v1 that cannot be one: "):
        heard(told)


def test_a_peer_that_is_lost_keeps_its_targets_and_the_time_at_which_it_was_heard() -> None:
    (found,) = heard(document(WEB_1))
    (once,) = peer.lost([found], "timed out", NOW - 5.0)
    (twice,) = peer.lost([once], "refused", NOW + 50.0)
    assert (twice.lost_at, twice.error, twice.peer) == (NOW - 5.0, "refused", found.peer)


def test_a_peer_that_was_never_heard_has_its_address_for_a_host() -> None:
    (found,) = peer.lost([peer.unheard(URL)], "refused", NOW)
    assert (found.host, found.listed_at, found.lost_at) == ("10.0.0.2:9889", None, None)
    assert found.error == "refused"


def test_its_alias_conflicts_are_told_here() -> None:
    def named(name: str, role: str) -> Any:
        network = Network("kamal", ipv4="172.18.0.5", aliases=("shop",))
        return container(name, labels=labels(role=role), networks=(network,))

    told = document(
        snapshot(named("shop-web-v1", "web"), named("shop-job-v1", "job"), host="web-1"), **ALIASES
    )
    (found,) = heard(told)
    outcome = decide([found], settings(engines=of("here")), NOW)
    again = explain([found], outcome.decisions, NOW, outcome.conflicts)
    assert again["alias_conflicts"] == told["alias_conflicts"] != []


def test_a_conflict_of_containers_that_it_does_not_show_is_left_out() -> None:
    told = document(WEB_1)
    told["alias_conflicts"] = [
        {"host": "web-1", "network": "kamal", "alias": "a", "containers": ["x"], "detail": ""}
    ]
    (found,) = heard(told)
    assert found.peer
    assert found.peer.conflicts == ()


def chained(caller: Caller | None = None, url: str = URL, **given: object) -> Decision:
    found = peer.snapshots(document(WEB_1, **RELAYED), url, (), NOW, is_relay=True)
    return next(each for each in here(*found, caller=caller, **given) if each.host == "web-1")


def test_without_a_chain_its_relay_is_asked_straight() -> None:
    (found,) = heard(document(WEB_1, **RELAYED))
    target = here(found)[0].target if here(found)[0].host == "web-1" else here(found)[1].target
    assert target
    assert target.targets == ("10.0.0.2:9889",)


def test_with_a_chain_a_scrape_goes_through_both_relays() -> None:
    decision = chained(Caller(authority="sd.example:9889"))
    assert decision.target
    assert decision.target.targets == ("sd.example:9889",)
    path = decision.target.labels["__metrics_path__"]
    assert path == "/scrape/web-1/shop/web/-/9394"
    assert decision.upstream == Upstream("10.0.0.2:9889", "http", path, is_peer=True)


def test_a_chain_goes_where_the_peer_is_served() -> None:
    decision = chained(url="https://proxy.example/sd")
    assert decision.target
    assert decision.target.labels["__scheme__"] == "http"
    assert decision.upstream == Upstream(
        "proxy.example", "https", "/sd/scrape/web-1/shop/web/-/9394", is_peer=True
    )


def test_the_address_of_the_relay_in_the_settings_is_the_chains_too() -> None:
    given = {"address": "sd:9889", "scheme": "https"}
    decision = chained(Caller(authority="a:1"), relay=given)
    assert decision.target
    assert decision.target.targets == ("sd:9889",)
    assert decision.target.labels["__scheme__"] == "https"


def test_a_chain_changes_nothing_that_is_not_relayed() -> None:
    told = document(WEB_1, defaults={"address": "ip"})
    found = peer.snapshots(told, URL, (), NOW, is_relay=True)
    decision = next(each for each in here(*found) if each.host == "web-1")
    assert decision.target
    assert decision.target.targets == ("172.18.0.5:9394",)


def test_a_chain_makes_answers_differ_by_caller() -> None:
    assert not _settings(relay=False).may_relay("ip")
    assert _settings(relay=True).may_relay("ip")


def _settings(*, relay: bool) -> Settings:
    return settings(engines=of("here"), peers=[{"url": URL, "relay": relay}])


def test_its_targets_are_rendered_in_the_order_of_its_decisions() -> None:
    told = heard(document(WEB_1))
    outcome = decide(told, settings(engines=of("here")), NOW)
    pages = [each.page for each in outcome.engines.values()]
    assert http_sd.answer(pages, {}).body == http_sd.body(http_sd.fragments(outcome.decisions), {})
    again = decide(told, settings(engines=of("here")), NOW, before=outcome)
    assert again.decisions == outcome.decisions


def test_a_host_that_is_anothers_is_refused() -> None:
    told = heard(document(WEB_1))
    peer.check_hosts(told, ["here"])
    with pytest.raises(ValueError, match="known from elsewhere"):
        peer.check_hosts(told, ["here", "web-1"])
