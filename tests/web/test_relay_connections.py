"""Connections to the apps: kept from scrape to scrape, and dropped at a change."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.model import Health
from tests.builders import NOW, container, labels, snapshot
from tests.web.apps import NEW, OLD, TIMEOUT, WEB_PATH, Served, next_one, wait_for
from tests.web.sockets import CHUNKED, FIRST, App, answer, hold, later, reset


def test_a_connection_is_kept_from_scrape_to_scrape(old: App, served: Served) -> None:
    for _ in range(5):
        assert served.ask().body == b"version 1\n"
    assert len(old.asked) == 5
    assert (old.connections, old.ended) == (1, 0)


def test_the_apps_own_error_costs_no_connection(old: App, served: Served) -> None:
    for reply in (answer(b"", "500 X"), CHUNKED + b"0\r\n\r\n", answer(b"", "404 X"), FIRST):
        old.reply = reply
        served.ask()
    assert old.connections == 1


def test_a_request_to_close_is_heeded(old: App, served: Served) -> None:
    old.reply = answer(b"version 1\n", "200 OK", "Connection: close")
    for number in range(1, 4):
        assert served.ask().body == b"version 1\n"
        wait_for(lambda: not old.open, "the connection to be closed")
        assert old.connections == number


@pytest.mark.parametrize("change", ["died", "removed", "superseded", "healthier", "moved"])
def test_a_connection_is_dropped_the_moment_another_is_current(
    old: App, new: App, served: Served, change: str
) -> None:
    if change == "healthier":
        served.looked(container(OLD, ip=old.ip, health=Health.UNHEALTHY))
    assert served.ask().body == b"version 1\n"
    # No scrape comes that could do it.
    match change:
        case "died":
            served.died(OLD)
        case "removed":
            served.removed(OLD)
        case "superseded":
            served.looked(next_one(new, ago=500.0))
        case "healthier":
            served.looked(container(NEW, ago=5.0, ip=new.ip, health=Health.HEALTHY))
        case "moved":
            served.looked(container(OLD, ip=new.ip))
            assert served.ask().body == b"version 2\n"
            served.removed(OLD)
    wait_for(lambda: old.ended == 1, "the end of the connection")
    assert len(old.asked) == 1


def test_a_connection_outlives_what_does_not_concern_its_container(
    old: App, new: App, served: Served
) -> None:
    assert served.ask().status == 200
    served.looked(next_one(new))
    served.died(NEW)
    served.looked(container("blog-web-v1", ip=new.ip, labels=labels("blog")))
    served.state.publish(snapshot(*served.state.view.snapshots[0].containers.values()))
    served.told_to_stop(OLD)
    time.sleep(0.05)
    assert served.ask().status == 200
    assert (old.connections, old.ended) == (1, 0)


def test_the_candidates_connection_is_kept_when_it_becomes_current(
    old: App, new: App, served: Served
) -> None:
    served.looked(next_one(new))
    assert served.ask(f"{WEB_PATH}/next").body == b"version 2\n"
    served.died(OLD)
    assert served.ask().body == b"version 2\n"
    assert (new.connections, new.ended) == (1, 0)
    assert not old.asked


@pytest.mark.parametrize("size", [10, 300_000])
def test_an_answer_of_one_that_was_only_superseded_comes_to_its_end(
    old: App, new: App, served: Served, size: int
) -> None:
    body = b"x" * size

    def supersede(sock: socket.socket) -> None:
        whole = answer(body)
        sock.sendall(whole[: len(whole) // 2])
        served.looked(next_one(new, ago=500.0))
        time.sleep(0.05)
        sock.sendall(whole[len(whole) // 2 :])
        hold(sock)

    old.reply = supersede
    assert served.ask(headers={TIMEOUT: "10"}).body == body
    assert not new.asked
    # And then its connection goes.
    wait_for(lambda: not old.open, "the end of the connection")
    assert served.ask().body == b"version 2\n"


def closing_after(end: Callable[[socket.socket], object]) -> Callable[[socket.socket], None]:
    """Answers once, as if more could be asked, and ends."""

    def send(sock: socket.socket) -> None:
        sock.sendall(FIRST)
        end(sock)

    return send


@pytest.mark.parametrize("end", [lambda _: None, reset], ids=["closed", "reset"])
def test_an_idle_connection_that_the_app_closed_costs_no_scrape(
    old: App, served: Served, end: Callable[[socket.socket], object]
) -> None:
    old.reply = closing_after(end)
    for number in range(1, 4):
        assert served.ask(headers={TIMEOUT: "10"}).body == b"version 1\n"
        wait_for(lambda: not old.open, "the app to close")
        assert len(old.asked) == number
    served.counts(ok=3)


@pytest.mark.parametrize("end", [lambda _: None, reset], ids=["closed", "reset"])
def test_a_connection_that_closes_just_when_it_is_used_costs_no_scrape(
    old: App, served: Served, end: Callable[[socket.socket], object]
) -> None:
    """The app closed it while the request was on its way."""
    for _ in range(3):
        old.reply = FIRST
        assert served.ask().status == 200

        def close_once(sock: socket.socket) -> None:
            old.reply = FIRST
            end(sock)

        old.reply = close_once
        assert served.ask(headers={TIMEOUT: "10"}).body == b"version 1\n"
    served.counts(ok=6)


def test_at_its_end_the_relay_leaves_no_connection_open(old: App) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Served(container(OLD, ip=old.ip)) as served:
        assert served.ask().status == 200
        assert old.open
    wait_for(lambda: old.ended == 1, "the end of the connection")
    wait_for(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before, "all to be closed")


def test_time_alone_hands_over_too(old: App, new: App) -> None:
    """A candidate that has run for as long as the overlap may last is current, unasked."""
    with Served(container(OLD, ip=old.ip), overlap_limit="60s") as served:
        served.looked(container(NEW, ago=59.0, ip=new.ip))
        assert served.ask().body == b"version 1\n"
        served.now = NOW + 2
        assert served.ask().body == b"version 2\n"
        wait_for(lambda: old.ended == 1, "the end of the connection")


def test_a_scrape_waits_no_longer_than_the_word_takes(old: App, new: App, served: Served) -> None:
    served.looked(next_one(new))
    old.vanish()
    began = time.monotonic()
    with later(0.05, lambda: served.died(OLD)):
        assert served.ask(headers={TIMEOUT: "60"}).body == b"version 2\n"
    assert time.monotonic() - began < 1
