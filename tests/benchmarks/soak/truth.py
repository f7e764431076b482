"""What may be answered when: which versions ran, who was down, and when nobody could hear it."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.truth import NEVER, Slot

LAG: Final = 2.0
"""So many seconds an event may take until it is in the answers, on a busy machine."""
# What is older is asked for by nobody.
_REMEMBERED: Final = 900.0


@dataclass
class Span:
    """A time on this machine's clock; one that goes on has no end."""

    begins: float
    ends: float = NEVER

    def meets(self, since: float, until: float) -> bool:
        return self.begins <= until and since <= self.ends


@dataclass
class Claim(Span):
    """The time in which a version may be the current one of its slot, at the longest."""

    version: str = ""


class Spans:
    """Times of one kind, as they come."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    @contextmanager
    def going_on(self) -> Iterator[Span]:
        """Have one begin now, and end with the `with`."""
        span = self.begin()
        try:
            yield span
        finally:
            span.ends = time.time()

    def begin(self) -> Span:
        span = Span(time.time())
        oldest = span.begins - _REMEMBERED
        self._spans = [*(each for each in self._spans if each.ends > oldest), span]
        return span

    def meeting(self, since: float, until: float) -> list[Span]:
        return [each for each in self._spans if each.meets(since, until)]


class Fleet:
    """What is true of the containers. Slots that are not `expected` may be absent."""

    def __init__(self) -> None:
        self.expected: set[Slot] = set()
        self.down: dict[Slot, Spans] = defaultdict(Spans)
        self._stories: dict[Slot, deque[tuple[float, str]]] = defaultdict(lambda: deque(maxlen=30))
        self._claims: dict[Slot, list[Claim]] = defaultdict(list)
        self._lock = threading.Lock()

    def claim(self, slot: Slot, version: str) -> Claim:
        """Say that from now on this version may be the current one, until its `ends` is set."""
        claim = Claim(time.time(), version=version)
        with self._lock:
            claims = self._claims[slot]
            oldest = claim.begins - _REMEMBERED
            self._claims[slot] = [*(each for each in claims if each.ends > oldest), claim]
        return claim

    def versions(self, slot: Slot, since: float, until: float) -> set[str]:
        """The versions that may have been current at some moment of that time."""
        with self._lock:
            claims = self._claims.get(slot, [])
        return {each.version for each in claims if each.meets(since, until)}

    def is_handed_over(self, slot: Slot, since: float, until: float) -> bool:
        """Whether a version ended or began in that time."""
        with self._lock:
            claims = self._claims.get(slot, [])
        return any(
            since <= moment <= until for each in claims for moment in (each.begins, each.ends)
        )

    def tell(self, slot: Slot, words: str) -> None:
        """Note what happens to a slot, for whoever looks into a finding."""
        self._stories[slot].append((time.time(), words))

    def story(self, slot: Slot, until: float) -> str:
        """What happened to a slot lately, in seconds before that time."""
        lately = [each for each in list(self._stories[slot]) if -3 < until - each[0] < 12]
        return "; ".join(f"{words} {at - until:+.2f} s" for at, words in lately)

    def slots(self) -> set[Slot]:
        """All that ever were."""
        with self._lock:
            return set(self._claims)


class Hearing:
    """When one kamal-sd could not hear the engine, and when it did not run itself."""

    def __init__(self) -> None:
        self.deaf = Spans()
        self.away = Spans()

    def reach(self, since: float, until: float) -> float:
        """How old what is answered in that time may be: the earliest moment that it may be of."""
        spans = self.deaf.meeting(since - LAG, until)
        return min([since, *(each.begins for each in spans)]) - LAG
