"""Rounds of several ways that take turns, so that a slow minute of the machine is everybody's."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

ROUNDS: Final = 9

Rounds = Mapping[str, Sequence[float]]


class Row(NamedTuple):
    """What was measured of kamal-sd, what beside it, and what was to be reached.

    `figure` is what the goal is about: a ratio, or a time in the unit that `of` names.
    """

    what: str
    ours: str
    beside: str
    figure: float
    of: str
    goal: float
    at_least: bool = False

    @property
    def is_reached(self) -> bool:
        """Whether the figure is on the right side of the goal."""
        return self.figure >= self.goal if self.at_least else self.figure <= self.goal

    @property
    def wanted(self) -> str:
        """The goal in words."""
        return f"{'at least' if self.at_least else 'at most'} {self.goal:g}"


def rounds_of(ways: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> Rounds:
    """What each way gave in each round."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    return found


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' ratios: both of a round met the same machine."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest of the values that so large a part of them does not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(part * len(ranked)))]
