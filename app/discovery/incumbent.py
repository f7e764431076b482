"""The incumbent rule: which generation of a slot is current."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from app.model import Container, Health

NEVER = float("inf")
# So many digits of an id name a container to kamal-proxy: it is the default of its host name.
SHORT_ID = 12


class Choice(NamedTuple):
    """The current generation of a slot, if any.

    `candidate` is the newest of those that run and are newer. `kept` says that the current one has
    stopped, and stands for a slot in which nothing runs; `by_proxy` that kamal-proxy chose it.
    `changes_at` is the earliest time at which the answer may be another one although no container
    changed.
    """

    current: Container | None
    candidate: Container | None = None
    kept: bool = False
    by_proxy: bool = False
    changes_at: float = NEVER


def choose(
    generations: Iterable[Container],
    incumbents: Collection[str],
    *,
    now: float,
    overlap_limit: float,
    keep_missing: float,
    active: Collection[str] = (),
) -> Choice:
    """The generation of a slot that is current at `now`.

    It is the one that was current before (its id is among `incumbents`), else the one that has run
    longest, for as long as it runs. A newer one takes over that has run for `overlap_limit` and is
    not unhealthy, or that is healthy while the current one is unhealthy. An older one never does.

    Where kamal-proxy's state is known, it decides: the one that runs and whose short id is `active`
    is current, for it alone is sent the traffic.

    Where none runs, the one that stopped last stands for the slot for `keep_missing`.
    """
    generations = tuple(generations)
    running = sorted((each for each in generations if each.running), key=start_order)
    if not running:
        return _last_stopped(generations, now, keep_missing)

    chosen = [each for each in running if each.id[:SHORT_ID] in active]
    if chosen:
        return Choice(chosen[-1], candidate=_newest_after(chosen[-1], running), by_proxy=True)

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
    changes_at = min((time for time in due if time > now), default=NEVER)
    return Choice(current, candidate=_newest_after(current, running), changes_at=changes_at)


def _newest_after(current: Container, running: list[Container]) -> Container | None:
    return running[-1] if running[-1] is not current else None


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
