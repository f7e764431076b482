"""`kamal-sd init`."""

import os
from pathlib import Path

from tests.cli.conftest import Command
from tests.deployfile.test_lint import FILES


def test_four_blocks_are_printed(kamal_sd: Command) -> None:
    result = kamal_sd("init", str(FILES / "list.yml"))
    assert result.exit_code == 0
    assert [line[6] for line in result.stdout.splitlines() if line.startswith("# ---")] == [*"1234"]


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
