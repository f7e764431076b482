"""What is answered from memory: the same as was answered before, and never for a later view."""

import re
import socket
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPMessage

import pytest

from app.access import Access
from app.protocol import Limits
from app.web import remembered
from app.web.shared import BusyError, Workshop
from app.web.targets import AGE_HEADER
from tests.builders import container, labels, snapshot, stopped
from tests.web.apps import Answer, Served, wait_for
from tests.web.site import TOWN, Site, town
from tests.web.sockets import reset
from tests.web.test_hardening import WISHES, connect, ends_as_wished

# As long as several pieces in which an answer is handed on.
MANY = [container(f"shop{n}-web-v1", labels=labels(f"shop{n}")) for n in range(1000)]
HEADERS: tuple[Mapping[str, str], ...] = (
    {},
    {"Accept-Encoding": "gzip"},
    {"If-None-Match": "*"},
    {"If-None-Match": '"another"'},
)
QUERIES = ("", "?role=web", "?role=web&service=shop7", "?address=ip&generations=both", "?role=none")


class Counted:
    """How many requests were read behind the memory, and how many answers made without that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = self.made = 0
        answers_again = remembered.Remembered._again

        async def again(self_: remembered.Remembered, key: object) -> remembered._Answer | None:
            answer = await answers_again(self_, key)
            self.made += answer is not None
            self.read += answer is None
            return answer

        monkeypatch.setattr(remembered.Remembered, "_again", again)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Served(*MANY) as running:
        yield running


def told(headers: HTTPMessage) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if name.lower() != "date"}


def same(first: Answer, second: Answer) -> bool:
    return (first.status, told(first.headers), first.body) == (
        second.status,
        told(second.headers),
        second.body,
    )


@pytest.mark.parametrize("headers", HEADERS, ids=str)
@pytest.mark.parametrize("query", QUERIES)
def test_what_comes_from_memory_is_what_came_before(
    served: Served, asked: Counted, query: str, headers: Mapping[str, str]
) -> None:
    first, second = (served.ask(f"/targets{query}", headers) for _ in range(2))
    counts = (asked.read, asked.made)
    # Other headers do not matter.
    third = served.ask(f"/targets{query}", {**headers, "User-Agent": "Prometheus/3.5.0"})
    assert (asked.read, asked.made) == counts
    assert same(first, second)
    assert same(second, third)


@pytest.mark.parametrize("headers", HEADERS, ids=str)
def test_so_it_is_where_the_server_takes_no_ready_answers(
    asked: Counted, headers: Mapping[str, str]
) -> None:
    site = town()
    first, *others = (site.ask("/targets", headers) for _ in range(3))
    assert (asked.read, asked.made) == (1, 1)
    for other in others:
        assert (first.status_code, first.headers, first.content) == (
            other.status_code,
            other.headers,
            other.content,
        )


def test_its_age_is_told_anew(served: Served) -> None:
    served.begin_with(*MANY)
    ages = []
    for _ in range(3):
        ages.append(float(served.ask("/targets").headers[AGE_HEADER]))
        served.now += 1.5
    assert ages == [0.0, 1.5, 3.0]


def test_it_is_gone_with_the_view_that_it_was_made_of(asked: Counted) -> None:
    site = town()
    before = site.ask("/targets").content
    site.state.publish(snapshot(stopped("shop-web-v2", 1.0), *TOWN[1:]))
    after = [site.ask("/targets").content for _ in range(2)]
    assert (asked.read, asked.made) == (1, 1)
    assert after[0] == after[1] != before


@pytest.mark.parametrize(
    ("path", "headers", "method"),
    [
        ("/targets?role=job", {}, "GET"),
        ("/targets", {"Host": "elsewhere:1"}, "GET"),
        ("/targets", {"Accept-Encoding": "gzip"}, "GET"),
        ("/targets", {}, "HEAD"),
        ("/explain", {}, "GET"),
    ],
)
def test_whatever_matters_to_an_answer_tells_it_from_others(
    path: str, headers: Mapping[str, str], method: str
) -> None:
    site, fresh = town(), town()
    for _ in range(2):
        site.ask("/targets")
    answer, right = (each.ask(path, headers, method) for each in (site, fresh))
    assert (answer.headers, answer.content) == (right.headers, right.content)


@pytest.mark.parametrize("query", ["?rolle=web", "?address=nowhere"])
def test_a_refusal_is_not_kept(asked: Counted, query: str) -> None:
    site = town()
    assert {site.ask(f"/targets{query}").status_code for _ in range(2)} == {400}
    assert asked.read == 2


def test_before_the_first_list_nothing_is_kept(asked: Counted) -> None:
    site = Site(snapshot(listed_at=None))
    assert {site.ask("/targets").status_code for _ in range(2)} == {503}
    assert asked.read == 2


def test_so_it_is_while_too_much_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    site = town()
    path = "/targets?address=ip"
    assert site.ask(path).status_code == 200

    async def busy(*_: object) -> None:
        raise BusyError

    monkeypatch.setattr(Workshop, "made", busy)
    assert site.ask(path).status_code == 503
    monkeypatch.undo()
    assert site.ask(path).status_code == 200


def test_only_so_many_are_kept(asked: Counted) -> None:
    site = town()
    for number in range(remembered._MOST + 1):
        for _ in range(2):
            site.ask(f"/targets?service=shop{number}")
    assert asked.read == remembered._MOST + 1
    site.ask("/targets?service=shop0")
    assert asked.read == remembered._MOST + 2, "the first one was forgotten"


def test_the_headers_of_the_web_config_file_are_added(asked: Counted) -> None:
    site = town()
    site.guard(lambda: Access(headers=((b"x-frame-options", b"deny"),)))
    assert [site.ask("/targets").headers["x-frame-options"] for _ in range(3)] == ["deny"] * 3
    assert (asked.read, asked.made) == (1, 1)


def test_whoever_may_not_ask_gets_none_of_it() -> None:
    site = town()
    for _ in range(2):
        site.ask("/targets")
    site.guard(lambda: Access(hosts=frozenset({"somewhere-else"})))
    assert site.ask("/targets").status_code == 421


def test_it_is_counted_as_what_it_is(served: Served) -> None:
    def count() -> int:
        text = served.ask("/metrics").body.decode()
        line = (
            r'^kamal_sd_http_request_duration_seconds_count\{code="200",handler="/targets"\} (.*)$'
        )
        found = re.search(line, text, re.MULTILINE)
        return int(float(found[1])) if found else 0

    before = count()
    for _ in range(3):
        served.ask("/targets?role=web")
    assert count() == before + 3


@pytest.mark.parametrize(("version", "headers", "stays"), WISHES)
def test_the_connection_ends_where_the_caller_wants_it_to(
    served: Served, version: bytes, headers: bytes, stays: bool
) -> None:
    ends_as_wished(served, "/targets", version, headers, stays)


@pytest.mark.parametrize("path", ["/targets", "/explain"])
def test_a_client_that_leaves_in_the_middle_is_not_written_to(
    served: Served, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    served.ask(path)
    with connect(served.authority) as sock:
        sock.sendall(b"GET %s HTTP/1.1\r\nHost: kamal-sd\r\n\r\n" % path.encode())
        sock.recv(1)
        reset(sock)
    assert served.ask("/-/healthy").status == 200
    assert [each.getMessage() for each in caplog.records] == []


def test_requests_that_do_not_wait_for_answers_get_each_its_own(served: Served) -> None:
    paths = [f"/targets?service=shop{number}" for number in (7, 8, 9)] + ["/-/healthy", "/targets"]
    bodies = [served.ask(path).body for path in paths]
    request = "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n"
    for _ in range(2):
        with connect(served.authority) as sock:
            asked = [request.format(path, served.authority) for path in paths]
            sock.sendall("".join(asked).encode())
            said = b""
            while not said.endswith(bodies[-1]):
                part = sock.recv(65_536)
                assert part, said[-200:]
                said += part
        answers = re.split(rb"(?=HTTP/1\.1 )", said)[1:]
        assert [each.partition(b" ")[2][:3] for each in answers] == [b"200"] * len(paths)
        assert [each.partition(b"\r\n\r\n")[2] for each in answers] == bodies


def test_whoever_asks_on_and_reads_nothing_is_not_answered_on(served: Served) -> None:
    path = "/targets?" + "&".join(f"service=shop{number}" for number in range(30))
    size = len(served.ask(path).body)
    assert 20_000 < size < 32_000, "each answer is sent in one piece"
    request = f"GET {path} HTTP/1.1\r\nHost: {served.authority}\r\n\r\n".encode()
    served.ask(path)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, _, port = served.authority.partition(":")
        sock.connect((host, int(port)))
        sock.sendall(request * Limits().pipelined)
        wait_for(lambda: _buffered(served) > 0, "the kernel to take no more")
        time.sleep(0.3)
        # What is paused for, and the answer that has led to it.
        assert _buffered(served) < 3 * 32_000


def _buffered(served: Served) -> int:
    connections = served._server.server_state.connections
    return sum(each.transport.get_write_buffer_size() for each in list(connections))
