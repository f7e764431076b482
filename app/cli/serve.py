"""`kamal-sd serve`, and a command line that has it alone."""

from typing import Annotated

import typer

from app.cli.options import EXIT_FOUND, Config, fail
from app.cli.root import root
from app.server import serve as run_server
from app.settings_file import SettingsError, Source


def register(cli: typer.Typer) -> None:
    """Adds the command."""
    cli.command(epilog="Example: kamal-sd serve --config config.yml --listen 127.0.0.1:9889")(serve)


def serve(
    config: Config = None,
    listen: Annotated[str | None, typer.Option(help="Where to listen, as host:port.")] = None,
) -> None:
    """Watch the engines and serve their targets over HTTP.

    Without settings it watches DOCKER_HOST, or the socket at its usual place.
    """
    source = Source(config, {"listen": listen} if listen else {})
    try:
        run_server(source.load(), source)
    except SettingsError as error:
        fail(error, EXIT_FOUND)


# A server has no use for what the other commands import, neither its start nor its memory.
cli = root()
register(cli)
