"""GET /targets, as Prometheus and others ask it."""

import json
from dataclasses import replace

import pytest

from app.engine import ledger
from app.web.targets import AGE_HEADER
from tests import http_sd_reader
from tests.builders import snapshot
from tests.web.site import TOWN, Site, town

ALL = {"shop-web:9394", "shop-job:9394", "shop-web-staging:9394", "blog-web:9394"}
TWO_HOSTS = {"engines": [{"url": "unix:///a", "host": "a"}, {"url": "unix:///b", "host": "b"}]}


def two_hosts() -> Site:
    return Site(snapshot(TOWN[0], host="a"), snapshot(TOWN[0], TOWN[3], host="b"), **TWO_HOSTS)


def test_the_answer_is_what_prometheus_takes() -> None:
    answer = town().ask("/targets")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    targets = {t.labels["instance"]: t for t in http_sd_reader.read(answer.content)}
    assert set(targets) == ALL
    assert targets["shop-web:9394"].address == "172.18.0.5:9394"
    assert targets["shop-job:9394"].address == "shop-job.invalid:9394"
    assert targets["shop-web-staging:9394"].series == {
        "instance": "shop-web-staging:9394",
        "service": "shop",
        "role": "web",
        "destination": "staging",
    }


def test_the_same_state_gives_the_same_bytes_whatever_the_order_of_its_list() -> None:
    bodies = {Site(snapshot(*order)).ask("/targets").content for order in (TOWN, TOWN[::-1])}
    assert len(bodies) == 1


def test_head_answers_with_the_heads_of_get() -> None:
    site = town()
    got, head = site.ask("/targets"), site.ask("/targets", method="HEAD")
    assert head.status_code == 200
    assert dict(head.headers) == dict(got.headers)
    assert int(head.headers["content-length"]) == len(got.content) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_written(method: str) -> None:
    assert town().ask("/targets", method=method).status_code == 405


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", ALL),
        ("?", ALL),
        ("?service=shop", ALL - {"blog-web:9394"}),
        ("?service=shop&service=blog", ALL),
        ("?role=web", ALL - {"shop-job:9394"}),
        ("?service=shop&role=web", {"shop-web:9394", "shop-web-staging:9394"}),
        ("?destination=", ALL - {"shop-web-staging:9394"}),
        ("?destination", ALL - {"shop-web-staging:9394"}),
        ("?destination=staging", {"shop-web-staging:9394"}),
        ("?destination=&destination=staging", ALL),
        ("?destination=production", set()),
        ("?service=SHOP", set()),
        ("?service=sho", set()),
        ("?service=shop%20", set()),
        ("?host=", ALL),
        ("?host=elsewhere", set()),
        ("?service=%00%0a%ff&role=%F0%9F%90%B3", set()),
    ],
)
def test_filters(query: str, wanted: set[str]) -> None:
    assert town().instances(f"/targets{query}") == wanted


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", {"a/shop-web:9394", "b/shop-web:9394", "b/blog-web:9394"}),
        ("?host=a", {"a/shop-web:9394"}),
        ("?host=a&host=b&service=blog", {"b/blog-web:9394"}),
    ],
)
def test_the_filter_for_hosts(query: str, wanted: set[str]) -> None:
    assert two_hosts().instances(f"/targets{query}") == wanted


