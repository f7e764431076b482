"""The engine's JSON as it was seen, and as it should never be."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.engine import parse
from app.model import Container, Health, Network, Port, State
from tests.builders import NOW, entry, human_duration, identity, reads

RECORDINGS = Path(__file__).parent.parent / "recordings"


def one(shown: object, *patterns: str, now: float = NOW) -> Container:
    (container,) = parse.containers([shown], now, reads(*patterns))
    return container


def recorded(engine: str, name: str) -> dict[str, Any]:
    path = RECORDINGS / engine / "10-accessory-boot.ndjson.gz"
    for line in map(json.loads, gzip.decompress(path.read_bytes()).splitlines()):
        for each in line.get("containers", ()):
            if each["Names"] == [f"/{name}"]:
                return dict(each)
    raise AssertionError(name)


def test_an_entry_of_docker_20_10() -> None:
    assert one(recorded("docker-20.10.24", "shop-web-v2")) == Container(
        id="800eea36d196db46b702b6a33eac59e04fd6cbce16826be972fa9c876d9e6249",
        name="shop-web-v2",
        image="127.0.0.1:5000/shop:v2",
        state=State.RUNNING,
        since=NOW - 2,
        since_error=1,
        created=1_795_441_028.0,
        health=Health.NONE,
        labels={"destination": "", "prometheus.port": "9394", "role": "web", "service": "shop"},
        network_mode="kamal",
        networks=(Network("kamal", "172.18.0.3"),),
        ports=(Port(80, "tcp"),),
    )


def test_an_entry_of_docker_28_5() -> None:
    shown = one(recorded("docker-28.5.2", "shop-job-production-v2"))
    assert shown.health is Health.HEALTHY
    assert (shown.since, shown.since_error) == (NOW - 29, 1)
    assert shown.networks == (Network("kamal", "172.18.0.7"),)
    assert not shown.fault


def test_an_entry_of_api_1_52() -> None:
    shown = entry(
        Health={"Status": "unhealthy", "FailingStreak": 3},
        ImageManifestDescriptor={"mediaType": "application/vnd.oci.image.manifest.v1+json"},
        Status="Up 2 hours (healthy)",
    )
    assert one(shown).health is Health.UNHEALTHY


def test_an_entry_of_podman() -> None:
    # Its compatible API has null where Docker has an empty list or map, or leaves the key out.
    shown: dict[str, object] = {
        "Id": identity("x"),
        "Names": None,
        "Image": None,
        "Created": 1_795_441_028,
        "Ports": None,
        "Labels": None,
        "State": "Running",
        "Status": "",
        "HostConfig": None,
        "NetworkSettings": None,
    }
    assert one(shown) == Container(
        id=identity("x"),
        state=State.RUNNING,
        since=1_795_441_028.0,
        since_error=1e9,
        created=1_795_441_028.0,
    )
    shown |= {"NetworkSettings": {"Networks": None}, "HostConfig": {}}
    assert one(shown).networks == ()
    assert one({"Id": "a", "State": "exited", "Created": 5}).fault == ""


@pytest.mark.parametrize("entries", [None, {}, {"message": "page not found"}, "[]", 5])
def test_what_is_no_list_is_an_error(entries: object) -> None:
    with pytest.raises(TypeError, match=f"list of containers is a {type(entries).__name__}"):
        parse.containers(entries, NOW, reads())


# --- when a state began ---


@pytest.mark.parametrize(
    ("status", "ago", "error"),
    [
        ("Up Less than a second", 0, 1),
        ("Up 1 second", 1, 1),
        ("Up 53 seconds (healthy)", 53, 1),
        ("Up About a minute", 60, 60),
        ("Up 59 minutes", 3540, 60),
        ("Up About an hour", 3600, 5400),
        ("Up 2 hours", 5400, 5400),
        ("Up 2 days (Paused)", 171_000, 88_200),
        ("Up 2 weeks", 1_207_800, 606_600),
        ("Up 3 months", 7_774_200, 2_593_800),
        ("Up 2 years", 63_070_200, 31_537_800),
        ("Exited (0) 5 seconds ago", 5, 1),
        ("Exited (137) About an hour ago", 3600, 5400),
        ("Exited (-1) 5 minutes ago", 300, 60),
        ("Restarting (1) Less than a second ago", 0, 1),
    ],
)
def test_when_a_state_began_is_read_from_the_status(status: str, ago: int, error: int) -> None:
    shown = one(entry(Status=status))
    assert (NOW - shown.since, shown.since_error) == (ago, error)


@pytest.mark.parametrize(
    "status", ["", "Up", "Dead", "Removal In Progress", "Up 5", "up 5 minutes", "Up ٣ seconds"]
)
def test_a_status_that_does_not_tell_leaves_the_time_of_creation(status: str) -> None:
    shown = one(entry(Status=status, Created=int(NOW) - 61))
    assert (shown.since, shown.since_error) == (NOW - 61, 1e9)
    assert one(entry(Status=status, Created=int(NOW) + 61)).since == NOW


def test_one_that_was_only_created_is_so_since_then() -> None:
    assert one(entry(State="created", Status="Created", Created=5)).since == 5.0


@given(st.floats(0, 4e8) | st.integers(0, 120_000).map(lambda half_minutes: half_minutes * 30.0))
@example(5400.0)
@example(5399.999)
@example(171_000.0)
@example(63_070_200.0)
@example(1_207_800.0)
def test_the_true_time_lies_within_what_the_status_leaves_open(seconds: float) -> None:
    shown = one(entry(Status=f"Up {human_duration(seconds)}"))
    # A float of today's seconds has a microsecond at best.
    assert shown.since - shown.since_error - 1e-5 <= NOW - seconds <= shown.since + 1e-5


# --- health ---


@pytest.mark.parametrize(
    ("reported", "status", "health"),
    [
        (None, "Up 5 seconds", Health.NONE),
        (None, "Up 5 seconds (healthy)", Health.HEALTHY),
        (None, "Up 5 seconds (unhealthy)", Health.UNHEALTHY),
        (None, "Up 5 seconds (health: starting)", Health.STARTING),
        (None, "Up 5 seconds (Paused)", Health.NONE),
        ({"Status": "none"}, "Up 5 seconds (healthy)", Health.NONE),
        ({"Status": ""}, "Up 5 seconds (healthy)", Health.NONE),
        ({}, "Up 5 seconds (healthy)", Health.NONE),
        ({"Status": "healthy", "FailingStreak": 0}, "Up 5 seconds", Health.HEALTHY),
        ({"Status": "starting"}, "Up 5 seconds", Health.STARTING),
    ],
)
def test_health_is_what_the_field_says_or_else_the_status(
    reported: object, status: str, health: Health
) -> None:
    assert one(entry(Health=reported, Status=status)).health is health


@pytest.mark.parametrize("state", list(State))
def test_every_state_of_an_engine_is_known(state: State) -> None:
    assert one(entry(State=state.value)).state is state


# --- names, networks, ports, labels ---


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["/shop-web-v1"], "shop-web-v1"),
        (["shop-web-v1"], "shop-web-v1"),
        (["/linker/alias", "/shop-web-v1"], "shop-web-v1"),
        (["/a", "/b"], "a"),
        (["/linker/alias"], ""),
        ([], ""),
        ("/text", ""),
        ({"0": "/map"}, ""),
    ],
)
def test_the_name_is_the_containers_own(names: object, name: str) -> None:
    shown = one(entry(Names=names))
    assert (shown.name, shown.fault) == (name, "")


def test_networks_are_in_the_order_of_their_names() -> None:
    kamal = {"IPAddress": "172.18.0.5", "GlobalIPv6Address": "FD00:0::5"}
    networks = {"kamal": kamal, "abc": None, "b": {}}
    shown = one(entry(NetworkSettings={"Networks": networks}))
    assert shown.networks == (
        Network("abc"),
        Network("b"),
        Network("kamal", "172.18.0.5", "fd00::5"),
    )


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([], ()),
        ([{"PrivatePort": 80, "Type": "tcp"}], (Port(80, "tcp"),)),
        ([{"PrivatePort": 80, "PublicPort": 0, "Type": "udp"}], (Port(80, "udp"),)),
        (
            [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
            (Port(80, "tcp", 8080, "0.0.0.0"),),
        ),
        (
            [{"IP": "FD00:0::1", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
            (Port(80, "tcp", 8080, "fd00::1"),),
        ),
        (
            [{"IP": "", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
            (Port(80, "tcp", 8080),),
        ),
    ],
)
def test_ports(ports: object, expected: tuple[Port, ...]) -> None:
    assert one(entry(Ports=ports)).ports == expected


@pytest.mark.parametrize("ip", ["localhost", "0.0.0.0:80", "[::]", "fe80::1%eth0", 0, ["::"]])
def test_a_port_that_is_published_on_no_address_costs_its_container(ip: object) -> None:
    ports = [{"IP": ip, "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}]
    assert one(entry(Ports=ports)).fault


def test_only_readable_labels_are_taken() -> None:
    shown = entry(Labels={"service": "shop", "a.b": "1", "a.c": "2", "secret": "x"})
    assert one(shown).labels == {"service": "shop"}
    assert one(shown, "a.*").labels == {"service": "shop", "a.b": "1", "a.c": "2"}


def test_a_label_without_a_value_is_an_empty_one() -> None:
    assert one(entry(Labels={"service": None})).labels == {"service": ""}


def test_long_texts_are_cut_to_what_is_too_long_still() -> None:
    shown = one(entry(Labels={"service": "x" * 65_536}, Image="y" * 65_536))
    assert 1024 < len(shown.labels["service"]) < 5000
    assert 1024 < len(shown.image) < 5000
