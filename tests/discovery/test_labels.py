from collections.abc import Mapping
from typing import Any

import pytest

from app.discovery import labels
from app.discovery.labels import MAX_VALUE
from app.model import Health, Network, Port, Reason, Refused, Slot
from tests.builders import NOW, container, decision, reads, settings
from tests.builders import labels as kamal_labels

PRODUCTION = {**kamal_labels(), "destination": "production"}


def target_labels(labels: Mapping[str, str] | None = None, **given: Any) -> Mapping[str, str]:
    """The labels of the target of one container. `given` holds its values, and settings."""
    wanted = {key: given.pop(key) for key in ("defaults", "roles", "engines") if key in given}
    host = given.pop("host", "")
    shown = container(labels=kamal_labels() if labels is None else labels, **given)
    found = decision(shown, host=host, **wanted)
    assert found.target, found.detail
    return found.target.labels


def plain(of: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in of.items() if not name.startswith("__")}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            {},
            {"instance": "shop-web:9394", "service": "shop", "role": "web"},
            id="without a destination or a host",
        ),
        pytest.param(
            {"labels": PRODUCTION},
            {
                "instance": "shop-web-production:9394",
                "service": "shop",
                "role": "web",
                "destination": "production",
            },
            id="with a destination",
        ),
        pytest.param(
            {"host": "web-1", "engines": [{"url": "unix:///a", "host": "web-1"}]},
            {"instance": "shop-web:9394", "service": "shop", "role": "web", "host": "web-1"},
            id="with a host",
        ),
        pytest.param(
            {
                "host": "a",
                "engines": [{"url": "unix:///a", "host": "a"}, {"url": "unix:///b", "host": "b"}],
            },
            {"instance": "a/shop-web:9394", "service": "shop", "role": "web", "host": "a"},
            id="one of several hosts",
        ),
        pytest.param(
            {"defaults": {"labels": {"env": "prod", "__param_module": "x"}, "instance": "{slot}"}},
            {"instance": "shop-web", "service": "shop", "role": "web", "env": "prod"},
            id="static labels and an instance of one's own",
        ),
        pytest.param(
            {"roles": [{"instance": "{host}|{service}|{role}|{destination}|{port}|{port_name}"}]},
            {"instance": "|shop|web||9394|", "service": "shop", "role": "web"},
            id="an instance of all there is",
        ),
    ],
)
def test_the_plain_labels_are_the_slots(given: dict[str, Any], expected: dict[str, str]) -> None:
    assert plain(target_labels(**given)) == expected


def test_nothing_of_the_container_is_in_a_plain_label() -> None:
    # Promise 1: whatever a deploy changes, the series stay the same.
    first = container("shop-web-v1", ip="172.18.0.5")
    second = container(
        "shop-web-3f8a_replaced_0123456789abcdef",
        ago=5.0,
        id="f" * 64,
        image="other/image:v2",
        created=NOW - 5,
        health=Health.UNHEALTHY,
        networks=(Network("aaa", ipv4="10.9.9.9"), Network("kamal", ipv4="172.18.0.99")),
        network_mode="other",
        ports=(Port(9394, "tcp", 49153, "0.0.0.0"), Port(80, "tcp")),
        labels={**kamal_labels(), "com.example.anything": "else"},
    )
    before, after = decision(first), decision(second)
    assert before.target
    assert after.target
    assert plain(before.target.labels) == plain(after.target.labels)
    assert before.target.targets != after.target.targets


def test_every_meta_label() -> None:
    shown = target_labels(
        {**PRODUCTION, "prometheus.port": "puma=9394"},
        health=Health.HEALTHY,
        ports=(Port(80, "tcp", 8080), Port(9394, "tcp", 49153, "127.0.0.1")),
        name="shop-web-production-v1",
        id="c0ffee",
    )
    assert {name: value for name, value in shown.items() if name.startswith("__meta_")} == {
        "__meta_kamal_kind": "app",
        "__meta_kamal_slot": "shop-web-production",
        "__meta_kamal_service": "shop",
        "__meta_kamal_role": "web",
        "__meta_kamal_destination": "production",
        "__meta_kamal_version": "v1",
        "__meta_kamal_state": "running",
        "__meta_kamal_health": "healthy",
        "__meta_kamal_address": "ip",
        "__meta_kamal_port_name": "puma",
        "__meta_docker_container_id": "c0ffee",
        "__meta_docker_container_name": "/shop-web-production-v1",
        "__meta_docker_container_image": "registry.example/shop:v1",
        "__meta_docker_container_network_mode": "kamal",
        "__meta_docker_container_label_service": "shop",
        "__meta_docker_container_label_role": "web",
        "__meta_docker_container_label_destination": "production",
        "__meta_docker_container_label_prometheus_port": "puma=9394",
        "__meta_docker_network_name": "kamal",
        "__meta_docker_network_ip": "172.18.0.5",
        "__meta_docker_port_private": "9394",
        "__meta_docker_port_public": "49153",
        "__meta_docker_port_public_ip": "127.0.0.1",
    }


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"networks": (Network("kamal", ipv6="fd00::5"),)}, "network_ip", "fd00::5"),
        (
            {"networks": (Network("b", "10.0.0.9"), Network("kamal", "10.0.0.5"))},
            "network_ip",
            "10.0.0.5",
        ),
        ({"ports": (Port(9394, "tcp"),)}, "port_public", None),
        ({"ports": (Port(80, "tcp", 8080),)}, "port_public", None),
        ({"ports": (Port(9394, "tcp", 49153),)}, "port_public_ip", None),
        ({"ports": (Port(9394, "tcp"), Port(9394, "tcp", 49153))}, "port_public", "49153"),
    ],
)
def test_docker_meta_labels_speak_of_the_chosen_network_and_port(
    given: dict[str, Any], name: str, value: str | None
) -> None:
    assert target_labels(**given).get(f"__meta_docker_{name}") == value


