"""Promise 4 over HTTP: an error never removes a target, and is told."""

from urllib.parse import unquote

import pytest

from app.discovery import peer
from app.engine import ledger
from app.model import Snapshot
from app.web.parameters import UNLISTED_HEADER
from app.web.targets import AGE_HEADER
from tests.builders import NOW, container, snapshot, stopped
from tests.web.site import TOWN, Site, town

HOSTS = {"engines": [{"url": "unix:///a", "host": "a"}, {"url": "unix:///b", "host": "b"}]}


@pytest.mark.parametrize("query", ["", "?service=shop", "?host=a", "?address=ip"])
def test_before_the_first_list_there_is_no_answer(query: str) -> None:
    site = Site(Snapshot(""))
    answer = site.ask(f"/targets{query}")
    assert answer.status_code == 503
    assert answer.headers["retry-after"].isdecimal()
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == "no list of containers yet: the engine: not listed yet\n"
    assert "etag" not in answer.headers
    head = site.ask(f"/targets{query}", method="HEAD")
    assert (head.status_code, head.headers) == (503, answer.headers)


def test_the_reason_why_there_is_no_list_is_told() -> None:
    site = Site(Snapshot(""))
    site.state.publish(ledger.lost(Snapshot(""), "Permission denied", NOW))
    assert "the engine: Permission denied\n" in site.ask("/targets").text


def test_one_engine_without_a_list_keeps_back_the_whole_answer() -> None:
    # An answer without its targets would remove them from a Prometheus that has them.
    site = Site(snapshot(TOWN[0], host="a"), Snapshot("b"), **HOSTS)
    answer = site.ask("/targets")
    assert answer.status_code == 503
    assert answer.text == "no list of containers yet: b: not listed yet\n"
    site.state.publish(snapshot(host="b"))
    assert site.instances("/targets") == {"a/shop-web:9394"}


