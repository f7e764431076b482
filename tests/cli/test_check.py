"""`kamal-sd check`, `--version` and `--help`."""

import re
from pathlib import Path

import pytest

from app import __version__
from tests.cli.conftest import Command

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kamal-sd.yml"


def test_a_file_without_mistakes(kamal_sd: Command, file: Path) -> None:
    file.write_text("engines:\n  - url: tcp://10.0.0.5:2375\nroles:\n  - service: shop\n")
    result = kamal_sd("check", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{file}: no mistakes; 1 roles, engines: tcp://10.0.0.5:2375\n"


def test_an_empty_file_is_the_defaults(kamal_sd: Command, file: Path) -> None:
    file.write_text("")
    result = kamal_sd("check", str(file))
    assert result.exit_code == 0
    assert "engines: unix:///var/run/docker.sock" in result.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listen: 5\n", "line 1: listen"),
        ("a: [\n", "line 2"),
        ("- 1\n", "line 1: must hold keys and values"),
        ("\n\nlisten: x\n", "line 3: listen: 'x' is no address to listen at"),
        ("listen: a:1\nlisten: b:2\n", "line 2: listen: stands on line 1 already"),
        ("keep_missing: soon\n", "line 1: keep_missing: 'soon' is no duration"),
        ("roles:\n- path: metrics\n", "line 2: roles[0].path: 'metrics' is no path"),
    ],
)
def test_each_mistake_has_its_line_and_its_key(
    kamal_sd: Command, file: Path, text: str, said: str
) -> None:
    file.write_text(text)
    result = kamal_sd("check", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{file}: {said}" in result.stderr


def test_the_file_can_be_named_in_the_environment(
    kamal_sd: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("listen: x\n")
    monkeypatch.setenv("KAMAL_SD_CONFIG", str(file))
    assert kamal_sd("check").exit_code == 1
    assert "line 1: listen" in kamal_sd("targets").stderr


def test_a_file_that_is_not_there(kamal_sd: Command, file: Path) -> None:
    result = kamal_sd("check", str(file))
    assert result.exit_code == 1
    assert result.stderr == f"{file}: cannot be read: No such file or directory\n"


def test_a_variable_that_sets_nothing_is_said(
    kamal_sd: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("")
    monkeypatch.setenv("KAMAL_SD_LISTEM", "0.0.0.0:1")
    result = kamal_sd("check", str(file))
    assert result.exit_code == 1
    assert "did you mean KAMAL_SD_LISTEN?" in result.stderr


@pytest.mark.parametrize(
    ("revision", "said"), [("", ""), ("1a2b3c4d" + "0" * 32, " (commit 1a2b3c4)")]
)
def test_version(
    kamal_sd: Command, monkeypatch: pytest.MonkeyPatch, revision: str, said: str
) -> None:
    monkeypatch.setattr("app.cli.root.__revision__", revision)
    result = kamal_sd("--version")
    assert (result.exit_code, result.stdout) == (0, f"kamal-sd {__version__}{said}\n")


@pytest.mark.parametrize("command", ["serve", "targets", "explain", "wait", "check", "demo"])
def test_every_command_has_help_within_eighty_columns(kamal_sd: Command, command: str) -> None:
    whole, one = kamal_sd("--help"), kamal_sd(command, "--help")
    assert whole.exit_code == one.exit_code == 0
    assert re.search(rf"^│ {command}\s+\w", whole.stdout, re.MULTILINE)
    for line in (whole.stdout + one.stdout).splitlines():
        assert len(line) <= 80
    for code in ("0 done", "1 nothing found", "2 wrong usage", "3 no"):
        assert code in whole.stdout
