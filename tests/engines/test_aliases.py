"""Network aliases on each engine: who answers to them, and who has the managed ones."""

from pathlib import Path

import pytest

from app.discovery.naming import MARK
from tests.engine.town import wait_for
from tests.engines.kinds import Kind
from tests.engines.street import Street
from tests.lab.engine import Engine
from tests.lab.sd import Server

pytestmark = pytest.mark.real


def conflicts(server: Server) -> dict[str, set[str]]:
    found = server.get("/explain").json()["alias_conflicts"]
    return {each["alias"]: set(each["containers"]) for each in found}


def test_verify(street: Street, engine: Engine, tmp_path: Path) -> None:
    """With `aliases.verify` it is known who answers to an alias, and names that are none are not"""
    config = tmp_path / "config.yml"
    config.write_text("aliases: {verify: true}\ndefaults: {address: alias}\n")
    street.run("v1", "web", "--network-alias=shop-web", "--hostname=host-1")
    street.run("v1", "job", "--network-alias=shop-job")
    with Server(tmp_path / "sd", f"unix://{engine.socket}", config=config) as server:
        # No alias is set: it is the only one that is neither an id, nor a host's or its own name.
        addresses = {each["targets"][0] for each in server.targets()}  # type: ignore[index]
        assert addresses == {"shop-web:9394", "shop-job:9394"}
        assert conflicts(server) == {}
        street.run("v1", "cron", "--network-alias=shop-job")
        wait_for(lambda: conflicts(server), "the conflict")
        assert conflicts(server) == {"shop-job": {"shop-job-v1", "shop-cron-v1"}}
        engine.docker("rm", "--force", "shop-cron-v1")
        wait_for(lambda: not conflicts(server), "its end")


def test_manage(street: Street, kind: Kind, engine: Engine, tmp_path: Path) -> None:
    """With `aliases.manage` the current container alone has the role's name, through a deploy"""
    config = tmp_path / "config.yml"
    config.write_text("aliases: {manage: true}\ndefaults: {address: alias}\n")
    street.run("v1", drain=1)

    def members() -> set[str]:
        form = '{{with index .NetworkSettings.Networks "kamal-sd"}}{{.Aliases}}{{end}}'
        names = engine.docker("ps", "--all", "--format={{.Names}}").split()
        return {
            name
            for name in names
            if {"shop-web", MARK}
            <= set(engine.docker("inspect", f"--format={form}", name).strip("[]\n ").split())
        }

    with Server(tmp_path / "sd", f"unix://{engine.socket}", config=config) as server:
        wait_for(lambda: members() == {"shop-web-v1"}, f"the name on {kind.name}")
        street.run("v2", drain=1)
        wait_for(lambda: "candidate" in server.get("/explain").text, "the candidate")
        assert members() == {"shop-web-v1"}
        engine.docker("stop", "shop-web-v1")
        wait_for(lambda: members() == {"shop-web-v2"}, "the change of hands")
