"""Doing something at each new decision, in a thread of its own, so that no watcher waits for it."""

from collections.abc import Callable
from contextlib import ExitStack
from threading import Event as Flag
from threading import Thread

from app.state import State
from app.view import View

# What is due later than that is looked at again; longer waits overflow at some point.
_LONGEST_WAIT_SECONDS = 3600.0


class Follower:
    """Calls `act` with the view as it is, and then whenever it has become another one.

    `act` gives the seconds after which it wants to be called again whatever happens; None where
    only a new decision matters to it. `close` is called at the end, in the same thread. After a new
    decision it is not called for `pause` seconds, in which there may be more of them.
    """

    def __init__(
        self,
        state: State,
        act: Callable[[View], float | None],
        name: str,
        close: Callable[[], object] = lambda: None,
        pause: float = 0.0,
    ) -> None:
        self._state = state
        self._act = act
        self._close = close
        self._pause = pause
        self._changed, self._stopping = Flag(), Flag()
        self._listening = ExitStack()
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Follows from now on."""
        self._listening.enter_context(self._state.telling(self._changed.set))
        self._thread.start()

    def stop(self) -> None:
        """Tells the following to end, and does not wait for it."""
        self._listening.close()
        self._stopping.set()
        self._changed.set()

    def join(self, timeout: float | None = None) -> None:
        """Waits for the end, for at most `timeout` seconds."""
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._changed.clear()
            view = self._state.view
            # Time alone may change a decision; then nobody tells.
            due = view.changes_at - self._state.now()
            again = self._act(view)
            wait = due if again is None else min(due, again)
            self._changed.wait(min(max(0.0, wait), _LONGEST_WAIT_SECONDS))
            self._stopping.wait(self._pause)
        self._close()
