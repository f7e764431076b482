from typing import Any

import pytest

from app.discovery.slots import by_slot
from app.model import Container, Kind, Reason, Slot
from tests.builders import container, labels, settings, snapshot

TITLE = "org.opencontainers.image.title"
PROXY = container("kamal-proxy", labels={TITLE: "kamal-proxy"})
EXPORTER = container("shop-exporter", labels={"service": "shop-exporter", "prometheus.port": "1"})


def test_containers_are_sorted_into_their_slots() -> None:
    old, new = container("shop-web-v1"), container("shop-web-v2")
    job = container("shop-job-v1", labels=labels(role="job"))
    staging = container("shop-web-staging-v1", labels=labels(destination="staging"))
    slots, others, _ = by_slot(snapshot(new, job, staging, old, host="h"), settings())
    assert not others
    names = {slot: [each.container.name for each in found] for slot, found in slots.items()}
    assert names == {
        Slot("h", "shop", "web"): ["shop-web-v2", "shop-web-v1"],
        Slot("h", "shop", "job"): ["shop-job-v1"],
        Slot("h", "shop", "web", "staging"): ["shop-web-staging-v1"],
    }


def test_a_missing_destination_is_an_empty_one() -> None:
    before_1_5 = container("shop-web-v1", labels={"service": "shop", "role": "web"})
    slots, _, _ = by_slot(snapshot(before_1_5, container("shop-web-v2")), settings())
    assert [len(found) for found in slots.values()] == [2]


def test_each_generation_knows_its_slot_kind_and_version() -> None:
    slots, _, _ = by_slot(snapshot(container(), host="h"), settings())
    ((generation,),) = slots.values()
    assert generation.host == "h"
    assert generation.slot == Slot("h", "shop", "web")
    assert (generation.kind, generation.version) == (Kind.APP, "v1")
    assert generation.target is None


@pytest.mark.parametrize(
    ("shown", "given", "kind", "reason", "words"),
    [
        pytest.param(
            container("x", labels={}),
            {},
            Kind.FOREIGN,
            Reason.FOREIGN,
            "no label service",
            id="foreign",
        ),
        pytest.param(
            container("x", labels={"service": "shop"}),
            {},
            Kind.ONE_OFF,
            Reason.ONE_OFF,
            "no role: a one-off",
            id="one-off",
        ),
        pytest.param(
            EXPORTER,
            {},
            Kind.ACCESSORY,
            Reason.NOT_ENABLED,
            "set accessories: true",
            id="accessory",
        ),
        pytest.param(
            PROXY, {}, Kind.PROXY, Reason.NOT_ENABLED, "set proxy.metrics_port", id="proxy"
        ),
        pytest.param(
            container(labels=labels(service="a\nb")),
            {},
            Kind.APP,
            Reason.BAD_LABEL,
            "its label service",
            id="a bad label",
        ),
        pytest.param(
            container(fault="ValueError: x", labels={}),
            {},
            Kind.FOREIGN,
            Reason.UNREADABLE,
            "the engine's entry cannot be read: ValueError: x",
            id="unreadable",
        ),
    ],
)
def test_what_has_no_slot_says_why(
    shown: Container, given: dict[str, Any], kind: Kind, reason: Reason, words: str
) -> None:
    slots, (other,), _ = by_slot(snapshot(shown, host="h"), settings(**given))
    assert not slots
    assert (other.host, other.container, other.kind, other.reason) == ("h", shown, kind, reason)
    assert words in other.detail
    assert other.slot is None


@pytest.mark.parametrize(
    ("shown", "given", "slot"),
    [
        (EXPORTER, {"accessories": True}, Slot("", "shop-exporter")),
        (PROXY, {"proxy": {"metrics_port": 9090}}, Slot("", "kamal-proxy")),
    ],
)
def test_accessories_and_kamal_proxy_are_opt_in(
    shown: Container, given: dict[str, Any], slot: Slot
) -> None:
    slots, others, _ = by_slot(snapshot(shown), settings(**given))
    assert list(slots) == [slot]
    assert not others
