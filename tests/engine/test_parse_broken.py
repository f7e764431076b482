"""Entries that are broken, or hold what nobody may see: each costs itself alone."""

import pytest

from app.engine import parse
from app.model import Container
from tests.builders import NOW, entry, identity, reads

SECRET = "hunter2"  # noqa: S105 - it shall not be found


def one(shown: object) -> Container:
    (container,) = parse.containers([shown], NOW, reads())
    return container


BROKEN: list[tuple[dict[str, object], str]] = [
    ({"State": None}, "ValueError: '' is not a valid State"),
    ({"State": "zombie"}, "'zombie' is not a valid State"),
    ({"State": 5}, "TypeError: int where a text is expected"),
    ({"State": {"Status": "running"}}, "dict where a text is expected"),
    ({"Status": []}, "list where a text is expected"),
    ({"Created": None}, "NoneType where a number is expected"),
    ({"Created": "yesterday"}, "str where a number is expected"),
    ({"Created": 1.5}, "float where a number is expected"),
    ({"Created": True}, "bool where a number is expected"),
    ({"Created": 10**400}, "OverflowError"),
    ({"Image": 5}, "int where a text is expected"),
    ({"Image": "\ud800"}, "UnicodeEncodeError"),
    ({"Names": [5]}, "int where a text is expected"),
    ({"Names": ["/\ud800"]}, "UnicodeEncodeError"),
    ({"Labels": []}, "list where a map is expected"),
    ({"Labels": "service=shop"}, "str where a map is expected"),
    ({"Labels": {"service": 5}}, "int where a text is expected"),
    ({"Labels": {"service": ["shop"]}}, "list where a text is expected"),
    ({"Labels": {"service": "\ud800"}}, "UnicodeEncodeError"),
    ({"Health": {"Status": "fine"}}, "'fine' is not a valid Health"),
    ({"Health": {"Status": ["healthy"]}}, "is not a valid Health"),
    ({"HostConfig": "host"}, "str where a map is expected"),
    ({"HostConfig": {"NetworkMode": 5}}, "int where a text is expected"),
    ({"NetworkSettings": []}, "list where a map is expected"),
    ({"NetworkSettings": {"Networks": ["kamal"]}}, "list where a map is expected"),
    ({"NetworkSettings": {"Networks": {"kamal": 5}}}, "int where a map is expected"),
    ({"NetworkSettings": {"Networks": {"\ud800": None}}}, "UnicodeEncodeError"),
    ({"NetworkSettings": {"Networks": {"a": {"IPAddress": "10.0.0"}}}}, "not appear to be an IPv4"),
    ({"NetworkSettings": {"Networks": {"a": {"IPAddress": "web:80"}}}}, "not appear to be an IPv4"),
    ({"NetworkSettings": {"Networks": {"a": {"IPAddress": 5}}}}, "int where a text is expected"),
    ({"Ports": {}}, "Ports is no list"),
    ({"Ports": [5]}, "int where a map is expected"),
    ({"Ports": [{"PrivatePort": "80"}]}, "str where a number is expected"),
    ({"Ports": [{"PrivatePort": 80, "PublicPort": "x"}]}, "str where a number is expected"),
]


@pytest.mark.parametrize(("broken", "words"), BROKEN)
def test_a_broken_entry_costs_itself_alone(broken: dict[str, object], words: str) -> None:
    entries = [entry("a"), entry("b", **broken), entry("c")]
    first, shown, last = parse.containers(entries, NOW, reads())
    assert words in shown.fault
    assert len(shown.fault) <= 200
    assert shown == Container(identity("b"), fault=shown.fault)
    assert (first, last) == (one(entry("a")), one(entry("c")))


@pytest.mark.parametrize(
    "broken",
    [None, 5, "text", [], {}, {"Id": None}, {"Id": ""}, {"Id": 5}, {"Id": "a b"}, {"Id": "\ud800"},
     {"Id": "a\n"}, {"Id": "a" * 129}, {"id": "lower"}],
)  # fmt: skip
def test_an_entry_without_an_id_is_told_by_its_place(broken: object) -> None:
    first, shown, other = parse.containers([entry("a"), broken, broken], NOW, reads())
    assert first == one(entry("a"))
    assert (shown.id, shown.fault) == ("entry 1", "it has no Id")
    assert other.id == "entry 2"


def test_nothing_else_of_an_entry_is_kept() -> None:
    shown = entry(
        Command=f"server --password {SECRET}",
        ImageID=SECRET,
        Mounts=[{"Source": SECRET}],
        Labels={"service": "shop", "role": "web", "DATABASE_URL": SECRET, SECRET: "x"},
        HostConfig={"NetworkMode": "kamal", "Annotations": {SECRET: SECRET}},
        NetworkSettings={"Networks": {"kamal": {"IPAddress": "", "Aliases": [SECRET]}}},
        Health={"Status": "healthy", "Log": [{"Output": SECRET}]},
        Config={"Env": [f"PASSWORD={SECRET}"]},
        Ports=[{"PrivatePort": 80, "Type": "tcp", "Extra": SECRET}],
    )
    assert SECRET not in repr(one(shown))
    assert one(shown).labels["role"] == "web"


@pytest.mark.parametrize("key", ["Labels", "HostConfig", "NetworkSettings", "Created"])
def test_a_fault_does_not_quote_what_is_not_read(key: str) -> None:
    broken = [{"PASSWORD": SECRET}]
    shown = one(entry("shop-web-v1", **{"Command": SECRET, key: broken}))
    assert shown.fault
    assert SECRET not in repr(shown)
