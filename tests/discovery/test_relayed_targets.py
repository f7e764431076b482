"""`address: relay` as a decision: a target that stays the same, and what stands behind it now."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.discovery import http_sd, relay
from app.discovery.decide import decide
from app.discovery.endpoint import Caller
from app.model import Container, Decision, Network, Reason, Slot, Upstream
from app.settings import AddressKind
from tests import http_sd_reader
from tests.builders import NOW, URL, WEB, container, decisions, labels, settings, snapshot, stopped

PROFILE = hypothesis.settings(
    derandomize="EXPLORE" not in os.environ, deadline=None, max_examples=400
)
OLD = container("shop-web-v1", ip="172.18.0.5")
NEW = container("shop-web-v2", ago=5, ip="172.18.0.6")
DEAD = stopped("shop-web-v2", 1)
BY_RELAY: Mapping[str, Any] = {"defaults": {"address": "relay"}}


def targets(found: tuple[Decision, ...]) -> list[http_sd_reader.Target]:
    return http_sd_reader.read(http_sd.body(http_sd.fragments(found), {}))


def the_target(*shown: Container, **given: Any) -> http_sd_reader.Target:
    (found,) = targets(decisions(*shown, **{**BY_RELAY, **given}))
    return found


def steady(of: http_sd_reader.Target) -> tuple[str, dict[str, str]]:
    """All that Prometheus makes an URL and a series of."""
    kept = {name: value for name, value in of.labels.items() if not name.startswith("__meta_")}
    return of.address, kept


# --- what stays ---


def test_it_is_kamal_sd_at_a_path_of_the_slot() -> None:
    found = the_target(OLD)
    assert found.address == "localhost:9889"
    assert steady(found)[1] == {
        "__metrics_path__": "/scrape/-/shop/web/-/9394",
        "__scheme__": "http",
        "instance": "shop-web:9394",
        "service": "shop",
        "role": "web",
    }
    assert found.labels["__meta_kamal_address"] == "relay"
    assert found.labels["__meta_docker_network_ip"] == "172.18.0.5"


def test_it_has_the_scheme_at_which_kamal_sd_is_reached() -> None:
    app = replace(OLD, labels=labels() | {"prometheus.scheme": "http"})
    assert the_target(app, relay={"scheme": "https"}).labels["__scheme__"] == "https"


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param([OLD, NEW], id="while a deploy goes on"),
        pytest.param([stopped("shop-web-v1", 1), NEW], id="after it"),
        pytest.param([replace(NEW, image="other", name="shop-web-9")], id="the old one removed"),
        pytest.param([replace(NEW, labels=labels() | {"prometheus.path": "/m"})], id="its path"),
        pytest.param([replace(NEW, labels=labels() | {"prometheus.scheme": "https"})], id="https"),
        pytest.param([replace(NEW, networks=(Network("kamal", ipv6="fd00::1"),))], id="its ip"),
        pytest.param([stopped("shop-web-v1", 9), DEAD], id="all have stopped"),
        pytest.param([stopped("shop-web-v1", 9, networks=())], id="stopped, and on no network"),
        pytest.param([NEW, OLD, container("shop-web-v3", ago=1)], id="two at once"),
    ],
)
def test_no_deploy_and_no_death_changes_it(shown: list[Container]) -> None:
    assert steady(the_target(*shown)) == steady(the_target(OLD))


def test_a_kept_slot_keeps_its_target_and_has_nothing_behind_it() -> None:
    kept, other = decisions(DEAD, stopped("shop-web-v1", 50), **BY_RELAY)
    assert (kept.reason, kept.upstream) == (Reason.KEPT, None)
    assert (other.target, other.upstream) == (None, None)
    assert steady(the_target(DEAD)) == steady(the_target(OLD))
    # And no longer than it is kept.
    assert targets(decisions(DEAD, now=NOW + 3599, **BY_RELAY)) == []


@pytest.mark.parametrize(
    ("given", "shown", "upstream"),
    [
        pytest.param({}, OLD, Upstream("172.18.0.5:9394", "http", "/metrics"), id="plain"),
        pytest.param(
            {"path": "/m", "scheme": "https"},
            OLD,
            Upstream("172.18.0.5:9394", "https", "/m"),
            id="by the settings",
        ),
        pytest.param(
            {},
            replace(OLD, labels=labels() | {"prometheus.path": "/m", "prometheus.scheme": "https"}),
            Upstream("172.18.0.5:9394", "https", "/m"),
            id="by its labels",
        ),
        pytest.param(
            {},
            replace(OLD, networks=(Network("kamal", ipv6="fd00::5"),)),
            Upstream("[fd00::5]:9394", "http", "/metrics"),
            id="IPv6",
        ),
        pytest.param(
            {"network": "private"},
            replace(OLD, networks=(Network("private", ipv4="10.0.0.5"),)),
            Upstream("10.0.0.5:9394", "http", "/metrics"),
            id="another network",
        ),
        pytest.param(
            {"alias": "{slot}"},
            OLD,
            Upstream("172.18.0.5:9394", "http", "/metrics"),
            id="never the alias, which two have",
        ),
        pytest.param(
            {},
            replace(OLD, network_mode="host", networks=(Network("host"),)),
            Upstream("10.9.9.9:9394", "http", "/metrics"),
            id="on the host's network",
        ),
    ],
)
def test_what_stands_behind_it(given: Any, shown: Container, upstream: Upstream) -> None:
    engines = [{"url": URL, "address": "10.9.9.9"}]
    (found,) = decisions(shown, engines=engines, defaults={"address": "relay", **given})
    assert found.upstream == upstream


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (replace(OLD, networks=()), "it is not on the network kamal; it is on none"),
        (replace(OLD, networks=(Network("kamal"),)), "it has no address on the network kamal"),
        (replace(OLD, network_mode="host"), "set address for the engine in the settings"),
    ],
)
def test_one_that_it_cannot_reach_is_told(shown: Container, words: str) -> None:
    (found,) = decisions(shown, **BY_RELAY)
    assert (found.reason, found.target, found.upstream) == (Reason.NO_ADDRESS, None, None)
    assert words in found.detail


def test_nothing_else_has_anything_behind_it() -> None:
    assert [each.upstream for each in decisions(OLD, NEW)] == [None, None]


# --- at which address ---


@pytest.mark.parametrize(
    ("given", "caller", "address"),
    [
        ({}, Caller(), "localhost:9889"),
        ({"listen": "0.0.0.0:7"}, Caller(), "localhost:7"),
        ({}, Caller(authority="sd.example:80"), "sd.example:80"),
        ({}, Caller(authority="[fd00::1]:9889"), "[fd00::1]:9889"),
        ({"relay": {"address": "kamal-sd:1"}}, Caller(), "kamal-sd:1"),
        ({"relay": {"address": "kamal-sd:1"}}, Caller(authority="sd.example:80"), "kamal-sd:1"),
    ],
)
def test_it_is_where_the_settings_or_the_caller_say(
    given: dict[str, Any], caller: Caller, address: str
) -> None:
    for wanted, asking in ((BY_RELAY, caller), ({}, caller._replace(address="relay"))):
        checked = settings(**{**wanted, **given})
        (found,) = targets(decide([snapshot(OLD)], checked, NOW, asking).decisions)
        assert found.address == address


def test_a_caller_can_ask_for_another_kind() -> None:
    found = decide([snapshot(OLD)], settings(**BY_RELAY), NOW, Caller("ip")).decisions
    assert [each.address for each in targets(found)] == ["172.18.0.5:9394"]


# --- its paths ---


def test_each_port_has_a_path_and_a_lane_has_its_own() -> None:
    shown = [replace(each, labels=labels(port="9394,puma=9395")) for each in (OLD, NEW)]
    found = decisions(*shown, defaults={"address": "relay", "generations": "both"})
    behind = {path: each.upstream for path, each in relay.routes(found).items()}
    assert {path: each.authority for path, each in behind.items() if each} == {
        "/scrape/-/shop/web/-/9394": "172.18.0.5:9394",
        "/scrape/-/shop/web/-/9395": "172.18.0.5:9395",
        "/scrape/-/shop/web/-/9394/next": "172.18.0.6:9394",
        "/scrape/-/shop/web/-/9395/next": "172.18.0.6:9395",
    }


def test_only_what_is_relayed_has_a_route() -> None:
    job = container("shop-job-v1", labels=labels(role="job"))
    by_ip: dict[str, Any] = {
        "defaults": {"address": "relay"},
        "roles": [{"role": "job", "address": "ip"}],
    }
    assert list(relay.routes(decisions(OLD, NEW, job, **by_ip))) == ["/scrape/-/shop/web/-/9394"]
    assert relay.routes(decisions(OLD, NEW, job)) == {}


PARTS = st.sampled_from(["", "-", "--", ".", "..", "web", "next", "9394", "~61", "~", "a/b", "ü"])
texts = PARTS | st.text(max_size=4)
slots = st.builds(Slot, texts, texts, texts, texts)
ports = st.sampled_from([1, 9394, 9395])
lanes = st.sampled_from(["", relay.NEXT])


@PROFILE
@given(places=st.lists(st.tuples(slots, ports, lanes), max_size=12, unique=True))
def test_no_two_places_have_one_path(places: list[tuple[Slot, int, str]]) -> None:
    paths = [relay.path_of(*each) for each in places]
    assert len(set(paths)) == len(places)


@PROFILE
@given(slot=slots, port=ports, lane=lanes)
def test_a_path_is_made_of_what_nobody_escapes_or_folds(slot: Slot, port: int, lane: str) -> None:
    path = relay.path_of(slot, port, lane)
    assert path.startswith("/scrape/")
    assert set(path) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-~/")
    parts = path.split("/")
    assert not {"", ".", ".."} & set(parts[1:])
    assert len(parts) == 7 + bool(lane)


def test_the_path_of_a_slot_is_for_people_where_it_can_be() -> None:
    assert relay.path_of(WEB, 9394, "") == "/scrape/-/shop/web/-/9394"
    slot = Slot("web-1.example", "my_shop", "web", "staging")
    assert relay.path_of(slot, 80, "next") == "/scrape/web-1.example/my_shop/web/staging/80/next"


# --- what is left to kamal-sd ---

HERE = {"url": "unix:///var/run/docker.sock"}
ELSEWHERE = {"url": "tcp://192.0.2.1:2375"}


def address(authority: str = "", wish: AddressKind | None = None, **given: Any) -> str:
    """The address of the one target, for a caller that reached kamal-sd there."""
    found = decide([snapshot(OLD)], settings(**given), NOW, Caller(wish, authority=authority))
    (one,) = targets(found.decisions)
    return one.address


def test_auto_is_the_relay_where_the_engine_is_on_this_host() -> None:
    assert address("sd:9889") == "sd:9889"
    assert address("sd:9889", defaults={"address": "auto"}) == "sd:9889"
    assert address("sd:9889", defaults={"address": "ip"}, wish="auto") == "sd:9889"
    assert address("sd:9889", defaults={"alias": "{slot}"}) == "sd:9889"
    assert address(relay={"address": "set:1"}) == "set:1"


def test_auto_is_an_alias_or_the_ip_where_nobody_knows_where_the_relay_is_reached() -> None:
    assert address() == "172.18.0.5:9394"
    assert address(defaults={"alias": "{slot}"}) == "shop-web:9394"


def test_auto_is_an_alias_or_the_ip_where_the_engine_is_elsewhere() -> None:
    assert address("sd:9889", engines=[ELSEWHERE]) == "172.18.0.5:9394"
    assert address("sd:9889", engines=[ELSEWHERE], defaults={"alias": "x"}) == "x:9394"
    assert address("sd:9889", engines=[ELSEWHERE], wish="relay") == "sd:9889"


def test_of_two_engines_each_has_its_own_way() -> None:
    engines = [{**HERE, "host": "a"}, {**ELSEWHERE, "host": "b"}]
    shown = [snapshot(OLD, host="a"), snapshot(OLD, host="b")]
    found = decide(shown, settings(engines=engines), NOW, Caller(authority="sd:1")).decisions
    assert {each.labels["instance"]: each.address for each in targets(found)} == {
        "a/shop-web:9394": "sd:1",
        "b/shop-web:9394": "172.18.0.5:9394",
    }


@pytest.mark.parametrize(
    ("settled", "wish", "may"),
    [
        ({}, None, True),
        ({}, "auto", True),
        ({}, "ip", False),
        ({}, "relay", True),
        ({"engines": [ELSEWHERE]}, None, False),
        ({"engines": [ELSEWHERE]}, "relay", True),
        ({"defaults": {"address": "ip"}}, None, False),
        ({"defaults": {"address": "ip"}, "roles": [{"address": "auto"}]}, None, True),
        ({"defaults": {"address": "ip"}, "roles": [{"role": "web"}]}, None, False),
        ({"engines": [ELSEWHERE], "roles": [{"address": "relay"}]}, None, True),
    ],
)
def test_it_is_known_whether_anything_may_be_relayed(
    settled: dict[str, Any], wish: AddressKind | None, may: bool
) -> None:
    assert settings(**settled).may_relay(wish) is may
