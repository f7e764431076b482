"""What goes wrong on the command line ends in words and in an exit code, without a traceback."""

from pathlib import Path
from typing import Final

import pytest

from app.model import Snapshot
from tests.cli.conftest import Command
from tests.cli.places import NOT_JSON, OTHER_JSON, server, url_of
from tests.engine.handmade import Answer, HandMade, answer
from tests.web.site import Site

WRONG_USAGE, NO_ANSWER = 2, 3
MISTAKES: Final = "listne: 0.0.0.0:9889\nroles:\n  - sevice: shop\n    port: 70000\n"


@pytest.mark.parametrize("command", ["targets", "explain"])
def test_an_engine_that_is_not_there(
    kamal_sd: Command, monkeypatch: pytest.MonkeyPatch, command: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    for options in ([], ["--json"]):
        result = kamal_sd(command, *options)
        assert result.exit_code == NO_ANSWER
        assert result.stdout == ""
        said = f"the engine at unix://{tmp_path}/none.sock does not answer: No such file or dir"
        assert result.stderr.startswith(said)
        assert "--url" in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["targets", "explain"])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_server_that_is_not_there(kamal_sd: Command, command: str, options: list[str]) -> None:
    with HandMade({}) as gone:
        url = url_of(gone)
    result = kamal_sd(command, "--url", url, *options)
    assert (result.exit_code, result.stdout) == (NO_ANSWER, "")
    assert "does not answer" in result.stderr
    assert "Connection refused" in result.stderr


def test_a_server_that_is_not_ready(kamal_sd: Command) -> None:
    with server(Site(Snapshot("", error="Permission denied"))) as place:
        result = kamal_sd("targets", "--url", url_of(place))
    assert (result.exit_code, result.stdout) == (NO_ANSWER, "")
    assert "answered 503: no list of containers yet: the engine: Permission denied" in result.stderr


STRANGERS: Final[dict[str, Answer]] = {
    "a web site": NOT_JSON,
    "another API": OTHER_JSON,
    "a list": answer([]),
    "not found": answer({"detail": "Not Found"}, "404 Not Found"),
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "half an answer": answer({"engines": []})[:-3],
    "not UTF-8": answer(b'{"engines": "\xff"}'),
}


@pytest.mark.parametrize("reply", STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("command", ["targets", "explain"])
def test_a_stranger_at_the_address(kamal_sd: Command, command: str, reply: Answer) -> None:
    with HandMade({"": reply}) as place:
        url = url_of(place)
        result = kamal_sd(command, "--url", url)
    assert (result.exit_code, result.stdout) == (NO_ANSWER, "")
    assert url in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:9889", "ftp://localhost", "file:///etc/passwd", "nonsense", "http:/one"),
        *(
            "http://",
            "http://localhost:port",
            "http://local host:9889",
            "http://[::1",
            "http://a:0",
        ),
    ],
)
def test_an_address_that_is_none(kamal_sd: Command, url: str) -> None:
    result = kamal_sd("targets", "--url", url)
    assert (result.exit_code, result.stdout) == (NO_ANSWER, "")
    assert result.stderr.count("\n") == 1
    if not url.startswith("http://"):
        assert result.stderr.startswith(f"{url!r} is no address of a server")


@pytest.mark.parametrize("command", ["targets", "explain", "serve"])
def test_settings_with_mistakes(kamal_sd: Command, command: str, tmp_path: Path) -> None:
    file = tmp_path / "kamal-sd.yml"
    file.write_text(MISTAKES)
    result = kamal_sd(command, "--config", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    lines = [line.partition(f"{file}: ")[2] for line in result.stderr.splitlines()]
    assert lines[:2] == [
        "line 1: listne: is no setting; did you mean listen?",
        "line 3: roles[0].sevice: is no setting; did you mean service?",
    ]
    assert lines[2].startswith("line 4: roles[0].port: '70000' is no port; write a number from 1")
    assert len(lines) == 3


@pytest.mark.parametrize(
    "args",
    [
        *(["nonsense"], ["targets", "--nonsense"], ["check"], ["targets", "--service"], []),
        *(["targets", "extra"], ["serve", "--port", "1"]),
    ],
)
def test_a_wrong_usage(kamal_sd: Command, args: list[str]) -> None:
    assert kamal_sd(*args).exit_code == WRONG_USAGE


@pytest.mark.parametrize("command", ["serve", "demo"])
@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:0", "127.0.0.1:70000", ":9889"])
def test_a_wrong_place_to_listen(kamal_sd: Command, command: str, listen: str) -> None:
    result = kamal_sd(command, "--listen", listen)
    assert result.exit_code == 1
    assert "listen" in result.stderr.splitlines()[-1]


def test_a_docker_host_that_is_none(kamal_sd: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "http://somewhere")
    result = kamal_sd("targets")
    assert result.exit_code == 1
    assert result.stderr.startswith("environment: DOCKER_HOST: 'http://somewhere' is no engine")
