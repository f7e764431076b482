"""What apps answer, byte by byte: what is taken for an answer, and what of it is kept waiting."""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar

import pytest

from app.web.upstream import PIECE, Connection, Connections, UpstreamError
from tests.web.apps import wait_for
from tests.web.sockets import CHUNKED, PORT, App, Reply, answer, chunk, hold, reset
from tests.web.test_relay import tls

REQUEST: Final = b"GET /metrics HTTP/1.1\r\nhost: shop\r\n\r\n"
OK: Final = b"HTTP/1.1 200 OK\r\n"
METRICS: Final = b"up 1\n"
LENGTH: Final = b"Content-Length: 5\r\n"
WHOLE: Final = OK + LENGTH + b"\r\n" + METRICS

_T = TypeVar("_T")


def playing(
    app: App, play: Callable[[Connections], Awaitable[_T]], context: ssl.SSLContext | None = None
) -> _T:
    """What comes of playing with the connections to this app, which are closed then."""

    async def played() -> _T:
        buffer = memoryview(bytearray(PIECE))
        scheme = "https" if context else "http"
        connections = Connections(scheme, f"{app.ip}:{PORT}", context, buffer)
        try:
            async with asyncio.timeout(10):
                return await play(connections)
        finally:
            connections.close()

    return asyncio.run(played())


