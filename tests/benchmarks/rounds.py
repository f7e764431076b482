"""Rounds of several ways that take turns, so that a slow minute of the machine is everybody's."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

ROUNDS: Final = 9

Rounds = Mapping[str, Sequence[float]]


class Row(NamedTuple):
    """What was measured of kamal-sd, what beside it, and what was to be reached.

    `figure` is what the goal is about: a ratio or a number of what `of` names. Without a goal the
    row is for comparison.
    """

    what: str
    ours: str
    beside: str
    figure: float
    of: str
    goal: float | None = None
    at_least: bool = False

    @property
    def is_reached(self) -> bool:
        """Whether the figure is on the right side of the goal."""
        if self.goal is None:
            return True
        return self.figure >= self.goal if self.at_least else self.figure <= self.goal

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands in a table, below `HEADINGS`."""
        digits = 0 if self.figure >= 100 else 1 if self.figure >= 10 else 2
        wanted, reached = "", ""
        if self.goal is not None:
            wanted = f"{'at least' if self.at_least else 'at most'} {self.goal:g}"
            reached = "yes" if self.is_reached else "**no**"
        figure = f"{self.figure:,.{digits}f} {self.of}"
        return self.what, self.ours, self.beside, figure, wanted, reached


HEADINGS: Final = ("what", "kamal-sd", "beside it", "comes to", "to reach", "reached")


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
