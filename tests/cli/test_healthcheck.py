"""`kamal-sd healthcheck`, as a container's HEALTHCHECK runs it: one line, and an exit code."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli import health
from tests.cli.conftest import Command
from tests.engine.handmade import Answer, HandMade, answer, hold, then_hold
from tests.web.apps import Served

HEALTHY, UNHEALTHY = 0, 1


def listen(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("KAMAL_SD_LISTEN", address)


def authority(place: HandMade) -> str:
    return place.url.removeprefix("tcp://")


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that nobody listens on while the test has it."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def test_a_server_that_serves_is_healthy(
    kamal_sd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Served() as place:
        listen(monkeypatch, place.authority)
        result = kamal_sd("healthcheck")
    assert result.exit_code == HEALTHY
    assert (result.stdout, result.stderr) == ("kamal-sd is healthy.\n", "")


def test_where_it_listens_is_in_the_settings_file(kamal_sd: Command, tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    with Served() as place:
        file.write_text(f"listen: {place.authority}\n")
        result = kamal_sd("healthcheck", "--config", str(file))
    assert result.exit_code == HEALTHY


@pytest.mark.parametrize(
    ("everywhere", "asked"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("[::]", "[::1]"),
        ("[::1]", "[::1]"),
    ],
)
def test_who_listens_everywhere_is_asked_at_loopback(
    kamal_sd: Command,
    monkeypatch: pytest.MonkeyPatch,
    free_port: int,
    everywhere: str,
    asked: str,
) -> None:
    listen(monkeypatch, f"{everywhere}:{free_port}")
    result = kamal_sd("healthcheck")
    assert (result.exit_code, result.stdout) == (UNHEALTHY, "")
    assert result.stderr.startswith(f"http://{asked}:{free_port}/-/healthy does not answer: ")
    assert result.stderr.count("\n") == 1


def test_one_small_question_is_asked(kamal_sd: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with HandMade({"/-/healthy": answer(b"fine\nindeed\n")}) as place:
        listen(monkeypatch, f"0.0.0.0:{place.url.rpartition(':')[2]}")
        result = kamal_sd("healthcheck")
    assert (result.exit_code, result.stdout) == (HEALTHY, "fine indeed\n")
    assert place.requests == ["GET /-/healthy HTTP/1.1"]


def test_no_proxy_is_asked(
    kamal_sd: Command, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port}")
    with Served() as place:
        listen(monkeypatch, place.authority)
        assert kamal_sd("healthcheck").exit_code == HEALTHY


STRANGE: dict[str, tuple[Answer, str]] = {
    "an error": (
        answer(b"out of\norder\n", "500 Internal Server Error"),
        "answered 500: out of order",
    ),
    "somebody else": (answer({"detail": "Not Found"}, "404 Not Found"), "answered 404: {"),
    "a redirect": (answer(b"", "302 Found"), "answered 302"),
    "nothing": (b"", "speaks no HTTP that can be understood"),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n", "speaks no HTTP that can be understood"),
    "silence": (hold, "does not answer: timed out"),
    "silence half-way": (then_hold(answer(b"kamal-sd")[:-3]), "does not answer: timed out"),
}


@pytest.mark.parametrize(("reply", "words"), STRANGE.values(), ids=STRANGE)
def test_whatever_else_answers_is_unhealthy(
    kamal_sd: Command, monkeypatch: pytest.MonkeyPatch, reply: Answer, words: str
) -> None:
    monkeypatch.setattr(health, "_TIMEOUT_SECONDS", 0.1)
    with HandMade({"": reply}) as place:
        listen(monkeypatch, authority(place))
        result = kamal_sd("healthcheck")
    assert (result.exit_code, result.stdout) == (UNHEALTHY, "")
    assert result.stderr.startswith(f"http://{authority(place)}/-/healthy {words}")
    assert result.stderr.count("\n") == 1


def test_wrong_settings_are_one_line_too(
    kamal_sd: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    listen(monkeypatch, "nonsense")
    monkeypatch.setenv("KAMAL_SD_LOG_LEVEL", "loud")
    result = kamal_sd("healthcheck")
    assert (result.exit_code, result.stdout) == (UNHEALTHY, "")
    assert "KAMAL_SD_LISTEN" in result.stderr
    assert "; environment: KAMAL_SD_LOG_LEVEL" in result.stderr
    assert result.stderr.count("\n") == 1
    monkeypatch.delenv("KAMAL_SD_LISTEN")
    monkeypatch.delenv("KAMAL_SD_LOG_LEVEL")
    missing = kamal_sd("healthcheck", "--config", str(tmp_path / "none.yml"))
    assert missing.exit_code == UNHEALTHY
    assert "cannot be read" in missing.stderr
