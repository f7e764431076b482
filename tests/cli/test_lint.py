"""`kamal-sd lint`."""

import json
from pathlib import Path

import pytest

from tests.builders import container, labels
from tests.cli.conftest import Command
from tests.cli.places import engine, entry
from tests.cli.test_init import DOCS
from tests.deployfile.test_against_kamal import KAMAL
from tests.deployfile.test_lint import FILES


def test_nothing_found(kamal_sd: Command) -> None:
    result = kamal_sd("lint", str(FILES / "good.yml"))
    assert (result.exit_code, result.stdout) == (0, f"{FILES / 'good.yml'}: nothing found\n")


def test_a_sibling_that_inherits_an_alias_is_found(kamal_sd: Command) -> None:
    result = kamal_sd("lint", str(FILES / "inherited.yml"))
    assert result.exit_code == 1
    assert "inherited.yml:10: error shared-alias: shop-web is answered by role web" in result.stdout


def test_a_destination(kamal_sd: Command) -> None:
    assert kamal_sd("lint", str(FILES / "moved.yml"), "-d", "staging").exit_code == 0
    result = kamal_sd("lint", str(FILES / "moved.yml"), "-d", "none")
    assert result.exit_code == 1
    assert "moved.none.yml:1: error unreadable: cannot be read: No such file" in result.stdout


def test_erb_is_said_once(kamal_sd: Command) -> None:
    result = kamal_sd("lint", str(FILES / "erb.yml"))
    assert result.exit_code == 0
    assert "only Ruby knows servers.web.hosts" in result.stderr
    assert "the Ruby on line 2, 8, 10 was not run" in result.stderr


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_kamals_own_examples(kamal_sd: Command, path: Path) -> None:
    result = kamal_sd("lint", str(path))
    assert result.exit_code == (1 if path.name in {"role.yml", "servers.yml"} else 0)
    assert (": warning no-metrics-port: " in result.stdout) is bool(result.exit_code)
    assert ": error " not in result.stdout
    assert result.stderr == ""


def test_json(kamal_sd: Command) -> None:
    result = kamal_sd("lint", str(FILES / "broken.yml"), "--json")
    (finding,) = json.loads(result.stdout)["findings"]
    assert (result.exit_code, finding["line"], finding["rule"]) == (1, 3, "unreadable")


def test_the_output_of_kamal(kamal_sd: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(KAMAL.parent), prepend=":")
    result = kamal_sd("lint", str(FILES / "erb.yml"), "--kamal")
    assert result.exit_code == 0
    assert "prints no labels and options of roles" in result.stderr
    monkeypatch.setenv("PATH", "/nowhere")
    assert kamal_sd("lint", str(FILES / "erb.yml"), "--kamal").exit_code == 3


def test_an_engine(kamal_sd: Command, tmp_path: Path) -> None:
    other = container("shop-web", labels=labels("other"))
    with engine(map(entry, [other, container()])) as place:
        result = kamal_sd("lint", str(FILES / "good.yml"), "--engine", place.url)
    assert result.exit_code == 1
    assert "good.yml:12: error held-alias" in result.stdout
    assert "container shop-web (service other)" in result.stdout
    gone = kamal_sd("lint", str(FILES / "good.yml"), "--engine", f"unix://{tmp_path}/none")
    assert gone.exit_code == 3
    assert kamal_sd("lint", str(FILES / "good.yml"), "--engine", "x").exit_code == 2
