"""Clients that are slow, greedy, odd or silent: they get their due, and the others theirs."""

import json
import os
import re
import select
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from app.protocol import Limits, Protocol
from app.storage import Storage
from tests.builders import container, labels, snapshot
from tests.lab.process import wait_until
from tests.lab.sd import Server
from tests.web.apps import OLD, TIMEOUT, WEB_PATH, Served, wait_for
from tests.web.sockets import CHUNKED, App, chunk, hold

HOST = b"Host: kamal-sd\r\n"
GET = b"GET /-/healthy HTTP/1.1\r\n"
POST = b"POST /targets HTTP/1.1\r\n"
GOOD = GET + HOST + b"\r\n"
TARGETS = b"GET /targets HTTP/1.1\r\n" + HOST + b"\r\n"
END = b"\r\n\r\n"


class Short(Protocol):
    """A protocol whose limits a test can see the end of."""

    limits = Limits(receive=0.5, idle=1, unread=1.5, connections=20, unread_answers=4)


class Few(Protocol):
    """A protocol that waits as long as the usual one, but not for many."""

    limits = Limits(connections=20, unread_answers=4)


class Heard(NamedTuple):
    """What came over a connection, and whether the server ended it."""

    said: bytes
    ended: bool

    @property
    def statuses(self) -> list[int]:
        return [int(each) for each in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.said)]


def connect(authority: str) -> socket.socket:
    host, _, port = authority.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def listen(sock: socket.socket, patience: float = 0.3) -> Heard:
    """All that comes until nothing more does for so long."""
    sock.settimeout(patience)
    said = b""
    try:
        while part := sock.recv(65_536):
            said += part
    except TimeoutError:
        return Heard(said, ended=False)
    except ConnectionResetError:
        pass
    return Heard(said, ended=True)


def one_answer(sock: socket.socket) -> bytes:
    """The next answer, whole, in however many pieces it comes. The connection stays open."""
    said = sock.recv(4096)
    while (end := said.find(b"\r\n\r\n")) < 0:
        said += sock.recv(4096)
    found = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", said[: end + 2])
    assert found
    while len(said) < end + 4 + int(found[1]):
        said += sock.recv(4096)
    assert len(said) == end + 4 + int(found[1])
    return said


def say(authority: str, data: bytes, patience: float = 0.3) -> Heard:
    with connect(authority) as sock:
        with suppress(OSError):
            sock.sendall(data)
        return listen(sock, patience)


def ask_and_close(authority: str) -> list[int]:
    return say(authority, GET + HOST + b"Connection: close\r\n\r\n", 10).statuses


def ended_after(sock: socket.socket) -> float:
    """The seconds until the server ends it, without a word."""
    began = time.monotonic()
    sock.settimeout(10)
    with suppress(ConnectionResetError):
        assert sock.recv(1) == b""
    return time.monotonic() - began


def ended(clients: Iterable[socket.socket]) -> int:
    """How many of them the server has ended, although they have not read all."""
    poll = select.poll()
    for each in clients:
        poll.register(each, select.POLLERR)
    return len(poll.poll(0))


@pytest.fixture(scope="module")
def usual() -> Iterator[Served]:
    with Served(container(OLD)) as served:
        yield served


@pytest.fixture
def short() -> Iterator[Served]:
    with Served(container(OLD), http=Short) as served:
        yield served


@pytest.fixture
def few() -> Iterator[Served]:
    with Served(container(OLD), http=Few) as served:
        yield served


