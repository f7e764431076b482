"""What is told of the difference of two views, and how much of it is remembered."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from app.discovery.decide import decide
from app.discovery.history import Change, Deploys, Entry, Scene, counted, entries, remembered
from app.model import Container, Health, Slot, Snapshot
from tests.builders import NOW, WEB, container, labels, settings, snapshot, stopped

V1, V2 = container("shop-web-v1"), container("shop-web-v2", ago=12.0, ip="172.18.0.6")
V1_GONE, V2_GONE = stopped("shop-web-v1", 0.0), stopped("shop-web-v2", 0.0)


def scene(*snapshots: Snapshot) -> Scene:
    given = settings(
        engines=[{"url": f"unix:///{each.host}", "host": each.host} for each in snapshots]
    )
    return Scene(snapshots, decide(snapshots, given, NOW).decisions)


def told(before: Iterable[Container], after: Iterable[Container]) -> list[tuple[Change, str]]:
    """What happened in shop's web, of which an engine showed these containers."""
    found = entries(scene(snapshot(*before)), scene(snapshot(*after)), NOW)
    assert all((each.at, each.slot) == (NOW, WEB) for each in found)
    return [(each.change, each.detail) for each in found]


@pytest.mark.parametrize(
    ("before", "after", "happened"),
    [
        ([], [V1], [(Change.APPEARED, "shop-web-v1 is current")]),
        ([V1], [], [(Change.GONE, "shop-web-v1 was removed, or is no longer kept")]),
        ([V1], [V1], []),
        ([V1], [replace(V1, health=Health.HEALTHY)], []),
        ([V1], [V1_GONE], [(Change.DOWN, "shop-web-v1 stopped and nothing took its place")]),
        ([V1_GONE], [V1], [(Change.UP, "shop-web-v1 runs again")]),
        (
            [V1],
            [V1, V2],
            [
                (
                    Change.DEPLOY_BEGAN,
                    "shop-web-v2 started; shop-web-v1 stays current until it stops",
                )
            ],
        ),
        (
            [V1, V2],
            [V1_GONE, V2],
            [(Change.TOOK_OVER, "shop-web-v2 took over from shop-web-v1 after both ran for 12 s")],
        ),
        ([V1_GONE], [V1_GONE, V2], [(Change.TOOK_OVER, "shop-web-v2 took over from shop-web-v1")]),
        (
            [V1, V2],
            [V1, V2_GONE],
            [(Change.DEPLOY_FAILED, "shop-web-v2 is gone; shop-web-v1 stays current")],
        ),
        ([V1, V2], [V1, V2], []),
    ],
)
def test_what_happens_to_a_slot(
    before: list[Container], after: list[Container], happened: list[tuple[Change, str]]
) -> None:
    assert told(before, after) == happened


def test_the_same_version_again_is_told_by_other_words() -> None:
    again = replace(V1, id="f" * 64, since=NOW - 3.0)
    assert told([V1], [again]) == [
        (
            Change.TOOK_OVER,
            "shop-web-v1 took over from an earlier container of that name after both ran for 3 s",
        )
    ]


def test_a_generation_that_goes_with_the_old_one_is_no_failed_deploy() -> None:
    third = container("shop-web-v3", ago=3.0, ip="172.18.0.7")
    assert [change for change, _ in told([V1, V2, third], [V1_GONE, V2_GONE, third])] == [
        Change.TOOK_OVER
    ]


def test_for_how_long_both_ran_is_told() -> None:
    (entry,) = entries(scene(snapshot(V1, V2)), scene(snapshot(V1_GONE, V2)), NOW)
    assert (entry.overlap, entry.version) == (12.0, "v2")


def test_a_target_that_is_refused_is_told_once() -> None:
    wrong = container("shop-job-v1", labels=labels(role="job", port="none"))
    begun = entries(scene(snapshot()), scene(snapshot(wrong)), NOW)
    assert [(each.change, each.slot) for each in begun] == [
        (Change.REFUSED, Slot("", "shop", "job"))
    ]
    assert begun[0].detail.startswith("shop-job-v1 is no target: the label prometheus.port")
    assert (
        entries(scene(snapshot(wrong)), scene(snapshot(wrong, V1)), NOW)[0].change
        is Change.APPEARED
    )
    assert len(entries(scene(snapshot(wrong)), scene(snapshot(wrong, V1)), NOW)) == 1


def test_what_is_in_no_slot_is_refused_in_none() -> None:
    broken = Container("f" * 64, fault="no name", labels={})
    (entry,) = entries(scene(snapshot()), scene(snapshot(broken)), NOW)
    assert (entry.slot, entry.detail[:12]) == (None, "f" * 12)


def test_a_lost_engine_is_told_and_one_that_is_back() -> None:
    well, lost = snapshot(V1, host="a"), snapshot(V1, host="a", lost_at=NOW, error="refused")
    (gone,) = entries(scene(well), scene(lost), NOW)
    (back,) = entries(scene(lost), scene(well), NOW)
    assert (gone.change, gone.detail) == (Change.ENGINE_LOST, "the engine is not heard: refused")
    assert (back.change, back.detail) == (
        Change.ENGINE_HEARD,
        "the engine is heard, and shows 1 containers",
    )
    assert [gone.change.is_trouble, back.change.is_trouble] == [True, False]


def test_an_engine_that_is_new_is_no_event() -> None:
    assert entries(Scene((), ()), scene(snapshot(host="a")), NOW) == []


def test_a_place_is_named_for_people() -> None:
    def place(host: str, slot: Slot | None) -> str:
        return Entry(NOW, host, slot, Change.UP).place

    assert [place("a", WEB), place("", WEB), place("a", None), place("", None)] == [
        *("a shop-web", "shop-web", "a", "the engine")
    ]


def many(slot: str, count: int) -> list[Entry]:
    return [Entry(float(number), "a", Slot("a", slot), Change.UP) for number in range(count)]


def test_of_one_place_the_last_twenty_are_remembered() -> None:
    kept = remembered(many("busy", 30), many("calm", 1))
    assert [each.at for each in kept if each.slot == Slot("a", "busy")] == [
        float(n) for n in range(10, 30)
    ]
    assert kept[-1].slot == Slot("a", "calm")


def test_of_many_places_no_more_than_two_thousand_are_remembered() -> None:
    past = [entry for slot in range(300) for entry in many(str(slot), 10)]
    kept = remembered(past, [])
    assert len(kept) == 2000
    assert kept[-1] == past[-1]


def test_deploys_are_counted_by_slot() -> None:
    def happened(change: Change, overlap: float | None = None) -> Entry:
        return Entry(NOW, "", WEB, change, overlap=overlap)

    once = counted({}, [happened(Change.TOOK_OVER, 2.0), happened(Change.DEPLOY_FAILED)])
    assert once == {WEB: Deploys(took_over=1, failed=1, overlap=2.0)}
    # One that takes the place of a role that was down is no deploy; nor is what happens to engines.
    nothing = [happened(Change.TOOK_OVER), happened(Change.UP), Entry(NOW, "", None, Change.UP)]
    assert counted(once, nothing) == once
    assert counted(once, [happened(Change.TOOK_OVER, 3.0)]) == {WEB: Deploys(2, 1, 5.0)}
