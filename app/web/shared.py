"""Answers that take long to make, made once for all who ask for the same."""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

from fastapi import Request
from fastapi.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

_T = TypeVar("_T")

# Whoever asks chooses much of what is made, so the queue is bounded, and so is what is kept when it
# is made: of 10,000 slots each may have megabytes.
_MOST, _MOST_KEPT = 32, 4


class BusyError(Exception):
    """Too much is being made already."""


class Workshop:
    """Makes one thing at a time, in a thread: neither the loop nor a scrape waits for it."""

    def __init__(self) -> None:
        self._place = asyncio.Lock()
        self._made: dict[Hashable, tuple[object, asyncio.Task[object]]] = {}
        self._queue = 0

    async def made(self, name: Hashable, of: object, make: Callable[[], _T]) -> _T:
        """What `make` makes, once for all who ask by that name while `of` is equal.

        Raises BusyError.
        """
        was_of, making = self._made.pop(name, (None, None))
        if making is None or was_of != of or _has_failed(making):
            making = self._begin(make)
        # What was asked for of late stands at the end.
        self._made[name] = of, making
        # It goes on for the others where one hangs up.
        return cast("_T", await asyncio.shield(making))

    def _begin(self, make: Callable[[], object]) -> asyncio.Task[object]:
        if self._queue >= _MOST:
            raise BusyError
        self._queue += 1
        making = asyncio.create_task(self._make(make))
        making.add_done_callback(self._keep_few)
        return making

    def _keep_few(self, _made: object) -> None:
        kept = [name for name, (_, making) in self._made.items() if making.done()]
        for name in kept[:-_MOST_KEPT]:
            del self._made[name]

    async def _make(self, make: Callable[[], object]) -> object:
        try:
            async with self._place:
                # A thread of its own: of the loop's there would soon be half a dozen.
                with ThreadPoolExecutor(1) as thread:
                    return await asyncio.get_running_loop().run_in_executor(thread, make)
        finally:
            self._queue -= 1


def _has_failed(making: asyncio.Task[object]) -> bool:
    return making.done() and (making.cancelled() or making.exception() is not None)


class Parts(Response):
    """An answer whose body is of parts, so that one of them may be shared with other answers."""

    def __init__(
        self, parts: Iterable[bytes], media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._parts = tuple(parts)
        length = {"Content-Length": str(sum(map(len, self._parts)))}
        super().__init__(media_type=media_type, headers={**(headers or {}), **length})

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Sends them one after the other."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        for part in self._parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def busy(_request: Request, _error: Exception) -> Response:
    """The answer to a BusyError."""
    text = "too much is asked for at once; ask again\n"
    return PlainTextResponse(text, status_code=503, headers={"Retry-After": "1"})
