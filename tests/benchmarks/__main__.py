"""`make bench`: how fast kamal-sd is, beside others in the same run; docs/speed.md anew."""

import argparse
import os
import sys
import tempfile
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from tests.benchmarks import (
    events,
    growth,
    lists,
    machine,
    questions,
    relay,
    serving,
    speed_plot,
    start,
)
from tests.benchmarks.fleet import Fleet, fleet
from tests.benchmarks.listener import Listener
from tests.benchmarks.readme import put_between
from tests.benchmarks.rounds import HEADINGS, Row
from tests.lab.process import LabError
from tests.lab.sd import REPOSITORY, Server

DOCS: Final = REPOSITORY / "docs"
BEGIN: Final = "<!-- made by make bench -->\n"
END: Final = "<!-- end of what make bench made -->\n"
# What the README has of it: rows by how they begin, and these columns.
HIGHLIGHTS: Final = (
    "`GET /targets`, 10 KB, plain",
    "`GET /targets`, 200 containers",
    "a death served, 200",
    "a start served, 200",
    "50 killed at once",
    "engine calls",
    "ready after",
    "memory",
    "one change among",
    "a scrape of 10 KB",
)
COLUMNS: Final = slice(0, 4)
FEW, MANY = 5, 200
# Of the widest table. A narrow terminal wraps its lines.
WIDTH: Final = 170
BURSTS: Final = 8

_HEAD = """\
# Speed

Made by `make bench`, which writes this file. Whatever stands in a row was measured in one run, in
turns, and "comes to" is the median of the rounds' ratios: a slow minute of the machine is
everybody's.

![Answers of /targets a second](speed.svg)

"""


class Part(NamedTuple):
    """Some rows of the table, what else they have to tell, in Markdown, and what is drawn."""

    rows: list[Row]
    more: str = ""
    answers: Mapping[str, float] = {}


def serve() -> Part:
    """`/targets`."""
    found = {size: serving.measure(size) for size in serving.SIZES}
    drawn = {f"kamal-sd, {size}": rounds["plain"] for size, rounds in found.items()}
    drawn |= {
        f"{name}, {size}": rounds[name]
        for size, rounds in found.items()
        for name in ("raw ASGI", "FastAPI route", "nginx")
    }
    rows = [row for size, rounds in found.items() for row in serving.rows(size, rounds)]
    return Part(rows, answers={name: median(values) for name, values in drawn.items()})


def engines() -> Part:
    """What has to do with an engine, which is a real one."""
    rows: list[Row] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        street = stack.enter_context(fleet(folder / "engine", FEW))
        rows += _events(street, folder / "few")
        street.grow(MANY)
        rows += _events(street, folder / "many")
        rows += questions.asked(street, folder / "asked")
        served = questions.served(street, folder / "served")
        rows += questions.rows(served, MANY)
        rows += lists.rows(lists.measure(street.socket), MANY)
    drawn = {f"{name}, {MANY} containers": median(values) for name, values in served.items()}
    return Part(rows, answers=drawn)


def _events(street: Fleet, folder: Path) -> Iterator[Row]:
    with (
        Listener(street.socket) as listener,
        Server(folder, street.engine.url) as server,
        events.reading(server) as reader,
    ):
        yield from events.rows(len(street.ids), events.delays(street, reader, listener))
        if len(street.ids) >= events.BURST:
            found = [events.burst(street, reader, listener) for _ in range(BURSTS)]
            yield from events.burst_rows(found)


def begin() -> Part:
    """The start, and the memory."""
    return Part(start.rows(start.measure()))


def scrape() -> Part:
    """The relay."""
    return Part([row for name in relay.SIZES for row in relay.rows(name, *relay.measure(name))])


def grow() -> Part:
    """Many containers."""
    found = growth.grown()
    return Part(found.rows, f"\n## With many containers and engines\n\n{found.tables}")


PARTS: Final[dict[str, Callable[[], Part]]] = {
    "serving": serve,
    "engines": engines,
    "start": begin,
    "relay": scrape,
    "growth": grow,
}


def markdown(rows: list[Row], columns: slice = slice(None)) -> str:
    """The table in Markdown."""
    lines: list[tuple[str, ...]] = [HEADINGS, ("---", "---:", "---", "---:", "---:", "---")]
    lines += [row.cells for row in rows]
    return "".join(f"| {' | '.join(line[columns])} |\n" for line in lines)


def document(parts: list[Part]) -> str:
    """The text of docs/speed.md."""
    table = markdown([row for part in parts for row in part.rows])
    told = {**machine.description(), "load at the end": f"{os.getloadavg()[0]:.1f}"}
    the_machine = "".join(f"- {what}: {value}\n" for what, value in told.items())
    return f"{_HEAD}{table}{''.join(part.more for part in parts)}\n## The machine\n\n{the_machine}"


def main() -> int:
    """Measure, and print the tables; the exit code tells nothing of the goals."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="one part, of which nothing is written")
    only = parser.parse_args().only
    console = Console(highlight=False)
    console.width = max(WIDTH, console.width)
    parts = []
    try:
        for name in [only] if only else PARTS:
            console.print(f"[dim]{name}[/]")
            part = PARTS[name]()
            table = Table(*HEADINGS, title=name, title_justify="left")
            for row in part.rows:
                table.add_row(*row.cells)
            console.print(table, part.more, sep="\n")
            parts.append(part)
    except LabError as error:
        console.print(f"[red]failed:[/] {error}")
        return 1
    if not only:
        (DOCS / "speed.md").write_text(document(parts), encoding="utf-8")
        drawn = ChainMap(*(dict(part.answers) for part in parts))
        speed_plot.draw(drawn, DOCS / "speed.svg")
        rows = [row for part in parts for row in part.rows if row.what.startswith(HIGHLIGHTS)]
        for page in ("README.md", "README.zh.md"):
            put_between(REPOSITORY / page, BEGIN, END, markdown(rows, COLUMNS))
        console.print("written: docs/speed.md, docs/speed.svg, README.md and README.zh.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
