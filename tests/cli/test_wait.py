"""`kamal-sd wait`, as a post-deploy hook uses it: the result on stdout, all else on stderr."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from app.cli import commands, source
from app.discovery.wait import WaitDocument
from app.model import Snapshot
from tests.builders import container, labels, snapshot
from tests.cli.conftest import Command
from tests.cli.places import NOT_JSON, OTHER_JSON, url_of
from tests.engine.handmade import Answer, HandMade, answer, hold
from tests.web.apps import Served
from tests.web.site import Site

DONE, NOT_IN_TIME, WRONG_USAGE, NO_ANSWER = range(4)
OLD, NEW = container("shop-web-v1"), container("shop-web-v2", ago=5)
ASKED = ["--service", "shop", "--version", "v2"]


def server(site: Site) -> HandMade:
    """Answers each question once as the site does, whatever was asked for."""
    said = site.ask("/wait?service=shop&version=v2&timeout=0s")
    status = f"{said.status_code} {said.reason_phrase}"
    return HandMade({"/wait?": answer(said.content, status)})


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is asked for often."""
    monkeypatch.setattr(commands, "_PROGRESS_SECONDS", 0.05)


# --- how it ends ---


def test_what_is_current_is_said_at_once(kamal_sd: Command) -> None:
    with Served(NEW) as place:
        result = kamal_sd("wait", *ASKED, "--url", f"http://{place.authority}")
    assert result.exit_code == DONE
    assert (result.stdout, result.stderr) == ("v2 is current in shop-web\n", "")


@pytest.mark.usefixtures("hasty")
def test_what_is_not_in_time_is_an_exit_code_for_scripts(kamal_sd: Command) -> None:
    with Served(OLD) as place:
        url = f"http://{place.authority}"
        result = kamal_sd("wait", *ASKED, "--timeout", "800ms", "--url", url)
        missing = kamal_sd("wait", *ASKED, "--role", "job", "--timeout", "0s", "--url", url)
    assert result.exit_code == missing.exit_code == NOT_IN_TIME
    assert result.stdout == "v2 is not current in shop-web\n"
    # Told once, however often it was asked.
    assert result.stderr == "v2 is not current in shop-web; waiting\n"
    assert (missing.stdout, missing.stderr) == ("v2 is not current in job\n", "")


@pytest.mark.usefixtures("hasty")
def test_the_progress_of_a_deploy_is_told_line_by_line(
    kamal_sd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_1, job_2 = (
        container(f"shop-job-v{number}", ago=ago, labels=labels(role="job"))
        for number, ago in ((1, 1000), (2, 5))
    )
    with Served(OLD, job_1) as place:
        # What is so at each question.
        steps = iter([(OLD, job_1), (OLD, job_1), (NEW, job_1), (NEW, job_1), (NEW, job_2)])

        def ask(*args: Any) -> WaitDocument:
            place.state.publish(snapshot(*next(steps)))
            return source.wait(*args)

        monkeypatch.setattr(commands, "ask_wait", ask)
        result = kamal_sd("wait", *ASKED, "--url", f"http://{place.authority}")
    assert result.exit_code == DONE
    assert result.stdout == "v2 is current in shop-job, shop-web\n"
    assert result.stderr.splitlines() == [
        "v2 is not current in shop-job, shop-web; waiting",
        "v2 is not current in shop-job; waiting",
    ]


@pytest.mark.usefixtures("hasty")
def test_a_server_without_a_list_is_waited_for(kamal_sd: Command) -> None:
    with server(Site(Snapshot(""))) as place:
        result = kamal_sd("wait", *ASKED, "--timeout", "100ms", "--url", url_of(place))
    assert result.exit_code == NOT_IN_TIME
    assert len(place.requests) > 1


# --- what is asked ---


def questions(place: HandMade) -> list[dict[str, list[str]]]:
    return [
        parse_qs(urlsplit(line.split()[1]).query, keep_blank_values=True) for line in place.requests
    ]


def test_all_that_was_given_goes_to_the_server(kamal_sd: Command) -> None:
    options = ["--role", "web", "--role", "job", "--destination", "", "--host", "a b&c"]
    with server(Site(snapshot(NEW))) as place:
        kamal_sd("wait", *ASKED, *options, "--service", "blog", "--url", f"{url_of(place)}/")
    assert place.requests[0].startswith("GET /wait?")
    assert questions(place) == [
        {
            "service": ["blog", "shop"],
            "role": ["job", "web"],
            "destination": [""],
            "host": ["a b&c"],
            "version": ["v2"],
            "timeout": ["1000ms"],
        }
    ]


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("timeout", "first"), [("0s", "0ms"), ("20ms", ""), ("1m", "50ms"), ("292y", "50ms")]
)
def test_the_server_is_never_asked_for_more_than_is_left(
    kamal_sd: Command, timeout: str, first: str
) -> None:
    current = NEW if timeout in ("1m", "292y") else OLD
    with server(Site(snapshot(current))) as place:
        result = kamal_sd("wait", *ASKED, "--timeout", timeout, "--url", url_of(place))
    assert result.exit_code == (DONE if current is NEW else NOT_IN_TIME)
    asked = [each["timeout"][0] for each in questions(place)]
    assert asked[0] == first or not first
    assert asked[-1] == "0ms" or current is NEW
    assert all(int(each.removesuffix("ms")) <= 50 for each in asked)


