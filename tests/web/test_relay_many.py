"""Many scrapes at a time, and scrapes that are given up: each connection has its end."""

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Barrier, Event

import pytest

from tests.builders import container, labels
from tests.web.apps import OLD, TIMEOUT, WEB_PATH, Served, next_one, wait_for
from tests.web.sockets import CHUNKED, FIRST, PORT, App, answer, chunk, deaf, fresh_ip, hold


@pytest.mark.parametrize("begun", [b"", answer(b"x" * 100)[:-5], CHUNKED + chunk(b"x" * 100_000)])
def test_a_caller_that_hangs_up_frees_the_apps_connection(
    old: App, served: Served, begun: bytes
) -> None:
    def stall(sock: socket.socket) -> None:
        sock.sendall(begun)
        hold(sock)

    old.reply = stall
    connection = served.connect()
    connection.request("GET", WEB_PATH, headers={TIMEOUT: "60"})
    wait_for(lambda: old.asked, "the request")
    connection.close()
    wait_for(lambda: not old.open, "the end of the connection")
    served.counts(hung_up=1)
    old.reply = FIRST
    assert served.ask().status == 200


def endless(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.sendall(CHUNKED)
        while True:
            sock.sendall(chunk(b"x" * 10_000))


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "stays"])
def test_a_caller_that_does_not_read_keeps_no_app_busy(
    old: App, served: Served, leaves: bool
) -> None:
    """What it does not take is not gathered either: the app is stopped by its own socket."""
    old.reply = endless
    connection = served.connect()
    connection.request("GET", WEB_PATH, headers={TIMEOUT: "60" if leaves else "1"})
    wait_for(lambda: old.asked, "the request")
    if leaves:
        time.sleep(0.1)
        connection.close()
    wait_for(lambda: not old.open, "the end of the connection")
    connection.close()
    served.counts(hung_up=int(leaves), timeout=int(not leaves))
    assert served.samples("kamal_sd_relay_bytes_total")[""] < 50_000_000


def test_a_greeting_that_is_never_answered_is_given_up(old: App, served: Served) -> None:
    """A port that speaks no TLS waits for more of what it takes for a request."""
    served.looked(container(OLD, ip=old.ip, labels=labels() | {"prometheus.scheme": "https"}))
    for _ in range(2):
        assert served.ask(headers={TIMEOUT: "0.5"}).status == 504
    connection = served.connect()
    connection.request("GET", WEB_PATH, headers={TIMEOUT: "60"})
    wait_for(lambda: old.connections == 3, "the connection")
    connection.close()
    wait_for(lambda: not old.open, "the end of the connections")
    assert not old.asked


def sockets_towards(ip: str) -> int:
    """This machine's sockets whose other end has that address, in whatever state but waiting."""
    place = f"{int.from_bytes(socket.inet_aton(ip), 'little'):08X}:{PORT:04X}"
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()
    return sum(each.split()[2] == place and each.split()[3] != "06" for each in lines)


def test_a_port_that_takes_no_connection_is_given_up(served: Served) -> None:
    ip = fresh_ip()
    with deaf(ip):
        served.begin_with(container(OLD, ip=ip))
        before = sockets_towards(ip)
        found = served.ask(headers={TIMEOUT: "0.5"})
        assert found.status == 504
        wait_for(lambda: sockets_towards(ip) == before, "the connection to be given up")
        connection = served.connect()
        connection.request("GET", WEB_PATH, headers={TIMEOUT: "60"})
        wait_for(lambda: sockets_towards(ip) == before + 1, "the connection to be tried")
        connection.close()
        wait_for(lambda: sockets_towards(ip) == before, "the connection to be given up")


def test_200_scrapes_at_a_time_each_get_their_own_answer(served: Served) -> None:
    """All 200 are with the apps before the first of them is answered."""
    together = Barrier(200, timeout=20)

    def answers_with(body: bytes) -> Callable[[socket.socket], None]:
        def send(sock: socket.socket) -> None:
            together.wait()
            sock.sendall(answer(body))

        return send

    slots = [(f"shop{number}", "web") for number in range(40)]
    bodies = [b"".join(b"of%d %d\n" % (slot, n) for n in range(slot * 200)) for slot in range(40)]
    with ExitStack() as stack:
        apps = [stack.enter_context(App(answers_with(body))) for body in bodies]
        served.begin_with(
            *(
                container(f"{service}-web-v1", ip=app.ip, labels=labels(service))
                for (service, _), app in zip(slots, apps, strict=True)
            )
        )
        callers = stack.enter_context(ThreadPoolExecutor(200))
        paths = [WEB_PATH.replace("shop", service) for service, _ in slots] * 5
        found = list(callers.map(served.ask, paths, [{TIMEOUT: "20"}] * 200))
        assert [each.status for each in found] == [200] * 200
        assert [each.body for each in found] == bodies * 5
        assert [app.connections for app in apps] == [5] * 40
        served.begin_with()


def test_100_scrapes_of_one_that_dies_are_all_answered_by_its_successor(
    old: App, new: App, served: Served
) -> None:
    served.looked(next_one(new))
    old.reply = hold
    with ThreadPoolExecutor(100) as callers:
        found = callers.map(served.ask, [WEB_PATH] * 100, [{TIMEOUT: "20"}] * 100)
        wait_for(lambda: len(old.asked) == 100, "all of them to be asked")
        served.died(OLD)
        assert {each.body for each in found} == {b"version 2\n"}
    wait_for(lambda: not old.open, "the end of its connections")
    served.counts(handed_over=100)


def test_connections_of_a_burst_are_used_again(old: App, served: Served) -> None:
    together = Event()

    def wait_and_go_on(sock: socket.socket) -> None:
        together.wait(10)
        sock.sendall(FIRST)
        old._converse(sock, 0)

    old.reply = wait_and_go_on
    with ThreadPoolExecutor(20) as callers:
        found = callers.map(served.ask, [WEB_PATH] * 20)
        wait_for(lambda: len(old.asked) == 20, "all of them to be asked")
        old.reply = FIRST
        together.set()
        assert {each.status for each in found} == {200}
    for _ in range(20):
        assert served.ask().status == 200
    assert old.connections == 20
