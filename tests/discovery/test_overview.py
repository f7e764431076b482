"""The rows that people are shown."""

import pytest

from app.discovery.decide import decide
from app.discovery.explain import explain
from app.discovery.history import Change, Entry
from app.discovery.overview import Overview, age, overview, passing
from app.model import Container, Health, Slot, State
from tests.builders import NOW, container, labels, settings, snapshot, stopped

V1, V2 = container("shop-web-v1"), container("shop-web-v2", ago=12.0, ip="172.18.0.6")


def of(*shown: Container, history: tuple[Entry, ...] = ()) -> Overview:
    engine = snapshot(*shown, host="a")
    outcome = decide([engine], settings(engines=[{"url": "tcp://a:2375", "host": "a"}]), NOW)
    return overview(explain([engine], outcome.decisions, NOW, history=history))


@pytest.mark.parametrize(
    ("shown", "status", "is_well"),
    [
        ([V1], "ok", True),
        ([V1, V2], "deploying", True),
        ([stopped("shop-web-v1", 5.0)], "down", False),
        ([container(health=Health.UNHEALTHY)], "unhealthy", False),
        ([container(state=State.PAUSED)], "paused", False),
        ([container(labels=labels(port="none"))], "refused", False),
        ([container(labels=labels(port="1,1"))], "refused", False),
    ],
)
def test_a_slot_in_one_word(shown: list[Container], status: str, is_well: bool) -> None:
    (row,) = of(*shown).rows
    assert (row.status, row.is_well) == (status, is_well)


def test_a_row_has_all_of_its_slot_and_the_rest_is_elsewhere() -> None:
    old, other = stopped("shop-web-v0", 500.0), container("x", labels={})
    happened = Entry(NOW, "a", Slot("a", "shop", "web"), Change.UP)
    elsewhere = Entry(NOW, "b", Slot("b", "shop", "web"), Change.UP)
    found = of(V1, V2, old, other, history=(happened, elsewhere))
    (row,) = found.rows
    assert (row.host, row.slot) == ("a", "shop-web")
    assert [each["container"] for each in row.decisions] == ["shop-web-v1", "shop-web-v2"]
    assert [each["host"] for each in row.history] == ["a"]
    assert {each["container"] for each in found.others} == {"shop-web-v0", "x"}


def test_a_role_without_a_port_has_no_row() -> None:
    found = of(container(labels=labels(port="")))
    assert found.rows == ()
    assert [each["reason"] for each in found.others] == ["no-port"]


def test_what_passes_a_search() -> None:
    job = container("shop-job-v7", labels=labels(role="job"))
    whole = of(V1, V2, job, container("x", labels={}))

    def rows(**wanted: str) -> list[str]:
        return [row.slot for row in passing(whole, **wanted).rows]

    assert rows() == ["shop-job", "shop-web"]
    assert rows(text="JOB-V7") == ["shop-job"]
    assert rows(reason="candidate") == ["shop-web"]
    assert rows(host="b") == []
    assert [each["container"] for each in passing(whole, reason="foreign").others] == ["x"]
    assert passing(whole, text="nothing like it") == Overview((), ())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0.9, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (90_000, "1d")],
)
def test_an_age(seconds: float, text: str) -> None:
    assert age(seconds) == text