# An answer after which the connection goes on, and one after which it does not.
OPEN, CLOSED = False, True
ODD = {
    "an unknown method": (b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", 400, CLOSED),
    "a method with a sign": (b"G@T / HTTP/1.1\r\n" + HOST + b"\r\n", 400, CLOSED),
    "DELETE": (b"DELETE /targets HTTP/1.1\r\n" + HOST + b"\r\n", 405, OPEN),
    "TRACE": (b"TRACE /targets HTTP/1.1\r\n" + HOST + b"\r\n", 405, OPEN),
    "OPTIONS": (b"OPTIONS /targets HTTP/1.1\r\n" + HOST + b"\r\n", 405, OPEN),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 405, OPEN),
    "GET *": (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400, CLOSED),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\n" + HOST + b"\r\n", 501, CLOSED),
    "HEAD": (b"HEAD /targets HTTP/1.1\r\n" + HOST + b"\r\n", 200, OPEN),
    "HTTP/0.9": (b"GET /-/healthy\r\n\r\n", 505, CLOSED),
    "HTTP/1.2": (b"GET /-/healthy HTTP/1.2\r\n" + HOST + b"\r\n", 400, CLOSED),
    "HTTP/2.0": (b"GET /-/healthy HTTP/2.0\r\n" + HOST + b"\r\n", 505, CLOSED),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, CLOSED),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, CLOSED),
    "HTTP/1.0": (b"GET /-/healthy HTTP/1.0\r\n\r\n", 200, CLOSED),
    "no Host": (GET + b"\r\n", 400, CLOSED),
    "an empty Host": (GET + b"Host:\r\n\r\n", 200, OPEN),
    "two Hosts": (GET + HOST + HOST + b"\r\n", 400, CLOSED),
    "a Host with a blank": (GET + b"Host: a b\r\n\r\n", 400, CLOSED),
    "a Host with a path": (GET + b"Host: a/b\r\n\r\n", 400, CLOSED),
    "length and chunks": (
        POST + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        CLOSED,
    ),
    "chunks": (POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411, CLOSED),
    "chunks, hidden": (POST + HOST + b"Transfer-Encoding: xchunked\r\n\r\n", 411, CLOSED),
    "chunks in HTTP/1.0": (
        b"POST /targets HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        411,
        CLOSED,
    ),
    "two lengths": (
        POST + HOST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
        400,
        CLOSED,
    ),
    "the same length twice": (POST + HOST + b"Content-Length: 0, 0\r\n\r\n", 400, CLOSED),
    "a length below zero": (POST + HOST + b"Content-Length: -1\r\n\r\n", 400, CLOSED),
    "a length with a sign": (POST + HOST + b"Content-Length: +1\r\n\r\n", 400, CLOSED),
    "a length beyond numbers": (
        POST + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n",
        400,
        CLOSED,
    ),
    "a small body": (POST + HOST + b"Content-Length: 5\r\n\r\nhello", 405, OPEN),
    "a big body": (
        POST + HOST + b"Content-Length: 1000000\r\n\r\n" + b"x" * 1_000_000,
        413,
        CLOSED,
    ),
    "a folded header": (GET + HOST + b"A: b\r\n c\r\n\r\n", 400, CLOSED),
    "a blank before the colon": (GET + b"Host : a\r\n\r\n", 400, CLOSED),
    "no colon": (GET + HOST + b"A\r\n\r\n", 400, CLOSED),
    "no name": (GET + HOST + b": a\r\n\r\n", 400, CLOSED),
    "NUL in a value": (GET + HOST + b"A: b\x00c\r\n\r\n", 400, CLOSED),
    "NUL in a name": (GET + HOST + b"A\x00: b\r\n\r\n", 400, CLOSED),
    "NUL in the path": (b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n", 400, CLOSED),
    "NUL in the path, encoded": (b"GET /targets%00 HTTP/1.1\r\n" + HOST + b"\r\n", 404, OPEN),
    "a carriage return alone": (GET + HOST + b"A: b\rC: d\r\n\r\n", 400, CLOSED),
    "line feeds alone": (b"GET /-/healthy HTTP/1.1\nHost: a\n\n", 400, CLOSED),
    "a line feed alone at the end": (GET + b"Host: a\r\n\n", 400, CLOSED),
    "empty lines before": (END + GOOD, 200, OPEN),
    "bytes beyond ASCII in a value": (GET + HOST + b"A: \xff\xfe\r\n\r\n", 200, OPEN),
    "bytes beyond ASCII in the path": (b"GET /\xc3\xa4 HTTP/1.1\r\n" + HOST + b"\r\n", 400, CLOSED),
    "a blank in the path": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400, CLOSED),
    "a path without a slash": (b"GET targets HTTP/1.1\r\n" + HOST + b"\r\n", 400, CLOSED),
    "a whole URL": (b"GET http://a/-/healthy HTTP/1.1\r\n" + HOST + b"\r\n", 200, OPEN),
    "a whole URL without a path": (b"GET http://a HTTP/1.1\r\n" + HOST + b"\r\n", 200, OPEN),
    "a URL of another kind": (b"GET ftp://a/-/healthy HTTP/1.1\r\n" + HOST + b"\r\n", 400, CLOSED),
    "a path upwards": (b"GET /page/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + HOST + END, 404, OPEN),
    "a path with a line's end": (b"GET /%0d%0aA:b HTTP/1.1\r\n" + HOST + b"\r\n", 404, OPEN),
    "a path that is no UTF-8": (b"GET /%ff%fe HTTP/1.1\r\n" + HOST + b"\r\n", 404, OPEN),
    "a path that is encoded badly": (b"GET /%zz%2 HTTP/1.1\r\n" + HOST + b"\r\n", 404, OPEN),
    "a path with two slashes": (b"GET //targets HTTP/1.1\r\n" + HOST + b"\r\n", 404, OPEN),
    "a head of 8 KB": (GET + HOST + b"A: " + b"x" * 8_000 + END, 200, OPEN),
    "a header too long": (GET + HOST + b"A: " + b"x" * 1_000_000 + END, 431, CLOSED),
    "a header without an end": (GET + HOST + b"A: " + b"x" * 1_000_000, 431, CLOSED),
    "too many headers": (GET + HOST + b"A: b\r\n" * 20_000 + b"\r\n", 431, CLOSED),
    "a path too long": (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n" + HOST + END, 431, CLOSED),
    "WebSocket": (GET + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 200, CLOSED),
    "HTTP/2 without TLS": (GET + HOST + b"Connection: Upgrade\r\nUpgrade: h2c" + END, 200, CLOSED),
}


@pytest.mark.parametrize(("data", "status", "ended"), ODD.values(), ids=ODD)
def test_an_odd_request_has_its_answer(
    usual: Served, data: bytes, status: int, ended: bool
) -> None:
    heard = say(usual.authority, data)
    assert (heard.statuses, heard.ended) == ([status], ended)
    usual.check()


def test_requests_at_once_are_answered_one_after_the_other(usual: Served) -> None:
    heard = say(usual.authority, GOOD * 10)
    assert heard.statuses == [200] * 10
    assert not heard.ended


def test_a_bad_request_takes_nothing_from_those_before(usual: Served) -> None:
    heard = say(usual.authority, GOOD * 2 + b"BAD" + END + GOOD)
    assert heard.statuses == [200, 200, 400]
    assert heard.ended


def test_more_requests_at_once_than_anyone_needs_are_refused(usual: Served) -> None:
    statuses = say(usual.authority, GOOD * 1_000).statuses
    assert statuses == [200] * (len(statuses) - 1) + [400]
    assert len(statuses) == 1 + Limits().pipelined + 1


def test_what_follows_the_last_request_is_not_read(usual: Served) -> None:
    for last in (GET + HOST + b"Connection: close" + END, b"GET /-/healthy HTTP/1.0" + END):
        heard = say(usual.authority, last + GOOD)
        assert heard.statuses == [200]
        assert heard.ended


def test_http_1_0_gets_no_chunks() -> None:
    long = [chunk(b"a" * 100_000), chunk(b"b" * 100_000), chunk(b"")]
    with App(b"".join([CHUNKED, *long])) as app, Served(container(OLD, ip=app.ip)) as served:
        heard = say(served.authority, f"GET {WEB_PATH} HTTP/1.0\r\n\r\n".encode())
        head, _, body = heard.said.partition(END)
        assert b"transfer-encoding" not in head
        assert body == b"a" * 100_000 + b"b" * 100_000
        assert heard.ended
        assert say(served.authority, b"GET /-/healthy HTTP/1.0" + END).said.endswith(b"healthy.\n")


@pytest.mark.parametrize("begun", [b"", GET, b"\r\n", POST + HOST + b"Content-Length: 9\r\n\r\n"])
def test_a_request_that_does_not_end_is_waited_for_so_long(short: Served, begun: bytes) -> None:
    with connect(short.authority) as sock:
        sock.sendall(begun)
        if begun.startswith(POST):
            assert one_answer(sock).startswith(b"HTTP/1.1 405 ")
        assert 0.3 < ended_after(sock) < 1.5


def test_a_request_that_comes_in_drops_gets_no_longer(short: Served) -> None:
    with connect(short.authority) as sock:
        began = time.monotonic()
        with pytest.raises(OSError), suppress(TimeoutError):  # noqa: PT011, PT012 - any end of it
            for each in GET * 10:
                sock.sendall(bytes([each]))
                time.sleep(0.05)
        assert 0.3 < time.monotonic() - began < 1.5


def test_a_connection_is_kept_between_requests_but_not_for_ever(short: Served) -> None:
    with connect(short.authority) as sock:
        for _ in range(3):
            sock.sendall(GOOD)
            assert one_answer(sock).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.7)
        assert 0.1 < ended_after(sock) < 1.5


