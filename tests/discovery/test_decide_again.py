"""What is taken over from an earlier outcome: never anything that would come out otherwise now."""

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from app.discovery import http_sd
from app.discovery.decide import Outcome, decide
from app.discovery.endpoint import Caller
from app.model import Container, Health, Network, Snapshot, State
from tests.builders import NOW, container, labels, settings, snapshot, stopped

HOSTS = ("a", "b")
ENGINES = [{"url": f"unix:///{host}", "host": host} for host in HOSTS]
SETTINGS = settings(engines=ENGINES)
WEB, JOB = container("shop-web-v1"), container("shop-job-v1", labels=labels(role="job"))
NEW = container("shop-web-v2", ago=5, ip="172.18.0.6")
FOREIGN = container("db", labels={})
# What makes a decision depend on more than its own slot's containers, or on time.
WAYS: list[dict[str, Any]] = [
    {},
    {"defaults": {"generations": "both", "instance": "{slot}"}},
    {"aliases": {"verify": True, "manage": True}, "defaults": {"alias": "{role}"}},
]


def known(*shown: Container, host: str = "a", **given: Any) -> Snapshot:
    return snapshot(*shown, host=host, **given)


def assert_same(again: Outcome, fresh: Outcome) -> None:
    assert again.decisions == fresh.decisions
    assert again.incumbents == fresh.incumbents
    assert again.changes_at == fresh.changes_at
    assert again.conflicts == fresh.conflicts
    pages = [each.page for each in again.engines.values()]
    answer = http_sd.answer(pages, {})
    assert answer.body == http_sd.body(http_sd.fragments(fresh.decisions), {})


containers = st.builds(
    lambda role, version, state, ago, health, aliases, ports: container(
        f"shop-{role}-v{version}",
        state=state,
        ago=ago,
        health=health,
        labels=labels(role=role, port=ports),
        networks=(Network("kamal", f"172.18.0.{version}", aliases=aliases),),
    ),
    st.sampled_from(["web", "job", ""]),
    st.integers(1, 4),
    st.sampled_from([State.RUNNING, State.RUNNING, State.EXITED, State.CREATED]),
    st.sampled_from([0.0, 5.0, 80.0, 95.0, 3590.0]),
    st.sampled_from(Health),
    st.sampled_from([None, (), ("web",), ("web", "x")]),
    st.sampled_from(["9394", "9394,9395", "x"]),
)


@st.composite
def snapshots(draw: st.DrawFn, before: Snapshot) -> Snapshot:
    """The engine a moment later: some of its containers are the same objects, or all are."""
    shown = dict(before.containers)
    for each in draw(st.lists(containers, max_size=3)):
        if draw(st.booleans()):
            shown[each.id] = each
        else:
            shown.pop(each.id, None)
    ids = st.sampled_from([*shown, "gone"])
    incumbents = draw(st.just(before.incumbents) | st.frozensets(ids, max_size=2))
    active = draw(st.sampled_from([{}, {}, {"shop-web": frozenset(each[:12] for each in shown)}]))
    return replace(
        before,
        containers=before.containers if shown == before.containers else MappingProxyType(shown),
        incumbents=incumbents,
        active=active,
        lost_at=draw(st.none() | st.sampled_from([NOW - 10.0, NOW + 10.0])),
        alias_error=draw(st.sampled_from(["", "", "refused"])),
    )


@hypothesis.settings(derandomize=True, deadline=None, max_examples=150)
@hypothesis.given(st.data(), st.sampled_from(WAYS), st.sampled_from([Caller(), Caller("ip")]))
def test_it_comes_out_as_if_nothing_were_known(
    data: st.DataObject, way: dict[str, Any], caller: Caller
) -> None:
    checked = settings(engines=ENGINES, **way)
    shown = [Snapshot(host, listed_at=NOW) for host in HOSTS]
    outcome: Outcome | None = None
    for _ in range(6):
        now = NOW + data.draw(st.sampled_from([-100.0, 0.0, 1.0, 15.0, 90.0, 3600.0]))
        shown = [data.draw(snapshots(each)) for each in shown]
        again = decide(shown, checked, now, caller, outcome)
        assert_same(again, decide(shown, checked, now, caller))
        # What it made is remembered, as by the state, or is not.
        if data.draw(st.booleans()):
            shown = [replace(each, incumbents=again.incumbents[each.host]) for each in shown]
        outcome = again


# --- what is taken over ---


def decided(*shown: Snapshot, before: Outcome | None = None, now: float = NOW) -> Outcome:
    return decide(shown, SETTINGS, now, before=before)


