"""`make bench-continuity`: what deploys do to time series, way by way of finding targets."""

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import document, machine, plot, promises, readme
from tests.benchmarks.rig import set_up
from tests.benchmarks.runs import failing, succeeding
from tests.benchmarks.tables import DEPLOYS, FAILURES, for_terminal
from tests.lab.process import LabError
from tests.lab.sd import REPOSITORY

RUNS = ("deploys", "failing")
DOCS = REPOSITORY / "docs"
WIDTH = 156
"""What the widest table needs; a narrow terminal wraps its lines, and the file has it as well."""


class Progress:
    """Lines on the reader's screen, each with the time since the start."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self._started = time.monotonic()

    def tell(self, words: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        self.console.print(f"[dim]{minutes:3}:{seconds:02}[/]  {words}")

    def show(self, table: Table) -> None:
        Console(highlight=False, width=max(WIDTH, self.console.width)).print(table)


def bench(progress: Progress, runs: list[str], deploys: int, folder: Path) -> list[str]:
    """Make the runs, show and write what they gave, and return what is not as promised."""
    good = bad = None
    with set_up(progress.tell) as rig:
        description = machine.description(rig.engine, Prometheus=rig.prometheus.version)
        if "deploys" in runs:
            good = succeeding(rig, deploys, progress.tell)
        if "failing" in runs:
            bad = failing(rig, deploys, progress.tell)
        progress.tell("ending everything")
    if good:
        title = f"{deploys} deploys of two roles"
        progress.show(for_terminal(title, DEPLOYS, good.results))
        plot.draw(good, folder / "continuity.svg")
    if bad:
        title = f"{deploys} deploys that fail"
        progress.show(for_terminal(title, FAILURES, bad.results))
    text = document.document(description, good, bad)
    (folder / "continuity.md").write_text(text, encoding="utf-8")
    if good and folder == DOCS:
        readme.update(REPOSITORY / "README.md", text)
    progress.tell(f"written: {folder}/continuity.md" + (" and continuity.svg" if good else ""))
    return promises.broken(good, bad)


def main() -> int:
    """Run the benchmark; the exit code tells whether kamal-sd kept its promises."""
    parser = argparse.ArgumentParser(prog="make bench-continuity", description=__doc__)
    parser.add_argument("--only", choices=RUNS, help="make one of the two runs")
    parser.add_argument("--deploys", type=int, default=20, help="of each run (default: 20)")
    parser.add_argument(
        "--output",
        type=Path,
        default=DOCS,
        metavar="FOLDER",
        help="where to write; name one of your own for a trial (default: docs)",
    )
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    progress = Progress()
    try:
        found = bench(
            progress,
            [options.only] if options.only else list(RUNS),
            max(1, options.deploys),
            options.output,
        )
    except LabError as error:
        progress.tell(f"[red]failed:[/] {error}")
        return 1
    except KeyboardInterrupt:
        progress.tell("interrupted; everything is ended")
        return 130
    for fault in found:
        progress.tell(f"[red]not as promised:[/] {fault}")
    progress.tell("done; nothing is left running")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
