"""What is wrong with an answer, with what Prometheus stored, or with what a process holds. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import linear_regression, median
from typing import Final, NamedTuple

from tests import http_sd_reader
from tests.benchmarks.samples import Series
from tests.benchmarks.soak.truth import LAG, Fleet, Hearing
from tests.benchmarks.truth import Slot
from tests.lab.image import RATE

ALLOWED_RISE: Final = 2.0
"""By so many MB memory may rise in the second half of the soak, by its regression line."""
SHORTEST: Final = 300.0
"""Over less than so many seconds no line is drawn."""
ALLOWED_MORE: Final = 12
"""By so many a quiet count may exceed the first one: Prometheus keeps some connections alive."""
LONGEST_GAP: Final = 5.0
"""So many seconds may be between two scrapes of one second: the machine is busy."""
# From the start of a process to that of its counter, and the engine's clock.
_LEEWAY: Final = 2.0
# A scrape that fails because the app is gone may have begun, and end, a little beside that time.
_BESIDE: Final = 1.5

INVALID: Final = ".invalid:"
DOWN: Final = "is said to be down"


class Held(NamedTuple):
    """What a process held at a time: memory in MB, threads and descriptors."""

    at: float
    memory: float
    threads: int
    descriptors: int


class Missed(NamedTuple):
    """A scrape that did not succeed, and whether that was to be so."""

    slot: Slot
    at: float
    excused: bool
    seconds: float


class Scraped(NamedTuple):
    """What a look at Prometheus' samples came to."""

    scrapes: int
    missed: list[Missed]
    strayed: int
    """Samples of another container while the engine could not be heard: its IP was given anew."""
    faults: list[str]


# --- answers ---


def of_targets(
    body: bytes, fleet: Fleet, hearing: Hearing, since: float, until: float, service: str = ""
) -> list[str]:
    """Return what is wrong with an answer of /targets that was made in that time."""
    try:
        targets = http_sd_reader.read(body)
    except (AssertionError, ValueError) as error:
        return [f"it cannot be read: {error!r}"]
    found: dict[Slot, http_sd_reader.Target] = {}
    faults = []
    for target in targets:
        slot = Slot(target.labels.get("service", ""), target.labels.get("role", ""))
        if found.setdefault(slot, target) is not target:
            faults.append(f"{_name(slot)} is there twice")
        wanted = {"service": slot.service, "role": slot.role, "instance": f"{_name(slot)}:9394"}
        if target.series != wanted:
            faults.append(f"{_name(slot)} has the labels {target.series}")
        version = target.labels.get("__meta_kamal_version", "")
        faults += of_version(slot, version, fleet, hearing, since, until)
        if INVALID in target.address and not _may_be_down(slot, fleet, hearing, since, until):
            story = fleet.story(slot, until)
            faults.append(f"{_name(slot)} {DOWN}, at {target.address} ({story})")
    expected = {each for each in fleet.expected if service in {"", each.service}}
    faults += [f"{_name(slot)} is missing" for slot in sorted(expected - found.keys())]
    if service:
        faults += [f"{_name(each)} was not asked for" for each in found if each.service != service]
    return faults


def of_version(
    slot: Slot, version: str, fleet: Fleet, hearing: Hearing, since: float, until: float
) -> list[str]:
    """Return what is wrong with a version that was said to be current in that time."""
    reach = hearing.reach(since, until)
    allowed = fleet.versions(slot, reach, until)
    if version in allowed:
        return []
    words = ", ".join(sorted(allowed)) or "none"
    story = fleet.story(slot, until)
    before = f"in the {until - reach:.1f} s before it was {words}"
    return [f"{_name(slot)} is {version!r}; {before} ({story})"]


def _may_be_down(slot: Slot, fleet: Fleet, hearing: Hearing, since: float, until: float) -> bool:
    reach = hearing.reach(since, until)
    return slot not in fleet.expected or bool(fleet.down[slot].meeting(reach, until))


# --- what Prometheus stored ---


def of_series(labels: Iterable[dict[str, str]], fleet: Fleet, jobs: Iterable[str]) -> list[str]:
    """Return what is wrong with the label sets that a counter ever had."""
    expected = {
        (job, slot.service, slot.role, f"{_name(slot)}:9394")
        for job in jobs
        for slot in fleet.slots()
    }
    names = {"__name__", "job", "service", "role", "instance"}
    faults = []
    for each in labels:
        known = (each.get("job"), each.get("service"), each.get("role"), each.get("instance"))
        if set(each) != names or known not in expected:
            faults.append(f"a series {each}")
    return faults


