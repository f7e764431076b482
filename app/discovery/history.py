"""What happened to the slots and engines, as the difference of two views: one entry an event."""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import chain
from typing import NamedTuple

from app.model import FAULTS, Decision, Reason, Slot, Snapshot

# So much is remembered: of one slot or engine, and of all together.
_MOST_OF_ONE = 20
_MOST = 2000

_STANDING = (Reason.CURRENT, Reason.KEPT)


class Change(StrEnum):
    """What an entry is about. The values are a public interface."""

    APPEARED = "appeared"
    DEPLOY_BEGAN = "deploy-began"
    TOOK_OVER = "took-over"
    DEPLOY_FAILED = "deploy-failed"
    DOWN = "down"
    UP = "up"
    GONE = "gone"
    REFUSED = "refused"
    ENGINE_LOST = "engine-lost"
    ENGINE_HEARD = "engine-heard"

    @property
    def is_trouble(self) -> bool:
        """Whether somebody may have to do something about it."""
        return self in _TROUBLE


_TROUBLE = frozenset({Change.DEPLOY_FAILED, Change.DOWN, Change.REFUSED, Change.ENGINE_LOST})


class Entry(NamedTuple):
    """One event, of a slot or where that is None of the host's engine.

    `detail` is a sentence for people. `overlap` is for how many seconds both generations ran, where
    one took over from the other.
    """

    at: float
    host: str
    slot: Slot | None
    change: Change
    version: str = ""
    detail: str = ""
    overlap: float | None = None

    @property
    def place(self) -> str:
        """Where it happened, for people."""
        name = self.slot.name if self.slot else ""
        return " ".join(part for part in (self.host, name) if part) or "the engine"


class Scene(NamedTuple):
    """What entries are made from: a view's engines and decisions."""

    snapshots: Iterable[Snapshot]
    decisions: Iterable[Decision]


class _Slot(NamedTuple):
    current: Decision | None
    candidates: Mapping[str, Decision]


def entries(before: Scene, after: Scene, now: float) -> list[Entry]:
    """What happened between the two, in an order of places."""
    return list(chain(_of_engines(before, after, now), _of_slots(before, after, now)))


def remembered(past: Iterable[Entry], new: Iterable[Entry]) -> tuple[Entry, ...]:
    """The past with the new at its end, less what is too much of it."""
    counts: dict[tuple[str, Slot | None], int] = {}
    kept: list[Entry] = []
    for entry in reversed([*past, *new]):
        place = (entry.host, entry.slot)
        counts[place] = counts.get(place, 0) + 1
        if counts[place] <= _MOST_OF_ONE and len(kept) < _MOST:
            kept.append(entry)
    return tuple(reversed(kept))


class Deploys(NamedTuple):
    """What came of the deploys of a slot. `overlap` is the sum of their overlaps, in seconds."""

    took_over: int = 0
    failed: int = 0
    overlap: float = 0.0


def counted(before: Mapping[Slot, Deploys], new: Iterable[Entry]) -> Mapping[Slot, Deploys]:
    """The deploys so far, with what is new."""
    counts = dict(before)
    for entry in new:
        if entry.slot is None:
            continue
        took_over, failed, overlap = counts.get(entry.slot, Deploys())
        if entry.change is Change.TOOK_OVER and entry.overlap is not None:
            counts[entry.slot] = Deploys(took_over + 1, failed, overlap + entry.overlap)
        elif entry.change is Change.DEPLOY_FAILED:
            counts[entry.slot] = Deploys(took_over, failed + 1, overlap)
    return counts


def _of_engines(before: Scene, after: Scene, now: float) -> Iterator[Entry]:
    was = {each.host: each for each in before.snapshots}
    for each in after.snapshots:
        old = was.get(each.host)
        if old is None or old.up == each.up:
            continue
        if each.up:
            detail = f"the engine is heard, and shows {len(each.containers)} containers"
            yield Entry(now, each.host, None, Change.ENGINE_HEARD, detail=detail)
        else:
            detail = f"the engine is not heard: {each.error}"
            yield Entry(now, each.host, None, Change.ENGINE_LOST, detail=detail)


