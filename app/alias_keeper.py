"""Keeping each slot's managed name where it belongs. It alone changes anything on an engine."""

import logging
import time
from collections.abc import Callable, Iterable

from app.discovery.naming import MARK, Move, plan
from app.engine.client import EngineError, NetworkConnection, NoNetworkError
from app.view import View

log = logging.getLogger(__name__)

Connect = Callable[[], NetworkConnection]

# What was done is not done again before the engine has had this time to show it.
_SHOWN_WITHIN_SECONDS = 5.0
_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 30.0


class AliasKeeper:
    """Makes the moves on one engine's network. `connect` raises EngineError."""

    def __init__(self, host: str, network: str, connect: Connect) -> None:
        self._of_host = host
        self._host = host or "engine"
        self._network = network
        self._connect = connect
        self._connection: NetworkConnection | None = None
        self._done: dict[Move, float] = {}
        self._errors: dict[Move, str] = {}
        self._delay = _FIRST_DELAY_SECONDS

    def act(self, view: View) -> float | None:
        """Puts the names where the view wants them; the seconds after which to try again."""
        snapshot = next((each for each in view.snapshots if each.host == self._of_host), None)
        if snapshot is None:
            # The settings have no such engine any more, and the keeper is about to end.
            return None
        decisions = (each for each in view.decisions if each.host == self._of_host)
        if self.make(plan(snapshot, decisions, self._network)):
            self._delay = _FIRST_DELAY_SECONDS
            return None
        delay, self._delay = self._delay, min(2 * self._delay, _LONGEST_DELAY_SECONDS)
        return delay

    def make(self, moves: Iterable[Move]) -> bool:
        """Makes those that were not made just now, in their order; whether all went well.

        Nobody leaves a name for which another one failed to join. Each failure is logged once.
        """
        moves = tuple(moves)
        now = time.monotonic()
        self._done = {each: at for each, at in self._done.items() if each in moves and now < at}
        errors: dict[Move, str] = {}
        for move in moves:
            is_orphaned = any(failed.name in move.name.split() for failed in errors)
            if move in self._done or is_orphaned:
                continue
            try:
                self._make(move)
            except EngineError as error:
                self.close()
                errors[move] = str(error)
                if self._errors.get(move) != str(error):
                    log.warning("%s: %s: %s", self._host, self._words(move), error)
            else:
                self._done[move] = time.monotonic() + _SHOWN_WITHIN_SECONDS
                log.info("%s: %s", self._host, self._words(move))
        self._errors = errors
        return not errors

    def close(self) -> None:
        """Closes the connection, if there is one. The next move opens another one."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _make(self, move: Move) -> None:
        if self._connection is None:
            self._connection = self._connect()
        if move.kind == "leave":
            self._connection.leave(self._network, move.container_id)
            return
        aliases = (move.name, MARK)
        try:
            self._connection.join(self._network, move.container_id, aliases)
        except NoNetworkError:
            self._make_network(self._connection)
            self._connection.join(self._network, move.container_id, aliases)

    def _make_network(self, connection: NetworkConnection) -> None:
        try:
            connection.make_network(self._network)
        except EngineError as error:
            raise EngineError(
                f"there is no network {self._network}, and it cannot be made: {error}; "
                f"make it with: docker network create --internal {self._network}"
            ) from None
        log.info("%s: made the network %s", self._host, self._network)

    def _words(self, move: Move) -> str:
        return f"{move} on the network {self._network}"
