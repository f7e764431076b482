"""docs/continuity.md: what the command measured, in words and tables."""

from collections.abc import Mapping

from tests.benchmarks.deployer import BETWEEN_ROLES, DRAIN, GIVES_UP_AFTER, OVERLAP
from tests.benchmarks.rig import INTERVAL
from tests.benchmarks.runs import PERIODS, PERIODS_OF_FAILURES, Run
from tests.benchmarks.tables import DEPLOYS, FAILURES, for_markdown

HEAD = """\
# Continuity: what a deploy leaves in the metrics

Made by `make bench-continuity`, which writes this file. Every way scrapes the same apps at the
same time, every {interval} s: Prometheus' own `docker_sd` and a static target by network alias, and
kamal-sd by kind of address. The seconds behind a name are its refresh interval.

Two apps of two roles each, `keeps` and `closes`, are named after what they do with a connection
once they have answered. Their counter grows at a known rate from the start of the process, and
their info metric tells which container answered, so every sample is judged by what really ran.
"""

DEPLOYS_SECTION = """
## {deploys} deploys of two roles

Kamal's timeline, one role after the other: the new container starts; {overlap:g} s later the old
one is stopped, and drains for {drain:g} s; {between:g} s later comes the next role. The next deploy
begins {periods} s after this one, in turn. Both apps deploy at the same time. Numbers are averages
per deploy of both roles; lost growth is per role, and so are the last two columns: the median and,
in brackets, the worst.

![What a deploy leaves, way by way](continuity.svg)

{table}
- **New series** of one counter of the app.
- **Missed scrapes**: `up` was 0, or no scrape was made for a whole interval.
- **Samples of another role**: given by a container of another role or app. Docker gives the IP of a
  stopped container to the next one at once.
- **Samples of a version not current**: the generation that gave them was not current at any moment
  of the scrape. Current is the oldest one that runs, until it stops.
- **Steps back and forth**: a series came back to a generation that it had left.
- **False increase**: by how much the steps that `increase()` adds up exceed the growth that the
  samples hold, in parts of the true growth, which is each generation's from its start to its stop.
  Whenever a series comes back, all that the old generation ever counted is counted once more: here
  it lived for a minute or two, elsewhere it lives for days.
- **Lost growth**: what the old generation counted after the last scrape of it, and resets that the
  samples do not show. Chance alone takes {half:g} s on average at this interval.
- **`increase()`**: Prometheus' own over the whole run, against the true growth: what the two before
  come to.
"""

FAILURES_SECTION = """
## {deploys} deploys that fail

In turn a candidate in `web` that never gets healthy, and one in `job` that crashes whenever it is
started again. Each is given up after {gives_up:g} s, and the old one goes on. The next one begins
{periods} s after this one, in turn. Numbers are averages per deploy.

{table}"""


def document(machine: Mapping[str, str], deploys: Run | None, failures: Run | None) -> str:
    """Return the text for the runs that were made."""
    text = HEAD.format(interval=INTERVAL)
    if deploys:
        text += DEPLOYS_SECTION.format(
            deploys=deploys.deploys,
            overlap=OVERLAP,
            drain=DRAIN,
            between=BETWEEN_ROLES,
            periods=" or ".join(map(str, PERIODS)),
            half=INTERVAL / 2,
            table=for_markdown(DEPLOYS, deploys.results),
        )
    if failures:
        text += FAILURES_SECTION.format(
            deploys=failures.deploys,
            gives_up=GIVES_UP_AFTER,
            periods=" or ".join(map(str, PERIODS_OF_FAILURES)),
            table=for_markdown(FAILURES, failures.results),
        )
    text += "\n## The machine\n\n"
    return text + "".join(f"- {name}: {value}\n" for name, value in machine.items())
