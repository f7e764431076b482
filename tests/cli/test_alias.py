"""`kamal-sd alias sync` and `kamal-sd check --engines`, of engines that answer or do not."""

from pathlib import Path
from typing import Any

import pytest

from tests.builders import entry, identity, labels
from tests.cli.conftest import Command
from tests.engine.handmade import VERSION, HandMade, answer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kamal-sd.yml"


def inspected(name: str, alias: str) -> dict[str, Any]:
    return {
        "Id": identity(name),
        "Name": f"/{name}",
        "Config": {"Hostname": "host", "Env": ["PASSWORD=secret"]},
        "NetworkSettings": {"Networks": {"kamal": {"Aliases": [alias]}}},
    }


def engine(*names: str, alias: str = "shop", status: str = "200 OK") -> HandMade:
    """An engine whose containers, one a role, all have that alias."""
    roles = {name: name.split("-")[1] for name in names}
    entries = [entry(name, Labels=labels(role=role)) for name, role in roles.items()]
    answers = {"/version": VERSION, "/containers/json": answer(entries)}
    for name in names:
        said = inspected(name, alias) if status == "200 OK" else {"message": "no"}
        answers[f"/containers/{identity(name)}/json"] = answer(said, status)
    return HandMade(answers)


def test_whoever_shares_an_alias_is_found_at_the_engines(kamal_sd: Command, file: Path) -> None:
    with engine("shop-web-v1", "shop-job-v1") as place:
        file.write_text(f"engines: [{{url: '{place.url}', host: h}}]\n")
        result = kamal_sd("check", "--engines", str(file))
    assert result.exit_code == 1
    assert "h: answers, 2 containers" in result.stdout
    assert result.stderr == (
        "shop on the network kamal is answered by shop-web-v1, shop-job-v1; "
        "give each an alias of its own in deploy.yml (options: network-alias)\n"
    )
    assert "secret" not in result.output


def test_engines_at_which_all_is_well(kamal_sd: Command, file: Path) -> None:
    with engine("shop-web-v1") as place:
        file.write_text(f"engines: [{{url: '{place.url}'}}]\n")
        result = kamal_sd("check", "--engines", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "the engine: answers, 1 containers" in result.stdout


def test_an_engine_that_lets_nobody_inspect(kamal_sd: Command, file: Path) -> None:
    with engine("shop-web-v1", status="403 Forbidden") as place:
        file.write_text(f"engines: [{{url: '{place.url}'}}]\n")
        result = kamal_sd("check", "--engines", str(file))
    assert result.exit_code == 1
    assert result.stderr == ("the engine: not all aliases are known: it answered 403 Forbidden\n")


def test_what_would_be_done_is_said_and_not_done(kamal_sd: Command, file: Path) -> None:
    with engine("shop-web-v1") as place:
        file.write_text(f"engines: [{{url: '{place.url}'}}]\n")
        result = kamal_sd("alias", "sync", "--dry-run", "-c", str(file))
    assert result.exit_code == 0
    assert result.stdout == (
        "would be done: shop-web-v1 joins as shop-web on the network kamal-sd\n"
    )


def test_what_cannot_be_done_is_said(
    kamal_sd: Command, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with engine("shop-web-v1") as place:
        file.write_text(f"engines: [{{url: '{place.url}', timeout: 2s}}]\n")
        result = kamal_sd("alias", "sync", "--once", "-c", str(file))
    assert result.exit_code == 1
    (told,) = caplog.messages
    # What the engine made by hand does with a body is its own affair.
    assert told.startswith("engine: shop-web-v1 joins as shop-web on the network kamal-sd: ")


@pytest.mark.parametrize("command", [["check", "--engines"], ["alias", "sync", "--once", "-c"]])
def test_an_engine_that_does_not_answer(kamal_sd: Command, file: Path, command: list[str]) -> None:
    file.write_text("engines: [{url: 'unix:///not/there.sock'}]\n")
    result = kamal_sd(*command, str(file))
    assert result.exit_code == 3
    assert "the engine at unix:///not/there.sock does not answer" in result.stderr


def test_settings_that_are_wrong(kamal_sd: Command, file: Path) -> None:
    file.write_text("aliases: {network: 'a b'}\n")
    result = kamal_sd("alias", "sync", "--once", "-c", str(file))
    assert result.exit_code == 1
    assert "line 1: aliases.network: 'a b' is no host name" in result.stderr


def test_one_engine_that_is_down_keeps_the_others_from_nothing(
    kamal_sd: Command, file: Path
) -> None:
    with engine("shop-web-v1") as place:
        file.write_text(
            "engines:\n  - {url: 'unix:///not/there.sock', host: a}\n"
            f"  - {{url: '{place.url}', host: b}}\n"
        )
        result = kamal_sd("alias", "sync", "--dry-run", "-c", str(file))
        assert not [line for line in place.requests if not line.startswith("GET ")]
    assert result.exit_code == 3
    assert "unix:///not/there.sock does not answer" in result.stderr
    assert "would be done: shop-web-v1 joins" in result.stdout


def test_a_conflict_is_told_with_every_decision(kamal_sd: Command, file: Path) -> None:
    with engine("shop-web-v1", "shop-job-v1") as place:
        file.write_text(f"engines: [{{url: '{place.url}'}}]\naliases: {{verify: true}}\n")
        result = kamal_sd("explain", "-c", str(file))
    assert result.exit_code == 0
    told = " ".join(result.stderr.split())
    assert "alias conflict: shop on the network kamal is answered by shop-web-v1" in told


def test_what_an_engine_does_not_show_is_not_called_done(
    kamal_sd: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.alias._SHOWN_SECONDS", 0.0)
    monkeypatch.setattr("app.alias_keeper.AliasKeeper.make", lambda *_: True)
    with engine("shop-web-v1") as place:
        file.write_text(f"engines: [{{url: '{place.url}', host: h}}]\n")
        result = kamal_sd("alias", "sync", "--once", "-c", str(file))
    assert result.exit_code == 1
    assert result.stderr == "h: does not show what was done; try again\n"