class Found(NamedTuple):
    """An answer, and whether another could have followed on its connection."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    is_free: bool


async def ask(connections: Connections) -> Found:
    connection = await connections.take()
    try:
        await connection.ask(REQUEST)
        body = await read(connection)
        return Found(connection.status, connection.headers, body, connection.is_free)
    finally:
        connections.give_back(connection)


async def read(connection: Connection) -> bytes:
    pieces = [await connection.read()]
    while not connection.is_whole:
        pieces.append(await connection.read())
    return b"".join(pieces)


def sends(*parts: bytes, pause: float = 0.0) -> Reply:
    """Sends these, and ends the connection."""

    def send(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):
            for part in parts:
                sock.sendall(part)
                time.sleep(pause)

    return send


def sends_on_and_on(begin: bytes, part: bytes) -> Reply:
    """Sends a part again and again for as long as somebody takes it."""

    def send(sock: socket.socket) -> None:
        with suppress(OSError):
            sock.sendall(begin)
            while True:
                sock.sendall(part)

    return send


END: Final = b"0\r\n\r\n"
# Answers that say where they end, and whether something may be asked after them.
GOOD: Final = {
    "a length": (WHOLE, True),
    "chunks": (CHUNKED + chunk(b"up") + chunk(b" 1\n") + END, True),
    "chunks that say more": (CHUNKED + b"5;a=b\r\nup 1\n\r\n0\r\nStatus: 500\r\n\r\n", True),
    "chunks in capital letters": (CHUNKED.upper() + chunk(METRICS) + END, True),
    "chunks and a length": (
        CHUNKED[:-2] + b"Content-Length: 9\r\n\r\n" + chunk(METRICS) + END,
        True,
    ),
    "the last one": (OK + b"Connection: close\r\n" + LENGTH + b"\r\nup 1\n", False),
    "an old version": (WHOLE.replace(b"1.1", b"1.0"), False),
    "an old version that stays": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + LENGTH + b"\r\nup 1\n",
        True,
    ),
    "no words": (WHOLE.replace(b" OK", b""), True),
    "lines as in files": (WHOLE.replace(b"\r", b""), True),
    "an empty header": (OK + b"A:\r\n" + LENGTH + b"\r\nup 1\n", True),
    "hints before": (b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n" + WHOLE, True),
    "patience before": (b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000 + WHOLE, True),
    "another protocol on offer": (
        OK + b"Connection: upgrade\r\nUpgrade: h2c\r\n" + LENGTH + b"\r\nup 1\n",
        True,
    ),
    "a long head": (OK + b"A: " + b"x" * 60_000 + b"\r\n" + LENGTH + b"\r\nup 1\n", True),
    "a line behind": (WHOLE + b"\r\n", True),
    "no answer behind": (WHOLE + b"rest", False),
    "an answer behind": (WHOLE + WHOLE, False),
}


@pytest.mark.parametrize(("sent", "is_free"), GOOD.values(), ids=GOOD.keys())
def test_an_answer_that_says_its_end(sent: bytes, is_free: bool) -> None:
    with App(sent) as app:
        found = playing(app, ask)
    assert (found.status, found.body, found.is_free) == (200, METRICS, is_free)


SHORT: Final = [sent for sent, _ in GOOD.values() if len(sent) < 200]


@pytest.mark.parametrize("sent", SHORT)
def test_an_answer_may_come_in_drops(sent: bytes) -> None:
    with App(sends(*(bytes([each]) for each in sent), pause=0.0005)) as app:
        found = playing(app, ask)
    assert (found.status, found.body) == (200, METRICS)


@pytest.mark.parametrize("head", [b"", b"Connection: close\r\n", b"Connection: keep-alive\r\n"])
@pytest.mark.parametrize("body", [b"", METRICS, b"x" * 200_000])
def test_an_answer_may_end_with_its_connection(head: bytes, body: bytes) -> None:
    with App(sends(OK + head + b"\r\n" + body)) as app:
        found = playing(app, ask)
    assert (found.status, found.body, found.is_free) == (200, body, False)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_needs_no_end(status: int) -> None:
    with App(b"HTTP/1.1 %d X\r\n\r\n" % status) as app:
        found = playing(app, ask)
    assert (found.status, found.body, found.is_free) == (status, b"", True)


def test_headers_are_those_of_the_head() -> None:
    sent = CHUNKED.replace(b"\r\n\r\n", b"\r\nX-a:\t b c \t\r\n\r\n") + b"0\r\nLast: 1\r\n\r\n"
    with App(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + sent) as app:
        headers = playing(app, ask).headers
    assert headers[1:] == [(b"Transfer-Encoding", b"chunked"), (b"X-a", b"b c")]


BAD: Final = {
    "a version to come": (b"HTTP/2.0 200 OK\r\n\r\n", "it does not speak HTTP/1.1"),
    "a version of old": (b"HTTP/0.9 200 OK\r\n\r\n", "it does not speak HTTP/1.1"),
    "no version": (b"HTTP/1.7 200 OK\r\n\r\n", "malformed answer: Invalid HTTP version"),
    "another protocol": (
        b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "it answers with 101, which was not asked for",
    ),
    "a status below all": (
        b"HTTP/1.1 099 X\r\n\r\n",
        "it answers with 99, which was not asked for",
    ),
    "a status of four digits": (
        b"HTTP/1.1 2000 X\r\n\r\n",
        "malformed answer: Invalid response status",
    ),
    "another encoding": (
        OK + b"Transfer-Encoding: gzip\r\n\r\n",
        "its answer has an encoding that was not asked for",
    ),
    "another encoding in chunks": (
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END,
        "its answer has an encoding that was not asked for",
    ),
    "two lengths": (OK + LENGTH * 2 + b"\r\nup 1\n", "malformed answer: Duplicate Content-Length"),
    "a length that overflows": (
        OK + b"Content-Length: 99999999999999999999\r\n\r\n",
        "malformed answer: Content-Length overflow",
    ),
    "a header of two lines": (
        OK + b"A: b\r\n c\r\n\r\n",
        "malformed answer: Unexpected whitespace after header value",
    ),
    "a header with a bell": (
        OK + b"Content-Type: \a\r\n\r\n",
        "malformed answer: Invalid header value char",
    ),
    "patience after a farewell": (
        b"HTTP/1.0 100 Continue\r\n\r\n" + WHOLE,
        "malformed answer: Data after `Connection: close`",
    ),
}


def error_of(app: App) -> str:
    with pytest.raises(UpstreamError) as found:
        playing(app, ask)
    return str(found.value)


@pytest.mark.parametrize(("sent", "error"), BAD.values(), ids=BAD.keys())
def test_what_is_no_answer(sent: bytes, error: str) -> None:
    with App(sent) as app:
        assert error_of(app) == error
        wait_for(lambda: not app.open, "the connection to be closed")


EARLY: Final = {
    "at once": b"",
    "in the first line": b"HTTP/1.1 2",
    "in the head": OK + b"A: b\r\n",
    "after hints": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "before the body": OK + LENGTH + b"\r\n",
    "in the body": WHOLE[:-1],
    "in a large body": OK + b"Content-Length: 200000\r\n\r\n" + b"x" * 199_999,
    "in a chunk": CHUNKED + chunk(METRICS)[:-3],
    "between chunks": CHUNKED + chunk(METRICS),
    "in the last line": CHUNKED + chunk(METRICS) + END[:-1],
}


@pytest.mark.parametrize("sent", EARLY.values(), ids=EARLY.keys())
def test_what_ends_early_is_no_answer(sent: bytes) -> None:
    with App(sends(sent)) as app:
        assert error_of(app) == "it closed the connection before its answer was whole"


@pytest.mark.parametrize("sent", [b"", WHOLE[:-1], OK + b"\r\n" + METRICS])
def test_what_is_reset_is_no_answer(sent: bytes) -> None:
    def send(sock: socket.socket) -> None:
        sock.sendall(sent)
        time.sleep(0.01)
        reset(sock)

    with App(send) as app:
        assert error_of(app) == "[Errno 104] Connection reset by peer"


ENDLESS: Final = {
    "a head": (OK, b"A: b\r\n"),
    "a header": (OK + b"A: ", b"x" * 1000),
    "a header's name": (OK, b"x" * 1000),
    "a status": (b"HTTP/1.1 200 ", b"x" * 1000),
    "lines before": (b"", b"\r\n" * 1000),
    "what a chunk says": (CHUNKED + b"5;a=", b"x" * 1000),
    "what follows the chunks": (CHUNKED + b"0\r\nA: ", b"x" * 1000),
    "headers after the chunks": (CHUNKED + b"0\r\n", b"A: b\r\n"),
}


@pytest.mark.parametrize(("begin", "part"), ENDLESS.values(), ids=ENDLESS.keys())
def test_what_has_no_end_and_is_no_body_is_given_up(begin: bytes, part: bytes) -> None:
    with App(sends_on_and_on(begin, part)) as app:
        assert error_of(app) == "more than 65536 bytes of its answer are no body"
        wait_for(lambda: not app.open, "the connection to be closed")


def test_small_chunks_are_a_body_all_the_same() -> None:
    with App(CHUNKED + chunk(b"x") * 50_000 + END) as app:
        assert playing(app, ask).body == b"x" * 50_000


def test_a_port_that_is_closed_is_told() -> None:
    with App(WHOLE) as app:
        app.vanish()
        assert "Connect call failed" in error_of(app)


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What an app shows, and what it is checked with."""
    directory = tmp_path_factory.mktemp("tls")
    shown = tls(directory)
    checked = ssl.create_default_context(cafile=directory / "certificate.pem")
    checked.check_hostname = False
    return shown, checked


