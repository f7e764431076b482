"""`kamal-sd status` and `watch`: the slots at a glance."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.cli.options import EXIT_FOUND, EXIT_NO_ANSWER
from app.engine import ledger
from app.model import Health
from tests.builders import NOW, container, labels, snapshot, stopped
from tests.cli.conftest import Command
from tests.cli.places import server, url_of
from tests.lab.process import system_environment
from tests.lab.sd import REPOSITORY
from tests.web.site import ELSEWHERE, Site, town

V1, V2 = container("shop-web-v1"), container("shop-web-v2", ago=12.0, ip="172.18.0.6")
JOB = container("shop-job-v1", labels=labels(role="job"), ip="172.18.0.7")


def test_a_town_where_all_is_well(kamal_sd: Command) -> None:
    with server(Site(snapshot(V1, JOB), engines=ELSEWHERE)) as place:
        result = kamal_sd("status", "--url", url_of(place))
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["the", "engine:", "2", "containers,", "listed", "0s", "ago"]
    assert lines[2][:4] == ["SLOT", "IS", "VERSION", "FOR"]
    assert [line[:4] for line in lines[3:]] == [
        ["shop-job", "ok", "v1", "16m"],
        ["shop-web", "ok", "v1", "16m"],
    ]


def test_a_deploy_shows_both_generations(kamal_sd: Command) -> None:
    site = Site(snapshot(V1), engines=ELSEWHERE)
    site.state.publish(snapshot(V1, V2))
    with server(site) as place:
        result = kamal_sd("status", "--url", url_of(place))
    assert result.exit_code == 0
    words = " ".join(result.stdout.split())
    assert "shop-web deploying v1 16m" in words
    assert "next: shop-web-v2 running v2 12s it is newer than" in words


@pytest.mark.parametrize(
    ("shown", "word"),
    [
        (stopped("shop-web-v1", 60.0), "down"),
        (container(health=Health.UNHEALTHY), "unhealthy"),
        (container(labels=labels(port="none")), "refused"),
    ],
)
def test_what_needs_somebody_is_an_exit_code(kamal_sd: Command, shown: object, word: str) -> None:
    with server(Site(snapshot(shown), engines=ELSEWHERE)) as place:  # type: ignore[arg-type]
        result = kamal_sd("status", "--url", url_of(place))
    assert result.exit_code == EXIT_FOUND
    assert f" {word} " in result.stdout


def test_an_engine_that_is_not_heard_is_an_exit_code(kamal_sd: Command) -> None:
    lost = ledger.lost(snapshot(V1), "[bold]refused[/bold]", NOW - 9)
    with server(Site(lost, engines=ELSEWHERE)) as place:
        result = kamal_sd("status", "--url", url_of(place))
    assert result.exit_code == EXIT_FOUND
    assert "not heard: [bold]refused[/bold]" in result.stdout


def test_filters_and_json(kamal_sd: Command) -> None:
    with server(town()) as place:
        result = kamal_sd("status", "--url", url_of(place), "--service", "blog", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [(slot["slot"], slot["status"]) for slot in found["slots"]] == [("blog-web", "ok")]
    assert found["engines"][0]["up"] is True


def test_without_any_slot_it_says_so(kamal_sd: Command) -> None:
    with server(Site(snapshot(), engines=ELSEWHERE)) as place:
        result = kamal_sd("status", "--url", url_of(place))
    assert "No slot is a target." in result.stdout


def test_nobody_answers(kamal_sd: Command) -> None:
    result = kamal_sd("status", "--url", "http://127.0.0.1:1")
    assert result.exit_code == EXIT_NO_ANSWER


def test_watching_goes_on_until_ctrl_c(tmp_path: Path) -> None:
    site = Site(snapshot(V1), engines=ELSEWHERE)
    with server(site) as place:
        command = ["watch", "--url", url_of(place), "--interval", "50ms"]
        watching = subprocess.Popen(
            # In the background Ctrl-C is ignored, by children too.
            ["env", "--default-signal=INT", sys.executable, "-m", "app", *command],
            stdout=subprocess.PIPE,
            env=system_environment(PYTHONPATH=str(REPOSITORY), HOME=str(tmp_path)),
        )
        try:
            end = time.monotonic() + 20
            while sum("/explain" in line for line in place.requests) < 3:
                assert time.monotonic() < end
                time.sleep(0.05)
            watching.send_signal(signal.SIGINT)
            shown, _ = watching.communicate(timeout=10)
        finally:
            watching.kill()
    assert watching.returncode == 0
    assert b"shop-web" in shown


def test_an_interval_that_is_none_is_refused(kamal_sd: Command) -> None:
    result = kamal_sd("watch", "--interval", "often")
    assert result.exit_code == 2
    assert "is no duration" in result.stderr
