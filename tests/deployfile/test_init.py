"""What init prints: the repository's own files, and accepted by Kamal when it is pasted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.deployfile import init
from app.deployfile.document import read
from app.deployfile.lint import findings
from app.deployfile.roles import App, app_of
from tests.deployfile.test_against_kamal import printed
from tests.deployfile.test_lint import document

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATES = REPOSITORY / "app/deployfile/templates"
ONE, SEVERAL, PROXIED = "direct-socket.yml", "one-a-host.yml", "socket-proxy.yml"


@pytest.mark.parametrize(
    "path",
    [
        *(f"accessories/{name}" for name in (ONE, SEVERAL, PROXIED)),
        "socket-proxy/haproxy.cfg",
        "hooks/post-deploy",
    ],
)
def test_the_templates_are_the_files_in_deploy(path: str) -> None:
    file = REPOSITORY / "deploy" / path
    assert (TEMPLATES / file.name).read_text() == file.read_text()


def accessory(name: str) -> str:
    templates = [(TEMPLATES / each).read_text() for each in (ONE, SEVERAL)]
    return init.accessory(app_of(document(name)), *templates)


def proxied(name: str) -> str:
    templates = [(TEMPLATES / each).read_text() for each in (PROXIED, SEVERAL)]
    return init.proxied(app_of(document(name)), *templates)


def pasted(whole: dict[str, Any], app: App) -> dict[str, Any]:
    """The document with the labels that init prints, each role put where its name says."""
    labels = yaml.safe_load(init.labels(app)) or {"servers": {}}
    servers = whole["servers"] if isinstance(whole["servers"], dict) else {}
    for role, lines in labels["servers"].items():
        old = servers.get(role)
        servers[role] = {**old, **lines} if isinstance(old, dict) else lines
    return {**whole, "servers": servers}


@pytest.mark.parametrize("kind", [accessory, proxied])
@pytest.mark.parametrize("name", ["list.yml", "kamal-role.yml", "same-alias.yml"])
def test_kamal_accepts_what_is_pasted(
    name: str, kind: Callable[[str], str], tmp_path: Path
) -> None:
    app = app_of(document(name))
    whole = pasted(yaml.safe_load((Path(__file__).with_name("files") / name).read_text()), app)
    whole["accessories"] = yaml.safe_load(kind(name))
    text = yaml.safe_dump(whole)
    (tmp_path / "deploy.yml").write_text(text)
    names = [each.name for each in printed(tmp_path, "deploy.yml").accessories]
    assert names == sorted(whole["accessories"])
    assert names[0] == "kamal-sd"
    rules = {each.rule for each in findings([app_of(read("deploy.yml", text))])}
    assert rules <= {"shared-alias"}


def test_one_host_is_named_and_several_are_roles() -> None:
    assert "host: 192.0.2.10\n" in accessory("good.yml")
    assert "roles: [web, job]\n" in accessory("moved.yml")
    assert "http://shop-kamal-sd:9889/targets" in init.job(app_of(document("good.yml")))
    assert "http://192.0.2.11:9889/targets" in init.job(app_of(document("moved.yml")))


def test_the_socket_proxy_is_on_the_hosts_of_the_accessory() -> None:
    shipped = yaml.safe_load((TEMPLATES / PROXIED).read_text())
    one = yaml.safe_load(proxied("good.yml"))
    assert one == shipped

    several = yaml.safe_load(proxied("moved.yml"))
    for each in several.values():
        assert each.pop("roles") == ["web", "job"]
    assert (
        several["kamal-sd"].pop("port")
        == yaml.safe_load(accessory("moved.yml"))["kamal-sd"]["port"]
    )
    for each in shipped.values():
        del each["host"]
    del shipped["kamal-sd"]["port"]
    assert several == shipped
    # No words are left that are of one host.
    assert "one-a-host" not in proxied("moved.yml")
    assert "there is no password" in proxied("moved.yml")


def test_what_an_accessory_finds_by_tags_is_warned_of() -> None:
    text = "servers: {web: [a: one, b], job: [c]}\naccessories: {x: {tag: one}}\n"
    web, job = init.labels(app_of(read("deploy.yml", text))).split("  job:\n")
    assert "  web:\n    # Kamal finds no tags in this form" in web
    assert "tags" not in job


def test_addresses_of_hosts_are_in_brackets() -> None:
    text = 'servers: {web: ["2001:db8::1", b]}\n'
    assert "- url: http://[2001:db8::1]:9889/targets" in init.job(app_of(read("deploy.yml", text)))


def test_nothing_is_added_where_nothing_lacks() -> None:
    empty = app_of(read("deploy.yml", ""))
    assert init.labels(app_of(document("good.yml"))) == init.labels(empty) == ""
    assert init.job(empty).count("shop-kamal-sd") == 2
    assert init.accessory(empty, "shop 192.0.2.10", "") == "shop 192.0.2.10"
