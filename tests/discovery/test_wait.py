"""How far a version has come, as a document."""

import json

import pytest

from app.discovery.http_sd import Filters
from app.discovery.wait import WaitDocument, progress
from app.model import Container
from app.state import State
from tests.builders import NOW, container, labels, settings, snapshot, stopped

HOSTS = [{"url": "unix:///a", "host": "a"}, {"url": "tcp://b:1", "host": "b"}]
WEB_1, WEB_2 = container("shop-web-v1"), container("shop-web-v2", ago=5)
JOB_1, JOB_2 = (
    container(f"shop-job-v{number}", ago=ago, labels=labels(role="job"))
    for number, ago in ((1, 1000), (2, 5))
)
STAGING = container("shop-web-staging-v2", labels=labels(destination="staging"))
BLOG = container("blog-web-v1", labels=labels("blog"))
GONE = stopped("shop-web-v2", 5)


def asked(**wanted: str) -> Filters:
    """`role="web,job"` asks for both."""
    return {name: frozenset(values.split(",")) for name, values in wanted.items()}


def wait(*shown: Container, version: str = "v2", filters: Filters | None = None) -> WaitDocument:
    standing = State([snapshot(*shown)], settings(), lambda: NOW).view.current()
    return progress(standing, asked(service="shop") if filters is None else filters, version)


@pytest.mark.parametrize(
    ("shown", "filters", "detail"),
    [
        ([WEB_2], {}, "v2 is current in shop-web"),
        ([WEB_2, JOB_2], {}, "v2 is current in shop-job, shop-web"),
        ([WEB_2, BLOG], {}, "v2 is current in shop-web"),
        ([WEB_2, JOB_1], {"role": "web"}, "v2 is current in shop-web"),
        ([WEB_2, JOB_2], {"role": "web,job"}, "v2 is current in shop-job, shop-web"),
        ([WEB_1, STAGING], {"destination": "staging"}, "v2 is current in shop-web-staging"),
        ([WEB_2, STAGING], {"destination": ""}, "v2 is current in shop-web"),
        ([stopped("shop-web-v1", 5), WEB_2], {}, "v2 is current in shop-web"),
    ],
)
def test_it_is_there(shown: list[Container], filters: dict[str, str], detail: str) -> None:
    found = wait(*shown, filters=asked(service="shop", **filters))
    assert found["current"]
    assert found["detail"] == detail
    assert all(each["current"] and each["version"] == "v2" for each in found["slots"])


@pytest.mark.parametrize(
    ("shown", "filters", "detail"),
    [
        pytest.param([WEB_1], {}, "v2 is not current in shop-web", id="another one is"),
        pytest.param([WEB_1, WEB_2], {}, "v2 is not current in shop-web", id="it is a candidate"),
        pytest.param([WEB_2, JOB_1], {}, "v2 is not current in shop-job", id="in one of two"),
        pytest.param(
            [WEB_1, JOB_1], {}, "v2 is not current in shop-job, shop-web", id="in none of two"
        ),
        pytest.param([GONE], {}, "v2 is not current in shop-web", id="it has stopped"),
        pytest.param(
            [WEB_1, STAGING], {"destination": ""}, "v2 is not current in shop-web",
            id="in another destination",
        ),
        pytest.param(
            [WEB_2], {"role": "web,job"}, "v2 is not current in job", id="a role is not there"
        ),
        pytest.param(
            [WEB_1], {"role": "web,job,cron"}, "v2 is not current in shop-web, cron, job",
            id="roles are not there",
        ),
        pytest.param(
            [], {}, "no slot with a metrics port is known of service shop", id="nothing is"
        ),
        pytest.param(
            [WEB_2], {"host": "b", "destination": "staging"},
            "no slot with a metrics port is known of service shop, host b, destination staging",
            id="nothing of that",
        ),
        pytest.param(
            [container(labels=labels(port=""))], {},
            "no slot with a metrics port is known of service shop", id="no metrics port",
        ),
        pytest.param([BLOG], {"role": "web"}, "v2 is not current in web", id="of another service"),
    ],
)  # fmt: skip
def test_it_is_not_there(shown: list[Container], filters: dict[str, str], detail: str) -> None:
    found = wait(*shown, filters=asked(service="shop", **filters))
    assert not found["current"]
    assert found["detail"] == detail


def test_each_slot_is_told_with_what_is_current_there() -> None:
    assert wait(WEB_1, WEB_2, JOB_2, STAGING)["slots"] == [
        {"host": "", "slot": "shop-job", "version": "v2", "current": True},
        {"host": "", "slot": "shop-web", "version": "v1", "current": False},
        {"host": "", "slot": "shop-web-staging", "version": "v2", "current": True},
    ]
    assert wait(GONE)["slots"] == [
        {"host": "", "slot": "shop-web", "version": "", "current": False}
    ]


def test_one_slot_a_host() -> None:
    shown = [snapshot(WEB_2, host="a"), snapshot(WEB_1, host="b")]
    standing = State(shown, settings(engines=HOSTS), lambda: NOW).view.current()
    found = progress(standing, asked(service="shop"), "v2")
    assert [(each["host"], each["current"]) for each in found["slots"]] == [
        *(("a", True), ("b", False))
    ]
    assert not found["current"]
    assert found["detail"] == "v2 is not current in shop-web"
    assert progress(standing, asked(service="shop", host="a"), "v2")["current"]


def test_the_same_version_deployed_again_counts() -> None:
    old = container("shop-web-v2_replaced_0123456789abcdef")
    assert wait(old, WEB_2)["current"]


@pytest.mark.parametrize("version", ["", "v", "V2", "v2 ", "v22", "2", "latest"])
def test_a_version_is_the_whole_of_it(version: str) -> None:
    assert not wait(WEB_2, version=version)["current"]


@pytest.mark.parametrize("text", ["\ud800", "a\nb", "\x1b[2J", "x" * 100_000, "\u202e", "<script>"])
def test_whatever_is_asked_for_every_reader_can_take_the_answer(text: str) -> None:
    filters = {"service": frozenset({"shop", text}), "role": frozenset({text})}
    found = wait(WEB_2, version=text, filters=filters)
    assert not found["current"]
    for value in (found["version"], found["detail"]):
        assert value.isprintable()
        assert len(value) <= 1024
    json.dumps(found, ensure_ascii=False).encode()
