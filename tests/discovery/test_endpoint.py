from typing import Any

import pytest

from app.discovery.endpoint import LABELS, Endpoint, endpoints
from app.grammar import NamedPort
from app.model import Kind, Reason, Refused, Slot
from tests.builders import URL, WEB, container, settings

PROXY = Slot("", "kamal-proxy")
EXPORTER = Slot("", "shop-exporter")


def found(
    labels: dict[str, str] | None = None,
    kind: Kind = Kind.APP,
    slot: Slot = WEB,
    **given: object,
) -> list[Endpoint]:
    shown = container(labels={"prometheus.port": "9394"} if labels is None else labels)
    return endpoints(shown, kind, slot, settings(**given))


def the_one(labels: dict[str, str] | None = None, **given: Any) -> Endpoint:
    (endpoint,) = found(labels, **given)
    return endpoint


def refusal(labels: dict[str, str], **given: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        found(labels, **given)
    return caught.value


def test_a_port_label_is_enough() -> None:
    assert the_one() == Endpoint(
        port=NamedPort(9394),
        path="",
        scheme="",
        interval="",
        timeout="",
        address="auto",
        network="kamal",
        alias="",
        instance="{slot}:{port}",
        generations="current",
        labels={},
    )


# What each place in the line of precedence says, and its value as the endpoint has it.
WISHES = [
    ("port", "1", "2", "3", (NamedPort(1), NamedPort(2), NamedPort(3))),
    ("path", "/role", "/label", "/default", ("/role", "/label", "/default")),
    ("scheme", "https", "http", "https", ("https", "http", "https")),
    ("interval", "31s", "32s", "33s", ("31s", "32s", "33s")),
    ("timeout", "1s", "2s", "3s", ("1s", "2s", "3s")),
    ("alias", "role", "label", "default", ("role", "label", "default")),
]


@pytest.mark.parametrize("spelling", ["prometheus.", "prometheus.io/"])
@pytest.mark.parametrize(("option", "role", "label", "default", "values"), WISHES)
def test_role_settings_come_first_then_labels_then_defaults(
    option: str, role: str, label: str, default: str, values: tuple[object, ...], spelling: str
) -> None:
    port = {} if option == "port" else {"prometheus.port": "9394"}
    labels = port | {spelling + option: label}
    roles, defaults = [{"role": "web", option: role}], {option: default}
    assert getattr(the_one(labels, roles=roles, defaults=defaults), option) == values[0]
    assert getattr(the_one(labels, defaults=defaults), option) == values[1]
    assert getattr(the_one(port, defaults=defaults), option) == values[2]


@pytest.mark.parametrize(
    ("scrape", "is_scraped"),
    [
        (("true", "false", False), True),
        (("false", "true", True), False),
        ((None, "false", True), False),
        ((None, "true", False), True),
        ((None, " FALSE ", None), False),
        ((None, None, False), False),
        ((None, None, None), True),
    ],
)
def test_opting_out_and_in_has_the_same_precedence(
    scrape: tuple[str | None, str | None, bool | None], is_scraped: bool
) -> None:
    role, label, default = scrape
    labels = {"prometheus.port": "1"} | ({"prometheus.scrape": label} if label else {})
    given: dict[str, Any] = {"roles": [{"scrape": role}], "defaults": {"scrape": default}}
    if is_scraped:
        assert the_one(labels, **given).port.number == 1
    else:
        assert refusal(labels, **given).reason is Reason.OPTED_OUT


def test_the_short_spelling_comes_before_the_long_one() -> None:
    assert the_one({"prometheus.port": "1", "prometheus.io/port": "2"}).port.number == 1


def test_every_label_that_is_read_is_let_through_the_parser() -> None:
    assert {
        "prometheus.scrape",
        "prometheus.io/scrape",
        "prometheus.io/timeout",
        "prometheus.alias",
    } <= LABELS


def test_a_later_role_entry_wins_over_an_earlier_one_that_matches_too() -> None:
    roles = [
        {"path": "/all", "scheme": "https", "labels": {"team": "all", "env": "prod"}},
        {"role": "web", "path": "/web", "labels": {"team": "web"}},
        {"role": "job", "path": "/job"},
    ]
    endpoint = the_one(roles=roles, defaults={"labels": {"env": "none", "region": "eu"}})
    assert (endpoint.path, endpoint.scheme) == ("/web", "https")
    assert endpoint.labels == {"team": "web", "env": "prod", "region": "eu"}


@pytest.mark.parametrize(
    ("entry", "matches"),
    [
        ({}, True),
        ({"host": "h"}, True),
        ({"host": "h", "service": "shop", "role": "web", "destination": "prod"}, True),
        ({"host": "other"}, False),
        ({"service": "other"}, False),
        ({"role": "other"}, False),
        ({"destination": "other"}, False),
        ({"destination": ""}, False),
        ({"service": "shop", "role": "other"}, False),
    ],
)
def test_a_role_entry_matches_where_all_its_values_do(entry: dict[str, str], matches: bool) -> None:
    slot = Slot("h", "shop", "web", "prod")
    endpoint = the_one(slot=slot, roles=[{**entry, "path": "/matched"}])
    assert (endpoint.path == "/matched") is matches


def test_an_empty_destination_matches_only_slots_without_one() -> None:
    roles = [{"destination": "", "path": "/none"}]
    assert the_one(roles=roles).path == "/none"


def test_several_ports_are_an_endpoint_each() -> None:
    ports = [each.port for each in found({"prometheus.port": "9394, puma=9395"})]
    assert ports == [NamedPort(9394), NamedPort(9395, "puma")]


def test_the_settings_take_several_ports_as_a_list() -> None:
    endpoint_list = found({}, defaults={"port": [9394, "puma=9395"]})
    assert [each.port for each in endpoint_list] == [NamedPort(9394), NamedPort(9395, "puma")]


@pytest.mark.parametrize(
    ("label", "value", "words"),
    [
        ("port", "70000", "the label prometheus.port is wrong: '70000' is no port"),
        ("port", "", "the label prometheus.port is wrong: '' is no port"),
        ("path", "metrics", "the label prometheus.path is wrong: 'metrics' is no path"),
        ("scheme", "ftp", "the label prometheus.scheme is wrong"),
        ("interval", "0s", "the label prometheus.interval is wrong"),
        ("interval", "often", "the label prometheus.interval is wrong"),
        ("timeout", "1", "the label prometheus.timeout is wrong"),
        ("scrape", "maybe", "the label prometheus.scrape is wrong"),
        ("alias", "a b", "the label prometheus.alias is wrong"),
        ("alias", "{slot}", "the label prometheus.alias is wrong"),
        ("io/path", "metrics", "the label prometheus.io/path is wrong"),
    ],
)
def test_a_wrong_label_is_named(label: str, value: str, words: str) -> None:
    name = "prometheus." + label
    refused = refusal({"prometheus.port": "9394", name: value})
    assert refused.reason is Reason.BAD_ENDPOINT
    assert words in refused.detail


def test_a_wrong_label_does_not_matter_where_the_settings_come_first() -> None:
    assert the_one({"prometheus.port": "x"}, roles=[{"port": 1}]).port.number == 1


def test_without_a_port_it_says_how_to_name_one() -> None:
    refused = refusal({})
    assert refused.reason is Reason.NO_PORT
    assert 'prometheus.port: "9394"' in refused.detail


def test_an_exposed_port_is_never_the_metrics_port() -> None:
    shown = container(labels={})
    assert shown.ports
    with pytest.raises(Refused, match="names no metrics port"):
        endpoints(shown, Kind.APP, WEB, settings())


@pytest.mark.parametrize(
    ("interval", "timeout", "becomes"),
    [
        pytest.param("", "", "", id="nothing is given"),
        pytest.param("5s", "", "5s", id="shorter than Prometheus' own timeout"),
        pytest.param("9s999ms", "", "9s999ms", id="a little shorter"),
        pytest.param("10s", "", "", id="as long"),
        pytest.param("1m", "", "", id="longer"),
        pytest.param("", "20s", "20s", id="a timeout alone"),
        pytest.param("20s", "20s", "20s", id="both the same"),
        pytest.param("5s", "3s", "3s", id="both given"),
    ],
)
def test_a_short_interval_gets_a_timeout_that_fits(
    interval: str, timeout: str, becomes: str
) -> None:
    given = {"prometheus.interval": interval, "prometheus.timeout": timeout}
    labels = {"prometheus.port": "1"} | {name: value for name, value in given.items() if value}
    endpoint = the_one(labels)
    assert (endpoint.interval, endpoint.timeout) == (interval, becomes)


def test_a_timeout_over_the_interval_is_refused_wherever_each_came_from() -> None:
    labels = {"prometheus.port": "1", "prometheus.interval": "15s"}
    refused = refusal(labels, defaults={"timeout": "20s"})
    assert refused.reason is Reason.BAD_ENDPOINT
    assert refused.detail == "timeout 20s is longer than interval 15s; shorten it"


@pytest.mark.parametrize("kind", [Kind.ACCESSORY, Kind.PROXY])
def test_the_default_port_is_the_apps_alone(kind: Kind) -> None:
    slot = PROXY if kind is Kind.PROXY else EXPORTER
    assert refusal({}, kind=kind, slot=slot, defaults={"port": 9394}).reason is Reason.NO_PORT
    assert the_one({}, defaults={"port": 9394}).port.number == 9394


def test_the_other_defaults_are_everybodys() -> None:
    labels = {"prometheus.port": "9187"}
    given: dict[str, Any] = {"kind": Kind.ACCESSORY, "slot": EXPORTER}
    assert the_one(labels, **given, defaults={"path": "/m"}).path == "/m"


def test_kamal_proxy_has_the_port_of_its_section() -> None:
    given: dict[str, Any] = {"kind": Kind.PROXY, "slot": PROXY, "proxy": {"metrics_port": 9090}}
    assert the_one({}, **given).port.number == 9090
    roles = [{"service": "kamal-proxy", "port": 9091}]
    assert the_one({}, **given, roles=roles).port.number == 9091


def test_an_app_does_not_take_the_proxys_port() -> None:
    assert refusal({}, proxy={"metrics_port": 9090}).reason is Reason.NO_PORT


def test_the_network_is_the_roles_then_the_engines_then_the_default() -> None:
    engines = [{"url": URL, "network": "of-engine"}]
    roles = [{"role": "web", "network": "of-role"}, {"role": "web", "path": "/later"}]
    defaults = {"network": "of-defaults"}
    assert the_one(engines=engines, roles=roles, defaults=defaults).network == "of-role"
    assert the_one(engines=engines, defaults=defaults).network == "of-engine"
    assert the_one(defaults=defaults).network == "of-defaults"
    assert the_one().network == "kamal"


def test_the_host_is_in_the_instance_only_where_there_is_more_than_one() -> None:
    engines = [{"url": URL, "host": "a"}, {"url": URL, "host": "b"}]
    assert the_one(engines=engines).instance == "{host}/{slot}:{port}"
    roles = [{"instance": "{slot}"}]
    assert the_one(engines=engines, roles=roles).instance == "{slot}"


def test_the_address_kind_comes_from_the_settings() -> None:
    assert the_one(defaults={"address": "alias"}).address == "alias"
    assert the_one(defaults={"address": "alias"}, roles=[{"address": "ip"}]).address == "ip"
