"""Coroutines that wait for the state to become something."""

import asyncio
import math
from collections.abc import Callable
from typing import TypeVar

from app.state import State, View

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
