"""`kamal-sd targets` and `explain`: what they print of a server and of an engine."""

import json

import pytest

from app.cli.options import EXIT_NO_ANSWER
from app.engine import ledger
from tests.builders import NOW, container, labels, snapshot
from tests.cli.conftest import Command
from tests.cli.places import engine, entry, server, url_of
from tests.web.apps import Served
from tests.web.site import ELSEWHERE, TOWN, Site, town

LONG = "a-service-with-quite-a-long-name-that-somebody-chose-on-a-good-day"


def stripped(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def first_column(table: str) -> list[str]:
    """What stands first in each row; a row that was folded goes on after spaces."""
    return [line.split()[0] for line in table.splitlines()[1:] if not line.startswith(" ")]


def test_targets_is_a_table(kamal_sd: Command) -> None:
    narrow = [each for each in TOWN if "staging" not in each.name]
    with server(Site(snapshot(*narrow), engines=ELSEWHERE)) as place:
        result = kamal_sd("targets", "--url", url_of(place))
    assert result.exit_code == 0
    assert stripped(result.stdout) == [
        "SLOT      TARGET                 INSTANCE       VERSION  STATE    FOR",
        "blog-web  172.18.0.7:9394        blog-web:9394  v1       running  16m",
        "shop-job  shop-job.invalid:9394  shop-job:9394  v1       exited   1m",
        "shop-web  172.18.0.5:9394        shop-web:9394  v2       running  16m",
    ]
    assert result.stderr == ""


def test_explain_is_a_table(kamal_sd: Command) -> None:
    with server(town()) as place:
        result = kamal_sd("explain", "--url", url_of(place))
    assert result.exit_code == 0
    head, *lines = stripped(result.stdout)
    assert head.split() == ["CONTAINER", "DECISION", "WHY"]
    starts = [head.index(word) for word in ("CONTAINER", "DECISION", "WHY")]
    for line in lines:
        # No cell runs into the next column.
        assert all(line[start - 1 : start] in ("", " ") for start in starts[1:])
    decided = {line.split()[0]: line.split()[1] for line in lines if not line.startswith(" ")}
    assert decided == {
        "shop-job-v1": "kept",
        "shop-web-v2": "current",
        "shop-web-staging-v3": "current",
        "blog-web-v1": "current",
        "blog-job-v1": "no-port",
    }
    assert "add the label prometheus.port" in " ".join(" ".join(lines).split())


@pytest.mark.parametrize("command", ["targets", "explain"])
def test_a_table_is_no_wider_than_a_terminal(kamal_sd: Command, command: str) -> None:
    long = container(f"{LONG}-web-{'0123456789' * 4}", labels=labels(LONG))
    with server(Site(snapshot(long, *TOWN))) as place:
        result = kamal_sd(command, "--url", url_of(place))
    assert result.exit_code == 0
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    # It is folded, not cut: every character of the name is there.
    column = "".join(line[: line.find("  ")] for line in result.stdout.splitlines())
    for part in (LONG[:8], LONG[-4:]):
        assert part in column.replace(" ", "")


def test_json_is_what_prometheus_gets(kamal_sd: Command) -> None:
    site = town()
    with server(site) as place:
        result = kamal_sd("targets", "--url", url_of(place), "--json")
    assert result.exit_code == 0
    assert result.stdout_bytes == site.ask("/targets").content
    assert result.stderr == ""


def test_an_engine_that_is_asked_gives_what_a_server_would(
    kamal_sd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine(map(entry, TOWN)) as place:
        monkeypatch.setenv("DOCKER_HOST", place.url)
        result = kamal_sd("targets", "--json")
        table = kamal_sd("targets")
    assert (result.exit_code, table.exit_code) == (0, 0)
    assert json.loads(result.stdout) == town().ask("/targets").json()
    assert first_column(table.stdout) == [*("blog-web", "shop-job", "shop-web", "shop-web-staging")]
    # One look, and it does not stay.
    asked = [line.split()[1].partition("?")[0] for line in place.requests]
    assert asked == ["/version", "/v1.41/containers/json"] * 2


def test_filters_go_to_the_server(kamal_sd: Command) -> None:
    options = ["--service", "shop", "--role", "web", "--role", "job", "--destination", ""]
    with server(town()) as place:
        result = kamal_sd("targets", "--url", url_of(place), *options)
    asked = [line.split()[1] for line in place.requests]
    assert asked == ["/explain", "/targets?service=shop&role=job&role=web&destination="]
    shown = first_column(result.stdout)
    assert shown == ["shop-job", "shop-web"]


@pytest.mark.parametrize(
    ("options", "roles"),
    [
        (["--service", "blog"], ["blog-web"]),
        (["--service", "blog", "--service", "shop", "--role", "job"], ["shop-job"]),
        (["--destination", "staging"], ["shop-web-staging"]),
        (["--host", ""], ["blog-web", "shop-job", "shop-web", "shop-web-staging"]),
    ],
)
def test_filters_hold_for_an_engine_too(
    kamal_sd: Command, monkeypatch: pytest.MonkeyPatch, options: list[str], roles: list[str]
) -> None:
    with engine(map(entry, TOWN)) as place:
        monkeypatch.setenv("DOCKER_HOST", place.url)
        table = kamal_sd("targets", *options)
        groups = json.loads(kamal_sd("targets", "--json", *options).stdout)
        explained = json.loads(kamal_sd("explain", "--json", *options).stdout)
    assert first_column(table.stdout) == roles
    assert [group["labels"]["__meta_kamal_slot"] for group in groups] == roles
    found = [each["slot"] for each in explained["decisions"] if each["targets"]]
    assert found == roles


def test_explain_json_is_the_document(kamal_sd: Command) -> None:
    site = town()
    with server(site) as place:
        result = kamal_sd("explain", "--url", url_of(place), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == site.ask("/explain").json()


def test_nothing_found_is_an_exit_code_for_scripts(kamal_sd: Command) -> None:
    with server(Site(snapshot(TOWN[-1]))) as place:
        result = kamal_sd("targets", "--url", url_of(place))
        as_json = kamal_sd("targets", "--url", url_of(place), "--json")
    assert result.exit_code == as_json.exit_code == 1
    assert "kamal-sd explain" in result.stderr
    assert (json.loads(as_json.stdout), as_json.stderr) == ([], "")


@pytest.mark.parametrize("words", ["Connection refused", "[bold]x[/]", "[/nope]", "[link=x]y"])
def test_an_engine_that_is_not_heard_is_said_beside_the_table(
    kamal_sd: Command, words: str
) -> None:
    site = town()
    site.state.publish(ledger.lost(site.state.view.snapshots[0], words, NOW))
    with server(site) as place:
        for command in ("targets", "explain"):
            result = kamal_sd(command, "--url", url_of(place))
            assert result.exit_code == 0
            assert result.stderr == f"the engine is not heard: {words}\n"
            assert len(result.stdout.splitlines()) > 4


def test_markup_in_names_is_inert(kamal_sd: Command) -> None:
    odd = container("[bold red]a[/]", labels=labels("[blink]shop[/]"))
    with server(Site(snapshot(odd))) as place:
        assert "[blink]shop[/]-web" in kamal_sd("targets", "--url", url_of(place)).stdout
        assert "[bold red]a[/]" in kamal_sd("explain", "--url", url_of(place)).stdout


def test_the_server_can_be_named_in_the_environment(
    kamal_sd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(town()) as place:
        monkeypatch.setenv("KAMAL_SD_URL", f"{url_of(place)}/")
        assert "shop-web" in kamal_sd("targets").stdout
    assert place.requests[0].startswith("GET /explain ")


def test_the_peers_of_the_settings_are_asked(
    kamal_sd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = [{"url": "unix:///engine.sock", "host": "web-1"}]
    monkeypatch.setenv("KAMAL_SD_ENGINES", "[]")
    with Served(container(), engines=engines) as there:
        monkeypatch.setenv("KAMAL_SD_PEERS", json.dumps([f"http://{there.authority}"]))
        result = kamal_sd("targets", "--json")
        (group,) = json.loads(result.stdout)
        assert group["labels"]["host"] == "web-1"
    failed = kamal_sd("targets")
    assert failed.exit_code == EXIT_NO_ANSWER
    assert f"the kamal-sd at http://{there.authority}: it does not answer" in failed.stderr
