"""What /targets and /explain make of where a caller reached kamal-sd, and of its other wishes."""

import asyncio
import os
from typing import Any

import httpx
import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import http_sd_reader
from tests.builders import container, labels, snapshot
from tests.web.site import TOWN, Site, town

PROFILE = hypothesis.settings(
    derandomize="EXPLORE" not in os.environ, deadline=None, max_examples=300
)
WEB = container("shop-web-v1", ip="172.18.0.5")
NEXT = container("shop-web-v2", ago=5, ip="172.18.0.6")
HERE = "localhost:9889"


def by_relay(**given: Any) -> Site:
    return Site(snapshot(WEB), defaults={"address": "relay"}, **given)


def address(site: Site, host: str, path: str = "/targets") -> str:
    """The one target's address for a caller with that Host header."""
    (found,) = http_sd_reader.read(ask(site, host, path).raise_for_status().content)
    return found.address


def ask(site: Site, host: str, path: str = "/targets") -> httpx.Response:
    """As it is, whatever it is: httpx itself would send no host that is no ASCII."""
    request = httpx.Request(
        "GET", f"http://kamal-sd{path}", headers=[(b"Host", host.encode("latin-1"))]
    )
    return asyncio.run(site._ask(request))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("kamal-sd:9889", "kamal-sd:9889"),
        ("sd.example", "sd.example:80"),
        ("10.0.0.1:8080", "10.0.0.1:8080"),
        ("10.0.0.1", "10.0.0.1:80"),
        ("[fd00::1]:9889", "[fd00::1]:9889"),
        ("[fd00::1]", "[fd00::1]:80"),
        ("a_b.example.:1", HERE),
    ],
)
def test_the_relay_is_where_the_caller_reached_it(host: str, expected: str) -> None:
    assert address(by_relay(), host) == expected
    assert address(Site(snapshot(WEB)), host, "/targets?address=relay") == expected


HOSTILE = {
    "nothing": "",
    "a port alone": ":9889",
    "port zero": "a:0",
    "too high a port": "a:65536",
    "a long port": "a:" + "9" * 5000,
    "a name for a port": "a:http",
    "two ports": "a:1:2",
    "a bare IPv6 address": "fd00::1",
    "no IPv6 address": "[fd00]:1",
    "half a bracket": "[fd00::1:1",
    "nothing in brackets": "[]:1",
    "a zone": "[fe80::1%eth0]:1",
    "a zone of markup": '[fe80::1%"><script>]:1',
    "a zone of a path": "[::1%/../../x]:1",
    "markup": "<script>alert(1)</script>:1",
    "a quote": 'a"b:1',
    "a path": "a/../b:1",
    "a query": "a?b=c:1",
    "a user": "root@a:1",
    "a space": "a b:1",
    "a tab": "a\tb:1",
    "two of them": "a:1, b:2",
    "a template": "{slot}:1",
    "a long name": "a" * 300 + ":1",
    "two dots": "a..b:1",
    "a dash": "-a:1",
    "latin-1": "gr\xf6\xdfe:1",
    "a line end": "a:1\n",
}


@pytest.mark.parametrize("host", HOSTILE.values(), ids=HOSTILE)
def test_a_host_that_is_none_is_passed_over(host: str) -> None:
    site = by_relay()
    answer = ask(site, host)
    assert answer.status_code == 200
    assert [each.address for each in http_sd_reader.read(answer.content)] == [HERE]
    assert answer.content == without_host(site).content


def without_host(site: Site) -> httpx.Response:
    """The answer to a request of HTTP/1.0, which may say nothing."""
    request = httpx.Request("GET", "http://kamal-sd/targets")
    del request.headers["Host"]
    return asyncio.run(site._ask(request))


SHARED = by_relay()
PIECES = [*"[]:%.-_@/ ,19az\xe9", "::", "fe80", "9889", "..", "sd.example", "[::1", "]:80"]


@PROFILE
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=8))
def test_no_host_costs_a_caller_its_answer(pieces: list[str]) -> None:
    address(SHARED, "".join(pieces))


