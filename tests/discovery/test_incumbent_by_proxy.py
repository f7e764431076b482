"""The incumbent rule where kamal-proxy's state is known: whom it sends the traffic is current."""

import os
from collections.abc import Collection
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.discovery.decide import Outcome, decide
from app.discovery.incumbent import NEVER, SHORT_ID, Choice, choose, start_order
from app.model import Container, Health, Reason, State
from tests.builders import NOW, container, identity, labels, settings, snapshot, targets

PROFILE = hypothesis.settings(
    derandomize="EXPLORE" not in os.environ, deadline=None, max_examples=400
)
LIMIT, KEEP = 90.0, 3600.0


def known(name: str) -> str:
    """An id that tells a name's end at its beginning, for the short ids to differ."""
    return identity(name[::-1])


def short(name: str) -> str:
    """How kamal-proxy calls the container of that name."""
    return known(name)[:SHORT_ID]


def choice(
    *generations: Container, active: Collection[str] = (), incumbents: Collection[str] = ()
) -> Choice:
    return choose(
        generations,
        {known(name) for name in incumbents},
        now=NOW,
        overlap_limit=LIMIT,
        keep_missing=KEEP,
        active={short(name) for name in active},
    )


def up(name: str, ago: float, **given: Any) -> Container:
    return container(name, ago=ago, **{"id": known(name), **given})


OLD, NEW, NEWEST = up("a", 1000), up("b", 5), up("c", 1)
UNHEALTHY = up("b", 5, health=Health.UNHEALTHY)


@pytest.mark.parametrize(
    ("generations", "active", "current", "candidate"),
    [
        pytest.param([OLD, NEW], ["a"], OLD, NEW, id="the traffic is still with the old one"),
        pytest.param([OLD, NEW], ["b"], NEW, None, id="it was switched a moment ago"),
        pytest.param([OLD, NEW, NEWEST], ["b"], NEW, NEWEST, id="with the middle one"),
        pytest.param([OLD, NEW, NEWEST], ["a"], OLD, NEWEST, id="the newest is the candidate"),
        pytest.param([OLD, UNHEALTHY], ["b"], UNHEALTHY, None, id="Docker's health has no say"),
        pytest.param([OLD, up("b", 500)], ["a"], OLD, up("b", 500), id="nor has the limit"),
        pytest.param([OLD, NEW], ["a", "b"], NEW, None, id="with both: the newer one"),
        pytest.param([OLD, NEW], ["b", "gone"], NEW, None, id="with one that is gone, too"),
        pytest.param(
            [up("a", 9, state=State.PAUSED), NEW], ["a"], up("a", 9, state=State.PAUSED), NEW,
            id="a paused one has it, too",
        ),
    ],
)  # fmt: skip
def test_who_has_the_traffic_is_current(
    generations: list[Container], active: list[str], current: Container, candidate: Container | None
) -> None:
    for order in (generations, generations[::-1]):
        for before in ([], ["a"], ["b"]):
            found = choice(*order, active=active, incumbents=before)
            assert found == Choice(current, candidate, by_proxy=True, changes_at=NEVER)


@pytest.mark.parametrize("active", [[], ["gone"], ["stopped"], ["created"], ["a" * 12]])
@pytest.mark.parametrize("before", [[], ["a"], ["b"]])
def test_one_that_does_not_run_decides_nothing(active: list[str], before: list[str]) -> None:
    shown = [
        OLD,
        NEW,
        up("stopped", 1, ip="", state=State.EXITED),
        up("created", 1, ip="", state=State.CREATED),
    ]
    found = choice(*shown, active=active, incumbents=before)
    assert found == choice(*shown, incumbents=before)
    assert not found.by_proxy


@pytest.mark.parametrize("text", ["", "b", short("b")[:-1], known("b")])
def test_only_the_whole_short_id_names_a_container(text: str) -> None:
    found = choose([OLD, NEW], (), now=NOW, overlap_limit=LIMIT, keep_missing=KEEP, active={text})
    assert found.current is OLD


def test_where_none_runs_the_last_one_is_kept_whoever_had_the_traffic() -> None:
    shown = [up("a", 50, state=State.EXITED), up("b", 9, state=State.EXITED)]
    assert choice(*shown, active=["a"]) == choice(*shown)
    assert choice(*shown, active=["a"]).kept


# --- as a decision ---


def decided(*shown: Container, active: dict[str, set[str]], **given: object) -> Outcome:
    known = {name: frozenset(map(short, names)) for name, names in active.items()}
    return decide([snapshot(*shown, active=known)], settings(**given), NOW)


WEB_OLD, WEB_NEW = up("shop-web-v1", 1000, ip="10.0.0.1"), up("shop-web-v2", 5, ip="10.0.0.2")


