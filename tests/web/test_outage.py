"""Promise 4 over HTTP: an error never removes a target, and is told."""

import pytest

from app.engine import ledger
from app.model import Snapshot
from app.web.targets import AGE_HEADER
from tests.builders import NOW, container, snapshot
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