def test_an_address_that_is_set_wins() -> None:
    site = by_relay(relay={"address": "kamal-sd:9889"})
    for host in ("sd.example", "a:1", "<script>"):
        assert address(site, host) == "kamal-sd:9889"
    site = Site(snapshot(WEB), relay={"address": "kamal-sd:9889"})
    assert address(site, "a:1", "/targets?address=relay") == "kamal-sd:9889"


@pytest.mark.parametrize("query", ["", "?address=ip", "?generations=both"])
def test_where_nothing_is_relayed_the_answer_is_the_same_for_all(query: str) -> None:
    site = town()
    answers = [site.ask(f"/targets{query}", {"Host": host}) for host in ("a:1", "b:2", "<x>")]
    assert len({each.content for each in answers}) == 1
    assert len({each.headers["etag"] for each in answers}) == 1
    again = {"Host": "other", "If-None-Match": answers[0].headers["etag"]}
    assert site.ask(f"/targets{query}", again).status_code == 304


def test_where_something_is_relayed_nobody_has_the_answer_of_another() -> None:
    site = by_relay()
    first = site.ask("/targets", {"Host": "a:1"})
    again = {"Host": "b:1", "If-None-Match": first.headers["etag"]}
    second = site.ask("/targets", again)
    assert second.status_code == 200
    assert b"b:1" in second.content
    assert b"a:1" not in second.content


def test_many_hosts_leave_no_more_than_a_few_behind() -> None:
    site = by_relay()
    for number in range(200):
        assert address(site, f"sd-{number}:1") == f"sd-{number}:1"
    made = site.state.view._made
    assert len(made.outcomes) <= 8
    assert len(made.answers) <= 64


def test_an_explanation_has_the_address_as_the_caller_reached_it() -> None:
    document = by_relay().ask("/explain", {"Host": "sd.example:1"}).json()
    assert [each["targets"] for each in document["decisions"]] == [["sd.example:1"]]
    document = town().ask("/explain", {"Host": "sd.example:1"}).json()
    assert "sd.example" not in str(document)


# --- generations ---


def test_a_caller_can_have_both_generations() -> None:
    site = Site(snapshot(WEB, NEXT))
    assert site.instances("/targets") == {"shop-web:9394"}
    assert site.instances("/targets?generations=current") == {"shop-web:9394"}
    both = {"shop-web:9394", "shop-web.next:9394"}
    assert site.instances("/targets?generations=both") == both
    assert site.instances("/targets?generations=both&address=relay") == both
    assert site.instances("/targets?generations=both&role=job") == set()
    # An alias cannot tell the two apart, and that costs the new one, not the answer.
    site = Site(snapshot(WEB, NEXT), defaults={"alias": "{slot}"})
    assert site.instances("/targets?generations=both&address=alias") == {"shop-web:9394"}


def test_a_caller_can_do_without_the_lane_that_is_set() -> None:
    site = Site(snapshot(WEB, NEXT), defaults={"generations": "both"})
    assert len(site.instances("/targets")) == 2
    assert site.instances("/targets?generations=current") == {"shop-web:9394"}


def test_the_lane_ends_with_the_take_over() -> None:
    site = Site(snapshot(WEB, NEXT), defaults={"generations": "both"})
    before = site.ask("/targets?address=relay").content
    site.now += 90
    assert site.instances("/targets") == {"shop-web:9394"}
    site.state.publish(snapshot(WEB, NEXT, container("shop-web-v3", ago=-88)))
    assert site.instances("/targets") == {"shop-web:9394", "shop-web.next:9394"}
    after = site.ask("/targets?address=relay").content
    series = [
        sorted((sorted(each.series.items()), each.address) for each in http_sd_reader.read(body))
        for body in (before, after)
    ]
    assert series[0] == series[1]


def test_metrics_count_a_watched_candidate_as_one() -> None:
    site = Site(snapshot(*TOWN, NEXT, container("blog-web-v2", ago=1, labels=labels("blog"))))
    told = site.ask("/metrics").text
    assert 'kamal_sd_decisions{host="",reason="candidate"} 1.0' in told
