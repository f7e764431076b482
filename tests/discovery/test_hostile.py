"""Promise 6: whatever a container is or says of itself, it costs its own target at the most.

From the engine's raw JSON to the bytes of the answer, beside a good container.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.discovery import http_sd
from app.discovery.decide import decide
from app.discovery.explain import explain
from app.discovery.labels import readable
from app.engine import ledger, parse
from app.model import Decision, Reason, Snapshot
from app.settings import Settings
from app.storage import Storage
from tests import http_sd_reader
from tests.builders import NOW, URL, entry, identity, labels, settings

# The same examples every time, so that a red run means a change; EXPLORE=1 looks for new ones.
PROFILE = hypothesis.settings(
    derandomize="EXPLORE" not in os.environ,
    deadline=None,
    max_examples=600,
    suppress_health_check=list(hypothesis.HealthCheck),
)
# Whatever can be enabled is, so that as much as possible of a container gets through.
OPEN = settings(
    engines=[{"url": URL, "address": "10.0.0.1"}],
    accessories=True,
    proxy={"metrics_port": 9090},
    container_labels=["*"],
)
BY_ALIAS = settings(defaults={"port": 9394, "alias": "{slot}", "address": "alias"})
GOOD = entry("good-web-v1", Labels=labels("good"))

HUGE = 65_536
NASTY = [
    "", " ", "\n", "\x00", "\ud800", "\udfff x", "a\nb", "größe ✓", "\U0001f600", "\u202e",
    "\u00a0", "{slot}", "{}", "{0.__class__}", "../..", '"', "\\", "<script>", "$1", "-", ".",
    "9394", "70000", "0", "-1", "9394,9394", "a=1,b=2", "/", "/metrics", "http", "5s", "0s", "1h",
    "kamal-proxy", "host", "true", "%00", "x" * 201,
]  # fmt: skip
LABEL_NAMES = [
    "service", "role", "destination", "prometheus.port", "prometheus.path", "prometheus.scheme",
    "prometheus.scrape", "prometheus.interval", "prometheus.timeout", "prometheus.alias",
    "prometheus.io/port", "org.opencontainers.image.title", "a.b", "a_b", "", "größe",
]  # fmt: skip

huge = st.sampled_from("x\n1/9").map(lambda each: each * HUGE)
texts = st.sampled_from(NASTY) | st.text(st.characters(), max_size=12) | huge
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3),
    max_leaves=6,
)
app_labels = st.fixed_dictionaries(
    {"service": texts, "role": texts, "prometheus.port": st.just("9394") | texts},
    optional={name: texts for name in LABEL_NAMES if name not in labels()},
)
addresses = st.sampled_from(["", "10.0.0.5", "fd00::5", "fe80::1%eth0", "::1%\n", "x"]) | anything
networks = st.dictionaries(
    st.just("kamal") | texts,
    st.fixed_dictionaries({"IPAddress": addresses, "GlobalIPv6Address": addresses}) | anything,
    max_size=3,
)
ODD: dict[str, st.SearchStrategy[Any]] = {
    "Id": anything,
    "Names": st.lists(texts.map(lambda text: "/" + text), max_size=3) | anything,
    "Image": texts | anything,
    "Created": anything,
    "State": st.sampled_from(["created", "exited", "restarting", "removing", "dead"]) | anything,
    "Status": st.sampled_from(["Up 9 days", "Exited (0) 5 seconds ago"]) | texts | anything,
    "Labels": app_labels | st.dictionaries(st.sampled_from(LABEL_NAMES), texts) | anything,
    "HostConfig": st.fixed_dictionaries({"NetworkMode": st.just("host") | texts}) | anything,
    "NetworkSettings": st.fixed_dictionaries({"Networks": networks}) | anything,
    "Ports": anything,
    "Health": anything,
}
# One or two things about an entry are odd, and all else is as it should be.
odd_entries = st.lists(st.sampled_from(list(ODD)), min_size=1, max_size=2).flatmap(
    lambda keys: st.fixed_dictionaries({key: ODD[key] for key in keys})
)


def decided(entries: list[Any], under: Settings = OPEN) -> tuple[Snapshot, tuple[Decision, ...]]:
    found = parse.containers(entries, NOW, readable(under))
    snapshot = ledger.listed(Snapshot(""), found, NOW)
    return snapshot, decide([snapshot], under, NOW).decisions


def fragments_of(found: tuple[Decision, ...], service: str) -> list[bytes]:
    return [each.json for each in http_sd.fragments(found) if each.slot.service == service]


def check(bad: list[Any], under: Settings = OPEN) -> tuple[Decision, ...]:
    """The decisions for a good container beside these, after all that must hold of them."""
    snapshot, found = decided([*bad, GOOD], under)
    assert http_sd_reader.read(http_sd.body(http_sd.fragments(found), {}))
    _, alone = decided([GOOD], under)
    assert fragments_of(found, "good") == fragments_of(alone, "good") != []
    assert {each.container.id for each in found} == set(snapshot.containers)
    assert all(each.detail for each in found)
    assert json.dumps(explain([snapshot], found, NOW), ensure_ascii=False, allow_nan=False).encode()
    return found


@pytest.mark.parametrize("under", [OPEN, BY_ALIAS], ids=["by ip", "by alias"])
def test_a_good_container_has_a_target(under: Settings) -> None:
    assert len(fragments_of(check([], under), "good")) == 1


@given(st.lists(odd_entries, min_size=1, max_size=3), st.sampled_from([OPEN, BY_ALIAS]))
@PROFILE
def test_odd_entries_cost_nobody_else_anything(
    odd: list[Mapping[str, Any]], under: Settings
) -> None:
    check([entry(f"bad-web-{number}", **each) for number, each in enumerate(odd)], under)


@given(st.lists(app_labels, min_size=1, max_size=4), st.sampled_from([OPEN, BY_ALIAS]))
@PROFILE
def test_odd_labels_cost_nobody_else_anything(
    odd: list[Mapping[str, str]], under: Settings
) -> None:
    check([entry(f"bad-web-{number}", Labels=each) for number, each in enumerate(odd)], under)


@given(st.lists(odd_entries, min_size=2, max_size=4), st.randoms())
@hypothesis.settings(PROFILE, max_examples=150)
def test_the_order_of_a_list_changes_nothing(odd: list[Mapping[str, Any]], random: Any) -> None:
    # An entry without an id is named by its place; here each has one.
    entries = [
        entry(f"c-{number}", **{**each, "Id": identity(str(number))})
        for number, each in enumerate(odd)
    ]
    turned = list(entries)
    random.shuffle(turned)
    assert decided(entries)[1] == decided(turned)[1]


@given(st.lists(odd_entries, min_size=1, max_size=3))
@hypothesis.settings(PROFILE, max_examples=100)
def test_whatever_was_listed_can_be_kept_on_disk(odd: list[Mapping[str, Any]]) -> None:
    snapshot, _ = decided([entry(f"bad-web-{number}", **each) for number, each in enumerate(odd)])
    with tempfile.TemporaryDirectory() as directory:
        storage = Storage(Path(directory), readable(OPEN))
        storage.save(snapshot, URL)
        assert storage.load("", URL).containers == snapshot.containers


APP = {"service": "bad", "role": "web", "prometheus.port": "9394"}


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        pytest.param({"Labels": {**APP, "role": "w\ud800"}}, Reason.UNREADABLE, id="a surrogate"),
        pytest.param({"Labels": {**APP, "role": "w\nb"}}, Reason.BAD_LABEL, id="a newline"),
        pytest.param({"Labels": {**APP, "role": "w" * HUGE}}, Reason.BAD_LABEL, id="64 KB of role"),
        pytest.param({"Labels": {**APP, "x": "w" * HUGE}}, Reason.CURRENT, id="64 KB of another"),
        pytest.param({"Labels": {**APP, "role": ""}}, Reason.ONE_OFF, id="an empty role"),
        pytest.param({"Labels": {**APP, "service": ""}}, Reason.FOREIGN, id="an empty service"),
        pytest.param({"Labels": {**APP, "service": "größe ✓"}}, Reason.CURRENT, id="unicode"),
        pytest.param(
            {"Labels": {**APP, "service": "other"}}, Reason.CURRENT, id="service overridden"
        ),
        pytest.param({"Labels": {**APP, "service": 5}}, Reason.UNREADABLE, id="a number"),
        pytest.param({"Labels": ["service=bad"]}, Reason.UNREADABLE, id="labels that are no map"),
        pytest.param({"Labels": None}, Reason.FOREIGN, id="no labels"),
        pytest.param({"Names": None}, Reason.CURRENT, id="no names"),
        pytest.param({"Names": ["/\x1b[31m"]}, Reason.CURRENT, id="a name that colours a terminal"),
        pytest.param({"NetworkSettings": None}, Reason.NO_ADDRESS, id="no networks"),
        pytest.param(
            {"NetworkSettings": {"Networks": {"kamal": {"GlobalIPv6Address": "fe80::1%eth0"}}}},
            Reason.UNREADABLE,
            id="an address with a zone",
        ),
        pytest.param({"Created": 10**400}, Reason.UNREADABLE, id="created in no time"),
        pytest.param(
            {"Labels": {**APP, "prometheus.path": "/" + "m" * HUGE}},
            Reason.BAD_ENDPOINT,
            id="64 KB of path, which is not to be cut",
        ),
        pytest.param(
            {"Labels": {**APP, "prometheus.port": ",".join(map(str, range(1, 12_000)))}},
            Reason.BAD_ENDPOINT,
            id="64 KB of ports, which are not to be cut",
        ),
    ],
)
def test_an_odd_container_has_its_reason(odd: dict[str, Any], reason: Reason) -> None:
    found = check([entry("bad-web-v1", **{"Labels": APP, **odd})])
    (bad,) = (each for each in found if each.container.name != "good-web-v1")
    assert bad.reason is reason


def test_an_overridden_service_is_the_service() -> None:
    overridden = entry("bad-web-v1", Image="bad:v2", Labels={**APP, "service": "other"})
    (bad,) = (each for each in check([overridden]) if each.container.name == "bad-web-v1")
    assert bad.slot
    assert (bad.slot.service, bad.version) == ("other", "v2")
