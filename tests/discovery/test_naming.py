"""Managed names: who has one, and what is to be done until it is so."""

from typing import Any

import pytest

from app.discovery.naming import MARK, Move, clearance, holder_of, names, plan
from app.model import Container, Decision, Health, Network, Slot, Snapshot
from tests.builders import NOW, container, decisions, identity, labels, settings, snapshot, stopped

KAMAL = Network("kamal", "172.18.0.5")
V1, V2 = "shop-web-v1", "shop-web-v2"
ELSEWHERE: dict[str, Any] = {"engines": [{"url": "tcp://engine:2375"}]}


def member(name: str = "shop-web", ip: str = "10.0.0.2") -> tuple[Network, ...]:
    return KAMAL, Network("kamal-sd", ip, aliases=(MARK, name))


def moves(*shown: Container, **given: Any) -> list[str]:
    found = decisions(*shown, aliases={"manage": True})
    return [str(each) for each in plan(snapshot(*shown, **given), found, "kamal-sd")]


def old(**given: Any) -> Container:
    return container(V1, **{"networks": member()} | given)


def new(**given: Any) -> Container:
    return container(V2, ago=5, **given)


JOINS, LEAVES = f"{V2} joins as shop-web", f"{V1} leaves, and was shop-web"


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        pytest.param([container(V1)], [f"{V1} joins as shop-web"], id="the first one"),
        pytest.param([old()], [], id="nothing to do"),
        pytest.param([old(), new()], [], id="a candidate waits"),
        pytest.param([old(stopping=True), new()], [JOINS, LEAVES], id="told to stop"),
        pytest.param([old(stopping=True)], [], id="told to stop, and nobody follows"),
        pytest.param(
            [old(stopping=True), new(health=Health.UNHEALTHY)], [], id="an unhealthy one follows"
        ),
        pytest.param(
            [old(stopping=True), new(networks=member(ip="10.0.0.3"))], [LEAVES], id="half done"
        ),
        pytest.param(
            [stopped(V1, 1, networks=member(ip="")), new()], [JOINS, LEAVES], id="it has died"
        ),
        pytest.param(
            [old(), stopped(V2, 1, networks=member(ip=""))],
            [f"{V2} leaves, and was shop-web"],
            id="what is left of a candidate",
        ),
        pytest.param(
            [stopped(V1, 60, networks=member(ip=""))], [], id="the last one may come back"
        ),
        pytest.param([stopped(V1, 60)], [], id="one that is stopped does not join"),
        pytest.param(
            [stopped(V1, 9999, networks=member(ip=""))], [LEAVES], id="not kept any longer"
        ),
        pytest.param(
            [old(labels=labels(port=""))], [LEAVES], id="a role that is no target any more"
        ),
        pytest.param(
            [old(networks=member("old-name"))],
            [f"{V1} leaves, and was old-name"],
            id="another name",
        ),
        pytest.param(
            [container("x", labels={}, networks=(Network("kamal-sd", aliases=("shop-web",)),))],
            [],
            id="what others put there",
        ),
        pytest.param(
            [container(V1, networks=(KAMAL, Network("kamal-sd", "10.0.0.2")))], [], id="not known"
        ),
        pytest.param(
            [container(V1, network_mode="host", networks=())], [], id="the host's network"
        ),
        pytest.param([container(V1, network_mode="container:x")], [], id="another one's network"),
        pytest.param([container(V1, network_mode="none", networks=())], [], id="no network"),
        pytest.param(
            [container(V1, network_mode="hosting")],
            [f"{V1} joins as shop-web"],
            id="a network that is called so",
        ),
        pytest.param([container(labels=labels("größe"))], [], id="no name for a resolver"),
    ],
)
def test_what_is_to_be_done(shown: list[Container], wanted: list[str]) -> None:
    assert moves(*shown) == wanted


def test_while_the_engine_is_not_heard_nothing_is_done() -> None:
    assert moves(container(V1), lost_at=NOW - 5) == []
    assert plan(Snapshot(""), (), "kamal-sd") == ()


def test_no_two_slots_have_one_name() -> None:
    one, other = Slot("", "app", "web", "staging"), Slot("", "app", "web-staging")
    assert names([other, one]) == {one: "app-web-staging"}
    assert names([Slot("", "App", "Web")]) == {Slot("", "App", "Web"): "app-web"}


def test_whoever_has_no_slot_has_no_name() -> None:
    assert holder_of([]) is None


def test_all_of_it_can_be_taken_away() -> None:
    shown = snapshot(old(), stopped(V2, 1, networks=member(ip="")), container("c"))
    assert clearance(shown, "kamal-sd") == (
        Move("leave", identity(V1), V1, "shop-web"),
        Move("leave", identity(V2), V2, "shop-web"),
    )


def of(*shown: Container, network: str = "kamal-sd", **given: Any) -> dict[str, str]:
    aliases = {"manage": True, "network": network}
    found: tuple[Decision, ...] = decisions(*shown, aliases=aliases, **given)
    targets = {each.container.name: each.target for each in found if each.target}
    kind = "__meta_kamal_address"
    return {name: f"{it.labels[kind]} {it.targets[0]}" for name, it in targets.items()}


@pytest.mark.parametrize("given", [{"defaults": {"address": "alias"}}, ELSEWHERE])
def test_a_target_has_the_name_through_a_deploy(given: dict[str, Any]) -> None:
    assert of(container(V1), **given) == {V1: "alias shop-web.kamal-sd:9394"}
    assert of(old(stopping=True), new(), **given) == {V1: "alias shop-web.kamal-sd:9394"}
    assert of(stopped(V1, 1), new(), **given) == {V2: "alias shop-web.kamal-sd:9394"}


def test_where_nobody_can_join_the_address_is_another_one() -> None:
    on_host = container(V1, network_mode="host", networks=(Network("host"),))
    engine = [{"url": "tcp://engine:2375", "address": "192.0.2.1"}]
    assert of(on_host, engines=engine) == {V1: "ip 192.0.2.1:9394"}
    assert of(container(V1), **ELSEWHERE, defaults={"address": "ip"}) == {V1: "ip 172.18.0.5:9394"}


def test_the_network_is_a_setting() -> None:
    assert settings(aliases={"network": "names"}).aliases.network == "names"
    found = of(container(V1), network="names", defaults={"address": "alias"})
    assert found == {V1: "alias shop-web.names:9394"}
    joined = container(V1, networks=(KAMAL, member()[1]._replace(name="names")))
    assert moves(joined) == [f"{V1} joins as shop-web"]
