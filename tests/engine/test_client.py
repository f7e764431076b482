"""The client before engines, proxies and strangers that answer wrongly, late or not at all."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import pytest

from app.engine.client import DockerConnection, EngineError, StreamSilentError
from app.engine.parse import Event
from tests.engine.handmade import (
    EMPTY,
    VERSION,
    Answer,
    HandMade,
    answer,
    chunked,
    hold,
    then_hold,
)

QUICK: Final = 0.3
START: Final = b'{"Type":"container","Action":"start","Actor":{"ID":"a"}}\n'
DIE: Final = b'{"Type":"container","Action":"die","Actor":{"ID":"a"}}\n'
FORBIDDEN: Final = answer(b"not on the list", "403 Forbidden", content_type="text/plain")
BROKEN: Final = answer({"message": "out of order"}, "500 Internal Server Error")


def connect(url: str, *, timeout: float = QUICK, silence: float = QUICK) -> DockerConnection:
    return DockerConnection(url, timeout=timeout, silence=silence)


def patient(url: str) -> DockerConnection:
    return connect(url, timeout=20.0, silence=20.0)


# What answers, and what a person must find in the message.
REFUSALS: Final[dict[str, tuple[Answer, str]]] = {
    "a proxy that forbids it": (FORBIDDEN, "403 Forbidden"),
    "an engine out of order": (BROKEN, "500 Internal Server Error"),
    "a proxy that says so in its own JSON": (
        answer({"error": 1}, "502 Bad Gateway"),
        "it answered 502",
    ),
    "a silent one": (hold, "timed out"),
    "one that hangs up": (b"", "closed connection"),
    "no HTTP at all": (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2"),
}
HALVES: Final[dict[str, tuple[Answer, str]]] = {
    "a web site": (answer(b"<html>Hello</html>", content_type="text/html"), "JSON"),
    "half an answer": (answer([1, 2, 3])[:-4], "IncompleteRead"),
    "half a chunk": (chunked(b"[1, 2, 3", end=b"ff\r\n, 4"), "IncompleteRead"),
}
FAULTS: Final = [
    pytest.param(path, *case, id=f"{path} {name}")
    for path in ("/version", "/containers/json", "/events")
    for name, case in REFUSALS.items()
] + [
    pytest.param(path, *case, id=f"{path} {name}")
    for path in ("/version", "/containers/json")
    for name, case in HALVES.items()
]


@pytest.mark.parametrize(("path", "reply", "words"), FAULTS)
def test_a_wrong_answer_is_an_error_in_words(path: str, reply: Answer, words: str) -> None:
    with HandMade({"/version": VERSION} | {path: reply}) as server:
        message = error_of(path, server.url)
    assert words in message
    assert_readable(message)


def error_of(path: str, url: str) -> str:
    with pytest.raises(EngineError) as caught:
        ask(path, url)
    return str(caught.value)


def ask(path: str, url: str) -> None:
    with closing(connect(url)) as connection:
        if path == "/events":
            list(connection.events())
        else:
            connection.containers()


def assert_readable(message: str) -> None:
    assert message
    assert "\n" not in message
    assert len(message) <= 200
    # Layers of wrapping and addresses of objects are for programmers.
    assert "object at 0x" not in message
    assert "HTTPConnectionPool" not in message


@pytest.mark.parametrize(
    "body", [{}, {"Version": "20.10"}, {"ApiVersion": None}, {"ApiVersion": "latest"}, [], None]
)
def test_an_engine_that_does_not_tell_its_version_is_said_to_be_none(body: object) -> None:
    with HandMade({"/version": answer(body)}) as server, pytest.raises(EngineError) as caught:
        connect(server.url)
    # Not the name of an exception of Python.
    assert "Error" not in str(caught.value)
    assert "version" in str(caught.value).lower()


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [
        ("1.41", "1.12", "1.41"),
        ("1.41", None, "1.41"),
        ("1.51", "1.24", "1.51"),
        ("1.52", "1.44", "1.52"),
        ("1.53", "1.44", "1.52"),
        ("1.100", "1.44", "1.52"),
        ("2.0", "1.44", "1.52"),
        ("1.60", "1.55", "1.55"),
        ("1.100", "1.60", "1.60"),
    ],
)
def test_the_version_is_negotiated(newest: str, oldest: str | None, spoken: str) -> None:
    versions = {"ApiVersion": newest} | ({"MinAPIVersion": oldest} if oldest else {})
    answers = {"/version": answer(versions), "/containers": EMPTY, "/events": chunked(START)}
    with HandMade(answers) as server, closing(patient(server.url)) as connection:
        connection.containers()
        connection.events().close()
    paths = [urlsplit(line.split()[1]).path for line in server.requests]
    assert paths[0] == "/version"
    assert paths[1:] == [f"/v{spoken}/containers/json", f"/v{spoken}/events"]


def test_an_engine_too_old_to_be_understood_is_said_to_be() -> None:
    old = answer({"ApiVersion": "1.12"})
    with (
        HandMade({"/version": old}) as server,
        pytest.raises(EngineError, match=r"below 1\.24"),
    ):
        connect(server.url)


def test_a_list_asks_for_all_containers_or_for_those_with_the_ids() -> None:
    answers = {"/version": VERSION, "/containers": answer([{"Id": "a"}])}
    with HandMade(answers) as server, closing(patient(server.url)) as connection:
        assert connection.containers() == [{"Id": "a"}]
        assert connection.containers({"b", "a"}) == [{"Id": "a"}]
    everything, chosen = (query(line) for line in server.requests[1:])
    assert everything["all"] == chosen["all"] == ["1"]
    assert "filters" not in everything
    assert chosen["filters"] == ['{"id": ["a", "b"]}']
    # No question costs more than it must: sizes are the engine's most expensive answer.
    assert everything["size"] == ["0"]


def test_looks_at_ever_other_containers_take_one_connection(tmp_path: Path) -> None:
    kept = answer([]).replace(b"Connection: close", b"Connection: keep-alive")

    def again_and_again(sock: socket.socket) -> None:
        sock.sendall(kept)
        while sock.recv(4096):
            sock.sendall(kept)

    answers: dict[str, Answer] = {"/version": VERSION, "/containers": again_and_again}
    with (
        HandMade(answers, unix=tmp_path / "s") as server,
        closing(patient(server.url)) as connection,
    ):
        for number in range(30):
            assert connection.containers({f"{number:064}"}) == []
        # Of each connection the first question is noted.
        assert len(server.requests) == 2


def query(request_line: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(request_line.split()[1]).query)


def test_the_engine_filters_the_events_and_is_never_asked_for_exec() -> None:
    answers = {"/version": VERSION, "/events": chunked(START, end=b"0\r\n\r\n")}
    with HandMade(answers) as server, closing(patient(server.url)) as connection:
        assert list(connection.events()) == [Event("start", "a")]
    (filters,) = query(server.requests[1])["filters"]
    wanted = json.loads(filters)
    assert set(wanted) == {"type", "event"}
    assert sorted(wanted["type"]) == ["container", "network"]
    assert {"start", "die", "died", "destroy", "rename", "health_status"} <= set(wanted["event"])
    assert not [each for each in wanted["event"] if "exec" in each or "attach" in each]
    assert "since" not in query(server.requests[1])


def test_events_come_as_they_are_sent_whatever_the_chunks() -> None:
    parts = START + DIE
    answers = {
        "/version": VERSION,
        "/events": then_hold(chunked(START[:10], START[10:] + DIE + START, parts[:-1], b"\n")),
    }
    with HandMade(answers) as server, closing(patient(server.url)) as connection:
        stream = connection.events()
        events = iter(stream)
        heard = [next(events).action for _ in range(5)]
        stream.close()
        assert list(events) == []
    assert heard == ["start", "die", "start", "start", "die"]


@pytest.mark.parametrize("end", [b"", b"0\r\n\r\n", b"ff\r\nbroken off"])
def test_a_stream_that_ends_ends_the_iteration(end: bytes) -> None:
    answers = {"/version": VERSION, "/events": chunked(START, end=end)}
    with HandMade(answers) as server, closing(patient(server.url)) as connection:
        assert list(connection.events()) == [Event("start", "a")]


def test_bad_json_in_a_stream_is_an_error() -> None:
    answers = {"/version": VERSION, "/events": chunked(START, b"{never: mind}\n", end=b"0\r\n\r\n")}
    with HandMade(answers) as server, closing(patient(server.url)) as connection:
        events: Iterator[Event] = iter(connection.events())
        assert next(events) == Event("start", "a")
        with pytest.raises(EngineError) as caught:
            next(events)
    assert_readable(str(caught.value))


def test_a_stream_that_is_silent_too_long_says_so() -> None:
    answers = {"/version": VERSION, "/events": then_hold(chunked(START))}
    with (
        HandMade(answers) as server,
        closing(connect(server.url, timeout=20, silence=QUICK)) as connection,
    ):
        events = iter(connection.events())
        assert next(events) == Event("start", "a")
        began = time.monotonic()
        with pytest.raises(StreamSilentError, match=r"no event for 0\.3 s"):
            next(events)
        assert time.monotonic() - began >= QUICK * 0.9


def test_a_quiet_stream_is_not_ended_by_the_limit_for_answers() -> None:
    def quiet(sock: socket.socket) -> None:
        sock.sendall(chunked(START))
        time.sleep(3 * QUICK)
        sock.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(DIE), DIE))

    answers: dict[str, Answer] = {"/version": VERSION, "/events": quiet}
    with (
        HandMade(answers) as server,
        closing(connect(server.url, timeout=QUICK, silence=20.0)) as connection,
    ):
        assert [event.action for event in connection.events()] == ["start", "die"]


@pytest.mark.parametrize("unix", [False, True])
def test_close_wakes_whoever_waits_for_an_event(unix: bool, tmp_path: Path) -> None:
    answers = {"/version": VERSION, "/events": then_hold(chunked(START))}
    with (
        HandMade(answers, unix=tmp_path / "s" if unix else None) as server,
        closing(patient(server.url)) as connection,
    ):
        stream = connection.events()
        heard: list[Event] = []
        reader = threading.Thread(target=lambda: heard.extend(stream))
        reader.start()
        time.sleep(0.1)
        began = time.monotonic()
        stream.close()
        reader.join()
        assert time.monotonic() - began < 5
        stream.close()
    assert heard == [Event("start", "a")]


def test_the_head_of_a_stream_may_not_take_longer_than_an_answer() -> None:
    """Its silence is an engine that hangs, and is no quiet stream."""
    with (
        HandMade({"/version": VERSION, "/events": hold}) as server,
        closing(connect(server.url, timeout=QUICK, silence=8.0)) as connection,
    ):
        began = time.monotonic()
        with pytest.raises(EngineError):
            next(iter(connection.events()))
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_in_the_environment_is_passed_by(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"/version": VERSION, "/containers": EMPTY, "/events": chunked(START)}
    with HandMade({"": BROKEN}) as proxy, HandMade(answers) as server:
        monkeypatch.setenv(variable, proxy.url.replace("tcp", "http"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with closing(patient(server.url)) as connection:
            assert connection.containers() == []
            assert next(iter(connection.events())) == Event("start", "a")
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path / "none.sock", "No such file or directory"),
        (lambda path: path, "Connection refused"),
    ],
    ids=["no socket", "a folder"],
)
def test_a_socket_that_is_none_is_an_error_in_words(
    make: object, words: str, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=words):
        connect(f"unix://{make(tmp_path)}")  # type: ignore[operator]


def test_a_port_that_nobody_listens_at_is_an_error_in_words() -> None:
    with HandMade({}) as gone:
        url = gone.url
    with pytest.raises(EngineError, match="Connection refused"):
        connect(url)
