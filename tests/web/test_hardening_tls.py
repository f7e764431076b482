"""Clients that begin TLS and do not end it, or send what is none: as bad ones without TLS."""

import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, ClassVar

import pytest

from app.protocol import Limits
from app.tls_protocol import TlsProtocol
from tests.builders import container
from tests.lab.certificates import Authority
from tests.web.apps import OLD, Served, wait_for
from tests.web.test_hardening import (
    GOOD,
    MANY,
    TARGETS,
    Heard,
    connect,
    connections,
    ended,
    ended_after,
    listen,
    one_answer,
)


class Tls(TlsProtocol):
    """One for whoever has a certificate or none, with limits a test can see the end of."""

    limits = Limits(receive=0.7, idle=2, unread=2.0, connections=100, unread_answers=4)
    made: ClassVar[ssl.SSLContext]

    @property
    def context(self) -> ssl.SSLContext:
        return self.made

    def is_welcome(self, _certificate: Mapping[str, Any]) -> bool:
        return True


class Patient(Tls):
    """One with the usual limits."""

    limits = Limits()


class Unwelcome(Tls):
    """One that lets nobody in."""

    def is_welcome(self, certificate: Mapping[str, Any]) -> bool:
        assert certificate == {}
        return False


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """What a good client has; the server has its pair from then on."""
    authority = Authority(tmp_path_factory.mktemp("tls"))
    Tls.made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Tls.made.load_cert_chain(*authority.sign("server"))
    return ssl.create_default_context(cafile=authority.file)


@pytest.fixture(scope="module")
def running(client: ssl.SSLContext) -> Iterator[Served]:
    with Served(*MANY, http=Tls) as running:
        # It is made once, by a thread that stays.
        with greeted(running, client) as tls:
            tls.sendall(TARGETS)
            one_answer(tls)
        yield running


@pytest.fixture
def served(running: Served) -> Iterator[Served]:
    yield running
    wait_for(lambda: not connections(running), "all to be gone")
    running.check()


@contextmanager
def greeted(served: Served, client: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with (
        connect(served.authority) as sock,
        client.wrap_socket(sock, server_hostname="127.0.0.1") as tls,
    ):
        yield tls


class ByHand:
    """The client's side of a greeting, of which a test decides what is sent when."""

    def __init__(self, client: ssl.SSLContext) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client.wrap_bio(self._in, self._out, server_hostname="127.0.0.1")

    def hello(self) -> bytes:
        """What the client says first."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._out.read()

    def end(self, sock: socket.socket) -> bytes:
        """What it says to the server's answer, last."""
        while True:
            self._in.write(sock.recv(65_536))
            with suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                return self._out.read()

    def said(self, heard: Heard) -> bytes:
        """What the server has said since then."""
        self._in.write(heard.said)
        return self.tls.read(65_536)

    def spoken(self, data: bytes) -> bytes:
        """That, as it is sent."""
        self.tls.write(data)
        return self._out.read()


def test_a_greeting_counts_as_a_part_of_the_first_request(
    served: Served, client: ssl.SSLContext
) -> None:
    hello = ByHand(client).hello()
    for begun in (b"", hello[:100], hello):
        with connect(served.authority) as sock:
            sock.sendall(begun)
            began = time.monotonic()
            listen(sock, 5)
            assert 0.4 < time.monotonic() - began < 3
    with greeted(served, client) as tls:
        assert 0.3 < ended_after(tls) < 3


def test_beside_hundreds_that_do_not_greet_every_request_is_answered(
    served: Served, client: ssl.SSLContext
) -> None:
    hello = ByHand(client).hello()
    most = 0
    with ExitStack() as stack:
        silent = []
        for number in range(300):
            silent.append(stack.enter_context(connect(served.authority)))
            with suppress(OSError):
                silent[-1].sendall((b"", hello[:100], hello)[number % 3])
            if number % 10 == 0:
                with greeted(served, client) as tls:
                    tls.sendall(GOOD)
                    assert one_answer(tls).startswith(b"HTTP/1.1 200 ")
                most = max(most, connections(served))
        wait_for(lambda: not connections(served), "all to be let go")
        assert len(silent) == 300
    assert 50 < most < Tls.limits.connections + 100


def test_what_comes_with_the_end_of_the_greeting_is_the_request(
    served: Served, client: ssl.SSLContext
) -> None:
    with connect(served.authority) as sock:
        by_hand = ByHand(client)
        sock.sendall(by_hand.hello())
        sock.sendall(by_hand.end(sock) + by_hand.spoken(GOOD))
        assert by_hand.said(listen(sock)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("said", [GOOD, b"\x16\x03\x01\x00\x05hello", b"\0" * 100], ids=range(3))
def test_what_is_no_tls_gets_no_answer_in_http(served: Served, said: bytes) -> None:
    with connect(served.authority) as sock:
        sock.sendall(said)
        heard = listen(sock, 5)
        assert b"HTTP" not in heard.said
        assert heard.ended


def test_one_that_hangs_up_while_it_greets_is_forgotten(client: ssl.SSLContext) -> None:
    with Served(container(OLD), http=Patient) as served:
        for begun in (b"", ByHand(client).hello()):
            with connect(served.authority) as sock:
                sock.sendall(begun)
                wait_for(lambda: connections(served) == 1)
            began = time.monotonic()
            wait_for(lambda: not connections(served))
            assert time.monotonic() - began < Patient.limits.receive / 2


def test_one_who_is_not_welcome_is_not_listened_to(client: ssl.SSLContext) -> None:
    with Served(container(OLD), http=Unwelcome) as served, greeted(served, client) as tls:
        with suppress(OSError):
            tls.sendall(GOOD)
            assert tls.recv(100) == b""
        wait_for(lambda: not connections(served))
        assert served._server.server_state.total_requests == 0


def test_the_end_does_not_wait_for_a_greeting(client: ssl.SSLContext) -> None:
    with (
        Served(container(OLD), http=Patient) as served,
        connect(served.authority) as silent,
        connect(served.authority) as begun,
    ):
        begun.sendall(ByHand(client).hello())
        wait_for(lambda: connections(served) == 2)
        began = time.monotonic()
        served.end()
        assert time.monotonic() - began < Patient.limits.receive / 2
        assert listen(silent).ended


def test_of_many_that_read_slowly_few_are_waited_for(
    served: Served, client: ssl.SSLContext
) -> None:
    with ExitStack() as stack:
        clients = []
        for _ in range(10):
            host, _, port = served.authority.rpartition(":")
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(20)
            sock.connect((host, int(port)))
            tls = stack.enter_context(client.wrap_socket(sock, server_hostname=host))
            tls.sendall(TARGETS)
            clients.append(tls)
        wait_for(lambda: ended(clients) == 6)
        # The others have their time.
        wait_for(lambda: ended(clients) == 10)