def test_one_of_two_that_was_never_reached_is_done_without_after_a_while_and_named() -> None:
    site = Site(snapshot(TOWN[0], host="a"), Snapshot("b"), **HOSTS)
    for path in ("/targets", "/-/ready"):
        assert site.ask(path).status_code == 503
        assert UNLISTED_HEADER not in site.ask(path).headers
    site.now += 30
    assert site.ask("/-/ready").text == "kamal-sd is ready.\n"
    assert site.instances("/targets") == {"a/shop-web:9394"}
    answer = site.ask("/targets")
    assert answer.headers[UNLISTED_HEADER] == "b"
    assert site.ask("/targets", method="HEAD").headers == answer.headers
    again = site.ask("/targets", {"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.headers[UNLISTED_HEADER]) == (304, "b")
    site.state.publish(snapshot(TOWN[0], host="b"))
    assert site.instances("/targets") == {"a/shop-web:9394", "b/shop-web:9394"}
    for path in ("/targets", "/explain"):
        assert UNLISTED_HEADER not in site.ask(path).headers


def test_explain_and_metrics_name_it_from_the_start() -> None:
    site = Site(snapshot(TOWN[0], host="a"), Snapshot("b"), **HOSTS)
    for accept in ("application/json", "text/plain"):
        answer = site.ask("/explain", {"Accept": accept})
        assert (answer.status_code, answer.headers[UNLISTED_HEADER]) == (200, "b")
    assert "b: not listed yet." in answer.text
    metrics = site.ask("/metrics").text
    assert 'kamal_sd_engine_listed{host="a"} 1.0\n' in metrics
    assert 'kamal_sd_engine_listed{host="b"} 0.0\n' in metrics


def test_whoever_asks_for_one_host_waits_for_no_other() -> None:
    site = Site(snapshot(TOWN[0], host="a"), Snapshot("b"), **HOSTS)
    assert site.instances("/targets?host=a") == {"a/shop-web:9394"}
    assert UNLISTED_HEADER not in site.ask("/targets?host=a").headers
    assert site.ask("/targets?host=a&host=b").status_code == 503
    site.now += 86_400
    assert site.instances("/targets?host=a&host=b") == {"a/shop-web:9394"}
    assert site.ask("/targets?host=a&host=b").headers[UNLISTED_HEADER] == "b"
    # Of that one alone there is nothing to say, and an empty answer would be wrong.
    answer = site.ask("/targets?host=b")
    assert answer.status_code == 503
    assert answer.text == "no list of containers yet: b: not listed yet\n"


def test_without_any_list_there_is_never_an_answer() -> None:
    site = Site(Snapshot("a"), Snapshot("b"), **HOSTS)
    site.now += 86_400
    assert site.ask("/-/ready").status_code == 503
    answer = site.ask("/targets")
    assert answer.status_code == 503
    assert answer.text.endswith("yet: a: not listed yet; b: not listed yet\n")


def test_a_host_of_any_name_can_be_in_a_header() -> None:
    names = ["größe, b", "fd00::1", "x" * 200, "🐳"]
    engines = [{"url": f"unix:///{number}", "host": name} for number, name in enumerate(names)]
    engines.append({"url": "unix:///a", "host": "a"})
    unlisted = [Snapshot(name) for name in names]
    site = Site(snapshot(TOWN[0], host="a"), *unlisted, engines=engines)
    site.now += 30
    named = site.ask("/targets").headers[UNLISTED_HEADER].split(", ")
    assert named[1:3] == ["fd00::1", "x" * 200]
    assert [unquote(each) for each in named] == names


def test_the_relay_serves_what_it_knows_and_says_what_it_does_not() -> None:
    site = Site(snapshot(host="a"), Snapshot("b"), **HOSTS)
    unknown = "/scrape/{}/shop/web/-/9394"
    for _ in range(2):
        answer = site.ask(unknown.format("b"))
        assert answer.status_code == 503
        assert answer.text == "kamal-sd: no list of containers yet of b\n"
        site.now += 30
    site.state.publish(snapshot(host="b"))
    assert site.ask(unknown.format("b")).status_code == 404


def test_the_relay_waits_for_no_other_host() -> None:
    gone = stopped("shop-web-v1", 5)
    site = Site(snapshot(gone, host="a"), Snapshot("b"), **HOSTS)
    answer = site.ask("/scrape/a/shop/web/-/9394")
    assert (answer.status_code, "its target is kept" in answer.text) == (503, True)


def test_of_those_that_were_listed_one_host_can_be_asked_for() -> None:
    site = Site(snapshot(TOWN[0], host="a"), Snapshot("b"), **HOSTS)
    assert site.instances("/targets?host=a") == {"a/shop-web:9394"}
    for query in ("host=b", "host=a&host=b", "role=web"):
        assert site.ask(f"/targets?{query}").text.startswith("no list of containers yet: b: ")
    # Nobody knows which hosts a peer has that was never heard: one that is known is not waited for,
    # and one that is not may be the peer's, however long it takes.
    site.state.publish_peer("http://c:9889", (peer.unheard("http://c:9889"),))
    site.now += 3600
    assert site.instances("/targets?host=a") == {"a/shop-web:9394"}
    assert "c:9889: not listed yet" in site.ask("/targets?host=x").text


def test_an_engine_without_containers_is_a_good_answer() -> None:
    answer = Site(snapshot()).ask("/targets")
    assert (answer.status_code, answer.content) == (200, b"[]\n")


def test_the_last_known_targets_are_served_in_an_outage_with_their_age() -> None:
    site = town()
    before = site.ask("/targets")
    assert before.headers[AGE_HEADER] == "0.0"
    site.now += 12.34
    site.state.publish(ledger.lost(site.state.view.snapshots[0], "Connection refused", site.now))
    for passed in (0, 90, 3600, 86_400):
        site.now = NOW + 12.34 + passed
        answer = site.ask("/targets")
        # Time stands still in an outage: not even the kept one expires.
        assert answer.content == before.content
        assert answer.headers["etag"] == before.headers["etag"]
        assert float(answer.headers[AGE_HEADER]) == pytest.approx(12.34 + passed, abs=0.1)


def test_the_age_is_that_of_the_oldest_list() -> None:
    site = Site(
        snapshot(host="a", listed_at=NOW - 10), snapshot(host="b", listed_at=NOW - 70), **HOSTS
    )
    assert site.ask("/targets").headers[AGE_HEADER] == "70.0"


def test_a_clock_that_was_put_back_makes_no_negative_age() -> None:
    site = town()
    site.now -= 3600
    assert site.ask("/targets").headers[AGE_HEADER] == "0.0"


def test_an_outage_shows_on_explain_and_metrics() -> None:
    site = town()
    site.now += 5
    site.state.publish(ledger.lost(site.state.view.snapshots[0], "Connection refused", site.now))
    site.now += 55
    (engine,) = site.ask("/explain").json()["engines"]
    assert (engine["up"], engine["error"], engine["list_age"]) == (False, "Connection refused", 60)
    table = site.ask("/explain", {"Accept": "text/plain"}).text
    assert table.startswith("engine: DOWN, Connection refused; 5 containers, listed 60 s ago\n")
    metrics = site.ask("/metrics").text
    assert 'kamal_sd_engine_up{host=""} 0.0\n' in metrics
    assert 'kamal_sd_engine_list_age_seconds{host=""} 60.0\n' in metrics


def test_it_stays_ready_and_healthy_in_an_outage() -> None:
    site = Site(Snapshot(""))
    assert site.ask("/-/ready").status_code == 503
    assert site.ask("/-/healthy").status_code == 200
    site.state.publish(snapshot(container()))
    assert site.ask("/-/ready").status_code == 200
    site.state.publish(ledger.lost(site.state.view.snapshots[0], "Connection refused", NOW))
    assert site.ask("/-/ready").status_code == 200
    assert site.ask("/-/healthy").status_code == 200
