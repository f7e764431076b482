"""One look at an engine, for those who do not watch it."""

import time
from contextlib import closing

from app.engine import ledger, parse
from app.engine.client import Connection, EngineError
from app.engine.parse import Readable
from app.model import Snapshot


def look(host: str, connection: Connection, readable: Readable) -> Snapshot:
    """The engine's containers now. Closes the connection. Raises EngineError."""
    with closing(connection):
        answer = connection.containers()
        now = time.time()
        try:
            return ledger.listed(Snapshot(host), parse.containers(answer, now, readable), now)
        except TypeError as error:
            raise EngineError(str(error)) from None
