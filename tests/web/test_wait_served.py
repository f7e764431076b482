"""/wait at a real server: who hangs up is forgotten, and who waits holds up nothing."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from app.model import Container
from tests.builders import container
from tests.lab.sd import Server
from tests.web.apps import Served, wait_for

OLD = container("shop-web-v1")
NEW = container("shop-web-v2", ago=5)
# Longer than the tests look on, so that the end of the time is not what they see.
WAITING = "/wait?service=shop&version=v2&timeout=20s"


@pytest.fixture
def served() -> Iterator[Served]:
    with Served(OLD) as place:
        yield place


def waiting(place: Served) -> int:
    """How many wait there. The relay listens for changes, too."""
    return len(place.state._told) - 1


def begin(authority: str) -> socket.socket:
    """A client that has asked, and listens."""
    host, _, port = authority.rpartition(":")
    sock = socket.create_connection((host, int(port)))
    sock.sendall(f"GET {WAITING} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    return sock


def test_one_that_hangs_up_is_waited_for_no_more(served: Served) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(begin(served.authority)) for _ in range(5)]
        wait_for(lambda: waiting(served) == 5, "all to wait")
        while clients:
            clients.pop().close()
            wait_for(lambda: waiting(served) == len(clients), "it to be forgotten")
    assert served.ask("/-/healthy").status == 200


def test_one_that_hangs_up_costs_the_others_nothing(served: Served) -> None:
    with begin(served.authority) as leaving, begin(served.authority) as staying:
        wait_for(lambda: waiting(served) == 2, "both to wait")
        leaving.close()
        served.removed(OLD.name)
        served.looked(NEW)
        staying.settimeout(20)
        assert staying.recv(4096).startswith(b"HTTP/1.1 200 ")
    wait_for(lambda: waiting(served) == 0, "nobody to wait")


def test_whoever_waits_holds_up_nobody_else(served: Served) -> None:
    answers: list[int] = []

    def wait() -> None:
        answers.append(served.ask(WAITING).status)

    threads = [threading.Thread(target=wait) for _ in range(20)]
    for thread in threads:
        thread.start()
    wait_for(lambda: waiting(served) == 20, "all to wait")
    for path in ("/targets", "/explain", "/metrics", "/-/ready"):
        assert served.ask(path).status == 200
    again: tuple[Container, ...] = (OLD, NEW)
    served.looked(*again)
    assert answers == []
    served.died(OLD.name)
    for thread in threads:
        thread.join()
    assert answers == [200] * 20


def test_beside_hundreds_that_would_wait_everybody_is_answered(served: Served) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(begin(served.authority)) for _ in range(600)]
        for each in clients[200:]:
            each.settimeout(20)
            assert each.recv(4096).startswith(b"HTTP/1.1 503 ")
        wait_for(lambda: waiting(served) == 200, "them to wait")
        for path in ("/targets", "/explain", "/-/healthy"):
            assert served.ask(path).status == 200
        refused = served.ask(WAITING)
        assert (refused.status, refused.body) == (503, b"too many are waiting already\n")
        clients[0].close()
        wait_for(lambda: waiting(served) == 199, "it to be forgotten")
        stack.enter_context(begin(served.authority))
        wait_for(lambda: waiting(served) == 200, "another one")


def test_whoever_waits_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """Whoever stops a service waits for 10 s before it is killed: `docker stop`, and Kamal."""
    with Server(tmp_path, f"unix://{tmp_path}/none.sock", wait=False) as server:
        server.wait_ready(lambda: _healthy(server))
        with begin(server.url.removeprefix("http://")) as client:
            time.sleep(0.3)
            began = time.monotonic()
            assert server.stop(15) == 0
            assert time.monotonic() - began < 9
            client.settimeout(20)
            client.recv(4096)
    assert "Traceback" not in server.tail(100_000)


def _healthy(server: Server) -> bool:
    try:
        return server.get("/-/healthy").is_success
    except httpx.TransportError:
        return False
