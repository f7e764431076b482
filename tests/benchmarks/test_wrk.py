"""What wrk counts as failed."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.benchmarks import wrk
from tests.lab.packages import require

pytestmark = pytest.mark.real

ANSWER = "HTTP/1.1 {} Words\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module", autouse=True)
def _wrk() -> None:
    require("wrk")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as opened:
        yield opened


def counted(listener: socket.socket, tmp_path: Path, answer: str, *, after: float = 0) -> wrk.Count:
    """What is counted in a second in which each connection is given the answer and closed."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with closing(connection):
                connection.recv(4096)
                time.sleep(after)
                connection.sendall(answer.encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    with wrk.begin(f"http://127.0.0.1:{port}/metrics", tmp_path / "wrk.log") as process:
        time.sleep(1)
        count = wrk.end(process)
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    return count


def test_answers_are_no_failures(listener: socket.socket, tmp_path: Path) -> None:
    count = counted(listener, tmp_path, ANSWER.format(200))
    assert count.requests > 10
    assert count.failed == 0
    assert count.longest < 0.5
    assert abs(time.time() - count.ended) < 1


@pytest.mark.parametrize("status", [302, 503])
def test_other_statuses_are(listener: socket.socket, tmp_path: Path, status: int) -> None:
    count = counted(listener, tmp_path, ANSWER.format(status))
    assert count.requests == count.failed > 10


def test_connections_that_end_without_an_answer_are(
    listener: socket.socket, tmp_path: Path
) -> None:
    count = counted(listener, tmp_path, "")
    assert count.requests == count.failed > 10


def test_a_connection_that_hangs_is_a_long_wait(listener: socket.socket, tmp_path: Path) -> None:
    count = counted(listener, tmp_path, "", after=5)
    assert (count.requests, count.failed) == (0, 0)
    assert count.longest > 0.8
