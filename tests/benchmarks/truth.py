"""What really ran, and which generation was current: what samples are judged by."""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

NEVER = float("inf")


class Slot(NamedTuple):
    """The place of a role; the benchmark has one host and no destinations."""

    service: str
    role: str


class Generation(NamedTuple):
    """One container of a slot, with the times at which its process began and ended.

    `failed` says that it was a candidate of a deploy that failed: it never was to be current.
    """

    slot: Slot
    version: str
    container: str
    started: float
    stopped: float = NEVER
    failed: bool = False

    def ran(self, window: "Window") -> float:
        """Return for how many seconds of the window it ran."""
        return max(0.0, min(self.stopped, window.ends) - max(self.started, window.begins))


class Tenure(NamedTuple):
    """The time in which a generation is current, and whom it followed."""

    generation: Generation
    begins: float
    ends: float
    before: Generation | None = None


class Window(NamedTuple):
    """The time from the beginning of a deploy to the beginning of the next one."""

    begins: float
    ends: float

    def __contains__(self, time: object) -> bool:
        return isinstance(time, float) and self.begins <= time < self.ends


class Truth:
    """All generations of all slots.

    Current is the oldest one that runs, until it stops, and never a failed one. That is the
    design's rule: no deploy here overlaps for as long as `overlap_limit`.
    """

    def __init__(self, generations: Iterable[Generation]) -> None:
        self.generations = sorted(generations, key=lambda each: each.started)
        self.by_container = {each.container: each for each in self.generations}

    def counted(self, slot: Slot) -> list[Generation]:
        """Return a slot's generations in the order in which they are current."""
        return [each for each in self.generations if each.slot == slot and not each.failed]

    def tenures(self, slot: Slot) -> list[Tenure]:
        """Return who is current in a slot, one after the other."""
        counted = self.counted(slot)
        first = [Tenure(each, each.started, each.stopped) for each in counted[:1]]
        return first + [
            Tenure(after, max(after.started, before.stopped), after.stopped, before)
            for before, after in pairwise(counted)
        ]

    def growth(self, slot: Slot, window: Window) -> float:
        """Return for how many seconds the slot's counter truly grew in the window.

        Each counted generation counts from its start to its stop, not from the moment at which it
        is current: what it served during the overlap was served. A failed one counts nothing.
        """
        return sum(each.ran(window) for each in self.counted(slot))
