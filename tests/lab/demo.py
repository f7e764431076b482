"""`make demo`: the real Kamal deploys twice while a real Prometheus scrapes through kamal-sd."""

import argparse
import os
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.lab.engine import Docker
from tests.lab.kamal import App
from tests.lab.packages import installed
from tests.lab.process import LabError, is_root
from tests.lab.prometheus import Prometheus, http_sd_job
from tests.lab.sd import Server
from tests.lab.timeline import Change, Timeline
from tests.lab.world import World

COUNTER = "shop_requests_total"
INFO = "shop_build_info"
ROLES = ("web", "job")
PACKAGES = ("docker-registry", "git", "openssh-server", "prometheus")


NOTE = """\
The targets are kamal-sd itself, which asks whoever is current at the moment of each
scrape. /targets?address=ip has the addresses of the containers instead: with them
Prometheus acts on a change only after its refresh interval and 5 s.
"""


class NoEngineError(LabError):
    """There is no engine for the demo, and none can be made here."""


@dataclass(frozen=True)
class Effect:
    """What one deploy did, as kamal-sd and Prometheus tell it."""

    version: str
    seconds: float
    before: dict[str, Change]
    after: dict[str, Change]
    label_changes: int
    series: int
    new_series: int
    scrapes: int
    missed: int
    strayed: int


class Story:
    """The lines on the reader's screen, each with the seconds since the start."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self._started = time.monotonic()

    def tell(self, words: str) -> None:
        seconds = time.monotonic() - self._started
        self.console.print(f"[dim]{seconds:6.1f} s[/]  {words}")

    def change(self, change: Change) -> None:
        style = "green" if change.reason == "current" else "dim"
        self.tell(f"  {change.slot:<18} {change.version:<4} [{style}]{change.words}[/]")


class Deployer:
    """The running parts that a deploy acts on."""

    def __init__(self, story: Story, app: App, timeline: Timeline, prometheus: Prometheus) -> None:
        self._story = story
        self._app = app
        self._timeline = timeline
        self._prometheus = prometheus

    def deploy(self, version: str) -> Effect:
        """Deploy, telling what happens, and measure once Prometheus scrapes the new version."""
        prometheus, timeline = self._prometheus, self._timeline
        timeline.look()
        before, label_sets = timeline.current(), len(timeline.label_sets)
        old_series = prometheus.series(COUNTER)
        started = time.monotonic()
        command = self._app.begin("deploy", "-P", "--version", version)
        self._story.tell(f"[bold]kamal deploy --version {version}[/]")
        if code := timeline.follow(command):
            raise LabError(f"Kamal ended with {code}; its output ends:\n{command.tail()}")
        seconds = time.monotonic() - started
        self._story.tell(f"  Kamal is done after {seconds:.0f} s; waiting for Prometheus")
        prometheus.wait_until(lambda: self._serving() == [version] * len(ROLES))
        # A few scrapes more, so that a late surprise would be among them.
        time.sleep(3)
        timeline.look()
        series = prometheus.series(COUNTER)
        window = f"[{time.monotonic() - started:.0f}s]"
        scrapes = sum(prometheus.values(f"count_over_time(up{window})"))
        good = sum(prometheus.values(f"sum_over_time(up{window})"))
        strayed = sum(
            int(sample["value"][1])
            for sample in prometheus.query(f"count_over_time({INFO}{window})")
            if sample["metric"]["role"] != sample["metric"]["exported_role"]
        )
        self._story.tell(f"  Prometheus scrapes {version} in every role")
        return Effect(
            version=version,
            seconds=seconds,
            before=before,
            after=timeline.current(),
            label_changes=len(timeline.label_sets) - label_sets,
            series=len(series),
            new_series=sum(one not in old_series for one in series),
            scrapes=round(scrapes),
            missed=round(scrapes - good),
            strayed=strayed,
        )

    def _serving(self) -> list[str]:
        return [sample["metric"]["version"] for sample in self._prometheus.query(INFO)]


def table(effects: list[Effect]) -> Table:
    """What each deploy did, side by side."""
    columns = Table(title="What each deploy did", title_justify="left", title_style="bold")
    columns.add_column()
    for effect in effects:
        columns.add_column(f"deploy {effect.version}")
    columns.add_row("Kamal took", *(f"{effect.seconds:.0f} s" for effect in effects))
    for slot in sorted(effects[-1].after):
        columns.add_row(f"metrics of {slot}", *(movement(effect, slot) for effect in effects))
    columns.add_row(
        "plain labels of all targets",
        *(
            f"{effect.label_changes} changes" if effect.label_changes else "never changed"
            for effect in effects
        ),
    )
    columns.add_row(
        f"series of {COUNTER}", *(f"{each.series} ({each.new_series} new)" for each in effects)
    )
    columns.add_row("scrapes made", *(str(effect.scrapes) for effect in effects))
    columns.add_row("scrapes missed (up = 0)", *(str(effect.missed) for effect in effects))
    columns.add_row("scrapes that met another role", *(str(effect.strayed) for effect in effects))
    return columns


def movement(effect: Effect, slot: str) -> str:
    """Where a slot's target went, like "v1 10.0.0.2:9394 -> v2 10.0.0.4:9394"."""
    ends = [side[slot] for side in (effect.before, effect.after) if slot in side]
    return "\n-> ".join(f"{end.version} {end.place}" for end in ends)


