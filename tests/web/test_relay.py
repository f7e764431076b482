"""GET /scrape/…: what reaches the app, and what comes back from it."""

import gzip
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from app import __version__
from app.discovery import relay
from app.model import Network, Snapshot
from tests.builders import WEB, container, labels, settings, snapshot
from tests.lab.process import free_port, run
from tests.web.apps import TIMEOUT, WEB_PATH, Served
from tests.web.sockets import CHUNKED, PORT, TEXT, App, answer, chunk

METRICS = b"# TYPE requests counter\nrequests_total 42\n"
LARGE = b"".join(b'requests_total{path="/%d"} 1\n' % number for number in range(30_000))


@pytest.fixture
def app() -> Iterator[App]:
    with App(answer(METRICS)) as listening:
        yield listening


@pytest.fixture
def served(running: Served, app: App) -> Iterator[Served]:
    running.begin_with(container(ip=app.ip))
    yield running
    running.check()


def test_an_answer_comes_through_whole(app: App, served: Served) -> None:
    found = served.ask()
    assert (found.status, found.body) == (200, METRICS)
    assert found.headers.get_all("content-type") == [TEXT]
    assert found.headers["content-length"] == str(len(METRICS))
    assert [each.line for each in app.asked] == ["GET /metrics HTTP/1.1"]


@pytest.mark.parametrize("kind", ["application/openmetrics-text; version=1.0.0", "x/é"])
def test_the_content_type_is_the_apps_own(app: App, served: Served, kind: str) -> None:
    app.reply = answer(METRICS, content_type=kind).decode().encode("latin-1")
    assert served.ask().headers["content-type"].encode("latin-1") == kind.encode("latin-1")


def test_other_headers_of_the_app_stay_behind(app: App, served: Served) -> None:
    more = ("Set-Cookie: session=secret", "X-Runtime: 0.1", "Server: puma", "ETag: 1")
    app.reply = answer(METRICS, "200 OK", *more)
    names = {name.lower() for name in served.ask().headers}
    assert names <= {"content-type", "content-length", "date", "server"}
    assert served.ask().headers["server"] != "puma"


def test_a_packed_answer_is_passed_on_as_it_is(app: App, served: Served) -> None:
    packed = gzip.compress(METRICS)
    app.reply = answer(packed, "200 OK", "Content-Encoding: gzip")
    found = served.ask(headers={"Accept-Encoding": "gzip"})
    assert found.body == packed
    assert found.headers["content-encoding"] == "gzip"
    assert found.headers["content-length"] == str(len(packed))


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, len(LARGE)])
def test_an_answer_of_any_size_comes_through(app: App, served: Served, size: int) -> None:
    app.reply = answer(LARGE[:size])
    assert served.ask().body == LARGE[:size]
    app.reply = CHUNKED + b"".join(
        chunk(LARGE[at : at + 5000]) for at in range(0, size, 5000) if LARGE[at:size]
    )
    app.reply += b"0\r\n\r\n"
    found = served.ask().body
    assert found.startswith(LARGE[:size])
    assert len(found) - size < 5000
    served.counts(ok=2)


def test_an_answer_that_ends_with_its_connection_comes_through(app: App, served: Served) -> None:
    app.reply = lambda sock: sock.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + METRICS)
    found = served.ask()
    assert (found.status, found.body) == (200, METRICS)
    assert "content-type" not in found.headers


@pytest.mark.parametrize("status", ["500 Internal Server Error", "404 Not Found", "204 No Content"])
def test_the_apps_own_status_is_passed_on(app: App, served: Served, status: str) -> None:
    body = b"" if status.startswith("204") else b"no metrics here\n"
    app.reply = answer(body, status)
    found = served.ask()
    assert (found.status, found.body) == (int(status[:3]), body)
    assert len(app.asked) == 1
    served.counts(ok=1)


@pytest.mark.parametrize("status", ["600 X", "999 X"])
def test_a_status_that_no_scraper_knows_is_an_error_in_words(
    app: App, served: Served, status: str
) -> None:
    app.reply = answer(METRICS, status)
    found = served.ask()
    assert found.status == 502
    assert status[:3] in found.words
    assert served.ask("/-/healthy").status == 200


def test_of_the_callers_headers_these_alone_reach_the_app(app: App, served: Served) -> None:
    given = {"Accept": TEXT, "Accept-Encoding": "gzip", TIMEOUT: "5"}
    kept_back = {
        "Authorization": "Bearer secret",
        "Cookie": "session=secret",
        "User-Agent": "Prometheus/3.0",
        "X-Forwarded-For": "10.0.0.1",
        "Forwarded": "for=10.0.0.1",
        "Connection": "keep-alive, X-Private",
        "X-Private": "secret",
        "Range": "bytes=0-1",
        "If-None-Match": "*",
        "Referer": "http://inside/",
        "Expect": "nothing",
    }
    assert served.ask(headers=given | kept_back).status == 200
    (asked,) = app.asked
    assert set(asked.headers) == {"host", "user-agent", *map(str.lower, given)}
    assert asked.headers["accept"] == TEXT
    assert asked.headers["accept-encoding"] == "gzip"
    assert asked.headers["host"] == f"{app.ip}:{PORT}"
    assert asked.headers["user-agent"] == f"kamal-sd/{__version__}"
    assert 0 < float(asked.headers[TIMEOUT.lower()]) < 5


