"""`make soak`: see the package."""

import argparse
import os
import secrets
import sys
import time
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.benchmarks import machine, readme
from tests.benchmarks.soak import report
from tests.benchmarks.soak.findings import Findings
from tests.benchmarks.soak.rig import Rig
from tests.benchmarks.soak.soak import Plan, soak
from tests.lab.engine import Engine
from tests.lab.process import LabError
from tests.lab.sd import REPOSITORY
from tests.lab.world import World

LIMITS = REPOSITORY / "docs/limits.md"


def main() -> int:
    """Soak, show the figures, and write them; the exit code tells whether all was as promised."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--seed", default="", help="have the same faults and deploys once more")
    parser.add_argument("--no-kamal", action="store_true", help="without the real Kamal")
    parser.add_argument(
        "--output",
        type=Path,
        default=LIMITS,
        metavar="PAGE",
        help="whose section gets the figures; name a copy for a trial (default: docs/limits.md)",
    )
    options = parser.parse_args()
    seed = options.seed or secrets.token_hex(4)
    plan = Plan(seconds=60 * options.minutes, seed=seed, kamal=not options.no_kamal)
    console, begun = Console(highlight=False, soft_wrap=True, markup=False), time.monotonic()

    def tell(words: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - begun), 60)
        console.print(f"{minutes:3}:{seconds:02}  {words}")

    tell(f"seed {seed}")
    findings = Findings()
    try:
        with World(make=partial(Engine, live_restore=True)) as world:
            description = machine.description(world.engine)
            with Rig(world, findings, seed, kamal=plan.kamal).running() as rig:
                tell("everything runs")
                figures, _ = soak(rig, plan, tell)
                tell("ending everything")
    except LabError as error:
        tell(f"failed: {error} (seed {seed})")
        return 1
    except KeyboardInterrupt:
        tell(f"interrupted; everything is ended (seed {seed})")
        return 130
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    table = report.markdown(figures, findings, seed, load, description)
    console.print(f"\n{table}")
    readme.put_between(options.output, report.BEGIN, report.END, table)
    tell("done; nothing is left running")
    return 1 if findings.counts else 0


if __name__ == "__main__":
    sys.exit(main())