def test_the_scrape_is_left_to_the_job_where_nothing_is_given() -> None:
    shown = target_labels()
    assert not [name for name in shown if name.startswith("__") and "__meta_" not in name]


def test_how_it_is_scraped_is_said_in_prometheus_own_labels() -> None:
    shown = target_labels(
        {
            **kamal_labels(),
            "prometheus.path": "/m",
            "prometheus.scheme": "https",
            "prometheus.interval": "5s",
        }
    )
    assert shown["__metrics_path__"] == "/m"
    assert shown["__scheme__"] == "https"
    assert shown["__scrape_interval__"] == "5s"
    assert shown["__scrape_timeout__"] == "5s"


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("plain ünïcödé ✓", "plain ünïcödé ✓"),
        ("", ""),
        ("two\nlines", "two\ufffdlines"),
        ("\x00\x1b[31m\x7f", "\ufffd\ufffd[31m\ufffd"),
        ("half \ud800 pair", "half \ufffd pair"),
        ("right\u202eleft", "right\ufffdleft"),
        ("x" * 65_536, "x" * MAX_VALUE),
        ("\n" * 65_536, "\ufffd" * MAX_VALUE),
    ],
)
def test_a_value_is_scrubbed(value: str, seen: str) -> None:
    assert labels.scrub(value) == seen


def test_every_meta_value_is_scrubbed() -> None:
    shown = target_labels({**kamal_labels(), "a": "b\nc"}, image="i\x00:v1", network_mode="x\n")
    assert shown["__meta_docker_container_image"] == "i\ufffd:v1"
    assert shown["__meta_docker_container_network_mode"] == "x\ufffd"
    assert shown["__meta_docker_container_label_a"] == "b\ufffdc"


@pytest.mark.parametrize(
    ("name", "sanitised"),
    [("com.example/a-b", "com_example_a_b"), ("größe", "gr__e"), ("9", "9"), ("", "")],
)
def test_a_container_labels_name_is_made_legal(name: str, sanitised: str) -> None:
    shown = target_labels({**kamal_labels(), name: "value"})
    assert shown[f"__meta_docker_container_label_{sanitised}"] == "value"


def test_of_two_labels_with_one_sanitised_name_it_is_always_the_same_one() -> None:
    both = {"a.b": "1", "a_b": "2"}
    for order in (both, dict(reversed(both.items()))):
        shown = target_labels({**kamal_labels(), **order})
        assert shown["__meta_docker_container_label_a_b"] == "2"


@pytest.mark.parametrize(
    "name",
    [
        "service",
        "role",
        "destination",
        "prometheus.port",
        "prometheus.io/path",
        "prometheus.alias",
        "org.opencontainers.image.title",
    ],
)
def test_a_label_with_a_meaning_is_always_read(name: str) -> None:
    assert reads()(name)


@pytest.mark.parametrize(
    ("patterns", "name", "is_read"),
    [
        ((), "com.example.team", False),
        (("com.example.team",), "com.example.team", True),
        (("com.example.*",), "com.example.team", True),
        (("com.example.*",), "com.Example.team", False),
        (("com.example.*",), "net.example.team", False),
        (("team", "env"), "env", True),
        ((), "prometheus.password", False),
        ((), "PROMETHEUS.PORT", False),
        (("*",), "anything", True),
    ],
)
def test_no_other_label_is_read_that_is_not_on_the_allow_list(
    patterns: tuple[str, ...], name: str, is_read: bool
) -> None:
    assert labels.readable(settings(container_labels=patterns))(name) is is_read


@pytest.mark.parametrize(
    ("slot", "words"),
    [
        (
            Slot("", "a\nb", "web"),
            r"its label service has a character that cannot be printed: 'a\nb'",
        ),
        (Slot("", "shop", "\ud800"), "its label role has a character"),
        (Slot("", "shop", "web", "\x00"), "its label destination has a character"),
        (Slot("", "shop", "w\u00a0b"), "its label role has a character"),
        (Slot("", "s" * 201, "web"), "its label service is longer than 200 characters"),
        (Slot("", "\n" * 999, "web"), "its label service has a character"),
    ],
)
def test_a_slot_that_cannot_name_a_series_is_refused(slot: Slot, words: str) -> None:
    with pytest.raises(Refused) as caught:
        labels.check_slot(slot)
    assert caught.value.reason is Reason.BAD_LABEL
    assert words in caught.value.detail
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize("slot", [Slot("", "größe ✓", "{role}"), Slot("h", "s" * 200, "r" * 200)])
def test_a_slot_that_can_is_not(slot: Slot) -> None:
    labels.check_slot(slot)