def _of_slots(before: Scene, after: Scene, now: float) -> Iterator[Entry]:
    was, now_is = _slots(before.decisions), _slots(after.decisions)
    nothing = _Slot(None, {})
    for slot in sorted(was.keys() | now_is.keys()):
        old, new = was.get(slot, nothing), now_is.get(slot, nothing)
        if entry := _of_current(slot, old.current, new.current, now):
            yield entry
        yield from _of_candidates(slot, old, new, now)
    known = {each.container.id for each in before.decisions if each.reason in FAULTS}
    for each in after.decisions:
        if each.reason in FAULTS and each.container.id not in known:
            detail = f"{_name(each)} is no target: {each.detail}"
            yield Entry(now, each.host, each.slot, Change.REFUSED, each.version, detail)


def _of_current(
    slot: Slot, before: Decision | None, after: Decision | None, now: float
) -> Entry | None:
    """What happened to whoever stands for the slot; None where nothing did."""

    def entry(change: Change, of: Decision, detail: str, overlap: float | None = None) -> Entry:
        return Entry(now, slot.host, slot, change, of.version, detail, overlap)

    if before is None or after is None:
        if after:
            return entry(Change.APPEARED, after, f"{_name(after)} is {after.reason}")
        gone = "was removed, or is no longer kept"
        return entry(Change.GONE, before, f"{_name(before)} {gone}") if before else None
    if before.container.id != after.container.id:
        overlap = _overlap(before, after, now)
        both = f" after both ran for {overlap:.0f} s" if overlap else ""
        # Kamal renames the old one of a version that is deployed again, and only then.
        is_again = _name(after) == _name(before)
        old = "an earlier container of that name" if is_again else _name(before)
        detail = f"{_name(after)} took over from {old}{both}"
        return entry(Change.TOOK_OVER, after, detail, overlap)
    if before.reason is after.reason:
        return None
    if after.reason is Reason.KEPT:
        return entry(Change.DOWN, after, f"{_name(after)} stopped and nothing took its place")
    return entry(Change.UP, after, f"{_name(after)} runs again")


def _of_candidates(slot: Slot, old: _Slot, new: _Slot, now: float) -> Iterator[Entry]:
    """The deploys that began, and those that came to nothing."""
    before, after = old.current, new.current
    if not (before and after) or before.container.id != after.container.id:
        return
    stays = f"{_name(after)} stays current"
    for container_id, each in new.candidates.items():
        if container_id not in old.candidates:
            detail = f"{_name(each)} started; {stays} until it stops"
            yield Entry(now, slot.host, slot, Change.DEPLOY_BEGAN, each.version, detail)
    for container_id, each in old.candidates.items():
        if container_id not in new.candidates:
            detail = f"{_name(each)} is gone; {stays}"
            yield Entry(now, slot.host, slot, Change.DEPLOY_FAILED, each.version, detail)


def _overlap(before: Decision, after: Decision, now: float) -> float | None:
    """How long both ran, in seconds; None where they did not."""
    both_ran = before.reason is Reason.CURRENT and after.container.running
    return max(0.0, now - after.container.since) if both_ran else None


def _slots(decisions: Iterable[Decision]) -> dict[Slot, _Slot]:
    current: dict[Slot, Decision] = {}
    candidates: dict[Slot, dict[str, Decision]] = {}
    for each in decisions:
        if each.slot and each.reason in _STANDING:
            current.setdefault(each.slot, each)
        elif each.slot and each.reason is Reason.CANDIDATE:
            candidates.setdefault(each.slot, {})[each.container.id] = each
    return {
        slot: _Slot(current.get(slot), candidates.get(slot, {}))
        for slot in current.keys() | candidates.keys()
    }


def _name(decision: Decision) -> str:
    return decision.container.name or decision.container.id[:12]