@pytest.mark.parametrize("size", [5, 1_000_000])
def test_an_answer_may_come_over_tls(
    certified: tuple[ssl.SSLContext, ssl.SSLContext], size: int
) -> None:
    async def play(connections: Connections) -> list[Found]:
        return [await ask(connections) for _ in range(3)]

    with App(answer(b"x" * size), tls=certified[0]) as app:
        found = playing(app, play, certified[1])
        assert [(each.body, each.is_free) for each in found] == [(b"x" * size, True)] * 3
        assert app.connections == 1


def test_a_certificate_of_nobody_is_told(
    certified: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    with App(WHOLE, tls=certified[0]) as app, pytest.raises(UpstreamError, match="self-signed"):
        playing(app, ask, ssl.create_default_context())
    assert not app.asked


# --- more than is taken ---


def test_what_is_not_taken_is_left_to_the_app() -> None:
    """It is stopped by its own socket; and goes on when it is taken."""
    size = 20_000_000
    sent = [0]

    def send(sock: socket.socket) -> None:
        sock.sendall(answer(b"")[:-2].replace(b"Length: 0", b"Length: %d" % size) + b"\r\n")
        while sent[0] < size:
            sock.sendall(b"x" * 10_000)
            sent[0] += 10_000
        hold(sock)

    async def play(connections: Connections) -> tuple[int, int]:
        connection = await connections.take()
        await connection.ask(REQUEST)
        stopped = -1
        while stopped != sent[0]:
            stopped = sent[0]
            await asyncio.sleep(0.1)
        kept = connection._size
        body = await read(connection)
        assert len(body) == size
        assert connection.is_free
        connection.close()
        return stopped, kept

    with App(send) as app:
        stopped, kept = playing(app, play)
    # The kernel keeps some, too.
    assert stopped < size / 2
    assert 2 * PIECE <= kept <= 3 * PIECE


# --- connections ---


def test_the_connection_that_was_used_last_is_used_next() -> None:
    async def play(connections: Connections) -> None:
        first, second = await connections.take(), await connections.take()
        for each in (first, second):
            await each.ask(REQUEST)
            await read(each)
        connections.give_back(second)
        connections.give_back(first)
        again = [await connections.take(), await connections.take()]
        for each in again:
            connections.give_back(each)
        assert again == [first, second]

    with App(WHOLE) as app:
        playing(app, play)
        assert app.connections == 2


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"\r\n"])
def test_one_that_the_app_ends_or_speaks_on_unasked_is_not_used_again(said: bytes) -> None:
    def send(sock: socket.socket) -> None:
        sock.sendall(WHOLE)
        time.sleep(0.05)
        sock.sendall(said)
        if said:
            hold(sock)

    async def play(connections: Connections) -> None:
        assert (await ask(connections)).is_free
        (kept,) = connections._idle
        await asyncio.to_thread(wait_for, lambda: not kept.is_free)
        assert (await ask(connections)).body == METRICS
        assert kept not in connections._idle

    with App(send) as app:
        playing(app, play)
        assert app.connections == 2


