import json
from typing import Any

import pytest

from app.discovery.address import address_of, join, nowhere
from app.discovery.endpoint import Endpoint
from app.grammar import NamedPort
from app.model import Container, Decision, Kind, Network, Reason, Refused, Slot
from app.settings import EngineSettings
from tests import http_sd_reader
from tests.builders import URL, WEB, container

ENGINE = EngineSettings(url=URL)


def endpoint(**given: Any) -> Endpoint:
    plain = Endpoint(NamedPort(9394), "", "", "", "", "auto", "kamal", "", "{slot}", "current", {})
    return plain._replace(**given)


def on(*networks: Network, mode: str = "kamal") -> Container:
    return container(networks=networks, network_mode=mode)


def generation(shown: Container) -> Decision:
    return Decision("", shown, Kind.APP, Reason.CURRENT, "", slot=WEB)


KAMAL = Network("kamal", ipv4="172.18.0.5")
OTHER = Network("abc", ipv4="10.0.0.5")
ON_HOST = on(Network("host"), mode="host")


@pytest.mark.parametrize(
    ("shown", "wanted", "served"),
    [
        pytest.param(on(KAMAL), {}, ("ip", "172.18.0.5:9394"), id="auto without an alias: ip"),
        pytest.param(on(KAMAL), {"address": "ip"}, ("ip", "172.18.0.5:9394"), id="ip"),
        pytest.param(
            on(OTHER, KAMAL), {}, ("ip", "172.18.0.5:9394"), id="the chosen network, not the first"
        ),
        pytest.param(
            on(KAMAL, OTHER), {"network": "abc"}, ("ip", "10.0.0.5:9394"), id="another network"
        ),
        pytest.param(
            on(KAMAL), {"alias": "shop-web"}, ("alias", "shop-web:9394"), id="auto with an alias"
        ),
        pytest.param(
            on(KAMAL),
            {"alias": "shop-web", "address": "ip"},
            ("ip", "172.18.0.5:9394"),
            id="ip although there is an alias",
        ),
        pytest.param(
            on(KAMAL),
            {"alias": "{role}.{service}", "address": "alias"},
            ("alias", "web.shop:9394"),
            id="an alias made of the slot",
        ),
        pytest.param(
            on(Network("kamal")),
            {"alias": "shop-web"},
            ("alias", "shop-web:9394"),
            id="an alias needs no ip",
        ),
        pytest.param(
            on(Network("kamal", ipv4="172.18.0.5", ipv6="fd00::5")),
            {},
            ("ip", "172.18.0.5:9394"),
            id="IPv4 where there are both",
        ),
        pytest.param(
            on(Network("kamal", ipv6="fd00::5")), {}, ("ip", "[fd00::5]:9394"), id="IPv6 alone"
        ),
    ],
)
def test_how_a_container_is_reached(
    shown: Container, wanted: dict[str, str], served: tuple[str, str]
) -> None:
    assert address_of(generation(shown), endpoint(**wanted), WEB, ENGINE) == (*served, "")


@pytest.mark.parametrize("kind", ["auto", "ip"])
@pytest.mark.parametrize(
    ("host", "address"),
    [("10.0.0.1", "10.0.0.1:9394"), ("web-1", "web-1:9394"), ("fd00::1", "[fd00::1]:9394")],
)
def test_on_the_hosts_network_it_has_the_hosts_address(kind: str, host: str, address: str) -> None:
    engine = EngineSettings(url=URL, address=host)
    wanted = endpoint(address=kind, alias="shop-web")
    assert address_of(generation(ON_HOST), wanted, WEB, engine) == ("ip", address, "")


@pytest.mark.parametrize(
    ("shown", "wanted", "words"),
    [
        pytest.param(ON_HOST, {}, "set address for the engine in the settings", id="host unknown"),
        pytest.param(
            ON_HOST,
            {"address": "alias", "alias": "shop-web"},
            "it is not on the network kamal; it is on host",
            id="nobody has an alias on the host's network",
        ),
        pytest.param(
            on(OTHER, Network("b")),
            {},
            "not on the network kamal; it is on abc, b: set network to the right one",
            id="another network",
        ),
        pytest.param(on(), {}, "not on the network kamal; it is on none", id="no network"),
        pytest.param(
            on(OTHER),
            {"address": "alias", "alias": "shop-web"},
            "not on the network kamal",
            id="an alias on a network that it is not on",
        ),
        pytest.param(on(Network("kamal")), {}, "no address on the network kamal", id="no address"),
        pytest.param(
            on(KAMAL), {"address": "alias"}, "or the label prometheus.alias", id="no alias known"
        ),
        pytest.param(
            on(KAMAL), {"alias": "{slot}.{destination}"}, "its alias is wrong", id="a hole in it"
        ),
    ],
)
def test_where_there_is_no_address_it_says_why(
    shown: Container, wanted: dict[str, str], words: str
) -> None:
    with pytest.raises(Refused) as caught:
        address_of(generation(shown), endpoint(**wanted), WEB, ENGINE)
    assert caught.value.reason is Reason.NO_ADDRESS
    assert words in caught.value.detail


@pytest.mark.parametrize(
    ("slot", "address"),
    [
        (Slot("", "shop", "web"), "shop-web.invalid:9394"),
        (Slot("", "shop", "web", "production"), "shop-web-production.invalid:9394"),
        (Slot("h", "my_shop.io", "web"), "my-shop-io-web.invalid:9394"),
        (Slot("", "größe", "web"), "gr--e-web.invalid:9394"),
        (Slot("", "²", "³"), "slot.invalid:9394"),
        (Slot("", "-a-", "-"), "a.invalid:9394"),
        (Slot("", "[::1]:80/", "web"), "1--80--web.invalid:9394"),
        (Slot("", "a" * 62, "web"), "a" * 62 + ".invalid:9394"),
    ],
)
def test_nowhere_is_a_name_that_no_resolver_answers_for(slot: Slot, address: str) -> None:
    assert nowhere(slot, 9394) == address
    body = json.dumps([{"targets": [address], "labels": {}}]).encode()
    assert http_sd_reader.read(body)


def test_only_an_ipv6_address_is_put_in_brackets() -> None:
    assert join("fd00::1", 1) == "[fd00::1]:1"
    assert join("10.0.0.1", 1) == "10.0.0.1:1"