def test_nothing_left_by_a_filter_is_an_empty_list() -> None:
    assert json.loads(town().ask("/targets?service=nobody").content) == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("servce=shop", "did you mean service?"),
        ("roles=web", "did you mean role?"),
        ("Service=shop", "did you mean service?"),
        ("adress=ip", "did you mean address?"),
        ("x=1", "known are service, role, destination, host, address, generations."),
        ("service=shop&x=1", "unknown parameter 'x'"),
        ("%0aSet-Cookie:%20a=b", "unknown parameter"),
        ("%3Cscript%3E=1", "unknown parameter '<script>'"),
        ("%F0%9F%90%B3=1", r"unknown parameter '\U0001f433'"),
        (f"{'x' * 5000}=1", "unknown parameter"),
        ("address=dns", "address"),
        ("address=", "'auto', 'alias', 'ip', 'published' or 'relay'"),
        ("generations=all", "generations: Input should be 'current' or 'both'"),
        ("address=IP", "'auto', 'alias', 'ip', 'published' or 'relay'"),
    ],
)
def test_a_wrong_query_is_said_to_be(query: str, words: str) -> None:
    site = town()
    answer = site.ask(f"/targets?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert words in answer.text
    assert answer.text.count("\n") == 1
    assert len(answer.text) < 300
    assert site.ask(f"/targets?{query}", method="HEAD").headers == answer.headers


def test_a_caller_can_ask_for_its_kind_of_address() -> None:
    site = town(defaults={"alias": "{slot}"})

    def addresses(query: str) -> set[str]:
        body = site.ask(f"/targets?service=blog{query}").content
        return {target.address for target in http_sd_reader.read(body)}

    assert addresses("") == addresses("&address=auto") == {"blog-web:9394"}
    assert addresses("&address=alias") == {"blog-web:9394"}
    assert addresses("&address=ip") == {"172.18.0.7:9394"}
    # Without an alias none can be told, and that costs the target, not the answer.
    assert town().instances("/targets?address=alias") == {"shop-job:9394"}


@pytest.mark.parametrize(
    ("pattern", "status"),
    [
        ("{etag}", 304),
        ("W/{etag}", 304),
        ('"other", {etag}', 304),
        ('{etag},"other"', 304),
        ("*", 304),
        ('"other"', 200),
        ("{bare}", 200),
        ("", 200),
        (", ,", 200),
        ("{gzipped}", 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_304_goes_to_whoever_has_the_answer_already(
    pattern: str, status: int, method: str
) -> None:
    site = town()
    first = site.ask("/targets")
    etag = first.headers["etag"]
    gzipped = site.ask("/targets", {"Accept-Encoding": "gzip"}).headers["etag"]
    assert etag.startswith('"')
    assert len({etag, gzipped}) == 2
    asked = pattern.format(etag=etag, bare=etag.strip('"'), gzipped=gzipped)
    second = site.ask("/targets", {"If-None-Match": asked}, method)
    assert second.status_code == status
    assert second.headers["etag"] == etag
    assert second.headers[AGE_HEADER] == "0.0"
    assert second.headers["vary"] == "Accept-Encoding"
    if status == 304:
        assert second.content == b""
        assert "content-type" not in second.headers
    else:
        assert int(second.headers["content-length"]) == len(first.content)


def test_the_etag_changes_with_the_answer_and_with_nothing_else() -> None:
    site = town()
    first = site.ask("/targets").headers["etag"]
    site.now += 30
    assert site.ask("/targets").headers["etag"] == first
    known = site.state.view.snapshots[0]
    site.state.publish(replace(known, events=500, listed_at=site.now))
    assert site.ask("/targets").headers["etag"] == first
    assert site.ask("/targets?service=shop").headers["etag"] != first
    site.state.publish(ledger.died(site.state.view.snapshots[0], TOWN[0].id, site.now))
    assert site.ask("/targets").headers["etag"] != first


@pytest.mark.parametrize(
    ("accepted", "gzipped"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("deflate, gzip;q=0.5, br", True),
        ("gzip;q=1.0", True),
        ("gzip; q=0.001", True),
        ("", False),
        ("identity", False),
        ("*", False),
        ("deflate, br", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("GZIP ; Q=0.0 ", False),
        ("gzipped", False),
    ],
)
def test_gzip_goes_to_whoever_asks_for_it(accepted: str, gzipped: bool) -> None:
    site = town()
    plain = site.ask("/targets").content
    answer = site.ask("/targets", {"Accept-Encoding": accepted})
    assert answer.headers.get("content-encoding") == ("gzip" if gzipped else None)
    assert answer.headers["vary"] == "Accept-Encoding"
    made = site.state.view.answer({})
    assert len(made.gzipped) < len(plain) / 2
    sent = len(made.gzipped) if gzipped else len(plain)
    assert int(answer.headers["content-length"]) == sent
    assert answer.content == plain
    if gzipped:
        again = {"Accept-Encoding": "gzip", "If-None-Match": answer.headers["etag"]}
        assert site.ask("/targets", again).status_code == 304
