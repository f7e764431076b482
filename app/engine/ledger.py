"""What lists, looks and events say, folded into the snapshot of an engine. Pure.

A list is not the truth: one made right after a container died still shows it running, for up to
0.16 s when measured, and no later event corrects it. So a death is believed at once, and for
`AFTERLIFE` seconds only a start undoes it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from app.model import Container, Snapshot, State

AFTERLIFE = 2.0
# How far the rounded ages in two lists may be apart for one start or stop.
_ROUNDING = 2.0


def listed(
    before: Snapshot, containers: Iterable[Container], now: float, started: Collection[str] = ()
) -> Snapshot:
    """After a full list: what it does not show is gone.

    `started` are the ids of which a start was heard after their last death.
    """
    fresh = {each.id: _merge(before, each, now, started) for each in containers}
    return replace(_with(before, fresh), listed_at=now, lost_at=None, error="")


def looked(
    before: Snapshot, containers: Iterable[Container], now: float, started: Collection[str] = ()
) -> Snapshot:
    """After a list of some ids alone: of one that it does not show it says nothing.

    Who is gone was told so, or a full list says it, which is held back where it is empty.
    """
    found = {each.id: _merge(before, each, now, started) for each in containers}
    return _with(before, {**before.containers, **found})


def died(before: Snapshot, container_id: str, now: float) -> Snapshot:
    """After a death: the container is stopped, without an address, and nobody's incumbent.

    One that was never seen is noted all the same: the look at its start is yet to come.
    """
    known = before.containers.get(container_id, Container(container_id))
    dead = _without_life(known, now)
    after = _with(before, {**before.containers, container_id: dead})
    return replace(after, incumbents=before.incumbents - {container_id})


def named(before: Snapshot, container_id: str, aliases: Mapping[str, tuple[str, ...]]) -> Snapshot:
    """After an inspect: the container has these aliases on each of its networks."""
    known = before.containers[container_id]
    networks = tuple(each._replace(aliases=aliases.get(each.name)) for each in known.networks)
    return _with(before, {**before.containers, container_id: replace(known, networks=networks)})


def told_to_stop(before: Snapshot, container_id: str) -> Snapshot:
    """After a signal that asks a container to end, which it may take its time for."""
    known = before.containers.get(container_id)
    if known is None or not known.running:
        return before
    return _with(before, {**before.containers, container_id: replace(known, stopping=True)})


def lost(before: Snapshot, error: str, heard_at: float) -> Snapshot:
    """After contact with the engine broke off: what was known stays, and time stands still."""
    lost_at = heard_at if before.lost_at is None else before.lost_at
    return replace(before, error=error, lost_at=lost_at)


def removed(before: Snapshot, container_id: str) -> Snapshot:
    """After a container was destroyed. A list made at that moment may show it still."""
    return _with(before, {k: each for k, each in before.containers.items() if k != container_id})


def doubtful(after: Snapshot, containers: Iterable[Container]) -> frozenset[str]:
    """Those of a list that it shows running against a fresh death, or on their way out.

    No event tells when it speaks the truth about them again, so somebody has to look once more.
    """
    return frozenset(
        each.id
        for each in containers
        if each.state is State.REMOVING or (each.running and after.containers[each.id].stopped)
    )


def _with(before: Snapshot, containers: Mapping[str, Container]) -> Snapshot:
    # The same object where nothing changed, so that whoever reads it can tell at no cost.
    if containers == before.containers:
        return before
    return replace(before, containers=MappingProxyType(dict(containers)))


def _merge(before: Snapshot, fresh: Container, now: float, started: Collection[str]) -> Container:
    known = before.containers.get(fresh.id)
    if known is None:
        return fresh
    fresh = _with_aliases(fresh, known)
    if fresh.id not in started:
        # A clock that was put back does not keep it dead for as long.
        if known.stopped and fresh.running and abs(now - known.since) < AFTERLIFE:
            return _without_life(fresh, known.since)
        if (known.running, known.stopped) == (fresh.running, fresh.stopped) and _agree(
            known, fresh
        ):
            fresh = replace(
                fresh,
                since=known.since,
                since_error=known.since_error,
                stopping=known.stopping and fresh.running,
            )
    if fresh.image.startswith("sha256:") and known.image:
        # While a deploy pulls the tag again, the list names the image by its digest for a moment.
        fresh = replace(fresh, image=known.image)
    return known if fresh == known else fresh


def _with_aliases(fresh: Container, known: Container) -> Container:
    """No list has them, so they stay as they were seen last."""
    aliases = {each.name: each.aliases for each in known.networks if each.aliases is not None}
    if not aliases:
        return fresh
    networks = (each._replace(aliases=aliases.get(each.name)) for each in fresh.networks)
    return replace(fresh, networks=tuple(networks))


def _agree(known: Container, fresh: Container) -> bool:
    """Whether both can be about one start or stop, as far as the rounded text of the list tells."""
    return known.since >= fresh.since - fresh.since_error - _ROUNDING


def _without_life(container: Container, since: float) -> Container:
    return replace(
        container,
        state=State.EXITED,
        since=since,
        since_error=0.0,
        stopping=False,
        networks=tuple(each._replace(ipv4="", ipv6="") for each in container.networks),
    )
