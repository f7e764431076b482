"""The log, as what reads it gets it."""

import json
import logging
from collections.abc import Iterator

import pytest

from app import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Gives the log back as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    yield
    root.handlers[:], root.level = before, level


def test_a_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")
    logging.getLogger("app.state").info("%s: it began", "shop-web")
    assert capsys.readouterr().err.endswith(" INFO app.state: shop-web: it began\n")


def test_a_line_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logging.getLogger("app.state").warning("%s: two\nlines, “quoted”", "shop-web")
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "warning",
        "logger": "app.state",
        "message": "shop-web: two\nlines, “quoted”",
    }


def test_a_failure_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    error = ValueError("no good")
    logging.getLogger("app").error("it failed", exc_info=error)
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: no good" in json.loads(line)["error"]


def test_what_is_below_the_level_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "json")
    logging.getLogger("app").info("nothing")
    assert capsys.readouterr().err == ""
