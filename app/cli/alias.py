"""`kamal-sd alias`: the managed names of the slots, without a server."""

import logging
import time
from typing import Annotated

import typer

from app.alias_keeper import AliasKeeper
from app.cli.options import EXIT_FOUND, EXIT_NO_ANSWER, Config, fail
from app.cli.source import SourceError, look_at
from app.discovery.decide import decide
from app.discovery.naming import Move, clearance, plan
from app.server import connect, keep_names
from app.settings import EngineSettings, Settings
from app.settings_file import SettingsError, Source

# An engine shows what was done a moment later, and what it shows may call for more.
_ROUNDS = 5
_SHOWN_SECONDS = 0.5

cli = typer.Typer(
    help="Give each role a name of its own that its current container alone answers to.",
    no_args_is_help=True,
)


@cli.callback()
def _alias() -> None: ...


@cli.command(epilog="Example: kamal-sd alias sync --once --dry-run")
def sync(
    config: Config = None,
    once: Annotated[bool, typer.Option("--once", help="Do what is to be done, and end.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and end.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take all the names away again, and end.")
    ] = False,
) -> None:
    """Put each role's name on kamal-sd's network where it belongs, and keep it there.

    A server with aliases.manage does the same. With --once it is made for a hook. Exits with 1
    where something could not be done.
    """
    source = Source(config, {"aliases": {"manage": True}, "file_sd": None})
    try:
        settings = source.load()
    except SettingsError as error:
        fail(error, EXIT_FOUND)
    if not (once or dry_run or remove):
        keep_names(settings, source)
        return
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # One that fails keeps the others from nothing.
    code = max(
        _code_of(settings, each, dry_run=dry_run, remove=remove) for each in settings.engines
    )
    if code:
        raise typer.Exit(code)


def _code_of(settings: Settings, engine: EngineSettings, *, dry_run: bool, remove: bool) -> int:
    try:
        done = _sync(settings, engine, dry_run=dry_run, remove=remove)
    except SourceError as error:
        typer.echo(str(error), err=True)
        return EXIT_NO_ANSWER
    return 0 if done else EXIT_FOUND


def _sync(settings: Settings, engine: EngineSettings, *, dry_run: bool, remove: bool) -> bool:
    """Whether the names of one engine are where they belong, or would be."""
    place = engine.host or engine.url
    network = settings.aliases.network
    keeper = AliasKeeper(engine.host, network, lambda: connect(engine))
    told: set[Move] = set()
    try:
        for _ in range(_ROUNDS):
            moves = _moves(settings, engine, remove=remove)
            if not moves:
                break
            if not dry_run and not keeper.make(moves):
                return False
            for move in moves:
                if move not in told:
                    would = "would be done: " if dry_run else ""
                    typer.echo(f"{would}{move} on the network {network}")
            told |= set(moves)
            if dry_run:
                return True
            time.sleep(_SHOWN_SECONDS)
        else:
            typer.echo(f"{place}: does not show what was done; try again", err=True)
            return False
    finally:
        keeper.close()
    if not told:
        typer.echo(f"{place}: nothing to do on the network {network}")
    return True


def _moves(settings: Settings, engine: EngineSettings, *, remove: bool) -> tuple[Move, ...]:
    snapshot = look_at(settings, engine)
    network = settings.aliases.network
    if remove:
        return clearance(snapshot, network)
    return plan(snapshot, decide([snapshot], settings, time.time()).decisions, network)
