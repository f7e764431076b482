"""A unix socket in front of an engine's: it hands on everything, and writes down what was asked."""

import re
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self


class Forwarder:
    """Hands connections on to the engine's socket, until it is told to cut them or to refuse.

    `requests` has the request lines of all connections.
    """

    def __init__(self, path: Path, engine: Path) -> None:
        self.url = f"unix://{path}"
        self.requests: list[str] = []
        self._engine = engine
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, name="forwarder")

    def cut(self) -> None:
        """Ends every connection in the middle of whatever it was."""
        with self._lock:
            for pair in self._pairs:
                for each in pair:
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(str(self._engine))
                except OSError:
                    client.close()
                    server.close()
                    continue
                self._threads = [each for each in self._threads if each.is_alive()]
                self._begin(client, server)

    def _begin(self, client: socket.socket, server: socket.socket) -> None:
        pair = (client, server)
        with self._lock:
            self._pairs.add(pair)
        thread = threading.Thread(target=self._serve, args=pair, name="forwarded")
        self._threads.append(thread)
        thread.start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        back = threading.Thread(target=_pump, args=(server, client), name="forwarded back")
        back.start()
        with suppress(OSError):
            self._read_requests(client, server)
        for each in (client, server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        back.join()
        with self._lock:
            self._pairs.discard((client, server))
        client.close()
        server.close()

    def _read_requests(self, client: socket.socket, server: socket.socket) -> None:
        rest = b""
        # How much of a body is still to come.
        body = 0
        while part := client.recv(65_536):
            rest += part
            while True:
                rest, body = rest[body:], max(0, body - len(rest))
                if b"\r\n\r\n" not in rest:
                    break
                head, _, rest = rest.partition(b"\r\n\r\n")
                self.requests.append(head.decode().partition("\r\n")[0])
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                body = int(length[1]) if length else 0
            server.sendall(part)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65_536):
            sink.sendall(part)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
