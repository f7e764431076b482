"""Managed names: each slot's own name on kamal-sd's network belongs to one container alone.

Docker gives `NAME.NETWORK` to whoever has the alias NAME on that network, so that the name is told
apart from an alias of the same spelling on the apps' own network.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from app import grammar
from app.discovery.incumbent import start_order
from app.discovery.labels import scrub
from app.model import Container, Decision, Health, Kind, Network, Reason, Slot, Snapshot

# Whoever joins the network by kamal-sd has this alias, too. It is how it knows its own work again:
# of all that can be said at a join, Podman keeps nothing but aliases.
MARK = "managed-by-kamal-sd"

# The host's network and none. As from another container's, the engine lets nobody from there join.
_CLOSED_NETWORK_MODES = frozenset({"host", "none"})


class Move(NamedTuple):
    """A container joins kamal-sd's network under a name, or leaves it.

    `name` is what it is to be called there, and of one that leaves all that it was called.
    """

    kind: Literal["join", "leave"]
    container_id: str
    container: str
    name: str

    def __str__(self) -> str:
        if self.kind == "join":
            return f"{self.container} joins as {self.name}"
        return f"{self.container} leaves, and was {self.name}"


def names(slots: Iterable[Slot]) -> dict[Slot, str]:
    """The name of each slot of an engine that can have one. No two slots have the same."""
    owners: dict[str, Slot] = {}
    for slot in sorted(slots):
        try:
            owners.setdefault(grammar.host_name(slot.name).lower(), slot)
        except ValueError:
            continue
    return {slot: name for name, slot in owners.items()}


def full_name(name: str, network: str) -> str:
    """What a name on that network is asked for from any network; empty where there is none."""
    return f"{name}.{network}" if name else ""


def is_open(container: Container) -> bool:
    """Whether the engine lets the container onto a further network."""
    mode = container.network_mode
    return mode not in _CLOSED_NETWORK_MODES and not mode.startswith("container:")


def is_managed(place: Network) -> bool:
    """Whether kamal-sd put a container there."""
    return MARK in (place.aliases or ())


def plan(snapshot: Snapshot, decisions: Iterable[Decision], network: str) -> tuple[Move, ...]:
    """What is to be done, in this order, until each name on the network is where it belongs.

    The new one of a slot joins, and then the old one leaves. What is not kamal-sd's own work stays
    as it is, and so does everything while the engine is not heard.
    """
    if not snapshot.up:
        return ()
    holders = dict(_holders(decisions))
    joins, leaves = [], []
    for container in snapshot.containers.values():
        place, name = container.on(network), holders.get(container.id, "")
        if place is None:
            if name and container.running:
                joins.append(_move("join", container, name))
        elif is_managed(place) and name not in (place.aliases or ()):
            leaves.append(_move("leave", container, " ".join(_names_at(place))))
    return (*joins, *leaves)


def clearance(snapshot: Snapshot, network: str) -> tuple[Move, ...]:
    """What is to be done until nothing of kamal-sd's work is left on the network."""
    return tuple(
        _move("leave", container, " ".join(_names_at(place)))
        for container in snapshot.containers.values()
        if (place := container.on(network)) and is_managed(place)
    )


def holder_of(decisions: Iterable[Decision]) -> Container | None:
    """Who shall have a slot's name, of the decisions on its containers; None where nobody is to.

    It is whom the relay asks: the current one, or its successor once it was told to stop. Of a slot
    in which nothing runs it is the last one, which may come back.
    """
    decisions = tuple(decisions)
    standing = (Reason.CURRENT, Reason.KEPT)
    current = next((each.container for each in decisions if each.reason in standing), None)
    if current is None or not current.stopping:
        return current
    successors = [
        each.container
        for each in decisions
        if each.reason is Reason.CANDIDATE and each.container.health is not Health.UNHEALTHY
    ]
    return max(successors, key=start_order, default=current)


def _holders(decisions: Iterable[Decision]) -> Iterator[tuple[str, str]]:
    """The ids of the containers that shall have a name, each with its name."""
    by_slot: dict[Slot, list[Decision]] = {}
    for each in decisions:
        if each.slot and each.kind is Kind.APP:
            by_slot.setdefault(each.slot, []).append(each)
    for slot, name in names(by_slot).items():
        holder = holder_of(by_slot[slot])
        if holder and is_open(holder):
            yield holder.id, name


def _names_at(place: Network) -> list[str]:
    return [alias for alias in place.aliases or () if alias != MARK]


def _move(kind: Literal["join", "leave"], container: Container, name: str) -> Move:
    return Move(kind, container.id, scrub(container.name or container.id[:12]), scrub(name))
