"""The tables of a run, for a terminal and for Markdown, from one list of columns."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tests.benchmarks.runs import Result


class Column(NamedTuple):
    """A heading, for a terminal in few letters, and what stands below it."""

    heading: str
    short: str
    cell: Callable[[Result], str]


def per_deploy(heading: str, short: str, count: Callable[[Result], float]) -> Column:
    """A column of what one deploy of two roles did on average."""
    return Column(heading, short, lambda result: number(count(result) / result.deploys))


def number(value: float) -> str:
    """Return a short text; only what is exactly nothing is "0"."""
    return "0" if not value else f"{value:.2f}" if abs(value) < 0.095 else f"{value:.1f}"


def percent(part: float) -> str:
    return "0" if not part else f"{part:.1%}".replace("%", " %")


def middle_and_worst(values: Sequence[float], never: int = 0) -> str:
    if not values:
        return "never"
    text = f"{median(values):.1f} ({max(values):.1f})"
    return f"{text}, {never} never" if never else text


def false_share(result: Result) -> float:
    """Return the false increase as a part of the true growth."""
    return result.tally.false_increase / result.tally.growth


def lost_per_role(result: Result) -> float:
    """Return how many seconds of growth a hand-over of one role loses, on average."""
    return result.tally.lost / max(1, len(result.tally.tails))


WAY = (
    Column("way", "way", lambda result: result.way.name),
    Column("app", "app", lambda result: result.service),
)
TRACES = (
    per_deploy("new series", "new\nseries", lambda result: result.tally.new_series),
    per_deploy("missed scrapes", "missed\nscrapes", lambda result: result.tally.missed),
    per_deploy("samples of another role", "other\nrole", lambda result: result.tally.wrong_role),
    per_deploy(
        "samples of a version not current", "not\ncurrent", lambda result: result.tally.not_current
    ),
    per_deploy("steps back and forth", "back,\nforth", lambda result: result.tally.returns),
    Column("false increase", "false\nincrease", lambda result: percent(false_share(result))),
)
HAND_OVER = (
    Column("lost growth of a role, s", "lost\ns", lambda result: number(lost_per_role(result))),
    Column(
        "`increase()` is off by",
        "increase()\noff by",
        lambda result: f"{result.increase:+.1%}".replace("%", " %"),
    ),
    Column(
        "good sample after the old one's stop, s",
        "s after\nold stop",
        lambda result: middle_and_worst(result.tally.after_stop, result.tally.never_seen),
    ),
    Column(
        "after the new one's start, s",
        "s after\nnew start",
        lambda result: middle_and_worst(result.tally.after_start),
    ),
)
DEPLOYS = (*WAY, *TRACES, *HAND_OVER)
FAILURES = (*WAY, *TRACES)


def for_terminal(title: str, columns: Sequence[Column], results: Sequence[Result]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(
            column.short, justify="left" if index < len(WAY) else "right", no_wrap=True
        )
    for result in results:
        table.add_row(*(column.cell(result) for column in columns))
    return table


def for_markdown(columns: Sequence[Column], results: Sequence[Result]) -> str:
    ruler = ["---" if index < len(WAY) else "---:" for index, _ in enumerate(columns)]
    rows = [[column.heading for column in columns], ruler]
    rows += [[column.cell(result) for column in columns] for result in results]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
