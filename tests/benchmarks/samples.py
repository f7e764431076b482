"""What Prometheus stored of one slot in one job, as values."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from tests.benchmarks.truth import Slot

COUNTER = "shop_requests_total"
INFO = "shop_build_info"
UP = "up"
DURATION = "scrape_duration_seconds"
METRICS = (COUNTER, INFO, UP, DURATION)

Labels = frozenset[tuple[str, str]]


class Series(NamedTuple):
    """One time series as a range selector answers it: labels, and (time, value) pairs."""

    labels: dict[str, str]
    values: list[tuple[float, float]]


class Sample(NamedTuple):
    """A sample of the counter, and which container it is of.

    The time is that at which the scrape began, and `ends` that at which it was done: in between the
    container answered.
    """

    time: float
    ends: float
    value: float
    container: str
    series: Labels


class Track(NamedTuple):
    """A slot in a job: the counter's samples, and every value of `up`, in time order."""

    slot: Slot
    samples: tuple[Sample, ...]
    ups: tuple[tuple[float, float], ...]


class _Parts(NamedTuple):
    counters: list[Series]
    container_at: dict[float, str]
    took: dict[float, float]
    ups: list[tuple[float, float]]


def tracks(series: Iterable[Series]) -> list[Track]:
    """Put together what one job stored. All that one scrape brings has the same timestamp."""
    slots: dict[Slot, _Parts] = defaultdict(lambda: _Parts([], {}, {}, []))
    for each in series:
        parts = slots[Slot(each.labels["service"], each.labels["role"])]
        match each.labels["__name__"]:
            case "shop_requests_total":
                parts.counters.append(each)
            case "shop_build_info":
                container = each.labels["container"]
                parts.container_at.update((time, container) for time, _ in each.values)
            case "scrape_duration_seconds":
                parts.took.update(each.values)
            case "up":
                parts.ups.extend(each.values)
            case name:
                raise ValueError(f"nobody asked for {name}")
    return [_track(slot, slots[slot]) for slot in sorted(slots)]


def _track(slot: Slot, parts: _Parts) -> Track:
    samples = [
        Sample(
            time=time,
            ends=time + parts.took.get(time, 0.0),
            value=value,
            container=parts.container_at.get(time, ""),
            series=frozenset(series.labels.items()),
        )
        for series in parts.counters
        for time, value in series.values
    ]
    samples.sort(key=lambda each: each.time)
    return Track(slot, tuple(samples), tuple(sorted(parts.ups)))
