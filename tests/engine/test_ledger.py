"""What lists, looks and events say against each other, and whom the ledger believes."""

from dataclasses import replace
from typing import Any

import pytest

from app.engine import ledger
from app.engine.ledger import AFTERLIFE
from app.model import Container, Network, Snapshot, State
from tests.builders import NOW, container, identity, snapshot, stopped

WEB = container("shop-web-v1")
NEW = container("shop-web-v2", ago=5)
EMPTY = Snapshot("", events=7, reconnects=3)


def listed(before: Snapshot, *shown: Container, after: float = 0.0, **given: Any) -> Snapshot:
    return ledger.listed(before, shown, NOW + after, **given)


def looked(before: Snapshot, *shown: Container, after: float = 0.0, **given: Any) -> Snapshot:
    return ledger.looked(before, shown, NOW + after, **given)


def state_of(after: Snapshot, name: str = "shop-web-v1") -> State:
    return after.containers[identity(name)].state


# --- lists and looks ---


def test_a_list_is_all_there_is() -> None:
    after = listed(snapshot(WEB), NEW)
    assert list(after.containers.values()) == [NEW]


def test_a_list_ends_an_outage() -> None:
    lost = snapshot(WEB, listed_at=NOW - 99, lost_at=NOW - 50, error="gone")
    after = listed(lost, WEB)
    assert (after.listed_at, after.lost_at, after.error) == (NOW, None, "")
    assert after.up


def test_a_list_leaves_the_counts_and_the_memory_alone() -> None:
    before = replace(EMPTY, incumbents=frozenset({"x"}))
    after = listed(before, WEB)
    assert (after.events, after.reconnects, after.incumbents) == (7, 3, before.incumbents)


def test_a_look_is_about_the_wanted_ones_alone() -> None:
    other = container("shop-job-v1")
    before = snapshot(WEB, other, listed_at=NOW - 9)
    renamed = replace(WEB, name="shop-web-v1_replaced_0123456789abcdef")
    after = looked(before, renamed)
    assert after.containers == {WEB.id: renamed, other.id: other}
    assert after.listed_at == NOW - 9


def test_a_look_that_shows_nobody_says_nothing() -> None:
    before = snapshot(WEB, NEW)
    assert looked(before) is before


def test_a_look_shows_a_new_one() -> None:
    assert looked(snapshot(WEB), NEW).containers == {WEB.id: WEB, NEW.id: NEW}


@pytest.mark.parametrize("again", [WEB, replace(WEB, since=NOW - 999.5, since_error=1.0)])
def test_where_nothing_changed_it_is_the_same_object(again: Container) -> None:
    before = listed(EMPTY, WEB)
    assert listed(before, again, after=60).containers is before.containers
    assert listed(before, again, after=60).containers[WEB.id] is WEB
    assert looked(before, again, after=60) is before


def test_one_that_changed_leaves_the_others_as_they_are() -> None:
    before = listed(EMPTY, WEB, NEW)
    after = listed(before, replace(WEB, since=NOW - 999.5, since_error=1.0), replace(NEW, name="x"))
    assert after.containers is not before.containers
    assert after.containers[WEB.id] is WEB


# --- what was told to stop ---


def test_one_that_was_told_to_stop_runs_and_is_told_apart() -> None:
    after = ledger.told_to_stop(snapshot(WEB, NEW, incumbents=frozenset({WEB.id})), WEB.id)
    assert after.containers == {WEB.id: replace(WEB, stopping=True), NEW.id: NEW}
    assert after.incumbents == {WEB.id}


@pytest.mark.parametrize("look", [listed, looked])
def test_a_list_does_not_make_it_forgotten(look: Any) -> None:
    before = ledger.told_to_stop(snapshot(WEB), WEB.id)
    assert look(before, WEB, after=5).containers is before.containers


def test_its_death_and_a_new_start_end_it() -> None:
    dead = ledger.died(ledger.told_to_stop(snapshot(WEB), WEB.id), WEB.id, NOW)
    assert not dead.containers[WEB.id].stopping
    again = replace(WEB, since=NOW + 1)
    assert looked(dead, again, after=1, started={WEB.id}).containers[WEB.id] == again
    missed = ledger.told_to_stop(snapshot(WEB), WEB.id)
    assert not listed(missed, again, after=1).containers[WEB.id].stopping


@pytest.mark.parametrize("shown", [[], [stopped("shop-web-v1", 5)]])
def test_one_that_does_not_run_cannot_be_told(shown: list[Container]) -> None:
    before = snapshot(*shown)
    assert ledger.told_to_stop(before, WEB.id) is before


# --- deaths ---