def of_samples(
    series: Iterable[Series], fleet: Fleet, hearing: Hearing, since: float, *, slowest: float
) -> Scraped:
    """Judge what one job stored of all slots after `since`.

    A scrape that took `slowest` seconds was given up by Prometheus.
    """
    by_slot: dict[Slot, dict[str, list[Series]]] = defaultdict(lambda: defaultdict(list))
    for each in series:
        slot = Slot(each.labels["service"], each.labels["role"])
        by_slot[slot][each.labels["__name__"]].append(each)
    scrapes, missed, strayed = 0, [], 0
    absent = sorted(fleet.expected - by_slot.keys())
    faults = [f"{_name(slot)} has no samples after {since:.3f}" for slot in absent]
    for slot, parts in sorted(by_slot.items()):
        took = {at: value for each in parts["scrape_duration_seconds"] for at, value in each.values}
        ups = sorted(pair for each in parts["up"] for pair in each.values)
        for (before, _), (after, _) in pairwise(ups):
            if after > since and after - before > LONGEST_GAP and slot in fleet.expected:
                seconds = f"{after - before:.1f} s before {after:.3f}"
                faults.append(f"{_name(slot)} was not scraped in the {seconds}")
        for at, up in ups:
            if at <= since or slot not in fleet.expected:
                continue
            scrapes += 1
            if not up:
                excused = _is_excused(slot, at, fleet, hearing)
                missed.append(Missed(slot, at, excused, took.get(at, 0.0)))
        found, more = _of_containers(slot, parts, fleet, hearing, since)
        faults += found
        strayed += more
    faults += [
        f"{_name(each.slot)} has up = 0 at {each.at:.3f} after {each.seconds:.2f} s "
        f"({fleet.story(each.slot, each.at)})"
        for each in missed
        if not each.excused and each.seconds < slowest
    ]
    return Scraped(scrapes, missed, strayed, faults)


def _is_excused(slot: Slot, at: float, fleet: Fleet, hearing: Hearing) -> bool:
    """Whether the app was down, or kamal-sd; or could not hear that the app was another one."""
    since, until = at - _BESIDE, at + _BESIDE
    if hearing.away.meeting(since, until) or fleet.down[slot].meeting(since, until):
        return True
    return _is_unheard(slot, at, fleet, hearing)


def _is_unheard(slot: Slot, at: float, fleet: Fleet, hearing: Hearing) -> bool:
    return any(
        fleet.is_handed_over(slot, each.begins - LAG, each.ends + LAG)
        for each in hearing.deaf.meeting(at - LAG, at + LAG)
    )


def _of_containers(
    slot: Slot, parts: dict[str, list[Series]], fleet: Fleet, hearing: Hearing, since: float
) -> tuple[list[str], int]:
    """Judge who answered the scrapes of a slot, and the steps of its counter."""
    who = {}
    faults = []
    strayed = 0
    for each in parts["shop_build_info"]:
        for at, _ in each.values:
            who[at] = each.labels["container"]
            if at <= since:
                continue
            wrong = of_version(slot, each.labels["version"], fleet, hearing, at, at + 1)
            if each.labels["exported_role"] != slot.role:
                wrong = [f"{_name(slot)} has a sample of {each.labels['exported_role']}"]
            if wrong and _is_unheard(slot, at, fleet, hearing):
                strayed += 1
            else:
                faults += [f"{words}, scraped at {at:.3f}" for words in wrong]
    counter = sorted(pair for each in parts["shop_requests_total"] for pair in each.values)
    before: dict[str, tuple[float, float]] = {}
    for at, value in counter:
        container = who.get(at, "")
        if at > since and container in before and not _is_unheard(slot, at, fleet, hearing):
            then, was = before[container]
            if value < was and not fleet.down[slot].meeting(then - LAG, at + LAG):
                faults.append(f"{_name(slot)} went from {was:g} back to {value:g} at {at:.3f}")
            if value - was > RATE * (at - then + _LEEWAY):
                faults.append(f"{_name(slot)} jumped from {was:g} to {value:g} at {at:.3f}")
        before[container] = (at, value)
    return faults, strayed


# --- what a process holds ---


def slope(held: Sequence[Held]) -> float:
    """Return by how many MB memory rises in an hour, over the second half."""
    half = second_half(held)
    return linear_regression([each.at for each in half], [each.memory for each in half])[0] * 3600


def second_half(held: Sequence[Held]) -> list[Held]:
    middle = (held[0].at + held[-1].at) / 2
    return [each for each in held if each.at >= middle]


def of_memory(held: Sequence[Held]) -> list[str]:
    """Return what is wrong with the memory of a process that was looked at all along."""
    half = second_half(held)
    seconds = half[-1].at - half[0].at
    if seconds < SHORTEST:
        return []
    rise = slope(held) * seconds / 3600
    if rise <= ALLOWED_RISE:
        return []
    return [f"memory rose by {rise:.1f} MB in {seconds:.0f} s, by its regression line"]


def of_quiet(quiet: Sequence[Held]) -> list[str]:
    """Return what is wrong with threads and descriptors, as they were when all was quiet.

    All of the later ones must be above, not the last one alone: a leak does not come back.
    """
    if len(quiet) < 2:
        return []
    faults = []
    for name in ("threads", "descriptors"):
        first, last = getattr(quiet[0], name), median(getattr(each, name) for each in quiet[-3:])
        if last > first + ALLOWED_MORE:
            faults.append(f"{last:g} {name} in the last quiet times, and {first} in the first")
    return faults


def _name(slot: Slot) -> str:
    return f"{slot.service}-{slot.role}"
