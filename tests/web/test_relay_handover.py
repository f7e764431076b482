"""A deploy costs no scrape: containers that vanish at any moment, and addresses that change hands.

The engine's word comes a little after a container is cut off, so these tests give it later, too.
"""

import socket
import time
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from http.client import IncompleteRead
from threading import Event
from typing import Final

import pytest

from tests.builders import container
from tests.web.apps import NEW, OLD, TIMEOUT, WEB_PATH, Served, next_one, wait_for
from tests.web.sockets import (
    CHUNKED,
    FIRST,
    PORT,
    App,
    Reply,
    answer,
    chunk,
    deaf,
    fresh_ip,
    hold,
    later,
    reset,
)

LONG: Final = {TIMEOUT: "10"}


def cut(*parts: bytes) -> Reply:
    """Sends so much, and ends the connection."""

    def send(sock: socket.socket) -> None:
        with suppress(OSError):
            for part in parts:
                sock.sendall(part)

    return send


def cut_hard(*parts: bytes) -> Reply:
    def send(sock: socket.socket) -> None:
        with suppress(OSError):
            for part in parts:
                sock.sendall(part)
            time.sleep(0.01)
            reset(sock)

    return send


WHOLE = answer(b"x" * 10_000)
LARGE = b"x" * 300_000
ENDS = {
    "closed at once": cut(),
    "reset at once": cut_hard(),
    "cut in the status line": cut(b"HTTP/1.1 20"),
    "cut in the head": cut(WHOLE[:60]),
    "cut after the head": cut(answer(b"")[:-1].replace(b"Length: 0", b"Length: 5")),
    "cut in a small answer": cut(WHOLE[:-1]),
    "reset in a small answer": cut_hard(WHOLE[:5000]),
    "cut in a small chunk": cut(CHUNKED, chunk(b"x" * 100)[:-10]),
    "cut between chunks": cut(CHUNKED, chunk(b"x" * 100)),
    "cut before the last line": cut(CHUNKED, chunk(b"x" * 100), b"0\r\n"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("delay", [0.0, 0.2])
def test_the_successor_answers_where_the_old_one_breaks_off(
    old: App, new: App, served: Served, end: Callable[[socket.socket], None], delay: float
) -> None:
    served.looked(next_one(new))

    def end_of_it(sock: socket.socket) -> None:
        end(sock)
        if not delay:
            served.died(OLD)

    old.reply = end_of_it
    with later(delay, lambda: served.died(OLD)) if delay else nullcontext():
        found = served.ask(headers=LONG)
    assert (found.status, found.body) == (200, b"version 2\n")
    assert len(new.asked) == 1
    served.counts(handed_over=1)


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3])
def test_the_successor_answers_where_the_old_one_refuses(
    old: App, new: App, served: Served, delay: float
) -> None:
    served.looked(next_one(new))
    old.vanish()
    with later(delay, lambda: served.died(OLD)):
        assert served.ask(headers=LONG).body == b"version 2\n"
    assert not old.asked


@pytest.mark.parametrize("delay", [0.1, 0.3])
def test_the_successor_answers_where_the_old_one_takes_no_connection(
    new: App, served: Served, delay: float
) -> None:
    ip = fresh_ip()
    with deaf(ip):
        served.begin_with(container(OLD, ip=ip), next_one(new))
        with later(delay, lambda: served.died(OLD)):
            assert served.ask(headers=LONG).body == b"version 2\n"
        served.counts(handed_over=1)


@pytest.mark.parametrize("begun", [b"", WHOLE[:60], WHOLE[:-1]])
def test_the_successor_answers_where_the_old_one_falls_silent(
    old: App, new: App, served: Served, begun: bytes
) -> None:
    """A container that is cut off from its network sends no end of a connection."""
    served.looked(next_one(new))

    def fall_silent(sock: socket.socket) -> None:
        sock.sendall(begun)
        hold(sock)

    old.reply = fall_silent
    with later(0.2, lambda: served.died(OLD)):
        assert served.ask(headers=LONG).body == b"version 2\n"
    wait_for(lambda: not old.open, "the connection to be closed")
    served.counts(handed_over=1)