def find_engine() -> Docker | None:
    """Return the engine that the machine has; None where a private one is to be made."""
    named = os.environ.get("DOCKER_HOST")
    for url in (named, "unix:///var/run/docker.sock"):
        # The registry is on this machine's loopback, where no engine elsewhere can pull from.
        if url and url.startswith("unix://") and Docker(url).answers():
            missing = [package for package in PACKAGES if not installed(package)]
            if missing and not is_root():
                raise NoEngineError(f"{' '.join(missing)} must be installed first, by root")
            return Docker(url)
    if is_root() and shutil.which("apt-get"):
        return None
    raise NoEngineError("no Docker engine answers, and a private one needs root on Debian")


def play(story: Story, *, wait: bool) -> list[str]:
    """Play the whole demo and return what went otherwise than promised."""
    guest_of = find_engine()
    service = "shop" if guest_of is None else "kamal-sd-demo"
    with ExitStack() as stack:
        world = stack.enter_context(World(guest_of, service=service))
        kind = "a private engine" if guest_of is None else f"this machine's engine, {guest_of.url}"
        version = world.docker.docker("version", "--format", "{{.Server.Version}}").strip()
        story.tell(f"Docker {version}: {kind}")
        story.tell(f"image registry at {world.registry.address}, SSH at port {world.ssh.port}")
        for image in ("v1", "v2"):
            story.tell(f"pushed {world.image(image)}")
        app = world.app(roles={role: {} for role in ROLES}, readiness_delay=3)
        server = stack.enter_context(Server(world.folder("kamal-sd"), world.docker.url))
        story.tell(f"kamal-sd serve at {server.url}")
        job = http_sd_job(f"{server.url}/targets?service={service}")
        prometheus = stack.enter_context(Prometheus(world.folder("prometheus"), job))
        story.tell(f"Prometheus at {prometheus.url}, scraping what kamal-sd says each second")
        stack.callback(story.tell, "ending everything")
        timeline = Timeline(server, service, story.change)
        deployer = Deployer(story, app, timeline, prometheus)
        effects = [deployer.deploy("v1"), deployer.deploy("v2")]
        story.console.print()
        story.console.print(table(effects))
        story.console.print(NOTE, style="dim")
        story.console.print(
            f"kamal-sd    {server.url}/targets\n            {server.url}/explain\n"
            f"Prometheus  {prometheus.url}/targets\n"
            f"            {prometheus.url}/graph?g0.expr={COUNTER}&g0.tab=0&g0.range_input=5m\n"
        )
        if wait:
            story.console.input("Everything runs until you press Enter. ")
        return faults(effects[-1])


def faults(effect: Effect) -> list[str]:
    """What a later deploy must not have done, and did."""
    found = []
    if effect.label_changes:
        found.append("the plain labels of the targets changed")
    if effect.new_series:
        found.append(f"{effect.new_series} new series of {COUNTER} appeared")
    if effect.missed or effect.strayed:
        found.append(f"{effect.missed} scrapes were missed, and {effect.strayed} met another role")
    if len(effect.after) != len(ROLES):
        found.append(f"{len(effect.after)} roles have a target instead of {len(ROLES)}")
    return found


def main() -> int:
    """Run the demo; the exit code tells whether it showed what it should."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--no-wait", action="store_true", help="end without asking for Enter")
    wait = sys.stdin.isatty() and not parser.parse_args().no_wait
    story = Story()
    try:
        found = play(story, wait=wait)
    except NoEngineError as error:
        story.tell(f"[yellow]No real deploy here: {error}.[/]")
        story.tell("Playing a recorded one instead; end it with Ctrl-C.")
        os.execv(sys.executable, [sys.executable, "-m", "app", "demo"])  # noqa: S606 - itself
    except LabError as error:
        story.tell(f"[red]failed:[/] {error}")
        return 1
    except KeyboardInterrupt:
        story.tell("interrupted; everything is ended")
        return 130
    for fault in found:
        story.tell(f"[red]not as promised:[/] {fault}")
    story.tell("done; nothing is left running")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
