"""What went otherwise than promised, and what was done: from many threads."""

import threading
import time
from collections import Counter
from typing import Final

_SHOWN: Final = 8


class Findings:
    """What is wrong, by its kind, with the time. Of each kind the first ones are kept whole."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        """How often what was done or checked."""
        self.lines: list[str] = []
        self._lock = threading.Lock()

    def add(self, kind: str, words: str) -> None:
        """Something is wrong."""
        now = time.time()
        clock = f"{time.strftime('%H:%M:%S', time.localtime(now))}.{int(now % 1 * 1000):03}"
        with self._lock:
            self.counts[kind] += 1
            if self.counts[kind] <= _SHOWN:
                self.lines.append(f"{clock} {kind}: {words}")

    def count(self, what: str, number: int = 1) -> None:
        """Something was done."""
        with self._lock:
            self.done[what] += number