def test_the_successor_may_be_seen_only_after_the_old_one_has_ended(
    old: App, new: App, served: Served
) -> None:
    old.vanish()

    def reboot() -> None:
        served.looked(next_one(new))
        served.died(OLD)

    with later(0.2, reboot):
        assert served.ask(headers=LONG).body == b"version 2\n"


def test_a_container_that_is_started_again_elsewhere_answers(
    old: App, new: App, served: Served
) -> None:
    old.vanish()
    with later(0.2, lambda: served.looked(container(OLD, ip=new.ip))):
        assert served.ask(headers=LONG).body == b"version 2\n"


def test_an_answer_that_came_whole_from_the_dead_is_not_believed(
    old: App, new: App, served: Served
) -> None:
    """What held the address when it ended may have been another."""
    served.looked(next_one(new))

    def die_and_answer(sock: socket.socket) -> None:
        served.died(OLD)
        with suppress(OSError):
            sock.sendall(FIRST)

    old.reply = die_and_answer
    assert served.ask(headers=LONG).body == b"version 2\n"


def test_an_answer_that_ends_with_its_connection_may_be_half_of_one(
    old: App, new: App, served: Served
) -> None:
    """Only the engine tells an end from a death there."""
    served.looked(next_one(new))

    def die(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nversi")
        time.sleep(0.05)
        served.died(OLD)

    old.reply = die
    assert served.ask(headers=LONG).body == b"version 2\n"


@pytest.mark.parametrize("length", [True, False], ids=["with a length", "in chunks"])
@pytest.mark.parametrize("end", [cut(), cut_hard(), hold], ids=["closed", "reset", "silent"])
@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
def test_a_large_answer_that_was_begun_is_broken_off_and_never_spliced(
    old: App,
    new: App,
    served: Served,
    length: bool,
    end: Callable[[socket.socket], None],
    told: bool,
) -> None:
    served.looked(next_one(new))
    begun = Event()

    def send_half(sock: socket.socket) -> None:
        sock.sendall(answer(LARGE)[:-1000] if length else CHUNKED + chunk(LARGE))
        begun.wait(10)
        if told or end is hold:
            served.died(OLD)
        end(sock)

    old.reply = send_half
    with closing(served.connect()) as connection:
        connection.request("GET", WEB_PATH, headers=LONG)
        response = connection.getresponse()
        assert response.read(1) == b"x"
        begun.set()
        with pytest.raises(IncompleteRead) as broken:
            response.read()
    assert set(broken.value.partial) <= {ord("x")}
    assert len(broken.value.partial) < len(LARGE)
    assert len(old.asked) == 1
    assert not new.asked
    served.counts(broken=1)


def test_without_a_word_of_the_engine_it_says_what_happened(served: Served) -> None:
    began = time.monotonic()
    for app, found in served.ask_each(ENDS.values(), LONG):
        assert found.status == 502
        place, _, reason = found.words.partition(f"-web-v1 at {app.ip}:{PORT}: ")
        assert place.startswith("shop")
        assert len(reason) > 5
        assert len(app.asked) == 3
    assert 0.9 < time.monotonic() - began < 5


def test_without_a_word_of_the_engine_it_says_that_a_port_is_closed(
    old: App, served: Served
) -> None:
    old.vanish()
    found = served.ask(headers=LONG)
    assert found.status == 502
    assert found.words.startswith(f"{OLD} at {old.ip}:{PORT}: ")
    served.counts(broken=1)


def test_a_role_that_dies_while_it_is_asked_says_so(old: App, served: Served) -> None:
    def die(_: socket.socket) -> None:
        served.died(OLD)

    old.reply = die
    found = served.ask(headers=LONG)
    assert found.status == 503
    assert found.words.startswith(f"{OLD}: it has stopped")
    served.counts(down=1)


def test_a_role_that_is_removed_while_it_is_asked_is_not_known(old: App, served: Served) -> None:
    def die(_: socket.socket) -> None:
        served.removed(OLD)

    old.reply = die
    assert served.ask(headers=LONG).status == 404


@pytest.mark.parametrize("delay", [0.0, 0.2])
def test_where_the_successor_fails_too_it_says_so(
    old: App, new: App, served: Served, delay: float
) -> None:
    served.looked(next_one(new))
    old.vanish()
    new.vanish()
    with later(delay, lambda: served.died(OLD)):
        found = served.ask(headers=LONG)
    assert found.status == 502
    assert found.words.startswith(NEW)
