"""Looking at something again and again, in a thread of its own."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event as Flag
from threading import Thread

log = logging.getLogger(__name__)


@contextmanager
def polling(look: Callable[[], object], period: float, name: str) -> Iterator[None]:
    """Calls `look` every `period` seconds, as long as the context lasts."""
    stopping = Flag()

    def run() -> None:
        while not stopping.wait(period):
            try:
                look()
            except Exception:
                # A thread that ends would leave what was seen last, without a word.
                log.exception("%s: looking failed", name)

    thread = Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
