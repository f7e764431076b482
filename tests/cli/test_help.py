"""Every command's help has an example, and the example is one."""

import shlex
from collections.abc import Iterator

import pytest
import typer

from app.cli.commands import cli
from tests.cli.conftest import Command


def examples(app: typer.Typer) -> Iterator[str]:
    for command in app.registered_commands:
        yield command.epilog or f"none of {command.callback}"
    for group in app.registered_groups:
        assert group.typer_instance
        yield from examples(group.typer_instance)


@pytest.mark.parametrize("example", list(examples(cli)))
def test_an_example_is_taken_apart_without_a_mistake(kamal_sd: Command, example: str) -> None:
    program, *words = shlex.split(example.removeprefix("Example: "))
    assert program == "kamal-sd"
    # An option that is not known is found before help is given.
    shown = kamal_sd(*words, "--help")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert " ".join(example.split()) in " ".join(shown.stdout.split())
