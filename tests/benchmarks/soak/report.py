"""The figures of a soak, as rows of a table."""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import TypeVar

from tests.benchmarks.soak import judge
from tests.benchmarks.soak.findings import Findings
from tests.benchmarks.soak.soak import SLOWEST, Figures

BEGIN = "<!-- made by make soak -->\n"
END = "<!-- end of what make soak made -->\n"
T = TypeVar("T")
_FAULT = "fault: "


def markdown(
    figures: Figures, findings: Findings, seed: str, load: str, machine: Mapping[str, str]
) -> str:
    """Return the table, and what it was measured on."""
    rows = [("what", "figure"), ("---", "---"), *_rows(figures, findings, seed, load)]
    table = "".join(f"| {what} | {figure} |\n" for what, figure in rows)
    return f"{table}\n{', '.join(f'{name}: {value}' for name, value in machine.items())}\n"


def _rows(figures: Figures, findings: Findings, seed: str, load: str) -> Iterator[tuple[str, str]]:
    minutes = figures.seconds / 60
    yield "time", f"{minutes:.0f} minutes, seed {seed}, load of the machine {load}"
    done = dict(findings.done)
    faults = {what: done.pop(what) for what in sorted(done) if what.startswith(_FAULT)}
    words = ", ".join(f"{what.removeprefix(_FAULT)} {count}" for what, count in faults.items())
    yield f"faults, {sum(faults.values())}", words
    if figures.recoveries:
        yield (
            "engine heard again after a fault",
            f"{median(figures.recoveries):.1f} s (median), {max(figures.recoveries):.1f} s at most",
        )
    part = figures.unheard / figures.seconds
    yield "not heard by the steady one", f"{part:.0%} of the time".replace("%", " %")
    answers = done.pop("answers checked", 0)
    yield "done meanwhile", ", ".join(f"{what} {count:,}" for what, count in sorted(done.items()))
    yield "answers checked", f"{answers:,}, the longest took {figures.longest_answer:.2f} s"
    excused = sum(each.excused for each in figures.missed)
    slow = sum(not each.excused and each.seconds >= SLOWEST for each in figures.missed)
    other = len(figures.missed) - excused - slow
    failed = f"{excused} excused, {slow} took too long, {other} others"
    words = f"{figures.scrapes:,}; failed: {failed}; strayed: {figures.strayed}"
    yield "scrapes through the relays", words
    yield from _held(figures)
    found = ", ".join(f"{kind} {count}" for kind, count in sorted(findings.counts.items()))
    yield "not as promised", found or "nothing"


def _held(figures: Figures) -> Iterator[tuple[str, str]]:
    steady = figures.steady
    memory = [steady[0].memory, figures.quiet[0].memory, figures.quiet[-1].memory]
    first, warm, last = (f"{each:.1f}" for each in memory)
    line = ""
    if judge.second_half(steady)[2:]:
        line = f"; {judge.slope(steady):+.2f} MB an hour over the second half"
    most = max(each.memory for each in steady)
    words = f"{first} at the start, {warm} in the first quiet time, {last} at the end"
    yield "memory of the steady one, MB", f"{words}, {most:.1f} at most{line}"
    for name in ("threads", "descriptors"):
        quiet = " ".join(str(getattr(each, name)) for each in _few(figures.quiet))
        most = max(getattr(each, name) for each in steady)
        yield f"{name}, in quiet times", f"{quiet}; {most:g} at most"
    series = " ".join(map(str, _few(figures.series)))
    yield "series of its own /metrics, in quiet times", series
    yield "kamal-sd's that lived", str(len(figures.held))


def _few(values: list[T]) -> list[T]:
    """The first ones and the last ones, where there are many."""
    return values if len(values) <= 12 else [*values[:6], *values[-6:]]
