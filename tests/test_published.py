"""`address: published` on a real engine: each target is asked as Prometheus would, from outside."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests import http_sd_reader
from tests.engine.town import wait_for
from tests.engines.street import Street, wait_for_decision
from tests.lab.engine import Docker, Engine
from tests.lab.process import run
from tests.lab.sd import Server
from tests.lab.world import World
from tests.test_relay_deploys import VERSION

pytestmark = pytest.mark.real

# An address of this machine's for as long as these tests last: a unique local one (RFC 4193).
IPV6: Final = "fd6b:616d:616c::1"
# Below those of outgoing connections (ip_local_port_range): the engine tries no second one.
PORTS: Final = range(19394, 19400)
BY_RANGE: Final = f"--publish={PORTS[0]}-{PORTS[-1]}:9394"
HAS_IPV6: Final = Path("/proc/net/if_inet6").exists() and "00000001 01 " in Path(
    "/proc/net/if_inet6"
).read_text(encoding="ascii")
needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    """The street of an engine that can be reached at a port, too."""
    with (
        tempfile.TemporaryDirectory(prefix="kamal-sd-published-") as directory,
        Engine(Path(directory), tcp=True) as engine,
    ):
        yield Street(engine)


@pytest.fixture(scope="module")
def ipv4(street: Street) -> str:
    return gateway(street.engine)


def gateway(engine: Docker) -> str:
    """An address of this machine's that is none of its loopback's: that of the bridge."""
    form = "{{(index .IPAM.Config 0).Gateway}}"
    return engine.docker("network", "inspect", "-f", form, "kamal").strip()


@pytest.fixture(scope="module")
def ipv6(street: Street) -> Iterator[str]:
    """The same, of IPv6."""
    identity = street.engine.docker("network", "inspect", "-f", "{{.Id}}", "kamal").strip()
    place = (f"{IPV6}/128", "dev", f"br-{identity[:12]}")
    run(["ip", "-6", "address", "add", *place, "nodad"])
    yield IPV6
    run(["ip", "-6", "address", "del", *place])


@pytest.fixture(autouse=True)
def _empty(street: Street) -> Iterator[None]:
    yield
    street.engine.remove_containers()


@contextmanager
def serving(directory: Path, engine: Mapping[str, Any], **given: Any) -> Iterator[Server]:
    directory.mkdir(exist_ok=True)
    config = directory / "config.yml"
    published = {"defaults": {"address": "published"}}
    config.write_text(json.dumps({"engines": [engine], **published, **given}), encoding="utf-8")
    with Server(directory, config=config) as server:
        yield server


def addresses(server: Server) -> dict[str, str]:
    """The address of each target. Fails where a strict reader does."""
    content = server.get("/targets").raise_for_status().content
    return {each.labels["instance"]: each.address for each in http_sd_reader.read(content)}


def scraped(server: Server) -> dict[str, str]:
    """The role and the version that answer at the address of each target."""
    found = {}
    for instance, address in addresses(server).items():
        answer = httpx.get(f"http://{address}/metrics", timeout=10, trust_env=False)
        match = VERSION.search(answer.raise_for_status().text)
        assert match
        found[instance.partition(":")[0]] = " ".join(match.groups())
    return found


def wait_for_scrapes(server: Server, **wanted: str) -> None:
    def is_so() -> bool:
        try:
            return scraped(server) == {f"shop-{role}": told for role, told in wanted.items()}
        except httpx.HTTPError:
            return False

    wait_for(is_so, f"{wanted} to answer")


def test_every_target_answers_at_the_address_that_it_is_published_on(
    street: Street, ipv4: str, tmp_path: Path
) -> None:
    street.run("v1", "everywhere", "--publish=9394")
    street.run("v1", "ipv4", "--publish=0.0.0.0::9394")
    street.run("v1", "one", f"--publish={ipv4}::9394")
    street.run("v1", "both", "--publish=127.0.0.1::9394", f"--publish={ipv4}::9394")
    with serving(tmp_path, {"url": street.engine.url, "address": ipv4}) as server:
        wait_for_scrapes(
            server, **{role: f"{role} v1" for role in ("everywhere", "ipv4", "one", "both")}
        )
        assert {each.rpartition(":")[0] for each in addresses(server).values()} == {ipv4}


@needs_ipv6
def test_ipv6_is_asked_in_brackets(street: Street, ipv4: str, ipv6: str, tmp_path: Path) -> None:
    street.run("v1", "everywhere", "--publish=9394")
    street.run("v1", "ipv6", "--publish=[::]::9394")
    street.run("v1", "one", f"--publish=[{ipv6}]::9394")
    only_ipv4 = street.run("v1", "ipv4", "--publish=0.0.0.0::9394")
    with serving(tmp_path / "6", {"url": street.engine.url, "address": ipv6}) as server:
        wait_for_scrapes(server, **{role: f"{role} v1" for role in ("everywhere", "ipv6", "one")})
        assert {each.rpartition(":")[0] for each in addresses(server).values()} == {f"[{ipv6}]"}
        wait_for_decision(
            server, only_ipv4, "it to be refused", lambda it: f"{ipv6}, is IPv6" in it["detail"]
        )
    with serving(tmp_path / "4", {"url": street.engine.url, "address": ipv4}) as server:
        wait_for_scrapes(server, **{role: f"{role} v1" for role in ("everywhere", "ipv4", "one")})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--publish=127.0.0.1::9394"], "published on 127.0.0.1 only, which nobody outside"),
        pytest.param(
            ["--publish=[::1]::9394"], "published on ::1 only, which nobody", marks=needs_ipv6
        ),
        (["--publish=9394/udp"], "is not published on the host; add options: {publish: "),
        (["--publish=80"], "is not published on the host; add options: {publish: "),
        ([], "is not published on the host; add options: {publish: "),
    ],
)
def test_what_nobody_outside_reaches_is_no_target_and_says_why(
    street: Street, ipv4: str, tmp_path: Path, options: list[str], words: str
) -> None:
    web = street.run("v1", "web", *options)
    with serving(tmp_path, {"url": street.engine.url, "address": ipv4}) as server:
        wait_for_decision(server, web, "its refusal", lambda it: it["reason"] == "no-address")
        wait_for_decision(server, web, "the words", lambda it: words in it["detail"])
        assert addresses(server) == {}


def test_with_a_range_both_generations_of_a_deploy_are_reached(
    street: Street, ipv4: str, tmp_path: Path
) -> None:
    old = street.run("v1", "web", BY_RANGE)
    given = {"defaults": {"address": "published", "generations": "both"}}
    with serving(tmp_path, {"url": street.engine.url, "address": ipv4}, **given) as server:
        wait_for_scrapes(server, web="web v1")
        street.run("v2", "web", BY_RANGE)
        wait_for_scrapes(server, **{"web": "web v1", "web.next": "web v2"})
        during = addresses(server)
        assert len(set(during.values())) == 2
        assert set(during.values()) <= {f"{ipv4}:{port}" for port in PORTS}
        street.engine.docker("stop", "--time=10", old)
        wait_for_scrapes(server, web="web v2")
        assert addresses(server) == {"shop-web:9394": during["shop-web.next:9394"]}


def test_of_an_engine_that_is_elsewhere_auto_takes_the_published_port(
    street: Street, ipv4: str, tmp_path: Path
) -> None:
    assert isinstance(street.engine, Engine)
    street.run("v1", "web", BY_RANGE)
    job = street.run("v1", "job")
    engine = {"url": street.engine.tcp_url, "address": ipv4}
    with serving(tmp_path, engine, defaults={}) as server:
        wait_for_scrapes(server, web="web v1", job="job v1")
        found = addresses(server)
        assert found["shop-web:9394"] in {f"{ipv4}:{port}" for port in PORTS}
        assert found["shop-job:9394"] == f"{street.address(job)}:9394"


def test_kamal_deploys_a_role_that_publishes_a_range(
    world: World, engine: Engine, tmp_path: Path
) -> None:
    world.reset()
    for version in ("v1", "v2"):
        world.image(version)
    publish = f"{PORTS[0]}-{PORTS[-1]}:9394"
    app = world.app(roles={"web": {"options": {"publish": publish}}})
    app.deploy("v1")
    here = {"url": engine.url, "address": gateway(engine)}
    with serving(tmp_path, here) as server:
        wait_for_scrapes(server, web="web v1")
        before = addresses(server)
        app.deploy("v2")
        wait_for_scrapes(server, web="web v2")
        assert addresses(server).keys() == before.keys()
        assert addresses(server) != before
