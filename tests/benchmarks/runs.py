"""The two runs: deploys that succeed, and deploys that fail."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.benchmarks.deployer import Deployer, truth_of
from tests.benchmarks.judgement import Tally, judge, total
from tests.benchmarks.rig import INTERVAL, SERVICES, Rig, Tell
from tests.benchmarks.samples import COUNTER, tracks
from tests.benchmarks.truth import Truth, Window
from tests.benchmarks.ways import Way
from tests.lab.image import RATE
from tests.lab.process import LabError

# Seconds from the beginning of a deploy to that of the next one, in turn. A deploy takes 24 s, a
# failing one 17 s or 13 s. No two of them come to a whole minute or to whole scrapes, so 20 deploys
# meet every phase of a refresh of 60 s, and of a scrape.
PERIODS = (57, 117)
PERIODS_OF_FAILURES = (23, 19)
# After the last deploy, for a refresh of 60 s and what Prometheus adds to it.
SETTLE = 80


@dataclass(frozen=True)
class Result:
    """What a run did to one app in one way."""

    way: Way
    service: str
    deploys: int
    tally: Tally
    increase: float
    """By how much Prometheus' own `increase()` over the whole run is off the true growth, as a part
    of it."""


@dataclass(frozen=True)
class Run:
    """A run's results, way by way, each for both apps."""

    deploys: int
    results: list[Result]


def succeeding(rig: Rig, deploys: int, tell: Tell) -> Run:
    """Deploy both apps at once, again and again, with short and long gaps in turn."""

    def step(_number: int) -> None:
        rig.in_both(Deployer.deploy)

    return _run(rig, "deploy", deploys, step, PERIODS, tell)


def failing(rig: Rig, deploys: int, tell: Tell) -> Run:
    """Deploys that fail, in turn in `web` with one never healthy and in `job` with one crashing."""

    def step(number: int) -> None:
        if number % 2:
            rig.in_both(lambda each: each.fail("job", "crashing"))
        else:
            rig.in_both(lambda each: each.fail("web", "unhealthy"))

    return _run(rig, "failing deploy", deploys, step, PERIODS_OF_FAILURES, tell)


def _run(
    rig: Rig,
    what: str,
    deploys: int,
    step: Callable[[int], None],
    periods: Sequence[float],
    tell: Tell,
) -> Run:
    begins = []
    # A quiet time before the first one, so that it does not fall among the first scrapes.
    time.sleep(2 * INTERVAL)
    for number in range(deploys):
        begins.append(time.time())
        step(number)
        took = time.time() - begins[-1]
        last = number == deploys - 1
        gap = SETTLE if last else max(0.0, periods[number % len(periods)] - took)
        tell(f"{what} {number + 1} of {deploys} took {took:.0f} s; then {gap:.0f} s of quiet")
        time.sleep(gap)
    end = time.time()
    windows = [Window(*pair) for pair in zip(begins, [*begins[1:], end], strict=True)]
    truth = truth_of(rig.deployers.values())
    results = list(_results(rig, truth, windows, end))
    return Run(deploys, results)


def _results(rig: Rig, truth: Truth, windows: list[Window], end: float) -> Iterator[Result]:
    whole = Window(windows[0].begins, end)
    seconds = whole.ends - whole.begins
    for way in rig.ways:
        # A little more than the run, so that counting has somewhere to begin.
        raw = rig.prometheus.raw(way.name, end=end, seconds=seconds + 2 * INTERVAL)
        found = tracks(raw)
        if not found:
            raise LabError(f"Prometheus stored nothing by way of {way.name}")
        for service in SERVICES:
            own = [track for track in found if track.slot.service == service]
            judged = (judge(track, truth, windows, interval=INTERVAL) for track in own)
            tally = total(each for tallies in judged for each in tallies)
            increase = rig.prometheus.increase(COUNTER, way.name, service, end=end, seconds=seconds)
            grown = RATE * sum(truth.growth(track.slot, whole) for track in own)
            yield Result(way, service, len(windows), tally, increase / grown - 1)
