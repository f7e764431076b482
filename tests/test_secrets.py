"""Secrets planted wherever an engine can say something, and a search through all that comes out."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from app.cli.commands import cli
from tests.builders import entry, identity, labels
from tests.engine.handmade import VERSION, Answer, HandMade, answer, chunked, then_hold
from tests.lab.sd import Server
from tests.web.apps import wait_for

pytestmark = pytest.mark.usefixtures("bare_environment")

# It is looked for without regard to case, and as it would be after quoting or cutting.
SECRET = "hunter2"  # noqa: S105 - it shall not be found
PATHS = (
    *("/", "/explain", "/targets", "/targets?address=ip", "/targets?generations=both", "/metrics"),
    *("/wait?service=shop&version=v9&timeout=1ms", "/openapi.json", "/-/ready", "/scrape/x"),
)
NAME = "shop-web-v1"


def planted(**given: Any) -> dict[str, Any]:
    """A container with the secret in whatever has no business with kamal-sd."""
    secrets = {
        "Command": f"server --password {SECRET}",
        "ImageID": SECRET,
        "Mounts": [{"Source": f"/{SECRET}", "Name": SECRET}],
        "Labels": labels() | {"DATABASE_URL": SECRET, f"x.{SECRET}": "1", "traefik.auth": SECRET},
        "HostConfig": {"NetworkMode": "kamal", "Annotations": {SECRET: SECRET}},
        "Health": {"Status": "healthy", "Log": [{"Output": SECRET}]},
        "Config": {"Env": [f"PASSWORD={SECRET}"]},
        "SizeRootFs": SECRET,
        SECRET: SECRET,
    }
    return entry(NAME, **(secrets | given))


INSPECTED = {
    "Id": identity(NAME),
    "Args": [SECRET],
    "Path": SECRET,
    "Config": {"Env": [f"PASSWORD={SECRET}"], "Cmd": [SECRET], "Labels": {"x": SECRET}},
    "HostConfig": {"Binds": [SECRET], "ExtraHosts": [SECRET]},
    "State": {"Error": SECRET, "Health": {"Log": [{"Output": SECRET}]}},
    "NetworkSettings": {
        "Networks": {"kamal": {"Aliases": ["shop-web"], "DriverOpts": {"x": SECRET}}}
    },
}
EVENT = {
    "Type": "container",
    "Action": "start",
    "Actor": {
        "ID": identity(NAME),
        "Attributes": {"name": NAME, "execDuration": SECRET, "DATABASE_URL": SECRET},
    },
    "time": 1,
    "timeNano": 1,
}
EVENTS = then_hold(chunked(json.dumps(EVENT).encode()))
WELL: dict[str, Answer] = {
    "/version": VERSION,
    "/events": EVENTS,
    f"/containers/{identity(NAME)}/json": answer(INSPECTED),
    "/containers/json": answer([planted()]),
}
SAID = answer({"message": f"no, {SECRET}"}, "403 Forbidden")


def broken(field: str, value: object) -> dict[str, Answer]:
    return WELL | {"/containers/json": answer([planted(**{field: value}), planted(Id="b" * 64)])}


ENGINES: dict[str, Mapping[str, Answer]] = {
    "well": WELL,
    "refuses lists": WELL | {"/containers/json": SAID},
    "refuses events": WELL | {"/events": SAID},
    "refuses inspects": WELL | {f"/containers/{identity(NAME)}/json": SAID},
    "refuses all": {"/": SAID},
    "no JSON": WELL | {"/containers/json": answer(f"<p>{SECRET}</p>".encode())},
    "no JSON in events": WELL | {"/events": then_hold(chunked(f"<p>{SECRET}".encode()))},
    "no version": {"/": answer({"ApiVersion": {SECRET: SECRET}})},
    "no list": WELL | {"/containers/json": answer({SECRET: SECRET})},
    "no entry": WELL | {"/containers/json": answer([SECRET, [SECRET], planted()])},
    "odd names": broken("Names", [{SECRET: SECRET}]),
    "odd labels": broken("Labels", [SECRET]),
    "odd ports": broken("Ports", [{"PrivatePort": SECRET}]),
    "odd networks": broken("NetworkSettings", {"Networks": {"kamal": [SECRET]}}),
    "odd state": broken("State", {SECRET: SECRET}),
    "odd status": broken("Status", [SECRET]),
    "odd creation": broken("Created", SECRET),
    "odd mode": broken("HostConfig", {"NetworkMode": [SECRET]}),
}


def everything(server: Server, directory: Path, url: str) -> Iterator[tuple[str, str]]:
    """All that the program has said or written, by where."""
    for path in PATHS:
        for kind in ("application/json", "text/plain", "text/html"):
            said = server.get(path, {"Accept": kind})
            yield f"{path} as {kind}", f"{said.headers} {said.text}"
    for command in ("targets", "explain", "status"):
        for options in ([], ["--json"]):
            asked = ["--url", server.url, *options]
            shown = CliRunner().invoke(cli, [command, *asked], prog_name="kamal-sd")
            yield f"kamal-sd {command}", shown.output
        os.environ["DOCKER_HOST"] = url
        shown = CliRunner().invoke(cli, [command], prog_name="kamal-sd")
        del os.environ["DOCKER_HOST"]
        yield f"kamal-sd {command} of the engine", shown.output
    for file in directory.rglob("*"):
        if file.is_file():
            yield str(file), file.name + file.read_text(errors="replace")


@pytest.mark.parametrize("shown", ENGINES.values(), ids=ENGINES)
def test_nothing_that_comes_out_has_a_secret_in_it(
    shown: Mapping[str, Answer], tmp_path: Path
) -> None:
    env = {"KAMAL_SD_LOG_LEVEL": "debug", "KAMAL_SD_ALIASES__VERIFY": "true"}
    with HandMade(shown) as made, Server(tmp_path, made.url, env=env, wait=False) as server:
        wait_for(lambda: any("events" in line for line in made.requests) or server.log.read_text())
        wait_for(lambda: answers(server), "the server")
        for where, said in everything(server, tmp_path, made.url):
            assert SECRET not in said.lower(), where


def answers(server: Server) -> bool:
    # The first answer of the engine, be it an error, has been taken in.
    try:
        (engine,) = server.get("/explain").json()["engines"]
    except httpx.TransportError:
        return False
    return bool(engine["up"] or engine["error"])


def test_what_the_search_would_find_is_found(tmp_path: Path) -> None:
    env = {"KAMAL_SD_CONTAINER_LABELS": '["DATABASE_URL"]'}
    with HandMade(WELL) as made, Server(tmp_path, made.url, env=env) as server:
        found = {
            where
            for where, said in everything(server, tmp_path, made.url)
            if SECRET in said.lower()
        }
    assert {"/targets as application/json", "/explain as application/json"} <= found
    assert any(where.endswith(".json") for where in found)
