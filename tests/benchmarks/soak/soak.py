"""The soak itself: faults in turn, quiet times between, and all that is looked at all along."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Final, NamedTuple

from tests.benchmarks.samples import METRICS, Series
from tests.benchmarks.soak import judge
from tests.benchmarks.soak.faults import Faults
from tests.benchmarks.soak.findings import Findings
from tests.benchmarks.soak.judge import Held, Missed
from tests.benchmarks.soak.rig import STEADY, Rig, Watched

Tell = Callable[[str], None]

SLOWEST: Final = 0.85
"""A scrape of one second that took so many was given up, by Prometheus or by the relay."""
ALLOWED_SLOW: Final = 0.002
"""So large a part of the scrapes may take too long: the machine is busy."""
# Samples are there so long after their scrape.
_STORED: Final = 4.0
_CONTEXT: Final = 5.0
# So many seconds until the engine is heard again are long.
_LONG: Final = 6.0
_LOOKS_AT_PROMETHEUS: Final = 10.0


class Plan(NamedTuple):
    """How long, and in what order."""

    seconds: float
    seed: str
    kamal: bool = True
    quiet_every: float = 240.0
    quiet_for: float = 10.0
    rest: tuple[float, float] = (4.0, 12.0)
    calm: float = 62.0
    """After a fault that took long to get over. Whoever heard an engine for a minute waits for the
    shortest time again when he loses it; else he would be deaf for most of the soak."""
    scale: float = 1.0
    """How long the faults last, in parts of their usual time."""
    once: tuple[str, ...] = ()
    """Each of these faults once, and then the end, however long it took."""


@dataclass
class Figures:
    """What a soak came to."""

    seconds: float = 0.0
    held: dict[str, list[Held]] = field(default_factory=dict)
    """Of each life of a kamal-sd, by its name and number, what it held each second."""
    quiet: list[Held] = field(default_factory=list)
    """What the steady one held in each quiet time."""
    series: list[int] = field(default_factory=list)
    """How many series the steady one's /metrics had in each quiet time."""
    scrapes: int = 0
    missed: list[Missed] = field(default_factory=list)
    strayed: int = 0
    longest_answer: float = 0.0
    recoveries: list[float] = field(default_factory=list)
    unheard: float = 0.0
    """For how many seconds the steady one could not hear the engine."""

    @property
    def steady(self) -> list[Held]:
        return next(held for name, held in self.held.items() if name.startswith(STEADY))


