"""Reading the settings anew while all goes on: when asked to, and when their file changes."""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Self

from app.settings import Settings
from app.settings_file import SettingsError, Source
from app.state import State

log = logging.getLogger(__name__)

# A look reads a small file. A change counts when two looks have found the same.
_PERIOD_SECONDS = 1.0


class Reloader:
    """Gives new settings to `take`, one after the other, in a thread that lasts as the context.

    What cannot be used is refused whole: it is told in the log and to the state, and nothing else
    changes.
    """

    def __init__(
        self,
        source: Source,
        state: State,
        take: Callable[[Settings], None],
        period: float = _PERIOD_SECONDS,
    ) -> None:
        self._source = source
        self._state = state
        self._take = take
        self._period = period
        # A SimpleQueue: a signal handler may put something into it at any moment.
        self._asked: SimpleQueue[Future[str] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="settings", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._asked.put(None)
        self._thread.join()

    def ask(self) -> Future[str]:
        """Has the settings read anew; what is wrong with them, empty where they were taken."""
        asked = Future[str]()
        self._asked.put(asked)
        return asked

    def _run(self) -> None:
        while True:
            try:
                asked = self._asked.get(timeout=self._period)
            except Empty:
                if self._state.settings.reload.watch and self._source.is_changed():
                    self._reload()
                continue
            if asked is None:
                return
            # Whoever asked may have hung up since.
            if asked.set_running_or_notify_cancel():
                asked.set_result(self._reload())

    def _reload(self) -> str:
        try:
            self._take(self._source.reload(self._state.settings))
        except SettingsError as error:
            return self._refused(str(error))
        except Exception as error:
            # A thread that ends would never read the settings again, without a word.
            log.exception("reading the settings anew failed")
            return self._refused(f"{type(error).__name__} in kamal-sd; its log has more")
        log.info("%s: the settings were read anew", self._source)
        return ""

    def _refused(self, error: str) -> str:
        log.error("the new settings are refused, and the old ones stay: %s", error)
        self._state.refuse(error)
        return error