def test_those_that_are_taken_are_closed_when_they_are_given_back() -> None:
    async def play(connections: Connections) -> None:
        taken, idle = await connections.take(), await connections.take()
        connections.give_back(idle)
        connections.close()
        await asyncio.to_thread(wait_for, lambda: len(app.open) == 1, "the idle one to be closed")
        await taken.ask(REQUEST)
        assert await read(taken) == METRICS
        assert taken.is_free
        connections.give_back(taken)
        await asyncio.to_thread(wait_for, lambda: not app.open, "the other one to be closed")

    with App(WHOLE) as app:
        playing(app, play)


def test_one_whose_answer_has_not_come_is_not_used_again() -> None:
    async def play(connections: Connections) -> None:
        connection = await connections.take()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.ask(REQUEST)
        connections.give_back(connection)
        assert not connections._idle

    with App(hold) as app:
        playing(app, play)
        wait_for(lambda: not app.open, "the connection to be closed")


@pytest.mark.parametrize("size", [1, PIECE + 1, 3 * PIECE])
def test_one_whose_answer_was_not_taken_is_not_used_again(size: int) -> None:
    """What is left of it is no part of the next."""

    async def play(connections: Connections) -> None:
        connection = await connections.take()
        await connection.ask(REQUEST)
        await asyncio.sleep(0.05)
        connections.give_back(connection)
        assert (await ask(connections)).body == b"x" * size

    with App(answer(b"x" * size)) as app:
        playing(app, play)
        assert app.connections == 2