def test_what_the_caller_does_not_say_is_not_made_up(app: App, served: Served) -> None:
    assert served.ask().status == 200
    (asked,) = app.asked
    assert not {"accept", "accept-encoding"} & set(asked.headers)
    assert 0 < float(asked.headers[TIMEOUT.lower()]) < 10


def test_a_header_with_odd_characters_harms_nobody(app: App, served: Served) -> None:
    assert served.ask(headers={"Accept": "text/plain;q=\xe9"}).status == 200
    (asked,) = app.asked
    assert asked.headers["accept"] == "text/plain;q=\xe9"


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/internal/metrics", "/internal/metrics"),
        ("//metrics", "//metrics"),
        ("/a/../metrics", "/a/../metrics"),
        ("/metrics;v=1/all;x", "/metrics;v=1/all;x"),
        ("/metrics%2Fall", "/metrics%252Fall"),
        ("/métriques", "/m%C3%A9triques"),
        ("/a@b:80/c", "/a@b:80/c"),
    ],
)
def test_the_path_is_the_roles_own(app: App, served: Served, path: str, asked: str) -> None:
    served.begin_with(container(ip=app.ip, labels=labels() | {"prometheus.path": path}))
    assert served.ask().status == 200
    # The path that Prometheus has is the relay's all the same.
    assert served.ask("/targets?address=relay").body.count(WEB_PATH.encode()) == 1
    assert [each.line for each in app.asked] == [f"GET {asked} HTTP/1.1"]


@pytest.mark.parametrize("query", ["format=text", "a=1&a=2&b=%2F%3F%26+x", "a", "a=1?b=2", "%"])
def test_a_query_is_passed_on_as_it_stands(app: App, served: Served, query: str) -> None:
    assert served.ask(f"{WEB_PATH}?{query}").status == 200
    assert app.asked[0].line == f"GET /metrics?{query} HTTP/1.1"


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_get_is_known(app: App, served: Served, method: str) -> None:
    assert served.ask(method=method).status == 405
    assert not app.asked


def test_a_body_of_the_caller_stays_behind(app: App, served: Served) -> None:
    connection = served.connect()
    connection.request("GET", WEB_PATH, body=b"x" * 4_000)
    assert connection.getresponse().read() == METRICS
    connection.close()
    (asked,) = app.asked
    assert not {"content-length", "transfer-encoding"} & set(asked.headers)


def test_an_app_with_an_ipv6_address_is_reached(served: Served) -> None:
    port = free_port()
    with App(answer(METRICS), "::1", port) as app:
        networks = (Network("kamal", ipv6="::1"),)
        served.begin_with(container(networks=networks, labels=labels(port=str(port))))
        assert served.ask(relay.path_of(WEB, port, "")).body == METRICS
        served.begin_with()
    assert app.asked[0].headers["host"] == f"[::1]:{port}"


def test_each_port_of_a_container_has_its_path(app: App, served: Served) -> None:
    served.begin_with(container(ip=app.ip, labels=labels(port=f"{PORT}, puma=9395")))
    with App(answer(b"puma 1\n"), app.ip, 9395):
        assert served.ask().body == METRICS
        assert served.ask(relay.path_of(WEB, 9395, "")).body == b"puma 1\n"


def tls(directory: Path) -> ssl.SSLContext:
    """A context with a certificate that its owner has signed."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    run(["openssl", "req", "-x509", *kind, "-subj", "/CN=shop", *files])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_a_certificate_that_nobody_vouches_for_is_refused(served: Served, tmp_path: Path) -> None:
    with App(answer(METRICS), tls=tls(tmp_path)) as app:
        https = {"prometheus.scheme": "https"}
        served.begin_with(container(ip=app.ip, labels=labels() | https))
        found = served.ask()
        assert found.status == 502
        assert "certificate verify failed" in found.words
        assert f"{app.ip}:{PORT}" in found.words
        served.counts(broken=1)
    assert app.connections
    assert not app.asked


# --- other settings while it serves ---

ENGINES: Final = [{"url": "unix:///a", "host": ""}, {"url": "unix:///b", "host": "b"}]


def test_an_engine_that_is_added_and_away_takes_nothing_from_the_others(app: App) -> None:
    with Served(container(ip=app.ip)) as served:
        served.state.reconfigure(settings(engines=ENGINES), [Snapshot("b")])
        assert served.ask().body == METRICS
        # Whether it has such a slot is not known.
        elsewhere = served.ask(relay.path_of(WEB._replace(host="b"), PORT, ""))
        assert elsewhere.status == 503
        served.state.publish(snapshot(host="b"))
        assert served.ask(relay.path_of(WEB._replace(host="b"), PORT, "")).status == 404


def test_its_limits_are_those_of_now(app: App) -> None:
    with Served(container(ip=app.ip)) as served:
        assert served.ask().status == 200
        served.state.reconfigure(settings(relay={"max_size": 10}))
        refused = served.ask()
        assert refused.status == 502
        assert "more than the 10 bytes of relay.max_size" in refused.words