def test_a_death_is_believed_at_once() -> None:
    after = ledger.died(snapshot(WEB, incumbents=frozenset({WEB.id, "x"})), WEB.id, NOW)
    dead = after.containers[WEB.id]
    assert (dead.state, dead.since, dead.since_error) == (State.EXITED, NOW, 0.0)
    assert dead.networks == (Network("kamal"),)
    assert (dead.name, dead.labels, dead.image) == (WEB.name, WEB.labels, WEB.image)
    assert after.incumbents == {"x"}


@pytest.mark.parametrize("fresh", [WEB, replace(WEB, since=NOW - 0.5)])
@pytest.mark.parametrize("look", [listed, looked])
def test_a_stale_list_does_not_bring_it_back(look: Any, fresh: Container) -> None:
    dead = ledger.died(snapshot(WEB), WEB.id, NOW)
    after = look(dead, fresh, after=AFTERLIFE - 0.01)
    assert state_of(after) is State.EXITED
    assert after.containers[WEB.id].networks == (Network("kamal"),)
    assert after.containers[WEB.id].since == NOW


@pytest.mark.parametrize("look", [listed, looked])
def test_a_start_undoes_a_death(look: Any) -> None:
    dead = ledger.died(snapshot(WEB), WEB.id, NOW)
    again = replace(WEB, since=NOW + 0.3)
    after = look(dead, again, after=0.3, started={WEB.id})
    assert after.containers[WEB.id] == again


def test_another_ones_start_does_not() -> None:
    dead = ledger.died(snapshot(WEB), WEB.id, NOW)
    assert state_of(listed(dead, WEB, after=0.3, started={"x"})) is State.EXITED


def test_after_its_afterlife_a_list_is_believed_again() -> None:
    dead = ledger.died(snapshot(WEB), WEB.id, NOW)
    again = replace(WEB, since=NOW + 1)
    assert listed(dead, again, after=AFTERLIFE).containers[WEB.id] == again


def test_a_clock_that_was_put_back_does_not_keep_it_dead() -> None:
    dead = ledger.died(snapshot(WEB), WEB.id, NOW)
    again = replace(WEB, since=NOW - 3600 - 5)
    assert listed(dead, again, after=-3600).containers[WEB.id].running


def test_a_stale_list_several_times_does_not_prolong_the_afterlife() -> None:
    shown = ledger.died(snapshot(WEB), WEB.id, NOW)
    for after in (0.5, 1.0, 1.5):
        shown = listed(shown, WEB, after=after)
    assert state_of(listed(shown, WEB, after=AFTERLIFE)) is State.RUNNING


def test_a_stop_that_only_a_list_told_has_an_afterlife_too() -> None:
    before = listed(EMPTY, stopped("shop-web-v1", 1))
    assert state_of(listed(before, WEB, after=0.5)) is State.EXITED
    assert state_of(listed(before, WEB, after=1.5)) is State.RUNNING


def test_the_death_of_one_that_was_never_seen_is_noted() -> None:
    # Its start is being looked at, and that look may be stale.
    dead = ledger.died(snapshot(), WEB.id, NOW)
    assert state_of(dead) is State.EXITED
    stale = looked(dead, WEB, after=0.1)
    assert state_of(stale) is State.EXITED
    assert stale.containers[WEB.id].labels == WEB.labels
    assert ledger.doubtful(stale, [WEB]) == {WEB.id}
    assert state_of(looked(stale, WEB, after=AFTERLIFE)) is State.RUNNING


def test_the_time_of_a_death_is_kept_over_the_lists_rounded_one() -> None:
    dead = ledger.died(snapshot(WEB), WEB.id, NOW)
    shown = stopped("shop-web-v1", -0.9, since_error=1.0)
    after = listed(dead, shown, after=2)
    assert after.containers[WEB.id].since == NOW
    assert after.containers[WEB.id].since_error == 0.0


# --- when a state began ---


def rounded(least: float, error: float, at: float) -> Container:
    """WEB as a list shows it at that time, when it has run for `least` seconds at the least."""
    return replace(WEB, since=NOW + at - least, since_error=error)


@pytest.mark.parametrize(
    ("at", "least", "error", "is_kept"),
    [
        pytest.param(60, 1060, 60, True, id="as old as it must be"),
        pytest.param(60, 1020, 60, True, id="rounded"),
        pytest.param(3600, 3600, 5400, True, id="about an hour"),
        pytest.param(60, 998, 60, True, id="just within the rounding of both"),
        pytest.param(60, 997, 60, False, id="just outside it"),
        pytest.param(60, 5, 1, False, id="started again, and nobody told"),
    ],
)
def test_a_start_is_the_same_one_as_far_as_rounded_ages_tell(
    at: float, least: float, error: float, is_kept: bool
) -> None:
    before = listed(EMPTY, WEB)
    after = listed(before, rounded(least, error, at), after=at)
    assert (after.containers[WEB.id].since == WEB.since) is is_kept
    assert (after.containers[WEB.id].since_error == 0.0) is is_kept


