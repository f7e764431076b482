"""The README's table: some columns of the first one in docs/continuity.md."""

from pathlib import Path
from typing import Final

BEGIN: Final = "<!-- made by make bench-continuity -->\n"
END: Final = "<!-- end of what make bench-continuity made -->\n"
COLUMNS: Final = (
    "way",
    "app",
    "new series",
    "missed scrapes",
    "samples of another role",
    "samples of a version not current",
    "false increase",
    "lost growth of a role, s",
)


def update(readme: Path, document: str) -> None:
    """Put the document's table between the marks of the README."""
    put_between(readme, BEGIN, END, excerpt(document))


def put_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put a text between two lines of a page, in the place of what is there."""
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    if not after:
        raise ValueError(f"{page} lacks the lines {begin.strip()} and {end.strip()}")
    page.write_text(f"{before}{begin}{text}{end}{after}", encoding="utf-8")


def excerpt(document: str) -> str:
    """Return the table of the columns that the README has."""
    rows = []
    for line in document[document.index("| way |") :].splitlines():
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    chosen = [rows[0].index(column) for column in COLUMNS]
    lines = ("| " + " | ".join(row[index] for index in chosen) + " |" for row in rows)
    return "\n".join(lines) + "\n"
