"""All commands."""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from app import access
from app.cli import alias, deployfile, health, serve, status
from app.cli.asking import ask_or_fail, chosen_of, filters_of
from app.cli.options import (
    EXIT_FOUND,
    EXIT_NO_ANSWER,
    AsJson,
    Config,
    Destination,
    Host,
    Role,
    Service,
    Url,
    fail,
)
from app.cli.root import root
from app.cli.source import Answer, SourceError, ask_engines
from app.cli.source import wait as ask_wait
from app.cli.tables import explain_table, targets_table
from app.engine.recording import RecordedConnection, film
from app.grammar import duration
from app.server import serve as run_server
from app.settings import Settings
from app.settings_file import SettingsError, Source, load

# How often whoever waits is told how far it has come.
_PROGRESS_SECONDS = 1.0

_output = Console()
_errors = Console(stderr=True)

cli = root()
status.register(cli)
deployfile.register(cli)
serve.register(cli)
health.register(cli)
cli.add_typer(alias.cli, name="alias")


@cli.command(epilog="Example: kamal-sd demo --listen 127.0.0.1:9890")
def demo(
    listen: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1:9889",
) -> None:
    """Serve a recorded real deploy, in a loop: no Docker and no rights are needed.

    What it serves looks like the real thing, with the host "recording"; nothing is behind it.
    """
    playing, began = film(), time.monotonic()
    _errors.print(
        f"This is a RECORDING of a real Kamal deploy of {playing.length:.0f} s, in a loop. "
        "Nothing runs at the addresses that it serves.\n"
        f"  http://{listen}/targets\n  http://{listen}/explain\n"
        f"  kamal-sd explain --url http://{listen}",
        highlight=False,
    )
    with TemporaryDirectory(prefix="kamal-sd-demo-") as directory:
        options: dict[str, object] = {
            "listen": listen,
            "data_dir": directory,
            "engines": [{"url": "unix:///a/recording", "host": "recording"}],
            "defaults": {"address": "ip"},
        }
        source = Source(options=options)
        try:
            settings = source.load()
        except SettingsError as error:
            fail(error, EXIT_FOUND)
        run_server(settings, source, lambda _: RecordedConnection(playing, began))


@cli.command(epilog="Example: kamal-sd targets --service shop --json")
def targets(
    config: Config = None,
    url: Url = None,
    service: Service = None,
    role: Role = None,
    destination: Destination = None,
    host: Host = None,
    as_json: AsJson = False,
) -> None:
    """Show the targets: of a running server with --url, else of the engine as it is now.

    With --json they are printed as Prometheus gets them. Exits with 1 where there is none.
    """
    filters = filters_of(service=service, role=role, destination=destination, host=host)
    answer = ask_or_fail(url, config, filters)
    chosen = [each for each in chosen_of(answer, filters) if each["targets"]]
    if as_json:
        typer.echo(answer.targets, nl=False)
    else:
        _print_engines(answer)
        _output.print(targets_table(answer.document, chosen))
    if not chosen:
        if not as_json:
            _errors.print("No targets. `kamal-sd explain` says why, container by container.")
        raise typer.Exit(EXIT_FOUND)


@cli.command(epilog="Example: kamal-sd explain --url http://192.0.2.10:9889 --role web")
def explain(
    config: Config = None,
    url: Url = None,
    service: Service = None,
    role: Role = None,
    destination: Destination = None,
    host: Host = None,
    as_json: AsJson = False,
) -> None:
    """Show every container, and why it is a target or is none."""
    filters = filters_of(service=service, role=role, destination=destination, host=host)
    answer = ask_or_fail(url, config, filters)
    chosen = chosen_of(answer, filters)
    if as_json:
        typer.echo(json.dumps(answer.document | {"decisions": chosen}, indent=1))
    else:
        _print_engines(answer)
        _output.print(explain_table(answer.document, chosen))


@cli.command(epilog="Example: kamal-sd wait --service shop --version 8c41d --timeout 2m")
def wait(
    version: Annotated[str, typer.Option(help="The version that is deployed.")],
    service: Service,
    url: Annotated[
        str, typer.Option(envvar="KAMAL_SD_URL", help="The server to ask.")
    ] = "http://127.0.0.1:9889",
    role: Role = None,
    destination: Destination = None,
    host: Host = None,
    timeout: Annotated[str, typer.Option(help="How long to wait.")] = "60s",
) -> None:
    """Wait until a version is current in every slot of a service, for a post-deploy hook.

    Exits with 1 where it is not in time.
    """
    try:
        deadline = time.monotonic() + duration(timeout)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--timeout") from None
    filters = filters_of(service=service, role=role, destination=destination, host=host)
    told = ""
    while True:
        left = max(0.0, deadline - time.monotonic())
        try:
            document = ask_wait(url, filters, version, min(left, _PROGRESS_SECONDS))
        except SourceError as error:
            fail(error, EXIT_NO_ANSWER)
        if document["current"] or left <= 0:
            break
        if document["detail"] != told:
            told = document["detail"]
            typer.echo(f"{told}; waiting", err=True)
    typer.echo(document["detail"])
    if not document["current"]:
        raise typer.Exit(EXIT_FOUND)


@cli.command(epilog="Example: kamal-sd check config.yml --engines")
def check(
    config: Annotated[Path, typer.Argument(envvar="KAMAL_SD_CONFIG", help="The settings file.")],
    engines: Annotated[
        bool,
        typer.Option(
            "--engines", help="Look at the engines, too: which aliases do several answer to?"
        ),
    ] = False,
) -> None:
    """Check a settings file: each mistake with its line, its key and its mend.

    Exits with 1 where there is one.
    """
    try:
        settings = load(config)
        if settings.web_config:
            access.load(settings.web_config)
    except SettingsError as error:
        fail(error, EXIT_FOUND)
    urls = ", ".join(engine.url for engine in settings.engines)
    typer.echo(f"{config}: no mistakes; {len(settings.roles)} roles, engines: {urls}")
    if engines:
        _check_engines(settings)


def _check_engines(settings: Settings) -> None:
    aliases = settings.aliases.model_copy(update={"verify": True})
    try:
        document = ask_engines(settings.model_copy(update={"aliases": aliases})).document
    except SourceError as error:
        fail(error, EXIT_NO_ANSWER)
    found = [conflict["detail"] for conflict in document["alias_conflicts"]]
    for engine in document["engines"]:
        name = engine["host"] or "the engine"
        if engine["alias_error"]:
            found.append(f"{name}: not all aliases are known: {engine['alias_error']}")
        else:
            typer.echo(f"{name}: answers, {engine['containers']} containers")
    for each in found:
        typer.echo(each, err=True)
    if found:
        raise typer.Exit(EXIT_FOUND)


def _print_engines(answer: Answer) -> None:
    for engine in answer.document["engines"]:
        name = engine["host"] or "the engine"
        if not engine["up"]:
            # Not a str: rich would read [brackets] in an error as its markup.
            _errors.print(Text(f"{name} is not heard: {engine['error']}", style="red"))
        if engine["alias_error"]:
            _errors.print(Text(f"{name}: not all aliases are known: {engine['alias_error']}"))
    for conflict in answer.document["alias_conflicts"]:
        _errors.print(Text(f"alias conflict: {conflict['detail']}", style="red"))
