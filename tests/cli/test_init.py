"""`kamal-sd init`."""

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.deployfile.test_lint import FILES

DOCS = sorted((FILES / "kamal-docs").glob("*.yml"))


def test_four_blocks_are_printed(kamal_sd: Command) -> None:
    result = kamal_sd("init", str(FILES / "list.yml"))
    assert result.exit_code == 0
    assert [line[6] for line in result.stdout.splitlines() if line.startswith("# ---")] == [*"1234"]


def test_the_socket_proxy_has_its_settings(kamal_sd: Command, tmp_path: Path) -> None:
    result = kamal_sd(
        *("init", str(FILES / "good.yml"), "--socket-proxy", "--write", str(tmp_path))
    )
    assert result.exit_code == 0
    settings = tmp_path / "config/kamal-sd/haproxy.cfg"
    assert "frontend kamal-sd" in settings.read_text()
    accessory = (tmp_path / "kamal-sd.accessory.yml").read_text()
    assert f"{settings.relative_to(tmp_path)}:/usr/local/etc" in accessory
    assert "DOCKER_HOST: unix:///run/kamal-sd/docker.sock" in accessory


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
@pytest.mark.parametrize("option", ["", "--socket-proxy"])
def test_kamals_own_examples(kamal_sd: Command, path: Path, option: str) -> None:
    result = kamal_sd("init", str(path), *filter(None, [option]))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "...:" not in result.stdout
    assert "host: ..." not in result.stdout


def test_files_are_written_and_never_overwritten(kamal_sd: Command, tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text("mine")
    result = kamal_sd("init", str(FILES / "list.yml"), "--write", str(tmp_path))
    assert result.exit_code == 1
    assert "prometheus.yml is there already, and was left" in result.stderr
    assert (tmp_path / "prometheus.yml").read_text() == "mine"
    assert os.access(tmp_path / ".kamal/hooks/post-deploy", os.X_OK)
    assert (tmp_path / "kamal-sd.accessory.yml").exists()
    assert (
        kamal_sd("init", str(FILES / "list.yml"), "--write", str(tmp_path / "new")).exit_code == 0
    )


def test_a_file_that_is_none(kamal_sd: Command) -> None:
    result = kamal_sd("init", str(FILES / "broken.yml"))
    assert result.exit_code == 1
    assert "broken.yml:3: error unreadable" in result.stderr
