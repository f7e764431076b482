"""`address: published`: the host's address and the port that is published there."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from app.discovery.address import address_of
from app.discovery.decide import decide
from app.discovery.endpoint import Caller
from app.model import Container, Kind, Network, Port, Reason, Refused
from app.settings import EngineSettings
from tests.builders import (
    NOW,
    URL,
    WEB,
    container,
    decision,
    decisions,
    labels,
    settings,
    snapshot,
    stopped,
    targets,
)
from tests.discovery.test_address import endpoint, generation

PUBLISHED: Mapping[str, Any] = {
    "defaults": {"address": "published"},
    "engines": [{"url": URL, "address": "192.0.2.10"}],
}
ON_HOST: Mapping[str, Any] = {"network_mode": "host", "networks": (Network("host"),)}
AFAR = {"url": "tcp://192.0.2.11:2375"}
V4 = Port(9394, "tcp", 49153, "0.0.0.0")
V6 = Port(9394, "tcp", 49154, "::")
HERE = Port(9394, "tcp", 49155, "127.0.0.1")
HERE_6 = Port(9394, "tcp", 49156, "::1")
PRIVATE = Port(9394, "tcp", 49157, "10.0.0.5")
PRIVATE_6 = Port(9394, "tcp", 49158, "fd00::5")
UNSAID = Port(9394, "tcp", 49159)
CLOSED = Port(9394, "tcp")
UDP = Port(9394, "udp", 49160, "0.0.0.0")
OTHER = Port(80, "tcp", 49161, "0.0.0.0")


def address(*ports: Port, at: str = "192.0.2.10", url: str = URL, **given: Any) -> str:
    """The address of a container with these ports, of an engine whose host is reached there."""
    engine = EngineSettings(url=url, address=at)
    found = address_of(
        generation(container(ports=ports, **given)), endpoint(address="published"), WEB, engine
    )
    assert (found.kind, found.note) == ("published", "")
    return found.authority


@pytest.mark.parametrize(
    ("ports", "at", "served"),
    [
        ([V4], "192.0.2.10", "192.0.2.10:49153"),
        ([V4], "web-1.example", "web-1.example:49153"),
        ([V6], "2001:db8::1", "[2001:db8::1]:49154"),
        ([V6], "web-1.example", "web-1.example:49154"),
        ([UNSAID], "192.0.2.10", "192.0.2.10:49159"),
        ([UNSAID], "2001:db8::1", "[2001:db8::1]:49159"),
        ([V4, V6], "192.0.2.10", "192.0.2.10:49153"),
        ([V4, V6], "2001:db8::1", "[2001:db8::1]:49154"),
        ([V4, V6], "web-1.example", "web-1.example:49153"),
        # An address of its own is the one, whatever else is known of the host.
        ([PRIVATE], "192.0.2.10", "10.0.0.5:49157"),
        ([PRIVATE], "", "10.0.0.5:49157"),
        ([PRIVATE_6], "192.0.2.10", "[fd00::5]:49158"),
        ([PRIVATE, PRIVATE_6], "", "10.0.0.5:49157"),
        ([V4, PRIVATE], "192.0.2.10", "10.0.0.5:49157"),
        # What nobody outside reaches does not count, and neither does another port.
        ([HERE, V4, HERE_6], "192.0.2.10", "192.0.2.10:49153"),
        ([HERE, PRIVATE], "192.0.2.10", "10.0.0.5:49157"),
        ([CLOSED, UDP, OTHER, V4], "192.0.2.10", "192.0.2.10:49153"),
    ],
)
def test_it_is_where_the_port_is_published(ports: list[Port], at: str, served: str) -> None:
    assert address(*ports, at=at) == served
    assert address(*ports[::-1], at=at) == served


def test_it_is_the_same_whatever_the_order_of_the_engines_list() -> None:
    twice = (Port(9394, "tcp", 50000, "0.0.0.0"), V4)
    assert {address(*twice), address(*twice[::-1])} == {"192.0.2.10:49153"}


def test_the_network_of_the_container_has_no_say() -> None:
    assert address(V4, networks=()) == address(V4, networks=(Network("abc"),)) == "192.0.2.10:49153"


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ({"url": "tcp://192.0.2.11:2375"}, "192.0.2.11:49153"),
        ({"url": "tcp://web-1:2375", "host": "a", "address": "192.0.2.1"}, "192.0.2.1:49153"),
        ({"url": URL, "host": "web-1"}, "web-1:49153"),
    ],
)
def test_where_its_host_is_reached(asked: dict[str, Any], served: str) -> None:
    given = {**PUBLISHED, "engines": [asked]}
    host = asked.get("host", "")
    (found,) = targets(decisions(container(ports=(V4,)), host=host, **given)).values()
    assert found == served


def test_on_the_hosts_network_every_port_is_the_hosts() -> None:
    assert address(**ON_HOST) == "192.0.2.10:9394"
    assert address(at="2001:db8::1", **ON_HOST) == "[2001:db8::1]:9394"


def refusal(shown: Container, **given: Any) -> str:
    """Why it is no target, after what it is to its slot."""
    found = decision(shown, **{**PUBLISHED, **given})
    assert (found.reason, found.target) == (Reason.NO_ADDRESS, None)
    return found.detail


NOBODY_KNOWS = "the address of its host is not known; set address for the engine in the settings"


@pytest.mark.parametrize(
    ("ports", "where"),
    [
        ([HERE], "127.0.0.1"),
        ([HERE_6, CLOSED], "::1"),
        ([HERE_6, HERE, HERE._replace(public=1)], "127.0.0.1, ::1"),
        ([HERE._replace(public_ip="127.8.0.1")], "127.8.0.1"),
    ],
)
def test_a_port_that_nobody_outside_reaches_is_none(ports: list[Port], where: str) -> None:
    assert refusal(container(ports=tuple(ports))) == (
        f"its port 9394 is published on {where} only, which nobody outside reaches; "
        "publish it on 0.0.0.0, or on an address of the host that Prometheus reaches"
    )


@pytest.mark.parametrize("ports", [[], [CLOSED], [UDP], [OTHER], [CLOSED, UDP, OTHER]])
def test_where_it_is_not_published_it_says_what_to_write(ports: list[Port]) -> None:
    assert refusal(container(ports=tuple(ports))) == (
        'its port 9394 is not published on the host; add options: {publish: "9394-9399:9394"} '
        "to the role in deploy.yml, a range because two of it run during a deploy"
    )


def test_an_ipv6_port_is_none_of_an_ipv4_host() -> None:
    assert refusal(container(ports=(V6, HERE))) == (
        "its port 9394 is published on :: only, and the address of its host, 192.0.2.10, is "
        "IPv4; publish it on that, too, or set another address for the engine"
    )


def test_a_host_of_which_no_address_is_known() -> None:
    given = {"engines": [{"url": URL}]}
    assert refusal(container(ports=(V4,)), **given) == NOBODY_KNOWS
    assert refusal(container(network_mode="host"), **given) == NOBODY_KNOWS


def test_the_range_to_write_ends_where_ports_do() -> None:
    shown = container(labels=labels(port="65535"), ports=())
    assert '"65530-65535:65535"' in refusal(shown)


@pytest.mark.parametrize("kind", [Kind.ACCESSORY, Kind.PROXY])
def test_an_accessory_needs_no_range(kind: Kind) -> None:
    with pytest.raises(Refused, match=r'as options: {publish: "9394:9394"} does for an acc'):
        address_of(
            replace(generation(container()), kind=kind),
            endpoint(address="published"),
            WEB,
            EngineSettings(url=URL),
        )


# --- deploys ---

OLD = container("shop-web-v1", ports=(V4._replace(public=9394), V6._replace(public=9394)))
NEW = container("shop-web-v2", ago=5, ports=(V4._replace(public=9395), V6._replace(public=9395)))


def test_each_generation_has_its_own_port_of_the_host() -> None:
    both: dict[str, Any] = {"address": "published", "generations": "both"}
    given = {**PUBLISHED, "defaults": both}
    assert targets(decisions(OLD, NEW, **given)) == {
        "shop-web:9394": "192.0.2.10:9394",
        "shop-web.next:9394": "192.0.2.10:9395",
    }
    assert targets(decisions(OLD, NEW, **PUBLISHED)) == {"shop-web:9394": "192.0.2.10:9394"}
    gone = stopped("shop-web-v1", 1, ports=())
    assert targets(decisions(gone, NEW, **PUBLISHED)) == {"shop-web:9394": "192.0.2.10:9395"}


def test_what_died_is_nowhere() -> None:
    # The port of a stopped container may be another one's at once.
    gone = stopped("shop-web-v1", 1, ports=OLD.ports)
    assert targets(decisions(gone, **PUBLISHED)) == {"shop-web:9394": "shop-web.invalid:9394"}


def test_the_kind_is_told_and_the_labels_are_as_ever() -> None:
    found = decision(OLD, **PUBLISHED)
    by_ip = decision(OLD, **{**PUBLISHED, "defaults": {"address": "ip"}})
    assert found.target
    assert by_ip.target
    kind = "__meta_kamal_address"
    assert found.target.labels == {**by_ip.target.labels, kind: "published"}
    assert by_ip.target.labels[kind] == "ip"


def test_a_host_or_a_caller_may_have_its_own_way() -> None:
    engines = [{"url": URL, "host": "a"}, {**AFAR, "host": "b", "address": "192.0.2.11"}]
    roles = [{"address": "ip"}, {"host": "b", "role": "web", "address": "published"}]
    shown = [snapshot(OLD, host="a"), snapshot(OLD, host="b")]
    checked = settings(engines=engines, roles=roles)
    assert targets(decide(shown, checked, NOW).decisions) == {
        "a/shop-web:9394": "172.18.0.5:9394",
        "b/shop-web:9394": "192.0.2.11:9394",
    }
    by_caller = decide(shown, checked, NOW, Caller("published")).decisions
    assert targets(by_caller) == {
        "a/shop-web:9394": "a:9394",
        "b/shop-web:9394": "192.0.2.11:9394",
    }


# --- auto ---


def auto(*ports: Port, engine: Mapping[str, Any] = AFAR, **given: Any) -> str:
    """The kind and the address of a target that is left to kamal-sd, whose relay is known."""
    shown = container(ports=ports, **given.pop("shown", {}))
    checked = settings(engines=[engine], **given)
    (found,) = decide([snapshot(shown)], checked, NOW, Caller(authority="sd:9889")).decisions
    assert found.target
    return f"{found.target.labels['__meta_kamal_address']} {found.target.targets[0]}"


def test_auto_is_published_where_the_engine_is_elsewhere_and_the_port_is() -> None:
    assert auto(V4) == "published 192.0.2.11:49153"
    assert auto(V4, defaults={"alias": "{slot}"}) == "published 192.0.2.11:49153"
    assert auto(V4, aliases={"manage": True}) == "published 192.0.2.11:49153"
    assert auto(V4, aliases={"verify": True}) == "published 192.0.2.11:49153"
    assert auto(PRIVATE) == "published 10.0.0.5:49157"
    assert auto(V4, engine={**AFAR, "address": "web-2"}) == "published web-2:49153"


@pytest.mark.parametrize("ports", [[], [CLOSED], [HERE], [V6], [UDP]])
def test_auto_is_what_it_was_where_the_port_is_not_published(ports: list[Port]) -> None:
    assert auto(*ports) == "ip 172.18.0.5:9394"
    assert auto(*ports, defaults={"alias": "{slot}"}) == "alias shop-web:9394"
    assert auto(*ports, aliases={"manage": True}) == "alias shop-web.kamal-sd:9394"


def test_auto_is_what_it_was_where_nobody_knows_the_host() -> None:
    assert auto(V4, engine={"url": "tcp://127.0.0.1:2375"}) == "ip 172.18.0.5:9394"


def test_auto_is_what_it_was_on_the_hosts_network() -> None:
    engine = {**AFAR, "address": "192.0.2.12"}
    assert auto(shown=ON_HOST, engine=engine) == "ip 192.0.2.12:9394"


def test_auto_is_the_relay_where_the_engine_is_here() -> None:
    here = {"url": URL, "address": "192.0.2.10"}
    assert auto(V4, engine=here) == "relay sd:9889"
    # And where nobody knows the relay, it is as it was.
    shown = [snapshot(container(ports=(V4,)))]
    found = decide(shown, settings(engines=[here]), NOW).decisions
    assert targets(found) == {"shop-web:9394": "172.18.0.5:9394"}