def test_the_idle_time_is_longer_than_a_scrape_interval() -> None:
    assert Limits().idle > 60


def test_one_whose_request_was_answered_early_does_not_stay(short: Served) -> None:
    with connect(short.authority) as sock:
        sock.sendall(POST + HOST + b"Content-Length: 5\r\n\r\n")
        assert one_answer(sock).startswith(b"HTTP/1.1 405 ")
        sock.sendall(b"hello")
        assert 0.7 < ended_after(sock) < 3


def test_when_full_those_that_say_nothing_go_first(few: Served) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(few.authority)) for _ in range(5)]
        for each in idle:
            each.sendall(GOOD)
            assert one_answer(each).startswith(b"HTTP/1.1 200 ")
        silent = [stack.enter_context(connect(few.authority)) for _ in range(30)]
        assert ask_and_close(few.authority) == [200]
        wait_for(lambda: ended(silent) >= 15)
        for each in idle:
            each.sendall(GOOD)
            assert one_answer(each).startswith(b"HTTP/1.1 200 ")
        assert ended(silent) < 20


def test_when_full_of_those_that_are_served_the_next_has_to_go(few: Served) -> None:
    with ExitStack() as stack:
        streams = [stack.enter_context(connect(few.authority)) for _ in range(20)]
        for each in streams:
            each.sendall(b"GET /events HTTP/1.1\r\n" + HOST + b"\r\n")
            assert each.recv(4096).startswith(b"HTTP/1.1 200 ")
        late = stack.enter_context(connect(few.authority))
        late.sendall(b"GET /wait?service=shop&version=v9 HTTP/1.1\r\n" + HOST + b"\r\n")
        assert ended_after(late) < 2
        assert ended(streams) == 0


