"""One look at an engine, for those who do not watch it."""

import time
from contextlib import closing

from app.engine import ledger, parse
from app.engine.client import Connection, EngineError
from app.engine.inspection import Inspection, Inspects
from app.engine.parse import Readable
from app.model import Snapshot


def look(host: str, connection: Connection, readable: Readable, inspects: Inspects) -> Snapshot:
    """The engine's containers now. Closes the connection. Raises EngineError."""
    with closing(connection):
        answer = connection.containers()
        now = time.time()
        try:
            found = parse.containers(answer, now, readable)
        except TypeError as error:
            raise EngineError(str(error)) from None
        return Inspection(connection, inspects).of(ledger.listed(Snapshot(host), found, now), found)
