"""What the installed Kamal prints for the same files is what is read here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.deployfile.document import merged, read
from app.deployfile.roles import App, app_of
from tests.deployfile.test_lint import FILES, document

KAMAL = Path(sys.executable).with_name("kamal")


def run_kamal(folder: Path, *args: str) -> str:
    ran = subprocess.run(
        [KAMAL, *args], capture_output=True, text=True, cwd=folder, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def ask_kamal(folder: Path, text: str, ruby: str) -> Any:
    """What the Ruby is, once Kamal has read the text: whatever Ruby stands in it, Kamal runs."""
    told = f"\n<% $told ||= at_exit {{ puts ({ruby}).to_json }} %>\n"
    (folder / "deploy.yml").write_text(text + told)
    printed = run_kamal(folder, "config", "-c", "deploy.yml", "--version", "v1")
    return json.loads(printed.splitlines()[-1])


def printed(folder: Path, name: str, destination: str = "") -> App:
    options = ["-d", destination] if destination else []
    text = run_kamal(folder, "config", "-c", name, "--version", "v1", *options)
    return app_of(read("kamal", text), destination)


@pytest.mark.parametrize(
    ("name", "destination"),
    [
        ("good.yml", ""),
        ("list.yml", ""),
        ("anchors.yml", ""),
        ("kamal-role.yml", ""),
        ("accessory-name.yml", ""),
        ("inherited.yml", "staging"),
        ("moved.yml", ""),
        ("moved.yml", "staging"),
        ("tags.yml", ""),
    ],
)
def test_kamal_merges_the_same(name: str, destination: str) -> None:
    root = document(name)
    if destination:
        root = merged(root, document(name.replace(".yml", f".{destination}.yml")))
    ours, theirs = app_of(root, destination), printed(FILES, name, destination)
    assert theirs.printed
    assert theirs.service == ours.service

    def texts(key: str) -> set[str]:
        node = theirs.root.at(key)
        return {each.text for each in node.items} if node else set()

    assert texts("roles") == {role.name for role in ours.roles}
    assert texts("hosts") == {host for role in ours.roles for host in role.hosts}
    names = {each.name: each.service for each in ours.accessories}
    assert {each.name: each.service for each in theirs.accessories} == names
    here, there = (app.root.at("accessories", "redis", "host") for app in (ours, theirs))
    assert (here and here.text) == (there and there.text)


def test_kamal_finds_the_same_hosts_by_their_tags(tmp_path: Path) -> None:
    text = (FILES / "tags.yml").read_text()
    ruby = "KAMAL.config.accessories.to_h { |each| [each.name, each.hosts] }"
    theirs = ask_kamal(tmp_path, text, ruby)
    ours = {each.name: each.hosts for each in app_of(document("tags.yml")).accessories}
    assert ours == {name: set(hosts) for name, hosts in theirs.items()}


def test_null_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    over = "labels:\n  tier:\n"
    (tmp_path / "moved.yml").write_text((FILES / "moved.yml").read_text())
    (tmp_path / "moved.nulls.yml").write_text(over)
    tier = merged(document("moved.yml"), read("moved.nulls.yml", over)).at("labels", "tier")
    assert tier is not None
    assert tier.value is None
    # So does Kamal read it, and refuses it for that.
    with pytest.raises(AssertionError, match="labels/tier: should be a string"):
        printed(tmp_path, "moved.yml", "nulls")
