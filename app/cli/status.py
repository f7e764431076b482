"""`kamal-sd status` and `watch`: the slots, once or live."""

import json
import time
from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from app.cli.asking import ask_or_fail, chosen_of, filters_of
from app.cli.options import (
    EXIT_FOUND,
    AsJson,
    Config,
    Destination,
    Host,
    Role,
    Service,
    Url,
    fail,
)
from app.cli.source import SourceError, ask
from app.cli.tables import engine_lines, status_table
from app.discovery.explain import ExplainDocument
from app.discovery.overview import Overview, overview
from app.grammar import duration
from app.settings_file import SettingsError


def register(cli: typer.Typer) -> None:
    """Adds the commands."""
    cli.command(epilog="Example: kamal-sd status --url http://192.0.2.10:9889")(status)
    cli.command(epilog="Example: kamal-sd watch --service shop --interval 500ms")(watch)


def status(
    config: Config = None,
    url: Url = None,
    service: Service = None,
    role: Role = None,
    destination: Destination = None,
    host: Host = None,
    as_json: AsJson = False,
) -> None:
    """Show the slots: what is current, for how long, what is being deployed, what is down.

    Exits with 1 where a slot or an engine needs somebody to look at it.
    """
    filters = filters_of(service=service, role=role, destination=destination, host=host)
    answer = ask_or_fail(url, config, filters)
    whole = overview(answer.document | {"decisions": chosen_of(answer, filters)})
    if as_json:
        slots = [row._asdict() | {"status": row.status} for row in whole.rows]
        typer.echo(json.dumps({"engines": answer.document["engines"], "slots": slots}, indent=1))
    else:
        Console().print(_status(answer.document, whole))
    if not all(row.is_well for row in whole.rows) or not all(
        engine["up"] for engine in answer.document["engines"]
    ):
        raise typer.Exit(EXIT_FOUND)


def watch(
    config: Config = None,
    url: Url = None,
    service: Service = None,
    role: Role = None,
    destination: Destination = None,
    host: Host = None,
    interval: Annotated[str, typer.Option(help="How often to look.")] = "1s",
) -> None:
    """Show the slots, live, until Ctrl-C: `status` again and again.

    It asks a running server with --url; else it looks at the engine itself each time.
    """
    try:
        seconds = duration(interval)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--interval") from None
    filters = filters_of(service=service, role=role, destination=destination, host=host)
    with suppress(KeyboardInterrupt), Live(console=Console(), auto_refresh=False) as live:
        while True:
            try:
                answer = ask(url, config, filters)
            except SettingsError as error:
                fail(error, EXIT_FOUND)
            except SourceError as error:
                # It may come back. What was seen last would be taken for what is.
                live.update(Text(str(error), style="red"), refresh=True)
            else:
                whole = overview(answer.document | {"decisions": chosen_of(answer, filters)})
                live.update(_status(answer.document, whole), refresh=True)
            time.sleep(seconds)


def _status(document: ExplainDocument, whole: Overview) -> Group:
    rows = status_table(document, whole.rows) if whole.rows else Text("No slot is a target.")
    return Group(*engine_lines(document), Text(""), rows)
