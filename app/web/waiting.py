"""Coroutines that wait for the state to become something."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import TypeVar

from fastapi import Request
from starlette.types import Receive

from app.state import State
from app.view import View

_T = TypeVar("_T")


async def until(state: State, look: Callable[[View], _T | None], patience: float) -> _T | None:
    """What `look` sees in the first view in which it sees anything; None after `patience` s."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    deadline = loop.time() + patience
    with state.telling(lambda: loop.call_soon_threadsafe(changed.set)):
        while True:
            changed.clear()
            view = state.view
            if (found := look(view)) is not None:
                return found
            left = deadline - loop.time()
            if left <= 0:
                return None
            # Time alone may change a decision; then nobody tells.
            left = min(left, max(0.0, view.changes_at - state.now()))
            try:
                async with asyncio.timeout(left if left < math.inf else None):
                    await changed.wait()
            except TimeoutError:
                continue


async def unless_hung_up(request: Request, work: Coroutine[object, object, _T]) -> _T | None:
    """What the work comes to; None where the client hangs up before."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(hung_up(request.receive))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.wait((working, gone))


async def hung_up(receive: Receive) -> None:
    """Returns when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
