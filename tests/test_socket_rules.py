"""The rules of both socket proxies are those of routes.yml; what they mean to wollomatic's."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from tests import socket_rules
from tests.lab.sd import REPOSITORY
from tests.socket_requests import ENCODED, PASS, REFUSED, SWITCHED

STANZAS = REPOSITORY / "deploy/accessories"
# An escape that Go cannot read: it answers 400.
BROKEN = re.compile(r"%(?![0-9A-Fa-f]{2})")
SWITCH = re.compile(r"^( +)#(?=SP_ALLOW_)", re.MULTILINE)


def environment(text: str) -> dict[str, str]:
    found: dict[str, str] = yaml.safe_load(text)["kamal-sd-socket"]["env"]["clear"]
    return found


AS_SHIPPED = environment(socket_rules.WOLLOMATIC.read_text())
ALL_ON = environment(SWITCH.sub(r"\1", socket_rules.WOLLOMATIC.read_text()))


def passes(variables: dict[str, str], request: str) -> bool:
    """What wollomatic/socket-proxy 1.12 does with a request.

    Of SP_ALLOW_METHOD and SP_ALLOW_METHOD_N each is compiled as "^" + it + "$" (internal/config,
    env.go and config.go) and put to Go's `r.URL.Path` (cmd/socket-proxy/handlehttprequest.go): the
    path without its query, decoded once, of the absolute form as well. Go's $ is the very end.
    """
    method, target = request.split(" ")
    given = [value for name, value in variables.items() if name.split("_")[2:3] == [method]]
    path = urlsplit(target).path if target.startswith("http:") else target.partition("?")[0]
    if not path.startswith("/") or BROKEN.search(path):
        return False
    return any(re.search(rf"^{value}\Z", unquote(path)) for value in given)


@pytest.mark.parametrize("file", socket_rules.FILES, ids=lambda file: file.name)
def test_the_rules_are_those_of_routes_yml(file: Path) -> None:
    assert file.read_text() == socket_rules.made(file), "run python -m tests.socket_rules"


def test_what_is_switched_is_off() -> None:
    names = {name for name in AS_SHIPPED if name.startswith("SP_ALLOW_")}
    assert names == {"SP_ALLOW_GET_1", "SP_ALLOW_GET_2", "SP_ALLOW_GET_3"}
    assert len(ALL_ON) - len(AS_SHIPPED) == sum(bool(each.switch) for each in socket_rules.routes())


@pytest.mark.parametrize("request_line", PASS)
def test_questions_pass(request_line: str) -> None:
    assert passes(AS_SHIPPED, request_line)


@pytest.mark.parametrize("request_line", SWITCHED)
def test_what_has_a_switch_passes_with_it_alone(request_line: str) -> None:
    assert passes(ALL_ON, request_line)
    assert not passes(AS_SHIPPED, request_line)


@pytest.mark.parametrize("request_line", ENCODED)
def test_other_ways_to_say_a_question_are_that_question(request_line: str) -> None:
    """The engine, in Go like the proxy, decodes the path once more from the same bytes."""
    assert passes(AS_SHIPPED, request_line)


@pytest.mark.parametrize("request_line", REFUSED)
def test_all_else_is_refused(request_line: str) -> None:
    assert not passes(ALL_ON, request_line)


def test_it_stands_in_the_place_of_haproxy() -> None:
    (stanza,) = yaml.safe_load(socket_rules.WOLLOMATIC.read_text()).values()
    haproxy = yaml.safe_load((STANZAS / "socket-proxy.yml").read_text())["kamal-sd-socket"]
    for key in ("host", "network", "volumes", "options"):
        assert stanza[key] == haproxy[key]
    assert set(stanza) - set(haproxy) == {"env"}
    bound = re.findall(r"bind unix@(\S+) mode (\d+)", socket_rules.HAPROXY.read_text())
    names = ("SP_PROXYSOCKETENDPOINT", "SP_PROXYSOCKETENDPOINTFILEMODE")
    assert [tuple(stanza["env"]["clear"][name] for name in names)] == bound
