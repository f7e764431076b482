"""What init prints: the repository's own files, and accepted by Kamal when it is pasted."""

from pathlib import Path

import pytest
import yaml

from app.deployfile import init
from app.deployfile.document import read
from app.deployfile.lint import findings
from app.deployfile.roles import app_of
from tests.deployfile.test_against_kamal import printed
from tests.deployfile.test_lint import document

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATES = REPOSITORY / "app/deployfile/templates"
ONE, SEVERAL = "direct-socket.yml", "one-a-host.yml"


@pytest.mark.parametrize(
    "path", ["accessories/direct-socket.yml", "accessories/one-a-host.yml", "hooks/post-deploy"]
)
def test_the_templates_are_the_files_in_deploy(path: str) -> None:
    file = REPOSITORY / "deploy" / path
    assert (TEMPLATES / file.name).read_text() == file.read_text()


def accessory(name: str) -> str:
    templates = [(TEMPLATES / each).read_text() for each in (ONE, SEVERAL)]
    return init.accessory(app_of(document(name)), *templates)


@pytest.mark.parametrize("name", ["list.yml", "kamal-role.yml", "same-alias.yml"])
def test_kamal_accepts_what_is_pasted(name: str, tmp_path: Path) -> None:
    app = app_of(document(name))
    whole = yaml.safe_load((Path(__file__).with_name("files") / name).read_text())
    labels = yaml.safe_load(init.labels(app)) or {"servers": {}}
    if isinstance(whole["servers"], list):
        whole["servers"] = labels["servers"]
    for role, lines in labels["servers"].items():
        old = whole["servers"][role]
        whole["servers"][role] = lines if isinstance(old, list) else {**old, **lines}
    whole["accessories"] = yaml.safe_load(accessory(name))
    text = yaml.safe_dump(whole)
    (tmp_path / "deploy.yml").write_text(text)
    assert [each.name for each in printed(tmp_path, "deploy.yml").accessories] == ["kamal-sd"]
    rules = {each.rule for each in findings([app_of(read("deploy.yml", text))])}
    assert rules <= {"shared-alias"}


def test_one_host_is_named_and_several_are_roles() -> None:
    assert "host: 192.0.2.10\n" in accessory("good.yml")
    assert "roles: [web, job]\n" in accessory("moved.yml")
    assert "http://shop-kamal-sd:9889/targets" in init.job(app_of(document("good.yml")))
    assert "http://192.0.2.11:9889/targets" in init.job(app_of(document("moved.yml")))


def test_nothing_is_added_where_nothing_lacks() -> None:
    empty = app_of(read("deploy.yml", ""))
    assert init.labels(app_of(document("good.yml"))) == init.labels(empty) == ""
    assert init.job(empty).count("shop-kamal-sd") == 2
    assert init.accessory(empty, "shop 192.0.2.10", "") == "shop 192.0.2.10"
