"""What a way of finding targets made of a slot's deploys: pure counting, deploy by deploy.

The definitions, each of one slot in one job:

- **New series**: label sets of the counter that have their first sample in the deploy's window
  (from its beginning to the beginning of the next one).
- **Missed scrapes**: samples of `up` that are 0, and one more for each whole interval in which no
  scrape was made at all.
- **Wrong role**: samples of the counter that a container of another slot gave.
- **Not current**: samples that a generation of the slot gave that was no longer, not yet, or never
  to be current at any moment of the scrape (with 0.25 s of grace: the engine says when a process
  has ended, and that is a little later than it happened).
- **True growth**: `Truth.growth`: each generation that ever is current, from its start to its stop.
- **Counted growth**: what `increase()` adds up before it extrapolates: each step from a sample to
  the next of its series, and after a step down the whole new value.
- **Sampled growth**: of each sample by a rightful generation of the slot (not a failed one), what
  its value is above the highest one seen of that generation. A perfect reader would count this.
- **False increase**: by how much the counted growth of the window is above the sampled one.
- **Returns**: samples of a generation that the series had left already. Each is a step back that is
  followed by a jump forth (or the other way round).
- **Lost growth**: at each hand-over, the growth of the old generation after the last sample of it,
  which no scrape can bring back; and by how much the counted growth of the window is *below* the
  sampled one (a reset that nobody saw). Half a scrape interval is what chance alone takes.
- **Good sample**: the first one of the new generation once it is current.

Growth is in seconds: the counter grows by RATE in each.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

from tests.benchmarks.samples import Sample, Track
from tests.benchmarks.truth import Slot, Tenure, Truth, Window
from tests.lab.image import RATE

GRACE = 0.25
# A scrape that is this much early is not one more.
_JITTER = 0.5


@dataclass
class Tally:
    """What one deploy, or several, did to one slot, or several."""

    new_series: int = 0
    missed: int = 0
    wrong_role: int = 0
    not_current: int = 0
    returns: int = 0
    false_increase: float = 0.0
    unseen_reset: float = 0.0
    growth: float = 0.0
    tails: list[float] = field(default_factory=list)
    """Of each hand-over, for how long the old generation grew after its last sample."""
    after_stop: list[float] = field(default_factory=list)
    after_start: list[float] = field(default_factory=list)
    never_seen: int = 0
    """New generations of which no good sample ever came."""

    @property
    def lost(self) -> float:
        return sum(self.tails) + self.unseen_reset

    def __add__(self, other: Self) -> "Tally":
        names = self.__dataclass_fields__
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in names})


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of tallies."""
    return sum(tallies, Tally())


def judge(track: Track, truth: Truth, windows: Sequence[Window], *, interval: float) -> list[Tally]:
    """Return the tally of each window, which is that of a deploy."""
    found = [Tally(growth=truth.growth(track.slot, window)) for window in windows]
    tenures = truth.tenures(track.slot)
    _count_samples(track, truth, tenures, windows, found)
    _count_missed(track, windows, found, interval)
    for tenure in tenures:
        for window, tally in zip(windows, found, strict=True):
            if tenure.before and tenure.begins in window:
                _count_hand_over(track, tenure, tally)
    return found


def is_of_another_slot(sample: Sample, slot: Slot, truth: Truth) -> bool:
    """Tell whether the sample came from a container that has no business in this slot."""
    generation = truth.by_container.get(sample.container)
    return generation is None or generation.slot != slot


def was_current(sample: Sample, tenures: Iterable[Tenure]) -> bool:
    """Tell whether whoever gave the sample was current at some moment of the scrape."""
    return any(
        tenure.generation.container == sample.container
        and tenure.begins <= sample.ends + GRACE
        and sample.time - GRACE <= tenure.ends
        for tenure in tenures
    )


def _count_samples(
    track: Track,
    truth: Truth,
    tenures: Sequence[Tenure],
    windows: Sequence[Window],
    found: Sequence[Tally],
) -> None:
    counted = {tenure.generation.container for tenure in tenures}
    highest: dict[str, float] = defaultdict(float)
    last: dict[object, Sample] = {}
    left: dict[object, set[str]] = defaultdict(set)
    excess: Counter[int] = Counter()
    for sample in track.samples:
        before = last.get(sample.series)
        step = _step(before, sample)
        rightful = 0.0
        if sample.container in counted:
            seen = highest[sample.container]
            highest[sample.container] = max(seen, sample.value)
            # What a track begins with is where counting begins.
            rightful = highest[sample.container] - seen if last else 0.0
        first_of_series = before is None and bool(last)
        last[sample.series] = sample
        returned = sample.container in left[sample.series]
        if before and before.container != sample.container:
            left[sample.series].add(before.container)
            left[sample.series].discard(sample.container)
        index = _window_at(sample.time, windows)
        if index is None:
            continue
        tally = found[index]
        excess[index] += round(step - rightful)
        tally.new_series += first_of_series
        tally.returns += returned
        if is_of_another_slot(sample, track.slot, truth):
            tally.wrong_role += 1
        elif not was_current(sample, tenures):
            tally.not_current += 1
    for index, tally in enumerate(found):
        tally.false_increase = max(0, excess[index]) / RATE
        tally.unseen_reset = max(0, -excess[index]) / RATE


def _step(before: Sample | None, sample: Sample) -> float:
    """Return what `increase()` adds for a sample."""
    if before is None:
        return 0.0
    return sample.value - before.value if sample.value >= before.value else sample.value


def _count_missed(
    track: Track, windows: Sequence[Window], found: Sequence[Tally], interval: float
) -> None:
    for time, up in track.ups:
        if not up and (index := _window_at(time, windows)) is not None:
            found[index].missed += 1
    ends = [time for time, _ in track.ups]
    # After the last scrape, one is due until the end.
    for earlier, later in pairwise([*ends, *(window.ends for window in windows[-1:])]):
        skipped = int((later - earlier + _JITTER) / interval) - 1
        if skipped > 0 and (index := _window_at(earlier + interval, windows)) is not None:
            found[index].missed += skipped


def _count_hand_over(track: Track, tenure: Tenure, tally: Tally) -> None:
    old, new = tenure.before, tenure.generation
    assert old is not None
    seen = [each.time for each in track.samples if each.container == old.container]
    tally.tails.append(max(0.0, old.stopped - max([old.started, *seen])))
    good = (
        each.time
        for each in track.samples
        if each.container == new.container and was_current(each, [tenure])
    )
    first = next(good, None)
    if first is None:
        tally.never_seen += 1
    else:
        tally.after_stop.append(max(0.0, first - old.stopped))
        tally.after_start.append(first - new.started)


def _window_at(time: float, windows: Sequence[Window]) -> int | None:
    return next((index for index, window in enumerate(windows) if time in window), None)