class Soak:
    """One soak at a rig that runs."""

    def __init__(self, rig: Rig, plan: Plan, tell: Tell) -> None:
        self.figures = Figures()
        self._rig, self._plan, self._tell = rig, plan, tell
        self._faults = Faults(rig, plan.seed, plan.scale)
        self._rested_after = self._told = 0
        self._checked_until = {each.name: time.time() for each in rig.watched}

    def run(self) -> Figures:
        """Go on until the time is over, and judge what is left to be judged."""
        begun = time.time()
        works = [partial(self._look_at, each) for each in self._rig.watched]
        looks = [self._rig.pool.submit(work) for work in works]
        bag: list[str] = []
        quiet_at, looked_at = begun + self._plan.quiet_every, begun
        while time.time() < begun + self._plan.seconds or self._plan.once:
            self._rig.check()
            for each in looks:
                if each.done():
                    each.result()
            self._rest()
            bag = bag or self._faults.bag(self._plan.once)
            kind = bag.pop()
            self._faults.strike(kind)
            self._tell(f"{kind}; {sum(self._rig.findings.counts.values())} findings so far")
            self._tell_new()
            if time.time() > looked_at + _LOOKS_AT_PROMETHEUS:
                looked_at = time.time()
                self._look_at_samples()
            if time.time() > quiet_at:
                self._be_quiet()
                quiet_at = time.time() + self._plan.quiet_every
            if self._plan.once and not bag:
                break
        self._be_quiet()
        self._look_at_samples()
        self.figures.seconds = time.time() - begun
        self.figures.recoveries = self._faults.recoveries
        self.figures.unheard = self._faults.unheard
        self.figures.longest_answer = max(each.longest for each in self._rig.askers)
        self._judge()
        self._tell_new()
        return self.figures

    def _tell_new(self) -> None:
        """Tell what is wrong as it comes: whoever ends a soak early has seen it."""
        lines = self._rig.findings.lines
        for line in lines[self._told :]:
            self._tell(f"not as promised: {line}")
            self._told += 1

    def _rest(self) -> None:
        is_long = max(self._faults.recoveries[self._rested_after :], default=0.0) > _LONG
        self._rested_after = len(self._faults.recoveries)
        time.sleep(self._plan.calm if is_long else self._faults.rest(*self._plan.rest))

    def _look_at(self, watched: Watched) -> None:
        """Each second, until the end."""
        while not self._rig.gate.ended.wait(1):
            server = watched.server
            if held := watched.held():
                self.figures.held.setdefault(f"{watched.name} {server.pid}", []).append(held)
            since = time.time()
            if not watched.hears():
                until = time.time()
                hearing = watched.hearing
                if not hearing.deaf.meeting(since - 1, until) and not hearing.away.meeting(
                    since - 1, until
                ):
                    self._rig.findings.add(
                        "engine", f"the {watched.name} one lost it, and nothing had happened"
                    )

    def _be_quiet(self) -> None:
        """Have nobody deploy or ask but Prometheus, and note what the steady one holds."""
        steady = next(each for each in self._rig.watched if each.name == STEADY)
        with self._rig.gate.shut():
            time.sleep(self._plan.quiet_for)
            looks = []
            for _ in range(5):
                if held := steady.held():
                    looks.append(held)
                time.sleep(0.4)
            text = steady.server.get("/metrics").text
        middle = [median(column) for column in zip(*looks, strict=True)]
        held = Held(middle[0], middle[1], int(middle[2]), int(middle[3]))
        self.figures.quiet.append(held)
        self.figures.series.append(
            sum(not line.startswith("#") for line in text.splitlines() if line)
        )
        self._tell(
            f"quiet: {held.memory:.1f} MB, {held.threads} threads, {held.descriptors} descriptors, "
            f"{self.figures.series[-1]} series of its own"
        )

    def _look_at_samples(self) -> None:
        prometheus, fleet = self._rig.prometheus, self._rig.fleet
        names = "|".join(METRICS)
        for each in self._rig.watched:
            since, end = self._checked_until[each.name], time.time() - _STORED
            seconds = round(time.time() - _STORED - since + _CONTEXT)
            selector = f'{{__name__=~"{names}",job="{each.name}"}}'
            found = prometheus.query(f"{selector}[{seconds}s] offset {_STORED:g}s")
            series = [
                Series(one["metric"], [(at, float(value)) for at, value in one["values"]])
                for one in found
            ]
            looked = judge.of_samples(series, fleet, each.hearing, since, slowest=SLOWEST)
            self._checked_until[each.name] = end
            self.figures.scrapes += looked.scrapes
            self.figures.missed += looked.missed
            self.figures.strayed += looked.strayed
            for fault in looked.faults:
                self._rig.findings.add("sample", f"{each.name}: {fault}")
        jobs = [each.name for each in self._rig.watched]
        for fault in judge.of_series(prometheus.series("shop_requests_total"), fleet, jobs):
            self._rig.findings.add("series", fault)

    def _judge(self) -> None:
        findings, figures = self._rig.findings, self.figures
        for fault in judge.of_memory(figures.steady):
            findings.add("memory", f"{fault}, of the steady one")
        for fault in judge.of_quiet(figures.quiet):
            findings.add("held", f"{fault}, of the steady one")
        slow = [each for each in figures.missed if not each.excused and each.seconds >= SLOWEST]
        if len(slow) > 1 + ALLOWED_SLOW * figures.scrapes:
            findings.add("slow", f"{len(slow)} of {figures.scrapes} scrapes took too long")
            for each in slow:
                story = self._rig.fleet.story(each.slot, each.at)
                findings.add("slow", f"{each.slot} at {each.at:.3f} ({story})")


def soak(rig: Rig, plan: Plan, tell: Tell) -> tuple[Figures, Findings]:
    """Soak a rig that runs."""
    return Soak(rig, plan, tell).run(), rig.findings
