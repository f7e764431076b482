"""The command line, in an environment that says nothing."""

import os
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from app.cli.commands import cli

Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("KAMAL_", "DOCKER_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def kamal_sd() -> Command:
    """Runs the command in this process; nothing but an exit code may come out of it."""

    def run(*args: str) -> Result:
        result = CliRunner().invoke(cli, list(args), prog_name="kamal-sd")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Traceback" not in result.output
        return result

    return run