def test_a_start_that_was_heard_is_a_new_one_however_close() -> None:
    before = listed(EMPTY, NEW)
    again = replace(NEW, since=NEW.since + 1)
    assert listed(before, again).containers[NEW.id].since == NEW.since
    after = listed(before, again, started={NEW.id})
    assert after.containers[NEW.id].since == NEW.since + 1


@pytest.mark.parametrize(
    ("before", "fresh"),
    [
        pytest.param(State.CREATED, State.RUNNING, id="it started"),
        pytest.param(State.RUNNING, State.EXITED, id="it stopped"),
        pytest.param(State.RUNNING, State.RESTARTING, id="it crashed"),
        pytest.param(State.EXITED, State.RUNNING, id="it started again"),
    ],
)
def test_another_state_has_a_begin_of_its_own(before: State, fresh: State) -> None:
    known = listed(EMPTY, replace(WEB, state=before))
    shown = replace(WEB, state=fresh, since=NOW, since_error=1e9)
    assert listed(known, shown).containers[WEB.id] == shown


@pytest.mark.parametrize(
    ("before", "fresh"),
    [
        pytest.param(State.RUNNING, State.PAUSED, id="paused: it runs still"),
        pytest.param(State.PAUSED, State.RUNNING, id="unpaused"),
        pytest.param(State.EXITED, State.REMOVING, id="being removed"),
    ],
)
def test_a_state_of_the_same_kind_began_when_the_other_did(before: State, fresh: State) -> None:
    known = listed(EMPTY, replace(WEB, state=before))
    shown = replace(WEB, state=fresh, since=NOW, since_error=1e9)
    after = listed(known, shown).containers[WEB.id]
    assert (after.state, after.since, after.since_error) == (fresh, WEB.since, 0.0)


# --- the image ---


@pytest.mark.parametrize(
    ("known", "fresh", "seen"),
    [
        ("shop:v1", "sha256:abc", "shop:v1"),
        ("shop:v1", "shop:v2", "shop:v2"),
        ("sha256:abc", "shop:v1", "shop:v1"),
        ("sha256:abc", "sha256:abc", "sha256:abc"),
        ("", "sha256:abc", "sha256:abc"),
    ],
)
def test_a_digest_does_not_replace_the_images_name(known: str, fresh: str, seen: str) -> None:
    # While a deploy pulls the tag again, lists name the image of running containers so.
    before = listed(EMPTY, replace(WEB, image=known))
    assert listed(before, replace(WEB, image=fresh)).containers[WEB.id].image == seen


# --- removals, doubts, outages ---


def test_one_that_was_removed_is_gone() -> None:
    after = ledger.removed(snapshot(WEB, NEW), WEB.id)
    assert list(after.containers) == [NEW.id]
    assert ledger.removed(after, WEB.id) is after


@pytest.mark.parametrize(
    ("shown", "is_doubtful"),
    [
        pytest.param(WEB, True, id="shown running after its death"),
        pytest.param(stopped("shop-web-v1", 1), False, id="shown stopped"),
        pytest.param(stopped("shop-web-v1", 1, state=State.REMOVING), True, id="on its way out"),
    ],
)
def test_who_has_to_be_looked_at_again(shown: Container, is_doubtful: bool) -> None:
    dead = ledger.died(snapshot(WEB), WEB.id, NOW)
    found = [shown, NEW]
    after = listed(dead, *found, after=0.1)
    assert ledger.doubtful(after, found) == ({WEB.id} if is_doubtful else frozenset())


def test_nobody_has_to_whom_list_and_ledger_agree_on() -> None:
    found = [WEB, stopped("b", 5), container("c", state=State.CREATED), container("d", fault="x")]
    assert ledger.doubtful(listed(EMPTY, *found), found) == frozenset()


def test_when_the_engine_is_lost_what_was_known_stays() -> None:
    before = snapshot(WEB, listed_at=NOW - 9, incumbents=frozenset({WEB.id}))
    after = ledger.lost(before, "Connection refused", NOW - 3)
    assert after == replace(before, error="Connection refused", lost_at=NOW - 3)
    assert not after.up
    assert after.containers is before.containers


def test_time_stands_still_at_the_first_loss() -> None:
    first = ledger.lost(snapshot(WEB), "reset", NOW)
    second = ledger.lost(first, "refused", NOW + 60)
    assert (second.lost_at, second.error) == (NOW, "refused")


def test_an_engine_that_never_answered_has_no_list() -> None:
    after = ledger.lost(EMPTY, "refused", NOW)
    assert after.listed_at is None
    assert not after.up
