"""A server made of a socket, for the faults that no real engine can be made to show."""

import json
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

Answer = bytes | Callable[[socket.socket], None]


def answer(
    body: object, status: str = "200 OK", *, content_type: str = "application/json"
) -> bytes:
    """A whole answer, with a body in JSON unless it is made of bytes already."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status}\r\nConnection: close\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def chunked(*chunks: bytes, end: bytes = b"") -> bytes:
    """The begin of an answer in chunks; `b"0\\r\\n\\r\\n"` would end it."""
    head = (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head + b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in chunks) + end


def hold(sock: socket.socket) -> None:
    """Says nothing until the other side gives up."""
    with suppress(OSError):
        sock.recv(1)


def then_hold(content: bytes) -> Answer:
    """Sends the content, and leaves the connection open."""

    def send(sock: socket.socket) -> None:
        sock.sendall(content)
        hold(sock)

    return send


VERSION = answer({"ApiVersion": "1.41", "MinAPIVersion": "1.12"})
EMPTY = answer([])


class HandMade:
    """Answers each request by its path: the first key that the path contains decides.

    An answer of bytes is sent and the connection closed; a function gets the socket. `requests`
    has the request lines, `heads` all that came with them.
    """

    def __init__(self, answers: Mapping[str, Answer], *, unix: Path | None = None) -> None:
        self.requests: list[str] = []
        self.heads: list[str] = []
        self._answers = answers
        if unix:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(unix))
            self.url = f"unix://{unix}"
        else:
            self._listener = socket.socket()
            self._listener.bind(("127.0.0.1", 0))
            self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._open: set[socket.socket] = set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=[connection])
                self._open.add(connection)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                part = connection.recv(4096)
                if not part:
                    return
                head += part
            line, _, rest = head.decode().partition("\r\n")
            self.requests.append(line)
            self.heads.append(rest)
            for part_of_path, reply in self._answers.items():
                if part_of_path in line:
                    if isinstance(reply, bytes):
                        connection.sendall(reply)
                    else:
                        reply(connection)
                    return
            connection.sendall(answer({"message": "page not found"}, "404 Not Found"))

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        # A blocked accept does not notice that its socket is closed, but a shutdown wakes it.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