def test_the_switch_of_the_traffic_is_the_take_over() -> None:
    before = decided(WEB_OLD, WEB_NEW, active={"shop-web": {"shop-web-v1"}})
    after = decided(WEB_OLD, WEB_NEW, active={"shop-web": {"shop-web-v2"}})
    assert targets(before.decisions) == {"shop-web:9394": "10.0.0.1:9394"}
    assert targets(after.decisions) == {"shop-web:9394": "10.0.0.2:9394"}
    assert after.incumbents == {"": {WEB_NEW.id}}
    assert before.changes_at == after.changes_at == NEVER
    _, candidate = before.decisions
    assert candidate.reason is Reason.CANDIDATE
    assert (
        candidate.detail == "it is newer than shop-web-v1, to which kamal-proxy sends the traffic"
    )
    assert [each.reason for each in after.decisions] == [Reason.CURRENT, Reason.SUPERSEDED]


def test_a_service_with_a_destination_is_named_by_kamal_with_it() -> None:
    shown = [
        up(f"{name}-{version}", ago, ip=ip, labels=labels(destination=destination))
        for name, destination, subnet in (("shop-web", "", 1), ("shop-web-prod", "prod", 2))
        for version, ago, ip in (("v1", 1000, f"10.0.{subnet}.1"), ("v2", 5, f"10.0.{subnet}.2"))
    ]
    found = decided(*shown, active={"shop-web-prod": {"shop-web-prod-v2"}})
    assert targets(found.decisions) == {
        "shop-web:9394": "10.0.1.1:9394",
        "shop-web-prod:9394": "10.0.2.2:9394",
    }


def test_the_id_of_another_slots_container_decides_nothing() -> None:
    # Both slots are called app-web-staging.
    shown = [
        up("one-v1", 1000, labels=labels("app", "web-staging"), ip="10.0.0.1"),
        up("one-v2", 5, labels=labels("app", "web-staging"), ip="10.0.0.2"),
        up("two-v1", 1000, labels=labels("app", "web", "staging", port="9395"), ip="10.0.0.3"),
        up("two-v2", 5, labels=labels("app", "web", "staging", port="9395"), ip="10.0.0.4"),
    ]
    found = decided(*shown, active={"app-web-staging": {"two-v2"}})
    assert targets(found.decisions) == {
        "app-web-staging:9394": "10.0.0.1:9394",
        "app-web-staging:9395": "10.0.0.4:9395",
    }


def test_an_accessory_of_a_services_name_is_not_decided_by_it() -> None:
    given = {"service": "db", "prometheus.port": "9187"}
    shown = [
        up("db", ago, id=known(version), labels=given, ip=ip)
        for version, ago, ip in (("v1", 1000, "10.0.0.1"), ("v2", 5, "10.0.0.2"))
    ]
    found = decided(*shown, active={"db": {"v2"}}, accessories=True)
    assert targets(found.decisions) == {"db:9187": "10.0.0.1:9187"}


def test_a_role_without_traffic_goes_by_the_ordinary_rule() -> None:
    job = [
        up("shop-job-v1", 1000, labels=labels(role="job"), ip="10.0.0.3"),
        up("shop-job-v2", 5, labels=labels(role="job"), ip="10.0.0.4"),
    ]
    found = decided(WEB_OLD, WEB_NEW, *job, active={"shop-web": {"shop-web-v2"}})
    assert targets(found.decisions)["shop-job:9394"] == "10.0.0.3:9394"
    assert found.changes_at == NOW + 85


# --- whatever there is ---

NAMES = "abcdef"
containers = st.builds(
    up,
    st.sampled_from(NAMES),
    ago=st.sampled_from([0.0, 1.0, 5.0, 50.0, 90.0, 91.0, 3599.0, 3601.0]),
    state=st.sampled_from([*[State.RUNNING] * 4, *State]),
    health=st.sampled_from(Health),
)
crowds = st.lists(containers, max_size=5, unique_by=lambda each: each.id)
names = st.lists(st.sampled_from(NAMES), max_size=3, unique=True)


@PROFILE
@given(crowd=crowds, active=names, incumbents=names)
def test_it_decides_where_it_names_one_that_runs_and_nowhere_else(
    crowd: list[Container], active: list[str], incumbents: list[str]
) -> None:
    found = choice(*crowd, active=active, incumbents=incumbents)
    running = sorted((each for each in crowd if each.running), key=start_order)
    named = [each for each in running if each.name in active]
    assert found.by_proxy is bool(named)
    if named:
        assert found.current is named[-1]
        assert found.changes_at == NEVER
    else:
        assert found == choice(*crowd, incumbents=incumbents)


@PROFILE
@given(crowd=crowds, active=names, incumbents=names)
def test_the_candidate_is_the_newest_that_runs_and_never_the_current_one(
    crowd: list[Container], active: list[str], incumbents: list[str]
) -> None:
    found = choice(*crowd, active=active, incumbents=incumbents)
    running = sorted((each for each in crowd if each.running), key=start_order)
    if not running or found.current is running[-1]:
        assert found.candidate is None
    else:
        assert found.candidate is running[-1]
        assert found.current
        assert start_order(found.candidate) > start_order(found.current)


@PROFILE
@given(crowd=crowds, active=names, incumbents=names)
def test_what_it_remembers_of_itself_changes_nothing(
    crowd: list[Container], active: list[str], incumbents: list[str]
) -> None:
    found = choice(*crowd, active=active, incumbents=incumbents)
    again = [found.current.name] if found.current and not found.kept else []
    assert choice(*crowd, active=active, incumbents=again) == found
