"""What a server does without at its start, and that nobody can tell."""

import sys
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from typer.testing import CliRunner

from app.cli import commands, health, serve
from app.model import Snapshot
from app.settings import Settings
from app.state import State
from app.web import create_app
from tests.lab.process import run, system_environment
from tests.lab.sd import REPOSITORY, Server

# What is for other commands, for the page, for the relay, for peers and for passwords.
SPARED = {"app.cli.commands", "rich", "jinja2", "httpcore", "h11", "bcrypt"}
_LOADED = "import sys; sys.argv = ['kamal-sd', {0!r}]; import app.__main__; print(*sys.modules)"


def loaded(command: str) -> set[str]:
    """The modules that there are when this command begins."""
    environment = system_environment(PYTHONPATH=str(REPOSITORY))
    return set(run([sys.executable, "-c", _LOADED.format(command)], env=environment).split())


def answers(server: Server) -> bool:
    with suppress(httpx.TransportError):
        return server.get("/-/healthy").is_success
    return False


def test_a_server_imports_nothing_that_it_may_never_need() -> None:
    assert not SPARED & loaded("serve")


def test_a_healthcheck_imports_nothing_of_the_server() -> None:
    assert not (SPARED | {"docker", "fastapi", "uvicorn"}) & loaded("healthcheck")


def test_every_other_command_has_what_it_needs() -> None:
    assert {"app.cli.commands", "rich"} <= loaded("status")


@pytest.mark.parametrize("module", [serve, health])
@pytest.mark.parametrize("words", [["{}", "--help"], ["{}", "--config"], ["--version"]])
def test_alone_or_among_all_a_command_is_the_same(module: ModuleType, words: list[str]) -> None:
    (name,) = (each.callback.__name__ for each in module.cli.registered_commands)
    asked = [word.format(name) for word in words]
    alone, among = (
        CliRunner().invoke(cli, asked, prog_name="kamal-sd") for cli in (module.cli, commands.cli)
    )
    assert (alone.exit_code, alone.output) == (among.exit_code, among.output)
    assert alone.output


def test_what_is_put_off_comes_out_the_same(tmp_path: Path) -> None:
    """pydantic's models are built late in a server, and at once here."""
    state = State([Snapshot("")], Settings.model_validate({"engines": ["unix:///none"]}))
    document = create_app(state, Future).openapi()
    with Server(tmp_path, f"unix://{tmp_path}/none", wait=False) as server:
        server.wait_ready(lambda: answers(server))
        assert server.get("/openapi.json").json() == document
        page = server.get("/")
        assert page.status_code == 200
        assert "<title>" in page.text
        assert server.get("/scrape/none").status_code == 503
