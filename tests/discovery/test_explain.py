import json

import pytest

from app.discovery.explain import DecisionDocument, explain, place_of
from app.model import Container
from tests.builders import NOW, container, decisions, snapshot, stopped


def document(*shown: Container) -> DecisionDocument:
    (found,) = explain([snapshot(*shown)], decisions(*shown), NOW)["decisions"]
    return found


def test_a_target_is_explained() -> None:
    found = document(container(id="c0ffee"))
    labels = found.pop("labels")  # type: ignore[misc]
    assert labels["__meta_kamal_version"] == "v1"
    assert found == {
        "host": "",
        "slot": "shop-web",
        "kind": "app",
        "service": "shop",
        "role": "web",
        "destination": "",
        "version": "v1",
        "container": "shop-web-v1",
        "container_id": "c0ffee",
        "state": "running",
        "health": "none",
        "since": NOW - 1000,
        "reason": "current",
        "detail": "it is the current one of its slot",
        "targets": ["172.18.0.5:9394"],
        "upstream": "",
        "instance": "shop-web:9394",
    }


def test_what_is_no_target_is_explained() -> None:
    found = document(container("x", labels={}, since=NOW - 0.12345))
    assert found["reason"] == "foreign"
    assert (found["targets"], found["instance"], found["slot"]) == ([], "", "")
    assert (found["service"], found["role"], found["destination"]) == ("", "", "")
    assert found["since"] == pytest.approx(NOW - 0.123, abs=0.0006)


def test_a_kept_target_is_shown() -> None:
    assert document(stopped("shop-web-v1", 5))["targets"] == ["shop-web.invalid:9394"]


def test_each_engine_is_shown_with_the_age_of_its_list() -> None:
    well = snapshot(container(), host="a", listed_at=NOW - 7.0004, events=3)
    lost = snapshot(host="b", listed_at=NOW - 70, lost_at=NOW - 9, error="gone", reconnects=2)
    fresh = snapshot(host="c", listed_at=None)
    ahead = snapshot(host="d", listed_at=NOW + 5)
    found = explain([well, lost, fresh, ahead], [], NOW + 0.00049)
    assert found["time"] == NOW
    assert found["engines"] == [
        engine("a", up=True, containers=1, list_age=7.001, events=3),
        engine("b", error="gone", list_age=70.0, reconnects=2),
        engine("c"),
        engine("d", up=True, list_age=0.0),
    ]


def engine(host: str, **given: object) -> dict[str, object]:
    nothing: dict[str, object] = {
        "peer": "",
        "up": False,
        "error": "",
        "alias_error": "",
        "containers": 0,
        "list_age": None,
        "events": 0,
        "reconnects": 0,
    }
    return {"host": host} | nothing | given


def test_what_the_engine_says_is_scrubbed() -> None:
    nasty = container(
        "n\ud800\n", id="i\x00", image="x:v\n", fault="f\ud800" + "x" * 9999, labels={}
    )
    text = json.dumps(document(nasty), ensure_ascii=False)
    assert text.encode()
    assert "\ufffd" in document(nasty)["container"]
    assert "\ufffd" in document(nasty)["container_id"]
    assert len(document(nasty)["detail"]) <= 1024
    lost = snapshot(error="e\ud800")
    assert explain([lost], [], NOW)["engines"][0]["error"] == "e\ufffd"


@pytest.mark.parametrize(
    ("shown", "address", "place"),
    [
        (container(), "ip", "172.18.0.5:9394"),
        (container(), "relay", "172.18.0.5:9394 by relay"),
        (stopped("shop-web-v1", 5), "ip", "shop-web.invalid:9394"),
        (stopped("shop-web-v1", 5), "relay", "localhost:9889"),
        (container(labels={}), "relay", ""),
    ],
)
def test_a_person_is_told_where_the_metrics_are(shown: Container, address: str, place: str) -> None:
    found = decisions(shown, defaults={"address": address})
    (one,) = explain([snapshot(shown)], found, NOW)["decisions"]
    assert place_of(one) == place


def test_the_document_is_plain_json() -> None:
    found = explain([snapshot(container())], decisions(container()), NOW)
    assert json.loads(json.dumps(found)) == found
