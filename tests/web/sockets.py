"""Apps made of sockets at loopback addresses, each of which is a container's.

Any address in 127.0.0.0/8 can be bound, so one can be given from a container to the next.
"""

import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import NamedTuple, Self

PORT = 9394
TEXT = "text/plain; version=0.0.4; charset=utf-8"

_numbers = count()


def fresh_ip() -> str:
    """A loopback address that no other test has, nor any run beside this one."""
    number = next(_numbers)
    return f"127.{1 + os.getpid() % 250}.{number // 250}.{1 + number % 250}"


def answer(body: bytes, status: str = "200 OK", *more: str, content_type: str = TEXT) -> bytes:
    """A whole answer, after which the connection stays open; `more` are header lines."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunk(body: bytes) -> bytes:
    """A chunk of an answer that is sent in chunks."""
    return b"%x\r\n%s\r\n" % (len(body), body)


# What the two generations that most tests are about answer with.
FIRST, SECOND = answer(b"version 1\n"), answer(b"version 2\n")
CHUNKED = answer(b"", "200 OK").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")


def reset(sock: socket.socket) -> None:
    """Breaks the connection as a kernel does for a port that nobody has any more."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hold(sock: socket.socket) -> None:
    """Says nothing until the other side gives up."""
    with suppress(OSError):
        while sock.recv(4096):
            pass


class Asked(NamedTuple):
    """A request as an app got it: on which of its connections, and with what headers."""

    line: str
    headers: dict[str, str]
    connection: int


Reply = bytes | Callable[[socket.socket], object]


class App:
    """What listens in a container. It answers each request with its `reply`, which may be changed.

    After an answer of bytes it waits for the next request; a function gets the socket, which is
    closed after it. `open` are its connections; `ended` counts those that the other side has closed
    while a request was awaited.
    """

    def __init__(
        self,
        reply: Reply,
        ip: str = "",
        port: int = PORT,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.reply = reply
        self.ip = ip or fresh_ip()
        self.asked: list[Asked] = []
        self.connections = 0
        self.ended = 0
        self._tls = tls
        self.open: set[socket.socket] = set()
        self._listener = listener_at(self.ip, port)
        self._listener.listen(512)
        self._threads = [threading.Thread(target=self._accept)]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self.open.add(connection)
                thread = threading.Thread(target=self._serve, args=[connection, self.connections])
                self._threads = [each for each in self._threads if each.is_alive()]
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            with connection, suppress(OSError):
                if self._tls is None:
                    self._converse(connection, number)
                else:
                    with self._tls.wrap_socket(connection, server_side=True) as wrapped:
                        self._converse(wrapped, number)
        finally:
            self.open.discard(connection)

    def _converse(self, connection: socket.socket, number: int) -> None:
        while head := self._head(connection):
            line, *headers = head.decode("latin-1").split("\r\n")
            pairs = (each.split(": ", 1) for each in headers if each)
            self.asked.append(Asked(line, {name.lower(): text for name, text in pairs}, number))
            reply = self.reply
            if not isinstance(reply, bytes):
                reply(connection)
                return
            connection.sendall(reply)

    def _head(self, connection: socket.socket) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            try:
                part = connection.recv(65_536)
            except OSError:
                part = b""
            if not part:
                self.ended += 1
                return b""
            head += part
        return head

    def vanish(self) -> None:
        """Ends at once, as a process does that is killed; its address can be taken again."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.vanish()
        for thread in self._threads:
            thread.join()


def listener_at(ip: str, port: int) -> socket.socket:
    """A socket that is bound there, although another one may just have been."""
    listener = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((ip, port))
    return listener


@contextmanager
def deaf(ip: str) -> Iterator[None]:
    """A listener that takes no connection any more: to connect to it hangs."""
    with listener_at(ip, PORT) as listener:
        listener.listen(0)
        waiting = []
        try:
            while True:
                waiting.append(socket.socket())
                waiting[-1].settimeout(0.1)
                waiting[-1].connect((ip, PORT))
        except TimeoutError:
            yield
        finally:
            for each in waiting:
                each.close()


@contextmanager
def later(seconds: float, action: Callable[[], object]) -> Iterator[None]:
    """Has something done after a while, at the latest before the context ends."""
    timer = threading.Timer(seconds, action)
    timer.start()
    try:
        yield
    finally:
        timer.join()
