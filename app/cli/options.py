"""What the commands share: their options, their exit codes, and how they fail."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

# What a script may rely on; typer itself exits with 2 for a wrong usage.
EXIT_FOUND = 1
EXIT_NO_ANSWER = 3

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="KAMAL_SD_CONFIG", help="The settings file (YAML)."),
]
Url = Annotated[
    str | None,
    typer.Option(envvar="KAMAL_SD_URL", help="Ask this running server, not the engine."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Service = Annotated[list[str] | None, typer.Option(help="Only this service; repeatable.")]
Role = Annotated[list[str] | None, typer.Option(help="Only this role; repeatable.")]
Destination = Annotated[list[str] | None, typer.Option(help="Only this destination; repeatable.")]
Host = Annotated[list[str] | None, typer.Option(help="Only this host; repeatable.")]


def fail(error: Exception, code: int) -> NoReturn:
    """Prints the error, and ends with that exit code."""
    # A plain text, for a mistake's own brackets are no markup.
    typer.echo(str(error), err=True)
    raise typer.Exit(code)
