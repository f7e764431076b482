"""Apps that are slow, endless, elsewhere or no HTTP at all: each costs its own scrape, in time."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import IncompleteRead
from typing import Final

import pytest

from tests.builders import container
from tests.web.apps import TIMEOUT, WEB_PATH, Served, wait_for
from tests.web.sockets import CHUNKED, App, Reply, answer, chunk, hold

MAX_SIZE: Final = 200_000
DEFAULT_TIMEOUT: Final = 0.5
METRICS: Final = b"up 1\n"


@pytest.fixture
def app() -> Iterator[App]:
    with App(answer(METRICS)) as listening:
        yield listening


@pytest.fixture(scope="module")
def running() -> Iterator[Served]:
    with Served(relay={"max_size": MAX_SIZE, "timeout": DEFAULT_TIMEOUT}) as running:
        yield running


@pytest.fixture
def served(running: Served, app: App) -> Iterator[Served]:
    running.begin_with(container(ip=app.ip))
    yield running
    running.check()


def endless(*begin: bytes, part: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    """Sends the same for as long as somebody takes it."""

    def send(sock: socket.socket) -> None:
        with suppress(OSError):
            sock.sendall(b"".join(begin))
            while True:
                sock.sendall(part)
                time.sleep(pause)

    return send


SLOW: Final[dict[str, Reply]] = {
    "silent": hold,
    "silent after the head": endless(CHUNKED, part=b"", pause=0.05),
    "drop by drop": endless(CHUNKED, part=chunk(b"x"), pause=0.05),
    "a head drop by drop": endless(b"HTTP/1.1 200 OK\r\n", part=b"A: b\r\n", pause=0.05),
    "first lines without end": endless(part=b"HTTP/1.1 100 Continue\r\n\r\n"),
}


def test_a_slow_app_is_told_of_within_the_scrapers_time(served: Served) -> None:
    began = time.monotonic()
    for app, found in served.ask_each(SLOW.values(), {TIMEOUT: "3"}):
        assert (found.status, found.words) == (504, "no whole answer within 2.7 s")
        assert len(app.asked) == 1
    assert time.monotonic() - began < 3


def test_a_slow_app_has_its_connection_closed(app: App, served: Served) -> None:
    app.reply = hold
    assert served.ask(headers={TIMEOUT: "0.2"}).status == 504
    served.counts(timeout=1)
    # It is asked anew, not on the connection on which an answer may come yet.
    app.reply = answer(METRICS)
    assert served.ask().body == METRICS
    assert [each.connection for each in app.asked] == [1, 2]


def test_an_answer_that_was_begun_is_broken_off_when_the_time_is_over(
    app: App, served: Served
) -> None:
    app.reply = endless(CHUNKED, chunk(b"x" * 100_000), part=b"", pause=0.05)
    with pytest.raises(IncompleteRead):
        served.ask(headers={TIMEOUT: "1"})
    served.counts(timeout=1)


def test_a_time_that_is_too_short_for_anything_is_heeded(app: App, served: Served) -> None:
    app.reply = hold
    assert served.ask(headers={TIMEOUT: "1e-9"}).status == 504


@pytest.mark.parametrize("said", ["", "x", "nan", "inf", "-inf", "-1", "0", "1e999", "5s", "1,2"])
def test_without_a_time_that_makes_sense_the_settings_decide(
    app: App, served: Served, said: str
) -> None:
    assert served.ask(headers={TIMEOUT: said}).status == 200
    left = float(app.asked[0].headers[TIMEOUT.lower()])
    assert 0 < left < DEFAULT_TIMEOUT


def test_without_a_time_the_settings_decide_when_it_is_over(app: App, served: Served) -> None:
    app.reply = hold
    found = served.ask()
    assert found.status == 504
    assert found.words in ("no whole answer within 0.5 s", "no whole answer within 0.4 s")


@pytest.mark.parametrize(("said", "most"), [("1e300", 300), ("301", 300), ("60", 59.5), ("2", 1.8)])
def test_the_time_that_the_app_is_told_is_shorter(
    app: App, served: Served, said: str, most: float
) -> None:
    assert served.ask(headers={TIMEOUT: said}).status == 200
    assert most - 1 < float(app.asked[0].headers[TIMEOUT.lower()]) <= most


@pytest.mark.parametrize("encoding", ["chunks", "length", "connection"])
def test_an_answer_without_end_is_broken_off(app: App, served: Served, encoding: str) -> None:
    head = {
        "chunks": CHUNKED,
        "length": answer(b"").replace(b"Length: 0", b"Length: 1000000000000"),
        "connection": b"HTTP/1.1 200 OK\r\n\r\n",
    }[encoding]
    part = b"x" * 10_000
    app.reply = endless(head, part=chunk(part) if encoding == "chunks" else part)
    with pytest.raises(IncompleteRead) as broken:
        served.ask(headers={TIMEOUT: "10"})
    assert len(broken.value.partial) <= MAX_SIZE
    assert len(app.asked) == 1
    served.counts(refused=1)


@pytest.mark.parametrize("size", [MAX_SIZE - 1, MAX_SIZE])
def test_an_answer_of_the_greatest_size_comes_through(app: App, served: Served, size: int) -> None:
    app.reply = answer(b"x" * size)
    assert len(served.ask().body) == size


@pytest.mark.parametrize("size", [101, 1000, 60_000, 10_000_000])
def test_what_is_larger_than_a_small_limit_is_refused_in_words(app: App, size: int) -> None:
    app.reply = answer(b"x" * size)
    with Served(container(ip=app.ip), relay={"max_size": 100}) as served:
        found = served.ask()
        assert found.status == 502
        assert found.words == ("shop-web-v1 answers with more than the 100 bytes of relay.max_size")
        assert len(app.asked) == 1
        served.counts(refused=1)
        app.reply = answer(b"x" * 100)
        assert served.ask().status == 200


def test_a_head_without_end_is_no_answer(app: App, served: Served) -> None:
    app.reply = endless(b"HTTP/1.1 200 OK\r\n", part=b"A: " + b"x" * 1000 + b"\r\n")
    assert served.ask(headers={TIMEOUT: "10"}).status == 502


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_is_not_followed(app: App, served: Served, status: int) -> None:
    with App(answer(b"secret\n")) as elsewhere:
        place = f"Location: http://{elsewhere.ip}:9394/metrics"
        app.reply = answer(b"", f"{status} Elsewhere", place)
        found = served.ask()
    assert found.status == 502
    assert found.words.startswith("shop-web-v1 redirects, which is not followed; ")
    assert "location" not in found.headers
    assert not elsewhere.connections
    assert len(app.asked) == 1
    served.counts(refused=1)


@pytest.mark.parametrize("name", ["Location", "Refresh", "Content-Location", "Alt-Svc", "Link"])
def test_no_header_of_a_good_answer_leads_elsewhere(app: App, served: Served, name: str) -> None:
    with App(answer(b"secret\n")) as elsewhere:
        app.reply = answer(METRICS, "200 OK", f"{name}: http://{elsewhere.ip}:9394/")
        found = served.ask()
    assert (found.status, found.body) == (200, METRICS)
    assert name.lower() not in {each.lower() for each in found.headers}
    assert not elsewhere.connections


OK: Final = b"HTTP/1.1 200 OK\r\n"
NO_HTTP: Final[dict[str, bytes]] = {
    "a line": b"hello\n",
    "zeros": b"\0" * 10_000,
    "another protocol": b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
    "metrics without a head": METRICS,
    "a page without a head": b"<html><body>metrics</body></html>\r\n\r\n",
    "the frames of HTTP/2": b"\0\0\x12\4\0\0\0\0\0" + b"\0" * 18,
    "no number": b"HTTP/1.1 OK OK\r\n\r\n",
    "a number that is none": b"HTTP/1.1 099 OK\r\n\r\n",
    "another protocol from here on": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "a header without a colon": OK + b"bad\r\n\r\n",
    "a header with a zero": OK + b"A: \0\r\n\r\n",
    "a header's name with a space": OK + b"Content Length: 5\r\n\r\nup 1\n",
    "a length in words": OK + b"Content-Length: five\r\n\r\nup 1\n",
    "a length below nothing": OK + b"Content-Length: -5\r\n\r\nup 1\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nup 1\n",
    "an encoding that is not known": OK + b"Transfer-Encoding: gzip\r\n\r\nup 1\n",
    "a chunk without a size": CHUNKED + b"zz\r\nup 1\n\r\n0\r\n\r\n",
    "a chunk without an end": CHUNKED + b"5\r\nup 1\nup 1\n\r\n0\r\n\r\n",
    "a chunk of a size below nothing": CHUNKED + b"-5\r\nup 1\n\r\n0\r\n\r\n",
    "a chunk of a size without end": CHUNKED + b"f" * 100 + b"\r\n",
}


def test_what_is_no_http_is_no_answer(served: Served) -> None:
    def sends(content: bytes) -> Reply:
        return lambda sock: sock.sendall(content)

    replies = [sends(content) for content in NO_HTTP.values()]
    answers = served.ask_each(replies, {TIMEOUT: "10"})
    for name, (app, found) in zip(NO_HTTP, answers, strict=True):
        assert found.status == 502, name
        place, _, reason = found.words.partition(f"-web-v1 at {app.ip}:9394: ")
        assert place.startswith("shop"), name
        assert len(reason) > 5, name
        assert reason.isprintable(), name


def test_what_follows_an_answer_is_no_part_of_it_nor_of_the_next(app: App, served: Served) -> None:
    app.reply = answer(METRICS) + b"rest"
    for _ in range(3):
        assert served.ask().body == METRICS
    served.counts(ok=3)


def test_one_bad_app_costs_no_other_scrape(served: Served) -> None:
    with App(endless(part=b"HTTP/1.1 100 Continue\r\n\r\n")) as bad:
        served.looked(container("shop-web-v2", ip=bad.ip, ago=5.0))
        connection = served.connect()
        connection.request("GET", f"{WEB_PATH}/next", headers={TIMEOUT: "60"})
        wait_for(lambda: bad.asked, "it to be asked")
        for _ in range(10):
            assert served.ask(headers={TIMEOUT: "5"}).body == METRICS
        connection.close()
        wait_for(lambda: not bad.open, "its connection to be closed")
