"""What kamal-sd promises of these runs, and where a run shows something else."""

from collections.abc import Iterator

from tests.benchmarks.judgement import Tally
from tests.benchmarks.runs import Result, Run

# What `auto` is where the engine is on kamal-sd's own host.
_RELAYED = ("relay", "auto")


def broken(deploys: Run | None, failures: Run | None) -> list[str]:
    """Return a sentence for everything that is not as promised."""
    return [*_by_deploys(deploys), *_by_failures(failures)]


def _by_deploys(run: Run | None) -> Iterator[str]:
    """The relay leaves no trace at all, and no way of kamal-sd's starts a new series."""
    for result in run.results if run else ():
        if result.way.address in _RELAYED:
            yield from _traces(result, "deploys")
        elif result.way.address and result.tally.new_series:
            yield f"{_name(result)}: {result.tally.new_series} new series in deploys"


def _by_failures(run: Run | None) -> Iterator[str]:
    """A candidate that fails is never current, so its address is never served.

    An alias is not an address of the current one alone: whoever bears it answers.
    """
    for result in run.results if run else ():
        if result.way.address in (*_RELAYED, "ip"):
            yield from _traces(result, "failing deploys")


def _traces(result: Result, run: str) -> Iterator[str]:
    for words, count in traces(result.tally).items():
        if count:
            yield f"{_name(result)}: {count:g} {words} in {run}"


def traces(tally: Tally) -> dict[str, float]:
    """Return everything that shows in time series, but for what is lost to chance."""
    return {
        "new series": tally.new_series,
        "missed scrapes": tally.missed,
        "samples of another role": tally.wrong_role,
        "samples of a version that was not current": tally.not_current,
        "steps back and forth": tally.returns,
        "s of false increase": tally.false_increase,
    }


def _name(result: Result) -> str:
    return f"{result.way.name}, the app that {result.service}"
