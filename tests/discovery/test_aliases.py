"""Who answers to a network alias: what is served then, and what is said."""

from typing import Any

import pytest

from app.discovery.aliases import inspects
from app.discovery.decide import Outcome, decide
from app.discovery.explain import explain
from app.model import Container, Decision, Network, Reason
from tests.builders import NOW, container, labels, settings, snapshot, stopped

VERIFIED: dict[str, Any] = {"aliases": {"verify": True}}
BY_ALIAS = VERIFIED | {"defaults": {"address": "alias", "alias": "{slot}"}}
AUTO = VERIFIED | {
    "defaults": {"alias": "{slot}"},
    "engines": [{"url": "tcp://engine:2375"}],
}


def on(*aliases: str, ip: str = "172.18.0.5") -> tuple[Network, ...]:
    return (Network("kamal", ipv4=ip, aliases=aliases),)


WEB = container("shop-web-v1", networks=on("shop-web"))
CANDIDATE = container("shop-web-v2", ago=5, networks=on("shop-web", ip="172.18.0.6"))
JOB = container("shop-job-v1", labels=labels(role="job"), networks=on("shop-web"))
STAGING = container(
    "shop-web-staging-v1", labels=labels(destination="staging"), networks=on("shop-web")
)
ONE_OFF = container("shop-web-exec-v1-abcdef", labels={"service": "shop"}, networks=on("shop-web"))
ACCESSORY = container("shop-web", labels={"service": "shop-web"}, networks=on())
FOREIGN = container("other", labels={}, networks=on("shop-web"))
APART = container("other", labels={}, networks=(Network("b", "10.0.0.9", aliases=("shop-web",)),))


def outcome(*shown: Container, alias_error: str = "", **given: Any) -> Outcome:
    return decide([snapshot(*shown, alias_error=alias_error)], settings(**given), NOW)


def of_web(found: Outcome) -> Decision:
    return next(each for each in found.decisions if each.container.name == "shop-web-v1")


def served(decision: Decision) -> str:
    return decision.target.targets[0] if decision.target else ""


@pytest.mark.parametrize(
    ("other", "named"),
    [
        pytest.param(JOB, "shop-job-v1, too", id="another role"),
        pytest.param(STAGING, "shop-web-staging-v1, too", id="a destination that inherits it"),
        pytest.param(ONE_OFF, "exec-v1-abcdef (one-off), too", id="a one-off"),
        pytest.param(ACCESSORY, "shop-web (accessory), too", id="an accessory by its own name"),
        pytest.param(FOREIGN, "other (foreign), too", id="a container of somebody else"),
    ],
)
def test_an_alias_that_others_answer_to_is_no_address(other: Container, named: str) -> None:
    found = outcome(WEB, other, **BY_ALIAS)
    assert (of_web(found).reason, served(of_web(found))) == (Reason.ALIAS_CONFLICT, "")
    assert named in of_web(found).detail
    (conflict,) = found.conflicts
    assert (conflict.network, conflict.alias) == ("kamal", "shop-web")
    assert {each.container.name for each in conflict.answering} == {"shop-web-v1", other.name}
    assert [each.container.name for each in conflict.strangers] != ["shop-web-v1"]

    found = outcome(WEB, other, **AUTO)
    assert served(of_web(found)) == "172.18.0.5:9394"
    assert "its IP is served: the alias shop-web is answered by" in of_web(found).detail


def test_what_to_do_about_it() -> None:
    assert "kamal app exec --reuse" in of_web(outcome(WEB, ONE_OFF, **BY_ALIAS)).detail
    assert "an alias of its own in deploy.yml" in of_web(outcome(WEB, JOB, **BY_ALIAS)).detail


@pytest.mark.parametrize("other", [APART, stopped("shop-job-v1", 5, labels=labels(role="job"))])
def test_elsewhere_or_stopped_nobody_is_in_the_way(other: Container) -> None:
    found = outcome(WEB, other, **BY_ALIAS)
    assert served(of_web(found)) == "shop-web:9394"
    assert not found.conflicts


@pytest.mark.parametrize("given", [BY_ALIAS, AUTO])
def test_while_two_generations_answer_it_is_said(given: dict[str, Any]) -> None:
    found = outcome(WEB, CANDIDATE, **given)
    assert served(of_web(found)) == "shop-web:9394"
    assert of_web(found).detail.endswith("; while shop-web-v2 runs, both answer to shop-web")
    assert not found.conflicts