def remembering(shown: Snapshot, outcome: Outcome) -> Snapshot:
    return replace(shown, incumbents=outcome.incumbents[shown.host])


def test_an_engine_that_is_as_it_was_is_not_decided_again() -> None:
    a, b = known(WEB, JOB), known(WEB, JOB, host="b")
    first = decided(a, b)
    again = decided(remembering(a, first), known(WEB, host="b"), before=first)
    assert again.engines["a"] is first.engines["a"]
    assert again.engines["b"] is not first.engines["b"]


def test_a_slot_that_is_as_it_was_is_not_decided_again() -> None:
    first = decided(known(WEB, JOB, FOREIGN))
    shown = remembering(known(WEB, NEW, JOB, FOREIGN), first)
    before, after = (each.engines["a"].slots for each in (first, decided(shown, before=first)))
    same = {slot.role: after[slot] is before[slot] for slot in before}
    assert same == {"web": False, "job": True}


def test_two_outcomes_differ_in_the_slots_that_were_decided_again() -> None:
    first = decided(known(WEB, JOB, FOREIGN), known(WEB, host="b"))
    a, b = known(WEB, NEW, JOB, FOREIGN), remembering(known(WEB, host="b"), first)
    again = decided(remembering(a, first), b, before=first)

    def names(of: Outcome, other: Outcome) -> list[tuple[str, str]]:
        return [(each.host, each.container.name) for each in of.unlike(other)]

    assert names(first, again) == [("a", "shop-web-v1"), ("a", "db")]
    assert names(again, first) == [("a", "shop-web-v1"), ("a", "shop-web-v2"), ("a", "db")]
    assert names(first, first) == []


def test_what_a_slot_came_to_is_rendered_once() -> None:
    first = decided(known(WEB, JOB))
    fragments = [each.fragments for each in first.engines["a"].slots.values()]
    again = decided(remembering(known(WEB, JOB, NEW), first), before=first)
    job, web = (each.fragments for each in again.engines["a"].slots.values())
    assert job is fragments[0]
    assert web is not fragments[1]


@pytest.mark.parametrize(
    "given",
    [
        {"incumbents": frozenset({NEW.id})},
        {"active": {"shop-web": frozenset({NEW.id[:12]})}},
        {"alias_error": "refused"},
    ],
)
def test_whatever_else_it_depends_on_has_it_decided_again(given: Any) -> None:
    shown = known(WEB, NEW)
    first = decided(shown)
    shown = remembering(shown, first)
    assert decided(shown, before=first).engines["a"] is first.engines["a"]
    assert decided(replace(shown, **given), before=first).engines["a"] is not first.engines["a"]


@pytest.mark.parametrize("now", [NOW + 85.0, NOW - 1.0])
def test_time_alone_has_it_decided_again(now: float) -> None:
    shown = known(WEB, NEW)
    first = decided(shown)
    shown = remembering(shown, first)
    assert decided(shown, before=first, now=NOW + 84.0).engines["a"] is first.engines["a"]
    assert decided(shown, before=first, now=now).engines["a"] is not first.engines["a"]


def test_other_settings_or_another_caller_have_all_decided_again() -> None:
    shown = known(WEB)
    first = decided(shown)
    shown = remembering(shown, first)
    for again in (
        decide([shown], settings(engines=ENGINES), NOW, before=first),
        decide([shown], SETTINGS, NOW, Caller("ip"), first),
    ):
        assert again.engines["a"] is not first.engines["a"]


def test_a_healthy_one_that_took_over_stays_when_an_older_one_would_be_due() -> None:
    old = container("shop-web-v1", health=Health.UNHEALTHY)
    middle = container("shop-web-v2", ago=80)
    healthy = container("shop-web-v3", ago=70, health=Health.HEALTHY)
    shown = known(old, middle, healthy, incumbents=frozenset({old.id}))
    first = decided(shown)
    assert first.incumbents["a"] == {healthy.id}
    # Whoever remembers nothing of that gets what comes out of what it says.
    assert decided(shown, before=first, now=NOW + 15).incumbents["a"] == {middle.id}
    assert decided(remembering(shown, first), before=first, now=NOW + 15).incumbents["a"] == {
        healthy.id
    }


def test_one_that_stopped_is_no_memory() -> None:
    gone = stopped("shop-web-v1", 5)
    shown = known(gone, incumbents=frozenset({gone.id}))
    first = decided(shown)
    assert first.incumbents["a"] == frozenset()
    assert decided(remembering(shown, first), before=first).engines["a"] is first.engines["a"]
