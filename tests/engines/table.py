"""The table of what each engine was seen to do, made of the outcomes of the tests."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from tests.engines.kinds import KINDS, Kind

HEAD: Final = """\
# Engines

Written by `make test-engines`, which starts each of these engines, runs `kamal-sd serve` against it
and tries what stands on the left. Every cell is the outcome of a test, all of one and the same run;
where a cell says more than yes, that is what the test insists on.

"""
NOT_RUN: Final = """
## Not run

- Docker 29, which speaks API 1.52 and refuses what is below 1.44: Debian has no package of it. The
  28.5 that was told to refuse the same stands for it above. API 1.52 itself is tried only with
  answers made by hand, in the tests of the parser and of the client.
- Engines whose oldest API is above 1.52, the newest that kamal-sd knows, and engines that speak
  nothing above 1.23: an answer made by hand stands for each above.
- Docker Desktop, Docker on Windows, rootless engines, and engines behind `tcp://`.
- Podman with systemd, which is what runs its health checks; other versions of Podman; its networks
  by CNI, and those that are not internal.
"""
# The sections of the document, by the modules whose tests stand in them.
SECTIONS: Final = {
    "test_serving": "What kamal-sd serves",
    "test_versions": "Versions of the API",
    "test_podman": "In what Podman's API differs from Docker's",
    "test_aliases": "Network aliases",
    "test_alias_conflicts": "Conflicts over an alias, made by the real Kamal",
}


class Table:
    """Collects what was seen; the rows are in the order in which they first came."""

    def __init__(self) -> None:
        self.versions: dict[Kind, str] = {}
        self._cells: dict[str, dict[str, dict[Kind | None, list[str]]]] = {}

    def add(self, *, section: str, row: str, kind: Kind | None, cell: str) -> None:
        """Note one outcome. Where a row has several for an engine, all that differ are shown."""
        rows = self._cells.setdefault(section, {})
        cells = rows.setdefault(row, {}).setdefault(kind, [])
        if cell not in cells:
            cells.append(cell)

    def markdown(self) -> str:
        """The whole document."""
        engines = [(each.name, each.source, self.versions.get(each, "not run")) for each in KINDS]
        parts = [HEAD, _table(("engine", "from", "version"), engines)]
        for section, title in SECTIONS.items():
            rows = self._cells.get(section, {})
            parts += [f"\n## {title}\n", *_by_engine(rows), *_of_none(rows)]
        return "".join([*parts, NOT_RUN])


Rows = Mapping[str, Mapping[Kind | None, Sequence[str]]]


def _by_engine(rows: Rows) -> Iterator[str]:
    """The rows of tests that were run with engines."""
    kinds = [kind for kind in KINDS if any(kind in cells for cells in rows.values())]
    body = [
        (row, *("; ".join(cells.get(kind, ["not run"])) for kind in kinds))
        for row, cells in rows.items()
        if None not in cells
    ]
    if body:
        yield "\n" + _table(("", *(kind.name for kind in kinds)), body)


def _of_none(rows: Rows) -> Iterator[str]:
    """The rows of tests that have an engine of their own, or none."""
    body = [(row, "; ".join(cells[None])) for row, cells in rows.items() if None in cells]
    if body:
        yield "\n" + _table(("", "seen"), body)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)
