"""Who comes while no descriptor is left is hung up on. tests/test_faults.py has the real thing."""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Iterator

import pytest

from app.doorkeeper import Doorkeeper

FULL = OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        yield listening


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def test_each_that_waits_is_hung_up_on_and_it_is_said_once(
    listener: socket.socket, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Doorkeeper([listener])
    clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
    for client in clients:
        keeper(loop, {"exception": FULL, "socket": listener})
        with client:
            assert client.recv(1) == b""
    # Where nobody waits any more nothing is done.
    keeper(loop, {"exception": FULL, "socket": listener})
    keeper.close()
    assert caplog.text.count("no descriptor is left") == 1


@pytest.mark.parametrize(
    "context", [{"message": "what else"}, {"message": "a task", "exception": FULL}]
)
def test_all_else_is_told_as_ever(
    context: dict[str, object], loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Doorkeeper([])
    with caplog.at_level(logging.ERROR, "asyncio"):
        keeper(loop, context)
    keeper.close()
    assert str(context["message"]) in caplog.text
    assert "no descriptor" not in caplog.text
