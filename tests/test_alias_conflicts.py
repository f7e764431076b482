"""Who answers to an alias, of containers that the real Kamal and others started."""

import re
from pathlib import Path

import pytest

from tests.lab.process import wait_until
from tests.lab.sd import Server
from tests.lab.world import World

pytestmark = pytest.mark.real

CONFIG = """
aliases: {verify: true}
defaults: {address: alias, alias: "{service}-{role}"}
"""


def conflicts(server: Server) -> dict[str, set[str]]:
    """The containers that answer to each alias that is not one role's alone."""
    found = server.get("/explain").json()["alias_conflicts"]
    return {each["alias"]: set(each["containers"]) for each in found}


def counted(server: Server) -> int:
    (found,) = re.findall(
        r"^kamal_sd_alias_conflicts\{.*\} (\d+)", server.get("/metrics").text, re.MULTILINE
    )
    return int(found)


def addresses(server: Server) -> set[object]:
    return {address for each in server.targets() for address in each["targets"]}  # type: ignore[attr-defined]


def test_whose_alias_it_is(world: World, tmp_path: Path) -> None:
    world.reset()
    world.image("v1")
    alias = {"options": {"network-alias": "shop-job"}}
    staging = {"servers": {"job": {"labels": {"prometheus.port": "9394"}}}}
    app = world.app(
        roles={"web": {"options": {"network-alias": "shop-web"}}, "job": alias},
        destinations={"staging": staging},
    )
    app.deploy("v1")
    config = tmp_path / "config.yml"
    config.write_text(CONFIG)
    docker = world.docker
    with Server(tmp_path / "sd", f"unix://{world.engine.socket}", config=config) as server:
        assert addresses(server) == {"shop-web:9394", "shop-job:9394"}
        assert conflicts(server) == {}

        # A one-off has its role's options.
        one_off = app.begin(
            "app", "exec", "-r", "job", "--version", "v1", "--detach", "/bin/busybox sleep 60"
        )
        try:
            wait_until(lambda: conflicts(server), 30, "the one-off")
            (holders,) = conflicts(server).values()
            (stranger,) = holders - {"shop-job-v1"}
            assert stranger.startswith("shop-job-exec-v1-")
            assert addresses(server) == {"shop-web:9394"}
        finally:
            one_off.wait(60)
        docker.docker("rm", "--force", stranger)
        wait_until(lambda: not conflicts(server), 10, "it to be over")
        assert addresses(server) == {"shop-web:9394", "shop-job:9394"}

        # Somebody else's container, by its alias and by its name.
        image = docker.docker("inspect", "--format={{.Config.Image}}", "shop-job-v1").strip()
        for name, options in (("stranger", ["--network-alias=shop-web"]), ("shop-web", [])):
            docker.docker(
                *("run", "--detach", "--network=kamal", f"--name={name}", *options),
                *("--label=service=", image, "/bin/app", "web"),
            )
            wait_until(lambda: conflicts(server), 10, name)
            assert conflicts(server) == {"shop-web": {"shop-web-v1", name}}
            assert counted(server) == 1
            docker.docker("rm", "--force", name)
            wait_until(lambda: not conflicts(server), 10, "it to be over")

        # Another destination inherits what deploy.yml says.
        app.deploy("v1", destination="staging")
        assert conflicts(server) == {
            f"shop-{role}": {f"shop-{role}-v1", f"shop-{role}-staging-v1"}
            for role in ("web", "job")
        }
        assert counted(server) == 2
        assert addresses(server) == set()
    world.reset()
