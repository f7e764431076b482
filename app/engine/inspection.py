"""Asking an engine for the aliases of its containers, which no list has."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from app.engine import ledger, parse
from app.engine.client import Connection, EngineError
from app.model import Container, Snapshot

log = logging.getLogger(__name__)

# Whether the aliases of a container shall be known.
Inspects = Callable[[Container], bool]


class Inspection:
    """Which containers' aliases are known over one connection. Each is asked for once.

    The engine may let nobody inspect: then no alias is known, which costs nothing else. After a
    refusal nobody is asked for until the next list.
    """

    def __init__(self, connection: Connection, inspects: Inspects) -> None:
        self._connection = connection
        self._inspects = inspects
        # Those of which a start or a connect was not heard since.
        self._settled: set[str] = set()
        # What went wrong with those that were asked for last.
        self._failures: dict[str, str] = {}
        self._is_refused = False

    def doubt(self, container_id: str) -> None:
        """The container's aliases may be others from now on."""
        self._settled.discard(container_id)

    def of(self, snapshot: Snapshot, found: Iterable[Container]) -> Snapshot:
        """The snapshot with the aliases of the found that shall be known and were not asked for."""
        wanted = [each.id for each in found if self._is_wanted(snapshot.containers[each.id])]
        # One that is always refused shall not be in the way of the others for ever.
        for container_id in sorted(wanted, key=self._failures.__contains__):
            if self._is_refused:
                break
            self._failures.pop(container_id, None)
            try:
                entry = self._connection.inspect(container_id)
                if entry is None:
                    continue
                snapshot = ledger.named(snapshot, container_id, parse.aliases(entry))
                self._settled.add(container_id)
            except EngineError as error:
                self._failures[container_id] = str(error)
                self._is_refused = True
            except (TypeError, ValueError) as error:
                self._failures[container_id] = f"{container_id[:12]} cannot be read: {error}"
        failure = self._failure(snapshot)
        if failure and not snapshot.alias_error:
            log.warning("%s: not all aliases are known: %s", snapshot.host or "engine", failure)
        return replace(snapshot, alias_error=failure)

    def listed(self, snapshot: Snapshot) -> None:
        """After a full list: remembers none but those that the engine has, and may ask anew."""
        self._settled.intersection_update(snapshot.containers)
        self._failures = {k: v for k, v in self._failures.items() if k in snapshot.containers}
        self._is_refused = False

    def _failure(self, snapshot: Snapshot) -> str:
        """What went wrong with a container that is still wanted; empty where nothing did."""
        for container_id, failure in self._failures.items():
            known = snapshot.containers.get(container_id)
            if known and self._is_wanted(known):
                return failure
        return ""

    def _is_wanted(self, container: Container) -> bool:
        # 20.10 tells a connect a moment before it shows the network to anybody.
        is_known = all(network.aliases is not None for network in container.networks)
        return not (container.id in self._settled and is_known) and self._inspects(container)
