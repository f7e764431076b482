"""GET /wait: it answers when a version is current in every slot that was asked for."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.engine import ledger
from app.model import Snapshot
from app.web import wait as web_wait
from tests.builders import NOW, container, labels, snapshot, stopped
from tests.web.site import TOWN, Site

LIMIT = 20.0
OLD = container("shop-web-v1", id="a" * 64)
NEW = container("shop-web-v2", id="b" * 64, ago=5)
JOB_1, JOB_2 = (
    container(f"shop-job-v{number}", ago=ago, labels=labels(role="job"))
    for number, ago in ((1, 1000), (2, 5))
)
HOSTS = {"engines": [{"url": "unix:///a", "host": "a"}, {"url": "tcp://b:1", "host": "b"}]}
QUERY = "/wait?service=shop&version=v2"


def meanwhile(site: Site, path: str, *happens: Callable[[], object], count: int = 1) -> Any:
    """The answers of requests that have begun before all that happens, one thing after another."""

    async def run() -> list[httpx.Response]:
        asking = [asyncio.create_task(_ask(site, path)) for _ in range(count)]
        async with asyncio.timeout(LIMIT):
            while len(site.state._told) < count:  # noqa: ASYNC110 - nobody tells who waits
                await asyncio.sleep(0.001)
            for each in happens:
                assert not any(task.done() for task in asking)
                # In another thread, as it comes from a watcher.
                await asyncio.to_thread(each)
                await asyncio.sleep(0.01)
            return await asyncio.gather(*asking)

    answers = asyncio.run(run())
    assert site.state._told == []
    return answers[0] if count == 1 else answers


async def _ask(site: Site, path: str) -> httpx.Response:
    return await site._ask(httpx.Request("GET", f"http://kamal-sd{path}"))


def publish(site: Site, *shown: Any, host: str = "") -> Callable[[], object]:
    return lambda: site.state.publish(snapshot(*shown, host=host))


# --- when it is current ---


@pytest.mark.parametrize("timeout", ["", "&timeout=0s", "&timeout=0ms", "&timeout=10m"])
def test_what_is_current_already_is_answered_at_once(timeout: str) -> None:
    answer = Site(snapshot(NEW, JOB_2)).ask(f"{QUERY}{timeout}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {
        "version": "v2",
        "current": True,
        "detail": "v2 is current in shop-job, shop-web",
        "slots": [
            {"host": "", "slot": "shop-job", "version": "v2", "current": True},
            {"host": "", "slot": "shop-web", "version": "v2", "current": True},
        ],
    }


def test_it_is_answered_when_the_old_one_dies() -> None:
    site = Site(snapshot(OLD, NEW))

    def die() -> None:
        site.state.publish(ledger.died(site.state.view.snapshots[0], OLD.id, NOW))

    assert meanwhile(site, QUERY, die).json()["current"]


def test_it_is_answered_when_the_last_of_its_slots_has_it() -> None:
    site = Site(snapshot(OLD, JOB_1))
    happens = [
        publish(site, OLD, NEW, JOB_1),
        publish(site, NEW, JOB_1),
        publish(site, NEW, JOB_1, JOB_2),
        publish(site, NEW, JOB_2),
    ]
    answer = meanwhile(site, QUERY, *happens)
    assert (answer.status_code, answer.json()["current"]) == (200, True)


def test_it_is_answered_when_kamal_proxy_switches() -> None:
    site = Site(snapshot(OLD, NEW))
    active = {"shop-web": frozenset({NEW.id[:12]})}
    assert meanwhile(site, QUERY, lambda: site.state.publish_active("", active)).is_success


def test_it_is_answered_when_time_alone_brings_it() -> None:
    soon = container("shop-web-v2", ago=89.8)
    site = Site(snapshot(OLD, soon))

    def pass_by() -> None:
        site.now = NOW + 0.2

    answer = meanwhile(site, f"{QUERY}&timeout=10m", pass_by)
    assert (answer.status_code, answer.json()["current"]) == (200, True)


def test_it_can_be_asked_before_there_is_any_list() -> None:
    site = Site(Snapshot(""))
    assert meanwhile(site, QUERY, publish(site), publish(site, OLD), publish(site, NEW)).is_success


def test_of_an_engine_that_was_not_listed_nobody_knows_that_all_its_slots_have_it() -> None:
    site = Site(snapshot(NEW, host="a"), Snapshot("b"), **HOSTS)
    early = site.ask(f"{QUERY}&timeout=0s")
    assert (early.status_code, early.json()["current"]) == (504, False)
    assert "b" in early.json()["detail"]
    answer = meanwhile(site, QUERY, publish(site, OLD, host="b"), publish(site, NEW, host="b"))
    assert len(answer.json()["slots"]) == 2


def test_an_engine_that_was_never_reached_is_done_without_after_a_while() -> None:
    site = Site(snapshot(NEW, host="a"), Snapshot("b"), **HOSTS)

    def pass_by() -> None:
        site.now = NOW + 30

    # Whoever waits has the answer when the grace is over, although nobody tells it.
    site.now = NOW + 29.8
    document = meanwhile(site, f"{QUERY}&timeout=10m", pass_by).json()
    assert document["current"]
    assert document["detail"] == "v2 is current in shop-web; what runs is not known of b"
    # Whoever asks for that one alone waits on.
    alone = site.ask(f"{QUERY}&host=b&timeout=0s").json()
    assert not alone["current"]
    assert alone["detail"] == "what runs is not known yet of b"


def test_whoever_asks_for_one_host_waits_for_no_other() -> None:
    site = Site(snapshot(NEW, host="a"), Snapshot("b"), **HOSTS)
    answer = site.ask(f"{QUERY}&host=a&timeout=0s")
    assert answer.json()["detail"] == "v2 is current in shop-web"


def test_a_role_that_is_asked_for_is_waited_for() -> None:
    site = Site(snapshot(NEW))
    path = f"{QUERY}&role=web&role=job"
    assert site.ask(f"{path}&timeout=0s").json()["detail"] == "v2 is not current in job"
    assert meanwhile(site, path, publish(site, NEW, JOB_2)).is_success
    assert site.ask(f"{QUERY}&role=web").is_success


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("service=shop&version=v2&destination=", "v2 is not current in shop-job"),
        ("service=shop&version=v2&destination=&role=web", "v2 is current in shop-web"),
        ("service=shop&version=v3&destination=staging", "v3 is current in shop-web-staging"),
        ("service=shop&version=v3", "v3 is not current in shop-job, shop-web"),
        ("service=shop&service=blog&role=web&version=v2",
         "v2 is not current in blog-web, shop-web-staging"),
        ("service=shop&version=v2&host=elsewhere",
         "no slot with a metrics port is known of service shop, host elsewhere"),
        ("service=nobody&version=v2", "no slot with a metrics port is known of service nobody"),
    ],
)  # fmt: skip
def test_filters(query: str, detail: str) -> None:
    answer = Site(snapshot(*TOWN)).ask(f"/wait?{query}&timeout=0s")
    assert answer.json()["detail"] == detail
    assert answer.status_code == (504 if " no" in f" {detail}" or "not" in detail else 200)


# --- when it is not in time ---


@pytest.mark.parametrize("timeout", ["0s", "1ms", "50ms"])
def test_else_it_names_what_lacks(timeout: str) -> None:
    answer = Site(snapshot(NEW, JOB_1, JOB_2)).ask(f"{QUERY}&timeout={timeout}")
    assert (answer.status_code, answer.headers["content-type"]) == (504, "application/json")
    assert answer.json() == {
        "version": "v2",
        "current": False,
        "detail": "v2 is not current in shop-job",
        "slots": [
            {"host": "", "slot": "shop-job", "version": "v1", "current": False},
            {"host": "", "slot": "shop-web", "version": "v2", "current": True},
        ],
    }


def test_what_it_names_is_of_the_end_and_not_of_the_begin() -> None:
    site = Site(snapshot(OLD, JOB_1))
    answer = meanwhile(site, f"{QUERY}&timeout=300ms", publish(site, NEW, JOB_1))
    assert answer.status_code == 504
    assert answer.json()["detail"] == "v2 is not current in shop-job"


def test_in_an_outage_it_waits() -> None:
    site = Site(snapshot(OLD, NEW))
    lost = ledger.lost(site.state.view.snapshots[0], "gone", NOW)
    happens = [lambda: site.state.publish(lost), publish(site, NEW)]
    assert meanwhile(site, QUERY, *happens).is_success


def test_it_has_an_end_however_long_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert web_wait._LONGEST_SECONDS == 600
    monkeypatch.setattr(web_wait, "_LONGEST_SECONDS", 0.05)
    assert Site(snapshot(OLD)).ask(f"{QUERY}&timeout=292y").status_code == 504


# --- for people ---


@pytest.mark.parametrize(
    ("accept", "is_text"),
    [
        ("text/plain", True),
        ("text/plain;q=0.9, */*", True),
        ("application/json", False),
        ("text/plain, application/json", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_a_text_goes_to_whoever_asks_for_one(accept: str, is_text: bool) -> None:
    site = Site(snapshot(NEW))
    for version, status in (("v2", 200), ("v3", 504)):
        path = f"/wait?service=shop&version={version}&timeout=0s"
        answer = site.ask(path, {"Accept": accept})
        assert answer.status_code == status
        detail = f"{version} is {'' if status == 200 else 'not '}current in shop-web"
        if is_text:
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert answer.text == f"{detail}\n"
        else:
            assert answer.json()["detail"] == detail


# --- what is wrong ---


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "version: Field required"),
        ("service=shop", "version: Field required"),
        ("version=v2", "service: Field required"),
        ("service=shop&version=v2&timeout=", "timeout: '' is no duration; write it like 30s"),
        ("service=shop&version=v2&timeout=60", "timeout: '60' is no duration"),
        ("service=shop&version=v2&timeout=-1s", "timeout: '-1s' is no duration"),
        ("service=shop&version=v2&timeout=soon", "timeout: 'soon' is no duration"),
        ("service=shop&version=v2&timeout=999y", "is longer than the 292 years"),
        ("service=shop&version=v2&timeot=1s", "unknown parameter 'timeot'; did you mean timeout?"),
        ("service=shop&version=v2&address=ip", "unknown parameter 'address'; known are service, "),
        ("service=shop&version=v2&roles=web", "did you mean role?"),
        ("service=shop&version=v2&%3Cscript%3E=1", "unknown parameter '<script>'"),
    ],
)
def test_a_wrong_query_is_said_to_be(query: str, words: str) -> None:
    answer = Site(snapshot(OLD)).ask(f"/wait?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (
        400,
        "text/plain; charset=utf-8",
    )
    assert words in answer.text
    assert len(answer.text) < 300


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written(method: str) -> None:
    assert Site(snapshot(NEW)).ask(QUERY, method=method).status_code == 405


# --- many ---


def test_many_are_answered_by_one_change() -> None:
    site = Site(snapshot(OLD))
    answers = meanwhile(site, f"{QUERY}&timeout=10m", publish(site, NEW), count=200)
    assert {each.status_code for each in answers} == {200}
    assert len({each.content for each in answers}) == 1


# --- slots that are no targets ---


@pytest.mark.parametrize(
    "broken",
    [{"network": "other"}, {"labels": labels(role="job") | {"prometheus.path": "metrics"}}],
    ids=["no address", "a bad endpoint"],
)
def test_one_that_runs_and_cannot_be_a_target_lacks_the_version(broken: dict[str, Any]) -> None:
    job = container("shop-job-v1", **{"labels": labels(role="job"), **broken})
    answer = Site(snapshot(NEW, job)).ask(f"{QUERY}&timeout=0s")
    assert answer.status_code == 504
    assert answer.json()["detail"] == "v2 is not current in shop-job"
    assert answer.json()["slots"][0] == {
        "host": "",
        "slot": "shop-job",
        "version": "",
        "current": False,
    }
    # Filters hold for it, too.
    assert Site(snapshot(NEW, job)).ask(f"{QUERY}&role=web&timeout=0s").status_code == 200


def test_what_has_stopped_or_has_no_port_is_nothing_to_wait_for() -> None:
    bad = labels(role="job") | {"prometheus.path": "metrics"}
    for job in (
        stopped("shop-job-v1", 5, labels=bad),
        container("shop-job-v1", labels=labels(role="job", port="")),
    ):
        assert Site(snapshot(NEW, job)).ask(f"{QUERY}&timeout=0s").status_code == 200


def test_a_candidate_without_an_address_of_its_own_does_not_count() -> None:
    by_alias = {"defaults": {"address": "alias", "alias": "{slot}", "generations": "both"}}
    answer = Site(snapshot(OLD, NEW), **by_alias).ask("/wait?service=shop&version=v1&timeout=0s")
    assert answer.status_code == 200
