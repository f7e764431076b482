"""Who answers to an alias, of containers that the real Kamal and others started.

tests/engines/test_alias_conflicts.py runs the same on the other engines.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from app.cli.source import ask_engines
from app.settings import Settings
from app.settings_file import load
from tests.lab.process import wait_until
from tests.lab.sd import Server
from tests.lab.world import World

pytestmark = pytest.mark.real

CONFIG: Final = """
aliases: {{verify: true}}
defaults: {{address: {address}, alias: "{{service}}-{{role}}"}}
engines: [{{url: "{engine}"}}]
"""
_COUNTED: Final = re.compile(r"^kamal_sd_alias_conflicts\{.*\} (\d+)", re.MULTILINE)

Decisions = dict[str, dict[str, Any]]


class Town:
    """An engine with the apps of a world: what kamal-sd says of its aliases, and what is so.

    The server is told to serve aliases alone; `auto` is a look at the engine by settings that
    leave the choice to kamal-sd.
    """

    def __init__(self, world: World, server: Server, auto: Settings) -> None:
        self._docker = world.docker.docker
        self._server = server
        self._auto = auto

    def expect(
        self, alone: Mapping[str, str], shared: Mapping[str, set[str]] | None = None
    ) -> None:
        """Wait until each of these containers has its alias alone, and others share these.

        The engine's own resolver has to agree, and where an alias is shared, what `auto` serves
        has to lead to the very container.
        """
        shared = shared or {}
        targets = {container: [f"{alias}:9394"] for container, alias in alone.items()}
        wait_until(
            lambda: self._conflicts() == shared and _targets(self._decisions()) == targets,
            30,
            f"the targets {targets} and the conflicts {shared}",
        )
        assert _COUNTED.findall(self._server.get("/metrics").text) == [str(len(shared))]
        told = self._decisions()
        auto = _by_container(ask_engines(self._auto).document)
        for container, alias in alone.items():
            assert self._resolved(alias, container) == {self._ip(container)}
            assert told[container]["reason"] == auto[container]["reason"] == "current"
            assert auto[container]["targets"] == targets[container]
        for alias, holders in shared.items():
            assert self._resolved(alias, min(holders)) == {self._ip(each) for each in holders}
            for container in holders:
                if told[container]["kind"] == "app":
                    others = holders - {container}
                    self._assert_objection(alias, others, told[container], auto[container])

    def _assert_objection(
        self, alias: str, others: set[str], told: Mapping[str, Any], auto: Mapping[str, Any]
    ) -> None:
        """It is refused where an alias is asked for, `auto` serves its IP, and both say why."""
        assert told["reason"] == "alias-conflict"
        assert auto["reason"] == "current"
        for each in (told, auto):
            assert f"the alias {alias} is answered by " in each["detail"]
            assert all(other in each["detail"] for other in others)
        (address,) = auto["targets"]
        assert address == f"{self._ip(auto['container'])}:9394"
        metrics = httpx.get(f"http://{address}/metrics", trust_env=False).text
        assert f'container="{auto["container_id"][:12]}"' in metrics

    def _conflicts(self) -> dict[str, set[str]]:
        found = self._server.get("/explain").json()["alias_conflicts"]
        return {each["alias"]: set(each["containers"]) for each in found}

    def _decisions(self) -> Decisions:
        return _by_container(self._server.get("/explain").json())

    def _ip(self, container: str) -> str:
        form = "{{.NetworkSettings.Networks.kamal.IPAddress}}"
        return self._docker("inspect", "--format", form, container).strip()

    def _resolved(self, name: str, asker: str) -> set[str]:
        """Whom a container finds by that name."""
        said = self._docker("exec", asker, "/bin/nslookup", "-type=a", name, "127.0.0.11")
        return set(re.findall(r"^Name:.*\nAddress: (\S+)$", said, re.MULTILINE))


def _by_container(document: Mapping[str, Any]) -> Decisions:
    return {each["container"]: each for each in document["decisions"]}


def _targets(decisions: Decisions) -> dict[str, list[str]]:
    return {name: each["targets"] for name, each in decisions.items() if each["targets"]}


@contextmanager
def served(world: World, directory: Path) -> Iterator[Town]:
    """kamal-sd beside the world's engine."""
    files = {address: directory / f"{address}.yml" for address in ("alias", "auto")}
    for address, file in files.items():
        file.write_text(CONFIG.format(address=address, engine=world.docker.url))
    with Server(directory / "sd", config=files["alias"]) as server:
        yield Town(world, server, load(files["auto"]))


def role(alias: str) -> dict[str, object]:
    """What deploy.yml says of a role whose metrics are found by an alias."""
    labels = {"prometheus.port": "9394", "prometheus.alias": alias}
    return {"options": {"network-alias": alias}, "labels": labels}


def test_one_role(world: World, tmp_path: Path) -> None:
    """A role's alias and a one-off, others' containers, an accessory and another destination"""
    world.reset()
    image = world.image("v1")
    app = world.app(
        roles={"web": role("shop-web"), "job": role("shop-job")},
        # Kamal calls its container as web's alias is called.
        accessories={"web": {"image": image, "cmd": "/bin/app accessory"}},
        destinations={"staging": {}},
        readiness_delay=0,
    )
    app.deploy("v1")
    docker = world.docker.docker
    web, job = {"shop-web-v1": "shop-web"}, {"shop-job-v1": "shop-job"}
    with served(world, tmp_path) as town:
        town.expect(web | job)

        # A one-off has its role's options.
        app.app_exec("job", "v1", "/bin/busybox sleep 600", detach=True)
        names = docker("ps", "--format={{.Names}}").split()
        (one_off,) = (each for each in names if each.startswith("shop-job-exec-v1-"))
        town.expect(web, {"shop-job": {"shop-job-v1", one_off}})
        docker("rm", "--force", one_off)
        town.expect(web | job)

        # Somebody else's container, by its alias and by its name.
        for name, options in (("stranger", ["--network-alias=shop-web"]), ("shop-web", [])):
            docker(
                *("run", "--detach", "--network=kamal", f"--name={name}", *options),
                *("--label=service=", image, "/bin/app", "web"),
            )
            town.expect(job, {"shop-web": {"shop-web-v1", name}})
            docker("rm", "--force", name)
            town.expect(web | job)

        app.accessory_boot("web")
        town.expect(job, {"shop-web": {"shop-web-v1", "shop-web"}})
        app.kamal("accessory", "remove", "web", "--confirmed")
        town.expect(web | job)

        # Another destination inherits what deploy.yml says.
        app.deploy("v1", destination="staging")
        names = ["shop-web", "shop-job"]
        town.expect({}, {name: {f"{name}-v1", f"{name}-staging-v1"} for name in names})
        app.app_remove(destination="staging")
        town.expect(web | job)
    world.reset()


def test_two_roles(world: World, tmp_path: Path) -> None:
    """Two roles of one deploy.yml with the same alias, until one is deployed with another"""
    world.reset()
    for version in ("v1", "v2"):
        world.image(version)

    def deploy(version: str, **aliases: str) -> None:
        roles = {name: role(alias) for name, alias in aliases.items()}
        world.app(roles=roles, readiness_delay=0).deploy(version)

    deploy("v1", web="shop-app", job="shop-app")
    with served(world, tmp_path) as town:
        town.expect({}, {"shop-app": {"shop-web-v1", "shop-job-v1"}})
        deploy("v2", web="shop-app", job="shop-job")
        town.expect({"shop-web-v2": "shop-app", "shop-job-v2": "shop-job"})
    world.reset()
