"""The incumbent rule: which generation of a slot is current."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from app.model import Container, Health

NEVER = float("inf")


class Choice(NamedTuple):
    """The current generation of a slot, if any.

    `kept` says that it has stopped, and stands for a slot in which nothing runs. `changes_at` is
    the earliest time at which the answer may be another one although no container changed.
    """

    current: Container | None
    kept: bool = False
    changes_at: float = NEVER


def choose(
    generations: Iterable[Container],
    incumbents: Collection[str],
    *,
    now: float,
    overlap_limit: float,
    keep_missing: float,
) -> Choice:
    """The generation of a slot that is current at `now`.

    It is the one that was current before (its id is among `incumbents`), else the one that has run
    longest, for as long as it runs. A newer one takes over that has run for `overlap_limit` and is
    not unhealthy, or that is healthy while the current one is unhealthy. An older one never does.

    Where none runs, the one that stopped last stands for the slot for `keep_missing`.
    """
    generations = tuple(generations)
    running = sorted((each for each in generations if each.running), key=start_order)
    if not running:
        return _last_stopped(generations, now, keep_missing)

    current = next((each for each in running if each.id in incumbents), running[0])
    newer = running[running.index(current) + 1 :]
    able = [each for each in newer if each.health is not Health.UNHEALTHY]
    overlapped = [each for each in able if now >= each.since + overlap_limit]
    if overlapped:
        current = overlapped[-1]
    if current.health is Health.UNHEALTHY:
        after = running[running.index(current) + 1 :]
        current = next((each for each in after if each.health is Health.HEALTHY), current)

    # Whoever is not yet due, and newer than the current one, will be due one day.
    waiting = running[running.index(current) + 1 :]
    due = [each.since + overlap_limit for each in waiting if each in able]
    return Choice(current, changes_at=min((time for time in due if time > now), default=NEVER))


def start_order(container: Container) -> tuple[float, float, str]:
    """What generations are sorted by, the oldest first: no two are equal."""
    return container.since, container.created, container.id


def _last_stopped(generations: Iterable[Container], now: float, keep_missing: float) -> Choice:
    stopped = [each for each in generations if each.stopped]
    if not stopped:
        return Choice(None)
    last = max(stopped, key=start_order)
    ends = last.since + keep_missing
    return Choice(last, kept=True, changes_at=ends) if now < ends else Choice(None)
