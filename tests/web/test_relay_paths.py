"""Which paths the relay knows: those of discovered slots, and nothing beside them."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from app.discovery import peer, relay
from app.model import Network, Port, Slot
from tests import http_sd_reader
from tests.builders import container, labels, stopped
from tests.web.apps import OLD, WEB_PATH, Served
from tests.web.sockets import PORT, App, answer

SLOT = WEB_PATH.removesuffix(f"/{PORT}")
NO_PATHS = {
    "another port": f"{SLOT}/9395",
    "the port of its traffic": f"{SLOT}/80",
    "a port with a sign": f"{SLOT}/+{PORT}",
    "a port with a zero before": f"{SLOT}/0{PORT}",
    "a port in other digits": f"{SLOT}/%D9%A9%D9%A3%D9%A9%D9%A4",
    "no port": SLOT,
    "another role": WEB_PATH.replace("/web/", "/job/"),
    "another service": WEB_PATH.replace("/shop/", "/blog/"),
    "another host": WEB_PATH.replace("/scrape/-/", "/scrape/one/"),
    "another destination": WEB_PATH.replace("/web/-/", "/web/production/"),
    "capital letters": WEB_PATH.replace("shop", "Shop"),
    "no slot": "/scrape/",
    "a slash too much": f"{WEB_PATH}/",
    "a slash before": WEB_PATH.replace("/scrape/", "/scrape//"),
    "a lane that is not there": f"{WEB_PATH}/next",
    "a path behind": f"{WEB_PATH}/metrics",
    "a path of the app": f"{WEB_PATH}/../../admin",
    "up and down again": f"/scrape/x/..{WEB_PATH.removeprefix('/scrape')}",
    "up and down again, encoded": f"/scrape/x/%2e%2e{WEB_PATH.removeprefix('/scrape')}",
    "a dot": WEB_PATH.replace("/web/", "/./web/"),
    "up": "/scrape/../../etc/passwd",
    "encoded slashes": WEB_PATH.replace("/web/", "%2Fweb%2F"),
    "encoded twice": WEB_PATH.replace("shop", "%2573hop"),
    "a backslash": WEB_PATH.replace("/web/", "\\web\\"),
    "an encoded question mark": f"{WEB_PATH}%3Fa=b",
    "an encoded question mark and wide letters": f"{WEB_PATH}%3F%C3%A9",
    "an encoded hash": f"{WEB_PATH}%23",
    "a zero": f"{WEB_PATH}%00",
    "a line end": f"{WEB_PATH}%0d%0a",
    "a line end inside": WEB_PATH.replace("shop", "sh%0aop"),
    "a tabulator": f"{WEB_PATH}%09",
    "a space": f"{WEB_PATH}%20",
    "a parameter of the path": f"{WEB_PATH};a=b",
    "no characters": f"{WEB_PATH}%ff%fe",
    "half an escape": f"{WEB_PATH}%",
    "an address": "/scrape/127.0.0.1:80/metrics",
    "an URL": "/scrape/http://127.0.0.1/metrics",
    "the address of a cloud": "/scrape/169.254.169.254/latest/meta-data",
    "long": "/scrape/" + "x" * 15_000,
    "deep": "/scrape" + "/x" * 7_500,
}


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    with App(answer(b"up 1\n")) as listening:
        yield listening


@pytest.fixture(scope="module")
def served(app: App) -> Iterator[Served]:
    without = container("foreign", ip=app.ip, labels={})
    opted_out = container("out", ip=app.ip, labels=labels("out") | {"prometheus.scrape": "false"})
    shown = container(ip=app.ip, ports=(Port(80, "tcp"), Port(9395, "tcp")))
    with Served(shown, without, opted_out) as running:
        # The connection that this leaves open is used by all that follows.
        assert running.ask().status == 200
        yield running


@pytest.mark.parametrize("path", NO_PATHS.values(), ids=NO_PATHS.keys())
def test_no_app_is_asked_at_a_path_that_no_slot_has(app: App, served: Served, path: str) -> None:
    asked = len(app.asked)
    assert served.ask(path).status == 404
    assert len(app.asked) == asked


def test_a_path_that_no_slot_has_is_told_in_words(served: Served) -> None:
    assert served.ask("/scrape/x").words == "no slot that is discovered has this path"


@pytest.mark.parametrize("service", ["foreign", "out"])
def test_a_container_that_is_no_target_has_no_path(app: App, served: Served, service: str) -> None:
    asked = len(app.asked)
    assert served.ask(WEB_PATH.replace("/shop/", f"/{service}/")).status == 404
    assert len(app.asked) == asked


@pytest.mark.parametrize(
    "host", ["", "/", "[", f"x{WEB_PATH}?", "x:99999999", "169.254.169.254", "\xe9", "a@b"]
)
def test_what_the_caller_calls_us_changes_nothing(app: App, served: Served, host: str) -> None:
    """A wrong name may be refused by the server, and leads nowhere."""
    for path in (WEB_PATH, "/scrape/x"):
        asked = len(app.asked)
        with socket.create_connection(("127.0.0.1", int(served.authority.split(":")[1]))) as sock:
            head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            sock.sendall(head.encode("latin-1"))
            status = int(sock.makefile("rb").read().split()[1])
        if path == WEB_PATH:
            assert status in (200, 400)
            assert len(app.asked) - asked == (status == 200)
        else:
            assert status in (400, 404)
            assert len(app.asked) == asked


def test_before_the_first_list_nothing_has_a_path() -> None:
    with Served() as served:
        assert served.ask().status == 404


def test_a_host_that_was_never_heard_costs_the_others_no_scrape(app: App) -> None:
    there = "http://web-2:9889"
    engines = [{"url": "unix:///engine.sock", "host": "web-1"}]
    with Served(container(OLD, ip=app.ip), engines=engines) as served:
        served.state.publish_peer(there, (peer.unheard(there),))
        assert served.ask("/targets").status == 503
        assert served.ask(relay.path_of(Slot("web-1", "shop", "web"), PORT, "")).status == 200
        unknown = served.ask(relay.path_of(Slot("web-2", "shop", "web"), PORT, ""))
        assert (unknown.status, unknown.words) == (503, "no list of containers yet of web-2:9889")


ODD = (
    ("shop", "web", ""),
    ("shop", "web", "-"),
    ("shop", "web", "next"),
    ("shop", "next", ""),
    ("my shop", "web", ""),
    ("my%20shop", "web", ""),
    ("shop/web", "web", ""),
    ("shop%2Fweb", "web", ""),
    ("shop", "web/-", ""),
    ("läden", "web", ""),
    ("la\u0308den", "web", ""),
    ("\U0001f433\u7f51", "web", "生産"),
    ("Shop", "WEB", ""),
    ("..", ".", ".."),
    ("~736870", "web", ""),
    ("?a=b", "#", "&;"),
    ("%s{slot}", "\\", '"'),
    ("x" * 200, "y" * 200, "z" * 200),
)


def test_each_slot_is_reached_at_the_path_that_its_target_has() -> None:
    """From the body of HTTP SD to an URL, as Prometheus and others write it, to the app."""
    apps = [App(answer(b"app %d\n" % number)) for number in range(len(ODD))]
    shown = [
        container(f"odd-{number}", ip=app.ip, labels=labels(*slot))
        for number, (app, slot) in enumerate(zip(apps, ODD, strict=True))
    ]
    for app in apps:
        app.__enter__()
    try:
        with Served(*shown, defaults={"address": "relay"}) as served:
            targets = http_sd_reader.read(served.ask("/targets").body)
            assert len({each.labels["__metrics_path__"] for each in targets}) == len(ODD)
            found = {}
            for target in targets:
                path = target.labels["__metrics_path__"]
                url = f"{target.labels['__scheme__']}://{target.address}{path}"
                assert url.isascii()
                assert urlsplit(url).path == path
                assert target.address == served.authority
                slot = tuple(
                    target.labels.get(name, "") for name in ("service", "role", "destination")
                )
                found[slot] = served.ask(path).body
            assert found == {slot: b"app %d\n" % number for number, slot in enumerate(ODD)}
    finally:
        for app in apps:
            app.__exit__()


def test_a_target_names_the_relay_where_the_caller_reached_it() -> None:
    with Served(container(), relay={"address": "sd.example:443"}) as served:
        for address, wanted in (("relay", "sd.example:443"), ("ip", f"172.18.0.5:{PORT}")):
            (target,) = http_sd_reader.read(served.ask(f"/targets?address={address}").body)
            assert target.address == wanted


def test_a_deploy_changes_no_plain_label_and_no_path_of_a_target() -> None:
    def steady(served: Served) -> dict[str, str]:
        (target,) = http_sd_reader.read(served.ask("/targets").body)
        labels = target.labels.items()
        return {name: text for name, text in labels if not name.startswith("__meta_")} | {
            "": target.address
        }

    with Served(container(), defaults={"address": "relay"}) as served:
        before = steady(served)
        served.looked(container("shop-web-v2", ago=5.0, ip="172.18.0.6"))
        assert steady(served) == before
        served.died("shop-web-v1")
        assert steady(served) == before
        served.died("shop-web-v2")
        assert steady(served) == before


def test_the_candidate_has_a_lane_of_its_own_until_it_takes_over() -> None:
    old, new = App(answer(b"version 1\n")), App(answer(b"version 2\n"))
    with old, new, Served(container(ip=old.ip), defaults={"address": "relay"}) as served:
        assert served.ask(f"{WEB_PATH}/next").status == 404
        served.looked(container("shop-web-v2", ago=5.0, ip=new.ip))
        targets = http_sd_reader.read(served.ask("/targets?generations=both").body)
        paths = {each.labels["instance"]: each.labels["__metrics_path__"] for each in targets}
        assert paths == {
            "shop-web:9394": WEB_PATH,
            "shop-web.next:9394": f"{WEB_PATH}/next",
        }
        assert served.ask(WEB_PATH).body == b"version 1\n"
        assert served.ask(f"{WEB_PATH}/next").body == b"version 2\n"
        served.died("shop-web-v1")
        assert served.ask(WEB_PATH).body == b"version 2\n"
        assert served.ask(f"{WEB_PATH}/next").status == 404


def test_the_lane_of_a_candidate_that_failed_is_gone() -> None:
    old, new = App(answer(b"version 1\n")), App(answer(b"version 2\n"))
    with old, new, Served(container(ip=old.ip)) as served:
        served.looked(container("shop-web-v2", ago=5.0, ip=new.ip))
        assert served.ask(f"{WEB_PATH}/next").status == 200
        new.vanish()
        served.died("shop-web-v2")
        assert served.ask(f"{WEB_PATH}/next").status == 404
        assert served.ask(WEB_PATH).body == b"version 1\n"


def test_a_role_whose_container_has_no_address_has_no_path() -> None:
    lost = container(networks=(Network("kamal"),))
    with Served(lost) as served:
        assert served.ask().status == 404


def test_a_role_that_died_answers_at_once_in_words_and_comes_back() -> None:
    with App(answer(b"version 2\n")) as app, Served(stopped("shop-web-v1", 60.0)) as served:
        found = served.ask()
        assert found.status == 503
        assert found.words.startswith("shop-web-v1: it has stopped and nothing took its place")
        served.looked(container("shop-web-v2", ip=app.ip))
        assert served.ask().body == b"version 2\n"
        served.died("shop-web-v2")
        assert served.ask().status == 503
        served.removed("shop-web-v1", "shop-web-v2")
        assert served.ask().status == 404
