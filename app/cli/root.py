"""`kamal-sd` itself: what it says of itself, and its own options."""

from typing import Annotated

import typer

from app import __revision__, __version__


def root() -> typer.Typer:
    """A command line that has no commands yet."""
    cli = typer.Typer(
        name="kamal-sd",
        help="Prometheus service discovery for apps deployed with Kamal.",
        epilog="Exit codes: 0 done, 1 nothing found or mistakes found, 2 wrong usage, 3 no answer.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
    )
    cli.callback()(_options)
    return cli


def _print_version(wanted: bool) -> None:
    if wanted:
        commit = f" (commit {__revision__[:7]})" if __revision__ else ""
        typer.echo(f"kamal-sd {__version__}{commit}")
        raise typer.Exit


def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version, and the commit it was built from.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None: ...
