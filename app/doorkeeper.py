"""How many descriptors there are, and what becomes of clients who come while none is left."""

import asyncio
import errno
import logging
import math
import os
import resource
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

log = logging.getLogger(__name__)

_SILENCE_SECONDS = 60.0


class Doorkeeper:
    """An asyncio exception handler that hangs up on clients for whom there is no descriptor.

    asyncio itself (3.11) leaves them at the door and knocks there as often as its backlog is long,
    with a line in the log each time; from then on that multiplies, until nobody is answered.
    """

    def __init__(self, listeners: Iterable[socket.socket]) -> None:
        self._listeners = [socket.socket(fileno=os.dup(each.fileno())) for each in listeners]
        # Given away for as long as it takes to hang up; another thread may be quicker to take it.
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY)
        self._said_at = -math.inf

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno == errno.EMFILE and "socket" in context):
            loop.default_exception_handler(context)
            return
        if loop.time() > self._said_at + _SILENCE_SECONDS:
            self._said_at = loop.time()
            log.warning("no descriptor is left, and new clients are hung up on; see ulimit -n")
        self._give_away()
        for listener in self._listeners:
            with suppress(OSError):
                listener.accept()[0].close()
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)

    def _give_away(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
        self._spare = None

    def close(self) -> None:
        """Gives its descriptors back."""
        self._give_away()
        for listener in self._listeners:
            listener.close()


def use_all_descriptors() -> None:
    """Takes as many descriptors as the process may have, for which it has to ask."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
