"""Who may go on: threads that pause at their own good moments, and end when they are told to."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class EndedError(Exception):
    """The soak is over."""


class Gate:
    """Threads pass it between two things that they do; when it is shut, they wait there."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def end(self) -> None:
        """Let everybody out, by an EndedError."""
        self.ended.set()
        self._open.set()

    def passes(self, seconds: float = 0.0, shut: Callable[[], None] = lambda: None) -> None:
        """Wait for so long, and then until the gate is open; if it is not, do something first."""
        self.ended.wait(seconds)
        if not self._open.is_set():
            shut()
        self._open.wait()
        if self.ended.is_set():
            raise EndedError

    @contextmanager
    def shut(self) -> Iterator[None]:
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()


class Engaged:
    """What needs the engine for a whole, and what takes the engine away: never at once."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._users = 0
        self._is_taken = False

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Many may need it at once."""
        with self._condition:
            self._condition.wait_for(lambda: not self._is_taken)
            self._users += 1
        try:
            yield
        finally:
            with self._condition:
                self._users -= 1
                self._condition.notify_all()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """One takes it, when nobody needs it; nobody begins to meanwhile."""
        with self._condition:
            self._condition.wait_for(lambda: not self._is_taken)
            self._is_taken = True
            self._condition.wait_for(lambda: not self._users)
        try:
            yield
        finally:
            with self._condition:
                self._is_taken = False
                self._condition.notify_all()
