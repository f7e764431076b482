"""A real Prometheus that has to say who it is: for its targets, and for each scrape of them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.lab.certificates import Authority
from tests.lab.prometheus import Prometheus, promtool_check_sd
from tests.lab.sd import Server
from tests.test_access_served import MUTUAL, TLS, hand_made, serving, trusting, users
from tests.web.sockets import App, answer
from tests.web_files import web_file, write_tokens

pytestmark = pytest.mark.real

ANSWER: Final = answer(b"shop_up_total 1\n")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.sign("server")
    authority.sign("client")
    write_tokens(tmp_path)
    return authority


@pytest.fixture
def open_end() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def job(server: Server, name: str, **shown: object) -> dict[str, Any]:
    """A job that shows the same to kamal-sd's /targets and to what it finds there."""
    discovery = {"url": f"{server.url}/targets", "refresh_interval": "1s", **shown}
    return {"job_name": name, "http_sd_configs": [discovery], **shown}


def is_up(prometheus: Prometheus, job: str) -> bool:
    return prometheus.values(f'up{{job="{job}"}}') == [1.0]


@pytest.mark.parametrize("text", [TLS, MUTUAL], ids=["TLS", "client certificates"])
def test_it_gets_its_targets_and_scrapes_them_as_each_kind_of_user(
    tmp_path: Path, authority: Authority, text: str, open_end: ExitStack
) -> None:
    app = open_end.enter_context(App(ANSWER))
    open_end.enter_context(hand_made(tmp_path, app))
    tls = trusting(authority, cert="client")
    server = open_end.enter_context(serving(tmp_path, text + users(), tls=tls))
    pair = authority.pair("client")
    (tmp_path / "password").write_text("prometheus knows")
    tls_config = {"ca_file": str(authority.file)}
    if text == MUTUAL:
        tls_config |= {"cert_file": str(pair.cert), "key_file": str(pair.key)}
    basic = {"username": "prometheus", "password_file": str(tmp_path / "password")}
    token = {"credentials_file": str(tmp_path / "prometheus.token")}
    ways: dict[str, dict[str, Any]] = {
        "user": {"basic_auth": basic, "tls_config": tls_config},
        "token": {"authorization": token, "tls_config": tls_config},
        "nobody": {"tls_config": tls_config},
    }
    prometheus = open_end.enter_context(
        Prometheus(tmp_path / "prometheus", *(job(server, way, **ways[way]) for way in ways))
    )
    for way in ("user", "token"):
        prometheus.wait_until(lambda way=way: is_up(prometheus, way))  # type: ignore[misc]
        assert prometheus.values(f'shop_up_total{{job="{way}"}}') == [1.0]
    assert not prometheus.values('up{job="nobody"}')
    assert {target["scrapePool"] for target in prometheus.targets()} == {"user", "token"}
    # What it shows to kamal-sd does not go on to the app.
    assert app.asked
    assert not [each for each in app.asked if "authorization" in each.headers]
    assert [each["labels"]["instance"] for each in found(prometheus, "token")] == ["shop0-web:9394"]


def found(prometheus: Prometheus, job: str) -> list[dict[str, Any]]:
    return promtool_check_sd(prometheus.config, job)


def test_it_goes_on_through_a_renewed_certificate_and_a_changed_password(
    tmp_path: Path, authority: Authority, open_end: ExitStack
) -> None:
    app = open_end.enter_context(App(ANSWER))
    open_end.enter_context(hand_made(tmp_path, app))
    server = open_end.enter_context(serving(tmp_path, TLS + users(), tls=trusting(authority)))
    password = tmp_path / "password"
    password.write_text("anna knows")
    shown = {
        "basic_auth": {"username": "anna", "password_file": str(password)},
        "tls_config": {"ca_file": str(authority.file)},
    }
    prometheus = open_end.enter_context(
        Prometheus(tmp_path / "prometheus", job(server, "kamal", **shown))
    )
    prometheus.wait_until(lambda: is_up(prometheus, "kamal"))
    web_file(tmp_path, TLS + users("something else"))
    prometheus.wait_until(lambda: prometheus.values('up{job="kamal"}') == [0.0])
    assert "401 Unauthorized" in prometheus.targets()[0]["lastError"]
    password.write_text("something else")
    authority.sign("server")
    prometheus.wait_until(lambda: is_up(prometheus, "kamal"))
    # An error in between has not cost the target (its own rule: a refresh that fails changes none).
    assert len(prometheus.series('up{job="kamal"}')) == 1