def test_the_server_can_be_named_in_the_environment(
    kamal_sd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(Site(snapshot(NEW))) as place:
        monkeypatch.setenv("KAMAL_SD_URL", url_of(place))
        assert kamal_sd("wait", *ASKED).exit_code == DONE
    assert len(place.requests) == 1


# --- what is wrong ---


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--service", "shop"],
        ["--version", "v2"],
        [*ASKED, "--timeout", "soon"],
        [*ASKED, "--timeout", "60"],
        [*ASKED, "--timeout", ""],
        [*ASKED, "--timeout", "-1s"],
        [*ASKED, "--nonsense"],
        [*ASKED, "v3"],
        ["--service"],
    ],
)
def test_a_wrong_usage(kamal_sd: Command, args: list[str]) -> None:
    result = kamal_sd("wait", *args)
    assert (result.exit_code, result.stdout) == (WRONG_USAGE, "")
    assert result.stderr


STRANGERS: dict[str, Answer] = {
    "a web site": NOT_JSON,
    "another API": OTHER_JSON,
    "a proxy in front": answer(b"<html>Gateway Timeout</html>", "504 Gateway Timeout"),
    "an older server": answer({"detail": "Not Found"}, "404 Not Found"),
    "a wrong question": answer(b"version: Field required\n", "400 Bad Request"),
    "a fault": answer(b"Internal Server Error", "500 Internal Server Error"),
    "half an answer": answer({"version": "v2"})[:-3],
    "nothing": b"",
}


@pytest.mark.parametrize("reply", STRANGERS.values(), ids=STRANGERS)
def test_who_is_no_kamal_sd_is_no_answer(kamal_sd: Command, reply: Answer) -> None:
    with HandMade({"": reply}) as place:
        result = kamal_sd("wait", *ASKED, "--url", url_of(place))
    assert (result.exit_code, result.stdout) == (NO_ANSWER, "")
    assert url_of(place) in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_server_that_is_not_there(kamal_sd: Command) -> None:
    with HandMade({}) as gone:
        url = url_of(gone)
    result = kamal_sd("wait", *ASKED, "--url", url)
    assert (result.exit_code, result.stdout) == (NO_ANSWER, "")
    assert result.stderr == f"{url}/wait?{QUERY} does not answer: [Errno 111] Connection refused\n"
    assert kamal_sd("wait", *ASKED, "--url", "localhost:9889").exit_code == NO_ANSWER


QUERY = "service=shop&version=v2&timeout=1000ms"


def test_a_server_that_never_answers_is_given_up(
    kamal_sd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(commands, "_PROGRESS_SECONDS", 0.1)
    with HandMade({"": hold}) as place:
        result = kamal_sd("wait", *ASKED, "--url", url_of(place))
    assert (result.exit_code, result.stdout) == (NO_ANSWER, "")
    assert "timed out" in result.stderr
