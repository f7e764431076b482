"""Promise 6 over HTTP: what stands in labels and names harms no reader of any answer."""

import json
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.model import Container, State
from tests import http_sd_reader
from tests.builders import container, labels, snapshot
from tests.web.site import Site

HOSTILE: Final = {
    "newline": "a\nkamal_sd_engine_up 1",
    "quotes": 'a"} 1 # \\',
    "carriage return": "a\r\nX-Header: 1",
    "terminal": "\x1b[2J\x1b[31mred",
    "bell": "a\x07\x08b",
    "html": "<script>alert(1)</script>",
    "bidi": "a\u202egnp.exe",
    "line separator": "a\u2028b\u0085c",
    "zero": "a\x00b",
    "not a character": "a\ufffe\uffff",
    "long": "x" * 65_536,
    "braces": "{slot}{0}{service.__class__}",
    "percent": "%s%n%(a)s",
    "brackets": "[bold red]a[/]",
    "wide": "\U0001f433\u7f51",
    "empty": "",
    "space": "  ",
}
GOOD: Final = container("good-web-v1", ip="172.18.0.9", labels=labels("good"))
PLACES: Final = ("service", "role", "destination", "team", "name", "version", "image")
CASES: Final = [
    pytest.param(place, text, id=f"{place} {name}")
    for place in PLACES
    for name, text in HOSTILE.items()
]


def evil(place: str, text: str) -> Container:
    if place == "version":
        return container(f"evil-web-{text}", labels=labels("evil"))
    if place == "name":
        return container(text, labels=labels("evil"))
    if place == "image":
        return container("evil-web-v1", labels=labels("evil"), image=text)
    return container("evil-web-v1", labels=labels("evil") | {place: text})


@pytest.mark.parametrize(("place", "text"), CASES)
def test_it_costs_no_answer_and_no_other_target(place: str, text: str) -> None:
    site = Site(snapshot(evil(place, text), GOOD), container_labels=["team"])
    _check_targets(site)
    _check_explain(site)
    _check_table(site)
    _check_metrics(site)


def _check_targets(site: Site) -> None:
    answer = site.ask("/targets")
    found = http_sd_reader.read(answer.content)
    assert "good-web:9394" in {target.labels["instance"] for target in found}
    assert len(answer.content) < 20_000
    for target in found:
        for value in target.labels.values():
            assert value.isprintable()


def _check_explain(site: Site) -> None:
    answer = site.ask("/explain")
    document = answer.json()
    assert len(document["decisions"]) == 2
    assert len(answer.content) < 20_000
    for decision in document["decisions"]:
        for value in decision.values():
            assert not isinstance(value, str) or value.isprintable()
    # What a browser makes of it is decided by this.
    assert answer.headers["content-type"] == "application/json"
    json.dumps(document)


def _check_table(site: Site) -> None:
    text = site.ask("/explain", {"Accept": "text/plain"}).text
    lines = text.split("\n")
    assert len(lines) == 2 + 1 + 2 + 1
    assert all(line.isprintable() for line in lines)


def _check_metrics(site: Site) -> None:
    text = site.ask("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    (up,) = families["kamal_sd_engine_up"].samples
    assert (up.labels, up.value) == ({"host": ""}, 1.0)
    slots = families["kamal_sd_slot_info"].samples
    assert "good" in {sample.labels["service"] for sample in slots}
    assert len(slots) <= 2
    for sample in slots:
        for value in sample.labels.values():
            assert value.isprintable()
            assert len(value) <= 1024


def test_an_unreadable_entry_is_shown_as_such() -> None:
    fault = Container("0123456789ab", state=State.DEAD, fault="TypeError: \x1b[31mint\n")
    site = Site(snapshot(fault, GOOD))
    (bad, _) = sorted(site.ask("/explain").json()["decisions"], key=lambda each: str(each["slot"]))
    assert bad["reason"] == "unreadable"
    assert bad["detail"].isprintable()
    _check_targets(site)
    _check_table(site)
