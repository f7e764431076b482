"""How the relay hands its answers on: whole, in time, and as the connection wants it."""

import re
import socket
import time

import pytest

from app.access import Access
from tests.builders import snapshot
from tests.web.apps import TIMEOUT, WEB_PATH, Served, wait_for
from tests.web.site import Site
from tests.web.sockets import FIRST, App, answer
from tests.web.test_hardening import WISHES, connect, ends_as_wished


@pytest.mark.parametrize(("version", "headers", "stays"), WISHES)
@pytest.mark.parametrize("path", [WEB_PATH, "/scrape/x"])
def test_the_connection_ends_where_the_caller_wants_it_to(
    served: Served, version: bytes, headers: bytes, stays: bool, path: str
) -> None:
    ends_as_wished(served, path, version, headers, stays)


def test_a_caller_who_takes_a_whole_answer_late_gets_it(old: App, served: Served) -> None:
    """The scraper's time is that for an answer, and not that for taking it."""
    body = b"x" * 60_000
    old.reply = answer(body)
    request = f"GET {WEB_PATH} HTTP/1.1\r\nHost: kamal-sd\r\n{TIMEOUT}: 0.2\r\n\r\n".encode()
    host, _, port = served.authority.partition(":")
    with socket.socket() as sock:
        # So little that most of the answers have to wait.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((host, int(port)))
        sock.sendall(request * 8)
        wait_for(lambda: old.asked, "the first to be asked for")
        time.sleep(0.5)
        assert len(old.asked) < 8
        sock.settimeout(10)
        with sock.makefile("rb") as reader:
            for _ in range(8):
                assert next(reader) == b"HTTP/1.1 200 OK\r\n"
                while next(reader) != b"\r\n":
                    pass
                assert reader.read(len(body)) == body
    served.counts(ok=8)


def test_an_answer_that_nobody_took_is_no_part_of_the_next(old: App, served: Served) -> None:
    old.reply = answer(b"moved\n", "302 Found", "Location: /")
    assert served.ask().status == 502
    old.reply = FIRST
    assert served.ask().body == b"version 1\n"
    old.reply = answer(b"x" * 1_000_000)
    for _ in range(10):
        with connect(served.authority) as sock:
            sock.sendall(f"GET {WEB_PATH} HTTP/1.1\r\nHost: kamal-sd\r\n\r\n".encode())
            sock.recv(1000)
    old.reply = answer(b"y" * 1000)
    for _ in range(10):
        assert served.ask().body == b"y" * 1000


def test_it_is_counted_as_what_it_is(served: Served) -> None:
    def count(code: int) -> int:
        line = (
            r"^kamal_sd_http_request_duration_seconds_count"
            rf'\{{code="{code}",handler="/scrape/\{{target:path\}}"\}} (.*)$'
        )
        found = re.search(line, served.ask("/metrics").body.decode(), re.MULTILINE)
        return int(float(found[1])) if found else 0

    before = [count(200), count(404), count(405)]
    served.ask()
    served.ask("/scrape/x")
    served.ask(method="POST")
    assert [count(200), count(404), count(405)] == [each + 1 for each in before]


def test_the_headers_of_the_web_config_file_are_added() -> None:
    site = Site(snapshot())
    site.guard(lambda: Access(headers=((b"x-frame-options", b"deny"),)))
    found = site.ask(WEB_PATH)
    assert found.status_code == 404
    assert found.text == "kamal-sd: no slot that is discovered has this path\n"
    assert found.headers["x-frame-options"] == "deny"
