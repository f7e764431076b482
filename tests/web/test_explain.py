"""GET /explain: every decision, for programs and for people."""

from typing import get_type_hints

import pytest

from app.discovery.explain import DecisionDocument, EngineDocument, ExplainDocument
from app.model import Network, Snapshot
from tests.builders import NOW, container, labels, snapshot
from tests.web.site import TOWN, Site, town

PLAIN = {"Accept": "text/plain"}


def test_every_container_has_a_decision_with_a_reason() -> None:
    answer = town().ask("/explain")
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert set(document) == set(get_type_hints(ExplainDocument))
    assert document["time"] == NOW
    (engine,) = document["engines"]
    assert set(engine) == set(get_type_hints(EngineDocument))
    assert (engine["host"], engine["up"], engine["containers"]) == ("", True, len(TOWN))
    assert all(set(each) == set(get_type_hints(DecisionDocument)) for each in document["decisions"])
    assert {each["container"]: each["reason"] for each in document["decisions"]} == {
        "shop-web-v2": "current",
        "shop-job-v1": "kept",
        "shop-web-staging-v3": "current",
        "blog-web-v1": "current",
        "blog-job-v1": "no-port",
    }
    assert all(each["detail"] for each in document["decisions"])


def test_a_decision_tells_the_whole_of_it() -> None:
    decisions = town().ask("/explain").json()["decisions"]
    (job,) = (each for each in decisions if each["container"] == "shop-job-v1")
    assert job == {
        "host": "",
        "slot": "shop-job",
        "kind": "app",
        "service": "shop",
        "role": "job",
        "destination": "",
        "version": "v1",
        "container": "shop-job-v1",
        "container_id": TOWN[1].id,
        "state": "exited",
        "health": "none",
        "since": NOW - 60,
        "reason": "kept",
        "detail": job["detail"],
        "targets": ["shop-job.invalid:9394"],
        "upstream": "",
        "instance": "shop-job:9394",
        "labels": job["labels"],
    }


def test_the_labels_are_those_of_the_target() -> None:
    site = town()
    explained = [each["labels"] for each in site.ask("/explain").json()["decisions"]]
    served = [group["labels"] for group in site.ask("/targets").json()]
    assert [labels for labels in explained if labels] == served


def test_an_unknown_parameter_is_refused() -> None:
    answer = town().ask("/explain?adress=ip")
    assert answer.status_code == 400
    assert "did you mean address?" in answer.text


def test_the_targets_are_those_of_targets() -> None:
    site = town()
    explained = {
        target for each in site.ask("/explain").json()["decisions"] for target in each["targets"]
    }
    served = {target for group in site.ask("/targets").json() for target in group["targets"]}
    assert explained == served


@pytest.mark.parametrize(
    ("accept", "table"),
    [
        ("text/plain", True),
        ("text/plain; charset=utf-8", True),
        ("text/plain, */*;q=0.1", True),
        ("application/json", False),
        ("*/*", False),
        ("", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("application/json, text/plain;q=0.5", False),
    ],
)
def test_who_gets_a_table(accept: str, table: bool) -> None:
    kind = town().ask("/explain", {"Accept": accept}).headers["content-type"]
    assert kind == ("text/plain; charset=utf-8" if table else "application/json")


def test_the_table_is_one() -> None:
    text = town().ask("/explain", PLAIN).text
    assert text == (
        "engine: up, 5 containers, listed 0 s ago\n"
        "\n"
        "CONTAINER            SLOT              VERSION  STATE    REASON   TARGET\n"
        "blog-job-v1          blog-job          v1       running  no-port  -\n"
        "blog-web-v1          blog-web          v1       running  current  172.18.0.7:9394\n"
        "shop-job-v1          shop-job          v1       exited   kept     shop-job.invalid:9394\n"
        "shop-web-v2          shop-web          v2       running  current  172.18.0.5:9394\n"
        "shop-web-staging-v3  shop-web-staging  v3       running  current  172.18.0.6:9394\n"
    )


def test_the_table_before_the_first_list() -> None:
    text = Site(Snapshot("")).ask("/explain", PLAIN).text
    assert text.splitlines()[0] == "engine: not listed yet."


def test_a_container_without_a_name_is_told_by_its_id() -> None:
    nameless = container("", id="0123456789abcdef" * 4)
    text = Site(snapshot(nameless)).ask("/explain", PLAIN).text
    assert text.splitlines()[-1].startswith("0123456789ab  ")


def test_it_answers_head_and_nothing_that_writes() -> None:
    site = town()
    assert site.ask("/explain", method="POST").status_code == 405


def test_conflicts_of_aliases_and_what_is_not_known_of_them_are_told() -> None:
    networks = (Network("kamal", "172.18.0.5", aliases=("shop",)),)
    web = container(networks=networks)
    job = container("shop-job-v1", labels=labels(role="job"), networks=networks)
    site = Site(snapshot(web, job, alias_error="it answered 403"), aliases={"verify": True})
    (conflict,) = site.ask("/explain").json()["alias_conflicts"]
    detail = (
        "shop on the network kamal is answered by shop-web-v1, shop-job-v1; "
        "give each an alias of its own in deploy.yml (options: network-alias)"
    )
    assert conflict == {
        "host": "",
        "network": "kamal",
        "alias": "shop",
        "containers": ["shop-web-v1", "shop-job-v1"],
        "detail": detail,
    }
    text = site.ask("/explain", headers=PLAIN).text
    assert f"alias conflict: {detail}\n" in text
    assert "; not all aliases are known: it answered 403\n" in text


def test_with_several_hosts_the_table_tells_which() -> None:
    engines = [{"url": "tcp://a:1", "host": "a"}, {"url": "tcp://b:1", "host": "b"}]
    site = Site(snapshot(container(), host="a"), snapshot(container(), host="b"), engines=engines)
    lines = site.ask("/explain", {"Accept": "text/plain"}).text.splitlines()
    assert [line.split()[1] for line in lines if "shop-web-v1" in line] == [
        "a/shop-web",
        "b/shop-web",
    ]