def test_when_full_one_that_has_left_makes_no_room(few: Served) -> None:
    waiting = b"GET /wait?service=shop&version=v9 HTTP/1.1\r\n" + HOST + b"\r\n"
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(few.authority)).sendall(waiting)
        wait_for(lambda: connections(few) == 20)
        with connect(few.authority) as leaving:
            leaving.sendall(waiting)
            wait_for(lambda: connections(few) == 21)
        late = stack.enter_context(connect(few.authority))
        late.sendall(waiting)
        assert ended_after(late) < 2
        few.check()


def test_a_stream_that_is_read_goes_on(short: Served) -> None:
    with connect(short.authority) as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\n" + HOST + b"\r\n")
        heard = listen(sock, 2.5)
        assert heard.said.startswith(b"HTTP/1.1 200 ")
        assert not heard.ended


# Sockets of an engine that is not there are left to the garbage collector by docker-py.
SPARE = 10
# A megabyte of /targets.
MANY = [
    container(f"s{number}-web-v1", ip=f"172.18.{number // 250}.9", labels=labels(f"s{number}"))
    for number in range(1_200)
]


def slow(authority: str, window: int = 4096, request: bytes = TARGETS) -> socket.socket:
    """A client that asks for much, and whose kernel takes no more of it than so many bytes."""
    host, _, port = authority.rpartition(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    sock.settimeout(20)
    sock.connect((host, int(port)))
    sock.sendall(request)
    return sock


@pytest.fixture(scope="module")
def big() -> Iterator[Served]:
    with Served(*MANY, http=Short) as served:
        # It is made once, which takes a while.
        assert say(served.authority, TARGETS, 10).statuses == [200]
        yield served


# The version and the headers of a request, and whether the connection stays after its answer.
WISHES = [(b"1.1", b"", True), (b"1.1", b"Connection: close\r\n", False), (b"1.0", b"", False)]


def ends_as_wished(served: Served, path: str, version: bytes, headers: bytes, stays: bool) -> None:
    """Asserts that the answer is the usual one, and that its connection stays, or ends."""
    whole = served.ask(path).body
    host = served.authority.encode()
    request = b"GET %s HTTP/%s\r\nHost: %s\r\n%s\r\n" % (path.encode(), version, host, headers)
    with connect(served.authority) as sock:
        sock.sendall(request)
        head, _, body = one_answer(sock).partition(b"\r\n\r\n")
        assert body == whole
        assert (b"connection: close" in head) == (not stays)
        sock.settimeout(0.2)
        if stays:
            with pytest.raises(TimeoutError):
                sock.recv(1)
        else:
            assert sock.recv(1) == b""


def connections(served: Served) -> int:
    return len(served._server.server_state.connections)


def test_an_answer_that_is_not_read_is_waited_for_so_long(big: Served) -> None:
    with slow(big.authority):
        wait_for(lambda: connections(big) == 1)
        wait_for(lambda: big._server.server_state.tasks)
        began = time.monotonic()
        wait_for(lambda: not connections(big))
        assert 0.5 < time.monotonic() - began < 4
        wait_for(lambda: not big._server.server_state.tasks)


def test_an_answer_that_is_read_slowly_is_read_to_its_end(big: Served) -> None:
    whole = say(big.authority, TARGETS).said.partition(END)[2]
    began = time.monotonic()
    with slow(big.authority, 32_768) as sock:
        said = part = sock.recv(16_384)
        while part and not said.endswith(whole[-100:]):
            part = sock.recv(16_384)
            said += part
            time.sleep(0.03)
    assert said.partition(END)[2] == whole
    assert time.monotonic() - began > Short.limits.unread


def test_of_many_that_read_slowly_few_are_waited_for() -> None:
    with Served(*MANY, http=Few) as served, ExitStack() as stack:
        clients = [stack.enter_context(slow(served.authority)) for _ in range(10)]
        wait_for(lambda: ended(clients) == 6)
        assert say(served.authority, GOOD).statuses == [200]
        assert ended(clients) == 6


def test_of_many_that_read_a_scrape_slowly_few_hold_a_connection_to_the_app() -> None:
    def five_megabytes(sock: socket.socket) -> None:
        with suppress(OSError):
            sock.sendall(CHUNKED + chunk(b"x" * 5_000_000))
            hold(sock)

    scrape = f"GET {WEB_PATH} HTTP/1.1\r\n{TIMEOUT}: 60\r\n".encode() + HOST + b"\r\n"
    with (
        App(five_megabytes) as app,
        Served(container(OLD, ip=app.ip), http=Few) as served,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(slow(served.authority, request=scrape)) for _ in range(10)]
        wait_for(lambda: app.connections == 10 and ended(clients) == 6)
        wait_for(lambda: len(app.open) == 4)
        assert ask_and_close(served.authority) == [200]
        stack.close()
        wait_for(lambda: not app.open)


class Outside:
    """`kamal-sd serve` that knows much from its last run, and what the kernel says of it."""

    def __init__(self, directory: Path) -> None:
        url = f"unix://{directory}/none.sock"
        Storage(directory / "data", lambda _: True).save(snapshot(*MANY), url)
        self.server = Server(directory, env={"KAMAL_SD_ENGINES": json.dumps([{"url": url}])})
        self.authority = self.server.url.removeprefix("http://")
        self._proc = Path("/proc") / str(self.server.pid)

    def descriptors(self) -> int:
        return len(os.listdir(self._proc / "fd"))  # noqa: PTH208 - names are enough

    def megabytes(self) -> float:
        """What it holds, and what the kernel holds for its clients.

        Format: https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html
        """
        status = (self._proc / "status").read_text()
        resident = int(status.partition("VmRSS:")[2].split()[0]) * 1024
        sockets = [line.split() for line in (self._proc / "net/tcp").read_text().splitlines()]
        port = f":{int(self.authority.rpartition(':')[2]):04X}"
        sent = [int(each[4][:8], 16) for each in sockets if each[1].endswith(port)]
        return (resident + sum(sent)) / 1e6


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    place = Outside(tmp_path_factory.mktemp("outside"))
    with place.server:
        yield place


@pytest.mark.parametrize("begun", [b"", GET + b"Host:"])
def test_beside_a_thousand_that_do_not_ask_every_request_is_answered(
    outside: Outside, begun: bytes
) -> None:
    before = outside.descriptors()
    with ExitStack() as stack:
        for number in range(1_000):
            sock = stack.enter_context(connect(outside.authority))
            with suppress(OSError):
                sock.sendall(begun)
            if number % 20 == 0:
                assert ask_and_close(outside.authority) == [200]
        for _ in range(100):
            assert ask_and_close(outside.authority) == [200]
        assert outside.descriptors() < before + Limits().connections + SPARE
        wait_until(lambda: outside.descriptors() <= before + SPARE, Limits().receive + 5, "the end")


@pytest.mark.parametrize("path", ["/targets", "/explain"])
def test_two_hundred_that_do_not_read_hold_little_memory(outside: Outside, path: str) -> None:
    assert len(outside.server.get(path).content) > 1_000_000
    request = TARGETS.replace(b"/targets", path.encode())
    before, descriptors = outside.megabytes(), outside.descriptors()
    most = before
    with ExitStack() as stack:
        clients = [
            stack.enter_context(slow(outside.authority, request=request)) for _ in range(200)
        ]
        end = time.monotonic() + 30
        while ended(clients) < len(clients) - Limits().unread_answers:
            assert time.monotonic() < end
            most = max(most, outside.megabytes())
            time.sleep(0.1)
        assert ask_and_close(outside.authority) == [200]
    assert most - before < len(clients) * 0.4
    wait_for(lambda: outside.descriptors() <= descriptors + SPARE)


def test_those_that_read_fast_and_then_no_more_hold_as_little(outside: Outside) -> None:
    size = len(say(outside.authority, TARGETS).said.partition(END)[2])
    before = outside.megabytes()
    with ExitStack() as stack:
        # As many as are waited for, so that none makes room for another.
        clients = [
            stack.enter_context(slow(outside.authority, window=65_536))
            for _ in range(Limits().unread_answers)
        ]
        for sock in clients:
            for _ in range(3):
                read = len(sock.recv(65_536))
                while read < size:
                    read += len(sock.recv(65_536))
                sock.sendall(TARGETS)
        end = time.monotonic() + 1
        most = before
        while time.monotonic() < end:
            most = max(most, outside.megabytes())
            time.sleep(0.1)
        assert not ended(clients)
    assert most - before < len(clients) * 0.4