def test_while_three_generations_answer_it_is_said() -> None:
    third = container("shop-web-v3", ago=3, networks=on("shop-web", ip="172.18.0.7"))
    found = of_web(outcome(WEB, CANDIDATE, third, **BY_ALIAS))
    told = "; while shop-web-v2, shop-web-v3 run, all answer to shop-web"
    assert found.detail.endswith(told)


def test_an_alias_that_it_does_not_have() -> None:
    bare, named = (container("shop-web-v1", networks=on(*given)) for given in ((), ("a", "b")))
    assert "it has none there" in of_web(outcome(bare, **BY_ALIAS)).detail
    assert "it answers to a, b" in of_web(outcome(named, **BY_ALIAS)).detail
    assert of_web(outcome(named, **BY_ALIAS)).reason is Reason.NO_ADDRESS
    assert served(of_web(outcome(named, **AUTO))) == "172.18.0.5:9394"


def test_without_a_setting_it_is_the_one_that_is_its_own() -> None:
    given = VERIFIED | {"defaults": {"address": "alias"}}
    shown = container("shop-web-v1", networks=on("app", "shop-web"))
    taken = container("shop-job-v1", labels=labels(role="job"), networks=on("app"))
    assert served(of_web(outcome(shown, **given))) == "app:9394"
    assert served(of_web(outcome(shown, taken, **given))) == "shop-web:9394"
    assert of_web(outcome(WEB, JOB, **given)).reason is Reason.ALIAS_CONFLICT
    odd = container("shop-web-v1", networks=on("<b>"))
    assert of_web(outcome(odd, **given)).reason is Reason.NO_ADDRESS


@pytest.mark.parametrize("alias_error", ["", "it answered 403 Forbidden"])
def test_what_is_not_known_removes_no_target(alias_error: str) -> None:
    unknown = container("shop-web-v1")
    found = of_web(outcome(unknown, alias_error=alias_error, **BY_ALIAS))
    assert served(found) == "shop-web:9394"
    assert found.detail.endswith("; who answers to shop-web is not known")
    assert served(of_web(outcome(unknown, alias_error=alias_error, **AUTO))) == "172.18.0.5:9394"


def test_where_one_could_not_be_inspected_nobody_can_be_sure() -> None:
    found = of_web(outcome(WEB, alias_error="403", **AUTO))
    assert served(found) == "172.18.0.5:9394"


def test_unless_wished_nothing_is_verified() -> None:
    found = outcome(WEB, JOB, defaults={"address": "alias", "alias": "shop-web"})
    assert served(of_web(found)) == "shop-web:9394"
    assert not found.conflicts


@pytest.mark.parametrize(
    ("aliases", "asked"),
    [
        pytest.param({}, [], id="neither"),
        pytest.param({"verify": True}, ["web", "foreign"], id="verify"),
        pytest.param({"manage": True}, ["web", "dead"], id="manage"),
    ],
)
def test_who_is_inspected(aliases: dict[str, bool], asked: list[str]) -> None:
    managed = (Network("kamal-sd", "172.19.0.5"),)
    shown = {
        "web": container(networks=managed),
        "foreign": FOREIGN,
        "dead": stopped("shop-web-v0", 5, networks=managed),
    }
    is_inspected = inspects(settings(aliases=aliases))
    assert [name for name, each in shown.items() if is_inspected(each)] == asked


@pytest.mark.parametrize("hostile", ["<b>", "a b", "a/b", "x" * 2048, "\x1b[31m", "é"])
def test_an_alias_that_no_resolver_takes_is_no_address_and_breaks_no_answer(hostile: str) -> None:
    web = container("shop-web-v1", networks=on(hostile))
    by_alias = VERIFIED | {"defaults": {"address": "alias"}}
    assert of_web(outcome(web, **by_alias)).reason is Reason.NO_ADDRESS
    beside = outcome(container("shop-web-v1", networks=on(hostile, "web")), **by_alias)
    assert served(of_web(beside)) == "web:9394"
    job = container("shop-job-v1", labels=labels(role="job"), networks=on(hostile))
    found = outcome(web, job, **BY_ALIAS)
    document = explain([], found.decisions, NOW, found.conflicts)
    (conflict,) = document["alias_conflicts"]
    words = [conflict["alias"], conflict["detail"], *(it["detail"] for it in document["decisions"])]
    assert all(each.isprintable() and len(each) <= 1024 for each in words)
